//! The changes that an apply requests: the selected units of each file, with what earlier applies and rounds wrote.

use std::collections::BTreeSet;

use super::apply_options::ApplyOptions;
use crate::apply::{ChangeSide, EntryContent, PriorRoundChange, SelectedChange};
use crate::changes::{Changeset, FileChange, Quarantine, Selection, Unit, UnitKind, split_units};
use crate::cli::error::CliError;
use crate::core::path::RepoPath;
use crate::review::{ReviewFile, ReviewModel};
use crate::sandbox::{AppliedState, Sandbox};

/// Returns the selected units of each file, with those that earlier applies wrote. A rename is one change for each path that it
/// writes.
pub(crate) fn select_changes<'a>(
    model: &'a ReviewModel<'_>,
    options: &ApplyOptions,
    before: &AppliedState,
    (rounds, store): (&'a [Changeset], &Quarantine),
) -> Vec<SelectedChange<'a>> {
    let mut selected = Vec::new();
    for file in model.files.iter().filter(|file| !file.is_refused()) {
        let Some(selection) = options.selection.selections.get(&file.change.path) else { continue };
        let selection = selection.restricted_to(&file.units);
        if selection.is_empty() {
            continue;
        }
        let written = applied_selection(before, file.change);
        let (applied, retired) = (written.restricted_to(&file.units), retired_selection(&written, &file.units));
        for side in written_sides(file, &selection, &applied) {
            let path = side.path_of(file.change);
            let last_result = before.paths.get(path).map(|state| state.result.clone()).unwrap_or_default();
            selected.push(SelectedChange {
                change: file.change,
                side,
                selection: selection.clone(),
                applied: applied.clone(),
                last_result: last_result.map(|(kind, hash)| EntryContent { kind, hash }),
                is_named: options.is_named,
                prior_rounds: find_prior_changes(rounds, store, path, retired.clone()),
            });
        }
    }
    selected
}

/// Returns the paths that a selection writes: without a rename, the only one; with a rename that is selected, both; else the
/// one at which the file is.
fn written_sides(file: &ReviewFile<'_>, selection: &Selection, applied: &Selection) -> Vec<ChangeSide> {
    let Some(rename) = file.units.iter().find(|unit| unit.kind == UnitKind::Rename) else {
        return vec![ChangeSide::Path];
    };
    match (selection.get(&rename.id), applied.get(&rename.id)) {
        (Some(_), _) => vec![ChangeSide::Path, ChangeSide::OldPath],
        (None, Some(_)) => vec![ChangeSide::Path],
        (None, None) => vec![ChangeSide::OldPath],
    }
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

/// Finds the changes of earlier rounds that a selection belongs to. Changes that can no longer be read are skipped.
fn find_prior_changes<'a>(
    rounds: &'a [Changeset],
    store: &Quarantine,
    path: &RepoPath,
    mut selection: Selection,
) -> Vec<PriorRoundChange<'a>> {
    let mut found = Vec::new();
    let find = |round: &'a Changeset| round.files.iter().find(|f| f.affected_paths().any(|p| p == path));
    for change in rounds.iter().filter_map(find) {
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
            let side = if change.path == *path { ChangeSide::Path } else { ChangeSide::OldPath };
            found.push(PriorRoundChange { change, side, selection: in_round });
        }
        selection = rest;
    }
    found
}
