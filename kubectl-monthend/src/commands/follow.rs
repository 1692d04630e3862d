//! `watch` and `--wait`: follows a run as it changes, and shows it until it ends.

use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt as _;
use tokio::time::{Instant, timeout_at};

use super::Session;
use crate::args::Watch;
use crate::cluster::Cluster;
use crate::exit::{Exit, Problem, Result};
use crate::output::note;
use crate::plan::find::{AnyRun, followed};
use crate::render::progress::{View, shards, view};

/// How long the API server may be away before the program gives up. The run goes on without it.
const OUTAGE: Duration = Duration::from_secs(120);
/// How long an approved draft may be shown as waiting before the operator has seen the approval.
const APPROVAL: Duration = Duration::from_secs(15);

impl Session<'_> {
    pub(super) async fn watch(&self, watch: &Watch) -> Result {
        let (billing, notification) =
            tokio::try_join!(self.cluster.billing_runs(), self.cluster.notification_runs())?;
        let run = followed(&billing, &notification, watch.run.as_deref())?;
        self.follow(run, watch.timeout, true).await
    }

    /// Shows the run until it has ended or, if `for_approval`, waits for approval.
    pub(super) async fn follow(&self, run: AnyRun, timeout: Option<Duration>, for_approval: bool) -> Result {
        let name = run.name();
        let mut screen = Screen::new();
        let followed = async {
            tokio::select! {
                ended = until_end(&self.cluster, run, for_approval, &mut screen) => ended,
                _ = tokio::signal::ctrl_c() => {
                    let text = format!("interrupted: {name} goes on; kubectl monthend watch {name}");
                    Err(Problem { exit: Exit::Interrupted, text })
                }
            }
        };
        let ended = match timeout {
            Some(limit) => tokio::time::timeout(limit, followed).await.unwrap_or_else(|_| {
                let text = format!("{name} has not ended in {} s: it goes on", limit.as_secs());
                Err(Problem::try_again(text))
            }),
            None => followed.await,
        };
        screen.finish();
        ended
    }
}

async fn until_end(cluster: &Cluster, mut run: AnyRun, for_approval: bool, screen: &mut Screen) -> Result {
    let mut watched = cluster.watch_run(&run, OUTAGE);
    // When an approved draft no longer counts as one that the operator has not looked at.
    let mut approval_until = None;
    loop {
        let seen = view(&run, cluster.clock.now());
        let jobs = if matches!(run, AnyRun::Billing(_)) { cluster.jobs().await } else { None };
        screen.show(&seen, jobs.as_deref().and_then(|jobs| shards_of(jobs, &run)));
        let waits = match seen.end {
            Some(Exit::Waits) if seen.phase == "AwaitingApproval" => true,
            Some(exit) => return Ok(exit),
            None => false,
        };
        let change = if !waits {
            watched.next().await?
        } else if for_approval {
            return Ok(waits_for_approval(&seen.name, screen));
        } else {
            let until = *approval_until.get_or_insert_with(|| Instant::now() + APPROVAL);
            match timeout_at(until, watched.next()).await {
                Ok(change) => change?,
                Err(_) => return Ok(waits_for_approval(&seen.name, screen)),
            }
        };
        let deleted = || Problem::failed(format!("{} {} was deleted meanwhile", run.kind(), run.name()));
        run = change.ok_or_else(deleted)?;
    }
}

fn waits_for_approval(name: &str, screen: &mut Screen) -> Exit {
    screen.finish();
    note(&format!("{name} waits for approval: kubectl monthend approve {name}"));
    Exit::Waits
}

fn shards_of(jobs: &[Job], run: &AnyRun) -> Option<String> {
    let AnyRun::Billing(run) = run else { return None };
    let uid = run.uid()?;
    let of_run = jobs.iter().find(|job| job.labels().get(api::labels::RUN_UID).is_some_and(|of| *of == uid));
    of_run.and_then(shards)
}

/// Bars on a terminal, elsewhere a line for each change.
struct Screen {
    terminal: bool,
    bars: MultiProgress,
    members: ProgressBar,
    detail: ProgressBar,
    last: String,
}

impl Screen {
    fn new() -> Self {
        let bars = MultiProgress::new();
        let members = bars.add(ProgressBar::new(0));
        let detail = bars.add(ProgressBar::new(0));
        let style = ProgressStyle::with_template("{prefix} {bar:40} {percent}%  {human_pos} of {human_len}");
        members.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let style = ProgressStyle::with_template("{wide_msg}");
        detail.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { terminal: !bars.is_hidden(), bars, members, detail, last: String::new() }
    }

