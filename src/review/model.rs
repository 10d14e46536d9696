//! A changeset opened for review: every file with its units. Contents are read again, one file at a time, when they are
//! shown.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::Path;

use super::collapsed::is_collapsed_by_default;
use super::decisions::{Decision, Decisions, UnitDecision};
use super::unit_cache::{self, FileUnits};
use crate::changes::{
    Changeset, ContentHash, DeletedContent, FileChange, Quarantine, Severity, Unit, UnitKind, similarity_percent,
    split_units,
};
use crate::core::parallel::try_parallel_map;
use crate::core::path::{EntryKind, RepoPath};

/// All files under review.
#[derive(Debug)]
pub struct ReviewModel<'a> {
    pub changeset: &'a str,
    /// The files, in the order of the changeset.
    pub files: Vec<ReviewFile<'a>>,
    store: Quarantine,
}

/// One file under review.
#[derive(Debug)]
pub struct ReviewFile<'a> {
    pub change: &'a FileChange,
    pub units: Vec<Unit>,
    /// The target if the file becomes a symlink.
    pub target: Option<Vec<u8>>,
    /// Numbers of added and removed lines, including those of a deleted text.
    pub line_counts: (usize, usize),
    /// The similarity of the two versions of a renamed file, in percent.
    pub similarity: Option<u64>,
    /// Whether the file starts collapsed because it was not written by hand, such as a lock file or a generated file.
    pub is_collapsed: bool,
    /// Whether a unit has the same id as another unit, so that a decision on one would be a decision on both.
    pub is_ambiguous: bool,
}

impl<'a> ReviewModel<'a> {
    /// Opens a changeset and finds the units of every file.
    ///
    /// # Errors
    /// The quarantine is damaged.
    pub fn open(changes: &'a Changeset, store: &Quarantine) -> io::Result<Self> {
        Ok(Self::from_units(changes, store, split_files(changes, store)?))
    }

    /// Opens a changeset whose units may have been found before. Those of a large one are kept in a file.
    ///
    /// # Errors
    /// The quarantine is damaged.
    pub fn open_with_cache(changes: &'a Changeset, store: &Quarantine, kept: &Path) -> io::Result<Self> {
        if changes.files.len() < MIN_CACHED_FILES {
            return Self::open(changes, store);
        }
        let key = unit_cache::cache_key(changes);
        let units = match unit_cache::read_units(kept, &key, changes.files.len()) {
            Some(units) => units,
            None => {
                let units = split_files(changes, store)?;
                // The next command finds them again if they cannot be kept.
                let _ = unit_cache::write_units(kept, &key, &units);
                units
            }
        };
        Ok(Self::from_units(changes, store, units))
    }

    fn from_units(changes: &'a Changeset, store: &Quarantine, units: Vec<FileUnits>) -> Self {
        let files = changes.files.iter().zip(units).map(|(change, found)| {
            let FileUnits { units, target, line_counts, similarity, is_collapsed } = found;
            ReviewFile { change, units, target, line_counts, similarity, is_collapsed, is_ambiguous: false }
        });
        let mut files = files.collect::<Vec<_>>();
        mark_ambiguous(&mut files);
        Self { changeset: &changes.id, files, store: store.clone() }
    }
}

/// Minimum number of files whose units are kept. Fewer files are compared again.
const MIN_CACHED_FILES: usize = 100;

/// Finds the units of every file of a changeset.
fn split_files(changes: &Changeset, store: &Quarantine) -> io::Result<Vec<FileUnits>> {
    try_parallel_map(&changes.files, |change: &FileChange| {
        let known = changes.find_deleted(&change.path).filter(|_| change.new.is_none());
        let (old, new) = if known.is_some() { Default::default() } else { change.read_contents(store)? };
        let units = split_units(change, &old, &new);
        let is_link = change.new.as_ref().is_some_and(|s| s.kind == EntryKind::Symlink);
        let facts = known.unwrap_or_else(|| DeletedContent::from_content(&old));
        let line_counts = count_lines(&units, facts.lines);
        let is_collapsed = is_collapsed_by_default(change, facts.is_generated, line_counts.0 + line_counts.1);
        let similarity = change.is_rename().then(|| similarity_percent(&old, &new));
        Ok(FileUnits { units, target: is_link.then_some(new), line_counts, similarity, is_collapsed })
    })
}

