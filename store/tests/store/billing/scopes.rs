//! A month of which some members are billed again: the members of the scope get what billing
//! everyone again would give them, and nothing changes outside of it.

use std::collections::BTreeSet;

use domain::ids::MemberId;
use domain::price_book::PriceBook;
use sqlx::{AssertSqlSafe, Connection as _};
use store::billing::{self, EndStatus, RevisionKey, RollbackResult, Scope, ScopeKind};
use store::testing::sample_month::EVERYTHING;
use store::testing::{BillingFixture, MONTH};
use store::verify::{self, InvariantResult, VerificationRequest};

use super::{bill_month, bill_shards, corrected_month};

/// The highest member id, who has a bill.
const LAST: i64 = i64::MAX;

fn member(id: i64) -> MemberId {
    MemberId::try_from(id).unwrap()
}

fn range(from: i64, to: i64) -> Scope {
    Scope::Range { from: member(from), to: member(to) }
}

fn members(ids: &[i64]) -> Scope {
    Scope::Members(ids.iter().map(|id| member(*id)).collect())
}

/// Knows the plan of member 31, who is in quarantine without it, and another fee for LTE-33.
fn corrected_price_book(fixture: &BillingFixture) -> String {
    let plans = "plans:\n  - { code: NO-SUCH-PLAN, name: A plan at last, baseFee: 10000, usage: {} }\n";
    let corrected =
        fixture.price_book.replacen("plans:\n", plans, 1).replace("baseFee: 33000", "baseFee: 30000");
    assert!(PriceBook::parse(&corrected).is_ok());
    corrected
}

/// Begins and bills a draft of a scope, with the corrected price book.
async fn rebill_scope(fixture: &BillingFixture, uid: u128, of_revision: i32, scope: &Scope) -> RevisionKey {
    let book = corrected_price_book(fixture);
    let key = fixture.rebill_scope(uid, of_revision, &book, scope, None).await.key;
    bill_shards(fixture, &key).await;
    key
}

async fn roll_back(fixture: &BillingFixture, uid: u128, revision: &RevisionKey) {
    let result = fixture.roll_back(uid, revision.revision.into()).await;
    assert!(matches!(result, RollbackResult::RolledBack(_)), "{result:?}");
}

/// The live lines of a month in which the members of the scope are as in `full`, and all others as
/// before.
fn merged(before: &str, full: &str, is_of_scope: impl Fn(i64) -> bool) -> BTreeSet<String> {
    let of = |text: &str, within: bool| -> Vec<String> {
        let id = |line: &str| line.split(' ').next().unwrap().parse().unwrap();
        text.lines().filter(|line| is_of_scope(id(line)) == within).map(str::to_owned).collect()
    };
    of(full, true).into_iter().chain(of(before, false)).collect()
}

fn lines(text: &str) -> BTreeSet<String> {
    text.lines().map(str::to_owned).collect()
}

async fn violations(fixture: &BillingFixture) -> Vec<InvariantResult> {
    let mut connection = fixture.database.connect().await;
    let request = VerificationRequest { month: MONTH.parse().unwrap(), active: None, keys: None, sink: None };
    let mut report = verify::verify_month(&mut connection, &request).await.unwrap();
    // The fixture encrypts no members and leaves its loads running.
    report.retain(|checked| {
        !checked.violations.is_empty()
            && !["envelopes-are-valid", "ended-runs-are-closed"].contains(&checked.name)
    });
    report
}

/// The live month's members with an outcome, those in quarantine and the total, as the metrics have
/// them and as the views have them.
async fn figures(fixture: &BillingFixture) -> [String; 2] {
    let totals = billing::read_totals(&fixture.operator).await.unwrap();
    let of_month = &totals[0];
    let metrics = format!("{} {} {}", of_month.members, of_month.counts.quarantined, of_month.total);
    let views = fixture
        .database
        .read_text(
            "select format('%s %s %s', (select count(*) from live_bill) + (select count(*) from quarantine),
                           (select count(*) from quarantine), (select sum(total_amount) from live_bill))",
        )
        .await;
    [metrics, views]
}

/// A corrected month, its live lines, and those after everyone was billed again.
async fn billed_and_corrected() -> (BillingFixture, String, String) {
    let fixture = corrected_month().await;
    let before = fixture.live_bills().await;
    let everyone = rebill_scope(&fixture, 2, 1, &Scope::Everyone).await;
    let full = fixture.issue(&everyone).await;
    roll_back(&fixture, 3, &everyone).await;
    (fixture, before, full)
}

