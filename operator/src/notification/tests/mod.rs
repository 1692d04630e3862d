//! The decisions as tables, one row for each transition, and the Jobs, without a cluster, a
//! database or brokers.

mod decisions;
mod end_decisions;
mod health;
mod holds;
mod standstill;
mod status_fields;
mod status_history;
mod worker_jobs;

use std::collections::BTreeMap;

use api::labels::FINALIZER;
use api::notification_run::{Phase, Select};
use api::reconciled::Reconciled as _;
use api::run::RunPhase as _;
use api::{NotificationRun, NotificationRunSpec, NotificationRunStatus, conditions};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use store::installation::{Installation, Locale};
use store::notification::{
    ConsumerSeen, NotificationCounts, NotificationId, NotificationState, Publication, RunFacts, Selection,
    Snapshot,
};
use worker_cli::KafkaArgs;

use super::action::{Action, NotificationDecision};
use super::decide;
use super::notification_runs::NotificationSettings;
use super::observed::{Observed, TemplatesLookup};
use crate::autoscaling::{Consumers, LagView};
use crate::config::{NotifyArgs, WorkerArgs};
use crate::controller::database_view::DatabaseView;
use crate::controller::decision::Next;
use crate::controller::events;
use crate::controller::worker_job::{JobLookup, JobSettings, JobState, WorkerProblem, Workers};

const UID: &str = "6f2a1c9e-1111-4222-8333-444455556666";
const NOW: &str = "2026-11-02T00:01:00Z";

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A new run that has the finalizer.
fn run() -> NotificationRun {
    let spec = NotificationRunSpec {
        month: "2026-10".to_owned(),
        select: Select::Ready,
        scope: None,
        template_ref: None,
        rehearsal: false,
        skip_zero: false,
        max_per_second: None,
        suspend: false,
        ttl_seconds_after_finished: None,
    };
    let mut run = NotificationRun::new("october", spec);
    run.metadata.namespace = Some("billing".to_owned());
    run.metadata.uid = Some(UID.to_owned());
    run.metadata.generation = Some(1);
    run.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
    run
}

fn in_phase(phase: Phase) -> NotificationRun {
    let mut run = run();
    run.status = Some(NotificationRunStatus {
        phase: Some(phase),
        start_time: Some(Time(time("2026-11-02T00:00:00Z"))),
        ..NotificationRunStatus::default()
    });
    run
}

fn rehearsal() -> NotificationRun {
    let mut run = run();
    run.spec.rehearsal = true;
    run
}

fn suspended(mut run: NotificationRun) -> NotificationRun {
    run.spec.suspend = true;
    run
}

fn deleted(mut run: NotificationRun) -> NotificationRun {
    run.metadata.deletion_timestamp = Some(Time(time(NOW)));
    run
}

/// The run has begun, and no bill is selected yet.
fn begun() -> Snapshot {
    Snapshot {
        facts: RunFacts {
            id: NotificationId(5),
            run: "billing/october".to_owned(),
            month: "2026-10".parse().unwrap(),
            selection: Selection::Ready,
            rehearsal: false,
            skip_zero: false,
            state: NotificationState::Open,
            selected: false,
            targets: 0,
            round: 0,
            templates: "a".repeat(64),
            max_per_second: None,
        },
        publication: None,
        published: 0,
        counts: NotificationCounts::default(),
        open: 0,
        claimed: 0,
        handed_over: 0,
        ended_recently: 0,
        last_ended_at: None,
        opened_at: time("2026-11-02T00:00:00Z"),
        closed_at: None,
        reason: None,
        logged: false,
        consumers: vec![consumer("a", None)],
        now: time(NOW),
    }
}

fn consumer(name: &str, trouble: Option<&str>) -> ConsumerSeen {
    ConsumerSeen {
        name: name.to_owned(),
        transport: "smtp://mail:25".to_owned(),
        trouble: trouble.map(str::to_owned),
        trouble_since: trouble.map(|_| time("2026-11-02T00:00:50Z")),
        seen_at: time("2026-11-02T00:00:59Z"),
    }
}

/// Its 10 bills are being published.
fn publishing() -> Snapshot {
    let mut snapshot = begun();
    snapshot.facts.round = 1;
    snapshot.facts.selected = true;
    snapshot.facts.targets = 10;
    snapshot.open = 10;
    snapshot.publication = Some(Publication {
        round: 1,
        published_to: 4,
        messages: 4,
        waiting: None,
        opened_at: time("2026-11-02T00:00:01Z"),
        done_at: None,
    });
    snapshot.published = 4;
    snapshot
}

/// All 10 bills are published; 6 have an outcome and 2 are in flight.
fn sending() -> Snapshot {
    let mut snapshot = publishing();
    snapshot.counts = NotificationCounts { sent: 4, failed: 1, skipped: 1, ..NotificationCounts::default() };
    snapshot.open = 4;
    snapshot.claimed = 1;
    snapshot.handed_over = 1;
    snapshot.ended_recently = 3;
    snapshot.published = 10;
    if let Some(publication) = &mut snapshot.publication {
        publication.published_to = 10;
        publication.messages = 10;
        publication.done_at = Some(time("2026-11-02T00:00:30Z"));
    }
    snapshot
}

/// Four bills are open and none is in flight.
fn left_over() -> Snapshot {
    Snapshot { claimed: 0, handed_over: 0, ..sending() }
}

