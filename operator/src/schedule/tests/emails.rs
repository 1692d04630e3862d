//! E-mails that were not all sent: what the schedule says, and which later runs settle it.

use api::notification_run::NotificationScope;

use super::*;
use crate::schedule::emails;

const NOV: &str = "2026-11";
const FAILED: &str = "2026-11 is not e-mailed to everybody: see NotificationRun close-2026-11, and send the rest with \
                      one of another name (kubectl monthend notify 2026-11)";
const PARTLY: &str = "2026-11 has e-mails that failed or whose outcome is unknown: see NotificationRun close-2026-11, \
                      and send them again with one of another name (kubectl monthend retry 2026-11)";

fn of(select: Select) -> Asked {
    Asked { select, ..EVERYTHING }
}

fn scoped(select: Select) -> Asked {
    let scope = NotificationScope { member_ids: Some(vec![7]), ..NotificationScope::default() };
    Asked { scope: Some(scope), ..of(select) }
}

fn rehearsed(select: Select) -> Asked {
    Asked { rehearsal: true, ..of(select) }
}

/// The schedule's run of November, and the runs that were created one after the other.
fn november(own: (Asked, RunState), others: &[(Asked, RunState)]) -> Vec<ExistingRun> {
    let at = |hour: usize| time(&format!("2026-12-02T{hour:02}:00:00Z"));
    let own = ExistingRun { asked: Some(own.0), ..run("close-2026-11", month(NOV), at(5), own.1) };
    let others = others.iter().enumerate().map(|(index, (asked, state))| ExistingRun {
        asked: Some(asked.clone()),
        ..run(&format!("other-{}", index + 1), month(NOV), at(6 + index), *state)
    });
    std::iter::once(own).chain(others).collect()
}

fn problem_of(runs: &[ExistingRun]) -> Option<String> {
    let of_month = emails::of_month(runs, month(NOV));
    let own = of_month.iter().find(|run| run.name == "close-2026-11")?;
    emails::problem(own, &of_month)
}

#[test]
fn a_run_that_sent_everything_or_is_at_it_leaves_nothing() {
    for state in [RunState::Succeeded, RunState::Working, RunState::Waiting] {
        assert_eq!(problem_of(&november((EVERYTHING, state), &[])), None, "{state:?}");
    }
}

/// The state of the schedule's run, the runs after it, and what is still left to e-mail.
type Case = (RunState, Vec<(Asked, RunState)>, Option<String>);

#[test]
fn what_is_left_is_settled_by_a_later_run_that_does_it() {
    use RunState::{Failed, Partly, Succeeded, Waiting, Working};
    use Select::{Corrected, Ready, Skipped, Unknown};
    let failed = |select| (of(select), Failed);
    let left_by_other = |number: u32, text: &str| {
        Some(text.replacen("NotificationRun close-2026-11", &format!("NotificationRun other-{number}"), 1))
    };
    let (is_failed, is_partly) = (Some(FAILED.to_owned()), Some(PARTLY.to_owned()));
    let cases: Vec<Case> = vec![
        // The rest of a failed run is what was not attempted yet.
        (Failed, vec![], is_failed.clone()),
        (Failed, vec![(of(Ready), Succeeded)], None),
        (Failed, vec![(of(Ready), Working)], None),
        (Failed, vec![(of(Ready), Waiting)], None),
        (Failed, vec![failed(Ready)], is_failed.clone()),
        (Failed, vec![failed(Ready), (of(Ready), Succeeded)], None),
        (Failed, vec![(of(Select::Failed), Succeeded)], is_failed.clone()),
        (Failed, vec![(of(Unknown), Succeeded)], is_failed.clone()),
        (Failed, vec![(of(Corrected), Succeeded)], is_failed.clone()),
        (Failed, vec![(of(Skipped), Succeeded)], is_failed.clone()),
        (Failed, vec![(scoped(Ready), Succeeded)], is_failed.clone()),
        (Failed, vec![(rehearsed(Ready), Succeeded)], is_failed),
        // What is left then is what failed in the other run.
        (Failed, vec![(of(Ready), Partly)], left_by_other(1, PARTLY)),
        (Failed, vec![(of(Ready), Partly), (of(Select::Failed), Succeeded)], None),
        (Failed, vec![(of(Select::Failed), Succeeded), (of(Ready), Partly)], left_by_other(2, PARTLY)),
        // Bills that failed are attempted again only by a run that selects them.
        (Partly, vec![], is_partly.clone()),
        (Partly, vec![(of(Select::Failed), Succeeded)], None),
        (Partly, vec![(of(Unknown), Succeeded)], None),
        (Partly, vec![(of(Select::Failed), Working)], None),
        (Partly, vec![(of(Ready), Succeeded)], is_partly.clone()),
        (Partly, vec![(scoped(Select::Failed), Succeeded)], is_partly.clone()),
        (Partly, vec![(rehearsed(Select::Failed), Succeeded)], is_partly.clone()),
        (Partly, vec![failed(Select::Failed)], is_partly),
        (Partly, vec![(of(Select::Failed), Partly)], left_by_other(1, PARTLY)),
        (Partly, vec![(of(Select::Failed), Partly), (of(Select::Failed), Succeeded)], None),
    ];
    for (own, others, expected) in cases {
        let runs = november((EVERYTHING, own), &others);
        assert_eq!(problem_of(&runs), expected, "{own:?}, then {others:?}");
    }
}

