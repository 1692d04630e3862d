//! The decisions as tables, one row for each transition, and the Job, without a cluster or a
//! database.

mod approvals;
mod decisions;
mod health;
mod rollbacks;
mod scopes;
mod standstill;
mod status_fields;
mod status_history;
mod worker_jobs;

use api::billing_run::{Approval, ApprovalPolicy, Phase, PriceBookRef};
use api::labels::FINALIZER;
use api::reconciled::Reconciled as _;
use api::run::{Run as _, RunPhase as _};
use api::{BillingRun, BillingRunSpec, BillingRunStatus, conditions};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use store::billing::{
    Amounts, Check, Counts, LateRows, NotCharged, PostedDifferences, PricingVersions, RevisionKey,
    RevisionState, RunSnapshot, Uuid, Verification,
};
use store::installation::{Installation, Locale};

use super::action::{Action, BillingDecision};
use super::decide;
use super::observed::{Observed, PriceBookLookup, RunRecord};
use crate::config::WorkerArgs;
use crate::controller::database_view::DatabaseView;
use crate::controller::decision::Next;
use crate::controller::events;
use crate::controller::worker_job::{JobLookup, JobSettings, JobState, WorkerProblem, Workers};

const UID: &str = "6f2a1c9e-1111-4222-8333-444455556666";
const DIGEST: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const PRICE_BOOK: &str = "\
version: 2026-07
currency: KRW
timeZone: Asia/Seoul
validFrom: 2026-07
usageKinds: [voice]
plans:
  - { code: LTE, name: LTE, baseFee: 33000, usage: {} }
discounts: []
";

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A new run that has the finalizer.
fn run() -> BillingRun {
    let spec = BillingRunSpec {
        month: "2026-10".to_owned(),
        price_book_ref: Some(PriceBookRef { name: "book".to_owned(), key: "pricebook.yaml".to_owned() }),
        rebill: None,
        rollback: None,
        scope: None,
        approval_policy: ApprovalPolicy::Automatic,
        approval: None,
        limits: None,
        data_cutoff: None,
        require_sources: Vec::new(),
        shards: 4,
        parallelism: 2,
        chunk_size: 100,
        suspend: false,
        ttl_seconds_after_finished: None,
    };
    let mut run = BillingRun::new("october", spec);
    run.metadata.namespace = Some("billing".to_owned());
    run.metadata.uid = Some(UID.to_owned());
    run.metadata.generation = Some(1);
    run.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
    run
}

fn in_phase(phase: Phase) -> BillingRun {
    let mut run = run();
    let status = BillingRunStatus {
        phase: Some(phase),
        revision: Some(1),
        start_time: Some(Time(time("2026-11-02T00:00:00Z"))),
        ..BillingRunStatus::default()
    };
    run.status = Some(status);
    run
}

fn deleted(mut run: BillingRun) -> BillingRun {
    run.metadata.deletion_timestamp = Some(Time(time("2026-11-02T00:00:00Z")));
    run
}

fn suspended(mut run: BillingRun) -> BillingRun {
    run.spec.suspend = true;
    run
}

fn approving(mut run: BillingRun, digest: &str) -> BillingRun {
    run.spec.approval = Some(Approval { digest: digest.to_owned(), by: "kim".to_owned() });
    run
}

/// A draft with 10 members in 4 chunks of which 1 is done.
fn draft() -> RunSnapshot {
    RunSnapshot {
        key: RevisionKey {
            month: "2026-10".parse().unwrap(),
            revision: "1".parse().unwrap(),
            run_uid: Uuid::parse_str(UID).unwrap(),
            fence: 7,
        },
        run: "billing/october".to_owned(),
        state: RevisionState::Draft,
        holds_lock: true,
        data_cutoff: "3".parse().unwrap(),
        price_book_version: "2026-07".to_owned(),
        price_book_sha256: DIGEST.to_owned(),
        chunk_size: 100,
        shards: 4,
        pricing: PricingVersions { pinned: Some(1), of_chunks: vec![1] },
        members: 10,
        chunks: 4,
        chunks_done: 1,
        counts: Counts { billed: 2, quarantined: 1, ..Counts::default() },
        amounts: Amounts { total: 1 << 70, ..Amounts::default() },
        not_charged: NotCharged { adjustments: 1, adjustment_amount: -(1 << 70), ..NotCharged::default() },
        opened_at: time("2026-11-02T00:00:00Z"),
        first_claim_at: Some(time("2026-11-02T00:00:10Z")),
        last_done_at: Some(time("2026-11-02T00:00:11Z")),
        members_done_recently: 3,
        rebilling: None,
        verification: None,
        posted: PostedDifferences::default(),
        posts_to: None,
        diff: None,
        baselines: None,
        issued_at: None,
        closed_at: None,
        decided_by: None,
        reason: None,
        now: time("2026-11-02T00:00:12Z"),
    }
}

