//! A revision over the live one: when it can begin and be issued, and what its verification finds.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use domain::ids::Revision;
use store::billing::{
    self, Baselines, BeginResult, EndStatus, MonthFigures, Rejection, RevisionKey, RollbackResult,
};
use store::testing::BillingFixture;
use store::testing::sample_month::EVERYTHING;
use store::verify::{self, VerificationRequest};

use super::{bill_month, bill_shards};

/// Loaded after the month was billed: member 3 gets another bill, member 4 is in quarantine, member
/// 5 is not eligible any more.
pub(crate) const CORRECTIONS: &str = r"
insert into adjustment values (3, 3, '2026-10', 'GOODWILL', -500, 'sorry again', 2);
insert into subscription (member_id, plan_code, from_date, to_date, load) values
    (4, 'LTE-33', '2026-10-31', null, 2), (5, 'UNLIMITED-89', '2025-01-01', '2025-01-01', 2)";

/// A month of which revision 1 is live, with corrections.
pub(crate) async fn corrected_month() -> BillingFixture {
    let fixture = BillingFixture::new().await;
    fixture.load(1, EVERYTHING).await;
    bill_month(&fixture).await;
    fixture.load(2, CORRECTIONS).await;
    fixture
}

/// Begins and bills a draft over a revision.
pub(crate) async fn rebill(fixture: &BillingFixture, uid: u128, of_revision: i32) -> RevisionKey {
    let key = fixture.rebill(uid, of_revision, &fixture.price_book).await.key;
    bill_shards(fixture, &key).await;
    key
}

fn rejection(result: BeginResult) -> Rejection {
    match result {
        BeginResult::Rejected(rejection) => rejection,
        BeginResult::Started(started) => panic!("started: {started:?}"),
    }
}

#[tokio::test]
async fn a_bill_is_compared_by_its_digest_stored_or_not() {
    let fixture = corrected_month().await;
    let same = "select count(*) > 0 and bool_and(stored = computed) from bill_digest";
    assert_eq!(fixture.database.read_text(same).await, "true");
    // As a version has left it that stored none.
    fixture.database.execute("update bill set digest = null where member_id % 2 = 0").await;
    rebill(&fixture, 2, 1).await;
    let changed = "select sum(changed) from chunk where revision = 2";
    assert_eq!(fixture.database.read_text(changed).await, "3");
}

#[tokio::test]
async fn only_the_highest_live_revision_can_be_billed_again() {
    let fixture = BillingFixture::new().await;
    fixture.load(1, EVERYTHING).await;
    let none_live = rejection(fixture.try_rebill(9, 1, None).await).to_string();
    assert_eq!(
        none_live,
        "revision 1 of month 2026-10 is not the month's highest live revision: no revision is live; to bill the month, create \
         a run without rebill and rollback"
    );
    bill_month(&fixture).await;
    let key = rebill(&fixture, 2, 1).await;
    // A repeated call for the same run changes nothing, and the draft holds the month.
    assert_eq!(fixture.rebill(2, 1, &fixture.price_book).await.key, key);
    assert!(matches!(
        rejection(fixture.try_rebill(3, 1, None).await),
        Rejection::MonthLocked { by, .. } if by == "test/rebill"
    ));
    fixture.issue(&key).await;
    // The run that was deleted and created again is another run: it bills nothing.
    let again = rejection(fixture.try_rebill(3, 1, None).await);
    assert_eq!(
        again,
        Rejection::RevisionConflict {
            month: key.month,
            asked: "1".parse().unwrap(),
            live: Some((key.revision, "test/rebill".to_owned()))
        }
    );
    assert_eq!(
        again.to_string(),
        "revision 1 of month 2026-10 is not the month's highest live revision: revision 2 of run test/rebill is; to change \
         that one, create a run with ofRevision: 2"
    );
    let ahead = rejection(fixture.try_rebill(3, 3, None).await);
    assert!(matches!(ahead, Rejection::RevisionConflict { .. }), "{ahead}");
    let first = rejection(fixture.try_begin("test/other", 4, None).await).to_string();
    assert_eq!(
        first,
        "month 2026-10 is billed already: revision 2 of run test/rebill is live; to bill the month again, create a run with \
         spec.rebill and ofRevision: 2"
    );
    assert_eq!(fixture.database.read_text("select count(*) from revision").await, "2");
    assert_eq!(
        fixture
            .database
            .read_text("select string_agg(kind, ' ' order by id) from job_log where kind <> 'LOAD'")
            .await,
        "BILLING REBILLING"
    );
}

