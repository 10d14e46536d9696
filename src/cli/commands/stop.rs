//! `airlock stop`: ends the agents of sandboxes. Their owners collect the changes.

use crate::cli::error::CliError;
use crate::cli::ops::find_sandbox::find_anywhere;
use crate::cli::ops::repo::create_runtime;
use crate::cli::output::{Output, format_count};
use crate::sandbox::{Sandbox, SandboxState};
use crate::session::request_stop;

pub(crate) fn run_stop(names: &[String], output: Output) -> Result<u8, CliError> {
    let found = names.iter().map(|name| find_anywhere(Some(name), "stop")).collect::<Result<Vec<_>, _>>()?;
    let runtime = create_runtime()?;
    for sandbox in found {
        let name = &sandbox.record.name;
        if runtime.block_on(stop_agent(&sandbox))? {
            output.print_status(&stopped_message(name.as_str()));
        } else {
            output.print_status(&no_agent_message(&sandbox));
        }
    }
    Ok(0)
}

/// Ends the agent of a sandbox, and waits until its changes are collected. Returns whether an agent was running.
pub(crate) async fn stop_agent(sandbox: &Sandbox) -> Result<bool, CliError> {
    let was_running = request_stop(&sandbox.file_path("")).await?;
    if was_running {
        tokio::task::block_in_place(|| sandbox.wait_until_free())?;
    }
    Ok(was_running)
}

/// Returns the message about a sandbox whose agent was ended. A terminal that showed its session may have removed it.
fn stopped_message(name: &str) -> String {
    let changes = find_anywhere(Some(name), "stop").ok().and_then(|sandbox| sandbox.read_changeset().ok().flatten());
    match changes {
        Some(changes) if changes.is_empty() => {
            format!("stopped {name}; it has no changes. Next: airlock resume {name}, or airlock rm {name}")
        }
        Some(changes) => {
            format!(
                "stopped {name}; it changed {}. Next: airlock review {name}",
                format_count(changes.files.len(), "file")
            )
        }
        None => format!("stopped {name}"),
    }
}

fn no_agent_message(sandbox: &Sandbox) -> String {
    let name = &sandbox.record.name;
    match sandbox.record.state {
        _ if sandbox.is_busy() => format!("{name} is in use by another airlock process"),
        SandboxState::Seeding => format!("{name} was interrupted before its agent started. Next: airlock rm {name}"),
        SandboxState::Running => format!("{name} was interrupted. Next: airlock review {name}"),
        SandboxState::Collected { .. } => format!("the agent of {name} has ended already. Next: airlock review {name}"),
    }
}
