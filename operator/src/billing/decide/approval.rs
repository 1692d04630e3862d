//! Whether a verified draft may be issued by itself, or waits for a person.

use api::billing_run::{ApprovalPolicy, Limits, Phase};
use api::run::Run as _;
use api::{BillingRun, Limit, reasons};
use store::billing::{Baselines, MonthFigures, PostedDifferences, RebillingSnapshot, RunSnapshot, ScopeKind};

/// Why a draft waits for approval.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ApprovalNeed {
    pub(super) reason: &'static str,
    pub(super) why: String,
}

/// Why the verified draft needs approval. A draft without a bill always does.
pub(super) fn needed(run: &BillingRun, revision: &RunSnapshot) -> Option<ApprovalNeed> {
    let need = |reason, why| Some(ApprovalNeed { reason, why });
    if revision.counts.billed == 0 {
        let why = match revision.counts.quarantined {
            0 => nobody_eligible(revision),
            quarantined => format!("no member gets a bill: all {quarantined} are in quarantine"),
        };
        return need(reasons::NOTHING_TO_ISSUE, why);
    }
    if let Some(pinned) = revision.pricing.pinned {
        let others: Vec<String> = revision
            .pricing
            .of_chunks
            .iter()
            .filter(|version| **version != pinned)
            .map(i32::to_string)
            .collect();
        if !others.is_empty() {
            let why = format!(
                "the run began with version {pinned} of the pricing rules, and version {} has priced chunks of it",
                others.join(", ")
            );
            return need(reasons::PRICING_VERSION_CHANGED, why);
        }
    }
    let limits = run.spec.limits.clone().unwrap_or_default();
    let (mut exceeded, mut invalid) = (Vec::new(), Vec::new());
    for Comparison { field, limit, what, part, whole } in comparisons(&limits, revision) {
        let Some(part) = part else {
            exceeded.push(format!("limits.{field} ({limit}) cannot be compared: {what}"));
            continue;
        };
        match limit.is_exceeded(part, whole) {
            Ok(false) => {}
            Ok(true) => exceeded.push(format!("{what}, more than limits.{field} ({limit})")),
            Err(error) => invalid.push(format!("limits.{field}: {error}")),
        }
    }
    if !invalid.is_empty() {
        return need(reasons::LIMIT_INVALID, invalid.join("; "));
    }
    if !exceeded.is_empty() {
        return need(reasons::LIMIT_EXCEEDED, exceeded.join("; "));
    }
    match run.spec.approval_policy {
        ApprovalPolicy::Automatic => None,
        ApprovalPolicy::Manual => {
            let posted = match revision.posted {
                PostedDifferences { members: 0, .. } => String::new(),
                PostedDifferences { members, amount } => {
                    format!("; it posts {amount:+} to a later month for {members} members")
                }
            };
            let changes = revision.diff.as_ref().map_or_else(String::new, |diff| {
                format!(
                    " and changes the outcome of {} of {} members ({} changed, {} added, {} removed) and the total by {:+}",
                    diff.outcomes(),
                    revision.members,
                    diff.changed,
                    diff.added,
                    diff.removed,
                    diff.total_delta()
                )
            });
            let why = format!("approvalPolicy is Manual; the draft passed its checks{changes}{posted}");
            need(reasons::MANUAL_APPROVAL, why)
        }
    }
}

/// Why a draft has neither a bill nor a quarantine record. For a scope that can be as it should be:
/// nobody is in quarantine, or nothing came late.
fn nobody_eligible(revision: &RunSnapshot) -> String {
    let cutoff = revision.data_cutoff;
    match revision.rebilling {
        Some(RebillingSnapshot { scope, changed, .. }) if scope != ScopeKind::Everyone => format!(
            "none of {scope} is eligible as of load {cutoff}; the draft changes the outcome of {changed} members"
        ),
        _ => {
            format!(
                "no member is eligible as of load {cutoff}: check that the month's subscriptions are loaded"
            )
        }
    }
}

