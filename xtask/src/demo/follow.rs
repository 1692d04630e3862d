//! Runs of both kinds: applied, and watched until they end.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::progress::Progress;
use crate::stack::NAMESPACE;
use crate::{exec, interrupt};

const POLL: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Billing,
    Notification,
}

impl Kind {
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Billing => "BillingRun",
            Self::Notification => "NotificationRun",
        }
    }

    fn short(self) -> &'static str {
        match self {
            Self::Billing => "brun",
            Self::Notification => "nrun",
        }
    }

    /// The field of `progress` that says how fast a run is.
    pub(super) fn rate(self) -> &'static str {
        match self {
            Self::Billing => "membersPerSecond",
            Self::Notification => "perSecond",
        }
    }

    /// Whether a run of this phase stands still, and as a demonstration wants it.
    fn stopped(self, phase: &str, until: Until) -> Option<bool> {
        match (self, phase) {
            (_, "Succeeded") | (Self::Notification, "CompletedWithFailures") => {
                Some(until != Until::Approval)
            }
            // The operator has not seen the approval yet.
            (_, "AwaitingApproval") if until == Until::Issued => None,
            (_, "AwaitingApproval") => Some(until == Until::Approval),
            (_, "Failed" | "Rejected") => Some(false),
            _ => None,
        }
    }

    fn line(self, run: &Value) -> String {
        match self {
            Self::Billing => billing_line(&run["status"]),
            Self::Notification => notification_line(run),
        }
    }
}

/// How far a run is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// It waits for somebody's approval.
    Approval,
    /// Its end; it was approved just now.
    Issued,
    End,
}

/// A run, by what it is and its name.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) kind: Kind,
    pub(super) name: String,
}

impl Run {
    pub(super) fn new(kind: Kind, name: impl Into<String>) -> Self {
        Self { kind, name: name.into() }
    }

    pub(super) fn apply(&self, progress: &Progress, cluster: &Cluster, spec: &Value) -> Result<()> {
        progress.step(&format!("{} applied", self.kind.title()), |step| {
            step.note(&self.name);
            cluster.apply(&json!({
                "apiVersion": "monthend.dev/v1alpha1",
                "kind": self.kind.title(),
                "metadata": {"name": self.name, "namespace": NAMESPACE},
                "spec": spec,
            }))
        })
    }

    pub(super) fn get(&self, cluster: &Cluster) -> Result<Value> {
        let text = exec::output(cluster.kubectl().args([
            "get",
            self.kind.short(),
            &self.name,
            "-n",
            NAMESPACE,
            "-o",
            "json",
        ]))?;
        serde_json::from_str(&text).context("kubectl printed no JSON")
    }

    /// Whether it was applied earlier and has ended well.
    pub(super) fn is_done(&self, cluster: &Cluster) -> Result<bool> {
        let phase = exec::output(cluster.kubectl().args([
            "get",
            self.kind.short(),
            &self.name,
            "-n",
            NAMESPACE,
            "--ignore-not-found",
            "-o",
            "jsonpath={.status.phase}",
        ]))?;
        Ok(self.kind.stopped(&phase, Until::End) == Some(true))
    }
}

/// Shows the run's status until it is as far; `look` sees to what goes on besides.
pub(super) fn follow(
    cluster: &Cluster,
    run: &Run,
    until: Until,
    mut look: impl FnMut(&mut Screen) -> Result<()>,
) -> Result<()> {
    let mut screen = Screen::new();
    let result = loop {
        interrupt::check()?;
        let object = run.get(cluster)?;
        screen.progress(&run.kind.line(&object));
        look(&mut screen)?;
        let phase = object["status"]["phase"].as_str().unwrap_or_default();
        match run.kind.stopped(phase, until) {
            Some(true) => break Ok(()),
            Some(false) => break Err(anyhow!("the run is {phase}: {}", messages(&object))),
            None => std::thread::sleep(POLL),
        }
    };
    screen.end();
    result.with_context(|| {
        format!("look with: kubectl describe {} {} -n {NAMESPACE}", run.kind.short(), run.name)
    })
}

/// One line that changes, below those that stay.
pub(super) struct Screen {
    live: bool,
    shown: String,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self { live: io::stderr().is_terminal(), shown: String::new() }
    }

    pub(super) fn progress(&mut self, line: &str) {
        if line == self.shown {
            return;
        }
        line.clone_into(&mut self.shown);
        self.print(if self.live { format!("\r\x1b[K  {line}") } else { format!("  {line}\n") });
    }

    pub(super) fn say(&self, text: &str) {
        self.print(if self.live {
            format!("\r\x1b[K  {text}\n  {}", self.shown)
        } else {
            format!("  {text}\n")
        });
    }

    pub(super) fn end(&self) {
        if self.live {
            self.print("\n".to_owned());
        }
    }

    fn print(&self, text: String) {
        let mut err = io::stderr().lock();
        // Progress that can't be shown is no reason to stop watching.
        drop(err.write_all(text.as_bytes()).and_then(|()| err.flush()));
    }
}

