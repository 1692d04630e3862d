//! A billed month, runs that tell of it, and publishers of their rounds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::ids::MemberId;
use domain::price_book::PriceBook;
use secrecy::SecretString;
use sqlx::{AssertSqlSafe, PgPool};
use store::crypto::{Column, Keyring};
use store::notification::{
    self, BeginRequest, BeginResult, NotificationId, Scope, Selection, TemplateSet, Uuid,
};
use store::testing::TestDatabase;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use worker_cli::{KafkaArgs, PublishArgs};

use crate::database_retry::DatabaseRetryPolicy;
use crate::exit::{CommandResult, Completion};
use crate::publish::publish;

pub(crate) const MONTH: &str = "2026-10";
pub(crate) const RUN: &str = "test/notices";
const LIMIT: Duration = Duration::from_secs(90);
const BOOK: &str = "
version: test
currency: KRW
timeZone: Asia/Seoul
validFrom: 2000-01
usageKinds: [data]
plans:
  - { code: BASIC, name: Basic, baseFee: 1000, usage: {} }
tax: { rate: \"10\", mode: inclusive }
billRounding: { unit: 10, mode: down }
";

pub(crate) struct Fixture {
    pub(crate) database: TestDatabase,
    pub(crate) worker: SecretString,
    pub(crate) operator: PgPool,
    pub(crate) keyring: Arc<Keyring>,
}

impl Fixture {
    /// A month with a live bill for each of members 1 to `members`.
    pub(crate) async fn new(members: i64) -> Self {
        let database = TestDatabase::new().await;
        let worker = database.url_as("monthend_worker");
        let operator = database.url_as("monthend_operator");
        let operator = store::pool::connect(&operator, "test operator", 2).await.unwrap();
        let keys = tempfile::tempdir().unwrap();
        std::fs::write(keys.path().join("a"), "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
        std::fs::write(keys.path().join("active"), "a").unwrap();
        let keyring = Arc::new(Keyring::from_folder(keys.path()).unwrap());
        let fixture = Self { database, worker, operator, keyring };
        fixture.bill(members).await;
        fixture
    }

    async fn bill(&self, members: i64) {
        let sha256 = PriceBook::parse(BOOK).unwrap().sha256;
        self.sql(&format!(
            "with job as (insert into job_log (kind) values ('LOAD') returning id)
             insert into load (number, kind, source, state, finished_at, job)
             select 1, 'LOAD', 'default', 'FINISHED', now(), id from job;
             insert into price_book (sha256, version, content) values ('{sha256}', 'test', $book${BOOK}$book$);
             with job as (insert into job_log (kind) values ('BILLING') returning id)
             insert into revision (month, revision, run, run_uid, state, fence, data_cutoff, price_book, chunk_size,
                                   shards, members, job, issued_at)
             select '{MONTH}', 1, 'test/bill', gen_random_uuid(), 'LIVE', 1, 1, '{sha256}', 1000, 1, {members}, id, now()
             from job;
             select open_billing_month('{MONTH}');
             insert into bill (month, member_id, revision, base_amount, usage_amount, discount_amount,
                               adjustment_amount, tax_amount, rounding_amount, total_amount)
             select '{MONTH}', id, 1, 1000, 0, 0, 0, 90, 0, 1000 from generate_series(1, {members}) id;
             insert into bill_item (month, member_id, revision, line_no, kind, code, quantity, amount, days)
             select '{MONTH}', id, 1, 1, 'BASE', 'BASIC', 31, 1000, 31 from generate_series(1, {members}) id;
             analyze bill;"
        ))
        .await;
    }

    /// The member whose bill there is, with this address if any.
    pub(crate) async fn member(&self, id: i64, email: Option<&str>) {
        let member = MemberId::try_from(id).unwrap();
        let mut sealer = self.keyring.sealer();
        sqlx::query("insert into member (member_id, load, name, email) values ($1, 1, $2, $3)")
            .bind(id)
            .bind(sealer.seal(Column::Name, member, "Haneul Canary"))
            .bind(email.map(|email| sealer.seal(Column::Email, member, email)))
            .execute(&self.database.pool)
            .await
            .unwrap();
    }

    /// Runs statements as the owner.
    pub(crate) async fn sql(&self, statements: &str) {
        let done = sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&self.database.pool).await;
        done.unwrap_or_else(|error| panic!("{statements}: {error}"));
    }

    /// The first column of the first row, as text.
    pub(crate) async fn one(&self, query: &str) -> String {
        let query = format!("select coalesce(({query})::text, '')");
        sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(&self.database.pool).await.unwrap()
    }

    /// Waits until a query has this answer.
    pub(crate) async fn until(&self, query: &str, expected: &str) {
        let began = Instant::now();
        loop {
            let found = self.one(query).await;
            if found == expected {
                return;
            }
            assert!(began.elapsed() < LIMIT, "waited too long for {expected} from {query}, which is {found}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Begins a run with this uid and opens its first round.
    pub(crate) async fn begin(&self, uid: u128, rehearsal: bool) -> NotificationId {
        let files = templates();
        let sha256 = email::Templates::parse(&files).unwrap().sha256().to_owned();
        let asked = BeginRequest {
            run: RUN,
            run_uid: Uuid::from_u128(uid),
            month: MONTH.parse().unwrap(),
            selection: Selection::Ready,
            scope: &Scope::Everyone,
            rehearsal,
            templates: &TemplateSet { sha256, files },
            max_per_second: None,
        };
        let BeginResult::Started(id) = notification::begin_run(&self.operator, &asked).await.unwrap() else {
            panic!("refused")
        };
        if !rehearsal {
            notification::open_round(&self.operator, id, 0).await.unwrap();
        }
        id
    }

    /// Starts a publisher of a round of the run with this uid.
    pub(crate) fn publisher(&self, uid: u128, round: i32, kafka: &KafkaArgs) -> Publisher {
        self.publisher_at(&self.worker, DatabaseRetryPolicy::JOB, uid, round, kafka)
    }

    /// The same, which connects to the database at this address and has another retry policy.
    pub(crate) fn publisher_at(
        &self,
        database: &SecretString,
        policy: DatabaseRetryPolicy,
        uid: u128,
        round: i32,
        kafka: &KafkaArgs,
    ) -> Publisher {
        let args =
            PublishArgs { run: RUN.to_owned(), run_uid: Uuid::from_u128(uid), round, kafka: kafka.clone() };
        let (database, stop) = (database.clone(), CancellationToken::new());
        let stopped = stop.clone();
        let task = tokio::spawn(async move { publish(&args, &database, policy, &stopped).await });
        Publisher { stop, task }
    }
}

/// A publisher that runs in a task.
pub(crate) struct Publisher {
    pub(crate) stop: CancellationToken,
    task: JoinHandle<CommandResult<Completion>>,
}

impl Publisher {
    pub(crate) async fn ended(self) -> Completion {
        let ended = tokio::time::timeout(LIMIT, self.task).await.expect("a publisher ends in time");
        ended.unwrap().unwrap_or_else(|stop| panic!("{:?}: {:?}", stop.status, stop.error))
    }

    pub(crate) fn is_running(&self) -> bool {
        !self.task.is_finished()
    }
}

fn templates() -> std::collections::BTreeMap<String, String> {
    ["ko", "en"]
        .into_iter()
        .flat_map(|locale| {
            [
                (format!("{locale}.subject.hbs"), "{{month}}".to_owned()),
                (format!("{locale}.body.txt.hbs"), "{{name}}".to_owned()),
                (format!("{locale}.body.html.hbs"), "<p>{{name}}</p>".to_owned()),
            ]
        })
        .collect()
}
