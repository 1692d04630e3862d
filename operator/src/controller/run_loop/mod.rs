//! The reconcile loop of every kind of object: observe, decide, write the status, apply the action,
//! and start over. What differs between kinds is behind [`Kind`]; nothing here knows what an
//! object is for.
//!
//! Each pass writes at most one status and applies at most one action. The decision is a value made
//! without a client. What goes wrong in a pass, or takes too long, is a condition of the run: see
//! [`failure`].

pub(crate) mod failure;
pub(crate) mod finalizer;
mod last_actions;

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::labels::MANAGER;
use api::reconciled::{Reconciled, ReconciledStatus as _};
use domain::backoff::Backoff;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::DeserializeGuard;
use kube::core::object::HasStatus as _;
use kube::runtime::controller::Action;
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Api, Client, Resource, ResourceExt as _};
use logging::chain;
use serde_json::json;
use tokio::time::Instant;
use tracing::Instrument as _;

use self::last_actions::LastActions;
use super::decision::Next;
use super::events::{self, EventRecord};
use super::kind::{Kind, StatusOf};
use crate::clock::Clock;
use crate::error::{Doing as _, ErrorClass, RunError};
use crate::metrics::Metrics;

/// More passes than any sequence of decisions needs; then the reconciliation ends and is scheduled
/// again.
const MAX_PASSES: usize = 12;
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
/// Longer than the database's time-out and a slow API server take together.
const OBSERVE_LIMIT: Duration = Duration::from_secs(20);
/// How much longer than its limit an action of a run that is being deleted may take.
const DELETION_ACTION_LIMIT: Duration = Duration::from_secs(50);
/// In characters; the API server rejects Events with longer notes.
const LONGEST_NOTE: usize = 1000;

pub(crate) struct Context<K> {
    pub(crate) client: Client,
    pub(crate) kind: K,
    pub(crate) recorder: Recorder,
    pub(crate) metrics: Metrics,
    /// Dates conditions.
    clock: Clock,
    /// Consecutive reconciliations that ended in an error or a [`Next::BackOff`], by the object's uid.
    failures: Mutex<HashMap<String, u32>>,
    last_actions: LastActions,
}

impl<K: Kind> Context<K> {
    pub(crate) fn new(client: Client, kind: K, recorder: Recorder, metrics: Metrics, clock: Clock) -> Self {
        let (failures, last_actions) = (Mutex::default(), LastActions::default());
        Self { client, kind, recorder, metrics, clock, failures, last_actions }
    }

    fn failures_of(&self, run: &K::Object) -> u32 {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.get(run.uid().unwrap_or_default().as_str()).copied().unwrap_or(0)
    }

    fn back_off(&self, uid: &str) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(uid.to_owned()).or_insert(0);
        *count = count.saturating_add(1);
        BACKOFF.after(*count)
    }

    fn succeeded(&self, uid: &str) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

/// Reconciles one run. The controller calls this when the run, its Job or its ConfigMap changes,
/// and after a requeue.
pub(crate) async fn reconcile<K: Kind>(
    cached: Arc<DeserializeGuard<K::Object>>,
    context: Arc<Context<K>>,
) -> Result<Action, RunError> {
    let run = format!("{}/{}", cached.namespace().unwrap_or_default(), cached.name_any());
    let span = tracing::info_span!("reconcile", kind = K::Object::KIND, run);
    async move {
        let started = Instant::now();
        let result = match &cached.0 {
            Ok(object) => reconcile_run(object, &context).await,
            Err(invalid) => {
                // Only a change of the spec helps, and that calls this again.
                tracing::error!(error = invalid.error, "the run's spec is invalid; correct it");
                Ok(Action::await_change())
            }
        };
        let outcome = result.as_ref().map(|_| ()).map_err(RunError::class);
        context.metrics.reconciled(K::Object::KIND, outcome, started.elapsed());
        result
    }
    .instrument(span)
    .await
}

