//! The tests' mail server (`mail/server.py`), which runs in a pod. The tests set the rules by which
//! it fails and read the messages that it accepted, both through the API server's proxy.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::Client;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::data::Cohort;
use crate::{cluster, wait};

pub const NAME: &str = "mail";
const HTTP_PORT: u16 = 8025;
const LIMIT: Duration = Duration::from_secs(120);
pub const USERNAME: &str = "e2e";
pub const PASSWORD: &str = "a-password-of-the-tests";

/// A message that the server accepted.
#[derive(Clone, Debug, Deserialize)]
pub struct Message {
    pub number: u64,
    /// Milliseconds since the epoch, by the server's clock.
    pub at: i64,
    pub to: Vec<String>,
    /// Whether the server acknowledged it; none while it has not decided.
    pub acknowledged: Option<bool>,
    pub headers: Vec<(String, String)>,
    pub r#type: String,
    pub text: Option<String>,
    pub html: Option<String>,
}

impl Message {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The bill that the Message-ID names: month, member id, revision.
    pub fn bill(&self) -> Option<(String, i64, i32)> {
        let id = self.header("Message-ID")?.trim().strip_prefix('<')?;
        let mut parts = id.split_once('@')?.0.split('.');
        let bill = (parts.next()?.to_owned(), parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        parts.next().is_none().then_some(bill)
    }
}

#[derive(Clone, Debug, Deserialize)]
pub struct State {
    /// Identifies the messages that the server keeps: it changes only if they are lost.
    pub data: String,
    /// Open connections.
    pub sessions: u64,
    /// Sessions that a rule holds, by the point of the rule.
    pub held: BTreeMap<String, u64>,
    /// How often a rule was applied since the server started, by the point of the rule.
    pub applied: BTreeMap<String, u64>,
    pub messages: u64,
}

/// A client of the server, with the messages that it has read so far.
pub struct MailServer {
    client: Client,
    namespace: String,
    data: String,
    seen: Mutex<Vec<Arc<Message>>>,
}

impl MailServer {
    /// Starts the server, or finds it running, and waits until it answers. Its volume keeps the
    /// messages for as long as the pod exists.
    pub async fn start(client: &Client, namespace: &str, image: &str) -> Result<Self> {
        let labels = json!({"app": NAME});
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": NAME, "namespace": namespace, "labels": labels},
            "spec": {
                "automountServiceAccountToken": false,
                "terminationGracePeriodSeconds": 0,
                "securityContext": {
                    "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [{
                    "name": NAME, "image": image, "imagePullPolicy": "IfNotPresent", "args": ["/data"],
                    "env": [{"name": "PYTHONDONTWRITEBYTECODE", "value": "1"}],
                    "ports": [{"name": "smtp", "containerPort": 1025}, {"name": "http", "containerPort": HTTP_PORT}],
                    "resources": {"limits": {"memory": "512Mi"}},
                    "readinessProbe": {"httpGet": {"path": "/state", "port": "http"}, "periodSeconds": 1},
                    "securityContext": {
                        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                }],
                "volumes": [{"name": "data", "emptyDir": {}}],
            },
        });
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": NAME, "namespace": namespace},
            "spec": {"selector": labels, "ports": [
                {"name": "smtp", "port": 1025, "targetPort": "smtp"}, {"name": "http", "port": HTTP_PORT, "targetPort": "http"},
            ]},
        });
        cluster::apply_typed::<Service>(client, namespace, &service).await?;
        cluster::apply_typed::<Pod>(client, namespace, &pod).await?;
        let mut mail = Self {
            client: client.clone(),
            namespace: namespace.to_owned(),
            data: String::new(),
            seen: Mutex::default(),
        };
        mail.data = mail.is_available().await?.data;
        mail.set_rules(&[]).await?;
        Ok(mail)
    }

    /// Waits until the server answers.
    pub async fn is_available(&self) -> Result<State> {
        wait::until("the mail server to answer", LIMIT, async || self.state().await.map(Some)).await
    }

    async fn request(&self, method: &str, page: &str, body: &Value) -> Result<String> {
        let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body)? };
        cluster::request_service(&self.client, &self.namespace, NAME, HTTP_PORT, method, page, body).await
    }

    pub async fn state(&self) -> Result<State> {
        let body = self.request("GET", "state", &Value::Null).await?;
        serde_json::from_str(&body).with_context(|| format!("parse the mail server's state {body}"))
    }

    /// Replaces all rules. Sessions that an earlier rule holds continue.
    pub async fn set_rules(&self, rules: &[Value]) -> Result<()> {
        self.set_behaviour(json!({"rules": rules})).await
    }

    /// Behaves as if the machine were off: aborts open sessions and stops listening.
    pub async fn go_offline(&self) -> Result<()> {
        self.set_behaviour(json!({"offline": true})).await
    }

    /// Sets the behaviour; every session must log in.
    async fn set_behaviour(&self, mut behaviour: Value) -> Result<()> {
        behaviour["login"] = json!({"username": USERNAME, "password": PASSWORD});
        self.request("PUT", "behaviour", &behaviour)
            .await
            .with_context(|| format!("set the behaviour {behaviour} of the mail server"))?;
        Ok(())
    }

    /// Waits until the rules hold this many sessions at a point. Returns the number of open
    /// connections.
    pub async fn wait_until_held(&self, point: &str, sessions: u64) -> Result<u64> {
        wait::until(&format!("{sessions} sessions to be held at {point}"), LIMIT, async || {
            let state = self.state().await?;
            let held = state.held.get(point).copied().unwrap_or(0);
            ensure!(held >= sessions, "{held} are held: {state:?}");
            Ok(Some(state.sessions))
        })
        .await
    }

    /// Waits until no session is held at a point.
    pub async fn wait_until_released(&self, point: &str) -> Result<()> {
        wait::until_true(&format!("no session to be held at {point}"), LIMIT, async || {
            Ok(self.state().await?.held.get(point).copied().unwrap_or(0) == 0)
        })
        .await
    }

    /// The accepted messages with the cohort's bills.
    pub async fn messages_of(&self, cohort: &Cohort) -> Result<Vec<Arc<Message>>> {
        let (from, to) = cohort.ids();
        let members = i64::try_from(from)?..=i64::try_from(to)?;
        let mut messages = self.messages().await?;
        messages.retain(|message| {
            message
                .bill()
                .is_some_and(|(month, member, _)| month == cohort.month && members.contains(&member))
        });
        Ok(messages)
    }

    /// All accepted messages, in order.
    pub async fn messages(&self) -> Result<Vec<Arc<Message>>> {
        let state = self.state().await?;
        ensure!(state.data == self.data, "the mail server has lost the messages that it had accepted");
        let from = {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.iter().take_while(|message| message.acknowledged.is_some()).count()
        };
        let body = self.request("GET", &format!("messages?after={from}"), &Value::Null).await?;
        let new: Vec<Message> = serde_json::from_str(&body).context("parse the mail server's messages")?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.truncate(from);
        seen.extend(new.into_iter().map(Arc::new));
        Ok(seen.clone())
    }
}
