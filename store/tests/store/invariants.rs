//! The invariants hold for a month that was billed and delivered, and each planted violation is
//! found.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domain::ids::{MemberId, Revision};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use store::billing::{self, EndStatus};
use store::crypto::Column;
use store::notification::{
    self, BeginRequest, BeginResult, BillKey, ConsumerId, DeliveryOutcome, Outcome, Scope, Selection,
    TemplateSet,
};
use store::testing::sample_month::EVERYTHING;
use store::testing::{self, BillingFixture, MONTH};
use store::verify::{self, InvariantResult, Uuid, VerificationRequest};

use crate::billing::{bill_month, bill_shard, bill_shards, corrected_month, rebill};

const LEASE: Duration = Duration::from_secs(60);
/// The members whose email arrived; see [`bill_and_send`].
const ARRIVED: [i64; 4] = [1, 2, 3, 5];

/// Bills a month and delivers its bills in three runs. Of the bills of members 1 to 6, the first
/// run sends 1 to 3, 4 and 5 fail and 6 is unknown. The second run retries the failed bills: 5 is
/// sent, 4 fails again. The third run is cancelled before it sends.
async fn bill_and_send(fixture: &BillingFixture) {
    fixture.load(1, EVERYTHING).await;
    fixture
        .database
        .execute("update job_log set status = 'SUCCEEDED', ended_at = now() where kind = 'LOAD'")
        .await;
    encrypt_members(fixture).await;
    bill_month(fixture).await;
    let mut worker = fixture.database.connect_as("monthend_worker").await;
    let consumer = notification::register_consumer(&mut worker, "test", "mock://").await.unwrap();

    let first = Scope::Range { from: member(1), to: member(6) };
    let ends = [
        (1, Outcome::Sent),
        (2, Outcome::Sent),
        (3, Outcome::Sent),
        (4, Outcome::Failed),
        (5, Outcome::Failed),
        (6, Outcome::Unknown),
    ];
    run(fixture, &mut worker, consumer, 11, Selection::Ready, &first, &ends).await;
    let ends = [(4, Outcome::Failed), (5, Outcome::Sent)];
    run(fixture, &mut worker, consumer, 12, Selection::Failed, &Scope::Everyone, &ends).await;
    run(fixture, &mut worker, consumer, 13, Selection::Ready, &Scope::Everyone, &[]).await;
}

async fn run(
    fixture: &BillingFixture,
    worker: &mut PgConnection,
    consumer: ConsumerId,
    uid: u128,
    selection: Selection,
    scope: &Scope,
    ends: &[(i64, Outcome)],
) {
    let name = format!("test/{uid}");
    let templates = TemplateSet { sha256: "0".repeat(64), files: BTreeMap::new() };
    let request = BeginRequest {
        run: &name,
        run_uid: Uuid::from_u128(uid),
        month: MONTH.parse().unwrap(),
        selection,
        scope,
        rehearsal: false,
        skip_zero: false,
        templates: &templates,
        max_per_second: None,
    };
    let BeginResult::Started(id) = notification::begin_run(&fixture.operator, &request).await.unwrap() else {
        panic!("run {uid} was refused")
    };
    let round = notification::open_round(&fixture.operator, id, 0).await.unwrap();
    let facts = notification::read_run(worker, request.run_uid).await.unwrap();
    notification::select_targets(worker, &facts, 100, |_| true).await.unwrap();
    let open = notification::read_open_targets(worker, &facts, None, 100).await.unwrap();
    let last = open.last().expect("targets").member;
    notification::save_checkpoint(worker, id, round, 0, last, i64::try_from(open.len()).unwrap())
        .await
        .unwrap();
    if ends.is_empty() {
        assert_eq!(notification::cancel_run(&fixture.operator, id, "deleted").await.unwrap(), 0);
        return;
    }
    notification::close_round(worker, id, round).await.unwrap();
    let claims = notification::claim_deliveries(worker, &facts, consumer, LEASE, &open).await.unwrap();
    let deliveries: Vec<_> = claims.claimed.iter().map(|claimed| claimed.delivery).collect();
    let outcome = |key: &BillKey| ends.iter().find(|(id, _)| *id == key.member.get()).expect("an end").1;
    let ended: Vec<DeliveryOutcome> = deliveries
        .iter()
        .map(|delivery| DeliveryOutcome {
            delivery: *delivery,
            outcome: outcome(&delivery.key),
            reason: None,
        })
        .collect();
    assert_eq!(
        notification::hand_over_and_record(worker, consumer, LEASE, &deliveries, &[]).await.unwrap().granted,
        deliveries
    );
    assert_eq!(
        notification::hand_over_and_record(worker, consumer, LEASE, &[], &ended).await.unwrap().recorded,
        deliveries
    );
    assert!(notification::finish_run(&fixture.operator, id).await.unwrap());
}

