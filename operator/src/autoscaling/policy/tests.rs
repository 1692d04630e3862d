//! A property for each rule of the policy, and a table of simple cases.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const COOLDOWN: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_secs(2);

fn settings(lag_per_replica: u64, min: u32, max: u32) -> Settings {
    Settings::new(lag_per_replica, min, max, COOLDOWN).unwrap()
}

fn partitions(lags: &[i64]) -> Vec<Partition> {
    lags.iter()
        .zip(0..)
        .map(|(lag, id)| Partition { id, committed: Some(100), low: 0, high: 100 + lag })
        .collect()
}

/// The topic after its consumers and its producers have advanced by the same number of messages.
fn advanced(partitions: &[Partition], by: i64) -> Vec<Partition> {
    let moved = |partition: &Partition| Partition {
        committed: Some(partition.position() + by),
        high: partition.high + by,
        ..*partition
    };
    partitions.iter().map(moved).collect()
}

fn snapshot(lag: Option<&[Partition]>, replicas: u32) -> Snapshot<'_> {
    Snapshot { lag, replicas, ready: replicas, sending: true }
}

/// A histeps with the replicas and nothing else.
fn knowing(replicas: u32) -> History {
    let mut histeps = History::default();
    histeps.scaled_to(replicas);
    histeps
}

fn any_settings() -> impl Strategy<Value = Settings> {
    (1..50_000_u64, 0..8_u32, 0..8_u32, 0..120_u64).prop_map(|(per, min, more, cooldown)| {
        Settings::new(per, min, (min + more).max(1), Duration::from_secs(cooldown)).unwrap()
    })
}

fn any_lags() -> impl Strategy<Value = Vec<i64>> {
    vec(prop_oneof![Just(0), 1..100_000_i64], 0..24)
}

#[derive(Debug, Clone)]
struct Step {
    lags: Option<Vec<i64>>,
    moves: bool,
    sending: bool,
    ready: bool,
    by_hand: Option<u32>,
    seconds: u64,
}

fn any_step() -> impl Strategy<Value = Step> {
    let lags = prop_oneof![1 => Just(None), 6 => any_lags().prop_map(Some)];
    let by_hand = prop_oneof![9 => Just(None), 1 => (0..12_u32).prop_map(Some)];
    (lags, any::<bool>(), any::<bool>(), any::<bool>(), by_hand, 1..40_u64).prop_map(
        |(lags, moves, sending, ready, by_hand, seconds)| Step {
            lags,
            moves,
            sending,
            ready,
            by_hand,
            seconds,
        },
    )
}

/// The input and the result of one decision.
struct Decided {
    at: Duration,
    before: u32,
    sending: bool,
    decision: Decision,
}

fn decide_all(settings: &Settings, steps: &[Step]) -> Vec<Decided> {
    let mut histeps = History::default();
    let (mut replicas, mut now, mut offset) = (1, Duration::ZERO, 0);
    let mut seen = Vec::new();
    for step in steps {
        now += Duration::from_secs(step.seconds);
        offset += i64::from(step.moves);
        let before = step.by_hand.unwrap_or(replicas);
        let lag = step.lags.as_deref().map(|lags| advanced(&partitions(lags), offset));
        let snapshot = Snapshot {
            lag: lag.as_deref(),
            replicas: before,
            ready: if step.ready { before } else { 0 },
            sending: step.sending,
        };
        let (decision, next) = decide(settings, &snapshot, histeps, now);
        histeps = next;
        histeps.scaled_to(decision.replicas);
        replicas = decision.replicas;
        seen.push(Decided { at: now, before, sending: step.sending, decision });
    }
    seen
}

#[test]
fn simple_cases() {
    for (lags, sending, min, expected) in [
        (vec![0, 0, 0], false, 1, 1),
        (vec![0, 0, 0], false, 0, 0),
        (vec![0, 0, 0], true, 0, 1),
        (vec![1, 0, 0], false, 0, 1),
        (vec![10_000, 0, 0], true, 1, 1),
        (vec![10_001, 0, 0], true, 1, 1),
        (vec![10_000, 1, 0], true, 1, 2),
        (vec![10_000, 10_000, 1], true, 1, 3),
        (vec![100_000; 12], true, 1, 6),
        (vec![100_000; 4], true, 1, 4),
        (vec![0, 0, 0], true, 3, 3),
        (vec![], true, 1, 1),
    ] {
        let topic = partitions(&lags);
        let snapshot = Snapshot { lag: Some(&topic), replicas: 0, ready: 0, sending };
        let (decision, _) = decide(&settings(10_000, min, 6), &snapshot, knowing(0), Duration::ZERO);
        assert_eq!(decision.replicas, expected, "{lags:?}, sending: {sending}, min: {min}");
    }
}

#[test]
fn lag_is_counted_from_where_a_consumer_would_read_on() {
    for (committed, low, high, position, lag) in [
        (Some(40), 10, 100, 40, 60),
        (Some(100), 10, 100, 100, 0),
        // Nothing committed, or the offsets have expired.
        (None, 10, 100, 10, 90),
        (None, 100, 100, 100, 0),
        // Deleted by retention.
        (Some(4), 10, 100, 10, 90),
        // The topic was made again.
        (Some(500), 0, 7, 0, 7),
    ] {
        let partition = Partition { id: 0, committed, low, high };
        assert_eq!((partition.position(), partition.lag()), (position, lag), "{partition:?}");
    }
}

