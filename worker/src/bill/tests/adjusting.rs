//! A month that is billed again while bills that were sent stay: whose bill that is, what is posted
//! to the next month, and that every member owes once what was priced last.

use store::billing::{AfterSent, PostedDifferences, RevisionKey};
use store::testing::sample_month::EVERYTHING;

use super::Fixture;
use super::rebilling::written;
use super::replay::replay_that_holds;

/// Of members with the plan UNLIMITED-89: one is in quarantine now, one is no longer eligible, and
/// one is not eligible in the next month.
const CHANGES: &str = r"
insert into subscription (member_id, plan_code, from_date, to_date, load) values
    (4, 'LTE-33', '2026-10-31', null, 2),
    (5, 'UNLIMITED-89', '2025-01-01', '2025-01-01', 2),
    (9, 'UNLIMITED-89', '2025-01-01', '2026-11-01', 2)";

/// A month of which revision 1 is live, and whose bills of members 3 to 9 were e-mailed.
async fn sent() -> Fixture {
    let mut fixture = Fixture::new().await;
    fixture.load(1, EVERYTHING).await;
    fixture.bill().await;
    for (state, members) in [
        ("SENT", "3, 4, 5, 9"),
        ("UNKNOWN", "6"),
        ("FAILED", "7"),
        // Sent again, after an unknown outcome.
        ("CLAIMED", "8"),
        ("HANDED_OVER", "1000000"),
    ] {
        fixture.deliver(1, state, members).await;
    }
    fixture.load(2, CHANGES).await;
    fixture.billing.after_sent = AfterSent::Adjust;
    fixture
}

/// The price book with other fees for the plans UNLIMITED-89 and LTE-33.
fn dearer(fixture: &Fixture, by: i64) -> String {
    let book = fixture.price_book.replace("baseFee: 89000", &format!("baseFee: {}", 89000 + by));
    book.replace("baseFee: 33000", &format!("baseFee: {}", 33000 + by))
}

/// Begins, bills, verifies and issues a revision over another.
async fn rebill(fixture: &Fixture, of_revision: i32, book: &str) -> RevisionKey {
    let november = u128::from(fixture.month == "2026-11");
    let uid = 100 * (1 + november) + u128::from(of_revision.unsigned_abs());
    let key = fixture.rebill(uid, of_revision, book).await.key;
    fixture.work_all(&key).await;
    fixture.issue(&key).await;
    key
}

async fn posted(fixture: &Fixture, revision: i32) -> String {
    fixture
        .database
        .read_text(&format!(
            "select string_agg(format('%s %s', member_id, amount), ', ' order by member_id)
             from posted_difference where revision = {revision}"
        ))
        .await
}

/// Bills the next month for the first time.
async fn bill_november(fixture: &mut Fixture) -> RevisionKey {
    fixture.billing.month = "2026-11";
    let key = fixture.begin(11).await.key;
    fixture.work_all(&key).await;
    fixture.issue(&key).await;
    key
}

const NOVEMBER: &str =
    "select string_agg(format('%s %s %s', member_id, code, amount), ', ' order by member_id, line_no)
                        from live_bill_item where month = '2026-11' and kind = 'ADJUSTMENT'";

