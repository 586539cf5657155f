//! Reads JSON text into a [`Value`], except for the arrays that hold tensors.

use std::borrow::Cow;

use nereid_inference::{Error, Result};

use super::value::lossy;
use super::{Value, number};

/// Levels of arrays and objects, and again as many inside a tensor's `data`, where Triton counts
/// them; deeper text is refused before it can exhaust the stack.
const MAX_DEPTH: usize = 100;

/// Parses a whole document. Tensors are the arrays of members called `data`.
pub(crate) fn parse(text: &[u8]) -> Result<Value<'_>> {
    document(Parser::at(text, 0))
}

/// Parses a whole document in which the array of any member may be a tensor.
pub(crate) fn parse_flat(text: &[u8]) -> Result<Value<'_>> {
    document(Parser { is_tensor: |_| true, ..Parser::at(text, 0) })
}

fn document(mut parser: Parser<'_>) -> Result<Value<'_>> {
    let text = parser.text;
    parser.skip_space();
    if parser.at == text.len() {
        return Err(parser.error("The document is empty.", parser.at));
    }
    let value = parser.value()?;
    parser.skip_space();
    if parser.at < text.len() {
        let message = "The document root must not be followed by other values.";
        return Err(parser.error(message, parser.at));
    }
    Ok(value)
}

pub(super) struct Parser<'a> {
    pub(super) text: &'a [u8],
    pub(super) at: usize,
    /// Whether an array that is the member of this name is a tensor.
    is_tensor: fn(&str) -> bool,
    depth: usize,
    /// [`MAX_DEPTH`], counted from the outermost `data` that is being read.
    max_depth: usize,
}

impl<'a> Parser<'a> {
    pub(super) fn at(text: &'a [u8], at: usize) -> Self {
        Self { text, at, is_tensor: |name| name == "data", depth: 0, max_depth: MAX_DEPTH }
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    pub(super) fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn error(&self, message: &str, at: usize) -> Error {
        Error::internal(format!("failed to parse the request JSON buffer: {message} at {at}"))
    }

    pub(super) fn value(&mut self) -> Result<Value<'a>> {
        match self.peek() {
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b'"') => self.string().map(Value::String),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            _ => self.number(),
        }
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<Value<'a>>) -> Result<Value<'a>> {
        if self.depth == self.max_depth {
            return Err(Error::invalid_arg(format!(
                "JSON nesting depth exceeds maximum allowed limit ({MAX_DEPTH})"
            )));
        }
        self.depth += 1;
        self.at += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn word(&mut self, word: &str, value: Value<'a>) -> Result<Value<'a>> {
        if self.text[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(value);
        }
        // RapidJSON stops behind the first letter that differs.
        let same = word.bytes().zip(&self.text[self.at..]).take_while(|(a, b)| a == *b).count();
        Err(self.error("Invalid value.", self.at + same))
    }

    pub(super) fn number(&mut self) -> Result<Value<'a>> {
        let (value, len) = number::read(&self.text[self.at..])
            .map_err(|(message, offset)| self.error(message, self.at + offset))?;
        self.at += len;
        Ok(value)
    }

    fn array(&mut self) -> Result<Value<'a>> {
        let mut values = Vec::new();
        self.elements(|parser| parser.value().map(|value| values.push(value)))?;
        Ok(Value::Array(values))
    }

    /// How many elements the array has that starts here.
    pub(super) fn array_len(&mut self) -> Result<usize> {
        let mut count = 0;
        self.at += 1;
        self.elements(|parser| {
            count += 1;
            parser.skip()
        })?;
        Ok(count)
    }