fn all_done() -> Snapshot {
    Snapshot {
        counts: NotificationCounts { sent: 9, skipped: 1, ..NotificationCounts::default() },
        open: 0,
        ..left_over()
    }
}

fn closed(snapshot: Snapshot, state: NotificationState, reason: Option<&str>) -> Snapshot {
    Snapshot {
        facts: RunFacts { state, ..snapshot.facts.clone() },
        closed_at: Some(time("2026-11-02T00:00:50.5Z")),
        reason: reason.map(str::to_owned),
        logged: true,
        ..snapshot
    }
}

fn finished() -> Snapshot {
    closed(all_done(), NotificationState::Finished, None)
}

fn rehearsing(snapshot: Snapshot) -> Snapshot {
    Snapshot {
        facts: RunFacts { rehearsal: true, round: 0, ..snapshot.facts.clone() },
        publication: None,
        published: 0,
        ..snapshot
    }
}

fn default_templates() -> BTreeMap<String, String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/monthend/files/templates");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap());
    files
        .map(|file| (file.file_name().into_string().unwrap(), std::fs::read_to_string(file.path()).unwrap()))
        .collect()
}

/// No Job, valid templates, a topic that was drained 2 s ago.
fn observed(snapshot: Option<Snapshot>) -> Observed {
    Observed {
        now: time(NOW),
        database: Ok(DatabaseView {
            now: time(NOW),
            installation: Installation {
                zone: domain::zone::Zone::named("Asia/Seoul").unwrap(),
                currency: "KRW".parse().unwrap(),
                locale: Locale::KO,
            },
            run: snapshot,
        }),
        hold: None,
        templates: Some(TemplatesLookup::Found(default_templates())),
        job: JobLookup::NotFound,
        other_jobs: Vec::new(),
        pods_left: 0,
        workers: Workers::default(),
        consumer_problem: None,
        earlier: None,
        lag: Some(lag(0, "2026-11-02T00:00:58Z")),
        rejection: None,
        settings: NotificationSettings {
            job: JobSettings {
                worker: WorkerArgs {
                    image: "monthend:1".to_owned(),
                    image_pull_policy: "IfNotPresent".to_owned(),
                    service_account: "monthend-worker".to_owned(),
                    database_secret: "monthend-database".to_owned(),
                    resources: k8s_openapi::api::core::v1::ResourceRequirements::default(),
                    log: "info".to_owned(),
                },
                instance: "monthend".to_owned(),
            },
            kafka: KafkaArgs {
                brokers: "kafka:9092".to_owned(),
                topic: "monthend.notices".to_owned(),
                dlq_topic: "monthend.notices.dlq".to_owned(),
                group: "monthend-notify".to_owned(),
                partitions: 12,
                replication: 3,
                retention_hours: 168,
            },
            notify: NotifyArgs {
                templates: "monthend-templates".to_owned(),
                from: "Monthend <billing@example.com>".to_owned(),
                encryption_secret: "monthend-encryption".to_owned(),
            },
        },
    }
}

fn lag(messages: u64, read_at: &str) -> LagView {
    LagView {
        lag: Some(messages),
        unreadable: None,
        drained: messages == 0,
        read_at: time(read_at),
        consumers: Some(Consumers { replicas: 3, ready: 2, desired: 4 }),
    }
}

fn with_job(mut observed: Observed, job: JobState) -> Observed {
    observed.job = JobLookup::Ours(job);
    observed
}

/// Workers that cannot run.
fn waiting(why: &str) -> Workers {
    Workers { problem: Some(WorkerProblem::Waiting(why.to_owned())), ..Workers::default() }
}

fn job(name: &str) -> JobState {
    JobState { name: name.to_owned(), image: "monthend:1".to_owned(), parallelism: 1, ..JobState::default() }
}

fn publisher() -> JobState {
    job("october-publish-1")
}

fn without_database(mut observed: Observed) -> Observed {
    observed.database = Err("cannot connect to the database".to_owned());
    observed.templates = None;
    observed
}

/// A decision in one line: the phase, the next step, and the conditions with their reasons.
fn summary(decision: &NotificationDecision) -> String {
    let next = match &decision.next {
        Next::AddFinalizer => "AddFinalizer".to_owned(),
        Next::RemoveFinalizer => "RemoveFinalizer".to_owned(),
        Next::DeleteRun => "DeleteRun".to_owned(),
        Next::RequeueAfter(_) => "RequeueAfter".to_owned(),
        Next::BackOff => "BackOff".to_owned(),
        Next::AwaitChange => "AwaitChange".to_owned(),
        Next::Apply(action) => format!("{action:?}"),
    };
    let phase = decision.status.phase.map_or("-", Phase::as_str);
    let conditions: Vec<String> = decision
        .status
        .conditions
        .iter()
        // Those of kstatus follow from the others: see the tests of `health`.
        .filter(|condition| !conditions::HEALTH.contains(&condition.type_.as_str()))
        .map(|condition| {
            let sign = if condition.status == "True" { "" } else { "!" };
            format!("{sign}{}:{}", condition.type_, condition.reason)
        })
        .collect();
    format!("{phase} | {next} | {}", conditions.join(" "))
}

fn message<'a>(decision: &'a NotificationDecision, type_: &str) -> &'a str {
    &conditions::find(&decision.status.conditions, type_).unwrap().message
}

/// The run after the decision's status was written.
fn after(run: &NotificationRun, decision: &NotificationDecision) -> NotificationRun {
    run.with_status(decision.status.clone())
}
