//! One object as it changes, through outages of the API server.

use std::fmt;
use std::time::Duration;

use api::run::Run;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, watch_object};
use kube::{Api, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};

use super::Cluster;
use crate::exit::{Exit, Problem, Result};
use crate::plan::find::AnyRun;

/// How long to wait before the API server is asked again.
const RETRY: Duration = Duration::from_secs(1);
/// Failures that are further apart belong to different outages: an attempt to connect ends before.
const ONE_OUTAGE: Duration = Duration::from_secs(45);

type Changes<K> = BoxStream<'static, watcher::Result<Option<K>>>;

/// An object, as it is and after each change.
pub(crate) struct Watched<K> {
    cluster: Cluster,
    changes: Changes<K>,
    doing: String,
    /// How long the API server may be away.
    patience: Duration,
    outage: Option<Outage>,
}

#[derive(Clone, Copy)]
struct Outage {
    since: Instant,
    last: Instant,
}

impl Cluster {
    /// The pod of this name. An API server that is away is a failure.
    pub(crate) fn watch_pod(&self, name: &str) -> Watched<Pod> {
        let pods = Api::namespaced(self.client.clone(), &self.namespace);
        self.watched(changes(pods, name), format!("watch the pod {name}"), Duration::ZERO)
    }

    /// This run, while the API server is away no longer than this.
    pub(crate) fn watch_run(&self, run: &AnyRun, patience: Duration) -> Watched<AnyRun> {
        let changes = match run {
            AnyRun::Billing(run) => self.changes_of(run.as_ref(), |run| AnyRun::Billing(Box::new(run))),
            AnyRun::Notification(run) => {
                self.changes_of(run.as_ref(), |run| AnyRun::Notification(Box::new(run)))
            }
        };
        self.watched(changes, format!("watch {} {}", run.kind(), run.name()), patience)
    }

    /// The changes of this run. Another run of its name is none of them.
    fn changes_of<R: Run>(&self, run: &R, any: fn(R) -> AnyRun) -> Changes<AnyRun> {
        let uid = run.uid();
        let changes = changes(self.runs::<R>(), &run.name_any());
        changes.map_ok(move |found| found.filter(|found| found.uid() == uid).map(any)).boxed()
    }

    fn watched<K>(&self, changes: Changes<K>, doing: String, patience: Duration) -> Watched<K> {
        Watched { cluster: self.clone(), changes, doing, patience, outage: None }
    }
}

fn changes<K>(objects: Api<K>, name: &str) -> Changes<K>
where
    K: Resource + Clone + DeserializeOwned + fmt::Debug + Send + 'static,
{
    watch_object(objects, name).boxed()
}

impl<K> Watched<K> {
    /// The object as it is now or after its next change; none if it is not there.
    pub(crate) async fn next(&mut self) -> Result<Option<K>> {
        loop {
            match self.changes.next().await {
                Some(Ok(object)) => {
                    self.outage = None;
                    return Ok(object);
                }
                Some(Err(error)) => {
                    self.failed(&error)?;
                    sleep(RETRY).await;
                }
                None => return Err(Problem::try_again(format!("cannot {}: try again", self.doing))),
            }
        }
    }

    /// Whether to go on after a failure.
    fn failed(&mut self, error: &watcher::Error) -> Result<()> {
        let error = match error {
            watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error) => error,
            // The connection ended: whether the API server is away says the next attempt.
            _ => return Ok(()),
        };
        let problem = self.cluster.problem(&self.doing, error);
        let now = Instant::now();
        let before = self.outage.filter(|outage| now.duration_since(outage.last) < ONE_OUTAGE);
        let since = before.map_or(now, |outage| outage.since);
        self.outage = Some(Outage { since, last: now });
        if problem.exit == Exit::TryAgain && now.duration_since(since) < self.patience {
            return Ok(());
        }
        Err(problem)
    }
}

#[cfg(test)]
mod tests {
    use api::BillingRun;
    use api::billing_run::Phase;
    use api::run::RunPhase as _;
    use http::Method;
    use serde_json::{Value, json};

    use super::*;
    use crate::mock_server::{Call, failure, serve};
    use crate::plan::testing::billing_run;

    const RUNS: &str = "/apis/monthend.dev/v1alpha1/namespaces/billing/billingruns";
    const PATIENCE: Duration = Duration::from_secs(120);

    fn running() -> BillingRun {
        billing_run("october", "2026-10", Phase::Running, Some(1))
    }

