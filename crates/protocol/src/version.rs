//! Versions of models, as clients write them.

use nereid_inference::{Error, Result};

/// The version that `text` asks for; empty text asks for none in particular.
///
/// As forgiving as the C function that Triton uses: blanks and a sign may stand in front of the
/// digits, and anything behind them.
pub fn parse_version(text: &str) -> Result<Option<i64>> {
    if text.is_empty() {
        return Ok(None);
    }
    let number = text.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
    let unsigned = number.strip_prefix(['+', '-']).unwrap_or(number);
    let digits = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    let signed = &number[..number.len() - unsigned.len() + digits];
    let version: i64 = signed.parse().map_err(|_| {
        Error::invalid_arg(format!(
            "failed to get model version from specified version string '{text}' (details: stol), \
             version should be an integral value > 0"
        ))
    })?;
    if version < 0 {
        return Err(Error::invalid_arg(format!(
            "invalid model version specified '{text}' , version should be an integral value > 0"
        )));
    }
    Ok(Some(version))
}

#[cfg(test)]
mod tests {
    use super::parse_version;

    #[test]
    fn as_triton_reads_them() {
        for (text, version) in [("1", 1), (" 12", 12), ("+3", 3), ("1x", 1), ("0", 0)] {
            assert_eq!(parse_version(text), Ok(Some(version)), "{text}");
        }
        assert_eq!(parse_version(""), Ok(None));
        for text in ["x", "-", "99999999999999999999", " "] {
            let error = parse_version(text).unwrap_err();
            assert!(error.message().starts_with("failed to get model version"), "{error}");
        }
        let error = parse_version("-3").unwrap_err();
        assert!(error.message().starts_with("invalid model version specified '-3' ,"), "{error}");
    }
}
