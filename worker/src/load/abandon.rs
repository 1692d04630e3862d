//! Loads and seeds that end too early: what they wrote is removed and their job is marked as ended,
//! by themselves if possible, otherwise by the next load.

use secrecy::SecretString;
use serde_json::json;
use sqlx::PgConnection;
use store::error::StoreError;
use store::job_log::{JobCounts, JobKind, JobStatus};
use store::load::{self, StartedLoad};
use store::pool::connect_one;

use crate::exit::{CommandError, CommandResult, ExitStatus};

/// Removes the rows of loads and seeds whose process died. The caller holds the load lock, so none
/// of them is still running.
///
/// # Errors
/// The database fails.
pub(crate) async fn remove_dead_loads(connection: &mut PgConnection) -> CommandResult<()> {
    for dead in load::clean_up_dead_loads(connection).await? {
        let (load, kind) = (dead.number, dead.kind);
        tracing::warn!(load, kind, "the process of an earlier load died: removed what it had written");
    }
    Ok(())
}

/// Ends a load or seed that failed. If that fails too, the next load does it.
pub(crate) async fn abandon(
    url: &SecretString,
    connection: PgConnection,
    server_process: i32,
    load: StartedLoad,
    kind: JobKind,
    error: &CommandError,
) {
    // The connection may be in the middle of a statement. Closing it rolls back whatever is not
    // committed.
    drop(connection);
    let abandoned = async {
        let mut connection = connect_one(url, "monthend abandons a load").await?;
        load::terminate_session(&mut connection, server_process).await?;
        if !load::try_lock(&mut connection).await? {
            return Ok(());
        }
        let status = job_status(error);
        let reason = logging::masking::mask_text(&logging::chain(error.error.as_ref())).into_owned();
        let detail = json!({ "error": reason });
        load::abandon_load(&mut connection, load, kind, status, JobCounts::default(), &detail).await
    };
    let abandoned: Result<(), StoreError> = abandoned.await;
    if let Err(error) = abandoned {
        tracing::debug!(load = load.number, "cannot end the load now, the next load will: {error}");
    }
}

fn job_status(error: &CommandError) -> JobStatus {
    match error.status {
        ExitStatus::TryAgain => JobStatus::Cancelled,
        ExitStatus::Success
        | ExitStatus::Usage
        | ExitStatus::Rejects
        | ExitStatus::Failed
        | ExitStatus::OtherSchema => JobStatus::Failed,
    }
}
