//! Finds a sandbox by name in this repository, or in any other of this user.

use std::path::Path;

use super::repo::{Repo, pick_sandbox};
use crate::cli::error::CliError;
use crate::cli::shell_word::quote_shell_word;
use crate::config::closest_name;
use crate::core::name::SandboxName;
use crate::git::HostRepo;
use crate::sandbox::{RepositoryIndex, Sandbox, SandboxState, SandboxStore};

/// Finds the sandbox with a name. Without one, finds the only sandbox whose agent runs: in this repository, or else in all.
pub(crate) fn find_anywhere(name: Option<&str>, verb: &str) -> Result<Sandbox, CliError> {
    let here = Repo::open_for_write().ok().map(|repo| repo.store);
    let others = || Ok::<_, CliError>(RepositoryIndex::open().map(|index| index.list_stores()).transpose()?);
    match name {
        Some(name) => find_named(name, verb, here, others()?.unwrap_or_default()),
        None => {
            let running = match here {
                Some(store) => list_running(&[store])?,
                None => Vec::new(),
            };
            let running = if running.is_empty() { list_running(&others()?.unwrap_or_default())? } else { running };
            choose_running(running, verb)
        }
    }
}

fn find_named(
    name: &str,
    verb: &str,
    here: Option<SandboxStore>,
    others: Vec<SandboxStore>,
) -> Result<Sandbox, CliError> {
    let Ok(parsed) = name.parse::<SandboxName>() else {
        return Err(CliError::failed(format!("`{name}` is not the name of a sandbox"))
            .with_hint("to list the sandboxes, run `airlock ls --all`"));
    };
    if let Some(store) = here
        && let Some(sandbox) = store.open(&parsed)?
    {
        return Ok(sandbox);
    }
    let mut found = Vec::new();
    let mut names = Vec::new();
    for store in others {
        // A damaged record of another repository is not an obstacle here.
        names.extend(store.open_each().unwrap_or_default().into_iter().map(|(name, _)| name.to_string()));
        found.extend(store.open(&parsed).ok().flatten());
    }
    match (found.pop(), found.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(last), false) => {
            found.push(last);
            let first = found[0].record.worktree.clone();
            Err(CliError::usage(format!("{} repositories have a sandbox named `{name}`", found.len()))
                .with_details(found.iter().map(|sandbox| sandbox.record.worktree.clone()))
                .with_hint(format!("change to its directory: `cd {first} && airlock {verb} {name}`")))
        }
        (None, _) => {
            let failure = CliError::failed(format!("no repository has a sandbox named `{name}`"));
            Err(match closest_name(name, names.iter().map(String::as_str)) {
                Some(close) => failure.with_hint(format!("did you mean `airlock {verb} {close}`?")),
                None => failure.with_hint("to list the sandboxes, run `airlock ls --all`"),
            })
        }
    }
}

fn list_running(stores: &[SandboxStore]) -> Result<Vec<Sandbox>, CliError> {
    let mut running = Vec::new();
    for store in stores {
        for (_, opened) in store.open_each()? {
            running.extend(opened.ok().filter(|s| s.record.state == SandboxState::Running && s.is_busy()));
        }
    }
    Ok(running)
}

fn choose_running(mut running: Vec<Sandbox>, verb: &str) -> Result<Sandbox, CliError> {
    match (running.pop(), running.is_empty()) {
        (None, _) => Err(CliError::failed("no sandbox has a running agent")
            .with_hint("to list the sandboxes, run `airlock ls --all`; to continue in one, `airlock resume NAME`")),
        (Some(only), true) => Ok(only),
        (Some(last), false) => {
            running.push(last);
            if crate::terminal::is_interactive() {
                return pick_sandbox(running, verb);
            }
            let first = running[0].record.name.clone();
            let list = running.iter().map(|s| format!("{}  {}", s.record.name, s.record.worktree));
            Err(CliError::usage(format!("failed to choose a sandbox: the agents of {} run", running.len()))
                .with_details(list)
                .with_hint(format!("run `airlock {verb} {first}`")))
        }
    }
}

/// Returns a command for a sandbox that may belong to another repository than the current one.
pub(crate) fn command_for(sandbox: &Sandbox, verb: &str) -> String {
    let name = &sandbox.record.name;
    let is_here = Repo::open_for_write().is_ok_and(|repo| repo.host.worktree_id() == sandbox.record.worktree);
    if is_here {
        return format!("airlock {verb} {name}");
    }
    format!("cd {} && airlock {verb} {name}", quote_shell_word(sandbox.record.worktree.as_bytes()))
}

/// Opens the repository of a sandbox, by its working tree.
pub(crate) fn open_repo_of(sandbox: &Sandbox) -> Result<Repo, CliError> {
    if let Ok(repo) = Repo::open_for_write()
        && repo.host.worktree_id() == sandbox.record.worktree
    {
        return Ok(repo);
    }
    let host = HostRepo::discover(Path::new(&sandbox.record.worktree)).map_err(|error| {
        let name = &sandbox.record.name;
        CliError::from(error)
            .with_hint(format!("change to the working tree of `{name}`, then run `airlock review {name}`"))
    })?;
    let store = SandboxStore::new(&host.common_dir);
    Ok(Repo { host, store })
}