#[test]
fn a_run_for_some_members_is_settled_by_one_for_them_or_for_all() {
    let own = (scoped(Select::Ready), RunState::Failed);
    let unsent = "2026-11 is not e-mailed to everybody: see NotificationRun close-2026-11, and send the rest with one of \
                  another name";
    assert_eq!(problem_of(&november(own.clone(), &[])).as_deref(), Some(unsent));
    for asked in [scoped(Select::Ready), EVERYTHING] {
        assert_eq!(problem_of(&november(own.clone(), &[(asked, RunState::Succeeded)])), None);
    }
}

#[test]
fn a_rehearsal_is_settled_by_another_rehearsal_only() {
    let again = "rehearse again with one of another name (kubectl monthend rehearse 2026-11)";
    for (state, words) in [
        (RunState::Failed, format!("2026-11 is not rehearsed: see NotificationRun close-2026-11, and {again}")),
        (
            RunState::Partly,
            "2026-11 has e-mails that cannot be rendered: see NotificationRun close-2026-11, and rehearse again with a \
             NotificationRun of another name (kubectl monthend rehearse 2026-11)"
                .to_owned(),
        ),
    ] {
        let own = (rehearsed(Select::Ready), state);
        assert_eq!(problem_of(&november(own.clone(), &[])), Some(words.clone()));
        let sent = [(EVERYTHING, RunState::Succeeded)];
        assert_eq!(problem_of(&november(own.clone(), &sent)), Some(words));
        assert_eq!(problem_of(&november(own, &[(rehearsed(Select::Ready), RunState::Succeeded)])), None);
    }
}

#[test]
fn only_runs_of_the_month_that_were_created_later_count() {
    let earlier = |own: RunState, other: ExistingRun| {
        let mut runs = november((EVERYTHING, own), &[]);
        runs.push(other);
        problem_of(&runs)
    };
    let sent = |month_: &str, at: &str| ExistingRun {
        asked: Some(EVERYTHING),
        ..run("other", month(month_), time(at), RunState::Succeeded)
    };
    assert_eq!(earlier(RunState::Failed, sent(NOV, "2026-12-02T06:00:00Z")), None);
    assert_eq!(
        earlier(RunState::Failed, sent(NOV, "2026-12-02T04:00:00Z")).as_deref(),
        Some(FAILED),
        "before it"
    );
    assert_eq!(
        earlier(RunState::Failed, sent("2026-12", "2026-12-02T06:00:00Z")).as_deref(),
        Some(FAILED),
        "of another month"
    );
    // It sends nothing, as the earlier run of its name has.
    let used = ExistingRun { asked: None, ..sent(NOV, "2026-12-02T06:00:00Z") };
    assert_eq!(earlier(RunState::Failed, used).as_deref(), Some(FAILED));
}

