//! Properties of renames, checked with random files, edits and selections.

use std::collections::BTreeMap;
use std::fs;

use airlock::apply::{ChangeTarget, EntryContent, HostFs, Plan, PlanOptions, SelectedChange};
use airlock::changes::{
    FileChange, FileVersion, SelectedContent, Selection, Unit, UnitKind, apply_selection, split_units,
};
use airlock::core::known::Known;
use airlock::core::path::{EntryKind, RepoPath};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::field::{ApplyFixture, FixtureEntry, TreeState, make_file, make_tree};
use crate::properties::{Edit, any_edits, any_lines, apply_edits};

/// The paths before and after the rename: in one directory, in new directories, and in the place of a directory.
const PATHS: [(&str, &str); 6] =
    [("f", "g"), ("a/f", "b/c/f"), ("f", "new/f"), ("only/f", "f"), ("a/f", "a/F"), ("a/b/f", "a/f")];

/// A renamed file: the user's version in the working tree, and the change of the agent.
struct RenameCase {
    fixture: ApplyFixture,
    change: FileChange,
    contents: [Vec<u8>; 2],
    units: Vec<Unit>,
    applied: Selection,
    results: BTreeMap<RepoPath, Option<EntryContent>>,
}

fn parse_path(path: &str) -> RepoPath {
    RepoPath::from_bytes(path.as_bytes()).expect("a path")
}

impl RenameCase {
    fn new((old_path, path): (&str, &str), [base, result, host]: [&str; 3], is_made_executable: bool) -> Self {
        let fixture =
            ApplyFixture::new(&make_tree(&[(old_path, make_file(host)), ("a/other", make_file("another file\n"))]));
        let version = |text: &str, kind| {
            let hash = fixture.store().store_blob(text.as_bytes()).expect("stored");
            Some(FileVersion { kind, hash, size: text.len() as u64 })
        };
        let change = FileChange {
            path: parse_path(path),
            old: version(base, EntryKind::Regular),
            new: version(result, if is_made_executable { EntryKind::Executable } else { EntryKind::Regular }),
            renamed_from: Some(parse_path(old_path)),
            findings: Vec::new(),
        };
        let contents = [base, result].map(|text| text.as_bytes().to_vec());
        let units = split_units(&change, &contents[0], &contents[1]);
        assert!(units.iter().any(|unit| unit.kind == UnitKind::Rename), "{units:?}");
        Self { fixture, change, contents, units, applied: Selection::default(), results: BTreeMap::new() }
    }

    /// Applies a selection as the command does. Returns false if there is a conflict; then nothing is written.
    fn apply(&mut self, selection: &Selection) -> bool {
        let mut change = SelectedChange {
            target: ChangeTarget::from_selection(&self.units, selection, &self.applied),
            change: &self.change,
            selection: selection.clone(),
            applied: self.applied.clone(),
            last_result: Known::Unknown,
            is_named: true,
            prior_rounds: Vec::new(),
            earlier_paths: Vec::new(),
            is_old_path_absent: self.change.old_path().and_then(|path| self.results.get(path)) == Some(&None),
            has_unknown_units: false,
        };
        change.last_result = self.results.get(change.path()).map_or(Known::Unknown, |r| Known::from_option(r.clone()));
        let store = self.fixture.store();
        let request = change.build_request(store).expect("read").expect("it makes a file");
        let plan =
            Plan::build(&self.fixture.open_tree(), vec![request], store, PlanOptions::default()).expect("planned");
        if !plan.conflicts.is_empty() {
            return false;
        }
        if !plan.is_noop() {
            self.fixture.apply_plan(&plan, &HostFs::default()).expect("applied");
        }
        for step in &plan.steps {
            self.results.insert(step.path.clone(), step.result.clone());
        }
        self.applied = self.applied.union(selection);
        true
    }

    /// Undoes all applies, newest first.
    fn undo_all(&self) {
        while self.fixture.read_history().find_last_undoable(&self.fixture.target().fingerprint, None).is_some() {
            self.fixture.undo(&HostFs::default()).expect("undone").expect("no conflict");
        }
    }

    fn select_one(unit: &Unit) -> Selection {
        Selection::select_all([unit])
    }

    /// Returns the only file of the change in the working tree, with its path and whether it can be executed.
    fn read_file(&self) -> (String, Vec<u8>, bool) {
        let state: TreeState = self.fixture.read_state();
        let is_ours = |path: &&std::path::PathBuf| !path.starts_with(".git") && !path.ends_with("a/other");
        let files: Vec<_> = state.keys().filter(is_ours).filter(|path| state[*path].0 == 'f').collect();
        assert_eq!(files.len(), 1, "{files:?}");
        let (_, mode, content) = &state[files[0]];
        (files[0].to_str().expect("UTF-8").to_owned(), content.clone(), mode & 0o100 != 0)
    }

