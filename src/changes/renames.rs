//! Finds renames: pairs an added file with the deleted file that it came from, and joins such pairs into one change.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::io;

use super::cancel::CancelToken;
use super::changeset::{Changeset, FileChange, MAX_TEXT};
use super::content::is_text;
use super::hunks::split_lines;
use super::quarantine::{ContentHash, Quarantine};
use crate::core::path::{EntryKind, RepoPath};

/// Minimum share of bytes in common lines, in percent of the larger file, as in `git diff --find-renames`.
const MIN_SIMILARITY: u64 = 50;
/// Maximum number of pairs that are compared. If there are more, only files with the same name are.
const MAX_PAIRS: usize = 40_000;
/// Maximum number of distinct lines that are compared, over all pairs: hostile input must not keep the user waiting.
const MAX_COMPARED_LINES: usize = 20_000_000;
/// Maximum number of lines of all files that are read for comparison.
const MAX_READ_LINES: usize = 2_000_000;
/// Maximum size in bytes of all files that are read for comparison.
const MAX_READ_BYTES: u64 = 64 << 20;

/// Sets `renamed_from` of added files: first where content and mode are those of a deleted file, then where at least half of
/// the content is. Of several files, one with the same name is preferred.
///
/// # Errors
/// Fails if the quarantine is damaged, or with the errors of the token.
pub(crate) fn pair_renames(files: &mut [FileChange], store: &Quarantine, cancel_token: &CancelToken) -> io::Result<()> {
    let taken = pair_equal_files(files);
    pair_similar_files(files, taken, store, cancel_token)
}

