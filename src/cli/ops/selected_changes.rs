//! The changes that an apply requests: the selected units of each file, with what earlier applies and rounds wrote.

use std::collections::{BTreeMap, BTreeSet};

use super::apply_options::ApplyOptions;
use crate::apply::{ChangeTarget, EntryContent, PriorRoundChange, SelectedChange};
use crate::changes::{Changeset, FileChange, Quarantine, Selection, Unit, UnitKind, split_units};
use crate::cli::error::CliError;
use crate::core::known::Known;
use crate::core::path::RepoPath;
use crate::review::{ReviewFile, ReviewModel};
use crate::sandbox::{AppliedPath, AppliedState, Sandbox};

/// Returns the selected units of each file, with those that earlier applies wrote.
pub(crate) fn select_changes<'a>(
    model: &'a ReviewModel<'_>,
    options: &ApplyOptions,
    before: &AppliedState,
    (rounds, store): (&'a [Changeset], &Quarantine),
) -> Vec<SelectedChange<'a>> {
    let index = RoundIndex::new(rounds);
    let mut selected = Vec::new();
    for file in model.files.iter().filter(|file| !file.is_refused()) {
        let Some(selection) = options.selection.selections.get(&file.change.path) else { continue };
        let selection = selection.restricted_to(&file.units);
        if selection.is_empty() {
            continue;
        }
        let written = applied_selection(before, file.change);
        let (applied, retired) = (written.restricted_to(&file.units), retired_selection(&written, &file.units));
        let (prior_rounds, unknown) = index.find_prior_changes(store, file.change, retired);
        let earlier_paths = index.find_earlier_paths(store, file.change, before);
        let old_state = file.change.old_path().and_then(|path| before.paths.get(path));
        let mut change = SelectedChange {
            change: file.change,
            target: ChangeTarget::from_selection(&file.units, &selection, &applied),
            selection,
            applied,
            last_result: Known::Unknown,
            is_named: options.is_named,
            prior_rounds,
            earlier_paths,
            is_old_path_absent: old_state.is_some_and(|state| state.result == Known::Absent),
            has_unknown_units: !unknown.is_empty(),
        };
        change.last_result = before.paths.get(change.path()).map(last_result).unwrap_or_default();
        selected.push(change);
    }
    selected
}

/// Returns the content that the last apply left at a path.
fn last_result(state: &AppliedPath) -> Known<EntryContent> {
    state.result.clone().map(|(kind, hash)| EntryContent { kind, hash })
}

/// Returns the units of a change that applies wrote, at either path of a rename.
pub(crate) fn applied_selection(applied: &AppliedState, change: &FileChange) -> Selection {
    let states = change.affected_paths().filter_map(|path| applied.paths.get(path));
    states.fold(Selection::default(), |all, state| all.union(&state.selection))
}

/// Returns the part of a selection that is about none of these units, and therefore belongs to another round.
pub(crate) fn retired_selection(selection: &Selection, units: &[Unit]) -> Selection {
    let ids: BTreeSet<&str> = units.iter().map(|unit| unit.id.as_str()).collect();
    selection.iter().filter(|(id, _)| !ids.contains(id)).map(|(id, pick)| (id.to_owned(), pick.clone())).collect()
}

/// Reads the changesets of earlier rounds, if something was applied that is not part of this round: each with its renames
/// joined and as separate changes, because a review may have decided on either form. The changeset of this round comes
/// first, because its renames may have been joined or separated since.
pub(crate) fn load_needed_rounds(
    sandbox: &Sandbox,
    model: &ReviewModel<'_>,
    before: &AppliedState,
) -> Result<Vec<Changeset>, CliError> {
    let is_needed =
        |file: &ReviewFile<'_>| !retired_selection(&applied_selection(before, file.change), &file.units).is_empty();
    if !model.files.iter().any(is_needed) {
        return Ok(Vec::new());
    }
    let rounds = sandbox.read_changeset()?.into_iter().chain(sandbox.read_rounds()?);
    Ok(rounds.flat_map(|round| [round.clone().join_renames(&BTreeSet::new()), round]).collect())
}

/// The changes of all rounds, newest first, by path.
struct RoundIndex<'a> {
    by_path: BTreeMap<&'a RepoPath, Vec<&'a FileChange>>,
    by_old_path: BTreeMap<&'a RepoPath, Vec<&'a FileChange>>,
}

impl<'a> RoundIndex<'a> {
    fn new(rounds: &'a [Changeset]) -> Self {
        let mut index = Self { by_path: BTreeMap::new(), by_old_path: BTreeMap::new() };
        for change in rounds.iter().flat_map(|round| &round.files) {
            for path in change.affected_paths() {
                index.by_path.entry(path).or_default().push(change);
            }
            if let Some(old_path) = change.old_path() {
                index.by_old_path.entry(old_path).or_default().push(change);
            }
        }
        index
    }

    /// Finds the changes of earlier rounds that a selection belongs to, and returns them with the rest of the selection.
    /// Changes that can no longer be read are skipped.
    fn find_prior_changes(
        &self,
        store: &Quarantine,
        current: &FileChange,
        mut selection: Selection,
    ) -> (Vec<PriorRoundChange<'a>>, Selection) {
        let mut found = Vec::new();
        for change in current.affected_paths().filter_map(|path| self.by_path.get(path)).flatten().copied() {
            if selection.is_empty() {
                break;
            }
            let Ok((old, new)) = change.read_contents(store) else { continue };
            let units = split_units(change, &old, &new);
            let rest = retired_selection(&selection, &units);
            let in_round: Selection = (selection.iter().filter(|(id, _)| rest.get(id).is_none()))
                .map(|(id, pick)| (id.to_owned(), pick.clone()))
                .collect();
            if !in_round.is_empty() {
                found.push(PriorRoundChange { change, selection: in_round });
            }
            selection = rest;
        }
        (found, selection)
    }

    /// Returns the paths to which applies of earlier rounds renamed a file, newest first.
    fn find_earlier_paths(&self, store: &Quarantine, current: &FileChange, before: &AppliedState) -> Vec<RepoPath> {
        let origin = current.old_path().unwrap_or(&current.path);
        let mut found: Vec<RepoPath> = Vec::new();
        for change in self.by_old_path.get(origin).into_iter().flatten() {
            let path = &change.path;
            let Some(state) = before.paths.get(path).filter(|state| !state.selection.is_empty()) else { continue };
            if *path == current.path || *path == *origin || found.contains(path) {
                continue;
            }
            // Another file may be at this path.
            let Ok((old, new)) = change.read_contents(store) else { continue };
            let mut units = split_units(change, &old, &new).into_iter();
            if units.any(|unit| unit.kind == UnitKind::Rename && state.selection.get(&unit.id).is_some()) {
                found.push(path.clone());
            }
        }
        found
    }
}
