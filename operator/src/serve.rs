//! `operator run`: starts the parts and stops them in order.

use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use api::labels;
use futures::future;
use kube::Client;
use kube::runtime::events::{Recorder, Reporter};
use store::pool;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::autoscaling::{LagCache, Scaler, TopicGroup};
use crate::billing::BillingRuns;
use crate::clock::Clock;
use crate::config::RunArgs;
use crate::controller::worker_job::JobSettings;
use crate::controller::{self, CONCURRENT_RECONCILES, Context};
use crate::database::Database;
use crate::leader::Election;
use crate::metrics::Metrics;
use crate::notification::{NotificationRuns, NotificationSettings};
use crate::schedule::Schedules;
use crate::{housekeeping, http, release};

const LEASE: &str = labels::MANAGER;
/// One for each concurrent reconciliation of the three kinds, for housekeeping, for the scaler and
/// for the schema check.
const CONNECTIONS: u32 = 3 * CONCURRENT_RECONCILES as u32 + 3;
/// How long to wait for a connection before the database counts as unavailable.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// For the reconciliations that are running; shorter than the pod's grace period.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

#[tokio::main]
pub(crate) async fn run(args: RunArgs) -> Result<()> {
    logging::init(&args.log)?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        namespace = args.namespace,
        identity = args.identity,
        "the operator is starting"
    );
    let stop = stop_on_signal()?;
    let metrics = Metrics::new().context("cannot set up the metrics")?;
    let pool = pool::connect_lazily(&args.database_url, "monthend-operator", CONNECTIONS, ACQUIRE_TIMEOUT)?;
    let database = Database::watch(pool, stop.clone());
    // The probes answer until the end: a failing probe would interrupt the graceful shutdown.
    let probes_stop = CancellationToken::new();
    let mut probes =
        tokio::spawn(http::serve(args.listen, database.clone(), metrics.clone(), probes_stop.clone()));
    let work = async {
        let client =
            Client::try_default().await.context("cannot find the cluster: set KUBECONFIG or run in a pod")?;
        let led = lead(&args, client.clone(), database, metrics, stop).await;
        release::release_if_namespace_is_deleted(&client, &args.namespace).await;
        led
    };
    tokio::select! {
        ended = work => ended,
        served = &mut probes => match served {
            Ok(Ok(())) => Err(anyhow!("the probe server stopped unexpectedly")),
            Ok(Err(error)) => Err(error),
            Err(error) => Err(error).context("the probe server stopped"),
        },
    }
    .inspect(|()| tracing::info!("the operator has stopped"))
    .inspect_err(|error| tracing::error!(error = format!("{error:#}"), "the operator failed"))?;
    probes_stop.cancel();
    Ok(())
}

fn stop_on_signal() -> Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let stop = CancellationToken::new();
    let signalled = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
            _ = interrupt.recv() => tracing::info!("interrupted: stopping"),
        }
        signalled.cancel();
    });
    Ok(stop)
}

/// Waits for the Lease, reconciles while this process holds it, and releases it. Losing the Lease
/// is an error: the process ends at once, and with it every reconciliation.
async fn lead(
    args: &RunArgs,
    client: Client,
    database: Database,
    metrics: Metrics,
    stop: CancellationToken,
) -> Result<()> {
    let mut election = Election::new(client.clone(), &args.namespace, LEASE, &args.identity, Clock::SYSTEM);
    tracing::info!(lease = LEASE, "waiting to become the leader");
    tokio::select! {
        () = election.win() => {}
        () = stop.cancelled() => return Ok(()),
    }
    tracing::info!(lease = LEASE, "this operator is the leader");
    metrics.leader.set(1);
    let result = {
        let mut work = pin!(run_as_leader(args, client, database, metrics.clone(), stop.clone()));
        tokio::select! {
            () = &mut work => Ok(()),
            lost = election.keep() => Err(lost),
            () = async { stop.cancelled().await; tokio::time::sleep(DRAIN_TIMEOUT).await } => {
                tracing::warn!("reconciliations did not end within the time-out");
                Ok(())
            }
        }
    };
    metrics.leader.set(0);
    result?;
    election.release().await;
    Ok(())
}

async fn run_as_leader(
    args: &RunArgs,
    client: Client,
    database: Database,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let reporter = Reporter { controller: labels::MANAGER.to_owned(), instance: Some(args.identity.clone()) };
    let recorder = Recorder::new(client.clone(), reporter);
    let lags = LagCache::default();
    let jobs = JobSettings { worker: args.worker.clone(), instance: args.instance.clone() };
    let billing = BillingRuns {
        client: client.clone(),
        database: database.clone(),
        jobs: jobs.clone(),
        clock: Clock::SYSTEM,
    };
    let notification = NotificationRuns {
        client: client.clone(),
        database: database.clone(),
        settings: NotificationSettings { job: jobs, kafka: args.kafka.clone(), notify: args.notify.clone() },
        lags: lags.clone(),
        clock: Clock::SYSTEM,
    };
    let scaler = Scaler {
        client: client.clone(),
        namespace: args.namespace.clone(),
        database: database.clone(),
        brokers: args.kafka.brokers.clone(),
        own: TopicGroup { topic: args.kafka.topic.clone(), group: args.kafka.group.clone() },
        recorder: recorder.clone(),
        metrics: metrics.scaling.clone(),
        lags,
        clock: Clock::SYSTEM,
    };
    let schedules = Schedules {
        client: client.clone(),
        database: database.clone(),
        recorder: recorder.clone(),
        metrics: metrics.clone(),
        clock: Clock::SYSTEM,
    };
    let billing = Context::new(client.clone(), billing, recorder.clone(), metrics.clone(), Clock::SYSTEM);
    let notification =
        Context::new(client.clone(), notification, recorder.clone(), metrics.clone(), Clock::SYSTEM);
    let schedules = Context::new(client.clone(), schedules, recorder, metrics.clone(), Clock::SYSTEM);
    let runs = future::join3(
        controller::run(billing, &args.namespace, stop.clone()),
        controller::run(notification, &args.namespace, stop.clone()),
        controller::run(schedules, &args.namespace, stop),
    );
    tokio::select! {
        ((), (), ()) = runs => {}
        () = housekeeping::run(client.clone(), &args.namespace, database, metrics, Clock::SYSTEM) => {}
        () = scaler.run() => {}
    }
}
