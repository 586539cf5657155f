//! The configuration as JSON, as `/v2/models/NAME/config` shows it and load overrides bring it.

use std::fmt::Write;

use nereid_inference::{Error, Result};
use prost_reflect::{
    DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, ReflectMessage, Value,
};

use crate::{ModelConfig, descriptor};

/// Prints a configuration the way Triton does: names as in `config.pbtxt`, keys in the order of
/// declaration, every scalar and every list even if empty, no message that was not given.
pub fn to_json(config: &ModelConfig) -> String {
    let mut json = String::new();
    write_message(&mut json, &descriptor::to_dynamic(config));
    json
}

/// Reads a configuration from JSON, in Triton's spelling or in protobuf's own.
///
/// # Errors
/// Invalid argument, if `text` is no JSON or no configuration.
pub fn from_json(text: &str) -> Result<ModelConfig> {
    let invalid = |error: serde_json::Error| Error::invalid_arg(error.to_string());
    let mut json = serde_json::Deserializer::from_str(text);
    let message = DynamicMessage::deserialize(descriptor::model_config(), &mut json);
    let message = message.map_err(invalid)?;
    json.end().map_err(invalid)?;
    descriptor::from_dynamic(&message)
}

fn write_message(json: &mut String, message: &DynamicMessage) {
    json.push('{');
    let start = json.len();
    let descriptor = message.descriptor();
    let declared = descriptor.descriptor_proto().field.iter();
    let declared =
        declared.filter_map(|field| descriptor.get_field(field.number().cast_unsigned()));
    // Protobuf's printer knows scalars of a oneof only once it meets them, hence puts them last.
    let (late, early): (Vec<_>, Vec<_>) = declared.partition(|field| {
        field.containing_oneof().is_some() && field.kind().as_message().is_none()
    });
    for field in early.iter().chain(&late) {
        if message.has_field(field) || !field.supports_presence() {
            separate(json, start);
            write_string(json, field.name());
            json.push(':');
            write_field(json, field, &message.get_field(field));
        }
    }
    json.push('}');
}

fn write_field(json: &mut String, field: &FieldDescriptor, value: &Value) {
    match value {
        Value::List(elements) => {
            json.push('[');
            let start = json.len();
            for element in elements {
                separate(json, start);
                write_single(json, field, element);
            }
            json.push(']');
        }
        Value::Map(entries) => write_map(json, field, entries.iter().collect()),
        single => write_single(json, field, single),
    }
}

/// 64-bit integers which protobuf quotes and which Triton, unlike the others, leaves so.
const QUOTED: [&str; 3] = [
    "inference.ModelInstanceGroup.SecondaryDevice.device_id",
    "inference.ModelOptimizationPolicy.Cuda.GraphSpec.Shape.dim",
    "inference.ModelSequenceBatching.InitialState.dims",
];

fn write_single(json: &mut String, field: &FieldDescriptor, value: &Value) {
    match value {
        Value::I64(number) if QUOTED.contains(&field.full_name()) => {
            write_string(json, &number.to_string());
        }
        other => write_value(json, &field.kind(), other),
    }
}

fn write_map(json: &mut String, field: &FieldDescriptor, mut entries: Vec<(&MapKey, &Value)>) {
    let Kind::Message(entry) = field.kind() else { return };
    entries.sort_by_key(|(key, _)| *key);
    json.push('{');
    let start = json.len();
    for (key, value) in entries {
        separate(json, start);
        match key {
            MapKey::String(key) => write_string(json, key),
            MapKey::U64(key) => write_string(json, &key.to_string()),
            // The configuration has no map with other keys.
            other => write_string(json, &format!("{other:?}")),
        }
        json.push(':');
        write_value(json, &entry.map_entry_value_field().kind(), value);
    }
    json.push('}');
}

fn write_value(json: &mut String, kind: &Kind, value: &Value) {
    let written = match value {
        Value::Message(message) => {
            write_message(json, message);
            Ok(())
        }
        Value::String(text) => {
            write_string(json, text);
            Ok(())
        }
        Value::EnumNumber(number) => {
            write_enum(json, kind, *number);
            Ok(())
        }
        Value::Bool(value) => write!(json, "{value}"),
        Value::I32(value) => write!(json, "{value}"),
        Value::I64(value) => write!(json, "{value}"),
        Value::U32(value) => write!(json, "{value}"),
        Value::U64(value) => write!(json, "{value}"),
        Value::F32(value) => write!(json, "{}", Float(f64::from(*value), value.to_string())),
        Value::F64(value) => write!(json, "{}", Float(*value, value.to_string())),
        // Lists and maps hold no lists and maps, and no field is of type bytes.
        Value::Bytes(_) | Value::List(_) | Value::Map(_) => write!(json, "null"),
    };
    written.expect("writing to a string cannot fail");
}

/// A number and its shortest spelling; JSON has no numbers for the rest, so that protobuf quotes it.
struct Float(f64, String);

impl std::fmt::Display for Float {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            value if value.is_nan() => f.write_str("\"NaN\""),
            f64::INFINITY => f.write_str("\"Infinity\""),
            f64::NEG_INFINITY => f.write_str("\"-Infinity\""),
            _ => f.write_str(&self.1),
        }
    }
}

/// A number without a name stays a number.
fn write_enum(json: &mut String, kind: &Kind, number: i32) {
    let name = kind.as_enum().and_then(|descriptor: &EnumDescriptor| descriptor.get_value(number));
    match name {
        Some(value) => write_string(json, value.name()),
        None => json.push_str(&number.to_string()),
    }
}

fn write_string(json: &mut String, text: &str) {
    json.push_str(&serde_json::Value::from(text).to_string());
}

/// A comma, except before the first element of what began at `start`.
fn separate(json: &mut String, start: usize) {
    if json.len() > start {
        json.push(',');
    }
}
