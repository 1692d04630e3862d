//! The rules, one by one.

use super::*;

#[test]
fn a_year_is_billed_month_by_month() {
    for zone in ["Asia/Seoul", "America/New_York"] {
        let mut world = World::new(zone, "2026-11-15T00:00:00Z").with_notification();
        world.settle();
        assert_eq!(world.billed, []);
        let mut expected = Vec::new();
        let mut next = month("2026-11");
        for _ in 0..12 {
            let at = world.schedule.status.as_ref().unwrap().next_time.clone().unwrap().0;
            world.now = at.checked_sub(jiff::SignedDuration::from_secs(1)).unwrap();
            world.settle();
            assert_eq!(world.billed, expected, "{zone}: too early");
            world.now = at;
            world.settle();
            expected.push(next);
            assert_eq!((&world.billed, &world.notified), (&expected, &expected), "{zone}");
            next = next.next().unwrap();
        }
        let status = world.schedule.status.unwrap();
        assert_eq!(status.last_month.as_deref(), Some("2027-10"));
        assert_eq!(status.active, Vec::<String>::new());
    }
}

#[test]
fn a_new_schedule_bills_nothing_of_the_past() {
    let mut world = World::new("Asia/Seoul", "2026-11-15T00:00:00Z").catching_up(24);
    world.settle_at("2026-11-30T16:59:59Z");
    assert_eq!(world.billed, []);
    assert_eq!(world.condition("Ready").unwrap().2, "the next run bills 2026-11");
    world.settle_at("2026-11-30T17:00:00Z");
    assert_eq!(world.billed, months(&["2026-11"]));
}

#[test]
fn a_schedule_that_was_lost_and_came_back_goes_on_after_its_last_month() {
    // The cluster was restored on the 3rd, and the 1st had passed.
    let mut world = World::new("Asia/Seoul", "2027-02-03T00:00:00Z").catching_up(2);
    world.months.insert(month("2026-11"), issued(month("2026-11")));
    world.settle();
    assert_eq!(world.billed, months(&["2026-12", "2027-01"]));
}

#[test]
fn the_last_months_are_caught_up_on_one_after_the_other() {
    let mut world = World::new("Asia/Seoul", "2026-11-15T00:00:00Z").catching_up(2);
    world.now = time("2027-03-05T00:00:00Z");
    assert!(world.pass());
    assert_eq!(world.billed, months(&["2027-01"]));
    assert!(!world.pass(), "the run of the month before works");
    world.end_runs();
    assert!(world.pass());
    assert_eq!(world.billed, months(&["2027-01", "2027-02"]));
    world.settle();
    assert_eq!(world.billed.len(), 2);
    world.assert_stalled("2026-12 is not billed and has no run; 2026-11 is not billed and has no run");
}

#[test]
fn without_catching_up_a_month_is_billed_at_its_time_only() {
    for (now, billed) in [("2026-11-30T17:09:00Z", vec![month("2026-11")]), ("2026-11-30T17:11:00Z", vec![])]
    {
        let mut world = World::new("Asia/Seoul", "2026-11-15T00:00:00Z").catching_up(0);
        world.settle_at(now);
        assert_eq!(world.billed, billed, "{now}");
    }
}

#[test]
fn a_month_that_a_person_bills_is_left_alone() {
    // Live already.
    let mut world = World::new("Asia/Seoul", "2026-11-15T00:00:00Z");
    let by_a_person = MonthRecord { by_schedule: false, ..issued(month("2026-11")) };
    world.months.insert(month("2026-11"), by_a_person.clone());
    world.settle_at("2026-12-01T00:00:00Z");
    assert_eq!(world.billed, []);
    assert!(world.condition("Stalled").is_none());
    // Being billed, by a run in the cluster, or by one that only the database has.
    for in_cluster in [true, false] {
        let mut world = World::new("Asia/Seoul", "2026-11-15T00:00:00Z");
        let draft = MonthRecord { live: false, draft: true, ..by_a_person.clone() };
        world.months.insert(month("2026-11"), draft);
        if in_cluster {
            world.billing.push(run("by-hand", month("2026-11"), world.now, RunState::Waiting));
        }
        world.now = time("2026-12-01T00:00:00Z");
        assert!(!world.pass());
        assert!(world.condition("Stalled").is_none());
        // It was rejected, so the month is the schedule's again.
        world.billing.clear();
        world.months.clear();
        world.settle();
        assert_eq!(world.billed, months(&["2026-11"]));
    }
}

#[test]
fn a_run_of_the_name_is_left_alone_whoever_made_it() {
    let mut world = World::new("Asia/Seoul", "2026-11-15T00:00:00Z");
    world.apply(Action::Create { kind: RunKindName::Billing, month: month("2026-11") });
    world.billing[0].owner = None;
    world.billing[0].state = RunState::Failed;
    world.now = time("2026-12-01T00:00:00Z");
    assert!(!world.pass());
    world.assert_stalled("2026-11 is not billed: see BillingRun close-2026-11");
}

