//! The pump: reads a page of open targets while the one before is being produced and those before that are on their way;
//! checks a page off once every report of it is in.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use domain::ids::MemberId;
use domain::notification_message::NotificationMessageWriter;
use sqlx::{PgConnection, PgPool};
use store::notification::{self, BillKey, NotificationState, Publication, RunFacts};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::producer::{Page, Producer};
use super::{CHUNK, Publisher, Trouble, own_connection};
use crate::kafka::is_topic_missing;

/// Pages on their way at once: enough for the brokers, less than the library's queue.
const WINDOW: usize = 6;
/// Between two looks whether anything is acknowledged.
const TICK: Duration = Duration::from_millis(500);
/// Nothing acknowledged for this long is a wait worth telling.
const SILENCE: Duration = Duration::from_secs(3);

/// How a pump ends that nothing went wrong with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pumped {
    /// Everything that was open is acknowledged.
    All,
    Stopped,
    Suspended,
    Over,
}

/// A page on its way.
struct Sent {
    page: Arc<Page>,
    /// The last member before the page, and the last one of it.
    from: i64,
    to: MemberId,
}

type Producing = JoinHandle<(NotificationMessageWriter, Result<Sent, Trouble>)>;

impl Publisher<'_> {
    /// Publishes what is open after the publication's checkpoint. What is on its way when it ends is forgotten.
    pub(super) async fn pump(
        &mut self,
        pool: &PgPool,
        connection: &mut PgConnection,
        run: &RunFacts,
        publication: &Publication,
    ) -> Result<Pumped, Trouble> {
        let reader = Reader::start(pool, run, publication.published_to);
        let producer = Producer::new(&self.order.kafka)?;
        let pumped = self.pump_with(&producer, reader, connection, run, publication).await;
        producer.purge();
        // Its thread is waited for, which must not keep others from working.
        tokio::task::spawn_blocking(move || drop(producer)).await?;
        pumped
    }

    async fn pump_with(
        &mut self,
        producer: &Producer,
        mut reader: Reader,
        connection: &mut PgConnection,
        run: &RunFacts,
        publication: &Publication,
    ) -> Result<Pumped, Trouble> {
        let mut waiting_is_told = publication.waiting.is_some();
        let mut acknowledged = (producer.acknowledged(), Instant::now());
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut writer = Some(NotificationMessageWriter::new(run.month, &run.run));
        let mut producing: Option<Producing> = None;
        let mut on_their_way: VecDeque<Sent> = VecDeque::with_capacity(WINDOW);
        let mut at = publication.published_to;
        let mut all_read = false;
        // Ends what still produces when this function does.
        let stop = self.stop.child_token();
        let _ended = stop.clone().drop_guard();
        loop {
            if all_read && producing.is_none() && on_their_way.is_empty() {
                if waiting_is_told {
                    notification::waits(connection, run.id, self.order.round, None).await?;
                }
                return Ok(Pumped::All);
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(Pumped::Stopped),
                delivered = delivered(on_their_way.front()), if !on_their_way.is_empty() => {
                    delivered.map_err(|error| self.not_delivered(&error))?;
                    let Some(Sent { page, from, to }) = on_their_way.pop_front() else { continue };
                    let messages = i64::try_from(page.messages).unwrap_or(i64::MAX);
                    let state =
                        notification::checkpoint(connection, run.id, self.order.round, from, to, messages).await?;
                    self.waits.over();
                    if let Some(ended) = ended_by(state) {
                        return Ok(ended);
                    }
                }
                produced = joined(producing.as_mut()), if producing.is_some() => {
                    producing = None;
                    let (own_writer, sent) = produced?;
                    writer = Some(own_writer);
                    on_their_way.push_back(sent?);
                }
                page = reader.pages.recv(), if !all_read && producing.is_none() && on_their_way.len() < WINDOW => {
                    let Some(page) = page else {
                        reader.ended().await?;
                        all_read = true;
                        continue;
                    };
                    let (Some(last), Some(own_writer)) = (page.last(), writer.take()) else { continue };
                    let (from, to) = (at, last.member);
                    at = to.get();
                    producing = Some(start(producer, own_writer, page, from, to, stop.clone()));
                }
                _ = ticks.tick() => {
                    let now = producer.acknowledged();
                    let idle = producing.is_none() && on_their_way.is_empty();
                    if now != acknowledged.0 || idle {
                        acknowledged = (now, Instant::now());
                        if waiting_is_told {
                            notification::waits(connection, run.id, self.order.round, None).await?;
                            waiting_is_told = false;
                            tracing::info!("goes on");
                        }
                    } else if acknowledged.1.elapsed() > SILENCE {
                        let text = self.silent(producer.trouble());
                        self.waits.log(&text);
                        let state =
                            notification::waits(connection, run.id, self.order.round, Some(&text)).await?;
                        waiting_is_told = true;
                        if let Some(ended) = ended_by(state) {
                            return Ok(ended);
                        }
                        acknowledged.1 = Instant::now();
                    }
                }
            }
        }
    }

    fn silent(&self, trouble: Option<String>) -> String {
        let why = trouble.map(|text| format!(": {text}")).unwrap_or_default();
        format!("Kafka at {} acknowledges nothing{why}", self.order.kafka.brokers)
    }

    fn not_delivered(&self, error: &rdkafka::error::KafkaError) -> Trouble {
        let topic = &self.order.kafka.topic;
        Trouble::Kafka(if is_topic_missing(error) {
            format!("topic {topic} is gone; making it again")
        } else {
            format!("Kafka at {} does not take messages for {topic}: {error}", self.order.kafka.brokers)
        })
    }
}

