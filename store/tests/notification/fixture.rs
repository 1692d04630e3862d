//! A month with bills, and what runs and consumers do with them.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::ids::{MemberId, Revision};
use domain::month::BillingMonth;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, PgPool, Postgres};
use store::notification::{
    self, BeginRequest, BeginResult, BillKey, ClaimResult, ClaimedDelivery, ConsumerId, DeliveryOutcome,
    HandOverResult, NotificationId, Outcome, RunFacts, Scope, Selection, SelectionResult, Snapshot,
    TemplateSet, Uuid,
};
use store::testing::TestDatabase;

pub(crate) const MONTH: &str = "2026-10";
pub(crate) const LEASE: Duration = Duration::from_secs(120);

pub(crate) struct Fixture {
    pub(crate) database: TestDatabase,
    pub(crate) operator: PgPool,
    pub(crate) worker: PgPool,
}

/// What a consumer that exists for the test's sake holds.
pub(crate) struct Consumer {
    pub(crate) id: ConsumerId,
    pub(crate) connection: PoolConnection<Postgres>,
}

impl Fixture {
    /// Members 1 to `members` with bills in revision 1, which is live.
    pub(crate) async fn with_bills(members: i64) -> Self {
        let database = TestDatabase::new().await;
        let operator = as_role(&database.url, "monthend_operator");
        let operator = store::pool::connect(&operator, "test operator", 4).await.unwrap();
        let worker = as_role(&database.url, "monthend_worker");
        let worker = notification::connect_for_lookups(&worker, "test worker", 8).await.unwrap();
        let fixture = Self { database, operator, worker };
        fixture
            .sql(&format!(
                "with job as (insert into job_log (kind) values ('LOAD') returning id)
                 insert into load (number, kind, source, state, finished_at, job)
                 select 1, 'LOAD', 'default', 'FINISHED', now(), id from job;
                 insert into price_book (sha256, version, content) values (repeat('a', 64), '1', 'the book');
                 select open_billing_month('{MONTH}');
                 insert into member (member_id, load, locale, name, email)
                 select id, 1, case id % 2 when 0 then 'en' end, '\\x01', '\\x02' from generate_series(1, {members}) id"
            ))
            .await;
        fixture.issue(1, &format!("select generate_series(1, {members})")).await;
        fixture.sql("analyze").await;
        fixture
    }

    /// A live revision with a bill for each member that the query gives.
    pub(crate) async fn issue(&self, revision: i32, members: &str) {
        self.sql(&format!(
            "with job as (insert into job_log (kind, month) values ('BILLING', '{MONTH}') returning id)
             insert into revision (month, revision, run, run_uid, state, fence, data_cutoff, price_book, chunk_size, shards,
                                   members, job, issued_at)
             select '{MONTH}', {revision}, 'test/billing', gen_random_uuid(), 'LIVE', {revision}, 1, repeat('a', 64), 1000, 1,
                    0, id, now() from job;
             insert into bill (member_id, base_amount, usage_amount, discount_amount, adjustment_amount, tax_amount,
                               rounding_amount, total_amount, revision, month)
             select id, 1000 * {revision}, 0, 0, 0, 90, 0, 1000 * {revision}, {revision}, '{MONTH}' from ({members}) m (id);
             insert into bill_item (member_id, quantity, amount, used_quantity, free_allowance, revision, line_no, days,
                                    kind, code, month)
             select id, 31, 1000 * {revision}, null, null, {revision}, 1, 31, 'BASE', 'LTE-33', '{MONTH}' from ({members}) m (id)"
        ))
        .await;
    }