fn all_done() -> RunSnapshot {
    RunSnapshot {
        chunks_done: 4,
        counts: Counts { billed: 9, quarantined: 1, rated_usage: 50, ..Counts::default() },
        last_done_at: Some(time("2026-11-02T00:00:15Z")),
        ..draft()
    }
}

fn verified(passed: bool) -> RunSnapshot {
    let check = Check { check: "members".to_owned(), passed, detail: "10 = 9 + 1".to_owned() };
    RunSnapshot {
        verification: Some(Verification {
            checks: vec![check],
            digest: DIGEST.to_owned(),
            late: LateRows { usage_rows: 2, adjustments: 1, ..LateRows::default() },
            at: time("2026-11-02T00:00:16Z"),
        }),
        ..all_done()
    }
}

fn live() -> RunSnapshot {
    RunSnapshot {
        state: RevisionState::Live,
        holds_lock: false,
        issued_at: Some(time("2026-11-02T00:00:17.5Z")),
        ..verified(true)
    }
}

fn rejected(reason: &str) -> RunSnapshot {
    RunSnapshot {
        state: RevisionState::Rejected,
        holds_lock: false,
        closed_at: Some(time("2026-11-02T00:00:17Z")),
        reason: Some(reason.to_owned()),
        ..all_done()
    }
}

/// No Job, a valid price book, the month over.
fn observed(revision: Option<RunSnapshot>) -> Observed {
    Observed {
        now: time("2026-11-02T00:00:20Z"),
        database: Ok(DatabaseView {
            now: time("2026-11-02T00:00:20Z"),
            installation: Installation {
                zone: domain::zone::Zone::named("Asia/Seoul").unwrap(),
                currency: "KRW".parse().unwrap(),
                locale: Locale::KO,
            },
            run: revision.map(|revision| RunRecord::Revision(Box::new(revision))),
        }),
        price_book: Some(PriceBookLookup::Found(PRICE_BOOK.to_owned())),
        job: JobLookup::NotFound,
        jobs_left: Vec::new(),
        pods_left: 0,
        workers: Workers::default(),
        lock_waits: None,
        earlier: None,
        rejection: None,
        job_settings: JobSettings {
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

fn job() -> JobState {
    JobState {
        name: "october-bill".to_owned(),
        image: "monthend:1".to_owned(),
        parallelism: 2,
        ..JobState::default()
    }
}

fn without_database(mut observed: Observed) -> Observed {
    observed.database = Err("cannot connect to the database".to_owned());
    observed.price_book = None;
    observed
}

/// A decision in one line: the phase, the next step, and the conditions with their reasons.
fn summary(decision: &BillingDecision) -> String {
    let next = match &decision.next {
        Next::AddFinalizer => "AddFinalizer".to_owned(),
        Next::RemoveFinalizer => "RemoveFinalizer".to_owned(),
        Next::DeleteRun => "DeleteRun".to_owned(),
        Next::RequeueAfter(_) => "RequeueAfter".to_owned(),
        Next::BackOff => "BackOff".to_owned(),
        Next::AwaitChange => "AwaitChange".to_owned(),
        Next::Apply(Action::Reject { reason, .. }) => format!("Reject({reason})"),
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

fn assert_decisions(table: &[(&str, BillingRun, Observed, &str)]) {
    for (name, run, observed, expected) in table {
        assert_eq!(summary(&decide::decide(run, observed)), *expected, "{name}");
    }
}

fn message<'a>(decision: &'a BillingDecision, type_: &str) -> &'a str {
    &conditions::find(&decision.status.conditions, type_).unwrap().message
}

fn events_of(run: &BillingRun, decision: &BillingDecision) -> Vec<String> {
    events::changes(run.conditions(), &decision.status.conditions)
        .into_iter()
        .map(|event| format!("{}{}", if event.warning { "Warning " } else { "" }, event.reason))
        .collect()
}

/// The run after the decision's status was written.
fn after(run: &BillingRun, decision: &BillingDecision) -> BillingRun {
    run.with_status(decision.status.clone())
}
