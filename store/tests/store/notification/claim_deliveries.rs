//! Which deliveries a consumer can claim, renew, postpone and release.

use store::notification::{self, ClaimResult, Outcome, Postponement, RunFacts, Scope, Selection};

use super::fixture::{Fixture, LEASE, keys, members};

/// One bill in some state, and a run that selected it.
struct Situation {
    fixture: Fixture,
    run: RunFacts,
}

/// The state of the delivery when the run selected the bill.
#[derive(Clone, Copy, Debug)]
enum Before {
    Nothing,
    Released,
    Failed,
    Unknown,
}

/// What another run did between the selection and the claim.
#[derive(Clone, Copy, Debug)]
enum Between {
    Nothing,
    /// Another run has claimed it.
    Claimed,
    ClaimExpired,
    HandedOver,
    HandOverExpired,
    Settled,
    /// Another run recorded an outcome.
    Ended(Outcome),
}

impl Situation {
    async fn new(before: Before, between: Between) -> Self {
        let fixture = Fixture::with_bills(1).await;
        let selection = match before {
            Before::Nothing => Selection::Ready,
            Before::Released => {
                let mut consumer = fixture.consumer("first").await;
                let run = fixture.ready(1).await;
                let deliveries = consumer.claim(&run, &keys(&[1], 1)).await;
                notification::release_claims(&mut consumer.connection, consumer.id, &deliveries)
                    .await
                    .unwrap();
                notification::cancel_run(&fixture.operator, run.id, "deleted").await.unwrap();
                Selection::Ready
            }
            Before::Failed => {
                let run = fixture.ready(1).await;
                fixture.end(&run, &[1], Outcome::Failed).await;
                Selection::Failed
            }
            Before::Unknown => {
                let run = fixture.ready(1).await;
                fixture.end(&run, &[1], Outcome::Unknown).await;
                Selection::Unknown
            }
        };
        let run = fixture.run(2, selection, &Scope::Everyone).await;
        assert_eq!(run.targets, 1, "{before:?}");
        let other = fixture.run(3, selection, &Scope::Everyone).await;
        let mut consumer = fixture.consumer("other").await;
        if !matches!(between, Between::Nothing) {
            let deliveries = consumer.claim(&other, &keys(&[1], 1)).await;
            assert_eq!(deliveries.len(), 1, "{before:?} {between:?}");
            if matches!(between, Between::HandedOver | Between::HandOverExpired | Between::Settled) {
                consumer.hand_over(&deliveries).await;
            }
            if let Between::Ended(outcome) = between {
                consumer.deliver(&deliveries, outcome).await;
            }
            if matches!(between, Between::ClaimExpired | Between::HandOverExpired | Between::Settled) {
                fixture.expire_leases().await;
            }
            if matches!(between, Between::Settled) {
                assert_eq!(fixture.end_expired_leases().await, (1, 0));
            }
        }
        Self { fixture, run }
    }

    /// The result of a claim, and the outcome of the target.
    async fn claim(&self) -> String {
        let mut consumer = self.fixture.consumer("claims").await;
        let ClaimResult { claimed, unavailable, not_targets } =
            consumer.claims(&self.run, &keys(&[1], 1)).await;
        assert!(not_targets.is_empty());
        let outcome = self.fixture.outcomes(&self.run).await;
        match (claimed.as_slice(), unavailable.as_slice()) {
            ([claimed], []) => format!("claimed as attempt {}", claimed.delivery.attempt),
            ([], [_]) if outcome == "1" => "held".to_owned(),
            ([], []) => outcome,
            other => panic!("{other:?} {outcome}"),
        }
    }
}

