//! The invariants that hold after every scenario, also after faults: within the tables, and between
//! tables and cluster.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use domain::month::BillingMonth;
use kube::api::DynamicObject;
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection};
use store::verify::{self, Uuid, VerificationRequest};

use crate::installation::Installation;
use crate::runs::{is_finished, phase, status};
use crate::wait;

/// How long the last pods of a finished run may take to end.
const POD_END_LIMIT: Duration = Duration::from_secs(30);

/// Every violated invariant of these months, with its violations. `active` holds the uids of the
/// unfinished runs.
pub async fn violations(
    connection: &mut PgConnection,
    months: &[String],
    active: &[String],
) -> Result<Vec<(&'static str, Vec<String>)>> {
    let active = active.iter().map(|uid| uid.parse()).collect::<Result<Vec<Uuid>, _>>()?;
    let mut found = Vec::new();
    for month in months {
        let asked =
            VerificationRequest { month: month.parse()?, active: Some(&active), keys: None, sink: None };
        let report =
            verify::verify_month(connection, &asked).await.with_context(|| format!("verify {month}"))?;
        let violated = report.into_iter().filter(|checked| !checked.violations.is_empty());
        found.extend(violated.map(|checked| {
            let violations = checked.violations.into_iter().map(|violation| format!("{month}: {violation}"));
            (checked.name, violations.collect())
        }));
    }
    Ok(found)
}

impl Installation {
    /// Checks all invariants of every month. Each scenario adds a month or changes one, so that checking
    /// all of them after each scenario would take longer than the scenarios.
    pub async fn every_month_is_right(&self) -> Result<()> {
        let mut connection = self.pool.acquire().await?;
        let months: Vec<String> = sqlx::query_scalar("select distinct month from revision order by 1")
            .fetch_all(&mut *connection)
            .await
            .context("read the months that have revisions")?;
        ensure!(!months.is_empty(), "no month has a revision");
        nothing_violated(&violations(&mut connection, &months, &[]).await?)
    }

    /// Checks all invariants of the months that have a run, in the database and between the database and
    /// the cluster.
    pub async fn invariants_hold(&self) -> Result<()> {
        let runs = self.billing_runs().all().await?;
        let notifications = self.notification_runs().all().await?;
        let unfinished = [active_uids(&runs), active_uids(&notifications)].concat();
        let months: BTreeSet<String> = runs.iter().chain(&notifications).filter_map(month_of).collect();
        let months: Vec<String> = months.into_iter().collect();
        let mut connection = self.pool.acquire().await?;
        nothing_violated(&violations(&mut connection, &months, &unfinished).await?)?;
        for run in runs.iter().filter(|run| is_finished(run)) {
            self.billing_status_matches_tables(run).await?;
            self.no_pod_runs(run).await?;
        }
        for run in notifications.iter().filter(|run| is_finished(run)) {
            self.notification_status_matches_tables(run).await?;
            self.no_pod_runs(run).await?;
        }
        self.deliveries_match_mail_server().await
    }