    /// Checks an array without keeping it.
    fn skip_array(&mut self) -> Result<Value<'a>> {
        self.elements(Self::skip)?;
        Ok(Value::Null)
    }

    fn skip(&mut self) -> Result<()> {
        match self.peek() {
            Some(b'[') => self.nested(Self::skip_array).map(drop),
            Some(b'-' | b'0'..=b'9') => self.skip_number(),
            Some(b'"') if self.skip_plain_string() => Ok(()),
            _ => self.value().map(drop),
        }
    }

    fn skip_number(&mut self) -> Result<()> {
        let len = number::skip(&self.text[self.at..])
            .map_err(|(message, offset)| self.error(message, self.at + offset))?;
        self.at += len;
        Ok(())
    }

    /// Skips a string that needs no decoding; says whether it was one.
    fn skip_plain_string(&mut self) -> bool {
        let rest = &self.text[self.at + 1..];
        let plain = plain_len(rest);
        let ends = rest.get(plain) == Some(&b'"');
        if ends {
            self.at += plain + 2;
        }
        ends
    }

    fn elements(&mut self, mut element: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        self.skip_space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.skip_space();
            element(self)?;
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => {
                    let message = "Missing a comma or ']' after an array element.";
                    return Err(self.error(message, self.at));
                }
            }
        }
        self.at += 1;
        Ok(())
    }

    fn object(&mut self) -> Result<Value<'a>> {
        let mut members = Vec::new();
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Object(members));
        }
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return Err(self.error("Missing a name for object member.", self.at));
            }
            let name = text_of(self.string()?);
            self.skip_space();
            if self.peek() != Some(b':') {
                return Err(self.error("Missing a colon after a name of object member.", self.at));
            }
            self.at += 1;
            self.skip_space();
            let value = self.member_value(&name)?;
            members.push((name, value));
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => {
                    let message = "Missing a comma or '}' after an object member.";
                    return Err(self.error(message, self.at));
                }
            }
        }
        self.at += 1;
        Ok(Value::Object(members))
    }

    fn member_value(&mut self, name: &str) -> Result<Value<'a>> {
        if self.peek() != Some(b'[') || !(self.is_tensor)(name) {
            return self.value();
        }
        let start = self.at;
        let outer = self.max_depth;
        // Not again for a `data` inside a `data`: that could go on forever.
        if outer == MAX_DEPTH {
            self.max_depth = self.depth + MAX_DEPTH;
        }
        self.nested(Self::skip_array)?;
        self.max_depth = outer;
        Ok(Value::Data(start..self.at))
    }

    pub(super) fn string(&mut self) -> Result<Cow<'a, [u8]>> {
        self.at += 1;
        let text = self.text;
        let start = &text[self.at..];
        let plain = plain_len(start);
        if start.get(plain) == Some(&b'"') {
            self.at += plain + 1;
            return Ok(Cow::Borrowed(&start[..plain]));
        }
        let mut string = Vec::new();
        loop {
            let rest = &text[self.at..];
            let plain = plain_len(rest);
            string.extend_from_slice(&rest[..plain]);
            self.at += plain;
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => self.escape(&mut string)?,
                Some(0) | None => {
                    let message = "Missing a closing quotation mark in string.";
                    return Err(self.error(message, self.at));
                }
                // A bare control character.
                Some(_) => {
                    return Err(self.error("Invalid escape character in string.", self.at));
                }
            }
        }
        self.at += 1;
        Ok(Cow::Owned(string))
    }

    fn escape(&mut self, string: &mut Vec<u8>) -> Result<()> {
        let start = self.at;
        let plain = match self.text.get(start + 1) {
            Some(b'"') => b'"',
            Some(b'\\') => b'\\',
            Some(b'/') => b'/',
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => return self.unicode(string),
            _ => return Err(self.error("Invalid escape character in string.", start)),
        };
        string.push(plain);
        self.at += 2;
        Ok(())
    }

    fn unicode(&mut self, string: &mut Vec<u8>) -> Result<()> {
        let start = self.at;
        let surrogate = "The surrogate pair in string is invalid.";
        let mut code = self.hex(start)?;
        if (0xD800..0xDC00).contains(&code) {
            if !self.text[self.at..].starts_with(b"\\u") {
                return Err(self.error(surrogate, start));
            }
            let low = self.hex(start)?;
            if !(0xDC00..0xE000).contains(&low) {
                return Err(self.error(surrogate, start));
            }
            code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        }
        match char::from_u32(code) {
            Some(character) => {
                string.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            // A second half without a first. RapidJSON encodes it as if it were a character.
            None => string.extend([
                0xE0 | (code >> 12) as u8,
                0x80 | (code >> 6 & 0x3F) as u8,
                0x80 | (code & 0x3F) as u8,
            ]),
        }
        Ok(())
    }

    /// The four digits behind a `\u`. Errors are those of the escape at `start`.
    fn hex(&mut self, start: usize) -> Result<u32> {
        let digits = self.text.get(self.at + 2..self.at + 6).unwrap_or_default();
        let mut code = 0;
        for &digit in digits {
            let Some(digit) = char::from(digit).to_digit(16) else { break };
            code = code * 16 + digit;
        }
        if digits.len() != 4 || !digits.iter().all(u8::is_ascii_hexdigit) {
            let message = "Incorrect hex digit after \\u escape in string.";
            return Err(self.error(message, start));
        }
        self.at += 6;
        Ok(code)
    }
}