#[tokio::test]
async fn a_target_is_claimed_only_while_no_other_run_has_attempted_it() {
    use Before::{Failed, Released, Unknown};
    use Between::{ClaimExpired, Claimed, Ended, HandOverExpired, HandedOver, Settled};
    let table = [
        (Before::Nothing, Between::Nothing, "claimed as attempt 1"),
        (Before::Nothing, Claimed, "held"),
        (Before::Nothing, ClaimExpired, "claimed as attempt 1"),
        (Before::Nothing, HandedOver, "held"),
        (Before::Nothing, HandOverExpired, "held"),
        (Before::Nothing, Settled, "1 SKIPPED TAKEN"),
        (Before::Nothing, Ended(Outcome::Sent), "1 SKIPPED ALREADY_SENT"),
        (Before::Nothing, Ended(Outcome::Failed), "1 SKIPPED TAKEN"),
        (Before::Nothing, Ended(Outcome::Unknown), "1 SKIPPED TAKEN"),
        (Before::Nothing, Ended(Outcome::Skipped), "1 SKIPPED TAKEN"),
        (Released, Between::Nothing, "claimed as attempt 1"),
        (Released, Claimed, "held"),
        (Released, ClaimExpired, "claimed as attempt 1"),
        (Released, Ended(Outcome::Sent), "1 SKIPPED ALREADY_SENT"),
        (Failed, Between::Nothing, "claimed as attempt 2"),
        (Failed, Claimed, "held"),
        (Failed, ClaimExpired, "claimed as attempt 2"),
        (Failed, HandedOver, "held"),
        (Failed, HandOverExpired, "held"),
        (Failed, Settled, "1 SKIPPED TAKEN"),
        (Failed, Ended(Outcome::Sent), "1 SKIPPED ALREADY_SENT"),
        // The state is the same, but another run has attempted it meanwhile.
        (Failed, Ended(Outcome::Failed), "1 SKIPPED TAKEN"),
        (Unknown, Between::Nothing, "claimed as attempt 2"),
        (Unknown, Claimed, "held"),
        (Unknown, ClaimExpired, "claimed as attempt 2"),
        (Unknown, HandedOver, "held"),
        (Unknown, Settled, "1 SKIPPED TAKEN"),
        (Unknown, Ended(Outcome::Sent), "1 SKIPPED ALREADY_SENT"),
        (Unknown, Ended(Outcome::Failed), "1 SKIPPED TAKEN"),
    ];
    for (before, between, expected) in table {
        let situation = Situation::new(before, between).await;
        assert_eq!(situation.claim().await, expected, "{before:?}, then {between:?}");
    }
}

#[tokio::test]
async fn no_bill_is_claimed_by_two_consumers() {
    let fixture = Fixture::with_bills(500).await;
    let run = fixture.ready(1).await;
    let mut consumers = Vec::new();
    for name in ["a", "b", "c", "d"] {
        consumers.push(fixture.consumer(name).await);
    }
    let everyone: Vec<i64> = (1..=500).collect();
    let tasks: Vec<_> = consumers
        .into_iter()
        .map(|mut consumer| {
            let (run, mut keys) = (run.clone(), keys(&everyone, 1));
            tokio::spawn(async move {
                let half = keys.len() / 2;
                keys.rotate_left(half);
                let claims = consumer.claims(&run, &keys).await;
                assert_eq!(claims.claimed.len() + claims.unavailable.len(), 500);
                claims.claimed.into_iter().map(|claimed| claimed.delivery).collect::<Vec<_>>()
            })
        })
        .collect();
    let mut claimed = Vec::new();
    for task in tasks {
        claimed.extend(members(&task.await.unwrap()));
    }
    claimed.sort_unstable();
    assert_eq!(claimed, everyone);
}

#[tokio::test]
async fn two_recovery_runs_at_once_send_each_bill_once() {
    let fixture = Fixture::with_bills(200).await;
    let first = fixture.ready(1).await;
    let everyone: Vec<i64> = (1..=200).collect();
    fixture.end(&first, &everyone, Outcome::Failed).await;
    let runs = [
        fixture.run(2, Selection::Failed, &Scope::Everyone).await,
        fixture.run(3, Selection::Failed, &Scope::Everyone).await,
    ];
    assert_eq!((runs[0].targets, runs[1].targets), (200, 200));
    let mut tasks = Vec::new();
    for run in runs.clone() {
        let mut consumer = fixture.consumer("recovers").await;
        let keys = keys(&everyone, 1);
        tasks.push(tokio::spawn(async move {
            let mut sent = Vec::new();
            for keys in keys.chunks(20) {
                let deliveries = consumer.claim(&run, keys).await;
                consumer.deliver(&deliveries, Outcome::Sent).await;
                sent.extend(members(&deliveries));
            }
            sent
        }));
    }
    let mut sent = Vec::new();
    for task in tasks {
        sent.extend(task.await.unwrap());
    }
    sent.sort_unstable();
    assert_eq!(sent, everyone);
    // The bills that one run did not get, the other run sent: when they are published again, each run
    // ends.
    for run in &runs {
        let mut consumer = fixture.consumer("again").await;
        assert!(consumer.claim(run, &keys(&everyone, 1)).await.is_empty());
        assert!(notification::finish_run(&fixture.operator, run.id).await.unwrap());
    }
    let (two, three) = (fixture.observe(2).await.counts, fixture.observe(3).await.counts);
    assert_eq!((two.sent + three.sent, two.skipped + three.skipped), (200, 200));
    assert_eq!(
        fixture.database.read_text("select string_agg(distinct attempt::text, ' ') from delivery").await,
        "2"
    );
}

