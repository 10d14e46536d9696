//! Completes words of the command line: sandboxes, changed paths and hunks, and files of this machine. Nothing asks an engine.
//!
//! *Invariant:* a candidate has only characters that no shell interprets, because a shell puts it on the command line as it is, and
//! an agent chooses the names of files.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap_complete::engine::CompletionCandidate;

use super::ops::draft::{join_renames, open_model};
use super::ops::repo::{Repo, sandbox_status};
use crate::core::path::RepoPath;
use crate::sandbox::{RepositoryIndex, Sandbox, SandboxState};

/// Returns the words of the command line after the program, up to the one under the cursor.
pub(super) fn words_before_cursor() -> Vec<OsString> {
    let all = std::env::args_os().skip_while(|word| word != "--").skip(2);
    all.collect()
}

/// Completes the name of a sandbox of this repository.
pub(super) fn complete_sandboxes(current: &OsStr) -> Vec<CompletionCandidate> {
    let found = Repo::open_for_write().ok().and_then(|repo| repo.store.open_all().ok());
    name_candidates(found.unwrap_or_default(), current)
}

/// Completes the name of a running sandbox of any repository.
pub(super) fn complete_sandboxes_anywhere(current: &OsStr) -> Vec<CompletionCandidate> {
    let stores = RepositoryIndex::open().and_then(|index| index.list_stores().ok()).unwrap_or_default();
    let all = stores.into_iter().flat_map(|store| store.open_all().unwrap_or_default());
    name_candidates(all.filter(|s| s.record.state == SandboxState::Running && s.is_busy()).collect(), current)
}

fn name_candidates(mut found: Vec<Sandbox>, current: &OsStr) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    found.retain(|sandbox| sandbox.record.name.as_str().starts_with(&*current));
    found.sort_by_key(|sandbox| std::cmp::Reverse(sandbox.record.creation_time()));
    let candidates = found.iter().map(|sandbox| {
        let status = sandbox_status(sandbox).1;
        CompletionCandidate::new(sandbox.record.name.as_str()).help(Some(status.into()))
    });
    candidates.collect()
}

/// Completes the path of a file of this machine. A directory ends with a slash.
pub(super) fn complete_files(current: &OsStr) -> Vec<CompletionCandidate> {
    let Some(current) = current.to_str() else { return Vec::new() };
    let (directory, start) =
        current.rsplit_once('/').map_or(("", current), |(directory, _)| current.split_at(directory.len() + 1));
    let listed = std::fs::read_dir(if directory.is_empty() { "." } else { directory });
    let mut found: Vec<String> = (listed.into_iter().flatten().flatten())
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            // Hidden files only if they are asked for.
            let is_wanted = name.starts_with(start) && (start.starts_with('.') || !name.starts_with('.'));
            let slash = if entry.path().is_dir() { "/" } else { "" };
            (is_wanted && is_plain(&name)).then(|| format!("{directory}{name}{slash}"))
        })
        .collect();
    found.sort();
    found.into_iter().map(CompletionCandidate::new).collect()
}

/// Completes a path that a sandbox changed.
pub(super) fn complete_paths(current: &OsStr) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    let paths = with_chosen_sandbox(|repo, sandbox| {
        let changes = join_renames(sandbox, sandbox.read_changeset().ok().flatten()?);
        let paths = changes.files.iter().filter_map(|change| path_from(&repo.host.subdir, &change.path));
        Some(paths.filter(|path| path.starts_with(&*current)).collect::<Vec<_>>())
    });
    paths.unwrap_or_default().into_iter().map(CompletionCandidate::new).collect()
}

/// Completes the ID of a hunk, with its file.
pub(super) fn complete_hunks(current: &OsStr) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    let candidates = with_chosen_sandbox(|repo, sandbox| {
        let changes = join_renames(sandbox, sandbox.read_changeset().ok().flatten()?);
        let model = open_model(sandbox, &changes).ok()?;
        let units = model.files.iter().flat_map(|file| file.units.iter().map(move |unit| (file, unit)));
        let candidates = units.filter(|(_, unit)| unit.id.starts_with(&*current)).map(|(file, unit)| {
            let what = crate::review::describe_unit(&unit.kind, file);
            let help = match path_from(&repo.host.subdir, &file.change.path) {
                Some(path) => format!("{path}: {what}"),
                None => what,
            };
            CompletionCandidate::new(unit.id.as_str()).help(Some(help.into()))
        });
        Some(candidates.collect())
    });
    candidates.unwrap_or_default()
}

/// Calls a function with the sandbox that the command line names, or the one that a command without a name takes.
fn with_chosen_sandbox<T>(choose: impl FnOnce(&Repo, &Sandbox) -> Option<T>) -> Option<T> {
    let repo = Repo::open_for_write().ok()?;
    let mut all = repo.store.open_all().ok()?;
    let words = words_before_cursor();
    if let Some(at) = all.iter().position(|s| words.iter().any(|word| word == s.record.name.as_str())) {
        return choose(&repo, &all.swap_remove(at));
    }
    if all.iter().any(|sandbox| sandbox.record.decided_at.is_none()) {
        all.retain(|sandbox| sandbox.record.decided_at.is_none());
    }
    let [only] = all.as_slice() else { return None };
    choose(&repo, only)
}

/// Returns a path as it is given in a directory of the repository, if no shell interprets any of it.
fn path_from(subdir: &Path, path: &RepoPath) -> Option<String> {
    let text = std::str::from_utf8(path.as_bytes()).ok()?;
    let relative = Path::new(text).strip_prefix(subdir).ok().and_then(Path::to_str).unwrap_or(text);
    is_plain(relative).then(|| relative.to_owned())
}

/// Returns whether no shell interprets any of a word, and it is no option.
fn is_plain(word: &str) -> bool {
    word.chars().all(|c| c.is_ascii_alphanumeric() || "._-/+@,%".contains(c)) && !word.starts_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_a_shell_interprets_are_not_offered() {
        let offered = |path: &str, subdir: &str| {
            path_from(Path::new(subdir), &RepoPath::from_bytes(path.as_bytes()).expect("a path"))
        };
        assert_eq!(offered("src/a-b_c.rs", "").as_deref(), Some("src/a-b_c.rs"));
        assert_eq!(offered("src/a.rs", "src").as_deref(), Some("a.rs"));
        assert_eq!(offered("docs/a.md", "src").as_deref(), Some("docs/a.md"));
        for path in [
            "$(touch x)",
            "a b",
            "a;b",
            "-f",
            "~root/x",
            "a`b`",
            "a'b",
            "a\"b",
            "a\\b",
            "a|b",
            "a&b",
            "!a",
            "a*",
            "a\u{1b}",
        ] {
            assert_eq!(offered(path, ""), None, "{path}");
        }
    }
}
