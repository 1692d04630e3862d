//! A month with bills, and what runs and consumers do with them.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::ids::{MemberId, Revision};
use domain::month::BillingMonth;
use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres};
use store::notification::{
    self, BeginRequest, BeginResult, BillKey, ClaimResult, ClaimedDelivery, ConsumerId, DeliveryOutcome,
    HandOverResult, NotificationId, Outcome, RunFacts, Scope, Selection, SelectionResult, Snapshot,
    TemplateSet, Uuid,
};
use store::testing::{MONTH, TestDatabase};

pub(crate) const LEASE: Duration = Duration::from_secs(120);

pub(crate) struct Fixture {
    pub(crate) database: TestDatabase,
    pub(crate) operator: PgPool,
    pub(crate) worker: PgPool,
}

/// A registered consumer and its connection.
pub(crate) struct Consumer {
    pub(crate) id: ConsumerId,
    pub(crate) connection: PoolConnection<Postgres>,
}

impl Fixture {
    /// Members 1 to `members` with bills in revision 1, which is live.
    pub(crate) async fn with_bills(members: i64) -> Self {
        let database = TestDatabase::new().await;
        let operator = database.pool_as("monthend_operator", 4).await;
        let worker = database.url_as("monthend_worker");
        let worker = notification::connect_for_lookups(&worker, "test worker", 8).await.unwrap();
        database.bill_members(members).await;
        database
            .execute(&format!(
                "insert into member (member_id, load, locale, name, email)
                 select id, 1, case id % 2 when 0 then 'en' end, '\\x01', '\\x02' from generate_series(1, {members}) id;
                 analyze member"
            ))
            .await;
        Self { database, operator, worker }
    }

    /// Every delivery: member, state, attempt.
    pub(crate) async fn deliveries(&self) -> String {
        self.database.read_text(
            "select string_agg(format('%s %s %s', member_id, state, attempt), ', ' order by member_id, revision) from delivery",
        )
        .await
    }

    /// Every target of a run: member, outcome and reason, if it has one.
    pub(crate) async fn outcomes(&self, run: &RunFacts) -> String {
        let id = run.id.0;
        self.database
            .read_text(&format!(
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
        let request = BeginRequest {
            run: &name,
            run_uid: Uuid::from_u128(uid),
            month: month(),
            selection,
            scope,
            rehearsal: false,
            skip_zero: false,
            templates: &templates(),
            max_per_second: None,
        };
        notification::begin_run(&self.operator, &request).await.unwrap()
    }

    /// Begins a run and selects its targets.
    pub(crate) async fn run(&self, uid: u128, selection: Selection, scope: &Scope) -> RunFacts {
        let BeginResult::Started(_) = self.try_begin(uid, selection, scope).await else { panic!("rejected") };
        self.select_targets(uid).await
    }

    pub(crate) async fn ready(&self, uid: u128) -> RunFacts {
        self.run(uid, Selection::Ready, &Scope::Everyone).await
    }

    pub(crate) async fn select_targets(&self, uid: u128) -> RunFacts {
        let mut connection = self.worker().await;
        let run = notification::read_run(&mut connection, Uuid::from_u128(uid)).await.unwrap();
        let selected = notification::select_targets(&mut connection, &run, 3, |_| true).await.unwrap();
        assert!(matches!(selected, SelectionResult::Complete { .. }), "{selected:?}");
        notification::read_run(&mut connection, Uuid::from_u128(uid)).await.unwrap()
    }

    pub(crate) async fn observe(&self, uid: u128) -> Snapshot {
        notification::observe(&self.operator, Uuid::from_u128(uid))
            .await
            .unwrap()
            .expect("a run that has begun")
    }

    /// Makes every lease expire.
    pub(crate) async fn expire_leases(&self) {
        self.database
            .execute(
                "update delivery set lease_until = now() - interval '1 second' where lease_until is not null",
            )
            .await;
    }

    pub(crate) async fn end_expired_leases(&self) -> (i64, i64) {
        let ended = notification::end_expired_leases(&self.operator, month()).await.unwrap();
        (ended.unknown, ended.freed)
    }

    /// Claims the bills and gives each this outcome.
    pub(crate) async fn end(&self, run: &RunFacts, members: &[i64], outcome: Outcome) {
        let mut consumer = self.consumer("ends").await;
        let deliveries = consumer.claim(run, &keys(members, 1)).await;
        assert_eq!(deliveries.len(), members.len(), "claimed");
        if outcome == Outcome::Unknown {
            consumer.hand_over(&deliveries).await;
            self.expire_leases().await;
            assert_eq!(self.end_expired_leases().await.0, i64::try_from(members.len()).unwrap());
            return;
        }
        consumer.deliver(&deliveries, outcome).await;
    }
}

impl Consumer {
    pub(crate) async fn claims(&mut self, run: &RunFacts, keys: &[BillKey]) -> ClaimResult {
        notification::claim_deliveries(&mut self.connection, run, self.id, LEASE, keys).await.unwrap()
    }

    pub(crate) async fn claim(&mut self, run: &RunFacts, keys: &[BillKey]) -> Vec<ClaimedDelivery> {
        self.claims(run, keys).await.claimed.into_iter().map(|claimed| claimed.delivery).collect()
    }

    pub(crate) async fn hand_over_and_record(
        &mut self,
        hand_over: &[ClaimedDelivery],
        ended: &[DeliveryOutcome],
    ) -> HandOverResult {
        notification::hand_over_and_record(&mut self.connection, self.id, LEASE, hand_over, ended)
            .await
            .unwrap()
    }

    /// Hands all of them over.
    pub(crate) async fn hand_over(&mut self, deliveries: &[ClaimedDelivery]) {
        let result = self.hand_over_and_record(deliveries, &[]).await;
        assert_eq!(result.granted, deliveries, "{result:?}");
    }

    /// Hands all of them over and records the outcome.
    pub(crate) async fn deliver(&mut self, deliveries: &[ClaimedDelivery], outcome: Outcome) {
        self.hand_over(deliveries).await;
        let result = self.hand_over_and_record(&[], &outcomes_of(deliveries, outcome)).await;
        assert_eq!(result.recorded, deliveries, "{result:?}");
    }
}

pub(crate) fn outcomes_of(deliveries: &[ClaimedDelivery], outcome: Outcome) -> Vec<DeliveryOutcome> {
    let reason = (outcome != Outcome::Sent).then(|| "550 no such user".to_owned());
    deliveries
        .iter()
        .map(|delivery| DeliveryOutcome { delivery: *delivery, outcome, reason: reason.clone() })
        .collect()
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

pub(crate) fn members(deliveries: &[ClaimedDelivery]) -> Vec<i64> {
    deliveries.iter().map(|delivery| delivery.key.member.get()).collect()
}

pub(crate) fn id(result: BeginResult) -> NotificationId {
    match result {
        BeginResult::Started(id) => id,
        BeginResult::Rejected(rejection) => panic!("{rejection}"),
    }
}

pub(crate) fn templates() -> TemplateSet {
    let files = BTreeMap::from([("en.subject.hbs".to_owned(), "Your bill".to_owned())]);
    TemplateSet { sha256: "b".repeat(64), files }
}
