//! The Prometheus metrics of a consumer. Labels come from closed sets.

use std::time::Duration;

use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Encoder as _, Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};
use store::notification::Outcome;

/// How the pipeline handled a message when it prepared its batch.
#[derive(Debug, Clone, Copy)]
pub(crate) enum MessageOutcome {
    Claimed,
    /// Claimed by another batch or consumer, or twice in one batch.
    Held,
    /// The target has an outcome already.
    Ended,
    /// The run is suspended or over.
    NotOpen,
    /// No run can use it: it goes to the dead-letter topic.
    Unusable,
}

impl MessageOutcome {
    const ALL: [Self; 5] = [Self::Claimed, Self::Held, Self::Ended, Self::NotOpen, Self::Unusable];

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

/// The mail server put the e-mail off.
const PUT_OFF: &str = "put_off";

/// The values of the label `outcome` of an e-mail.
const SENDS: [&str; 6] = ["sent", "failed", "unknown", "skipped", "rendered", PUT_OFF];

/// The metrics of one consumer. Clones share their values.
#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Registry,
    messages: IntCounterVec,
    sends: IntCounterVec,
    send_duration: Histogram,
    batch_size: Histogram,
    transport_up: IntGauge,
    in_flight: IntGauge,
}

impl Metrics {
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let messages = IntCounterVec::new(
            Opts::new("monthend_notify_messages_total", "Messages prepared, by outcome."),
            &["outcome"],
        )?;
        let sends = IntCounterVec::new(
            Opts::new(
                "monthend_notify_sends_total",
                "E-mails by the outcome of sending them; put_off: the mail server asked to try again later.",
            ),
            &["outcome"],
        )?;
        // Every series starts at 0: for Prometheus, a series that appears at 1 has not increased.
        for outcome in MessageOutcome::ALL {
            messages.with_label_values(&[outcome.as_str()]);
        }
        for outcome in SENDS {
            sends.with_label_values(&[outcome]);
        }
        let build = IntGaugeVec::new(
            Opts::new("monthend_build_info", "1 for the version of this program."),
            &["version"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        registry.register(Box::new(build))?;
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let send_duration = Histogram::with_opts(
            HistogramOpts::new(
                "monthend_notify_send_duration_seconds",
                "From handing an email over to the mail server's reply.",
            )
            .buckets(vec![0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0]),
        )?;
        let batch_size = Histogram::with_opts(
            HistogramOpts::new("monthend_notify_batch_size", "Messages in one batch.")
                .buckets(vec![1.0, 10.0, 50.0, 100.0, 250.0, 500.0, 750.0, 1000.0]),
        )?;
        let transport_up = IntGauge::new(
            "monthend_notify_transport_up",
            "1 while the mail server is available, 0 while sending waits for it.",
        )?;
        let in_flight =
            IntGauge::new("monthend_notify_in_hand", "Deliveries that this consumer holds a lease for.")?;
        registry.register(Box::new(messages.clone()))?;
        registry.register(Box::new(sends.clone()))?;
        registry.register(Box::new(send_duration.clone()))?;
        registry.register(Box::new(batch_size.clone()))?;
        registry.register(Box::new(transport_up.clone()))?;
        registry.register(Box::new(in_flight.clone()))?;
        Ok(Self { registry, messages, sends, send_duration, batch_size, transport_up, in_flight })
    }

    pub(crate) fn message(&self, outcome: MessageOutcome, messages: usize) {
        self.messages
            .with_label_values(&[outcome.as_str()])
            .inc_by(u64::try_from(messages).unwrap_or(u64::MAX));
    }

    pub(crate) fn recorded(&self, outcome: Outcome) {
        let outcome = match outcome {
            Outcome::Sent => "sent",
            Outcome::Failed => "failed",
            Outcome::Unknown => "unknown",
            Outcome::Skipped => "skipped",
            Outcome::Rendered => "rendered",
        };
        self.sends.with_label_values(&[outcome]).inc();
    }

    pub(crate) fn deferred(&self) {
        self.sends.with_label_values(&[PUT_OFF]).inc();
    }

    pub(crate) fn send_duration(&self, duration: Duration) {
        self.send_duration.observe(duration.as_secs_f64());
    }

    pub(crate) fn batch_size(&self, messages: usize) {
        self.batch_size.observe(f64::from(u32::try_from(messages).unwrap_or(u32::MAX)));
    }

    pub(crate) fn transport_and_leases(&self, transport_up: bool, in_flight: usize) {
        self.transport_up.set(i64::from(transport_up));
        self.in_flight.set(i64::try_from(in_flight).unwrap_or(i64::MAX));
    }

    /// The metrics in Prometheus' text format.
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
    fn every_metric_on_the_dashboards_exists() {
        let metrics = Metrics::new().unwrap();
        metrics.message(MessageOutcome::Claimed, 2);
        metrics.recorded(Outcome::Sent);
        let text = metrics.render().unwrap();
        assert!(text.contains("monthend_notify_messages_total{outcome=\"claimed\"} 2"), "{text}");
        assert!(text.contains("monthend_notify_sends_total{outcome=\"sent\"} 1"), "{text}");
        for untouched in [
            "monthend_notify_messages_total{outcome=\"unusable\"} 0",
            "monthend_notify_sends_total{outcome=\"put_off\"} 0",
            "monthend_build_info{version=",
            "\nprocess_resident_memory_bytes ",
        ] {
            assert!(text.contains(untouched), "{untouched} is missing:\n{text}");
        }
        let dashboard = concat!(env!("CARGO_MANIFEST_DIR"), "/../grafana/monthend-notification.json");
        let dashboard = std::fs::read_to_string(dashboard).unwrap();
        let names = dashboard.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let names: Vec<&str> = names.filter(|name| name.starts_with("monthend_notify_")).collect();
        assert!(!names.is_empty());
        for name in names {
            assert!(text.contains(&format!("\n{name}")), "{name} is not among\n{text}");
        }
    }
}
