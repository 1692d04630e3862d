//! What the operator writes is what the worker reads.

use clap::{CommandFactory as _, Parser, Subcommand};

use super::*;

#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, PartialEq, Eq, Subcommand)]
enum Command {
    Bill(BillArgs),
    Publish(PublishArgs),
    Rehearse(RehearseArgs),
}

const RUN_UID: Uuid = Uuid::from_u128(0x1234_5678_9abc);

fn kafka() -> KafkaArgs {
    KafkaArgs {
        brokers: "one:9092,two:9092".to_owned(),
        topic: "bills".to_owned(),
        dlq_topic: "bills.dlq".to_owned(),
        group: "senders".to_owned(),
        partitions: 7,
        replication: 3,
        retention_hours: 99,
    }
}

fn parse(args: Vec<String>) -> Command {
    let words = std::iter::once("monthend".to_owned()).chain(args);
    Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).command
}

#[test]
fn the_worker_parses_what_the_operator_writes() {
    let bill = BillArgs {
        month: "2026-10".parse().unwrap(),
        revision: "12".parse().unwrap(),
        fence: 34,
        run: "billing/october".to_owned(),
        run_uid: RUN_UID,
    };
    assert_eq!(parse(bill.to_args()), Command::Bill(bill));
    let publish =
        PublishArgs { run: "billing/notices".to_owned(), run_uid: RUN_UID, round: 2, kafka: kafka() };
    assert_eq!(parse(publish.to_args()), Command::Publish(publish));
    let rehearse = RehearseArgs {
        run: "billing/notices".to_owned(),
        run_uid: RUN_UID,
        from: "Billing, Inc. <billing@example.com>".to_owned(),
    };
    assert_eq!(parse(rehearse.to_args()), Command::Rehearse(rehearse));
}

#[test]
fn values_that_look_like_options_stay_values() {
    let rehearse =
        RehearseArgs { run: "--from=x".to_owned(), run_uid: RUN_UID, from: "-- <a@example.com>".to_owned() };
    assert_eq!(parse(rehearse.to_args()), Command::Rehearse(rehearse));
}

#[test]
fn the_options_are_well_formed() {
    Cli::command().debug_assert();
}
