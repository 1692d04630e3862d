//! The command line as a whole: the operator and the chart write what it parses.

use std::path::Path;

use clap::CommandFactory as _;
use worker_cli::{BillArgs, KafkaArgs, PublishArgs, RehearseArgs};

use super::*;

#[test]
fn the_command_line_is_well_formed() {
    Cli::command().debug_assert();
}

fn parse(args: Vec<String>) -> Command {
    let words = std::iter::once("monthend".to_owned()).chain(args);
    Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).command
}

#[test]
fn the_operators_jobs_start_these_commands() {
    let run = "billing/october".to_owned();
    let run_uid = "00000000-0000-0000-0000-000000000001".parse().unwrap();
    let bill = BillArgs {
        month: "2026-10".parse().unwrap(),
        revision: "1".parse().unwrap(),
        fence: 7,
        run: run.clone(),
        run_uid,
    };
    // A pod's shard comes from its environment.
    let shard = "--shard=0".to_owned();
    assert!(matches!(parse([bill.to_args(), vec![shard]].concat()), Command::Bill(_)));
    let kafka = KafkaArgs {
        brokers: "kafka:9092".to_owned(),
        topic: "t".to_owned(),
        dlq_topic: "d".to_owned(),
        group: "g".to_owned(),
        partitions: 1,
        replication: 1,
        retention_hours: 24,
    };
    let publish = PublishArgs { run: run.clone(), run_uid, round: 1, kafka };
    assert!(matches!(parse(publish.to_args()), Command::Publish(_)));
    let rehearse = RehearseArgs { run, run_uid, from: "a@example.com".to_owned() };
    assert!(matches!(parse(rehearse.to_args()), Command::Rehearse(_)));
}

/// The arguments of containers that run `monthend`: the lines with `args` after one with its path.
fn chart_arguments(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(chart_arguments(&path));
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let mut lines = text.lines();
        while lines.any(|line| line.contains("/usr/local/bin/monthend]")) {
            found.extend(lines.next().and_then(|line| line.trim().strip_prefix("args: ")).map(str::to_owned));
        }
    }
    found
}

#[test]
fn the_charts_pods_use_commands_and_options_that_exist() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/monthend/templates");
    let all = chart_arguments(Path::new(folder));
    assert!(all.len() >= 3, "the chart runs migrate, notify and check: {all:?}");
    let cli = Cli::command();
    for arguments in all {
        let mut words = arguments.split(['[', ']', ',', ' ']).filter(|word| !word.is_empty());
        let name = words.next().unwrap();
        let command = cli.find_subcommand(name).unwrap_or_else(|| panic!("no command {name}: {arguments}"));
        for option in words.filter_map(|word| word.strip_prefix("--")) {
            let known = command.get_arguments().any(|argument| argument.get_long() == Some(option));
            assert!(known, "{name} has no option --{option}: {arguments}");
        }
    }
}
