//! The month's bills: a price book, data, a run.

use std::process::Command;
use std::{fs, io};

use anyhow::{Context, Result};
use serde_json::json;

use super::follow::{Kind, Run, Until, follow};
use super::{Size, sql};
use crate::cluster::Cluster;
use crate::exec;
use crate::paths::Paths;
use crate::progress::Progress;
use crate::stack::{self, NAMESPACE};

pub(super) const PRICE_BOOK: &str = "examples/pricebook.yaml";
const CONFIG_MAP: &str = "demo-pricebook";

/// The run that billed the month, now or earlier.
pub(super) fn ensure(
    paths: &Paths,
    progress: &Progress,
    cluster: &Cluster,
    size: &Size,
    month: &str,
) -> Result<Run> {
    if let Some(by) = billed_by(cluster, month)? {
        eprintln!("  {month} is billed already, by {by}: a month is billed once");
        let name = by.rsplit('/').next().unwrap_or(&by);
        return Ok(Run::new(Kind::Billing, name));
    }
    let run = Run::new(Kind::Billing, format!("demo-{month}"));
    price_book(paths, progress, cluster)?;
    seed(paths, progress, cluster, size, month)?;
    run.apply(progress, cluster, &json!({"month": month, "priceBookRef": {"name": CONFIG_MAP}}))?;
    progress.section("billing", || follow(cluster, &run, Until::End, |_| Ok(())))?;
    Ok(run)
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
        apply_price_book(cluster, CONFIG_MAP, &text)
    })
}

pub(super) fn apply_price_book(cluster: &Cluster, config_map: &str, text: &str) -> Result<()> {
    cluster.apply(&json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": config_map, "namespace": NAMESPACE},
        "data": {"pricebook.yaml": text},
    }))
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
            Command::new("monthend")
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