/// A name as text, whatever its bytes are.
fn text_of(name: Cow<'_, [u8]>) -> Cow<'_, str> {
    match name {
        Cow::Borrowed(bytes) => lossy(bytes),
        Cow::Owned(bytes) => Cow::Owned(lossy(&bytes).into_owned()),
    }
}

/// How many bytes at the start of `text` stand for themselves in a string.
fn plain_len(text: &[u8]) -> usize {
    text.iter().take_while(|&&byte| byte != b'"' && byte != b'\\' && byte >= 0x20).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, message: &str) {
        let error = parse(text.as_bytes()).unwrap_err();
        let expected = format!("failed to parse the request JSON buffer: {message}");
        assert_eq!(error.message(), expected, "{text}");
    }

    #[test]
    fn errors_in_rapidjsons_words() {
        check("", "The document is empty. at 0");
        check("{} x", "The document root must not be followed by other values. at 3");
        check("{1:2}", "Missing a name for object member. at 1");
        check("{\"a\" 2}", "Missing a colon after a name of object member. at 5");
        check("{\"a\":2", "Missing a comma or '}' after an object member. at 6");
        check("[1 2]", "Missing a comma or ']' after an array element. at 3");
        check("[1.]", "Miss fraction part in number. at 3");
        check("[1e]", "Miss exponent in number. at 3");
        check("\"abc", "Missing a closing quotation mark in string. at 4");
        check("\"\\x\"", "Invalid escape character in string. at 1");
        check("nonsense", "Invalid value. at 1");
        check("  ", "The document is empty. at 2");
        check("{\"a\":1,}", "Missing a name for object member. at 7");
        check("[1,]", "Invalid value. at 3");
        check("[01]", "Missing a comma or ']' after an array element. at 2");
        check("[-]", "Invalid value. at 2");
        check("[tru]", "Invalid value. at 4");
        check("{\"a\":", "Invalid value. at 5");
        check("1e999", "Number too big to be stored in double. at 0");
        check("\"\\u12g4\"", "Incorrect hex digit after \\u escape in string. at 1");
        check("\"\\ud83d\\u00\"", "Incorrect hex digit after \\u escape in string. at 1");
        check("\"\\ud83dx\"", "The surrogate pair in string is invalid. at 1");
        check("\"x\ny\"", "Invalid escape character in string. at 2");
        check("{\"a\":Nan}", "Invalid value. at 7");
        check("{\"a\":-Infinitx}", "Invalid value. at 13");
        check("{\"a\":Ix}", "Invalid value. at 6");
        // Tensors are checked by other code, to the same end.
        check("{\"data\":[1 2]}", "Missing a comma or ']' after an array element. at 11");
        check("{\"data\":[1.]}", "Miss fraction part in number. at 11");
        check("{\"data\":[\"a]}", "Missing a closing quotation mark in string. at 13");
        check("{\"data\":[\"\\x\"]}", "Invalid escape character in string. at 10");
    }

    #[test]
    fn values() {
        let value = parse(b"{\"a\":[-1,2,0.5,NaN,null,true],\"data\":[[1],[2]]}").unwrap();
        let Some(Value::Array(values)) = value.get("a") else { panic!() };
        assert_eq!(values[..3], [Value::Int(-1), Value::Uint(2), Value::Double(0.5)]);
        assert!(matches!(values[3], Value::Double(nan) if nan.is_nan()));
        assert_eq!(value.get("data"), Some(&Value::Data(37..46)));
        let escaped = parse(br#""\u0041\ud83d\ude00\n""#).unwrap();
        assert_eq!(escaped, Value::String("A😀\n".as_bytes().into()));
        assert_eq!(parse(br#""\udc00""#).unwrap(), Value::String(vec![0xED, 0xB0, 0x80].into()));
    }

    #[test]
    fn deep_nesting_is_refused_and_harmless() {
        for text in ["[".repeat(100_000), "{\"data\":".to_owned() + &"[".repeat(100_000)] {
            let error = parse(text.as_bytes()).unwrap_err();
            let expected = "JSON nesting depth exceeds maximum allowed limit (100)";
            assert_eq!(error.message(), expected);
        }
        assert!(parse(("[".repeat(100) + &"]".repeat(100)).as_bytes()).is_ok());
        let data = "{\"a\":{\"data\":".to_owned() + &"[".repeat(100) + &"]".repeat(100) + "}}";
        assert!(parse(data.as_bytes()).is_ok());
        let bomb = parse("{\"data\":[".repeat(100_000).as_bytes()).unwrap_err();
        assert_eq!(bomb.message(), "JSON nesting depth exceeds maximum allowed limit (100)");
    }
}
