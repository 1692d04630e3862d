//! Begins a run: stores its templates, its row of `notification` and its row of `job_log` in one
//! transaction.

use domain::month::BillingMonth;
use serde_json::json;
use sqlx::types::Uuid;
use sqlx::{PgConnection, PgPool};

use super::email_inputs::TemplateSet;
use super::notification_error::NotificationError;
use super::run::{NotificationId, Scope, Selection};
use crate::error::During as _;
use crate::job_log::{self, JobKind};

/// What a run asks for.
#[derive(Debug, Clone)]
pub struct BeginRequest<'a> {
    /// `NAMESPACE/NAME`.
    pub run: &'a str,
    /// `metadata.uid`: a run that is deleted and created again is another run.
    pub run_uid: Uuid,
    pub month: BillingMonth,
    pub selection: Selection,
    pub scope: &'a Scope,
    pub rehearsal: bool,
    /// Leaves bills of 0 unsent.
    pub skip_zero: bool,
    /// Stored under their digest, and read by it as long as the run lasts.
    pub templates: &'a TemplateSet,
    /// Emails per second, all consumers together. None: no limit.
    pub max_per_second: Option<i32>,
}

/// The result of [`begin_run`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BeginResult {
    Started(NotificationId),
    Rejected(Rejection),
}

/// Why a run can't begin. Nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("month {month} has no live bills yet; this run starts when a BillingRun has issued them")]
    MonthNotBilled { month: BillingMonth },
}

/// Begins the run, or returns why it cannot begin. A repeated call for the same run changes nothing
/// and returns the same.
///
/// # Errors
/// When the database fails; then nothing was written.
pub async fn begin_run(pool: &PgPool, request: &BeginRequest<'_>) -> Result<BeginResult, NotificationError> {
    let mut tx = pool.begin().await.during("cannot open the transaction that begins a notification")?;
    if let Some(id) = find_begun_run(&mut tx, request).await? {
        return Ok(BeginResult::Started(id));
    }
    let month = request.month.to_string();
    let billed = sqlx::query_scalar!(
        r#"select exists (select from revision where month = $1 and state = 'LIVE') as "billed!""#,
        month
    )
    .fetch_one(&mut *tx)
    .await
    .during("cannot look for a live revision")?;
    if !billed {
        return Ok(BeginResult::Rejected(Rejection::MonthNotBilled { month: request.month }));
    }
    // This also waits for other transactions that begin a run of the month, possibly the same run.
    sqlx::query!("select open_notice_month($1)", month)
        .execute(&mut *tx)
        .await
        .during("cannot create the month's partitions for notifications")?;
    if let Some(id) = find_begun_run(&mut tx, request).await? {
        return Ok(BeginResult::Started(id));
    }
    let id = insert_run(&mut tx, request).await?;
    tx.commit().await.during("cannot commit the beginning of a notification")?;
    Ok(BeginResult::Started(id))
}

async fn find_begun_run(
    tx: &mut PgConnection,
    request: &BeginRequest<'_>,
) -> Result<Option<NotificationId>, NotificationError> {
    let id = sqlx::query_scalar!("select id from notification where run_uid = $1", request.run_uid)
        .fetch_optional(tx)
        .await
        .during("cannot look for the run's notification")?;
    Ok(id.map(NotificationId))
}

async fn insert_run(
    tx: &mut PgConnection,
    request: &BeginRequest<'_>,
) -> Result<NotificationId, NotificationError> {
    let month = request.month.to_string();
    let templates = request.templates;
    sqlx::query!(
        "insert into template_set (sha256, content) values ($1, $2) on conflict do nothing",
        templates.sha256,
        json!(templates.files)
    )
    .execute(&mut *tx)
    .await
    .during("cannot store the templates")?;
    let kind = match (request.rehearsal, request.selection) {
        (true, _) => JobKind::Rehearsal,
        // What was attempted before is recovered; the other bills are sent for the first time.
        (false, Selection::Failed | Selection::Unknown) => JobKind::Recovery,
        (false, Selection::Ready | Selection::Corrected | Selection::Skipped) => JobKind::Send,
    };
    let detail = json!({
        "runUid": request.run_uid.to_string(), "select": request.selection.as_str(), "templates": templates.sha256,
    });
    let job = job_log::start(tx, kind, Some(request.run), Some(&month), &detail).await?;
    let (from, to, members) = match request.scope {
        Scope::Everyone => (1, i64::MAX, None),
        Scope::Range { from, to } => (from.get(), to.get(), None),
        Scope::Members(ids) => (1, i64::MAX, Some(ids.iter().map(|id| id.get()).collect::<Vec<i64>>())),
    };
    let id = sqlx::query_scalar!(
        "insert into notification (run, run_uid, month, selection, from_member, to_member, member_ids, rehearsal,
                                   skip_zero, templates, max_per_second, job)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) returning id",
        request.run,
        request.run_uid,
        month,
        request.selection.as_str(),
        from,
        to,
        members.as_deref(),
        request.rehearsal,
        request.skip_zero,
        templates.sha256,
        request.max_per_second,
        job
    )
    .fetch_one(tx)
    .await
    .during("cannot write the run's notification")?;
    Ok(NotificationId(id))
}
