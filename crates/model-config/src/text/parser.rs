//! Reads tokens into a message, guided by the message's description.

use std::ops::Range;

use prost_reflect::{
    DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor,
    ReflectMessage, Value,
};

use super::{
    lexer::{Lexer, Token},
    places::Places,
    problem::Problem,
};

type Result<T> = std::result::Result<T, Problem>;

pub(super) fn parse(text: &str, message: &mut DynamicMessage) -> Result<Places> {
    let mut lexer = Lexer::new(text);
    let (token, span) = lexer.next()?;
    let places = Places::default();
    let mut parser = Parser { text, lexer, token, span, read_to: 0, places };
    while parser.token != Token::End {
        parser.field(message)?;
    }
    Ok(parser.places)
}

struct Parser<'a> {
    text: &'a str,
    lexer: Lexer<'a>,
    /// The token at hand and where it is.
    token: Token<'a>,
    span: Range<usize>,
    /// Where the token before ended.
    read_to: usize,
    places: Places,
}

impl<'a> Parser<'a> {
    /// One `name: value`, `name { ... }` or `name [ ... ]`, and the separator behind it.
    fn field(&mut self, message: &mut DynamicMessage) -> Result<()> {
        let Token::Name(name) = self.token else { return self.expected("field name") };
        let descriptor = message.descriptor();
        let Some(field) = descriptor.get_field_by_name(name) else {
            return Err(unknown_field(&descriptor, name, self.span.clone()));
        };
        check_unset(message, &field, &self.span)?;
        let (start, place) = (self.span.start, self.places.field(name));
        self.advance()?;
        let is_message = matches!(field.kind(), Kind::Message(_));
        // Protobuf wants the colon before a list of scalars, people like to forget it.
        if !self.accept(':')? && !is_message && self.token != Token::Symbol('[') {
            return self.expected_symbol("\":\"");
        }
        if field.is_list() || field.is_map() {
            self.repeated(message, &field)?;
        } else {
            let value = self.value(&field)?;
            message.set_field(&field, value);
        }
        self.places.ends(place, start..self.read_to);
        let _ = self.accept(',')? || self.accept(';')?;
        Ok(())
    }

    /// One element of a repeated field, or a bracketed list of them.
    fn repeated(&mut self, message: &mut DynamicMessage, field: &FieldDescriptor) -> Result<()> {
        if !self.accept('[')? {
            return self.element(message, field);
        }
        if self.accept(']')? {
            return Ok(());
        }
        loop {
            self.element(message, field)?;
            if self.accept(']')? {
                return Ok(());
            }
            if !self.accept(',')? {
                return self.expected_symbol("\",\" or \"]\"");
            }
        }
    }

    fn element(&mut self, message: &mut DynamicMessage, field: &FieldDescriptor) -> Result<()> {
        let value = self.value(field)?;
        match message.get_field_mut(field) {
            Value::Map(map) => {
                if let Some((key, value)) = map_entry(value) {
                    map.insert(key, value);
                }
            }
            Value::List(list) => list.push(value),
            other => *other = value,
        }
        Ok(())
    }

    fn value(&mut self, field: &FieldDescriptor) -> Result<Value> {
        Ok(match field.kind() {
            Kind::Message(descriptor) => Value::Message(self.message(&descriptor)?),
            Kind::Enum(descriptor) => {
                Value::EnumNumber(self.enumerator(&descriptor, field.name())?)
            }
            Kind::String => Value::String(self.string()?),
            Kind::Bool => Value::Bool(self.boolean()?),
            Kind::Float => Value::F32(self.float()? as f32),
            Kind::Double => Value::F64(self.float()?),
            Kind::Int32 => Value::I32(self.integer()?),
            Kind::Int64 => Value::I64(self.integer()?),
            Kind::Uint32 => Value::U32(self.integer()?),
            Kind::Uint64 => Value::U64(self.integer()?),
            // No field of a configuration has one of the remaining kinds.
            other => return self.problem(format!("Fields of kind {other:?} cannot be read.")),
        })
    }

    fn message(&mut self, descriptor: &MessageDescriptor) -> Result<DynamicMessage> {
        let end = if self.accept('{')? {
            '}'
        } else if self.accept('<')? {
            '>'
        } else {
            return self.expected_symbol("\"{\"");
        };
        let mut message = DynamicMessage::new(descriptor.clone());
        let outside = self.places.enter();
        while !self.accept(end)? {
            if self.token == Token::End {
                return self.expected_symbol(&format!("\"{end}\""));
            }
            self.field(&mut message)?;
        }
        self.places.leave(outside);
        Ok(message)
    }

    fn enumerator(&mut self, descriptor: &EnumDescriptor, field: &str) -> Result<i32> {
        let Token::Name(name) = self.token else {
            // Numbers without a name stay as they are, as in every other encoding of protobuf.
            return match self.token {
                Token::Integer(..) | Token::Symbol('-') => self.integer(),
                _ => self.expected("integer or identifier"),
            };
        };
        let Some(value) = descriptor.get_value_by_name(name) else {
            let known = descriptor.values().map(|value| value.name().to_owned());
            let suggestion = did_you_mean(name, known);
            let what = format!("Unknown enumeration value of \"{name}\" for field \"{field}\".");
            return self.problem(what + &suggestion);
        };
        self.advance()?;
        Ok(value.number())
    }

