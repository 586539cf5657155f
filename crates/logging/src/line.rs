//! From an event to a line.

use std::fmt::{Debug, Write as _};
use std::path::Path;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata};

use crate::clock::Moment;
use crate::settings::Format;

/// `escape`: whether a message stays on one line, whatever it holds.
pub(crate) fn line(format: Format, escape: bool, event: &Event<'_>) -> String {
    let (metadata, now) = (event.metadata(), Moment::now());
    let Moment { year, month, day, hour, minute, second, micros } = now;
    let (letter, pid, place) = (letter(metadata), std::process::id(), place(metadata));
    match format {
        Format::Default => {
            let time = format!("{month:02}{day:02} {hour:02}:{minute:02}:{second:02}.{micros:06}");
            format!("{letter}{time} {pid} {place}] {}\n", text(event, escape))
        }
        Format::Iso8601 => {
            let time = format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z");
            format!("{time} {letter} {pid} {place}] {}\n", text(event, escape))
        }
        Format::Json => {
            let date = format!("{year}-{month:02}-{day:02}");
            let mut object = Object(Map::new());
            object.add("time", format!("{date}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z"));
            object.add("level", word(metadata));
            object.add("pid", pid);
            object.add("place", place);
            event.record(&mut object);
            format!("{}\n", Value::Object(object.0))
        }
    }
}

/// Triton's letters; verbose messages have that of information.
fn letter(metadata: &Metadata<'_>) -> char {
    match *metadata.level() {
        Level::ERROR => 'E',
        Level::WARN => 'W',
        _ => 'I',
    }
}

fn word(metadata: &Metadata<'_>) -> &'static str {
    match *metadata.level() {
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "info",
        _ => "verbose",
    }
}

fn place(metadata: &Metadata<'_>) -> String {
    let file = metadata.file().and_then(|file| Path::new(file).file_name()?.to_str());
    format!("{}:{}", file.unwrap_or(metadata.target()), metadata.line().unwrap_or(0))
}

fn text(event: &Event<'_>, escape: bool) -> String {
    let mut text = Text::default();
    event.record(&mut text);
    let whole = text.message + &text.fields;
    if escape { Value::String(whole).to_string() } else { whole }
}

/// The message, with the other fields behind it.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to memory does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

struct Object(Map<String, Value>);

impl Object {
    fn add(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }
}

impl Visit for Object {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field.name(), value);
    }
}
