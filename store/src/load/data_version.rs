//! Which rows of members, subscriptions, grants, adjustments and usage count as of a cut-off.

use domain::ids::LoadNumber;
use sqlx::PgConnection;

use crate::error::{DatabaseError, During as _};

/// The rows of all loads up to the cut-off, except those that were taken back up to the cut-off.
/// The cut-off alone determines it. Statements have it as `load <= $n and load <> all($m)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataVersion {
    pub cutoff: LoadNumber,
    /// Numbers of loads; mostly none.
    pub taken_back: Vec<i64>,
}

impl DataVersion {
    /// Reads which loads were taken back as of the cut-off.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn read(connection: &mut PgConnection, cutoff: LoadNumber) -> Result<Self, DatabaseError> {
        Ok(Self { cutoff, taken_back: read_taken_back(connection, cutoff.get()).await? })
    }
}

/// The loads that were taken back up to this number.
pub(crate) async fn read_taken_back(
    connection: &mut PgConnection,
    cutoff: i64,
) -> Result<Vec<i64>, DatabaseError> {
    sqlx::query_scalar!("select number from load where taken_back_by <= $1 order by number", cutoff)
        .fetch_all(connection)
        .await
        .during("cannot read which loads were taken back")
}