#[test]
fn a_run_that_issues_while_it_is_looked_at_has_not_failed() {
    let mut world = World::new("Asia/Seoul", "2026-11-15T00:00:00Z");
    world.settle_at("2026-12-01T00:00:00Z");
    let draft = MonthRecord { live: false, draft: true, issued_at: None, ..issued(month("2026-11")) };
    world.months.insert(month("2026-11"), draft);
    world.billing[0].state = RunState::Succeeded;
    assert!(!world.pass());
    assert_ne!(world.condition("Stalled").map(|(status, ..)| status), Some("True".into()));
    world.months.insert(month("2026-11"), issued(month("2026-11")));
    assert!(!world.pass());
    assert_eq!(world.condition("Ready").unwrap().0, "True");
}

#[test]
fn a_month_is_not_billed_again_by_itself() {
    let at = "2026-12-05T00:00:00Z";
    let mut world = World::new("Asia/Seoul", "2026-11-15T00:00:00Z");
    world.settle_at(at);
    // Its run failed.
    world.months.clear();
    world.billing[0].state = RunState::Failed;
    assert!(!world.pass());
    world.assert_stalled(
        "2026-11 is not billed: see BillingRun close-2026-11; the schedule does not bill them",
    );
    // The failed run is deleted, before or after it had a revision.
    world.billing.clear();
    assert!(!world.pass());
    world.assert_stalled("2026-11 is not billed and has no run");
    world.schedule.status = None;
    let rejected = MonthRecord { live: false, ..issued(month("2026-11")) };
    world.months.insert(month("2026-11"), rejected.clone());
    assert!(!world.pass());
    world.assert_stalled("2026-11 is not billed and has no run");
    // Its revision was rolled back.
    world.months.insert(month("2026-11"), MonthRecord { rolled_back: true, ..rejected });
    assert!(!world.pass());
    world.assert_stalled("2026-11 was rolled back");
    // A person bills it.
    world.months.insert(month("2026-11"), MonthRecord { rolled_back: true, ..issued(month("2026-11")) });
    assert!(!world.pass());
    assert!(world.condition("Stalled").is_none());
    assert_eq!(world.billed.len(), 1);
}

#[test]
fn a_run_that_waits_for_a_person_does_not_hold_the_next_month() {
    let mut world = World::new("Asia/Seoul", "2026-11-15T00:00:00Z");
    world.now = time("2026-12-05T00:00:00Z");
    world.pass();
    world.billing[0].state = RunState::Waiting;
    // It has a draft by now.
    let draft = MonthRecord { live: false, draft: true, ..issued(month("2026-11")) };
    world.months.insert(month("2026-11"), draft);
    world.now = time("2027-01-05T00:00:00Z");
    world.pass();
    assert_eq!(world.billed, months(&["2026-11", "2026-12"]));
}

#[test]
fn a_draft_whose_run_is_not_in_the_cluster_holds_the_next_month_beside_finished_runs() {
    let mut world = World::new("Asia/Seoul", "2026-11-15T00:00:00Z");
    let draft = MonthRecord { live: false, draft: true, by_schedule: false, ..issued(month("2026-11")) };
    world.months.insert(month("2026-11"), draft);
    world.billing.push(run("failed-before", month("2026-11"), world.now, RunState::Failed));
    world.now = time("2026-12-05T00:00:00Z");
    assert!(!world.pass());
    assert!(world.condition("Stalled").is_none());
}

#[test]
fn a_month_that_is_about_to_be_billed_is_not_missed() {
    let mut world = World::new("Asia/Seoul", "2026-11-15T00:00:00Z");
    world.now = time("2026-12-01T00:00:00Z");
    assert!(world.pass());
    assert_eq!(world.condition("Stalled"), None);
    assert_eq!(world.condition("Ready").unwrap().2, "the next run bills 2026-12");
}

#[test]
fn only_the_latest_missed_months_are_named() {
    let mut world = World::new("Asia/Seoul", "2026-01-15T00:00:00Z");
    world.schedule.spec.suspend = true;
    world.now = time("2026-11-05T00:00:00Z");
    world.settle();
    let named = ["2026-09", "2026-08", "2026-07", "2026-06", "2026-05", "2026-04"];
    let named = named.map(|month| format!("{month} is not billed and has no run")).join("; ");
    world.assert_stalled(&format!("{named}; and 3 earlier months; the schedule does not bill them"));
}

