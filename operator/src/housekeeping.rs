//! What the leader does besides runs: it closes the job log's rows of loads and seeds whose process died, and keeps the
//! figures of the months for the metrics up to date.

use std::time::Duration;

use sqlx::PgPool;
use store::{
    billing,
    error::{During as _, StoreError},
    job_log::{self, JobKind},
};
use telemetry::chain;

use crate::{
    database::{Database, Schema},
    metrics::Metrics,
};

const EVERY: Duration = Duration::from_secs(5);

/// Never returns.
pub(crate) async fn run(database: Database, metrics: Metrics) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if !matches!(database.schema(), Schema::Ready(_)) {
            metrics.database_up.set(0);
            continue;
        }
        let up = match billing::totals(&database.pool).await {
            Ok(totals) => {
                metrics.set_months(&totals);
                true
            }
            Err(error) => {
                tracing::warn!(error = chain(&error), "cannot read the totals of the months");
                false
            }
        };
        metrics.database_up.set(i64::from(up));
        match close_dead(&database.pool).await {
            Ok(closed) => {
                for job in closed {
                    metrics.jobs_closed.inc();
                    tracing::warn!(job, "closed the job log's row of a batch whose process had died");
                }
            }
            Err(error) => tracing::warn!(error = chain(&error), "cannot close dead batches in the job log"),
        }
    }
}

async fn close_dead(pool: &PgPool) -> Result<Vec<i64>, StoreError> {
    let mut connection = pool.acquire().await.during("cannot connect to the database")?;
    Ok(job_log::close_dead(&mut connection, &[JobKind::Seed, JobKind::Load]).await?)
}
