//! An installation of its own whose database has a clock that the tests move: another namespace,
//! release and database, next to the tests' installation.
//!
//! The product takes the time from `now()` and `clock_timestamp()` of its database. Functions of the
//! same names come first in this database's search path. They are ahead of PostgreSQL's own by an
//! interval that a table has, and the tests only ever raise it.

use std::fmt::Write as _;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use sqlx::{AssertSqlSafe, PgPool};

use crate::environment::workspace;
use crate::installation::Installation;
use crate::runs::{PRICE_BOOK, Runs};
use crate::shell::{self, path};
use crate::{cluster, data, database, setup, wait};

pub const MEMBERS: i64 = 24;
const OPERATOR: &str = "monthend-operator";

const CLOCK: &str = "
    create schema test_clock;
    create table test_clock.ahead (by interval not null);
    insert into test_clock.ahead values ('0');
    create function test_clock.clock_timestamp() returns timestamptz language sql volatile
        security definer set search_path = pg_catalog, pg_temp
        as 'select pg_catalog.clock_timestamp() + by from test_clock.ahead';
    create function test_clock.now() returns timestamptz language sql stable
        security definer set search_path = pg_catalog, pg_temp
        as 'select pg_catalog.now() + by from test_clock.ahead';
    grant usage on schema test_clock to public;";

pub struct ClockedInstallation {
    pub client: Client,
    pub namespace: String,
    /// Connects as the superuser.
    pub pool: PgPool,
    zone: String,
    database: String,
    nudges: AtomicU64,
}

impl ClockedInstallation {
    /// Installs a release for this time zone, with [`MEMBERS`] members. The name ends the names of the
    /// namespace, the database and the topic.
    pub async fn create(beside: &Installation, name: &str, zone: &str) -> Result<Self> {
        let namespace = format!("{}-{name}", beside.namespace);
        let database = format!("{}_{name}", database::NAME);
        setup::remove_leftovers(&beside.client, &namespace).await?;
        let execute = async |pool: &PgPool, sql: String| {
            let done = sqlx::raw_sql(AssertSqlSafe(sql.clone())).execute(pool).await;
            done.map(drop).with_context(|| format!("execute {sql}"))
        };
        execute(&beside.pool, format!("drop database if exists {database} with (force)")).await?;
        execute(&beside.pool, format!("create database {database} owner monthend_migrate")).await?;
        let options = beside.pool.connect_options().as_ref().clone().database(&database);
        let pool = database::connect(options).await?;
        execute(&pool, CLOCK.to_owned()).await?;
        // PostgreSQL's own functions last. What is created goes to the schema public.
        let path = format!("alter database {database} set search_path = public, test_clock, pg_catalog");
        execute(&pool, path).await?;
        pool.close().await;
        let pool = database::connect(pool.connect_options().as_ref().clone()).await?;

        setup::create_namespace(&beside.client, &namespace).await?;
        let installation = Self {
            client: beside.client.clone(),
            namespace,
            pool,
            zone: zone.to_owned(),
            database,
            nudges: AtomicU64::new(0),
        };
        installation.copy_secrets(beside).await?;
        installation.install(beside, name).await?;
        installation.load(beside).await?;
        Ok(installation)
    }

    async fn copy_secrets(&self, beside: &Installation) -> Result<()> {
        let from = Api::<Secret>::namespaced(self.client.clone(), &beside.namespace);
        let to = Api::<Secret>::namespaced(self.client.clone(), &self.namespace);
        for name in ["database", "encryption"] {
            let found = from.get(name).await.with_context(|| format!("read Secret {name}"))?;
            let mut entries = found.data.unwrap_or_default();
            for (key, value) in &mut entries {
                if key.ends_with("-url") {
                    let url = String::from_utf8(value.0.clone()).context("a URL is text")?;
                    *value = ByteString(self.own_database(&url)?.into_bytes());
                }
            }
            let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
            let secret = Secret { metadata, data: Some(entries), ..Secret::default() };
            to.create(&PostParams::default(), &secret)
                .await
                .with_context(|| format!("create Secret {name}"))?;
        }
        Ok(())
    }

    /// The URL with this installation's database.
    fn own_database(&self, url: &str) -> Result<String> {
        let of_tests = format!("/{}", database::NAME);
        ensure!(url.contains(&of_tests), "the URL does not name the tests' database");
        Ok(url.replacen(&of_tests, &format!("/{}", self.database), 1))
    }

    async fn install(&self, beside: &Installation, name: &str) -> Result<()> {
        let mut values = beside.values();
        values["timeZone"] = json!(self.zone);
        values["approval"] = json!({"policy": false, "byCreator": true});
        values["kafka"]["topic"] = json!(format!("e2e.{name}.notices"));
        values["kafka"]["dlqTopic"] = json!(format!("e2e.{name}.dlq"));
        values["kafka"]["group"] = json!(format!("e2e-{name}"));
        values["kafka"]["partitions"] = json!(2);
        values["notify"]["transport"] = json!("mock://");
        values["notify"]["existingSecret"] = json!("");
        values["notify"]["scaling"]["minReplicas"] = json!(1);
        values["notify"]["scaling"]["maxReplicas"] = json!(1);
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("values.json");
        fs::write(&file, values.to_string())?;
        let chart = workspace("charts/monthend");
        let install =
            ["helm", "-n", &self.namespace, "install", "monthend", path(&chart)?, "-f", path(&file)?];
        let install = [install.as_slice(), &["--wait", "--timeout", "180s"]].concat();
        shell::run(&install, &[], None).await?;

        let book = data::PRICE_BOOK
            .replace(&format!("timeZone: {}", data::TIME_ZONE), &format!("timeZone: {}", self.zone));
        let map = ConfigMap {
            metadata: ObjectMeta { name: Some(PRICE_BOOK.to_owned()), ..ObjectMeta::default() },
            data: Some([("pricebook.yaml".to_owned(), book)].into()),
            ..ConfigMap::default()
        };
        let maps = Api::<ConfigMap>::namespaced(self.client.clone(), &self.namespace);
        maps.create(&PostParams::default(), &map).await.context("create the price book")?;
        Ok(())
    }

