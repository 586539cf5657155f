//! Printed schedules: what becomes of scripts of requests under configurations, by a clock that the
//! test moves. `tests/timelines` has a file for each, with the schedule that is expected and what a
//! Triton server did with the same requests (recorded by `scripts/timelines.py`).
//!
//! `UPDATE_TIMELINES=1` writes the schedules anew.

mod company;
mod event;
mod play;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use nereid_scheduler::Hold;

use company::Company;
use play::Play;

/// A file: text in front, then sections of indented lines.
struct Scenario {
    path: PathBuf,
    text: String,
    sections: BTreeMap<String, Vec<String>>,
}

impl Scenario {
    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        let mut sections = BTreeMap::<String, Vec<String>>::new();
        let mut name = String::new();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            if let Some(line) = line.strip_prefix("    ") {
                sections.get_mut(&name).unwrap().push(line.to_owned());
            } else {
                name = line.to_owned();
                sections.insert(name.clone(), Vec::new());
            }
        }
        Self { path: path.to_owned(), text, sections }
    }

    fn section(&self, name: &str) -> &[String] {
        self.sections.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether several models play together, each with a section of its own.
    fn is_company(&self) -> bool {
        !self.sections.contains_key("model")
    }

    /// What Triton's environment variables ask for.
    fn hold(&self) -> Hold {
        let value = |name: &str| {
            let lines = self.section("environment").iter();
            let value = lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix('=')).next();
            value.map_or(0, |value| value.parse().unwrap())
        };
        Hold {
            queued: value("TRITONSERVER_DELAY_SCHEDULER"),
            backlog: value("TRITONSERVER_BACKLOG_DELAY_SCHEDULER"),
        }
    }

    fn play(&self) -> Vec<String> {
        match self.is_company() {
            true => Company::new(self).run(self.section("requests")),
            false => Play::new(self).run(self.section("requests")),
        }
    }

    fn update(&self, schedule: &[String]) {
        let (before, rest) = self.text.split_once("\nschedule\n").unwrap();
        let old: usize =
            rest.lines().take_while(|line| !line.is_empty()).map(|l| l.len() + 1).sum();
        let after = rest.get(old..).unwrap_or_default();
        let lines: String = schedule.iter().fold(String::new(), |mut lines, line| {
            let _ = writeln!(lines, "    {line}");
            lines
        });
        std::fs::write(&self.path, format!("{before}\nschedule\n{lines}{after}")).unwrap();
    }
}

/// `2 instances, a batch takes 50 ms`
fn instances(line: &str) -> (usize, u64) {
    let mut numbers = line.split(' ').filter_map(|word| word.parse().ok());
    (numbers.next().unwrap() as usize, numbers.next().unwrap())
}

/// What a schedule says but for times, instances and reasons, as it is recorded from Triton. Of
/// several models only what they run is recorded, and which of them runs it.
fn outcome(scenario: &Scenario) -> Vec<String> {
    let mut lines = Vec::new();
    for line in scenario.section("schedule") {
        let (at, what) = line.split_once(" ms  ").unwrap();
        match what.split_once(" on ") {
            // Clients know without being told.
            None if what.ends_with("rejected: Cancelled") => {}
            None if scenario.is_company() && !what.contains("rejected") => {}
            Some(_) if scenario.is_company() => lines.push((at, what.to_owned())),
            Some((ids, _)) if !what.contains("rejected") => lines.push((at, ids.to_owned())),
            _ => lines.push((at, what.to_owned())),
        }
    }
    if scenario.is_company() {
        // What happens to several models at the same moment has no order but that of their names.
        lines.sort_by(|(at, what), (other_at, other)| {
            (at.trim().parse::<u64>().ok(), what).cmp(&(other_at.trim().parse().ok(), other))
        });
    }
    lines.into_iter().map(|(_, what)| what).collect()
}

fn scenarios() -> Vec<Scenario> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/timelines");
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
        .iter()
        .filter(|path| path.extension().is_some())
        .map(|path| Scenario::read(path))
        .collect()
}

#[test]
fn schedules_are_as_expected() {
    let update = std::env::var_os("UPDATE_TIMELINES").is_some();
    let scenarios = scenarios();
    assert!(scenarios.len() > 10, "the scenarios are not there");
    for scenario in scenarios {
        let schedule = scenario.play();
        if update {
            scenario.update(&schedule);
        } else {
            let expected = scenario.section("schedule");
            assert_eq!(schedule.join("\n"), expected.join("\n"), "{}", scenario.path.display());
        }
    }
}

#[test]
fn schedules_are_tritons_unless_their_file_says_why_not() {
    for scenario in scenarios() {
        let Some(theirs) = scenario.sections.get("triton") else { continue };
        let ours = outcome(&scenario);
        let differs = !scenario.section("differs").is_empty();
        assert_eq!(ours != *theirs, differs, "{}: {ours:?}", scenario.path.display());
    }
}
