//! The repository that a subcommand works on, and the choice of a sandbox in it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::draft::join_renames;
use super::policy::collect_policy;
use super::review_progress::describe_progress;
use crate::changes::Changeset;
use crate::cli::confirm::pick_one;
use crate::cli::error::CliError;
use crate::cli::ops::engine::connect_engine_of;
use crate::cli::ops::settings::load_settings;
use crate::cli::output::{Output, format_count};
use crate::config::closest_name;
use crate::core::name::SandboxName;
use crate::git::HostRepo;
use crate::sandbox::{CollectPolicy, Sandbox, SandboxState, SandboxStore, lifecycle};
use crate::session::{Activity, ask_activity};
use crate::terminal;

/// A repository and its sandboxes.
pub(crate) struct Repo {
    pub host: HostRepo,
    pub store: SandboxStore,
}

impl Repo {
    /// Opens the repository around the current directory, and warns about interrupted applies in it.
    pub(crate) fn open(output: Output) -> Result<Self, CliError> {
        let repo = Self::open_for_write()?;
        super::apply_context::warn_interrupted(&repo.host, output);
        Ok(repo)
    }

    /// Opens the repository without the warning, for subcommands that recover interrupted applies.
    pub(crate) fn open_for_write() -> Result<Self, CliError> {
        let host = HostRepo::discover(&std::env::current_dir()?)?;
        let store = SandboxStore::new(&host.common_dir);
        Ok(Self { host, store })
    }

    /// Opens a sandbox by name. Without a name, opens the only sandbox.
    pub(crate) fn open_sandbox(&self, name: Option<&str>, verb: &str) -> Result<Sandbox, CliError> {
        if let Some(name) = name {
            return self.open_named(name, verb);
        }
        let mut all = self.store.open_all()?;
        // A decided sandbox is chosen only if there is no undecided one.
        if all.iter().any(|s| s.record.decided_at.is_none()) {
            all.retain(|s| s.record.decided_at.is_none());
        }
        match (all.pop(), all.is_empty()) {
            (None, _) => {
                Err(CliError::failed("this repository has no sandboxes")
                    .with_hint("to create one, run `airlock claude`"))
            }
            (Some(only), true) => Ok(only),
            (Some(last), false) => {
                all.push(last);
                if terminal::is_interactive() {
                    return pick_sandbox(all, verb);
                }
                let newest = all[0].record.name.clone();
                let width = all.iter().map(|sandbox| sandbox.record.name.as_str().len()).max().unwrap_or_default();
                Err(CliError::usage(format!("failed to choose a sandbox: this repository has {} sandboxes", all.len()))
                    .with_details(all.iter().map(|sandbox| describe_sandbox(sandbox, width)))
                    .with_hint(format!("run `airlock {verb} {newest}`")))
            }
        }
    }

    /// Returns whether a sandbox has this name.
    pub(crate) fn has_sandbox(&self, name: &str) -> bool {
        let name = name.parse::<SandboxName>().ok();
        name.is_some_and(|name| self.store.open(&name).is_ok_and(|found| found.is_some()))
    }

    fn open_named(&self, name: &str, verb: &str) -> Result<Sandbox, CliError> {
        let found = match name.parse::<SandboxName>() {
            Ok(name) => self.store.open(&name)?,
            Err(_) => None,
        };
        let Some(found) = found else {
            let known = self.store.open_each()?;
            let failure = CliError::failed(format!("this repository has no sandbox named `{name}`"));
            return Err(match closest_name(name, known.iter().map(|(name, _)| name.as_str())) {
                Some(close) => failure.with_hint(format!("did you mean `airlock {verb} {close}`?")),
                None if known.is_empty() => failure.with_hint("to create one, run `airlock claude`"),
                None => failure.with_hint("to list the sandboxes, run `airlock ls`"),
            });
        };
        Ok(found)
    }

    /// Returns the changes of a sandbox with renames joined, except for those that its review has split. If it was interrupted,
    /// its changes are collected now.
    pub(crate) fn load_changes(&self, sandbox: &mut Sandbox, output: Output) -> Result<Changeset, CliError> {
        let changes = self.load_separate_changes(sandbox, output)?;
        Ok(join_renames(sandbox, changes))
    }

    /// As [`Repo::load_changes`], with each rename as an addition and a deletion.
    pub(crate) fn load_separate_changes(&self, sandbox: &mut Sandbox, output: Output) -> Result<Changeset, CliError> {
        let name = sandbox.record.name.clone();
        match sandbox.record.state {
            SandboxState::Collected { .. } => sandbox.read_changeset()?.ok_or_else(|| {
                CliError::failed(format!("the changes of `{name}` no longer exist"))
                    .with_hint(format!("to remove it, run `airlock rm {name}`"))
            }),
            _ if sandbox.is_busy() => Err(crate::sandbox::SandboxError::Busy(name).into()),
            SandboxState::Seeding => {
                Err(CliError::failed(format!("`{name}` was interrupted before its agent started"))
                    .with_hint(format!("to remove it, run `airlock rm {name}`")))
            }
            SandboxState::Running => {
                output.print_status(&format!("{name} was interrupted; collecting its changes"));
                let policy = self.load_policy(sandbox, output)?;
                create_runtime()?.block_on(async {
                    let engine = connect_engine_of(&sandbox.record).await?;
                    Ok::<_, CliError>(lifecycle::recover_sandbox(&engine, &self.host, sandbox, &policy).await?)
                })
            }
        }
    }
}

