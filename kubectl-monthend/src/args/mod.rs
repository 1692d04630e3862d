//! The command line. What a command does is in [`crate::commands`].

mod run_options;

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCandidates;

pub(crate) use self::run_options::{
    AfterSentArg, AnyMonth, Apply, BillingOptions, OneMonth, PodTime, ScopeOptions, ScopeSelectArg,
    SelectArg, Wait,
};
use crate::completion;

/// Operate the month of monthend: bill, look, approve, e-mail
///
/// Talks to the API server only, with your kubeconfig. What needs the database or the encryption keys
/// (explain, log, verify, late, load) runs in a pod of the release, with the release's Secrets, and prints
/// here what the pod prints.
#[derive(Debug, Parser)]
#[command(
    name = "kubectl-monthend",
    bin_name = "kubectl monthend",
    version,
    max_term_width = 110,
    after_help = AFTER_HELP,
    args_override_self = true,
    disable_help_subcommand = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalOptions,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER_HELP: &str = "\
A month, from the files to the e-mails:
  kubectl monthend load ./2026-10                     send the files; rejected lines come back
  kubectl monthend bill 2026-10 --manual --wait       price every member; the draft waits
  kubectl monthend diff                               what the draft contains
  kubectl monthend approve                            issue it: asks first
  kubectl monthend rehearse 2026-10 --wait            render every e-mail, send none
  kubectl monthend notify 2026-10 --wait              send them
  kubectl monthend retry 2026-10                      send again what failed
  kubectl monthend status 2026-10                     everything about the month on one screen

When a bill is wrong:
  kubectl monthend explain 1042 2026-10               how one bill came about
  kubectl monthend rebill 2026-10 --reason 'wrong fee' --manual --wait
  kubectl monthend rollback 2026-10 --reason 'wrong price book'

Exit status:
  0    done; without --wait: the run is created
  1    the run failed or was rejected, or the API server refused
  2    the command line or what it names is wrong, or a question was not answered with yes
  3    the run waits for approval, or ended with failures; load: lines were rejected
  4    in a pod: failed for good, or nothing to show; verify: violations
  5    in a pod: the database has another schema version
  75   out of time, or something cannot be reached: try again
  130  interrupted; a run goes on, a pod is deleted

approve, reject, rollback, rebill and retry --unknown ask before they act. Scripts answer with --yes.";

/// What every command has.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct GlobalOptions {
    /// Namespace of the release [default: that of the context]
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// Context of the kubeconfig [default: the current one]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Kubeconfig file [default: $KUBECONFIG, then ~/.kube/config]
    #[arg(long, global = true, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// User to act as, as with kubectl --as
    #[arg(long = "as", global = true, value_name = "USER")]
    pub(crate) impersonate: Option<String>,
    /// Helm release, if the namespace has several
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) release: Option<String>,
    /// How to print [default: table]
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT")]
    pub(crate) output: Option<Output>,
    /// Do not ask: the answer is yes
    #[arg(short, long, global = true, action = ArgAction::SetTrue)]
    pub(crate) yes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Table,
    Json,
    Yaml,
    Name,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Bill(Bill),
    Rebill(Rebill),
    /// Show what a draft changes, and what a reviewer has to see
    ///
    /// Of the draft that waits for approval; of another run by its name, or the last one of a month.
    Diff(OneRun),
    Approve(Approve),
    /// Delete a run whose draft waits for approval: no bill is issued, and the month is free
    ///
    /// Shows the draft, and asks.
    Reject(OneRun),
    Rollback(Rollback),
    Notify(Notify),
    Retry(Retry),
    Rehearse(Rehearse),
    /// Stop a run's work after what it is doing now; `resume` goes on from there
    Suspend(NamedRun),
    /// Go on with a run that was suspended
    Resume(NamedRun),
    Status(Status),
    /// Follow a run: its bar, rate, remaining time and shards
    ///
    /// Without a name, the unfinished run. Ends with the run or when its draft waits for approval, as the exit
    /// status says.
    #[command(
        after_help = "Examples:\n  kubectl monthend watch 2026-10\n  kubectl monthend watch billing-2026-10 --timeout 30m"
    )]
    Watch(Watch),
    Log(Log),
    Explain(Explain),
    Verify(Verify),
    Late(Late),
    Load(Load),
    Completion(Completion),
}

