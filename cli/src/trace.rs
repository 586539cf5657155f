//! What `--trace-config` asks for.

use std::time::Duration;

use clap::Args;
use nereid_trace::{Level, Mode, OpenTelemetry, Settings, TraceConfig};

#[derive(Args, Debug)]
pub(crate) struct TraceFlags {
    /// Setting of traces, `<key>=<value>` or `<mode>,<key>=<value>`; may be given several times:
    /// `mode` (`triton` or `opentelemetry`), `level` (`OFF`, `TIMESTAMPS`, `TENSORS`), `rate`,
    /// `count`; `triton,file`, `triton,log-frequency`; `opentelemetry,url`,
    /// `opentelemetry,resource=<key>=<value>`, `opentelemetry,bsp_max_queue_size`,
    /// `opentelemetry,bsp_schedule_delay`, `opentelemetry,bsp_max_export_batch_size`.
    #[arg(long, value_name = "SETTING")]
    trace_config: Vec<String>,
    /// Deprecated: --trace-config=triton,file=PATH.
    #[arg(long, value_name = "PATH")]
    trace_file: Option<String>,
    /// Deprecated: --trace-config=level=LEVEL.
    #[arg(long, value_name = "LEVEL")]
    trace_level: Vec<String>,
    /// Deprecated: --trace-config=rate=RATE.
    #[arg(long, value_name = "RATE")]
    trace_rate: Option<String>,
    /// Deprecated: --trace-config=count=COUNT.
    #[arg(long, value_name = "COUNT")]
    trace_count: Option<String>,
    /// Deprecated: --trace-config=triton,log-frequency=COUNT.
    #[arg(long, value_name = "COUNT")]
    trace_log_frequency: Option<String>,
}

/// A flag of old, the setting that it stands for, and its values.
type Old<'a> = (&'static str, &'static str, Vec<&'a str>);

#[derive(Default)]
struct Parsed {
    opentelemetry: bool,
    level: Level,
    settings: Settings,
    file: String,
    own: OpenTelemetry,
}

impl TraceFlags {
    pub(crate) fn config(&self) -> Result<TraceConfig, String> {
        let mut parsed = Parsed::default();
        for (flag, key, values) in self.old() {
            for value in values {
                let taken = parsed.take(&format!("{key}={value}"));
                taken.map_err(|error| format!("--{flag} {value}: {error}"))?;
            }
        }
        for setting in &self.trace_config {
            parsed.take(setting).map_err(|error| format!("--trace-config {setting}: {error}"))?;
        }
        let Parsed { opentelemetry, level, settings, file, own } = parsed;
        let known = ["http://", "https://"].iter().any(|scheme| own.url.starts_with(scheme));
        if opentelemetry && !known {
            return Err(format!("traces can be sent to http:// and https://, not to {}", own.url));
        }
        let mode = if opentelemetry { Mode::OpenTelemetry(own) } else { Mode::Triton { file } };
        Ok(TraceConfig { settings: Settings { level, ..settings }, mode })
    }

    /// What to say about flags of old.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let used = |key: &str| self.trace_config.iter().any(|setting| has_key(setting, key));
        let warn = |(flag, key, _): Old<'_>| match used(key) {
            true => {
                format!("Overriding deprecated '--{flag}' in favor of {key} in --trace-config!")
            }
            false => format!(
                "'--{flag}' has been deprecated and will be removed in future releases. Please use \
                 '--trace-config {key}=<value>' instead."
            ),
        };
        self.given().into_iter().map(warn).collect()
    }

    /// Flags of old that count: what `--trace-config` says goes before them.
    fn old(&self) -> Vec<Old<'_>> {
        let mut given = self.given();
        given.retain(|(_, key, _)| !self.trace_config.iter().any(|setting| has_key(setting, key)));
        given
    }

    fn given(&self) -> Vec<Old<'_>> {
        fn one(value: &Option<String>) -> Vec<&str> {
            value.as_deref().into_iter().collect()
        }
        let all = [
            ("trace-file", "triton,file", one(&self.trace_file)),
            ("trace-level", "level", self.trace_level.iter().map(String::as_str).collect()),
            ("trace-rate", "rate", one(&self.trace_rate)),
            ("trace-count", "count", one(&self.trace_count)),
            ("trace-log-frequency", "triton,log-frequency", one(&self.trace_log_frequency)),
        ];
        all.into_iter().filter(|(.., values): &Old<'_>| !values.is_empty()).collect()
    }
}

