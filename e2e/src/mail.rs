//! The mail server of the scenarios (`mail/server.py`): a pod beside the installation, told how to behave and asked what
//! it took through the API server.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::Client;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{cluster, data::Slice, wait};

pub const NAME: &str = "mail";
const HTTP_PORT: u16 = 8025;
const LIMIT: Duration = Duration::from_secs(120);
pub const USERNAME: &str = "e2e";
pub const PASSWORD: &str = "a-password-of-the-tests";

/// A message as the server keeps it.
#[derive(Clone, Debug, Deserialize)]
pub struct Message {
    pub number: u64,
    /// Milliseconds since the epoch, by the server's clock.
    pub at: i64,
    pub to: Vec<String>,
    /// Whether the server said so; none while it has not decided.
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

    /// The bill that the Message-ID names: month, member, revision.
    pub fn bill(&self) -> Option<(String, i64, i32)> {
        let id = self.header("Message-ID")?.trim().strip_prefix('<')?;
        let mut parts = id.split_once('@')?.0.split('.');
        let bill = (parts.next()?.to_owned(), parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        parts.next().is_none().then_some(bill)
    }
}

#[derive(Clone, Debug, Deserialize)]
pub struct State {
    pub instance: String,
    /// Open connections now, opened ever, and the most at one time.
    pub sessions: u64,
    pub opened: u64,
    pub most: u64,
    /// Sessions that a rule holds, and how often a rule struck, by its point.
    pub held: BTreeMap<String, u64>,
    pub struck: BTreeMap<String, u64>,
    pub messages: u64,
}

/// The server, with what it was seen to hold so far.
pub struct Mail {
    client: Client,
    namespace: String,
    seen: Mutex<(String, Vec<Arc<Message>>)>,
}

impl Mail {
    /// Starts the server and waits for its answer.
    pub async fn start(client: &Client, namespace: &str, image: &str) -> Result<Self> {
        let labels = json!({"app": NAME});
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": NAME, "namespace": namespace, "labels": labels},
            "spec": {
                "automountServiceAccountToken": false,
                "terminationGracePeriodSeconds": 0,
                "securityContext": {
                    "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [{
                    "name": NAME, "image": image, "imagePullPolicy": "IfNotPresent",
                    "env": [{"name": "PYTHONDONTWRITEBYTECODE", "value": "1"}],
                    "ports": [{"name": "smtp", "containerPort": 1025}, {"name": "http", "containerPort": HTTP_PORT}],
                    "resources": {"limits": {"memory": "512Mi"}},
                    "readinessProbe": {"httpGet": {"path": "/state", "port": "http"}, "periodSeconds": 1},
                    "securityContext": {
                        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
                    },
                }],
            },
        });
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": NAME, "namespace": namespace},
            "spec": {"selector": labels, "ports": [
                {"name": "smtp", "port": 1025, "targetPort": "smtp"}, {"name": "http", "port": HTTP_PORT, "targetPort": "http"},
            ]},
        });
        cluster::put::<Service>(client, namespace, &service).await?;
        cluster::put::<Pod>(client, namespace, &pod).await?;
        let mail = Self {
            client: client.clone(),
            namespace: namespace.to_owned(),
            seen: Mutex::new((String::new(), Vec::new())),
        };
        let state =
            wait::until("the mail server to answer", LIMIT, async || mail.state().await.map(Some)).await?;
        *mail.seen.lock().unwrap_or_else(PoisonError::into_inner) = (state.instance, Vec::new());
        mail.behave(&[]).await?;
        Ok(mail)
    }

    async fn ask(&self, method: &str, page: &str, body: &Value) -> Result<String> {
        let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body)? };
        cluster::proxied(&self.client, &self.namespace, NAME, HTTP_PORT, method, page, body).await
    }

    pub async fn state(&self) -> Result<State> {
        let said = self.ask("GET", "state", &Value::Null).await?;
        serde_json::from_str(&said).with_context(|| format!("the mail server says {said}"))
    }

    /// Replaces the behaviour by these rules, and lets go whatever an earlier one held.
    pub async fn behave(&self, rules: &[Value]) -> Result<()> {
        self.tell(json!({"rules": rules})).await
    }

    /// As if the machine were off: open sessions are cut, and nobody listens.
    pub async fn go_away(&self) -> Result<()> {
        self.tell(json!({"away": true})).await
    }

    /// Every session needs to log in, always.
    async fn tell(&self, mut behaviour: Value) -> Result<()> {
        behaviour["login"] = json!({"username": USERNAME, "password": PASSWORD});
        self.ask("PUT", "behaviour", &behaviour)
            .await
            .with_context(|| format!("tell the mail server {behaviour}"))?;
        Ok(())
    }

    /// Waits until the rules hold so many sessions at a point. How many connections are open then.
    pub async fn holds(&self, point: &str, sessions: u64) -> Result<u64> {
        wait::until(&format!("{sessions} sessions to be held at {point}"), LIMIT, async || {
            let state = self.state().await?;
            let held = state.held.get(point).copied().unwrap_or(0);
            ensure!(held >= sessions, "{held} are: {state:?}");
            Ok(Some(state.sessions))
        })
        .await
    }

    /// Waits until every session that was held at a point has gone on.
    pub async fn lets_go(&self, point: &str) -> Result<()> {
        wait::until_true(&format!("no session to be held at {point}"), LIMIT, async || {
            Ok(self.state().await?.held.get(point).copied().unwrap_or(0) == 0)
        })
        .await
    }

    /// Waits until the rules have struck so often at a point, since the server was started.
    pub async fn strikes(&self, point: &str, times: u64) -> Result<()> {
        wait::until_true(&format!("a rule to strike {times} times at {point}"), LIMIT, async || {
            Ok(self.state().await?.struck.get(point).copied().unwrap_or(0) >= times)
        })
        .await
    }

    /// What it took of the slice's bills.
    pub async fn messages_of(&self, slice: &Slice) -> Result<Vec<Arc<Message>>> {
        let (from, to) = slice.ids();
        let members = i64::try_from(from)?..=i64::try_from(to)?;
        let mut messages = self.messages().await?;
        messages.retain(|message| {
            message.bill().is_some_and(|(month, member, _)| month == slice.month && members.contains(&member))
        });
        Ok(messages)
    }

    /// Everything that it ever took, in order.
    pub async fn messages(&self) -> Result<Vec<Arc<Message>>> {
        let state = self.state().await?;
        let (instance, from) = {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            (seen.0.clone(), seen.1.iter().take_while(|message| message.acknowledged.is_some()).count())
        };
        if state.instance != instance {
            bail!("the mail server was started again and lost what it had taken");
        }
        let said = self.ask("GET", &format!("messages?after={from}"), &Value::Null).await?;
        let new: Vec<Message> = serde_json::from_str(&said).context("read the mail server's messages")?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.1.truncate(from);
        seen.1.extend(new.into_iter().map(Arc::new));
        Ok(seen.1.clone())
    }
}
