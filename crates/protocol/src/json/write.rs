//! Strings and numbers as RapidJSON writes them.

use std::io::Write as _;

use super::grisu::Digits;

/// Appends a string with its quotes. Bytes that are no UTF-8 pass through, as in Triton.
pub(crate) fn push_string(out: &mut Vec<u8>, string: &[u8]) {
    out.push(b'"');
    for &byte in string {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            8 => out.extend_from_slice(b"\\b"),
            12 => out.extend_from_slice(b"\\f"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..0x20 => out.extend_from_slice(format!("\\u{byte:04X}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// Appends a number: with an exponent below 1e-6 and from 1e21 on, and `.0` where it is whole.
pub(crate) fn push_double(out: &mut Vec<u8>, value: f64) {
    if value.is_nan() {
        return out.extend_from_slice(b"NaN");
    }
    if value.is_sign_negative() {
        out.push(b'-');
    }
    if value.is_infinite() {
        return out.extend_from_slice(b"Infinity");
    }
    if value == 0.0 {
        return out.extend_from_slice(b"0.0");
    }
    let found = Digits::of(value.abs());
    let digits = found.as_bytes();
    // Where the decimal point stands, counted from the first digit.
    let point = digits.len() as i32 + found.exponent;
    match (usize::try_from(point), usize::try_from(found.exponent)) {
        (Ok(..=21), Ok(zeros)) => {
            out.extend_from_slice(digits);
            out.extend(std::iter::repeat_n(b'0', zeros));
            out.extend_from_slice(b".0");
        }
        (Ok(point @ 1..=21), _) => {
            out.extend_from_slice(&digits[..point]);
            out.push(b'.');
            out.extend_from_slice(&digits[point..]);
        }
        _ if (-5..=0).contains(&point) => {
            out.extend_from_slice(b"0.");
            out.extend(std::iter::repeat_n(b'0', point.unsigned_abs() as usize));
            out.extend_from_slice(digits);
        }
        _ => push_with_exponent(out, digits, point - 1),
    }
}

fn push_with_exponent(out: &mut Vec<u8>, digits: &[u8], exponent: i32) {
    let (first, rest) = digits.split_at(1);
    out.extend_from_slice(first);
    if !rest.is_empty() {
        out.push(b'.');
        out.extend_from_slice(rest);
    }
    // Writing to memory does not fail.
    let _ = write!(out, "e{exponent}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn double(value: f64) -> String {
        let mut out = Vec::new();
        push_double(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_as_triton_prints_them() {
        for (value, text) in [
            (f64::from(1.1f32), "1.100000023841858"),
            (f64::from(1e-7f32), "1.0000000116860974e-7"),
            (1e10, "10000000000.0"),
            (2.0, "2.0"),
            (-0.0, "-0.0"),
            (1e20, "100000000000000000000.0"),
            (0.00001, "0.00001"),
            (1e-6, "0.000001"),
            (9.99e-7, "9.99e-7"),
            (1e21, "1e21"),
            (f64::from(1e22f32), "9.999999778196309e21"),
            (123456789012345680000.0, "123456789012345680000.0"),
            (1.5e300, "1.5e300"),
            (5e-324, "5e-324"),
            // As Triton 2.51 answered, where shorter or closer digits exist.
            (f64::from(f32::from_bits(0xb0c11fde)), "-1.4051655394808905e-9"),
            (f64::from(f32::from_bits(0xf1446bea)), "-9.726323523430303e29"),
            (f64::from(f32::from_bits(0xa6eb8c9e)), "-1.6344515039226063e-15"),
            (f64::from(f32::from_bits(0xe6a16a3b)), "-3.8113030500593719e23"),
            (f64::from(f32::from_bits(0x4164d839)), "14.302788734436036"),
            (f64::from(f32::from_bits(0xbd69fe29)), "-0.057127151638269427"),
            (f64::from(f32::from_bits(0x3fc1ea36)), "1.5149600505828858"),
            (f64::from(f32::from_bits(0xbb2edb20)), "-0.0026680901646614076"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(double(value), text);
        }
        assert_eq!(double(f64::NAN), "NaN");
    }

    #[test]
    fn strings_are_escaped() {
        let mut out = Vec::new();
        push_string(&mut out, b"a\"\\/\n\x01\xff");
        assert_eq!(out, b"\"a\\\"\\\\/\\n\\u0001\xff\"");
    }
}
