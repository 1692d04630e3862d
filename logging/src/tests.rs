use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex};

use tracing::level_filters::LevelFilter;
use tracing::{Level, debug, error, info, info_span, trace, warn};
use tracing_subscriber::Layer as _;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;

use super::*;

const EMAIL: &str = "kim.canary@example.com";
const PHONE: &str = "010-9876-1234";

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Lines {
    type Writer = Self;
    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

fn logged(format: Format, work: impl FnOnce()) -> String {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::registry()
        .with(MaskedLog::new(format, lines.clone()).with_filter(LevelFilter::TRACE));
    tracing::subscriber::with_default(subscriber, work);
    let bytes = lines.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[derive(Debug, thiserror::Error)]
#[error("line rejected")]
struct Outer(#[source] Inner);

#[derive(Debug, thiserror::Error)]
#[error("address {EMAIL} of {PHONE}")]
struct Inner;

#[derive(Debug)]
#[expect(dead_code, reason = "its Debug form is what is tested")]
struct Row {
    email: &'static str,
    phones: [&'static str; 2],
}

/// Logs the canaries in every way that a text can get into a log.
fn log_everything() {
    let span = info_span!("load", email = EMAIL, late = tracing::field::Empty);
    let _inside = span.enter();
    span.record("late", format_args!("call {PHONE}"));
    let row = Row { email: EMAIL, phones: [PHONE, "01098761234"] };
    trace!("{EMAIL}");
    debug!(phone = PHONE, "a str field");
    info!(phone = %PHONE, "a display field");
    warn!(?row, "a debug field");
    warn!("quoted {:?} and <{EMAIL}>, mailto:{EMAIL}", PHONE);
    error!(error = &Outer(Inner) as &(dyn Error + 'static), "an error with a cause");
    tracing::event!(Level::TRACE, name = EMAIL, at = ?Some(PHONE));
}

#[test]
fn both_formats_mask_every_text_at_trace() {
    for format in [Format::Json, Format::Human] {
        let text = logged(format, log_everything);
        assert_eq!(text.lines().count(), 7, "every event is written: {text}");
        for canary in [EMAIL, PHONE, "01098761234", "kim.canary", "9876"] {
            assert!(!text.contains(canary), "{canary} is in the {format:?} log:\n{text}");
        }
        assert!(
            text.contains("k***@e***.com") && text.contains("010-****-1234"),
            "masked, not lost:\n{text}"
        );
    }
}

#[test]
fn json_lines_carry_the_fields_of_their_spans() {
    let text = logged(Format::Json, || {
        let _run = info_span!("shard", run = "billing/october", shard = 3).entered();
        let _chunk = info_span!("chunk", chunk = 17).entered();
        info!(rows = 5_u64, total = i128::MAX, "chunk done");
    });
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["message"], "chunk done");
    assert_eq!(line["level"], "INFO");
    assert_eq!(
        (&line["run"], &line["shard"], &line["chunk"]),
        (&"billing/october".into(), &3.into(), &17.into())
    );
    assert_eq!(line["rows"], 5);
    assert_eq!(line["total"].to_string().trim_matches('"'), i128::MAX.to_string());
    assert!(line["time"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn a_field_does_not_replace_the_lines_own_keys() {
    let text = logged(Format::Json, || info!(level = "loud", "once"));
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&line["level"], &line["field.level"]), (&"INFO".into(), &"loud".into()));
}

#[test]
fn human_lines_have_time_level_message_and_fields() {
    let text = logged(Format::Human, || info!(rows = 5, file = "usage.csv", why = "two words", "loaded"));
    let (_, rest) = text.split_once(' ').unwrap();
    assert_eq!(rest, "INFO  loaded file=usage.csv rows=5 why=\"two words\"\n");
}

#[test]
fn an_invalid_filter_error_shows_valid_examples() {
    let error = init("info,sqlx=loudly").unwrap_err().to_string();
    assert!(error.starts_with("log filter \"info,sqlx=loudly\" is not valid:"), "{error}");
    assert!(error.ends_with("examples are \"info\" and \"info,sqlx=debug\""), "{error}");
}

#[test]
fn a_repeated_cause_is_left_out() {
    assert_eq!(chain(&Outer(Inner)), format!("line rejected: address {EMAIL} of {PHONE}"));
}
