//! Edits an agent's proposal: the user's text replaces the hunk.

use std::io;
use std::time::{Duration, Instant};

use super::{Action, DecisionTarget, FileText, ReviewHost, ReviewModel, ReviewState, UnitDecision};
use crate::changes::{FileChange, Finding, SelectedContent, UnitKind, apply_selection, is_line_based, split_lines};
use crate::core::path::EntryKind;

/// The result of an edit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum EditResult {
    Unchanged {
        /// Whether the editor returned at once, so that the file may still be open in it.
        returned_at_once: bool,
    },
    /// The action to perform, and the findings for the resulting file.
    Done(Action, Vec<Finding>),
    /// The reason why the text cannot be used.
    Invalid(&'static str),
}

/// Returns the proposed text of a hunk: the agent's, or the user's own edit. Returns `None` for other units.
///
/// # Errors
/// The quarantine is damaged.
pub(super) fn proposed_text(
    model: &ReviewModel<'_>,
    state: &ReviewState,
    item: &DecisionTarget,
    text: &FileText,
) -> io::Result<Option<Vec<u8>>> {
    let unit = &model.files[item.file].units[item.unit];
    let UnitKind::Hunk { new, .. } = &unit.kind else { return Ok(None) };
    match state.decisions.get(&unit.id) {
        Some(UnitDecision::Edited(hash)) => model.read_text(hash).map(Some),
        _ => Ok(Some(text.new.slice_lines(new.clone()).to_vec())),
    }
}

/// Minimum time in which a user reads a text and leaves the editor.
const MIN_EDIT_TIME: Duration = Duration::from_secs(1);
/// The message about an editor that returned at once.
pub(crate) const EDITOR_RETURNED_AT_ONCE: &str = "nothing was changed; does your editor wait? (code --wait)";

/// Lets the user edit a hunk. A text that is empty, or the same as in the base, rejects the hunk.
///
/// # Errors
/// The editor failed, or the quarantine is damaged.
pub(crate) fn edit_hunk(
    model: &ReviewModel<'_>,
    state: &ReviewState,
    item: &DecisionTarget,
    text: &FileText,
    host: &mut dyn ReviewHost,
) -> io::Result<EditResult> {
    let file = &model.files[item.file];
    let unit = &file.units[item.unit];
    let (UnitKind::Hunk { old, .. }, Some(before)) = (&unit.kind, proposed_text(model, state, item, text)?) else {
        return Ok(EditResult::Invalid("only a hunk of lines can be edited"));
    };
    if file.is_refused() {
        return Ok(EditResult::Invalid("this file cannot be accepted"));
    }
    let start = Instant::now();
    let after = host.edit_text(&file.change.path, &before)?;
    if after == before {
        return Ok(EditResult::Unchanged { returned_at_once: start.elapsed() < MIN_EDIT_TIME });
    }
    if !is_line_based(&after) {
        return Ok(EditResult::Invalid("the result is not text (UTF-8 without NUL); the hunk is unchanged"));
    }
    let whole = DecisionTarget { lines: None, ..item.clone() };
    if after.is_empty() || after == text.old.slice_lines(old.clone()) {
        return Ok(EditResult::Done(Action::Edit(whole, None), Vec::new()));
    }
    let hash = model.store_text(&after)?;
    let mut decisions = state.decisions.clone();
    decisions.set_decision(&unit.id, Some(UnitDecision::Edited(hash.clone())));
    let findings = match resulting_file(model, file.change, &decisions.accepted_selection(&file.units), text)? {
        Some((change, content)) => host.find_risks(&change, text.old.as_bytes(), &content),
        None => Vec::new(),
    };
    Ok(EditResult::Done(Action::Edit(whole, Some(hash)), findings))
}

/// Returns a file with the accepted units. Returns `None` if nothing is accepted, or if the result is deleted or not text.
///
/// # Errors
/// The quarantine is damaged.
pub(crate) fn resulting_file(
    model: &ReviewModel<'_>,
    change: &FileChange,
    selection: &crate::changes::Selection,
    text: &FileText,
) -> io::Result<Option<(FileChange, Vec<u8>)>> {
    let selected =
        apply_selection(change, text.old.as_bytes(), text.new.as_bytes(), selection, &|hash| model.read_text(hash))?;
    Ok(selected.and_then(|selected| match selected {
        SelectedContent::Content(kind @ (EntryKind::Regular | EntryKind::Executable), content) => {
            Some((change.with_result(kind, &content), content))
        }
        _ => None,
    }))
}

/// The lines of a file that a base does not have, and the number of lines that are gone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NewLines {
    /// The indexes of the lines, ascending.
    pub added: Vec<usize>,
    pub removed: usize,
}

/// Compares a file with its base by line. Content that is not text has no new lines.
#[must_use]
pub(crate) fn find_new_lines(old: &[u8], new: &[u8]) -> NewLines {
    if !is_line_based(old) || !is_line_based(new) {
        return NewLines::default();
    }
    let (old, new) = (split_lines(old), split_lines(new));
    let ops = similar::capture_diff_slices(similar::Algorithm::Histogram, &old, &new);
    let changes = ops.iter().filter(|op| op.tag() != similar::DiffTag::Equal);
    changes.fold(NewLines::default(), |mut lines, op| {
        lines.added.extend(op.new_range());
        lines.removed += op.old_range().len();
        lines
    })
}