/// A value of a status, as it is shown.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "–".to_owned(),
        other => other.to_string(),
    }
}

fn phase(status: &Value) -> &str {
    status["phase"].as_str().unwrap_or("waiting for the operator")
}

fn billing_line(status: &Value) -> String {
    let progress = &status["progress"];
    if progress.is_null() {
        return phase(status).to_owned();
    }
    let mut line = format!(
        "{}: {} of {} members",
        phase(status),
        text(&progress["membersDone"]),
        text(&progress["members"])
    );
    if !progress["membersPerSecond"].is_null() {
        line.push_str(&format!(", {} members/s", text(&progress["membersPerSecond"])));
    }
    line
}

fn notification_line(run: &Value) -> String {
    let status = &run["status"];
    let mut line = phase(status).to_owned();
    let counts = &status["counts"];
    if !counts.is_null() {
        line.push_str(&format!(
            ": {} sent, {} failed of {}",
            text(&counts["sent"]),
            text(&counts["failed"]),
            text(&counts["targets"])
        ));
    }
    if !status["progress"]["perSecond"].is_null() {
        line.push_str(&format!(", {} a second", text(&status["progress"]["perSecond"])));
    }
    let consumers = &status["consumers"];
    if !consumers.is_null() {
        line.push_str(&format!(
            ", lag {}, {} of {} consumers ready",
            text(&consumers["lag"]),
            text(&consumers["ready"]),
            text(&consumers["replicas"])
        ));
    }
    for trouble in conditions(run)
        .filter(|condition| condition["status"] == "False")
        .filter(|condition| matches!(condition["type"].as_str(), Some("Started" | "TransportAvailable")))
    {
        line.push_str(&format!(" ({})", said(trouble)));
    }
    line
}

fn conditions(run: &Value) -> impl Iterator<Item = &Value> {
    run["status"]["conditions"].as_array().into_iter().flatten()
}

fn said(condition: &Value) -> String {
    format!("{}: {}", text(&condition["reason"]), text(&condition["message"]))
}

/// What the conditions say.
fn messages(run: &Value) -> String {
    conditions(run).map(said).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_of_billing_is_one_line() {
        assert_eq!(billing_line(&Value::Null), "waiting for the operator");
        assert_eq!(billing_line(&json!({"phase": "Planning"})), "Planning");
        let status = json!({"phase": "Running", "progress":
            {"membersDone": 5000, "members": 10000, "membersPerSecond": 2500}});
        assert_eq!(billing_line(&status), "Running: 5000 of 10000 members, 2500 members/s");
    }

    #[test]
    fn progress_of_notices_is_one_line() {
        assert_eq!(notification_line(&Value::Null), "waiting for the operator");
        let run = json!({"status": {
            "phase": "Sending",
            "counts": {"sent": 70, "failed": 2, "targets": 100},
            "progress": {"perSecond": 35},
            "consumers": {"lag": 28, "replicas": 3, "ready": 2, "desired": 3},
        }});
        assert_eq!(
            notification_line(&run),
            "Sending: 70 sent, 2 failed of 100, 35 a second, lag 28, 2 of 3 consumers ready"
        );
        let waits = json!({"status": {"phase": "Pending", "conditions": [
            {"type": "Started", "status": "False", "reason": "MonthNotBilled", "message": "no live bills"},
            {"type": "Suspended", "status": "False", "reason": "NotAsked", "message": "-"},
        ]}});
        assert_eq!(notification_line(&waits), "Pending (MonthNotBilled: no live bills)");
    }

    #[test]
    fn failures_end_a_notification_and_a_refusal_ends_a_billing() {
        assert_eq!(Kind::Notification.stopped("CompletedWithFailures", Until::End), Some(true));
        assert_eq!(Kind::Notification.stopped("Sending", Until::End), None);
        assert_eq!(Kind::Billing.stopped("AwaitingApproval", Until::End), Some(false));
        assert_eq!(Kind::Billing.stopped("AwaitingApproval", Until::Approval), Some(true));
        assert_eq!(Kind::Billing.stopped("AwaitingApproval", Until::Issued), None);
        assert_eq!(Kind::Billing.stopped("Succeeded", Until::Approval), Some(false));
        assert_eq!(Kind::Billing.stopped("Succeeded", Until::Issued), Some(true));
        assert_eq!(Kind::Billing.stopped("", Until::End), None);
    }
}
