//! Shell completion, with the runs and months of the cluster: for shells that complete
//! `kubectl-monthend` itself, and for kubectl, which calls `kubectl_complete-monthend`.

use std::ffi::OsString;
use std::time::Duration;

use clap::{CommandFactory as _, ValueEnum};
use clap_complete::CompleteEnv;
use clap_complete::engine::CompletionCandidate;
use kube::ResourceExt as _;

use crate::args::{Cli, GlobalOptions};
use crate::cluster::connect;
use crate::exit::{Exit, Problem, Result};
use crate::output;

/// How long a person who presses Tab waits for the cluster.
const PATIENCE: Duration = Duration::from_secs(2);
/// The hidden sub-command that kubectl's completion calls.
const COMPLETE: &str = "__complete";
/// kubectl's directive: these are all candidates, complete no files.
const NO_FILES: &str = ":4";

pub(crate) const HELP: &str = "\
For `kubectl monthend`, kubectl's own completion has to be on; it calls the script kubectl_complete-monthend on the PATH:
  kubectl monthend completion kubectl > ~/.local/bin/kubectl_complete-monthend
  chmod +x ~/.local/bin/kubectl_complete-monthend

For `kubectl-monthend`, in the shell's start-up file:
  source <(kubectl-monthend completion bash)      # or zsh
  kubectl-monthend completion fish | source";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
    /// The script that kubectl calls
    Kubectl,
}

/// Answers a shell or kubectl that asks for candidates; none if this is an ordinary call.
pub(crate) fn answer() -> Option<Exit> {
    let words: Vec<OsString> = std::env::args_os().collect();
    if words.get(1).is_some_and(|word| word == COMPLETE) {
        output::print(&for_kubectl(words.into_iter().skip(2).collect()));
        return Some(Exit::Done);
    }
    // Ends the process if the shell has set COMPLETE.
    CompleteEnv::with_factory(Cli::command).bin("kubectl-monthend").complete();
    None
}

/// The script for this shell.
pub(crate) fn script(shell: Shell) -> Result {
    let name = match shell {
        Shell::Bash => "bash",
        Shell::Zsh => "zsh",
        Shell::Fish => "fish",
        Shell::Kubectl => {
            output::print(&format!("#!/bin/sh\nexec kubectl-monthend {COMPLETE} \"$@\"\n"));
            return Ok(Exit::Done);
        }
    };
    let mut script = Vec::new();
    let shells = clap_complete::env::Shells::builtins();
    let completer = shells.completer(name).ok_or_else(|| Problem::failed(format!("{name} is not known")))?;
    let program = "kubectl-monthend";
    let written = completer.write_registration("COMPLETE", program, program, program, &mut script);
    written.map_err(|error| Problem::failed(format!("the script cannot be made: {error}")))?;
    output::print(&String::from_utf8_lossy(&script));
    Ok(Exit::Done)
}

/// The candidates for the last word, one on each line with its description, and the directive, as
/// kubectl reads them.
fn for_kubectl(words: Vec<OsString>) -> String {
    let mut args = vec![OsString::from("kubectl-monthend")];
    args.extend(words);
    if args.len() == 1 {
        args.push(OsString::new());
    }
    let last = args.len() - 1;
    let candidates = clap_complete::engine::complete(&mut Cli::command(), args, last, None);
    let mut text = String::new();
    for candidate in candidates.unwrap_or_default() {
        text.push_str(&candidate.get_value().to_string_lossy());
        if let Some(help) = candidate.get_help() {
            let help = help.to_string();
            text.push_str(&format!("\t{}", help.lines().next().unwrap_or_default()));
        }
        text.push('\n');
    }
    text.push_str(NO_FILES);
    text.push('\n');
    text
}

pub(crate) fn months() -> Vec<CompletionCandidate> {
    candidates(|seen| seen.months())
}

pub(crate) fn runs() -> Vec<CompletionCandidate> {
    candidates(|seen| [seen.billing, seen.notification].concat())
}

pub(crate) fn runs_and_months() -> Vec<CompletionCandidate> {
    candidates(|seen| {
        let months = seen.months();
        [seen.billing, seen.notification, months].concat()
    })
}

