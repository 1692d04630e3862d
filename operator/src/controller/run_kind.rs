//! What every kind of run adds to the reconcile loop: it waits for its worker Jobs and for a
//! ConfigMap.

use std::sync::Arc;

use api::labels;
use api::run::Run;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Api, ResourceExt as _};

use super::Context;
use super::kind::{ControllerOf, Kind};

/// One kind of run.
pub(crate) trait RunKind: Kind<Object: Run> {
    /// Whether the run may be waiting for this ConfigMap.
    fn waits_for(&self, run: &Self::Object, config_map: &str) -> bool;
}

/// Watches the Jobs of the runs and the ConfigMaps that they may wait for.
pub(crate) fn watch<K: RunKind>(
    controller: ControllerOf<K>,
    context: &Arc<Context<K>>,
    namespace: &str,
) -> ControllerOf<K> {
    let jobs: Api<Job> = Api::namespaced(context.client.clone(), namespace);
    let config_maps: Api<PartialObjectMeta<ConfigMap>> = Api::namespaced(context.client.clone(), namespace);
    let own_jobs = watcher::Config::default().labels(&format!("{}={}", labels::MANAGED_BY, labels::MANAGER));
    let (waiting, mapper) = (controller.store(), context.clone());
    controller.owns(jobs, own_jobs).watches(config_maps, watcher::Config::default(), move |map| {
        waiting_for(&mapper.kind, &waiting, &map.name_any())
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
