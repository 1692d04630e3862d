//! An installation for the tests alone, beside the one of `cargo xtask up`: its own namespace, database, Helm release
//! and data. What a person has in the development stack is not touched, and the tests can be run again.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::{
    ByteString,
    api::{
        apps::v1::Deployment,
        core::v1::{ConfigMap, Namespace, Secret},
    },
};
use kube::{
    Api, Client,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use sqlx::{ConnectOptions as _, PgPool};

use crate::{
    cluster, data, database,
    environment::{Environment, workspace},
    faults,
    kafka::{self, Kafka},
    mail::{self, Mail},
    runs::{self, Runs},
    shell::{self, Said},
    wait,
};

pub const NAMESPACE: &str = "monthend-e2e";
/// How many there are, and how many sessions each may have with the mail server.
pub const CONSUMERS: u32 = 2;
pub const SESSIONS: u32 = 4;
const LAG_PER_REPLICA: u32 = 100_000;
const COOLDOWN_SECONDS: u32 = 5;
const LIMIT: Duration = Duration::from_secs(180);

pub struct Installation {
    pub client: Client,
    pub environment: Environment,
    pub namespace: String,
    /// As the database's superuser: sees everything, may plant anything.
    pub pool: PgPool,
    /// The image that is tested, as in the chart's values.
    pub image: Value,
    pub postgresql_image: String,
    /// DATABASE_URL of the worker's role, from the host.
    pub worker_url: String,
    pub mail: Mail,
    pub kafka: Kafka,
    /// Whether the release has other values than [`Self::values`].
    changed: AtomicBool,
}

impl Installation {
    /// Removes what an earlier run of the tests left and sets everything up.
    pub async fn create() -> Result<Self> {
        let environment = Environment::read()?;
        let client = Client::try_default().await.context("connect to the cluster of KUBECONFIG")?;
        sweep(&client).await?;

        let values = shell::run(
            &["helm", "-n", &environment.namespace, "get", "values", &environment.release, "-o", "json"],
            &[],
            None,
        )
        .await?;
        let values: Value =
            serde_json::from_str(&values).context("read the values of the development release")?;
        let image = values["image"].clone();
        ensure!(image["tag"].is_string(), "the development release names no image tag: {values}");
        let pg = &values["devStack"]["postgresql"]["image"];
        let postgresql_image = format!(
            "{}:{}",
            pg["repository"].as_str().unwrap_or("monthend-postgresql"),
            pg["tag"].as_str().unwrap_or("dev")
        );

        let secret = "monthend-database";
        let password =
            cluster::secret_text(&client, &environment.namespace, secret, "superuser-password").await?;
        let superuser = environment.database.clone().username("postgres").password(&password);
        let pool = database::create(superuser).await?;
        let worker_url = environment.database.clone().database(database::NAME).to_url_lossy().to_string();

        make_namespace(&client).await?;
        let mail = Mail::start(&client, NAMESPACE, &environment.mail_image).await?;
        let kafka = Kafka::new(environment.brokers.clone());
        kafka.start_over().await?;
        let installation = Self {
            client,
            environment,
            namespace: NAMESPACE.to_owned(),
            pool,
            image,
            postgresql_image,
            worker_url,
            mail,
            kafka,
            changed: AtomicBool::new(false),
        };
        faults::start_agent(&installation.client, &installation.postgresql_image).await?;
        installation.make_secrets().await?;
        installation.helm_upgrade(&json!({})).await?;
        installation.put_price_book(runs::PRICE_BOOK, data::PRICE_BOOK).await?;
        let folder = tempfile::tempdir()?;
        data::write(folder.path())?;
        installation.load(folder.path()).await?;
        Ok(installation)
    }

    /// Secrets made from the development stack's, and the login of the mail server.
    async fn make_secrets(&self) -> Result<()> {
        let mut urls = BTreeMap::new();
        for key in ["migrate-url", "operator-url", "worker-url"] {
            let url =
                cluster::secret_text(&self.client, &self.environment.namespace, "monthend-database", key)
                    .await?;
            let host = format!("@{}", self.postgresql());
            let (role, _) =
                url.split_once(&host).with_context(|| format!("{key} does not lead to {host}"))?;
            let url = format!("{role}{host}.{}:5432/{}", self.environment.namespace, database::NAME);
            urls.insert(key.to_owned(), ByteString(url.into_bytes()));
        }
        self.make_secret("database", urls).await?;

        let mut keys = BTreeMap::new();
        for entry in fs::read_dir(&self.environment.keys_dir).context("read MONTHEND_KEYS_DIR")? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            keys.insert(name, ByteString(fs::read(entry.path())?));
        }
        self.make_secret("encryption", keys).await?;
        let login = [("username", mail::USERNAME), ("password", mail::PASSWORD)];
        let login = login.map(|(key, value)| (key.to_owned(), ByteString(value.as_bytes().to_vec())));
        self.make_secret("smtp", login.into()).await
    }

    async fn make_secret(&self, name: &str, data: BTreeMap<String, ByteString>) -> Result<()> {
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let secret = Secret { metadata, data: Some(data), ..Secret::default() };
        let secrets = Api::<Secret>::namespaced(self.client.clone(), &self.namespace);
        secrets
            .create(&PostParams::default(), &secret)
            .await
            .with_context(|| format!("create Secret {name}"))?;
        Ok(())
    }

    /// The values of the tests' release.
    pub fn values(&self) -> Value {
        json!({
            "image": self.image,
            "timeZone": data::TIME_ZONE,
            "currency": data::CURRENCY,
            "database": {"existingSecret": "database"},
            "encryption": {"existingSecret": "encryption"},
            "operator": {"log": "info,operator=debug"},
            // The development release owns them.
            "crds": {"install": false},
            "kafka": {
                "brokers": format!("{}.{}:9092", self.kafka_service(), self.environment.namespace),
                "topic": kafka::TOPIC, "dlqTopic": kafka::DLQ, "group": kafka::GROUP, "partitions": kafka::PARTITIONS,
            },
            // Two consumers, so that there is always somebody else; leases that outlive whatever is held still.
            "notify": {
                "transport": format!("smtp://{}:1025?tls=none", mail::NAME),
                "from": "Monthend <billing@monthend.test>",
                "existingSecret": "smtp",
                "sessions": SESSIONS, "leaseSeconds": 60, "batch": 50, "log": "info,monthend=debug",
                "retrySeconds": 1,
                "scaling": {
                    "lagPerReplica": LAG_PER_REPLICA, "minReplicas": CONSUMERS, "maxReplicas": CONSUMERS,
                    "cooldownSeconds": COOLDOWN_SECONDS,
                },
            },
        })
    }

    /// `helm upgrade --install --wait` of the tests' release, with further values over [`Self::values`].
    pub async fn helm_upgrade(&self, further: &Value) -> Result<()> {
        self.changed.store(*further != json!({}), Ordering::Relaxed);
        let folder = tempfile::tempdir()?;
        let (values, more) = (folder.path().join("values.json"), folder.path().join("further.json"));
        fs::write(&values, self.values().to_string())?;
        fs::write(&more, further.to_string())?;
        let (chart, values, more) = (workspace("charts/monthend"), path(&values)?, path(&more)?);
        let chart = path(&chart)?;
        let command = [
            "helm",
            "-n",
            &self.namespace,
            "upgrade",
            "--install",
            "monthend",
            chart,
            "-f",
            values,
            "-f",
            more,
            "--wait",
            "--timeout",
            "180s",
        ];
        shell::run(&command, &[], None).await.map(drop)
    }

    pub async fn put_price_book(&self, name: &str, text: &str) -> Result<()> {
        let map = ConfigMap {
            metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
            data: Some([("pricebook.yaml".to_owned(), text.to_owned())].into()),
            ..ConfigMap::default()
        };
        let maps = Api::<ConfigMap>::namespaced(self.client.clone(), &self.namespace);
        let parameters = PatchParams::apply(cluster::MANAGER).force();
        maps.patch(name, &parameters, &Patch::Apply(&map))
            .await
            .with_context(|| format!("put ConfigMap {name}"))?;
        Ok(())
    }

    /// The worker on the host, against the tests' database.
    pub async fn worker(&self, arguments: &[&str]) -> Result<Said> {
        let keys = path(&self.environment.keys_dir)?;
        let command: Vec<&str> = std::iter::once("monthend").chain(arguments.iter().copied()).collect();
        shell::attempt(&command, &[("DATABASE_URL", &self.worker_url), ("MONTHEND_KEYS_DIR", keys)], None)
            .await
    }

    pub async fn load(&self, folder: &Path) -> Result<()> {
        let said = self.worker(&["load", path(folder)?]).await?;
        ensure!(
            said.code == Some(0),
            "`monthend load` ended with {:?}\n{}{}",
            said.code,
            said.stdout,
            said.stderr
        );
        Ok(())
    }

    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let command: Vec<&str> =
            ["kubectl", "-n", &self.namespace].into_iter().chain(arguments.iter().copied()).collect();
        shell::run(&command, &[], None).await
    }

    /// What the operator answers on a path of its port, through the API server.
    pub async fn operator_says(&self, page: &str) -> Result<String> {
        let path =
            format!("/api/v1/namespaces/{}/services/monthend-operator:http/proxy/{page}", self.namespace);
        self.kubectl(&["get", "--raw", &path]).await
    }

    /// After a scenario, whatever became of it: everything runs again and no run is left.
    pub async fn clean_up(&self) -> Result<()> {
        self.scale_postgresql(1).await?;
        self.scale_kafka(1).await?;
        self.database_is_back().await?;
        self.kafka.is_back().await?;
        self.mail.behave(&[]).await?;
        let deployments = Api::<Deployment>::namespaced(self.client.clone(), &self.namespace);
        if deployments.get("monthend-operator").await?.spec.replicas != Some(1) {
            self.scale_operator(1).await?;
        }
        // Nobody is told of a bill by a run of another scenario.
        for runs in [self.notices(), self.billing()] {
            for run in runs.all().await? {
                runs.api.delete(&run.metadata.name.unwrap_or_default(), &DeleteParams::default()).await?;
            }
            wait::until_true("all runs to be gone", LIMIT, async || Ok(runs.all().await?.is_empty())).await?;
        }
        // First what is scaled by, so that Helm finds what it put there.
        self.scale_by(&[
            ("min-replicas", CONSUMERS),
            ("max-replicas", CONSUMERS),
            ("lag-per-replica", LAG_PER_REPLICA),
            ("cooldown-seconds", COOLDOWN_SECONDS),
        ])
        .await?;
        if self.changed.load(Ordering::Relaxed) {
            self.helm_upgrade(&json!({})).await?;
        }
        self.consumers_are(i32::try_from(CONSUMERS)?).await
    }

    /// Removes the installation.
    pub async fn remove(&self) -> Result<()> {
        self.clean_up().await?;
        shell::run(&["helm", "-n", &self.namespace, "uninstall", "monthend", "--wait"], &[], None).await?;
        sweep(&self.client).await?;
        let options = self.pool.connect_options().as_ref().clone().database("postgres");
        self.pool.close().await;
        let pool = database::connect(options).await?;
        database::drop_database(&pool).await
    }

    /// What a person would look at first when a scenario failed.
    pub async fn diagnosis(&self) -> String {
        let mut text = String::new();
        for command in [
            &["get", "brun,nrun,job,pod", "-o", "wide"] as &[&str],
            &["describe", "brun,nrun"],
            &["get", "events", "--sort-by=.lastTimestamp"],
        ] {
            text += &format!("\n--- kubectl {}\n", command.join(" "));
            text += &match self.kubectl(command).await {
                Ok(said) => shell::tail(&said, 70),
                Err(error) => format!("{error:#}\n"),
            };
        }
        let pods = cluster::pods(&self.client, &self.namespace, "app.kubernetes.io/name=monthend").await;
        for pod in pods.unwrap_or_default() {
            let name = cluster::name(&pod);
            let lines = if name.contains("operator") { 40 } else { 8 };
            text += &format!("\n--- log of {name}\n");
            text += &cluster::log_tail(&self.client, &self.namespace, &name, lines).await;
        }
        text
    }
}

