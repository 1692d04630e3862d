//! A run with targets to send: its publisher or its rehearsal, and the decision to publish again
//! what is still open.

use std::time::Duration;

use api::conditions::{ConditionUpdate, PROGRESSING, TRANSPORT_AVAILABLE};
use api::{NotificationRun, reasons};
use domain::backoff::Backoff;
use jiff::SignedDuration;
use store::notification::{NotificationState, Publication, Snapshot};

use super::progressing;
use crate::controller::decision::{Decision, Next};
use crate::controller::lifecycle;
use crate::controller::worker_job::{self, DesiredJob, JobAction, JobProgress};
use crate::notification::action::{Action, NotificationDecision};
use crate::notification::build::{self, Task};
use crate::notification::observed::Observed;
use crate::notification::status;

/// The status is at most 2 s old, and every reconciliation counts up to a million targets.
const POLL_SENDING: Duration = Duration::from_millis(1500);
/// The delay between the end of one round and the next.
const ROUND_BACKOFF: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(60));
/// How far this machine's clock and the database's may differ.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_secs(1);

pub(super) fn decide(
    run: &NotificationRun,
    observed: &Observed,
    snapshot: &Snapshot,
) -> NotificationDecision {
    let (problem, next) = next_step(run, observed, snapshot);
    let update = problem.unwrap_or_else(|| progressing::condition(run, observed, snapshot));
    let phase = progressing::phase(snapshot);
    let mut builder = status::builder(run, observed, phase, snapshot)
        .keep(&[TRANSPORT_AVAILABLE])
        .suspended_condition()
        .condition(update);
    if let Some(transport) = progressing::transport(snapshot) {
        builder = builder.condition(transport);
    }
    Decision { status: builder.build(), next }
}

/// The next step, and the problem of the worker Job, if it has one.
fn next_step(
    run: &NotificationRun,
    observed: &Observed,
    snapshot: &Snapshot,
) -> (Option<ConditionUpdate>, Next<Action>) {
    let facts = &snapshot.facts;
    if !lifecycle::has_finalizer(run) {
        // An uninstallation, or a person, removed it.
        return (None, Next::AddFinalizer);
    }
    if let Some(release) = observed.hold.as_ref().and_then(|hold| hold.released_by(run)) {
        return (None, Next::Apply(Action::Release(release)));
    }
    let suspend = run.spec.suspend || observed.hold.is_some();
    if (facts.state == NotificationState::Suspended, facts.max_per_second)
        != (suspend, run.spec.max_per_second)
    {
        let (id, max_per_second) = (facts.id, run.spec.max_per_second);
        return (None, Next::Apply(Action::Adjust { id, suspended: suspend, max_per_second }));
    }
    // A target that is not open may still be in flight: another run's message can give it its outcome.
    if facts.selected && snapshot.open == 0 && snapshot.held() == 0 {
        return (None, Next::Apply(Action::Finish(facts.id)));
    }
    if let Some(outdated) = observed.other_jobs.iter().find(|job| !job.deleting) {
        return (None, Next::Apply(Action::Job(JobAction::Delete(outdated.name.clone()))));
    }
    if let Some(task) = Task::unfinished(snapshot) {
        return follow_job(run, observed, snapshot, task, suspend);
    }
    let wait = Next::RequeueAfter(POLL_SENDING);
    let next = match &snapshot.publication {
        _ if suspend || facts.rehearsal => wait,
        None => Next::Apply(Action::OpenRound { id: facts.id, after: facts.round }),
        Some(last) if needs_another_round(observed, snapshot, last) => {
            Next::Apply(Action::OpenRound { id: facts.id, after: last.round })
        }
        Some(_) => wait,
    };
    (None, next)
}

/// A worker Job has unfinished work.
fn follow_job(
    run: &NotificationRun,
    observed: &Observed,
    snapshot: &Snapshot,
    task: Task,
    suspend: bool,
) -> (Option<ConditionUpdate>, Next<Action>) {
    let name = task.job_name(run);
    let image = &observed.settings.job.worker.image;
    let desired = DesiredJob { name: &name, image, parallelism: 1, suspend };
    let build = || build::build(run, snapshot, task, &observed.settings);
    match worker_job::job_progress(desired, &observed.job, observed.workers.problem.as_ref(), build) {
        JobProgress::Active { problem, next } => (problem, next.map(Action::Job)),
        JobProgress::Failed(message) => {
            let reason = format!("{}: {message}", reasons::WORKERS_FAILED);
            let update = ConditionUpdate::new(PROGRESSING, false, reasons::WORKERS_FAILED, message);
            (Some(update), Next::Apply(Action::Fail { id: snapshot.facts.id, reason }))
        }
    }
}

/// Whether targets are open although the topic is drained: their claims expired, their messages
/// were lost, or consumers skipped them while the run was suspended.
fn needs_another_round(observed: &Observed, snapshot: &Snapshot, last: &Publication) -> bool {
    let Some(done_at) = last.done_at else { return false };
    let since_done = snapshot.now.duration_since(done_at);
    // Compares ages, each by its own clock: a lag that was read before the round's end does not count.
    let drained_since = observed.lag.as_ref().is_some_and(|lag| {
        let age = observed.now.duration_since(lag.read_at);
        lag.drained && age < since_done.saturating_sub(CLOCK_TOLERANCE)
    });
    snapshot.held() == 0 && drained_since && since_done >= delay_after(last.round)
}

fn delay_after(round: i32) -> SignedDuration {
    let delay = ROUND_BACKOFF.after(u32::try_from(round).unwrap_or(0));
    SignedDuration::try_from(delay).unwrap_or(SignedDuration::MAX)
}
