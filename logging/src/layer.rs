//! The tracing layer that writes log lines. Every text is masked when it is recorded, before it is
//! stored anywhere. The formatters of `tracing-subscriber` are not used, because they would write
//! unmasked text.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::{self, Write as _};
use std::io::Write as _;

use serde_json::{Map, Number, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::error_chain::chain;
use crate::format::Format;
use crate::masking::mask_text;

const MESSAGE: &str = "message";

/// Writes each event as one masked line.
#[derive(Debug)]
pub struct MaskedLog<W> {
    format: Format,
    writer: W,
}

impl<W> MaskedLog<W> {
    pub fn new(format: Format, writer: W) -> Self {
        Self { format, writer }
    }
}

impl<S, W> Layer<S> for MaskedLog<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(of_span) = span.extensions().get::<Fields>() {
                fields.0.extend(of_span.0.iter().map(|(name, value)| (name.clone(), value.clone())));
            }
        }
        event.record(&mut fields);
        let message = match fields.0.remove(MESSAGE) {
            Some(Value::String(text)) => text,
            Some(other) => other.to_string(),
            None => String::new(),
        };
        let metadata = event.metadata();
        let mut time = String::new();
        // Formatting fails only for a clock before 1970. The line is then written without a time.
        let _ = SystemTime.format_time(&mut Writer::new(&mut time));
        let mut line = match self.format {
            Format::Json => json_line(&time, metadata.level().as_str(), metadata.target(), message, fields),
            Format::Human => human_line(&time, metadata.level().as_str(), &message, &fields),
        };
        line.push('\n');
        // There is no way to report that the log cannot be written.
        let _ = self.writer.make_writer_for(metadata).write_all(line.as_bytes());
    }
}

fn json_line(time: &str, level: &str, target: &str, message: String, fields: Fields) -> String {
    let mut line = Map::new();
    line.insert("time".into(), time.into());
    line.insert("level".into(), level.into());
    line.insert("target".into(), target.into());
    line.insert(MESSAGE.into(), message.into());
    for (name, value) in fields.0 {
        // A field must not replace one of the line's own keys.
        let name = if line.contains_key(&name) { format!("field.{name}") } else { name };
        line.insert(name, value);
    }
    Value::Object(line).to_string()
}

fn human_line(time: &str, level: &str, message: &str, fields: &Fields) -> String {
    let clock = time.get(11..19).unwrap_or(time);
    let mut line = format!("{clock} {level:5} {message}");
    for (name, value) in &fields.0 {
        let _ = match value {
            Value::String(text) if !text.contains([' ', '"', '\n']) => write!(line, " {name}={text}"),
            other => write!(line, " {name}={other}"),
        };
    }
    line
}

/// The recorded fields by name, masked.
#[derive(Debug, Default)]
struct Fields(BTreeMap<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        self.0.insert(field.name().to_owned(), value);
    }

    fn put_text(&mut self, field: &Field, text: &str) {
        self.put(field, Value::String(mask_text(text).into_owned()));
    }
}

impl Visit for Fields {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::Bool(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.put(field, Number::from_i128(value).map_or_else(|| value.to_string().into(), Value::Number));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.put(field, Number::from_u128(value).map_or_else(|| value.to_string().into(), Value::Number));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Number::from_f64(value).map_or(Value::Null, Value::Number));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put_text(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.put_text(field, &chain(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put_text(field, &format!("{value:?}"));
    }
}
