//! One consumer with a sender that does nothing, from the first outcome to the last.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use secrecy::SecretString;
use store::notification::RunFacts;
use test_servers::Broker;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::compose::FROM;
use super::{MONTH, PARTITIONS};
use crate::cpu;
use crate::seed::one;
use crate::server::Server;
use crate::workers::Worker;

/// As many mails share a transaction; a server that takes its time would want as many.
const SESSIONS: u32 = 64;
const LOOK: Duration = Duration::from_millis(200);
/// Without any progress for so long, it is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// What consuming everything took.
pub(crate) struct Consuming {
    /// Outcomes after the first ones, and the time between these and the last.
    pub(crate) outcomes: u64,
    pub(crate) span: Duration,
    /// From the start of the process to the first outcomes.
    pub(crate) first: Duration,
    pub(crate) sent: u64,
    /// Whole life of the process, start and end included.
    pub(crate) wall: Duration,
    pub(crate) peak_memory: u64,
    pub(crate) cpu: Duration,
    pub(crate) server_cpu: Duration,
    pub(crate) broker_cpu: Duration,
}

pub(crate) async fn measure(
    broker: &Broker,
    worker: &Worker<'_>,
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
    let before = (server.cpu()?, cpu::of_tree(broker.process())?);
    const CLOCK: &str = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint";
    let started = one(worker.database, CLOCK).await?;
    let running = worker.start(std::iter::once("notify".to_owned()).chain(arguments))?;
    let result = until_all_ended(worker.database, &listen, run.targets).await;
    // Whatever came of it, the process is ended in order.
    let took = running.terminate().await;
    result?;
    let took = took?;
    let after = (server.cpu()?, cpu::of_tree(broker.process())?);
    // Times in the database are those of transactions: the first ones' own duration is not in the span, nor are they.
    let first = format!(
        "select (extract(epoch from min(ended_at)) * 1000000)::bigint - {started} from notice_target where month = '{MONTH}'"
    );
    let first = u64::try_from(one(worker.database, &first).await?).context("the clock went back")?;
    let ended = format!("from notice_target where month = '{MONTH}'");
    let micros =
        format!("select (extract(epoch from max(ended_at) - min(ended_at)) * 1000000)::bigint {ended}");
    let span = u64::try_from(one(worker.database, &micros).await?).context("the clock went back")?;
    let later = format!("select count(*) {ended} and ended_at > (select min(ended_at) {ended})");
    let sent = format!("select count(*) {ended} and outcome = 'SENT'");
    Ok(Consuming {
        outcomes: one(worker.database, &later).await?.unsigned_abs(),
        span: Duration::from_micros(span),
        first: Duration::from_micros(first),
        sent: one(worker.database, &sent).await?.unsigned_abs(),
        wall: took.wall,
        peak_memory: took.peak_memory,
        cpu: took.cpu,
        server_cpu: after.0 - before.0,
        broker_cpu: after.1 - before.1,
    })
}

/// Follows the consumer by what it tells itself, which costs the database nothing, and asks the database at the end.
async fn until_all_ended(database: &SecretString, listen: &str, targets: i64) -> anyhow::Result<()> {
    let targets = targets.unsigned_abs();
    let (mut seen, mut moved) = (0, Instant::now());
    loop {
        let ended = ended(listen).await.unwrap_or_default();
        if ended > seen {
            (seen, moved) = (ended, Instant::now());
        }
        if ended >= targets && super::open(database).await? == 0 {
            return Ok(());
        }
        anyhow::ensure!(moved.elapsed() < PATIENCE, "the consumer stands still: {seen} of {targets}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Messages that the consumer says have ended.
async fn ended(listen: &str) -> anyhow::Result<u64> {
    let mut stream = TcpStream::connect(listen).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n").await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let sends = text.lines().filter(|line| line.starts_with("monthend_notify_sends_total{"));
    Ok(sends.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum())
}
