//! Turns off the sandbox of Claude Code's own settings: Airlock is the sandbox, and the programs for another one are not in
//! the image.

use serde_json::{Value, json};

use super::policy::read_committed_file;
use crate::claude_config::HomeCopy;
use crate::cli::claude_args::ClaudeArgs;
use crate::cli::error::CliError;
use crate::git::HostRepo;

/// The files of a repository that may turn it on.
const SETTINGS: [&str; 2] = [".claude/settings.json", ".claude/settings.local.json"];
const OPTION: &str = "--settings";

/// Adds the setting to a command, if the repository turns the sandbox on.
///
/// # Errors
/// The commit cannot be read.
pub(crate) fn turn_off_inner_sandbox(
    command: &mut Vec<String>,
    copies: &mut [HomeCopy],
    host: &HostRepo,
    commit: &str,
) -> Result<(), CliError> {
    let mut is_on = false;
    for path in SETTINGS {
        let text = read_committed_file(host, commit, path)?.unwrap_or_default();
        let settings: Value = serde_json::from_str(&text).unwrap_or_default();
        is_on |= settings["sandbox"]["enabled"] == true;
    }
    if !is_on || command.is_empty() {
        return Ok(());
    }
    let off = json!({"enabled": false});
    let parsed = ClaudeArgs::parse_args(&command[1..]);
    // Of several such options, Claude Code takes the last one.
    let given = parsed.files.iter().rev().find(|(_, value)| {
        let word = &command[value.index + 1];
        word.starts_with("--settings=") || value.start == 0 && command[value.index] == OPTION
    });
    let Some((_, value)) = given else {
        command.splice(1..1, [OPTION.to_owned(), json!({"sandbox": off}).to_string()]);
        return Ok(());
    };
    let with_setting = |text: &str| {
        let mut settings: Value = serde_json::from_str(text).ok()?;
        settings.as_object_mut()?.insert("sandbox".into(), off.clone());
        Some(settings.to_string())
    };
    let text = value.value_text(&command[1..]).to_owned();
    if let Some(merged) = with_setting(&text) {
        command[value.index + 1].replace_range(value.start.., &merged);
    } else if let Some(copy) = copies.iter_mut().find(|copy| text == format!("/home/agent/{}", copy.path))
        && let Some(merged) = with_setting(&String::from_utf8_lossy(&copy.content))
    {
        copy.content = merged.into_bytes();
    }
    Ok(())
}
