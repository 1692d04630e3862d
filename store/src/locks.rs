//! The advisory locks of the product, in one place so that no two mean the same number.

/// What a session can hold. A lock goes with its session, whatever becomes of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    /// One migration at a time.
    Migration,
    /// One load or seed at a time.
    Load,
    /// Held in share mode by every session that writes rows of a seed.
    SeedWriters,
    /// The process behind this row of `job_log` lives.
    Job(i64),
    /// One process at a time chooses and publishes, or rehearses, for this notification.
    Publisher(i64),
}

impl Lock {
    /// The lock's number: `mont` in the upper half, so that it meets nobody else's.
    pub(crate) fn key(self) -> i64 {
        const OURS: i64 = 0x6d6f_6e74 << 32;
        // Ids come one by one; two that live at once don't differ by 2^30.
        const IDS: i64 = (1 << 30) - 1;
        match self {
            Self::Migration => OURS | 1,
            Self::Load => OURS | 2,
            Self::SeedWriters => OURS | 3,
            Self::Job(id) => OURS | 1 << 30 | (id & IDS),
            Self::Publisher(id) => OURS | 2 << 30 | (id & IDS),
        }
    }
}
