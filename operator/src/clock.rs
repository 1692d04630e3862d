//! The only place that reads this machine's clock, for conditions, leases and the time to live of
//! runs. Whether a month is over goes by the database's clock.

use jiff::Timestamp;

#[derive(Clone, Copy)]
pub(crate) struct Clock(fn() -> Timestamp);

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that is passed to everything else")]
    pub(crate) const SYSTEM: Self = Self(Timestamp::now);

    pub(crate) fn now(self) -> Timestamp {
        (self.0)()
    }
}
