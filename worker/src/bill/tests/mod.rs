//! The worker's loop on a real PostgreSQL, each test in a database of its own: what it bills, and
//! that kills, stops and lost answers change nothing of it.

mod adjusting;
mod causes;
mod faults;
mod outcomes;
mod rebilling;
mod replay;
mod scopes;

use std::ops::Deref;

use secrecy::SecretString;
use store::billing::RevisionKey;
use store::testing::BillingFixture;
use tokio_util::sync::CancellationToken;
use worker_cli::BillArgs;

use super::{Bill, BillError, BillOutcome, bill_shard};

/// A month to bill, and workers for it.
struct Fixture {
    billing: BillingFixture,
    worker: SecretString,
}

impl Deref for Fixture {
    type Target = BillingFixture;

    fn deref(&self) -> &BillingFixture {
        &self.billing
    }
}

impl Fixture {
    async fn new() -> Self {
        Self::of(BillingFixture::new().await)
    }

    async fn with(zone: &str, month: &'static str) -> Self {
        Self::of(BillingFixture::with(zone, month).await)
    }

    fn of(billing: BillingFixture) -> Self {
        let worker = billing.database.url_as("monthend_worker");
        Self { billing, worker }
    }

    /// The command line of a worker.
    fn order(&self, key: &RevisionKey, shard: i32, worker: &str) -> Bill {
        Bill {
            args: BillArgs {
                month: key.month,
                revision: key.revision,
                fence: key.fence,
                run: "test/run".to_owned(),
                run_uid: key.run_uid,
            },
            shard,
            worker: worker.to_owned(),
        }
    }

    /// Runs a worker until its shard is done.
    async fn work(&self, key: &RevisionKey, shard: i32) -> Result<BillOutcome, BillError> {
        bill_shard(&self.order(key, shard, "w"), &self.worker, &CancellationToken::new()).await
    }

    /// Runs a worker for each shard, one after the other.
    async fn work_all(&self, key: &RevisionKey) {
        for shard in 0..2 {
            assert!(matches!(self.work(key, shard).await.unwrap(), BillOutcome::Done(_)));
        }
    }

    /// Begins a run, bills, verifies and issues it. Returns the live bills as text.
    async fn bill(&self) -> String {
        let started = self.begin(1).await;
        self.work_all(&started.key).await;
        self.issue(&started.key).await
    }
}
