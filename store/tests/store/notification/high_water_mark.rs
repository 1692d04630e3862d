//! The high-water mark of a month, and the suspension of a month that is held.

use store::notification::{self, HighWaterMark, MarkedMonth, NotificationState, Scope, Selection};

use super::fixture::{Fixture, keys, month};

async fn touched(fixture: &Fixture) -> usize {
    let months = notification::read_marked_months(&fixture.operator).await.unwrap();
    months.iter().filter(|of| of.touched).count()
}

/// Everything so far was before the mark.
async fn set_mark_ahead(fixture: &Fixture) {
    fixture.database.execute("update high_water_mark set mark = now() + interval '1 hour'").await;
}

#[tokio::test]
async fn a_mark_moves_on_once_from_each_mark_and_keeps_the_one_before() {
    let fixture = Fixture::with_bills(1).await;
    let advance =
        async |from| notification::advance_high_water_mark(&fixture.operator, month(), from).await.unwrap();
    let read = async || notification::read_high_water_mark(&fixture.operator, month()).await.unwrap();
    assert_eq!(read().await, None);
    let first = advance(None).await.unwrap();
    assert_eq!(read().await, Some(HighWaterMark { mark: first, before: None }));
    assert_eq!(advance(None).await, None);
    // A clock that was set back does not move the mark back.
    set_mark_ahead(&fixture).await;
    let ahead = read().await.unwrap().mark;
    let second = advance(Some(ahead)).await.unwrap();
    assert!(second > ahead, "{second} is not after {ahead}");
    assert_eq!(advance(Some(ahead)).await, None);
    assert_eq!(read().await, Some(HighWaterMark { mark: second, before: Some(ahead) }));
}

#[tokio::test]
async fn a_month_is_touched_while_something_is_billed_or_sent() {
    let fixture = Fixture::with_bills(1).await;
    let operator = &fixture.operator;
    fixture.ready(1).await;
    let read = async || notification::read_marked_months(operator).await.unwrap();
    assert_eq!(read().await, [MarkedMonth { month: month(), mark: None, touched: true }]);
    notification::advance_high_water_mark(operator, month(), None).await.unwrap();
    set_mark_ahead(&fixture).await;
    assert_eq!(touched(&fixture).await, 1, "a run has not ended");
    let id = fixture.observe(1).await.facts.id;
    notification::cancel_run(operator, id, "deleted").await.unwrap();
    assert_eq!(touched(&fixture).await, 0, "the run ended before the mark");
    // The cluster may have lost its copy of the mark.
    assert!(read().await[0].mark.is_some());
    fixture.database.execute("update notification set rehearsal = true").await;
    fixture.ready(2).await;
    fixture.database.execute("update notification set rehearsal = true").await;
    assert_eq!(touched(&fixture).await, 0, "a rehearsal sends nothing");
    for (state, touch) in [
        ("issued", "update revision set issued_at = now() + interval '2 hours'"),
        (
            "rolled back",
            "update revision set issued_at = now() - interval '1 day';
             insert into rollback (month, revision, run, run_uid, reason, job, rolled_back_at)
             select month, revision, run, gen_random_uuid(), 'wrong', job, now() + interval '2 hours' from revision",
        ),
    ] {
        fixture.database.execute(touch).await;
        assert_eq!(touched(&fixture).await, 1, "a revision was {state} after the mark");
    }
}

#[tokio::test]
async fn a_run_that_ended_since_the_mark_touches_its_month() {
    let fixture = Fixture::with_bills(1).await;
    fixture.database.execute("update revision set issued_at = now() - interval '1 day'").await;
    fixture.ready(1).await;
    let id = fixture.observe(1).await.facts.id;
    notification::cancel_run(&fixture.operator, id, "deleted").await.unwrap();
    notification::advance_high_water_mark(&fixture.operator, month(), None).await.unwrap();
    // Less than a minute before the mark: its transaction may have been open when the mark was set.
    assert_eq!(touched(&fixture).await, 1);
    set_mark_ahead(&fixture).await;
    assert_eq!(touched(&fixture).await, 0);
    fixture.database.execute("update high_water_mark set mark = now() - interval '1 hour'").await;
    assert_eq!(touched(&fixture).await, 1);
}

#[tokio::test]
async fn nothing_is_claimed_of_a_suspended_month() {
    let fixture = Fixture::with_bills(2).await;
    let run = fixture.ready(1).await;
    let other = fixture.run(2, Selection::Ready, &Scope::Everyone).await;
    notification::cancel_run(&fixture.operator, other.id, "deleted").await.unwrap();
    assert_eq!(notification::suspend_month(&fixture.operator, month()).await.unwrap(), 1);
    assert_eq!(notification::suspend_month(&fixture.operator, month()).await.unwrap(), 0);
    assert_eq!(fixture.observe(1).await.facts.state, NotificationState::Suspended);
    assert_eq!(fixture.observe(2).await.facts.state, NotificationState::Cancelled);
    let mut consumer = fixture.consumer("a").await;
    assert_eq!(consumer.claims(&run, &keys(&[1, 2], 1)).await.unavailable, keys(&[1, 2], 1));
}