#[tokio::test]
async fn the_history_tells_who_billed_again_and_why() {
    let fixture = corrected_month().await;
    let key = rebill(&fixture, 2, 1).await;
    assert!(fixture.verify(&key).await.passed());
    billing::issue_revision(&fixture.operator, &key, Some("kim")).await.unwrap();
    assert_eq!(
        fixture
            .database
            .read_text(
                "select string_agg(concat_ws(' ', revision, state, run, of_revision, rebill_reason, data_cutoff,
                                             length(price_book), decided_by, total_amount), ', ' order by revision)
                 from bill_history where member_id = 3",
            )
            .await,
        "1 LIVE test/run 1 64 88000, 2 LIVE test/rebill 1 a correction 2 64 kim 87500"
    );
}

#[tokio::test]
async fn a_rejected_rebilling_leaves_the_month_as_it_was() {
    let fixture = corrected_month().await;
    let before = fixture.live_bills().await;
    let key = rebill(&fixture, 2, 1).await;
    billing::reject_revision(&fixture.operator, &key, "deleted", EndStatus::Cancelled).await.unwrap();
    assert_eq!(fixture.live_bills().await, before);
    let again = rebill(&fixture, 3, 1).await;
    assert_eq!(again.revision.get(), 3);
    assert_ne!(fixture.issue(&again).await, before);
}

#[tokio::test]
async fn a_rebilling_that_is_rolled_back_leaves_the_month_as_it_was() {
    let fixture = corrected_month().await;
    let before = fixture.live_bills().await;
    let second = rebill(&fixture, 2, 1).await;
    let corrected = fixture.issue(&second).await;
    let RollbackResult::RolledBack(rollback) = fixture.roll_back(7, 2).await else { panic!("rejected") };
    // Of three members: the others kept the outcome of revision 1.
    assert_eq!(rollback.outcomes, 3);
    assert_eq!(rollback.live_again.map(Revision::get), Some(1));
    assert_eq!(fixture.live_bills().await, before);
    let gone = rejection(fixture.try_rebill(3, 2, None).await).to_string();
    assert!(gone.contains(": revision 1 of run test/run is; "), "{gone}");
    let third = rebill(&fixture, 4, 1).await;
    assert_eq!(fixture.issue(&third).await, corrected);

    let mut connection = fixture.database.connect().await;
    let request = VerificationRequest { month: third.month, active: None, keys: None, sink: None };
    for checked in verify::verify_month(&mut connection, &request).await.unwrap() {
        // The fixture encrypts no members and leaves its loads running.
        let of_the_fixture = ["envelopes-are-valid", "ended-runs-are-closed"].contains(&checked.name);
        assert!(of_the_fixture || checked.violations.is_empty(), "{checked:?}");
    }
}

#[tokio::test]
async fn a_revision_is_issued_only_over_the_highest_live_one() {
    let fixture = corrected_month().await;
    let key = rebill(&fixture, 2, 1).await;
    assert!(fixture.verify(&key).await.passed());
    fixture.database.execute("update revision set state = 'ROLLED_BACK' where revision = 1").await;
    let issue = billing::issue_revision(&fixture.operator, &key, None).await.unwrap_err();
    assert_eq!(
        issue.to_string(),
        "revision 2 of month 2026-10 cannot be issued: it was made over 1, and the highest live revision is none"
    );
    fixture
        .database
        .execute(
            "update revision set state = 'LIVE' where revision = 1;
             update revision set of_revision = null, rebill_reason = null where revision = 2",
        )
        .await;
    let issue = billing::issue_revision(&fixture.operator, &key, None).await.unwrap_err();
    assert_eq!(
        issue.to_string(),
        "revision 2 of month 2026-10 cannot be issued: it was made over none, and the highest live revision is 1"
    );
    assert_eq!(fixture.database.read_text("select count(*) from live_bill where revision = 2").await, "0");
}

