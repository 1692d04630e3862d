//! Creates the tests' installation, restores its initial state after each scenario, and removes it.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, ResourceQuota, Secret};
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use sqlx::ConnectOptions as _;

use crate::environment::Environment;
use crate::installation::{CONSUMERS, COOLDOWN_SECONDS, Installation, LAG_PER_REPLICA, NAMESPACE};
use crate::kafka::Kafka;
use crate::mail::{self, MailServer};
use crate::runs::{self, Runs};
use crate::{cluster, data, database, shell, wait};

const LIMIT: Duration = Duration::from_secs(180);

impl Installation {
    /// Removes what an earlier test run left behind and sets everything up.
    pub async fn create() -> Result<Self> {
        let environment = Environment::read()?;
        let client = Client::try_default().await.context("connect to the cluster of KUBECONFIG")?;
        remove_leftovers(&client, NAMESPACE).await?;

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

        let secret = "monthend-database";
        let password =
            cluster::secret_text(&client, &environment.namespace, secret, "superuser-password").await?;
        let superuser = environment.database.clone().username("postgres").password(&password);
        let pool = database::create(superuser).await?;
        let worker_url = environment.database.clone().database(database::NAME).to_url_lossy().to_string();

        create_namespace(&client, NAMESPACE).await?;
        let mail = MailServer::start(&client, NAMESPACE, &environment.mail_image).await?;
        let kafka = Kafka::new(environment.brokers.clone());
        kafka.reset().await?;
        let installation = Self {
            client,
            environment,
            namespace: NAMESPACE.to_owned(),
            pool,
            image,
            worker_url,
            mail,
            kafka,
            changed: AtomicBool::new(false),
        };
        installation.create_secrets().await?;
        installation.helm_upgrade(&json!({})).await?;
        installation.put_price_book(runs::PRICE_BOOK, data::PRICE_BOOK).await?;
        let folder = tempfile::tempdir()?;
        data::write(folder.path())?;
        installation.load(folder.path()).await?;
        Ok(installation)
    }

    /// Creates Secrets from those of the development stack, and one with the login of the mail
    /// server.
    async fn create_secrets(&self) -> Result<()> {
        let mut urls = BTreeMap::new();
        for key in ["migrate-url", "operator-url", "worker-url"] {
            let url =
                cluster::secret_text(&self.client, &self.environment.namespace, "monthend-database", key)
                    .await?;
            let host = format!("@{}", self.postgresql());
            let (role, _) =
                url.split_once(&host).with_context(|| format!("{key} does not contain {host}"))?;
            let url = format!("{role}{host}.{}:5432/{}", self.environment.namespace, database::NAME);
            urls.insert(key.to_owned(), ByteString(url.into_bytes()));
        }
        self.create_secret("database", urls).await?;

        let mut keys = BTreeMap::new();
        for entry in fs::read_dir(&self.environment.keys_dir).context("read MONTHEND_KEYS_DIR")? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            keys.insert(name, ByteString(fs::read(entry.path())?));
        }
        self.create_secret("encryption", keys).await?;
        let login = [("username", mail::USERNAME), ("password", mail::PASSWORD)];
        let login = login.map(|(key, value)| (key.to_owned(), ByteString(value.as_bytes().to_vec())));
        self.create_secret("smtp", login.into()).await
    }

    async fn create_secret(&self, name: &str, data: BTreeMap<String, ByteString>) -> Result<()> {
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let secret = Secret { metadata, data: Some(data), ..Secret::default() };
        let secrets = Api::<Secret>::namespaced(self.client.clone(), &self.namespace);
        secrets
            .create(&PostParams::default(), &secret)
            .await
            .with_context(|| format!("create Secret {name}"))?;
        Ok(())
    }

    /// Restores the initial state after a scenario, also after a failed one: every component runs,
    /// and no run exists.
    pub async fn clean_up(&self) -> Result<()> {
        self.scale_postgresql(1).await?;
        self.scale_kafka(1).await?;
        self.database_is_available().await?;
        self.kafka.wait_until_available().await?;
        self.mail.set_rules(&[]).await?;
        let quotas = Api::<ResourceQuota>::namespaced(self.client.clone(), &self.namespace);
        quotas.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
        let deployments = Api::<Deployment>::namespaced(self.client.clone(), &self.namespace);
        if deployments.get("monthend-operator").await?.spec.replicas != Some(1) {
            self.scale_operator(1).await?;
        }
        // No scenario may send bills through a run of another scenario.
        for runs in [self.notification_runs(), self.billing_runs()] {
            for run in runs.all().await? {
                runs.api.delete(&run.metadata.name.unwrap_or_default(), &DeleteParams::default()).await?;
            }
            wait::until_true("all runs to be deleted", LIMIT, async || Ok(runs.all().await?.is_empty()))
                .await?;
        }
        // The annotations come first, so that Helm finds the values that it wrote.
        self.set_scaling_annotations(&[
            ("min-replicas", CONSUMERS),
            ("max-replicas", CONSUMERS),
            ("lag-per-replica", LAG_PER_REPLICA),
            ("cooldown-seconds", COOLDOWN_SECONDS),
        ])
        .await?;
        if self.changed.load(Ordering::Relaxed) {
            self.helm_upgrade(&json!({})).await?;
        }
        self.wait_for_consumers(i32::try_from(CONSUMERS)?).await
    }

    /// Removes the installation.
    pub async fn remove(&self) -> Result<()> {
        self.clean_up().await?;
        shell::run(&["helm", "-n", &self.namespace, "uninstall", "monthend", "--wait"], &[], None).await?;
        remove_leftovers(&self.client, NAMESPACE).await?;
        let options = self.pool.connect_options().as_ref().clone().database("postgres");
        self.pool.close().await;
        let pool = database::connect(options).await?;
        database::drop_database(&pool).await
    }
}

/// Creates the namespace, which enforces the `restricted` Pod Security profile.
pub(crate) async fn create_namespace(client: &Client, name: &str) -> Result<()> {
    let labels = [("pod-security.kubernetes.io/enforce", "restricted"), ("monthend.dev/e2e", "true")];
    let namespace = Namespace {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
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

async fn delete_without_finalizers(runs: &Runs, name: &str) -> kube::Result<()> {
    runs.api.delete(name, &DeleteParams::default()).await?;
    if runs.api.get_opt(name).await?.is_some() {
        let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        runs.api.patch(name, &PatchParams::default(), &none).await?;
    }
    Ok(())
}

/// Removes the namespaces of an earlier test run. Its operator may no longer exist, so finalizers
/// are removed here.
pub(crate) async fn remove_leftovers(client: &Client, name: &str) -> Result<()> {
    let namespaces = Api::<Namespace>::all(client.clone());
    if namespaces.get_opt(name).await?.is_none() {
        return Ok(());
    }
    // The schedules first, so that they create no more runs.
    for kind in ["BillingSchedule", "NotificationRun", "BillingRun"] {
        let runs = Runs::new(client, name, kind);
        for run in runs.all().await.unwrap_or_default() {
            match delete_without_finalizers(&runs, &run.metadata.name.unwrap_or_default()).await {
                // Its schedule was deleted, and so was the run.
                Err(kube::Error::Api(answer)) if answer.code == 404 => {}
                deleted => deleted?,
            }
        }
    }
    shell::run(&["kubectl", "delete", "namespace", name, "--ignore-not-found", "--wait=true"], &[], None)
        .await
        .map(drop)
}
