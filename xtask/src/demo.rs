//! `cargo xtask demo`: from nothing to a month that is billed, and what to look
//! at then.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::exec;
use crate::interrupt;
use crate::paths::Paths;
use crate::progress::{Progress, seconds};
use crate::stack::{self, NAMESPACE};

const PRICE_BOOK: &str = "examples/pricebook.yaml";
const CONFIG_MAP: &str = "demo-pricebook";

/// How large a demonstration is.
pub(crate) struct Size {
    pub(crate) members: u64,
    pub(crate) usage_per_member: u64,
}

/// On a cluster that is up: a price book, data, a run, and a summary.
pub(crate) fn run(paths: &Paths, progress: &Progress, cluster: &Cluster, size: &Size) -> Result<()> {
    let month = progress.step("last month", |step| {
        // The database's clock and the installation's zone say which it is.
        let zone = &cluster.record.time_zone;
        let query = format!(
            "select to_char(date_trunc('month', now() at time zone '{zone}') - interval '1 month', 'YYYY-MM')"
        );
        let month = sql(cluster, &query)?;
        step.note(&month);
        Ok(month)
    })?;
    let name = format!("demo-{month}");
    if let Some(by) = billed_by(cluster, &month)? {
        eprintln!("  {month} is billed already, by {by}: a month is billed once");
        return summary(cluster, progress, &month, by.rsplit('/').next().unwrap_or(&name));
    }
    price_book(paths, progress, cluster)?;
    seed(paths, progress, cluster, size, &month)?;
    progress.step("BillingRun applied", |step| {
        step.note(&name);
        cluster.apply(&json!({
            "apiVersion": "monthend.dev/v1alpha1",
            "kind": "BillingRun",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"month": month, "priceBookRef": {"name": CONFIG_MAP}},
        }))
    })?;
    progress.section("billing", || follow(cluster, &name))?;
    summary(cluster, progress, &month, &name)
}

/// Who billed the month, if anyone did.
fn billed_by(cluster: &Cluster, month: &str) -> Result<Option<String>> {
    let run = sql(cluster, &format!("select run from live_bill where month = '{month}' limit 1"))?;
    Ok((!run.is_empty()).then_some(run))
}

fn price_book(paths: &Paths, progress: &Progress, cluster: &Cluster) -> Result<()> {
    progress.step("price book", |_| {
        let file = paths.repo.join(PRICE_BOOK);
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        cluster.apply(&json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": CONFIG_MAP, "namespace": NAMESPACE},
            "data": {"pricebook.yaml": text},
        }))
    })
}

fn seed(paths: &Paths, progress: &Progress, cluster: &Cluster, size: &Size, month: &str) -> Result<()> {
    let there = sql(
        cluster,
        &format!(
            "select coalesce(sum(succeeded), 0) from job_log where kind = 'SEED' and month = '{month}' and status = 'SUCCEEDED'"
        ),
    )?;
    if there != "0" {
        return progress.step("data", |step| {
            step.note(format!("{there} rows of {month} are there already"));
            Ok(())
        });
    }
    let Size { members, usage_per_member } = size;
    progress.section(&format!("seeding {members} members with {usage_per_member} usage rows each"), || {
        exec::inherit(
            Command::new("worker")
                .envs(stack::environment(paths, cluster)?)
                .current_dir(&paths.repo)
                .args(["seed", "--month", month, "--seed", "42"])
                .args(["--members", &members.to_string()])
                .args(["--usage-per-member", &usage_per_member.to_string()])
                // The command's report is progress here: stdout is for results.
                .stdout(io::stderr()),
        )
    })
}

/// Shows the run's status until it ends.
fn follow(cluster: &Cluster, name: &str) -> Result<()> {
    let live = io::stderr().is_terminal();
    let mut shown = String::new();
    let result = loop {
        interrupt::check()?;
        let run = get(cluster, name)?;
        let line = progress_line(&run["status"]);
        if line != shown {
            let mut err = io::stderr().lock();
            // Progress that can't be shown is no reason to stop watching.
            drop(if live {
                write!(err, "\r\x1b[K  {line}").and_then(|()| err.flush())
            } else {
                writeln!(err, "  {line}")
            });
            shown = line;
        }
        match run["status"]["phase"].as_str() {
            Some("Succeeded") => break Ok(()),
            Some(phase @ ("Failed" | "Rejected" | "AwaitingApproval")) => {
                break Err(anyhow::anyhow!("the run is {phase}: {}", messages(&run)));
            }
            _ => std::thread::sleep(Duration::from_millis(500)),
        }
    };
    if live {
        eprintln!();
    }
    result.with_context(|| format!("look with: kubectl describe brun {name} -n {NAMESPACE}"))
}