    fn show(&mut self, seen: &View, shards: Option<String>) {
        if !self.terminal {
            let line = seen.line();
            if line != self.last {
                note(&line);
                self.last = line;
            }
            return;
        }
        self.members.set_prefix(format!("{} {:<16}", seen.name, seen.phase));
        self.members.set_length(seen.whole.max(1));
        self.members.set_position(seen.done);
        let parts =
            [Some(seen.detail.clone()).filter(|detail| !detail.is_empty()), shards, seen.reason.clone()];
        self.detail.set_message(parts.into_iter().flatten().collect::<Vec<_>>().join("   "));
        self.last = seen.line();
    }

    /// Leaves the last state on the terminal.
    fn finish(&mut self) {
        if self.terminal {
            self.members.finish_and_clear();
            self.detail.finish_and_clear();
            drop(self.bars.clear());
            if !self.last.is_empty() {
                note(&self.last);
            }
            self.terminal = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use api::BillingRun;
    use api::billing_run::Phase;
    use serde_json::json;

    use super::*;
    use crate::mock_server::{Call, serve};
    use crate::plan::testing::billing_run;

    const RUNS: &str = "/apis/monthend.dev/v1alpha1/namespaces/billing/billingruns";
    const JOBS: &str = "/apis/batch/v1/namespaces/billing/jobs";

    fn october(phase: Phase) -> BillingRun {
        billing_run("october", "2026-10", phase, Some(1))
    }

    fn listed(runs: &[BillingRun]) -> Call {
        let list = json!({"kind": "BillingRunList", "apiVersion": "monthend.dev/v1alpha1",
                          "metadata": {"resourceVersion": "7"}, "items": runs});
        Call::get(RUNS, &list)
    }

    fn changed(phase: Phase) -> Call {
        Call::text(RUNS, &json!({"type": "MODIFIED", "object": october(phase)}).to_string())
    }

    /// What the shards are read from, with each look at the run.
    fn jobs() -> Call {
        Call::get(JOBS, &json!({"kind": "JobList", "apiVersion": "batch/v1", "metadata": {}, "items": []}))
    }

    async fn followed(from: Phase, for_approval: bool, calls: Vec<Call>) -> Result {
        let (cluster, server) = serve(calls);
        let run = AnyRun::Billing(Box::new(october(from)));
        let ended = until_end(&cluster, run, for_approval, &mut Screen::new()).await;
        drop(cluster);
        server.await.unwrap();
        ended
    }

    #[tokio::test]
    async fn a_run_is_followed_until_it_ends_and_its_end_is_the_exit_status() {
        for (phase, exit) in [(Phase::Succeeded, Exit::Done), (Phase::Failed, Exit::Failed)] {
            let calls = vec![jobs(), listed(&[october(Phase::Running)]), jobs(), changed(phase), jobs()];
            assert_eq!(followed(Phase::Pending, true, calls).await, Ok(exit));
        }
        // One that has ended is not asked for again.
        assert_eq!(followed(Phase::Succeeded, true, vec![jobs()]).await, Ok(Exit::Done));
    }

    #[tokio::test]
    async fn a_run_that_is_deleted_meanwhile_is_a_failure() {
        let deleted = || Problem::failed("BillingRun october was deleted meanwhile");
        assert_eq!(followed(Phase::Running, true, vec![jobs(), listed(&[])]).await, Err(deleted()));
        let mut another = october(Phase::Running);
        another.metadata.uid = Some("another".to_owned());
        assert_eq!(followed(Phase::Running, true, vec![jobs(), listed(&[another])]).await, Err(deleted()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_draft_that_waits_ends_a_wait_and_after_an_approval_only_when_nothing_follows() {
        let calls = vec![jobs(), listed(&[october(Phase::AwaitingApproval)]), jobs()];
        assert_eq!(followed(Phase::Verifying, true, calls).await, Ok(Exit::Waits));
        // The operator has not seen the approval yet.
        let awaiting = || vec![jobs(), listed(&[october(Phase::AwaitingApproval)]), jobs()];
        let mut calls = awaiting();
        calls.extend([changed(Phase::Succeeded), jobs()]);
        assert_eq!(followed(Phase::AwaitingApproval, false, calls).await, Ok(Exit::Done));
        let mut calls = awaiting();
        calls.push(Call::unanswered(RUNS));
        assert_eq!(followed(Phase::AwaitingApproval, false, calls).await, Ok(Exit::Waits));
    }
}
