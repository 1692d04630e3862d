//! What must hold of a month holds of one that was billed and told, and each violation of it is found.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::ids::{MemberId, Revision};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use store::crypto::{Column, Keyring};
use store::notification::{
    self, BeginRequest, BeginResult, BillKey, ConsumerId, DeliveryOutcome, Outcome, Scope, Selection,
    TemplateSet,
};
use store::verify::{self, InvariantResult, Uuid, VerificationRequest};

use super::data::EVERYTHING;
use super::{Fixture, MONTH};

const LEASE: Duration = Duration::from_secs(60);
/// Members 1 to 10: three sent, two of them a second time round; see [`told`].
const ARRIVED: [i64; 4] = [1, 2, 3, 5];

/// A month that is billed, and told in three runs: of the bills of members 1 to 6, 1 to 3 were sent, 4 and 5 failed and 6 is
/// unknown; of the failed ones a second run sent 5, and 4 failed again; a third one was cancelled before it did anything.
async fn told(fixture: &Fixture) {
    fixture.load(1, EVERYTHING).await;
    fixture.sql("update job_log set status = 'SUCCEEDED', ended_at = now() where kind = 'LOAD'").await;
    seal(fixture).await;
    fixture.bill().await;
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
    fixture: &Fixture,
    worker: &mut PgConnection,
    consumer: ConsumerId,
    uid: u128,
    selection: Selection,
    scope: &Scope,
    ends: &[(i64, Outcome)],
) {
    let name = format!("test/{uid}");
    let templates = TemplateSet { sha256: "0".repeat(64), files: BTreeMap::new() };
    let asked = BeginRequest {
        run: &name,
        run_uid: Uuid::from_u128(uid),
        month: MONTH.parse().unwrap(),
        selection,
        scope,
        rehearsal: false,
        templates: &templates,
        max_per_second: None,
    };
    let BeginResult::Started(id) = notification::begin_run(&fixture.operator, &asked).await.unwrap() else {
        panic!("run {uid} was refused")
    };
    let round = notification::open_round(&fixture.operator, id, 0).await.unwrap();
    let facts = notification::read_run(worker, asked.run_uid).await.unwrap();
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
    let hands: Vec<_> = claims.claimed.iter().map(|claimed| claimed.delivery).collect();
    let outcome = |key: &BillKey| ends.iter().find(|(id, _)| *id == key.member.get()).expect("an end").1;
    let ended: Vec<DeliveryOutcome> = hands
        .iter()
        .map(|hand| DeliveryOutcome { delivery: *hand, outcome: outcome(&hand.key), reason: None })
        .collect();
    assert_eq!(
        notification::hand_over_and_record(worker, consumer, LEASE, &hands, &[]).await.unwrap().granted,
        hands
    );
    assert_eq!(
        notification::hand_over_and_record(worker, consumer, LEASE, &[], &ended).await.unwrap().recorded,
        hands
    );
    assert!(notification::finish_run(&fixture.operator, id).await.unwrap());
}

/// Gives every member a name and an address in envelopes.
async fn seal(fixture: &Fixture) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("k1"), "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=").unwrap();
    std::fs::write(folder.path().join("active"), "k1").unwrap();
    let keyring = Keyring::from_folder(folder.path()).unwrap();
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

async fn look(connection: &mut PgConnection) -> Vec<InvariantResult> {
    let keys = ["k1".to_owned()];
    let revision = Revision::FIRST;
    let sink: Vec<String> =
        ARRIVED.iter().map(|id| format!("<{MONTH}.{id}.{revision}@example.com>")).collect();
    let asked = VerificationRequest {
        month: MONTH.parse().unwrap(),
        active: None,
        keys: Some(&keys),
        sink: Some(&sink),
    };
    verify::verify_month(connection, &asked).await.unwrap()
}

fn member(id: i64) -> MemberId {
    MemberId::try_from(id).unwrap()
}

