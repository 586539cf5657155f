//! What is logged, and changing it.

use std::collections::BTreeMap;

use nereid_inference::{Error, Result};
use nereid_logging::{Change, Format, Log, Settings};
use nereid_protocol::log_file_is_fixed;

use crate::proto::log_settings_request::SettingValue;
use crate::proto::log_settings_request::setting_value::ParameterChoice as Asked;
use crate::proto::log_settings_response::SettingValue as Value;
use crate::proto::log_settings_response::setting_value::ParameterChoice as Told;
use crate::proto::{LogSettingsRequest, LogSettingsResponse};

pub(crate) fn settings(log: &Log, request: &LogSettingsRequest) -> Result<LogSettingsResponse> {
    if !request.settings.is_empty() {
        log.change(&change(&request.settings)?);
    }
    Ok(response(&log.settings()))
}

fn change(asked: &BTreeMap<String, SettingValue>) -> Result<Change> {
    let given = |name: &str| asked.get(name).map(|value| value.parameter_choice.as_ref());
    if given("log_file").is_some() {
        return Err(log_file_is_fixed());
    }
    let boolean = |name: &str| match given(name) {
        None => Ok(None),
        Some(Some(Asked::BoolParam(value))) => Ok(Some(*value)),
        Some(_) => Err(Error::invalid_arg(format!("expect boolean for '{name}'"))),
    };
    let verbose_level = match given("log_verbose_level") {
        None => None,
        Some(Some(Asked::Uint32Param(level))) => Some(*level),
        Some(_) => return Err(Error::invalid_arg("expect int32 for 'log_verbose_level'")),
    };
    let format = match given("log_format") {
        None => None,
        Some(Some(Asked::StringParam(name))) => Some(Format::parse(name).ok_or_else(|| {
            Error::invalid_arg(format!("invalid argument for log_format, got: {name}"))
        })?),
        Some(_) => return Err(Error::invalid_arg("expect string for 'log_format'")),
    };
    let (info, warning) = (boolean("log_info")?, boolean("log_warning")?);
    Ok(Change { info, warning, error: boolean("log_error")?, verbose_level, format })
}

fn response(settings: &Settings) -> LogSettingsResponse {
    let told = [
        ("log_file", Told::StringParam(settings.file.clone())),
        ("log_info", Told::BoolParam(settings.info)),
        ("log_warning", Told::BoolParam(settings.warning)),
        ("log_error", Told::BoolParam(settings.error)),
        ("log_verbose_level", Told::Uint32Param(settings.verbose_level)),
        ("log_format", Told::StringParam(settings.format.name().to_owned())),
    ];
    let value =
        |(name, told): (&str, Told)| (name.to_owned(), Value { parameter_choice: Some(told) });
    LogSettingsResponse { settings: told.into_iter().map(value).collect() }
}
