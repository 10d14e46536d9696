//! Shows the session of a running sandbox on this terminal.

use super::find_sandbox::open_repo_of;
use super::finish_run::FinishOptions;
use super::repo::create_runtime;
use super::rounds::run_rounds;
use super::session::{finish_session, read_detach_keys, show_attached};
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::config::Settings;
use crate::sandbox::{Sandbox, SandboxState};
use crate::session::{Purpose, connect_to_owner};

/// Returns whether an agent runs in a sandbox.
pub(crate) fn is_agent_running(sandbox: &Sandbox) -> bool {
    sandbox.record.state == SandboxState::Running && sandbox.is_busy()
}

/// Shows the session of a sandbox until it ends or the user detaches.
pub(crate) fn attach_to(
    sandbox: &Sandbox,
    (settings, finish): (&Settings, FinishOptions),
    output: Output,
) -> Result<u8, CliError> {
    let dir = sandbox.file_path("");
    let keys = read_detach_keys(settings)?;
    let connected = create_runtime()?.block_on(async {
        let stream = connect_to_owner(&dir, Purpose::Attach, keys).await?;
        stream.map(tokio::net::UnixStream::into_std).transpose()
    })?;
    let Some(stream) = connected else { return Err(no_session_error(sandbox)) };
    let session = show_attached(stream, output)?;
    let (status, review) = finish_session(session, || open_repo_of(sandbox), finish, output)?;
    if let Some((repo, round)) = review {
        run_rounds(&repo.host, round, output)?;
    }
    Ok(status)
}

/// Returns the error for a sandbox without a session, which says what to do instead.
fn no_session_error(sandbox: &Sandbox) -> CliError {
    let name = &sandbox.record.name;
    let busy = sandbox.is_busy();
    match sandbox.record.state {
        SandboxState::Collected { .. } if busy => {
            CliError::failed(format!("the agent of `{name}` has ended, and another airlock process uses the sandbox"))
        }
        SandboxState::Collected { .. } => CliError::failed(format!("the agent of `{name}` has ended")).with_hint(
            format!("to see its changes, run `airlock review {name}`; to continue, `airlock resume {name}`"),
        ),
        _ if busy => CliError::failed(format!("`{name}` has no session yet; its agent is being started"))
            .with_hint(format!("try again: `airlock attach {name}`")),
        SandboxState::Seeding => CliError::failed(format!("`{name}` was interrupted before its agent started"))
            .with_hint(format!("to remove it, run `airlock rm {name}`")),
        SandboxState::Running => CliError::failed(format!(
            "the session of `{name}` was interrupted; the agent's work is kept"
        ))
        .with_hint(format!("to continue, run `airlock resume {name}`; to see the changes, `airlock diff {name}`")),
    }
}
