//! A private Kafka broker, its own controller.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use crate::{free_ports, run};

/// Any will do: nothing else joins.
const CLUSTER_ID: &str = "bW9udGhlbmQtYnJva2VyMQ";
const PATIENCE: Duration = Duration::from_secs(60);

/// How the broker's Java is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Java {
    /// For a short life on a shared machine: no second compiler, no heap to speak of.
    Small,
    /// For measurements: as Kafka would run anywhere.
    Full,
}

pub struct Broker {
    jars: PathBuf,
    java: Java,
    folder: TempDir,
    port: u16,
    process: Child,
}

impl Broker {
    /// Starts a broker of the jars in a folder, and waits until it listens. It has no topics, and makes none by itself.
    ///
    /// # Errors
    /// There is no Java, or the broker does not start.
    pub fn start(jars: &Path, java: Java) -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("monthend-kafka-").tempdir().context("no room for a broker")?;
        let [port, controller] = free_ports()?;
        let configuration = configuration(folder.path());
        fs::write(&configuration, properties(port, controller, &folder.path().join("data")))
            .with_context(|| format!("cannot write {}", configuration.display()))?;
        run(tool(jars, Java::Small, "kafka.tools.StorageTool")
            .args(["format", "--cluster-id", CLUSTER_ID, "--config"])
            .arg(&configuration))
        .context("Kafka's storage cannot be made: is there Java (`apt-get install default-jre-headless`)?")?;
        let process = spawn(jars, java, folder.path())?;
        let mut broker = Self { jars: jars.to_owned(), java, folder, port, process };
        broker.listens()?;
        Ok(broker)
    }

    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    #[must_use]
    pub fn process(&self) -> u32 {
        self.process.id()
    }

    /// One of Kafka's own tools, by its class.
    #[must_use]
    pub fn tool(&self, class: &str) -> Command {
        tool(&self.jars, self.java, class)
    }

    /// Kills it, as a machine that fails would.
    ///
    /// # Errors
    /// It was not there.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill().and_then(|()| self.process.wait()).context("the broker could not be ended")?;
        Ok(())
    }

    /// Starts it again with the data that it had, and waits until it listens.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_again(&mut self) -> Result<()> {
        self.process = spawn(&self.jars, self.java, self.folder.path())?;
        self.listens()
    }

    fn listens(&mut self) -> Result<()> {
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let log = || fs::read_to_string(log(self.folder.path())).unwrap_or_default();
            if let Some(status) = self.process.try_wait().context("cannot watch the broker")? {
                bail!("the broker ended with {status}:\n{}", log());
            }
            ensure!(begun.elapsed() < PATIENCE, "the broker does not listen:\n{}", log());
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Its data goes with it: nothing is worth an orderly end. One that was killed has ended already.
        let ended = matches!(self.process.try_wait(), Ok(Some(_)));
        if let Some(error) = Some(self).filter(|_| !ended).and_then(|broker| broker.kill().err()) {
            eprintln!("{error:#}");
        }
    }
}

fn configuration(folder: &Path) -> PathBuf {
    folder.join("server.properties")
}

fn log(folder: &Path) -> PathBuf {
    folder.join("server.log")
}

fn spawn(jars: &Path, java: Java, folder: &Path) -> Result<Child> {
    let log = log(folder);
    let output = File::options().create(true).append(true).open(&log);
    let output = output.with_context(|| format!("cannot write {}", log.display()))?;
    let errors = output.try_clone().with_context(|| format!("cannot write {}", log.display()))?;
    tool(jars, java, "kafka.Kafka")
        .arg(configuration(folder))
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .context("cannot run java")
}

fn tool(jars: &Path, java: Java, class: &str) -> Command {
    let mut command = Command::new("java");
    command.args(match java {
        Java::Small => &["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"][..],
        Java::Full => &["-Xmx1g"],
    });
    command.args(["-Dlog4j2.level=WARN", "--class-path"]).arg(jars.join("*")).arg(class);
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
