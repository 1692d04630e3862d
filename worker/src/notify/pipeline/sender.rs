//! A session: takes one mail after another and sees it through its transport. Holds at most one mail, and at most one that
//! is handed over.

use std::sync::Arc;
use std::time::Duration;

use store::notification::Outcome;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::in_flight::{Hands, Mail, Queue};
use super::rate_limiter::Pace;
use super::recorder::{Entry, Pen};
use crate::database_retry::RetryError;
use crate::notify::metrics::Metrics;
use crate::notify::smtp::circuit_breaker::{Fall, Footing, Weather};
use crate::notify::transport::{Delivery, Line, Offer, Words};

/// How often and how long a mail is tried that the server puts off.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retries {
    pub(crate) most: i32,
    pub(crate) within: Duration,
    /// After the first try; three times as long after each further one.
    pub(crate) first_delay: Duration,
    pub(crate) longest_delay: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            most: 5,
            within: Duration::from_secs(600),
            first_delay: Duration::from_secs(10),
            longest_delay: Duration::from_secs(180),
        }
    }
}

impl Retries {
    /// When to try again after so many tries, the first of them so long ago; none: never.
    fn after(&self, tries: i32, first: Duration) -> Option<Duration> {
        let delay = self.first_delay.saturating_mul(3_u32.saturating_pow(tries.max(1).unsigned_abs() - 1));
        let delay = delay.min(self.longest_delay);
        (tries < self.most && first + delay <= self.within).then_some(delay)
    }
}

/// What all sessions share.
pub(crate) struct Shared {
    pub(crate) queue: Arc<Queue>,
    pub(crate) hands: Arc<Hands>,
    pub(crate) weather: Arc<Weather>,
    pub(crate) pace: Pace,
    pub(crate) metrics: Metrics,
    pub(crate) retries: Retries,
    /// From asking for a hand-over to its end, whatever the server does: well within the lease.
    pub(crate) hand_over: Duration,
    pub(crate) sessions: u32,
    pub(crate) stop: CancellationToken,
}

pub(crate) struct Session {
    shared: Arc<Shared>,
    pen: Pen,
    line: Line,
    footing: Footing,
}

/// Why a mail was not handed over.
enum Stay {
    /// Told to stop: it goes back, and its message is not done with.
    Stopped,
    /// It is somebody else's by now.
    Lost,
    /// It may go another way at once; this session can't take it.
    Fell(Duration),
    PutOff(Words),
    Refused(Words),
}

impl Session {
    pub(crate) fn new(shared: Arc<Shared>, pen: Pen, line: Line) -> Self {
        Self { shared, pen, line, footing: Footing::default() }
    }

    /// Until it is told to stop.
    pub(crate) async fn run(mut self) -> Result<(), RetryError> {
        let stop = self.shared.stop.clone();
        loop {
            let mail = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                mail = self.shared.queue.take() => mail,
            };
            if let Some(delay) = self.carry(mail).await? {
                tokio::select! {
                    () = tokio::time::sleep(delay) => {}
                    () = stop.cancelled() => break,
                }
            }
        }
        self.line.close().await;
        Ok(())
    }

    /// Returns how long to keep away from the server afterwards, if at all.
    async fn carry(&mut self, mut mail: Mail) -> Result<Option<Duration>, RetryError> {
        let stop = self.shared.stop.clone();
        let ready = tokio::select! {
            biased;
            () = stop.cancelled() => Err(Stay::Stopped),
            ready = self.offer(&mail) => ready?,
        };
        match ready {
            Ok(()) => self.hand_over(mail).await,
            Err(Stay::Stopped) => {
                self.pen.write(Entry::GiveBack { hand: mail.hand, ticket: None });
            }
            Err(Stay::Lost) => {
                self.shared.weather.resign(&mut self.footing);
                mail.ticket.settle();
            }
            Err(Stay::Fell(delay)) => {
                self.shared.queue.put_first(mail);
                return Ok(Some(delay));
            }
            Err(Stay::PutOff(words)) => self.put_off(mail, words),
            Err(Stay::Refused(words)) => self.pen.end(mail, Outcome::Failed, Some(words.into_string())),
        }
        Ok(None)
    }

    /// Up to an accepted offer. May be broken off at any point: nothing of the mail is out.
    async fn offer(&mut self, mail: &Mail) -> Result<Result<(), Stay>, RetryError> {
        let Shared { hands, weather, pace, sessions, .. } = &*self.shared;
        if !hands.hold(&mail.hand) {
            return Ok(Err(Stay::Lost));
        }
        if let Some(slot) = pace.slot(mail.hand.run, *sessions).await? {
            tokio::time::sleep_until(slot).await;
        }
        loop {
            weather.turn(&mut self.footing).await;
            if !hands.hold(&mail.hand) {
                return Ok(Err(Stay::Lost));
            }
            let stay = match self.line.offer(mail).await {
                Offer::Accepted => Ok(()),
                Offer::PutOff(words) => Err(Stay::PutOff(words)),
                Offer::Refused(words) => Err(Stay::Refused(words)),
                Offer::Down(words) => match weather.foul(&mut self.footing, &words) {
                    Fall::WithAll => continue,
                    Fall::Alone(delay) => return Ok(Err(Stay::Fell(delay))),
                },
            };
            weather.fair(&mut self.footing);
            return Ok(stay);
        }
    }

    async fn hand_over(&mut self, mut mail: Mail) {
        let asked = Instant::now();
        if !self.pen.hand_over(mail.hand).await {
            self.line.withdraw().await;
            // Whatever keeps it from going, another message asks again once it is over.
            let ticket = std::mem::take(&mut mail.ticket);
            self.pen.write(Entry::GiveBack { hand: mail.hand, ticket: Some(ticket) });
            return;
        }
        let begun = Instant::now();
        let delivery = self.line.hand_over(&mail, asked + self.shared.hand_over).await;
        self.shared.metrics.handed_over_for(begun.elapsed());
        match delivery {
            Delivery::Sent => self.pen.end(mail, Outcome::Sent, None),
            Delivery::PutOff(words) => self.put_off(mail, words),
            Delivery::Refused(words) => self.pen.end(mail, Outcome::Failed, Some(words.into_string())),
            Delivery::Unknown(words) => {
                self.pen.end(mail, Outcome::Unknown, Some(format!("OUTCOME_UNKNOWN: {words}")));
            }
        }
    }

    fn put_off(&self, mail: Mail, words: Words) {
        let first = mail.first_try.map_or(Duration::ZERO, |first| first.elapsed());
        match self.shared.retries.after(mail.tries + 1, first) {
            Some(delay) => {
                let due = Instant::now() + delay;
                tracing::debug!(again_in_s = delay.as_secs(), "put off: {words}");
                self.pen.write(Entry::PutOff { mail: Box::new(mail), counts: true, due });
            }
            None => self.pen.end(mail, Outcome::Failed, Some(words.into_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_is_tried_five_times_in_ten_minutes() {
        let retries = Retries::default();
        let mut age = Duration::ZERO;
        let mut delays = Vec::new();
        let mut tries = 1;
        while let Some(delay) = retries.after(tries, age) {
            delays.push(delay.as_secs());
            age += delay;
            tries += 1;
        }
        assert_eq!((tries, delays), (5, vec![10, 30, 90, 180]));
        assert!(age < retries.within);
        assert_eq!(retries.after(2, Duration::from_secs(590)), None);
        assert_eq!(retries.after(i32::MAX, Duration::ZERO), None);
    }
}
