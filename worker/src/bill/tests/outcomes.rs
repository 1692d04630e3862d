//! What comes out: bills, quarantine, counts.

use super::Fixture;
use super::data::EVERYTHING;

#[tokio::test]
async fn a_month_with_one_of_everything() {
    let fixture = Fixture::new().await;
    fixture.load(1, EVERYTHING).await;
    let begun = fixture.begin(1).await;
    // 31 to 34 are eligible and will be quarantined; 40 has an add-on alone, 77 is not a member.
    assert_eq!((begun.members, begun.chunks), (16, 6));
    fixture.work_all(&begun.key).await;
    let published = fixture.issue(&begun.key).await;

    // The contract's worked example; usage outside its segment and of an undeclared kind is not in it.
    for line in [
        "1 bill 22355 46127 7363 0 5556 -9 = 61110",
        "1 line 1 BASE LTE-33 21 22355",
        "1 line 2 USAGE data 1685 37963",
        "1 line 3 USAGE voice 4123 8164",
        "1 line 4 DISCOUNT CONTRACT-25 1 -5589",
        "1 line 5 DISCOUNT FAMILY 1 -1774",
        "1 line 6 ROUNDING rounding 1 -9",
        "3 line 2 ADJUSTMENT GOODWILL 1 -1000",
        // 15 days of LTE-33 with 3483 free seconds; what came at midnight is the next plan's and free.
        "10 line 2 USAGE voice 4517 8944",
        "9223372036854775807 line 1 BASE LTE-33 31 33000",
        "31 quarantined UNKNOWN_PLAN plan `NO-SUCH-PLAN` is not in price book test",
        "33 quarantined UNKNOWN_DISCOUNT discount `NO-SUCH-DISCOUNT` is not in price book test",
    ] {
        assert!(published.lines().any(|found| found == line), "{line} is not in\n{published}");
    }
    assert!(published.contains("32 quarantined OVERLAPPING_SUBSCRIPTIONS"), "{published}");
    assert!(published.contains("34 quarantined AMOUNT_OVERFLOW"), "{published}");

    let snapshot = fixture.observe(&begun.key).await;
    let counts = snapshot.counts;
    assert_eq!((counts.billed, counts.quarantined), (12, 4));
    assert_eq!((counts.rated_usage, counts.unbillable_usage, counts.quarantined_usage), (6, 5, 3));
    assert_eq!(
        fixture.one("select format('%s %s %s %s %s', status, total, succeeded, failed, skipped) from job_log where kind = 'BILLING'").await,
        "COMPLETED_WITH_FAILURES 16 12 4 0"
    );
    assert_eq!(
        fixture.one("select sum(total_amount) from live_bill").await,
        snapshot.amounts.total.to_string()
    );
}

#[tokio::test]
async fn what_is_loaded_after_the_cutoff_is_left_out_and_counted() {
    let fixture = Fixture::new().await;
    fixture.load(1, EVERYTHING).await;
    let undisturbed = fixture.bill().await;

    let fixture = Fixture::new().await;
    fixture.load(1, EVERYTHING).await;
    let begun = fixture.begin(1).await;
    fixture.work(&begun.key, 0).await.unwrap();
    fixture
        .load(
            2,
            r"insert into member (member_id, load, name) values (5, 2, '\x01'), (1001, 2, '\x01');
              insert into subscription (member_id, plan_code, from_date, to_date, load) values
                  (2, 'UNLIMITED-89', '2025-01-01', '2025-01-01', 2), (1000000, 'LTE-33', '2026-01-01', '2026-10-02', 2),
                  (1001, 'LTE-33', '2026-01-01', null, 2);
              insert into discount_grant (member_id, discount_code, from_date, load) values (1000000, 'FAMILY', '2026-01-01', 2);
              insert into adjustment values (3, 1000000, '2026-10', 'LATE', 5, 'late', 2);
              insert into usage (member_id, started_at, quantity, load, kind, month, source, usage_id) values
                  (1000000, '2026-10-12T00:00:00+09:00', 999999, 2, 'voice', '2026-10', 'default', 'late')",
        )
        .await;
    fixture.work_all(&begun.key).await;
    assert_eq!(fixture.issue(&begun.key).await, undisturbed);
    let verification = fixture.observe(&begun.key).await.verification.unwrap();
    assert_eq!(verification.late_usage, 1);
}

