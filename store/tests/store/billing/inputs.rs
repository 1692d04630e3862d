//! Which loads count for a run: loads that are taken back, that come late, that a source still owes.

use domain::ids::{MemberId, Revision};
use store::billing::{self, BeginResult, EndStatus, LateRows, RevisionKey, Scope};
use store::load;
use store::testing::sample_month::EVERYTHING;
use store::testing::{BillingFixture, MONTH};
use store::verify::{self, VerificationRequest};

use super::rebilling::CORRECTIONS;
use super::{bill_month, bill_shard, bill_shards, corrected_month, rebill};

/// Completes the jobs of the fixture's loads, and reads every violation except of what the fixture
/// does not write.
async fn violations(fixture: &BillingFixture) -> Vec<String> {
    let complete =
        "update job_log set status = 'SUCCEEDED', ended_at = now() where kind = 'LOAD' and status = 'RUNNING'
                    and id in (select job from load where state = 'FINISHED')";
    fixture.database.execute(complete).await;
    let mut worker = fixture.database.connect_as("monthend_worker").await;
    let request = VerificationRequest { month: MONTH.parse().unwrap(), active: None, keys: None, sink: None };
    let report = verify::verify_month(&mut worker, &request).await.unwrap();
    let violated = report.into_iter().filter(|checked| checked.name != "envelopes-are-valid");
    violated.flat_map(|checked| checked.violations).collect()
}

async fn late(fixture: &BillingFixture) -> LateRows {
    let months = billing::read_late_months(&fixture.operator).await.unwrap();
    assert_eq!(months.len(), 1);
    months[0].rows
}

async fn digest(fixture: &BillingFixture, key: &RevisionKey) -> String {
    let verification = fixture.verify(key).await;
    assert!(verification.passed(), "{:?}", verification.checks);
    verification.digest
}

#[tokio::test]
async fn a_month_that_is_billed_again_after_a_take_back_is_as_without_the_load() {
    let fixture = corrected_month().await;
    let without = fixture.live_bills().await;
    let second = rebill(&fixture, 2, 1).await;
    let with = fixture.issue(&second).await;
    assert_ne!(with, without);

    let taken_back = fixture.take_back(2).await;
    assert_eq!((taken_back.by, taken_back.source.as_str()), (3, "default"));
    assert_eq!(taken_back.rows, [("subscriptions".to_owned(), 2), ("adjustments".to_owned(), 1)]);
    assert_eq!(taken_back.billed, [(MONTH.parse().unwrap(), "2".parse().unwrap())]);
    // What is live stays, and stays explained.
    assert_eq!(fixture.live_bills().await, with);
    assert_eq!(violations(&fixture).await, [""; 0]);
    assert_eq!(late(&fixture).await, LateRows { taken_back: 2, ..LateRows::default() });

    let third = rebill(&fixture, 3, 2).await;
    assert_eq!(fixture.issue(&third).await, without);
    assert_eq!(fixture.observe(&third).await.data_cutoff.get(), 3);
    assert_eq!(violations(&fixture).await, [""; 0]);
    assert_eq!(late(&fixture).await, LateRows::default());

    // The cut-off pins what counts: as of load 2, load 2 was not taken back.
    fixture.roll_back(9, 3).await;
    let BeginResult::Started(again) = fixture.try_rebill(4, 2, Some(2)).await else {
        panic!("it is rejected")
    };
    bill_shards(&fixture, &again.key).await;
    assert_eq!(
        digest(&fixture, &again.key).await,
        fixture.observe(&second).await.verification.unwrap().digest
    );
}

#[tokio::test]
async fn a_load_that_a_run_uses_can_be_taken_back_without_an_effect_on_the_run() {
    let undisturbed = BillingFixture::new().await;
    undisturbed.load(1, EVERYTHING).await;
    undisturbed.load(2, CORRECTIONS).await;
    let expected = bill_month(&undisturbed).await;

    let fixture = BillingFixture::new().await;
    fixture.load(1, EVERYTHING).await;
    fixture.load(2, CORRECTIONS).await;
    let key = fixture.begin(1).await.key;
    bill_shard(&fixture, &key, 0).await;
    fixture.take_back(2).await;
    bill_shard(&fixture, &key, 1).await;
    assert_eq!(fixture.issue(&key).await, expected);
    let late = fixture.observe(&key).await.verification.unwrap().late;
    assert_eq!(late, LateRows { taken_back: 2, ..LateRows::default() });
    assert_eq!(violations(&fixture).await, [""; 0]);
}