/// Gives every member an encrypted name and address.
pub(crate) async fn encrypt_members(fixture: &BillingFixture) {
    let keyring = testing::keyring();
    let mut sealer = keyring.sealer();
    let ids: Vec<i64> =
        sqlx::query_scalar("select member_id from member").fetch_all(&fixture.database.pool).await.unwrap();
    for id in ids {
        sqlx::query("update member set name = $2, email = $3 where member_id = $1")
            .bind(id)
            .bind(sealer.seal(Column::Name, member(id), "A Name"))
            .bind(sealer.seal(Column::Email, member(id), "a@b.example"))
            .execute(&fixture.database.pool)
            .await
            .unwrap();
    }
}

async fn check(connection: &mut PgConnection) -> Vec<InvariantResult> {
    let keys = ["a".to_owned()];
    let revision = Revision::FIRST;
    let sink: Vec<String> =
        ARRIVED.iter().map(|id| format!("<{MONTH}.{id}.{revision}@example.com>")).collect();
    let request = VerificationRequest {
        month: MONTH.parse().unwrap(),
        active: None,
        keys: Some(&keys),
        sink: Some(&sink),
    };
    verify::verify_month(connection, &request).await.unwrap()
}

fn member(id: i64) -> MemberId {
    MemberId::try_from(id).unwrap()
}

fn violated(report: &[InvariantResult]) -> Vec<&'static str> {
    let violated = report.iter().filter(|checked| !checked.violations.is_empty());
    violated.map(|checked| checked.name).collect()
}

