//! What can go wrong between this crate and PostgreSQL, and which of it may succeed later.
//! [`StoreError`] is the base: the errors of billing and of notifications wrap it and add what only
//! they know.

use std::borrow::Cow;

use crate::migrate::OtherSchema;

/// The server refused a statement, or could not be reached.
#[derive(Debug, thiserror::Error)]
#[error("{operation}")]
pub struct DatabaseError {
    /// What could not be done: `cannot read the installation`.
    pub operation: Cow<'static, str>,
    pub source: sqlx::Error,
}

impl DatabaseError {
    /// Whether the same operation may succeed later: the connection broke, the server restarts or
    /// is short of a resource, or two transactions conflicted.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match &self.source {
            sqlx::Error::Io(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::BeginFailed
            // The driver reports a reply that breaks off in the middle as a protocol error.
            | sqlx::Error::Protocol(_) => true,
            sqlx::Error::Database(refusal) => refusal.code().is_some_and(|code| {
                // By class: connection exceptions, transaction rollbacks, insufficient resources, system errors. By code:
                // lock not available, query cancelled, a transaction without statements ended, and the server shutting
                // down, crashed or starting.
                ["08", "40", "53", "58"].iter().any(|class| code.starts_with(class))
                    || ["25P03", "55P03", "57014", "57P01", "57P02", "57P03"].contains(&code.as_ref())
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
    #[error(transparent)]
    OtherSchema(#[from] OtherSchema),
    /// The database is not in the state that the operation needs; the text says what to do about
    /// it.
    #[error("{0}")]
    State(String),
    #[error("{column} holds `{value}`, which this version cannot read")]
    UnreadableValue { column: &'static str, value: String },
    #[error("{operation} affected {rows} rows instead of {expected}; nothing was written")]
    RowsAffected { operation: &'static str, rows: u64, expected: u64 },
}

impl StoreError {
    /// Whether the same operation may succeed later; see [`DatabaseError::is_transient`].
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Database(error) if error.is_transient())
    }

    /// Whether the database has another schema version than this program.
    #[must_use]
    pub fn is_other_schema(&self) -> bool {
        matches!(self, Self::OtherSchema(_))
    }

    pub(crate) fn unreadable(column: &'static str, value: impl ToString) -> Self {
        Self::UnreadableValue { column, value: value.to_string() }
    }
}

/// Fails unless a guarded statement affected as many rows as it must. The caller's transaction is
/// then rolled back.
///
/// # Errors
/// [`StoreError::RowsAffected`]
pub(crate) fn expect_rows_affected(
    operation: &'static str,
    rows: u64,
    expected: u64,
) -> Result<(), StoreError> {
    if rows == expected { Ok(()) } else { Err(StoreError::RowsAffected { operation, rows, expected }) }
}

/// Names the operation that failed.
pub trait During<T> {
    /// # Errors
    /// The error of the driver, with the operation that it stopped.
    fn during(self, operation: impl Into<Cow<'static, str>>) -> Result<T, DatabaseError>;
}

impl<T> During<T> for sqlx::Result<T> {
    fn during(self, operation: impl Into<Cow<'static, str>>) -> Result<T, DatabaseError> {
        self.map_err(|source| DatabaseError { operation: operation.into(), source })
    }
}
