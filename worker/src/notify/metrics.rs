//! What Prometheus reads of a consumer. Labels come from closed sets.

use std::time::Duration;

use prometheus::{
    Encoder as _, Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};
use store::notification::Outcome;

/// What became of a message when it was taken up.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Taken {
    Claimed,
    /// In somebody's hands, or twice in one batch.
    Held,
    /// Sent, superseded or ended otherwise before.
    Ended,
    /// Of a run that is suspended or over.
    NotOpen,
    Unusable,
}

impl Taken {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Claimed => "claimed",
            Self::Held => "held",
            Self::Ended => "ended",
            Self::NotOpen => "not_open",
            Self::Unusable => "unusable",
        }
    }
}

/// Clones count together.
#[derive(Clone)]
pub(crate) struct Metrics {
    pub(crate) registry: Registry,
    messages: IntCounterVec,
    sends: IntCounterVec,
    duration: Histogram,
    batch_size: Histogram,
    transport_up: IntGauge,
    in_hand: IntGauge,
}

impl Metrics {
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let messages = IntCounterVec::new(
            Opts::new("monthend_notify_messages_total", "Messages taken up, by what they came to."),
            &["outcome"],
        )?;
        let sends = IntCounterVec::new(
            Opts::new("monthend_notify_sends_total", "Mails by what came of sending them."),
            &["outcome"],
        )?;
        let duration = Histogram::with_opts(
            HistogramOpts::new(
                "monthend_notify_send_duration_seconds",
                "From a mail's hand-over to the server's answer.",
            )
            .buckets(vec![0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0]),
        )?;
        let batch_size = Histogram::with_opts(
            HistogramOpts::new("monthend_notify_batch_size", "Messages taken up at once.")
                .buckets(vec![1.0, 10.0, 50.0, 100.0, 250.0, 500.0, 750.0, 1000.0]),
        )?;
        let transport_up =
            IntGauge::new("monthend_notify_transport_up", "1 while the transport is to be had.")?;
        let in_hand = IntGauge::new("monthend_notify_in_hand", "Bills under this consumer's lease.")?;
        registry.register(Box::new(messages.clone()))?;
        registry.register(Box::new(sends.clone()))?;
        registry.register(Box::new(duration.clone()))?;
        registry.register(Box::new(batch_size.clone()))?;
        registry.register(Box::new(transport_up.clone()))?;
        registry.register(Box::new(in_hand.clone()))?;
        Ok(Self { registry, messages, sends, duration, batch_size, transport_up, in_hand })
    }

    pub(crate) fn taken(&self, taken: Taken, messages: usize) {
        self.messages
            .with_label_values(&[taken.as_str()])
            .inc_by(u64::try_from(messages).unwrap_or(u64::MAX));
    }

    pub(crate) fn sent(&self, outcome: Outcome) {
        let outcome = match outcome {
            Outcome::Sent => "sent",
            Outcome::Failed => "failed",
            Outcome::Unknown => "unknown",
            Outcome::Skipped => "skipped",
            Outcome::Rendered => "rendered",
        };
        self.sends.with_label_values(&[outcome]).inc();
    }

    pub(crate) fn put_off(&self) {
        self.sends.with_label_values(&["put_off"]).inc();
    }

    pub(crate) fn handed_over_for(&self, long: Duration) {
        self.duration.observe(long.as_secs_f64());
    }

    pub(crate) fn batch(&self, messages: usize) {
        self.batch_size.observe(f64::from(u32::try_from(messages).unwrap_or(u32::MAX)));
    }

    pub(crate) fn state(&self, transport_up: bool, in_hand: usize) {
        self.transport_up.set(i64::from(transport_up));
        self.in_hand.set(i64::try_from(in_hand).unwrap_or(i64::MAX));
    }

    /// The text that Prometheus reads.
    pub(crate) fn render(&self) -> Result<String, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dashboard_shows_metrics_that_exist() {
        let metrics = Metrics::new().unwrap();
        metrics.taken(Taken::Claimed, 2);
        metrics.sent(Outcome::Sent);
        let text = metrics.render().unwrap();
        assert!(text.contains("monthend_notify_messages_total{outcome=\"claimed\"} 2"), "{text}");
        assert!(text.contains("monthend_notify_sends_total{outcome=\"sent\"} 1"), "{text}");
        let dashboard = concat!(env!("CARGO_MANIFEST_DIR"), "/../grafana/monthend.json");
        let dashboard = std::fs::read_to_string(dashboard).unwrap();
        let names = dashboard.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let names: Vec<&str> = names.filter(|name| name.starts_with("monthend_notify_")).collect();
        assert!(!names.is_empty());
        for name in names {
            assert!(text.contains(&format!("\n{name}")), "{name} is not among\n{text}");
        }
    }
}
