//! Runs the controller of one kind: the watches that trigger reconciliations, and the count of runs
//! by phase.

use std::future::Future;
use std::sync::Arc;

use api::labels;
use api::run::Run as _;
use futures::StreamExt as _;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{Controller, watcher};
use kube::{Api, ResourceExt as _};
use logging::chain;
use tokio_util::sync::CancellationToken;

use super::run_kind::RunKind;
use super::run_loop::{self, Context};

/// Concurrent reconciliations of each kind; each holds at most one database connection.
pub(crate) const CONCURRENT_RECONCILES: u16 = 6;

/// Reconciles the runs of a kind until `stop`. Watches the runs, their Jobs, and the ConfigMaps
/// that they may wait for.
pub(crate) fn run<K: RunKind>(
    context: Context<K>,
    namespace: &str,
    stop: CancellationToken,
) -> impl Future<Output = ()> + use<K> {
    let context = Arc::new(context);
    let client = context.client.clone();
    let runs: Api<DeserializeGuard<K::Object>> = Api::namespaced(client.clone(), namespace);
    let jobs: Api<Job> = Api::namespaced(client.clone(), namespace);
    let config_maps: Api<PartialObjectMeta<ConfigMap>> = Api::namespaced(client, namespace);
    let own_jobs = watcher::Config::default().labels(&format!("{}={}", labels::MANAGED_BY, labels::MANAGER));
    let controller = Controller::new(runs, watcher::Config::default());
    let cache = controller.store();
    let waiting = cache.clone();
    let metrics = context.metrics.clone();
    let mapper = context.clone();
    controller
        .owns(jobs, own_jobs)
        .watches(config_maps, watcher::Config::default(), move |map| {
            waiting_for(&mapper.kind, &waiting, &map.name_any())
        })
        .with_config(kube::runtime::controller::Config::default().concurrency(CONCURRENT_RECONCILES))
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(run_loop::reconcile::<K>, run_loop::on_error::<K>, context)
        .for_each(move |result| {
            // `on_error` logs the errors of reconciliations.
            if let Err(kube::runtime::controller::Error::QueueError(error)) = &result {
                tracing::warn!(
                    kind = K::Object::KIND,
                    error = chain(error),
                    "cannot watch the cluster; trying again"
                );
            }
            let phases = cache.state().into_iter().filter_map(|run| run.0.as_ref().ok()?.phase());
            metrics.count_runs(K::Object::KIND, phases);
            std::future::ready(())
        })
}

fn waiting_for<K: RunKind>(
    kind: &K,
    runs: &Store<DeserializeGuard<K::Object>>,
    config_map: &str,
) -> Vec<ObjectRef<DeserializeGuard<K::Object>>> {
    runs.state()
        .iter()
        .filter(|run| run.0.as_ref().is_ok_and(|run| kind.waits_for(run, config_map)))
        .map(|run| ObjectRef::from_obj(run.as_ref()))
        .collect()
}