/// Bill a month that is over
///
/// Creates the BillingRun billing-MONTH. Without --price-book, it uses the price book of the last run, or
/// the only ConfigMap with the label monthend.dev/price-book=true.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  kubectl monthend bill 2026-10 --manual --wait\n  kubectl monthend bill 2026-10 --price-book pricebook-2026 --max-quarantined 0.1%\n  kubectl monthend bill 2026-10 --dry-run > billing-2026-10.yaml"
)]
pub(crate) struct Bill {
    #[command(flatten)]
    pub(crate) of: OneMonth,
    #[command(flatten)]
    pub(crate) billing: BillingOptions,
    /// Sources of which loads must cover the month before it is billed
    #[arg(long, value_name = "SOURCE")]
    pub(crate) require_source: Vec<String>,
    #[command(flatten)]
    pub(crate) apply: Apply,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

/// Bill a live month again: only members whose bill changes get another
///
/// Creates a BillingRun over the live revision. It is found in the finished runs or, if they are gone, in
/// the database, by a pod.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  kubectl monthend rebill 2026-10 --reason 'wrong fee of FLAT-89' --manual --wait\n  kubectl monthend rebill 2026-10 --reason 'late usage' --select Late\n  kubectl monthend rebill 2026-10 --reason 'complaint 4711' --members 1042,1043 --after-sent Adjust"
)]
pub(crate) struct Rebill {
    #[command(flatten)]
    pub(crate) of: OneMonth,
    /// Why the month is billed again, which is recorded
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) reason: String,
    /// Revision to bill again [default: the live one]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) of_revision: Option<i32>,
    /// Only members that are in quarantine, or whose data came late
    #[arg(long, value_enum, value_name = "WHICH", conflicts_with_all = ["members", "range"], ignore_case = true)]
    pub(crate) select: Option<ScopeSelectArg>,
    #[command(flatten)]
    pub(crate) scope: ScopeOptions,
    /// For members who were sent the bill: Revise issues the corrected one, Adjust bills the difference in a
    /// later month
    #[arg(long, value_enum, value_name = "WHAT", ignore_case = true)]
    pub(crate) after_sent: Option<AfterSentArg>,
    #[command(flatten)]
    pub(crate) billing: BillingOptions,
    #[command(flatten)]
    pub(crate) apply: Apply,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

/// A run, by its name or month.
#[derive(Debug, Args)]
pub(crate) struct OneRun {
    /// Name of a run, or a month [default: the draft that waits for approval]
    #[arg(value_name = "RUN|MONTH", add = ArgValueCandidates::new(completion::billing_runs_and_months))]
    pub(crate) run: Option<String>,
}

/// Approve the draft that waits: its bills are issued
///
/// Shows the draft, asks, and approves exactly what it showed: if the draft is another one by then, nothing
/// is approved.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  kubectl monthend approve\n  kubectl monthend approve 2026-10 --yes --wait"
)]
pub(crate) struct Approve {
    #[command(flatten)]
    pub(crate) of: OneRun,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

/// A run, by its name.
#[derive(Debug, Args)]
pub(crate) struct NamedRun {
    /// Name of the run; nrun/NAME or brun/NAME if both kinds have one of this name
    #[arg(value_name = "RUN", add = ArgValueCandidates::new(completion::runs))]
    pub(crate) run: String,
}

/// Take the live revision of a month back
///
/// The bills of the revision before it count again; without one, the month can be billed again.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  kubectl monthend rollback 2026-10 --reason 'wrong price book' --wait")]
pub(crate) struct Rollback {
    #[command(flatten)]
    pub(crate) of: OneMonth,
    /// Why, which is recorded
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) reason: String,
    /// Revision to take back, which must be the live one [default: the live one]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) of_revision: Option<i32>,
    #[command(flatten)]
    pub(crate) apply: Apply,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

/// E-mail the bills of a live month
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  kubectl monthend notify 2026-10 --wait\n  kubectl monthend notify 2026-10 --range 1-1000 --max-per-second 50\n  kubectl monthend notify 2026-10 --select Corrected"
)]
pub(crate) struct Notify {
    #[command(flatten)]
    pub(crate) of: OneMonth,
    /// Which bills: those not attempted yet, those that correct another amount, or those that had no address
    #[arg(long, value_enum, value_name = "WHICH", default_value = "Ready", ignore_case = true)]
    pub(crate) select: SelectArg,
    #[command(flatten)]
    pub(crate) options: NotificationOptions,
    #[command(flatten)]
    pub(crate) apply: Apply,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

#[derive(Debug, Default, Args)]
pub(crate) struct NotificationOptions {
    #[command(flatten)]
    pub(crate) scope: ScopeOptions,
    /// The most e-mails per second, over all consumers together
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(1..=100_000))]
    pub(crate) max_per_second: Option<i32>,
    /// ConfigMap with the e-mail templates [default: the chart's]
    #[arg(long, value_name = "CONFIGMAP")]
    pub(crate) templates: Option<String>,
}

