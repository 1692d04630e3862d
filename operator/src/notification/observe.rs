//! Observes a notification run: its Jobs, its templates, its record in the database and the topic's
//! lag. Writes nothing and concludes nothing.

use api::NotificationRun;
use api::run::Run as _;
use domain::month::BillingMonth;
use store::notification::{self, Rejection};

use super::build::Task;
use super::consumer_problem;
use super::decide::progressing;
use super::notification_runs::NotificationRuns;
use super::observed::{Observed, TemplatesLookup};
use crate::controller::cluster_reader::ClusterReader;
use crate::controller::config_map_text::NOT_UTF8_FIX;
use crate::controller::worker_job::JobLookup;
use crate::controller::{database_view, run_identity};
use crate::error::{Doing as _, RunError};
use crate::restore_hold::{self, Hold};

pub(super) async fn observe(
    runs: &NotificationRuns,
    run: &NotificationRun,
    rejection: Option<Rejection>,
) -> Result<Observed, RunError> {
    let cluster = ClusterReader::new(&runs.client, run);
    let deleting = run.metadata.deletion_timestamp.is_some();
    // The Jobs before the database, so that the work of a Job that is complete is seen as done.
    let mut other_jobs = if run.is_over() { Vec::new() } else { cluster.jobs().await? };
    let pods_left = cluster.pods_left().await?;
    let read = async |uid| {
        notification::observe(&runs.database.pool, uid)
            .await
            .doing(|| "read the run from the database".to_owned())
    };
    let database = database_view::read(&runs.database, run, read, |snapshot| snapshot.now).await?;
    let snapshot = database.as_ref().ok().and_then(|view| view.run.as_ref());
    let job = match snapshot.and_then(Task::unfinished).filter(|_| !deleting) {
        None => JobLookup::NotFound,
        Some(task) => {
            let name = task.job_name(run);
            match other_jobs.iter().position(|job| job.name == name) {
                Some(index) => {
                    let job = other_jobs.swap_remove(index);
                    JobLookup::Ours(cluster.with_termination_message(job).await?)
                }
                None => cluster.job(&name).await?,
            }
        }
    };
    let idle = snapshot.is_some_and(|run| {
        run.ended_recently == 0 && run.publication.as_ref().is_none_or(|round| round.waiting.is_none())
    });
    let now = runs.clock.now();
    let workers = cluster.workers(&job, idle, now).await?;
    let kafka = &runs.settings.kafka;
    let lag = runs.lags.lag_of(&kafka.topic, &kafka.group);
    let consumer_problem = match snapshot {
        Some(snapshot) if !deleting && progressing::may_lack_consumers(snapshot, lag.as_ref()) => {
            let namespace = run_identity::namespace(run)?;
            consumer_problem::find(&runs.client, &namespace, &runs.settings.job.instance).await?
        }
        _ => None,
    };
    let begun = database.as_ref().map_or(true, |view| view.run.is_some());
    let templates = if begun || deleting { None } else { Some(find_templates(&cluster, runs, run).await?) };
    let hold = if deleting || database.is_err() { None } else { find_hold(runs, run).await? };
    let earlier = match run.spec.month.parse::<BillingMonth>() {
        Ok(month) if database.is_ok() && !begun && !deleting => {
            let (name, uid) = (run_identity::full_name(run)?, run_identity::uid(run)?);
            notification::find_earlier_run(&runs.database.pool, &name, uid, month)
                .await
                .doing(|| "look for an earlier run of the same name".to_owned())?
        }
        _ => None,
    };
    Ok(Observed {
        now,
        database,
        hold,
        templates,
        job,
        other_jobs,
        pods_left,
        workers,
        consumer_problem,
        earlier,
        lag,
        rejection,
        settings: runs.settings.clone(),
    })
}

async fn find_hold(runs: &NotificationRuns, run: &NotificationRun) -> Result<Option<Hold>, RunError> {
    // A month that cannot be parsed keeps the run from beginning.
    let Ok(month) = run.spec.month.parse::<BillingMonth>() else { return Ok(None) };
    if run.spec.rehearsal {
        return Ok(None);
    }
    let namespace = run_identity::namespace(run)?;
    restore_hold::find_hold(&runs.client, &namespace, &runs.database.pool, month).await
}

async fn find_templates(
    cluster: &ClusterReader<'_, NotificationRun>,
    runs: &NotificationRuns,
    run: &NotificationRun,
) -> Result<TemplatesLookup, RunError> {
    let name = runs.settings.templates_of(run);
    if let Some(map) = cluster.config_map(name).await? {
        return Ok(match map.not_utf8.first() {
            None => TemplatesLookup::Found(map.entries),
            Some(entry) => TemplatesLookup::Missing(format!(
                "the entry {entry} of ConfigMap {name} is not UTF-8: {NOT_UTF8_FIX}"
            )),
        });
    }
    let fix = match run.spec.template_ref {
        Some(_) => format!(
            "create it with `kubectl create configmap {name} --from-file=FOLDER`, or leave templateRef out to use the chart's"
        ),
        None => "the chart installs it: restore it with `helm upgrade`".to_owned(),
    };
    let namespace = run_identity::namespace(run)?;
    Ok(TemplatesLookup::Missing(format!("there is no ConfigMap {name} in namespace {namespace}; {fix}")))
}
