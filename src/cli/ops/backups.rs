//! Expires the backups of applies and sandboxes that were decided long ago, for `airlock gc`.

use std::time::Duration;

use super::apply_context::{ApplyContext, load_history};
use super::repo::{Repo, format_age};
use crate::apply::{FinishedTransaction, TransactionKind, read_late_edits, remove_leftovers};
use crate::cli::error::CliError;
use crate::cli::output::{Output, format_count};
use crate::config::{Settings, parse_duration};
use crate::core::clock::seconds_since_epoch;
use crate::core::escape::Escaped;
use crate::sandbox::Sandbox;

/// Default retention of backups.
const DEFAULT_RETENTION: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The backups of one apply that are old enough to be removed.
pub(crate) struct ExpiredBackup {
    pub name: String,
    pub bytes: u64,
    pub text: String,
    pub removed: bool,
}

/// Returns the retention of backups.
pub(crate) fn backup_retention(settings: &Settings) -> Result<Duration, CliError> {
    let configured = settings.backups.as_deref().map(parse_duration).transpose();
    Ok(configured.map_err(|problem| CliError::usage(format!("backups: {problem}")))?.unwrap_or(DEFAULT_RETENTION))
}

fn is_old(then: u64, keep: Duration) -> bool {
    seconds_since_epoch().saturating_sub(then) >= keep.as_secs()
}

/// Finds expired backups, and removes them unless this is a dry run. Keeps the backups of applies that did not end, and
/// backups with an edit of the user that exists nowhere else.
pub(crate) fn expire_backups(
    repo: &Repo,
    keep: Duration,
    dry_run: bool,
    output: Output,
) -> Result<Vec<ExpiredBackup>, CliError> {
    let mut context = ApplyContext::new(&repo.host)?;
    if !dry_run {
        context.lock_exclusive()?;
    }
    let mut found = Vec::new();
    let all = load_history(&context.log)?.finished;
    // If an undo were removed before the apply that it reversed, that apply would count as applied again.
    let mut kept_ids: Vec<String> = Vec::new();
    for transaction in &all {
        let FinishedTransaction { dir: folder, journal, outcome: end, .. } = transaction;
        // If a working tree no longer exists, nothing can be undone in it.
        let is_expirable = transaction.is_in_worktree(&context.target.fingerprint)
            || !std::path::Path::new(&journal.target.worktree).exists();
        let undoes = matches!(&journal.kind, TransactionKind::Undo(id) if kept_ids.contains(id));
        if !is_old(end.at, keep) || !is_expirable || undoes {
            kept_ids.push(journal.id.clone());
            continue;
        }
        let tree = context.open_tree(&journal.modules)?;
        let number = folder.sequence_number();
        let preserved = match read_late_edits(folder, journal, end.committed, &tree) {
            Ok(preserved) => preserved,
            Err(error) => {
                let path = folder.staging_path();
                let path = Escaped::new(path.as_os_str().as_encoded_bytes()).to_string();
                output.print_status(&format!(
                    "kept the backups of apply {number}, because they cannot be read: {error} ({path})"
                ));
                kept_ids.push(journal.id.clone());
                continue;
            }
        };
        if let Some(first) = preserved.first() {
            output.print_status(&format!(
                "kept the backups of apply {number}: {} is the only copy of an edit of {}; save it, then remove it there",
                Escaped::new(first.file.as_os_str().as_encoded_bytes()),
                Escaped::new(first.path.as_bytes()),
            ));
            kept_ids.push(journal.id.clone());
            continue;
        }
        let text = format!(
            "the backups of apply {number} ({}, {}, {}), which can then no longer be undone",
            Escaped::new(&journal.sandbox),
            format_count(journal.changed_files().len(), "file"),
            format_age(end.at),
        );
        let bytes = dir_usage(&folder.staging_path());
        if !dry_run {
            remove_leftovers(&context.fs, folder, &tree)?;
        }
        found.push(ExpiredBackup { name: number.to_string(), bytes, text, removed: !dry_run });
    }
    Ok(found)
}

/// Returns the disk usage of the files in a directory, in bytes.
fn dir_usage(dir: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|e| e.path().symlink_metadata().ok()).map(|m| m.blocks() * 512).sum()
}

/// Finds sandboxes that were decided long ago and do not hold the only copy of anything. Ignored files and conversations
/// expire with them.
pub(crate) fn find_decided(repo: &Repo, keep: Duration) -> Result<Vec<Sandbox>, CliError> {
    let all = repo.store.open_each()?.into_iter().filter_map(|(_, opened)| opened.ok());
    let is_expired =
        |s: &Sandbox| s.record.decided_at.is_some_and(|at| is_old(at, keep)) && s.record.other_contents.is_empty();
    Ok(all.filter(|s| is_expired(s) && !s.is_busy()).collect())
}
