//! The status of a billing run, from the database's snapshot of it. Pure.

use api::billing_run::{
    Adjusted, Amounts, CauseShare, ChangeCause, Counts, Diff, Late, NotCharged, Phase, PinnedPriceBook,
    Progress, VerificationCheck,
};
use api::conditions::{ConditionUpdate, STARTED};
use api::{BillingRun, BillingRunStatus, reasons};
use domain::change_cause;
use store::billing::{PostedDifferences, RebillingSnapshot, RunSnapshot, ScopeKind};

use super::observed::Observed;
use crate::controller::progress::{self, RECENTLY};
use crate::controller::status_builder::{StatusBuilder, whole_second};

/// The status with all figures of the revision, and the condition Started.
pub(super) fn builder<'a>(
    run: &'a BillingRun,
    observed: &Observed,
    phase: Phase,
    revision: &RunSnapshot,
) -> StatusBuilder<'a, BillingRun> {
    let status = BillingRunStatus {
        phase: Some(phase),
        revision: Some(revision.key.revision.get()),
        digest: revision.verification.as_ref().map(|verification| verification.digest.clone()),
        price_book: Some(PinnedPriceBook {
            version: revision.price_book_version.clone(),
            sha256: revision.price_book_sha256.clone(),
        }),
        data_cutoff: Some(revision.data_cutoff.get()),
        progress: Some(progress(revision)),
        counts: Some(counts(revision)),
        not_charged: Some(not_charged(revision)),
        late: late(revision),
        amounts: Some(amounts(revision)),
        verification: checks(revision),
        diff: revision.diff.as_ref().map(diff),
        adjusted: adjusted(revision),
        start_time: Some(whole_second(revision.opened_at)),
        ..BillingRunStatus::default()
    };
    StatusBuilder::new(run, observed.now, status).condition(planned(revision))
}

fn planned(revision: &RunSnapshot) -> ConditionUpdate {
    let message = format!(
        "revision {} of {}{}: {} members in {} chunks, data up to load {}, price book {}",
        revision.key.revision,
        revision.key.month,
        revision
            .rebilling
            .as_ref()
            .map_or_else(String::new, |rebilling| format!(", which {}", again(rebilling))),
        revision.members,
        revision.chunks,
        revision.data_cutoff,
        revision.price_book_version
    );
    ConditionUpdate::new(STARTED, true, reasons::PLANNED, message)
}

/// What a re-billing does, with its scope.
pub(super) fn again(rebilling: &RebillingSnapshot) -> String {
    let RebillingSnapshot { of_revision, scope, changed: _ } = rebilling;
    match scope {
        ScopeKind::Everyone => format!("bills revision {of_revision} again"),
        scope => format!("bills revision {of_revision} again for {scope}"),
    }
}

/// The status without the rate and the estimate, which change while nothing happens.
pub(super) fn without_estimates(status: &BillingRunStatus) -> BillingRunStatus {
    let mut status = status.clone();
    if let Some(progress) = &mut status.progress {
        progress.members_per_second = None;
        progress.estimated_completion = None;
    }
    status
}

fn counts(revision: &RunSnapshot) -> Counts {
    Counts {
        billed: revision.counts.billed,
        quarantined: revision.counts.quarantined,
        late_usage: revision.verification.as_ref().map(|verification| verification.late.usage_rows),
        quarantined_usage: revision.counts.quarantined_usage,
        unbillable_usage: revision.counts.unbillable_usage,
        rated_usage: revision.counts.rated_usage,
    }
}

fn not_charged(revision: &RunSnapshot) -> NotCharged {
    NotCharged {
        add_ons: revision.not_charged.add_ons,
        adjustments: revision.not_charged.adjustments,
        adjustment_amount: revision.not_charged.adjustment_amount.to_string(),
        usage_rows: revision.not_charged.usage_rows,
    }
}

