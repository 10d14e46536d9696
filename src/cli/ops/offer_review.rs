//! Offers a review after an agent has ended.

use crate::cli::confirm::ask_yes_no;
use crate::cli::error::CliError;
use crate::cli::output::print_stderr;
use crate::config::ReviewMode;
use crate::sandbox::Sandbox;
use crate::terminal::{self, Signals};

/// Returns whether to review now, asking the user if that is configured. Otherwise prints the command to review.
pub(crate) fn is_review_wanted(sandbox: &Sandbox, mode: ReviewMode) -> Result<bool, CliError> {
    // Printed even with `--quiet`, because the user needs the name to find the sandbox.
    let kept = format!("airlock: kept. Next: airlock review {}\n", sandbox.record.name);
    let is_asked = terminal::is_interactive() && mode != ReviewMode::Never && terminal::wait_until_settled()?;
    let is_wanted = match mode {
        _ if !is_asked => false,
        ReviewMode::Never => false,
        ReviewMode::Always => true,
        ReviewMode::Ask => {
            Signals::set_exit_message(format!("\n{kept}"));
            let answer = ask_yes_no("Review now?", true)?;
            Signals::set_exit_message(String::new());
            answer
        }
    };
    if !is_wanted {
        print_stderr(&kept);
    }
    Ok(is_wanted)
}
