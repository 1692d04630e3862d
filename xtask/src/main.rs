//! Every developer command. `cargo xtask --help` teaches them.

mod alerts;
mod bench;
mod cache;
mod checks;
mod cluster;
mod daemon;
mod dashboards;
mod demo;
mod docker;
mod exec;
mod glibc;
mod images;
mod interrupt;
mod kafka;
mod mail;
mod packages;
mod paths;
mod postgres;
mod progress;
mod source_layout;
mod stack;
mod suite;
mod tools;

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use crate::cluster::{Cluster, Settings};
use crate::paths::Paths;
use crate::progress::{Progress, seconds};
use crate::stack::BinaryBuild;
use crate::suite::Part;

/// Developer commands of monthend
///
/// A first look:      cargo xtask demo
/// Every test:        cargo xtask test
///
/// A cluster to work with:
///   cargo xtask up                   one command from nothing to a ready operator
///   eval "$(cargo xtask env)"        then kubectl, helm, psql "$DATABASE_URL" and monthend just work
///   cargo xtask up                   again, after a change: builds, loads and rolls out what changed
///   cargo xtask down                 removes every trace but installed packages and caches
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", verbatim_doc_comment, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring a cluster up, generate data, bill last month, e-mail its bills, and print the results
    Demo(Demo),
    /// Bring a cluster up with monthend in it, or bring it up to date
    Up(Up),
    /// Print what a shell needs: eval "$(cargo xtask env)"
    Env,
    /// Remove the cluster and all its data, but not what is cached
    Down,
    /// Build the images and load them into the cluster
    Images(Profile),
    /// Run every test, or a part of them; a cluster that is up is used and stays up
    Test(Test),
    /// Measure against references: `cargo xtask bench billing`, `cargo xtask bench notify`
    Bench {
        /// What to measure, and its options: see `cargo xtask bench notify --help`
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "WHAT")]
        arguments: Vec<String>,
    },
    /// Format, lints, dependencies
    #[command(alias = "check")]
    Lint,
    /// Write the generated files: crds/, the chart's copies of it and of grafana/, .sqlx/
    Codegen {
        /// Only say whether they are up to date
        #[arg(long)]
        check: bool,
    },
}

#[derive(Debug, Args)]
struct Profile {
    /// The cargo profile of operator and monthend
    #[arg(long, value_parser = ["release", "dev"], default_value = "release")]
    profile: String,
}

#[derive(Debug, Args)]
struct Up {
    /// The time zone of the installation [default: Asia/Seoul]
    #[arg(long, value_name = "IANA NAME")]
    time_zone: Option<String>,
    /// The currency of the installation [default: KRW]
    #[arg(long, value_name = "ISO 4217")]
    currency: Option<String>,
    /// The language of members who have none of their own, such as ko or en [default: ko]
    #[arg(long)]
    locale: Option<String>,
    #[command(flatten)]
    profile: Profile,
}

#[derive(Debug, Args)]
struct Demo {
    #[command(flatten)]
    up: Up,
    /// How many members to generate
    #[arg(long, default_value_t = 1_000_000)]
    members: u64,
    /// How many usage rows a member has
    #[arg(long, default_value_t = 5)]
    usage_per_member: u64,
}

#[derive(Debug, Args)]
struct Test {
    /// Only this part [default: all, in this order]
    part: Option<Part>,
    /// For the test programs: `-- NAME` runs the tests with that in their name
    #[arg(last = true)]
    filter: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<()> {
    let paths = Paths::find()?;
    let progress = Progress::new();
    interrupt::install()?;
    match command {
        Command::Demo(demo) => {
            let cluster = self::up(&paths, &progress, &demo.up)?;
            let size = demo::Size { members: demo.members, usage_per_member: demo.usage_per_member };
            demo::run(&paths, &progress, &cluster, &size)?;
        }
        Command::Up(up) => {
            self::up(&paths, &progress, up)?;
            eprintln!("up in {}; next: eval \"$(cargo xtask env)\"", seconds(progress.elapsed()));
        }
        Command::Env => {
            let cluster = Cluster::existing(&paths)?;
            let exports = stack::exports(&stack::environment(&paths, &cluster)?);
            std::io::stdout().write_all(exports.as_bytes()).context("cannot print")?;
        }
        Command::Down => cluster::down(&paths, &progress)?,
        Command::Test(test) => {
            suite::run(&paths, &progress, test.part, &test.filter)?;
        }
        Command::Bench { arguments } => bench::run(&paths, &progress, arguments)?,
        Command::Lint => checks::lint(&paths, &progress)?,
        Command::Codegen { check } => checks::codegen(&paths, &progress, *check, None)?,
        Command::Images(profile) => {
            let cluster = Cluster::existing(&paths)?;
            let binaries = BinaryBuild::start(&paths, &profile.profile)?.wait(&progress)?;
            images::ensure(&paths, &progress, &cluster, &binaries)?;
        }
    }
    Ok(())
}

fn up(paths: &Paths, progress: &Progress, up: &Up) -> Result<Cluster> {
    let settings = Settings {
        time_zone: up.time_zone.clone(),
        currency: up.currency.clone(),
        locale: up.locale.clone(),
    };
    let profile = &up.profile.profile;
    // Beside making the cluster, which waits for the network and for the node for minutes.
    let build = BinaryBuild::start(paths, profile)?;
    let mut cluster = Cluster::up(paths, progress, &settings)?;
    let binaries = build.wait(progress)?;
    stack::install(paths, progress, &mut cluster, profile, &binaries)?;
    Ok(cluster)
}