fn violated(report: &[InvariantResult]) -> Vec<&'static str> {
    let violated = report.iter().filter(|checked| !checked.violations.is_empty());
    violated.map(|checked| checked.holds.split(' ').next().unwrap_or_default()).collect()
}

#[tokio::test]
async fn everything_holds_and_each_violation_is_found() {
    let fixture = Fixture::new().await;
    told(&fixture).await;
    let mut connection = fixture.database.connect_as("monthend_worker").await;
    let report = look(&mut connection).await;
    assert_eq!(violated(&report), [""; 0], "{report:#?}");
    assert_eq!(report.len(), 14);

    let of_run = |uid: u128| format!("(select id from notification where run = 'test/{uid}')");
    let (first, second) = (of_run(11), of_run(12));
    let history = "alter table job_log disable trigger user";
    let cases: Vec<(&str, String)> = vec![
        ("1", "update bill_item set amount = amount + 1 where member_id = 4 and line_no = 1".into()),
        ("1", "update bill set base_amount = base_amount + 1, usage_amount = usage_amount + 1 where member_id = 4".into()),
        ("2", "delete from bill where member_id = 4".into()),
        ("2", "insert into quarantined_member values ('2026-10', 4, 1, 'X', 'x')".into()),
        ("2", "insert into subscription values (40, 'LTE-33', '2026-01-01', null, 1)".into()),
        ("3", "delete from usage where usage_id = 'a'".into()),
        ("4", "update chunk set from_member = from_member + 1 where chunk_no = 3".into()),
        ("4", "delete from chunk where to_member = 9223372036854775807".into()),
        ("4", "update chunk set state = 'PENDING' where chunk_no = 2".into()),
        ("4", "update chunk set items = items + 1 where chunk_no = 2".into()),
        ("4", "update chunk set tax_amount = tax_amount + 1 where chunk_no = 2".into()),
        ("5", format!("{history}; update job_log set succeeded = succeeded + 1, total = total + 1 where kind = 'BILLING'")),
        ("5", format!("{history}; update job_log set failed = failed - 1, succeeded = succeeded + 1 where kind = 'SEND' and run = 'test/11'")),
        ("5", format!("{history}; update job_log set status = 'FAILED' where run = 'test/13' and kind = 'SEND'")),
        ("5", format!("update notification set targets = 77 where id = {first}")),
        ("5", format!("update publication set messages = 77 where notification = {first}")),
        ("6", "insert into job_log (kind, month) values ('BILLING', '2026-10')".into()),
        ("6", "insert into job_log (kind, month) values ('SEND', '2026-10')".into()),
        ("6", "update month_lock set run = 'a/b', run_uid = gen_random_uuid()".into()),
        ("6", "update revision set state = 'DRAFT'".into()),
        ("6", format!("update notification set state = 'OPEN', closed_at = null where id = {first}")),
        ("6", format!("update publication set done_at = null where notification = {first}")),
        ("6", format!("update delivery set state = 'CLAIMED', holder = 1, lease_until = now() where notification = {first} and member_id = 6")),
        ("6", format!("update notice_target set outcome = null, ended_at = null where notification = {first} and member_id = 1")),
        ("6", "update load set state = 'RUNNING', finished_at = null".into()),
        ("7", "update delivery set state = 'SENT' where member_id = 4".into()),
        ("7", "update delivery set attempt = 3 where member_id = 1".into()),
        ("7", "delete from delivery where member_id = 2".into()),
        ("7", format!("update notice_target set outcome = 'SENT' where notification = {second} and member_id = 4")),
        ("9", format!("insert into notice_target values ({second}, 1, 1, 1, 'SENT', null, now(), '2026-10')")),
        ("9", format!("update notice_target set ended_at = ended_at - interval '1 day' where notification = {second}")),
        ("9", format!("update notice_target set after_attempt = 1 where notification = {first} and member_id = 1")),
        ("10", "update revision set revision = 2".into()),
        ("10", "update revision set digest = repeat('0', 64)".into()),
        ("12", "update member set email = '\\x00' where member_id = 4".into()),
        ("12", "update member set name = set_byte(name, 3, 50) where member_id = 4".into()),
        ("12", "update member set name = (select name from member where member_id = 5) where member_id = 4".into()),
    ];
    let mut owner = fixture.database.connect().await;
    for (number, plant) in cases {
        let mut tx = owner.begin().await.unwrap();
        // What refers to a revision or a job goes along with what is planted.
        let planted = format!("set local session_replication_role = replica; {plant}");
        sqlx::raw_sql(AssertSqlSafe(planted))
            .execute(&mut *tx)
            .await
            .unwrap_or_else(|e| panic!("{plant}: {e}"));
        let report = look(&mut tx).await;
        assert!(violated(&report).contains(&number), "{number} is not violated by `{plant}`: {report:#?}");
        tx.rollback().await.unwrap();
    }
    assert_eq!(violated(&look(&mut owner).await), [""; 0]);
}

