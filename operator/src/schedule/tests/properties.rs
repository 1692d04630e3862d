//! Whatever happens to operators, clocks and objects, a month gets one run.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;
use crate::schedule::cron::Firings;

/// What happens between two looks at the schedule.
#[derive(Debug, Clone)]
struct Step {
    /// How long no operator looked.
    hours: i64,
    /// A second operator decides on the same observation, and acts later.
    interleaved: bool,
    /// Finished runs are deleted, as by their time to live.
    runs_lost: bool,
    /// The cluster's copy of the status is lost.
    status_lost: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let hours = prop_oneof![0..30_i64, 500..800_i64, 800..3000_i64];
    (hours, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(hours, interleaved, runs_lost, status_lost)| Step { hours, interleaved, runs_lost, status_lost },
    )
}

/// The months that were due after the schedule's creation.
fn due(world: &World, created: Timestamp) -> Vec<BillingMonth> {
    let firings = Firings::new(&world.schedule.spec.schedule, &world.zone, created).unwrap();
    let times = std::iter::successors(firings.after(created), |at| firings.after(*at));
    let mut due: Vec<BillingMonth> =
        times.take_while(|at| *at <= world.now).filter_map(|at| firings.billed_at(at)).collect();
    due.dedup();
    due
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_month_that_is_caught_up_on_gets_exactly_one_run(
        zone in prop::sample::select(vec!["Asia/Seoul", "America/New_York", "Pacific/Apia"]),
        schedule in prop::sample::select(vec!["0 2 1 * *", "30 2 8-14 * *", "59 23 31 * *", "0 0 * * 0"]),
        catch_up in 1..4_i32,
        steps in prop::collection::vec(step(), 1..14),
    ) {
        let mut world = World::new(zone, "2026-01-20T00:00:00Z").with_notification().catching_up(catch_up);
        world.schedule.spec.schedule = schedule.to_owned();
        let created = world.now;
        let mut expected = BTreeSet::new();
        for step in steps {
            world.now = world.now.checked_add(SignedDuration::from_hours(step.hours)).unwrap();
            let due = due(&world, created);
            expected.extend(due.iter().rev().take(usize::try_from(catch_up).unwrap()).copied());
            if step.interleaved {
                let late = decide(&world.schedule, &world.observed());
                world.settle();
                if let Next::Apply(action) = late.next {
                    world.apply(action);
                }
            }
            world.settle();
            if step.runs_lost {
                world.billing.retain(|run| !run.state.is_finished());
                world.notification.retain(|run| !run.state.is_finished());
            }
            if step.status_lost {
                world.schedule.status = None;
            }
        }
        let mut billed = world.billed.clone();
        prop_assert!(billed.is_sorted(), "{billed:?}");
        billed.dedup();
        prop_assert_eq!(&billed, &world.billed, "a month has two runs");
        prop_assert_eq!(billed, expected.into_iter().collect::<Vec<_>>());
        let mut notified = world.notified.clone();
        notified.sort();
        prop_assert_eq!(&notified, &world.billed);
    }
}
