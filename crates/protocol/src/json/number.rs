//! Numbers in JSON text, with the leniencies that Triton's reader has.
//!
//! Tensors come as hundreds of thousands of these, so the usual short number is read without a
//! detour through the general parser.

use super::Value;

/// Why a number cannot be read, in RapidJSON's words, and where.
pub(super) type Refusal = (&'static str, usize);

const INVALID: &str = "Invalid value.";
const TOO_BIG: Refusal = ("Number too big to be stored in double.", 0);

/// Powers of ten that a double holds exactly.
const EXACT_POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// Integers up to here are exact as a double.
const EXACT_INTEGER: u64 = 1 << 53;

/// Digits that fit into an `u64`, whatever they are.
const SURE_DIGITS: usize = 19;

/// Reads the number (or `NaN`, `Infinity`, `Inf` with an optional minus) at the start of `text`;
/// its value and its length.
pub(super) fn read(text: &[u8]) -> Result<(Value<'static>, usize), Refusal> {
    if let Some((value, len)) = word(text)? {
        return Ok((Value::Double(value), len));
    }
    let scan = Scan::new(text)?;
    Ok((scan.value(&text[..scan.len])?, scan.len))
}

/// Checks the number at the start of `text` without computing its value; its length.
pub(super) fn skip(text: &[u8]) -> Result<usize, Refusal> {
    if let Some((_, len)) = word(text)? {
        return Ok(len);
    }
    let scan = Scan::new(text)?;
    if scan.may_be_too_big() {
        scan.value(&text[..scan.len])?;
    }
    Ok(scan.len)
}

/// `NaN`, `Infinity` or `Inf`, if it starts like one of them.
fn word(text: &[u8]) -> Result<Option<(f64, usize)>, Refusal> {
    let (sign, start) = if text.first() == Some(&b'-') { (-1.0, 1) } else { (1.0, 0) };
    let rest = &text[start..];
    let (word, value) = match rest {
        [b'N', ..] => ("NaN", f64::NAN),
        [b'I', b'n', b'f', b'i', ..] => ("Infinity", f64::INFINITY),
        [b'I', ..] => ("Inf", f64::INFINITY),
        _ => return Ok(None),
    };
    let same = word.bytes().zip(rest).take_while(|(a, b)| a == *b).count();
    if same < word.len() {
        return Err((INVALID, start + same));
    }
    Ok(Some((sign * value, start + same)))
}

/// A number taken apart: `mantissa` × 10^`exponent`.
struct Scan {
    len: usize,
    negative: bool,
    /// Neither fraction nor exponent.
    whole: bool,
    whole_digits: usize,
    /// Meaningless if there are more than [`SURE_DIGITS`].
    mantissa: u64,
    digits: usize,
    exponent: i64,
}

impl Scan {
    fn new(text: &[u8]) -> Result<Self, Refusal> {
        let negative = text.first() == Some(&b'-');
        let start = usize::from(negative);
        let mut scan = Self {
            len: start,
            negative,
            whole: true,
            whole_digits: 0,
            mantissa: 0,
            digits: 0,
            exponent: 0,
        };
        // A zero in front ends the number: whatever follows it is refused where it stands.
        match text.get(start) {
            Some(b'0') => (scan.len, scan.digits) = (start + 1, 1),
            Some(b'1'..=b'9') => scan.take_digits(text),
            _ => return Err((INVALID, start)),
        }
        scan.whole_digits = scan.digits;
        if text.get(scan.len) == Some(&b'.') {
            scan.take_fraction(text)?;
        }
        if matches!(text.get(scan.len), Some(b'e' | b'E')) {
            scan.take_exponent(text)?;
        }
        Ok(scan)
    }

    fn take_digits(&mut self, text: &[u8]) {
        let from = self.len;
        while let Some(digit @ b'0'..=b'9') = text.get(self.len) {
            self.mantissa = self.mantissa.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            self.len += 1;
        }
        self.digits += self.len - from;
    }

    fn take_fraction(&mut self, text: &[u8]) -> Result<(), Refusal> {
        self.whole = false;
        self.len += 1;
        let from = self.len;
        self.take_digits(text);
        if self.len == from {
            return Err(("Miss fraction part in number.", from));
        }
        self.exponent -= (self.len - from) as i64;
        Ok(())
    }

    fn take_exponent(&mut self, text: &[u8]) -> Result<(), Refusal> {
        self.whole = false;
        self.len += 1;
        let minus = text.get(self.len) == Some(&b'-');
        if matches!(text.get(self.len), Some(b'+' | b'-')) {
            self.len += 1;
        }
        let from = self.len;
        let mut exponent = 0i64;
        while let Some(digit @ b'0'..=b'9') = text.get(self.len) {
            exponent = exponent.saturating_mul(10).saturating_add(i64::from(digit - b'0'));
            self.len += 1;
        }
        if self.len == from {
            return Err(("Miss exponent in number.", from));
        }
        let exponent = if minus { exponent.saturating_neg() } else { exponent };
        self.exponent = self.exponent.saturating_add(exponent);
        Ok(())
    }

    /// Doubles end at about 1.8e308.
    fn may_be_too_big(&self) -> bool {
        self.exponent.saturating_add(self.digits as i64) > 300
    }

    fn value(&self, text: &[u8]) -> Result<Value<'static>, Refusal> {
        if self.digits > SURE_DIGITS {
            return self.long_value(text);
        }
        if self.whole {
            let signed = i64::try_from(self.mantissa);
            return match signed {
                // Minus zero is an unsigned integer in RapidJSON too.
                _ if !self.negative || self.mantissa == 0 => Ok(Value::Uint(self.mantissa)),
                Ok(value) => Ok(Value::Int(-value)),
                Err(_) => self.long_value(text),
            };
        }
        let power = usize::try_from(self.exponent.unsigned_abs()).unwrap_or(usize::MAX);
        match EXACT_POWERS.get(power) {
            // Both operands are exact, so the one operation rounds correctly.
            Some(power) if self.mantissa <= EXACT_INTEGER => {
                let mantissa = self.mantissa as f64;
                let value = if self.exponent < 0 { mantissa / power } else { mantissa * power };
                Ok(Value::Double(if self.negative { -value } else { value }))
            }
            _ => self.double(text),
        }
    }

    fn long_value(&self, text: &[u8]) -> Result<Value<'static>, Refusal> {
        let number = std::str::from_utf8(text).map_err(|_| (INVALID, 0))?;
        if self.whole && self.negative {
            if let Ok(value) = number.parse() {
                return Ok(Value::Int(value));
            }
        } else if self.whole
            && let Ok(value) = number.parse()
        {
            return Ok(Value::Uint(value));
        }
        self.double(text)
    }

    fn double(&self, text: &[u8]) -> Result<Value<'static>, Refusal> {
        // Only ASCII was scanned.
        let number = std::str::from_utf8(text).map_err(|_| (INVALID, 0))?;
        match number.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Value::Double(value)),
            _ => Err(TOO_BIG),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_keep_their_sign_class() {
        for (text, value) in [
            ("0", Value::Uint(0)),
            ("-0", Value::Uint(0)),
            ("-1", Value::Int(-1)),
            ("18446744073709551615", Value::Uint(u64::MAX)),
            ("18446744073709551616", Value::Double(18_446_744_073_709_551_616.0)),
            ("-9223372036854775808", Value::Int(i64::MIN)),
            ("-9223372036854775809", Value::Double(-9_223_372_036_854_775_809.0)),
        ] {
            assert_eq!(read(text.as_bytes()), Ok((value, text.len())), "{text}");
        }
    }

    #[test]
    fn doubles_are_what_the_general_parser_makes_of_them() {
        for text in [
            "0.1",
            "-0.0",
            "1.5",
            "3.4028234663852886e38",
            "1e22",
            "1e23",
            "123456789.987654321",
            "0.30000000000000004",
            "9007199254740993.0",
            "1e-400",
            "4.9e-324",
            "1.7e308",
            "-2.5E+3",
            "12345678901234567890.123",
            "1.100000023841858",
            "1e-7",
        ] {
            let (value, len) = read(text.as_bytes()).unwrap();
            let Value::Double(value) = value else { panic!("{text}") };
            assert_eq!(len, text.len());
            assert_eq!(value.to_bits(), text.parse::<f64>().unwrap().to_bits(), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_alike_by_both_ways() {
        for (text, refusal) in [
            ("", (INVALID, 0)),
            ("-", (INVALID, 1)),
            ("+1", (INVALID, 0)),
            (".5", (INVALID, 0)),
            ("-x", (INVALID, 1)),
            ("Nan", (INVALID, 2)),
            ("1.", ("Miss fraction part in number.", 2)),
            ("1.e5", ("Miss fraction part in number.", 2)),
            ("1e", ("Miss exponent in number.", 2)),
            ("1e+", ("Miss exponent in number.", 3)),
            ("1e309", TOO_BIG),
            ("-1e999999999999999999999", TOO_BIG),
        ] {
            assert_eq!(read(text.as_bytes()), Err(refusal), "{text}");
            assert_eq!(skip(text.as_bytes()), Err(refusal), "{text}");
        }
        // A zero ends the number.
        assert_eq!(read(b"01"), Ok((Value::Uint(0), 1)));
        assert_eq!(skip(b"01"), Ok(1));
    }
}
