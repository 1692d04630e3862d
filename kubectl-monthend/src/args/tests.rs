//! What is wrong on a command line, and the words for it.

use clap::CommandFactory as _;

use super::*;

fn refused(line: &str) -> String {
    let words = line.split(' ');
    match Cli::try_parse_from(words) {
        Ok(cli) => panic!("`{line}` was taken: {cli:?}"),
        Err(error) => {
            assert_eq!(error.exit_code(), 2, "{line}");
            error.to_string()
        }
    }
}

#[test]
fn the_command_line_is_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn a_wrong_command_line_is_explained() {
    for (line, words) in [
        (
            "kubectl-monthend bill 2026-13",
            "`2026-13` is not a month from 2000-01 to 2099-12, written YYYY-MM",
        ),
        (
            "kubectl-monthend bill october",
            "`october` is not a month from 2000-01 to 2099-12, written YYYY-MM",
        ),
        ("kubectl-monthend bill", "the following required arguments were not provided"),
        ("kubectl-monthend rebill 2026-10", "--reason <TEXT>"),
        ("kubectl-monthend rollback 2026-10", "--reason <TEXT>"),
        (
            "kubectl-monthend rebill 2026-10 --reason x --select Late --members 1",
            "the argument '--select <WHICH>' cannot be used with '--members <ID,…>'",
        ),
        (
            "kubectl-monthend rebill 2026-10 --reason x --members 1 --range 1-2",
            "the argument '--members <ID,…>' cannot be used with '--range <FROM-TO>'",
        ),
        (
            "kubectl-monthend rebill 2026-10 --reason x --range 9-1",
            "`9-1` is not a range of ids such as 1-1000",
        ),
        ("kubectl-monthend rebill 2026-10 --reason x --members 0", "0 is not in 1.."),
        ("kubectl-monthend rollback 2026-10 --reason x --of-revision 0", "0 is not in 1.."),
        ("kubectl-monthend notify 2026-10 --select Failed", "[possible values: Ready, Corrected, Skipped]"),
        ("kubectl-monthend notify 2026-10 --max-per-second 0", "0 is not in 1..=100000"),
        ("kubectl-monthend bill 2026-10 --max-quarantined lots", "\"lots\" is neither a count such as 100"),
        ("kubectl-monthend bill 2026-10 --timeout soon", "`soon` is not a time such as 30s, 10m or 2h"),
        ("kubectl-monthend explain abc 2026-10", "invalid value 'abc' for '<MEMBER>'"),
        ("kubectl-monthend explain 2026-10", "invalid value '2026-10' for '<MEMBER>'"),
        ("kubectl-monthend explain 1042", "required arguments were not provided"),
        ("kubectl-monthend status --database", "required arguments were not provided"),
        ("kubectl-monthend suspend", "<RUN>"),
        ("kubectl-monthend aprove", "a similar subcommand exists: 'approve'"),
        ("kubectl-monthend status -o xml", "[possible values: table, json, yaml, name]"),
        ("kubectl-monthend completion tcsh", "[possible values: bash, zsh, fish, kubectl]"),
    ] {
        let error = refused(line);
        assert!(error.contains(words), "`{line}` says, instead of `{words}`:\n{error}");
    }
}

#[test]
fn options_of_kubectl_are_taken_before_and_behind_the_command() {
    for line in [
        "kubectl-monthend -n billing --context prod status 2026-10 -o json",
        "kubectl-monthend status 2026-10 --namespace billing --context=prod --output json",
        // An alias may have an option already: as with kubectl, the last one counts.
        "kubectl-monthend -n other --context prod status -n billing 2026-10 -o yaml -o json",
    ] {
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        assert_eq!(cli.global.namespace.as_deref(), Some("billing"), "{line}");
        assert_eq!(cli.global.context.as_deref(), Some("prod"), "{line}");
        assert_eq!(cli.global.output, Some(Output::Json), "{line}");
    }
}

#[test]
fn a_month_is_needed_only_where_there_is_no_answer_for_all() {
    let parsed = |line: &str| Cli::try_parse_from(line.split(' ')).unwrap().command;
    let month = Some("2026-10".parse().unwrap());
    for (line, expected) in [("kubectl-monthend status", None), ("kubectl-monthend status 2026-10", month)] {
        assert!(matches!(parsed(line), Command::Status(status) if status.of.month == expected), "{line}");
    }
    for (line, expected) in [("kubectl-monthend log", None), ("kubectl-monthend log 2026-10", month)] {
        assert!(matches!(parsed(line), Command::Log(log) if log.of.month == expected), "{line}");
    }
    for command in ["bill", "notify", "retry", "rehearse", "late", "verify", "explain 1"] {
        let error = refused(&format!("kubectl-monthend {command}"));
        assert!(error.contains("not provided:\n  <MONTH>"), "{command}: {error}");
    }
}

#[test]
fn every_command_has_help() {
    for command in Cli::command().get_subcommands() {
        assert!(command.get_about().is_some(), "{} has no help", command.get_name());
        for argument in command.get_arguments() {
            let id = argument.get_id();
            assert!(argument.get_help().is_some(), "{} {id} has no help", command.get_name());
        }
    }
}
