//! A billed month, runs that tell of it, and publishers of their rounds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::locale::Locale;
use secrecy::SecretString;
use sqlx::PgPool;
use store::crypto::Keyring;
use store::notification::{
    self, BeginRequest, BeginResult, NotificationId, Scope, Selection, TemplateSet, Uuid,
};
pub(crate) use store::testing::MONTH;
use store::testing::{self, TestDatabase, TestMember};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use worker_cli::{KafkaArgs, PublishArgs};

use crate::database_retry::DatabaseRetryPolicy;
use crate::exit::{CommandResult, Completion};
use crate::publish::publish;

pub(crate) const RUN: &str = "test/notices";
const LIMIT: Duration = Duration::from_secs(90);

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
        let operator = database.pool_as("monthend_operator", 2).await;
        database.bill_members(members).await;
        Self { database, worker, operator, keyring: Arc::new(testing::keyring()) }
    }

    /// Writes the member of a bill, with this address if any.
    pub(crate) async fn member(&self, id: i64, email: Option<&str>) {
        let member = TestMember {
            id,
            name: "Haneul Canary".to_owned(),
            email: email.map(str::to_owned),
            locale: None,
        };
        self.database.insert_members(&self.keyring, [member]).await;
    }

    /// Runs statements as the owner.
    pub(crate) async fn sql(&self, statements: &str) {
        self.database.execute(statements).await;
    }

    /// The single value that a query returns, as text.
    pub(crate) async fn one(&self, query: &str) -> String {
        self.database.read_text(query).await
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
        self.begin_with(uid, rehearsal, false).await
    }

    /// The same, for a run that leaves bills of 0 unsent or not.
    pub(crate) async fn begin_with(&self, uid: u128, rehearsal: bool, skip_zero: bool) -> NotificationId {
        let files = templates();
        let sha256 = email::Templates::parse(&files, Locale::KO).unwrap().sha256().to_owned();
        let asked = BeginRequest {
            run: RUN,
            run_uid: Uuid::from_u128(uid),
            month: MONTH.parse().unwrap(),
            selection: Selection::Ready,
            scope: &Scope::Everyone,
            rehearsal,
            skip_zero,
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
