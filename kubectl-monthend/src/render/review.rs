//! What a reviewer of a draft has to see: why it waits, counts, amounts, checks, and what a
//! re-billing changes.

use std::fmt::Write as _;

use api::BillingRun;
use api::billing_run::{BillingRunStatus, Diff};
use api::conditions::{APPROVED, find};
use api::run::{Run as _, RunPhase as _};
use kube::ResourceExt as _;

use super::table::{Align, table};
use super::{BAD, BOLD, GOOD, WAITING, grouped, painted, phase, signed};

/// The draft on one screen.
pub(crate) fn review(run: &BillingRun) -> String {
    let none = BillingRunStatus::default();
    let status = run.status.as_ref().unwrap_or(&none);
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{name:<13}{value}");
    };
    let revision = status.revision.map_or_else(|| "-".to_owned(), |revision| revision.to_string());
    line("Run", painted(BOLD, &run.name_any()));
    line("Month", format!("{}, revision {revision}", run.spec.month));
    line("Phase", phase(run.phase().map_or("Pending", |phase| phase.as_str())));
    if let Some(rebill) = &run.spec.rebill {
        let after = format!("after sent: {:?}", rebill.after_sent);
        line("Bills again", format!("revision {} ({}), {after}", rebill.of_revision, rebill.reason));
    }
    if let Some(book) = &status.price_book {
        line("Price book", format!("version {}, sha256 {}", book.version, short(&book.sha256)));
    }
    if let Some(cutoff) = status.data_cutoff {
        line("Data", format!("up to load {cutoff}"));
    }
    if let Some(approved) = find(&status.conditions, APPROVED) {
        let style = if approved.status == "True" { GOOD } else { WAITING };
        line("Approval", painted(style, &format!("{}: {}", approved.reason, approved.message)));
    }
    if let Some(counts) = &status.counts {
        line("Billed", format!("{} members", grouped(counts.billed)));
        let quarantined = format!("{} members", grouped(counts.quarantined));
        line(
            "Quarantined",
            if counts.quarantined > 0 { painted(WAITING, &quarantined) } else { quarantined },
        );
        line(
            "Usage rows",
            format!(
                "{} rated, {} unbillable, {} quarantined, {} late",
                grouped(counts.rated_usage),
                grouped(counts.unbillable_usage),
                grouped(counts.quarantined_usage),
                counts.late_usage.map_or_else(|| "-".to_owned(), grouped)
            ),
        );
    }
    if let Some(amounts) = &status.amounts {
        line("Total", painted(BOLD, &grouped(&amounts.total)));
        line(
            "  made of",
            format!(
                "base {}, usage {}, discount -{}, adjustment {}, tax {}, rounding {}",
                grouped(&amounts.base),
                grouped(&amounts.usage),
                grouped(&amounts.discount),
                signed(&amounts.adjustment),
                grouped(&amounts.tax),
                signed(&amounts.rounding)
            ),
        );
    }
    if let Some(adjusted) = &status.adjusted {
        let to = adjusted.to_month.as_deref().unwrap_or("a later month");
        let members = grouped(adjusted.members);
        line("Posted", format!("{} for {members} members, billed with {to}", signed(&adjusted.amount)));
    }
    let failed: Vec<&str> =
        status.verification.iter().filter(|check| !check.passed).map(|check| check.check.as_str()).collect();
    if !failed.is_empty() {
        line("Checks", painted(BAD, &format!("failed: {}", failed.join(", "))));
    } else if !status.verification.is_empty() {
        line("Checks", painted(GOOD, &format!("{} passed", status.verification.len())));
    }
    if let Some(digest) = &status.digest {
        line("Digest", digest.clone());
    }
    if let Some(diff) = &status.diff {
        text.push_str(&changes(diff));
    }
    text
}

fn changes(diff: &Diff) -> String {
    let mut text = format!(
        "\n{}\n{} changed, {} added, {} removed, {} unchanged; total {} ({} and {})\n",
        painted(BOLD, "Changes"),
        grouped(diff.changed),
        grouped(diff.added),
        grouped(diff.removed),
        grouped(diff.unchanged),
        painted(BOLD, &signed(&diff.total_delta)),
        signed(&diff.increase),
        signed(&diff.decrease),
    );
    if !diff.causes.is_empty() {
        let rows: Vec<Vec<String>> = diff
            .causes
            .iter()
            .map(|share| vec![format!("{:?}", share.cause), grouped(share.members), signed(&share.delta)])
            .collect();
        let columns = [("CAUSE", Align::Left), ("MEMBERS", Align::Right), ("DELTA", Align::Right)];
        text.push_str(&table(&columns, &rows));
    }
    text
}

