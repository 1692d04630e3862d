//! `operator run`: wires the parts together and takes them down in order.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, anyhow};
use api::{labels, run::Run as _};
use futures::{StreamExt as _, future};
use k8s_openapi::api::{batch::v1::Job, core::v1::ConfigMap};
use kube::{
    Api, Client, ResourceExt as _,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::{
        Controller,
        events::{Recorder, Reporter},
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use logging::chain;
use store::pool;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    billing::BillingRuns,
    clock::Clock,
    config::RunArgs,
    database::Database,
    housekeeping, http,
    leader::Election,
    metrics::Metrics,
    notification::{NotificationRuns, Parts},
    run_loop::{self, Context, RunKind},
    runs::JobParts,
    scaling::{LagCache, Reading, Scaler},
};

const LEASE: &str = labels::MANAGER;
/// Reconciliations at a time, of each kind, hold one connection at most each; housekeeping, the scaler and the schema's
/// watch one each.
const CONNECTIONS: u32 = 2 * 6 + 3;
const CONCURRENT_RECONCILES: u16 = 6;
/// A database that doesn't answer is said to be out of reach after this long.
const PATIENCE: Duration = Duration::from_secs(3);
/// For reconciliations in hand, within the pod's grace period.
const DRAIN: Duration = Duration::from_secs(10);

#[tokio::main]
pub(crate) async fn run(args: RunArgs) -> Result<()> {
    logging::init(&args.log)?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        namespace = args.namespace,
        identity = args.identity,
        "the operator starts"
    );
    let stop = stop_on_signal()?;
    let metrics = Metrics::new().context("cannot set up the metrics")?;
    let pool = pool::connect_lazily(&args.database_url, "monthend-operator", CONNECTIONS, PATIENCE)?;
    let database = Database::watch(pool, stop.clone());
    // Until the process ends: a probe that fails would cut a graceful end short.
    let probes_stop = CancellationToken::new();
    let mut probes =
        tokio::spawn(http::serve(args.listen, database.clone(), metrics.clone(), probes_stop.clone()));
    let work = async {
        let client =
            Client::try_default().await.context("cannot find the cluster: set KUBECONFIG or run in a pod")?;
        lead(&args, client, database, metrics, stop).await
    };
    tokio::select! {
        ended = work => ended,
        served = &mut probes => match served {
            Ok(Ok(())) => Err(anyhow!("the probes ended by themselves")),
            Ok(Err(error)) => Err(error),
            Err(error) => Err(error).context("the probes ended"),
        },
    }
    .inspect(|()| tracing::info!("the operator has stopped"))
    .inspect_err(|error| tracing::error!(error = format!("{error:#}"), "the operator ends"))?;
    probes_stop.cancel();
    Ok(())
}

fn stop_on_signal() -> Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
            _ = interrupt.recv() => tracing::info!("interrupted: stopping"),
        }
        told.cancel();
    });
    Ok(stop)
}

/// Waits for the lease, acts while it is held, and gives it back. Losing it is an error: the process ends at once, and
/// with it every reconciliation.
async fn lead(
    args: &RunArgs,
    client: Client,
    database: Database,
    metrics: Metrics,
    stop: CancellationToken,
) -> Result<()> {
    let mut election = Election::new(client.clone(), &args.namespace, LEASE, &args.identity, Clock::SYSTEM);
    tracing::info!(lease = LEASE, "waiting for the lease");
    tokio::select! {
        () = election.win() => {}
        () = stop.cancelled() => return Ok(()),
    }
    tracing::info!(lease = LEASE, "this operator leads");
    metrics.leader.set(1);
    let acting = {
        let mut acting = pin!(act(args, client, database, metrics.clone(), stop.clone()));
        tokio::select! {
            () = &mut acting => Ok(()),
            lost = election.keep() => Err(lost),
            () = async { stop.cancelled().await; tokio::time::sleep(DRAIN).await } => {
                tracing::warn!("reconciliations did not end in time");
                Ok(())
            }
        }
    };
    metrics.leader.set(0);
    acting?;
    election.release().await;
    Ok(())
}

async fn act(args: &RunArgs, client: Client, database: Database, metrics: Metrics, stop: CancellationToken) {
    let reporter = Reporter { controller: labels::MANAGER.to_owned(), instance: Some(args.identity.clone()) };
    let recorder = Recorder::new(client.clone(), reporter);
    let lags = LagCache::default();
    let jobs = JobParts { worker: args.worker.clone(), instance: args.instance.clone() };
    let billing = BillingRuns {
        client: client.clone(),
        database: database.clone(),
        jobs: jobs.clone(),
        clock: Clock::SYSTEM,
    };
    let notification = NotificationRuns {
        client: client.clone(),
        database: database.clone(),
        parts: Parts { job: jobs, kafka: args.kafka.clone(), notify: args.notify.clone() },
        lags: lags.clone(),
        clock: Clock::SYSTEM,
    };
    let scaler = Scaler {
        client: client.clone(),
        namespace: args.namespace.clone(),
        database: database.clone(),
        brokers: args.kafka.brokers.clone(),
        own: Reading { topic: args.kafka.topic.clone(), group: args.kafka.group.clone() },
        recorder: recorder.clone(),
        metrics: metrics.scaling.clone(),
        lags,
        clock: Clock::SYSTEM,
    };
    let billing = Context::new(client.clone(), billing, recorder.clone(), metrics.clone());
    let notification = Context::new(client.clone(), notification, recorder, metrics.clone());
    let runs = future::join(
        runs_of(billing, &args.namespace, stop.clone()),
        runs_of(notification, &args.namespace, stop),
    );
    tokio::select! {
        ((), ()) = runs => {}
        () = housekeeping::run(client.clone(), &args.namespace, database, metrics) => {}
        () = scaler.run() => {}
    }
}

/// Watches the runs of a kind, their Jobs, and the ConfigMaps that they may be waiting for.
fn runs_of<K: RunKind>(
    context: Context<K>,
    namespace: &str,
    stop: CancellationToken,
) -> impl Future<Output = ()> + use<K> {
    let context = Arc::new(context);
    let client = context.client.clone();
    let runs: Api<DeserializeGuard<K::Object>> = Api::namespaced(client.clone(), namespace);
    let jobs: Api<Job> = Api::namespaced(client.clone(), namespace);
    let config_maps: Api<PartialObjectMeta<ConfigMap>> = Api::namespaced(client, namespace);
    let ours = watcher::Config::default().labels(&format!("{}={}", labels::MANAGED_BY, labels::MANAGER));
    let controller = Controller::new(runs, watcher::Config::default());
    let known = controller.store();
    let waiting = known.clone();
    let metrics = context.metrics.clone();
    let asked = context.clone();
    controller
        .owns(jobs, ours)
        .watches(config_maps, watcher::Config::default(), move |map| {
            waiting_for(&asked.kind, &waiting, &map.name_any())
        })
        .with_config(kube::runtime::controller::Config::default().concurrency(CONCURRENT_RECONCILES))
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(run_loop::reconcile::<K>, run_loop::on_error::<K>, context)
        .for_each(move |result| {
            // Errors of reconciliations are logged where they are counted.
            if let Err(kube::runtime::controller::Error::QueueError(error)) = &result {
                tracing::warn!(
                    kind = K::KIND,
                    error = chain(error),
                    "cannot watch the cluster; trying again"
                );
            }
            let phases = known.state().into_iter().filter_map(|run| run.0.as_ref().ok()?.phase());
            metrics.count_runs(K::KIND, phases);
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
