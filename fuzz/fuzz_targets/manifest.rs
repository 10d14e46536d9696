//! Fuzzes the entries of a changeset, in any order and of any kind: the built changeset is sorted, unique and prefix-free, and
//! no symlink that can be accepted leads out of the tree.
#![no_main]

use std::collections::BTreeSet;
use std::sync::LazyLock;

use airlock::changes::links::PathEntry;
use airlock::changes::{BaseEntries, CancelToken, ChangesetBuilder, FileChange, FileVersion, Quarantine, RuleSet, Severity};
use airlock::core::path::{EntryKind, RepoPath};
use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a folder"));

#[derive(Debug, Arbitrary)]
struct Entry {
    path: Vec<u8>,
    kind: u8,
    content: Vec<u8>,
    is_deleted: bool,
}

/// A base with a few files and symlinks of the user.
struct Tree;

impl BaseEntries for Tree {
    fn entry_at(&self, path: &RepoPath) -> PathEntry {
        match path.as_bytes() {
            b"a" | b"d" => PathEntry::Directory,
            b"l" => PathEntry::Link(b"/etc".to_vec()),
            b"d/m" => PathEntry::Link(b"../a".to_vec()),
            b"a/f" | b"HEAD" => PathEntry::File,
            _ => PathEntry::Absent,
        }
    }
    fn list_symlinks(&self) -> Vec<(RepoPath, Vec<u8>)> {
        let path = |p: &[u8]| RepoPath::from_bytes(p).expect("a path");
        vec![(path(b"l"), b"/etc".to_vec()), (path(b"d/m"), b"../a".to_vec())]
    }
}

fuzz_target!(|entries: Vec<Entry>| {
    let store = Quarantine::open(FOLDER.path().into()).expect("opened");
    let mut files = Vec::new();
    for entry in entries.iter().take(16) {
        let Ok(path) = RepoPath::from_bytes(&entry.path) else { continue };
        let kind = [EntryKind::Regular, EntryKind::Executable, EntryKind::Symlink][usize::from(entry.kind % 3)];
        let hash = store.store_blob(&entry.content).expect("stored");
        let side = FileVersion { kind, hash, size: entry.content.len() as u64 };
        let (old, new) = if entry.is_deleted { (Some(side), None) } else { (None, Some(side)) };
        files.push(FileChange { path, old, new, renamed_from: None, findings: Vec::new() });
    }
    let unique: BTreeSet<RepoPath> = files.iter().map(|f| f.path.clone()).collect();
    let twice = unique.len() < files.len();
    let draft = ChangesetBuilder { base: "b".into(), files, ..ChangesetBuilder::default() };
    let sealed = draft.build_changeset(&store, &RuleSet::default(), &Tree, &CancelToken::default());
    assert_eq!(sealed.is_err(), twice);
    let Ok(sealed) = sealed else { return };
    assert!(sealed.files.windows(2).all(|w| w[0].path < w[1].path));
    let accepted: Vec<&FileChange> =
        sealed.files.iter().filter(|f| f.new.is_some() && f.max_severity() != Some(Severity::Refused)).collect();
    let paths: BTreeSet<&RepoPath> = accepted.iter().map(|f| &f.path).collect();
    for file in accepted {
        let mut above = file.path.parent();
        while let Some(directory) = above {
            assert!(!paths.contains(&directory), "{:?} below {directory:?}", file.path);
            above = directory.parent();
        }
        let side = file.new.as_ref().expect("filtered");
        if side.kind == EntryKind::Symlink {
            let target = store.get(&side.hash).expect("stored");
            assert!(!target.is_empty() && target[0] != b'/');
            assert!(file.max_severity() >= Some(Severity::High));
        }
    }
});
