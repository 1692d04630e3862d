//! The scaler's loop: reads the labelled Deployments and the lag of their groups, asks [`policy`]
//! for the replicas, writes them through the scale subresource, and reports what it did in Events,
//! metrics and the log. How many replicas a lag asks for is not decided here.
//!
//! A Deployment whose annotations are invalid, or whose lag cannot be read, keeps the replicas it
//! has.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use api::reasons;
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Api, Client};
use logging::chain;
use serde_json::json;
use store::notification;
use tokio::time::Instant;

use super::lag_cache::{LagCache, LagView, TopicGroup};
use super::lag_reader::{LagError, LagReader};
use super::policy::{self, Basis, Decision, History, Partition, Snapshot, total_lag};
use super::scaling_metrics::{Direction, ScalingMetrics};
use super::target::{self, ScalingSpec, ScalingTarget};
use crate::clock::Clock;
use crate::database::{Database, Schema};
use crate::error::{Doing as _, RunError};

const FIELD_MANAGER: &str = "monthend-scaler";
/// While a run sends e-mails, a lag is left or a Deployment is still scaling.
const POLL_BUSY: Duration = Duration::from_secs(2);
/// Otherwise.
const POLL_IDLE: Duration = Duration::from_secs(10);
/// The API server refuses longer notes.
const LONGEST_NOTE: usize = 1000;

type Lags = HashMap<TopicGroup, Result<Vec<Partition>, LagError>>;

pub(crate) struct Scaler {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) database: Database,
    /// HOST:PORT of the brokers, with commas.
    pub(crate) brokers: String,
    /// The installation's own topic and group: its lag is read even if something else scales its
    /// consumers.
    pub(crate) own: TopicGroup,
    pub(crate) recorder: Recorder,
    pub(crate) metrics: ScalingMetrics,
    pub(crate) lags: LagCache,
    pub(crate) clock: Clock,
}

/// What one pass keeps for the next.
#[derive(Default)]
struct ScalerState {
    readers: HashMap<TopicGroup, Arc<LagReader>>,
    /// Topics and groups whose lag cannot be read, each logged once.
    reported_unreadable: HashSet<TopicGroup>,
    /// By uid, so that another Deployment of the same name starts with an empty history.
    deployments: HashMap<String, DeploymentState>,
}

#[derive(Default)]
struct DeploymentState {
    name: String,
    history: History,
    /// The problem that the last Event reported; an Event is written when it changes.
    reported: Option<Problem>,
}

/// Why a Deployment is not scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Problem {
    Invalid,
    Unreadable,
    Refused,
}

impl Scaler {
    /// Never returns.
    pub(crate) async fn run(self) {
        let started = Instant::now();
        let mut state = ScalerState::default();
        let mut ticks = tokio::time::interval(POLL_BUSY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut last_pass, mut busy) = (None::<Instant>, true);
        loop {
            ticks.tick().await;
            let sending = self.may_be_sending().await;
            if !sending && !busy && last_pass.is_some_and(|last| last.elapsed() < POLL_IDLE) {
                continue;
            }
            last_pass = Some(Instant::now());
            busy = match self.targets().await {
                Ok(targets) => {
                    let began = self.clock.now();
                    let lags = self.read_lags(&targets, &mut state).await;
                    self.scale_all(&targets, &lags, sending, started.elapsed(), began, &mut state).await
                }
                Err(error) => {
                    tracing::warn!(error = chain(&error), "cannot list the Deployments to scale");
                    false
                }
            };
        }
    }

    /// True when the database cannot be read: a run may be sending.
    async fn may_be_sending(&self) -> bool {
        if !matches!(self.database.schema(), Schema::Ready(_)) {
            return true;
        }
        notification::any_run_sends(&self.database.pool)
            .await
            .inspect_err(|error| {
                tracing::debug!(error = chain(error), "cannot read whether a run is sending")
            })
            .unwrap_or(true)
    }

    fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn targets(&self) -> Result<Vec<ScalingTarget>, RunError> {
        let ours = ListParams::default().labels(&format!("{}=true", target::LABEL));
        let found = self.deployments().list(&ours).await;
        let found = found.doing(|| format!("list the Deployments with {}=true", target::LABEL))?;
        Ok(found.items.iter().filter_map(target::read).collect())
    }

