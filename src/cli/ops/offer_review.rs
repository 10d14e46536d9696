//! Offers a review after an agent has ended.

use crate::cli::confirm::ask_yes_no;
use crate::cli::error::CliError;
use crate::cli::output::print_stderr;
use crate::config::ReviewMode;
use crate::sandbox::Sandbox;
use crate::terminal;

/// Returns whether to review now, asking the user if that is configured. Otherwise prints the command to review.
pub(crate) fn is_review_wanted(sandbox: &Sandbox, mode: ReviewMode) -> Result<bool, CliError> {
    let is_asked = terminal::is_interactive() && mode != ReviewMode::Never;
    let is_wanted = is_asked
        && terminal::wait_until_settled()?
        && match mode {
            ReviewMode::Never => false,
            ReviewMode::Always => true,
            ReviewMode::Ask => ask_yes_no("Review now?", true)?,
        };
    if !is_wanted {
        // Printed even with `--quiet`, because the user needs the name to find the sandbox.
        print_stderr(&format!("airlock: kept. Next: airlock review {}\n", sandbox.record.name));
    }
    Ok(is_wanted)
}
