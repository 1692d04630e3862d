//! `diff`, `approve` and `reject`.

use std::time::Duration;

use api::BillingRun;
use kube::ResourceExt as _;
use tokio::time::timeout;

use super::Session;
use crate::args::{Approve, OneRun, Output};
use crate::exit::{Exit, Problem, Result};
use crate::output::{note, print, warning};
use crate::plan::find::{AnyRun, draft, reviewed};
use crate::question::{Asked, confirm};
use crate::render::object;
use crate::render::review::{review, summary};

/// How long the operator may take to reject a draft and to let go of its run.
const DELETION: Duration = Duration::from_secs(60);

impl Session<'_> {
    pub(super) async fn diff(&self, wanted: &OneRun) -> Result {
        let runs = self.cluster.billing_runs().await?;
        let run = reviewed(&runs, wanted.run.as_deref())?;
        match self.output() {
            Output::Table => print(&review(&run)),
            other => print(&object::object(&run, other, "")?),
        }
        Ok(Exit::Done)
    }

    pub(super) async fn approve(&self, wanted: &Approve) -> Result {
        let runs = self.cluster.billing_runs().await?;
        let run = draft(&runs, wanted.of.run.as_deref())?;
        let name = run.name_any();
        let digest = run.status.as_ref().and_then(|status| status.digest.clone());
        let digest = digest.ok_or_else(|| {
            Problem::try_again(format!(
                "{name} waits for approval, but its draft has no digest yet: try again"
            ))
        })?;
        self.look(&run);
        let question = format!("Approve this draft of {} and issue {}?", run.spec.month, summary(&run));
        confirm(Asked::of(self.global.yes), &question)?;
        let by = self.cluster.user().await?;
        let approved = self.cluster.approve(&run, &digest, &by).await?;
        print(&object::object(&approved, self.output(), &format!("approved by {by}"))?);
        if approved.spec.suspend {
            warning(&format!(
                "{name} is suspended, so nothing is issued yet: kubectl monthend resume {name}"
            ));
            return Ok(Exit::Done);
        }
        if wanted.wait.wait {
            return self.follow(AnyRun::Billing(Box::new(approved)), wanted.wait.timeout, false).await;
        }
        Ok(Exit::Done)
    }

    pub(super) async fn reject(&self, wanted: &OneRun) -> Result {
        let runs = self.cluster.billing_runs().await?;
        let run = draft(&runs, wanted.run.as_deref())?;
        self.look(&run);
        let month = &run.spec.month;
        let question =
            format!("Reject this draft of {month} and delete the run {}? No bill is issued.", run.name_any());
        confirm(Asked::of(self.global.yes), &question)?;
        self.cluster.reject(&run).await?;
        print(&object::object(&run, self.output_of_deleted(), "rejected")?);
        self.until_gone(run).await
    }

    /// As `kubectl delete` does: a command that follows finds the name and the month free.
    async fn until_gone(&self, run: BillingRun) -> Result {
        let name = run.name_any();
        let mut watched = self.cluster.watch_run(&AnyRun::Billing(Box::new(run)), DELETION);
        let gone = async {
            while watched.next().await?.is_some() {}
            Ok(Exit::Done)
        };
        timeout(DELETION, gone).await.unwrap_or_else(|_| {
            Err(Problem::try_again(format!(
                "{name} is rejected, and not deleted after {} s: `kubectl describe brun {name}` says why",
                DELETION.as_secs()
            )))
        })
    }

    /// Shows the draft before the question, beside what scripts read.
    fn look(&self, run: &BillingRun) {
        note(&review(run));
    }

    /// A run that is gone has a name and no fields.
    fn output_of_deleted(&self) -> Output {
        match self.output() {
            Output::Name => Output::Name,
            Output::Table | Output::Json | Output::Yaml => Output::Table,
        }
    }
}
