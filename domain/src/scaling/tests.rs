//! A property for each sentence of the contract, and a table of the plain cases.

use proptest::{collection::vec, prelude::*};

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

/// As a topic looks whose consumers keep up with what comes in.
fn moved_on(partitions: &[Partition], by: i64) -> Vec<Partition> {
    let moved = |partition: &Partition| Partition {
        committed: Some(partition.position() + by),
        high: partition.high + by,
        ..*partition
    };
    partitions.iter().map(moved).collect()
}

fn look(lag: Option<&[Partition]>, replicas: u32) -> Snapshot<'_> {
    Snapshot { lag, replicas, ready: replicas, sending: true }
}

/// A history that knows of the replicas and of nothing else.
fn knowing(replicas: u32) -> History {
    let mut history = History::default();
    history.scaled_to(replicas);
    history
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
struct Look {
    lags: Option<Vec<i64>>,
    moves: bool,
    sending: bool,
    ready: bool,
    by_hand: Option<u32>,
    seconds: u64,
}

fn any_look() -> impl Strategy<Value = Look> {
    let lags = prop_oneof![1 => Just(None), 6 => any_lags().prop_map(Some)];
    let by_hand = prop_oneof![9 => Just(None), 1 => (0..12_u32).prop_map(Some)];
    (lags, any::<bool>(), any::<bool>(), any::<bool>(), by_hand, 1..40_u64).prop_map(
        |(lags, moves, sending, ready, by_hand, seconds)| Look {
            lags,
            moves,
            sending,
            ready,
            by_hand,
            seconds,
        },
    )
}

/// What went into a decision and what came out, for every look of a story.
struct Seen {
    at: Duration,
    before: u32,
    sending: bool,
    decision: Decision,
}

fn play(settings: &Settings, story: &[Look]) -> Vec<Seen> {
    let mut history = History::default();
    let (mut replicas, mut now, mut offset) = (1, Duration::ZERO, 0);
    let mut seen = Vec::new();
    for look in story {
        now += Duration::from_secs(look.seconds);
        offset += i64::from(look.moves);
        let before = look.by_hand.unwrap_or(replicas);
        let lag = look.lags.as_deref().map(|lags| moved_on(&partitions(lags), offset));
        let snapshot = Snapshot {
            lag: lag.as_deref(),
            replicas: before,
            ready: if look.ready { before } else { 0 },
            sending: look.sending,
        };
        let (decision, next) = decide(settings, &snapshot, history, now);
        history = next;
        history.scaled_to(decision.replicas);
        replicas = decision.replicas;
        seen.push(Seen { at: now, before, sending: look.sending, decision });
    }
    seen
}

#[test]
fn the_plain_cases() {
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
fn settings_that_cannot_be_meant_are_refused() {
    for (per, min, max, expected) in [
        (0, 1, 6, SettingsError::NoLagPerReplica),
        (1, 0, 0, SettingsError::NoReplicas),
        (1, 7, 6, SettingsError::MinAboveMax { min: 7, max: 6 }),
    ] {
        assert_eq!(Settings::new(per, min, max, COOLDOWN), Err(expected));
    }
}

#[test]
fn what_somebody_else_sets_is_given_the_cool_down() {
    let empty = partitions(&[0]);
    let (first, history) =
        decide(&settings(10, 1, 6), &look(Some(&empty), 4), History::default(), Duration::ZERO);
    assert_eq!(first.replicas, 4);
    let (later, _) = decide(&settings(10, 1, 6), &look(Some(&empty), 4), history, COOLDOWN);
    assert_eq!(later.replicas, 1);
}

#[test]
fn without_a_consumer_nothing_is_stuck() {
    let topic = partitions(&[50_000, 50_000]);
    let mut history = knowing(0);
    for poll in 0..STUCK_AFTER * 3 {
        let snapshot = Snapshot { ready: 0, ..look(Some(&topic), 0) };
        let (decision, next) = decide(&settings(10_000, 1, 6), &snapshot, history, POLL * poll);
        assert_eq!(decision.replicas, 2);
        history = next;
    }
}

proptest! {
    /// "Desired = ceil(lag / lag-per-replica), never more than the topic's partitions with work or the maximum."
    #[test]
    fn the_need_is_what_the_contract_says(settings in any_settings(), lags in any_lags(), sending: bool) {
        let topic = partitions(&lags);
        let snapshot = Snapshot { sending, ..look(Some(&topic), 0) };
        let (decision, _) = decide(&settings, &snapshot, knowing(0), Duration::ZERO);

        let lag: i128 = lags.iter().map(|lag| i128::from(*lag)).sum();
        let per = i128::from(settings.lag_per_replica);
        let asked = (lag + per - 1) / per;
        let with_work = i128::try_from(lags.iter().filter(|lag| **lag > 0).count()).unwrap();
        let floor = i128::from(settings.min).max(i128::from(sending));
        let expected = asked.min(with_work).min(i128::from(settings.max)).max(floor);
        prop_assert_eq!(i128::from(decision.replicas), expected);
    }

    /// Whatever happens: the bounds hold, and never below one while a run is sending.
    #[test]
    fn the_bounds_hold_through_any_story(settings in any_settings(), story in vec(any_look(), 1..60)) {
        for seen in play(&settings, &story) {
            match seen.decision.basis {
                Basis::Unreadable => prop_assert_eq!(seen.decision.replicas, seen.before),
                Basis::Lag { working, stuck, need, .. } => {
                    prop_assert!(seen.decision.replicas <= settings.max);
                    prop_assert!(seen.decision.replicas >= settings.min);
                    prop_assert!(seen.decision.replicas >= need);
                    let least = settings.min.max(u32::from(seen.sending || stuck > 0));
                    prop_assert!(seen.decision.replicas >= least);
                    // More than there were, only for partitions with work.
                    if seen.decision.replicas > seen.before {
                        prop_assert!(need <= working.max(least));
                    }
                }
            }
        }
    }

    /// Never above what was needed, set by somebody else or unseen within the cool-down; never below it.
    #[test]
    fn the_cool_down_is_honoured(settings in any_settings(), story in vec(any_look(), 1..60)) {
        let seen = play(&settings, &story);
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
        story in vec(any_look(), 0..20),
        replicas in 0..10_u32,
    ) {
        // The same past for both, which may have left partitions stuck.
        let mut history = History::default();
        let mut now = Duration::ZERO;
        for look in &story {
            now += Duration::from_secs(look.seconds);
            let lag = look.lags.as_deref().map(partitions);
            let snapshot = Snapshot { lag: lag.as_deref(), replicas, ready: replicas, sending: look.sending };
            history = decide(&settings, &snapshot, history, now).1;
        }
        let (less, greater) = (partitions(&lags), {
            let lags: Vec<i64> = lags.iter().zip(more).map(|(lag, more)| lag + more).collect();
            partitions(&lags)
        });
        let (less, _) = decide(&settings, &look(Some(&less), replicas), history.clone(), now + POLL);
        let (greater, _) = decide(&settings, &look(Some(&greater), replicas), history, now + POLL);
        prop_assert!(less.replicas <= greater.replicas, "{less:?} {greater:?}");
    }

    #[test]
    fn an_unreadable_lag_changes_nothing_and_is_not_taken_for_rest(
        settings in any_settings(),
        replicas in 0..20_u32,
        unreadable in 1..50_u32,
    ) {
        let mut history = knowing(replicas);
        for poll in 0..unreadable {
            let (decision, next) = decide(&settings, &look(None, replicas), history, POLL * poll);
            prop_assert_eq!(decision, Decision { replicas, basis: Basis::Unreadable });
            history = next;
        }
        // It is there again and empty: nobody goes before the cool-down, but for those above the maximum.
        let empty = partitions(&[0, 0]);
        let last = POLL * (unreadable - 1);
        if settings.cooldown > Duration::ZERO {
            let (again, _) = decide(&settings, &look(Some(&empty), replicas), history.clone(), last);
            prop_assert_eq!(again.replicas, replicas.min(settings.max).max(settings.min.max(1)));
        }
        let (later, _) = decide(&settings, &look(Some(&empty), replicas), history, last + settings.cooldown);
        prop_assert_eq!(later.replicas, settings.min.max(1));
    }

    /// A lag that stays the same rises to its answer at once, and comes down to it once.
    #[test]
    fn a_constant_lag_does_not_flap(settings in any_settings(), lags in any_lags(), start in 0..12_u32) {
        let mut topic = partitions(&lags);
        let (mut history, mut replicas) = (History::default(), start);
        let mut answers = Vec::new();
        for poll in 0..100 {
            let (decision, next) = decide(&settings, &look(Some(&topic), replicas), history, POLL * poll);
            history = next;
            history.scaled_to(decision.replicas);
            replicas = decision.replicas;
            answers.push(replicas);
            topic = moved_on(&topic, 7);
        }
        prop_assert!(answers.is_sorted_by(|one, next| one >= next), "{answers:?}");
        answers.dedup();
        prop_assert!(answers.len() <= 2, "{answers:?}");
    }

    /// Partitions that don't move are left out after several looks, but keep one consumer.
    #[test]
    fn stuck_partitions_are_left_out_and_keep_a_consumer(
        settings in any_settings(),
        moving in any_lags(),
        stuck in vec(1..100_000_i64, 1..12),
        sending: bool,
    ) {
        let mut free = partitions(&moving);
        let first_stuck = i32::try_from(free.len()).unwrap();
        let still: Vec<Partition> = partitions(&stuck)
            .into_iter()
            .map(|partition| Partition { id: first_stuck + partition.id, ..partition })
            .collect();
        let (mut history, mut now) = (knowing(1), Duration::ZERO);
        let mut last = None;
        for looks in 0..=STUCK_AFTER {
            now += POLL;
            free = moved_on(&free, 1);
            let topic: Vec<Partition> = free.iter().chain(&still).copied().collect();
            let snapshot = Snapshot { sending, ..look(Some(&topic), 1) };
            let (decision, next) = decide(&settings, &snapshot, history, now);
            history = next;
            let Basis::Lag { stuck: left_out, .. } = decision.basis else { panic!("{decision:?}") };
            prop_assert_eq!(usize::try_from(left_out).unwrap(), if looks < STUCK_AFTER { 0 } else { stuck.len() });
            last = Some(decision);
        }
        let Some(Decision { basis: Basis::Lag { total, working, need, .. }, .. }) = last else { panic!() };
        let lag: i64 = moving.iter().sum();
        let alone = u64::try_from(lag).unwrap().div_ceil(settings.lag_per_replica);
        let expected = alone.min(working.into()).min(settings.max.into()).max(settings.min.max(1).into());
        prop_assert_eq!(u64::from(need), expected);
        prop_assert_eq!(total, u64::try_from(lag + stuck.iter().sum::<i64>()).unwrap());

        // One that moves again counts again at once.
        let freed: Vec<Partition> = free.iter().copied().chain(moved_on(&still, 1)).collect();
        let (again, _) = decide(&settings, &look(Some(&freed), 1), history, now + POLL);
        let Basis::Lag { stuck: left_out, .. } = again.basis else { panic!() };
        prop_assert_eq!(left_out, 0);
    }
}
