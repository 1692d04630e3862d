//! The reconcile loop of every kind of run: observe, decide, write the status, act, and look again. What differs
//! between kinds is behind [`RunKind`]; nothing here knows what a run is for.
//!
//! Each pass writes at most one status and takes at most one action. The decision is a value made without a client.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use api::{
    labels::{FINALIZER, MANAGER},
    run::{Run, RunStatus as _},
};
use futures::Future;
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
    core::{DeserializeGuard, object::HasStatus},
    runtime::{
        controller::Action,
        events::{Event, EventType, Recorder},
    },
};
use logging::chain;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::{
    error::{Doing as _, ErrorClass, RunError},
    metrics::Metrics,
    runs::news,
};

/// A reconciliation that takes more passes than any chain of decisions needs ends and is scheduled again.
const MOST_PASSES: usize = 12;
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);
/// The API server refuses longer notes.
const LONGEST_NOTE: usize = 1000;

/// One kind of run.
pub(crate) trait RunKind: Send + Sync + 'static {
    const KIND: &'static str;
    type Object: Run;
    /// Everything that a decision is made of.
    type World: Send + Sync;
    type Action: fmt::Debug + Send;
    /// What the next decision has to know of the last action.
    type Outcome: Send;

    /// The status without what moves by itself while nothing happens.
    fn without_time(status: &StatusOf<Self>) -> StatusOf<Self>;
    /// Whether the run may be waiting for this ConfigMap.
    fn waits_for(&self, run: &Self::Object, config_map: &str) -> bool;
    fn observe(
        &self,
        run: &Self::Object,
        outcome: Option<Self::Outcome>,
    ) -> impl Future<Output = Result<Self::World, RunError>> + Send;
    fn decide(&self, run: &Self::Object, world: &Self::World) -> Decision<StatusOf<Self>, Self::Action>;
    fn perform(
        &self,
        run: &Self::Object,
        action: Self::Action,
    ) -> impl Future<Output = Result<Self::Outcome, RunError>> + Send;
}

/// The status of a kind's runs.
pub(crate) type StatusOf<K> = <<K as RunKind>::Object as HasStatus>::Status;

/// What to say and what to do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Decision<S, A> {
    pub(crate) status: S,
    pub(crate) next: Next<A>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Next<A> {
    /// Put the finalizer on the run.
    Hold,
    /// Take the finalizer off.
    LetGo,
    /// Delete the run, whose time is over.
    DeleteRun,
    Do(A),
    /// Look again after this long, or when something changes.
    Wait(Duration),
    /// Something is out of reach: look again after a pause that grows with every look.
    BackOff,
    /// Nothing to do until something changes.
    Rest,
}

impl<A> Next<A> {
    pub(crate) fn map<B>(self, change: impl FnOnce(A) -> B) -> Next<B> {
        match self {
            Self::Hold => Next::Hold,
            Self::LetGo => Next::LetGo,
            Self::DeleteRun => Next::DeleteRun,
            Self::Do(action) => Next::Do(change(action)),
            Self::Wait(pause) => Next::Wait(pause),
            Self::BackOff => Next::BackOff,
            Self::Rest => Next::Rest,
        }
    }
}

/// Worth an Event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) warning: bool,
    pub(crate) reason: String,
    pub(crate) note: String,
}

pub(crate) struct Context<K> {
    pub(crate) client: Client,
    pub(crate) kind: K,
    pub(crate) recorder: Recorder,
    pub(crate) metrics: Metrics,
    /// Looks in a row that ended in an error or a [`Next::BackOff`], by uid.
    failures: Mutex<HashMap<String, u32>>,
}

impl<K: RunKind> Context<K> {
    pub(crate) fn new(client: Client, kind: K, recorder: Recorder, metrics: Metrics) -> Self {
        Self { client, kind, recorder, metrics, failures: Mutex::default() }
    }

    fn back_off(&self, uid: &str) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(uid.to_owned()).or_insert(0);
        *count = count.saturating_add(1);
        FIRST_BACKOFF.saturating_mul(1 << (*count - 1).min(10)).min(LONGEST_BACKOFF)
    }

    fn succeeded(&self, uid: &str) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

/// What the controller calls when something about a run changed or its time has come.
pub(crate) async fn reconcile<K: RunKind>(
    cached: Arc<DeserializeGuard<K::Object>>,
    context: Arc<Context<K>>,
) -> Result<Action, RunError> {
    let run = format!("{}/{}", cached.namespace().unwrap_or_default(), cached.name_any());
    let span = tracing::info_span!("reconcile", kind = K::KIND, run);
    async move {
        let started = Instant::now();
        let result = match &cached.0 {
            Ok(object) => reconcile_run(object, &context).await,
            Err(invalid) => {
                // Nothing can be done until it is changed, and then this is called again.
                tracing::error!(error = invalid.error, "cannot read the run; correct its spec");
                Ok(Action::await_change())
            }
        };
        let outcome = result.as_ref().map(|_| ()).map_err(RunError::class);
        context.metrics.reconciled(K::KIND, outcome, started.elapsed());
        result
    }
    .instrument(span)
    .await
}