impl Repo {
    /// Returns the limits and risk rules for collecting from a sandbox.
    pub(crate) fn load_policy(&self, sandbox: &Sandbox, output: Output) -> Result<CollectPolicy, CliError> {
        let settings = load_settings()?;
        collect_policy(&settings, &self.host, &sandbox.record.base, &sandbox.record.manifest.submodules, output)
    }
}

/// Lets the user choose one of several sandboxes, newest first.
pub(crate) fn pick_sandbox(mut all: Vec<Sandbox>, verb: &str) -> Result<Sandbox, CliError> {
    all.sort_by_key(|sandbox| std::cmp::Reverse(sandbox.record.creation_time()));
    let width = all.iter().map(|sandbox| sandbox.record.name.as_str().len()).max().unwrap_or_default();
    let lines: Vec<String> = all.iter().map(|sandbox| describe_sandbox(sandbox, width)).collect();
    match pick_one(&format!("Which sandbox? (airlock {verb})"), &lines)? {
        Some(at) => Ok(all.swap_remove(at)),
        None => Err(CliError::interrupted("no sandbox was chosen")),
    }
}

/// Describes a sandbox in one line. `width` is the width of the column of names.
fn describe_sandbox(sandbox: &Sandbox, width: usize) -> String {
    format!(
        "{:width$}   {}   {}",
        sandbox.record.name.as_str(),
        sandbox_status(sandbox).1,
        format_age(sandbox.record.created)
    )
}

/// Returns the state of a sandbox: a word for scripts, and a phrase for display.
pub(crate) fn sandbox_status(sandbox: &Sandbox) -> (&'static str, String) {
    match sandbox.record.state {
        SandboxState::Collected { .. } if sandbox.is_busy() => {
            ("in-use", format!("{}, in use by another command", collected_status(sandbox).1))
        }
        SandboxState::Seeding if sandbox.is_busy() => ("starting", "starting".into()),
        _ if sandbox.is_busy() => match load_activity(sandbox) {
            Some(activity) => {
                let phrase = if activity.is_waiting { "waiting for you" } else { "running" };
                let detached = if activity.is_attached { "" } else { ", detached" };
                (if activity.is_waiting { "waiting" } else { "running" }, format!("{phrase}{detached}"))
            }
            None => ("running", "running".into()),
        },
        SandboxState::Seeding => ("incomplete", "interrupted before its agent started".into()),
        SandboxState::Running => ("interrupted", "interrupted".into()),
        SandboxState::Collected { .. } => collected_status(sandbox),
    }
}

/// Returns the status of a sandbox whose changes were collected.
fn collected_status(sandbox: &Sandbox) -> (&'static str, String) {
    match sandbox.read_changeset() {
        Ok(Some(changes)) if changes.is_empty() => ("unchanged", "no changes".into()),
        Ok(Some(changes)) => {
            let word = if sandbox.record.decided_at.is_some() { "decided" } else { "collected" };
            let progress = sandbox.record.progress.as_ref().filter(|progress| progress.changeset == changes.id);
            let files = format_count(join_renames(sandbox, changes).files.len(), "file");
            let parts = progress.map(describe_progress).unwrap_or_default();
            (word, std::iter::once(files).chain(parts).collect::<Vec<_>>().join(", "))
        }
        _ => ("damaged", "damaged".into()),
    }
}

/// Asks the owner of a running sandbox for its activity. Returns `None` if it does not answer.
pub(crate) fn load_activity(sandbox: &Sandbox) -> Option<Activity> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(ask_activity(&sandbox.file_path(""))).ok().flatten()
}

/// Formats the time since `then`, which is in seconds since the Unix epoch.
pub(crate) fn format_age(then: u64) -> String {
    let then = UNIX_EPOCH + Duration::from_secs(then);
    let seconds = SystemTime::now().duration_since(then).map_or(0, |d| d.as_secs());
    let ago = |n: u64, unit| format!("{} ago", format_count(usize::try_from(n).unwrap_or(usize::MAX), unit));
    match seconds {
        0..60 => "just now".into(),
        60..3600 => ago(seconds / 60, "minute"),
        3600..86_400 => ago(seconds / 3600, "hour"),
        _ => ago(seconds / 86_400, "day"),
    }
}

/// Creates the runtime for asynchronous calls to the engine.
pub(crate) fn create_runtime() -> Result<tokio::runtime::Runtime, CliError> {
    Ok(tokio::runtime::Runtime::new()?)
}