    /// Returns what a selection of the change means for an unchanged working tree.
    fn selected_file(&self, selection: &Selection) -> (String, Vec<u8>, bool) {
        let is_moved = self.units.iter().any(|unit| unit.kind == UnitKind::Rename && selection.get(&unit.id).is_some());
        let path = if is_moved { &self.change.path } else { self.change.old_path().expect("a rename") };
        let store = self.fixture.store();
        let [old, new] = &self.contents;
        let (kind, content) =
            match apply_selection(&self.change, old, new, selection, &|hash| store.get(hash)).expect("read") {
                None => (EntryKind::Regular, old.clone()),
                Some(SelectedContent::Content(kind, content)) => (kind, content),
                Some(SelectedContent::Stored(kind, hash)) => (kind, store.get(&hash).expect("stored")),
                Some(SelectedContent::Deleted) => panic!("a rename deletes no content"),
            };
        (String::from_utf8(path.as_bytes().to_vec()).expect("UTF-8"), content, kind == EntryKind::Executable)
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(21),
        ..ProptestConfig::default()
    })]

    #[test]
    fn parts_of_a_rename_equal_the_whole_and_undo_is_exact(
        base in any_lines(), agent in any_edits(3), own in any_edits(1), paths in prop::sample::select(&PATHS[..]),
        is_made_executable in any::<bool>(), dirty in any::<bool>(), order in prop::collection::vec(any::<u32>(), 8),
    ) {
        let edited = |edits: &[Edit]| apply_edits(&base, edits).concat();
        let (result, host) = (edited(&agent), if dirty { edited(&own) } else { base.concat() });
        let base = base.concat();
        let texts = [base.as_str(), result.as_str(), host.as_str()];
        let mut whole = RenameCase::new(paths, texts, is_made_executable);
        let before = whole.fixture.read_state();
        // Nothing accepted is the base; everything is the agent's file.
        let (none, all) = (Selection::default(), Selection::select_all(&whole.units));
        prop_assert_eq!(whole.selected_file(&none), (paths.0.to_owned(), base.clone().into_bytes(), false));
        prop_assert_eq!(
            whole.selected_file(&all), (paths.1.to_owned(), result.clone().into_bytes(), is_made_executable)
        );
        if !whole.apply(&all) {
            prop_assert!(host != base, "a clean file is never a conflict");
            prop_assert_eq!(whole.fixture.read_state(), before, "a conflict writes nothing");
            return Ok(());
        }
        let after = whole.read_file();
        if host == base {
            prop_assert_eq!(&after, &whole.selected_file(&all));
        }
        prop_assert_eq!(&after.0, paths.1);
        prop_assert!(whole.apply(&all), "a second apply changes nothing");
        prop_assert_eq!(&whole.read_file(), &after);
        whole.undo_all();
        prop_assert_eq!(&whole.fixture.read_state(), &before);
        // The parts are applied one by one, in any order. After each, the tree has what was accepted until then.
        let mut parts = RenameCase::new(paths, texts, is_made_executable);
        let mut units: Vec<(u32, Unit)> = order.iter().copied().cycle().zip(parts.units.clone()).collect();
        units.sort_by_key(|(order, _)| *order);
        let mut clean = true;
        for (_, unit) in &units {
            clean &= parts.apply(&RenameCase::select_one(unit));
            if host == base {
                prop_assert!(clean, "parts of a clean file are never a conflict");
                prop_assert_eq!(parts.read_file(), parts.selected_file(&parts.applied.clone()));
            }
        }
        if clean {
            prop_assert_eq!(parts.read_file(), after, "all parts together equal the whole");
        }
        parts.undo_all();
        prop_assert_eq!(&parts.fixture.read_state(), &before, "the undo of all parts is exact");
    }

    /// A file of the user at the new path is never replaced, and the file at the old path stays.
    #[test]
    fn rename_never_replaces_a_file_of_the_user(
        base in any_lines(), agent in any_edits(3), own in any_edits(2), paths in prop::sample::select(&PATHS[..3]),
        edits_old in any::<bool>(),
    ) {
        let (base_text, result) = (base.concat(), apply_edits(&base, &agent).concat());
        let mine = format!("mine\n{}", apply_edits(&base, &own).concat());
        let host = if edits_old { apply_edits(&base, &own).concat() } else { base_text.clone() };
        let mut case = RenameCase::new(paths, [&base_text, &result, &host], false);
        case.fixture.write_entry(paths.1.as_bytes(), &FixtureEntry::File(mine.clone().into_bytes(), 0o600));
        let before = case.fixture.read_state();
        let all = Selection::select_all(&case.units);
        prop_assert!(!case.apply(&all));
        prop_assert_eq!(&case.fixture.read_state(), &before);
        prop_assert_eq!(fs::read_to_string(case.fixture.path(paths.1.as_bytes())).expect("read"), mine.as_str());
        // The content alone goes to the old path.
        let content = Selection::select_all(case.units.iter().filter(|unit| unit.kind != UnitKind::Rename));
        if !content.is_empty() && case.apply(&content) {
            prop_assert_eq!(fs::read_to_string(case.fixture.path(paths.1.as_bytes())).expect("read"), mine.as_str());
            case.undo_all();
        }
        prop_assert_eq!(&case.fixture.read_state(), &before);
    }
}
