//! The members of a chunk.

use sqlx::PgConnection;

use crate::billing::revision::RevisionKey;
use crate::error::{DatabaseError, During as _};

/// The members that a chunk consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkSpan {
    pub chunk_no: i32,
    pub from_member: i64,
    /// Inclusive.
    pub to_member: i64,
    /// The chunk's members, if the revision lists them; otherwise everyone from the first to the
    /// last id.
    pub members: Option<Vec<i64>>,
}

impl ChunkSpan {
    /// Reads the members of the chunk that are in the revision's list, if the revision has one.
    pub(crate) async fn read(
        tx: &mut PgConnection,
        key: &RevisionKey,
        chunk_no: i32,
        from_member: i64,
        to_member: i64,
        listed: bool,
    ) -> Result<Self, DatabaseError> {
        let members = if listed { Some(list_members(tx, key, from_member, to_member).await?) } else { None };
        Ok(Self { chunk_no, from_member, to_member, members })
    }
}

/// The listed members of a chunk, ascending. The span of such a chunk can be most of all ids: a plan
/// for any span, which sessions that bill do not use (`prepare_connection`), would read all of the list.
async fn list_members(
    tx: &mut PgConnection,
    key: &RevisionKey,
    from_member: i64,
    to_member: i64,
) -> Result<Vec<i64>, DatabaseError> {
    sqlx::query_scalar!(
        "select member_id from scope_member
         where month = $1 and revision = $2 and member_id between $3 and $4
         order by member_id",
        key.month.to_string(),
        key.revision.get(),
        from_member,
        to_member
    )
    .fetch_all(tx)
    .await
    .during("cannot read the listed members of the chunk")
}
