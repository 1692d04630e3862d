//! Observes a billing run: its worker Job, its price book and its record in the database. Writes
//! nothing and concludes nothing.

use api::BillingRun;
use api::billing_run::PriceBookRef;
use api::run::Run as _;
use kube::ResourceExt as _;
use store::billing::{self, Rejection};
use store::lock_waits;

use super::billing_runs::BillingRuns;
use super::build;
use super::decide::draft;
use super::observed::{Observed, PriceBookLookup, RunRecord};
use crate::controller::cluster_reader::ClusterReader;
use crate::controller::config_map_text::NOT_UTF8_FIX;
use crate::controller::worker_job::JobLookup;
use crate::controller::{database_view, run_identity};
use crate::error::{Doing as _, RunError};

pub(super) async fn observe(
    runs: &BillingRuns,
    run: &BillingRun,
    rejection: Option<Rejection>,
) -> Result<Observed, RunError> {
    let cluster = ClusterReader::new(&runs.client, run);
    let deleting = run.metadata.deletion_timestamp.is_some();
    // The Job before the database, so that the chunks of a Job that is complete are seen as done.
    let job = if run.is_over() || deleting {
        JobLookup::NotFound
    } else {
        cluster.job(&build::name(&run.name_any())).await?
    };
    let jobs_left = if deleting && !run.is_over() { cluster.jobs().await? } else { Vec::new() };
    let pods_left = cluster.pods_left().await?;
    let read = async |uid| {
        let pool = &runs.database.pool;
        let found = if run.spec.rollback.is_some() {
            billing::observe_rollback(pool, uid).await.map(|found| found.map(RunRecord::Rollback))
        } else {
            let found = billing::observe(pool, uid).await;
            found.map(|found| found.map(|revision| RunRecord::Revision(Box::new(revision))))
        };
        found.doing(|| "read what the database has of the run".to_owned())
    };
    let database = database_view::read(&runs.database, run, read, RunRecord::now).await?;
    let idle = database.as_ref().is_ok_and(|view| match &view.run {
        Some(RunRecord::Revision(run)) => !run.all_chunks_done() && run.members_done_recently == 0,
        Some(RunRecord::Rollback(_)) | None => false,
    });
    let now = runs.clock.now();
    let workers = cluster.workers(&job, idle, now).await?;
    let stands_still = |record: &RunRecord| match record {
        RunRecord::Revision(revision) => idle && draft::stands_still_since(run, now, revision).is_some(),
        RunRecord::Rollback(_) => false,
    };
    let lock_waits = match database.as_ref().ok().and_then(|view| view.run.as_ref()) {
        Some(record) if stands_still(record) => lock_waits::read_lock_waits(&runs.database.pool).await?,
        _ => None,
    };
    let begun = database.as_ref().map_or(true, |view| view.run.is_some());
    let price_book = match &run.spec.price_book_ref {
        Some(wanted) if !begun && !deleting => Some(find_price_book(&cluster, run, wanted).await?),
        _ => None,
    };
    let earlier = match run.spec.month.parse() {
        Ok(month) if database.is_ok() && !begun && !deleting => {
            let (name, uid) = (run_identity::full_name(run)?, run_identity::uid(run)?);
            billing::find_earlier_run(&runs.database.pool, &name, uid, month)
                .await
                .doing(|| "look for an earlier run of the same name".to_owned())?
        }
        _ => None,
    };
    Ok(Observed {
        now,
        database,
        price_book,
        job,
        jobs_left,
        pods_left,
        workers,
        lock_waits,
        earlier,
        rejection,
        job_settings: runs.jobs.clone(),
    })
}

async fn find_price_book(
    cluster: &ClusterReader<'_, BillingRun>,
    run: &BillingRun,
    wanted: &PriceBookRef,
) -> Result<PriceBookLookup, RunError> {
    let Some(mut map) = cluster.config_map(&wanted.name).await? else {
        return Ok(PriceBookLookup::Missing(format!(
            "there is no ConfigMap {} in namespace {}; create it with `kubectl create configmap {} --from-file={}=FILE`",
            wanted.name,
            run_identity::namespace(run)?,
            wanted.name,
            wanted.key
        )));
    };
    Ok(match map.entries.remove(&wanted.key) {
        Some(text) => PriceBookLookup::Found(text),
        None if map.not_utf8.contains(&wanted.key) => PriceBookLookup::Missing(format!(
            "the entry {} of ConfigMap {} is not UTF-8: {NOT_UTF8_FIX}",
            wanted.key, wanted.name
        )),
        None => {
            let keys: Vec<&str> = map.entries.keys().map(String::as_str).collect();
            let keys = if keys.is_empty() { "no entries".to_owned() } else { keys.join(", ") };
            PriceBookLookup::Missing(format!(
                "ConfigMap {} has no entry {}; it has {keys}",
                wanted.name, wanted.key
            ))
        }
    })
}
