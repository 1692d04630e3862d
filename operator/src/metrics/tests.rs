//! What the metrics say, and that those who read them name metrics that exist.

use api::billing_run::Phase;
use domain::zone::Zone;
use jiff::Timestamp;
use store::billing::{Counts, LateMonth, LateRows, MonthStanding, MonthTotals, NotCharged, RevisionState};
use store::notification::{self, NotificationCounts, Selection, TargetTotals};

use super::*;

fn notification_totals() -> notification::MonthTotals {
    let counts = NotificationCounts { sent: 7, failed: 1, ..NotificationCounts::default() };
    let oldest_open = Some(Timestamp::from_second(1_793_000_000).unwrap());
    let ready = TargetTotals { selection: Selection::Ready, rehearsal: false, counts, open: 2, oldest_open };
    let rendered = NotificationCounts { rendered: 10, ..NotificationCounts::default() };
    let rehearsal =
        TargetTotals { rehearsal: true, counts: rendered, open: 0, oldest_open: None, ..ready.clone() };
    notification::MonthTotals {
        month: "2026-10".parse().unwrap(),
        deliveries: vec![("CLAIMED".to_owned(), 2), ("SENT".to_owned(), 7), ("FAILED".to_owned(), 1)],
        targets: vec![ready, rehearsal],
    }
}

fn a_month() -> MonthTotals {
    MonthTotals {
        month: "2026-10".parse().unwrap(),
        state: RevisionState::Live,
        members: 10,
        chunks: 2,
        chunks_done: 1,
        counts: Counts { billed: 9, quarantined: 1, rated_usage: 50, ..Counts::default() },
        late_usage: 3,
        not_charged: NotCharged { adjustments: 4, ..NotCharged::default() },
        total: 1 << 70,
    }
}

fn running() -> BillingRun {
    let spec = serde_json::from_value(serde_json::json!({"month": "2026-10"})).unwrap();
    let mut run = BillingRun::new("october", spec);
    run.status.get_or_insert_default().phase = Some(Phase::Running);
    run
}