/// How long to wait after an error. Errors are logged here and nowhere else.
pub(crate) fn on_error<K: RunKind>(
    cached: Arc<DeserializeGuard<K::Object>>,
    error: &RunError,
    context: Arc<Context<K>>,
) -> Action {
    let pause = context.back_off(&cached.uid().unwrap_or_default());
    let run = format!("{}/{}", cached.namespace().unwrap_or_default(), cached.name_any());
    if error.class() == ErrorClass::Conflict {
        tracing::debug!(kind = K::KIND, run, error = chain(error), "the run changed in between");
    } else {
        tracing::warn!(kind = K::KIND, run, error = chain(error), ?pause, "cannot reconcile; trying again");
    }
    Action::requeue(pause)
}

async fn reconcile_run<K: RunKind>(cached: &K::Object, context: &Context<K>) -> Result<Action, RunError> {
    let name = cached.name_any();
    let uid = cached.uid().ok_or(RunError::Incomplete(K::KIND.to_owned(), "uid"))?;
    let namespace = cached.namespace().ok_or(RunError::Incomplete(K::KIND.to_owned(), "namespace"))?;
    let runs: Api<K::Object> = Api::namespaced(context.client.clone(), &namespace);
    // The cache may be older than our own last write.
    let found = runs.get_opt(&name).await.doing(|| format!("read {} {name}", K::KIND))?;
    let Some(mut run) = found.filter(|found| found.uid().as_deref() == Some(uid.as_str())) else {
        context.succeeded(&uid);
        return Ok(Action::await_change());
    };
    let mut outcome = None;
    for _ in 0..MOST_PASSES {
        let world = context.kind.observe(&run, outcome.take()).await?;
        let decision = context.kind.decide(&run, &world);
        if let Some(written) = write_status(&run, &decision.status, &runs, context).await? {
            run = written;
        }
        match decision.next {
            Next::Hold => run = hold(&runs, &run, &[FINALIZER]).await?,
            Next::LetGo => {
                hold(&runs, &run, &[]).await?;
                context.succeeded(&uid);
                return Ok(Action::await_change());
            }
            Next::DeleteRun => {
                tracing::info!("deleting the run: its time after the end is over");
                let this_one = Preconditions { uid: Some(uid), resource_version: None };
                let params = DeleteParams::background().preconditions(this_one);
                runs.delete(&name, &params).await.doing(|| format!("delete {} {name}", K::KIND))?;
                return Ok(Action::await_change());
            }
            Next::Do(action) => {
                tracing::info!(?action, "acting");
                outcome = Some(context.kind.perform(&run, action).await?);
            }
            Next::Wait(pause) => {
                context.succeeded(&uid);
                return Ok(Action::requeue(pause));
            }
            Next::BackOff => return Ok(Action::requeue(context.back_off(&uid))),
            Next::Rest => {
                context.succeeded(&uid);
                return Ok(Action::await_change());
            }
        }
    }
    Ok(Action::requeue(Duration::from_millis(100)))
}

/// Writes the status if it says anything new, and then tells what is new in it.
async fn write_status<K: RunKind>(
    run: &K::Object,
    status: &StatusOf<K>,
    runs: &Api<K::Object>,
    context: &Context<K>,
) -> Result<Option<K::Object>, RunError> {
    let before = run.status();
    if before.is_some_and(|before| K::without_time(before) == K::without_time(status)) {
        return Ok(None);
    }
    let name = run.name_any();
    let patch = json!({
        "apiVersion": K::Object::api_version(&()),
        "kind": K::Object::kind(&()),
        // The uid makes this fail for another run of the same name.
        "metadata": { "name": name, "uid": run.uid() },
        "status": status,
    });
    let written = runs
        .patch_status(&name, &PatchParams::apply(&format!("{MANAGER}-status")).force(), &Patch::Apply(&patch))
        .await
        .doing(|| format!("write the status of {} {name}", K::KIND))?;
    for news in news::between(run.conditions(), status.conditions()) {
        tell(&context.recorder, run, news).await;
    }
    Ok(Some(written))
}

/// An Event that can't be written is no reason to stop.
async fn tell(recorder: &Recorder, run: &impl Resource<DynamicType = ()>, news: News) {
    let event = Event {
        type_: if news.warning { EventType::Warning } else { EventType::Normal },
        action: news.reason.clone(),
        reason: news.reason,
        note: Some(news.note.chars().take(LONGEST_NOTE).collect()),
        secondary: None,
    };
    if let Err(error) = recorder.publish(&event, &run.object_ref(&())).await {
        tracing::warn!(reason = event.reason, error = chain(&error), "cannot write an Event");
    }
}

/// Makes ours exactly these of the run's finalizers.
async fn hold<O>(runs: &Api<O>, run: &O, finalizers: &[&str]) -> Result<O, RunError>
where
    O: Resource<DynamicType = ()> + Clone + DeserializeOwned + fmt::Debug,
{
    let name = run.name_any();
    let patch = json!({
        "apiVersion": O::api_version(&()),
        "kind": O::kind(&()),
        "metadata": { "name": name, "uid": run.uid(), "finalizers": finalizers },
    });
    runs.patch(&name, &PatchParams::apply(&format!("{MANAGER}-finalizer")).force(), &Patch::Apply(&patch))
        .await
        .doing(|| format!("change the finalizers of {} {name}", O::kind(&())))
}

#[cfg(test)]
mod tests;
