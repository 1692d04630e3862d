//! What observing and applying need, for all notification runs together.

use api::NotificationRun;
use kube::Client;
use worker_cli::KafkaArgs;

use crate::autoscaling::LagCache;
use crate::clock::Clock;
use crate::config::NotifyArgs;
use crate::controller::worker_job::JobSettings;
use crate::database::Database;

pub(crate) struct NotificationRuns {
    pub(crate) client: Client,
    pub(crate) database: Database,
    pub(crate) settings: NotificationSettings,
    pub(crate) lags: LagCache,
    pub(crate) clock: Clock,
}

/// The settings that the Jobs of all notification runs share.
#[derive(Debug, Clone)]
pub(crate) struct NotificationSettings {
    pub(crate) job: JobSettings,
    pub(crate) kafka: KafkaArgs,
    pub(crate) notify: NotifyArgs,
}

impl NotificationSettings {
    /// The ConfigMap that has the run's templates.
    pub(super) fn templates_of<'a>(&'a self, run: &'a NotificationRun) -> &'a str {
        run.spec.template_ref.as_ref().map_or(&self.notify.templates, |named| &named.name)
    }
}