#[test]
fn a_run_whose_name_was_used_is_no_failure_as_the_earlier_one_has_sent_the_e_mails() {
    let mut world = notified(RunState::Failed);
    world.notification[0].asked = None;
    world.pass();
    assert_eq!(stalled(&world), None);
}

#[test]
fn runs_are_looked_at_in_the_order_of_their_creation() {
    // Listed by name: the retry of what the later run has left comes first.
    let mut runs = november((EVERYTHING, RunState::Failed), &[(EVERYTHING, RunState::Partly)]);
    let retry = run("again", month(NOV), time("2026-12-03T00:00:00Z"), RunState::Succeeded);
    runs.insert(0, ExistingRun { asked: Some(of(Select::Failed)), ..retry });
    assert_eq!(problem_of(&runs), None);
}

/// The schedule has billed and e-mailed November; the state of its notification is then set.
fn notified(state: RunState) -> World {
    let mut world = World::new("Asia/Seoul", "2026-11-15T00:00:00Z").with_notification();
    world.settle_at("2026-12-01T00:00:00Z");
    world.notification[0].state = state;
    world.pass();
    world
}

fn stalled(world: &World) -> Option<(String, String)> {
    world.condition("Stalled").map(|(_, reason, message)| (reason, message))
}

#[test]
fn a_failed_notification_stalls_the_schedule_until_it_is_settled() {
    for (state, words, again) in
        [(RunState::Failed, FAILED, Select::Ready), (RunState::Partly, PARTLY, Select::Failed)]
    {
        let mut world = notified(state);
        let message = format!("{words}; the schedule does not send them by itself");
        assert_eq!(stalled(&world), Some(("NotificationFailed".to_owned(), message)));
        assert_eq!(world.condition("Ready").unwrap().0, "False");
        // Later months are billed and e-mailed in any case.
        world.settle_at("2027-01-01T00:00:00Z");
        assert_eq!(world.notified, months(&["2026-11", "2026-12"]));
        assert!(stalled(&world).is_some());
        let retry = run("retry-2026-11-1", month(NOV), world.now, RunState::Succeeded);
        world.notification.push(ExistingRun { asked: Some(of(again)), ..retry });
        world.pass();
        assert_eq!(stalled(&world), None);
        assert_eq!(world.condition("Ready").unwrap().0, "True");
    }
}

#[test]
fn a_failed_notification_that_is_deleted_says_nothing_more() {
    let mut world = notified(RunState::Failed);
    world.notification.clear();
    assert!(!world.pass());
    assert_eq!(stalled(&world), None);
}

#[test]
fn e_mails_that_are_about_to_be_asked_for_are_not_missed() {
    let mut world = notified(RunState::Succeeded);
    world.now = time("2027-01-01T00:00:00Z");
    world.pass();
    world.end_runs();
    assert!(world.pass(), "the notification is created");
    assert_eq!(stalled(&world), None);
    // It is not created again before it has begun.
    assert!(!world.pass());
    world.end_runs();
    // Its time to live is over.
    world.notification.clear();
    world.now = time("2027-02-02T00:00:00Z");
    world.settle();
    assert_eq!(stalled(&world), None);
}

#[test]
fn the_e_mails_of_a_month_that_is_not_live_are_no_matter() {
    let mut world = notified(RunState::Failed);
    let back = MonthRecord { live: false, rolled_back: true, ..issued(month(NOV)) };
    world.months.insert(month(NOV), back);
    world.pass();
    let (reason, message) = stalled(&world).unwrap();
    assert_eq!(reason, "MonthsMissed");
    assert!(!message.contains("e-mail"), "{message}");
}

