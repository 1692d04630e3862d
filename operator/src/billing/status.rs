//! The status of a billing run, from what the database says of it.

use api::{
    BillingRun, BillingRunStatus,
    billing_run::{Amounts, Counts, Phase, PinnedPriceBook, Progress, VerificationCheck},
    conditions::{self, APPROVED, STARTED, SUSPENDED, Said, status_text},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use store::billing::RunSnapshot;

use super::World;

/// The span over which `RunSnapshot::members_done_recently` counts.
const RECENTLY: SignedDuration = SignedDuration::from_secs(10);

/// A status in the making.
pub(super) struct Report<'a> {
    run: &'a BillingRun,
    world: &'a World,
    status: BillingRunStatus,
    said: Vec<Said>,
}

impl<'a> Report<'a> {
    /// What was known before still holds.
    pub(super) fn unchanged(run: &'a BillingRun, world: &'a World, phase: Phase) -> Self {
        let mut report =
            Self { run, world, status: run.status.clone().unwrap_or_default(), said: Vec::new() };
        report.status.phase = Some(phase);
        report.keeping(&[STARTED, SUSPENDED, APPROVED])
    }

    /// What the database says now.
    pub(super) fn of(run: &'a BillingRun, world: &'a World, phase: Phase, revision: &RunSnapshot) -> Self {
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
        Self { run, world, status, said: vec![planned(revision)] }
    }

    /// Keeps conditions as they were, until something else is said of their type.
    pub(super) fn keeping(mut self, types: &[&'static str]) -> Self {
        for type_ in types {
            if let Some(old) = conditions::find(self.conditions_before(), type_) {
                let said = Said::new(
                    type_,
                    old.status == status_text(true),
                    old.reason.clone(),
                    old.message.clone(),
                );
                self = self.saying(said);
            }
        }
        self
    }

    fn conditions_before(&self) -> &'a [Condition] {
        self.run.status.as_ref().map_or(&[], |old| &old.conditions)
    }

    /// Says it, instead of whatever was said of its type.
    pub(super) fn saying(mut self, said: Said) -> Self {
        self.said.retain(|old| old.type_ != said.type_);
        self.said.push(said);
        self
    }

    pub(super) fn ended(mut self, at: Timestamp) -> Self {
        self.status.completion_time = Some(whole_second(at));
        self
    }

    /// Says whether the run is suspended; a run that never was says nothing.
    pub(super) fn saying_whether_suspended(self) -> Self {
        if self.run.spec.suspend {
            let message = "no further work begins; set spec.suspend to false to go on from here";
            self.saying(Said::new(SUSPENDED, true, "Suspended", message))
        } else if conditions::find(self.conditions_before(), SUSPENDED).is_some() {
            self.saying(Said::new(SUSPENDED, false, "Resumed", "the run goes on"))
        } else {
            self
        }
    }

    pub(super) fn status(self) -> BillingRunStatus {
        let before = self.conditions_before();
        let generation = self.run.metadata.generation;
        let now = whole_second(self.world.now);
        BillingRunStatus {
            observed_generation: generation,
            conditions: conditions::replace(before, &self.said, generation, &now),
            ..self.status
        }
    }
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

/// Kubernetes keeps times to the second; more would never compare equal to what was read back.
fn whole_second(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
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
