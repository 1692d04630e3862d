//! The members that a re-billing is limited to: how a spec is planned, and what the status says.

use api::MemberRange;
use api::billing_run::{AfterSent, Rebill, Scope, ScopeSelect};
use store::billing::{RebillingSnapshot, ScopeKind};

use super::*;

fn scoped(scope: Scope) -> BillingRun {
    let mut run = run();
    let reason = "late data".to_owned();
    run.spec.rebill = Some(Rebill { of_revision: 1, reason, after_sent: AfterSent::Revise });
    run.spec.scope = Some(scope);
    run
}

fn range(from: i64, to: i64) -> Scope {
    Scope { member_range: Some(MemberRange { from, to }), ..Scope::default() }
}

fn members(ids: &[i64]) -> Scope {
    Scope { member_ids: Some(ids.to_vec()), ..Scope::default() }
}

fn select(select: ScopeSelect) -> Scope {
    Scope { select: Some(select), ..Scope::default() }
}

#[test]
fn a_scope_is_planned_as_the_spec_has_it() {
    let planned = |members: &str| {
        format!("Planning | Begin(month 2026-10, over revision 1, {members}) | !Started:Planning")
    };
    for (scope, expected) in [
        (range(1, i64::MAX), planned("members 1 to 9223372036854775807")),
        (range(7, 7), planned("members 7 to 7")),
        (members(&[7, 7, i64::MAX]), planned("the listed members")),
        (select(ScopeSelect::Quarantined), planned("the members in quarantine")),
        (select(ScopeSelect::Late), planned("the members with late data")),
    ] {
        assert_eq!(summary(&decide::decide(&scoped(scope.clone()), &observed(None))), expected, "{scope:?}");
    }
}

/// The API server rejects these first.
#[test]
fn a_scope_that_makes_no_sense_is_not_planned() {
    let without_rebill = BillingRun {
        spec: BillingRunSpec { rebill: None, ..scoped(select(ScopeSelect::Late)).spec },
        ..run()
    };
    let two = Scope { select: Some(ScopeSelect::Late), ..members(&[1]) };
    for (run, expected) in [
        (without_rebill, "spec.scope is only for a run with spec.rebill"),
        (scoped(Scope::default()), "spec.scope must have exactly one of memberRange, memberIds and select"),
        (scoped(two), "spec.scope must have exactly one of memberRange, memberIds and select"),
        (
            scoped(range(2, 1)),
            "spec.scope.memberRange.from must not be greater than spec.scope.memberRange.to",
        ),
        (
            scoped(members(&[0])),
            "spec.scope: member id `0` is not a whole number from 1 to 9223372036854775807 in plain digits",
        ),
    ] {
        let decision = decide::decide(&run, &observed(None));
        assert_eq!(summary(&decision), "Pending | RequeueAfter | !Started:InvalidSpec");
        assert_eq!(message(&decision, conditions::STARTED), expected);
    }
}

#[test]
fn the_status_says_for_whom_a_month_was_billed_again() {
    let of = |scope| RebillingSnapshot { of_revision: "1".parse().unwrap(), scope, changed: 3 };
    for (scope, expected) in [
        (ScopeKind::Everyone, "which bills revision 1 again"),
        (ScopeKind::Late, "which bills revision 1 again for the members with late data"),
    ] {
        let issued = RunSnapshot { rebilling: Some(of(scope)), ..live() };
        let decision = decide::decide(&run(), &observed(Some(issued)));
        let started = message(&decision, conditions::STARTED);
        assert!(started.contains(&format!(", {expected}: ")), "{started}");
        let complete = message(&decision, conditions::COMPLETE);
        let changes = "and changes the outcome of 3 members, was issued";
        assert!(complete.contains(&format!(", {expected} {changes}")), "{complete}");
    }
}
