//! The commands that create a run.

use api::NotificationRun;
use api::billing_run::PriceBookRef;
use api::notification_run::Select;
use api::run::Run;
use api::{BillingRun, billing_run};
use domain::month::BillingMonth;

use super::Session;
use crate::args::{
    Apply, Bill, BillingOptions, NotificationOptions, Notify, Output, Rebill, Rehearse, Retry, Rollback, Wait,
};
use crate::exit::{Exit, Problem, Result};
use crate::output::{note, print, warning};
use crate::plan::billing::{self, Creation, Rebilling};
use crate::plan::find::AnyRun;
use crate::plan::month_state::{Live, live, live_in_database};
use crate::plan::notification::{Purpose, notification};
use crate::plan::price_book;
use crate::pod::{self, Printed};
use crate::question::{Asked, confirm};
use crate::render::{grouped, object};

impl Session<'_> {
    pub(super) async fn bill(&self, bill: &Bill) -> Result {
        let month = bill.of.month.to_string();
        let existing = self.cluster.billing_runs().await?;
        let book = self.price_book(&bill.billing, &existing, &month).await?;
        let user = self.cluster.user().await?;
        let creation = self.creation(&user, &bill.apply);
        let run = billing::bill(creation, &month, &bill.billing, &bill.require_source, book, &existing)?;
        if let Some(text) = not_over(bill.of.month, self.cluster.clock.now()) {
            warning(&text);
        }
        self.create_billing(run, &bill.apply, &bill.wait).await
    }

    pub(super) async fn rebill(&self, rebill: &Rebill) -> Result {
        let month = rebill.of.month.to_string();
        let existing = self.cluster.billing_runs().await?;
        let of_revision = self.live_revision(rebill.of.month, rebill.of_revision, &existing).await?;
        let book = self.price_book(&rebill.billing, &existing, &month).await?;
        let user = self.cluster.user().await?;
        let rebilling = Rebilling {
            of_revision,
            reason: &rebill.reason,
            after_sent: rebill.after_sent.map_or(billing_run::AfterSent::Revise, Into::into),
            select: rebill.select.map(Into::into),
            scope: &rebill.scope,
        };
        let creation = self.creation(&user, &rebill.apply);
        let run = billing::rebill(creation, &month, &rebilling, &rebill.billing, book, &existing)?;
        let until = if rebill.billing.manual {
            "The draft waits for approval."
        } else {
            "Changed bills are issued without approval; with --manual, the draft waits for it."
        };
        let scope = if run.spec.scope.is_some() { "some members of " } else { "" };
        self.ask(&rebill.apply, &format!("Bill {scope}{month} again, over revision {of_revision}? {until}"))?;
        self.create_billing(run, &rebill.apply, &rebill.wait).await
    }

    pub(super) async fn rollback(&self, rollback: &Rollback) -> Result {
        let month = rollback.of.month.to_string();
        let existing = self.cluster.billing_runs().await?;
        let of_revision = self.live_revision(rollback.of.month, rollback.of_revision, &existing).await?;
        let user = self.cluster.user().await?;
        let creation = self.creation(&user, &rollback.apply);
        let run = billing::rollback(creation, &month, of_revision, &rollback.reason, &existing)?;
        self.ask(
            &rollback.apply,
            &format!(
                "Take revision {of_revision} of {month} back? Its bills are no longer live, and those that it replaced \
                 are live again. E-mails of it that were sent are not taken back."
            ),
        )?;
        self.create_billing(run, &rollback.apply, &rollback.wait).await
    }

    pub(super) async fn notify(&self, notify: &Notify) -> Result {
        let purpose = Purpose::Notify(Select::from(notify.select));
        self.create_notification(notify.of.month, purpose, &notify.options, &notify.apply, &notify.wait).await
    }

    pub(super) async fn retry(&self, retry: &Retry) -> Result {
        let purpose = Purpose::Retry { unknown: retry.unknown };
        self.create_notification(retry.of.month, purpose, &retry.options, &retry.apply, &retry.wait).await
    }

    pub(super) async fn rehearse(&self, rehearse: &Rehearse) -> Result {
        let (options, apply, wait) = (&rehearse.options, &rehearse.apply, &rehearse.wait);
        let purpose = Purpose::Rehearse(Select::from(rehearse.select));
        self.create_notification(rehearse.of.month, purpose, options, apply, wait).await
    }

    async fn create_notification(
        &self,
        month: BillingMonth,
        purpose: Purpose,
        options: &NotificationOptions,
        apply: &Apply,
        wait: &Wait,
    ) -> Result {
        let existing = self.cluster.notification_runs().await?;
        let user = self.cluster.user().await?;
        let run = notification(self.creation(&user, apply), &month.to_string(), purpose, options, &existing)?;
        if purpose == (Purpose::Retry { unknown: true }) {
            self.ask(apply, &unknown_question(&month.to_string(), &existing))?;
        }
        let created = self.create(&run, apply).await?;
        match created {
            Some(run) => self.after(AnyRun::Notification(Box::new(run)), wait).await,
            None => Ok(Exit::Done),
        }
    }

    async fn create_billing(&self, run: BillingRun, apply: &Apply, wait: &Wait) -> Result {
        match self.create(&run, apply).await? {
            Some(run) => self.after(AnyRun::Billing(Box::new(run)), wait).await,
            None => Ok(Exit::Done),
        }
    }

    /// Creates the run and says so; or, for a dry run, prints it.
    async fn create<R: Run>(&self, run: &R, apply: &Apply) -> Result<Option<R>> {
        if apply.dry_run {
            let format = match self.output() {
                Output::Table => Output::Yaml,
                other => other,
            };
            print(&object::object(run, format, "created (dry run)")?);
            return Ok(None);
        }
        let created = self.cluster.create(run).await?;
        print(&object::object(&created, self.output(), "created")?);
        Ok(Some(created))
    }

    /// Waits, or says how to follow the run.
    async fn after(&self, run: AnyRun, wait: &Wait) -> Result {
        if wait.wait {
            return self.follow(run, wait.timeout, true).await;
        }
        if self.output() == Output::Table {
            note(&format!("follow it with: kubectl monthend watch {}", run.name()));
        }
        Ok(Exit::Done)
    }

    fn creation<'a>(&'a self, user: &'a str, apply: &'a Apply) -> Creation<'a> {
        Creation { namespace: &self.cluster.namespace, user, name: apply.name.as_deref() }
    }

    /// Asks, unless nothing is created.
    fn ask(&self, apply: &Apply, question: &str) -> Result<()> {
        if apply.dry_run { Ok(()) } else { confirm(Asked::of(self.global.yes), question) }
    }

    /// The price book that was given, of the runs, or with the label. Remarks one that is not there.
    async fn price_book(
        &self,
        options: &BillingOptions,
        existing: &[BillingRun],
        month: &str,
    ) -> Result<PriceBookRef> {
        let given = options.price_book.as_ref();
        let given =
            given.map(|name| PriceBookRef { name: name.clone(), key: options.price_book_key.clone() });
        let Some(book) = given.or_else(|| price_book::of_runs(existing, month)) else {
            return price_book::labelled(&self.cluster.config_maps().await?);
        };
        // Who may not list them creates the run all the same.
        let maps = self.cluster.config_maps().await;
        if let Some(text) = maps.ok().and_then(|maps| price_book::missing(&book, &maps)) {
            warning(&text);
        }
        Ok(book)
    }

    /// The revision that was given; or the live one as the runs say, which the database knows if the runs
    /// do not. A rollback that was deleted is in no run, so the operator has the last word.
    async fn live_revision(
        &self,
        month: BillingMonth,
        given: Option<i32>,
        existing: &[BillingRun],
    ) -> Result<i32> {
        let month = month.to_string();
        let known = live(existing, &month);
        if let Some(given) = given {
            if let Some(text) = known.and_then(|known| billing::another_is_live(&month, given, &known)) {
                warning(&text);
            }
            return Ok(given);
        }
        if let Some(Live { revision, .. }) = known {
            return Ok(revision);
        }
        note(&format!(
            "no finished run says which revision of {month} is live: asking the database by a pod"
        ));
        let args = ["status", &month, "-o", "json"].map(str::to_owned);
        let mut answer = String::new();
        let exit = pod::run(&self.cluster, self.release(), &args, None, Printed::Kept(&mut answer)).await?;
        if exit != Exit::Done {
            let text = format!("the database does not say which revision of {month} is live");
            return Err(Problem { exit, text });
        }
        live_in_database(&answer)?.ok_or_else(|| {
            Problem::usage(format!(
                "{month} has no live revision: bill it with `kubectl monthend bill {month}`"
            ))
        })
    }
}

