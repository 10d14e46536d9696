//! Fuzzes an edited decision file with a selection.
#![no_main]

use std::sync::LazyLock;

use airlock::changes::{CancelToken, Changeset, ChangesetBuilder, FileChange, FileVersion, Quarantine, RuleSet};
use airlock::core::path::{EntryKind, RepoPath};
use airlock::review::{DecisionFile, Decisions, ReviewModel, Selector};
use libfuzzer_sys::fuzz_target;

struct Ground {
    _folder: tempfile::TempDir,
    store: Quarantine,
    changes: Changeset,
}

static GROUND: LazyLock<Ground> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Quarantine::open(folder.path().into()).expect("opened");
    let added = |path: &str, content: &[u8]| FileChange {
        path: RepoPath::from_bytes(path.as_bytes()).expect("a path"),
        old: None,
        new: Some(FileVersion { kind: EntryKind::Regular, hash: store.store_blob(content).expect("stored"), size: content.len() as u64 }),
        renamed_from: None,
        findings: Vec::new(),
    };
    let files = vec![added("a.txt", b"x\n"), added(".envrc", b"y\n"), added("src/b.rs", b"z\n")];
    let draft = ChangesetBuilder { base: "b".into(), files, ..ChangesetBuilder::default() };
    let changes = draft.build_changeset(&store, &RuleSet::default(), &(), &CancelToken::default()).expect("sealed");
    Ground { _folder: folder, store, changes }
});

fuzz_target!(|input: (&[u8], Vec<String>, Vec<String>, Vec<String>, bool)| {
    let (file, accept, reject, ids, allow_risky) = input;
    // An invalid decision file is an error without effect.
    let _ = DecisionFile::parse(file);
    let decisions = Decisions::default();
    let ground = &*GROUND;
    let sheet = ReviewModel::open(&ground.changes, &ground.store).expect("opened");
    let selector = Selector { accept, reject, ids, all: false, allow_risky };
    if let Ok(selection) = selector.select_units(&sheet, &decisions, &[]) {
        // A glob does not accept high-risk files.
        let risky = sheet.files.iter().find(|f| f.is_risky()).expect("one is");
        if !allow_risky && selector.ids.is_empty() {
            assert!(!selection.selections.contains_key(&risky.change.path));
        }
    }
});
