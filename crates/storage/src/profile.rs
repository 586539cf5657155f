//! The files of `aws configure`: credentials and regions under the names of profiles.

use std::path::PathBuf;

use nereid_inference::{Error, Result};

use crate::credentials::{Credentials, variable};

/// Completes credentials from a profile: the one that is named, or `default` if there are no keys.
/// A profile that is named and not found is a mistake.
pub(crate) fn complete(credentials: &mut Credentials) -> Result<()> {
    let has_keys = !credentials.key_id.is_empty() && !credentials.secret.is_empty();
    let named = !credentials.profile.is_empty();
    if has_keys {
        return Ok(());
    }
    let profile = if named { credentials.profile.clone() } else { "default".to_owned() };
    let keys = read(file("AWS_SHARED_CREDENTIALS_FILE", "credentials"));
    let settings = read(file("AWS_CONFIG_FILE", "config"));
    let found = fill(credentials, &profile, &keys, &settings);
    if named && !found {
        return Err(Error::not_found(format!("there is no AWS profile '{profile}'")));
    }
    Ok(())
}

/// Whether either file has the profile.
fn fill(credentials: &mut Credentials, profile: &str, keys: &str, settings: &str) -> bool {
    let mut found = false;
    // In the second file all profiles but the default one have a word before their name.
    for (text, word) in [(keys, ""), (settings, "profile ")] {
        let wanted = if profile == "default" { "default" } else { &format!("{word}{profile}") };
        for (key, value) in section(text, wanted, &mut found) {
            let field = match key {
                "aws_access_key_id" => &mut credentials.key_id,
                "aws_secret_access_key" => &mut credentials.secret,
                "aws_session_token" => &mut credentials.session_token,
                "region" => &mut credentials.region,
                _ => continue,
            };
            if field.is_empty() {
                value.clone_into(field);
            }
        }
    }
    found
}

fn section<'a>(text: &'a str, wanted: &str, found: &mut bool) -> Vec<(&'a str, &'a str)> {
    let mut inside = false;
    let mut pairs = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            inside = name.trim() == wanted;
            *found |= inside;
        } else if let (true, Some((key, value))) = (inside, line.split_once('=')) {
            pairs.push((key.trim(), value.trim()));
        }
    }
    pairs
}

fn file(named: &str, usual: &str) -> Option<PathBuf> {
    let home = || variable("HOME").map(|home| PathBuf::from(home).join(".aws").join(usual));
    variable(named).map(PathBuf::from).or_else(home)
}

/// Nothing, where there is no such file.
fn read(path: Option<PathBuf>) -> String {
    path.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &str = "
        [default]
        aws_access_key_id = one
        aws_secret_access_key=secret
        # a comment
        [work]
        aws_access_key_id = two
    ";
    const SETTINGS: &str = "
        [default]
        region = eu-central-1
        [profile work]
        region = us-west-2
    ";

    #[test]
    fn both_files_are_read() {
        let mut default = Credentials::default();
        assert!(fill(&mut default, "default", KEYS, SETTINGS));
        assert_eq!((default.key_id.as_str(), default.secret.as_str()), ("one", "secret"));
        assert_eq!(default.region, "eu-central-1");
        let mut work = Credentials { region: "mine".to_owned(), ..Credentials::default() };
        assert!(fill(&mut work, "work", KEYS, SETTINGS));
        assert_eq!((work.key_id.as_str(), work.region.as_str()), ("two", "mine"));
        assert!(!fill(&mut work, "other", KEYS, SETTINGS));
    }
}