/// The namespace under the `restricted` profile.
async fn make_namespace(client: &Client) -> Result<()> {
    let labels = [("pod-security.kubernetes.io/enforce", "restricted"), ("monthend.dev/e2e", "true")];
    let namespace = Namespace {
        metadata: ObjectMeta {
            name: Some(NAMESPACE.to_owned()),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    Api::all(client.clone())
        .create(&PostParams::default(), &namespace)
        .await
        .context("create the namespace")?;
    Ok(())
}

/// Removes the namespaces of an earlier run of the tests. Its operator may be gone, so finalizers are cleared by hand.
async fn sweep(client: &Client) -> Result<()> {
    faults::stop_agent().await?;
    let namespaces = Api::<Namespace>::all(client.clone());
    if namespaces.get_opt(NAMESPACE).await?.is_none() {
        return Ok(());
    }
    for kind in ["NotificationRun", "BillingRun"] {
        let runs = Runs::new(client, NAMESPACE, kind);
        for run in runs.all().await.unwrap_or_default() {
            let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
            let name = run.metadata.name.unwrap_or_default();
            runs.api.delete(&name, &DeleteParams::default()).await?;
            if runs.api.get_opt(&name).await?.is_some() {
                runs.api.patch(&name, &PatchParams::default(), &none).await?;
            }
        }
    }
    shell::run(&["kubectl", "delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=true"], &[], None)
        .await
        .map(drop)
}

pub fn path(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}
