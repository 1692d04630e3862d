//! Scales the Deployments that ask for it on the lag of their group: reads, asks [`domain::scaling`], writes through the
//! scale subresource, and says what it did. How many consumers a lag asks for is not decided here.
//!
//! A Deployment whose annotations are wrong, or whose lag can't be read, keeps the replicas it has.

mod book;
mod kafka;
mod metrics;
mod target;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use domain::scaling::{Basis, Decision, History, Partition, Snapshot, decide, total_lag};
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams},
    runtime::events::{Event, EventType, Recorder},
};
use logging::chain;
use serde_json::json;
use store::notification;
use tokio::time::Instant;

#[cfg(test)]
pub(crate) use self::book::Consumers;
pub(crate) use self::{
    book::{LagCache, LagView, Reading},
    metrics::ScalingMetrics,
};
use self::{
    kafka::{LagError, LagReader},
    metrics::Direction,
    target::{Order, Target},
};
use crate::{
    clock::Clock,
    database::{Database, Schema},
    error::{Doing as _, RunError},
};

const FIELD_MANAGER: &str = "monthend-scaler";
/// While a run sends, or something is on its way.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// While nothing is.
const QUIET_EVERY: Duration = Duration::from_secs(10);
/// The API server refuses longer notes.
const LONGEST_NOTE: usize = 1000;

type Lags = HashMap<Reading, Result<Vec<Partition>, LagError>>;

pub(crate) struct Scaler {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) database: Database,
    /// HOST:PORT of the brokers, with commas.
    pub(crate) brokers: String,
    /// The installation's own topic and group: looked at whoever scales its consumers.
    pub(crate) own: Reading,
    pub(crate) recorder: Recorder,
    pub(crate) metrics: ScalingMetrics,
    pub(crate) lags: LagCache,
    pub(crate) clock: Clock,
}

/// What is remembered from look to look.
#[derive(Default)]
struct Memory {
    readers: HashMap<Reading, Arc<LagReader>>,
    /// Readings whose trouble is logged already.
    in_trouble: HashSet<Reading>,
    /// By uid: another Deployment of the same name starts anew.
    deployments: HashMap<String, Known>,
}

#[derive(Default)]
struct Known {
    name: String,
    history: History,
    /// What people were told last: an Event is for a change.
    told: Option<Trouble>,
}

/// Why a Deployment isn't scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Invalid,
    Unreadable,
    Refused,
}

