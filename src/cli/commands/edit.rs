//! `airlock edit`: opens the current files of a sandbox in the user's editor, to read them.

use std::collections::BTreeMap;
use std::path::Path;

use crate::cli::editor;
use crate::cli::error::CliError;
use crate::cli::ops::current_changes::CurrentChanges;
use crate::cli::ops::repo::Repo;
use crate::cli::output::{Output, format_count, print_stderr};
use crate::core::escape::Escaped;
use crate::core::path::{EntryKind, RepoPath};
use crate::review::{ReviewModel, restrict_to_paths};
use crate::sandbox::Sandbox;

/// Maximum number of files that are opened at once.
const MAX_FILES: usize = 50;
/// Maximum size in bytes of an unchanged file, and of all changed ones.
const MAX_SIZE: usize = 16 << 20;
const MAX_TOTAL: u64 = 64 << 20;

pub(crate) fn run_edit(name: Option<&str>, paths: &[String], output: Output) -> Result<u8, CliError> {
    let repo = Repo::open(output)?;
    let mut sandbox = repo.open_sandbox(name, "edit")?;
    let current = CurrentChanges::load(&repo, &mut sandbox, true, output)?;
    let mut model = current.open_model(&sandbox)?;
    let name = sandbox.record.name.clone();
    let files = read_files(&repo, &sandbox, &current, &mut model, paths, output)?;
    if files.is_empty() {
        return Err(CliError::failed(format!("`{name}` has no such text file that changed"))
            .with_hint(format!("to see what it changed, run `airlock diff {name} --stat`")));
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

/// Reads the files to open: those of the paths, or all that changed.
fn read_files(
    repo: &Repo,
    sandbox: &Sandbox,
    current: &CurrentChanges,
    model: &mut ReviewModel<'_>,
    paths: &[String],
    output: Output,
) -> Result<Vec<(RepoPath, Vec<u8>)>, CliError> {
    let name = &sandbox.record.name;
    // A path without a change is that of a committed file.
    let commit = repo.host.open_commit(&sandbox.record.base)?;
    let changed = |path: &RepoPath| {
        let mut all = current.changes.files.iter();
        all.any(|change| change.path == *path || change.renamed_from.as_ref() == Some(path))
    };
    let (mut files, mut patterns) = (BTreeMap::new(), Vec::new());
    for path in paths {
        let committed = repo_path(&repo.host.subdir, path).filter(|path| !changed(path));
        match committed.map(|path| (commit.read_file(&path, MAX_SIZE), path)) {
            Some((Ok(Some(content)), path)) => {
                files.insert(path, content);
            }
            _ => patterns.push(path.clone()),
        }
    }
    if !patterns.is_empty() {
        restrict_to_paths(model, &patterns, &repo.host.subdir)
            .map_err(|error| CliError::from_selection(error, name))?;
    }
    let new_versions = model.files.iter().filter(|_| paths.is_empty() || !patterns.is_empty());
    let new_versions = new_versions.filter_map(|file| Some((&file.change.path, file.change.new.as_ref()?)));
    let chosen: Vec<_> = new_versions.filter(|(_, new)| new.kind != EntryKind::Symlink).collect();
    let total: u64 = chosen.iter().map(|(_, new)| new.size).sum();
    if chosen.len() + files.len() > MAX_FILES || total > MAX_TOTAL {
        let count = format_count(chosen.len() + files.len(), "file");
        return Err(CliError::usage(format!("{count} of `{name}` are too many, or too large, to open at once"))
            .with_hint(format!(
                "name some: `airlock edit {name} PATH…`; to list them, run `airlock diff {name} --stat`"
            )));
    }
    for (path, new) in chosen {
        files.insert(path.clone(), current.store.get(&new.hash)?);
    }
    files.retain(|path, content| {
        let is_text = memchr::memchr(0, content).is_none();
        if !is_text {
            output.print_status(&format!("left out {}: it is not text", Escaped::new(path.as_bytes())));
        }
        is_text
    });
    Ok(files.into_iter().collect())
}

/// Returns the path in the repository of a path that is given in a directory of it.
fn repo_path(subdir: &Path, path: &str) -> Option<RepoPath> {
    RepoPath::from_bytes(subdir.join(path).to_str()?.as_bytes()).ok()
}