impl Parsed {
    fn take(&mut self, setting: &str) -> Result<(), String> {
        let (key, value) = setting.split_once('=').ok_or("expected <key>=<value>")?;
        match key {
            "mode" => self.opentelemetry = mode(value)?,
            "level" => match value {
                "OFF" => self.level = Level::OFF,
                "TIMESTAMPS" | "TENSORS" => self.level = self.level.with(value),
                // Their names of old.
                "MIN" | "MAX" => self.level = self.level.with("TIMESTAMPS"),
                _ => return Err("expected OFF, TIMESTAMPS or TENSORS".to_owned()),
            },
            "rate" => self.settings.rate = number(value)?,
            "count" => {
                let count = value.parse::<i32>().ok().filter(|&count| count >= -1);
                self.settings.count = count.ok_or("expected a number, or -1")?.into();
            }
            "triton,file" => value.clone_into(&mut self.file),
            "triton,log-frequency" => self.settings.log_frequency = number(value)?,
            "opentelemetry,url" => value.clone_into(&mut self.own.url),
            "opentelemetry,resource" => {
                let (key, value) = value.split_once('=').ok_or("expected <key>=<value>")?;
                self.own.resource.push((key.to_owned(), value.to_owned()));
            }
            "opentelemetry,bsp_max_queue_size" => self.own.max_queue_size = number(value)? as usize,
            "opentelemetry,bsp_max_export_batch_size" => {
                self.own.max_export_batch_size = number(value)? as usize;
            }
            "opentelemetry,bsp_schedule_delay" => {
                self.own.schedule_delay = Duration::from_millis(number(value)?.into());
            }
            _ => return Err("there is no such setting".to_owned()),
        }
        Ok(())
    }
}

fn has_key(setting: &str, key: &str) -> bool {
    setting.split_once('=').is_some_and(|(given, _)| given == key)
}

fn mode(name: &str) -> Result<bool, String> {
    match name {
        "triton" => Ok(false),
        "opentelemetry" => Ok(true),
        _ => Err("expected triton or opentelemetry".to_owned()),
    }
}

fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "expected a number".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Only {
        #[command(flatten)]
        flags: TraceFlags,
    }

    fn flags(arguments: &[&str]) -> TraceFlags {
        <Only as clap::Parser>::parse_from(["serve"].iter().chain(arguments)).flags
    }

    fn config(settings: &[&str]) -> Result<TraceConfig, String> {
        let arguments: Vec<_> =
            settings.iter().map(|set| format!("--trace-config={set}")).collect();
        flags(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).config()
    }

    #[test]
    fn flags_of_old() {
        let old = flags(&[
            "--trace-file=t.json",
            "--trace-level=TIMESTAMPS",
            "--trace-level=TENSORS",
            "--trace-rate=5",
            "--trace-count=7",
            "--trace-log-frequency=2",
            "--trace-config=rate=9",
        ]);
        let config = old.config().unwrap();
        assert_eq!(config.settings.level.names(), ["TIMESTAMPS", "TENSORS"]);
        assert_eq!((config.settings.rate, config.settings.log_frequency), (9, 2));
        assert_eq!(config.mode, Mode::Triton { file: "t.json".into() });
        let warnings = old.warnings();
        assert_eq!(warnings.len(), 5);
        assert!(warnings[2].starts_with("Overriding deprecated '--trace-rate'"), "{warnings:?}");
        assert!(warnings[0].contains("'--trace-config triton,file=<value>'"), "{warnings:?}");
        let wrong = flags(&["--trace-rate=x"]).config().unwrap_err();
        assert_eq!(wrong, "--trace-rate x: expected a number");
    }

    #[test]
    fn settings() {
        let default = config(&[]).unwrap();
        assert_eq!(default.settings, Settings::default());
        let files = config(&["level=TIMESTAMPS", "level=TENSORS", "rate=5", "triton,file=t.json"]);
        let files = files.unwrap();
        assert_eq!(files.settings.level.names(), ["TIMESTAMPS", "TENSORS"]);
        assert_eq!(files.mode, Mode::Triton { file: "t.json".into() });
        let spans = config(&["mode=opentelemetry", "opentelemetry,resource=service.name=x"]);
        let resource = vec![("service.name".to_owned(), "x".to_owned())];
        let own = OpenTelemetry { resource, ..OpenTelemetry::default() };
        assert_eq!(spans.unwrap().mode, Mode::OpenTelemetry(own));
        for wrong in ["x", "x=1", "rate=-1", "count=-2", "level=ALL", "mode=other"] {
            assert!(config(&[wrong]).unwrap_err().contains(wrong), "{wrong}");
        }
        assert!(config(&["mode=opentelemetry", "opentelemetry,url=ftp://x"]).is_err());
    }
}
