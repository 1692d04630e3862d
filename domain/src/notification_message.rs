//! The Kafka message: a claim check with the key of a bill and no content of it. Owns the wire
//! format, and the errors of unusable messages. The errors never quote the message, because it can
//! contain anything.

use std::io::Write as _;

use serde_json::{Map, Value};

use crate::ids::{MemberId, Revision};
use crate::month::BillingMonth;

/// The version of the format that is written and read.
const VERSION: u64 = 1;
/// The maximum length of a payload in bytes, twice the length of the longest valid message.
const MAX_PAYLOAD: usize = 1024;
/// A namespace of 63 characters, the slash and a name of 253.
const MAX_RUN: usize = 317;

/// A bill that a run has to deliver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotificationMessage {
    pub month: BillingMonth,
    pub member: MemberId,
    pub revision: Revision,
    /// The run, as `NAMESPACE/NAME`.
    pub run: String,
}

/// Why a message cannot be used. The text can go into headers and logs, because it quotes nothing
/// of the message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnusableMessage {
    #[error("the message is empty")]
    Empty,
    #[error("the message has {0} bytes, more than the maximum of {MAX_PAYLOAD}")]
    TooLong(usize),
    #[error("the message is not valid JSON: syntax error in line {line}, column {column}")]
    NotJson { line: usize, column: usize },
    #[error("the message is not a JSON object")]
    NotAnObject,
    #[error("`v` is not {VERSION}, the only supported version")]
    Version,
    #[error("`{0}` is missing")]
    Missing(&'static str),
    #[error("`month` is not a month from 2000-01 to 2099-12, written \"YYYY-MM\"")]
    Month,
    #[error("`memberId` is not a string of plain digits from 1 to 2^63 - 1")]
    MemberId,
    #[error("`revision` is not a whole number from 1 to 2^31 - 1")]
    Revision,
    #[error("`run` is not \"NAMESPACE/NAME\"")]
    Run,
}

impl NotificationMessage {
    /// Parses a message. Unknown fields are ignored.
    ///
    /// # Errors
    /// Why the message is unusable.
    pub fn parse(payload: &[u8]) -> Result<Self, UnusableMessage> {
        match payload.len() {
            0 => return Err(UnusableMessage::Empty),
            bytes if bytes > MAX_PAYLOAD => return Err(UnusableMessage::TooLong(bytes)),
            _ => {}
        }
        let fields = match serde_json::from_slice(payload) {
            Ok(Value::Object(fields)) => fields,
            Ok(_) => return Err(UnusableMessage::NotAnObject),
            Err(error) => {
                return Err(UnusableMessage::NotJson { line: error.line(), column: error.column() });
            }
        };
        if fields.get("v").and_then(Value::as_u64) != Some(VERSION) {
            return Err(UnusableMessage::Version);
        }
        let text =
            |name, error: UnusableMessage| field(&fields, name).and_then(|value| value.as_str().ok_or(error));
        let month = text("month", UnusableMessage::Month)?.parse().map_err(|_| UnusableMessage::Month)?;
        let member =
            text("memberId", UnusableMessage::MemberId)?.parse().map_err(|_| UnusableMessage::MemberId)?;
        let revision =
            field(&fields, "revision")?.as_i64().and_then(|number| Revision::try_from(number).ok());
        let revision = revision.ok_or(UnusableMessage::Revision)?;
        let run = text("run", UnusableMessage::Run)?;
        if !is_run(run) {
            return Err(UnusableMessage::Run);
        }
        Ok(Self { month, member, revision, run: run.to_owned() })
    }

    /// The payload of the Kafka message.
    pub fn format(&self) -> Vec<u8> {
        let mut writer = NotificationMessageWriter::new(self.month, &self.run);
        writer.message(self.member, self.revision);
        writer.payload
    }
}

/// Writes the messages of one run, reusing one buffer.
#[derive(Debug)]
pub struct NotificationMessageWriter {
    /// The length of the part before the member id.
    head: usize,
    payload: Vec<u8>,
    key: Vec<u8>,
    /// The part after the revision.
    tail: Vec<u8>,
}