#[test]
fn totals_are_labelled_with_the_month_and_never_with_a_run() {
    let metrics = Metrics::new().unwrap();
    metrics.months.set(&[a_month()]);
    let late = |month: &str, usage_rows| LateMonth {
        month: month.parse().unwrap(),
        rows: LateRows { usage_rows, ..LateRows::default() },
    };
    metrics.months.set_late(&[late("2026-09", 5), late("2026-10", 5)]);
    metrics.months.set_late(&[late("2026-10", 6)]);
    metrics.deliveries.set(&[notification_totals()]);
    metrics.count_runs([running(), running()].iter());
    metrics.reconciled("BillingRun", Err(ErrorClass::Database), Duration::from_millis(3));
    let text = metrics.render().unwrap();
    for line in [
        r#"monthend_billing_members{month="2026-10",outcome="billed"} 9"#,
        r#"monthend_billing_members{month="2026-10",outcome="quarantined"} 1"#,
        r#"monthend_billing_members_planned{month="2026-10"} 10"#,
        r#"monthend_billing_chunks_planned{month="2026-10"} 2"#,
        r#"monthend_billing_chunks_done{month="2026-10"} 1"#,
        r#"monthend_billing_usage_rows{month="2026-10",outcome="late"} 3"#,
        r#"monthend_billing_not_charged{month="2026-10",what="adjustments"} 4"#,
        r#"monthend_billing_late_rows{month="2026-10",what="usage_rows"} 6"#,
        r#"monthend_billing_late_rows{month="2026-10",what="members"} 0"#,
        r#"monthend_billing_revision_state{month="2026-10",state="LIVE"} 1"#,
        r#"monthend_billing_revision_state{month="2026-10",state="DRAFT"} 0"#,
        r#"monthend_billing_total_minor_units{month="2026-10"} 1180591620717411300000"#,
        r#"monthend_notification_targets{month="2026-10",outcome="sent",select="Ready"} 7"#,
        r#"monthend_notification_targets{month="2026-10",outcome="open",select="Ready"} 2"#,
        r#"monthend_notification_targets{month="2026-10",outcome="rendered",select="Rehearsal"} 10"#,
        r#"monthend_notification_targets{month="2026-10",outcome="sent",select="Rehearsal"} 0"#,
        r#"monthend_deliveries{month="2026-10",state="SENT"} 7"#,
        r#"monthend_deliveries{month="2026-10",state="UNKNOWN"} 0"#,
        r#"monthend_notification_oldest_open_timestamp_seconds{month="2026-10"} 1793000000"#,
        r#"monthend_runs{kind="BillingRun",phase="Running"} 2"#,
        r#"monthend_runs{kind="BillingRun",phase="Failed"} 0"#,
        r#"monthend_reconciles_total{kind="BillingRun",outcome="database"} 1"#,
        r#"monthend_reconciles_total{kind="NotificationRun",outcome="kubernetes"} 0"#,
    ] {
        assert!(text.contains(line), "{line} is missing in:\n{text}");
    }
    assert!(!text.contains(r#"monthend_billing_late_rows{month="2026-09""#), "{text}");
    assert!(!text.contains(r#"outcome="planned""#), "it would be summed with what it is the sum of:\n{text}");
    metrics.months.set(&[]);
    assert!(
        !metrics.render().unwrap().contains("monthend_billing_members"),
        "of a month that is no longer read"
    );
}

/// Metrics in which every family has a series, but for those of the scaler.
fn filled() -> Metrics {
    let metrics = Metrics::new().unwrap();
    let standing = MonthStanding {
        month: "2026-10".parse().unwrap(),
        live: true,
        draft_since: Some(Timestamp::UNIX_EPOCH),
    };
    let (zone, now) = (Zone::named("Asia/Seoul").unwrap(), "2026-11-01T00:00:00Z".parse().unwrap());
    metrics.months.set_standings(&[standing], &zone, now);
    metrics.months.set(&[a_month()]);
    metrics.months.set_late(&[LateMonth { month: "2026-10".parse().unwrap(), rows: LateRows::default() }]);
    metrics.deliveries.set(&[notification_totals()]);
    metrics.count_runs::<BillingRun>([].iter());
    metrics.reconciled("BillingRun", Ok(()), Duration::from_millis(3));
    metrics.database.set_pool(2, 1, 21);
    metrics
}

/// The rules of `promtool check metrics`, and those of this page: a help that is a sentence, base units,
/// counters that say so, and no label that grows with members or runs.
#[test]
fn the_exposition_keeps_to_the_conventions() {
    const LABELS: [&str; 13] = [
        "deployment",
        "direction",
        "group",
        "kind",
        "month",
        "outcome",
        "phase",
        "reason",
        "select",
        "state",
        "topic",
        "version",
        "what",
    ];
    let metrics = filled();
    let topic_group = crate::autoscaling::TopicGroup { topic: "t".to_owned(), group: "g".to_owned() };
    metrics.scaling.fill(&topic_group, "monthend-notify");
    let families = metrics.registry.gather();
    assert!(families.len() > 30, "{}", families.len());
    for name in ["process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total"] {
        assert!(families.iter().any(|family| family.name() == name), "{name} is missing");
    }
    for family in &families {
        let (name, help) = (family.name(), family.help());
        assert!(help.ends_with('.') && help.len() > 15, "{name}: {help}");
        let words: Vec<&str> = name.split('_').collect();
        assert!(["monthend", "process"].contains(&words[0]), "{name}");
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
        for unit in ["ms", "milliseconds", "minutes", "hours", "days", "percent", "kb", "kilobytes", "mb"] {
            assert!(!words.contains(&unit), "{name} is not in a base unit");
        }
        let is_counter = family.get_field_type() == prometheus::proto::MetricType::COUNTER;
        assert_eq!(is_counter, name.ends_with("_total"), "{name}");
        assert!(!["_count", "_sum", "_bucket"].iter().any(|end| name.ends_with(end)), "{name}");
        assert_eq!(name.contains("timestamp"), name.ends_with("_timestamp_seconds"), "{name}");
        for label in family.get_metric().iter().flat_map(|metric| metric.get_label()) {
            assert!(LABELS.contains(&label.name()), "{name}: {} is not among the labels", label.name());
        }
    }
}

/// The dashboards and the alerts name only metrics of the operator or the consumers. A metric without
/// a series is not gathered, so those of other modules are looked up in their source.
#[test]
fn the_dashboards_and_the_alerts_read_metrics_that_exist() {
    let read =
        |path: &str| std::fs::read_to_string(format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let metrics = filled();
    let mut exported: Vec<String> =
        metrics.registry.gather().iter().map(|family| family.name().to_owned()).collect();
    for source in ["operator/src/autoscaling/scaling_metrics.rs", "worker/src/notify/metrics.rs"] {
        let text = read(source);
        let made: Vec<&str> = text.split('"').filter(|text| text.starts_with("monthend_")).collect();
        assert!(made.len() >= 5, "{source}: {made:?}");
        exported.extend(made.into_iter().map(str::to_owned));
    }
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    for page in [
        "grafana/monthend-month.json",
        "grafana/monthend-billing.json",
        "grafana/monthend-notification.json",
        "grafana/monthend-operator.json",
        "charts/monthend/files/alerts.yaml",
    ] {
        let text = read(page);
        let named: Vec<&str> = text
            .split(|c: char| !is_name(c))
            .filter(|name| name.starts_with("monthend_"))
            .map(|name| {
                ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)
            })
            .collect();
        assert!(named.len() > 20, "{page}: {named:?}");
        for name in named {
            assert!(
                exported.iter().any(|exported| exported == name),
                "{page}: {name} is not among {exported:?}"
            );
        }
    }
}
