//! `airlock port`: publishes a port of a running sandbox on the host, until its agent ends.

use crate::cli::error::CliError;
use crate::cli::ops::engine::connect_engine_of;
use crate::cli::ops::network::bind_port;
use crate::cli::ops::repo::{Repo, create_runtime};
use crate::cli::output::Output;
use crate::gateway::AuditLog;
use crate::sandbox::NETWORK_LOG;
use crate::sandbox::lifecycle;
use crate::sandbox::ports::PortSpec;
use crate::terminal::Signals;

pub(crate) fn run_port(name: &str, spec: PortSpec, output: Output) -> Result<u8, CliError> {
    let repo = Repo::open(output)?;
    let sandbox = repo.open_sandbox(Some(name), "port")?;
    create_runtime()?.block_on(async {
        let mut signals = Signals::take_over()?;
        let engine = connect_engine_of(&sandbox.record).await?;
        let Some(guest) = lifecycle::connect_running(&engine, &sandbox).await? else {
            return Err(CliError::failed(format!("no agent runs in `{name}`"))
                .with_hint(format!("to start one with this port, run `airlock resume {name} --port {}`", spec.port)));
        };
        let log = AuditLog::open(&sandbox.file_path(NETWORK_LOG))?;
        let bound = bind_port(spec)?;
        output.print_status(&format!(
            "{} is port {} of {name}, until its agent ends or you press Ctrl-C",
            bound.address, spec.port
        ));
        tokio::select! {
            served = bound.serve_port(guest.clone(), log) => served?,
            () = guest.wait_for_end() => {}
            _ = signals.next(0) => {}
        }
        Ok(0)
    })
}