fn get(cluster: &Cluster, name: &str) -> Result<Value> {
    let text =
        exec::output(cluster.kubectl().args(["get", "billingrun", name, "-n", NAMESPACE, "-o", "json"]))?;
    serde_json::from_str(&text).context("kubectl printed no JSON")
}

fn progress_line(status: &Value) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "–".to_owned(),
        other => other.to_string(),
    };
    let progress = &status["progress"];
    let phase = status["phase"].as_str().unwrap_or("waiting for the operator");
    if progress.is_null() {
        return phase.to_owned();
    }
    let mut line =
        format!("{phase}: {} of {} members", text(&progress["membersDone"]), text(&progress["members"]));
    if !progress["membersPerSecond"].is_null() {
        line.push_str(&format!(", {} members/s", text(&progress["membersPerSecond"])));
    }
    line
}

/// What the conditions say.
fn messages(run: &Value) -> String {
    let conditions = run["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let texts: Vec<String> = conditions
        .iter()
        .filter_map(|condition| {
            let reason = condition["reason"].as_str()?;
            let message = condition["message"].as_str().unwrap_or_default();
            Some(format!("{reason}: {message}"))
        })
        .collect();
    texts.join("; ")
}

fn summary(cluster: &Cluster, progress: &Progress, month: &str, name: &str) -> Result<()> {
    let run = get(cluster, name)?;
    let status = &run["status"];
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut text = format!("\n{NAMESPACE}/{name}: {}\n", shown(&status["phase"]));
    for (title, group) in [("counts", &status["counts"]), ("amounts", &status["amounts"])] {
        text.push_str(&format!("\n  {title}\n"));
        for (key, value) in group.as_object().into_iter().flatten() {
            text.push_str(&format!("    {key:<20} {:>24}\n", shown(value)));
        }
    }
    text.push_str("\n  what each part took\n");
    for (step, took) in progress.times().iter().filter(|(_, took)| took.as_millis() >= 100) {
        text.push_str(&format!("    {step:<60} {:>14}\n", seconds(*took)));
    }
    text.push_str(&format!("    {:<60} {:>14}\n", "altogether", seconds(progress.elapsed())));
    text.push_str(&format!(
        "
  where to look
    eval \"$(cargo xtask env)\"
    kubectl get brun -n {NAMESPACE}
    kubectl describe brun {name} -n {NAMESPACE}
    psql \"$DATABASE_URL\" -c \"select * from live_bill where month = '{month}' order by member_id limit 5\"
    psql \"$DATABASE_URL\" -c \"select * from job_log order by id desc limit 5\"
    kubectl logs -n {NAMESPACE} deployment/monthend-operator

  what to try next
    apply a second run for {month}: it ends Failed, MonthAlreadyBilled
    kubectl explain brun.spec            everything that a run can be told
    kubectl delete pod monthend-postgresql-0 -n {NAMESPACE}     nothing is lost
    cargo xtask test                     every test, on this cluster
    cargo xtask down                     removes it all
"
    ));
    io::stdout().write_all(text.as_bytes()).context("cannot print the summary")
}

/// One value from the database, as its superuser, in its pod.
fn sql(cluster: &Cluster, query: &str) -> Result<String> {
    let answer = exec::output(cluster.kubectl().args([
        "exec",
        "-n",
        NAMESPACE,
        "monthend-postgresql-0",
        "--",
        "psql",
        "--no-psqlrc",
        "-U",
        "postgres",
        "-d",
        "monthend",
        "-Atqc",
        query,
    ]))?;
    if answer.contains('\n') {
        bail!("one value was asked for: {query}");
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_one_line() {
        assert_eq!(progress_line(&Value::Null), "waiting for the operator");
        assert_eq!(progress_line(&json!({"phase": "Planning"})), "Planning");
        let status = json!({"phase": "Running", "progress":
            {"membersDone": 5000, "members": 10000, "membersPerSecond": 2500}});
        assert_eq!(progress_line(&status), "Running: 5000 of 10000 members, 2500 members/s");
    }
}