#[test]
fn the_status_names_the_schedules_own_unfinished_runs_of_both_kinds() {
    let mut world = World::new("Asia/Seoul", "2026-11-15T00:00:00Z").with_notification();
    world.settle_at("2026-12-01T00:00:00Z");
    world.billing.push(run("by-hand", month("2026-12"), world.now, RunState::Working));
    world.notification[0].state = RunState::Working;
    world.now = time("2027-01-05T00:00:00Z");
    world.billing.last_mut().unwrap().state = RunState::Waiting;
    world.apply(Action::Create { kind: RunKindName::Billing, month: month("2026-12") });
    world.pass();
    let status = world.schedule.status.as_ref().unwrap();
    assert_eq!(status.active, ["BillingRun/close-2026-12", "NotificationRun/close-2026-11"]);
}

#[test]
fn the_last_month_is_remembered_by_runs_by_the_status_and_by_the_database() {
    let last_month = |keep: &str| {
        let mut world = World::new("Asia/Seoul", "2026-11-15T00:00:00Z");
        world.now = time("2026-12-01T00:00:00Z");
        world.pass();
        if keep != "run" {
            world.end_runs();
            world.billing.clear();
        }
        if keep != "database" {
            world.months.clear();
        }
        if keep == "status" {
            world.pass();
        } else {
            world.schedule.status = None;
        }
        assert!(!world.pass(), "{keep}");
        world.schedule.status.unwrap().last_month
    };
    for keep in ["run", "database", "status"] {
        assert_eq!(last_month(keep).as_deref(), Some("2026-11"), "{keep}");
    }
    // That of another schedule says nothing of this one.
    let mut world = World::new("Asia/Seoul", "2026-11-15T00:00:00Z");
    let other = run("other-2026-11", month("2026-11"), world.now, RunState::Failed);
    world.billing.push(ExistingRun { owner: Some("another".to_owned()), ..other });
    world.pass();
    assert_eq!(world.schedule.status.unwrap().last_month, None);
}

#[test]
fn a_notification_is_made_once_the_schedules_own_run_has_issued_the_bills() {
    let mut world = World::new("Asia/Seoul", "2026-11-15T00:00:00Z").with_notification();
    world.now = time("2026-12-05T00:00:00Z");
    world.pass();
    assert!(!world.pass(), "the month is not live");
    world.end_runs();
    // The billing run's time to live is over.
    world.billing.clear();
    world.settle();
    assert_eq!(world.notified, months(&["2026-11"]));
    // So is the notification's.
    world.notification.clear();
    world.settle();
    assert_eq!(world.notified.len(), 1);
    // A month that a person has billed is a person's to e-mail.
    let mut world = World::new("Asia/Seoul", "2026-11-15T00:00:00Z").with_notification();
    let by_a_person = MonthRecord { by_schedule: false, ..issued(month("2026-11")) };
    world.months.insert(month("2026-11"), by_a_person);
    world.settle_at("2026-12-05T00:00:00Z");
    assert_eq!(world.notified, []);
}

#[test]
fn a_notification_that_is_added_later_does_not_email_old_bills() {
    let mut world = World::new("Asia/Seoul", "2026-11-15T00:00:00Z");
    for at in ["2026-12-05T00:00:00Z", "2027-01-05T00:00:00Z", "2027-02-05T00:00:00Z"] {
        world.settle_at(at);
    }
    let mut world = world.with_notification();
    world.settle_at("2027-02-20T00:00:00Z");
    assert_eq!(world.notified, months(&["2027-01"]));
}

#[test]
fn bills_that_are_approved_after_the_next_time_are_emailed() {
    let mut world = World::new("Asia/Seoul", "2026-11-15T00:00:00Z").with_notification();
    world.now = time("2026-12-05T00:00:00Z");
    world.pass();
    world.billing[0].state = RunState::Waiting;
    world.settle_at("2027-01-02T00:00:00Z");
    assert_eq!(world.notified, months(&["2026-12"]));
    world.billing[0].state = RunState::Working;
    world.settle();
    assert_eq!(world.notified, months(&["2026-12", "2026-11"]));
}

#[test]
fn a_suspended_schedule_creates_nothing_and_catches_up_after_it() {
    let mut world = World::new("Asia/Seoul", "2026-11-15T00:00:00Z").with_notification();
    world.schedule.spec.suspend = true;
    world.settle_at("2027-02-05T00:00:00Z");
    assert_eq!(world.billed, []);
    assert_eq!(world.schedule.status.as_ref().unwrap().next_time, None);
    assert_eq!(world.condition("Suspended").unwrap().0, "True");
    assert_eq!(world.condition("Ready").unwrap().1, "MonthsMissed");
    world.schedule.spec.suspend = false;
    world.settle();
    assert_eq!(world.billed, months(&["2027-01"]));
    assert_eq!(world.condition("Suspended"), None);
}

