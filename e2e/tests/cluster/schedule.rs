//! A schedule closes every month of a year by itself, once, in two time zones, while its operator is
//! killed, is away, or is suspended.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use e2e::clocked_installation::{ClockedInstallation, MEMBERS};
use e2e::cluster;
use e2e::installation::Installation;
use e2e::runs::{PRICE_BOOK, condition, status};
use e2e::suite::Suite;
use serde_json::{Value, json};

const NAME: &str = "close";
const MONTHS: u32 = 12;

pub(crate) fn add(suite: &mut Suite) {
    suite.scenario("a_schedule_closes_every_month_of_a_year_once", a_year);
}

async fn a_year(installation: &Installation) -> Result<()> {
    // Two at once, as each mostly waits for pods to start.
    let (seoul, new_york) = tokio::join!(
        year_of(installation, "seoul", "Asia/Seoul", Some(json!({}))),
        year_of(installation, "newyork", "America/New_York", None),
    );
    seoul.context("Asia/Seoul").and(new_york.context("America/New_York"))
}

async fn year_of(
    installation: &Installation,
    name: &str,
    zone: &str,
    notification: Option<Value>,
) -> Result<()> {
    let clocked = ClockedInstallation::create(installation, name, zone).await?;
    let outcome = Year::begin(&clocked, notification).await;
    let outcome = match outcome {
        Ok(year) => year.close().await,
        Err(error) => Err(error),
    };
    if let Err(error) = outcome {
        // The namespace is kept for inspection; the next test run removes it.
        return Err(error.context(clocked.diagnosis().await));
    }
    clocked.remove(installation, name).await
}

struct Year<'a> {
    clocked: &'a ClockedInstallation,
    /// The first day of the month that is billed first, as a local time.
    first: String,
    notifies: bool,
}

impl<'a> Year<'a> {
    async fn begin(clocked: &'a ClockedInstallation, notification: Option<Value>) -> Result<Self> {
        // Until 02:00 on the 1st, the month before is still to be billed.
        let first = clocked.local_time("date_trunc('month', now - interval '2 hours')").await?;
        let notifies = notification.is_some();
        let mut spec = json!({
            "billing": {"priceBookRef": {"name": PRICE_BOOK}, "shards": 1, "parallelism": 1},
            "catchUpMonths": 2,
        });
        if let Some(notification) = notification {
            spec["notification"] = notification;
        }
        let schedule = json!({
            "apiVersion": "monthend.dev/v1alpha1", "kind": "BillingSchedule",
            "metadata": {"name": NAME}, "spec": spec,
        });
        cluster::apply(&clocked.runs("BillingSchedule").api, &schedule).await?;
        clocked.runs("BillingSchedule").wait_for_condition(NAME, "Ready", "True", "Scheduled").await?;
        Ok(Self { clocked, first, notifies })
    }

    async fn close(&self) -> Result<()> {
        let schedules = self.clocked.runs("BillingSchedule");
        for n in 0..MONTHS {
            match n {
                // Not a minute too early.
                0 | 6 => {
                    self.move_past(n, "-1 minute").await?;
                    let run = self.clocked.runs("BillingRun").api.get_opt(&self.run(n).await?).await?;
                    ensure!(run.is_none(), "a run was created before its time");
                    self.move_past(n, "1 minute").await?;
                }
                // The operator is killed just when the month is due.
                1 | 8 => {
                    self.move_past(n, "1 minute").await?;
                    self.clocked.kill_operator().await?;
                }
                // No operator for two firsts; it comes back days later.
                3 => {
                    self.clocked.scale_operator(0).await?;
                    self.move_past(n, "1 hour").await?;
                    continue;
                }
                4 => {
                    self.move_past(n, "3 days").await?;
                    self.clocked.scale_operator(1).await?;
                    self.wait_until_closed(3).await?;
                }
                // Suspended at its time.
                9 => {
                    schedules.change(NAME, json!({"suspend": true})).await?;
                    schedules.wait_for_condition(NAME, "Suspended", "True", "Suspended").await?;
                    self.move_past(n, "1 hour").await?;
                    schedules.change(NAME, json!({"suspend": false})).await?;
                }
                _ => self.move_past(n, "1 minute").await?,
            }
            self.wait_until_closed(n).await?;
        }
        self.every_month_is_closed_once().await
    }

