//! Looks: at the run's Jobs, the templates, the database, the lag. Writes nothing and concludes nothing.

use api::{NotificationRun, run::Run as _};
use store::notification::{self, Rejection};

use super::{NotificationRuns, TemplatesFound, World, job::Errand};
use crate::{
    config::NotifyArgs,
    error::{Doing as _, RunError},
    runs::{JobFound, look},
};

pub(super) async fn observe(
    kind: &NotificationRuns,
    run: &NotificationRun,
    refused: Option<Rejection>,
) -> Result<World, RunError> {
    let client = &kind.client;
    let over = run.is_over();
    let deleting = run.metadata.deletion_timestamp.is_some();
    // The Jobs before the database: when one says that its worker is done, its work is seen as well.
    let mut others = if over && !deleting { Vec::new() } else { look::jobs(client, run).await? };
    let workers = if deleting { look::pods(client, run).await?.len() } else { 0 };
    let database = if over {
        Err("not looked at: the run is over".to_owned())
    } else {
        let uid = look::uid(run)?;
        let reading = async {
            notification::observe(&kind.database.pool, uid)
                .await
                .doing(|| "look the run up in the database".to_owned())
        };
        look::stored(&kind.database, reading, |run| run.now).await
    };
    let snapshot = database.as_ref().ok().and_then(|stored| stored.run.as_ref());
    let job = match snapshot.and_then(Errand::of).filter(|_| !deleting) {
        None => JobFound::None,
        Some(errand) => {
            let name = errand.job_name(run);
            match others.iter().position(|job| job.name == name) {
                Some(found) => JobFound::Ours(look::quoted(client, run, others.swap_remove(found)).await?),
                None => look::job(client, run, &name).await?,
            }
        }
    };
    let idle = snapshot.is_some_and(|run| {
        run.ended_recently == 0 && run.publication.as_ref().is_none_or(|round| round.waiting.is_none())
    });
    let stuck = match &job {
        JobFound::Ours(state) if idle && !state.suspended => look::stuck(client, run).await?,
        _ => None,
    };
    let begun = database.as_ref().map_or(true, |stored| stored.run.is_some());
    let templates = if begun || deleting { None } else { Some(find_templates(kind, run).await?) };
    let kafka = &kind.parts.kafka;
    Ok(World {
        now: kind.clock.now(),
        database,
        templates,
        job,
        others,
        workers,
        stuck,
        lag: kind.lags.lag_of(&kafka.topic, &kafka.group),
        refused,
        parts: kind.parts.clone(),
    })
}

/// The ConfigMap that the run's templates come from.
pub(super) fn templates_of<'a>(run: &'a NotificationRun, notify: &'a NotifyArgs) -> &'a str {
    run.spec.template_ref.as_ref().map_or(&notify.templates, |named| &named.name)
}

async fn find_templates(kind: &NotificationRuns, run: &NotificationRun) -> Result<TemplatesFound, RunError> {
    let name = templates_of(run, &kind.parts.notify);
    if let Some(files) = look::config_map(&kind.client, run, name).await? {
        return Ok(TemplatesFound::Files(files));
    }
    let remedy = match run.spec.template_ref {
        Some(_) => format!(
            "make it with `kubectl create configmap {name} --from-file=FOLDER`, or leave templateRef out for the chart's"
        ),
        None => "it comes with the chart: put it back with `helm upgrade`".to_owned(),
    };
    let namespace = look::namespace(run)?;
    Ok(TemplatesFound::Missing(format!("there is no ConfigMap {name} in namespace {namespace}; {remedy}")))
}