#[tokio::test]
async fn a_replay_claims_nothing() {
    let fixture = Fixture::with_bills(4).await;
    let run = fixture.ready(1).await;
    fixture.end(&run, &[1], Outcome::Sent).await;
    fixture.end(&run, &[2], Outcome::Failed).await;
    fixture.end(&run, &[3], Outcome::Unknown).await;
    fixture.end(&run, &[4], Outcome::Skipped).await;
    let before = fixture.deliveries().await;
    let mut consumer = fixture.consumer("replays").await;
    let everything = keys(&[1, 2, 3, 4, 4, 3], 1);
    assert_eq!(consumer.claims(&run, &everything).await, ClaimResult::default());
    assert!(notification::finish_run(&fixture.operator, run.id).await.unwrap());
    assert_eq!(consumer.claims(&run, &everything).await, ClaimResult::default());
    assert_eq!(fixture.deliveries().await, before);
    assert_eq!(before, "1 SENT 1, 2 FAILED 1, 3 UNKNOWN 1, 4 SKIPPED 1");
}

#[tokio::test]
async fn a_bill_that_the_run_did_not_select_is_not_a_target() {
    let fixture = Fixture::with_bills(3).await;
    let run = fixture.run(1, Selection::Ready, &Scope::Members(vec![super::fixture::member(2)])).await;
    let mut consumer = fixture.consumer("a").await;
    let claims = consumer.claims(&run, &keys(&[1, 2, 99], 1)).await;
    assert_eq!(claims.not_targets, keys(&[1, 99], 1));
    assert_eq!(claims.claimed.len(), 1);
    assert_eq!(consumer.claims(&run, &keys(&[2], 7)).await.not_targets, keys(&[2], 7));
}

#[tokio::test]
async fn a_superseded_bill_is_skipped() {
    let fixture = Fixture::with_bills(4).await;
    let run = fixture.ready(1).await;
    let mut consumer = fixture.consumer("a").await;
    let deliveries = consumer.claim(&run, &keys(&[1, 2], 1)).await;
    fixture.database.issue_bills(2, "values (1), (3)").await;
    fixture.database.execute("insert into quarantined_member values ('2026-10', 4, 2, 'NO_PLAN', 'x')").await;
    // A bill that was claimed before it was superseded is not handed over.
    let advanced = consumer.hand_over_and_record(&deliveries, &[]).await;
    assert_eq!((members(&advanced.granted), members(&advanced.refused)), (vec![2], vec![1]));
    notification::release_claims(&mut consumer.connection, consumer.id, &advanced.refused).await.unwrap();
    assert_eq!(consumer.claims(&run, &keys(&[1, 2, 3, 4], 1)).await.unavailable, keys(&[2], 1));
    assert_eq!(
        fixture.outcomes(&run).await,
        "1 SKIPPED SUPERSEDED, 2, 3 SKIPPED SUPERSEDED, 4 SKIPPED SUPERSEDED"
    );
    assert_eq!(fixture.deliveries().await, "1 PENDING 0, 2 HANDED_OVER 1, 3 PENDING 0, 4 PENDING 0");
}

#[tokio::test]
async fn a_new_bill_is_not_sent_to_a_member_who_was_sent_the_old_one_after_the_selection() {
    let fixture = Fixture::with_bills(4).await;
    let first = fixture.ready(1).await;
    let mut consumer = fixture.consumer("a").await;
    consumer.claim(&first, &keys(&[1, 2, 3], 1)).await;
    fixture.database.issue_bills(2, "values (1), (2), (3), (4)").await;
    // Of members 1 to 3 the old bill is claimed and not sent, so each of the new bills is selected.
    let second = fixture.ready(2).await;
    assert_eq!(second.targets, 4);
    // Hand-overs of the old bills that began before the new ones were issued.
    fixture
        .database
        .execute(
            "update delivery set state = 'HANDED_OVER' where member_id = 1;
             update delivery set state = 'SENT', lease_until = null, holder = null, ended_at = now() where member_id = 2",
        )
        .await;
    let claims = consumer.claims(&second, &keys(&[1, 2, 3, 4], 2)).await;
    let mut claimed: Vec<_> = claims.claimed.iter().map(|claimed| claimed.delivery).collect();
    claimed.sort_unstable_by_key(|delivery| delivery.key);
    assert_eq!(members(&claimed), [3, 4]);
    assert_eq!(fixture.outcomes(&second).await, "1 SKIPPED ALREADY_SENT, 2 SKIPPED ALREADY_SENT, 3, 4");
    assert_eq!(
        fixture.deliveries().await,
        "1 HANDED_OVER 1, 1 PENDING 0, 2 SENT 1, 2 PENDING 0, 3 CLAIMED 1, 3 CLAIMED 1, 4 CLAIMED 1"
    );
}

