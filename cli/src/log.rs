//! What `--log-*` ask for.

use clap::{ArgAction, Args};
use nereid_inference::Result;
use nereid_logging::{Format, Log, Settings};

use crate::flags::boolean;

#[derive(Args, Debug)]
pub(crate) struct LogFlags {
    /// Log more: from 1 on what the server does, from 2 on what its libraries do.
    #[arg(long, default_value_t = 0)]
    log_verbose: u32,
    /// Log information.
    #[arg(long, default_value = "true", value_parser = boolean, action = ArgAction::Set)]
    log_info: bool,
    /// Log warnings.
    #[arg(long, default_value = "true", value_parser = boolean, action = ArgAction::Set)]
    log_warning: bool,
    /// Log errors.
    #[arg(long, default_value = "true", value_parser = boolean, action = ArgAction::Set)]
    log_error: bool,
    /// Form of the lines; `json` is not in Triton.
    #[arg(long, default_value = "default", value_parser = ["default", "ISO8601", "json"])]
    log_format: String,
    /// File to add the log to, instead of standard error.
    #[arg(long, default_value = "", value_name = "PATH", hide_default_value = true)]
    log_file: String,
    /// Log every HTTP request and gRPC call that is answered. (Not in Triton.)
    #[arg(long, default_value = "false", value_parser = boolean, action = ArgAction::Set,
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    log_access: bool,
}

impl LogFlags {
    /// Begins to log. Messages of several lines are one line in the log, unless the variable says
    /// otherwise that Triton has for it.
    pub(crate) fn start(&self) -> Result<Log> {
        let settings = Settings {
            file: self.log_file.clone(),
            info: self.log_info,
            warning: self.log_warning,
            error: self.log_error,
            verbose_level: self.log_verbose,
            format: Format::parse(&self.log_format).unwrap_or_default(),
            access: self.log_access,
        };
        let raw = std::env::var("TRITON_SERVER_ESCAPE_LOG_MESSAGES");
        Log::start(settings, !raw.is_ok_and(|raw| raw.eq_ignore_ascii_case("false")))
    }
}