#[tokio::test]
async fn every_invariant_holds_and_each_violation_is_found() {
    let fixture = BillingFixture::new().await;
    bill_and_send(&fixture).await;
    let mut connection = fixture.database.connect_as("monthend_worker").await;
    let report = check(&mut connection).await;
    assert_eq!(violated(&report), [""; 0], "{report:#?}");
    assert_eq!(report.len(), 23);

    let of_run = |uid: u128| format!("(select id from notification where run = 'test/{uid}')");
    let (first, second) = (of_run(11), of_run(12));
    let history = "alter table job_log disable trigger user";
    let finished = "insert into job_log (kind, month, status, ended_at)";
    let cases: Vec<(&str, String)> = vec![
        ("bill-sums", "update bill_item set amount = amount + 1 where member_id = 4 and line_no = 1".into()),
        (
            "bill-sums",
            "update bill_item set amount = amount + 1 where member_id = 4 and line_no = 1;
             update bill b set digest = d.computed from bill_digest d where d.member_id = 4 and b.member_id = 4".into(),
        ),
        ("bill-sums", "update bill set base_amount = base_amount + 1, usage_amount = usage_amount + 1 where member_id = 4".into()),
        ("bills-are-unchanged", "update bill_item set days = days - 1 where member_id = 4 and line_no = 1".into()),
        // Ten from one bill of a chunk to another: every sum stays.
        (
            "bills-are-unchanged",
            "update bill_item set amount = amount + case member_id when 4 then 10 else -10 end where member_id in (4, 5) and line_no = 1;
             update bill set base_amount = base_amount + case member_id when 4 then 10 else -10 end,
                             total_amount = total_amount + case member_id when 4 then 10 else -10 end
             where member_id in (4, 5)".into(),
        ),
        ("one-result-per-member", "delete from bill where member_id = 4".into()),
        ("one-result-per-member", "insert into quarantined_member values ('2026-10', 4, 1, 'X', 'x')".into()),
        ("one-result-per-member", "insert into subscription values (40, 'LTE-33', '2026-01-01', null, 1)".into()),
        ("usage-counted-once", "delete from usage where usage_id = 'a'".into()),
        ("chunks-cover-all-ids", "update chunk set from_member = from_member + 1 where chunk_no = 3".into()),
        ("chunks-cover-all-ids", "update chunk c set to_member = to_member - 1
             where from_member < to_member and not exists (select from outcome where member_id = c.to_member)".into()),
        ("chunks-cover-all-ids", "delete from chunk where to_member = 9223372036854775807".into()),
        ("chunks-match-rows", "update chunk set state = 'PENDING' where chunk_no = 2".into()),
        ("chunks-match-rows", "update chunk set items = items + 1 where chunk_no = 2".into()),
        ("chunks-match-rows", "update chunk set tax_amount = tax_amount + 1 where chunk_no = 2".into()),
        ("month-figures-match-bills", "update revision set month_billed = month_billed + 1".into()),
        ("month-figures-match-bills", "update revision set month_quarantined = null".into()),
        ("month-figures-match-bills", "update revision set month_total = month_total + 1".into()),
        ("job-log-matches-bills", format!("{history}; update job_log set succeeded = succeeded + 1, total = total + 1 where kind = 'BILLING'")),
        ("job-log-matches-notifications", format!("{history}; update job_log set failed = failed - 1, succeeded = succeeded + 1 where kind = 'SEND' and run = 'test/11'")),
        ("job-log-matches-notifications", format!("{history}; update job_log set status = 'FAILED' where run = 'test/13' and kind = 'SEND'")),
        ("job-log-matches-notifications", format!("update notification set targets = 77 where id = {first}")),
        ("job-log-matches-notifications", format!("update publication set messages = 77 where notification = {first}")),
        ("ended-runs-are-closed", "insert into job_log (kind, month) values ('BILLING', '2026-10')".into()),
        ("ended-notifications-hold-nothing", "insert into job_log (kind, month) values ('SEND', '2026-10')".into()),
        ("ended-runs-are-closed", "update month_lock set run = 'a/b', run_uid = gen_random_uuid()".into()),
        ("ended-runs-are-closed", "update revision set state = 'DRAFT'".into()),
        ("ended-notifications-hold-nothing", format!("update notification set state = 'OPEN', closed_at = null where id = {first}")),
        ("ended-notifications-hold-nothing", format!("update publication set done_at = null where notification = {first}")),
        ("ended-notifications-hold-nothing", format!("update delivery set state = 'CLAIMED', holder = 1, lease_until = now() where notification = {first} and member_id = 6")),
        ("ended-notifications-hold-nothing", format!("update notice_target set outcome = null, ended_at = null where notification = {first} and member_id = 1")),
        ("ended-runs-are-closed", "update load set state = 'RUNNING', finished_at = null".into()),
        ("deliveries-match-targets", "update delivery set state = 'SENT' where member_id = 4".into()),
        ("deliveries-match-targets", "update delivery set attempt = 3 where member_id = 1".into()),
        ("deliveries-match-targets", "delete from delivery where member_id = 2".into()),
        ("deliveries-match-targets", format!("update notice_target set outcome = 'SENT' where notification = {second} and member_id = 4")),
        ("recoveries-only-retry", format!("insert into notice_target values ({second}, 1, 1, 1, 'SENT', null, now(), '2026-10')")),
        ("recoveries-only-retry", format!("update notice_target set ended_at = ended_at - interval '1 day' where notification = {second}")),
        ("recoveries-only-retry", format!("update notice_target set after_attempt = 1 where notification = {first} and member_id = 1")),
        ("corrections-follow-sent-bills", format!("update notice_target set corrects = 2 where notification = {first} and member_id = 1")),
        ("revisions-are-unchanged", "update revision set revision = 2".into()),
        ("revisions-are-unchanged", "update revision set digest = repeat('0', 64)".into()),
        ("rollbacks-match-revisions", "update revision set state = 'ROLLED_BACK', closed_at = now()".into()),
        ("rollbacks-match-revisions", "insert into rollback values ('2026-10', 1, 'a/b', gen_random_uuid(), 'x', 1, now())".into()),
        ("rollbacks-match-revisions", "insert into rollback values ('2026-10', 9, 'a/b', gen_random_uuid(), 'x', 1, now())".into()),
        ("rollbacks-match-revisions", format!("{finished} values ('ROLLBACK', '2026-10', 'SUCCEEDED', now())")),
        ("ended-runs-are-closed", "insert into job_log (kind, month) values ('ROLLBACK', '2026-10')".into()),
        ("diffs-match-outcomes", "insert into bill_change values (8, 1, 2, 1, 'BILLED', 'BILLED', 'PLAN', '2026-10')".into()),
        ("envelopes-are-valid", "update member set email = '\\x00' where member_id = 4".into()),
        ("envelopes-are-valid", "update member set name = set_byte(name, 2, 50) where member_id = 4".into()),
        ("envelopes-are-valid", "update member set name = (select name from member where member_id = 5) where member_id = 4".into()),
    ];
    let mut alone = each_is_found(&fixture, &cases).await;
    // Which emails have arrived is no content of the database, and re-billings have their own tests.
    alone.extend(["arrived-emails-match-deliveries"]);
    let of_rebillings = |name: &&str| ["rebillings-", "posted-"].iter().any(|start| name.starts_with(start));
    alone.extend(report.iter().map(|checked| checked.name).filter(of_rebillings));
    let names: BTreeSet<_> = report.iter().map(|checked| checked.name).collect();
    assert_eq!(alone, names, "each has a violation that no other finds");
}

/// Plants each violation and checks that the invariant is violated by it. Returns the invariants
/// that were the only one to be violated.
async fn each_is_found(fixture: &BillingFixture, cases: &[(&str, String)]) -> BTreeSet<&'static str> {
    let mut alone = BTreeSet::new();
    let mut owner = fixture.database.connect().await;
    for (invariant, plant) in cases {
        let mut tx = owner.begin().await.unwrap();
        // As a replica, the session checks no foreign keys.
        let planted = format!("set local session_replication_role = replica; {plant}");
        sqlx::raw_sql(AssertSqlSafe(planted))
            .execute(&mut *tx)
            .await
            .unwrap_or_else(|e| panic!("{plant}: {e}"));
        let report = check(&mut tx).await;
        assert!(
            violated(&report).contains(invariant),
            "{invariant} is not violated by `{plant}`: {report:#?}"
        );
        if let [one] = violated(&report)[..] {
            alone.insert(one);
        }
        tx.rollback().await.unwrap();
    }
    assert_eq!(violated(&check(&mut owner).await), [""; 0]);
    alone
}