/// Send again the bills that failed
///
/// With --unknown, those whose outcome is unknown: the mail server's answer was lost, so some members may
/// get their bill twice.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  kubectl monthend retry 2026-10 --wait\n  kubectl monthend retry 2026-10 --unknown"
)]
pub(crate) struct Retry {
    #[command(flatten)]
    pub(crate) of: OneMonth,
    /// Bills that may have been sent: some members may get theirs twice
    #[arg(long)]
    pub(crate) unknown: bool,
    #[command(flatten)]
    pub(crate) options: NotificationOptions,
    #[command(flatten)]
    pub(crate) apply: Apply,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

/// Render every e-mail of a live month, and send none
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  kubectl monthend rehearse 2026-10 --templates templates-2026-11 --wait\n  kubectl monthend rehearse 2026-10 --select Corrected"
)]
pub(crate) struct Rehearse {
    #[command(flatten)]
    pub(crate) of: OneMonth,
    /// Which bills: those not attempted yet, those that correct another amount, or those that had no address
    #[arg(long, value_enum, value_name = "WHICH", default_value = "Ready", ignore_case = true)]
    pub(crate) select: SelectArg,
    #[command(flatten)]
    pub(crate) options: NotificationOptions,
    #[command(flatten)]
    pub(crate) apply: Apply,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

/// Show a month on one screen: revision, bills, quarantine, late data, e-mails, consumers, Jobs
///
/// Without a month, one line for each month that has runs. With --database, also what the database says, by
/// a pod.
#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) of: AnyMonth,
    /// Also ask the database, by a pod
    #[arg(long, requires = "month")]
    pub(crate) database: bool,
    #[command(flatten)]
    pub(crate) time: PodTime,
}

#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// Name of a run, or a month [default: the unfinished run]
    #[arg(value_name = "RUN|MONTH", add = ArgValueCandidates::new(completion::runs_and_months))]
    pub(crate) run: Option<String>,
    /// Give up after this time, such as 30s, 10m or 2h [default: never]
    #[arg(long, value_name = "TIME", value_parser = run_options::duration)]
    pub(crate) timeout: Option<std::time::Duration>,
}

/// Show the history of jobs (job_log), in a pod
#[derive(Debug, Args)]
pub(crate) struct Log {
    #[command(flatten)]
    pub(crate) of: AnyMonth,
    /// The most jobs to show, the last ones
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: Option<u32>,
    #[command(flatten)]
    pub(crate) time: PodTime,
}

/// Explain how one member's bill came about, in a pod
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  kubectl monthend explain 1042 2026-10\n  kubectl monthend explain 1042 2026-10 --revision 1 --usage"
)]
pub(crate) struct Explain {
    /// Id of the member
    #[arg(value_name = "MEMBER", value_parser = clap::value_parser!(i64).range(1..))]
    pub(crate) member: i64,
    /// As of this revision, also of a draft or one that was taken back [default: the live one]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) revision: Option<i32>,
    /// Also show each usage record
    #[arg(long)]
    pub(crate) usage: bool,
    #[command(flatten)]
    pub(crate) of: OneMonth,
    #[command(flatten)]
    pub(crate) time: PodTime,
}

/// Check what the database holds of a month, in a pod
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  kubectl monthend verify 2026-10\n  kubectl monthend verify 2026-10 --replay"
)]
pub(crate) struct Verify {
    #[command(flatten)]
    pub(crate) of: OneMonth,
    /// Also price the month again, and compare line by line
    #[arg(long)]
    pub(crate) replay: bool,
    #[command(flatten)]
    pub(crate) time: PodTime,
}

/// Show what was loaded after the cut-off of a month, in a pod
#[derive(Debug, Args)]
pub(crate) struct Late {
    #[command(flatten)]
    pub(crate) of: OneMonth,
    #[command(flatten)]
    pub(crate) time: PodTime,
}

/// Load a folder of this machine, by a pod
///
/// Sends members.csv, subscriptions.csv, grants.csv, adjustments.csv, usage.csv, manifest.yaml and
/// pricebook.yaml, each also as .gz. If the connection breaks, nothing is loaded. Rejected lines come back
/// as FILE.rejects.csv; the exit status is then 3.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  kubectl monthend load ./2026-10 --rejects-dir ./rejects")]
pub(crate) struct Load {
    /// Folder with the files
    #[arg(value_name = "FOLDER", value_hint = clap::ValueHint::DirPath)]
    pub(crate) folder: PathBuf,
    /// Folder that FILE.rejects.csv is written to [default: the folder of the files]
    #[arg(long, value_name = "FOLDER", value_hint = clap::ValueHint::DirPath)]
    pub(crate) rejects_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) time: PodTime,
}

/// Print what a shell needs to complete commands, runs and months
#[derive(Debug, Args)]
#[command(after_help = completion::HELP)]
pub(crate) struct Completion {
    /// Shell; or `kubectl` for the script that kubectl itself calls
    #[arg(value_enum)]
    pub(crate) shell: completion::Shell,
}

#[cfg(test)]
mod tests;
