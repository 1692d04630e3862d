//! The one place that reads this machine's clock. It dates conditions and leases and ends the time to live; whether a
//! month is over is the database's to say.

use jiff::Timestamp;

#[derive(Clone, Copy)]
pub(crate) struct Clock(fn() -> Timestamp);

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "the clock that everything else is handed")]
    pub(crate) const SYSTEM: Self = Self(Timestamp::now);

    pub(crate) fn now(self) -> Timestamp {
        (self.0)()
    }
}
