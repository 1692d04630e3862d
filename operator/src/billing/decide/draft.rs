//! A run whose revision is a draft: its workers, its verification, its approval, and its issuing.

use api::billing_run::Phase;
use api::conditions::{APPROVED, ConditionUpdate, PROGRESSING};
use api::run::Run as _;
use api::{BillingRun, reasons};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use store::billing::{EndStatus, RunSnapshot, Verification};

use super::approval::{self, ApprovalNeed};
use crate::billing::action::{Action, BillingDecision};
use crate::billing::observed::Observed;
use crate::billing::{build, status};
use crate::controller::decision::{Decision, Next};
use crate::controller::status_builder::StatusBuilder;
use crate::controller::worker_job::{self, DesiredJob, JobProgress};
use crate::controller::{lifecycle, no_progress};

/// A run stands still if nothing was done for the time of so many chunks, and for this long.
const MANY_CHUNKS: i32 = 10;
const SHORTEST_STANDSTILL: SignedDuration = SignedDuration::from_secs(60);

pub(in crate::billing) fn decide(
    run: &BillingRun,
    observed: &Observed,
    revision: &RunSnapshot,
) -> BillingDecision {
    if !revision.holds_lock {
        let message = format!(
            "another run has taken over the month's lock (fencing number {} is outdated); delete this run",
            revision.key.fence
        );
        let update = ConditionUpdate::new(PROGRESSING, false, reasons::LOCK_LOST, message);
        let status = builder(run, observed, Phase::Running, revision).condition(update).build();
        return Decision { status, next: Next::BackOff };
    }
    if !lifecycle::has_finalizer(run) {
        // An uninstallation, or a person, removed it.
        let status = run.status.clone().unwrap_or_default();
        return Decision { status, next: Next::AddFinalizer };
    }
    if !revision.all_chunks_done() {
        return bill(run, observed, revision);
    }
    if run.spec.suspend {
        // A suspended run is neither verified nor issued, and stays in its phase.
        let phase = run.phase().unwrap_or(Phase::Verifying);
        let status = builder(run, observed, phase, revision).keep(&[APPROVED]).condition(suspended()).build();
        return Decision { status, next: Next::AwaitChange };
    }
    let Some(verification) = &revision.verification else {
        let update = progressing(reasons::VERIFYING, "every chunk is done; the result is being verified");
        let status = builder(run, observed, Phase::Verifying, revision).condition(update).build();
        return Decision { status, next: Next::Apply(Action::Verify(revision.key.clone())) };
    };
    if !verification.passed() {
        let failed: Vec<String> = verification
            .checks
            .iter()
            .filter(|check| !check.passed)
            .map(|check| format!("{} ({})", check.check, check.detail))
            .collect();
        let message = format!("these checks failed: {}", failed.join(", "));
        let reject = Action::reject(revision, reasons::VERIFICATION_FAILED, &message, EndStatus::Failed);
        let update = progressing(reasons::VERIFYING, message);
        let status = builder(run, observed, Phase::Verifying, revision).condition(update).build();
        return Decision { status, next: Next::Apply(reject) };
    }
    approve(run, observed, revision, verification)
}

/// The status of every run whose revision is a draft.
fn builder<'a>(
    run: &'a BillingRun,
    observed: &Observed,
    phase: Phase,
    revision: &RunSnapshot,
) -> StatusBuilder<'a, BillingRun> {
    status::builder(run, observed, phase, revision).suspended_condition()
}

fn progressing(reason: &'static str, message: impl Into<String>) -> ConditionUpdate {
    ConditionUpdate::new(PROGRESSING, true, reason, message)
}

fn suspended() -> ConditionUpdate {
    ConditionUpdate::new(PROGRESSING, false, reasons::SUSPENDED, "spec.suspend is true")
}

