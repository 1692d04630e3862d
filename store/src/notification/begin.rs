//! The beginning of a run: its templates are kept, its row and its batch's row are written, in one transaction.

use serde_json::json;
use sqlx::{PgConnection, PgPool};

use super::{BeginRequest, BeginResult, NotificationError, NotificationId, Rejection, Scope, Selection};
use crate::error::During as _;
use crate::job_log::{self, JobKind};

/// Begins the run, or says why not. Repeating it for the same run changes nothing and gives the same answer.
///
/// # Errors
/// When the database fails; nothing was written then.
pub async fn begin_run(pool: &PgPool, asked: &BeginRequest<'_>) -> Result<BeginResult, NotificationError> {
    let mut tx = pool.begin().await.during("cannot open the transaction that begins a notification")?;
    if let Some(id) = begun_before(&mut tx, asked).await? {
        return Ok(BeginResult::Started(id));
    }
    let month = asked.month.to_string();
    let billed = sqlx::query_scalar!(
        r#"select exists (select from revision where month = $1 and state = 'LIVE') as "billed!""#,
        month
    )
    .fetch_one(&mut *tx)
    .await
    .during("cannot look for a live revision")?;
    if !billed {
        return Ok(BeginResult::Rejected(Rejection::MonthNotBilled { month: asked.month }));
    }
    // Also waits for whoever else begins a run of this month, be it the same one.
    sqlx::query!("select open_notice_month($1)", month)
        .execute(&mut *tx)
        .await
        .during("cannot make the month's partitions for notices")?;
    if let Some(id) = begun_before(&mut tx, asked).await? {
        return Ok(BeginResult::Started(id));
    }
    let id = write(&mut tx, asked).await?;
    tx.commit().await.during("cannot commit the beginning of a notification")?;
    Ok(BeginResult::Started(id))
}

async fn begun_before(
    tx: &mut PgConnection,
    asked: &BeginRequest<'_>,
) -> Result<Option<NotificationId>, NotificationError> {
    let id = sqlx::query_scalar!("select id from notification where run_uid = $1", asked.run_uid)
        .fetch_optional(tx)
        .await
        .during("cannot look for the run's notification")?;
    Ok(id.map(NotificationId))
}

async fn write(tx: &mut PgConnection, asked: &BeginRequest<'_>) -> Result<NotificationId, NotificationError> {
    let month = asked.month.to_string();
    let templates = asked.templates;
    sqlx::query!(
        "insert into template_set (sha256, content) values ($1, $2) on conflict do nothing",
        templates.sha256,
        json!(templates.files)
    )
    .execute(&mut *tx)
    .await
    .during("cannot keep the templates")?;
    let kind = match (asked.rehearsal, asked.selection) {
        (true, _) => JobKind::Rehearsal,
        (false, Selection::Ready) => JobKind::Send,
        (false, Selection::Failed | Selection::Unknown) => JobKind::Recovery,
    };
    let detail = json!({
        "runUid": asked.run_uid.to_string(), "select": asked.selection.as_str(), "templates": templates.sha256,
    });
    let job = job_log::start(tx, kind, Some(asked.run), Some(&month), &detail).await?;
    let (from, to, members) = match asked.scope {
        Scope::Everyone => (1, i64::MAX, None),
        Scope::Range { from, to } => (from.get(), to.get(), None),
        Scope::Members(ids) => (1, i64::MAX, Some(ids.iter().map(|id| id.get()).collect::<Vec<i64>>())),
    };
    let id = sqlx::query_scalar!(
        "insert into notification (run, run_uid, month, selection, from_member, to_member, member_ids, rehearsal,
                                   templates, max_per_second, job)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) returning id",
        asked.run,
        asked.run_uid,
        month,
        asked.selection.as_str(),
        from,
        to,
        members.as_deref(),
        asked.rehearsal,
        templates.sha256,
        asked.max_per_second,
        job
    )
    .fetch_one(tx)
    .await
    .during("cannot write the run's notification")?;
    Ok(NotificationId(id))
}