    /// A string, or several in a row, which are then one.
    fn string(&mut self) -> Result<String> {
        let start = self.span.start;
        let mut end = self.span.end;
        let mut bytes = Vec::new();
        let Token::Text(_) = self.token else { return self.expected("string") };
        while let Token::Text(part) = &self.token {
            bytes.extend_from_slice(part);
            end = self.span.end;
            self.advance()?;
        }
        let string = String::from_utf8(bytes)
            .map_err(|_| Problem::new("String is not valid UTF-8.", start..end))?;
        self.places.string(&string, start..end);
        Ok(string)
    }

    fn boolean(&mut self) -> Result<bool> {
        let value = match self.token {
            Token::Name("true" | "True" | "t") | Token::Integer("1", _) => true,
            Token::Name("false" | "False" | "f") | Token::Integer("0", _) => false,
            _ => return self.expected("\"true\" or \"false\""),
        };
        self.advance()?;
        Ok(value)
    }

    fn float(&mut self) -> Result<f64> {
        let sign = if self.accept('-')? { -1.0 } else { 1.0 };
        let value = match self.token {
            Token::Float(value) => value,
            Token::Integer(digits, 10) => digits.parse().unwrap_or(f64::INFINITY),
            Token::Name(name) if name.eq_ignore_ascii_case("nan") => f64::NAN,
            Token::Name(name) if is_infinity(name) => f64::INFINITY,
            _ => return self.expected("double"),
        };
        self.advance()?;
        Ok(sign * value)
    }

    fn integer<T: TryFrom<i128>>(&mut self) -> Result<T> {
        let start = self.span.start;
        let negative = self.accept('-')?;
        let Token::Integer(digits, radix) = self.token else { return self.expected("integer") };
        let span = start..self.span.end;
        let magnitude = i128::from_str_radix(digits, radix).ok();
        let value = magnitude.map(|magnitude| if negative { -magnitude } else { magnitude });
        self.advance()?;
        value.and_then(|value| T::try_from(value).ok()).ok_or_else(|| {
            Problem::new(format!("Integer out of range ({}).", &self.text[span.clone()]), span)
        })
    }

    fn advance(&mut self) -> Result<()> {
        self.read_to = self.span.end;
        (self.token, self.span) = self.lexer.next()?;
        Ok(())
    }

    /// Steps over `symbol` if it is the token at hand.
    fn accept(&mut self, symbol: char) -> Result<bool> {
        let found = self.token == Token::Symbol(symbol);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn problem<T>(&self, what: impl Into<String>) -> Result<T> {
        Err(Problem::new(what, self.span.clone()))
    }

    fn expected<T>(&self, what: &str) -> Result<T> {
        self.problem(format!("Expected {what}, got: {}", self.found()))
    }

    fn expected_symbol<T>(&self, symbols: &str) -> Result<T> {
        self.problem(format!("Expected {symbols}, found \"{}\".", self.found()))
    }

    fn found(&self) -> &'a str {
        match self.token {
            Token::End => "end of file",
            _ => &self.text[self.span.clone()],
        }
    }
}

fn is_infinity(name: &str) -> bool {
    name.eq_ignore_ascii_case("inf") || name.eq_ignore_ascii_case("infinity")
}

/// A field that is no list may be given once, and only one field of a oneof.
fn check_unset(
    message: &DynamicMessage,
    field: &FieldDescriptor,
    span: &Range<usize>,
) -> Result<()> {
    if field.is_list() || field.is_map() {
        return Ok(());
    }
    let name = field.name();
    if message.has_field(field) {
        let what = format!("Non-repeated field \"{name}\" is specified multiple times.");
        return Err(Problem::new(what, span.clone()));
    }
    let Some(oneof) = field.containing_oneof() else { return Ok(()) };
    let Some(other) = oneof.fields().find(|other| message.has_field(other)) else { return Ok(()) };
    let (other, oneof) = (other.name(), oneof.name());
    let what = format!(
        "Field \"{name}\" is specified along with field \"{other}\", another member of oneof \
         \"{oneof}\"."
    );
    Err(Problem::new(what, span.clone()))
}

fn map_entry(entry: Value) -> Option<(MapKey, Value)> {
    let Value::Message(entry) = entry else { return None };
    let key = entry.get_field_by_number(1)?.into_owned().into_map_key()?;
    Some((key, entry.get_field_by_number(2)?.into_owned()))
}

fn unknown_field(descriptor: &MessageDescriptor, name: &str, span: Range<usize>) -> Problem {
    let known = descriptor.fields().map(|field| field.name().to_owned());
    let suggestion = did_you_mean(name, known);
    let message = descriptor.full_name();
    Problem::new(
        format!("Message type \"{message}\" has no field named \"{name}\".{suggestion}"),
        span,
    )
}

/// The nearest known name, if it is near enough for `name` to be a slip of the keyboard.
fn did_you_mean(name: &str, known: impl Iterator<Item = String>) -> String {
    let nearest = known.map(|known| (strsim::damerau_levenshtein(name, &known), known)).min();
    match nearest {
        Some((distance, known)) if distance <= 1 + name.chars().count() / 4 => {
            format!(" Did you mean \"{known}\"?")
        }
        _ => String::new(),
    }
}
