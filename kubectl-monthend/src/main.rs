//! `kubectl monthend`: operates the month from a command line. Owns the dispatch of commands; what
//! they create is in [`plan`], what they print in [`render`], and what they ask of Kubernetes in
//! [`cluster`] and [`pod`].
//!
//! Knows neither the database nor the worker's code: what needs the database runs in a pod.

mod args;
mod clock;
mod cluster;
mod commands;
mod completion;
mod exit;
#[cfg(test)]
mod mock_server;
mod output;
mod plan;
mod pod;
mod question;
mod render;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::Cli;
use crate::exit::Exit;

fn main() -> ExitCode {
    if let Some(exit) = completion::answer() {
        return exit.into();
    }
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::error(&format!("the program cannot start: {error}"));
            return Exit::Failed.into();
        }
    };
    let done = runtime.block_on(commands::run(&cli));
    // Without waiting for a thread that still reads a file.
    runtime.shutdown_background();
    match done {
        Ok(exit) => exit.into(),
        Err(problem) => {
            output::error(&problem.text);
            problem.exit.into()
        }
    }
}
