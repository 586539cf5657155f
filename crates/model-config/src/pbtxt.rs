//! A configuration as the text of a `config.pbtxt`, the way people write it.

use std::fmt::Write;

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage, Value};

use crate::{ModelConfig, descriptor};

/// Prints what a configuration sets; [`crate::parse`] leads back to it.
pub fn to_pbtxt(config: &ModelConfig) -> String {
    to_pbtxt_with(config, |_| None)
}

/// As [`to_pbtxt`], with comments above fields, asked for by names such as `ModelInput.dims`.
pub fn to_pbtxt_with(
    config: &ModelConfig,
    comment: impl Fn(&str) -> Option<&'static str>,
) -> String {
    let mut writer = Writer { text: String::new(), indent: 0, comment: &comment };
    writer.message(&descriptor::to_dynamic(config));
    writer.text
}

struct Writer<'a> {
    text: String,
    indent: usize,
    comment: &'a dyn Fn(&str) -> Option<&'static str>,
}

impl Writer<'_> {
    fn message(&mut self, message: &DynamicMessage) {
        let descriptor = message.descriptor();
        let declared = descriptor.descriptor_proto().field.iter();
        let fields =
            declared.filter_map(|field| descriptor.get_field(field.number().cast_unsigned()));
        for field in fields.filter(|field| message.has_field(field)) {
            let name = field.full_name().trim_start_matches("inference.");
            for line in (self.comment)(name).into_iter().flat_map(str::lines) {
                self.line(&format!("# {line}"));
            }
            self.field(&field, &message.get_field(&field));
        }
    }

    fn field(&mut self, field: &FieldDescriptor, value: &Value) {
        let name = field.name();
        match value {
            Value::List(list) if field.kind().as_message().is_some() => {
                self.line(&format!("{name} ["));
                self.indent += 1;
                for (number, element) in list.iter().enumerate() {
                    self.block("", element);
                    if number + 1 < list.len() {
                        // Behind the brace that closes the element.
                        self.text.truncate(self.text.len() - 1);
                        self.text.push_str(",\n");
                    }
                }
                self.indent -= 1;
                self.line("]");
            }
            Value::List(list) => {
                let list: Vec<String> = list.iter().map(|e| scalar(&field.kind(), e)).collect();
                self.line(&format!("{name}: [ {} ]", list.join(", ")));
            }
            Value::Map(map) => {
                let mut entries: Vec<_> = map.iter().collect();
                entries.sort_by_key(|(key, _)| *key);
                for (key, value) in entries {
                    self.entry(field, key, value);
                }
            }
            Value::Message(_) => self.block(&format!("{name} "), value),
            single => self.line(&format!("{name}: {}", scalar(&field.kind(), single))),
        }
    }

    fn entry(&mut self, field: &FieldDescriptor, key: &MapKey, value: &Value) {
        let Kind::Message(entry) = field.kind() else { return };
        let key = scalar(&entry.map_entry_key_field().kind(), &key.clone().into());
        self.line(&format!("{} {{", field.name()));
        self.indent += 1;
        self.line(&format!("key: {key}"));
        match value {
            Value::Message(_) => self.block("value ", value),
            single => {
                let kind = entry.map_entry_value_field().kind();
                self.line(&format!("value: {}", scalar(&kind, single)));
            }
        }
        self.indent -= 1;
        self.line("}");
    }

    fn block(&mut self, name: &str, value: &Value) {
        let Value::Message(message) = value else { return };
        self.line(&format!("{name}{{"));
        self.indent += 1;
        self.message(message);
        self.indent -= 1;
        self.line("}");
    }

    fn line(&mut self, line: &str) {
        let _ = writeln!(self.text, "{:1$}{line}", "", 2 * self.indent);
    }
}

fn scalar(kind: &Kind, value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Bool(value) => value.to_string(),
        Value::I32(value) => value.to_string(),
        Value::I64(value) => value.to_string(),
        Value::U32(value) => value.to_string(),
        Value::U64(value) => value.to_string(),
        Value::F32(value) => value.to_string(),
        Value::F64(value) => value.to_string(),
        Value::EnumNumber(number) => {
            let named = kind.as_enum().and_then(|descriptor| descriptor.get_value(*number));
            named.map_or(number.to_string(), |value| value.name().to_owned())
        }
        // Lists and maps hold no lists and maps, and no field is of type bytes.
        Value::Bytes(_) | Value::Message(_) | Value::List(_) | Value::Map(_) => String::new(),
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
