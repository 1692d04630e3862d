//! `status`: the months, and one month on one screen.

use api::billing_run::Phase;
use api::conditions::{FAILED, find};
use api::reconciled::Reconciled as _;
use api::run::{Run as _, RunPhase as _};
use api::{BillingRun, NotificationRun};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt as _;

use super::table::{Align, table};
use super::{BAD, BOLD, GOOD, WAITING, age, grouped, painted, phase, reason, signed};
use crate::plan::month_state::live;

const LEFT: Align = Align::Left;
const RIGHT: Align = Align::Right;
/// The worker Jobs that the screen has room for.
const JOBS: usize = 5;

/// What is known of the namespace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) billing: &'a [BillingRun],
    pub(crate) notification: &'a [NotificationRun],
    /// None: they may not be listed.
    pub(crate) jobs: Option<&'a [Job]>,
}

/// One line for each month, the last one first.
pub(crate) fn months(seen: Seen<'_>) -> String {
    let of_billing = seen.billing.iter().map(|run| run.spec.month.as_str());
    let mut months: Vec<&str> =
        of_billing.chain(seen.notification.iter().map(|run| run.spec.month.as_str())).collect();
    months.sort_unstable();
    months.dedup();
    if months.is_empty() {
        return format!(
            "no runs in namespace {}: `kubectl monthend bill MONTH` bills a month\n",
            seen.namespace
        );
    }
    let rows: Vec<Vec<String>> = months
        .into_iter()
        .rev()
        .map(|month| {
            let live = live(seen.billing, month);
            let run =
                live.as_ref().and_then(|live| seen.billing.iter().find(|run| run.name_any() == live.run));
            // Those of a run with a scope are not the month's.
            let run = run.filter(|run| run.spec.scope.is_none());
            let counts = run.and_then(|run| run.status.as_ref()?.counts.as_ref());
            let amounts = run.and_then(|run| run.status.as_ref()?.amounts.as_ref());
            let sent: i64 = notices(seen.notification, month)
                .filter_map(|run| run.status.as_ref()?.counts.as_ref())
                .map(|counts| counts.sent)
                .sum();
            let dash = || "-".to_owned();
            vec![
                month.to_owned(),
                live.map_or_else(dash, |live| live.revision.to_string()),
                counts.map_or_else(dash, |counts| grouped(counts.billed)),
                counts.map_or_else(dash, |counts| grouped(counts.quarantined)),
                amounts.map_or_else(dash, |amounts| grouped(&amounts.total)),
                grouped(sent),
                open_runs(seen, month),
            ]
        })
        .collect();
    let columns = [
        ("MONTH", LEFT),
        ("LIVE REV", RIGHT),
        ("BILLED", RIGHT),
        ("QUARANTINED", RIGHT),
        ("TOTAL", RIGHT),
        ("SENT", RIGHT),
        ("UNFINISHED", LEFT),
    ];
    table(&columns, &rows)
}

fn open_runs(seen: Seen<'_>, month: &str) -> String {
    let of_billing = seen
        .billing
        .iter()
        .filter(|run| run.spec.month == month && !run.is_over())
        .map(|run| (run.name_any(), run.phase().map_or("Pending", |phase| phase.as_str())));
    let of_notices = notices(seen.notification, month)
        .filter(|run| !run.is_over())
        .map(|run| (run.name_any(), run.phase().map_or("Pending", |phase| phase.as_str())));
    let open: Vec<String> = of_billing
        .chain(of_notices)
        .map(|(name, phase)| format!("{name} ({})", self::phase(phase)))
        .collect();
    open.join(", ")
}

fn notices<'a>(runs: &'a [NotificationRun], month: &str) -> impl Iterator<Item = &'a NotificationRun> {
    runs.iter().filter(move |run| run.spec.month == month && !run.spec.rehearsal)
}

