//! The review that is offered when an agent has ended.

use super::confirm::confirm;
use super::error::CliError;
use super::output::{Output, eprint};
use super::review;
use crate::config::ReviewMode;
use crate::sandbox::Finished;
use crate::sandbox::terminal;
use crate::snapshot::HostRepo;

/// Reviews, or asks whether to; else says how.
pub fn offer_review(host: &HostRepo, finished: Finished, mode: ReviewMode, output: Output) -> Result<(), CliError> {
    let name = finished.sandbox.record.name.clone();
    let is_asked = terminal::is_interactive() && mode != ReviewMode::Never;
    let now = is_asked
        && terminal::wait_until_settled()?
        && match mode {
            ReviewMode::Never => false,
            ReviewMode::Always => true,
            ReviewMode::Ask => confirm("Review now?", true)?,
        };
    if now {
        // The exit status stays the agent's.
        review::interact(host, finished.sandbox, &finished.changes, false, output).map(drop)
    } else {
        // Said however quiet: without the name nobody finds it.
        eprint(&format!("airlock: kept. Next: airlock review {name}\n"));
        Ok(())
    }
}