fn ended_by(state: NotificationState) -> Option<Pumped> {
    match state {
        NotificationState::Open => None,
        NotificationState::Suspended => Some(Pumped::Suspended),
        _ => Some(Pumped::Over),
    }
}

async fn delivered(front: Option<&Sent>) -> rdkafka::error::KafkaResult<()> {
    match front {
        Some(sent) => sent.page.delivered().await,
        None => std::future::pending().await,
    }
}

async fn joined<T>(task: Option<&mut JoinHandle<T>>) -> Result<T, tokio::task::JoinError> {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

/// Produces a page on a thread that may block.
fn start(
    producer: &Producer,
    mut writer: NotificationMessageWriter,
    page: Vec<BillKey>,
    from: i64,
    to: MemberId,
    stop: tokio_util::sync::CancellationToken,
) -> Producing {
    let producer = producer.clone();
    tokio::task::spawn_blocking(move || {
        let put = producer.put(&mut writer, &page, &stop);
        let sent = put.map(|page| Sent { page, from, to });
        (
            writer,
            sent.map_err(|error| Trouble::Kafka(format!("the client library takes no messages: {error}"))),
        )
    })
}

/// Reads pages ahead, on a connection of its own. Ends with this value.
struct Reader {
    pages: mpsc::Receiver<Vec<BillKey>>,
    task: JoinSet<Result<(), Trouble>>,
}

impl Reader {
    fn start(pool: &PgPool, run: &RunFacts, after: i64) -> Self {
        let (pages, receiver) = mpsc::channel(1);
        let mut task = JoinSet::new();
        task.spawn(read(pool.clone(), run.clone(), MemberId::try_from(after).ok(), pages));
        Self { pages: receiver, task }
    }

    /// How the reading ended.
    async fn ended(&mut self) -> Result<(), Trouble> {
        self.task.join_next().await.unwrap_or(Ok(Ok(())))?
    }
}

async fn read(
    pool: PgPool,
    run: RunFacts,
    mut after: Option<MemberId>,
    pages: mpsc::Sender<Vec<BillKey>>,
) -> Result<(), Trouble> {
    let mut connection = own_connection(&pool).await?;
    loop {
        let page = notification::open_targets(&mut connection, &run, after, CHUNK).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.member);
        if pages.send(page).await.is_err() {
            return Ok(());
        }
    }
}