#[tokio::test]
async fn verification_compares_the_month_as_it_will_be() {
    let cases = [
        ("members", "update revision set members = members + 1 where revision = 2"),
        // Of a bill that the draft keeps, and of one that it wrote.
        ("bills", "update bill set total_amount = total_amount + 1 where member_id = 8"),
        ("bills", "delete from bill where member_id = 3 and revision = 2"),
        ("bills", "delete from quarantined_member where member_id = 4 and revision = 2"),
        ("bills", "delete from ineligible_member where member_id = 5"),
        ("items", "update bill_item set amount = amount + 1 where member_id = 8"),
        ("items", "delete from bill_item where member_id = 3 and revision = 2 and line_no = 3"),
        ("usage", "update chunk set rated_usage = rated_usage + 1 where revision = 2 and chunk_no = 1"),
        ("changes", "update chunk set changed = changed + 1 where revision = 2 and chunk_no = 1"),
        // Somebody who has nothing is said to have nothing any more.
        ("changes", "insert into ineligible_member values ('2026-10', 40, 2)"),
        // The sums of the month agree; those of two chunks do not.
        (
            "changes",
            "update chunk set total_amount = total_amount + case chunk_no when 1 then 1 else -1 end
             where revision = 2 and chunk_no in (1, 2)",
        ),
        ("changes", "insert into ineligible_member values ('2026-10', 3, 2)"),
        ("diff", "delete from bill_change where member_id = 5"),
        ("diff", "update bill_change set before_total = before_total + 1 where member_id = 5"),
        ("diff", "update bill_change set after_total = after_total + 1 where member_id = 3"),
    ];
    let fixture = corrected_month().await;
    let key = rebill(&fixture, 2, 1).await;
    let verification = fixture.verify(&key).await;
    assert!(verification.passed(), "{:?}", verification.checks);
    let tables =
        ["revision", "bill", "bill_item", "quarantined_member", "ineligible_member", "bill_change", "chunk"];
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
    assert!(fixture.verify(&key).await.passed());
}

#[tokio::test]
async fn a_verified_draft_is_compared_with_what_is_live() {
    let fixture = corrected_month().await;
    let total = fixture.database.read_text("select sum(total_amount) from live_bill").await;
    let key = rebill(&fixture, 2, 1).await;
    assert_eq!(fixture.observe(&key).await.baselines, None);
    fixture.verify(&key).await;
    let baselines = fixture.observe(&key).await.baselines.unwrap();
    let live = MonthFigures { members: 16, total: total.parse().unwrap() };
    // Member 5 is no longer eligible.
    let draft = MonthFigures { members: 15, total: fixture.observe(&key).await.amounts.total };
    assert_eq!(baselines, Baselines { draft, live: Some(live), previous_month: None });

    // The month before: a revision that is live, and one above it that is not.
    let copy = |revision: i32, state: &str, factor: i32| {
        format!(
            "insert into revision select (jsonb_populate_record(r, jsonb_build_object('month', '2026-09', 'state', '{state}',
                 'revision', {revision}, 'run_uid', gen_random_uuid(), 'month_total', {factor} * r.month_total))).*
             from revision r where revision = 1 and month = '2026-10'"
        )
    };
    fixture.database.execute(&copy(1, "LIVE", 2)).await;
    fixture.database.execute(&copy(2, "ROLLED_BACK", 3)).await;
    let previous_month = Some(MonthFigures { total: 2 * live.total, ..live });
    let baselines = fixture.observe(&key).await.baselines.unwrap();
    assert_eq!(baselines, Baselines { draft, live: Some(live), previous_month });

    fixture.issue(&key).await;
    assert_eq!(fixture.observe(&key).await.baselines, None);
}

#[tokio::test]
async fn readers_see_the_month_before_or_after_and_nothing_between() {
    let fixture = corrected_month().await;
    let before = fixture.live_bills().await;
    let (reads, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let reader = async {
        let mut seen = BTreeSet::new();
        while !done.load(Ordering::Relaxed) {
            seen.insert(fixture.live_bills().await);
            reads.fetch_add(1, Ordering::Relaxed);
        }
        seen
    };
    // Until a read that began after the call has ended.
    let is_read = async || {
        let two_more = reads.load(Ordering::Relaxed) + 2;
        while reads.load(Ordering::Relaxed) < two_more {
            tokio::task::yield_now().await;
        }
    };
    let writer = async {
        let mut after = BTreeSet::new();
        for round in 0..5 {
            let key = rebill(&fixture, 100 + round, 1).await;
            fixture.verify(&key).await;
            billing::issue_revision(&fixture.operator, &key, None).await.unwrap();
            is_read().await;
            after.insert(fixture.live_bills().await);
            fixture.roll_back(200 + round, key.revision.into()).await;
            is_read().await;
        }
        done.store(true, Ordering::Relaxed);
        after
    };
    let (seen, after) = tokio::join!(reader, writer);
    assert_eq!(after.len(), 1);
    assert_eq!(seen, after.into_iter().chain([before]).collect());
}
