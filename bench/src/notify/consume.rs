//! Measures one consumer whose transport sends nothing, from the first outcome to the last.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use secrecy::SecretString;
use store::notification::RunFacts;
use test_servers::Broker;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::compose::FROM;
use super::run::{PARTITIONS, open_targets};
use crate::billing::MONTH;
use crate::process_stats;
use crate::server::{Server, query_value};
use crate::worker_process::WorkerProgram;

/// So many emails share a transaction. A slow mail server would need as many connections.
const SESSIONS: u32 = 64;
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// After so long without progress, the measurement fails.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(60);

/// The result of consuming everything.
pub(crate) struct Consuming {
    /// The outcomes after the first transaction, and the time from that transaction to the last.
    pub(crate) outcomes: u64,
    pub(crate) span: Duration,
    /// From the start of the process to the first outcomes.
    pub(crate) first: Duration,
    pub(crate) sent: u64,
    /// From the start to the end of the process.
    pub(crate) wall: Duration,
    pub(crate) peak_memory: u64,
    pub(crate) cpu: Duration,
    pub(crate) server_cpu: Duration,
    pub(crate) broker_cpu: Duration,
}

pub(crate) async fn measure(
    broker: &Broker,
    worker: &WorkerProgram<'_>,
    server: &Server,
    run: &RunFacts,
) -> anyhow::Result<Consuming> {
    let [port] = test_servers::free_ports()?;
    let listen = format!("127.0.0.1:{port}");
    let arguments = [
        ("--brokers", broker.address()),
        ("--partitions", PARTITIONS.to_string()),
        ("--transport", "mock://".to_owned()),
        ("--from", FROM.to_owned()),
        ("--sessions", SESSIONS.to_string()),
        ("--name", "bench".to_owned()),
        ("--listen", listen.clone()),
    ];
    let arguments = arguments.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
    let before = (server.cpu()?, process_stats::cpu_of_tree(broker.process())?);
    const CLOCK: &str = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint";
    let started = query_value(worker.database, CLOCK).await?;
    let running = worker.start(std::iter::once("notify".to_owned()).chain(arguments))?;
    let result = wait_for_outcomes(worker.database, &listen, run.targets).await;
    // The process is stopped even if the measurement failed.
    let took = running.terminate().await;
    result?;
    let took = took?;
    let after = (server.cpu()?, process_stats::cpu_of_tree(broker.process())?);
    // The database has the times of transactions. The span starts with the first one, so its
    // outcomes are not counted.
    let first = format!(
        "select (extract(epoch from min(ended_at)) * 1000000)::bigint - {started} from notice_target where month = '{MONTH}'"
    );
    let first =
        u64::try_from(query_value(worker.database, &first).await?).context("the clock went backwards")?;
    let ended = format!("from notice_target where month = '{MONTH}'");
    let micros =
        format!("select (extract(epoch from max(ended_at) - min(ended_at)) * 1000000)::bigint {ended}");
    let span =
        u64::try_from(query_value(worker.database, &micros).await?).context("the clock went backwards")?;
    let later = format!("select count(*) {ended} and ended_at > (select min(ended_at) {ended})");
    let sent = format!("select count(*) {ended} and outcome = 'SENT'");
    Ok(Consuming {
        outcomes: query_value(worker.database, &later).await?.unsigned_abs(),
        span: Duration::from_micros(span),
        first: Duration::from_micros(first),
        sent: query_value(worker.database, &sent).await?.unsigned_abs(),
        wall: took.wall,
        peak_memory: took.peak_memory,
        cpu: took.cpu,
        server_cpu: after.0 - before.0,
        broker_cpu: after.1 - before.1,
    })
}

/// Waits for all outcomes. Follows the consumer's metrics, which does not load the database, and
/// asks the database at the end.
async fn wait_for_outcomes(database: &SecretString, listen: &str, targets: i64) -> anyhow::Result<()> {
    let targets = targets.unsigned_abs();
    let (mut ended, mut progress) = (0, Instant::now());
    loop {
        let now = ended_messages(listen).await.unwrap_or_default();
        if now > ended {
            (ended, progress) = (now, Instant::now());
        }
        if ended >= targets && open_targets(database).await? == 0 {
            return Ok(());
        }
        anyhow::ensure!(
            progress.elapsed() < PROGRESS_TIMEOUT,
            "the consumer makes no progress: {ended} of {targets} targets have an outcome"
        );
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// How many emails have an outcome, by the consumer's metrics.
async fn ended_messages(listen: &str) -> anyhow::Result<u64> {
    let mut stream = TcpStream::connect(listen).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n").await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let sends = text.lines().filter(|line| line.starts_with("monthend_notify_sends_total{"));
    Ok(sends.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum())
}