#[tokio::test]
async fn usage_adjustments_members_and_grants_of_a_load_that_was_taken_back_do_not_count() {
    let fixture = BillingFixture::new().await;
    fixture.load(1, EVERYTHING).await;
    fixture
        .load(
            2,
            r"insert into member (member_id, load, name) values (77, 2, '\x00');
              insert into discount_grant (member_id, discount_code, from_date, load) values (2, 'FAMILY', '2026-01-01', 2);
              insert into adjustment values (3, 4, '2026-10', 'FEE', 9, 'x', 2);
              insert into usage (member_id, started_at, quantity, load, kind, month, source, usage_id) values
                  (1000000, '2026-10-12T00:00:00+09:00', 999999, 2, 'voice', '2026-10', 'default', 'wrong')",
        )
        .await;
    fixture.take_back(2).await;
    let started = fixture.begin(1).await;
    // Member 77 has a base plan and is unknown again.
    assert_eq!((started.data_cutoff.get(), started.members), (3, 16));
    bill_shards(&fixture, &started.key).await;
    let billed = fixture.issue(&started.key).await;
    let before = BillingFixture::new().await;
    before.load(1, EVERYTHING).await;
    assert_eq!(billed, bill_month(&before).await);
    assert_eq!(violations(&fixture).await, [""; 0]);
    assert_eq!(fixture.observe(&started.key).await.verification.unwrap().late, LateRows::default());
}

#[tokio::test]
async fn rows_of_every_kind_that_come_late_are_counted_and_raise_no_alarm() {
    let fixture = BillingFixture::new().await;
    fixture.load(1, EVERYTHING).await;
    bill_month(&fixture).await;
    assert_eq!(late(&fixture).await, LateRows::default());
    fixture
        .load(
            2,
            r"insert into member (member_id, load, name) values (50, 2, '\x00');
              insert into subscription (member_id, plan_code, from_date, to_date, load) values
                  (50, 'LTE-33', '2026-10-31', null, 2), (51, 'LTE-33', '2026-09-01', '2026-10-02', 2),
                  (50, 'LTE-33', '2026-11-01', null, 2), (51, 'LTE-33', '2026-08-01', '2026-10-01', 2);
              insert into discount_grant (member_id, discount_code, from_date, to_date, load) values
                  (50, 'FAMILY', '2026-01-01', '2027-01-01', 2), (50, 'FAMILY', '2026-11-01', null, 2);
              insert into adjustment values (3, 50, '2026-10', 'FEE', 9, 'x', 2), (4, 50, '2026-11', 'FEE', 9, 'x', 2);
              insert into usage (member_id, started_at, quantity, load, kind, month, source, usage_id) values
                  (50, '2026-10-31T12:00:00+09:00', 5, 2, 'voice', '2026-10', 'default', 'x'),
                  (50, '2026-10-31T12:00:00+09:00', 5, 2, 'sms', '2026-10', 'default', 'y')",
        )
        .await;
    let expected =
        LateRows { members: 1, subscriptions: 2, grants: 1, adjustments: 1, usage_rows: 2, taken_back: 0 };
    assert_eq!(late(&fixture).await, expected);
    assert_eq!(violations(&fixture).await, [""; 0]);
    fixture.take_back(2).await;
    assert_eq!(late(&fixture).await, LateRows::default());
    assert_eq!(violations(&fixture).await, [""; 0]);
}