#[tokio::test]
async fn what_arrived_is_compared_message_by_message() {
    let fixture = Fixture::new().await;
    told(&fixture).await;
    let mut connection = fixture.database.connect_as("monthend_worker").await;
    let message = |id: i64| format!("<{MONTH}.{id}.1@example.com>");
    let all: Vec<String> = ARRIVED.into_iter().map(message).collect();
    let with = |more: &[String]| [all.as_slice(), more].concat();
    let table = [
        (all.clone(), ""),
        // Ambiguous: it may have arrived once.
        (with(&[message(6)]), ""),
        (with(&["2026-09.1.1@example.com".to_owned()]), ""),
        (
            with(&[message(6), message(6)]),
            "member 6 revision 1 is UNKNOWN after 1 ambiguous attempts, and 2 messages arrived",
        ),
        (
            with(&[message(1)]),
            "member 1 revision 1 is SENT after 0 ambiguous attempts, and 2 messages arrived",
        ),
        (
            with(&[message(4)]),
            "member 4 revision 1 is FAILED after 0 ambiguous attempts, and 1 messages arrived",
        ),
        (
            with(&[message(7)]),
            "member 7 revision 1 is READY after 0 ambiguous attempts, and 1 messages arrived",
        ),
        (all[1..].to_vec(), "member 1 revision 1 is SENT after 0 ambiguous attempts, and 0 messages arrived"),
        (with(&["<hello@example.com>".to_owned()]), "`<hello@example.com>` arrived, which is no notice's"),
    ];
    for (sink, violation) in table {
        let asked = VerificationRequest {
            month: MONTH.parse().unwrap(),
            active: None,
            keys: None,
            sink: Some(&sink),
        };
        let report = verify::verify_month(&mut connection, &asked).await.unwrap();
        let found: Vec<String> = report.into_iter().flat_map(|checked| checked.violations).collect();
        assert_eq!(found.join("; "), violation, "{sink:?}");
    }
}

#[tokio::test]
async fn a_run_that_should_be_over_is_found() {
    let fixture = Fixture::new().await;
    told(&fixture).await;
    fixture.sql(
        "with job as (insert into job_log (kind, run, month) values ('SEND', 'test/14', '2026-10') returning id)
         insert into notification (run, run_uid, month, selection, rehearsal, templates, job)
         select 'test/14', '00000000-0000-0000-0000-00000000000e', '2026-10', 'READY', false, repeat('0', 64), id from job",
    )
    .await;
    let mut connection = fixture.database.connect_as("monthend_worker").await;
    let uid = [Uuid::from_u128(14)];
    for (active, expected) in [(None, 0), (Some(&uid[..]), 0), (Some(&[][..]), 1)] {
        let asked = VerificationRequest { month: MONTH.parse().unwrap(), active, keys: None, sink: None };
        let report = verify::verify_month(&mut connection, &asked).await.unwrap();
        assert_eq!(violated(&report).len(), expected, "{active:?} {report:#?}");
    }
}
