//! `monthend bill`.

use clap::Args;
use domain::ids::Revision;
use domain::month::BillingMonth;
use uuid::Uuid;

/// Which revision to bill. Which shard of it is the pod's own, and comes from its environment.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct BillArgs {
    /// Billing month, as YYYY-MM
    #[arg(long, value_name = "MONTH")]
    pub month: BillingMonth,
    /// Number of the revision that the billing run has opened for the month, from 1
    #[arg(long, value_name = "NUMBER")]
    pub revision: Revision,
    /// Fencing number of the run's lock on the month: a worker with an outdated one writes nothing
    #[arg(long, value_name = "NUMBER")]
    pub fence: i64,
    /// Billing run, as NAMESPACE/NAME, for the log
    #[arg(long, value_name = "RUN")]
    pub run: String,
    /// Billing run's metadata.uid
    #[arg(long, value_name = "UUID")]
    pub run_uid: Uuid,
}

impl BillArgs {
    pub const COMMAND: &str = "bill";

    /// The sub-command and its options, as the worker parses them.
    #[must_use]
    pub fn to_args(&self) -> Vec<String> {
        let Self { month, revision, fence, run, run_uid } = self;
        vec![
            Self::COMMAND.to_owned(),
            format!("--month={month}"),
            format!("--revision={revision}"),
            format!("--fence={fence}"),
            format!("--run={run}"),
            format!("--run-uid={run_uid}"),
        ]
    }
}
