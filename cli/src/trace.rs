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
}

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
        for setting in &self.trace_config {
            parsed.take(setting).map_err(|error| format!("--trace-config {setting}: {error}"))?;
        }
        let Parsed { opentelemetry, level, settings, file, own } = parsed;
        if opentelemetry && !own.url.starts_with("http://") {
            return Err(format!("traces can only be sent to http://, not to {}", own.url));
        }
        let mode = if opentelemetry { Mode::OpenTelemetry(own) } else { Mode::Triton { file } };
        Ok(TraceConfig { settings: Settings { level, ..settings }, mode })
    }
}

impl Parsed {
    fn take(&mut self, setting: &str) -> Result<(), String> {
        let (key, value) = setting.split_once('=').ok_or("expected <key>=<value>")?;
        match key {
            "mode" => self.opentelemetry = mode(value)?,
            "level" if value == "OFF" => self.level = Level::OFF,
            "level" => match Level::OFF.with(value) {
                Level::OFF => return Err("expected OFF, TIMESTAMPS or TENSORS".to_owned()),
                _ => self.level = self.level.with(value),
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

    fn config(settings: &[&str]) -> Result<TraceConfig, String> {
        let trace_config = settings.iter().map(|&setting| setting.to_owned()).collect();
        TraceFlags { trace_config }.config()
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
        assert!(config(&["mode=opentelemetry", "opentelemetry,url=https://x"]).is_err());
    }
}