    /// The status of a succeeded run equals what the views show of its scope's members, unless the
    /// month was billed again since: the views show the highest live revision, and `monthend verify`
    /// compares the others with their chunks.
    pub async fn billing_status_matches_tables(&self, run: &DynamicObject) -> Result<()> {
        if phase(run) != "Succeeded" {
            return Ok(());
        }
        let month = run.data["spec"]["month"].as_str().unwrap_or_default();
        let status = status(run);
        if self.is_rolled_back(month, &status["revision"]).await? {
            return Ok(());
        }
        ensure!(
            run.data["spec"]["rollback"].is_null(),
            "{month}: a rollback succeeded, and revision {} is not rolled back",
            status["revision"]
        );
        let live: Option<i32> =
            sqlx::query_scalar("select max(revision) from revision where month = $1 and state = 'LIVE'")
                .bind(month)
                .fetch_one(&self.pool)
                .await?;
        if status["revision"].as_i64() < live.map(i64::from) {
            return Ok(());
        }
        // The members of the run's revision, which is the highest live one.
        let of_scope = "exists (select from revision r
                                where r.month = $1 and r.revision = $2 and member_id between r.scope_from and r.scope_to
                                  and (not r.scope_listed or (r.month, r.revision, member_id) in (table scope_member)))";
        let taken_back = "exists (select from load l join highest_live_revision r on r.month = $1
                                  where l.number = u.load and l.taken_back_by <= r.data_cutoff)";
        let counts: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(format!(
            "select n from (values (1, (select count(*) from live_bill where month = $1 and {of_scope})),
                                   (2, (select count(*) from quarantine where month = $1 and {of_scope})),
                                   (3, (select count(*) from usage u where month = $1 and {of_scope} and not {taken_back}))) v(i, n)
             order by i",
        )))
        .bind(month)
        .bind(live)
        .fetch_all(&self.pool)
        .await?;
        let reported = |name: &str| status["counts"][name].as_i64().unwrap_or(-1);
        let usage = ["ratedUsage", "unbillableUsage", "quarantinedUsage", "lateUsage"]
            .map(reported)
            .iter()
            .sum::<i64>();
        ensure!(
            counts == [reported("billed"), reported("quarantined"), usage],
            "{month}: the tables have {counts:?} (bills, quarantined members, usage rows), the status says {}",
            status["counts"]
        );
        let members = status["progress"]["members"].as_i64();
        ensure!(
            members == Some(counts[0] + counts[1]) && status["progress"]["membersDone"].as_i64() == members,
            "{month}: {members:?} members were planned, the tables have {counts:?}"
        );
        let amounts: (String, String, String, String, String, String, String) =
            sqlx::query_as(AssertSqlSafe(format!(
                "select coalesce(sum(base_amount), 0)::text, coalesce(sum(usage_amount), 0)::text,
                    coalesce(sum(discount_amount), 0)::text, coalesce(sum(adjustment_amount), 0)::text,
                    coalesce(sum(tax_amount), 0)::text, coalesce(sum(rounding_amount), 0)::text,
                    coalesce(sum(total_amount), 0)::text from live_bill where month = $1 and {of_scope}",
            )))
            .bind(month)
            .bind(live)
            .fetch_one(&self.pool)
            .await?;
        let reported = |name: &str| status["amounts"][name].as_str().unwrap_or("nothing").to_owned();
        let wanted = (
            reported("base"),
            reported("usage"),
            reported("discount"),
            reported("adjustment"),
            reported("tax"),
            reported("rounding"),
            reported("total"),
        );
        ensure!(
            amounts == wanted,
            "{month}: the bills add up to {amounts:?}, the status says {}",
            status["amounts"]
        );
        Ok(())
    }

    /// Whether a revision was rolled back: by the run of the status, or after the run had billed
    /// it. Such a revision has no live bills.
    async fn is_rolled_back(&self, month: &str, revision: &Value) -> Result<bool> {
        let revision = i32::try_from(revision.as_i64().context("a succeeded run without a revision")?)?;
        let (state, live): (String, i64) = sqlx::query_as(
            "select state, (select count(*) from live_bill l where l.month = r.month and l.revision = r.revision)
             from revision r where month = $1 and revision = $2",
        )
        .bind(month)
        .bind(revision)
        .fetch_one(&self.pool)
        .await
        .with_context(|| format!("read revision {revision} of {month}"))?;
        let rolled_back = state == "ROLLED_BACK";
        ensure!(!rolled_back || live == 0, "{month}: {live} bills of a rolled back revision are live");
        Ok(rolled_back)
    }

    /// A finished run has no running pods. The last ones may need a moment to end.
    async fn no_pod_runs(&self, run: &DynamicObject) -> Result<()> {
        let name = run.metadata.name.clone().unwrap_or_default();
        wait::until_true(
            &format!("the pods of {name}, which is finished, to end"),
            POD_END_LIMIT,
            async || Ok(self.workers(&name).await?.is_empty()),
        )
        .await
    }
}

fn nothing_violated(found: &[(&'static str, Vec<String>)]) -> Result<()> {
    ensure!(found.is_empty(), "invariants violated: {found:#?}");
    Ok(())
}

/// The month of a run, unless the run names one that cannot be.
fn month_of(run: &DynamicObject) -> Option<String> {
    let month: BillingMonth = run.data["spec"]["month"].as_str()?.parse().ok()?;
    Some(month.to_string())
}

/// The uids of the unfinished runs.
pub fn active_uids(runs: &[DynamicObject]) -> Vec<String> {
    runs.iter().filter(|run| !is_finished(run)).filter_map(|run| run.metadata.uid.clone()).collect()
}
