//! What `monthend verify` says of a month with corrections, and the violations that it finds.

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use store::notification::{Outcome, Scope, Selection};
use store::verify::{self, VerificationRequest};

use super::fixture::{Fixture, keys, member, month};

/// The invariants of what is sent. The others do not hold for the bills of this fixture.
const SENDING: [&str; 3] =
    ["deliveries-match-targets", "recoveries-only-retry", "corrections-follow-sent-bills"];

async fn violations(connection: &mut PgConnection) -> Vec<String> {
    let request = VerificationRequest { month: month(), active: None, keys: None, sink: None };
    let report = verify::verify_month(connection, &request).await.unwrap();
    let sending = report.into_iter().filter(|checked| SENDING.contains(&checked.name));
    sending
        .flat_map(|checked| {
            checked.violations.into_iter().map(move |found| format!("{}: {found}", checked.name))
        })
        .collect()
}

/// Members 1 to 3 are sent revision 1, and 4 is skipped; then 1 and 2 are corrected to revision 2,
/// which fails for 2 at first. Revision 2 is rolled back, and revision 3 is another correction for
/// members 1 and 3; 5 is sent its bill only then, and 4 when it has an address.
async fn sent_and_corrected() -> Fixture {
    let fixture = Fixture::with_bills(5).await;
    let mut consumer = fixture.consumer("a").await;
    let first = fixture.run(1, Selection::Ready, &Scope::Range { from: member(1), to: member(4) }).await;
    let deliveries = consumer.claim(&first, &keys(&[1, 2, 3, 4], 1)).await;
    consumer.deliver(&deliveries[..3], Outcome::Sent).await;
    let skipped = super::fixture::outcomes_of(&deliveries[3..], Outcome::Skipped);
    let skipped: Vec<_> = skipped
        .into_iter()
        .map(|ended| store::notification::DeliveryOutcome { reason: Some("NO_ADDRESS".to_owned()), ..ended })
        .collect();
    consumer.hand_over_and_record(&[], &skipped).await;

    fixture.database.issue_bills(2, "values (1), (2)").await;
    let second = fixture.run(2, Selection::Corrected, &Scope::Everyone).await;
    let deliveries = consumer.claim(&second, &keys(&[1, 2], 2)).await;
    consumer.deliver(&deliveries[..1], Outcome::Sent).await;
    consumer.deliver(&deliveries[1..], Outcome::Failed).await;
    let again = fixture.run(3, Selection::Failed, &Scope::Everyone).await;
    let deliveries = consumer.claim(&again, &keys(&[2], 2)).await;
    consumer.deliver(&deliveries, Outcome::Sent).await;
    fixture.database.execute("update revision set state = 'ROLLED_BACK' where revision = 2").await;

    fixture.database.issue_bills(3, "values (1), (3)").await;
    for (uid, selection, targets) in [
        (4, Selection::Corrected, keys(&[1, 3], 3)),
        (5, Selection::Ready, keys(&[5], 1)),
        (6, Selection::Skipped, keys(&[4], 1)),
    ] {
        let run = fixture.run(uid, selection, &Scope::Everyone).await;
        let deliveries = consumer.claim(&run, &targets).await;
        assert_eq!(deliveries.len(), targets.len(), "{selection:?}");
        consumer.deliver(&deliveries, Outcome::Sent).await;
    }
    fixture
}

#[tokio::test]
async fn corrections_are_verified_and_each_violation_is_found() {
    let fixture = sent_and_corrected().await;
    let mut owner = fixture.database.connect().await;
    assert_eq!(violations(&mut owner).await, [""; 0]);

    let of_run = |uid: u128| format!("(select id from notification where run = 'test/run-{uid}')");
    let (second, again, third, skipped) = (of_run(2), of_run(3), of_run(4), of_run(6));
    let cases: Vec<(&str, String)> = vec![
        // Two plain bills of one member.
        (
            "corrections-follow-sent-bills",
            format!("update notice_target set corrects = null where notification = {again}"),
        ),
        (
            "corrections-follow-sent-bills",
            format!(
                "update notice_target set corrects = null where notification = {second} and member_id = 2"
            ),
        ),
        // A correction of what was not sent last, or not at all.
        (
            "corrections-follow-sent-bills",
            format!("update notice_target set corrects = 1 where notification = {third} and member_id = 1"),
        ),
        (
            "corrections-follow-sent-bills",
            "update notice_target set corrects = 3 where member_id = 5".to_owned(),
        ),
        (
            "corrections-follow-sent-bills",
            format!(
                "update notice_target set outcome = 'FAILED' where notification <> {third} and member_id = 3"
            ),
        ),
        // A correction to the same amount.
        (
            "corrections-follow-sent-bills",
            "update bill set total_amount = 178000 where member_id = 1 and revision = 3".to_owned(),
        ),
        // A bill that was never skipped, and one that is sent although it was attempted.
        (
            "recoveries-only-retry",
            format!(
                "insert into notice_target (notification, member_id, revision, after_attempt, month)
                 values ({skipped}, 5, 1, 0, '2026-10')"
            ),
        ),
        (
            "recoveries-only-retry",
            format!(
                "update notice_target set after_attempt = 1 where notification = {third} and member_id = 1"
            ),
        ),
        (
            "deliveries-match-targets",
            format!(
                "update notice_target set reason = 'NOTHING_TO_CORRECT' where notification = {} and member_id = 4",
                of_run(1)
            ),
        ),
    ];
    for (invariant, plant) in cases {
        let mut tx = owner.begin().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(plant.clone())).execute(&mut *tx).await.unwrap();
        let found = violations(&mut tx).await;
        assert!(
            found.iter().any(|found| found.starts_with(invariant)),
            "{invariant} is not violated by `{plant}`: {found:?}"
        );
        tx.rollback().await.unwrap();
    }
}

#[tokio::test]
async fn a_bill_of_unknown_outcome_that_failed_since_is_corrected_by_the_next_one() {
    let fixture = Fixture::with_bills(1).await;
    let first = fixture.run(1, Selection::Ready, &Scope::Everyone).await;
    fixture.end(&first, &[1], Outcome::Unknown).await;
    let again = fixture.run(2, Selection::Unknown, &Scope::Everyone).await;
    fixture.end(&again, &[1], Outcome::Failed).await;
    fixture.database.issue_bills(2, "values (1)").await;
    let corrections = fixture.run(3, Selection::Corrected, &Scope::Everyone).await;
    let mut consumer = fixture.consumer("a").await;
    let deliveries = consumer.claim(&corrections, &keys(&[1], 2)).await;
    consumer.deliver(&deliveries, Outcome::Sent).await;
    let mut owner = fixture.database.connect().await;
    assert_eq!(violations(&mut owner).await, [""; 0]);
    let as_a_bill =
        format!("update notice_target set corrects = null where notification = {}", corrections.id.0);
    fixture.database.execute(&as_a_bill).await;
    assert_eq!(violations(&mut owner).await.len(), 2);
}
