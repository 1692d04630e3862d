//! Apache Kafka: its jars, which the development stack's image is made of too, and a private broker
//! on this machine for the tests that need one and no cluster.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use test_servers::{Broker, Java};

use crate::paths::Paths;
use crate::progress::Progress;
use crate::{cache, exec, packages};

/// The folder of the jars.
pub(crate) fn jars(paths: &Paths, progress: &Progress) -> Result<PathBuf> {
    let pom = paths.repo.join("xtask/tools/kafka/pom.xml");
    let sources = [pom.clone()];
    let folder = cache::folder(paths, progress, "kafka", &sources, &packages::MAVEN, |folder| {
        exec::run(
            Command::new("mvn")
                .args(["--batch-mode", "--quiet", "--strict-checksums", "--file"])
                .arg(&pom)
                .args(["dependency:copy-dependencies", "-DincludeScope=runtime"])
                .arg(format!("-DoutputDirectory={}", folder.join("lib").display())),
            &paths.log("kafka"),
        )
    })?;
    Ok(folder.join("lib"))
}

/// Ended with its value.
pub(crate) fn start(paths: &Paths, progress: &Progress) -> Result<Broker> {
    let jars = jars(paths, progress)?;
    packages::ensure(paths, progress, &packages::JAVA)?;
    progress.step("private Kafka", |step| {
        let broker = Broker::start(&jars, Java::Small)?;
        step.note(format!("port {}", broker.port()));
        Ok(broker)
    })
}
