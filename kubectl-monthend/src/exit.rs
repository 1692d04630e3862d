//! How the program ends: the exit statuses, which scripts act on, and the problem that it reports.

use std::fmt;
use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// What was asked for is done; without `--wait`, the run is created.
    Done,
    /// The run failed or was rejected, or the API server refused.
    Failed,
    /// The command line or what it names is wrong, or a question was answered with no.
    Usage,
    /// The run waits for approval, or ended with failures.
    Waits,
    /// Out of time, or something cannot be reached: the same command may succeed later.
    TryAgain,
    /// Ctrl-C.
    Interrupted,
    /// As `monthend` ended in its pod.
    Pod(u8),
}

impl Exit {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Waits => 3,
            Self::TryAgain => 75,
            Self::Interrupted => 130,
            Self::Pod(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command ends early: what to tell the person, and how to exit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) exit: Exit,
    pub(crate) text: String,
}

impl Problem {
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, text: text.into() }
    }

    pub(crate) fn failed(text: impl Into<String>) -> Self {
        Self { exit: Exit::Failed, text: text.into() }
    }

    pub(crate) fn try_again(text: impl Into<String>) -> Self {
        Self { exit: Exit::TryAgain, text: text.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Problem {}

pub(crate) type Result<T = Exit> = std::result::Result<T, Problem>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_can_tell_every_end_apart() {
        for (exit, code) in [
            (Exit::Done, 0),
            (Exit::Failed, 1),
            (Exit::Usage, 2),
            (Exit::Waits, 3),
            (Exit::TryAgain, 75),
            (Exit::Interrupted, 130),
            (Exit::Pod(5), 5),
        ] {
            assert_eq!(exit.code(), code);
        }
    }
}