impl Scaler {
    /// Never returns.
    pub(crate) async fn run(self) {
        let started = Instant::now();
        let mut memory = Memory::default();
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut looked, mut restless) = (None::<Instant>, true);
        loop {
            ticks.tick().await;
            let sending = self.may_be_sending().await;
            if !sending && !restless && looked.is_some_and(|looked| looked.elapsed() < QUIET_EVERY) {
                continue;
            }
            looked = Some(Instant::now());
            restless = match self.targets().await {
                Ok(targets) => {
                    let began = self.clock.now();
                    let lags = self.read_lags(&targets, &mut memory).await;
                    self.scale_all(&targets, &lags, sending, started.elapsed(), began, &mut memory).await
                }
                Err(error) => {
                    tracing::warn!(error = chain(&error), "cannot look at what is to be scaled");
                    false
                }
            };
        }
    }

    /// A database that can't be asked may well have a run that sends.
    async fn may_be_sending(&self) -> bool {
        if !matches!(self.database.schema(), Schema::Ready(_)) {
            return true;
        }
        notification::any_run_sends(&self.database.pool)
            .await
            .inspect_err(|error| tracing::debug!(error = chain(error), "cannot ask whether a run is sending"))
            .unwrap_or(true)
    }

    fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn targets(&self) -> Result<Vec<Target>, RunError> {
        let ours = ListParams::default().labels(&format!("{}=true", target::LABEL));
        let found = self.deployments().list(&ours).await;
        let found = found.doing(|| format!("list the Deployments with {}=true", target::LABEL))?;
        Ok(found.items.iter().filter_map(target::read).collect())
    }

    /// All at once, each with its own time-out.
    async fn read_lags(&self, targets: &[Target], memory: &mut Memory) -> Lags {
        let asked = targets.iter().filter_map(|target| Some(target.order.as_ref().ok()?.reading.clone()));
        let readings: BTreeSet<Reading> = asked.chain([self.own.clone()]).collect();
        let gone: Vec<Reading> =
            memory.readers.keys().filter(|reading| !readings.contains(reading)).cloned().collect();
        for reading in &gone {
            let reader = memory.readers.remove(reading);
            memory.in_trouble.remove(reading);
            // It waits for its connections to end.
            tokio::task::spawn_blocking(move || drop(reader));
        }
        self.metrics.forget_readings(gone.iter());

        let reads = readings.into_iter().map(|reading| {
            let known = memory.readers.get(&reading).cloned();
            let brokers = self.brokers.clone();
            async move {
                let asked = reading.clone();
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
                    .unwrap_or_else(|lost| Err(LagError::Lost(lost.to_string())));
                (reading, read)
            }
        });
        let mut lags = Lags::new();
        for (reading, read) in join_all(reads).await {
            let lag = match read {
                Ok((reader, lag)) => {
                    memory.readers.insert(reading.clone(), reader);
                    lag
                }
                Err(error) => Err(error),
            };
            self.tell_of_lag(&reading, &lag, memory);
            lags.insert(reading, lag);
        }
        lags
    }

    fn tell_of_lag(&self, reading: &Reading, lag: &Result<Vec<Partition>, LagError>, memory: &mut Memory) {
        let Reading { topic, group } = reading;
        self.metrics.lag(reading, lag.as_deref().ok().map(total_lag));
        match lag {
            Ok(_) if memory.in_trouble.remove(reading) => {
                tracing::info!(topic, group, "the lag can be read again");
            }
            Err(error) if memory.in_trouble.insert(reading.clone()) => {
                tracing::warn!(topic, group, error = chain(error), "cannot read the lag; trying again");
            }
            _ => {}
        }
    }

    /// Whether something is on its way, so that the next look should come soon.
    async fn scale_all(
        &self,
        targets: &[Target],
        lags: &Lags,
        sending: bool,
        now: Duration,
        began: Timestamp,
        memory: &mut Memory,
    ) -> bool {
        self.forget_gone(targets, memory);
        let mut views: HashMap<Reading, LagView> =
            lags.iter().map(|(reading, lag)| (reading.clone(), view(lag, began))).collect();
        let mut restless = false;
        for target in targets {
            let known = memory.deployments.entry(target.uid.clone()).or_default();
            known.name.clone_from(&target.name);
            let Some((order, decision)) = self.scale(target, lags, sending, now, known).await else {
                continue;
            };
            if let Basis::Lag { total, need, .. } = decision.basis {
                restless |= total > 0 || need != target.replicas || target.ready != target.replicas;
            }
            if let Some(view) = views.get_mut(&order.reading) {
                let sum = view.consumers.get_or_insert_default();
                sum.replicas = sum.replicas.saturating_add(target.replicas);
                sum.ready = sum.ready.saturating_add(target.ready);
                sum.desired = sum.desired.saturating_add(decision.replicas);
            }
        }
        self.lags.replace(views);
        restless
    }

    fn forget_gone(&self, targets: &[Target], memory: &mut Memory) {
        let there: HashSet<&str> = targets.iter().map(|target| target.uid.as_str()).collect();
        let names: HashSet<&str> = targets.iter().map(|target| target.name.as_str()).collect();
        let gone: Vec<String> = memory
            .deployments
            .extract_if(|uid, _| !there.contains(uid.as_str()))
            .map(|(_, known)| known.name)
            .filter(|name| !names.contains(name.as_str()))
            .collect();
        self.metrics.forget_deployments(gone.iter());
    }

    /// None for a Deployment that can't be scaled.
    async fn scale<'a>(
        &self,
        target: &'a Target,
        lags: &Lags,
        sending: bool,
        now: Duration,
        known: &mut Known,
    ) -> Option<(&'a Order, Decision)> {
        let order = match &target.order {
            Ok(order) => order,
            Err(problem) => {
                self.metrics.decided(&target.name, Direction::Invalid);
                let note = format!("The replicas stay at {}: {problem}", target.replicas);
                self.trouble(target, known, Trouble::Invalid, "ScalingInvalid", &note).await;
                return None;
            }
        };
        let lag = lags.get(&order.reading)?;
        let snapshot =
            Snapshot { lag: lag.as_deref().ok(), replicas: target.replicas, ready: target.ready, sending };
        let (decision, history) = decide(&order.settings, &snapshot, std::mem::take(&mut known.history), now);
        known.history = history;
        self.metrics.consumers(&target.name, target.ready, decision.replicas);
        if let Err(error) = lag {
            self.metrics.decided(&target.name, Direction::Unreadable);
            let note = format!("The replicas stay at {}: {}", target.replicas, chain(error));
            self.trouble(target, known, Trouble::Unreadable, "LagUnreadable", &note).await;
            return Some((order, decision));
        }
        if known.told.take_if(|told| *told != Trouble::Refused) == Some(Trouble::Unreadable) {
            let note = format!("The lag of group {} can be read again", order.reading.group);
            self.tell(target, EventType::Normal, "LagReadable", &note).await;
        }
        if decision.replicas == target.replicas {
            known.told = None;
            self.metrics.decided(&target.name, Direction::Stay);
        } else {
            self.bring_to(target, order, decision, known).await;
        }
        Some((order, decision))
    }

    /// Only what was looked at is scaled: not another Deployment of its name, and not over somebody else's change.
    async fn bring_to(&self, target: &Target, order: &Order, decision: Decision, known: &mut Known) {
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
                known.told = None;
                known.history.scaled_to(decision.replicas);
                let out = decision.replicas > target.replicas;
                let (direction, reason) =
                    if out { (Direction::Out, "ScaledOut") } else { (Direction::In, "ScaledIn") };
                self.metrics.decided(&target.name, direction);
                let note = change(target, order, decision);
                tracing::info!(deployment = target.name, "{note}");
                self.tell(target, EventType::Normal, reason, &note).await;
            }
            // It changed or went in between: the next look sees how.
            Err(RunError::Kubernetes { source: kube::Error::Api(answer), .. })
                if matches!(answer.code, 404 | 409) =>
            {
                tracing::debug!(deployment = target.name, answer = answer.message, "changed in between");
            }
            Err(error) => {
                self.metrics.decided(&target.name, Direction::Failed);
                let note = format!(
                    "The replicas stay at {} instead of {}: {}",
                    target.replicas,
                    decision.replicas,
                    chain(&error)
                );
                self.trouble(target, known, Trouble::Refused, "ScalingFailed", &note).await;
            }
        }
    }

    /// Told once, when it begins.
    async fn trouble(&self, target: &Target, known: &mut Known, trouble: Trouble, reason: &str, note: &str) {
        if known.told.replace(trouble) != Some(trouble) {
            tracing::warn!(deployment = target.name, reason, "{note}");
            self.tell(target, EventType::Warning, reason, note).await;
        }
    }

    /// An Event that can't be written is no reason to stop.
    async fn tell(&self, target: &Target, kind: EventType, reason: &str, note: &str) {
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
        // Without the topic nothing can come from it any more.
        drained: total == Some(0) || matches!(lag, Err(LagError::NoTopic(_))),
        read_at: began,
        consumers: None,
    }
}

fn change(target: &Target, order: &Order, decision: Decision) -> String {
    let from_to = format!("Scaled from {} to {}", target.replicas, decision.replicas);
    let Basis::Lag { total, working, stuck, .. } = decision.basis else { return from_to };
    let Reading { topic, group } = &order.reading;
    let standing = match stuck {
        0 => String::new(),
        stuck => format!("; {stuck} more stand still and are left out"),
    };
    format!(
        "{from_to}: group {group} is {total} messages behind on topic {topic}, {working} partitions have work{standing}"
    )
}

#[cfg(test)]
mod tests;
