//! A month to bill, and the operator's part in billing it, under the operator's role. The worker's
//! part, pricing the chunks, is the test's.

use std::sync::Arc;

use domain::ids::{LoadNumber, Revision};
use domain::price_book::PriceBook;
use sqlx::PgPool;

use super::billed_month::MONTH;
use super::database::TestDatabase;
use super::sample_month;
use crate::billing::{
    self, AfterSent, BeginRequest, BeginResult, Rebilling, RevisionKey, RollbackRequest, RollbackResult,
    RunSnapshot, Scope, Started, Uuid, Verification,
};
use crate::load::{TakeBackResult, TakenBack, take_back_load};

/// A database without loads, the operator's sessions, and the price book of [`sample_month`].
#[derive(Debug)]
pub struct BillingFixture {
    pub database: Arc<TestDatabase>,
    pub operator: PgPool,
    pub month: &'static str,
    pub price_book: String,
    /// Eligible members in a chunk.
    pub chunk_size: i32,
    /// What re-billings do about bills that were sent.
    pub after_sent: AfterSent,
}

impl BillingFixture {
    /// An installation in Seoul that bills October 2026.
    pub async fn new() -> Self {
        Self::with("Asia/Seoul", MONTH).await
    }

    /// An installation in another zone that bills another month.
    ///
    /// # Panics
    /// When the operator's role cannot be used.
    pub async fn with(zone: &str, month: &'static str) -> Self {
        let database = Arc::new(TestDatabase::with(zone, "KRW").await);
        let operator = database.pool_as("monthend_operator", 4).await;
        let role: String =
            sqlx::query_scalar("select current_user").fetch_one(&operator).await.expect("a role");
        assert_eq!(role, "monthend_operator");
        Self {
            database,
            operator,
            month,
            price_book: sample_month::price_book(zone),
            chunk_size: 3,
            after_sent: AfterSent::Revise,
        }
    }

    /// Writes a finished load that consists of what the statements insert.
    pub async fn load(&self, number: i64, statements: &str) {
        let month = self.month;
        self.database
            .execute(&format!(
                "with job as (insert into job_log (kind) values ('LOAD') returning id)
                 insert into load (number, kind, source, state, finished_at, job)
                 select {number}, 'LOAD', 'default', 'FINISHED', now(), id from job;
                 select open_usage_month('{month}');
                 {statements};
                 select record_load_totals({number});"
            ))
            .await;
    }

    /// Takes a load back.
    ///
    /// # Panics
    /// When it is rejected.
    pub async fn take_back(&self, number: i64) -> TakenBack {
        let mut worker = self.database.connect_as("monthend_worker").await;
        match take_back_load(&mut worker, number, Some("a wrong file")).await {
            Ok(TakeBackResult::TakenBack(taken_back)) => taken_back,
            other => panic!("{other:?}"),
        }
    }

    /// Begins a run with 2 shards, or returns why it cannot begin.
    ///
    /// # Panics
    /// When the database fails.
    pub async fn try_begin(&self, run: &str, uid: u128, cutoff: Option<i64>) -> BeginResult {
        self.begin_with(run, uid, cutoff, None, &self.price_book, &Scope::Everyone).await
    }

    /// Begins a run that needs input of these sources, or returns why it cannot begin.
    ///
    /// # Panics
    /// When the database fails.
    pub async fn try_begin_requiring(
        &self,
        uid: u128,
        cutoff: Option<i64>,
        sources: &[String],
    ) -> BeginResult {
        self.begin_request("test/run", uid, cutoff, &self.price_book, None, sources).await
    }

    /// Begins a run that bills the month again, or returns why it cannot begin.
    pub async fn try_rebill(&self, uid: u128, of_revision: i32, cutoff: Option<i64>) -> BeginResult {
        let book = &self.price_book;
        self.begin_with("test/rebill", uid, cutoff, Some(of_revision), book, &Scope::Everyone).await
    }

    async fn begin_with(
        &self,
        run: &str,
        uid: u128,
        cutoff: Option<i64>,
        of_revision: Option<i32>,
        price_book_text: &str,
        scope: &Scope,
    ) -> BeginResult {
        let rebill = of_revision.map(|number| Rebilling {
            of_revision: Revision::try_from(i64::from(number)).expect("a revision"),
            reason: "a correction",
            scope,
            after_sent: self.after_sent,
        });
        self.begin_request(run, uid, cutoff, price_book_text, rebill, &[]).await
    }