#[tokio::test]
async fn after_a_rollback_the_old_bill_is_not_sent_to_a_member_who_was_sent_the_new_one() {
    let fixture = Fixture::with_bills(4).await;
    let first = fixture.ready(1).await;
    fixture.end(&first, &[3, 4], Outcome::Failed).await;
    let mut consumer = fixture.consumer("a").await;
    let claimed = consumer.claim(&first, &keys(&[1, 2], 1)).await;
    // The new bills of members 1 and 3 are sent; then their revision is rolled back.
    fixture.database.issue_bills(2, "values (1), (2), (3), (4)").await;
    fixture
        .database
        .execute(
            "insert into delivery (month, member_id, revision, attempt, notification, ended_at, state)
                 select '2026-10', id, 2, 1, 1, now(), 'SENT' from (values (1), (3)) m (id);
             update revision set state = 'ROLLED_BACK' where revision = 2",
        )
        .await;
    // The claims are from before that.
    let advanced = consumer.hand_over_and_record(&claimed, &[]).await;
    assert_eq!((members(&advanced.granted), members(&advanced.refused)), (vec![2], vec![1]));
    notification::release_claims(&mut consumer.connection, consumer.id, &advanced.refused).await.unwrap();
    consumer.claims(&first, &keys(&[1], 1)).await;
    assert_eq!(
        fixture.outcomes(&first).await,
        "1 SKIPPED ALREADY_SENT, 2, 3 FAILED 550 no such user, 4 FAILED 550 no such user"
    );
    // The old bill of member 3 is sent as a correction of the new one.
    let recovery = fixture.run(2, Selection::Failed, &Scope::Everyone).await;
    assert_eq!(fixture.outcomes(&recovery).await, "3, 4");
    assert_eq!(
        fixture
            .database
            .read_text("select string_agg(concat_ws('/', member_id, corrects), ' ' order by member_id) from notice_target where notification = 2")
            .await,
        "3/2 4"
    );
}

#[tokio::test]
async fn a_bill_that_a_rebilling_keeps_is_sent_with_its_own_revision() {
    let fixture = Fixture::with_bills(4).await;
    let first = fixture
        .run(1, Selection::Ready, &Scope::Members(keys(&[1, 2], 1).iter().map(|k| k.member).collect()))
        .await;
    fixture.end(&first, &[1, 2], Outcome::Sent).await;
    // Members 1 and 3 get a new bill, 2 and 4 keep theirs with what became of it.
    fixture.database.issue_bills(2, "values (1), (3)").await;
    let status = "select string_agg(format('%s/%s %s', member_id, revision, status), ', ' order by member_id) from live_bill";
    assert_eq!(fixture.database.read_text(status).await, "1/2 READY, 2/1 SENT, 3/2 READY, 4/1 READY");
    let second = fixture.ready(2).await;
    let mut consumer = fixture.consumer("a").await;
    let both = [keys(&[3], 2), keys(&[4], 1)].concat();
    let deliveries = consumer.claim(&second, &both).await;
    assert_eq!((second.targets, deliveries.len()), (2, 2));
    consumer.deliver(&deliveries, Outcome::Sent).await;
    assert_eq!(fixture.database.read_text(status).await, "1/2 READY, 2/1 SENT, 3/2 SENT, 4/1 SENT");
}

