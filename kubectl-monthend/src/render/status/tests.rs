//! The screens, letter by letter.

use api::billing_run::{Amounts, Counts, Late, Progress};
use api::conditions::STARTED;
use api::notification_run::{self, Consumers, NotificationCounts};
use serde_json::json;

use super::*;
use crate::plan::testing::{billing_run, notification_run, time, with_condition};
use crate::render::plain;

fn now() -> Timestamp {
    "2026-11-05T00:00:00Z".parse().unwrap()
}

fn amounts(total: &str) -> Amounts {
    Amounts { total: total.to_owned(), ..Amounts::default() }
}

fn october() -> (Vec<BillingRun>, Vec<NotificationRun>) {
    let mut first = billing_run("billing-2026-10", "2026-10", Phase::Succeeded, Some(1));
    let status = first.status.as_mut().unwrap();
    status.counts = Some(Counts { billed: 19_997, quarantined: 3, ..Counts::default() });
    status.amounts = Some(amounts("965714550"));
    status.progress = Some(Progress { percent: 100, ..Progress::default() });
    status.late = Some(Late { usage_rows: 1200, adjustments: 2, ..Late::default() });
    let mut again = billing_run("rebilling-2026-10-r2", "2026-10", Phase::Pending, None);
    again.spec.rebill = serde_json::from_value(json!({"ofRevision": 1, "reason": "late"})).unwrap();
    again.metadata.creation_timestamp = Some(time("2026-11-04T23:59:30Z"));
    let again = with_condition(again, STARTED, false, "PriceBookNotFound", "there is no ConfigMap pricebook");
    let mut notices =
        notification_run("notification-2026-10", "2026-10", notification_run::Phase::CompletedWithFailures);
    let status = notices.status.as_mut().unwrap();
    status.counts = Some(NotificationCounts {
        targets: 19_997,
        published: 19_997,
        sent: 19_990,
        failed: 5,
        skipped: 1,
        unknown: 1,
        open: 0,
        rendered: None,
    });
    status.consumers = Some(Consumers { lag: Some(0), replicas: 1, ready: Some(1), desired: Some(1) });
    let other = billing_run("billing-2026-09", "2026-09", Phase::Failed, None);
    (vec![again, other, first], vec![notices])
}

fn job() -> Job {
    serde_json::from_value(json!({
        "metadata": {"name": "billing-2026-10-bill", "labels": {"monthend.dev/month": "2026-10"},
                     "creationTimestamp": "2026-11-02T00:00:10Z"},
        "spec": {"completions": 16, "template": {}},
        "status": {"succeeded": 16, "failed": 1, "completedIndexes": "0-15"},
    }))
    .unwrap()
}

#[test]
fn a_month_is_on_one_screen() {
    let (billing, notification) = october();
    let jobs = [job()];
    let seen =
        Seen { namespace: "monthend", billing: &billing, notification: &notification, jobs: Some(&jobs) };
    assert_eq!(
        plain(&month(seen, "2026-10", now())),
        "\
2026-10   live: revision 1 of billing-2026-10
          19,997 bills, 3 quarantined, total 965,714,550
          late data when it was issued: 2 adjustments, 1,200 usage rows; now: kubectl monthend late 2026-10
waits   rebilling-2026-10-r2: PriceBookNotFound: there is no ConfigMap pricebook

Billing
RUN                    WHAT       REV   PHASE       DONE   BILLED   QUARANTINED         TOTAL   CHANGE   AGE
billing-2026-10        bills        1   Succeeded   100%   19,997             3   965,714,550        -   3d
rebilling-2026-10-r2   again r1     -   Pending        -        -             -             -        -   30s

E-mails
RUN                    SELECT   PHASE                   TARGETS     SENT   FAILED   UNKNOWN   SKIPPED   OPEN   AGE
notification-2026-10   Ready    CompletedWithFailures    19,997   19,990        5         1         1      0   2d
consumers: 1 of 1 wanted, lag 0

Last Jobs
JOB                        DONE   ACTIVE   FAILED PODS   AGE
billing-2026-10-bill   16 of 16        0             1   2d
"
    );
}

#[test]
fn the_figures_of_a_scope_are_not_the_months() {
    let mut again = billing_run("late", "2026-10", Phase::Succeeded, Some(2));
    again.spec.scope = serde_json::from_value(json!({"select": "Late"})).unwrap();
    let status = again.status.as_mut().unwrap();
    status.counts = Some(Counts { billed: 60, ..Counts::default() });
    status.amounts = Some(amounts("2971610"));
    let mut billing = october().0;
    billing.push(again);
    let seen = Seen { namespace: "monthend", billing: &billing, notification: &[], jobs: None };
    let screen = plain(&month(seen, "2026-10", now()));
    assert!(
        screen.contains(
            "60 bills, 0 quarantined, total 2,971,610, all of its scope; the whole month: kubectl monthend status \
             2026-10 --database\n"
        ),
        "{screen}"
    );
    let row = plain(&months(seen)).lines().find(|line| line.starts_with("2026-10")).map(str::to_owned);
    assert_eq!(row.unwrap().split_whitespace().take(5).collect::<Vec<_>>(), ["2026-10", "2", "-", "-", "-"]);
}

#[test]
fn a_run_that_failed_says_why() {
    let failed = billing_run("billing-2026-10", "2026-10", Phase::Failed, None);
    let failed = with_condition(failed, FAILED, true, "MonthAlreadyBilled", "2026-10 is live");
    let seen = Seen { namespace: "monthend", billing: &[failed], notification: &[], jobs: None };
    let screen = plain(&month(seen, "2026-10", now()));
    assert!(screen.contains("\nfailed  billing-2026-10: MonthAlreadyBilled: 2026-10 is live\n"), "{screen}");
}

#[test]
fn a_rehearsal_sends_nothing() {
    let mut rehearsal = notification_run("rehearsal", "2026-10", notification_run::Phase::Succeeded);
    rehearsal.spec.rehearsal = true;
    rehearsal.status.as_mut().unwrap().counts =
        Some(NotificationCounts { targets: 478, rendered: Some(478), ..NotificationCounts::default() });
    let seen = Seen { namespace: "monthend", billing: &[], notification: &[rehearsal], jobs: None };
    assert!(plain(&month(seen, "2026-10", now())).contains("   478   (478 rendered)   "));
}

#[test]
fn the_months_are_a_table() {
    let (billing, notification) = october();
    let seen = Seen { namespace: "monthend", billing: &billing, notification: &notification, jobs: None };
    assert_eq!(
        plain(&months(seen)),
        "\
MONTH     LIVE REV   BILLED   QUARANTINED         TOTAL     SENT   UNFINISHED
2026-10          1   19,997             3   965,714,550   19,990   rebilling-2026-10-r2 (Pending)
2026-09          -        -             -             -        0
"
    );
}

#[test]
fn nothing_is_said_to_be_nothing() {
    let seen = Seen { namespace: "default", billing: &[], notification: &[], jobs: None };
    assert_eq!(months(seen), "no runs in namespace default: `kubectl monthend bill MONTH` bills a month\n");
    assert_eq!(
        plain(&month(seen, "2026-10", now())),
        "2026-10   no finished run says that the month is live\n\
         no runs in namespace default: `kubectl monthend bill 2026-10` bills the month\n"
    );
}
