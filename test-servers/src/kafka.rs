//! A private Kafka broker that is its own controller.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use crate::command::run;
use crate::ports::free_ports;

/// Any id works, because no other broker joins.
const CLUSTER_ID: &str = "bW9udGhlbmQtYnJva2VyMQ";
const START_LIMIT: Duration = Duration::from_secs(60);

/// The settings of the broker's JVM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Java {
    /// For tests: a small heap and no second compiler, so that it starts fast.
    Small,
    /// For measurements: as in production.
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
    /// Starts a broker from the jars in a folder and waits until it listens. It has no topics and
    /// creates none by itself.
    ///
    /// # Errors
    /// Java is not installed, or the broker does not start.
    pub fn start(jars: &Path, java: Java) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("monthend-kafka-")
            .tempdir()
            .context("cannot create a folder for the broker")?;
        let [port, controller] = free_ports()?;
        let configuration = configuration(folder.path());
        fs::write(&configuration, properties(port, controller, &folder.path().join("data")))
            .with_context(|| format!("cannot write {}", configuration.display()))?;
        run(tool(jars, Java::Small, "kafka.tools.StorageTool")
            .args(["format", "--cluster-id", CLUSTER_ID, "--config"])
            .arg(&configuration))
        .context("cannot format Kafka's storage; Java is required: `apt-get install default-jre-headless`")?;
        let process = spawn(jars, java, folder.path())?;
        let mut broker = Self { jars: jars.to_owned(), java, folder, port, process };
        broker.wait_until_listening()?;
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

    /// One of Kafka's command-line tools, by its class.
    #[must_use]
    pub fn tool(&self, class: &str) -> Command {
        tool(&self.jars, self.java, class)
    }

    /// Kills the broker, as if its machine failed.
    ///
    /// # Errors
    /// The broker has ended already.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill().and_then(|()| self.process.wait()).context("cannot kill the broker")?;
        Ok(())
    }

    /// Starts the broker again with its data and waits until it listens.
    ///
    /// # Errors
    /// The broker does not start.
    pub fn start_again(&mut self) -> Result<()> {
        self.process = spawn(&self.jars, self.java, self.folder.path())?;
        self.wait_until_listening()
    }

    fn wait_until_listening(&mut self) -> Result<()> {
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let log = || fs::read_to_string(log(self.folder.path())).unwrap_or_default();
            if let Some(status) = self.process.try_wait().context("cannot watch the broker")? {
                bail!("the broker exited with {status}:\n{}", log());
            }
            ensure!(begun.elapsed() < START_LIMIT, "the broker does not listen:\n{}", log());
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // The data is deleted anyway, so the broker is killed, unless it was killed before.
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
