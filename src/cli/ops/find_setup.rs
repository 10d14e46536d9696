//! Finds the setup command of a commit. What comes from the repository is asked once.

use super::answers::Request;
use super::choose_image::{Proposal, is_accepted};
use super::policy::read_repository_settings;
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::config::Settings;
use crate::core::escape::Escaped;
use crate::git::{HostRepo, Snapshot};
use crate::images::suggest_setup;
use crate::terminal;

/// A setup command with its origin.
pub(crate) struct Setup {
    pub command: String,
    /// The file that it comes from, or that it is suggested for.
    pub origin: String,
    /// The request of the repository, unless the user's configuration has the command.
    request: Option<Request>,
}

impl Setup {
    /// Returns the answer of the user; the user's own command needs none.
    pub(crate) fn find_answer(&self) -> Option<bool> {
        self.request.as_ref().map_or(Some(true), Request::find_answer)
    }

    /// Returns whether the repository requests it.
    pub(crate) fn is_requested(&self) -> bool {
        self.request.is_some()
    }

    /// Records that the command of a repository is not run. An answer that cannot be saved is asked again.
    pub(crate) fn decline_request(&self) {
        if let Some(request) = &self.request {
            let _ = request.save_answer(false);
        }
    }
}

/// Finds the setup command of a commit: the user's own, the repository's, the devcontainer's, or the one that fits its lock
/// files.
///
/// # Errors
/// A file of the repository is invalid, or git fails.
pub(crate) fn find_setup(
    host: &HostRepo,
    snapshot: &Snapshot,
    settings: &Settings,
    devcontainer: &[String],
) -> Result<Option<Setup>, CliError> {
    if let Some(command) = &settings.setup {
        let setup = Setup { command: command.clone(), origin: "your configuration".into(), request: None };
        return Ok(Some(setup).filter(|setup| setup.command != "none"));
    }
    let requested = read_repository_settings(host, &snapshot.commit)?.and_then(|(settings, _)| settings.setup);
    let devcontainer = (!devcontainer.is_empty()).then(|| devcontainer.join(" && "));
    let tree = host.open_commit(&snapshot.commit)?;
    let found = requested
        .map(|command| (command, ".airlock.toml".to_owned()))
        .or_else(|| devcontainer.map(|command| (command, "devcontainer.json".into())))
        .or_else(|| suggest_setup(|name| tree.has_file(name)));
    let Some((command, origin)) = found.filter(|(command, _)| command.trim() != "none") else { return Ok(None) };
    let request = Request::new(host, "setup", std::slice::from_ref(&command))?;
    Ok(Some(Setup { command, origin, request: Some(request) }))
}

/// Returns whether the user accepts a setup, and asks if there is no answer yet.
///
/// # Errors
/// The answer cannot be saved.
pub(crate) fn is_setup_accepted(setup: &Setup, proposal: Proposal, output: Output) -> Result<bool, CliError> {
    let Some(request) = &setup.request else { return Ok(true) };
    let command = Escaped::new(&setup.command).to_string();
    if proposal == Proposal::Ask && !terminal::is_interactive() && request.find_answer().is_none() {
        output.print_status(&format!(
            "`{command}` ({}) is not run before the agent; to accept and run it once, use `airlock setup`",
            Escaped::new(&setup.origin)
        ));
        return Ok(false);
    }
    let question =
        format!("Run `{command}` once in a sandbox, so that later sandboxes of this repository have its result?");
    is_accepted(request, &question, proposal)
}
