//! `airlock stop`: ends the agents of sandboxes. Their owners collect the changes.

use crate::cli::error::CliError;
use crate::cli::ops::find_sandbox::{command_for, find_anywhere};
use crate::cli::ops::repo::create_runtime;
use crate::cli::ops::stop_agent::stop_agent;
use crate::cli::output::{Output, format_count};
use crate::sandbox::{Sandbox, SandboxState};

pub(crate) fn run_stop(names: &[String], output: Output) -> Result<u8, CliError> {
    let found = names.iter().map(|name| find_anywhere(Some(name), "stop")).collect::<Result<Vec<_>, _>>()?;
    let runtime = create_runtime()?;
    let mut busy = Vec::new();
    for sandbox in found {
        if runtime.block_on(stop_agent(&sandbox, output))? {
            output.print_status(&stopped_message(sandbox.record.name.as_str()));
        } else if sandbox.is_busy() {
            busy.push(sandbox);
        } else {
            output.print_status(&no_agent_message(&sandbox));
        }
    }
    let Some(first) = busy.first() else { return Ok(0) };
    let name = &first.record.name;
    Err(match first.record.state {
        SandboxState::Collected { .. } => {
            CliError::failed(format!("the agent of `{name}` has ended, and another airlock process uses the sandbox"))
        }
        _ => CliError::failed(format!("the agent of `{name}` is being started"))
            .with_hint(format!("try again: `airlock stop {name}`")),
    })
}

/// Returns the message about a sandbox whose agent was ended.
fn stopped_message(name: &str) -> String {
    let Ok(sandbox) = find_anywhere(Some(name), "stop") else { return format!("stopped {name}") };
    match sandbox.read_changeset().ok().flatten().map(|changes| changes.files.len()) {
        Some(0) => format!(
            "stopped {name}; it has no changes. Next: {}, or airlock rm {name}",
            command_for(&sandbox, "resume")
        ),
        Some(n) => {
            format!("stopped {name}; it changed {}. Next: {}", format_count(n, "file"), command_for(&sandbox, "review"))
        }
        None => format!("stopped {name}"),
    }
}

fn no_agent_message(sandbox: &Sandbox) -> String {
    let name = &sandbox.record.name;
    match sandbox.record.state {
        SandboxState::Seeding => format!("{name} was interrupted before its agent started. Next: airlock rm {name}"),
        SandboxState::Running => format!("{name} was interrupted. Next: {}", command_for(sandbox, "review")),
        SandboxState::Collected { .. } => {
            let changes = sandbox.read_changeset().ok().flatten();
            let next = if changes.is_some_and(|changes| !changes.is_empty()) { "review" } else { "resume" };
            format!("the agent of {name} has ended already. Next: {}", command_for(sandbox, next))
        }
    }
}