#[tokio::test]
async fn a_load_or_seed_that_was_killed_raises_no_alarm() {
    let fixture = BillingFixture::new().await;
    fixture.load(1, EVERYTHING).await;
    let key = fixture.begin(1).await.key;
    bill_shards(&fixture, &key).await;
    // A seed writes to the tables before it finishes. Of a killed one, first the job is closed.
    fixture
        .database
        .execute(
            "with job as (insert into job_log (kind, status, ended_at) values ('SEED', 'FAILED', now()) returning id)
             insert into load (number, kind, source, job) select 2, 'SEED', 'seed', id from job;
             insert into usage (member_id, started_at, quantity, load, kind, month, source, usage_id) values
                 (1, '2026-10-31T12:00:00+09:00', 5, 2, 'voice', '2026-10', 'seed', 'x')",
        )
        .await;
    fixture.issue(&key).await;
    assert_eq!(violations(&fixture).await, [""; 0]);
    assert_eq!(late(&fixture).await, LateRows::default());
    // The next load sweeps its rows away.
    let mut worker = fixture.database.connect_as("monthend_worker").await;
    assert!(load::try_lock(&mut worker).await.unwrap());
    assert_eq!(load::clean_up_dead_loads(&mut worker).await.unwrap().len(), 1);
    assert_eq!(violations(&fixture).await, [""; 0]);
    // A load that is said to be finished, of a job that failed, is a violation.
    fixture
        .database
        .execute("update load set state = 'FINISHED', finished_at = now() where number = 2")
        .await;
    assert_eq!(violations(&fixture).await, ["load 2 is FINISHED, its job FAILED"]);
}

#[tokio::test]
async fn a_run_waits_until_its_sources_cover_the_month() {
    let fixture = BillingFixture::new().await;
    let sources = ["cdr-a".to_owned(), "cdr-b".to_owned()];
    let begin = async |uid, cutoff| match fixture.try_begin_requiring(uid, cutoff, &sources).await {
        BeginResult::Started(started) => format!("started as of {}", started.data_cutoff),
        BeginResult::Rejected(rejection) => rejection.to_string(),
    };
    let nothing = "the input of month 2026-10 is incomplete: source cdr-a: nothing is loaded; \
                   source cdr-b: nothing is loaded";
    assert_eq!(begin(1, None).await, nothing);
    fixture.load(1, EVERYTHING).await;
    assert_eq!(begin(1, None).await, nothing);

    let from = async |number: i64, source: &str, from: &str, to: &str| {
        fixture.load(number, "select 1").await;
        let describe = format!(
            "update load set source = '{source}', days_from = '{from}', days_to = '{to}' where number = {number}"
        );
        fixture.database.execute(&describe).await;
    };
    from(2, "cdr-a", "2026-10-01", "2026-11-01").await;
    from(3, "cdr-b", "2026-10-01", "2026-10-31").await;
    let one_day = "the input of month 2026-10 is incomplete: source cdr-b: no load covers 2026-10-31";
    assert_eq!(begin(1, None).await, one_day);
    from(4, "cdr-b", "2026-10-31", "2026-11-05").await;
    fixture.take_back(2).await;
    let taken_back = "the input of month 2026-10 is incomplete: source cdr-a: nothing is loaded";
    assert_eq!(begin(1, None).await, taken_back);
    // What counts is what the run would bill.
    assert_eq!(begin(1, Some(3)).await, one_day);
    assert_eq!(fixture.database.read_text("select count(*) from revision").await, "0");
    assert_eq!(begin(1, Some(4)).await, "started as of 4");
}

