//! What holds after any run, whatever happened to it: in the tables, and between them and the cluster.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use kube::api::DynamicObject;
use sqlx::PgConnection;
use store::verify::{self, Asked, Uuid};

use crate::{
    installation::Installation,
    runs::{over, phase, status},
    wait,
};

const WORKERS_END: Duration = Duration::from_secs(30);

/// Every violated invariant of every month, with what violates it. `active` are the uids of the runs that are not over.
pub async fn violations(
    connection: &mut PgConnection,
    active: &[String],
) -> Result<Vec<(&'static str, Vec<String>)>> {
    let active = active.iter().map(|uid| uid.parse()).collect::<Result<Vec<Uuid>, _>>()?;
    let months: Vec<String> = sqlx::query_scalar("select distinct month from revision order by 1")
        .fetch_all(&mut *connection)
        .await
        .context("read the months that there are revisions of")?;
    let mut found = Vec::new();
    for month in months {
        let asked = Asked { month: month.parse()?, active: Some(&active), keys: None, sink: None };
        let report = verify::verify(connection, &asked).await.with_context(|| format!("verify {month}"))?;
        let violated = report.into_iter().filter(|checked| !checked.violations.is_empty());
        found.extend(violated.map(|checked| {
            let violations = checked.violations.into_iter().map(|violation| format!("{month}: {violation}"));
            (checked.holds, violations.collect())
        }));
    }
    Ok(found)
}

impl Installation {
    /// All invariants, in the database and between it and the cluster.
    pub async fn invariants_hold(&self) -> Result<()> {
        let runs = self.all_runs().await?;
        let mut connection = self.pool.acquire().await?;
        let notices = self.notices().all().await?;
        let unfinished = [active(&runs), active(&notices)].concat();
        let found = violations(&mut connection, &unfinished).await?;
        if !found.is_empty() {
            bail!("invariants violated: {found:#?}");
        }
        for run in runs.iter().filter(|run| over(run)) {
            self.status_agrees(run).await?;
            self.nothing_runs(run).await?;
        }
        for run in notices.iter().filter(|run| over(run)) {
            self.notice_status_agrees(run).await?;
            self.nothing_runs(run).await?;
        }
        self.sink_agrees().await
    }

    /// 5: what a succeeded run's status says is what anyone reads in the views.
    pub async fn status_agrees(&self, run: &DynamicObject) -> Result<()> {
        if phase(run) != "Succeeded" {
            return Ok(());
        }
        let month = run.data["spec"]["month"].as_str().unwrap_or_default();
        let status = status(run);
        let counts: Vec<i64> = sqlx::query_scalar(
            "select n from (values (1, (select count(*) from live_bill where month = $1)),
                                   (2, (select count(*) from quarantine where month = $1)),
                                   (3, (select count(*) from usage where month = $1))) v(i, n) order by i",
        )
        .bind(month)
        .fetch_all(&self.pool)
        .await?;
        let said = |name: &str| status["counts"][name].as_i64().unwrap_or(-1);
        let usage =
            ["ratedUsage", "unbillableUsage", "quarantinedUsage", "lateUsage"].map(said).iter().sum::<i64>();
        ensure!(
            counts == [said("billed"), said("quarantined"), usage],
            "{month}: the tables count {counts:?} (bills, quarantined, usage), the status says {}",
            status["counts"]
        );
        let members = status["progress"]["members"].as_i64();
        ensure!(
            members == Some(counts[0] + counts[1]) && status["progress"]["membersDone"].as_i64() == members,
            "{month}: {members:?} members planned, {counts:?} in the tables"
        );
        let amounts: (String, String, String, String, String, String, String) = sqlx::query_as(
            "select coalesce(sum(base_amount), 0)::text, coalesce(sum(usage_amount), 0)::text,
                    coalesce(sum(discount_amount), 0)::text, coalesce(sum(adjustment_amount), 0)::text,
                    coalesce(sum(tax_amount), 0)::text, coalesce(sum(rounding_amount), 0)::text,
                    coalesce(sum(total_amount), 0)::text from live_bill where month = $1",
        )
        .bind(month)
        .fetch_one(&self.pool)
        .await?;
        let said = |name: &str| status["amounts"][name].as_str().unwrap_or("nothing").to_owned();
        let wanted = (
            said("base"),
            said("usage"),
            said("discount"),
            said("adjustment"),
            said("tax"),
            said("rounding"),
            said("total"),
        );
        ensure!(
            amounts == wanted,
            "{month}: the bills sum to {amounts:?}, the status says {}",
            status["amounts"]
        );
        Ok(())
    }

    /// 6: no pod works for a run that is over. The last ones may need a moment to end.
    async fn nothing_runs(&self, run: &DynamicObject) -> Result<()> {
        let name = run.metadata.name.clone().unwrap_or_default();
        wait::until_true(&format!("the workers of {name}, which is over, to end"), WORKERS_END, async || {
            Ok(self.workers(&name).await?.is_empty())
        })
        .await
    }
}

/// The uids of the runs that are not over.
pub fn active(runs: &[DynamicObject]) -> Vec<String> {
    runs.iter().filter(|run| !over(run)).filter_map(|run| run.metadata.uid.clone()).collect()
}
