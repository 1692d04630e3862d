//! Drafts that wait for approval, and why.

use api::Limit;
use api::billing_run::{Limits, VersusPreviousMonth};
use store::billing::{Baselines, Diff, MonthFigures, PricingVersions, RebillingSnapshot, ScopeKind};

use super::*;

fn limited(percent: &str) -> BillingRun {
    let mut run = run();
    run.spec.limits =
        Some(Limits { max_quarantined: Some(Limit::Percent(percent.to_owned())), ..Limits::default() });
    run
}

fn manual() -> BillingRun {
    let mut run = run();
    run.spec.approval_policy = ApprovalPolicy::Manual;
    run
}

#[test]
fn decisions_when_approval_is_needed() {
    let verified = || observed(Some(verified(true)));
    assert_decisions(&[
        (
            "manual",
            manual(),
            verified(),
            "AwaitingApproval | AwaitChange | Started:Planned !Approved:ManualApproval",
        ),
        (
            "over the limit",
            limited("9.9%"),
            verified(),
            "AwaitingApproval | AwaitChange | Started:Planned !Approved:LimitExceeded",
        ),
        (
            "at the limit",
            limited("10%"),
            verified(),
            "Issuing | Issue(revision 1) | Started:Planned Progressing:Issuing",
        ),
        (
            "an invalid limit",
            limited("lots"),
            verified(),
            "AwaitingApproval | AwaitChange | Started:Planned !Approved:LimitInvalid",
        ),
        (
            "waiting, and by now within its limits",
            in_phase(Phase::AwaitingApproval),
            verified(),
            "AwaitingApproval | AwaitChange | Started:Planned !Approved:LimitExceeded",
        ),
        (
            "approved",
            approving(manual(), DIGEST),
            verified(),
            "Issuing | Issue(revision 1) | Started:Planned Approved:Approved Progressing:Issuing",
        ),
        (
            "approved over the limit",
            approving(limited("1%"), DIGEST),
            verified(),
            "Issuing | Issue(revision 1) | Started:Planned Approved:Approved Progressing:Issuing",
        ),
        (
            "another draft approved",
            approving(manual(), &"b".repeat(64)),
            verified(),
            "AwaitingApproval | AwaitChange | Started:Planned !Approved:DigestMismatch",
        ),
        (
            "an approval that is not needed",
            approving(run(), &"b".repeat(64)),
            verified(),
            "Issuing | Issue(revision 1) | Started:Planned Progressing:Issuing",
        ),
    ]);
}

/// A verified draft over a live revision of 1,000 minor units, of which 3 of 10 members change, and
/// after a month of 8 members and 2,000.
fn compared() -> RunSnapshot {
    let of_revision = "1".parse().unwrap();
    RunSnapshot {
        amounts: Amounts { total: 1_100, ..Amounts::default() },
        rebilling: Some(RebillingSnapshot { of_revision, scope: ScopeKind::Everyone, changed: 3 }),
        diff: Some(Diff {
            changed: 1,
            unchanged: 8,
            added: 1,
            removed: 1,
            increase: 150,
            decrease: -50,
            causes: Vec::new(),
        }),
        baselines: Some(Baselines {
            draft: MonthFigures { members: 10, total: 1_100 },
            live: Some(MonthFigures { members: 10, total: 1_000 }),
            previous_month: Some(MonthFigures { members: 8, total: 2_000 }),
        }),
        ..verified(true)
    }
}

const POSTED: PostedDifferences = PostedDifferences { members: 2, amount: -400 };

/// The same draft over a month of 1,000 members: it bills ten of them again.
fn scoped() -> RunSnapshot {
    let of_revision = "1".parse().unwrap();
    RunSnapshot {
        amounts: Amounts { total: 600, ..Amounts::default() },
        rebilling: Some(RebillingSnapshot { of_revision, scope: ScopeKind::Late, changed: 3 }),
        diff: Some(Diff {
            changed: 3,
            unchanged: 7,
            added: 0,
            removed: 0,
            increase: 150,
            decrease: -50,
            causes: Vec::new(),
        }),
        baselines: Some(Baselines {
            draft: MonthFigures { members: 1_000, total: 50_100 },
            live: Some(MonthFigures { members: 1_000, total: 50_000 }),
            previous_month: Some(MonthFigures { members: 1_000, total: 50_000 }),
        }),
        ..verified(true)
    }
}

