//! What happens while the mail server is down. The breaker opens when no connection gets through
//! any more: all senders then wait, except one that probes the server, less and less often. The
//! first success closes it, and no email has failed. A connection that fails alone does not open
//! it. Knows nothing of emails.

use std::time::Duration;

use domain::backoff::Backoff;
use tokio::sync::watch;

use super::reply::ServerReply;

const FIRST_DELAY: Duration = Duration::from_secs(1);
const MAX_DELAY: Duration = Duration::from_secs(30);

/// What all senders of a process know of their mail server.
pub(crate) struct CircuitBreaker {
    state: watch::Sender<State>,
    backoff: Backoff,
}

#[derive(Debug, Default)]
struct State {
    /// The last error while the breaker is open; none while it is closed.
    open: Option<ServerReply>,
    /// Connections whose last attempt succeeded.
    healthy: usize,
    /// One connection probes for all.
    probing: bool,
    failures: u32,
}

/// What the breaker knows of one connection. Each sender keeps its own.
#[derive(Debug, Default)]
pub(crate) struct ConnectionHealth {
    healthy: bool,
    probing: bool,
    failures: u32,
}

/// What a sender does after a failure.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AfterFailure {
    /// Other connections work: it leaves its email to them, and comes back after the delay.
    BackOff(Duration),
    /// The breaker is open: it acquires again.
    Acquire,
}

impl CircuitBreaker {
    /// `first_delay`: before the first probe; none: one second.
    pub(crate) fn new(first_delay: Option<Duration>) -> Self {
        let backoff = Backoff::new(first_delay.unwrap_or(FIRST_DELAY), MAX_DELAY);
        Self { state: watch::Sender::default(), backoff }
    }

    /// Why the breaker is open; none while it is closed.
    pub(crate) fn open_reason(&self) -> Option<String> {
        self.state.borrow().open.as_ref().map(ToString::to_string)
    }

    /// Waits until this connection may try: at once while the breaker is closed, after a delay when
    /// it probes.
    pub(crate) async fn acquire(&self, connection: &mut ConnectionHealth) {
        let mut changes = self.state.subscribe();
        loop {
            let mut delay = None;
            self.state.send_if_modified(|state| {
                if state.open.is_some() && (connection.probing || !state.probing) {
                    state.probing = true;
                    connection.probing = true;
                    delay = Some(self.backoff.after(state.failures));
                }
                false
            });
            if let Some(delay) = delay {
                // Another connection's attempt, started earlier, may succeed meanwhile.
                tokio::select! {
                    () = tokio::time::sleep(delay) => return,
                    _ = changes.wait_for(|state| state.open.is_none()) => {}
                }
                connection.probing = false;
                return;
            }
            let changed = changes.wait_for(|state| state.open.is_none() || !state.probing).await;
            if changed.is_ok_and(|state| state.open.is_none()) {
                return;
            }
        }
    }

    /// The server answered: closes the breaker.
    pub(crate) fn record_success(&self, connection: &mut ConnectionHealth) {
        connection.failures = 0;
        connection.probing = false;
        let first = !std::mem::replace(&mut connection.healthy, true);
        self.state.send_if_modified(|state| {
            state.healthy += usize::from(first);
            state.failures = 0;
            state.probing = false;
            state.open.take().is_some()
        });
    }

    /// The server did not answer, or closed the connection before RCPT.
    pub(crate) fn record_failure(
        &self,
        connection: &mut ConnectionHealth,
        error: &ServerReply,
    ) -> AfterFailure {
        let was_healthy = std::mem::take(&mut connection.healthy);
        let mut after = AfterFailure::Acquire;
        self.state.send_if_modified(|state| {
            state.healthy -= usize::from(was_healthy);
            if state.healthy > 0 {
                connection.failures = connection.failures.saturating_add(1);
                after = AfterFailure::BackOff(self.backoff.after(connection.failures));
                return false;
            }
            let first = state.open.is_none();
            if first {
                tracing::warn!("the mail server is unavailable, sending waits for it: {error}");
            }
            // Of the connections that fail, only the one that probes makes the delay grow.
            if first || connection.probing {
                state.failures = state.failures.saturating_add(1);
            }
            state.open = Some(error.clone());
            true
        });
        after
    }

    /// A connection that probes has no email to probe with any more: another one may.
    pub(crate) fn release_probe(&self, connection: &mut ConnectionHealth) {
        if std::mem::take(&mut connection.probing) {
            self.state.send_modify(|state| state.probing = false);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn error() -> ServerReply {
        ServerReply::new("smtp://mail:25: cannot connect")
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_server_is_down_one_connection_probes_less_and_less_often() {
        let breaker = CircuitBreaker::new(None);
        let (mut probing, mut waiting) = (ConnectionHealth::default(), ConnectionHealth::default());
        breaker.acquire(&mut probing).await;
        assert_eq!(breaker.record_failure(&mut probing, &error()), AfterFailure::Acquire);
        assert_eq!(breaker.record_failure(&mut waiting, &error()), AfterFailure::Acquire);
        let mut delays = Vec::new();
        for _ in 0..7 {
            let since = Instant::now();
            breaker.acquire(&mut probing).await;
            delays.push(since.elapsed().as_secs());
            let waits = tokio::time::timeout(Duration::from_secs(600), breaker.acquire(&mut waiting)).await;
            assert!(waits.is_err());
            assert_eq!(breaker.record_failure(&mut probing, &error()), AfterFailure::Acquire);
        }
        assert_eq!(delays, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(breaker.open_reason().as_deref(), Some("smtp://mail:25: cannot connect"));
        breaker.acquire(&mut probing).await;
        breaker.record_success(&mut probing);
        breaker.acquire(&mut waiting).await;
        assert_eq!(breaker.open_reason(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn another_connection_probes_when_the_first_has_no_email_left() {
        let breaker = CircuitBreaker::new(None);
        let (mut first, mut second) = (ConnectionHealth::default(), ConnectionHealth::default());
        breaker.record_failure(&mut first, &error());
        breaker.acquire(&mut first).await;
        {
            let acquired = breaker.acquire(&mut second);
            tokio::pin!(acquired);
            assert!(tokio::time::timeout(Duration::from_secs(60), &mut acquired).await.is_err());
            breaker.release_probe(&mut first);
            acquired.await;
        }
        breaker.record_failure(&mut second, &error());
        assert!(breaker.open_reason().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_fails_alone_does_not_open_the_breaker() {
        let breaker = CircuitBreaker::new(None);
        let (mut healthy, mut failing) = (ConnectionHealth::default(), ConnectionHealth::default());
        breaker.record_success(&mut healthy);
        let back_off = |seconds| AfterFailure::BackOff(Duration::from_secs(seconds));
        assert_eq!(breaker.record_failure(&mut failing, &error()), back_off(1));
        assert_eq!(breaker.record_failure(&mut failing, &error()), back_off(2));
        assert_eq!(breaker.open_reason(), None);
        assert_eq!(breaker.record_failure(&mut healthy, &error()), AfterFailure::Acquire);
        assert!(breaker.open_reason().is_some());
        breaker.record_success(&mut healthy);
        assert_eq!(breaker.open_reason(), None);
    }
}
