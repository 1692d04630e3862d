//! The program as a script runs it, without a cluster: what it prints, and how it exits.

use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kubectl-monthend"))
        .args(arguments)
        .env("KUBECONFIG", "/no/such/kubeconfig")
        .env_remove("COMPLETE")
        .output()
        .expect("the program is built")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the program prints UTF-8")
}

#[test]
fn what_is_wrong_goes_to_standard_error_with_its_exit_status_and_without_colours() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().to_str().unwrap();
    for (arguments, words) in [
        (
            &["status"] as &[&str],
            "error: the kubeconfig /no/such/kubeconfig cannot be read (No such file or directory (os error 2)): set \
             KUBECONFIG, or give --kubeconfig\n",
        ),
        // Said before anybody is asked for a password.
        (
            &["load", "/no/such/folder"],
            "error: cannot open the folder /no/such/folder: No such file or directory",
        ),
        (&["load", empty], "contains nothing to load: none of members.csv"),
        (&["bill", "october"], "`october` is not a month from 2000-01 to 2099-12, written YYYY-MM"),
        (&["aprove"], "a similar subcommand exists: 'approve'"),
        (&[], "Usage: kubectl monthend"),
    ] {
        let output = run(arguments);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains(words), "{arguments:?} says, instead of `{words}`:\n{error}");
        assert!(!error.contains('\u{1b}'), "{arguments:?} has colours: {error:?}");
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
    }
}

#[test]
fn help_teaches_the_month_and_the_exit_status() {
    let help = text(&run(&["--help"]).stdout);
    for part in ["Operate the month of monthend", "kubectl monthend approve", "Exit status:", "--yes"] {
        assert!(help.contains(part), "`{part}` is not in:\n{help}");
    }
    for command in ["bill", "rebill", "approve", "retry", "load", "completion"] {
        let output = run(&[command, "--help"]);
        let help = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{command}");
        // Its own words, and not those of options that it shares.
        assert!(
            !help.starts_with("What every command has") && !help.starts_with("A run, by its name"),
            "{help}"
        );
        assert!(
            help.contains("xample") || help.contains("completion kubectl"),
            "{command} has no example:\n{help}"
        );
    }
    let bill = text(&run(&["bill", "--help"]).stdout);
    assert!(bill.starts_with("Bill a month that is over\n"), "{bill}");
}

#[test]
fn shells_and_kubectl_get_their_scripts() {
    assert_eq!(
        text(&run(&["completion", "kubectl"]).stdout),
        "#!/bin/sh\nexec kubectl-monthend __complete \"$@\"\n"
    );
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completion", shell]);
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).contains("kubectl-monthend"), "{shell}");
    }
    // Without a cluster there are no names to complete, and no error either.
    let candidates = run(&["__complete", "approve", ""]);
    assert_eq!(candidates.status.code(), Some(0));
    assert!(text(&candidates.stdout).ends_with(":4\n"));
    assert_eq!(text(&run(&["__complete", "appr"]).stdout).lines().count(), 2);
}
