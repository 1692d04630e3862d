//! The lock that lets loads and seeds run one at a time, and waiting for it.

use std::time::{Duration, Instant};

use anyhow::anyhow;
use sqlx::PgConnection;
use store::load::{self, LockHolder};
use tokio_util::sync::CancellationToken;

use crate::exit::{CommandError, CommandResult, ExitStatus};
use crate::output::format_duration;
use crate::shutdown::stopped_within;

/// Time between two attempts. A statement that waited for the lock would keep PostgreSQL from
/// removing old rows.
const POLL_INTERVAL: Duration = Duration::from_millis(300);
/// Time between two log lines about the wait.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// Waits for the lock and takes it; it is released when the connection closes. Logs who holds it.
///
/// # Errors
/// The database fails, or `stop` is cancelled.
pub(crate) async fn acquire_load_lock(
    connection: &mut PgConnection,
    stop: &CancellationToken,
) -> CommandResult<()> {
    let began = Instant::now();
    let mut logged: Option<Instant> = None;
    while !load::try_lock(connection).await? {
        if logged.is_none_or(|logged| logged.elapsed() > LOG_INTERVAL) {
            let holder = load::read_lock_holder(connection).await?;
            let holder = holder.map_or_else(|| "another load".to_owned(), |holder| describe(&holder));
            let waited = format_duration(began.elapsed());
            tracing::info!(waited, "waiting for {holder}: loads run one at a time");
            logged = Some(Instant::now());
        }
        if stopped_within(POLL_INTERVAL, stop).await {
            let error = anyhow!("interrupted while waiting for another load");
            return Err(CommandError::new(ExitStatus::TryAgain, error));
        }
    }
    Ok(())
}

fn describe(holder: &LockHolder) -> String {
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
