//! What holds after any run, whatever happened to it. Each query returns no row.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use kube::api::DynamicObject;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::{
    data::{ADD_ONS, BASE_PLANS},
    installation::Installation,
    runs::{over, phase, status},
    wait,
};

const WORKERS_END: Duration = Duration::from_secs(30);

/// `base` and `known` stand for the price book's plan codes, `active` for the uids of the runs that are not over.
const INVARIANTS: &[(&str, &str)] = &[
    (
        "1 a bill is the sum of its items and of its parts",
        "select format('%s member %s revision %s: total %s, items %s', b.month, b.member_id, b.revision, b.total_amount, i.amount)
         from bill b
         left join (select month, member_id, revision, sum(amount) as amount from bill_item group by 1, 2, 3) i
              using (month, member_id, revision)
         where b.total_amount is distinct from i.amount
            or b.total_amount <> b.base_amount + b.usage_amount - b.discount_amount + b.adjustment_amount + b.rounding_amount",
    ),
    (
        "2 an eligible member has one live bill or one quarantine record, and no other has any",
        "with live as (
             select month, revision, data_cutoff, to_date(month, 'YYYY-MM') as first_day,
                    (to_date(month, 'YYYY-MM') + interval '1 month')::date as next_first
             from revision where state = 'LIVE'),
         known as (
             select distinct on (l.month, s.member_id, s.plan_code, s.from_date)
                    l.month, l.first_day, l.next_first, l.data_cutoff, s.member_id, s.plan_code, s.from_date, s.to_date
             from live l join subscription s on s.load <= l.data_cutoff
             order by l.month, s.member_id, s.plan_code, s.from_date, s.load desc),
         eligible as (
             select distinct k.month, k.member_id from known k
             where greatest(k.from_date, k.first_day) < least(coalesce(k.to_date, 'infinity'), k.next_first)
               and (k.plan_code in ({base}) or k.plan_code not in ({known}))
               and exists (select from member m where m.member_id = k.member_id and m.load <= k.data_cutoff)),
         outcome as (
             select month, member_id from live_bill union all select month, member_id from quarantine),
         counted as (select month, member_id, count(*) as outcomes from outcome group by 1, 2)
         select format('%s member %s: eligible %s, outcomes %s', month, member_id, e.member_id is not null, c.outcomes)
         from eligible e full join counted c using (month, member_id)
         where e.member_id is null or c.outcomes is distinct from 1",
    ),
    (
        "3 usage is counted once",
        "select format('%s revision %s: %s rows, %s counted, %s late', r.month, r.revision, u.rows, c.counted, r.late_usage)
         from revision r
         cross join lateral (select count(*) as rows from usage where month = r.month) u
         cross join lateral (select sum(rated_usage + unbillable_usage + quarantined_usage) as counted
                             from chunk where month = r.month and revision = r.revision) c
         where r.state = 'LIVE' and u.rows is distinct from c.counted + r.late_usage",
    ),
    (
        "4 chunks tile all ids",
        "select format('%s revision %s chunk %s: from %s after %s', month, revision, chunk_no, from_member, before)
         from (select month, revision, chunk_no, from_member,
                      coalesce(lag(to_member) over in_order, 0) as before
               from chunk window in_order as (partition by month, revision order by chunk_no)) c
         where from_member <> before + 1
         union all
         select format('%s revision %s ends at %s', month, revision, max(to_member))
         from chunk group by month, revision having max(to_member) <> 9223372036854775807",
    ),
    (
        "4 chunks are done once, with the rows that they say",
        "select format('%s revision %s chunk %s: %s', c.month, c.revision, c.chunk_no, c.state)
         from chunk c join revision r using (month, revision)
         cross join lateral (select count(*) as bills, coalesce(sum(total_amount), 0) as total from bill b
                             where b.month = c.month and b.revision = c.revision
                               and b.member_id between c.from_member and c.to_member) b
         cross join lateral (select count(*) as items from bill_item i
                             where i.month = c.month and i.revision = c.revision
                               and i.member_id between c.from_member and c.to_member) i
         cross join lateral (select count(*) as members from quarantined_member q
                             where q.month = c.month and q.revision = c.revision
                               and q.member_id between c.from_member and c.to_member) q
         where (r.state = 'LIVE' and c.state <> 'DONE')
            or (coalesce(c.billed, 0), coalesce(c.items, 0), coalesce(c.quarantined, 0), coalesce(c.total_amount, 0))
               <> (b.bills, i.items, q.members, b.total)",
    ),
    (
        "5 job_log agrees with the tables",
        "select format('%s revision %s: job %s', r.month, r.revision, row_to_json(j))
         from revision r left join job_log j on j.id = r.job
         cross join lateral (select coalesce(sum(billed), 0) as billed, coalesce(sum(quarantined), 0) as quarantined
                             from chunk where month = r.month and revision = r.revision) c
         where r.state = 'LIVE'
           and (j.kind, j.run, j.month, j.status, j.total, j.succeeded, j.failed, j.skipped) is distinct from
               ('BILLING', r.run, r.month, case c.quarantined when 0 then 'SUCCEEDED' else 'COMPLETED_WITH_FAILURES' end,
                c.billed + c.quarantined, c.billed, c.quarantined, 0::bigint)",
    ),
    (
        "6 what is over runs no longer",
        "select format('job %s of %s is %s', j.id, j.run, j.status) from job_log j
         left join revision r on r.job = j.id
         where (j.status = 'RUNNING' and j.kind = 'BILLING' and not coalesce(r.run_uid::text in ({active}), false))
            or (j.status <> 'RUNNING' and (j.total <> j.succeeded + j.failed + j.skipped or j.ended_at is null))
         union all
         select format('%s is locked by %s', month, run) from month_lock
         where run is not null and run_uid::text not in ({active})
         union all
         select format('%s revision %s of %s is still a draft', month, revision, run) from revision
         where state = 'DRAFT' and run_uid::text not in ({active})
         union all
         select format('load %s is %s, its job %s', number, state, status) from load l join job_log j on j.id = l.job
         where (l.state = 'RUNNING') <> (j.status = 'RUNNING')",
    ),
];

