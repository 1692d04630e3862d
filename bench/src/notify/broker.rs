//! A Kafka broker of this program's own, gone with its value.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;

use super::PARTITIONS;
use crate::cpu;

const CLUSTER_ID: &str = "bW9udGhlbmQtYmVuY2gtMQ";
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Broker {
    folder: tempfile::TempDir,
    jars: PathBuf,
    process: Child,
    port: u16,
}

impl Broker {
    pub(crate) async fn start(jars: &Path) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("monthend-bench-kafka-").tempdir()?;
        let [port, controller] = [free_port()?, free_port()?];
        let configuration = folder.path().join("server.properties");
        let data = folder.path().join("data");
        std::fs::write(&configuration, properties(port, controller, &data))?;
        let formatted = java(jars)
            .args(["kafka.tools.StorageTool", "format", "--cluster-id", CLUSTER_ID, "--config"])
            .arg(&configuration)
            .stdout(Stdio::null())
            .status()
            .context("cannot run java: install it with `apt-get install default-jre-headless`")?;
        anyhow::ensure!(formatted.success(), "Kafka's storage could not be formatted: {formatted}");
        let log = std::fs::File::create(folder.path().join("log"))?;
        let process =
            java(jars).arg("kafka.Kafka").arg(&configuration).stdout(log.try_clone()?).stderr(log).spawn()?;
        let mut broker = Self { folder, jars: jars.to_owned(), process, port };
        broker.answers().await?;
        Ok(broker)
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// One of Kafka's own tools.
    pub(crate) fn tool(&self, class: &str) -> Command {
        let mut command = java(&self.jars);
        command.arg(class);
        command
    }

    /// CPU time of the broker so far.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        cpu::of_tree(self.process.id())
    }

    pub(crate) async fn create_topic(&self, name: &str) -> anyhow::Result<()> {
        let admin = self.admin()?;
        let topic = NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1));
        for result in admin.create_topics([&topic], &AdminOptions::new()).await? {
            result.map_err(|(topic, code)| anyhow::anyhow!("cannot create topic {topic}: {code}"))?;
        }
        Ok(())
    }

    fn admin(&self) -> anyhow::Result<AdminClient<DefaultClientContext>> {
        Ok(ClientConfig::new().set("bootstrap.servers", self.address()).create()?)
    }

    async fn answers(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        while tokio::net::TcpStream::connect(self.address()).await.is_err() {
            if let Some(status) = self.process.try_wait()? {
                let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                bail!("the broker ended with {status}:\n{log}");
            }
            anyhow::ensure!(begun.elapsed() < PATIENCE, "the broker did not answer for {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Its data goes with it: nothing is worth an orderly end.
        if self.process.kill().and_then(|()| self.process.wait()).is_err() {
            eprintln!("bench: the broker in {} could not be ended", self.folder.path().display());
        }
    }
}

pub(super) fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn java(jars: &Path) -> Command {
    let mut command = Command::new("java");
    command.args(["-Xmx1g", "-Dlog4j2.level=WARN", "--class-path"]).arg(jars.join("*"));
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