/// Everything about one month.
pub(crate) fn month(seen: Seen<'_>, month: &str, now: Timestamp) -> String {
    let mut billing: Vec<&BillingRun> = seen.billing.iter().filter(|run| run.spec.month == month).collect();
    billing.sort_by_key(|run| (run.metadata.creation_timestamp.as_ref().map(|at| at.0), run.name_any()));
    let mut notification: Vec<&NotificationRun> =
        seen.notification.iter().filter(|run| run.spec.month == month).collect();
    notification.sort_by_key(|run| (run.metadata.creation_timestamp.as_ref().map(|at| at.0), run.name_any()));
    let mut text = head(seen.billing, month);
    if billing.is_empty() && notification.is_empty() {
        text.push_str(&format!(
            "no runs in namespace {}: `kubectl monthend bill {month}` bills the month\n",
            seen.namespace
        ));
        return text;
    }
    text.push_str(&waiting(&billing, &notification));
    if !billing.is_empty() {
        text.push_str(&format!("\n{}\n{}", painted(BOLD, "Billing"), billing_table(&billing, now)));
    }
    if !notification.is_empty() {
        let table = notification_table(&notification, now);
        text.push_str(&format!("\n{}\n{table}{}", painted(BOLD, "E-mails"), consumers(&notification)));
    }
    if let Some(jobs) = seen.jobs {
        text.push_str(&jobs_table(jobs, month, now));
    }
    text
}

/// The live revision, with what it billed and what came after its cut-off.
fn head(runs: &[BillingRun], month: &str) -> String {
    let title = painted(BOLD, month);
    let Some(live) = live(runs, month) else {
        return format!("{title}   no finished run says that the month is live\n");
    };
    let mut text =
        format!("{title}   {}: revision {} of {}\n", painted(GOOD, "live"), live.revision, live.run);
    let run = runs.iter().find(|run| run.name_any() == live.run);
    let Some((run, status)) = run.and_then(|run| Some((run, run.status.as_ref()?))) else { return text };
    if let (Some(counts), Some(amounts)) = (&status.counts, &status.amounts) {
        let of_scope = if run.spec.scope.is_some() {
            format!(", all of its scope; the whole month: kubectl monthend status {month} --database")
        } else {
            String::new()
        };
        text.push_str(&format!(
            "          {} bills, {} quarantined, total {}{of_scope}\n",
            grouped(counts.billed),
            grouped(counts.quarantined),
            grouped(&amounts.total)
        ));
    }
    if let Some(late) = &status.late {
        let parts = [
            ("members", late.members),
            ("subscriptions", late.subscriptions),
            ("grants", late.grants),
            ("adjustments", late.adjustments),
            ("usage rows", late.usage_rows),
            ("taken back", late.taken_back),
        ];
        let parts: Vec<String> = parts
            .into_iter()
            .filter(|(_, number)| *number > 0)
            .map(|(name, number)| format!("{} {name}", grouped(number)))
            .collect();
        let late = if parts.is_empty() { "nothing".to_owned() } else { painted(WAITING, &parts.join(", ")) };
        text.push_str(&format!(
            "          late data when it was issued: {late}; now: kubectl monthend late {month}\n"
        ));
    }
    text
}

/// What the unfinished runs wait for, and why runs have failed.
fn waiting(billing: &[&BillingRun], notification: &[&NotificationRun]) -> String {
    let of_billing = billing.iter().map(|run| (run.name_any(), run.is_over(), run.conditions()));
    let of_notices = notification.iter().map(|run| (run.name_any(), run.is_over(), run.conditions()));
    of_billing
        .chain(of_notices)
        .filter_map(|(name, over, conditions)| {
            let (word, reason) = if over {
                let failed = find(conditions, FAILED).filter(|failed| failed.status == "True")?;
                (painted(BAD, "failed"), format!("{}: {}", failed.reason, failed.message))
            } else {
                (painted(WAITING, "waits "), reason(conditions)?)
            };
            Some(format!("{word}  {name}: {reason}\n"))
        })
        .collect()
}

fn billing_table(runs: &[&BillingRun], now: Timestamp) -> String {
    let rows: Vec<Vec<String>> = runs
        .iter()
        .map(|run| {
            let status = run.status.as_ref();
            let dash = || "-".to_owned();
            let counts = status.and_then(|status| status.counts.as_ref());
            let what = match (&run.spec.rebill, &run.spec.rollback) {
                (Some(rebill), _) => format!("again r{}", rebill.of_revision),
                (None, Some(rollback)) => format!("takes r{} back", rollback.of_revision),
                (None, None) => "bills".to_owned(),
            };
            vec![
                run.name_any(),
                what,
                status.and_then(|status| status.revision).map_or_else(dash, |number| number.to_string()),
                phase(run.phase().unwrap_or(Phase::Pending).as_str()),
                status
                    .and_then(|status| status.progress.as_ref())
                    .map_or_else(dash, |progress| format!("{}%", progress.percent)),
                counts.map_or_else(dash, |counts| grouped(counts.billed)),
                counts.map_or_else(dash, |counts| grouped(counts.quarantined)),
                status.and_then(|status| status.amounts.as_ref()).map_or_else(dash, |a| grouped(&a.total)),
                status.and_then(|status| status.diff.as_ref()).map_or_else(dash, |d| signed(&d.total_delta)),
                age(run.metadata.creation_timestamp.as_ref(), now),
            ]
        })
        .collect();
    let columns = [
        ("RUN", LEFT),
        ("WHAT", LEFT),
        ("REV", RIGHT),
        ("PHASE", LEFT),
        ("DONE", RIGHT),
        ("BILLED", RIGHT),
        ("QUARANTINED", RIGHT),
        ("TOTAL", RIGHT),
        ("CHANGE", RIGHT),
        ("AGE", LEFT),
    ];
    table(&columns, &rows)
}

