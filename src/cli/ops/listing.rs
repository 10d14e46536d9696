//! Lists the sandboxes of one or all repositories.

use std::cmp::Reverse;
use std::io;

use crate::cli::error::CliError;
use crate::core::escape::Escaped;
use crate::core::name::SandboxName;
use crate::sandbox::{RepositoryIndex, Sandbox, SandboxStore};

/// Returns the stores of all repositories that have had sandboxes.
pub(crate) fn list_stores() -> Result<Vec<SandboxStore>, CliError> {
    Ok(RepositoryIndex::open().map(|index| index.list_stores()).transpose()?.unwrap_or_default())
}

/// The sandboxes of some repositories, newest first.
pub(crate) struct Listing {
    pub sandboxes: Vec<Sandbox>,
    /// Names of sandboxes with a damaged record, with the error.
    pub damaged: Vec<(SandboxName, io::Error)>,
}

impl Listing {
    pub(crate) fn load(stores: &[SandboxStore]) -> Result<Self, CliError> {
        let mut listing = Self { sandboxes: Vec::new(), damaged: Vec::new() };
        for store in stores {
            for (name, opened) in store.open_each()? {
                match opened {
                    Ok(sandbox) => listing.sandboxes.push(sandbox),
                    Err(error) => listing.damaged.push((name, error)),
                }
            }
        }
        listing.sandboxes.sort_by_key(|s| (Reverse(s.record.creation_time()), s.record.name.clone()));
        Ok(listing)
    }
}

/// Returns the working tree of a sandbox for display, with `~` for the home directory.
pub(crate) fn display_worktree(sandbox: &Sandbox) -> String {
    let worktree = &sandbox.record.worktree;
    let home = std::env::var("HOME").unwrap_or_default();
    let below_home = worktree.strip_prefix(&home).filter(|rest| home.len() > 1 && rest.starts_with('/'));
    below_home.map_or_else(|| Escaped::new(worktree).to_string(), |rest| format!("~{}", Escaped::new(rest)))
}
