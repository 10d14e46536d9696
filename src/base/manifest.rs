//! The manifest of a sandbox: what was included and what was not, for the first line, the record and the agent.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::store::Base;
use crate::core::path::RepoPath;
use crate::git::{History, SkippedSubmodule, Snapshot, SnapshotDelta, UncommittedChanges};

/// Files in stored form that are named.
const NAMED: usize = 10;

/// The contents that a sandbox started with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    /// Files, git's own apart.
    pub files: usize,
    /// The part of the history that is included.
    pub history: History,
    /// Uncommitted changes that went along.
    pub uncommitted: usize,
    /// Ignored or untracked files that were named.
    pub included: usize,
    /// Files that were named or uncommitted and could not go along, with the reason.
    pub skipped: Vec<(RepoPath, String)>,
    /// Submodules whose content went along.
    pub modules: Vec<RepoPath>,
    /// Submodules that stayed behind.
    pub left: Vec<SkippedSubmodule>,
    /// Files of Git LFS whose content is not in the local store: the pointer went along.
    pub pointers: Vec<RepoPath>,
    /// Files that are as git stores them, because of a filter that Airlock does not run.
    #[serde(default)]
    pub filtered: Vec<RepoPath>,
    /// Whether a sparse checkout left tracked files out.
    pub sparse: bool,
    /// Files that were written on top of the base.
    pub on_top: usize,
}

impl Manifest {
    /// Describes what a snapshot over a base is.
    #[must_use]
    pub fn of(snapshot: &Snapshot, base: &Base, difference: &SnapshotDelta, work: &UncommittedChanges) -> Self {
        let mut files = base.files;
        let merged = |of_base: &[RepoPath], on_top: &[RepoPath]| {
            let still = of_base.iter().filter(|path| !difference.files.contains_key(*path)).chain(on_top);
            let all: BTreeSet<&RepoPath> = still.filter(|path| !work.files.contains_key(*path)).collect();
            all.into_iter().cloned().collect()
        };
        for (path, content) in difference.files.iter().filter(|(path, _)| !work.files.contains_key(*path)) {
            // Whether the base has it is known from the tree that the difference comes from.
            match (content.is_some(), difference.is_new(path)) {
                (true, true) => files += 1,
                (false, _) => files = files.saturating_sub(1),
                (true, false) => {}
            }
        }
        Self {
            files,
            history: snapshot.history,
            uncommitted: work.uncommitted,
            included: work.included,
            skipped: work.skipped.iter().map(|(path, why)| (path.clone(), (*why).to_owned())).collect(),
            modules: snapshot.module_paths().cloned().collect(),
            left: snapshot.skipped_submodules.clone(),
            pointers: merged(&base.missing_lfs_objects, &difference.unconverted.pointers),
            filtered: merged(&base.filtered, &difference.unconverted.filtered),
            sparse: snapshot.is_sparse(),
            on_top: difference.files.len() + work.files.len(),
        }
    }

    /// Lists everything that a person who looks for a missing thing wants to know, a line each; names are not escaped.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let mut notes = vec![
            format!("{} {} of the commit", self.files, if self.files == 1 { "file" } else { "files" }),
            format!("history: {}", self.history),
        ];
        let name = |path: &RepoPath| String::from_utf8_lossy(path.as_bytes()).into_owned();
        notes.push(match self.uncommitted {
            0 => "no uncommitted changes (--uncommitted takes them along)".into(),
            1 => "1 uncommitted change".into(),
            n => format!("{n} uncommitted changes"),
        });
        notes.push(match self.included {
            0 => "no ignored files (--include GLOB takes some along)".into(),
            1 => "1 ignored or untracked file, as --include named it".into(),
            n => format!("{n} ignored or untracked files, as --include named them"),
        });
        if self.sparse {
            notes.push("the sparse checkout's files alone (--full takes all along)".into());
        }
        notes.extend(self.modules.iter().map(|path| format!("submodule {} with its files", name(path))));
        notes.extend(self.left.iter().map(|l| format!("submodule {} stayed behind: {}", name(&l.path), l.reason)));
        notes.extend(self.skipped.iter().map(|(path, why)| format!("{} stayed behind: it {why}", name(path))));
        if !self.pointers.is_empty() {
            notes.push(format!(
                "{} files of Git LFS are pointers, such as {}: their content is not here (git lfs fetch)",
                self.pointers.len(),
                name(&self.pointers[0])
            ));
        }
        if !self.filtered.is_empty() {
            let named: Vec<String> = self.filtered.iter().take(NAMED).map(name).collect();
            let more = if self.filtered.len() > NAMED { ", …" } else { "" };
            let are = if self.filtered.len() == 1 {
                "1 file is".into()
            } else {
                format!("{} files are", self.filtered.len())
            };
            notes.push(format!(
                "{are} in the form that git stores ({}{more}): git runs a filter on them, and Airlock runs none",
                named.join(", ")
            ));
        }
        notes
    }

    /// Returns the text for the agent's user memory: what this copy lacks that the repository has.
    #[must_use]
    pub fn memory(&self) -> String {
        let mut text = String::from(
            "# About this workspace\n\n\
             You work in a sandbox made by Airlock, on a copy of the user's repository. The user reviews your changes to \
             the files and takes over what they accept; commits, branches, and files outside the working directory stay \
             here. There is no network but the way to the model.\n\n\
             What the copy holds, so that you draw no conclusions from what is missing:\n\n",
        );
        for note in self.notes() {
            // A name with a line break in it must not begin an instruction.
            let _ = writeln!(text, "- {}", note.escape_debug());
        }
        text
    }
}