#[tokio::test]
async fn what_is_late_for_some_members_is_what_a_run_of_the_late_bills() {
    let fixture = BillingFixture::new().await;
    fixture.load(1, EVERYTHING).await;
    bill_month(&fixture).await;
    let usage_of = |member: i64, load: i64| {
        format!(
            "insert into usage (member_id, started_at, quantity, load, kind, month, source, usage_id)
             values ({member}, '2026-10-31T12:00:00+09:00', 5, {load}, 'sms', '2026-10', 'default', 'late {member}')"
        )
    };
    let of_2 = r"insert into member (member_id, load, name) values (60, 2, '\x00');
                 insert into subscription (member_id, plan_code, from_date, to_date, load) values
                     (2, 'INSURANCE', '2026-10-31', null, 2), (3, 'INSURANCE', '2026-11-01', null, 2);
                 insert into discount_grant (member_id, discount_code, from_date, load) values (2, 'FAMILY', '2026-01-01', 2);
                 insert into adjustment values (3, 2, '2026-10', 'FEE', 9, 'x', 2)";
    fixture.load(2, &format!("{of_2};{};{}", usage_of(2, 2), usage_of(10, 2))).await;
    fixture.load(3, &format!("{};{}", usage_of(1, 3), usage_of(10, 3).replace("late 10", "wrong"))).await;
    fixture.take_back(3).await;
    let late = async |uid, of_revision, scope, cutoff| {
        let key = fixture.rebill_scope(uid, of_revision, &fixture.price_book, &scope, cutoff).await.key;
        bill_shards(&fixture, &key).await;
        let verification = fixture.verify(&key).await;
        assert!(verification.passed(), "{:?}", verification.checks);
        (key, verification.late)
    };
    let range = |from: i64, to: i64| Scope::Range {
        from: MemberId::try_from(from).unwrap(),
        to: MemberId::try_from(to).unwrap(),
    };
    let all =
        LateRows { members: 1, subscriptions: 1, grants: 1, adjustments: 1, usage_rows: 2, taken_back: 0 };
    for (uid, scope, expected) in [
        (10, range(2, 60), all),
        (11, range(3, 9), LateRows::default()),
        (12, range(10, 10), LateRows { usage_rows: 1, ..LateRows::default() }),
        (13, Scope::Members(vec![2.try_into().unwrap()]), LateRows { members: 0, usage_rows: 1, ..all }),
    ] {
        let (key, counted) = late(uid, 1, scope, Some(1)).await;
        assert_eq!(counted, expected, "run {uid}");
        billing::reject_revision(&fixture.operator, &key, "deleted", EndStatus::Cancelled).await.unwrap();
    }

    let listed = async |key: &RevisionKey| {
        let listed =
            "select string_agg(member_id::text, ' ' order by member_id) from scope_member where revision = ";
        fixture.database.read_text(&format!("{listed}{}", key.revision)).await
    };
    let (second, counted) = late(20, 1, Scope::Late, None).await;
    assert_eq!((listed(&second).await.as_str(), counted), ("2 10", LateRows::default()));
    fixture.issue(&second).await;
    assert_eq!(violations(&fixture).await, [""; 0]);
    // Taken back only now, it is late for those whom it was about.
    fixture.take_back(2).await;
    let (third, _) = late(21, second.revision.get(), range(1, 9), Some(4)).await;
    assert_eq!(fixture.observe(&third).await.verification.unwrap().late.taken_back, 4);
    fixture.issue(&third).await;
    let (fourth, _) = late(22, third.revision.get(), Scope::Late, None).await;
    assert_eq!(listed(&fourth).await, "2 10");
    fixture.issue(&fourth).await;
    assert_eq!(violations(&fixture).await, [""; 0]);
}

/// Two adjustments of the month, and a third of whom nobody is charged for it.
const LATE_ADJUSTMENTS: &str = "insert into adjustment values
    (71, 5, '2026-10', 'FEE', 9, 'x', 2), (72, 6, '2026-10', 'FEE', 9, 'x', 2), (73, 60, '2026-10', 'FEE', 9, 'x', 2)";

/// Bills the scope again, issues it, and returns its revision.
async fn bill_scope(
    fixture: &BillingFixture,
    uid: u128,
    of_revision: Revision,
    scope: &Scope,
    cutoff: Option<i64>,
) -> Revision {
    let book = &fixture.price_book;
    let key = fixture.rebill_scope(uid, of_revision.get(), book, scope, cutoff).await.key;
    bill_shards(fixture, &key).await;
    fixture.issue(&key).await;
    key.revision
}

