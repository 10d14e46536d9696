//! Base against result, sealed under one id.

use std::io;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::quarantine::hex;
use super::{ContentHash, Finding, Level, Quarantine, findings, planted_above};
use crate::path::{EntryKind, RepoPath};

/// All that an agent changed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Changeset {
    /// Version of this format.
    pub schema_version: u32,
    /// Hash of everything below.
    pub id: String,
    /// The commit that the sandbox was seeded with.
    pub base: String,
    /// The changes, sorted by path.
    pub files: Vec<FileChange>,
    /// What cannot be accepted.
    pub refused: Vec<Refused>,
    /// New files, and directories of such, that were left out because rules that the agent made ignore them.
    #[serde(default)]
    pub hidden: Vec<RepoPath>,
}

/// One path that differs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FileChange {
    /// Where.
    pub path: RepoPath,
    /// What the base holds there.
    pub old: Option<Side>,
    /// What the result holds there.
    pub new: Option<Side>,
    /// For a person only: the deleted file that this added one was probably made from.
    pub renamed_from: Option<RepoPath>,
    /// What is risky about it.
    pub findings: Vec<Finding>,
}

/// One side of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// File, executable file or link.
    pub kind: EntryKind,
    /// Its content.
    pub hash: ContentHash,
    /// Bytes.
    pub size: u64,
}

/// Something in the workspace that stays out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Its path, untrusted and perhaps cut.
    pub path: String,
    /// Why.
    pub reason: String,
}

impl FileChange {
    /// Gives the strongest level among the findings.
    #[must_use]
    pub fn level(&self) -> Option<Level> {
        self.findings.iter().map(|f| f.level).max()
    }

    /// One word for what happened.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match (&self.old, &self.new) {
            (None, _) => "added",
            (_, None) => "deleted",
            (Some(old), Some(new)) if (old.kind == EntryKind::Link) != (new.kind == EntryKind::Link) => "replaced",
            (Some(old), Some(new)) if old.hash == new.hash => "mode",
            _ => "modified",
        }
    }

    /// Reads both sides; a missing one is empty.
    ///
    /// # Errors
    /// The quarantine is damaged.
    pub fn contents(&self, store: &Quarantine) -> io::Result<(Vec<u8>, Vec<u8>)> {
        let read = |side: &Option<Side>| side.as_ref().map_or(Ok(Vec::new()), |s| store.get(&s.hash));
        Ok((read(&self.old)?, read(&self.new)?))
    }
}

impl Changeset {
    /// Sorts, finds renames, classifies and seals. `in_base` tells whether the base has a path, or something below it.
    ///
    /// # Errors
    /// The quarantine is damaged.
    pub fn seal(
        base: String,
        mut files: Vec<FileChange>,
        mut refused: Vec<Refused>,
        mut hidden: Vec<RepoPath>,
        store: &Quarantine,
        in_base: impl Fn(&RepoPath) -> bool,
    ) -> io::Result<Self> {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        refused.sort_by(|a, b| a.path.cmp(&b.path));
        hidden.sort();
        pair_renames(&mut files);
        for file in &mut files {
            let (old, new) = file.contents(store)?;
            file.findings = findings(file, &old, &new);
            file.findings.extend(hides(file, &hidden));
        }
        refuse_planted(&mut files, in_base);
        let mut hash = Sha256::new();
        hash.update(serde_json::to_vec(&(&base, &files, &refused, &hidden))?);
        Ok(Self { schema_version: 1, id: hex(&hash.finalize())[..16].to_owned(), base, files, refused, hidden })
    }

    /// Tells whether the agent left anything that a person should see.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.refused.is_empty() && self.hidden.is_empty()
    }
}

/// Says which new files the rules of a changed `.gitignore` keep from a person's eyes.
fn hides(file: &FileChange, hidden: &[RepoPath]) -> Option<Finding> {
    let directory = file.path.parent();
    let below = |path: &&RepoPath| directory.as_ref().is_none_or(|d| path.is_below(d));
    if file.path.file_name() != b".gitignore" || file.new.is_none() {
        return None;
    }
    let names: Vec<&RepoPath> = hidden.iter().filter(below).collect();
    let first = names.first()?;
    let more = if names.len() > 1 { format!(" and {} more", names.len() - 1) } else { String::new() };
    let reason = format!("ignores what is new: {}{more}", first.as_bytes().escape_ascii());
    Some(Finding { rule: "hides-new-files".into(), level: Level::Note, reason, line: None })
}

/// Refuses what would complete, or change, a repository inside the tree.
fn refuse_planted(files: &mut [FileChange], in_base: impl Fn(&RepoPath) -> bool) {
    // In the result: made at that path or below it, or in the base. (That the agent may have deleted it does not count.)
    let at = |path: &RepoPath, files: &[FileChange]| {
        let made = |f: &FileChange| f.new.is_some();
        let prefix = [path.as_bytes(), b"/"].concat();
        let from = files.partition_point(|f| f.path.as_bytes() < prefix.as_slice());
        files.binary_search_by(|f| f.path.cmp(path)).is_ok_and(|at| made(&files[at]))
            || files[from..].iter().take_while(|f| f.path.as_bytes().starts_with(&prefix)).any(made)
            || in_base(path)
    };
    let planted: Vec<Option<RepoPath>> =
        files.iter().map(|f| f.new.as_ref().and_then(|_| planted_above(&f.path, |path| at(path, files)))).collect();
    for (file, planted) in files.iter_mut().zip(planted) {
        if planted.is_some() {
            let reason = "is in a directory that git would open as a repository";
            let rule = "planted-repository".into();
            file.findings.insert(0, Finding { rule, level: Level::Refused, reason: reason.into(), line: None });
        }
    }
}

/// Marks an added file whose bytes are those of a deleted one. For display: both stay changes of their own.
fn pair_renames(files: &mut [FileChange]) {
    let mut gone: Vec<(RepoPath, Side)> = files
        .iter()
        .filter_map(|f| Some((f.path.clone(), f.old.clone().filter(|_| f.new.is_none())?)))
        .filter(|(_, side)| side.size > 0)
        .collect();
    for file in files.iter_mut().filter(|f| f.old.is_none()) {
        let Some(new) = &file.new else { continue };
        if let Some(at) = gone.iter().position(|(_, old)| old.hash == new.hash && old.kind == new.kind) {
            file.renamed_from = Some(gone.remove(at).0);
        }
    }
}