/// Chunks are left: the worker Job bills them.
fn bill(run: &BillingRun, observed: &Observed, revision: &RunSnapshot) -> BillingDecision {
    let suspend = run.spec.suspend;
    let name = build::name(&run.name_any());
    let image = &observed.job_settings.worker.image;
    let desired = DesiredJob { name: &name, image, parallelism: run.spec.parallelism, suspend };
    let build = || build::build(run, revision, &observed.job_settings);
    let problem = observed.workers.problem.as_ref();
    let progress = worker_job::job_progress(desired, &observed.job, problem, build);
    let (update, next) = match progress {
        JobProgress::Active { problem: Some(problem), next } => (problem, next.map(Action::Job)),
        JobProgress::Active { problem: None, next } if suspend => (suspended(), next.map(Action::Job)),
        JobProgress::Active { problem: None, next } => {
            let update = no_progress(run, observed, revision).unwrap_or_else(|| {
                progressing(reasons::BILLING, "the workers are billing the month's members")
            });
            (update, next.map(Action::Job))
        }
        JobProgress::Failed(message) => {
            let reject = Action::reject(revision, reasons::WORKERS_FAILED, &message, EndStatus::Failed);
            (progressing(reasons::WORKERS_FAILED, message), Next::Apply(reject))
        }
    };
    Decision { status: builder(run, observed, Phase::Running, revision).condition(update).build(), next }
}

/// Since when no chunk was done although workers should work, if that is longer than chunks take.
pub(in crate::billing) fn stands_still_since(
    run: &BillingRun,
    now: Timestamp,
    revision: &RunSnapshot,
) -> Option<Timestamp> {
    let for_each_chunk = match (revision.first_claim_at, revision.last_done_at) {
        (Some(first), Some(last)) => {
            let chunks = i32::try_from(revision.chunks_done.max(1)).unwrap_or(i32::MAX);
            last.duration_since(first) / chunks
        }
        _ => SignedDuration::ZERO,
    };
    let limit = for_each_chunk.saturating_mul(MANY_CHUNKS).max(SHORTEST_STANDSTILL);
    let last_done = revision.last_done_at.unwrap_or(revision.opened_at);
    no_progress::since(run, now, revision.now, last_done, limit)
}

/// No chunk was done for a while, although nothing keeps the workers' pods from running.
fn no_progress(run: &BillingRun, observed: &Observed, revision: &RunSnapshot) -> Option<ConditionUpdate> {
    // A Job that is being created or replaced is not at work yet.
    observed.job.ours().filter(|job| !job.deleting)?;
    let since = stands_still_since(run, observed.now, revision)?;
    let locks = observed.lock_waits.as_ref().map_or_else(String::new, |waits| format!("; {waits}"));
    let message = format!("no chunk was done since {since:.0}; {}{locks}", observed.workers.report);
    Some(ConditionUpdate::new(PROGRESSING, false, reasons::NO_PROGRESS, message))
}

/// The verified draft is issued, or waits for approval.
fn approve(
    run: &BillingRun,
    observed: &Observed,
    revision: &RunSnapshot,
    verification: &Verification,
) -> BillingDecision {
    let needed = approval::needed(run, revision).or_else(|| approval::still_needed(run));
    let Some(ApprovalNeed { reason, why }) = needed else {
        return issue(run, observed, revision, None);
    };
    let how = format!(
        "approve the draft with spec.approval: {{digest: {}, by: YOUR-NAME}}, or delete the run",
        verification.digest
    );
    let update = match &run.spec.approval {
        Some(approval) if approval.digest == verification.digest => {
            return issue(run, observed, revision, Some(approval.by.clone()));
        }
        Some(approval) => {
            let message =
                format!("{why}; spec.approval.digest is {}, which is not this draft; {how}", approval.digest);
            ConditionUpdate::new(APPROVED, false, reasons::DIGEST_MISMATCH, message)
        }
        None => ConditionUpdate::new(APPROVED, false, reason, format!("{why}; {how}")),
    };
    Decision {
        status: builder(run, observed, Phase::AwaitingApproval, revision).condition(update).build(),
        next: Next::AwaitChange,
    }
}

fn issue(
    run: &BillingRun,
    observed: &Observed,
    revision: &RunSnapshot,
    approved_by: Option<String>,
) -> BillingDecision {
    let mut builder = builder(run, observed, Phase::Issuing, revision);
    if let Some(by) = &approved_by {
        let message = format!("the draft was approved by {by}");
        builder = builder.condition(ConditionUpdate::new(APPROVED, true, reasons::APPROVED, message));
    }
    let update = progressing(reasons::ISSUING, "the checks passed; the revision is being issued");
    let next = Next::Apply(Action::Issue { key: revision.key.clone(), approved_by });
    Decision { status: builder.condition(update).build(), next }
}
