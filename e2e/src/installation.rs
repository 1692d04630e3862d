//! The installation that the tests use: a namespace, database, Helm release and data set of their
//! own, next to the installation of `cargo xtask up`. The tests can be repeated, and they leave the
//! data of the development stack alone.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::environment::{Environment, workspace};
use crate::kafka::{self, Kafka};
use crate::mail::{self, MailServer};
use crate::shell::{self, CommandOutput, path};
use crate::{cluster, data};

pub const NAMESPACE: &str = "monthend-e2e";
/// Number of consumers.
pub const CONSUMERS: u32 = 2;
/// SMTP connections of each consumer.
pub const SESSIONS: u32 = 4;
pub(crate) const LAG_PER_REPLICA: u32 = 100_000;
pub(crate) const COOLDOWN_SECONDS: u32 = 5;

pub struct Installation {
    pub client: Client,
    pub environment: Environment,
    pub namespace: String,
    /// Connects as the superuser.
    pub pool: PgPool,
    /// The image under test, as in the chart's values.
    pub image: Value,
    /// DATABASE_URL for the worker's role, reachable from the host.
    pub worker_url: String,
    pub mail: MailServer,
    pub kafka: Kafka,
    /// Whether the release has values in addition to [`Self::values`].
    pub(crate) changed: AtomicBool,
}

impl Installation {
    /// The values of the tests' Helm release.
    pub fn values(&self) -> Value {
        json!({
            "image": self.image,
            "timeZone": data::TIME_ZONE,
            "currency": data::CURRENCY,
            "database": {"existingSecret": "database"},
            "encryption": {"existingSecret": "encryption"},
            "operator": {"log": "info,operator=debug"},
            // The development release owns the CRDs.
            "crds": {"install": false},
            "kafka": {
                "brokers": format!("{}.{}:9092", self.kafka_service(), self.environment.namespace),
                "topic": kafka::TOPIC, "dlqTopic": kafka::DLQ, "group": kafka::GROUP, "partitions": kafka::PARTITIONS,
            },
            // Two consumers, so that one can take over from the other. Leases last longer than a
            // scenario blocks a sender.
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

    /// The name of the development database's StatefulSet and Service.
    pub fn postgresql(&self) -> String {
        format!("{}-postgresql", self.environment.release)
    }

    /// The name of Kafka's StatefulSet and Service.
    pub fn kafka_service(&self) -> String {
        format!("{}-kafka", self.environment.release)
    }

    /// `helm upgrade --install --wait` of the tests' release. The `further` values override
    /// [`Self::values`].
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

    /// Runs `monthend` on the host against the tests' database.
    pub async fn monthend(&self, arguments: &[&str]) -> Result<CommandOutput> {
        let keys = path(&self.environment.keys_dir)?;
        let command: Vec<&str> = std::iter::once("monthend").chain(arguments.iter().copied()).collect();
        shell::capture(&command, &[("DATABASE_URL", &self.worker_url), ("MONTHEND_KEYS_DIR", keys)], None)
            .await
    }

    pub async fn load(&self, folder: &Path) -> Result<()> {
        let output = self.monthend(&["load", path(folder)?]).await?;
        ensure!(
            output.code == Some(0),
            "`monthend load` ended with {:?}\n{}{}",
            output.code,
            output.stdout,
            output.stderr
        );
        Ok(())
    }

    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let command: Vec<&str> =
            ["kubectl", "-n", &self.namespace].into_iter().chain(arguments.iter().copied()).collect();
        shell::run(&command, &[], None).await
    }

    /// `kubectl apply` of a manifest.
    pub async fn kubectl_apply(&self, manifest: &str, options: &[&str]) -> Result<String> {
        let command: Vec<&str> = ["kubectl", "-n", &self.namespace, "apply", "-f", "-"]
            .into_iter()
            .chain(options.iter().copied())
            .collect();
        shell::run(&command, &[], Some(manifest)).await
    }

    /// The user as whom the tests call the API server.
    pub async fn user(&self) -> Result<String> {
        let review = Api::<SelfSubjectReview>::all(self.client.clone())
            .create(&PostParams::default(), &SelfSubjectReview::default())
            .await
            .context("ask the API server who the tests' user is")?;
        review
            .status
            .and_then(|status| status.user_info)
            .and_then(|user| user.username)
            .context("the API server knows no user")
    }

    /// The response of the operator's HTTP server to a path, through the API server's proxy.
    pub async fn operator_get(&self, page: &str) -> Result<String> {
        let path =
            format!("/api/v1/namespaces/{}/services/monthend-operator:http/proxy/{page}", self.namespace);
        self.kubectl(&["get", "--raw", &path]).await
    }

    /// Status, Events and logs for the report of a failed scenario.
    pub async fn diagnosis(&self) -> String {
        let mut text = String::new();
        for command in [
            &["get", "brun,nrun,job,pod", "-o", "wide"] as &[&str],
            &["describe", "brun,nrun"],
            &["get", "events", "--sort-by=.lastTimestamp"],
        ] {
            text += &format!("\n--- kubectl {}\n", command.join(" "));
            text += &match self.kubectl(command).await {
                Ok(output) => shell::tail(&output, 70),
                Err(error) => format!("{error:#}\n"),
            };
        }
        let pods = cluster::pods(&self.client, &self.namespace, "app.kubernetes.io/name=monthend").await;
        for pod in pods.unwrap_or_default() {
            let name = cluster::pod_name(&pod);
            let lines = if name.contains("operator") { 40 } else { 8 };
            text += &format!("\n--- log of {name}\n");
            text += &cluster::log_tail(&self.client, &self.namespace, &name, lines).await;
        }
        text
    }
}
