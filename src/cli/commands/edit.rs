//! `airlock edit`: opens the current files of a sandbox in the user's editor, to read them.

use std::path::Path;

use crate::cli::editor;
use crate::cli::error::CliError;
use crate::cli::ops::current_changes::CurrentChanges;
use crate::cli::ops::repo::Repo;
use crate::cli::output::{Output, format_count, print_stderr};
use crate::core::escape::Escaped;
use crate::core::path::{EntryKind, RepoPath};
use crate::review::restrict_to_paths;

/// Maximum number of files that are opened without a path.
const MAX_FILES: usize = 50;
/// Maximum size of a file in bytes.
const MAX_SIZE: usize = 16 << 20;

pub(crate) fn run_edit(name: Option<&str>, paths: &[String], output: Output) -> Result<u8, CliError> {
    let repo = Repo::open(output)?;
    let mut sandbox = repo.open_sandbox(name, "edit")?;
    let current = CurrentChanges::load(&repo, &mut sandbox, true, output)?;
    let mut model = current.open_model(&sandbox)?;
    let name = sandbox.record.name.clone();
    // A path without a change is that of a committed file.
    let commit = repo.host.open_commit(&sandbox.record.base)?;
    let mut files = Vec::new();
    let mut changed_paths = Vec::new();
    for path in paths {
        let full = repo_path(&repo.host.subdir, path);
        let is_changed = |path: &RepoPath| current.changes.files.iter().any(|change| change.path == *path);
        match full.filter(|path| !is_changed(path)).map(|path| (commit.read_file(&path, MAX_SIZE), path)) {
            Some((Ok(Some(content)), path)) => files.push((path, content)),
            _ => changed_paths.push(path.clone()),
        }
    }
    if !changed_paths.is_empty() {
        restrict_to_paths(&mut model, &changed_paths, &repo.host.subdir)
            .map_err(|error| CliError::from_selection(error, &name))?;
    }
    if paths.is_empty() || !changed_paths.is_empty() {
        for file in &model.files {
            let Some(new) = file.change.new.as_ref().filter(|new| new.kind != EntryKind::Symlink) else { continue };
            let content = if new.size > MAX_SIZE as u64 { None } else { Some(current.store.get(&new.hash)?) };
            match content.filter(|content| memchr::memchr(0, content).is_none()) {
                Some(content) => files.push((file.change.path.clone(), content)),
                None => {
                    let path = Escaped::new(file.change.path.as_bytes());
                    output.print_status(&format!("left out {path}: it is not text, or larger than 16 MiB"));
                }
            }
        }
    }
    if files.is_empty() {
        return Err(CliError::failed(format!("`{name}` changed no text file"))
            .with_hint(format!("to see what it changed, run `airlock diff {name}`")));
    }
    if files.len() > MAX_FILES && paths.is_empty() {
        let message =
            format!("`{name}` changed {}, which are too many to open", format_count(files.len(), "text file"));
        return Err(CliError::usage(message).with_hint(format!(
            "name some: `airlock edit {name} PATH…`; to list them, run `airlock diff {name} --stat`"
        )));
    }
    let copies = sandbox.write_copies(&files)?;
    editor::open_files(&copies).map_err(|error| {
        CliError::failed(format!("failed to start the editor: {error}"))
            .with_hint(format!("choose another one: `EDITOR=vi airlock edit {name}`"))
    })?;
    let is_edited = |(copy, (_, content)): (&std::path::PathBuf, &(RepoPath, Vec<u8>))| {
        std::fs::read(copy).is_ok_and(|now| now != *content)
    };
    if copies.iter().zip(&files).any(is_edited) {
        print_stderr(&format!(
            "warning: what you wrote is only in the copies, not in the sandbox and not in your files\n\
             hint: to change what is applied, press `e` in `airlock review {name}`\n"
        ));
    }
    Ok(0)
}

/// Returns the path in the repository of a path that is given in a directory of it.
fn repo_path(subdir: &Path, path: &str) -> Option<RepoPath> {
    RepoPath::from_bytes(subdir.join(path).to_str()?.as_bytes()).ok()
}
