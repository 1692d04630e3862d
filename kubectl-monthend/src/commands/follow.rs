//! `watch` and `--wait`: reads a run every second, and shows it until it ends.

use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt as _;

use super::Session;
use crate::args::Watch;
use crate::exit::{Exit, Problem, Result};
use crate::output::note;
use crate::plan::find::{AnyRun, followed};
use crate::render::progress::{View, shards, view};

const INTERVAL: Duration = Duration::from_secs(1);
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
                ended = self.until_end(run, for_approval, &mut screen) => ended,
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

    async fn until_end(&self, mut run: AnyRun, for_approval: bool, screen: &mut Screen) -> Result {
        let mut away = Duration::ZERO;
        let mut waited = Duration::ZERO;
        loop {
            let seen = view(&run, self.cluster.clock.now());
            let jobs = if matches!(run, AnyRun::Billing(_)) { self.cluster.jobs().await } else { None };
            screen.show(&seen, jobs.as_deref().and_then(|jobs| shards_of(jobs, &run)));
            match seen.end {
                Some(Exit::Waits) if seen.phase == "AwaitingApproval" => {
                    if for_approval || waited >= APPROVAL {
                        screen.finish();
                        note(&format!(
                            "{} waits for approval: kubectl monthend approve {}",
                            seen.name, seen.name
                        ));
                        return Ok(Exit::Waits);
                    }
                    waited += INTERVAL;
                }
                Some(exit) => return Ok(exit),
                None => {}
            }
            tokio::time::sleep(INTERVAL).await;
            match self.cluster.again(&run).await {
                Ok(now) => (run, away) = (now, Duration::ZERO),
                Err(problem) if problem.exit == Exit::TryAgain && away < OUTAGE => away += INTERVAL,
                Err(problem) => return Err(problem),
            }
        }
    }
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
