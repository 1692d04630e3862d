//! What observing and applying need, for all billing runs together.

use kube::Client;

use crate::clock::Clock;
use crate::controller::worker_job::JobSettings;
use crate::database::Database;

pub(crate) struct BillingRuns {
    pub(crate) client: Client,
    pub(crate) database: Database,
    pub(crate) jobs: JobSettings,
    pub(crate) clock: Clock,
}
