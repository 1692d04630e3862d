//! The session of a load or seed: waiting for its turn, and ending in a way that leaves nothing half done.

use std::time::{Duration, Instant};

use anyhow::anyhow;
use secrecy::SecretString;
use serde_json::json;
use sqlx::PgConnection;
use store::job_log::JobKind;
use store::load::{self, Holder, Started};
use store::pool::connect_one;
use tokio_util::sync::CancellationToken;

use super::outcome_of;
use crate::exit::{CommandError, CommandResult, ExitStatus};
use crate::terminal::elapsed;

/// Between two looks whether the other has ended. Asking is cheap; a statement that waits would keep old rows alive.
const LOOK: Duration = Duration::from_millis(300);
/// Between two lines about it.
const TELL: Duration = Duration::from_secs(5);

/// Takes the lock of loads; says who has it while waiting.
pub(crate) async fn lock(connection: &mut PgConnection, stop: &CancellationToken) -> CommandResult<()> {
    let began = Instant::now();
    let mut told: Option<Instant> = None;
    while !load::try_lock(connection).await? {
        if told.is_none_or(|told| told.elapsed() > TELL) {
            let who = load::holder(connection)
                .await?
                .map_or_else(|| "another load".to_owned(), |holder| describe(&holder));
            tracing::info!(waited = elapsed(began.elapsed()), "waiting for {who}: loads run one at a time");
            told = Some(Instant::now());
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = stop.cancelled() => {
                return Err(CommandError::new(ExitStatus::TryAgain, anyhow!("interrupted while waiting for another load")));
            }
        }
    }
    Ok(())
}

fn describe(holder: &Holder) -> String {
    let text = |key| holder.detail.get(key).and_then(|value| value.as_str()).unwrap_or_default();
    let what = match text("folder") {
        "" => holder.source.as_str(),
        folder => folder,
    };
    let progress = &holder.detail["progress"];
    let progress = match (progress["step"].as_str(), progress["rows"].as_u64()) {
        (Some(step), Some(rows)) => format!(", {step}, {rows} rows"),
        _ => String::new(),
    };
    let kind = holder.kind.to_lowercase();
    format!("{kind} {} ({what}, host {}, since {}{progress})", holder.number, text("host"), holder.started_at)
}

/// Sweeps away what died before; the lock is held.
pub(crate) async fn sweep(connection: &mut PgConnection) -> CommandResult<()> {
    for dead in load::sweep(connection).await? {
        tracing::warn!(
            load = dead.number,
            kind = dead.kind,
            "died before its end; what it brought was swept away"
        );
    }
    Ok(())
}

/// Gives up a load or seed that could not go on. Where that fails, the next one sweeps it away.
pub(crate) async fn give_up(
    url: &SecretString,
    connection: PgConnection,
    server_process: i32,
    begun: Started,
    kind: JobKind,
    stopped: &CommandError,
) {
    // The session may be in the middle of anything, so it is ended, and with it whatever it had not committed.
    drop(connection);
    let given_up = async {
        let mut connection = connect_one(url, "worker giving up").await?;
        load::interrupt(&mut connection, server_process).await?;
        if !load::try_lock(&mut connection).await? {
            return Ok(());
        }
        let (status, counts) = outcome_of(stopped);
        let reason = logging::masking::mask_text(&logging::chain(stopped.error.as_ref())).into_owned();
        load::abandon(&mut connection, begun, kind, status, counts, &json!({ "error": reason })).await
    };
    let given_up: Result<(), store::error::StoreError> = given_up.await;
    if let Err(error) = given_up {
        tracing::debug!(load = begun.number, "not given up in the database, the next load does so: {error}");
    }
}