/// What the question says of the draft.
pub(crate) fn summary(run: &BillingRun) -> String {
    let status = run.status.as_ref();
    let counts = status.and_then(|status| status.counts.as_ref());
    let billed = counts.map_or_else(|| "?".to_owned(), |counts| grouped(counts.billed));
    let total = status.and_then(|status| status.amounts.as_ref()).map(|amounts| grouped(&amounts.total));
    let total = total.unwrap_or_else(|| "?".to_owned());
    match status.and_then(|status| status.diff.as_ref()) {
        Some(diff) => format!(
            "{} changed bills, {} added and {} removed, total {}",
            grouped(diff.changed),
            grouped(diff.added),
            grouped(diff.removed),
            signed(&diff.total_delta)
        ),
        None => format!("{billed} bills with a total of {total}"),
    }
}

/// The first digits, enough to compare by eye.
fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use api::billing_run::{
        Amounts, CauseShare, ChangeCause, Counts, Phase, PinnedPriceBook, VerificationCheck,
    };
    use serde_json::json;

    use super::*;
    use crate::plan::testing::{DIGEST, billing_run, with_condition};
    use crate::render::plain;

    fn draft() -> BillingRun {
        let mut run = billing_run("rebilling-2026-10-r2", "2026-10", Phase::AwaitingApproval, Some(2));
        run.spec.rebill = serde_json::from_value(json!({"ofRevision": 1, "reason": "wrong fee"})).unwrap();
        let status = run.status.as_mut().unwrap();
        status.price_book =
            Some(PinnedPriceBook { version: "2026-11".to_owned(), sha256: "abcdef0123456789".to_owned() });
        status.data_cutoff = Some(3);
        status.counts = Some(Counts {
            billed: 20_000,
            quarantined: 3,
            late_usage: Some(12),
            quarantined_usage: 15,
            unbillable_usage: 0,
            rated_usage: 100_000,
        });
        let amount = str::to_owned;
        status.amounts = Some(Amounts {
            base: amount("900000000"),
            usage: amount("50000000"),
            discount: amount("30000000"),
            adjustment: amount("-5000"),
            tax: amount("45719550"),
            rounding: amount("0"),
            total: amount("965714550"),
        });
        let check = |passed| VerificationCheck { check: "sums".to_owned(), passed, detail: String::new() };
        status.verification = vec![check(true), check(true)];
        status.diff = Some(Diff {
            changed: 1200,
            unchanged: 18_790,
            added: 10,
            removed: 0,
            total_delta: amount("-120000"),
            increase: amount("4000"),
            decrease: amount("-124000"),
            causes: vec![
                CauseShare { cause: ChangeCause::PriceBook, members: 1200, delta: amount("-124000") },
                CauseShare { cause: ChangeCause::Plan, members: 10, delta: amount("4000") },
            ],
        });
        with_condition(run, APPROVED, false, "ManualApproval", "the run asks for approval")
    }

    #[test]
    fn a_reviewer_sees_everything_that_the_draft_changes() {
        assert_eq!(
            plain(&review(&draft())),
            format!(
                "\
Run          rebilling-2026-10-r2
Month        2026-10, revision 2
Phase        AwaitingApproval
Bills again  revision 1 (wrong fee), after sent: Revise
Price book   version 2026-11, sha256 abcdef012345
Data         up to load 3
Approval     ManualApproval: the run asks for approval
Billed       20,000 members
Quarantined  3 members
Usage rows   100,000 rated, 0 unbillable, 15 quarantined, 12 late
Total        965,714,550
  made of    base 900,000,000, usage 50,000,000, discount -30,000,000, adjustment -5,000, tax 45,719,550, rounding 0
Checks       2 passed
Digest       {DIGEST}

Changes
1,200 changed, 10 added, 0 removed, 18,790 unchanged; total -120,000 (+4,000 and -124,000)
CAUSE       MEMBERS      DELTA
PriceBook     1,200   -124,000
Plan             10     +4,000
"
            )
        );
        assert_eq!(summary(&draft()), "1,200 changed bills, 10 added and 0 removed, total -120,000");
    }

    #[test]
    fn a_run_without_a_draft_has_a_short_review() {
        let run = billing_run("billing-2026-10", "2026-10", Phase::Pending, None);
        assert_eq!(
            plain(&review(&run)),
            "Run          billing-2026-10\nMonth        2026-10, revision -\nPhase        Pending\n"
        );
    }

    #[test]
    fn a_failed_check_is_named() {
        let mut run = draft();
        run.status.as_mut().unwrap().verification[1].passed = false;
        assert!(plain(&review(&run)).contains("Checks       failed: sums\n"));
    }
}
