//! What the leader reads of the database for its metrics, each figure at its own pace. The rows are of
//! months, runs, jobs, loads and chunks, and never of members; but for the e-mails of a month that is
//! being sent, which are counted one by one.

use std::time::Duration;

use sqlx::PgPool;
use store::error::During as _;
use store::installation::Installation;
use store::{billing, job_log, load, notification, server};
use tokio::time::Instant;

use crate::error::{Doing as _, RunError};
use crate::metrics::Metrics;

/// The history of jobs and loads: nobody waits for it, and it grows with the years.
const HISTORY_INTERVAL: Duration = Duration::from_secs(60);
/// The server looks at every file of the database.
const SIZE_INTERVAL: Duration = Duration::from_secs(300);

/// When each figure was read last.
#[derive(Default)]
pub(crate) struct Readings {
    /// The e-mails of all months were counted once; then, only those that can still change are.
    all_counted: bool,
    history: Option<Instant>,
    size: Option<Instant>,
}

impl Readings {
    /// Reads what is due.
    pub(crate) async fn update(
        &mut self,
        pool: &PgPool,
        installation: &Installation,
        metrics: &Metrics,
    ) -> Result<(), RunError> {
        let mut connection = pool.acquire().await.during("cannot connect to the database")?;
        let state = server::read_state(&mut connection).await?;
        metrics.database.writable.set(i64::from(state.writable));
        metrics.database.set_open_ages(&job_log::read_open_ages(&mut connection).await?);
        let now = Instant::now();
        if is_due(self.history, now, HISTORY_INTERVAL) {
            metrics.database.set_last_successes(&job_log::read_last_successes(&mut connection).await?);
            metrics.database.set_newest_load(load::read_newest(&mut connection).await?);
            self.history = Some(now);
        }
        if is_due(self.size, now, SIZE_INTERVAL) {
            metrics.database.size.set(server::read_size(&mut connection).await?);
            self.size = Some(now);
        }
        drop(connection);
        let standings =
            billing::read_standings(pool).await.doing(|| "read which months are live".to_owned())?;
        metrics.months.set_standings(&standings, &installation.zone, state.now);
        let totals = billing::read_totals(pool).await.doing(|| "add up the months' bills".to_owned())?;
        metrics.months.set(&totals);
        let late = billing::read_late_months(pool)
            .await
            .doing(|| "count what was loaded after months were billed".to_owned())?;
        metrics.months.set_late(&late);
        let totals = notification::read_totals(pool, self.all_counted)
            .await
            .doing(|| "add up the months' notifications".to_owned())?;
        metrics.deliveries.set(&totals);
        self.all_counted = true;
        Ok(())
    }
}

/// Whether a figure is to be read again.
fn is_due(last: Option<Instant>, now: Instant, every: Duration) -> bool {
    last.is_none_or(|last| now.duration_since(last) >= every)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_read_at_once_and_then_after_its_interval() {
        let now = Instant::now();
        assert!(is_due(None, now, SIZE_INTERVAL));
        assert!(!is_due(Some(now), now + Duration::from_secs(299), SIZE_INTERVAL));
        assert!(is_due(Some(now), now + SIZE_INTERVAL, SIZE_INTERVAL));
    }
}
