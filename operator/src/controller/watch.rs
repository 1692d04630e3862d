//! Runs the controller of one kind: the watches that trigger reconciliations, and the kind's
//! metrics.

use std::future::Future;
use std::sync::Arc;

use api::reconciled::Reconciled as _;
use futures::StreamExt as _;
use kube::Api;
use kube::core::DeserializeGuard;
use kube::runtime::{Controller, watcher};
use logging::chain;
use tokio_util::sync::CancellationToken;

use super::kind::Kind;
use super::run_loop::{self, Context};

/// Concurrent reconciliations of each kind; each holds at most one database connection.
pub(crate) const CONCURRENT_RECONCILES: u16 = 6;

/// Reconciles the objects of a kind until `stop`. Watches them, and what [`Kind::watch`] adds.
pub(crate) fn run<K: Kind>(
    context: Context<K>,
    namespace: &str,
    stop: CancellationToken,
) -> impl Future<Output = ()> + use<K> {
    let context = Arc::new(context);
    let objects: Api<DeserializeGuard<K::Object>> = Api::namespaced(context.client.clone(), namespace);
    let controller = Controller::new(objects, watcher::Config::default());
    let cache = controller.store();
    let metrics = context.metrics.clone();
    K::watch(controller, &context, namespace)
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
            let objects = cache.state();
            K::count(objects.iter().filter_map(|object| object.0.as_ref().ok()), &metrics);
            std::future::ready(())
        })
}
