//! Bills, quarantine records and counts that the worker produces.

use store::billing::{self, NotCharged};
use store::testing::sample_month::EVERYTHING;

use super::Fixture;

#[tokio::test]
async fn a_month_with_one_member_of_every_kind() {
    let fixture = Fixture::new().await;
    fixture.load(1, EVERYTHING).await;
    let started = fixture.begin(1).await;
    // Members 31 to 34 are eligible and get quarantined; 40 has only an add-on, 77 is not a member.
    assert_eq!((started.members, started.chunks), (16, 6));
    fixture.work_all(&started.key).await;
    let published = fixture.issue(&started.key).await;

    // The contract's worked example. Usage outside its segment or of an undeclared kind is not billed.
    for line in [
        "1 bill 22355 46127 7363 0 5556 -9 = 61110",
        "1 line 1 BASE LTE-33 21 22355",
        "1 line 2 USAGE data 1685 37963",
        "1 line 3 USAGE voice 4123 8164",
        "1 line 4 DISCOUNT CONTRACT-25 1 -5589",
        "1 line 5 DISCOUNT FAMILY 1 -1774",
        "1 line 6 ROUNDING rounding 1 -9",
        "3 line 2 ADJUSTMENT GOODWILL 1 -1000",
        // 15 days of LTE-33 with 3483 free seconds. The usage at midnight belongs to the next plan, where it
        // is free.
        "10 line 2 USAGE voice 4517 8944",
        "9223372036854775807 line 1 BASE LTE-33 31 33000",
        "31 quarantined UNKNOWN_PLAN plan `NO-SUCH-PLAN` is not in price book test",
        "33 quarantined UNKNOWN_DISCOUNT discount `NO-SUCH-DISCOUNT` is not in price book test",
    ] {
        assert!(published.lines().any(|found| found == line), "{line} is not in\n{published}");
    }
    assert!(published.contains("32 quarantined OVERLAPPING_SUBSCRIPTIONS"), "{published}");
    assert!(published.contains("34 quarantined AMOUNT_OVERFLOW"), "{published}");

    let snapshot = fixture.observe(&started.key).await;
    let counts = snapshot.counts;
    assert_eq!((counts.billed, counts.quarantined), (12, 4));
    assert_eq!((counts.rated_usage, counts.unbillable_usage, counts.quarantined_usage), (6, 5, 3));
    assert_eq!(
        fixture.database.read_text("select format('%s %s %s %s %s', status, total, succeeded, failed, skipped) from job_log where kind = 'BILLING'").await,
        "COMPLETED_WITH_FAILURES 16 12 4 0"
    );
    let not_charged = NotCharged { add_ons: 1, usage_rows: 3, ..NotCharged::default() };
    assert_eq!(snapshot.not_charged, not_charged);
    assert_eq!(
        fixture.database.read_text("select sum(total_amount) from live_bill").await,
        snapshot.amounts.total.to_string()
    );
}

