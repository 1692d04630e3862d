//! Reads the pages of open targets ahead of the producer, in a task with a database connection of
//! its own.

use domain::ids::MemberId;
use secrecy::SecretString;
use store::notification::{self, BillKey, RunFacts};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::publish_error::PublishError;
use crate::database_retry::DatabaseRetryPolicy;
use crate::notification_run::connect;

/// Open targets on a page.
const PAGE_SIZE: i64 = 10_000;

/// The pages, in the order of member ids. Dropping it ends the task.
pub(super) struct PageReader {
    pages: mpsc::Receiver<Vec<BillKey>>,
    task: JoinSet<Result<(), PublishError>>,
}

impl PageReader {
    /// Starts with the first member after `after`; 0 is before all of them.
    pub(super) fn start(
        database: &SecretString,
        policy: DatabaseRetryPolicy,
        run: &RunFacts,
        after: i64,
    ) -> Self {
        let (pages, receiver) = mpsc::channel(1);
        let mut task = JoinSet::new();
        task.spawn(read(database.clone(), policy, run.clone(), MemberId::try_from(after).ok(), pages));
        Self { pages: receiver, task }
    }

    /// The next page; none after the last one. Can be dropped without losing a page.
    ///
    /// # Errors
    /// The database fails.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<BillKey>>, PublishError> {
        match self.pages.recv().await {
            Some(page) => Ok(Some(page)),
            None => self.task.join_next().await.unwrap_or(Ok(Ok(())))?.map(|()| None),
        }
    }
}

async fn read(
    database: SecretString,
    policy: DatabaseRetryPolicy,
    run: RunFacts,
    mut after: Option<MemberId>,
    pages: mpsc::Sender<Vec<BillKey>>,
) -> Result<(), PublishError> {
    let mut connection = connect(&database, "monthend publish").await?;
    loop {
        let page = notification::read_open_targets(&mut connection, &run, after, PAGE_SIZE);
        let page = policy.within_timeout(page).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.member);
        if pages.send(page).await.is_err() {
            return Ok(());
        }
    }
}