    /// Reads all lags concurrently, each with its own time-out.
    async fn read_lags(&self, targets: &[ScalingTarget], state: &mut ScalerState) -> Lags {
        let asked = targets.iter().filter_map(|target| Some(target.spec.as_ref().ok()?.topic_group.clone()));
        let topic_groups: BTreeSet<TopicGroup> = asked.chain([self.own.clone()]).collect();
        let gone: Vec<TopicGroup> =
            state.readers.keys().filter(|topic_group| !topic_groups.contains(topic_group)).cloned().collect();
        for topic_group in &gone {
            let reader = state.readers.remove(topic_group);
            state.reported_unreadable.remove(topic_group);
            // Dropping a client blocks until its connections are closed.
            tokio::task::spawn_blocking(move || drop(reader));
        }
        self.metrics.forget_topic_groups(gone.iter());

        let reads = topic_groups.into_iter().map(|topic_group| {
            let known = state.readers.get(&topic_group).cloned();
            let brokers = self.brokers.clone();
            async move {
                let asked = topic_group.clone();
                let read = move || {
                    let reader = match known {
                        Some(reader) => reader,
                        None => Arc::new(LagReader::new(&brokers, asked)?),
                    };
                    let lag = reader.read();
                    Ok((reader, lag))
                };
                let read = tokio::task::spawn_blocking(read)
                    .await
                    .unwrap_or_else(|lost| Err(LagError::Panicked(lost.to_string())));
                (topic_group, read)
            }
        });
        let mut lags = Lags::new();
        for (topic_group, read) in join_all(reads).await {
            let lag = match read {
                Ok((reader, lag)) => {
                    state.readers.insert(topic_group.clone(), reader);
                    lag
                }
                Err(error) => Err(error),
            };
            self.report_lag(&topic_group, &lag, state);
            lags.insert(topic_group, lag);
        }
        lags
    }

    fn report_lag(
        &self,
        topic_group: &TopicGroup,
        lag: &Result<Vec<Partition>, LagError>,
        state: &mut ScalerState,
    ) {
        let TopicGroup { topic, group } = topic_group;
        self.metrics.lag(topic_group, lag.as_deref().ok().map(total_lag));
        match lag {
            Ok(_) if state.reported_unreadable.remove(topic_group) => {
                tracing::info!(topic, group, "the lag can be read again");
            }
            Err(error) if state.reported_unreadable.insert(topic_group.clone()) => {
                tracing::warn!(topic, group, error = chain(error), "cannot read the lag; trying again");
            }
            _ => {}
        }
    }

    /// Whether the next pass should come soon: a lag is left or a Deployment is still scaling.
    async fn scale_all(
        &self,
        targets: &[ScalingTarget],
        lags: &Lags,
        sending: bool,
        now: Duration,
        began: Timestamp,
        state: &mut ScalerState,
    ) -> bool {
        self.forget_gone(targets, state);
        let mut views: HashMap<TopicGroup, LagView> =
            lags.iter().map(|(topic_group, lag)| (topic_group.clone(), view(lag, began))).collect();
        let mut busy = false;
        for target in targets {
            let known = state.deployments.entry(target.uid.clone()).or_default();
            known.name.clone_from(&target.name);
            let Some((spec, decision)) = self.scale(target, lags, sending, now, known).await else {
                continue;
            };
            if let Basis::Lag { total, need, .. } = decision.basis {
                busy |= total > 0 || need != target.replicas || target.ready != target.replicas;
            }
            if let Some(view) = views.get_mut(&spec.topic_group) {
                let sum = view.consumers.get_or_insert_default();
                sum.replicas = sum.replicas.saturating_add(target.replicas);
                sum.ready = sum.ready.saturating_add(target.ready);
                sum.desired = sum.desired.saturating_add(decision.replicas);
            }
        }
        self.lags.replace(views);
        busy
    }

    fn forget_gone(&self, targets: &[ScalingTarget], state: &mut ScalerState) {
        let there: HashSet<&str> = targets.iter().map(|target| target.uid.as_str()).collect();
        let names: HashSet<&str> = targets.iter().map(|target| target.name.as_str()).collect();
        let gone: Vec<String> = state
            .deployments
            .extract_if(|uid, _| !there.contains(uid.as_str()))
            .map(|(_, known)| known.name)
            .filter(|name| !names.contains(name.as_str()))
            .collect();
        self.metrics.forget_deployments(gone.iter());
    }

