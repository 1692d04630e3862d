//! Sends one email after another over one connection. Holds at most one email at a time, and at
//! most one that is handed over.
//!
//! What the transport answers decides what happens next: a deferred email goes to the retry queue
//! when `smtp::retry_policy` allows another try; an unavailable server is left to
//! `smtp::circuit_breaker`.

use std::sync::Arc;
use std::time::Duration;

use store::notification::Outcome;
use tokio::time::Instant;

use super::claimed_email::ClaimedEmail;
use super::recorder::{RecorderHandle, WriteRequest};
use super::shared_state::SharedState;
use crate::database_retry::RetryError;
use crate::notify::smtp::circuit_breaker::{AfterFailure, ConnectionHealth};
use crate::notify::smtp::outcome::{ContentOutcome, EnvelopeOutcome};
use crate::notify::smtp::reply::ServerReply;
use crate::notify::transport::Connection;

pub(super) struct Sender {
    shared: Arc<SharedState>,
    recorder: RecorderHandle,
    connection: Connection,
    health: ConnectionHealth,
}

/// Why an email is not handed over.
enum NotSent {
    /// The consumer is stopping: the delivery is released, and its message not acknowledged.
    Stopping,
    /// Another consumer may have the delivery.
    LeaseLost,
    /// This connection fails alone: another sender takes the email at once, this one pauses.
    ConnectionFailed(Duration),
    Deferred(ServerReply),
    Rejected(ServerReply),
}

impl Sender {
    pub(super) fn new(shared: Arc<SharedState>, recorder: RecorderHandle, connection: Connection) -> Self {
        Self { shared, recorder, connection, health: ConnectionHealth::default() }
    }

    /// Sends until it is stopped.
    pub(super) async fn run(mut self) -> Result<(), RetryError> {
        let stop = self.shared.stop.clone();
        loop {
            let email = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                email = self.shared.queue.pop() => email,
            };
            if let Some(pause) = self.send(email).await? {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stop.cancelled() => break,
                }
            }
        }
        self.connection.close().await;
        Ok(())
    }

    /// Returns how long to pause before the next email, if at all.
    async fn send(&mut self, mut email: ClaimedEmail) -> Result<Option<Duration>, RetryError> {
        let stop = self.shared.stop.clone();
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => Err(NotSent::Stopping),
            accepted = self.send_envelope(&email) => accepted?,
        };
        match accepted {
            Ok(()) => self.hand_over(email).await,
            Err(NotSent::Stopping) => {
                self.recorder.write(WriteRequest::Release { delivery: email.delivery, ack: None });
            }
            Err(NotSent::LeaseLost) => {
                self.shared.circuit_breaker.release_probe(&mut self.health);
                email.ack.acknowledge();
            }
            Err(NotSent::ConnectionFailed(pause)) => {
                self.shared.queue.push_front(email);
                return Ok(Some(pause));
            }
            Err(NotSent::Deferred(reply)) => self.defer(email, reply),
            Err(NotSent::Rejected(reply)) => {
                self.recorder.end(email, Outcome::Failed, Some(reply.into_string()));
            }
        }
        Ok(None)
    }

    /// Waits for the rate limit and for the server, and sends the envelope. Can be cancelled at any
    /// point: nothing of the content is sent.
    async fn send_envelope(&mut self, email: &ClaimedEmail) -> Result<Result<(), NotSent>, RetryError> {
        let SharedState { in_flight, circuit_breaker, rate_limiter, connections, .. } = &*self.shared;
        if !in_flight.contains(&email.delivery) {
            return Ok(Err(NotSent::LeaseLost));
        }
        if let Some(slot) = rate_limiter.next_slot(email.delivery.run, *connections).await? {
            tokio::time::sleep_until(slot).await;
        }
        loop {
            circuit_breaker.acquire(&mut self.health).await;
            if !in_flight.contains(&email.delivery) {
                return Ok(Err(NotSent::LeaseLost));
            }
            let result = match self.connection.send_envelope(&email.email).await {
                EnvelopeOutcome::Accepted => Ok(()),
                EnvelopeOutcome::Deferred(reply) => Err(NotSent::Deferred(reply)),
                EnvelopeOutcome::Rejected(reply) => Err(NotSent::Rejected(reply)),
                EnvelopeOutcome::Unavailable(error) => {
                    match circuit_breaker.record_failure(&mut self.health, &error) {
                        AfterFailure::Acquire => continue,
                        AfterFailure::BackOff(pause) => {
                            return Ok(Err(NotSent::ConnectionFailed(pause)));
                        }
                    }
                }
            };
            circuit_breaker.record_success(&mut self.health);
            return Ok(result);
        }
    }

    /// Records the hand-over, and sends the content.
    async fn hand_over(&mut self, mut email: ClaimedEmail) {
        let asked = Instant::now();
        if !self.recorder.hand_over(email.delivery).await {
            self.connection.cancel().await;
            // When what prevents the hand-over is over, another message leads to this delivery.
            let ack = std::mem::take(&mut email.ack);
            self.recorder.write(WriteRequest::Release { delivery: email.delivery, ack: Some(ack) });
            return;
        }
        let started = Instant::now();
        let deadline = asked + self.shared.hand_over_timeout;
        let outcome = self.connection.send_content(&email.delivery, &email.email, deadline).await;
        self.shared.metrics.send_duration(started.elapsed());
        match outcome {
            ContentOutcome::Sent => self.recorder.end(email, Outcome::Sent, None),
            ContentOutcome::Deferred(reply) => self.defer(email, reply),
            ContentOutcome::Rejected(reply) => {
                self.recorder.end(email, Outcome::Failed, Some(reply.into_string()));
            }
            ContentOutcome::Unknown(reply) => {
                self.recorder.end(email, Outcome::Unknown, Some(format!("OUTCOME_UNKNOWN: {reply}")));
            }
        }
    }

    fn defer(&self, email: ClaimedEmail, reply: ServerReply) {
        let age = email.first_try.map_or(Duration::ZERO, |first| first.elapsed());
        match self.shared.retry_policy.next_delay(email.tries + 1, age) {
            Some(delay) => {
                let due = Instant::now() + delay;
                tracing::debug!(again_in_s = delay.as_secs(), "the mail server deferred an email: {reply}");
                self.recorder.write(WriteRequest::Defer { email: Box::new(email), counts: true, due });
            }
            None => self.recorder.end(email, Outcome::Failed, Some(reply.into_string())),
        }
    }
}
