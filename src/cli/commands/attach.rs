//! `airlock attach`: shows the session of a running sandbox on this terminal.

use crate::cli::error::CliError;
use crate::cli::ops::attach_session::attach_to;
use crate::cli::ops::find_sandbox::find_anywhere;
use crate::cli::ops::finish_run::FinishOptions;
use crate::cli::ops::settings::load_settings;
use crate::cli::output::Output;
use crate::terminal;

pub(crate) fn run_attach(name: Option<&str>, output: Output) -> Result<u8, CliError> {
    if !terminal::is_interactive() {
        return Err(CliError::usage("a session needs a terminal"));
    }
    let settings = load_settings()?;
    let sandbox = find_anywhere(name, "attach")?;
    attach_to(&sandbox, (&settings, FinishOptions::default()), output)
}
