//! Cuts protobuf text into tokens.

use std::ops::Range;

use super::{literal, problem::Problem};

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token<'a> {
    Name(&'a str),
    /// Digits without their `0x` or `0` and what they are to be read by.
    Integer(&'a str, u32),
    Float(f64),
    Text(Vec<u8>),
    Symbol(char),
    End,
}

pub(super) struct Lexer<'a> {
    text: &'a str,
    /// Where the next token is looked for.
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        // Editors on Windows like to begin a file with a byte order mark.
        let at = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        Self { text, at }
    }

    pub(super) fn next(&mut self) -> Result<(Token<'a>, Range<usize>), Problem> {
        self.skip_blanks();
        let start = self.at;
        let rest = &self.text[start..];
        let Some(first) = rest.chars().next() else { return Ok((Token::End, start..start)) };
        let token = match first {
            'a'..='z' | 'A'..='Z' | '_' => Token::Name(self.take(word_length(rest))),
            '0'..='9' => self.number()?,
            '.' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => self.number()?,
            '"' | '\'' => self.string(first)?,
            other => {
                self.at += other.len_utf8();
                Token::Symbol(other)
            }
        };
        Ok((token, start..self.at))
    }

    fn take(&mut self, length: usize) -> &'a str {
        let taken = &self.text[self.at..self.at + length];
        self.at += length;
        taken
    }

    fn skip_blanks(&mut self) {
        loop {
            let rest = self.text[self.at..].trim_start_matches(|c: char| c.is_ascii_whitespace());
            self.at = self.text.len() - rest.len();
            if !rest.starts_with('#') {
                return;
            }
            self.at += rest.find('\n').unwrap_or(rest.len());
        }
    }

    fn number(&mut self) -> Result<Token<'a>, Problem> {
        let start = self.at;
        let word = self.take(number_length(&self.text[start..]));
        literal::number(word)
            .ok_or_else(|| Problem::new(format!("Invalid number: {word}."), start..self.at))
    }

    fn string(&mut self, quote: char) -> Result<Token<'a>, Problem> {
        let start = self.at;
        let body = &self.text[start + 1..];
        let mut escaped = false;
        let end = body.find(|c| match (escaped, c) {
            (_, '\n') => true,
            (true, _) => {
                escaped = false;
                false
            }
            (false, '\\') => {
                escaped = true;
                false
            }
            (false, other) => other == quote,
        });
        let Some(end) = end.filter(|&end| body[end..].starts_with(quote)) else {
            let line = start..start + 1 + body.find('\n').unwrap_or(body.len());
            return Err(Problem::new("String literals cannot cross line boundaries.", line));
        };
        self.at = start + 1 + end + 1;
        literal::unescape(&body[..end])
            .map(Token::Text)
            .ok_or_else(|| Problem::new("Invalid escape sequence in string.", start..self.at))
    }
}

fn word_length(text: &str) -> usize {
    text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len())
}

/// Everything that belongs to a number, be it valid or not: `1e-5` is one, `3x` a wrong one.
fn number_length(text: &str) -> usize {
    let hexadecimal = text.starts_with("0x") || text.starts_with("0X");
    let mut previous = ' ';
    text.find(|c: char| {
        let exponent_sign = matches!(c, '+' | '-') && matches!(previous, 'e' | 'E') && !hexadecimal;
        previous = c;
        !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_') || exponent_sign)
    })
    .unwrap_or(text.len())
}
