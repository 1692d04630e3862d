//! The advisory locks of the product. They are defined in one place, so that no two have the same
//! number.

use domain::month::BillingMonth;

/// A lock that a session can hold. It is released when the session ends, even if the process is
/// killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    /// One migration at a time.
    Migration,
    /// One load or seed at a time.
    Load,
    /// Held in share mode by every session that writes rows of a seed.
    SeedWriters,
    /// The process of this row of `job_log` is alive.
    Job(i64),
    /// One process at a time selects and publishes, or rehearses, for this notification.
    Publisher(i64),
    /// Held in share mode by every transaction that hands bills of this month over, and alone by one
    /// that changes which of them are live.
    HandOver(BillingMonth),
}

impl Lock {
    /// The number of the lock: `mont` in the upper half, so that it differs from the locks of other
    /// programs.
    pub(crate) fn key(self) -> i64 {
        const OURS: i64 = 0x6d6f_6e74 << 32;
        // Ids are assigned in sequence; two that are in use at the same time never differ by 2^30.
        const IDS: i64 = (1 << 30) - 1;
        match self {
            Self::Migration => OURS | 1,
            Self::Load => OURS | 2,
            Self::SeedWriters => OURS | 3,
            Self::Job(id) => OURS | 1 << 30 | (id & IDS),
            Self::Publisher(id) => OURS | 2 << 30 | (id & IDS),
            Self::HandOver(month) => {
                let first = month.first_day();
                OURS | 3 << 30 | (i64::from(first.year()) * 12 + i64::from(first.month()))
            }
        }
    }
}