    async fn move_past(&self, n: u32, offset: &str) -> Result<()> {
        let at = self.sql_time(n, &format!("+ interval '1 month 2 hours' + interval '{offset}'"));
        let at = self.clocked.local_time(&at).await?;
        self.clocked.move_clock(&at, NAME).await
    }

    /// The first day of the n-th month, and more, as SQL.
    fn sql_time(&self, n: u32, more: &str) -> String {
        format!("timestamp '{}' + interval '{n} months' {more}", self.first)
    }

    async fn month(&self, n: u32) -> Result<String> {
        let time = self.sql_time(n, "");
        self.clocked.local_time(&format!("to_char({time}, 'YYYY-MM')")).await
    }

    async fn run(&self, n: u32) -> Result<String> {
        Ok(format!("{NAME}-{}", self.month(n).await?))
    }

    async fn wait_until_closed(&self, n: u32) -> Result<()> {
        let run = self.run(n).await?;
        self.clocked.runs("BillingRun").wait_for_phase(&run, "Succeeded").await?;
        if self.notifies {
            self.clocked.runs("NotificationRun").wait_for_phase(&run, "Succeeded").await?;
        }
        Ok(())
    }

    async fn every_month_is_closed_once(&self) -> Result<()> {
        let mut months = Vec::new();
        for n in 0..MONTHS {
            months.push(self.month(n).await?);
        }
        let revisions: Vec<(String, i64, i64, i64)> = sqlx::query_as(
            "select r.month, count(*), count(*) filter (where r.state = 'LIVE'),
                    (select count(*) from live_bill b where b.month = r.month)
             from revision r group by r.month order by r.month",
        )
        .fetch_all(&self.clocked.pool)
        .await?;
        let once: Vec<_> = months.iter().map(|month| (month.clone(), 1, 1, MEMBERS)).collect();
        ensure!(revisions == once, "month, revisions, live ones, bills: {revisions:?}, wanted {once:?}");
        let notified: Vec<(String, i64, i64)> = sqlx::query_as(
            "select n.month, count(*), sum((select count(*) from notice_target t
                                             where t.month = n.month and t.outcome = 'SENT'))::bigint
             from notification n group by n.month order by n.month",
        )
        .fetch_all(&self.clocked.pool)
        .await?;
        let once: Vec<_> =
            months.iter().filter(|_| self.notifies).map(|month| (month.clone(), 1, MEMBERS)).collect();
        ensure!(notified == once, "month, notifications, e-mails: {notified:?}, wanted {once:?}");

        let wanted: BTreeSet<String> = months.iter().map(|month| format!("{NAME}-{month}")).collect();
        let schedule = self.clocked.runs("BillingSchedule").get(NAME).await?;
        for (kind, wanted) in
            [("BillingRun", Some(&wanted)), ("NotificationRun", Some(&wanted).filter(|_| self.notifies))]
        {
            let found = self.clocked.runs(kind).all().await?;
            let names: BTreeSet<String> = found.iter().filter_map(|run| run.metadata.name.clone()).collect();
            ensure!(&names == wanted.unwrap_or(&BTreeSet::new()), "{kind}s: {names:?}");
            for run in found {
                let owners = run.metadata.owner_references.unwrap_or_default();
                let owner = owners.first().map(|owner| (Some(owner.uid.clone()), owner.controller));
                ensure!(owner == Some((schedule.metadata.uid.clone(), Some(true))), "{owners:?}");
            }
        }
        let last = months.last().context("a year has months")?;
        let found = &status(&schedule)["lastMonth"];
        ensure!(found == last, "status.lastMonth is {found}, not {last}");
        let ready = condition(&schedule, "Ready");
        ensure!(ready.is_some_and(|ready| ready.0 == "True"), "{ready:?}");
        Ok(())
    }
}
