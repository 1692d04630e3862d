//! The status of a billing run, from what the database says of it.

use api::{
    BillingRun, BillingRunStatus,
    billing_run::{Amounts, Counts, Phase, PinnedPriceBook, Progress, VerificationCheck},
    conditions::{STARTED, Said},
};
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use store::billing::RunSnapshot;

use super::World;
use crate::runs::report::{Report, whole_second};

/// The span over which `RunSnapshot::members_done_recently` counts.
const RECENTLY: SignedDuration = SignedDuration::from_secs(10);

/// What the database says now.
pub(super) fn report<'a>(
    run: &'a BillingRun,
    world: &World,
    phase: Phase,
    revision: &RunSnapshot,
) -> Report<'a, BillingRun> {
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
        amounts: Some(amounts(revision)),
        verification: checks(revision),
        start_time: Some(whole_second(revision.opened_at)),
        ..BillingRunStatus::default()
    };
    Report::of(run, world.now, status).saying(planned(revision))
}

/// The run has its month.
fn planned(revision: &RunSnapshot) -> Said {
    let message = format!(
        "revision {} of {}: {} members in {} chunks, data up to load {}, price book {}",
        revision.key.revision,
        revision.key.month,
        revision.members,
        revision.chunks,
        revision.data_cutoff,
        revision.price_book_version
    );
    Said::new(STARTED, true, "Planned", message)
}

/// The status without what moves while nothing happens.
pub(super) fn without_time(status: &BillingRunStatus) -> BillingRunStatus {
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
        late_usage: revision.verification.as_ref().map(|verification| verification.late_usage),
        quarantined_usage: revision.counts.quarantined_usage,
        unbillable_usage: revision.counts.unbillable_usage,
        rated_usage: revision.counts.rated_usage,
    }
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

pub(super) fn progress(revision: &RunSnapshot) -> Progress {
    let done = revision.members_done();
    let percent = if revision.all_chunks_done() {
        100
    } else {
        // A run with chunks to do is not at 100, whatever was done of its members.
        i64::try_from(i128::from(done) * 100 / i128::from(revision.members.max(1))).unwrap_or(99).min(99)
    };
    let rate = rate(revision);
    Progress {
        members: revision.members,
        members_done: done,
        chunks: revision.chunks,
        chunks_done: revision.chunks_done,
        percent,
        members_per_second: rate,
        estimated_completion: rate.and_then(|rate| estimate(revision, rate)),
    }
}

/// Members a second: over the last seconds while chunks are being done, over all of the work once they are.
fn rate(revision: &RunSnapshot) -> Option<i64> {
    let begun = revision.first_claim_at?;
    let (members, span) = if revision.all_chunks_done() {
        (revision.members_done(), revision.last_done_at?.duration_since(begun))
    } else {
        (revision.members_done_recently, revision.now.duration_since(begun).min(RECENTLY))
    };
    let micros = span.as_micros().max(1);
    i64::try_from(i128::from(members) * 1_000_000 / micros).ok()
}

/// When the rest is done at this rate; never for a run that stands still.
fn estimate(revision: &RunSnapshot, rate: i64) -> Option<Time> {
    if revision.all_chunks_done() || rate <= 0 {
        return None;
    }
    let left = revision.members.saturating_sub(revision.members_done()).max(0);
    let seconds = SignedDuration::from_secs(left / rate + i64::from(left % rate > 0));
    revision.now.checked_add(seconds).ok().map(whole_second)
}
