//! Expires the backups of applies and sandboxes that were decided long ago, for `airlock gc`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::apply_context::{ApplyContext, history};
use super::repo::{Repo, age};
use crate::apply::{AppliedTransaction, Kind, Op, late_edits, remove_leftovers};
use crate::cli::error::{CliError, USAGE};
use crate::cli::output::{Output, count};
use crate::config::{Settings, parse_duration};
use crate::core::escape::Escaped;
use crate::sandbox::Sandbox;

/// Default retention of backups.
const KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The backups of one apply that are old enough to be removed.
pub struct ExpiredBackup {
    pub name: String,
    pub bytes: u64,
    pub text: String,
    pub removed: bool,
}

/// Returns the retention of backups.
pub fn retention(settings: &Settings) -> Result<Duration, CliError> {
    let given = settings.backups.as_deref().map(parse_duration).transpose();
    Ok(given.map_err(|problem| CliError::new(USAGE, format!("backups: {problem}")))?.unwrap_or(KEPT))
}

fn is_old(then: u64, keep: Duration) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    now.saturating_sub(then) >= keep.as_secs()
}

/// Finds expired backups, and removes them unless this is a dry run. Keeps the backups of applies that did not end, and
/// backups with an edit of the user that exists nowhere else.
pub fn expire(repo: &Repo, keep: Duration, dry_run: bool, output: Output) -> Result<Vec<ExpiredBackup>, CliError> {
    let mut host = ApplyContext::of(&repo.host)?;
    if !dry_run {
        host.lock()?;
    }
    let mut found = Vec::new();
    let all = history(&host.applies)?.past;
    // If an undo were removed before the apply that it reversed, that apply would count as applied again.
    let mut kept_ids: Vec<String> = Vec::new();
    for past in &all {
        let AppliedTransaction { folder, journal, end, .. } = past;
        // If a working tree no longer exists, nothing can be undone in it.
        let here =
            past.is_in_worktree(&host.site.fingerprint) || !std::path::Path::new(&journal.target.worktree).exists();
        let undoes = matches!(&journal.kind, Kind::Undo(id) if kept_ids.contains(id));
        if !is_old(end.at, keep) || !here || undoes {
            kept_ids.push(journal.id.clone());
            continue;
        }
        let tree = host.tree(&journal.modules)?;
        let number = folder.number();
        let kept = match late_edits(folder, journal, end.committed, &tree) {
            Ok(kept) => kept,
            Err(error) => {
                let path = folder.staging_path();
                let path = Escaped::new(path.as_os_str().as_encoded_bytes()).to_string();
                output.say(&format!(
                    "kept the backups of apply {number}, for they cannot be looked at: {error} ({path})"
                ));
                kept_ids.push(journal.id.clone());
                continue;
            }
        };
        if let Some(first) = kept.first() {
            output.say(&format!(
                "kept the backups of apply {number}: {} has an edit of {} that is nowhere else; take it, and remove it there",
                Escaped::new(first.file.as_os_str().as_encoded_bytes()),
                Escaped::new(first.path.as_bytes()),
            ));
            kept_ids.push(journal.id.clone());
            continue;
        }
        let files = journal.ops.iter().filter(|act| matches!(act, Op::Write { .. } | Op::Delete { .. })).count();
        let text = format!(
            "the backups of apply {number} ({}, {}, {}), which cannot be undone then",
            Escaped::new(&journal.sandbox),
            count(files, "file"),
            age(end.at),
        );
        let bytes = size(&folder.staging_path());
        if !dry_run {
            remove_leftovers(&host.disk, folder, &tree)?;
        }
        found.push(ExpiredBackup { name: number.to_string(), bytes, text, removed: !dry_run });
    }
    Ok(found)
}

/// Returns the disk usage of the files in a directory, in bytes.
fn size(folder: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|e| e.path().symlink_metadata().ok()).map(|m| m.blocks() * 512).sum()
}

/// Finds sandboxes that were decided long ago and do not hold the only copy of anything. Ignored files and conversations
/// expire with them.
pub fn decided(repo: &Repo, keep: Duration) -> Result<Vec<Sandbox>, CliError> {
    let all = repo.store.each()?.into_iter().filter_map(|(_, opened)| opened.ok());
    let is_over = |s: &Sandbox| s.record.settled.is_some_and(|at| is_old(at, keep)) && s.record.holds.is_empty();
    Ok(all.filter(|s| is_over(s) && !s.is_busy()).collect())
}
