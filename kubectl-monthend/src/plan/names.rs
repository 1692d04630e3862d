//! The names of runs: the same command gives the same name, so that a command that is repeated by
//! mistake meets its own run.

use api::run::Run;
use kube::ResourceExt as _;

use crate::exit::{Problem, Result};

/// A run that exists.
#[derive(Debug, Clone)]
pub(crate) struct Existing {
    pub(crate) name: String,
    pub(crate) finished: bool,
    pub(crate) deleting: bool,
}

impl Existing {
    pub(crate) fn all<R: Run>(runs: &[R]) -> Vec<Self> {
        let existing = |run: &R| Self {
            name: run.name_any(),
            finished: run.is_over(),
            deleting: run.meta().deletion_timestamp.is_some(),
        };
        runs.iter().map(existing).collect()
    }
}

/// The base name, or the first one with a number behind it that no run has. Behind a finished run
/// comes another; an unfinished one is what the command asks for already.
pub(crate) fn free_name(kind: &str, base: &str, existing: &[Existing]) -> Result<String> {
    let candidates = std::iter::once(base.to_owned()).chain((2..).map(|number| format!("{base}-{number}")));
    for name in candidates {
        match existing.iter().find(|run| run.name == name) {
            None => return Ok(name),
            Some(run) if run.finished => {}
            Some(run) if run.deleting => {
                return Err(Problem::try_again(format!(
                    "{kind} {name} is being deleted: try again when it is gone, or give another --name"
                )));
            }
            Some(_) => {
                return Err(Problem::usage(format!(
                    "{kind} {name} exists already and is not finished: follow it with `kubectl monthend watch {name}`, \
                     or give another --name"
                )));
            }
        }
    }
    unreachable!("the numbers do not end")
}

/// The base name with the first free number, from 1. For runs of which a month has many.
pub(crate) fn numbered_name(kind: &str, base: &str, existing: &[Existing]) -> Result<String> {
    let numbered = |number: u32| format!("{base}-{number}");
    let open =
        (1..=1000).map(numbered).find(|name| existing.iter().any(|run| run.name == *name && !run.finished));
    if let Some(name) = open {
        return free_name(kind, &name, existing);
    }
    let free = (1..).map(numbered).find(|name| existing.iter().all(|run| run.name != *name));
    Ok(free.expect("the numbers do not end"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(runs: &[(&str, bool)]) -> Vec<Existing> {
        let existing = |(name, finished): &(&str, bool)| Existing {
            name: (*name).to_owned(),
            finished: *finished,
            deleting: false,
        };
        runs.iter().map(existing).collect()
    }

    #[test]
    fn a_finished_run_is_followed_by_another_name() {
        for (existing, name) in [
            (vec![], "billing-2026-10"),
            (vec![("billing-2026-09", false)], "billing-2026-10"),
            (vec![("billing-2026-10", true)], "billing-2026-10-2"),
            (vec![("billing-2026-10", true), ("billing-2026-10-2", true)], "billing-2026-10-3"),
        ] {
            assert_eq!(free_name("BillingRun", "billing-2026-10", &runs(&existing)), Ok(name.to_owned()));
        }
    }

    #[test]
    fn the_name_of_a_run_that_is_being_deleted_is_free_soon() {
        let mut existing = runs(&[("rebilling-2026-10-r2", false)]);
        existing[0].deleting = true;
        assert_eq!(
            free_name("BillingRun", "rebilling-2026-10-r2", &existing),
            Err(Problem::try_again(
                "BillingRun rebilling-2026-10-r2 is being deleted: try again when it is gone, or give another --name"
            ))
        );
    }

    #[test]
    fn an_unfinished_run_is_not_asked_for_twice() {
        let existing = [("billing-2026-10", true), ("billing-2026-10-2", false)];
        let problem = free_name("BillingRun", "billing-2026-10", &runs(&existing)).unwrap_err();
        assert_eq!(
            problem,
            Problem::usage(
                "BillingRun billing-2026-10-2 exists already and is not finished: follow it with \
                 `kubectl monthend watch billing-2026-10-2`, or give another --name"
            )
        );
    }

    #[test]
    fn retries_are_numbered() {
        for (existing, name) in [
            (vec![], "retry-2026-10-1"),
            (vec![("retry-2026-10-1", true), ("retry-2026-10-3", true)], "retry-2026-10-2"),
        ] {
            assert_eq!(
                numbered_name("NotificationRun", "retry-2026-10", &runs(&existing)),
                Ok(name.to_owned())
            );
        }
        let open = runs(&[("retry-2026-10-2", false)]);
        assert!(numbered_name("NotificationRun", "retry-2026-10", &open).is_err());
    }
}
