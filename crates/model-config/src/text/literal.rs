//! The spelling of numbers and strings.

use super::lexer::Token;

/// Reads `12`, `0x1F`, `017`, `1.5`, `.5`, `1e3` or `2f`.
pub(super) fn number(word: &str) -> Option<Token<'_>> {
    let integer = match word.as_bytes() {
        [b'0', b'x' | b'X', ..] => Some((&word[2..], 16)),
        [b'0', _, ..] => Some((&word[1..], 8)),
        _ => Some((word, 10)),
    };
    if let Some((digits, radix)) = integer
        && !digits.is_empty()
        && digits.chars().all(|digit| digit.is_digit(radix))
    {
        return Some(Token::Integer(digits, radix));
    }
    if word.starts_with("0x") || word.starts_with("0X") {
        return None;
    }
    let float = word.strip_suffix(['f', 'F']).unwrap_or(word);
    // Rust also knows words such as `inf`, which cannot come here: the first one is no letter.
    float.parse().ok().map(Token::Float)
}

/// Replaces the escape sequences of a string's body; `None` if one is none.
pub(super) fn unescape(body: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some(backslash) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..backslash]);
        rest = escape(&rest[backslash + 1..], &mut bytes)?;
    }
    bytes.extend_from_slice(rest.as_bytes());
    Some(bytes)
}

/// Reads one escape sequence behind its backslash and returns what follows it.
fn escape<'a>(text: &'a str, bytes: &mut Vec<u8>) -> Option<&'a str> {
    let kind = text.chars().next()?;
    let rest = &text[kind.len_utf8()..];
    let simple = match kind {
        'a' => 0x07,
        'b' => 0x08,
        'f' => 0x0c,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0b,
        '\\' | '\'' | '"' | '?' => kind as u8,
        '0'..='7' => {
            let (value, rest) = digits(text, 8, 3)?;
            bytes.push(u8::try_from(value).ok()?);
            return Some(rest);
        }
        'x' | 'X' => {
            let (value, rest) = digits(rest, 16, 2)?;
            bytes.push(u8::try_from(value).ok()?);
            return Some(rest);
        }
        'u' | 'U' => {
            let length = if kind == 'u' { 4 } else { 8 };
            let (value, after) = digits(rest, 16, length)?;
            if rest.len() - after.len() != length {
                return None;
            }
            let character = char::from_u32(value)?;
            bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(after);
        }
        _ => return None,
    };
    bytes.push(simple);
    Some(rest)
}

/// Reads one to `most` digits; returns their value and what follows them.
fn digits(text: &str, radix: u32, most: usize) -> Option<(u32, &str)> {
    let length = text.chars().take(most).take_while(|c| c.is_digit(radix)).count();
    let value = u32::from_str_radix(text.get(..length)?, radix).ok()?;
    Some((value, &text[length..]))
}