#[tokio::test]
async fn a_scope_does_not_hide_what_is_late_for_others() {
    let fixture = BillingFixture::new().await;
    fixture.load(1, EVERYTHING).await;
    bill_month(&fixture).await;
    fixture.load(2, LATE_ADJUSTMENTS).await;
    let adjustments = |rows| LateRows { adjustments: rows, ..LateRows::default() };
    assert_eq!(late(&fixture).await, adjustments(3));
    let first = "1".parse().unwrap();
    // Which of the rows are of member 6 is not known.
    let list = Scope::Members(vec![6.try_into().unwrap()]);
    let listed = bill_scope(&fixture, 20, first, &list, None).await;
    assert_eq!(late(&fixture).await, adjustments(3));
    // Load 2 is billed for member 6 only.
    fixture.take_back(2).await;
    assert_eq!(late(&fixture).await, LateRows { taken_back: 3, ..LateRows::default() });
    fixture.load(4, &LATE_ADJUSTMENTS.replace(", 2)", ", 4)")).await;
    fixture.roll_back(21, listed.into()).await;
    assert_eq!(late(&fixture).await, adjustments(3));
    // All that is late is billed, and everyone.
    let second = bill_scope(&fixture, 22, first, &Scope::Late, None).await;
    assert_eq!(late(&fixture).await, LateRows::default());
    fixture.roll_back(23, second.into()).await;
    bill_scope(&fixture, 24, first, &Scope::Everyone, None).await;
    assert_eq!(late(&fixture).await, LateRows::default());
}

#[tokio::test]
async fn a_scope_as_of_an_earlier_load_does_not_hide_that_others_are_billed_with_a_later_one() {
    let fixture = BillingFixture::new().await;
    fixture.load(1, EVERYTHING).await;
    fixture.load(2, LATE_ADJUSTMENTS).await;
    bill_month(&fixture).await;
    // These tests don't count what is not charged as a worker does.
    fixture.database.execute("update chunk set not_charged_adjustments = 3 where chunk_no = 1").await;
    let not_charged = async || billing::read_totals(&fixture.operator).await.unwrap()[0].not_charged;
    let of_everyone = not_charged().await;
    assert_eq!(of_everyone.adjustments, 3);
    let scope = Scope::Members(vec![6.try_into().unwrap()]);
    let listed = bill_scope(&fixture, 20, "1".parse().unwrap(), &scope, Some(1)).await;
    assert_eq!(late(&fixture).await, LateRows::default());
    assert_eq!(not_charged().await, of_everyone);
    assert_eq!(fixture.take_back(2).await.billed, [(MONTH.parse().unwrap(), listed)]);
    assert_eq!(late(&fixture).await, LateRows { taken_back: 3, ..LateRows::default() });
}

#[tokio::test]
async fn what_is_not_charged_is_as_of_the_revision_that_billed_the_member_last() {
    let fixture = BillingFixture::new().await;
    fixture.load(1, EVERYTHING).await;
    bill_month(&fixture).await;
    fixture
        .load(
            2,
            "insert into adjustment values (60, 60, '2026-10', 'FEE', 9, 'x', 2), (61, 61, '2026-10', 'FEE', 9, 'x', 2)",
        )
        .await;
    let not_charged =
        "select string_agg(format('%s %s %s', revision, member_id, kind), ', ' order by member_id, kind)
                       from not_charged where month = '2026-10' and member_id < 100";
    let before = fixture.database.read_text(not_charged).await;
    assert!(!before.contains("60") && before.contains("1 77 USAGE"), "{before}");
    let scope = Scope::Members(vec![60.try_into().unwrap()]);
    let key = fixture.rebill_scope(10, 1, &fixture.price_book, &scope, None).await.key;
    bill_shards(&fixture, &key).await;
    fixture.issue(&key).await;
    let number = key.revision;
    assert_eq!(
        fixture.database.read_text(not_charged).await,
        before.replace("1 77 USAGE", &format!("{number} 60 ADJUSTMENT, 1 77 USAGE"))
    );
    fixture.roll_back(11, number.into()).await;
    assert_eq!(fixture.database.read_text(not_charged).await, before);
    let key = rebill(&fixture, 12, 1).await;
    fixture.issue(&key).await;
    let after = fixture.database.read_text(not_charged).await;
    let number = key.revision;
    assert!(after.contains(&format!("{number} 60 ADJUSTMENT, {number} 61 ADJUSTMENT")), "{after}");
    assert!(!after.contains("1 77"), "{after}");
}
