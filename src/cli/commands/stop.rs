//! `airlock stop`: ends the agents of sandboxes. Their owners collect the changes.

use std::time::Duration;

use crate::cli::error::CliError;
use crate::cli::ops::find_sandbox::find_anywhere;
use crate::cli::ops::repo::create_runtime;
use crate::cli::output::{Output, format_count};
use crate::sandbox::{Sandbox, SandboxState};
use crate::session::request_stop;

/// Time after which the user learns what is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

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

/// Ends the agent of a sandbox, and waits until its changes are collected. Returns whether an agent was running.
pub(crate) async fn stop_agent(sandbox: &Sandbox, output: Output) -> Result<bool, CliError> {
    let dir = sandbox.file_path("");
    let stopping = request_stop(&dir);
    tokio::pin!(stopping);
    tokio::select! {
        stopped = &mut stopping => return Ok(stopped?),
        () = tokio::time::sleep(PATIENCE) => {}
    }
    output.print_status(&format!("waiting for the agent of {}, at most 10 seconds", sandbox.record.name));
    Ok(stopping.await?)
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
        SandboxState::Seeding => format!("{name} was interrupted before its agent started. Next: airlock rm {name}"),
        SandboxState::Running => format!("{name} was interrupted. Next: airlock review {name}"),
        SandboxState::Collected { .. } => {
            let changes = sandbox.read_changeset().ok().flatten();
            let next = if changes.is_some_and(|changes| !changes.is_empty()) { "review" } else { "resume" };
            format!("the agent of {name} has ended already. Next: airlock {next} {name}")
        }
    }
}
