//! The exit statuses of the worker's sub-commands. Scripts, and the pod failure policy of the
//! operator's Jobs, act on them.

use std::process::ExitCode;

/// How a sub-command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// Everything was done.
    Success,
    /// An option, a file or the configuration is wrong: the same command fails again until somebody
    /// changes it.
    Usage,
    /// Everything was done, except for rows that were rejected.
    Rejects,
    /// Failed, and would fail again.
    Failed,
    /// The database has another schema version. This program can do nothing with it; the same
    /// command of another version of the program, or after a migration, continues.
    OtherSchema,
    /// Interrupted, or something is unavailable for now: the same command may succeed later.
    TryAgain,
}

impl ExitStatus {
    pub const ALL: [Self; 6] =
        [Self::Success, Self::Usage, Self::Rejects, Self::Failed, Self::OtherSchema, Self::TryAgain];

    /// The number that the process exits with.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Usage => 2,
            Self::Rejects => 3,
            Self::Failed => 4,
            Self::OtherSchema => 5,
            Self::TryAgain => 75,
        }
    }

    /// The status with this number; none of a number that no sub-command exits with.
    #[must_use]
    pub fn from_code(code: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|status| i32::from(status.code()) == code)
    }

    /// Whether the work has failed: the same command fails again, however often it is run, and
    /// whatever version of the program runs it.
    #[must_use]
    pub const fn is_permanent_failure(self) -> bool {
        matches!(self, Self::Usage | Self::Failed)
    }

    /// What the status says to a person, in a few words.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Usage => "usage or configuration",
            Self::Rejects => "done, with rejects",
            Self::Failed => "failed for good",
            Self::OtherSchema => "another schema version",
            Self::TryAgain => "try again",
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_is_found_by_its_code() {
        for (status, code, permanent) in [
            (ExitStatus::Success, 0, false),
            (ExitStatus::Usage, 2, true),
            (ExitStatus::Rejects, 3, false),
            (ExitStatus::Failed, 4, true),
            (ExitStatus::OtherSchema, 5, false),
            (ExitStatus::TryAgain, 75, false),
        ] {
            assert_eq!(status.code(), code);
            assert_eq!(ExitStatus::from_code(code.into()), Some(status));
            assert_eq!(status.is_permanent_failure(), permanent, "{status:?}");
        }
        for code in [-1, 1, 137, 256] {
            assert_eq!(ExitStatus::from_code(code), None, "{code}");
        }
    }
}