#[tokio::test]
async fn only_the_members_of_the_scope_are_billed_again() {
    let (fixture, before, full) = billed_and_corrected().await;
    assert_ne!(before, full);
    type IsOfScope = fn(i64) -> bool;
    // The scope, its eligible members, and those whose outcome changes: the fee of members 1, 10,
    // 34, 1000000 and the last one (34 stays in quarantine), the plan of 31, and 3 to 5 by load 2.
    let scopes: [(Scope, IsOfScope, i64, i64); 11] = [
        (range(3, 4), |id| (3..=4).contains(&id), 2, 2),
        (range(1, 3), |id| id <= 3, 3, 2),
        (range(4, LAST), |id| id >= 4, 12, 6),
        (range(1, LAST), |_| true, 15, 8),
        (range(LAST, LAST), |id| id == LAST, 1, 1),
        (range(11, 30), |_| false, 0, 0),
        (range(5, 5), |id| id == 5, 0, 1),
        // Twice the same, one who is not known, and one who is not eligible.
        (members(&[LAST, 5, 3, 3, 78, 40]), |id| [3, 5, LAST].contains(&id), 2, 3),
        (members(&[2, 6]), |id| [2, 6].contains(&id), 2, 0),
        (Scope::Quarantined, |id| (31..=34).contains(&id), 4, 1),
        (Scope::Late, |id| (3..=5).contains(&id), 2, 3),
    ];
    for (n, (scope, is_of_scope, eligible, changed)) in (0..).zip(scopes) {
        let key = rebill_scope(&fixture, 100 + n, 1, &scope).await;
        assert_eq!(fixture.live_bills().await, before, "a draft is seen");
        let verification = fixture.verify(&key).await;
        assert!(verification.passed(), "{scope:?}: {:?}", verification.checks);
        let snapshot = fixture.observe(&key).await;
        let rebilling = snapshot.rebilling.unwrap();
        assert_eq!(rebilling.scope, scope.kind());
        assert_eq!((snapshot.members, rebilling.changed), (eligible, changed), "{scope:?}");
        assert_eq!(snapshot.members_done(), eligible, "{scope:?}");
        let draft = snapshot.baselines.unwrap().draft;

        let live = fixture.issue(&key).await;
        assert_eq!(lines(&live), merged(&before, &full, is_of_scope), "{scope:?}");
        let [metrics, views] = figures(&fixture).await;
        assert_eq!(metrics, views, "{scope:?}");
        assert!(views.starts_with(&format!("{} ", draft.members)), "{scope:?}: {draft:?} {views}");
        assert!(views.ends_with(&format!(" {}", draft.total)), "{scope:?}: {draft:?} {views}");
        assert_eq!(violations(&fixture).await, [], "{scope:?}");

        roll_back(&fixture, 200 + n, &key).await;
        assert_eq!(fixture.live_bills().await, before, "{scope:?}");
        assert_eq!(violations(&fixture).await, [], "{scope:?}");
    }
}

#[tokio::test]
async fn scopes_follow_each_other_and_are_rolled_back_one_by_one() {
    let (fixture, before, full) = billed_and_corrected().await;
    let first = rebill_scope(&fixture, 10, 1, &range(1, 4)).await;
    let with_first = fixture.issue(&first).await;
    let second = rebill_scope(&fixture, 11, first.revision.get(), &members(&[4, 5, 31])).await;
    // The comparison is with what is live: member 4 changed in the revision below.
    assert_eq!(fixture.observe(&second).await.rebilling.unwrap().changed, 2);
    let with_second = fixture.issue(&second).await;
    assert_eq!(lines(&with_second), merged(&before, &full, |id| id <= 5 || id == 31));
    assert_eq!(violations(&fixture).await, []);

    // One that is rejected changes nothing, also if half of its members are billed.
    let rejected = rebill_scope(&fixture, 12, second.revision.get(), &range(5, LAST)).await;
    billing::reject_revision(&fixture.operator, &rejected, "deleted", EndStatus::Cancelled).await.unwrap();
    assert_eq!(fixture.live_bills().await, with_second);
    assert_eq!(violations(&fixture).await, []);

    // Everyone again, over both.
    let everyone = rebill_scope(&fixture, 13, second.revision.get(), &Scope::Everyone).await;
    assert_eq!(fixture.issue(&everyone).await, full);
    let [metrics, views] = figures(&fixture).await;
    assert_eq!(metrics, views);
    assert_eq!(violations(&fixture).await, []);
    // And a scope over that, with the old price book.
    let back =
        fixture.rebill_scope(14, everyone.revision.get(), &fixture.price_book, &range(31, 31), None).await;
    bill_shards(&fixture, &back.key).await;
    let baselines = fixture.observe(&back.key).await.baselines;
    assert_eq!(baselines, None, "it is not verified");
    let live = fixture.issue(&back.key).await;
    assert_eq!(lines(&live), merged(&full, &before, |id| id == 31));
    assert_eq!(violations(&fixture).await, []);

    for (n, (revision, below)) in
        (0..).zip([(&back.key, &full), (&everyone, &with_second), (&second, &with_first), (&first, &before)])
    {
        roll_back(&fixture, 20 + n, revision).await;
        assert_eq!(&fixture.live_bills().await, below, "{revision:?}");
        let [metrics, views] = figures(&fixture).await;
        assert_eq!(metrics, views, "{revision:?}");
        assert_eq!(violations(&fixture).await, [], "{revision:?}");
    }
}

