//! A run whose revision is a draft: its workers, its verification, its approval, its issuing.

use api::{
    BillingRun,
    billing_run::{ApprovalPolicy, Phase},
    conditions::{APPROVED, PROGRESSING, Said},
    run::Run as _,
};
use kube::ResourceExt as _;
use store::billing::{EndStatus, RunSnapshot, Verification};

use super::{
    BillingDecision, Do, World,
    decide::{self, VERIFICATION_FAILED, WORKERS_FAILED},
    job, status,
};
use crate::{
    run_loop::{Decision, Next},
    runs::{
        errand::{self, Errand, Wanted},
        report::Report,
    },
};

pub(super) fn decide(run: &BillingRun, world: &World, revision: &RunSnapshot) -> BillingDecision {
    if !revision.holds_lock {
        let message = format!(
            "the month's lock went to another run (fence {} no longer counts); delete this run",
            revision.key.fence
        );
        let report = report(run, world, Phase::Running, revision).saying(Said::new(
            PROGRESSING,
            false,
            "LockLost",
            message,
        ));
        return Decision { status: report.status(), next: Next::BackOff };
    }
    if !revision.all_chunks_done() {
        return work(run, world, revision);
    }
    if run.spec.suspend {
        // Verifying and issuing are work too. The phase stays.
        let phase = run.phase().unwrap_or(Phase::Verifying);
        let report = report(run, world, phase, revision).keeping(&[APPROVED]).saying(paused());
        return Decision { status: report.status(), next: Next::Rest };
    }
    let Some(verification) = &revision.verification else {
        let said = progress("Verifying", "every chunk is done; the whole is being checked");
        let status = report(run, world, Phase::Verifying, revision).saying(said).status();
        return Decision { status, next: Next::Do(Do::Verify(revision.key.clone())) };
    };
    if !verification.passed() {
        let failed: Vec<String> = verification
            .checks
            .iter()
            .filter(|check| !check.passed)
            .map(|check| format!("{} ({})", check.check, check.detail))
            .collect();
        let message = format!("these checks failed: {}", failed.join(", "));
        let reject = decide::reject(revision, VERIFICATION_FAILED, &message, EndStatus::Failed);
        let status =
            report(run, world, Phase::Verifying, revision).saying(progress("Verifying", message)).status();
        return Decision { status, next: Next::Do(reject) };
    }
    release(run, world, revision, verification)
}

/// What every status of a draft says.
fn report<'a>(
    run: &'a BillingRun,
    world: &World,
    phase: Phase,
    revision: &RunSnapshot,
) -> Report<'a, BillingRun> {
    status::report(run, world, phase, revision).saying_whether_suspended()
}

fn progress(reason: &'static str, message: impl Into<String>) -> Said {
    Said::new(PROGRESSING, true, reason, message)
}

fn paused() -> Said {
    Said::new(PROGRESSING, false, "Suspended", "spec.suspend is true")
}

fn work(run: &BillingRun, world: &World, revision: &RunSnapshot) -> BillingDecision {
    let suspend = run.spec.suspend;
    let goes_on = || {
        if suspend { paused() } else { progress("Billing", "the workers bill chunk by chunk") }
    };
    let name = job::name(&run.name_any());
    let wanted = Wanted { name: &name, parallelism: run.spec.parallelism, suspend };
    let build = || job::build(run, revision, &world.job_parts);
    let (said, next) = match errand::follow(wanted, &world.job, world.stuck.as_deref(), build) {
        Errand::Under { trouble, next } => (trouble.unwrap_or_else(goes_on), next.map(Do::Job)),
        Errand::Failed(why) => {
            let reject = decide::reject(revision, WORKERS_FAILED, &why, EndStatus::Failed);
            (progress("WorkersFailed", why), Next::Do(reject))
        }
    };
    Decision { status: report(run, world, Phase::Running, revision).saying(said).status(), next }
}

/// A verified draft: it is issued, or waits for somebody's approval.
fn release(
    run: &BillingRun,
    world: &World,
    revision: &RunSnapshot,
    verification: &Verification,
) -> BillingDecision {
    let Some((reason, why)) = needs_approval(run, revision) else {
        return issue(run, world, revision, None);
    };
    let how = format!(
        "approve the draft with spec.approval: {{digest: {}, by: YOUR-NAME}}, or delete the run",
        verification.digest
    );
    let said = match &run.spec.approval {
        Some(approval) if approval.digest == verification.digest => {
            return issue(run, world, revision, Some(approval.by.clone()));
        }
        Some(approval) => {
            let message =
                format!("{why}; spec.approval.digest is {}, which is not this draft; {how}", approval.digest);
            Said::new(APPROVED, false, "DigestMismatch", message)
        }
        None => Said::new(APPROVED, false, reason, format!("{why}; {how}")),
    };
    Decision {
        status: report(run, world, Phase::AwaitingApproval, revision).saying(said).status(),
        next: Next::Rest,
    }
}

fn issue(
    run: &BillingRun,
    world: &World,
    revision: &RunSnapshot,
    approved_by: Option<String>,
) -> BillingDecision {
    let mut report = report(run, world, Phase::Issuing, revision);
    if let Some(by) = &approved_by {
        report =
            report.saying(Said::new(APPROVED, true, "Approved", format!("the draft was approved by {by}")));
    }
    let said = progress("Issuing", "the checks passed; the revision is being made live");
    let next = Next::Do(Do::Issue { key: revision.key.clone(), approved_by });
    Decision { status: report.saying(said).status(), next }
}

fn needs_approval(run: &BillingRun, revision: &RunSnapshot) -> Option<(&'static str, String)> {
    let counts = revision.counts;
    if let Some(limit) = run.spec.limits.as_ref().and_then(|limits| limits.max_quarantined.as_ref()) {
        match limit.is_exceeded(counts.quarantined, revision.members) {
            Ok(false) => {}
            Ok(true) => {
                let why = format!(
                    "{} of {} members are in quarantine, more than limits.maxQuarantined ({limit})",
                    counts.quarantined, revision.members
                );
                return Some(("LimitExceeded", why));
            }
            Err(error) => return Some(("LimitInvalid", format!("limits.maxQuarantined: {error}"))),
        }
    }
    (run.spec.approval_policy == ApprovalPolicy::Manual)
        .then(|| ("ManualApproval", "approvalPolicy is Manual and the draft passed its checks".to_owned()))
}