/// The delay after an error. Errors are logged here and nowhere else.
pub(crate) fn on_error<K: Kind>(
    cached: Arc<DeserializeGuard<K::Object>>,
    error: &RunError,
    context: Arc<Context<K>>,
) -> Action {
    let delay = context.back_off(&cached.uid().unwrap_or_default());
    let run = format!("{}/{}", cached.namespace().unwrap_or_default(), cached.name_any());
    if error.class() == ErrorClass::Conflict {
        tracing::debug!(
            kind = K::Object::KIND,
            run,
            error = chain(error),
            "the object changed since it was read; trying again"
        );
    } else {
        tracing::warn!(
            kind = K::Object::KIND,
            run,
            error = chain(error),
            ?delay,
            "the reconciliation failed; trying again"
        );
    }
    Action::requeue(delay)
}

async fn reconcile_run<K: Kind>(cached: &K::Object, context: &Context<K>) -> Result<Action, RunError> {
    let name = cached.name_any();
    let uid = cached.uid().ok_or(RunError::Incomplete(K::Object::KIND, "uid"))?;
    let namespace = cached.namespace().ok_or(RunError::Incomplete(K::Object::KIND, "namespace"))?;
    let runs: Api<K::Object> = Api::namespaced(context.client.clone(), &namespace);
    // The controller's cache may be older than this operator's own last write.
    let found = runs.get_opt(&name).await.doing(|| format!("read {} {name}", K::Object::KIND))?;
    let Some(mut run) = found.filter(|found| found.uid().as_deref() == Some(uid.as_str())) else {
        context.succeeded(&uid);
        context.last_actions.forget(&uid);
        return Ok(Action::await_change());
    };
    let result = run_passes(&mut run, &runs, context).await;
    if let Err(error) = &result {
        failure::report(&run, error, &runs, context).await;
    }
    result
}

/// Repeats observe, decide, status and apply until there is nothing to do at once. `run` is always
/// as it was last read or written.
async fn run_passes<K: Kind>(
    run: &mut K::Object,
    runs: &Api<K::Object>,
    context: &Context<K>,
) -> Result<Action, RunError> {
    let name = run.name_any();
    let uid = run.uid().unwrap_or_default();
    let (mut outcome, mut got_through) = (None, false);
    for _ in 0..MAX_PASSES {
        let observed = observe(run, outcome.take(), context).await?;
        let decision = context.kind.decide(run, &observed);
        let acts = matches!(decision.next, Next::Apply(_) | Next::AddFinalizer);
        // Until an action that failed gets through, its condition stays.
        let retries = acts && !got_through && failure::is_reported(run.conditions());
        if !retries && let Some(written) = write_status(run, &decision.status, runs, context).await? {
            *run = written;
        }
        match decision.next {
            Next::AddFinalizer => *run = finalizer::add(runs, run).await?,
            Next::RemoveFinalizer => match finalizer::remove(runs, run).await? {
                // A run that is over.
                Some(left) if left.meta().deletion_timestamp.is_none() => *run = left,
                _ => {
                    context.succeeded(&uid);
                    context.last_actions.forget(&uid);
                    return Ok(Action::await_change());
                }
            },
            Next::DeleteRun => {
                tracing::info!("deleting the run: ttlSecondsAfterFinished is over");
                let this_run = Preconditions { uid: Some(uid), resource_version: None };
                let params = DeleteParams::background().preconditions(this_run);
                runs.delete(&name, &params).await.doing(|| format!("delete {} {name}", K::Object::KIND))?;
                return Ok(Action::await_change());
            }
            Next::Apply(action) => {
                if context.last_actions.is_another(&uid, &format!("{action:?}")) {
                    tracing::info!(?action, "applying an action");
                } else {
                    tracing::debug!(?action, "applying the same action again");
                }
                outcome = Some(apply(run, action, runs, context).await?);
                got_through = true;
            }
            Next::RequeueAfter(delay) => {
                context.succeeded(&uid);
                return Ok(Action::requeue(delay));
            }
            Next::BackOff => return Ok(Action::requeue(context.back_off(&uid))),
            Next::AwaitChange => {
                context.succeeded(&uid);
                return Ok(Action::await_change());
            }
        }
    }
    Ok(Action::requeue(Duration::from_millis(100)))
}

