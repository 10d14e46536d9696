//! The manifest of a sandbox. It lists included and excluded content for the first line of output, the record and the
//! agent.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::store::Base;
use crate::core::path::RepoPath;
use crate::git::{History, RefsSummary, SkippedSubmodule, Snapshot, SnapshotDelta, UncommittedChanges};

/// Maximum number of files in git's stored form that are named.
const MAX_NAMED: usize = 10;

/// The contents that a sandbox started with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    /// Number of files, excluding git's own.
    pub files: usize,
    /// The part of the history that is included.
    pub history: History,
    /// Number of uncommitted changes that were included.
    pub uncommitted: usize,
    /// Number of ignored or untracked files that were included by name.
    pub included: usize,
    /// Named or uncommitted files that could not be included, with the reason.
    pub skipped: Vec<(RepoPath, String)>,
    /// Submodules whose content was included.
    pub submodules: Vec<RepoPath>,
    /// Submodules that were excluded.
    pub skipped_submodules: Vec<SkippedSubmodule>,
    /// Git LFS files that were included as pointers, because the local store does not have their content.
    pub lfs_pointers: Vec<RepoPath>,
    /// Files that are in git's stored form, because Airlock does not run their filter.
    #[serde(default)]
    pub filtered: Vec<RepoPath>,
    /// Whether a sparse checkout excluded tracked files.
    pub sparse: bool,
    /// Number of paths in the delta over the base, including deleted ones.
    pub delta_files: usize,
    /// The refs beside HEAD's own branch.
    pub refs: RefsSummary,
    /// The setup command whose result is in the workspace.
    pub setup: Option<String>,
    /// A description of the network for the agent.
    pub network: String,
}

impl Manifest {
    /// Creates the manifest of a snapshot that starts from a base.
    #[must_use]
    pub fn new(snapshot: &Snapshot, base: &Base, delta: &SnapshotDelta, uncommitted: &UncommittedChanges) -> Self {
        let mut files = base.files;
        let merged = |base_paths: &[RepoPath], delta_paths: &[RepoPath]| {
            let unchanged = base_paths.iter().filter(|path| !delta.files.contains_key(*path)).chain(delta_paths);
            let all: BTreeSet<&RepoPath> = unchanged.filter(|path| !uncommitted.files.contains_key(*path)).collect();
            all.into_iter().cloned().collect()
        };
        for (path, content) in delta.files.iter().filter(|(path, _)| !uncommitted.files.contains_key(*path)) {
            // The delta knows from the tree of its base whether the base has the path.
            match (content.is_some(), delta.is_new(path)) {
                (true, true) => files += 1,
                (false, _) => files = files.saturating_sub(1),
                (true, false) => {}
            }
        }
        Self {
            files,
            history: snapshot.history,
            uncommitted: uncommitted.uncommitted,
            included: uncommitted.included,
            skipped: uncommitted.skipped.iter().map(|(path, why)| (path.clone(), (*why).to_owned())).collect(),
            submodules: snapshot.module_paths().cloned().collect(),
            skipped_submodules: snapshot.skipped_submodules.clone(),
            lfs_pointers: merged(&base.missing_lfs_objects, &delta.unconverted.pointers),
            filtered: merged(&base.filtered, &delta.unconverted.filtered),
            sparse: snapshot.is_sparse(),
            refs: snapshot.refs.summary.clone(),
            setup: None,
            network: String::new(),
            delta_files: delta.files.len() + uncommitted.files.len(),
        }
    }

    /// Returns notes on included and missing content, one per line. Names are not escaped.
    #[must_use]
    pub fn format_notes(&self) -> Vec<String> {
        let mut notes = vec![
            format!("{} {} of the commit", self.files, if self.files == 1 { "file" } else { "files" }),
            format!("history: {}", self.history),
        ];
        let name = |path: &RepoPath| String::from_utf8_lossy(path.as_bytes()).into_owned();
        let RefsSummary { tags, base_branches, missing_base, .. } = &self.refs;
        notes.extend(match tags {
            0 => None,
            1 => Some("1 tag".to_owned()),
            n => Some(format!("{n} tags")),
        });
        if !base_branches.is_empty() {
            notes.push(format!("for comparison: {}", base_branches.join(" and ")));
        }
        if let Some((name, fork)) = missing_base {
            notes.push(format!("{name} has further commits, which are not included; HEAD left it at {fork}"));
        }
        notes.push(match self.uncommitted {
            0 => "no uncommitted changes (--uncommitted includes them)".into(),
            1 => "1 uncommitted change".into(),
            n => format!("{n} uncommitted changes"),
        });
        notes.push(match self.included {
            0 => "no ignored files (--include GLOB includes some)".into(),
            1 => "1 ignored or untracked file (--include)".into(),
            n => format!("{n} ignored or untracked files (--include)"),
        });
        if let Some(command) = &self.setup {
            notes.push(format!("the ignored files that `{command}` wrote"));
        }
        if self.sparse {
            notes.push("only the files of the sparse checkout (--full includes all)".into());
        }
        notes.extend(self.submodules.iter().map(|path| format!("submodule {} with its files", name(path))));
        notes.extend(
            self.skipped_submodules.iter().map(|l| format!("submodule {} not included: {}", name(&l.path), l.reason)),
        );
        notes.extend(self.skipped.iter().map(|(path, why)| format!("{} not included: it {why}", name(path))));
        if !self.lfs_pointers.is_empty() {
            notes.push(format!(
                "Git LFS pointers without content: {}, such as {} (git lfs fetch)",
                self.lfs_pointers.len(),
                name(&self.lfs_pointers[0])
            ));
        }
        if !self.filtered.is_empty() {
            let named: Vec<String> = self.filtered.iter().take(MAX_NAMED).map(name).collect();
            let more = if self.filtered.len() > MAX_NAMED { ", …" } else { "" };
            let are = if self.filtered.len() == 1 {
                "1 file is".into()
            } else {
                format!("{} files are", self.filtered.len())
            };
            notes.push(format!(
                "{are} in the form that git stores ({}{more}), because Airlock runs no git filters",
                named.join(", ")
            ));
        }
        notes
    }

    /// Returns the text for the agent's user memory. It explains which parts of the repository the workspace lacks.
    #[must_use]
    pub fn format_memory(&self) -> String {
        let mut text = String::from(
            "# About this workspace\n\n\
             You work in an Airlock sandbox, on a copy of the user's repository. The user reviews your changes to the \
             files and applies the accepted ones; commits, branches, and files outside the working directory stay in \
             the sandbox.\n\n\
             The copy contains the following. Draw no conclusions from files that are missing:\n\n",
        );
        for note in self.format_notes() {
            // A name with a line break must not begin a line that reads as an instruction.
            let _ = writeln!(text, "- {}", note.escape_debug());
        }
        text += "\nYou can write to the working directory, the home directory, /tmp, /var/tmp and /run. Everything else is \
                 read-only, and you are not root: for a program that is missing, ask the user to run `airlock image build \
                 --with PACKAGE`.\n";
        if !self.network.is_empty() {
            let _ = writeln!(text, "\n{}", self.network);
        }
        text
    }
}
