//! What the Jobs of a notification run, `publish` and `rehearse`, have in common: their
//! connections, and waiting for their turn. Knows neither Kafka nor how an email is rendered.

use std::time::{Duration, Instant};

use secrecy::SecretString;
use sqlx::PgConnection;
use store::error::{During as _, StoreError};
use store::migrate;
use store::notification::{self, NotificationError, NotificationState, RunFacts, SelectionResult, Uuid};
use tokio_util::sync::CancellationToken;

use crate::database_retry::DatabaseRetryPolicy;
use crate::exit::Completion;
use crate::output::{format_duration, group_digits};
use crate::shutdown::stopped_within;

/// Bills that one statement selects as targets.
const SELECTION_CHUNK: i64 = 10_000;
/// How long one call of the store may select targets: shorter than the time-out of a unit of work.
const SELECTION_SLICE: Duration = Duration::from_secs(30);
/// Time between two looks at a run that another process changes.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// A connection with the settings for notification statements, to a database that has the schema
/// version of this program. Closing it releases its advisory locks.
///
/// # Errors
/// The address cannot be read, the database cannot be reached, or it has another schema version.
pub(crate) async fn connect(database: &SecretString, application: &str) -> Result<PgConnection, StoreError> {
    let mut connection = connect_to_any_schema(database, application).await?;
    migrate::check_version(&mut connection).await?;
    Ok(connection)
}

/// The same for statements that must be executed even if the database was migrated meanwhile.
///
/// # Errors
/// The address cannot be read, or the database cannot be reached.
pub(crate) async fn connect_to_any_schema(
    database: &SecretString,
    application: &str,
) -> Result<PgConnection, StoreError> {
    let pool = notification::connect_for_lookups(database, application, 1).await?;
    Ok(pool.acquire().await.during("cannot connect to the database")?.detach())
}

/// Waits until no other process works for the run and it is not suspended, locks it, and reads it.
/// None: stopped.
///
/// # Errors
/// The database fails or does not answer, or has no such run.
pub(crate) async fn lock_run(
    connection: &mut PgConnection,
    policy: DatabaseRetryPolicy,
    run_uid: Uuid,
    stop: &CancellationToken,
) -> Result<Option<RunFacts>, NotificationError> {
    let mut logged = false;
    loop {
        let run = policy.within_timeout(notification::read_run(connection, run_uid)).await?;
        let why = if !policy.within_timeout(notification::try_lock_publisher(connection, run.id)).await? {
            "another process works for the run"
        } else if run.state == NotificationState::Suspended {
            "the run is suspended"
        } else {
            // Read again: until the lock was taken, somebody else may have changed it.
            return policy.within_timeout(notification::read_run(connection, run_uid)).await.map(Some);
        };
        if !logged {
            tracing::info!("waiting: {why}");
            logged = true;
        }
        if stopped_within(POLL_INTERVAL, stop).await {
            return Ok(None);
        }
    }
}

/// Writes the run's targets, unless that is done. None: they are written, and there is work left.
///
/// # Errors
/// The database fails or does not answer; what is selected by then stays.
pub(crate) async fn select_targets(
    connection: &mut PgConnection,
    policy: DatabaseRetryPolicy,
    run: &RunFacts,
    stop: &CancellationToken,
) -> Result<Option<Completion>, NotificationError> {
    if run.selected {
        return Ok(None);
    }
    let began = Instant::now();
    loop {
        let slice = Instant::now();
        let continues = |_| slice.elapsed() < SELECTION_SLICE && !stop.is_cancelled();
        let selecting = notification::select_targets(connection, run, SELECTION_CHUNK, continues);
        match policy.within_timeout(selecting).await? {
            SelectionResult::Complete { targets } => {
                let (targets, elapsed) = (group_digits(targets), format_duration(began.elapsed()));
                tracing::info!(targets, elapsed, "selected the targets");
                return Ok(None);
            }
            SelectionResult::RunOver => return Ok(Some(Completion::Done)),
            SelectionResult::Stopped if stop.is_cancelled() => return Ok(Some(Completion::Stopped)),
            SelectionResult::Stopped => {}
        }
    }
}

/// Waits while the run is suspended, and returns its next state. Returns the suspended state when
/// stopped.
///
/// # Errors
/// The database fails or does not answer.
pub(crate) async fn until_resumed(
    connection: &mut PgConnection,
    policy: DatabaseRetryPolicy,
    run_uid: Uuid,
    stop: &CancellationToken,
) -> Result<NotificationState, NotificationError> {
    tracing::info!("waiting: the run is suspended");
    loop {
        let state = policy.within_timeout(notification::read_run(connection, run_uid)).await?.state;
        if state != NotificationState::Suspended || stopped_within(POLL_INTERVAL, stop).await {
            return Ok(state);
        }
    }
}