#[test]
fn months_that_are_not_billed_come_before_those_that_are_not_emailed() {
    let mut world = notified(RunState::Failed);
    world.now = time("2027-01-01T00:00:00Z");
    world.pass();
    world.billing.last_mut().unwrap().state = RunState::Failed;
    world.pass();
    let expected = format!(
        "2026-12 is not billed: see BillingRun close-2026-12; the schedule does not bill them by itself: bill each with a \
         BillingRun of another name. {FAILED}; the schedule does not send them by itself"
    );
    assert_eq!(stalled(&world), Some(("MonthsMissed".to_owned(), expected)));
}

#[test]
fn a_suspended_schedule_still_says_what_was_not_sent() {
    let mut world = notified(RunState::Partly);
    world.schedule.spec.suspend = true;
    world.pass();
    assert_eq!(stalled(&world).unwrap().0, "NotificationFailed");
}

#[test]
fn the_table_of_wrong_uses_has_these_words() {
    let table = include_str!("../../../../docs/wrong-uses.md");
    for words in [FAILED, PARTLY] {
        assert!(table.contains(&format!("`{words}; the schedule does not send them by itself`")), "{words}");
    }
    let mut world = notified(RunState::Succeeded);
    world.billing.clear();
    world.months.clear();
    let mut said = Vec::new();
    world.pass();
    said.push(stalled(&world).unwrap().1);
    let failed = run("close-2026-11", month(NOV), world.now, RunState::Failed);
    world.billing.push(failed);
    world.pass();
    said.push(stalled(&world).unwrap().1);
    assert!(said[0].starts_with("2026-11 is not billed and has no run; "), "{}", said[0]);
    assert!(table.contains("`2026-11 is not billed and has no run; …`"));
    assert!(table.contains(&format!("`{}`", said[1])), "{}", said[1]);
}

#[test]
fn bills_that_stay_without_a_notification_are_named() {
    const DEC: &str = "2026-12";
    // The notification of December was refused for longer than the schedule tries.
    let never_made = || {
        let mut world = notified(RunState::Succeeded);
        world.settle_at("2027-01-02T00:00:00Z");
        world.notification.retain(|run| run.month != Some(month(DEC)));
        world.months.get_mut(&month(DEC)).unwrap().notified = false;
        // January is caught up on, and December no longer.
        world.now = time("2027-02-02T00:00:00Z");
        world
    };
    let message = "2026-12 is not e-mailed and has no NotificationRun: create one (kubectl monthend notify 2026-12); \
                   the schedule does not send them by itself";
    let after = |change: fn(&mut World)| {
        let mut world = never_made();
        change(&mut world);
        world.settle();
        stalled(&world)
    };
    assert_eq!(after(|_| ()), Some(("NotificationFailed".to_owned(), message.to_owned())));
    // A person has e-mailed them.
    let by_hand = |world: &mut World, asked: Asked| {
        let sent = run("by-hand", month(DEC), world.now, RunState::Succeeded);
        world.notification.push(ExistingRun { asked: Some(asked), ..sent });
    };
    let sent = |asked: Asked| {
        let mut world = never_made();
        by_hand(&mut world, asked);
        world.settle();
        stalled(&world)
    };
    assert_eq!(sent(EVERYTHING), None);
    for asked in [rehearsed(Select::Ready), scoped(Select::Ready), of(Select::Corrected)] {
        assert!(sent(asked.clone()).is_some(), "{asked:?}");
    }
    // It can still be made.
    assert_eq!(after(|world| world.months.get_mut(&month(DEC)).unwrap().issued_at = Some(world.now)), None);
    assert_eq!(after(|world| world.schedule.spec.catch_up_months = 2), None);
    // Nobody wants e-mails any more, or not yet at that time.
    assert_eq!(after(|world| world.schedule.spec.notification = None), None);
    assert_eq!(after(|world| world.months.get_mut(&month(NOV)).unwrap().notified = false), None);
    // A person has billed the month, and e-mails it.
    assert_eq!(after(|world| world.months.get_mut(&month(DEC)).unwrap().issued_at = None), None);
}
