//! Numbers in JSON text, with the leniencies that Triton's reader has.

use super::Value;

/// Why a number cannot be read, in RapidJSON's words.
pub(super) type Refusal = &'static str;

const INVALID: Refusal = "Invalid value.";

/// Reads the number (or `NaN`, `Infinity`, `Inf` with an optional minus) at the start of `text`;
/// its value and its length.
pub(super) fn read(text: &[u8]) -> Result<(Value, usize), (Refusal, usize)> {
    let negative = text.first() == Some(&b'-');
    let start = usize::from(negative);
    for (word, value) in [("NaN", f64::NAN), ("Infinity", f64::INFINITY), ("Inf", f64::INFINITY)] {
        if text[start..].starts_with(word.as_bytes()) {
            let value = if negative { -value } else { value };
            return Ok((Value::Double(value), start + word.len()));
        }
    }
    let mut end = start + digits(&text[start..]);
    if end == start || (text[start] == b'0' && end > start + 1) {
        return Err((INVALID, start));
    }
    let mut whole = true;
    if text.get(end) == Some(&b'.') {
        whole = false;
        let fraction = digits(&text[end + 1..]);
        if fraction == 0 {
            return Err(("Miss fraction part in number.", end + 1));
        }
        end += 1 + fraction;
    }
    if matches!(text.get(end), Some(b'e' | b'E')) {
        whole = false;
        let sign = usize::from(matches!(text.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits(&text[end + 1 + sign..]);
        if exponent == 0 {
            return Err(("Miss exponent in number.", end + 1 + sign));
        }
        end += 1 + sign + exponent;
    }
    // Only ASCII was accepted above.
    let number = std::str::from_utf8(&text[..end]).map_err(|_| (INVALID, 0))?;
    if whole && negative {
        if let Ok(value) = number.parse() {
            return Ok((Value::Int(value), end));
        }
    } else if whole && let Ok(value) = number.parse() {
        return Ok((Value::Uint(value), end));
    }
    match number.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok((Value::Double(value), end)),
        _ => Err(("Number too big to be stored in double.", 0)),
    }
}

fn digits(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_digit()).count()
}
