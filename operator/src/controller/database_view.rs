//! What the database has of one object, or why it cannot be read.

use std::future::Future;
use std::time::Duration;

use api::run::Run;
use jiff::Timestamp;
use logging::chain;
use store::billing::Uuid;
use store::clock;
use store::error::During as _;
use store::installation::Installation;

use super::run_identity;
use crate::database::{Database, Schema};
use crate::error::RunError;

/// Longer than any of the statements takes, and short enough to report soon that the database does
/// not answer.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(10);

/// What the database has of a run.
#[derive(Debug, Clone)]
pub(crate) struct DatabaseView<S> {
    /// The database's clock.
    pub(crate) now: Timestamp,
    pub(crate) installation: Installation,
    /// None until the run has begun.
    pub(crate) run: Option<S>,
}

/// Reads a run by its uid with `read`; `now` takes the database's clock from what was read. The
/// error says, for a condition, why the database cannot be read. A run that is over is not read.
pub(crate) async fn read<R: Run, S, F>(
    database: &Database,
    run: &R,
    read: impl FnOnce(Uuid) -> F,
    now: fn(&S) -> Timestamp,
) -> Result<Result<DatabaseView<S>, String>, RunError>
where
    F: Future<Output = Result<Option<S>, RunError>>,
{
    if run.is_over() {
        return Ok(Err("the run is over".to_owned()));
    }
    let uid = run_identity::uid(run)?;
    let reading = async move |installation| {
        let run = read(uid).await?;
        let now = match &run {
            Some(run) => now(run),
            None => {
                let mut connection =
                    database.pool.acquire().await.during("cannot connect to the database")?;
                clock::now(&mut connection).await?
            }
        };
        Ok(DatabaseView { now, installation, run })
    };
    Ok(within_time(database, reading).await)
}

/// Reads the database of an installation with `read`. The error says, for a condition, why it
/// cannot be read.
pub(crate) async fn within_time<T, F>(
    database: &Database,
    read: impl FnOnce(Installation) -> F,
) -> Result<T, String>
where
    F: Future<Output = Result<T, RunError>>,
{
    let installation = match database.schema() {
        Schema::Ready(installation) => installation,
        Schema::NotReady(reason) => return Err(reason),
    };
    match tokio::time::timeout(DATABASE_TIMEOUT, read(installation)).await {
        Ok(Ok(view)) => Ok(view),
        Ok(Err(error)) => Err(chain(&error)),
        Err(_) => Err(format!("the database did not answer within {} s", DATABASE_TIMEOUT.as_secs())),
    }
}