    /// None for a Deployment whose annotations are invalid.
    async fn scale<'a>(
        &self,
        target: &'a ScalingTarget,
        lags: &Lags,
        sending: bool,
        now: Duration,
        known: &mut DeploymentState,
    ) -> Option<(&'a ScalingSpec, Decision)> {
        let spec = match &target.spec {
            Ok(spec) => spec,
            Err(problem) => {
                self.metrics.decided(&target.name, Direction::Invalid);
                let note = format!("The replicas stay at {}: {problem}", target.replicas);
                self.report_problem(target, known, Problem::Invalid, reasons::SCALING_INVALID, &note).await;
                return None;
            }
        };
        let lag = lags.get(&spec.topic_group)?;
        let snapshot =
            Snapshot { lag: lag.as_deref().ok(), replicas: target.replicas, ready: target.ready, sending };
        let (decision, history) =
            policy::decide(&spec.settings, &snapshot, std::mem::take(&mut known.history), now);
        known.history = history;
        self.metrics.consumers(&target.name, target.ready, decision.replicas, spec.settings.max());
        if let Err(error) = lag {
            self.metrics.decided(&target.name, Direction::Unreadable);
            let note = format!("The replicas stay at {}: {}", target.replicas, chain(error));
            self.report_problem(target, known, Problem::Unreadable, reasons::LAG_UNREADABLE, &note).await;
            return Some((spec, decision));
        }
        if known.reported.take_if(|reported| *reported != Problem::Refused) == Some(Problem::Unreadable) {
            let note = format!("The lag of group {} can be read again", spec.topic_group.group);
            self.publish_event(target, EventType::Normal, reasons::LAG_READABLE, &note).await;
        }
        if decision.replicas == target.replicas {
            known.reported = None;
            self.metrics.decided(&target.name, Direction::Stay);
        } else {
            self.apply_replicas(target, spec, decision, known).await;
        }
        Some((spec, decision))
    }

    /// The uid and the resource version make the patch fail for another Deployment of this name,
    /// and after a change by somebody else.
    async fn apply_replicas(
        &self,
        target: &ScalingTarget,
        spec: &ScalingSpec,
        decision: Decision,
        known: &mut DeploymentState,
    ) {
        let patch = json!({
            "metadata": { "uid": target.uid, "resourceVersion": target.version },
            "spec": { "replicas": decision.replicas },
        });
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let scaled = self
            .deployments()
            .patch_scale(&target.name, &params, &Patch::Merge(&patch))
            .await
            .doing(|| format!("scale Deployment {}", target.name));
        match scaled {
            Ok(_) => {
                known.reported = None;
                known.history.scaled_to(decision.replicas);
                let out = decision.replicas > target.replicas;
                let (direction, reason) = if out {
                    (Direction::Out, reasons::SCALED_OUT)
                } else {
                    (Direction::In, reasons::SCALED_IN)
                };
                self.metrics.decided(&target.name, direction);
                let note = describe_change(target, spec, decision);
                tracing::info!(deployment = target.name, "{note}");
                self.publish_event(target, EventType::Normal, reason, &note).await;
            }
            // The Deployment was changed or deleted since it was read: the next pass reads it again.
            Err(RunError::Kubernetes { source: kube::Error::Api(answer), .. })
                if matches!(answer.code, 404 | 409) =>
            {
                tracing::debug!(
                    deployment = target.name,
                    answer = answer.message,
                    "the Deployment changed since it was read"
                );
            }
            Err(error) => {
                self.metrics.decided(&target.name, Direction::Failed);
                let note = format!(
                    "The replicas stay at {} instead of {}: {}",
                    target.replicas,
                    decision.replicas,
                    chain(&error)
                );
                self.report_problem(target, known, Problem::Refused, reasons::SCALING_FAILED, &note).await;
            }
        }
    }

    /// Reports a problem once, when it begins.
    async fn report_problem(
        &self,
        target: &ScalingTarget,
        known: &mut DeploymentState,
        problem: Problem,
        reason: &str,
        note: &str,
    ) {
        if known.reported.replace(problem) != Some(problem) {
            tracing::warn!(deployment = target.name, reason, "{note}");
            self.publish_event(target, EventType::Warning, reason, note).await;
        }
    }

    /// An Event that cannot be written is logged; scaling goes on.
    async fn publish_event(&self, target: &ScalingTarget, kind: EventType, reason: &str, note: &str) {
        let event = Event {
            type_: kind,
            reason: reason.to_owned(),
            action: "Scale".to_owned(),
            note: Some(note.chars().take(LONGEST_NOTE).collect()),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, &target.reference).await {
            tracing::warn!(reason, error = chain(&error), "cannot write an Event");
        }
    }
}

fn view(lag: &Result<Vec<Partition>, LagError>, began: Timestamp) -> LagView {
    let total = lag.as_deref().ok().map(total_lag);
    LagView {
        lag: total,
        unreadable: lag.as_ref().err().map(|error| chain(error)),
        // A topic that does not exist has no messages left.
        drained: total == Some(0) || matches!(lag, Err(LagError::NoTopic(_))),
        read_at: began,
        consumers: None,
    }
}

fn describe_change(target: &ScalingTarget, spec: &ScalingSpec, decision: Decision) -> String {
    let from_to = format!("Scaled from {} to {}", target.replicas, decision.replicas);
    let Basis::Lag { total, working, stuck, .. } = decision.basis else { return from_to };
    let TopicGroup { topic, group } = &spec.topic_group;
    let stuck_note = match stuck {
        0 => String::new(),
        stuck => format!("; {stuck} more partitions do not advance and are not counted"),
    };
    format!(
        "{from_to}: group {group} is {total} messages behind on topic {topic}, {working} partitions have work{stuck_note}"
    )
}

#[cfg(test)]
mod tests;
