//! What went wrong, in words that say where, and that give no secret away.

use nereid_inference::Error;

/// Longer answers of servers are cut.
const MOST: usize = 600;

/// An error of a store. `doing` names the object or the folder.
pub(crate) fn failed(doing: &str, error: &object_store::Error, secrets: &[String]) -> Error {
    let cause = told(error, secrets);
    if is_about_credentials(error) {
        let message = format!("failed to {doing}: the credentials do not allow it: {cause}");
        return Error::unavailable(message);
    }
    Error::unavailable(format!("failed to {doing}: {cause}"))
}

/// Whether other credentials might help.
pub(crate) fn is_about_credentials(error: &object_store::Error) -> bool {
    use object_store::Error as Store;
    match error {
        Store::PermissionDenied { .. } | Store::Unauthenticated { .. } => true,
        // Errors of listings have no kind of their own.
        Store::Generic { .. } => {
            let text = told(error, &[]);
            ["401", "403"].iter().any(|status| text.contains(&format!("status code: {status}")))
        }
        _ => false,
    }
}

/// The whole chain of causes on one line.
fn told(error: &dyn std::error::Error, secrets: &[String]) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Most errors repeat what they come from.
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    for secret in secrets {
        text = text.replace(secret.as_str(), "***");
    }
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_line_breaks_are_taken_out() {
        let source = std::io::Error::other("<Error>\n  <Key>hush</Key>\n</Error>");
        let error = object_store::Error::PermissionDenied {
            path: "models/m".to_owned(),
            source: Box::new(source),
        };
        let error = failed("list s3://bucket/models", &error, &["hush".to_owned()]);
        let message = error.message();
        assert!(message.starts_with("failed to list s3://bucket/models: the credentials"));
        assert!(message.contains("<Key>***</Key>") && !message.contains('\n'), "{message}");
    }
}
