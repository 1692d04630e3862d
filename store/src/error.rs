//! What can go wrong between this crate and PostgreSQL, and which of it passes by itself.

use std::borrow::Cow;

/// The server refused, or could not be reached.
#[derive(Debug, thiserror::Error)]
#[error("{operation}")]
pub struct DatabaseError {
    /// What could not be done: `cannot read the installation`.
    pub operation: Cow<'static, str>,
    pub source: sqlx::Error,
}

impl DatabaseError {
    /// Whether trying again may help: the connection broke, the server restarts or is short of something, or two
    /// transactions were in each other's way.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match &self.source {
            sqlx::Error::Io(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::BeginFailed
            // What the driver says of a reply that breaks off in the middle.
            | sqlx::Error::Protocol(_) => true,
            sqlx::Error::Database(refusal) => refusal.code().is_some_and(|code| {
                // Connection exceptions, transaction rollbacks, insufficient resources, trouble under the server; a lock not
                // to be had, cancelled; shut down, crashed, starting.
                ["08", "40", "53", "58"].iter().any(|class| code.starts_with(class))
                    || ["55P03", "57014", "57P01", "57P02", "57P03"].contains(&code.as_ref())
            }),
            _ => false,
        }
    }
}

/// Why an operation was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The database is not in the state that the operation needs; the text names the way out.
    #[error("{0}")]
    State(String),
}

impl StoreError {
    /// Whether trying again later may help; see [`DatabaseError::is_transient`].
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Database(error) if error.is_transient())
    }
}

/// Names the operation that failed.
pub trait During<T> {
    /// # Errors
    /// The error in hand, with what could not be done.
    fn during(self, operation: impl Into<Cow<'static, str>>) -> Result<T, DatabaseError>;
}

impl<T> During<T> for sqlx::Result<T> {
    fn during(self, operation: impl Into<Cow<'static, str>>) -> Result<T, DatabaseError> {
        self.map_err(|source| DatabaseError { operation: operation.into(), source })
    }
}