pub(crate) fn billing_runs_and_months() -> Vec<CompletionCandidate> {
    candidates(|seen| {
        let months = seen.months();
        [seen.billing, months].concat()
    })
}

/// Names and months, each with a description.
struct Seen {
    billing: Vec<(String, String)>,
    notification: Vec<(String, String)>,
    months: Vec<String>,
}

impl Seen {
    fn months(&self) -> Vec<(String, String)> {
        let mut months = self.months.clone();
        months.sort();
        months.dedup();
        months.into_iter().rev().map(|month| (month, "month".to_owned())).collect()
    }
}

fn candidates(of: impl FnOnce(Seen) -> Vec<(String, String)>) -> Vec<CompletionCandidate> {
    // A shell shows no errors: without an answer there are no candidates.
    let Some(seen) = seen() else { return Vec::new() };
    of(seen)
        .into_iter()
        .map(|(value, help)| CompletionCandidate::new(value).help(Some(help.into())))
        .collect()
}

fn seen() -> Option<Seen> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let asked = async {
        let cluster = connect(&options_of(std::env::args_os())).await.ok()?;
        let (billing, notification) =
            tokio::try_join!(cluster.billing_runs(), cluster.notification_runs()).ok()?;
        let months = billing
            .iter()
            .map(|run| run.spec.month.clone())
            .chain(notification.iter().map(|run| run.spec.month.clone()));
        let months = months.collect();
        let help = |phase: Option<String>, month: &str| {
            format!("{month}, {}", phase.unwrap_or_else(|| "Pending".to_owned()))
        };
        let phase = |phase: &dyn std::fmt::Debug| Some(format!("{phase:?}"));
        let of_billing = billing.iter().map(|run| {
            let at = run.status.as_ref().and_then(|status| status.phase.as_ref().and_then(|it| phase(it)));
            (run.name_any(), help(at, &run.spec.month))
        });
        let of_notification = notification.iter().map(|run| {
            let at = run.status.as_ref().and_then(|status| status.phase.as_ref().and_then(|it| phase(it)));
            (run.name_any(), help(at, &run.spec.month))
        });
        Some(Seen { billing: of_billing.collect(), notification: of_notification.collect(), months })
    };
    runtime.block_on(async { tokio::time::timeout(PATIENCE, asked).await.ok().flatten() })
}

/// The options of a half-written command line that say which cluster is meant.
fn options_of(words: impl Iterator<Item = OsString>) -> GlobalOptions {
    let words: Vec<String> = words.filter_map(|word| word.into_string().ok()).collect();
    let value = |names: &[&str]| {
        words.iter().enumerate().find_map(|(at, word)| {
            if names.contains(&word.as_str()) {
                return words.get(at + 1).cloned();
            }
            let (name, value) = word.split_once('=')?;
            names.contains(&name).then(|| value.to_owned())
        })
    };
    GlobalOptions {
        namespace: value(&["-n", "--namespace"]),
        context: value(&["--context"]),
        kubeconfig: value(&["--kubeconfig"]).map(Into::into),
        impersonate: value(&["--as"]),
        ..GlobalOptions::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(words: &[&str]) -> Vec<String> {
        let text = for_kubectl(words.iter().map(OsString::from).collect());
        text.lines().map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect()
    }

    #[test]
    fn kubectl_gets_candidates_and_its_directive() {
        assert_eq!(lines(&["app"]), ["approve", ":4"]);
        assert_eq!(lines(&["re"]), ["rebill", "reject", "retry", "rehearse", "resume", ":4"]);
        let all = lines(&[]);
        assert!(all.contains(&"bill".to_owned()) && all.last().is_some_and(|last| last == ":4"), "{all:?}");
        assert_eq!(lines(&["rebill", "--after-sent", "A"]), ["Adjust", ":4"]);
    }

    #[test]
    fn the_cluster_is_that_of_the_words_before() {
        let words = ["kubectl-monthend", "__complete", "-n", "billing", "--context=prod", "approve", ""];
        let options = options_of(words.iter().map(OsString::from));
        assert_eq!(options.namespace.as_deref(), Some("billing"));
        assert_eq!(options.context.as_deref(), Some("prod"));
        assert_eq!(options.kubeconfig, None);
    }
}
