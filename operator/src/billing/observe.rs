//! Looks: at the worker Job, the price book, the database. Writes nothing and concludes nothing.

use api::{BillingRun, run::Run as _};
use kube::ResourceExt as _;
use store::billing::{self, Rejection};

use super::{BillingRuns, PriceBookFound, World, job};
use crate::{
    error::{Doing as _, RunError},
    runs::{JobFound, look},
};

pub(super) async fn observe(
    kind: &BillingRuns,
    run: &BillingRun,
    refused: Option<Rejection>,
) -> Result<World, RunError> {
    let client = &kind.client;
    let over = run.is_over();
    let deleting = run.metadata.deletion_timestamp.is_some();
    // The Job before the chunks: when it says that all workers are done, their chunks are seen as well.
    let job = if over && !deleting {
        JobFound::None
    } else {
        look::job(client, run, &job::name(&run.name_any())).await?
    };
    let workers = if deleting { look::pods(client, run).await?.len() } else { 0 };
    let database = if over {
        Err("not looked at: the run is over".to_owned())
    } else {
        let uid = look::uid(run)?;
        let reading = async {
            billing::observe(&kind.database.pool, uid)
                .await
                .doing(|| "look the run up in the database".to_owned())
        };
        look::stored(&kind.database, reading, |run| run.now).await
    };
    let idle = database.as_ref().is_ok_and(|stored| {
        stored.run.as_ref().is_some_and(|run| !run.all_chunks_done() && run.members_done_recently == 0)
    });
    let stuck = match &job {
        JobFound::Ours(state) if idle && !state.suspended && !deleting => look::stuck(client, run).await?,
        _ => None,
    };
    let begun = database.as_ref().map_or(true, |stored| stored.run.is_some());
    let price_book = if begun || deleting { None } else { Some(find_price_book(kind, run).await?) };
    Ok(World {
        now: kind.clock.now(),
        database,
        price_book,
        job,
        workers,
        stuck,
        refused,
        job_parts: kind.jobs.clone(),
    })
}

async fn find_price_book(kind: &BillingRuns, run: &BillingRun) -> Result<PriceBookFound, RunError> {
    let wanted = &run.spec.price_book_ref;
    let Some(mut data) = look::config_map(&kind.client, run, &wanted.name).await? else {
        return Ok(PriceBookFound::Missing(format!(
            "there is no ConfigMap {} in namespace {}; make it with `kubectl create configmap {} --from-file={}=FILE`",
            wanted.name,
            look::namespace(run)?,
            wanted.name,
            wanted.key
        )));
    };
    Ok(match data.remove(&wanted.key) {
        Some(text) => PriceBookFound::Text(text),
        None => {
            let keys: Vec<&str> = data.keys().map(String::as_str).collect();
            let there = if keys.is_empty() { "nothing".to_owned() } else { keys.join(", ") };
            PriceBookFound::Missing(format!(
                "ConfigMap {} has no entry {}; it has {there}",
                wanted.name, wanted.key
            ))
        }
    })
}