impl NotificationMessageWriter {
    /// A writer for the messages of a run. Months and run names contain no character that JSON
    /// escapes.
    pub fn new(month: BillingMonth, run: &str) -> Self {
        let payload = format!(r#"{{"v":{VERSION},"month":"{month}","memberId":""#).into_bytes();
        let tail = format!(r#","run":"{run}"}}"#).into_bytes();
        Self { head: payload.len(), payload, key: Vec::new(), tail }
    }

    /// The key and the payload of a bill's message. They are valid until the next call.
    pub fn message(&mut self, member: MemberId, revision: Revision) -> (&[u8], &[u8]) {
        self.key.clear();
        // Writing to a vector cannot fail.
        drop(write!(self.key, "{member}"));
        self.payload.truncate(self.head);
        self.payload.extend_from_slice(&self.key);
        drop(write!(self.payload, r#"","revision":{revision}"#));
        self.payload.extend_from_slice(&self.tail);
        (&self.key, &self.payload)
    }
}

fn field<'a>(fields: &'a Map<String, Value>, name: &'static str) -> Result<&'a Value, UnusableMessage> {
    fields.get(name).ok_or(UnusableMessage::Missing(name))
}

/// Whether a text has the form NAMESPACE/NAME and contains only the characters that such names can
/// have.
fn is_run(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
    };
    text.len() <= MAX_RUN
        && text.split_once('/').is_some_and(|(namespace, name)| part(namespace) && part(name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CONTRACT: &str =
        r#"{"v":1,"month":"2026-10","memberId":"9007199254740993","revision":1,"run":"NAMESPACE/NAME"}"#;

    fn message(text: &str) -> Result<NotificationMessage, UnusableMessage> {
        NotificationMessage::parse(text.as_bytes())
    }

    #[test]
    fn has_the_format_of_the_contract() {
        let run = "billing/october";
        let text = CONTRACT.replace("NAMESPACE/NAME", run);
        let read = message(&text).unwrap();
        let expected = NotificationMessage {
            month: "2026-10".parse().unwrap(),
            member: "9007199254740993".parse().unwrap(),
            revision: Revision::FIRST,
            run: run.to_owned(),
        };
        assert_eq!(read, expected);
        assert_eq!(String::from_utf8(read.format()).unwrap(), text);
    }

    #[test]
    fn a_writer_can_be_reused() {
        let mut writer = NotificationMessageWriter::new("2026-10".parse().unwrap(), "a/b");
        for (member, revision) in [(i64::MAX, 2), (7, 1), (10, i32::MAX)] {
            let (member, revision) =
                (MemberId::try_from(member).unwrap(), Revision::try_from(i64::from(revision)).unwrap());
            let (key, payload) = writer.message(member, revision);
            assert_eq!(key, member.to_string().as_bytes());
            let read = NotificationMessage::parse(payload).unwrap();
            assert_eq!((read.member, read.revision, read.run.as_str()), (member, revision, "a/b"));
        }
    }

    #[test]
    fn errors_name_the_problem_without_quoting_the_message() {
        use UnusableMessage as Unusable;
        let good = CONTRACT.replace("NAMESPACE/NAME", "a/b");
        assert!(message(&good).is_ok());
        assert!(message(&good.replace("{\"v\"", "{\"new\":[],\"v\"")).is_ok(), "unknown fields are ignored");
        let long = good.replace("a/b", &format!("a/{}", "b".repeat(1000)));
        let cases = [
            (String::new(), Unusable::Empty),
            (long.clone(), Unusable::TooLong(long.len())),
            ("kim@example.com".to_owned(), Unusable::NotJson { line: 1, column: 1 }),
            (good.replace('}', ""), Unusable::NotJson { line: 1, column: good.len() - 1 }),
            ("\"kim@example.com\"".to_owned(), Unusable::NotAnObject),
            (format!("[{good}]"), Unusable::NotAnObject),
            (good.replace("\"v\":1,", ""), Unusable::Version),
            (good.replace("\"v\":1", "\"v\":2"), Unusable::Version),
            (good.replace("\"v\":1", "\"v\":\"1\""), Unusable::Version),
            (good.replace("\"month\":\"2026-10\",", ""), Unusable::Missing("month")),
            (good.replace("2026-10", "2026-13"), Unusable::Month),
            (good.replace("\"2026-10\"", "202610"), Unusable::Month),
            (good.replace("\"9007199254740993\"", "9007199254740993"), Unusable::MemberId),
            (good.replace("9007199254740993", "kim@example.com"), Unusable::MemberId),
            (good.replace("9007199254740993", "0"), Unusable::MemberId),
            (good.replace("memberId", "memberid"), Unusable::Missing("memberId")),
            (good.replace("\"revision\":1", "\"revision\":0"), Unusable::Revision),
            (good.replace("\"revision\":1", "\"revision\":1.5"), Unusable::Revision),
            (good.replace("\"revision\":1", "\"revision\":\"1\""), Unusable::Revision),
            (good.replace("\"revision\":1", "\"revision\":2147483648"), Unusable::Revision),
            (good.replace("\"revision\":1,", ""), Unusable::Missing("revision")),
            (good.replace(",\"run\":\"a/b\"", ""), Unusable::Missing("run")),
            (good.replace("a/b", "b"), Unusable::Run),
            (good.replace("a/b", "/b"), Unusable::Run),
            (good.replace("a/b", "a/"), Unusable::Run),
            (good.replace("a/b", "a/b/c"), Unusable::Run),
            (good.replace("a/b", "a/B\\n"), Unusable::Run),
            (good.replace("a/b", &format!("a/{}", "b".repeat(MAX_RUN))), Unusable::Run),
        ];
        for (text, expected) in cases {
            let error = message(&text).unwrap_err();
            assert_eq!(error, expected, "{text}");
            assert!(!error.to_string().contains("kim"), "{error}");
        }
        assert_eq!(
            NotificationMessage::parse(&[b'"', 0xff, b'"']),
            Err(Unusable::NotJson { line: 1, column: 2 }),
            "invalid UTF-8"
        );
    }

    proptest! {
        #[test]
        fn a_written_message_can_be_parsed(
            year in 2000..=2099_i32, month in 1..=12_i32, member in 1..=i64::MAX, revision in 1..=i32::MAX,
            run in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/[a-z0-9]([a-z0-9.-]{0,200}[a-z0-9])?",
        ) {
            let message = NotificationMessage {
                month: format!("{year:04}-{month:02}").parse().unwrap(),
                member: MemberId::try_from(member).unwrap(),
                revision: Revision::try_from(i64::from(revision)).unwrap(),
                run,
            };
            prop_assert_eq!(NotificationMessage::parse(&message.format()), Ok(message));
        }

        #[test]
        fn any_payload_is_parsed_or_rejected(payload in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(message) = NotificationMessage::parse(&payload) {
                prop_assert_eq!(NotificationMessage::parse(&message.format()), Ok(message));
            }
        }
    }
}