#[tokio::test]
async fn a_bill_that_was_sent_stays_and_the_next_month_bills_the_difference() {
    let mut fixture = sent().await;
    let book = dearer(&fixture, 310);
    let second = rebill(&fixture, 1, &book).await;
    // Members 1, 2, 10 and the last one were sent nothing. Without another bill, there is no difference.
    assert_eq!(
        written(&fixture, 2).await,
        "1 billed, 2 billed, 4 OVERLAPPING_SUBSCRIPTIONS, 5 ended, 7 billed, 10 billed, 9223372036854775807 billed"
    );
    assert_eq!(posted(&fixture, 2).await, "3 310, 6 310, 8 310, 9 310, 1000000 310");
    let snapshot = fixture.observe(&second).await;
    assert_eq!(snapshot.posted, PostedDifferences { members: 5, amount: 1550 });
    assert_eq!(snapshot.posts_to.map(|month| month.to_string()).as_deref(), Some("2026-11"));
    assert_eq!(snapshot.rebilling.unwrap().changed, 7);
    // The sums are those of the month as readers see it.
    let live = "select sum(total_amount) from live_bill where month = '2026-10'";
    assert_eq!(fixture.database.read_text(live).await, snapshot.amounts.total.to_string());
    let log = "select concat_ws(' ', detail->>'changed', detail->>'posted', detail->>'postsTo', detail->>'afterSent')
               from job_log where kind = 'REBILLING'";
    assert_eq!(fixture.database.read_text(log).await, "7 5 2026-11 ADJUST");

    replay_that_holds(&fixture).await;

    let november = bill_november(&mut fixture).await;
    replay_that_holds(&fixture).await;
    let corrections = "3 CORRECTION 310, 6 CORRECTION 310, 8 CORRECTION 310, 1000000 CORRECTION 310";
    assert_eq!(fixture.database.read_text(NOVEMBER).await, corrections);
    // Member 9 has no plan any more: the difference is reported, and not lost in silence.
    let not_charged = "select string_agg(format('%s %s %s %s', member_id, code, rows, amount), ', ')
                       from not_charged where month = '2026-11' and kind = 'ADJUSTMENT'";
    assert_eq!(fixture.database.read_text(not_charged).await, "9 CORRECTION 1 310");
    let counted = fixture.observe(&november).await.not_charged;
    assert_eq!((counted.adjustments, counted.adjustment_amount), (1, 310));

    // The month that bills the differences is billed again: they are the same.
    rebill(&fixture, 1, &fixture.price_book).await;
    assert_eq!(
        fixture
            .database
            .read_text("select count(*) from bill where month = '2026-11' and revision = 2")
            .await,
        "0"
    );
    let third = fixture.rebill(12, 2, &book).await.key;
    fixture.work_all(&third).await;
    let causes =
        "select string_agg(distinct cause, ' ') from bill_diff where month = '2026-11' and revision = 3";
    assert_eq!(fixture.database.read_text(causes).await, "PRICE_BOOK");
    fixture.issue(&third).await;
    assert_eq!(fixture.database.read_text(NOVEMBER).await, corrections);
}

#[tokio::test]
async fn what_is_posted_already_is_not_posted_again() {
    let mut fixture = sent().await;
    rebill(&fixture, 1, &dearer(&fixture, 310)).await;
    // The same again, and another difference.
    rebill(&fixture, 2, &dearer(&fixture, 310)).await;
    assert_eq!(posted(&fixture, 3).await, "");
    assert_eq!(fixture.database.read_text("select posts_to from revision where revision = 3").await, "");
    rebill(&fixture, 3, &dearer(&fixture, 100)).await;
    assert_eq!(posted(&fixture, 4).await, "3 -210, 6 -210, 8 -210, 9 -210, 1000000 -210");
    // The bills are corrected after all: what stood in their place is posted back.
    fixture.billing.after_sent = AfterSent::Revise;
    rebill(&fixture, 4, &dearer(&fixture, 100)).await;
    assert_eq!(written(&fixture, 5).await, "3 billed, 6 billed, 8 billed, 9 billed, 1000000 billed");
    assert_eq!(posted(&fixture, 5).await, "3 -100, 6 -100, 8 -100, 9 -100, 1000000 -100");
    rebill(&fixture, 5, &dearer(&fixture, 310)).await;
    assert_eq!(posted(&fixture, 6).await, "");

    bill_november(&mut fixture).await;
    assert!(
        fixture
            .database
            .read_text(NOVEMBER)
            .await
            .starts_with("3 CORRECTION 310, 3 CORRECTION -210, 3 CORRECTION -100, 6 CORRECTION 310, ")
    );
}

#[tokio::test]
async fn a_bill_that_was_right_after_all_gets_its_difference_back() {
    let fixture = sent().await;
    rebill(&fixture, 1, &dearer(&fixture, 310)).await;
    let third = rebill(&fixture, 2, &fixture.price_book).await;
    // The bills that stayed are unchanged. The others are as they were in revision 1.
    assert_eq!(
        written(&fixture, 3).await,
        "1 billed, 2 billed, 7 billed, 10 billed, 9223372036854775807 billed"
    );
    assert_eq!(posted(&fixture, 3).await, "3 -310, 6 -310, 8 -310, 9 -310, 1000000 -310");
    assert_eq!(fixture.observe(&third).await.posted, PostedDifferences { members: 5, amount: -1550 });
}

#[tokio::test]
async fn a_bill_that_ends_takes_its_difference_with_it() {
    let fixture = sent().await;
    rebill(&fixture, 1, &dearer(&fixture, 310)).await;
    fixture
        .load(
            3,
            "insert into subscription (member_id, plan_code, from_date, to_date, load) values
                 (3, 'UNLIMITED-89', '2025-01-01', '2025-01-01', 3), (6, 'NO-SUCH-PLAN', '2026-10-31', null, 3)",
        )
        .await;
    rebill(&fixture, 2, &dearer(&fixture, 310)).await;
    assert_eq!(written(&fixture, 3).await, "3 ended, 6 UNKNOWN_PLAN");
    assert_eq!(posted(&fixture, 3).await, "3 -310, 6 -310");
}
