//! Finds renames: pairs an added file with the deleted file that it came from, and joins such pairs into one change.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io;

use super::cancel::CancelToken;
use super::changeset::{Changeset, FileChange, MAX_TEXT};
use super::content::is_text;
use super::hunks::split_lines;
use super::quarantine::{ContentHash, Quarantine};
use crate::core::path::{EntryKind, RepoPath};

/// Minimum share of bytes in common lines, in percent of the larger file, as in `git diff --find-renames`.
const MIN_SIMILARITY: u64 = 50;
/// Maximum number of pairs that are compared. Beyond it, only files with the same name are.
const MAX_PAIRS: usize = 40_000;
/// Maximum number of lines that are looked up, over all pairs: hostile input must not keep the user waiting.
const MAX_LOOKUPS: usize = 20_000_000;
/// Maximum size in bytes of all files that are read for comparison.
const MAX_COMPARED_BYTES: u64 = 64 << 20;

/// Sets `renamed_from` of added files: first where content and mode are those of a deleted file, then where at least half of
/// the content is.
///
/// # Errors
/// Fails if the quarantine is damaged, or with the errors of the token.
pub(crate) fn pair_renames(files: &mut [FileChange], store: &Quarantine, cancel_token: &CancelToken) -> io::Result<()> {
    let mut deleted: HashMap<(ContentHash, &'static str), VecDeque<RepoPath>> = HashMap::new();
    for file in files.iter().filter(|f| f.new.is_none()) {
        if let Some(old) = file.old.as_ref().filter(|s| s.size > 0) {
            deleted.entry((old.hash.clone(), old.kind.git_mode())).or_default().push_back(file.path.clone());
        }
    }
    let mut taken = BTreeSet::new();
    for file in files.iter_mut().filter(|f| f.old.is_none()) {
        let Some(new) = &file.new else { continue };
        if let Some(paths) = deleted.get_mut(&(new.hash.clone(), new.kind.git_mode())) {
            file.renamed_from = paths.pop_front();
            taken.extend(file.renamed_from.clone());
        }
    }
    pair_similar_files(files, &taken, store, cancel_token)
}

/// The content of a file that may be one side of a rename.
struct Candidate {
    index: usize,
    content: Vec<u8>,
}

fn pair_similar_files(
    files: &mut [FileChange],
    taken: &BTreeSet<RepoPath>,
    store: &Quarantine,
    cancel_token: &CancelToken,
) -> io::Result<()> {
    let is_deleted = |file: &FileChange| file.new.is_none() && !taken.contains(&file.path);
    let is_added = |file: &FileChange| file.old.is_none() && file.renamed_from.is_none();
    if !files.iter().any(is_deleted) || !files.iter().any(is_added) {
        return Ok(());
    }
    let mut left_bytes = MAX_COMPARED_BYTES;
    let deleted = read_candidates(files, is_deleted, store, &mut left_bytes)?;
    let added = read_candidates(files, is_added, store, &mut left_bytes)?;
    let has_many = deleted.len().saturating_mul(added.len()) > MAX_PAIRS;
    let mut lookups = MAX_LOOKUPS;
    let mut scored = Vec::new();
    for new in &added {
        cancel_token.check_canceled()?;
        let mut bytes_by_line: HashMap<&[u8], u64> = HashMap::new();
        for line in split_lines(&new.content) {
            *bytes_by_line.entry(line).or_default() += line.len() as u64;
        }
        for old in &deleted {
            let has_same_name = files[old.index].path.file_name() == files[new.index].path.file_name();
            if has_many && !has_same_name {
                continue;
            }
            let Some(score) = measure_similarity(&old.content, &new.content, &bytes_by_line, &mut lookups) else {
                continue;
            };
            if score >= MIN_SIMILARITY {
                scored.push((Reverse(score), !has_same_name, new.index, old.index));
            }
        }
    }
    scored.sort_unstable();
    let (mut used_old, mut used_new) = (BTreeSet::new(), BTreeSet::new());
    for (_, _, new, old) in scored {
        if !used_new.contains(&new) && !used_old.contains(&old) {
            files[new].renamed_from = Some(files[old].path.clone());
            used_new.insert(new);
            used_old.insert(old);
        }
    }
    Ok(())
}

fn read_candidates(
    files: &[FileChange],
    is_candidate: impl Fn(&FileChange) -> bool,
    store: &Quarantine,
    left_bytes: &mut u64,
) -> io::Result<Vec<Candidate>> {
    let mut found = Vec::new();
    for (index, file) in files.iter().enumerate().filter(|(_, file)| is_candidate(file)) {
        let Some(side) = file.new.as_ref().or(file.old.as_ref()) else { continue };
        if side.kind == EntryKind::Symlink || side.size == 0 || side.size > MAX_TEXT || side.size > *left_bytes {
            continue;
        }
        let content = store.get(&side.hash)?;
        if is_text(&content) {
            *left_bytes -= side.size;
            found.push(Candidate { index, content });
        }
    }
    Ok(found)
}

/// Returns the share of bytes in common lines, in percent of the larger content, or `None` if the sizes differ too much or
/// `lookups` is used up.
fn measure_similarity(old: &[u8], new: &[u8], new_lines: &HashMap<&[u8], u64>, lookups: &mut usize) -> Option<u64> {
    let (smaller, larger) = (old.len().min(new.len()) as u64, old.len().max(new.len()) as u64);
    if smaller * 100 < larger * MIN_SIMILARITY {
        return None;
    }
    let mut used: HashMap<&[u8], u64> = HashMap::new();
    let mut common = 0;
    for line in split_lines(old) {
        *lookups = lookups.checked_sub(1)?;
        let Some(available) = new_lines.get(line) else { continue };
        let used = used.entry(line).or_default();
        if *used < *available {
            *used += line.len() as u64;
            common += line.len() as u64;
        }
    }
    Some(common * 100 / larger)
}

impl FileChange {
    /// Returns whether this is a rename: `old` is then the version at `renamed_from`.
    #[must_use]
    pub fn is_rename(&self) -> bool {
        self.old.is_some() && self.new.is_some() && self.renamed_from.is_some()
    }

    /// Returns the path before a rename.
    #[must_use]
    pub fn old_path(&self) -> Option<&RepoPath> {
        self.renamed_from.as_ref().filter(|_| self.is_rename())
    }

    /// Returns the paths that the change writes: one, or both of a rename.
    pub fn affected_paths(&self) -> impl Iterator<Item = &RepoPath> {
        std::iter::once(&self.path).chain(self.old_path())
    }
}

impl Changeset {
    /// Joins the addition and the deletion of each rename into one change, except for those whose new path is in `separate`.
    #[must_use]
    pub fn join_renames(mut self, separate: &BTreeSet<RepoPath>) -> Self {
        let sources: BTreeSet<RepoPath> = (self.files.iter())
            .filter(|file| file.old.is_none() && !separate.contains(&file.path))
            .filter_map(|file| file.renamed_from.clone())
            .collect();
        let (deleted, mut files): (Vec<_>, Vec<_>) =
            self.files.into_iter().partition(|file| file.new.is_none() && sources.contains(&file.path));
        let mut deleted: BTreeMap<RepoPath, FileChange> =
            deleted.into_iter().map(|file| (file.path.clone(), file)).collect();
        for file in files.iter_mut().filter(|file| file.old.is_none() && !separate.contains(&file.path)) {
            let Some(source) = file.renamed_from.as_ref().and_then(|from| deleted.remove(from)) else { continue };
            file.old = source.old;
            let new_findings = source.findings.into_iter().filter(|finding| !file.findings.contains(finding));
            let new_findings: Vec<_> = new_findings.collect();
            file.findings.extend(new_findings);
            file.findings.sort_by_key(|f| Reverse(f.severity));
        }
        self.files = files;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FileVersion, Finding, Severity};
    use super::*;

    fn change(store: &Quarantine, path: &str, old: Option<&str>, new: Option<&str>) -> FileChange {
        let side = |text: &str| FileVersion {
            kind: EntryKind::Regular,
            hash: store.store_blob(text.as_bytes()).expect("stored"),
            size: text.len() as u64,
        };
        FileChange {
            path: RepoPath::from_bytes(path.as_bytes()).expect("a path"),
            old: old.map(side),
            new: new.map(side),
            renamed_from: None,
            findings: vec![Finding::for_file("r", Severity::Note, path)],
        }
    }

    fn numbered(from: usize, to: usize) -> String {
        (from..to).map(|n| format!("line {n}\n")).collect()
    }

    #[test]
    fn similar_files_are_paired_once_and_best_first() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Quarantine::open(folder.path().into()).expect("opened");
        let mut files = vec![
            // Half of it is new; 90 % of it is new; equal; unlike; equal lines in another order.
            change(&store, "a/half", None, Some(&(numbered(0, 50) + &"x\n".repeat(40)))),
            change(&store, "a/best", None, Some(&(numbered(0, 95) + "more\n"))),
            change(&store, "a/equal", None, Some("the same\n")),
            change(&store, "a/other", None, Some(&numbered(1000, 1100))),
            change(&store, "b/best", Some(&numbered(0, 100)), None),
            change(&store, "b/equal", Some("the same\n"), None),
            change(&store, "b/half", Some(&numbered(0, 60)), None),
        ];
        pair_renames(&mut files, &store, &CancelToken::default()).expect("paired");
        let from: Vec<_> = files.iter().map(|f| f.renamed_from.as_ref().map(|p| p.as_bytes().to_vec())).collect();
        let some = |path: &str| Some(path.as_bytes().to_vec());
        assert_eq!(from[..4], [some("b/half"), some("b/best"), some("b/equal"), None]);
        let changeset = |files: &[FileChange]| Changeset {
            schema_version: 1,
            id: "id".into(),
            base: "base".into(),
            files: files.to_vec(),
            refused: Vec::new(),
            ignored_by_agent_rules: Vec::new(),
            ignored: Default::default(),
        };
        let joined = changeset(&files).join_renames(&BTreeSet::new());
        let paths: Vec<_> = joined.files.iter().map(|f| f.path.as_bytes()).collect();
        assert_eq!(paths, [&b"a/half"[..], b"a/best", b"a/equal", b"a/other"]);
        assert!(joined.files[0].is_rename() && !joined.files[3].is_rename());
        assert_eq!(joined.files[1].findings.len(), 2, "the findings of both paths");
        let separate = BTreeSet::from([RepoPath::from_bytes(b"a/best").expect("a path")]);
        let joined = changeset(&files).join_renames(&separate);
        assert!(!joined.files[1].is_rename() && joined.files.iter().any(|f| f.path.as_bytes() == b"b/best"));
    }

    #[test]
    fn comparison_is_bounded() {
        let mut lookups = 3;
        let content = numbered(0, 10);
        let lines = split_lines(content.as_bytes()).into_iter().map(|line| (line, line.len() as u64)).collect();
        assert_eq!(measure_similarity(content.as_bytes(), content.as_bytes(), &lines, &mut lookups), None);
        let mut lookups = 10;
        assert_eq!(measure_similarity(content.as_bytes(), content.as_bytes(), &lines, &mut lookups), Some(100));
    }
}