#[test]
fn a_scope_is_compared_as_the_month_that_it_makes() {
    let percent = |text: &str| Some(Limit::Percent(text.to_owned()));
    let both = |text: &str| Limits {
        versus_previous_month: Some(VersusPreviousMonth { members: percent("0%"), total: percent(text) }),
        max_total_delta: percent(text),
        ..Limits::default()
    };
    let of_members =
        Limits { max_quarantined: percent("9%"), max_changed_bills: percent("29%"), ..Limits::default() };
    let expected = [
        (both("0.2%"), ""),
        (
            both("0.1%"),
            "the month's total changes from 50000 to 50100, more than limits.maxTotalDelta (0.1%); the total is 50100, and \
             50000 in the month before, more than limits.versusPreviousMonth.total (0.1%)",
        ),
        // Of the members of the scope.
        (
            of_members,
            "1 of 10 members are in quarantine, more than limits.maxQuarantined (9%); the outcome of 3 of 10 members \
             changes, more than limits.maxChangedBills (29%)",
        ),
    ];
    for (limits, exceeded) in expected {
        let mut run = run();
        run.spec.limits = Some(limits.clone());
        let decision = decide::decide(&run, &observed(Some(scoped())));
        if exceeded.is_empty() {
            assert!(matches!(decision.next, Next::Apply(Action::Issue { .. })), "{limits:?} {decision:?}");
        } else {
            let waits = message(&decision, conditions::APPROVED);
            assert!(waits.starts_with(&format!("{exceeded}; approve the draft")), "{waits}");
        }
    }
}

#[test]
fn an_empty_scope_waits_and_says_so() {
    for (scope, changed, expected) in [
        (
            ScopeKind::Quarantined,
            0,
            "none of the members in quarantine is eligible as of load 3; the draft changes the outcome of 0 members",
        ),
        (
            ScopeKind::Range { from: "5".parse().unwrap(), to: "9".parse().unwrap() },
            2,
            "none of members 5 to 9 is eligible as of load 3; the draft changes the outcome of 2 members",
        ),
    ] {
        let draft = RunSnapshot {
            members: 0,
            counts: Counts::default(),
            rebilling: Some(RebillingSnapshot { of_revision: "1".parse().unwrap(), scope, changed }),
            ..verified(true)
        };
        let decision = decide::decide(&run(), &observed(Some(draft)));
        assert_eq!(
            summary(&decision),
            "AwaitingApproval | AwaitChange | Started:Planned !Approved:NothingToIssue"
        );
        let waits = message(&decision, conditions::APPROVED);
        assert!(waits.starts_with(&format!("{expected}; approve the draft")), "{waits}");
    }
}

#[test]
fn a_rebilling_that_waits_says_how_much_it_changes() {
    let decision = decide::decide(&manual(), &observed(Some(compared())));
    assert_eq!(
        message(&decision, conditions::APPROVED).split(';').nth(1),
        Some(
            " the draft passed its checks and changes the outcome of 3 of 10 members (1 changed, 1 added, 1 removed) and the \
             total by +100"
        )
    );
    let decision = decide::decide(&manual(), &observed(Some(RunSnapshot { posted: POSTED, ..compared() })));
    assert_eq!(
        message(&decision, conditions::APPROVED).split(';').nth(2),
        Some(" it posts -400 to a later month for 2 members")
    );
}