/// What is said of a month that is not over here. The database's clock decides, so it is no error.
fn not_over(month: BillingMonth, now: jiff::Timestamp) -> Option<String> {
    let next = month.next_first_day();
    let today = now.to_zoned(jiff::tz::TimeZone::UTC).date();
    (today < next).then(|| {
        format!("{month} is not over before {next}: the run waits (MonthNotOver), and starts by itself")
    })
}

/// The question before bills are sent again that may have been sent.
fn unknown_question(month: &str, runs: &[NotificationRun]) -> String {
    let of_month = runs.iter().filter(|run| run.spec.month == month && !run.spec.rehearsal);
    let unknown: i64 =
        of_month.filter_map(|run| run.status.as_ref()?.counts.as_ref()).map(|counts| counts.unknown).sum();
    let bills =
        if unknown > 0 { format!("up to {} bills", grouped(unknown)) } else { "the bills".to_owned() };
    format!(
        "Send {bills} of {month} again whose outcome is unknown? The mail server may have sent them already, \
         so these members may get their bill twice."
    )
}

#[cfg(test)]
mod tests {
    use api::notification_run::{NotificationCounts, Phase};

    use super::*;
    use crate::plan::testing::notification_run;

    #[test]
    fn a_month_that_is_not_over_is_remarked() {
        let month: BillingMonth = "2026-10".parse().unwrap();
        let at = |text: &str| not_over(month, text.parse().unwrap());
        assert_eq!(
            at("2026-10-31T23:59:59Z").as_deref(),
            Some("2026-10 is not over before 2026-11-01: the run waits (MonthNotOver), and starts by itself")
        );
        assert_eq!(at("2026-11-01T00:00:00Z"), None);
    }

    #[test]
    fn the_question_before_a_second_e_mail_says_what_can_happen() {
        let mut run = notification_run("notices", "2026-10", Phase::CompletedWithFailures);
        run.status.as_mut().unwrap().counts =
            Some(NotificationCounts { unknown: 12, ..NotificationCounts::default() });
        assert_eq!(
            unknown_question("2026-10", std::slice::from_ref(&run)),
            "Send up to 12 bills of 2026-10 again whose outcome is unknown? The mail server may have sent them \
             already, so these members may get their bill twice."
        );
        assert!(unknown_question("2026-09", &[run]).starts_with("Send the bills of 2026-09 again"));
    }
}