    async fn load(&self, beside: &Installation) -> Result<()> {
        let mut members = String::from("member_id,name,email,phone\n");
        let mut subscriptions = String::from("member_id,plan_code,from,to\n");
        for id in 1..=MEMBERS {
            writeln!(members, "{id},Member {id},member-{id}@example.com,010-0000-{id:04}")?;
            writeln!(subscriptions, "{id},FLAT-89,2023-01-01,")?;
        }
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("members.csv"), members)?;
        fs::write(folder.path().join("subscriptions.csv"), subscriptions)?;
        let url = self.own_database(&beside.worker_url)?;
        let keys = path(&beside.environment.keys_dir)?;
        let env = [("DATABASE_URL", url.as_str()), ("MONTHEND_KEYS_DIR", keys)];
        shell::run(&["monthend", "load", path(folder.path())?], &env, None).await.map(drop)
    }

    pub fn runs(&self, kind: &'static str) -> Runs {
        Runs::new(&self.client, &self.namespace, kind)
    }

    /// A time in this installation's zone, which SQL gives as a `timestamp`.
    pub async fn local_time(&self, sql: &str) -> Result<String> {
        let sql = format!("select ({sql})::text from (select now() at time zone $1 as now) local");
        let text: String =
            sqlx::query_scalar(AssertSqlSafe(sql)).bind(&self.zone).fetch_one(&self.pool).await?;
        Ok(text)
    }

    /// Moves the database's clock forward to this local time, and lets the operator see it. Consumers
    /// of before the move are deleted: the operator takes them for gone, as their last sign of life is
    /// of long ago by this clock, so they would end by themselves, and wait longer each time.
    pub async fn move_clock(&self, local: &str, schedule: &str) -> Result<()> {
        let moved = sqlx::query(
            "update test_clock.ahead set by = ($1::timestamp at time zone $2) - pg_catalog.now()
             where by < ($1::timestamp at time zone $2) - pg_catalog.now()",
        )
        .bind(local)
        .bind(&self.zone)
        .execute(&self.pool)
        .await
        .with_context(|| format!("move the clock to {local}"))?;
        ensure!(moved.rows_affected() == 1, "the clock is after {local} already");
        self.force_delete("notify").await?;
        self.nudge(schedule).await
    }

    /// Changes an annotation of the schedule, so that the operator looks at it at once.
    pub async fn nudge(&self, schedule: &str) -> Result<()> {
        let number = self.nudges.fetch_add(1, Ordering::Relaxed).to_string();
        let patch = Patch::Merge(json!({"metadata": {"annotations": {"e2e/nudge": number}}}));
        let schedules = self.runs("BillingSchedule");
        let patched = schedules.api.patch(schedule, &PatchParams::default(), &patch).await;
        patched.map(drop).context("annotate the schedule")
    }

    /// Scales the operator and waits until exactly this many pods exist.
    pub async fn scale_operator(&self, replicas: i32) -> Result<()> {
        let replicas_text = format!("--replicas={replicas}");
        let target = format!("deployment/{OPERATOR}");
        let scale = ["kubectl", "-n", &self.namespace, "scale", &target, &replicas_text];
        shell::run(&scale, &[], None).await?;
        wait::until_true(&format!("{replicas} operators"), crate::runs::LIMIT, async || {
            Ok(self.pods("operator").await?.len() == usize::try_from(replicas)?)
        })
        .await
    }

    /// Deletes the operator's pod without a grace period. Its Deployment creates another one.
    pub async fn kill_operator(&self) -> Result<()> {
        self.force_delete("operator").await
    }

    async fn force_delete(&self, component: &str) -> Result<()> {
        for pod in self.pods(component).await? {
            cluster::force_delete(&self.client, &self.namespace, &pod).await?;
        }
        Ok(())
    }

    async fn pods(&self, component: &str) -> Result<Vec<String>> {
        let selector = format!("app.kubernetes.io/component={component}");
        let pods = cluster::pods(&self.client, &self.namespace, &selector).await?;
        Ok(pods.iter().map(cluster::pod_name).collect())
    }

    /// The schedule, the runs and the operator's log, for the report of a failed scenario.
    pub async fn diagnosis(&self) -> String {
        let mut text = String::new();
        for command in [
            &["get", "bsched,brun,nrun,pod", "-o", "wide"] as &[&str],
            &["describe", "bsched"],
            &["logs", "--tail=60", "-l", "app.kubernetes.io/component=operator"],
        ] {
            let all = [&["kubectl", "-n", &self.namespace] as &[&str], command].concat();
            let output = shell::run(&all, &[], None).await.unwrap_or_else(|error| format!("{error:#}\n"));
            let _ = write!(text, "\n--- {}\n{}", all.join(" "), shell::tail(&output, 80));
        }
        text
    }

    /// Removes everything, topics included.
    pub async fn remove(self, beside: &Installation, name: &str) -> Result<()> {
        setup::remove_leftovers(&self.client, &self.namespace).await?;
        self.pool.close().await;
        for topic in ["notices", "dlq"].map(|last| format!("e2e.{name}.{last}")) {
            if beside.kafka.partitions(&topic).await? > 0 {
                beside.kafka.delete_topic(&topic).await?;
            }
        }
        let sql = format!("drop database if exists {} with (force)", self.database);
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&beside.pool).await.context("drop the database")?;
        Ok(())
    }
}
