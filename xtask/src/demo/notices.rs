//! The month's notices, bills and corrections: a few members over the real mail server, then everyone
//! through the mock transport, which sends nothing.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::follow::{Kind, Run, Screen, Until, follow};
use super::sql;
use crate::cluster::Cluster;
use crate::paths::Paths;
use crate::progress::{Progress, seconds};
use crate::stack::{self, NAMESPACE};
use crate::{exec, interrupt};

/// Members whose mails can be looked at.
const SAMPLE: u32 = 1000;

/// Takes as long as a server nearby, and refuses one in a thousand.
const PRETENDED: &str = "mock://?latencyMs=5&failPerMillion=1000";

/// The part of the month's bills that one consumer is to have.
const SHARE: u64 = 8;

/// How long consumers may take to become one again.
const PATIENCE: Duration = Duration::from_secs(180);

/// The month's bills: those of the first members over Kafka and SMTP, then everyone's.
pub(super) fn bills(paths: &Paths, progress: &Progress, cluster: &Cluster, month: &str) -> Result<Vec<Run>> {
    let bills = count(cluster, &format!("select count(*) from live_bill where month = '{month}'"))?;
    send(paths, progress, cluster, month, &Notices { name: "notices", select: "Ready", number: bills })
}

/// Corrections to the members who were sent another amount, the first members' over Kafka and SMTP.
pub(super) fn corrections(
    paths: &Paths,
    progress: &Progress,
    cluster: &Cluster,
    month: &str,
) -> Result<Vec<Run>> {
    let changed = count(
        cluster,
        &format!(
            "select count(*) from bill_diff where month = '{month}' and state = 'LIVE' and change = 'CHANGED'"
        ),
    )?;
    let notices = Notices { name: "corrections", select: "Corrected", number: changed };
    send(paths, progress, cluster, month, &notices)
}

/// What is sent.
struct Notices {
    name: &'static str,
    select: &'static str,
    /// About how many, which decides on how many consumers.
    number: u64,
}

fn count(cluster: &Cluster, query: &str) -> Result<u64> {
    sql(cluster, query)?.parse().with_context(|| format!("no number answers {query}"))
}

fn send(
    paths: &Paths,
    progress: &Progress,
    cluster: &Cluster,
    month: &str,
    notices: &Notices,
) -> Result<Vec<Run>> {
    let sample = Run::new(Kind::Notification, format!("{}-sample-{month}", notices.name));
    if !sample.is_done(cluster)? {
        send_sample(progress, cluster, month, notices.select, &sample)?;
    }
    let everyone = Run::new(Kind::Notification, format!("{}-{month}", notices.name));
    if !everyone.is_done(cluster)? {
        pretend_to_send(paths, progress, cluster, month, notices, &everyone)?;
    }
    Ok(vec![sample, everyone])
}

fn send_sample(progress: &Progress, cluster: &Cluster, month: &str, select: &str, run: &Run) -> Result<()> {
    let range = sql(
        cluster,
        &format!(
            "select concat_ws(' ', min(member_id), max(member_id)) from
             (select member_id from live_bill where month = '{month}' order by member_id limit {SAMPLE}) first"
        ),
    )?;
    let (from, to) = range.split_once(' ').with_context(|| format!("{month} has no bills"))?;
    let (from, to): (i64, i64) = (from.parse()?, to.parse()?);
    let spec = json!({"month": month, "select": select, "scope": {"memberRange": {"from": from, "to": to}}});
    run.apply(progress, cluster, &spec)?;
    progress.section("e-mails by SMTP", || follow(cluster, run, Until::End, |_| Ok(())))
}

/// Sends what is left through the mock transport.
fn pretend_to_send(
    paths: &Paths,
    progress: &Progress,
    cluster: &Cluster,
    month: &str,
    notices: &Notices,
    run: &Run,
) -> Result<()> {
    progress.step("consumers pretend to send", |step| {
        step.note(PRETENDED);
        stack::configure(
            paths,
            cluster,
            &json!({"notify": {
                "transport": PRETENDED,
                "sessions": 64,
                // Out and in again while one looks.
                "scaling": {
                    "lagPerReplica": (notices.number / SHARE).max(500),
                    "maxReplicas": 4,
                    "cooldownSeconds": 10,
                },
            }}),
        )
    })?;
    run.apply(progress, cluster, &json!({"month": month, "select": notices.select}))?;
    let mut consumers = Consumers::new(cluster)?;
    progress.section("e-mails by the mock transport", || {
        follow(cluster, run, Until::End, |screen| consumers.look(screen))?;
        consumers.until_one()
    })?;
    progress.step("consumers send again", |_| stack::configure(paths, cluster, &json!({})))
}

/// How many consumers there are to be, and what was said of it.
struct Consumers<'a> {
    cluster: &'a Cluster,
    wanted: u32,
}

impl<'a> Consumers<'a> {
    fn new(cluster: &'a Cluster) -> Result<Self> {
        Ok(Self { cluster, wanted: wanted(cluster)? })
    }

    /// Says each change.
    fn look(&mut self, screen: &mut Screen) -> Result<()> {
        let wanted = wanted(self.cluster)?;
        if wanted != self.wanted {
            screen.say(&format!("consumers {} → {wanted}", self.wanted));
            self.wanted = wanted;
        }
        Ok(())
    }

    /// The work is done: the operator takes back what it gave.
    fn until_one(&mut self) -> Result<()> {
        let since = Instant::now();
        let mut screen = Screen::new();
        while self.wanted > 1 {
            interrupt::check()?;
            if since.elapsed() > PATIENCE {
                bail!("there are still {} consumers after {}", self.wanted, seconds(PATIENCE));
            }
            std::thread::sleep(Duration::from_millis(500));
            self.look(&mut screen)?;
        }
        Ok(())
    }
}

fn wanted(cluster: &Cluster) -> Result<u32> {
    let replicas = exec::output(cluster.kubectl().args([
        "get",
        "deployment",
        "monthend-notify",
        "-n",
        NAMESPACE,
        "-o",
        "jsonpath={.spec.replicas}",
    ]))?;
    replicas.parse().with_context(|| format!("deployment/monthend-notify has {replicas:?} replicas"))
}
