//! How a command ends: the exit statuses that scripts and Jobs act on, and what is said before a bad one.

use std::process::ExitCode;

use store::error::{DatabaseError, StoreError};
use store::migrate::MigrateError;

/// The exit statuses of every command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Done,
    /// A wrong flag, file or configuration: the same command will not do.
    Usage,
    /// Done, but some of what was given was put aside.
    Rejects,
    /// Failed for good.
    Failed,
    /// Interrupted, or something is away that will come back.
    TryAgain,
}

impl Exit {
    pub(crate) const fn status(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Usage => 2,
            Self::Rejects => 3,
            Self::Failed => 4,
            Self::TryAgain => 75,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.status())
    }
}

/// Why a command could not go on, and how it ends.
#[derive(Debug)]
pub(crate) struct Stop {
    pub(crate) exit: Exit,
    pub(crate) error: anyhow::Error,
}

/// What a command comes to.
pub(crate) type Outcome<T = Exit> = Result<T, Stop>;

impl Stop {
    pub(crate) fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into() }
    }

    pub(crate) fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self::new(Exit::Usage, error)
    }
}

impl From<DatabaseError> for Stop {
    fn from(error: DatabaseError) -> Self {
        Self::new(if error.is_transient() { Exit::TryAgain } else { Exit::Failed }, error)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Database(error) => error.into(),
            // Not migrated, or by another version: somebody has to do something about the configuration.
            error @ StoreError::State(_) => Self::usage(error),
        }
    }
}

impl From<MigrateError> for Stop {
    fn from(error: MigrateError) -> Self {
        let exit = match &error {
            error if error.is_transient() => Exit::TryAgain,
            MigrateError::OtherInstallation(_)
            | MigrateError::RoleMissing { .. }
            | MigrateError::RoleName(_) => Exit::Usage,
            MigrateError::Store(_) | MigrateError::Migration(_) => Exit::Failed,
        };
        Self::new(exit, error)
    }
}

/// Chooses the exit status of an error.
pub(crate) trait OrExit<T> {
    fn or_exit(self, exit: Exit) -> Outcome<T>;
}

impl<T, E: Into<anyhow::Error>> OrExit<T> for Result<T, E> {
    fn or_exit(self, exit: Exit) -> Outcome<T> {
        self.map_err(|error| Stop::new(exit, error))
    }
}
