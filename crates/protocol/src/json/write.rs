//! Strings and numbers as RapidJSON writes them.

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

/// Appends a number: the shortest digits that read back to it, with an exponent below 1e-6 and from
/// 1e21 on, and `.0` where it is whole.
pub(crate) fn push_double(out: &mut Vec<u8>, value: f64) {
    if value.is_nan() {
        return out.extend_from_slice(b"NaN");
    }
    if value.is_infinite() {
        return out.extend_from_slice(if value > 0.0 { b"Infinity" } else { b"-Infinity" });
    }
    let magnitude = value.abs();
    let exponent = magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude);
    let text = if exponent { format!("{value:e}") } else { value.to_string() };
    out.extend_from_slice(text.as_bytes());
    if !exponent && value.fract() == 0.0 {
        out.extend_from_slice(b".0");
    }
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
