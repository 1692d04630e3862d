//! Billing on a real PostgreSQL, each test in a database of its own: the operator's part under the operator's role, the
//! worker's under the worker's.

mod data;
mod faults;
mod invariants;
mod lifecycle;
mod outcomes;
mod verification;

use domain::ids::LoadNumber;
use domain::price_book::PriceBook;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{AssertSqlSafe, PgPool};
use store::billing::{
    self, BeginRequest, BeginResult, RevisionKey, RunSnapshot, Started, Uuid, Verification,
};
use store::testing::TestDatabase;
use tokio_util::sync::CancellationToken;
use worker_cli::BillArgs;

use super::{Bill, BillError, BillOutcome, bill_shard};

const MONTH: &str = "2026-10";

struct Fixture {
    database: TestDatabase,
    operator: PgPool,
    worker: SecretString,
    month: &'static str,
    book_text: String,
}

impl Fixture {
    async fn new() -> Self {
        Self::with("Asia/Seoul", MONTH).await
    }

    async fn with(zone: &str, month: &'static str) -> Self {
        let database = TestDatabase::with(zone, "KRW").await;
        let operator = as_role(&database.url, "monthend_operator");
        let operator = store::pool::connect(&operator, "test operator", 4).await.unwrap();
        let worker = as_role(&database.url, "monthend_worker");
        let role: String = sqlx::query_scalar("select current_user").fetch_one(&operator).await.unwrap();
        assert_eq!(role, "monthend_operator");
        let book_text = data::price_book(zone);
        Self { database, operator, worker, month, book_text }
    }

    /// Runs statements as the owner.
    async fn sql(&self, statements: &str) {
        let done = sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&self.database.pool).await;
        done.unwrap_or_else(|error| panic!("{statements}: {error}"));
    }

    /// The first column of the first row, as text.
    async fn one(&self, query: &str) -> String {
        let query = format!("select (({query}))::text");
        sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(&self.database.pool).await.unwrap()
    }

    /// A finished load that brought what the statements insert.
    async fn load(&self, number: i64, statements: &str) {
        let month = self.month;
        self.sql(&format!(
            "with job as (insert into job_log (kind) values ('LOAD') returning id)
             insert into load (number, kind, source, state, finished_at, job)
             select {number}, 'LOAD', 'default', 'FINISHED', now(), id from job;
             select open_usage_month('{month}');
             {statements};"
        ))
        .await;
    }

    async fn attempt(&self, run: &str, uid: u128, cutoff: Option<i64>) -> BeginResult {
        let price_book = PriceBook::parse(&self.book_text).unwrap();
        let asked = BeginRequest {
            run,
            run_uid: Uuid::from_u128(uid),
            month: self.month.parse().unwrap(),
            price_book: &price_book,
            price_book_text: &self.book_text,
            data_cutoff: cutoff.map(|load| LoadNumber::try_from(load).unwrap()),
            chunk_size: 3,
            shards: 2,
        };
        billing::begin_run(&self.operator, &asked).await.unwrap()
    }

    async fn begin(&self, uid: u128) -> Started {
        match self.attempt("test/run", uid, None).await {
            BeginResult::Started(begun) => begun,
            BeginResult::Rejected(refusal) => panic!("{refusal}"),
        }
    }

    fn order(&self, key: &RevisionKey, shard: i32, worker: &str) -> Bill {
        Bill {
            args: BillArgs {
                month: key.month,
                revision: key.revision,
                fence: key.fence,
                run: "test/run".to_owned(),
                run_uid: key.run_uid,
            },
            shard,
            worker: worker.to_owned(),
        }
    }

    async fn work(&self, key: &RevisionKey, shard: i32) -> Result<BillOutcome, BillError> {
        bill_shard(&self.order(key, shard, "w"), &self.worker, &CancellationToken::new()).await
    }

    async fn work_all(&self, key: &RevisionKey) {
        for shard in 0..2 {
            assert!(matches!(self.work(key, shard).await.unwrap(), BillOutcome::Done(_)));
        }
    }

    async fn verify(&self, key: &RevisionKey) -> Verification {
        billing::verify_revision(&self.operator, key).await.unwrap()
    }

    async fn observe(&self, key: &RevisionKey) -> RunSnapshot {
        billing::observe(&self.operator, key.run_uid).await.unwrap().unwrap()
    }

    /// Verifies and issues what was worked off, and returns what anyone may read then.
    async fn issue(&self, key: &RevisionKey) -> String {
        let verification = self.verify(key).await;
        assert!(verification.passed(), "{:?}", verification.checks);
        billing::issue_revision(&self.operator, key, None).await.unwrap();
        self.published().await
    }

    /// Begins, works off, verifies and issues.
    async fn bill(&self) -> String {
        let begun = self.begin(1).await;
        self.work_all(&begun.key).await;
        self.issue(&begun.key).await
    }

    /// Bills, items and quarantine as text, one line each, in order.
    async fn published(&self) -> String {
        self.one(
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

fn as_role(url: &SecretString, role: &str) -> SecretString {
    let url = url.expose_secret();
    let separator = if url.contains('?') { '&' } else { '?' };
    SecretString::from(format!("{url}{separator}options=-c%20role%3D{role}"))
}