#[tokio::test]
async fn the_invariants_hold_after_a_rollback_and_each_violation_is_found() {
    let fixture = BillingFixture::new().await;
    bill_and_send(&fixture).await;
    fixture.roll_back(21, 1).await;
    let mut connection = fixture.database.connect_as("monthend_worker").await;
    let holds = async |connection: &mut PgConnection| {
        let report = check(connection).await;
        assert_eq!(violated(&report), [""; 0], "{report:#?}");
    };
    holds(&mut connection).await;
    let again = fixture.begin(2).await.key;
    bill_shards(&fixture, &again).await;
    holds(&mut connection).await;
    fixture.issue(&again).await;
    holds(&mut connection).await;

    let history = "alter table job_log disable trigger user";
    let cases: Vec<(&str, String)> = vec![
        ("rollbacks-match-revisions", "delete from rollback".into()),
        (
            "rollbacks-match-revisions",
            "update revision set state = 'LIVE', closed_at = null where revision = 1".into(),
        ),
        ("rollbacks-match-revisions", "update revision set reason = 'another' where revision = 1".into()),
        ("rollbacks-match-revisions", "update revision set closed_at = null where revision = 1".into()),
        ("rollbacks-match-revisions", "update revision set issued_at = null where revision = 1".into()),
        (
            "rollbacks-match-revisions",
            "update rollback set rolled_back_at = rolled_back_at - interval '1 day'".into(),
        ),
        (
            "rollbacks-match-revisions",
            "update revision set issued_at = '2020-01-01' where revision = 2".into(),
        ),
        (
            "rollbacks-match-revisions",
            format!("{history}; update job_log set succeeded = 15, failed = 1 where kind = 'ROLLBACK'"),
        ),
        (
            "rollbacks-match-revisions",
            format!("{history}; update job_log set run = 'a/b' where kind = 'ROLLBACK'"),
        ),
        ("rollbacks-match-revisions", format!("{history}; delete from job_log where kind = 'ROLLBACK'")),
        (
            "job-log-matches-bills",
            format!(
                "{history}; update job_log set succeeded = 11, failed = 5 where kind = 'BILLING' and detail->>'revision' = '1'"
            ),
        ),
        ("chunks-match-rows", "delete from bill where revision = 1 and member_id = 4".into()),
        ("revisions-are-unchanged", "update revision set digest = repeat('0', 64) where revision = 1".into()),
        ("revisions-are-unchanged", "delete from revision where revision = 1".into()),
        ("one-result-per-member", "delete from bill where revision = 2 and member_id = 4".into()),
    ];
    each_is_found(&fixture, &cases).await;
}

