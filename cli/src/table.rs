//! The table of models that is printed at start.

use std::fmt::Write as _;

use nereid_core::{Catalog, VersionState};

/// A row for every version, and one for every model that has none, with the reason.
pub(crate) fn models(catalog: &Catalog) -> String {
    let mut rows = vec![["Model".to_owned(), "Version".to_owned(), "Status".to_owned()]];
    for (name, model) in &catalog.models {
        if let Some(error) = &model.reason {
            rows.push([name.clone(), "-".to_owned(), format!("UNAVAILABLE: {error}")]);
        }
        for (version, state) in &model.versions {
            let status = match state {
                VersionState::Unavailable(error) => format!("UNAVAILABLE: {error}"),
                other => other.word().to_owned(),
            };
            rows.push([name.clone(), version.to_string(), status]);
        }
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let (first, second) = (width(0).unwrap_or(0), width(1).unwrap_or(0));
    let mut table = String::new();
    for [name, version, status] in &rows {
        // Only the status may take several lines: a traceback, for example.
        let status = status.trim_end().replace('\n', &format!("\n{:1$}", "", first + second + 6));
        let _ = writeln!(table, "| {name:first$} | {version:second$} | {status}");
    }
    table
}