/// Pairs files with the same content and mode. Returns the indexes of the deleted ones.
fn pair_equal_files(files: &mut [FileChange]) -> BTreeSet<usize> {
    let mut deleted: HashMap<(ContentHash, &'static str), Vec<usize>> = HashMap::new();
    for (index, file) in files.iter().enumerate().filter(|(_, f)| f.new.is_none()) {
        if let Some(old) = file.old.as_ref().filter(|s| s.size > 0) {
            deleted.entry((old.hash.clone(), old.kind.git_mode())).or_default().push(index);
        }
    }
    let mut added: HashMap<(ContentHash, &'static str), Vec<usize>> = HashMap::new();
    for (index, file) in files.iter().enumerate().filter(|(_, f)| f.old.is_none()) {
        let Some(new) = &file.new else { continue };
        let key = (new.hash.clone(), new.kind.git_mode());
        if deleted.contains_key(&key) {
            added.entry(key).or_default().push(index);
        }
    }
    let mut pairs = Vec::new();
    for (key, added) in added {
        let mut by_name: HashMap<&[u8], VecDeque<usize>> = HashMap::new();
        for old in &deleted[&key] {
            by_name.entry(files[*old].path.file_name()).or_default().push_back(*old);
        }
        let mut same_name = |new: &usize| by_name.get_mut(files[*new].path.file_name()).and_then(VecDeque::pop_front);
        let (named, others): (Vec<_>, Vec<_>) =
            added.iter().map(|new| (*new, same_name(new))).partition(|(_, old)| old.is_some());
        pairs.extend(named.into_iter().filter_map(|(new, old)| Some((new, old?))));
        let left: BTreeSet<usize> = by_name.into_values().flatten().collect();
        pairs.extend(others.into_iter().map(|(new, _)| new).zip(left));
    }
    let mut taken = BTreeSet::new();
    for (new, old) in pairs {
        files[new].renamed_from = Some(files[old].path.clone());
        taken.insert(old);
    }
    taken
}

/// The lines of a file that may be one side of a rename.
struct Candidate {
    index: usize,
    size: u64,
    /// The hash of each distinct line, and the number of bytes in lines with this hash; sorted.
    lines: Vec<(u64, u64)>,
}

/// The remaining work.
struct Budget {
    bytes: u64,
    lines: usize,
    comparisons: usize,
}

fn pair_similar_files(
    files: &mut [FileChange],
    mut taken: BTreeSet<usize>,
    store: &Quarantine,
    cancel_token: &CancelToken,
) -> io::Result<()> {
    let is_deleted = |index: usize, file: &FileChange| file.new.is_none() && !taken.contains(&index);
    let is_added = |_, file: &FileChange| file.old.is_none() && file.renamed_from.is_none();
    let has =
        |is_candidate: &dyn Fn(usize, &FileChange) -> bool| files.iter().enumerate().any(|(n, f)| is_candidate(n, f));
    if !has(&is_deleted) || !has(&is_added) {
        return Ok(());
    }
    let mut budget = Budget { bytes: MAX_READ_BYTES, lines: MAX_READ_LINES, comparisons: MAX_COMPARED_LINES };
    // Random keys: the agent cannot choose lines with the same hash.
    let hasher = RandomState::new();
    let deleted = read_candidates(files, is_deleted, (store, &hasher), &mut budget, cancel_token)?;
    let added = read_candidates(files, is_added, (store, &hasher), &mut budget, cancel_token)?;
    let name = |candidate: &Candidate| files[candidate.index].path.file_name();
    let has_many = deleted.len().saturating_mul(added.len()) > MAX_PAIRS;
    let mut by_name: HashMap<&[u8], Vec<&Candidate>> = HashMap::new();
    for old in &deleted {
        by_name.entry(if has_many { name(old) } else { b"" }).or_default().push(old);
    }
    let pairs = added.iter().flat_map(|new| {
        let olds = by_name.get(if has_many { name(new) } else { b"" });
        olds.into_iter().flatten().map(move |old| (new, *old))
    });
    let mut scored = Vec::new();
    for (new, old) in pairs.take(MAX_PAIRS) {
        cancel_token.check_canceled()?;
        let Some(score) = measure_similarity(old, new, &mut budget.comparisons) else { continue };
        if score >= MIN_SIMILARITY {
            scored.push((Reverse(score), name(old) != name(new), new.index, old.index));
        }
    }
    scored.sort_unstable();
    for (_, _, new, old) in scored {
        if files[new].renamed_from.is_none() && taken.insert(old) {
            files[new].renamed_from = Some(files[old].path.clone());
        }
    }
    Ok(())
}

fn read_candidates(
    files: &[FileChange],
    is_candidate: impl Fn(usize, &FileChange) -> bool,
    (store, hasher): (&Quarantine, &RandomState),
    budget: &mut Budget,
    cancel_token: &CancelToken,
) -> io::Result<Vec<Candidate>> {
    let mut found = Vec::new();
    for (index, file) in files.iter().enumerate().filter(|(index, file)| is_candidate(*index, file)) {
        let Some(side) = file.new.as_ref().or(file.old.as_ref()) else { continue };
        if side.kind == EntryKind::Symlink || side.size == 0 || side.size > MAX_TEXT || side.size > budget.bytes {
            continue;
        }
        cancel_token.check_canceled()?;
        budget.bytes -= side.size;
        let content = store.get(&side.hash)?;
        let line_count = memchr::memchr_iter(b'\n', &content).count() + 1;
        if line_count > budget.lines || !is_text(&content) {
            continue;
        }
        budget.lines -= line_count;
        let lines = hash_lines(&content, hasher);
        found.push(Candidate { index, size: side.size, lines });
    }
    Ok(found)
}

/// Returns the hash of each distinct line with the number of bytes in such lines, sorted.
fn hash_lines(content: &[u8], hasher: &RandomState) -> Vec<(u64, u64)> {
    let mut all: Vec<(u64, u64)> =
        split_lines(content).into_iter().map(|line| (hasher.hash_one(line), line.len() as u64)).collect();
    all.sort_unstable();
    let mut lines: Vec<(u64, u64)> = Vec::new();
    for (hash, len) in all {
        match lines.last_mut().filter(|last| last.0 == hash) {
            Some(last) => last.1 += len,
            None => lines.push((hash, len)),
        }
    }
    lines
}

/// Returns whether two contents are similar enough to be one file with edits.
#[must_use]
pub(crate) fn are_similar(old: &[u8], new: &[u8]) -> bool {
    similarity_percent(old, new) >= MIN_SIMILARITY
}

/// Returns the share of bytes in common lines, in percent of the larger content; 0 if the sizes differ too much to be similar.
#[must_use]
pub(crate) fn similarity_percent(old: &[u8], new: &[u8]) -> u64 {
    if old == new {
        return 100;
    }
    let hasher = RandomState::new();
    let candidate =
        |content: &[u8]| Candidate { index: 0, size: content.len() as u64, lines: hash_lines(content, &hasher) };
    measure_similarity(&candidate(old), &candidate(new), &mut { usize::MAX }).unwrap_or(0)
}

/// Returns the share of bytes in common lines, in percent of the larger content, or `None` if the sizes differ too much or
/// `left` is used up.
fn measure_similarity(old: &Candidate, new: &Candidate, left: &mut usize) -> Option<u64> {
    let (smaller, larger) = (old.size.min(new.size), old.size.max(new.size));
    if smaller * 100 < larger * MIN_SIMILARITY {
        return None;
    }
    *left = left.checked_sub(old.lines.len() + new.lines.len())?;
    let (mut common, mut others) = (0, new.lines.iter().peekable());
    for (hash, bytes) in &old.lines {
        while others.next_if(|(other, _)| other < hash).is_some() {}
        if let Some((_, other_bytes)) = others.next_if(|(other, _)| other == hash) {
            common += bytes.min(other_bytes);
        }
    }
    Some(common * 100 / larger.max(1))
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
            match self.rename_findings.binary_search_by(|rename| rename.path.cmp(&file.path)) {
                Ok(at) => file.findings.clone_from(&self.rename_findings[at].findings),
                Err(_) => file.findings.extend(source.findings),
            }
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
        let version = |text: &str| FileVersion {
            kind: EntryKind::Regular,
            hash: store.store_blob(text.as_bytes()).expect("stored"),
            size: text.len() as u64,
        };
        FileChange {
            path: RepoPath::from_bytes(path.as_bytes()).expect("valid path"),
            old: old.map(version),
            new: new.map(version),
            renamed_from: None,
            findings: vec![Finding::for_file("r", Severity::Note, path)],
        }
    }

    fn numbered_lines(start: usize, end: usize) -> String {
        (start..end).map(|n| format!("line {n}\n")).collect()
    }

    #[test]
    fn similar_files_are_paired_once_and_best_first() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Quarantine::open(dir.path().into()).expect("opened");
        let mut files = vec![
            // In this order: about half of the lines are shared, most are shared, all are shared, none are shared.
            change(&store, "a/half", None, Some(&(numbered_lines(0, 50) + &"x\n".repeat(40)))),
            change(&store, "a/best", None, Some(&(numbered_lines(0, 95) + "more\n"))),
            change(&store, "a/equal", None, Some("the same\n")),
            change(&store, "a/other", None, Some(&numbered_lines(1000, 1100))),
            change(&store, "b/best", Some(&numbered_lines(0, 100)), None),
            change(&store, "b/equal", Some("the same\n"), None),
            change(&store, "b/half", Some(&numbered_lines(0, 60)), None),
        ];
        pair_renames(&mut files, &store, &CancelToken::default()).expect("paired");
        let sources: Vec<_> = files.iter().map(|f| f.renamed_from.as_ref().map(|p| p.as_bytes().to_vec())).collect();
        let source = |path: &str| Some(path.as_bytes().to_vec());
        assert_eq!(sources[..4], [source("b/half"), source("b/best"), source("b/equal"), None]);
        let changeset = |files: &[FileChange]| Changeset {
            schema_version: 1,
            id: "id".into(),
            base: "base".into(),
            files: files.to_vec(),
            rename_findings: Vec::new(),
            uncollected: Vec::new(),
            ignored_by_agent_rules: Vec::new(),
            ignored: Default::default(),
            deleted: Default::default(),
        };
        let joined = changeset(&files).join_renames(&BTreeSet::new());
        let paths: Vec<_> = joined.files.iter().map(|f| f.path.as_bytes()).collect();
        assert_eq!(paths, [&b"a/half"[..], b"a/best", b"a/equal", b"a/other"]);
        assert!(joined.files[0].is_rename() && !joined.files[3].is_rename());
        assert_eq!(joined.files[1].findings.len(), 2, "the findings of both paths");
        let separate = BTreeSet::from([RepoPath::from_bytes(b"a/best").expect("valid path")]);
        let joined = changeset(&files).join_renames(&separate);
        assert!(!joined.files[1].is_rename() && joined.files.iter().any(|f| f.path.as_bytes() == b"b/best"));
    }

    #[test]
    fn equal_files_are_paired_by_name_first() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Quarantine::open(dir.path().into()).expect("opened");
        let mut files = vec![
            change(&store, "new/a", None, Some("same\n")),
            change(&store, "new/y", None, Some("same\n")),
            change(&store, "new/z", None, Some("same\n")),
            change(&store, "old/x", Some("same\n"), None),
            change(&store, "old/y", Some("same\n"), None),
            change(&store, "old/z", Some("same\n"), None),
        ];
        pair_renames(&mut files, &store, &CancelToken::default()).expect("paired");
        let sources: Vec<_> = files.iter().filter_map(|f| f.renamed_from.as_ref()).map(|p| p.as_bytes()).collect();
        assert_eq!(sources, [b"old/x", b"old/y", b"old/z"]);
    }

    #[test]
    fn comparison_is_bounded() {
        let candidate = |index| Candidate { index, size: 20, lines: (0..10).map(|n| (n, 2)).collect() };
        let mut budget = 19;
        assert_eq!(measure_similarity(&candidate(0), &candidate(1), &mut budget), None);
        let mut budget = 20;
        assert_eq!(measure_similarity(&candidate(0), &candidate(1), &mut budget), Some(100));
        assert_eq!(budget, 0);
    }

    /// The worst inputs that an agent can make: many files, all similar, all with the same name, each line different.
    #[test]
    fn hostile_files_are_compared_in_bounded_steps() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Quarantine::open(dir.path().into()).expect("opened");
        let text = |n: usize| format!("{}{n}\n", numbered_lines(0, 200));
        let mut files: Vec<FileChange> =
            (0..1000).map(|n| change(&store, &format!("new/{n:03}/f"), None, Some(&text(n)))).collect();
        files.extend((0..1000).map(|n| change(&store, &format!("old/{n:03}/f"), Some(&text(1000 + n)), None)));
        pair_renames(&mut files, &store, &CancelToken::default()).expect("paired");
        let paired = files.iter().filter(|f| f.renamed_from.is_some()).count();
        assert!((1..=MAX_PAIRS / 1000).contains(&paired), "{paired} of 1,000 files were paired");
    }
}