/// Marks every file with a unit whose id occurs twice.
fn mark_ambiguous(files: &mut [ReviewFile<'_>]) {
    let mut ids: HashMap<&str, usize> = HashMap::new();
    files.iter().flat_map(|file| &file.units).for_each(|unit| *ids.entry(&unit.id).or_default() += 1);
    let is_duplicate = |unit: &Unit| ids.get(unit.id.as_str()).is_some_and(|n| *n > 1);
    let ambiguous: Vec<bool> = files.iter().map(|file| file.units.iter().any(is_duplicate)).collect();
    for (file, is_ambiguous) in files.iter_mut().zip(ambiguous) {
        file.is_ambiguous = is_ambiguous;
    }
}

impl ReviewModel<'_> {
    /// Reads the old and new content of a file; see [`FileChange::read_contents`].
    ///
    /// # Errors
    /// The quarantine is damaged.
    pub fn read_contents(&self, file: &ReviewFile<'_>) -> io::Result<(Vec<u8>, Vec<u8>)> {
        file.change.read_contents(&self.store)
    }

    /// Reads the replacement text of a hunk.
    ///
    /// # Errors
    /// The quarantine is damaged.
    pub fn read_text(&self, hash: &ContentHash) -> io::Result<Vec<u8>> {
        self.store.get(hash)
    }

    /// Stores the replacement text of a hunk.
    pub fn store_text(&self, text: &[u8]) -> io::Result<ContentHash> {
        self.store.store_blob(text)
    }

    /// Finds the units whose id begins with `prefix`. Unless ids are ambiguous, a whole id or a prefix of sufficient length
    /// matches at most one.
    pub fn units_by_prefix<'s>(&'s self, prefix: &'s str) -> impl Iterator<Item = (&'s ReviewFile<'s>, &'s Unit)> {
        let in_file = move |file: &'s ReviewFile<'s>| file.units.iter().map(move |unit| (file, unit));
        self.files.iter().flat_map(in_file).filter(move |(_, unit)| unit.id.starts_with(prefix))
    }

    /// Returns the files by each path that they write; a renamed file by both of its paths.
    #[must_use]
    pub fn files_by_path(&self) -> BTreeMap<&RepoPath, &ReviewFile<'_>> {
        // An entry at the path itself counts more than a rename from it.
        let old = self.files.iter().filter_map(|file| Some((file.change.old_path()?, file)));
        old.chain(self.files.iter().map(|file| (&file.change.path, file))).collect()
    }

    /// Returns the numbers of added and removed lines in all files.
    #[must_use]
    pub fn line_counts(&self) -> (usize, usize) {
        self.files.iter().map(|f| f.line_counts).fold((0, 0), |sum, n| (sum.0 + n.0, sum.1 + n.1))
    }
}

/// Returns the decisions with every unit accepted, except in refused files. Edits are kept.
pub(crate) fn with_all_accepted(model: &ReviewModel<'_>, decisions: &Decisions) -> Decisions {
    let mut decisions = decisions.clone();
    for file in model.files.iter().filter(|f| !f.is_refused()) {
        for unit in &file.units {
            if !matches!(decisions.get(&unit.id), Some(UnitDecision::Edited(_))) {
                decisions.set_decision(&unit.id, Some(UnitDecision::All(Decision::Accepted)));
            }
        }
    }
    decisions
}

impl ReviewFile<'_> {
    /// Returns the kind of the change, and of a renamed file with edits its similarity.
    #[must_use]
    pub(crate) fn kind_text(&self) -> String {
        let kind = self.change.kind_label();
        match self.similarity {
            Some(percent @ 0..100) => format!("{kind} {percent}%"),
            _ => kind.to_owned(),
        }
    }

    /// Returns whether the file requires explicit confirmation.
    #[must_use]
    pub fn is_risky(&self) -> bool {
        self.change.max_severity() >= Some(Severity::High)
    }

    /// Returns whether all content is shown, because the file is renamed to a path at which it is risky: its unchanged lines have
    /// another effect there.
    #[must_use]
    pub(crate) fn shows_whole_content(&self) -> bool {
        self.change.is_rename() && self.change.max_severity() >= Some(Severity::Medium)
    }

    /// Returns whether the file cannot be accepted at all.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.is_ambiguous || self.change.max_severity() == Some(Severity::Refused)
    }

    /// Returns the reasons of the highest severity, or why the file cannot be accepted.
    #[must_use]
    pub fn severity_reasons(&self) -> String {
        if self.is_ambiguous {
            return "has a hunk with the same id as another hunk".to_owned();
        }
        let top = self.change.max_severity();
        let findings = self.change.findings.iter().filter(|f| Some(f.severity) == top);
        let found: BTreeSet<&str> = findings.map(|f| f.reason.as_str()).collect();
        found.into_iter().collect::<Vec<_>>().join("; ")
    }
}