async fn observe<K: Kind>(
    run: &K::Object,
    outcome: Option<K::Outcome>,
    context: &Context<K>,
) -> Result<K::Observed, RunError> {
    let operation = || format!("read what the cluster and the database have of {}", run.name_any());
    tokio::time::timeout(OBSERVE_LIMIT, context.kind.observe(run, outcome))
        .await
        .unwrap_or_else(|_| Err(RunError::TimedOut { operation: operation(), limit: OBSERVE_LIMIT }))
}

/// Applies an action. One that takes longer than its limit goes on, and the run's condition says so.
/// Only the actions of a run that is being deleted end early: they can be repeated, and what they
/// leave undone is done by housekeeping.
async fn apply<K: Kind>(
    run: &mut K::Object,
    action: K::Action,
    runs: &Api<K::Object>,
    context: &Context<K>,
) -> Result<K::Outcome, RunError> {
    let (limit, name) = (context.kind.action_limit(&action), format!("{action:?}"));
    let deleting = run.meta().deletion_timestamp.is_some();
    let since = context.clock.now();
    let mut written = None;
    let result = {
        let mut applying = pin!(context.kind.apply(run, action));
        match tokio::time::timeout(limit, applying.as_mut()).await {
            Ok(result) => result,
            Err(_) => {
                tracing::warn!(action = name, ?limit, "an action takes longer than its limit");
                written = failure::report_slow(run, &name, since, runs, context).await;
                if deleting {
                    tokio::time::timeout(DELETION_ACTION_LIMIT, applying).await.unwrap_or_else(|_| {
                        Err(RunError::TimedOut { operation: name, limit: DELETION_ACTION_LIMIT })
                    })
                } else {
                    applying.await
                }
            }
        }
    };
    if let Some(written) = written {
        *run = written;
    }
    result
}

/// Writes the status if it has changed, and then an Event for each condition that changed.
async fn write_status<K: Kind>(
    run: &K::Object,
    status: &StatusOf<K>,
    runs: &Api<K::Object>,
    context: &Context<K>,
) -> Result<Option<K::Object>, RunError> {
    let before = run.status();
    if before.is_some_and(|before| K::without_estimates(before) == K::without_estimates(status)) {
        return Ok(None);
    }
    let name = run.name_any();
    let patch = json!({
        "apiVersion": K::Object::api_version(&()),
        "kind": K::Object::kind(&()),
        // With the uid, the patch fails for another run of the same name.
        "metadata": { "name": name, "uid": run.uid() },
        "status": status,
    });
    let written = runs
        .patch_status(&name, &PatchParams::apply(&format!("{MANAGER}-status")).force(), &Patch::Apply(&patch))
        .await
        .doing(|| format!("write the status of {} {name}", K::Object::KIND))?;
    K::count_change(before, status, &context.metrics);
    for event in events::changes(run.conditions(), status.conditions()) {
        publish(&context.recorder, run, event).await;
    }
    Ok(Some(written))
}

/// An Event that cannot be written is logged; the reconciliation goes on.
pub(crate) async fn publish(recorder: &Recorder, run: &impl Resource<DynamicType = ()>, record: EventRecord) {
    let event = Event {
        type_: if record.warning { EventType::Warning } else { EventType::Normal },
        action: record.reason.clone(),
        reason: record.reason,
        note: Some(record.note.chars().take(LONGEST_NOTE).collect()),
        secondary: None,
    };
    if let Err(error) = recorder.publish(&event, &run.object_ref(&())).await {
        tracing::warn!(reason = event.reason, error = chain(&error), "cannot write an Event");
    }
}

#[cfg(test)]
mod tests;