#[test]
fn a_schedule_that_is_suspended_before_its_time_says_so_and_sends_nothing() {
    let mut world = World::new("Asia/Seoul", "2026-11-15T00:00:00Z").with_notification();
    world.schedule.spec.suspend = true;
    world.pass();
    let (status, reason, _) = world.condition("Ready").unwrap();
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Suspended"));
    assert_eq!(world.condition("Stalled"), None);
    // Its run issues the bills while it is suspended.
    world.schedule.spec.suspend = false;
    world.now = time("2026-12-01T00:00:00Z");
    world.pass();
    world.schedule.spec.suspend = true;
    world.settle();
    assert_eq!((world.billed.len(), world.notified.len()), (1, 0));
}

#[test]
fn a_run_that_is_being_deleted_is_not_deleted_again() {
    let mut world = World::new("Asia/Seoul", "2026-11-15T00:00:00Z");
    world.schedule.spec.history_limits.succeeded = 0;
    world.now = time("2026-12-01T00:00:00Z");
    world.pass();
    world.end_runs();
    world.billing[0].deleting = true;
    assert!(!world.pass());
    world.billing[0].deleting = false;
    assert!(world.pass());
    assert_eq!(world.deleted, ["close-2026-11"]);
}

#[test]
fn finished_runs_beyond_the_limits_are_deleted_the_oldest_first() {
    let mut world = World::new("Asia/Seoul", "2026-01-15T00:00:00Z").with_notification();
    world.schedule.spec.history_limits.succeeded = 2;
    world.schedule.spec.history_limits.failed = 1;
    for month in 2..=6 {
        world.settle_at(&format!("2026-{month:02}-05T00:00:00Z"));
    }
    let left = |runs: &[ExistingRun]| -> Vec<String> { runs.iter().map(|run| run.name.clone()).collect() };
    assert_eq!(left(&world.billing), ["close-2026-04", "close-2026-05"]);
    assert_eq!(left(&world.notification), ["close-2026-04", "close-2026-05"]);
    // Those of others are left alone.
    for run in &mut world.billing {
        run.state = RunState::Failed;
    }
    world.billing[0].owner = Some("another".to_owned());
    world.deleted.clear();
    world.settle();
    assert_eq!(world.deleted, Vec::<String>::new());
    world.billing[0].owner = Some(UID.to_owned());
    world.settle();
    assert_eq!(world.deleted, ["close-2026-04"]);
    assert_eq!(world.billed.len(), 5);
}

#[test]
fn a_schedule_that_cannot_fire_is_stalled() {
    let mut world = World::new("Asia/Seoul", "2026-11-15T00:00:00Z");
    world.schedule.spec.schedule = "0 2 30 2 *".to_owned();
    world.now = time("2027-03-05T00:00:00Z");
    let decision = world.decide();
    assert_eq!(decision.next, Next::AwaitChange);
    world.schedule.status = Some(decision.status);
    let (status, reason, message) = world.condition("Stalled").unwrap();
    assert_eq!((status.as_str(), reason.as_str()), ("True", "ScheduleInvalid"));
    assert_eq!(message, "spec.schedule `0 2 30 2 *` never fires: name a day that exists");
}

#[test]
fn without_the_database_nothing_is_decided() {
    let mut world = World::new("Asia/Seoul", "2026-11-15T00:00:00Z");
    world.settle_at("2026-12-05T00:00:00Z");
    let before = world.schedule.status.clone().unwrap();
    let observed = Observed { database: Err("it is away".to_owned()), ..world.observed() };
    let decision = decide(&world.schedule, &observed);
    assert_eq!(decision.next, Next::BackOff);
    world.schedule.status = Some(decision.status);
    let (status, reason, message) = world.condition("Reconciling").unwrap();
    assert_eq!((status.as_str(), reason.as_str()), ("True", "DatabaseUnavailable"));
    assert_eq!(message, "it is away; the schedule goes on as soon as the database answers");
    assert_eq!(world.schedule.status.unwrap().last_month, before.last_month);
}

#[test]
fn the_next_look_is_soon_and_not_after_the_next_time() {
    let mut world = World::new("Asia/Seoul", "2026-11-15T00:00:00Z");
    let wait = |world: &World| match world.decide().next {
        Next::RequeueAfter(wait) => wait.as_secs(),
        other => panic!("{other:?}"),
    };
    assert_eq!(wait(&world), 60);
    world.now = time("2026-11-30T16:59:40Z");
    assert_eq!(wait(&world), 20);
}

#[test]
fn a_schedule_that_is_being_deleted_does_nothing() {
    let mut world = World::new("Asia/Seoul", "2026-11-15T00:00:00Z");
    world.now = time("2026-12-05T00:00:00Z");
    world.schedule.metadata.deletion_timestamp = Some(Time(world.now));
    assert_eq!(world.decide().next, Next::AwaitChange);
}
