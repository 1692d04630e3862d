//! Deliveries and targets of a month in numbers.

use jiff::Timestamp;
use store::notification::{self, Outcome, Scope, Selection};

use super::fixture::Fixture;

#[tokio::test]
async fn totals_count_deliveries_and_targets_of_each_month() {
    let fixture = Fixture::with_bills(6).await;
    let first = fixture.ready(1).await;
    fixture.end(&first, &[1, 2, 3], Outcome::Sent).await;
    fixture.end(&first, &[4, 5], Outcome::Failed).await;
    let second = fixture.run(2, Selection::Failed, &Scope::Everyone).await;
    for only_changing in [false, true] {
        let totals = notification::read_totals(&fixture.operator, only_changing).await.unwrap();
        assert_eq!(totals.len(), 1);
        assert_eq!(totals[0].deliveries, [("SENT".to_owned(), 3), ("FAILED".to_owned(), 2)]);
        let targets: Vec<_> = totals[0]
            .targets
            .iter()
            .map(|of| (of.selection, of.counts.sent, of.counts.failed, of.open))
            .collect();
        assert_eq!(targets, [(Selection::Failed, 0, 0, 2), (Selection::Ready, 3, 2, 1)]);
    }
    let oldest_open = async || {
        let totals = notification::read_totals(&fixture.operator, true).await.unwrap();
        totals[0].targets.iter().map(|of| of.oldest_open.map(Timestamp::as_second)).collect::<Vec<_>>()
    };
    fixture.database.execute("update notification set opened_at = to_timestamp(1000000 + id)").await;
    let began = [second.id.0, first.id.0].map(|id| Some(1_000_000 + id));
    assert_eq!(oldest_open().await, began);
    // Nothing is sent for a run that is suspended, and the other one has nothing left.
    fixture.database.execute("update notification set state = 'SUSPENDED' where selection = 'FAILED'").await;
    assert_eq!(oldest_open().await, [None, began[1]]);
    fixture.end(&first, &[6], Outcome::Sent).await;
    assert_eq!(oldest_open().await, [None, None]);
    for run in [1, 2] {
        let id = fixture.observe(run).await.facts.id;
        notification::cancel_run(&fixture.operator, id, "deleted").await.unwrap();
    }
    fixture.database.execute("update notification set closed_at = now() - interval '1 hour'").await;
    assert!(notification::read_totals(&fixture.operator, true).await.unwrap().is_empty());
    assert_eq!(notification::read_totals(&fixture.operator, false).await.unwrap().len(), 1);
}
