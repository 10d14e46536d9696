//! Finds the sandbox with the conversation that `claude --continue` or `claude --resume` means.

use std::time::SystemTime;

use super::repo::{Repo, format_age};
use crate::cli::claude_args::ClaudeArgs;
use crate::cli::error::CliError;
use crate::sandbox::{Sandbox, SandboxState};
use crate::terminal;

/// Finds the sandbox: the last one with a conversation, that of an ID or of a sandbox's name, or one that the user chooses.
///
/// # Errors
/// There is none, or one cannot be chosen without a terminal.
pub(crate) fn find_conversation(repo: &Repo, parsed: &ClaudeArgs) -> Result<Sandbox, CliError> {
    let mut all: Vec<(SystemTime, Sandbox)> = repo
        .store
        .open_all()?
        .into_iter()
        .filter(|sandbox| sandbox.record.verb == "claude" && sandbox.record.conversation.is_some())
        .filter(|sandbox| sandbox.record.state != SandboxState::Seeding)
        .map(|sandbox| (sandbox.modified_at().unwrap_or(SystemTime::UNIX_EPOCH), sandbox))
        .collect();
    all.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
    let mut all: Vec<Sandbox> = all.into_iter().map(|(_, sandbox)| sandbox).collect();
    if all.is_empty() {
        return Err(CliError::failed("no sandbox of this repository has a conversation to continue")
            .with_hint("start a new one, without --continue and --resume"));
    }
    let choices: Vec<String> = all.iter().map(describe_conversation).collect();
    match &parsed.resumes {
        None => Ok(all.swap_remove(0)),
        Some(Some(id)) => {
            let is_meant = |sandbox: &Sandbox| {
                sandbox.record.conversation.as_ref() == Some(id) || sandbox.record.name.as_str() == id
            };
            match all.iter().position(is_meant) {
                Some(at) => Ok(all.swap_remove(at)),
                None => Err(CliError::failed(format!("no sandbox of this repository has the conversation {id}"))
                    .with_details(choices)
                    .with_hint("name a sandbox or a conversation of this list: `--resume ID`")),
            }
        }
        Some(None) if terminal::is_interactive() => {
            let chosen = dialoguer::Select::new()
                .with_prompt("Which conversation")
                .items(&choices)
                .default(0)
                .interact_opt()
                .map_err(|error| CliError::failed(format!("failed to read your choice: {error}")))?;
            match chosen {
                Some(at) => Ok(all.swap_remove(at)),
                None => Err(crate::sandbox::SandboxError::Interrupted.into()),
            }
        }
        Some(None) => Err(CliError::usage("a conversation has to be named without a terminal")
            .with_details(choices)
            .with_hint("name a sandbox or a conversation of this list: `--resume ID`")),
    }
}

fn describe_conversation(sandbox: &Sandbox) -> String {
    let record = &sandbox.record;
    let id = record.conversation.as_deref().unwrap_or_default();
    format!("{}  {id}  {}", record.name, format_age(record.created))
}
