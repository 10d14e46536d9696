//! `airlock config`: shows the settings with their origins, and writes a commented configuration file.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use serde_json::{Map, json};

use crate::cli::args::ConfigVerb;
use crate::cli::error::CliError;
use crate::cli::json::render_json;
use crate::cli::ops::settings::load_settings;
use crate::cli::output::{Output, format_count, print_stdout};
use crate::config::{SettingOrigin, SettingValue, Settings, commented_file, config_path};
use crate::core::escape::Escaped;

pub(crate) fn run_config(verb: &ConfigVerb, output: Output) -> Result<u8, CliError> {
    match verb {
        ConfigVerb::Show { origin, json } => show_settings(*origin, *json)?,
        ConfigVerb::Init => create_file(output)?,
    }
    Ok(0)
}

fn show_settings(with_origin: bool, json: bool) -> Result<(), CliError> {
    let settings = load_settings()?;
    let values = Settings::list_values(|name| std::env::var(name).ok())?;
    if json {
        let rows: Map<_, _> = values
            .iter()
            .map(|value| {
                (value.name.to_owned(), json!({"value": value.value, "origin": describe_origin(&value.origin)}))
            })
            .collect();
        let counts = json!({"risk": settings.risk.len(), "route": settings.route.len(), "keys": settings.keys.len()});
        return Ok(print_stdout(&render_json(&json!({"schema_version": 1, "settings": rows, "tables": counts})))?);
    }
    let mut text = String::new();
    for value in &values {
        text += &format_setting(value, with_origin);
    }
    let tables = [("risk rule", settings.risk.len()), ("route", settings.route.len()), ("key", settings.keys.len())];
    let tables: Vec<String> =
        tables.into_iter().filter(|(_, count)| *count > 0).map(|(what, count)| format_count(count, what)).collect();
    if !tables.is_empty() {
        text += &format!("# and {}\n", tables.join(", "));
    }
    Ok(print_stdout(&text)?)
}

/// Formats a setting as a line of the file. A setting without a value is a comment.
fn format_setting(value: &SettingValue, with_origin: bool) -> String {
    let line = match &value.value {
        Some(text) => format!("{} = {}", value.name, Escaped::new(text)),
        None => format!("# {} is not set", value.name),
    };
    if !with_origin || value.value.is_none() {
        return format!("{line}\n");
    }
    format!("{line:40} # {}\n", Escaped::new(&describe_origin(&value.origin)))
}

fn describe_origin(origin: &SettingOrigin) -> String {
    match origin {
        SettingOrigin::Default => "default".into(),
        SettingOrigin::File(path) => path.display().to_string(),
        SettingOrigin::Variable(name) => name.clone(),
    }
}

fn create_file(output: Output) -> Result<(), CliError> {
    let path = config_path().ok_or_else(|| CliError::failed("there is no directory for configuration files"))?;
    let failed = |error: std::io::Error| CliError::failed(format!("failed to create {}: {error}", path.display()));
    fs::create_dir_all(path.parent().unwrap_or_else(|| Path::new("/"))).map_err(failed)?;
    let mut file = match OpenOptions::new().write(true).create_new(true).open(&path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return Err(CliError::failed(format!("{} exists already", path.display()))
                .with_hint("to see all settings, run `airlock config show --origin`"));
        }
        other => other.map_err(failed)?,
    };
    file.write_all(commented_file().as_bytes()).map_err(failed)?;
    print_stdout(&format!("{}\n", path.display()))?;
    output.print_status("every setting is in it as a comment");
    Ok(())
}
