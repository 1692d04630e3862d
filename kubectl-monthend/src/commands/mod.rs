//! What each command does: reads from the cluster, plans, asks, changes, follows.

mod create;
mod follow;
mod in_pod;
mod review;

use std::path::Path;

use crate::args::{Cli, Command, GlobalOptions, NamedRun, Output, Status};
use crate::cluster::{Cluster, connect};
use crate::completion;
use crate::exit::{Exit, Problem, Result};
use crate::output::print;
use crate::plan::find::named;
use crate::pod::upload::Upload;
use crate::render::object;
use crate::render::status::{Seen, month, months};

/// A command at work.
struct Session<'a> {
    cluster: Cluster,
    global: &'a GlobalOptions,
}

impl Session<'_> {
    fn output(&self) -> Output {
        self.global.output.unwrap_or(Output::Table)
    }

    fn release(&self) -> Option<&str> {
        self.global.release.as_deref()
    }
}

pub(crate) async fn run(cli: &Cli) -> Result {
    // What is wrong without a cluster is said without one.
    match &cli.command {
        Command::Completion(completion) => return completion::script(completion.shell),
        Command::Load(load) => drop(in_pod::check_folders(&load.folder, load.rejects_dir.as_deref())?),
        _ => {}
    }
    let session = Session { cluster: connect(&cli.global).await?, global: &cli.global };
    match &cli.command {
        Command::Bill(bill) => session.bill(bill).await,
        Command::Rebill(rebill) => session.rebill(rebill).await,
        Command::Diff(run) => session.diff(run).await,
        Command::Approve(run) => session.approve(run).await,
        Command::Reject(run) => session.reject(run).await,
        Command::Rollback(rollback) => session.rollback(rollback).await,
        Command::Notify(notify) => session.notify(notify).await,
        Command::Retry(retry) => session.retry(retry).await,
        Command::Rehearse(rehearse) => session.rehearse(rehearse).await,
        Command::Suspend(run) => session.suspend(run, true).await,
        Command::Resume(run) => session.suspend(run, false).await,
        Command::Status(status) => session.status(status).await,
        Command::Watch(watch) => session.watch(watch).await,
        Command::Log(log) => session.log(log).await,
        Command::Explain(explain) => session.explain(explain).await,
        Command::Verify(verify) => session.verify(verify).await,
        Command::Late(late) => session.late(late).await,
        Command::Load(load) => session.load(load).await,
        Command::Completion(_) => Ok(Exit::Done),
    }
}

impl Session<'_> {
    async fn suspend(&self, wanted: &NamedRun, suspend: bool) -> Result {
        let (billing, notification) =
            tokio::try_join!(self.cluster.billing_runs(), self.cluster.notification_runs())?;
        let run = named(&billing, &notification, &wanted.run)?;
        check_can_suspend(&run, suspend)?;
        self.cluster.suspend(&run, suspend).await?;
        let done = if suspend { "suspended" } else { "resumed" };
        print(&format!("{}.monthend.dev/{} {done}\n", run.kind().to_lowercase(), run.name()));
        Ok(Exit::Done)
    }

    async fn status(&self, status: &Status) -> Result {
        let cluster = &self.cluster;
        let (billing, notification) = tokio::try_join!(cluster.billing_runs(), cluster.notification_runs())?;
        let wanted = status.of.month;
        if self.output() != Output::Table {
            let of_month = |month: &str| wanted.is_none_or(|wanted| wanted.to_string() == month);
            let objects: Vec<serde_json::Value> = billing
                .iter()
                .filter(|run| of_month(&run.spec.month))
                .map(serde_json::to_value)
                .chain(notification.iter().filter(|run| of_month(&run.spec.month)).map(serde_json::to_value))
                .collect::<std::result::Result<_, _>>()
                .map_err(|error| Problem::failed(format!("the runs cannot be printed: {error}")))?;
            print(&object::list(&objects, self.output())?);
            return Ok(Exit::Done);
        }
        let jobs = cluster.jobs().await;
        let seen = Seen {
            namespace: &cluster.namespace,
            billing: &billing,
            notification: &notification,
            jobs: jobs.as_deref(),
        };
        let Some(wanted) = wanted else {
            print(&months(seen));
            return Ok(Exit::Done);
        };
        print(&month(seen, &wanted.to_string(), cluster.clock.now()));
        if !status.database {
            return Ok(Exit::Done);
        }
        print("\n");
        let args = ["status".to_owned(), wanted.to_string()];
        self.in_pod(&args, &status.time).await
    }
}

/// Suspending what has ended changes nothing.
fn check_can_suspend(run: &crate::plan::find::AnyRun, suspend: bool) -> Result<()> {
    use api::run::{Run as _, RunPhase as _};

    use crate::plan::find::AnyRun;

    let (finished, phase, suspended) = match run {
        AnyRun::Billing(run) => {
            (run.is_over(), run.phase().map_or("Pending", |phase| phase.as_str()), run.spec.suspend)
        }
        AnyRun::Notification(run) => {
            (run.is_over(), run.phase().map_or("Pending", |phase| phase.as_str()), run.spec.suspend)
        }
    };
    let name = run.name();
    if finished {
        let verb = if suspend { "suspend" } else { "resume" };
        return Err(Problem::usage(format!("{name} is finished ({phase}): there is nothing to {verb}")));
    }
    if !suspend && !suspended {
        return Err(Problem::usage(format!("{name} is not suspended: there is nothing to resume")));
    }
    Ok(())
}

/// The folder of the rejects, and what is sent.
type Folders<'a> = (Upload, &'a Path);

#[cfg(test)]
mod tests {
    use api::billing_run::Phase;

    use super::*;
    use crate::plan::find::AnyRun;
    use crate::plan::testing::billing_run;

    #[test]
    fn only_work_that_goes_on_can_be_suspended_and_only_what_is_suspended_resumed() {
        let run = |phase, suspend| {
            let mut run = billing_run("october", "2026-10", phase, None);
            run.spec.suspend = suspend;
            AnyRun::Billing(Box::new(run))
        };
        for (run, suspend, problem) in [
            (run(Phase::Running, false), true, None),
            (run(Phase::Running, true), false, None),
            (
                run(Phase::Succeeded, false),
                true,
                Some("october is finished (Succeeded): there is nothing to suspend"),
            ),
            (
                run(Phase::Failed, true),
                false,
                Some("october is finished (Failed): there is nothing to resume"),
            ),
            (run(Phase::Running, false), false, Some("october is not suspended: there is nothing to resume")),
        ] {
            let checked = check_can_suspend(&run, suspend);
            assert_eq!(checked.err().map(|problem| problem.text).as_deref(), problem);
        }
    }
}