/// Counts the added and removed lines of units. A deleted file has `deleted_lines`.
fn count_lines(units: &[Unit], deleted_lines: usize) -> (usize, usize) {
    units.iter().fold((0, 0), |(added, removed), unit| match &unit.kind {
        UnitKind::Hunk { old, new } => (added + new.len(), removed + old.len()),
        UnitKind::Delete => (added, removed + deleted_lines),
        _ => (added, removed),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::changes::{CancelToken, ChangesetBuilder, FileVersion, RuleSet};

    #[test]
    fn hunks_with_the_same_id_cannot_be_accepted() {
        let change = |path: &str| FileChange {
            path: RepoPath::from_bytes(path.as_bytes()).expect("valid path"),
            old: None,
            new: None,
            renamed_from: None,
            findings: Vec::new(),
        };
        let changes = [change("a"), change("b"), change("c")];
        let review_file = |change, id: &str| ReviewFile {
            change,
            units: vec![Unit { id: id.into(), kind: UnitKind::Delete }],
            target: None,
            line_counts: (0, 0),
            similarity: None,
            is_collapsed: false,
            is_ambiguous: false,
        };
        let mut files = [review_file(&changes[0], "1"), review_file(&changes[1], "2"), review_file(&changes[2], "1")];
        mark_ambiguous(&mut files);
        assert_eq!(files.each_ref().map(ReviewFile::is_refused), [true, false, true]);
        assert!(files[0].severity_reasons().contains("the same id as another hunk"));
    }

    #[test]
    fn kept_units_are_those_that_are_found() {
        let dir = tempfile::tempdir().expect("directory");
        let store = Quarantine::open(dir.path().join("quarantine")).expect("opened");
        let kept = dir.path().join("units.json");
        let side = |content: &str| {
            let hash = store.store_blob(content.as_bytes()).expect("stored");
            Some(FileVersion { kind: EntryKind::Regular, hash, size: content.len() as u64 })
        };
        let change = |path: String, old, new, from: Option<&str>| FileChange {
            path: RepoPath::from_bytes(path.as_bytes()).expect("valid path"),
            old,
            new,
            renamed_from: from.map(|from| RepoPath::from_bytes(from.as_bytes()).expect("valid path")),
            findings: Vec::new(),
        };
        let moved = "one\ntwo\nthree\n";
        let mut files: Vec<_> = (0..MIN_CACHED_FILES)
            .map(|n| change(format!("f{n:03}"), side("a\nb\n"), side(&format!("a\n{n}\n")), None))
            .collect();
        files.push(change("g/new".into(), None, side(&format!("{moved}four\n")), Some("g/old")));
        files.push(change("g/old".into(), side(moved), None, None));
        let builder = ChangesetBuilder { base: "base".into(), files, ..ChangesetBuilder::default() };
        let changes = builder.build_changeset(&store, &RuleSet::default(), &(), &CancelToken::default());
        let separate = changes.expect("built");
        let joined = separate.clone().join_renames(&BTreeSet::new());
        assert_eq!((joined.files.len() + 1, joined.id.as_str()), (separate.files.len(), separate.id.as_str()));
        let describe = |model: ReviewModel<'_>| format!("{:?}", model.files);
        for changes in [&separate, &joined, &separate, &separate] {
            let found = describe(ReviewModel::open(changes, &store).expect("opened"));
            let model = ReviewModel::open_with_cache(changes, &store, &kept).expect("opened");
            assert_eq!(describe(model), found);
        }
        // What was kept is used: the contents are not read again.
        let empty = Quarantine::open(dir.path().join("empty")).expect("opened");
        ReviewModel::open_with_cache(&separate, &empty, &kept).expect("the units are kept");
        ReviewModel::open_with_cache(&joined, &empty, &kept).expect_err("those of other files are not kept");
        let none = dir.path().join("none.json");
        ReviewModel::open_with_cache(&separate, &empty, &none).expect_err("nothing is kept");
    }
}
