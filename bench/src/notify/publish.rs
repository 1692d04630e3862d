//! Measures publishing against Kafka's own load tool: the same number of messages, with the same
//! size, acknowledgements and partitions, at the same broker.

use std::fmt::Write as _;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use domain::notification_message::NotificationMessageWriter;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use store::notification::{BillKey, RunFacts};
use test_servers::Broker;

use super::run::{PARTITIONS, RUN, RUN_UID};
use crate::progress::print_step;
use crate::server::Server;
use crate::worker_process::{ProcessCost, WorkerProgram};

/// Payloads that the load tool picks from. It keeps them in memory.
const PAYLOADS: usize = 10_000;
const REFERENCE_TOPIC: &str = "reference";
const TOPIC: &str = "monthend.notices";
/// The configuration of the worker's producer, in the names of the Java client. Both wait equally
/// long to fill a batch.
const PRODUCER: [&str; 5] =
    ["acks=all", "enable.idempotence=true", "compression.type=lz4", "linger.ms=10", "batch.size=262144"];

/// The result of publishing everything once.
pub(crate) struct Publishing {
    pub(crate) messages: u64,
    pub(crate) took: ProcessCost,
    /// The load tool's better time of two, one before and one after publishing.
    pub(crate) reference: Duration,
    /// Bytes of one message without its key.
    pub(crate) size: usize,
}

pub(crate) async fn measure(
    broker: &Broker,
    worker: &WorkerProgram<'_>,
    server: &Server,
    run: &RunFacts,
    targets: &[BillKey],
) -> anyhow::Result<Publishing> {
    let mut payloads = String::new();
    let mut writer = NotificationMessageWriter::new(run.month, RUN);
    // The sample covers the whole range, as ids grow longer.
    for target in targets.iter().step_by(targets.len().div_ceil(PAYLOADS).max(1)) {
        let (_, payload) = writer.message(target.member, target.revision);
        writeln!(payloads, "{}", std::str::from_utf8(payload)?)?;
    }
    let size = payloads.len() / payloads.lines().count().max(1) - 1;
    let file = broker.folder().join("payloads");
    std::fs::write(&file, payloads)?;
    make_topics(broker).await?;

    let reference = || -> anyhow::Result<Duration> {
        print_step(format_args!("kafka-producer-perf-test, {} messages of {size} bytes", targets.len()));
        let mut command = broker.tool("org.apache.kafka.tools.ProducerPerformance");
        command
            .args(["--topic", REFERENCE_TOPIC, "--throughput", "-1", "--num-records"])
            .arg(targets.len().to_string())
            .arg("--payload-file")
            .arg(&file)
            .arg("--producer-props")
            .arg(format!("bootstrap.servers={}", broker.address()))
            .args(PRODUCER);
        let output = command.stderr(Stdio::inherit()).output()?;
        let stdout = String::from_utf8_lossy(&output.stdout);
        let rate = output.status.success().then(|| rate(&stdout, targets.len())).flatten();
        let rate = rate.with_context(|| format!("the load tool did not report a rate:\n{stdout}"))?;
        let micros = u64::try_from(targets.len())? * 1_000_000 / rate.max(1);
        Ok(Duration::from_micros(micros))
    };
    let before = reference()?;
    print_step(format_args!("monthend publish"));
    let cpu = server.cpu()?;
    let options = [
        ("--run", RUN.to_owned()),
        ("--run-uid", RUN_UID.to_string()),
        ("--round", run.round.to_string()),
        ("--brokers", broker.address()),
        ("--partitions", PARTITIONS.to_string()),
    ];
    let arguments = options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
    let took = worker.run(std::iter::once("publish".to_owned()).chain(arguments)).await?;
    let server_cpu = server.cpu()? - cpu;
    let after = reference()?;
    print_step(format_args!("published in {:?}; the database used {server_cpu:?} of CPU time", took.wall));
    Ok(Publishing { messages: targets.len().try_into()?, took, reference: before.min(after), size })
}

async fn make_topics(broker: &Broker) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", broker.address()).create()?;
    let topic = |name| NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1));
    for result in admin.create_topics(&[topic(REFERENCE_TOPIC), topic(TOPIC)], &AdminOptions::new()).await? {
        result.map_err(|(topic, code)| anyhow::anyhow!("cannot create topic {topic}: {code}"))?;
    }
    Ok(())
}

/// Messages a second, from the load tool's last line: `1000000 records sent, 412371.1 records/sec
/// (…), …`.
fn rate(stdout: &str, messages: usize) -> Option<u64> {
    let line = stdout.lines().rev().find(|line| line.starts_with(&format!("{messages} records sent")))?;
    let rate = line.split(", ").nth(1)?.split_once(" records/sec")?.0;
    rate.split('.').next()?.parse().ok()
}
