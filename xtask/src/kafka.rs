//! Apache Kafka: its jars, which the development stack's image is made of too,
//! and a private broker on this machine for the tests that need one and no
//! cluster. In a temporary folder, on free ports, ended and removed with its
//! value.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::cache;
use crate::exec;
use crate::packages;
use crate::paths::Paths;
use crate::ports;
use crate::progress::{Progress, wait_for};

const PATIENCE: Duration = Duration::from_secs(60);

/// Any will do: nothing else joins.
const CLUSTER_ID: &str = "bW9udGhlbmQtdGVzdHMtMQ";

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

/// One broker that is its own controller.
pub(crate) struct Broker {
    jars: PathBuf,
    folder: TempDir,
    process: Child,
    port: u16,
}

impl Broker {
    pub(crate) fn start(paths: &Paths, progress: &Progress) -> Result<Self> {
        let jars = jars(paths, progress)?;
        packages::ensure(paths, progress, &packages::JAVA)?;
        progress.step("private Kafka", |step| {
            let folder = tempfile::Builder::new()
                .prefix("monthend-kafka-")
                .tempdir()
                .context("no room for a broker")?;
            let [port, controller] = ports::free()?;
            let configuration = folder.path().join("server.properties");
            let data = folder.path().join("data");
            fs::write(&configuration, properties(port, controller, &data))
                .with_context(|| format!("cannot write {}", configuration.display()))?;
            exec::run(
                java(&jars)
                    .args(["kafka.tools.StorageTool", "format", "--cluster-id", CLUSTER_ID, "--config"])
                    .arg(&configuration),
                &paths.log("kafka"),
            )?;
            let log = folder.path().join("server.log");
            let output = exec::append(&log)?;
            let errors = output.try_clone().with_context(|| format!("cannot write {}", log.display()))?;
            let process = java(&jars)
                .arg("kafka.Kafka")
                .arg(&configuration)
                .stdin(Stdio::null())
                .stdout(output)
                .stderr(errors)
                .spawn()
                .context("cannot run java: is it installed?")?;
            let mut broker = Self { jars, folder, process, port };
            broker.answers(&log)?;
            step.note(format!("port {port}"));
            Ok(broker)
        })
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// For tests that want a broker of their own to end.
    pub(crate) fn jars(&self) -> String {
        self.jars.to_string_lossy().into_owned()
    }

    fn answers(&mut self, log: &Path) -> Result<()> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        wait_for(
            PATIENCE,
            || {
                if let Some(status) = self.process.try_wait().context("cannot watch the broker")? {
                    bail!("the broker ended: {status}\n{}", exec::tail(log));
                }
                Ok(TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok().map(drop))
            },
            || format!("the broker does not listen\n{}", exec::tail(log)),
        )
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Its data goes with it: nothing is worth an orderly end.
        if self.process.kill().and_then(|()| self.process.wait()).is_err() {
            eprintln!("Kafka in {} could not be ended", self.folder.path().display());
        }
    }
}

/// A short life on a shared machine: no second compiler, no heap to speak of.
fn java(jars: &Path) -> Command {
    let mut command = Command::new("java");
    command
        .args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dlog4j2.level=WARN"])
        .arg("--class-path")
        .arg(jars.join("*"));
    command
}

fn properties(port: u16, controller: u16, data: &Path) -> String {
    format!(
        "node.id=1
process.roles=broker,controller
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
log.dirs={}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
",
        data.display()
    )
}
