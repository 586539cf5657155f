//! What ends up in the file, in each form, and that changes take effect.

use nereid_inference::Result;
use nereid_logging::{ACCESS, Change, Format, Log, Settings};

/// One test: a process has one log.
#[test]
fn lines_and_changes() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("log");
    let file = path.to_str().expect("a path in UTF-8").to_owned();
    let log = Log::start(Settings { file, access: true, ..Settings::default() }, true)?;
    let take = || {
        let text = std::fs::read_to_string(&path).expect("the log is there");
        std::fs::write(&path, "").expect("the log is emptied");
        text
    };
    let pid = std::process::id();

    // Each of these is one place, which remembers whether it logs.
    let all = || {
        tracing::error!("an error\nof \"two\" lines");
        tracing::warn!("a warning");
        tracing::info!(count = 3, name = "x", "information");
        tracing::debug!(target: "nereid_core", "details");
        tracing::debug!(target: "hyper", "details of others");
        tracing::info!(target: ACCESS, "a request");
        tracing::error_span!("a span").in_scope(|| {});
    };
    all();
    let text = take();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    let (head, message) = lines[0].split_once("] ").expect("a line");
    assert_eq!(message, r#""an error\nof \"two\" lines""#);
    assert!(head.starts_with('E') && head.contains(&format!(" {pid} lines.rs:")), "{head}");
    assert_eq!(head.as_bytes()[5], b' ');
    assert!(lines[1].starts_with('W') && lines[2].starts_with('I'));
    assert!(lines[2].ends_with("] \"information count=3 name=x\""), "{}", lines[2]);

    let (info, format) = (Some(false), Some(Format::Iso8601));
    log.change(&Change { info, format, ..Change::default() });
    all();
    let text = take();
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.contains(&format!("Z W {pid} lines.rs:")), "{text}");

    let (info, verbose_level, format) = (Some(true), Some(1), Some(Format::Json));
    log.change(&Change { info, verbose_level, format, ..Change::default() });
    all();
    let text = take();
    assert_eq!(text.lines().count(), 5, "{text}");
    let third: serde_json::Value =
        text.lines().nth(2).map(serde_json::from_str).expect("it").expect("JSON");
    assert_eq!((&third["count"], &third["name"]), (&3.into(), &"x".into()));
    assert_eq!((&third["level"], &third["message"]), (&"info".into(), &"information".into()));

    log.change(&Change { verbose_level: Some(2), ..Change::default() });
    all();
    assert_eq!(take().lines().count(), 6);
    assert_eq!(log.settings().verbose_level, 2);
    Ok(())
}