    fn list(runs: &[BillingRun]) -> Call {
        let list = json!({"kind": "BillingRunList", "apiVersion": "monthend.dev/v1alpha1",
                          "metadata": {"resourceVersion": "7"}, "items": runs});
        Call::get(RUNS, &list)
    }

    /// What the API server says of changes, before it ends the connection.
    fn events(events: &[(&str, &BillingRun)]) -> Call {
        let line = |(type_, run): &(&str, &BillingRun)| json!({"type": type_, "object": run}).to_string();
        Call::text(RUNS, &events.iter().map(line).collect::<Vec<_>>().join("\n"))
    }

    fn refused(code: u16, reason: &str) -> Call {
        Call::new(Method::GET, RUNS, Value::Null, code, &failure(code, reason, "etcd is away"))
    }

    /// The phases that are seen, until there are as many or a problem ends it. A run that is gone is `-`.
    async fn seen(calls: Vec<Call>, count: usize) -> (Vec<String>, Option<Problem>) {
        let (cluster, server) = serve(calls);
        let mut watched = cluster.watch_run(&AnyRun::Billing(Box::new(running())), PATIENCE);
        let mut phases = Vec::new();
        let mut problem = None;
        while phases.len() < count && problem.is_none() {
            match watched.next().await {
                Ok(Some(AnyRun::Billing(run))) => phases.push(run.phase().unwrap().as_str().to_owned()),
                Ok(Some(other)) => panic!("{}", other.kind()),
                Ok(None) => phases.push("-".to_owned()),
                Err(found) => problem = Some(found),
            }
        }
        drop((watched, cluster));
        server.await.unwrap();
        (phases, problem)
    }

    #[tokio::test]
    async fn a_run_is_seen_as_it_is_and_after_each_change() {
        let (verifying, issued) = (
            billing_run("october", "2026-10", Phase::Verifying, Some(1)),
            billing_run("october", "2026-10", Phase::Succeeded, Some(1)),
        );
        let calls = vec![
            list(&[running()]),
            events(&[("MODIFIED", &verifying)]),
            // The connection ended, which is no failure.
            events(&[("MODIFIED", &issued), ("DELETED", &issued)]),
        ];
        let (phases, problem) = seen(calls, 4).await;
        assert_eq!(phases, ["Running", "Verifying", "Succeeded", "-"]);
        assert_eq!(problem, None);
    }

    #[tokio::test]
    async fn a_run_that_is_gone_or_another_one_is_not_there() {
        assert_eq!(seen(vec![list(&[])], 1).await.0, ["-"]);
        let mut another = running();
        another.metadata.uid = Some("another".to_owned());
        assert_eq!(seen(vec![list(&[another])], 1).await.0, ["-"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_waited_for_and_the_next_one_starts_over() {
        let away = |count: usize| (0..count).map(|_| refused(503, "ServiceUnavailable"));
        let mut calls: Vec<Call> = away(119).collect();
        calls.push(list(&[running()]));
        calls.extend(away(119));
        calls.push(events(&[("MODIFIED", &running())]));
        assert_eq!(seen(calls, 2).await, (vec!["Running".to_owned(); 2], None));
        // The 121st attempt is two minutes after the first one.
        let (phases, problem) = seen(away(121).collect(), 1).await;
        assert_eq!(phases, Vec::<String>::new());
        assert_eq!(problem, Some(Problem::try_again("cannot watch BillingRun october: etcd is away")));
    }

    #[tokio::test(start_paused = true)]
    async fn what_no_time_heals_ends_at_once() {
        let (_, problem) = seen(vec![refused(403, "Forbidden")], 1).await;
        assert_eq!(
            problem,
            Some(Problem::failed(
                "you may not watch BillingRun october in namespace billing: etcd is away. docs/kubectl-plugin.md lists \
                 the rights that each command needs"
            ))
        );
        // For a pod, an outage is one of those.
        let path = "/api/v1/namespaces/billing/pods";
        let away = failure(503, "ServiceUnavailable", "etcd is away");
        let (cluster, server) = serve(vec![Call::new(Method::GET, path, Value::Null, 503, &away)]);
        let problem = cluster.watch_pod("load-1").next().await.unwrap_err();
        assert_eq!(problem, Problem::try_again("cannot watch the pod load-1: etcd is away"));
        drop(cluster);
        server.await.unwrap();
    }
}
