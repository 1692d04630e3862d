//! `cargo xtask demo`: from nothing to a month that is billed and its bills e-mailed, then billed
//! again with a corrected price book and the corrections e-mailed, and what to look at then.

mod billing;
mod correction;
mod follow;
mod notices;

use std::io::{self, Write};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use self::follow::{Kind, Run};
use crate::cluster::Cluster;
use crate::exec;
use crate::paths::Paths;
use crate::progress::{Progress, seconds};
use crate::stack::{self, NAMESPACE};

/// How large a demonstration is.
pub(crate) struct Size {
    pub(crate) members: u64,
    pub(crate) usage_per_member: u64,
}

/// On a cluster that is up. What is done already is not done again.
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
    let billed = billing::ensure(paths, progress, cluster, size, &month)?;
    let mut runs = vec![billed];
    runs.extend(notices::bills(paths, progress, cluster, &month)?);
    let correction = correction::run(paths, progress, cluster, &month)?;
    runs.push(correction.billing);
    runs.extend(correction.notices);
    summary(cluster, progress, &month, &runs)
}

fn summary(cluster: &Cluster, progress: &Progress, month: &str, runs: &[Run]) -> Result<()> {
    let mut text = String::new();
    for run in runs {
        report(&mut text, run, &run.get(cluster)?["status"]);
    }
    text.push_str("\n  what each part took\n");
    for (step, took) in progress.times().iter().filter(|(_, took)| took.as_millis() >= 100) {
        text.push_str(&format!("    {step:<60} {:>14}\n", seconds(*took)));
    }
    text.push_str(&format!("    {:<60} {:>14}\n", "altogether", seconds(progress.elapsed())));
    let last = runs.last().map_or("", |run| &run.name);
    let (mail, prometheus) = (stack::mail_url(), stack::prometheus_url());
    text.push_str(&format!(
        "
  where to look
    {mail}                          the e-mails of the sample, as members read them
    {prometheus}                          the metrics that the dashboards of grafana/ show
    eval \"$(cargo xtask env)\"
    kubectl get monthend -n {NAMESPACE}
    kubectl describe nrun {last} -n {NAMESPACE}
    psql \"$DATABASE_URL\" -c \"select * from live_bill where month = '{month}' order by member_id limit 5\"
    psql \"$DATABASE_URL\" -c \"select * from bill_diff_movers where month = '{month}'\"
    psql \"$DATABASE_URL\" -c \"select * from job_log order by id desc limit 5\"
    kubectl logs -n {NAMESPACE} deployment/monthend-operator
    kubectl logs -n {NAMESPACE} deployment/monthend-notify

  what to try next
    examples/notificationrun.yaml with `select: Failed`: sends what failed, to {mail}, and nothing else
    apply a second run for {month}: it ends Failed, MonthAlreadyBilled
    kubectl explain nrun.spec            every option of a run
    kubectl delete pod monthend-kafka-0 monthend-postgresql-0 -n {NAMESPACE}     nothing is lost
    cargo xtask test                     every test, on this cluster
    cargo xtask down                     removes it all
"
    ));
    io::stdout().write_all(text.as_bytes()).context("cannot print the summary")
}

/// A run's figures, as its status has them.
fn report(text: &mut String, run: &Run, status: &Value) {
    text.push_str(&format!(
        "\n{} {NAMESPACE}/{}: {}\n",
        run.kind.title(),
        run.name,
        follow::text(&status["phase"])
    ));
    let groups: &[&str] = match run.kind {
        Kind::Billing => &["counts", "amounts"],
        Kind::Notification => &["counts"],
    };
    for group in groups {
        text.push_str(&format!("\n  {group}\n"));
        for (key, value) in status[group].as_object().into_iter().flatten() {
            text.push_str(&format!("    {key:<20} {:>24}\n", follow::text(value)));
        }
    }
    let rate = &status["progress"][run.kind.rate()];
    if run.kind == Kind::Notification && !rate.is_null() {
        text.push_str(&format!("    {:<20} {:>24}\n", "a second", follow::text(rate)));
    }
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