    async fn begin_request(
        &self,
        run: &str,
        uid: u128,
        cutoff: Option<i64>,
        price_book_text: &str,
        rebill: Option<Rebilling<'_>>,
        require_sources: &[String],
    ) -> BeginResult {
        let price_book = PriceBook::parse(price_book_text).expect("a valid price book");
        let request = BeginRequest {
            run,
            run_uid: Uuid::from_u128(uid),
            month: self.month.parse().expect("a month"),
            price_book: &price_book,
            price_book_text,
            data_cutoff: cutoff.map(|load| LoadNumber::try_from(load).expect("a load number")),
            chunk_size: self.chunk_size,
            shards: 2,
            rebill,
            require_sources,
        };
        billing::begin_run(&self.operator, &request).await.expect("a run can begin or is rejected")
    }

    /// Begins a run.
    ///
    /// # Panics
    /// When it is rejected.
    pub async fn begin(&self, uid: u128) -> Started {
        match self.try_begin("test/run", uid, None).await {
            BeginResult::Started(started) => started,
            BeginResult::Rejected(rejection) => panic!("{rejection}"),
        }
    }

    /// Begins a run that bills the month again with this price book.
    ///
    /// # Panics
    /// When it is rejected.
    pub async fn rebill(&self, uid: u128, of_revision: i32, price_book: &str) -> Started {
        self.rebill_scope(uid, of_revision, price_book, &Scope::Everyone, None).await
    }

    /// Begins a run that bills the members of a scope again with this price book.
    ///
    /// # Panics
    /// When it is rejected.
    pub async fn rebill_scope(
        &self,
        uid: u128,
        of_revision: i32,
        price_book: &str,
        scope: &Scope,
        cutoff: Option<i64>,
    ) -> Started {
        match self.begin_with("test/rebill", uid, cutoff, Some(of_revision), price_book, scope).await {
            BeginResult::Started(started) => started,
            BeginResult::Rejected(rejection) => panic!("{rejection}"),
        }
    }

    /// # Panics
    /// When the revision cannot be verified.
    pub async fn verify(&self, key: &RevisionKey) -> Verification {
        billing::verify_revision(&self.operator, key).await.expect("the revision can be verified")
    }

    /// # Panics
    /// When the run has not begun.
    pub async fn observe(&self, key: &RevisionKey) -> RunSnapshot {
        let observed = billing::observe(&self.operator, key.run_uid).await;
        observed.expect("the run can be read").expect("the run has begun")
    }

    /// Verifies and issues a revision whose chunks are done, and returns the live bills as text.
    ///
    /// # Panics
    /// When a check fails.
    pub async fn issue(&self, key: &RevisionKey) -> String {
        let verification = self.verify(key).await;
        assert!(verification.passed(), "{:?}", verification.checks);
        billing::issue_revision(&self.operator, key, None).await.expect("the revision can be issued");
        self.live_bills().await
    }

    /// Rolls a revision back, or returns why it cannot be.
    ///
    /// # Panics
    /// When the revision is no number of one, or the database fails.
    pub async fn roll_back(&self, uid: u128, revision: i64) -> RollbackResult {
        let request = RollbackRequest {
            run: "test/rollback",
            run_uid: Uuid::from_u128(uid),
            month: self.month.parse().expect("a month"),
            revision: revision.try_into().expect("a revision"),
            reason: "wrong price book",
        };
        billing::roll_back_revision(&self.operator, &request).await.expect("it is rolled back or rejected")
    }

    /// Records what has become of the e-mails of these members' bills, as consumers do. A claimed bill
    /// was `UNKNOWN` before.
    pub async fn deliver(&self, revision: i32, state: &str, members: &str) {
        let month = self.month;
        self.database
            .execute(&format!(
                "select open_notice_month('{month}');
                 insert into delivery (member_id, revision, attempt, notification, lease_until, ended_at, state, before, month)
                 select id, {revision}, 1, 1, case when '{state}' in ('CLAIMED', 'HANDED_OVER') then now() end, now(),
                        '{state}', case '{state}' when 'CLAIMED' then 'UNKNOWN'::delivery_state end, '{month}'
                 from unnest(array[{members}]) id"
            ))
            .await;
    }

    /// Live bills, their items and the quarantine as text, one sorted line each.
    pub async fn live_bills(&self) -> String {
        self.database
            .read_text(
                "select string_agg(line, e'\\n' order by line) from (
                     select format('%s bill %s %s %s %s %s %s = %s', member_id, base_amount, usage_amount, discount_amount,
                                   adjustment_amount, tax_amount, rounding_amount, total_amount) as line from live_bill
                     union all
                     select format('%s line %s %s %s %s %s', member_id, line_no, kind, code, quantity, amount) from live_bill_item
                     union all
                     select format('%s quarantined %s %s', member_id, code, detail) from quarantine) all_lines",
            )
            .await
    }
}
