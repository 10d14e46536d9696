//! Ends the agent of a sandbox.

use std::time::Duration;

use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::sandbox::Sandbox;
use crate::session::request_stop;

/// Time after which the user learns what is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

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
