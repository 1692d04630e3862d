//! `cargo xtask bench`: builds what is measured and what measures it, for release. The figures and
//! the verdict are the bench's own.

use std::process::Command;

use anyhow::Result;

use crate::checks::cargo;
use crate::paths::Paths;
use crate::progress::Progress;
use crate::{exec, kafka, packages};

pub(crate) fn run(paths: &Paths, progress: &Progress, arguments: &[String]) -> Result<()> {
    packages::ensure(paths, progress, &packages::POSTGRES)?;
    packages::ensure(paths, progress, &packages::JAVA)?;
    let jars = kafka::jars(paths, progress)?;
    let build = ["build", "--release", "--package", "worker", "--package", "bench"];
    exec::inherit(cargo(paths).args(build))?;
    exec::inherit(Command::new(paths.target.join("release/bench")).env("KAFKA_HOME", jars).args(arguments))
}
