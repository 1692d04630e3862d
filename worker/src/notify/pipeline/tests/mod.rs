//! The engine with a real PostgreSQL and a mail server on real sockets. Each test has its own
//! database; the engine uses the worker's role. After each failure, the emails that the server
//! received are compared with the database.

mod concurrent_engines;
mod corrections;
mod mail_server;
mod outages;
mod privacy;
mod server_replies;
mod tls;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use domain::locale::Locale;
use domain::notification_message::NotificationMessage;
use secrecy::SecretString;
use sqlx::PgPool;
use store::crypto::Keyring;
use store::notification::{self, BeginRequest, BeginResult, RunFacts, Scope, Selection, TemplateSet, Uuid};
use store::testing::{self, MONTH, TestDatabase, TestMember};

use self::mail_server::MailServer;
use super::{Engine, EngineConfig};
use crate::notify::metrics::Metrics;
use crate::notify::smtp::retry_policy::RetryPolicy;
use crate::notify::smtp::server_address::Credentials;
use crate::notify::transport::Transport;

const LIMIT: Duration = Duration::from_secs(30);

struct Fixture {
    database: TestDatabase,
    worker: SecretString,
    operator: PgPool,
    keyring: Arc<Keyring>,
    server: MailServer,
}

impl Fixture {
    /// A billed month of members 1 to `members`, in both languages.
    async fn new(members: i64) -> Self {
        Self::with(members, MailServer::start().await).await
    }

    async fn with(members: i64, server: MailServer) -> Self {
        let database = TestDatabase::new().await;
        let worker = database.url_as("monthend_worker");
        let operator = database.pool_as("monthend_operator", 2).await;
        let keyring = testing::keyring();
        database.bill_members(members).await;
        let everyone = (1..=members).map(|id| TestMember {
            id,
            name: format!("Haneul Canary{id}"),
            email: Some(address(id)),
            locale: (id % 2 == 0).then_some("en"),
        });
        database.insert_members(&keyring, everyone).await;
        Self { database, worker, operator, keyring: Arc::new(keyring), server }
    }

    /// Runs statements as the owner.
    async fn sql(&self, statements: &str) {
        self.database.execute(statements).await;
    }

    /// The single value that a query returns, as text.
    async fn one(&self, query: &str) -> String {
        self.database.read_text(query).await
    }

    async fn run(&self, uid: u128) -> RunFacts {
        self.run_with(uid, Selection::Ready, None).await
    }

    /// A run whose targets are selected.
    async fn run_with(&self, uid: u128, selection: Selection, max_per_second: Option<i32>) -> RunFacts {
        let files = notice_templates();
        let sha256 = email::Templates::parse(&files, Locale::KO).unwrap().sha256().to_owned();
        let request = BeginRequest {
            run: &format!("test/notices-{uid}"),
            run_uid: Uuid::from_u128(uid),
            month: MONTH.parse().unwrap(),
            selection,
            scope: &Scope::Everyone,
            rehearsal: false,
            skip_zero: false,
            templates: &TemplateSet { sha256, files },
            max_per_second,
        };
        let BeginResult::Started(_) = notification::begin_run(&self.operator, &request).await.unwrap() else {
            panic!("refused")
        };
        let mut worker = self.database.connect_as("monthend_worker").await;
        let facts = notification::read_run(&mut worker, request.run_uid).await.unwrap();
        notification::select_targets(&mut worker, &facts, 1000, |_| true).await.unwrap();
        notification::read_run(&mut worker, request.run_uid).await.unwrap()
    }

    fn transport(&self) -> Transport {
        Transport::parse(&format!("smtp://127.0.0.1:{}", self.server.port), None).unwrap()
    }

    fn config(&self) -> EngineConfig {
        EngineConfig {
            name: "test".to_owned(),
            transport: self.transport(),
            from: "Monthend <billing@example.com>".parse().unwrap(),
            connections: 4,
            max_batch: 1000,
            lease: Duration::from_secs(20),
            retry_policy: RetryPolicy { first_delay: Duration::from_millis(20), ..RetryPolicy::default() },
            first_probe_delay: Some(Duration::from_millis(50)),
            metrics: Metrics::new().unwrap(),
        }
    }

    fn start(&self, config: EngineConfig) -> Engine {
        Engine::start(config, self.worker.clone(), self.keyring.clone())
    }

    fn engine(&self) -> Engine {
        self.start(self.config())
    }