#[tokio::test]
async fn the_chunks_of_a_scope_cover_its_ids_and_no_others() {
    let fixture = BillingFixture::new().await;
    fixture.load(1, EVERYTHING).await;
    bill_month(&fixture).await;
    let table = [
        (range(4, 10), "1 4-6 3, 2 7-9 3, 3 10-10 1"),
        (range(1, 4), "1 1-3 3, 2 4-4 1"),
        (range(11, 30), "1 11-30 0"),
        (range(34, LAST), "1 34-9223372036854775807 3"),
        (range(LAST, LAST), "1 9223372036854775807-9223372036854775807 1"),
        (
            members(&[LAST, 31, 2, 1]),
            "1 1-9223372036854775806 3, 2 9223372036854775807-9223372036854775807 1",
        ),
        // Who has only an add-on, and who is not known.
        (members(&[40, 41]), "1 1-9223372036854775807 0"),
        (Scope::Quarantined, "1 1-33 3, 2 34-9223372036854775807 1"),
        (Scope::Late, "1 1-9223372036854775807 0"),
    ];
    for (n, (scope, expected)) in (0..).zip(table) {
        let started = fixture.rebill_scope(10 + n, 1, &fixture.price_book, &scope, None).await;
        let plan = fixture
            .database
            .read_text(&format!(
                "select string_agg(format('%s %s-%s %s', chunk_no, from_member, to_member, members), ', ' order by chunk_no)
                 from chunk where revision = {}",
                started.key.revision
            ))
            .await;
        assert_eq!(plan, expected, "{scope:?}");
        // A repeated call changes nothing.
        assert_eq!(fixture.rebill_scope(10 + n, 1, &fixture.price_book, &scope, None).await, started);
        billing::reject_revision(&fixture.operator, &started.key, "deleted", EndStatus::Cancelled)
            .await
            .unwrap();
    }
}

/// Loaded after the month was billed.
const LATE: &str = r"
insert into usage (member_id, started_at, quantity, load, kind, month, source, usage_id) values
    (1, '2026-10-13T00:00:00+09:00', 1, 2, 'data', '2026-10', 'default', 'late');
insert into adjustment values
    (11, 6, '2026-10', 'GOODWILL', -500, 'late', 2),
    (12, 7, '2026-09', 'GOODWILL', -500, 'of another month', 2);
insert into subscription (member_id, plan_code, from_date, to_date, load) values
    -- Taken back.
    (8, 'UNLIMITED-89', '2025-01-01', '2025-01-01', 2),
    -- Of the month after, of a month before, and one that ends when the month begins.
    (9, 'INSURANCE', '2026-11-01', null, 2),
    (9, 'INSURANCE', '2026-01-01', '2026-02-01', 2),
    (9, 'LTE-33', '2026-09-01', '2026-10-01', 2),
    -- One day of the month, at each end.
    (31, 'INSURANCE', '2026-10-31', null, 2),
    (33, 'INSURANCE', '2026-01-01', '2026-10-02', 2);
insert into discount_grant (member_id, discount_code, from_date, to_date, load) values
    (10, 'CONTRACT-25', '2026-01-01', null, 2),
    -- Shortened, so that it no longer has a day in the month.
    (1, 'FAMILY', '2026-10-22', '2026-10-22', 2);
