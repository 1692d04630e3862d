//! A month that is rolled back while its bills are sent: nothing more is sent, and what was sent
//! stays recorded.

use domain::ids::Revision;
use store::billing::{self, RollbackRequest, RollbackResult};
use store::notification::{self, BeginResult, Outcome, Rejection, Scope, Selection, SelectionResult, Uuid};

use super::fixture::{Fixture, id, keys, members, month, outcomes_of};

async fn roll_back(fixture: &Fixture) {
    let request = RollbackRequest {
        run: "test/rollback",
        run_uid: Uuid::from_u128(99),
        month: month(),
        revision: Revision::FIRST,
        reason: "wrong price book",
    };
    let result = billing::roll_back_revision(&fixture.operator, &request).await.unwrap();
    assert!(matches!(result, RollbackResult::RolledBack(_)), "{result:?}");
}

#[tokio::test]
async fn nothing_more_of_a_rolled_back_revision_is_sent() {
    let fixture = Fixture::with_bills(6).await;
    let run = fixture.ready(1).await;
    let mut consumer = fixture.consumer("a").await;
    let sent = consumer.claim(&run, &keys(&[1], 1)).await;
    consumer.deliver(&sent, Outcome::Sent).await;
    let deliveries = consumer.claim(&run, &keys(&[2, 3], 1)).await;
    consumer.hand_over(&deliveries[..1]).await;
    roll_back(&fixture).await;

    // The mail server has bill 2 already, so that its answer is recorded. Bill 3 is claimed only.
    let ended = outcomes_of(&deliveries[..1], Outcome::Sent);
    let result = consumer.hand_over_and_record(&deliveries[1..], &ended).await;
    assert_eq!((members(&result.granted), members(&result.refused)), (vec![], vec![3]));
    assert_eq!(members(&result.recorded), [2]);
    notification::release_claims(&mut consumer.connection, consumer.id, &result.refused).await.unwrap();

    let claims = consumer.claims(&run, &keys(&[1, 2, 3, 4, 5, 6], 1)).await;
    assert_eq!((claims.claimed.len(), claims.unavailable.len()), (0, 0), "{claims:?}");
    assert_eq!(
        fixture.outcomes(&run).await,
        "1 SENT, 2 SENT, 3 SKIPPED SUPERSEDED, 4 SKIPPED SUPERSEDED, 5 SKIPPED SUPERSEDED, 6 SKIPPED SUPERSEDED"
    );
    assert_eq!(
        fixture.deliveries().await,
        "1 SENT 1, 2 SENT 1, 3 PENDING 0, 4 PENDING 0, 5 PENDING 0, 6 PENDING 0"
    );
    assert!(notification::finish_run(&fixture.operator, run.id).await.unwrap());

    let later = fixture.try_begin(2, Selection::Ready, &Scope::Everyone).await;
    assert_eq!(later, BeginResult::Rejected(Rejection::MonthNotBilled { month: month() }));

    // The month is billed again: members 1 and 2 were sent another bill of the month, and get no second e-mail.
    fixture.database.issue_bills(2, "select generate_series(1, 6)").await;
    let again = fixture.ready(2).await;
    assert_eq!(fixture.outcomes(&again).await, "3, 4, 5, 6");
    let deliveries = consumer.claim(&again, &keys(&[3, 4, 5, 6], 2)).await;
    assert_eq!(members(&deliveries), [3, 4, 5, 6]);
    assert!(consumer.claim(&run, &keys(&[3], 1)).await.is_empty());
}

#[tokio::test]
async fn a_selection_that_a_rollback_interrupts_selects_nothing_more() {
    let fixture = Fixture::with_bills(10).await;
    id(fixture.try_begin(1, Selection::Ready, &Scope::Everyone).await);
    let mut connection = fixture.worker().await;
    let run = notification::read_run(&mut connection, Uuid::from_u128(1)).await.unwrap();
    let stopped = notification::select_targets(&mut connection, &run, 4, |_| false).await.unwrap();
    assert_eq!(stopped, SelectionResult::Stopped);
    roll_back(&fixture).await;
    let selected = notification::select_targets(&mut connection, &run, 4, |_| true).await.unwrap();
    assert_eq!(selected, SelectionResult::Complete { targets: 4 });
    assert!(fixture.consumer("a").await.claim(&run, &keys(&[1, 2, 3, 4], 1)).await.is_empty());
    assert!(notification::finish_run(&fixture.operator, run.id).await.unwrap());
}