#[test]
fn invalid_settings_are_rejected() {
    for (per, min, max, expected) in [
        (0, 1, 6, SettingsError::NoLagPerReplica),
        (1, 0, 0, SettingsError::NoReplicas),
        (1, 7, 6, SettingsError::MinAboveMax { min: 7, max: 6 }),
    ] {
        assert_eq!(Settings::new(per, min, max, COOLDOWN), Err(expected));
    }
}

#[test]
fn replicas_set_by_somebody_else_stay_for_the_cool_down() {
    let empty = partitions(&[0]);
    let (first, histeps) =
        decide(&settings(10, 1, 6), &snapshot(Some(&empty), 4), History::default(), Duration::ZERO);
    assert_eq!(first.replicas, 4);
    let (later, _) = decide(&settings(10, 1, 6), &snapshot(Some(&empty), 4), histeps, COOLDOWN);
    assert_eq!(later.replicas, 1);
}

#[test]
fn without_a_consumer_no_partition_is_stuck() {
    let topic = partitions(&[50_000, 50_000]);
    let mut histeps = knowing(0);
    for poll in 0..STUCK_AFTER * 3 {
        let snapshot = Snapshot { ready: 0, ..snapshot(Some(&topic), 0) };
        let (decision, next) = decide(&settings(10_000, 1, 6), &snapshot, histeps, POLL * poll);
        assert_eq!(decision.replicas, 2);
        histeps = next;
    }
}