#[tokio::test]
async fn a_later_version_counts_and_an_older_cutoff_does_not_see_it() {
    let fixture = Fixture::new().await;
    fixture.load(1, EVERYTHING).await;
    fixture
        .load(
            2,
            "insert into subscription (member_id, plan_code, from_date, to_date, load) values
                 (2, 'UNLIMITED-89', '2025-01-01', '2025-01-01', 2), (3, 'UNLIMITED-89', '2025-01-01', '2026-10-11', 2)",
        )
        .await;
    // Member 2 took the base plan back: an add-on alone is not billed.
    let published = fixture.bill().await;
    assert!(!published.lines().any(|line| line.starts_with("2 ")), "{published}");
    assert!(published.lines().any(|line| line == "3 line 1 BASE UNLIMITED-89 10 28710"), "{published}");

    let before = Fixture::new().await;
    before.load(1, EVERYTHING).await;
    let as_of_1 = before.bill().await;
    let fixture = Fixture::new().await;
    fixture.load(1, EVERYTHING).await;
    fixture.load(2, "insert into subscription (member_id, plan_code, from_date, to_date, load) values (3, 'UNLIMITED-89', '2025-01-01', '2026-10-11', 2)").await;
    let store::billing::BeginResult::Started(begun) = fixture.attempt("test/run", 1, Some(1)).await else {
        panic!("load 1 has finished");
    };
    fixture.work_all(&begun.key).await;
    assert_eq!(fixture.issue(&begun.key).await, as_of_1);
}

#[tokio::test]
async fn a_plan_changes_on_the_day_whose_midnight_comes_twice() {
    // Havana put its clocks back from 1:00 to 0:00 on 4 November 2012: midnight came at 4:00 and at 5:00 UTC.
    let fixture = Fixture::with("America/Havana", "2012-11").await;
    fixture
        .load(
            1,
            r"insert into member (member_id, load, name) values (1, 1, '\x00');
              insert into subscription (member_id, plan_code, from_date, to_date, load) values
                  (1, 'UNLIMITED-89', '2012-01-01', '2012-11-04', 1), (1, 'LTE-33', '2012-11-04', null, 1);
              insert into usage (member_id, started_at, quantity, load, kind, month, source, usage_id) values
                  (1, '2012-11-04T03:59:59.999999Z', 1000000, 1, 'sms', '2012-11', 'default', 'a'),
                  (1, '2012-11-04T04:00:00Z', 100, 1, 'sms', '2012-11', 'default', 'b'),
                  (1, '2012-11-04T05:00:00Z', 10, 1, 'sms', '2012-11', 'default', 'c'),
                  (1, '2012-11-30T05:00:00Z', 1, 1, 'sms', '2012-11', 'default', 'd')",
        )
        .await;
    let published = fixture.bill().await;
    // 111 messages, of which floor(100 × 27 / 30) are free.
    assert!(published.lines().any(|line| line == "1 line 3 USAGE sms 21 462"), "{published}");
}

#[tokio::test]
async fn totals_of_a_month_pass_64_bits() {
    let fixture = Fixture::new().await;
    fixture
        .load(
            1,
            r"insert into member (member_id, load, name) select id, 1, '\x00' from generate_series(1, 8) id;
              insert into subscription (member_id, plan_code, from_date, load)
                  select id, 'UNLIMITED-89', '2026-01-01', 1 from generate_series(1, 8) id;
              insert into adjustment select id, id, '2026-10', 'HUGE', 9000000000000000000, 'huge', 1 from generate_series(1, 8) id",
        )
        .await;
    let begun = fixture.begin(1).await;
    fixture.work_all(&begun.key).await;
    fixture.issue(&begun.key).await;
    let snapshot = fixture.observe(&begun.key).await;
    assert_eq!(snapshot.amounts.adjustment, 72_000_000_000_000_000_000);
    assert_eq!(snapshot.amounts.total, 72_000_000_000_000_712_000);
    let totals = store::billing::read_totals(&fixture.operator).await.unwrap();
    assert_eq!(totals.len(), 1);
    assert_eq!((totals[0].total, totals[0].counts.billed), (72_000_000_000_000_712_000, 8));
}

#[tokio::test]
async fn nobody_to_bill_is_a_month_of_one_empty_chunk() {
    let fixture = Fixture::new().await;
    fixture
        .load(
            1,
            "insert into usage (member_id, started_at, quantity, load, kind, month, source, usage_id) values
                     (5, '2026-10-12T00:00:00+09:00', 1, 1, 'sms', '2026-10', 'default', 'a')",
        )
        .await;
    let begun = fixture.begin(1).await;
    assert_eq!((begun.members, begun.chunks), (0, 1));
    fixture.work_all(&begun.key).await;
    let verification = fixture.verify(&begun.key).await;
    assert!(verification.passed(), "{:?}", verification.checks);
    assert_eq!(fixture.observe(&begun.key).await.counts.unbillable_usage, 1);
}