#[tokio::test]
async fn the_invariants_hold_for_a_month_that_was_billed_again() {
    let fixture = corrected_month().await;
    encrypt_members(&fixture).await;
    // Revision 2 corrects three members, revision 3 changes nothing, revision 4 is rejected when half
    // of its chunks are done, and the draft of revision 5 takes the correction of member 3 back.
    let second = rebill(&fixture, 2, 1).await;
    fixture.issue(&second).await;
    let third = rebill(&fixture, 3, 2).await;
    fixture.issue(&third).await;
    let fourth = fixture.rebill(4, 3, &fixture.price_book).await.key;
    bill_shard(&fixture, &fourth, 0).await;
    billing::reject_revision(&fixture.operator, &fourth, "deleted", EndStatus::Cancelled).await.unwrap();
    fixture.load(3, "insert into adjustment values (4, 3, '2026-10', 'GOODWILL', 500, 'not sorry', 3)").await;
    rebill(&fixture, 5, 3).await;
    // Usage that comes late changes nothing of what was counted.
    fixture
        .load(
            4,
            "insert into usage (member_id, started_at, quantity, load, kind, month, source, usage_id)
             values (1, '2026-10-12T00:00:00+09:00', 1, 4, 'sms', '2026-10', 'default', 'late')",
        )
        .await;
    fixture
        .database
        .execute("update job_log set status = 'SUCCEEDED', ended_at = now() where kind = 'LOAD'")
        .await;
    let mut owner = fixture.database.connect().await;
    let check = async |connection: &mut PgConnection| {
        let request =
            VerificationRequest { month: MONTH.parse().unwrap(), active: None, keys: None, sink: None };
        verify::verify_month(connection, &request).await.unwrap()
    };
    let report = check(&mut owner).await;
    assert_eq!(violated(&report), [""; 0], "{report:#?}");

    let again = |member: i64| {
        format!(
            "insert into bill select member_id, base_amount, usage_amount, discount_amount, adjustment_amount, tax_amount,
                                     rounding_amount, total_amount, 3, month from bill where member_id = {member} and revision = 1;
             insert into bill_item select member_id, quantity, amount, used_quantity, free_allowance, 3, line_no, days, kind,
                                          code, month from bill_item where member_id = {member} and revision = 1"
        )
    };
    let cases: Vec<(&str, String)> = vec![
        ("rebillings-build-on-live-revisions", "update revision set of_revision = 1 where revision = 3".into()),
        ("rebillings-build-on-live-revisions", "update revision set of_revision = null, rebill_reason = null where revision = 3".into()),
        ("rebillings-build-on-live-revisions", "update revision set state = 'ROLLED_BACK' where revision = 2".into()),
        ("rebillings-build-on-live-revisions", "update revision set of_revision = 4 where revision = 5".into()),
        // The same bill as in revision 1, and the same code of the quarantine as in revision 2.
        ("rebillings-write-changes-only", again(8)),
        (
            "rebillings-write-changes-only",
            format!(
                r#"{}; update chunk set changed = changed + 1 where revision = 3 and 8 between from_member and to_member;
                   insert into bill_change select 8, total_amount, total_amount, 3, 'BILLED', 'BILLED', 'PLAN', month
                       from bill where member_id = 8 and revision = 1;
                   update revision set diff = diff || '{{"changed": 1}}' where revision = 3"#,
                again(8)
            ),
        ),
        ("rebillings-write-changes-only", "insert into quarantined_member select month, member_id, 3, code, detail from quarantined_member where revision = 2".into()),
        ("rebillings-write-changes-only", "insert into ineligible_member values ('2026-10', 5, 3)".into()),
        ("rebillings-write-changes-only", "insert into ineligible_member values ('2026-10', 40, 3)".into()),
        ("rebillings-write-changes-only", "insert into ineligible_member values ('2026-10', 3, 2)".into()),
        ("chunks-match-rows", "delete from bill where member_id = 8".into()),
        ("chunks-match-rows", "delete from ineligible_member".into()),
        ("chunks-match-rows", "delete from quarantined_member where revision = 2".into()),
        ("chunks-match-rows", "update bill set tax_amount = tax_amount + 1 where member_id = 3 and revision = 5".into()),
        ("chunks-match-rows", "update chunk set changed = 7 where revision = 3 and chunk_no = 1".into()),
        ("chunks-match-rows", "insert into ineligible_member select '2026-10', to_member, 4 from chunk where revision = 4 and state = 'PENDING' limit 1".into()),
        ("usage-counted-once", "update chunk set rated_usage = rated_usage + 1 where revision = 3 and chunk_no = 1".into()),
        ("usage-counted-once", "update revision set late_usage = 9 where revision = 2".into()),
        ("one-result-per-member", "delete from ineligible_member".into()),
        ("job-log-matches-bills", "alter table job_log disable trigger user; update job_log set kind = 'BILLING' where kind = 'REBILLING'".into()),
        ("diffs-match-outcomes", "delete from bill_change where member_id = 5".into()),
        ("diffs-match-outcomes", "update bill_change set before_total = before_total + 1 where member_id = 3 and revision = 2".into()),
        // The draft has no summary yet, and one row.
        ("diffs-match-outcomes", "update bill_change set after_total = after_total + 1 where revision = 5".into()),
        ("diffs-match-outcomes", "update bill_change set before_outcome = 'NONE', before_total = null where member_id = 3 and revision = 2".into()),
        ("diffs-match-outcomes", "insert into bill_change values (8, 1, 2, 3, 'BILLED', 'BILLED', 'PLAN', '2026-10')".into()),
        ("diffs-match-outcomes", r#"update revision set diff = diff || '{"totalDelta": "1"}' where revision = 3"#.into()),
        ("diffs-match-outcomes", r#"update revision set diff = diff || '{"added": 1}' where revision = 2"#.into()),
    ];
    let mut alone = BTreeSet::new();
    for (invariant, plant) in cases {
        let mut tx = owner.begin().await.unwrap();
        let planted = format!("set local session_replication_role = replica; {plant}");
        sqlx::raw_sql(AssertSqlSafe(planted))
            .execute(&mut *tx)
            .await
            .unwrap_or_else(|e| panic!("{plant}: {e}"));
        let report = check(&mut tx).await;
        assert!(
            violated(&report).contains(&invariant),
            "{invariant} is not violated by `{plant}`: {report:#?}"
        );
        if let [one] = violated(&report)[..] {
            alone.insert(one);
        }
        tx.rollback().await.unwrap();
    }
    for name in
        ["rebillings-build-on-live-revisions", "rebillings-write-changes-only", "diffs-match-outcomes"]
    {
        assert!(alone.contains(name), "{name} has a violation that no other finds: {alone:?}");
    }
    // Outcomes of a version that kept no diff.
    fixture.database.execute("update revision set diff = null; delete from bill_change").await;
    assert_eq!(violated(&check(&mut owner).await), [""; 0]);
}

#[tokio::test]
async fn arrived_emails_are_compared_with_deliveries() {
    let fixture = BillingFixture::new().await;
    bill_and_send(&fixture).await;
    let mut connection = fixture.database.connect_as("monthend_worker").await;
    let message = |id: i64| format!("<{MONTH}.{id}.1@example.com>");
    let all: Vec<String> = ARRIVED.into_iter().map(message).collect();
    let with = |more: &[String]| [all.as_slice(), more].concat();
    let table = [
        (all.clone(), ""),
        // The outcome is unknown: the email may have arrived once.
        (with(&[message(6)]), ""),
        (with(&["2026-09.1.1@example.com".to_owned()]), ""),
        (
            with(&[message(6), message(6)]),
            "member 6 revision 1 is UNKNOWN after 1 ambiguous attempts, and 2 emails arrived",
        ),
        (with(&[message(1)]), "member 1 revision 1 is SENT after 0 ambiguous attempts, and 2 emails arrived"),
        (
            with(&[message(4)]),
            "member 4 revision 1 is FAILED after 0 ambiguous attempts, and 1 emails arrived",
        ),
        (
            with(&[message(7)]),
            "member 7 revision 1 is READY after 0 ambiguous attempts, and 1 emails arrived",
        ),
        (all[1..].to_vec(), "member 1 revision 1 is SENT after 0 ambiguous attempts, and 0 emails arrived"),
        (
            with(&["<hello@example.com>".to_owned()]),
            "`<hello@example.com>` arrived, which is not the Message-ID of a bill",
        ),
    ];
    for (sink, violation) in table {
        let request = VerificationRequest {
            month: MONTH.parse().unwrap(),
            active: None,
            keys: None,
            sink: Some(&sink),
        };
        let report = verify::verify_month(&mut connection, &request).await.unwrap();
        let found: Vec<String> = report.into_iter().flat_map(|checked| checked.violations).collect();
        assert_eq!(found.join("; "), violation, "{sink:?}");
    }
}

#[tokio::test]
async fn a_run_that_should_have_ended_is_found() {
    let fixture = BillingFixture::new().await;
    bill_and_send(&fixture).await;
    fixture.database.execute(
        "with job as (insert into job_log (kind, run, month) values ('SEND', 'test/14', '2026-10') returning id)
         insert into notification (run, run_uid, month, selection, rehearsal, templates, job)
         select 'test/14', '00000000-0000-0000-0000-00000000000e', '2026-10', 'READY', false, repeat('0', 64), id from job",
    )
    .await;
    let mut connection = fixture.database.connect_as("monthend_worker").await;
    let uid = [Uuid::from_u128(14)];
    for (active, expected) in [(None, 0), (Some(&uid[..]), 0), (Some(&[][..]), 1)] {
        let request = VerificationRequest { month: MONTH.parse().unwrap(), active, keys: None, sink: None };
        let report = verify::verify_month(&mut connection, &request).await.unwrap();
        assert_eq!(violated(&report).len(), expected, "{active:?} {report:#?}");
    }
}
