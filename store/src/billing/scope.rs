//! Which members a revision bills: everyone or, when a month is billed again, those of its scope.
//! A list or a selection is resolved once, when the run begins; from then on its members are those
//! of `scope_member`, whatever is loaded or issued later.

use std::fmt;

use domain::ids::{LoadNumber, MemberId};
use serde_json::{Value, json};
use sqlx::PgConnection;

use super::billing_error::BillingError;
use super::revision::RevisionKey;
use crate::decode::read_number;
use crate::error::{During as _, StoreError};

/// Which members a run bills again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    Everyone,
    /// Both ends inclusive.
    Range {
        from: MemberId,
        to: MemberId,
    },
    /// May have an id twice.
    Members(Vec<MemberId>),
    /// Who is in quarantine.
    Quarantined,
    /// Of whom something was loaded or taken back after the cut-off of the highest live revision.
    Late,
}

impl Scope {
    /// What the revision stores of it: everything but the members of a list.
    #[must_use]
    pub fn kind(&self) -> ScopeKind {
        match *self {
            Self::Everyone => ScopeKind::Everyone,
            Self::Range { from, to } => ScopeKind::Range { from, to },
            Self::Members(_) => ScopeKind::Members,
            Self::Quarantined => ScopeKind::Quarantined,
            Self::Late => ScopeKind::Late,
        }
    }

    /// As `spec.scope` has it, for `job_log`.
    pub(super) fn to_json(&self) -> Option<Value> {
        match self {
            Self::Everyone => None,
            Self::Range { from, to } => Some(json!({ "memberRange": { "from": from, "to": to } })),
            Self::Members(ids) => Some(json!({ "memberIds": ids })),
            Self::Quarantined => Some(json!({ "select": "Quarantined" })),
            Self::Late => Some(json!({ "select": "Late" })),
        }
    }
}

/// The scope of a revision, without the members of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScopeKind {
    Everyone,
    /// Both ends inclusive.
    Range {
        from: MemberId,
        to: MemberId,
    },
    Members,
    Quarantined,
    Late,
}

impl ScopeKind {
    /// The value of `revision.scope`.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Everyone => "EVERYONE",
            Self::Range { .. } => "RANGE",
            Self::Members => "MEMBERS",
            Self::Quarantined => "QUARANTINED",
            Self::Late => "LATE",
        }
    }

    pub(crate) fn read(scope: &str, from: i64, to: i64) -> Result<Self, StoreError> {
        Ok(match scope {
            "EVERYONE" => Self::Everyone,
            "RANGE" => Self::Range {
                from: read_number("revision.scope_from", from)?,
                to: read_number("revision.scope_to", to)?,
            },
            "MEMBERS" => Self::Members,
            "QUARANTINED" => Self::Quarantined,
            "LATE" => Self::Late,
            other => return Err(StoreError::unreadable("revision.scope", other)),
        })
    }

    /// The rule by which every statement reads the members.
    pub(super) fn rule(self) -> ScopeRule {
        let (from, to) = match self {
            Self::Range { from, to } => (from, to),
            _ => (MemberId::FIRST, MemberId::LAST),
        };
        let listed = matches!(self, Self::Members | Self::Quarantined | Self::Late);
        ScopeRule { from: from.get(), to: to.get(), listed }
    }
}

/// In words, as in "bills revision 1 again for …".
impl fmt::Display for ScopeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everyone => f.write_str("all members"),
            Self::Range { from, to } => write!(f, "members {from} to {to}"),
            Self::Members => f.write_str("the listed members"),
            Self::Quarantined => f.write_str("the members in quarantine"),
            Self::Late => f.write_str("the members with late data"),
        }
    }
}

/// A member belongs to a revision whose id is within the span, both ends inclusive, and, if the
/// members are listed, is in `scope_member`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ScopeRule {
    pub(super) from: i64,
    pub(super) to: i64,
    pub(super) listed: bool,
}

/// Lists the members of a list or a selection, in the transaction that plans the revision.
pub(super) async fn list_members(
    tx: &mut PgConnection,
    key: &RevisionKey,
    scope: &Scope,
    data_cutoff: LoadNumber,
) -> Result<(), BillingError> {
    let (month, revision) = (key.month.to_string(), key.revision.get());
    match scope {
        Scope::Everyone | Scope::Range { .. } => {}
        Scope::Members(ids) => {
            let ids: Vec<i64> = ids.iter().map(|id| id.get()).collect();
            sqlx::query!(
                "insert into scope_member (month, revision, member_id)
                 select distinct $1, $2::int, id from unnest($3::bigint[]) as given (id)",
                month,
                revision,
                &ids
            )
            .execute(tx)
            .await
            .during("cannot list the members of the scope")?;
        }
        Scope::Quarantined => {
            sqlx::query!(
                "insert into scope_member (month, revision, member_id)
                 select $1, $2, member_id from quarantine where month = $1",
                month,
                revision
            )
            .execute(tx)
            .await
            .during("cannot list the members in quarantine")?;
        }
        Scope::Late => list_late_members(tx, key, data_cutoff).await?,
    }
    Ok(())
}

/// Lists the members of whom usage or adjustments of the month, or subscriptions or grants that
/// touch it, were loaded or taken back after the cut-off of the highest live revision, and up to
/// the run's cut-off.
async fn list_late_members(
    tx: &mut PgConnection,
    key: &RevisionKey,
    data_cutoff: LoadNumber,
) -> Result<(), BillingError> {
    sqlx::query!(
        "insert into scope_member (month, revision, member_id)
         select distinct $1, $2::int, late.member_id
         from highest_live_revision live
         cross join lateral late_row(live.month, live.data_cutoff, $3) late
         where live.month = $1 and late.file <> 'members'",
        key.month.to_string(),
        key.revision.get(),
        data_cutoff.get()
    )
    .execute(tx)
    .await
    .during("cannot list the members with late data")?;
    Ok(())
}