#[tokio::test]
async fn a_released_delivery_has_the_state_from_before_the_claim() {
    let fixture = Fixture::with_bills(3).await;
    let first = fixture
        .run(1, Selection::Ready, &Scope::Members(keys(&[1, 2], 1).iter().map(|k| k.member).collect()))
        .await;
    fixture.end(&first, &[1], Outcome::Failed).await;
    fixture.end(&first, &[2], Outcome::Unknown).await;
    let before = fixture
        .database
        .read_text("select string_agg(d::text, ' ' order by member_id) from delivery d")
        .await;
    let runs = [
        fixture.run(2, Selection::Failed, &Scope::Everyone).await,
        fixture.run(3, Selection::Unknown, &Scope::Everyone).await,
        fixture.ready(4).await,
    ];
    let mut consumer = fixture.consumer("a").await;
    let mut deliveries = Vec::new();
    for run in &runs {
        deliveries.extend(consumer.claim(run, &keys(&[1, 2, 3], 1)).await);
    }
    assert_eq!(members(&deliveries), [1, 2, 3]);
    assert_eq!(
        fixture.database.read_text("select string_agg(status, ' ' order by member_id) from live_bill").await,
        "SENDING SENDING SENDING"
    );
    // One is handed over already, and its holder knows that it was not sent.
    consumer.hand_over(&deliveries[..1]).await;
    let mut released =
        notification::release_claims(&mut consumer.connection, consumer.id, &deliveries).await.unwrap();
    released.sort_unstable_by_key(|delivery| delivery.key);
    assert_eq!(released, deliveries);
    assert_eq!(fixture.deliveries().await, "1 FAILED 1, 2 UNKNOWN 1, 3 PENDING 0");
    let after = fixture.database.read_text("select string_agg(concat_ws(' ', ended_at is not null, reason, holder, before, lease_until), ', ' order by member_id) from delivery")
        .await;
    assert_eq!(after, "t 550 no such user, t OUTCOME_UNKNOWN, f");
    assert!(before.contains("550 no such user"));
    assert_eq!(
        fixture.database.read_text("select string_agg(status, ' ' order by member_id) from live_bill").await,
        "FAILED UNKNOWN READY"
    );
    // The same holds for a claim whose lease has expired.
    for run in &runs {
        consumer.claim(run, &keys(&[1, 2, 3], 1)).await;
    }
    fixture.expire_leases().await;
    assert_eq!(fixture.end_expired_leases().await, (0, 3));
    assert_eq!(fixture.deliveries().await, "1 FAILED 1, 2 UNKNOWN 1, 3 PENDING 0");
    assert!(
        notification::release_claims(&mut consumer.connection, consumer.id, &deliveries)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_postponed_delivery_keeps_its_tries_for_another_consumer_but_not_for_another_run() {
    let fixture = Fixture::with_bills(1).await;
    let run = fixture.ready(1).await;
    let mut consumer = fixture.consumer("a").await;
    let delivery = consumer.claim(&run, &keys(&[1], 1)).await[0];
    consumer.hand_over(&[delivery]).await;
    let counted = Postponement { delivery, counts_as_try: true };
    let put = notification::postpone_deliveries(&mut consumer.connection, consumer.id, LEASE, &[counted])
        .await
        .unwrap();
    assert_eq!((put[0].tries, put[0].delivery), (1, delivery));
    assert!(put[0].since_first_try.is_some());
    // A connection that is lost before the mail server answers does not count as a try.
    consumer.hand_over(&[delivery]).await;
    let lost = Postponement { delivery, counts_as_try: false };
    let put = notification::postpone_deliveries(&mut consumer.connection, consumer.id, LEASE, &[lost])
        .await
        .unwrap();
    assert_eq!(put[0].tries, 1);
    assert_eq!(fixture.deliveries().await, "1 CLAIMED 1");
    assert_eq!(
        notification::renew_leases(&mut consumer.connection, consumer.id, LEASE, &[delivery]).await.unwrap(),
        [delivery]
    );

    let mut other = fixture.consumer("b").await;
    assert!(
        notification::renew_leases(&mut other.connection, other.id, LEASE, &[delivery])
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        notification::postpone_deliveries(&mut other.connection, other.id, LEASE, &[counted])
            .await
            .unwrap()
            .is_empty()
    );
    fixture.expire_leases().await;
    let taken_over = other.claims(&run, &keys(&[1], 1)).await.claimed[0];
    assert_eq!((taken_over.delivery.attempt, taken_over.tries), (1, 1));
    assert!(taken_over.since_first_try.is_some());
    assert!(
        notification::renew_leases(&mut consumer.connection, consumer.id, LEASE, &[delivery])
            .await
            .unwrap()
            .is_empty()
    );

    notification::cancel_run(&fixture.operator, run.id, "deleted").await.unwrap();
    let next = fixture.ready(2).await;
    let fresh = other.claims(&next, &keys(&[1], 1)).await.claimed[0];
    assert_eq!((fresh.delivery.attempt, fresh.tries, fresh.since_first_try), (1, 0, None));
}
