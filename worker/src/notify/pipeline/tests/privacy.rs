//! No name, address or amount is in a log, a metric or the reasons in the database, whatever fails
//! and whatever is logged.

use std::io;
use std::sync::{Mutex, PoisonError};

use logging::{Format, MaskedLog};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};

use super::mail_server::{Act, Stage};
use super::*;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
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

/// Runs on one thread, so that the test's subscriber gets every log line.
#[tokio::test]
async fn no_log_level_shows_personal_data() {
    let lines = Lines::default();
    let log = MaskedLog::new(Format::Json, lines.clone()).with_filter(LevelFilter::TRACE);
    let _subscribed = tracing::subscriber::set_default(tracing_subscriber::registry().with(log));
    let fixture = Fixture::new(12).await;
    fixture.server.script(|step| match (step.stage, member_of(step.to)) {
        (Stage::Rcpt, 1) => {
            Act::Reply("550 5.1.1 haneul.canary1@secret.example.net: haneul.canary1 is nobody here")
        }
        (Stage::Rcpt, 2) if step.before == 0 => {
            Act::Reply("450 4.2.0 \"haneul.canary2\"@secret.example.net is busy")
        }
        (Stage::Data, 3) if step.before == 0 => Act::Drop,
        (Stage::End, 4) => Act::Drop,
        (Stage::End, 5) => Act::Reply("554 5.6.0 <HANEUL.CANARY5@SECRET.EXAMPLE.NET> says no"),
        _ => Act::Accept,
    });
    fixture.sql("update member set name = '\\x00' where member_id = 6").await;
    let run = fixture.run(1).await;
    let engine = fixture.engine();
    engine.intake().submit(fixture.messages(&run).await).await.unwrap().await.unwrap();
    fixture.ended(&run).await;
    let metrics = fixture.config().metrics.render().unwrap();
    engine.drain(LIMIT).await.unwrap();
    assert_eq!(fixture.counts(&run).await, "FAILED 3, SENT 8, UNKNOWN 1");
    let reasons = fixture.one("select string_agg(reason, ' ') from notice_target").await;
    let logged = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("deferred an email"), "the subscriber got the log");
    for canary in ["canary", "haneul", "secret.example", "89000", "89,000"] {
        for (place, text) in [("log", &logged), ("reasons", &reasons), ("metrics", &metrics)] {
            let found = text.to_lowercase().find(canary);
            assert!(
                found.is_none(),
                "{canary} in the {place}: {}",
                &text[found.unwrap_or(0).saturating_sub(200)..]
            );
        }
    }
}
