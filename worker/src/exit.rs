//! How a command ends: the error that it ends with, and which exit status an error leads to.

use store::error::{DatabaseError, StoreError};
use store::migrate::MigrateError;
pub(crate) use worker_cli::ExitStatus;

/// Why a command failed, and the exit status that says so.
#[derive(Debug)]
pub(crate) struct CommandError {
    pub(crate) status: ExitStatus,
    pub(crate) error: anyhow::Error,
}

/// How a command, or a part of one, ends.
pub(crate) type CommandResult<T = ExitStatus> = Result<T, CommandError>;

/// How work ends that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Completion {
    /// Nothing is left to do.
    Done,
    /// The command was stopped; the same command continues from there.
    Stopped,
}

impl From<Completion> for ExitStatus {
    fn from(completion: Completion) -> Self {
        match completion {
            Completion::Done => Self::Success,
            Completion::Stopped => Self::TryAgain,
        }
    }
}

impl CommandError {
    pub(crate) fn new(status: ExitStatus, error: impl Into<anyhow::Error>) -> Self {
        Self { status, error: error.into() }
    }

    pub(crate) fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self::new(ExitStatus::Usage, error)
    }
}

impl From<DatabaseError> for CommandError {
    fn from(error: DatabaseError) -> Self {
        let status = if error.is_transient() { ExitStatus::TryAgain } else { ExitStatus::Failed };
        Self::new(status, error)
    }
}

impl From<StoreError> for CommandError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Database(error) => error.into(),
            error @ StoreError::OtherSchema(_) => Self::new(ExitStatus::OtherSchema, error),
            // Somebody has to change what was asked for, or the configuration.
            error @ StoreError::State(_) => Self::usage(error),
            error => Self::new(ExitStatus::Failed, error),
        }
    }
}

impl From<MigrateError> for CommandError {
    fn from(error: MigrateError) -> Self {
        let status = match &error {
            error if error.is_transient() => ExitStatus::TryAgain,
            MigrateError::OtherInstallation(_)
            | MigrateError::RoleMissing { .. }
            | MigrateError::RoleName(_) => ExitStatus::Usage,
            MigrateError::Store(StoreError::OtherSchema(_)) => ExitStatus::OtherSchema,
            MigrateError::Store(_) | MigrateError::Migration(_) => ExitStatus::Failed,
        };
        Self::new(status, error)
    }
}

/// Gives an error its exit status.
pub(crate) trait OrExitStatus<T> {
    fn or_exit(self, status: ExitStatus) -> CommandResult<T>;
}

impl<T, E: Into<anyhow::Error>> OrExitStatus<T> for Result<T, E> {
    fn or_exit(self, status: ExitStatus) -> CommandResult<T> {
        self.map_err(|error| CommandError::new(status, error))
    }
}