    /// Runs statements as the owner.
    pub(crate) async fn sql(&self, statements: &str) {
        let done = sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&self.database.pool).await;
        done.unwrap_or_else(|error| panic!("{statements}: {error}"));
    }

    /// The first column of the first row, as text; `null` for nothing.
    pub(crate) async fn one(&self, query: &str) -> String {
        let query = format!("select coalesce((({query}))::text, 'null')");
        sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(&self.database.pool).await.unwrap()
    }

    /// Every delivery: member, state, attempt.
    pub(crate) async fn deliveries(&self) -> String {
        self.one(
            "select string_agg(format('%s %s %s', member_id, state, attempt), ', ' order by member_id, revision) from delivery",
        )
        .await
    }

    /// Every target of a run: member, and its outcome and reason if it has one.
    pub(crate) async fn outcomes(&self, run: &RunFacts) -> String {
        let id = run.id.0;
        self.one(&format!(
            "select string_agg(concat_ws(' ', member_id, outcome, reason), ', ' order by member_id)
             from notice_target where notification = {id}"
        ))
        .await
    }

    pub(crate) async fn worker(&self) -> PoolConnection<Postgres> {
        self.worker.acquire().await.unwrap()
    }

    pub(crate) async fn consumer(&self, name: &str) -> Consumer {
        let mut connection = self.worker().await;
        let id = notification::register_consumer(&mut connection, name, "mock://").await.unwrap();
        Consumer { id, connection }
    }

    pub(crate) async fn try_begin(&self, uid: u128, selection: Selection, scope: &Scope) -> BeginResult {
        let name = format!("test/run-{uid}");
        let asked = BeginRequest {
            run: &name,
            run_uid: Uuid::from_u128(uid),
            month: month(),
            selection,
            scope,
            rehearsal: false,
            templates: &templates(),
            max_per_second: None,
        };
        notification::begin_run(&self.operator, &asked).await.unwrap()
    }

    /// Begins a run and chooses its targets.
    pub(crate) async fn run(&self, uid: u128, selection: Selection, scope: &Scope) -> RunFacts {
        let BeginResult::Started(_) = self.try_begin(uid, selection, scope).await else { panic!("refused") };
        self.choose(uid).await
    }

    pub(crate) async fn ready(&self, uid: u128) -> RunFacts {
        self.run(uid, Selection::Ready, &Scope::Everyone).await
    }

    pub(crate) async fn choose(&self, uid: u128) -> RunFacts {
        let mut connection = self.worker().await;
        let run = notification::read_run(&mut connection, Uuid::from_u128(uid)).await.unwrap();
        let selected = notification::select_targets(&mut connection, &run, 3, |_| true).await.unwrap();
        assert!(matches!(selected, SelectionResult::Complete { .. }), "{selected:?}");
        notification::read_run(&mut connection, Uuid::from_u128(uid)).await.unwrap()
    }

    pub(crate) async fn look(&self, uid: u128) -> Snapshot {
        notification::observe(&self.operator, Uuid::from_u128(uid))
            .await
            .unwrap()
            .expect("a run that has begun")
    }

    /// Lets every lease run out.
    pub(crate) async fn expire(&self) {
        self.sql(
            "update delivery set lease_until = now() - interval '1 second' where lease_until is not null",
        )
        .await;
    }

    pub(crate) async fn settle(&self) -> (i64, i64) {
        let settled = notification::end_expired_leases(&self.operator, month()).await.unwrap();
        (settled.unknown, settled.freed)
    }

    /// Takes the bills up and ends them this way.
    pub(crate) async fn end(&self, run: &RunFacts, members: &[i64], outcome: Outcome) {
        let mut consumer = self.consumer("ends").await;
        let hands = consumer.claim(run, &keys(members, 1)).await;
        assert_eq!(hands.len(), members.len(), "claimed");
        if outcome == Outcome::Unknown {
            consumer.hand_over(&hands).await;
            self.expire().await;
            assert_eq!(self.settle().await.0, i64::try_from(members.len()).unwrap());
            return;
        }
        consumer.deliver(&hands, outcome).await;
    }
}

impl Consumer {
    pub(crate) async fn claims(&mut self, run: &RunFacts, keys: &[BillKey]) -> ClaimResult {
        notification::claim_deliveries(&mut self.connection, run, self.id, LEASE, keys).await.unwrap()
    }

    pub(crate) async fn claim(&mut self, run: &RunFacts, keys: &[BillKey]) -> Vec<ClaimedDelivery> {
        self.claims(run, keys).await.claimed.into_iter().map(|claimed| claimed.delivery).collect()
    }

    pub(crate) async fn advance(&mut self, hand_over: &[ClaimedDelivery], ended: &[Ended]) -> HandOverResult {
        notification::hand_over_and_record(&mut self.connection, self.id, LEASE, hand_over, ended)
            .await
            .unwrap()
    }

    /// Hands everything over.
    pub(crate) async fn hand_over(&mut self, hands: &[ClaimedDelivery]) {
        let advanced = self.advance(hands, &[]).await;
        assert_eq!(advanced.granted, hands, "{advanced:?}");
    }

    /// Hands everything over and records how it ended.
    pub(crate) async fn deliver(&mut self, hands: &[ClaimedDelivery], outcome: Outcome) {
        self.hand_over(hands).await;
        let advanced = self.advance(&[], &ended(hands, outcome)).await;
        assert_eq!(advanced.recorded, hands, "{advanced:?}");
    }
}

pub(crate) fn ended(hands: &[ClaimedDelivery], outcome: Outcome) -> Vec<DeliveryOutcome> {
    let reason = (outcome != Outcome::Sent).then(|| "550 no such user".to_owned());
    hands.iter().map(|hand| DeliveryOutcome { delivery: *hand, outcome, reason: reason.clone() }).collect()
}

pub(crate) fn month() -> BillingMonth {
    MONTH.parse().unwrap()
}

pub(crate) fn member(id: i64) -> MemberId {
    MemberId::try_from(id).unwrap()
}

pub(crate) fn keys(members: &[i64], revision: i32) -> Vec<BillKey> {
    let revision = Revision::try_from(i64::from(revision)).unwrap();
    members.iter().map(|id| BillKey { member: member(*id), revision }).collect()
}

pub(crate) fn members(hands: &[ClaimedDelivery]) -> Vec<i64> {
    hands.iter().map(|hand| hand.key.member.get()).collect()
}

pub(crate) fn id(beginning: BeginResult) -> NotificationId {
    match beginning {
        BeginResult::Started(id) => id,
        BeginResult::Rejected(refusal) => panic!("{refusal}"),
    }
}

pub(crate) fn templates() -> TemplateSet {
    let files = BTreeMap::from([("en.subject.hbs".to_owned(), "Your bill".to_owned())]);
    TemplateSet { sha256: "b".repeat(64), files }
}

fn as_role(url: &SecretString, role: &str) -> SecretString {
    let url = url.expose_secret();
    let separator = if url.contains('?') { '&' } else { '?' };
    SecretString::from(format!("{url}{separator}options=-c%20role%3D{role}"))
}
