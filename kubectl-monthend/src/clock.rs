//! The only place that reads this machine's clock: for the ages and the remaining time that people
//! see, and for time limits. Whether a month is over goes by the database's clock.

use jiff::Timestamp;

#[derive(Clone, Copy)]
pub(crate) struct Clock(fn() -> Timestamp);

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that is passed to everything else")]
    pub(crate) const SYSTEM: Self = Self(Timestamp::now);

    #[cfg(test)]
    pub(crate) const fn fixed(now: fn() -> Timestamp) -> Self {
        Self(now)
    }

    pub(crate) fn now(self) -> Timestamp {
        (self.0)()
    }
}
