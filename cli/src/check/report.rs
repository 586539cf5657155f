//! The words of `nereid check`: as compilers put it, and as JSON.

use std::fmt::Write as _;
use std::path::Path;

use nereid_backend::{Finding, Severity};
use nereid_core::CheckReport;
use nereid_model_config::{to_json, to_pbtxt};
use serde_json::{Value, json};

pub(super) fn text(report: &CheckReport) -> String {
    let mut text = String::new();
    for found in &report.findings {
        write_finding(&mut text, found.model.as_deref(), &found.finding);
        text.push('\n');
    }
    let (errors, warnings) = (report.count(Severity::Error), report.count(Severity::Warning));
    let _ = writeln!(
        text,
        "{}: {}, {}",
        counted(report.models, "model"),
        counted(errors, "error"),
        counted(warnings, "warning")
    );
    text
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn write_finding(text: &mut String, model: Option<&str>, finding: &Finding) {
    let of = model.map(|model| format!("[{model}]")).unwrap_or_default();
    let message = finding.message.trim_end().replace('\n', "\n  ");
    let _ = writeln!(text, "{}{of}: {message}", word(finding.severity));
    let number = finding.spot.as_ref().map(|spot| spot.line.to_string()).unwrap_or_default();
    let margin = number.len();
    if let Some(file) = &finding.file {
        let place = finding.spot.as_ref().map(|spot| format!(":{}:{}", spot.line, spot.column));
        let (file, place) = (shown(file), place.unwrap_or_default());
        let _ = writeln!(text, "{:margin$} --> {file}{place}", "");
    }
    if let Some(spot) = &finding.spot {
        // Tabs stay as wide as they are in the line above.
        let before = spot.text.chars().take(spot.column - 1);
        let indent: String = before.map(|c| if c == '\t' { c } else { ' ' }).collect();
        let _ = writeln!(text, "{:margin$} |", "");
        let _ = writeln!(text, "{number} | {}", spot.text);
        let _ = writeln!(text, "{:margin$} | {indent}{}", "", "^".repeat(spot.width));
    }
    if !finding.cure.is_empty() {
        let _ = writeln!(text, "{:margin$} = cure: {}", "", finding.cure);
    }
}

/// Every configuration as text, one behind the other.
pub(super) fn configurations(report: &CheckReport) -> String {
    let texts = report.configs.values().map(|config| to_pbtxt(config));
    texts.collect::<Vec<String>>().join("\n")
}

pub(super) fn json(report: &CheckReport, configurations: bool) -> String {
    let findings: Vec<Value> = report
        .findings
        .iter()
        .map(|found| {
            let finding = &found.finding;
            json!({
                "severity": word(finding.severity),
                "model": found.model,
                "file": finding.file.as_deref().map(shown),
                "line": finding.spot.as_ref().map(|spot| spot.line),
                "column": finding.spot.as_ref().map(|spot| spot.column),
                "message": finding.message,
                "cure": finding.cure,
            })
        })
        .collect();
    let mut shown = json!({
        "models": report.models,
        "errors": report.count(Severity::Error),
        "warnings": report.count(Severity::Warning),
        "findings": findings,
    });
    if configurations {
        let configs = report.configs.iter().map(|(name, config)| {
            let json = serde_json::from_str(&to_json(config)).unwrap_or_default();
            (name.clone(), json)
        });
        shown["configs"] = Value::Object(configs.collect());
    }
    format!("{shown:#}\n")
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

/// From where the user stands, if it lies below.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().and_then(|here| here.canonicalize());
    let below = here.ok().and_then(|here| path.strip_prefix(here).ok());
    below.unwrap_or(path).display().to_string()
}