    /// The messages of all open targets of the run.
    async fn messages(&self, run: &RunFacts) -> Vec<NotificationMessage> {
        let mut worker = self.database.connect_as("monthend_worker").await;
        let keys = notification::read_open_targets(&mut worker, run, None, 10_000).await.unwrap();
        keys.into_iter()
            .map(|key| NotificationMessage {
                month: run.month,
                member: key.member,
                revision: key.revision,
                run: run.run.clone(),
            })
            .collect()
    }

    /// Sends all open targets of the run with a new engine.
    async fn send(&self, run: &RunFacts) {
        let engine = self.engine();
        let messages = self.messages(run).await;
        let done = engine.intake().submit(messages).await.unwrap();
        let done = tokio::time::timeout(LIMIT, done).await.expect("a batch is done in time").unwrap();
        assert_eq!(done.unusable, []);
        self.ended(run).await;
        engine.drain(LIMIT).await.unwrap();
    }

    /// Waits until the query returns the text.
    async fn until(&self, query: &str, expected: &str) {
        let mut seen = String::new();
        for _ in 0..600 {
            seen = self.one(query).await;
            if seen == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("{query}: {seen}, not {expected}");
    }

    /// Waits until every target of the run has an outcome.
    async fn ended(&self, run: &RunFacts) {
        let open = format!(
            "select count(*) from notice_target where notification = {} and outcome is null",
            run.id.0
        );
        self.until(&open, "0").await;
    }

    /// The number of targets of the run by outcome: `FAILED 2, SENT 3`.
    async fn counts(&self, run: &RunFacts) -> String {
        self.one(&format!(
            "select string_agg(outcome || ' ' || n, ', ' order by outcome) from (
                 select coalesce(outcome::text, 'OPEN') as outcome, count(*) as n from notice_target
                 where notification = {} group by 1) all_outcomes",
            run.id.0
        ))
        .await
    }

    /// The outcome and its reason of one member's target.
    async fn outcome(&self, run: &RunFacts, member: i64) -> String {
        self.one(&format!(
            "select concat_ws(' ', coalesce(outcome::text, 'OPEN'), reason) from notice_target
             where notification = {} and member_id = {member}",
            run.id.0
        ))
        .await
    }

    /// Lets every lease expire, and settles the deliveries.
    async fn expire(&self) {
        self.sql("update delivery set lease_until = clock_timestamp() - interval '1 s' where lease_until is not null")
            .await;
        notification::end_expired_leases(&self.operator, MONTH.parse().unwrap()).await.unwrap();
    }

    /// Asserts that nothing is claimed; that each SENT delivery was received exactly once, and each
    /// received email is SENT or UNKNOWN and went to its member; and that the deliveries agree with
    /// the targets of their runs.
    async fn check(&self) {
        assert_eq!(
            self.one("select count(*) from delivery where state in ('CLAIMED', 'HANDED_OVER')").await,
            "0"
        );
        let rows: Vec<(i64, i32, String, i32)> =
            sqlx::query_as("select member_id, revision, state::text, attempt from delivery")
                .fetch_all(&self.database.pool)
                .await
                .unwrap();
        let mut received: BTreeMap<String, usize> = BTreeMap::new();
        for email in self.server.received() {
            let member: i64 = email.bill().split('.').nth(1).unwrap().parse().unwrap();
            assert_eq!(email.to, address(member));
            *received.entry(email.bill().to_owned()).or_default() += 1;
        }
        for (member, revision, state, attempt) in rows {
            let emails = received.remove(&format!("{MONTH}.{member}.{revision}")).unwrap_or(0);
            let consistent = match state.as_str() {
                "SENT" => emails == 1 || (attempt > 1 && emails == 2),
                "UNKNOWN" => emails <= 1,
                _ => emails == 0,
            };
            assert!(
                consistent,
                "member {member} is {state} after {attempt} attempts, and got {emails} emails"
            );
        }
        assert_eq!(received, BTreeMap::new(), "emails without a delivery");
        let differing = "select count(*) from delivery d join notice_target t
                         on t.month = d.month and t.member_id = d.member_id and t.revision = d.revision
                            and t.notification = d.notification
                     where d.state <> 'PENDING' and t.outcome::text is distinct from d.state::text";
        assert_eq!(self.one(differing).await, "0");
    }
}

fn address(member: i64) -> String {
    format!("haneul.canary{member}@secret.example.net")
}

/// The member of an address; 0 of none.
fn member_of(address: &str) -> i64 {
    let digits: String = address.chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

fn notice_templates() -> BTreeMap<String, String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/monthend/files/templates");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap());
    files
        .map(|file| (file.file_name().into_string().unwrap(), std::fs::read_to_string(file.path()).unwrap()))
        .collect()
}

async fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..1200 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("waited too long for: {what}");
}
