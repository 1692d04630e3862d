//! What an earlier run of the same name has done. A controller that keeps objects as they are in Git
//! creates a run again that was deleted when its time to live was over; it must not act again.

use std::fmt;

use domain::ids::Revision;
use domain::month::BillingMonth;
use jiff::Timestamp;
use sqlx::PgPool;
use sqlx::types::Uuid;

use super::billing_error::BillingError;
use crate::decode::read_number;
use crate::error::During as _;

/// An earlier run of the same name that had its effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EarlierRun {
    pub month: BillingMonth,
    pub revision: Revision,
    pub effect: Effect,
    /// When it had the effect.
    pub at: Timestamp,
}

/// What a run did with its revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It issued the revision, which is live.
    Issued,
    /// It issued the revision, which was rolled back since.
    IssuedAndRolledBack,
    /// It rolled the revision back.
    RolledBack,
}

impl fmt::Display for EarlierRun {
    /// Completes the sentence "an earlier run …".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { month, revision, effect, at } = self;
        match effect {
            Effect::Issued => {
                write!(f, "ended at {at:.0}: it issued revision {revision} of {month}, which is live")
            }
            Effect::IssuedAndRolledBack => {
                write!(
                    f,
                    "ended at {at:.0}: it issued revision {revision} of {month}, which was rolled back since"
                )
            }
            Effect::RolledBack => {
                write!(f, "ended at {at:.0}: it rolled revision {revision} of {month} back")
            }
        }
    }
}

/// Reads what the last earlier run of this name (`NAMESPACE/NAME`) and month has done; none if no
/// such run issued or rolled back a revision. A run that was rejected or failed may be created again.
///
/// # Errors
/// When the database fails or holds what this version cannot read.
pub async fn find_earlier_run(
    pool: &PgPool,
    run: &str,
    run_uid: Uuid,
    month: BillingMonth,
) -> Result<Option<EarlierRun>, BillingError> {
    let row = sqlx::query!(
        r#"select revision as "revision!", effect as "effect!", at as "at!: jiff_sqlx::Timestamp"
           from (select revision, state as effect, issued_at as at from revision
                 where run = $1 and run_uid <> $2 and month = $3 and state in ('LIVE', 'ROLLED_BACK')
                 union all
                 select revision, 'ROLLBACK', rolled_back_at from rollback
                 where run = $1 and run_uid <> $2 and month = $3) earlier
           order by at desc limit 1"#,
        run,
        run_uid,
        month.to_string()
    )
    .fetch_optional(pool)
    .await
    .during("cannot look for an earlier run of the same name")?;
    row.map(|row| {
        let effect = match row.effect.as_str() {
            "LIVE" => Effect::Issued,
            "ROLLED_BACK" => Effect::IssuedAndRolledBack,
            _ => Effect::RolledBack,
        };
        let revision = read_number("revision.revision", row.revision.into())?;
        Ok(EarlierRun { month, revision, effect, at: row.at.to_jiff() })
    })
    .transpose()
}