insert into member (member_id, load, name) values
    -- Another name.
    (2, 2, '\x01')";

async fn listed(fixture: &BillingFixture, uid: u128, of_revision: i32, cutoff: Option<i64>) -> String {
    let started = fixture.rebill_scope(uid, of_revision, &fixture.price_book, &Scope::Late, cutoff).await;
    let listed = format!(
        "select string_agg(member_id::text, ' ' order by member_id) from scope_member where revision = {}",
        started.key.revision
    );
    let listed = fixture.database.read_text(&listed).await;
    billing::reject_revision(&fixture.operator, &started.key, "deleted", EndStatus::Cancelled).await.unwrap();
    listed
}

#[tokio::test]
async fn late_is_who_has_something_that_was_loaded_after_the_highest_live_cutoff() {
    let fixture = BillingFixture::new().await;
    fixture.load(1, EVERYTHING).await;
    bill_month(&fixture).await;
    assert_eq!(listed(&fixture, 2, 1, None).await, "");
    fixture.load(2, LATE).await;
    fixture.load(3, "insert into adjustment values (13, 5, '2026-10', 'GOODWILL', -500, 'later', 3)").await;
    assert_eq!(listed(&fixture, 3, 1, None).await, "1 5 6 8 10 31 33");
    // What is after the run's own cut-off is not late for it.
    assert_eq!(listed(&fixture, 4, 1, Some(2)).await, "1 6 8 10 31 33");
    assert_eq!(listed(&fixture, 5, 1, Some(1)).await, "");

    // The cut-off of the highest live revision is one for all, whatever its scope.
    let second = fixture.rebill_scope(6, 1, &fixture.price_book, &range(5, 8), Some(2)).await.key;
    bill_shards(&fixture, &second).await;
    fixture.issue(&second).await;
    let over = second.revision.get();
    assert_eq!(listed(&fixture, 7, over, None).await, "5");
    let third = fixture.rebill_scope(8, over, &fixture.price_book, &Scope::Late, None).await.key;
    bill_shards(&fixture, &third).await;
    fixture.issue(&third).await;
    assert_eq!(violations(&fixture).await, []);
    let over = third.revision.get();
    assert_eq!(listed(&fixture, 9, over, None).await, "");
}

