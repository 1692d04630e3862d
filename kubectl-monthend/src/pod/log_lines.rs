//! A pod's log has what the program wrote to standard output and to standard error in one stream.
//! The program's log lines are JSON objects, by which they are told apart.

use serde_json::{Map, Value};

/// A line of a pod's log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// What the command prints.
    Output(String),
    /// A log line, in words for a terminal.
    Log(String),
}

pub(super) fn line(text: &str) -> Line {
    match log_line(text) {
        Some(words) => Line::Log(words),
        None => Line::Output(text.to_owned()),
    }
}

/// `INFO  message field=value`, if the text is a log line.
fn log_line(text: &str) -> Option<String> {
    let fields: Map<String, Value> = serde_json::from_str(text.strip_suffix('\r').unwrap_or(text)).ok()?;
    let text = |name: &str| fields.get(name)?.as_str();
    let (_, _, level, message) = (text("time")?, text("target")?, text("level")?, text("message")?);
    let mut words = format!("{level:5} {message}");
    for (name, value) in &fields {
        if !["time", "target", "level", "message"].contains(&name.as_str()) {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            words.push_str(&format!(" {name}={value}"));
        }
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines_are_told_apart_from_what_the_command_prints() {
        let log = r#"{"time":"2026-11-05T00:00:00Z","level":"INFO","target":"monthend::load","message":"loading","load":7}"#;
        assert_eq!(line(log), Line::Log("INFO  loading load=7".to_owned()));
        for output in [
            "",
            "member 1042",
            "{",
            r#"  "message": "x","#,
            r#"{"month":"2026-10","liveRevision":1}"#,
            r#"{"level":"INFO","message":"of somebody else"}"#,
        ] {
            assert_eq!(line(output), Line::Output(output.to_owned()));
        }
    }
}