fn notification_table(runs: &[&NotificationRun], now: Timestamp) -> String {
    let rows: Vec<Vec<String>> = runs
        .iter()
        .map(|run| {
            let counts = run.status.as_ref().and_then(|status| status.counts.clone()).unwrap_or_default();
            let what =
                if run.spec.rehearsal { "rehearsal".to_owned() } else { format!("{:?}", run.spec.select) };
            vec![
                run.name_any(),
                what,
                phase(run.phase().map_or("Pending", |phase| phase.as_str())),
                grouped(counts.targets),
                match counts.rendered {
                    Some(rendered) if run.spec.rehearsal => format!("({} rendered)", grouped(rendered)),
                    _ => grouped(counts.sent),
                },
                grouped(counts.failed),
                grouped(counts.unknown),
                grouped(counts.skipped),
                grouped(counts.open),
                age(run.metadata.creation_timestamp.as_ref(), now),
            ]
        })
        .collect();
    let columns = [
        ("RUN", LEFT),
        ("SELECT", LEFT),
        ("PHASE", LEFT),
        ("TARGETS", RIGHT),
        ("SENT", RIGHT),
        ("FAILED", RIGHT),
        ("UNKNOWN", RIGHT),
        ("SKIPPED", RIGHT),
        ("OPEN", RIGHT),
        ("AGE", LEFT),
    ];
    table(&columns, &rows)
}

/// The consumers as the last run that is not over saw them, or the last run.
fn consumers(runs: &[&NotificationRun]) -> String {
    let seen = runs.iter().filter(|run| run.status.as_ref().is_some_and(|status| status.consumers.is_some()));
    let last =
        seen.max_by_key(|run| (!run.is_over(), run.metadata.creation_timestamp.as_ref().map(|at| at.0)));
    let Some(consumers) = last.and_then(|run| run.status.as_ref()?.consumers.as_ref()) else {
        return String::new();
    };
    let lag = consumers.lag.map_or_else(|| "unknown".to_owned(), grouped);
    let wanted = consumers.desired.map_or_else(String::new, |desired| format!(" of {desired} wanted"));
    format!("consumers: {}{wanted}, lag {lag}\n", consumers.replicas)
}

fn jobs_table(jobs: &[Job], month: &str, now: Timestamp) -> String {
    let mut jobs: Vec<&Job> = jobs
        .iter()
        .filter(|job| job.labels().get(api::labels::MONTH).is_some_and(|of| of == month))
        .collect();
    if jobs.is_empty() {
        return String::new();
    }
    jobs.sort_by_key(|job| std::cmp::Reverse(job.metadata.creation_timestamp.as_ref().map(|at| at.0)));
    let rows: Vec<Vec<String>> = jobs
        .into_iter()
        .take(JOBS)
        .map(|job| {
            let status = job.status.clone().unwrap_or_default();
            let wanted = job.spec.as_ref().and_then(|spec| spec.completions).unwrap_or(1);
            vec![
                job.name_any(),
                format!("{} of {wanted}", status.succeeded.unwrap_or(0)),
                status.active.unwrap_or(0).to_string(),
                status.failed.unwrap_or(0).to_string(),
                age(job.metadata.creation_timestamp.as_ref(), now),
            ]
        })
        .collect();
    let columns = [("JOB", LEFT), ("DONE", RIGHT), ("ACTIVE", RIGHT), ("FAILED PODS", RIGHT), ("AGE", LEFT)];
    format!("\n{}\n{}", painted(BOLD, "Last Jobs"), table(&columns, &rows))
}

#[cfg(test)]
mod tests;
