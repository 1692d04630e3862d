//! One attempt to publish a round: connects, waits for its turn, selects the targets, and runs the
//! pipeline again and again until everything that was open is published. Ends with the first error
//! of the database; the caller tries again.

use std::time::Instant;

use secrecy::SecretString;
use sqlx::PgConnection;
use store::notification::{self, RunFacts};
use tokio_util::sync::CancellationToken;
use worker_cli::PublishArgs;

use super::pipeline::{Pipeline, PipelineEnd};
use super::publish_error::PublishError;
use super::wait_reporter::WaitReporter;
use crate::database_retry::DatabaseRetries;
use crate::exit::Completion;
use crate::kafka::Topics;
use crate::notification_run::{connect, lock_run, select_targets, until_resumed};
use crate::output::{format_duration, group_digits, rows_per_second};

/// Publishes one round of one run.
pub(super) struct Publisher<'a> {
    args: &'a PublishArgs,
    database: &'a SecretString,
    stop: &'a CancellationToken,
}

impl<'a> Publisher<'a> {
    pub(super) fn new(
        args: &'a PublishArgs,
        database: &'a SecretString,
        stop: &'a CancellationToken,
    ) -> Self {
        Self { args, database, stop }
    }

    /// Publishes until the round is done, `stop` is cancelled, or the database fails. Waits for
    /// Kafka.
    pub(super) async fn connect_and_run(
        &self,
        retries: &mut DatabaseRetries,
    ) -> Result<Completion, PublishError> {
        let PublishArgs { run_uid, round, kafka, .. } = self.args;
        let policy = retries.policy();
        let mut connection = connect(self.database, "monthend publish").await?;
        let Some(run) = lock_run(&mut connection, policy, *run_uid, self.stop).await? else {
            return Ok(Completion::Stopped);
        };
        retries.record_success();
        if run.state.is_over() {
            return Ok(Completion::Done);
        }
        if let Some(completion) = select_targets(&mut connection, policy, &run, self.stop).await? {
            return Ok(completion);
        }
        let topics = Topics::new(kafka)?;
        let mut waits = WaitReporter::new(*round, policy);
        let began = Instant::now();
        loop {
            if self.stop.is_cancelled() {
                return Ok(Completion::Stopped);
            }
            let publication = notification::read_publication(&mut connection, run.id, *round);
            let publication = policy.within_timeout(publication).await?;
            if publication.done_at.is_some() {
                return Ok(Completion::Done);
            }
            let ensured = tokio::select! {
                ensured = topics.ensure() => ensured,
                () = self.stop.cancelled() => return Ok(Completion::Stopped),
            };
            let ended = match ensured {
                Ok(()) => {
                    let pipeline = Pipeline {
                        args: self.args,
                        run: &run,
                        policy,
                        connection: &mut connection,
                        waits: &mut waits,
                        stop: self.stop,
                    };
                    pipeline.run(self.database, &publication).await
                }
                Err(error) => Err(PublishError::KafkaUnavailable(logging::chain(&error))),
            };
            match ended {
                Ok(PipelineEnd::Complete) => {
                    self.close_round(&mut connection, retries, &run, began).await?;
                    return Ok(Completion::Done);
                }
                Ok(PipelineEnd::Stopped) => {
                    tracing::info!("stopped; the next publisher continues from here");
                    return Ok(Completion::Stopped);
                }
                Ok(PipelineEnd::RunOver) => return Ok(Completion::Done),
                Ok(PipelineEnd::Suspended) => {
                    let state = until_resumed(&mut connection, policy, *run_uid, self.stop).await?;
                    if state.is_over() {
                        return Ok(Completion::Done);
                    }
                }
                Err(PublishError::KafkaUnavailable(text)) => {
                    waits.report(&mut connection, run.id, &text).await?;
                    waits.back_off(self.stop).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn close_round(
        &self,
        connection: &mut PgConnection,
        retries: &DatabaseRetries,
        run: &RunFacts,
        began: Instant,
    ) -> Result<(), PublishError> {
        let round = self.args.round;
        let policy = retries.policy();
        policy.within_timeout(notification::close_round(connection, run.id, round)).await?;
        let done = policy.within_timeout(notification::read_publication(connection, run.id, round)).await?;
        let (time, messages) = (began.elapsed(), u64::try_from(done.messages).unwrap_or(0));
        tracing::info!(
            messages = group_digits(done.messages),
            elapsed = format_duration(time),
            per_second = rows_per_second(messages, time),
            "published the round"
        );
        Ok(())
    }
}