fn quoted<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> String {
    let all: Vec<String> = words.into_iter().map(|word| format!("'{}'", word.as_ref())).collect();
    if all.is_empty() { "''".to_owned() } else { all.join(", ") }
}

/// Up to five rows of each violated invariant, with its name.
pub async fn violations(
    connection: &mut PgConnection,
    active: &[String],
) -> Result<Vec<(&'static str, Vec<String>)>> {
    let mut found = Vec::new();
    for (name, sql) in INVARIANTS {
        let sql = sql
            .replace("{base}", &quoted(BASE_PLANS))
            .replace("{known}", &quoted(BASE_PLANS.iter().chain(ADD_ONS)))
            .replace("{active}", &quoted(active));
        let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!("select * from ({sql}) v limit 5")))
            .fetch_all(&mut *connection)
            .await
            .with_context(|| format!("look for violations of: {name}"))?;
        if !rows.is_empty() {
            found.push((*name, rows));
        }
    }
    Ok(found)
}

impl Installation {
    /// All invariants, in the database and between it and the cluster.
    pub async fn invariants_hold(&self) -> Result<()> {
        let runs = self.all_runs().await?;
        let mut connection = self.pool.acquire().await?;
        let found = violations(&mut connection, &active(&runs)).await?;
        if !found.is_empty() {
            bail!("invariants violated: {found:#?}");
        }
        for run in runs.iter().filter(|run| over(run)) {
            self.status_agrees(run).await?;
            self.nothing_runs(run).await?;
        }
        for run in self.notices().all().await?.iter().filter(|run| over(run)) {
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