fn late(revision: &RunSnapshot) -> Option<Late> {
    let late = revision.verification.as_ref()?.late;
    Some(Late {
        members: late.members,
        subscriptions: late.subscriptions,
        grants: late.grants,
        adjustments: late.adjustments,
        usage_rows: late.usage_rows,
        taken_back: late.taken_back,
    })
}

fn amounts(revision: &RunSnapshot) -> Amounts {
    Amounts {
        base: revision.amounts.base.to_string(),
        usage: revision.amounts.usage.to_string(),
        discount: revision.amounts.discount.to_string(),
        adjustment: revision.amounts.adjustment.to_string(),
        tax: revision.amounts.tax.to_string(),
        rounding: revision.amounts.rounding.to_string(),
        total: revision.amounts.total.to_string(),
    }
}

fn checks(revision: &RunSnapshot) -> Vec<VerificationCheck> {
    let checks = revision.verification.iter().flat_map(|verification| &verification.checks);
    checks
        .map(|check| VerificationCheck {
            check: check.check.clone(),
            passed: check.passed,
            detail: check.detail.clone(),
        })
        .collect()
}

fn diff(diff: &store::billing::Diff) -> Diff {
    Diff {
        changed: diff.changed,
        unchanged: diff.unchanged,
        added: diff.added,
        removed: diff.removed,
        total_delta: diff.total_delta().to_string(),
        increase: diff.increase.to_string(),
        decrease: diff.decrease.to_string(),
        causes: diff
            .causes
            .iter()
            .map(|share| CauseShare {
                cause: cause(share.cause),
                members: share.members,
                delta: share.delta.to_string(),
            })
            .collect(),
    }
}

fn adjusted(revision: &RunSnapshot) -> Option<Adjusted> {
    let PostedDifferences { members, amount } = revision.posted;
    (members > 0).then(|| Adjusted {
        members,
        amount: amount.to_string(),
        to_month: revision.posts_to.map(|month| month.to_string()),
    })
}

fn cause(cause: change_cause::ChangeCause) -> ChangeCause {
    match cause {
        change_cause::ChangeCause::PriceBook => ChangeCause::PriceBook,
        change_cause::ChangeCause::Plan => ChangeCause::Plan,
        change_cause::ChangeCause::Addon => ChangeCause::AddOn,
        change_cause::ChangeCause::Discount => ChangeCause::Discount,
        change_cause::ChangeCause::Adjustment => ChangeCause::Adjustment,
        change_cause::ChangeCause::LateUsage => ChangeCause::LateUsage,
        change_cause::ChangeCause::Usage => ChangeCause::Usage,
        change_cause::ChangeCause::Quarantine => ChangeCause::Quarantine,
        change_cause::ChangeCause::MoreThanOne => ChangeCause::MoreThanOne,
        change_cause::ChangeCause::Calculation => ChangeCause::Calculation,
    }
}

pub(super) fn progress(revision: &RunSnapshot) -> Progress {
    let (done, complete) = (revision.members_done(), revision.all_chunks_done());
    let rate = rate(revision);
    Progress {
        members: revision.members,
        members_done: done,
        chunks: revision.chunks,
        chunks_done: revision.chunks_done,
        // Below 100 while a chunk is left, even if all members are done.
        percent: progress::percent(done, revision.members, complete),
        members_per_second: rate,
        estimated_completion: rate
            .filter(|_| !complete)
            .and_then(|rate| progress::estimate(revision.now, revision.members.saturating_sub(done), rate)),
    }
}

/// Members per second: over the last seconds while chunks are left, over the whole run after that.
fn rate(revision: &RunSnapshot) -> Option<i64> {
    let begun = revision.first_claim_at?;
    if revision.all_chunks_done() {
        return progress::per_second(revision.members_done(), revision.last_done_at?.duration_since(begun));
    }
    let span = revision.now.duration_since(begun).min(RECENTLY);
    progress::per_second(revision.members_done_recently, span)
}