#[test]
fn each_limit_at_its_edge() {
    let percent = |text: &str| Some(Limit::Percent(text.to_owned()));
    let versus = |members: Option<Limit>, total: Option<Limit>| Limits {
        versus_previous_month: Some(VersusPreviousMonth { members, total }),
        ..Limits::default()
    };
    let changed = |limit: Limit| Limits { max_changed_bills: Some(limit), ..Limits::default() };
    let delta = |limit: Limit| Limits { max_total_delta: Some(limit), ..Limits::default() };
    let without_diff = || RunSnapshot { diff: None, ..compared() };
    let uncomputed = "the draft was verified by a version that did not compute its changes";
    let first = || RunSnapshot {
        rebilling: None,
        diff: None,
        baselines: Some(Baselines { live: None, ..compared().baselines.unwrap() }),
        ..compared()
    };
    let after_nothing = || RunSnapshot {
        baselines: Some(Baselines { previous_month: None, ..compared().baselines.unwrap() }),
        ..compared()
    };
    let posting = || RunSnapshot { posted: POSTED, ..compared() };
    let table = [
        // What is posted changes no bill of the month, and counts for the total.
        (changed(Limit::Count(3)), posting(), None),
        (delta(Limit::Count(300)), posting(), None),
        (
            delta(Limit::Count(299)),
            posting(),
            Some(
                "the month's total changes from 1000 to 1100, and -400 is posted to a later month, more than \
                 limits.maxTotalDelta (299)",
            ),
        ),
        (changed(Limit::Count(3)), compared(), None),
        (
            changed(Limit::Count(2)),
            compared(),
            Some("the outcome of 3 of 10 members changes, more than limits.maxChangedBills (2)"),
        ),
        (
            changed(percent("29%").unwrap()),
            compared(),
            Some("the outcome of 3 of 10 members changes, more than limits.maxChangedBills (29%)"),
        ),
        (changed(Limit::Count(0)), first(), None),
        (
            changed(Limit::Count(10)),
            without_diff(),
            Some(&*format!("limits.maxChangedBills (10) cannot be compared: {uncomputed}")),
        ),
        (
            delta(Limit::Count(1_000)),
            without_diff(),
            Some(&*format!("limits.maxTotalDelta (1000) cannot be compared: {uncomputed}")),
        ),
        (delta(Limit::Count(100)), compared(), None),
        (delta(percent("10%").unwrap()), compared(), None),
        (
            delta(Limit::Count(99)),
            compared(),
            Some("the month's total changes from 1000 to 1100, more than limits.maxTotalDelta (99)"),
        ),
        (delta(Limit::Count(0)), first(), None),
        (versus(percent("25%"), percent("45%")), compared(), None),
        (
            versus(percent("24%"), percent("44%")),
            compared(),
            Some(
                "the number of members is 10, and 8 in the month before, more than \
                 limits.versusPreviousMonth.members (24%); the total is 1100, and 2000 in the month before, more than \
                 limits.versusPreviousMonth.total (44%)",
            ),
        ),
        (
            versus(None, percent("100%")),
            after_nothing(),
            Some(
                "limits.versusPreviousMonth.total (100%) cannot be compared: the month before has no live bills",
            ),
        ),
    ];
    for (limits, draft, expected) in table {
        let mut run = run();
        run.spec.limits = Some(limits.clone());
        let decision = decide::decide(&run, &observed(Some(draft)));
        let Some(expected) = expected else {
            assert!(matches!(decision.next, Next::Apply(Action::Issue { .. })), "{limits:?}");
            continue;
        };
        let approved = conditions::find(&decision.status.conditions, conditions::APPROVED).unwrap();
        assert_eq!((approved.reason.as_str(), approved.status.as_str()), ("LimitExceeded", "False"));
        assert!(
            approved.message.starts_with(&format!("{expected}; approve the draft")),
            "{}",
            approved.message
        );
    }
}

#[test]
fn a_draft_without_a_bill_is_never_issued_by_itself() {
    let without_bills = |quarantined: i64| RunSnapshot {
        members: quarantined,
        counts: Counts { quarantined, ..Counts::default() },
        ..verified(true)
    };
    for (quarantined, expected) in [
        (0, "no member is eligible as of load 3: check that the month's subscriptions are loaded; approve"),
        (7, "no member gets a bill: all 7 are in quarantine; approve"),
    ] {
        let draft = || observed(Some(without_bills(quarantined)));
        let decision = decide::decide(&run(), &draft());
        assert_eq!(
            summary(&decision),
            "AwaitingApproval | AwaitChange | Started:Planned !Approved:NothingToIssue"
        );
        assert!(message(&decision, conditions::APPROVED).starts_with(expected), "{decision:?}");
        assert_eq!(
            summary(&decide::decide(&approving(run(), DIGEST), &draft())),
            "Issuing | Issue(revision 1) | Started:Planned Approved:Approved Progressing:Issuing"
        );
    }
}

#[test]
fn a_draft_that_another_pricing_version_worked_on_waits_for_approval() {
    let priced_by = |pinned: Option<i32>, of_chunks: &[i32]| RunSnapshot {
        pricing: PricingVersions { pinned, of_chunks: of_chunks.to_vec() },
        ..verified(true)
    };
    for (pinned, of_chunks) in [(Some(1), &[1] as &[i32]), (Some(1), &[]), (None, &[1, 2])] {
        let decision = decide::decide(&run(), &observed(Some(priced_by(pinned, of_chunks))));
        assert!(summary(&decision).starts_with("Issuing"), "{pinned:?} {of_chunks:?}");
    }
    let draft = || observed(Some(priced_by(Some(1), &[1, 2])));
    let decision = decide::decide(&run(), &draft());
    assert_eq!(
        summary(&decision),
        "AwaitingApproval | AwaitChange | Started:Planned !Approved:PricingVersionChanged"
    );
    let expected =
        "the run began with version 1 of the pricing rules, and version 2 has priced chunks of it; approve";
    assert!(message(&decision, conditions::APPROVED).starts_with(expected), "{decision:?}");
    assert!(summary(&decide::decide(&approving(run(), DIGEST), &draft())).starts_with("Issuing"));
}