#[tokio::test]
async fn what_is_not_charged_is_counted_and_the_view_shows_it_by_member() {
    let fixture = Fixture::new().await;
    fixture.load(1, EVERYTHING).await;
    // Of members who are unknown (77, 78), have only an add-on (40), or have nothing (42). Members 2 and
    // 31 are charged or in quarantine.
    fixture
        .load(
            2,
            r"insert into member (member_id, load, name) values (42, 2, '\x00');
              insert into subscription (member_id, plan_code, from_date, to_date, load) values
                  (78, 'INSURANCE', '2026-10-05', '2026-10-07', 2), (78, 'INSURANCE', '2026-10-09', null, 2),
                  (78, 'INSURANCE', '2026-11-01', null, 2), (78, 'UNLIMITED-89', '2026-01-01', null, 2),
                  (40, 'INSURANCE', '2025-01-01', '2025-01-01', 2);
              insert into adjustment values (3, 42, '2026-10', 'FEE', 9000000000000000000, 'x', 2),
                  (4, 77, '2026-10', 'FEE', 9000000000000000000, 'x', 2), (5, 77, '2026-10', 'FEE', 1, 'x', 2),
                  (6, 77, '2026-11', 'FEE', 1, 'x', 2), (7, 2, '2026-10', 'FEE', 1, 'x', 2), (8, 31, '2026-10', 'FEE', 1, 'x', 2);
              insert into usage (member_id, started_at, quantity, load, kind, month, source, usage_id) values
                  (40, '2026-10-12T00:00:00+09:00', 9, 2, 'sms', '2026-10', 'default', 'again')",
        )
        .await;
    let started = fixture.begin(1).await;
    fixture.work_all(&started.key).await;
    let snapshot = fixture.observe(&started.key).await;
    let expected = NotCharged {
        add_ons: 3,
        adjustments: 3,
        adjustment_amount: 18_000_000_000_000_000_001,
        usage_rows: 4,
    };
    assert_eq!(snapshot.not_charged, expected);
    assert_eq!(fixture.database.read_text("select count(*) from not_charged").await, "0");
    fixture.issue(&started.key).await;
    let view = "select string_agg(concat_ws(' ', member_id, kind, code, rows, quantity, amount), e'\n' order by member_id, kind)
                from not_charged where month = '2026-10' and revision = 1";
    let lines = [
        "40 ADDON INSURANCE 1",
        "40 USAGE sms 2 10",
        "42 ADJUSTMENT FEE 1 9000000000000000000",
        "77 ADJUSTMENT FEE 2 9000000000000000001",
        "77 USAGE sms 1 1",
        "78 ADDON INSURANCE 2",
        "9223372036854775806 USAGE sms 1 1",
    ];
    assert_eq!(fixture.database.read_text(view).await, lines.join("\n"));
    assert_eq!(billing::read_totals(&fixture.operator).await.unwrap()[0].not_charged, expected);
}

#[tokio::test]
async fn data_loaded_after_the_cutoff_is_not_billed_and_is_counted_as_late() {
    let fixture = Fixture::new().await;
    fixture.load(1, EVERYTHING).await;
    let undisturbed = fixture.bill().await;

    let fixture = Fixture::new().await;
    fixture.load(1, EVERYTHING).await;
    let started = fixture.begin(1).await;
    fixture.work(&started.key, 0).await.unwrap();
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
    fixture.work_all(&started.key).await;
    assert_eq!(fixture.issue(&started.key).await, undisturbed);
    let verification = fixture.observe(&started.key).await.verification.unwrap();
    let late = verification.late;
    assert_eq!((late.usage_rows, late.adjustments, late.grants), (1, 1, 1));
    // The one that ends in 2025 is empty.
    assert_eq!((late.members, late.subscriptions), (2, 2));
}

#[tokio::test]
async fn a_later_version_of_a_row_applies_from_its_load_on() {
    let fixture = Fixture::new().await;
    fixture.load(1, EVERYTHING).await;
    fixture
        .load(
            2,
            "insert into subscription (member_id, plan_code, from_date, to_date, load) values
                 (2, 'UNLIMITED-89', '2025-01-01', '2025-01-01', 2), (3, 'UNLIMITED-89', '2025-01-01', '2026-10-11', 2)",
        )
        .await;
    // Member 2 cancelled the base plan: an add-on without a base plan is not billed.
    let published = fixture.bill().await;
    assert!(!published.lines().any(|line| line.starts_with("2 ")), "{published}");
    assert!(published.lines().any(|line| line == "3 line 1 BASE UNLIMITED-89 10 28710"), "{published}");

    let before = Fixture::new().await;
    before.load(1, EVERYTHING).await;
    let as_of_1 = before.bill().await;
    let fixture = Fixture::new().await;
    fixture.load(1, EVERYTHING).await;
    fixture.load(2, "insert into subscription (member_id, plan_code, from_date, to_date, load) values (3, 'UNLIMITED-89', '2025-01-01', '2026-10-11', 2)").await;
    let store::billing::BeginResult::Started(started) = fixture.try_begin("test/run", 1, Some(1)).await
    else {
        panic!("load 1 has finished");
    };
    fixture.work_all(&started.key).await;
    assert_eq!(fixture.issue(&started.key).await, as_of_1);
}

#[tokio::test]
async fn a_plan_can_change_on_a_day_whose_midnight_comes_twice() {
    // Havana put its clocks back from 1:00 to 0:00 on 4 November 2012: midnight came at 4:00 and at
    // 5:00 UTC.
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