#[tokio::test]
async fn the_history_tells_which_members_were_billed_again() {
    let fixture = corrected_month().await;
    let second = rebill_scope(&fixture, 2, 1, &range(3, 4)).await;
    fixture.issue(&second).await;
    let third = rebill_scope(&fixture, 3, 2, &members(&[31, 7, 7])).await;
    fixture.issue(&third).await;
    let fourth = rebill_scope(&fixture, 4, 3, &Scope::Late).await;
    assert_eq!(fixture.observe(&fourth).await.rebilling.unwrap().scope, ScopeKind::Late);
    fixture.issue(&fourth).await;
    assert_eq!(
        fixture
            .database
            .read_text("select string_agg(concat_ws(' ', revision, detail->'scope', total), ', ' order by r.revision)
                        from job_log j join revision r on r.job = j.id")
            .await,
        "1 16, 2 {\"memberRange\": {\"to\": 4, \"from\": 3}} 2, 3 {\"memberIds\": [31, 7, 7]} 2, 4 {\"select\": \"Late\"} 0"
    );
    assert_eq!(
        fixture
            .database
            .read_text(
                "select string_agg(distinct concat_ws(' ', revision, scope, scope_from, scope_to), ', ') from bill_history"
            )
            .await,
        "1 EVERYONE 1 9223372036854775807, 2 RANGE 3 4, 3 MEMBERS 1 9223372036854775807"
    );
}

#[tokio::test]
async fn each_violation_of_a_scope_is_found() {
    let (fixture, ..) = billed_and_corrected().await;
    // Revision 3 bills members 3 to 5 again, revision 4 those in quarantine.
    let third = rebill_scope(&fixture, 10, 1, &range(3, 5)).await;
    fixture.issue(&third).await;
    let fourth = rebill_scope(&fixture, 11, 3, &Scope::Quarantined).await;
    fixture.issue(&fourth).await;
    assert_eq!(violations(&fixture).await, []);
    let copy = |member: i64, revision: i32| {
        format!(
            "insert into bill select member_id, base_amount, usage_amount, discount_amount, adjustment_amount, tax_amount,
                                     rounding_amount, total_amount + 1, {revision}, month
             from bill where member_id = {member} and revision = 1"
        )
    };
    let cases: [(&str, String); 13] = [
        ("rebillings-write-changes-only", copy(6, 3)),
        ("rebillings-write-changes-only", copy(8, 4)),
        ("rebillings-write-changes-only", "delete from scope_member where member_id = 31".into()),
        ("chunks-cover-all-ids", "update chunk set to_member = to_member + 1 where revision = 3".into()),
        (
            "chunks-cover-all-ids",
            "update chunk set from_member = 1 where revision = 3 and chunk_no = 1".into(),
        ),
        ("chunks-match-rows", "delete from bill where revision = 3 and member_id = 3".into()),
        ("chunks-match-rows", "delete from bill where revision = 4".into()),
        ("chunks-match-rows", "insert into scope_member values ('2026-10', 4, 8)".into()),
        ("usage-counted-once", "update chunk set rated_usage = rated_usage + 1 where revision = 3".into()),
        ("usage-counted-once", "insert into scope_member values ('2026-10', 4, 1)".into()),
        (
            "month-figures-match-bills",
            "update revision set month_total = month_total + 1 where revision = 4".into(),
        ),
        // Eligible as of load 2 and the corrected price book, by which only members of the scopes are billed.
        ("one-result-per-member", "delete from bill where member_id in (6, 31)".into()),
        ("one-result-per-member", "delete from ineligible_member".into()),
    ];
    let mut owner = fixture.database.connect().await;
    for (invariant, plant) in cases {
        let mut tx = owner.begin().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(format!("set local session_replication_role = replica; {plant}")))
            .execute(&mut *tx)
            .await
            .unwrap_or_else(|error| panic!("{plant}: {error}"));
        let request =
            VerificationRequest { month: MONTH.parse().unwrap(), active: None, keys: None, sink: None };
        let report = verify::verify_month(&mut tx, &request).await.unwrap();
        let violated: Vec<&str> = report
            .iter()
            .filter(|checked| !checked.violations.is_empty())
            .map(|checked| checked.name)
            .collect();
        assert!(violated.contains(&invariant), "{invariant} is not violated by `{plant}`: {violated:?}");
        tx.rollback().await.unwrap();
    }
}

#[tokio::test]
async fn verification_of_a_scope_finds_what_is_wrong_with_it() {
    let fixture = corrected_month().await;
    let key = rebill_scope(&fixture, 2, 1, &range(3, 10)).await;
    let verification = fixture.verify(&key).await;
    assert!(verification.passed(), "{:?}", verification.checks);
    let cases = [
        ("members", "update revision set members = members + 1 where revision = 2"),
        // Of a bill that the draft keeps.
        ("bills", "update bill set total_amount = total_amount + 1 where member_id = 8"),
        ("items", "update bill_item set amount = amount + 1 where member_id = 8"),
        ("usage", "update chunk set rated_usage = rated_usage + 1 where revision = 2 and chunk_no = 1"),
        ("chunks", "update chunk set from_member = 1 where revision = 2 and chunk_no = 1"),
        ("chunks", "update chunk set to_member = to_member + 1 where revision = 2 and to_member = 10"),
        // Outside of the scope.
        ("changes", "insert into ineligible_member values ('2026-10', 2, 2)"),
    ];
    let tables = ["revision", "bill", "bill_item", "ineligible_member", "chunk"];
    for table in tables {
        fixture.database.execute(&format!("create table kept_{table} as table {table}")).await;
    }
    fixture.database.execute("alter table chunk drop constraint chunk_month_revision_fkey").await;
    for (check, planted) in cases {
        fixture.database.execute(planted).await;
        let verification = fixture.verify(&key).await;
        let failed: Vec<_> =
            verification.checks.iter().filter(|c| !c.passed).map(|c| c.check.as_str()).collect();
        assert!(failed.contains(&check), "{planted}: {failed:?}");
        for table in tables {
            fixture
                .database
                .execute(&format!("delete from {table}; insert into {table} select * from kept_{table}"))
                .await;
        }
    }
    // What is wrong outside of the scope is not this run's.
    fixture.database.execute("update bill set total_amount = total_amount + 1 where member_id = 2").await;
    assert!(fixture.verify(&key).await.passed());
}
