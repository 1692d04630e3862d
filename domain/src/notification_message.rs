//! The message on the topic of notices: a claim check that says which bill is due and nothing about it. Owns its form on
//! the wire, and the name of everything that makes a message unusable. What is refused is never quoted: anybody can
//! write anything to a topic.

use std::io::Write as _;

use serde_json::{Map, Value};

use crate::ids::{MemberId, Revision};
use crate::month::BillingMonth;

/// The version that this one writes and reads.
const VERSION: u64 = 1;
/// A month, two ids and the longest run there can be come to half of it.
const LONGEST: usize = 1024;
/// A namespace of 63 characters, the slash, a name of 253.
const LONGEST_RUN: usize = 317;

/// A bill that a run wants delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotificationMessage {
    pub month: BillingMonth,
    pub member: MemberId,
    pub revision: Revision,
    /// The run, as `NAMESPACE/NAME`.
    pub run: String,
}

/// Why a message can't be used. Its text is fit for a header and a log: it quotes nothing of the message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnusableMessage {
    #[error("the message is empty")]
    Empty,
    #[error("the message has {0} bytes, more than a notice's {LONGEST}")]
    TooLong(usize),
    #[error("the message is no JSON: it can't be read past line {line}, column {column}")]
    NotJson { line: usize, column: usize },
    #[error("the message is no JSON object")]
    NotAnObject,
    #[error("`v` is missing or no version {VERSION}, the only one known here")]
    Version,
    #[error("`{0}` is missing")]
    Missing(&'static str),
    #[error("`month` is not a month from 2000-01 to 2099-12, written \"YYYY-MM\"")]
    Month,
    #[error("`memberId` is not a text of plain digits, from 1 to 2^63 - 1")]
    MemberId,
    #[error("`revision` is not a whole number from 1 to 2^31 - 1")]
    Revision,
    #[error("`run` is not \"NAMESPACE/NAME\"")]
    Run,
}

impl NotificationMessage {
    /// Reads a message. Fields that this version doesn't know are passed over.
    ///
    /// # Errors
    /// What makes it unusable.
    pub fn parse(payload: &[u8]) -> Result<Self, UnusableMessage> {
        match payload.len() {
            0 => return Err(UnusableMessage::Empty),
            bytes if bytes > LONGEST => return Err(UnusableMessage::TooLong(bytes)),
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
        let text = |name, refusal: UnusableMessage| {
            field(&fields, name).and_then(|value| value.as_str().ok_or(refusal))
        };
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

    /// The message as it goes on the topic.
    pub fn format(&self) -> Vec<u8> {
        let mut writer = NotificationMessageWriter::new(self.month, &self.run);
        writer.message(self.member, self.revision);
        writer.payload
    }
}

/// Writes the messages of one run one after another into the same memory.
#[derive(Debug)]
pub struct NotificationMessageWriter {
    /// Everything before the member's id.
    head: usize,
    payload: Vec<u8>,
    key: Vec<u8>,
    /// Everything after the revision.
    tail: Vec<u8>,
}

impl NotificationMessageWriter {
    /// For the messages of a run. Months and names of runs have no character that JSON would escape.
    pub fn new(month: BillingMonth, run: &str) -> Self {
        let payload = format!(r#"{{"v":{VERSION},"month":"{month}","memberId":""#).into_bytes();
        let tail = format!(r#","run":"{run}"}}"#).into_bytes();
        Self { head: payload.len(), payload, key: Vec::new(), tail }
    }

    /// The key and the payload of a bill's message, valid until the next.
    pub fn message(&mut self, member: MemberId, revision: Revision) -> (&[u8], &[u8]) {
        self.key.clear();
        // A vector takes whatever is written to it.
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

/// Whether a text has the form of a namespaced object's name, in the characters that such names are made of.
fn is_run(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
    };
    text.len() <= LONGEST_RUN
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
    fn is_written_as_the_contract_has_it() {
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
    fn one_writer_writes_many() {
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
    fn names_what_is_wrong_without_quoting_it() {
        use UnusableMessage as Unusable;
        let good = CONTRACT.replace("NAMESPACE/NAME", "a/b");
        assert!(message(&good).is_ok());
        assert!(
            message(&good.replace("{\"v\"", "{\"new\":[],\"v\"")).is_ok(),
            "unknown fields are passed over"
        );
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
            (good.replace("a/b", &format!("a/{}", "b".repeat(LONGEST_RUN))), Unusable::Run),
        ];
        for (text, expected) in cases {
            let refused = message(&text).unwrap_err();
            assert_eq!(refused, expected, "{text}");
            assert!(!refused.to_string().contains("kim"), "{refused}");
        }
        assert_eq!(
            NotificationMessage::parse(&[b'"', 0xff, b'"']),
            Err(Unusable::NotJson { line: 1, column: 2 }),
            "no UTF-8"
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
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
        fn whatever_comes_in_is_read_or_refused(payload in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(message) = NotificationMessage::parse(&payload) {
                prop_assert_eq!(NotificationMessage::parse(&message.format()), Ok(message));
            }
        }
    }
}