/// A draft that has waited for approval is not issued by itself later, although what it was compared
/// with has changed: the month before was billed, or billed again.
pub(super) fn still_needed(run: &BillingRun) -> Option<ApprovalNeed> {
    (run.phase() == Some(Phase::AwaitingApproval)).then(|| ApprovalNeed {
        reason: reasons::LIMIT_EXCEEDED,
        why: "the draft was over a limit; what that limit compares it with has changed since".to_owned(),
    })
}

/// One limit, with what it is compared with.
struct Comparison<'a> {
    field: &'static str,
    limit: &'a Limit,
    /// The words for `part` of `whole`, or for what is missing.
    what: String,
    /// None where there is nothing to compare with.
    part: Option<i128>,
    whole: i128,
}

/// The limits that the run has and that concern it: what a re-billing changes is not compared in a
/// first billing. Members in quarantine and changed bills are those of the run's scope; totals, and
/// the comparison with the month before, are of the whole month as it will be.
fn comparisons<'a>(limits: &'a Limits, revision: &RunSnapshot) -> Vec<Comparison<'a>> {
    let members = i128::from(revision.members);
    let as_billed = MonthFigures { members: revision.members, total: revision.amounts.total };
    let unknown = Baselines { draft: as_billed, live: None, previous_month: None };
    let baselines = revision.baselines.unwrap_or(unknown);
    let month = baselines.draft;
    let mut found = Vec::new();
    if let Some(limit) = &limits.max_quarantined {
        let quarantined = revision.counts.quarantined;
        let what = format!("{quarantined} of {members} members are in quarantine");
        let part = Some(quarantined.into());
        found.push(Comparison { field: "maxQuarantined", limit, what, part, whole: members });
    }
    let no_diff = || "the draft was verified by a version that did not compute its changes".to_owned();
    if let (Some(limit), Some(_)) = (&limits.max_changed_bills, &revision.rebilling) {
        let what = |changed| format!("the outcome of {changed} of {members} members changes");
        let part = revision.diff.as_ref().map(|diff| diff.outcomes().into());
        let what = part.map_or_else(no_diff, what);
        found.push(Comparison { field: "maxChangedBills", limit, what, part, whole: members });
    }
    if let (Some(limit), Some(_), None) = (&limits.max_total_delta, &revision.rebilling, &baselines.live) {
        let what = "the live revision has no figures of the month".to_owned();
        found.push(Comparison { field: "maxTotalDelta", limit, what, part: None, whole: 0 });
    }
    if let (Some(limit), Some(live)) = (&limits.max_total_delta, &baselines.live) {
        let posted = revision.posted.amount;
        let what = |_| match posted {
            0 => format!("the month's total changes from {} to {}", live.total, month.total),
            posted => format!(
                "the month's total changes from {} to {}, and {posted:+} is posted to a later month",
                live.total, month.total
            ),
        };
        let part = revision.diff.as_ref().map(|diff| (diff.total_delta() + posted).abs());
        let what = part.map_or_else(no_diff, what);
        found.push(Comparison { field: "maxTotalDelta", limit, what, part, whole: live.total.abs() });
    }
    let versus = limits.versus_previous_month.as_ref();
    let mut compare = |field, limit: Option<&'a Limit>, noun: &str, figure: fn(&MonthFigures) -> i128| {
        let Some(limit) = limit else { return };
        let now = figure(&month);
        let (what, part, whole) = match &baselines.previous_month {
            Some(before) => {
                let before = figure(before);
                (
                    format!("{noun} is {now}, and {before} in the month before"),
                    Some((now - before).abs()),
                    before.abs(),
                )
            }
            None => ("the month before has no live bills".to_owned(), None, 0),
        };
        found.push(Comparison { field, limit, what, part, whole });
    };
    compare(
        "versusPreviousMonth.members",
        versus.and_then(|versus| versus.members.as_ref()),
        "the number of members",
        |figures| figures.members.into(),
    );
    compare(
        "versusPreviousMonth.total",
        versus.and_then(|versus| versus.total.as_ref()),
        "the total",
        |figures| figures.total,
    );
    found
}