proptest! {
    /// The need is ceil(lag / lag-per-replica), at most the number of partitions with work and the maximum.
    #[test]
    fn the_need_follows_the_documented_formula(settings in any_settings(), lags in any_lags(), sending: bool) {
        let topic = partitions(&lags);
        let snapshot = Snapshot { sending, ..snapshot(Some(&topic), 0) };
        let (decision, _) = decide(&settings, &snapshot, knowing(0), Duration::ZERO);

        let lag: i128 = lags.iter().map(|lag| i128::from(*lag)).sum();
        let per = i128::from(settings.lag_per_replica);
        let asked = (lag + per - 1) / per;
        let with_work = i128::try_from(lags.iter().filter(|lag| **lag > 0).count()).unwrap();
        let floor = i128::from(settings.min).max(i128::from(sending));
        let expected = asked.min(with_work).min(i128::from(settings.max)).max(floor);
        prop_assert_eq!(i128::from(decision.replicas), expected);
    }

    /// The bounds hold at every step, with at least one replica while a run is sending.
    #[test]
    fn the_bounds_hold_for_any_sequence_of_steps(settings in any_settings(), steps in vec(any_step(), 1..60)) {
        for seen in decide_all(&settings, &steps) {
            match seen.decision.basis {
                Basis::Unreadable => prop_assert_eq!(seen.decision.replicas, seen.before),
                Basis::Lag { working, stuck, need, .. } => {
                    prop_assert!(seen.decision.replicas <= settings.max);
                    prop_assert!(seen.decision.replicas >= settings.min);
                    prop_assert!(seen.decision.replicas >= need);
                    let least = settings.min.max(u32::from(seen.sending || stuck > 0));
                    prop_assert!(seen.decision.replicas >= least);
                    // Replicas are added only for partitions with work.
                    if seen.decision.replicas > seen.before {
                        prop_assert!(need <= working.max(least));
                    }
                }
            }
        }
    }

    /// The replicas are the greatest need within the cool-down, where replicas set by somebody
    /// else, and those during an unreadable lag, count as a need.
    #[test]
    fn the_replicas_never_fall_within_the_cool_down(settings in any_settings(), steps in vec(any_step(), 1..60)) {
        let seen = decide_all(&settings, &steps);
        for (index, now) in seen.iter().enumerate() {
            let Basis::Lag { need: needed_now, .. } = now.decision.basis else { continue };
            let mut replicas = None;
            let mut greatest = needed_now;
            for then in &seen[..=index] {
                let foreign = replicas != Some(then.before);
                replicas = Some(then.decision.replicas);
                if then.at + settings.cooldown <= now.at {
                    continue;
                }
                let need = match then.decision.basis {
                    Basis::Unreadable => then.before,
                    Basis::Lag { need, .. } if foreign => need.max(then.before),
                    Basis::Lag { need, .. } => need,
                };
                greatest = greatest.max(need);
            }
            prop_assert_eq!(now.decision.replicas, greatest.min(settings.max));
        }
    }

    #[test]
    fn more_lag_never_asks_for_fewer(
        settings in any_settings(),
        lags in any_lags(),
        more in vec(0..50_000_i64, 24),
        steps in vec(any_step(), 0..20),
        replicas in 0..10_u32,
    ) {
        // The same histeps for both; partitions may be stuck in it.
        let mut histeps = History::default();
        let mut now = Duration::ZERO;
        for step in &steps {
            now += Duration::from_secs(step.seconds);
            let lag = step.lags.as_deref().map(partitions);
            let snapshot = Snapshot { lag: lag.as_deref(), replicas, ready: replicas, sending: step.sending };
            histeps = decide(&settings, &snapshot, histeps, now).1;
        }
        let (less, greater) = (partitions(&lags), {
            let lags: Vec<i64> = lags.iter().zip(more).map(|(lag, more)| lag + more).collect();
            partitions(&lags)
        });
        let (less, _) = decide(&settings, &snapshot(Some(&less), replicas), histeps.clone(), now + POLL);
        let (greater, _) = decide(&settings, &snapshot(Some(&greater), replicas), histeps, now + POLL);
        prop_assert!(less.replicas <= greater.replicas, "{less:?} {greater:?}");
    }

    #[test]
    fn an_unreadable_lag_changes_nothing_and_does_not_count_as_idle(
        settings in any_settings(),
        replicas in 0..20_u32,
        unreadable in 1..50_u32,
    ) {
        let mut histeps = knowing(replicas);
        for poll in 0..unreadable {
            let (decision, next) = decide(&settings, &snapshot(None, replicas), histeps, POLL * poll);
            prop_assert_eq!(decision, Decision { replicas, basis: Basis::Unreadable });
            histeps = next;
        }
        // The lag is readable again and 0: only replicas above the maximum go before the cool-down is over.
        let empty = partitions(&[0, 0]);
        let last = POLL * (unreadable - 1);
        if settings.cooldown > Duration::ZERO {
            let (again, _) = decide(&settings, &snapshot(Some(&empty), replicas), histeps.clone(), last);
            prop_assert_eq!(again.replicas, replicas.min(settings.max).max(settings.min.max(1)));
        }
        let (later, _) = decide(&settings, &snapshot(Some(&empty), replicas), histeps, last + settings.cooldown);
        prop_assert_eq!(later.replicas, settings.min.max(1));
    }

    /// A constant lag changes the replicas at most once.
    #[test]
    fn a_constant_lag_changes_the_replicas_at_most_once(settings in any_settings(), lags in any_lags(), start in 0..12_u32) {
        let mut topic = partitions(&lags);
        let (mut histeps, mut replicas) = (History::default(), start);
        let mut answers = Vec::new();
        for poll in 0..100 {
            let (decision, next) = decide(&settings, &snapshot(Some(&topic), replicas), histeps, POLL * poll);
            histeps = next;
            histeps.scaled_to(decision.replicas);
            replicas = decision.replicas;
            answers.push(replicas);
            topic = advanced(&topic, 7);
        }
        prop_assert!(answers.is_sorted_by(|one, next| one >= next), "{answers:?}");
        answers.dedup();
        prop_assert!(answers.len() <= 2, "{answers:?}");
    }

    /// Partitions that do not advance are no longer counted after [`STUCK_AFTER`] snapshots, but
    /// keep one consumer.
    #[test]
    fn stuck_partitions_are_not_counted_and_keep_one_consumer(
        settings in any_settings(),
        moving in any_lags(),
        stuck in vec(1..100_000_i64, 1..12),
        sending: bool,
    ) {
        let mut free = partitions(&moving);
        let first_stuck = i32::try_from(free.len()).unwrap();
        let stalled: Vec<Partition> = partitions(&stuck)
            .into_iter()
            .map(|partition| Partition { id: first_stuck + partition.id, ..partition })
            .collect();
        let (mut histeps, mut now) = (knowing(1), Duration::ZERO);
        let mut last = None;
        for snapshots in 0..=STUCK_AFTER {
            now += POLL;
            free = advanced(&free, 1);
            let topic: Vec<Partition> = free.iter().chain(&stalled).copied().collect();
            let snapshot = Snapshot { sending, ..snapshot(Some(&topic), 1) };
            let (decision, next) = decide(&settings, &snapshot, histeps, now);
            histeps = next;
            let Basis::Lag { stuck: left_out, .. } = decision.basis else { panic!("{decision:?}") };
            prop_assert_eq!(usize::try_from(left_out).unwrap(), if snapshots < STUCK_AFTER { 0 } else { stuck.len() });
            last = Some(decision);
        }
        let Some(Decision { basis: Basis::Lag { total, working, need, .. }, .. }) = last else { panic!() };
        let lag: i64 = moving.iter().sum();
        let alone = u64::try_from(lag).unwrap().div_ceil(settings.lag_per_replica);
        let expected = alone.min(working.into()).min(settings.max.into()).max(settings.min.max(1).into());
        prop_assert_eq!(u64::from(need), expected);
        prop_assert_eq!(total, u64::try_from(lag + stuck.iter().sum::<i64>()).unwrap());

        // A partition that advances again counts again at once.
        let freed: Vec<Partition> = free.iter().copied().chain(advanced(&stalled, 1)).collect();
        let (again, _) = decide(&settings, &snapshot(Some(&freed), 1), histeps, now + POLL);
        let Basis::Lag { stuck: left_out, .. } = again.basis else { panic!() };
        prop_assert_eq!(left_out, 0);
    }
}
