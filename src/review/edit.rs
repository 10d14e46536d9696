//! Edits an agent's proposal: the user's text replaces the hunk.

use std::io;
use std::time::{Duration, Instant};

use super::{Action, DecisionTarget, FileText, ReviewHost, ReviewModel, ReviewState, UnitDecision};
use crate::changes::{FileChange, Finding, SelectedContent, UnitKind, apply_selection, is_by_line};
use crate::core::path::EntryKind;

/// The result of an edit.
#[derive(Debug, PartialEq, Eq)]
pub enum Edited {
    Unchanged {
        /// Whether the editor returned at once, so that the file may still be open in it.
        at_once: bool,
    },
    /// The action to perform, and the findings for the resulting file.
    Done(Action, Vec<Finding>),
    /// The reason why the text cannot be used.
    Wrong(&'static str),
}

/// Returns the proposed text of a hunk: the agent's, or the user's own edit. Returns `None` for other units.
///
/// # Errors
/// The quarantine is damaged.
pub fn proposal(
    sheet: &ReviewModel<'_>,
    state: &ReviewState,
    item: &DecisionTarget,
    text: &FileText,
) -> io::Result<Option<Vec<u8>>> {
    let unit = &sheet.files[item.file].units[item.unit];
    let UnitKind::Hunk { new, .. } = &unit.kind else { return Ok(None) };
    match state.decisions.get(&unit.id) {
        Some(UnitDecision::Edited(hash)) => sheet.text(hash).map(Some),
        _ => Ok(Some(text.new.span(new.clone()).to_vec())),
    }
}

/// Minimum time in which a person reads a text and leaves the editor.
const AT_ONCE: Duration = Duration::from_secs(1);
/// The message about an editor that returned at once.
pub const DOES_IT_WAIT: &str = "nothing was changed; does your editor wait? (code --wait)";

/// Lets the user edit a hunk. A text that is empty, or the same as in the base, rejects the hunk.
///
/// # Errors
/// The editor failed, or the quarantine is damaged.
pub fn edit(
    sheet: &ReviewModel<'_>,
    state: &ReviewState,
    item: &DecisionTarget,
    text: &FileText,
    around: &mut dyn ReviewHost,
) -> io::Result<Edited> {
    let file = &sheet.files[item.file];
    let unit = &file.units[item.unit];
    let (UnitKind::Hunk { old, .. }, Some(before)) = (&unit.kind, proposal(sheet, state, item, text)?) else {
        return Ok(Edited::Wrong("only a hunk of lines can be edited"));
    };
    if file.is_refused() {
        return Ok(Edited::Wrong("this file cannot be accepted"));
    }
    let start = Instant::now();
    let after = around.edit_text(&file.change.path, &before)?;
    if after == before {
        return Ok(Edited::Unchanged { at_once: start.elapsed() < AT_ONCE });
    }
    if !is_by_line(&after) {
        return Ok(Edited::Wrong("what the editor left is no text (UTF-8 without NUL); the hunk is as it was"));
    }
    let whole = DecisionTarget { lines: None, ..item.clone() };
    if after.is_empty() || after == text.old.span(old.clone()) {
        return Ok(Edited::Done(Action::Edit(whole, None), Vec::new()));
    }
    let hash = sheet.keep_text(&after)?;
    let mut decisions = state.decisions.clone();
    decisions.set(&unit.id, Some(UnitDecision::Edited(hash.clone())));
    let findings = match resulting(sheet, file.change, &decisions.selection(&file.units), text)? {
        Some((change, content)) => around.find_risks(&change, text.old.bytes(), &content),
        None => Vec::new(),
    };
    Ok(Edited::Done(Action::Edit(whole, Some(hash)), findings))
}

/// Returns a file with the accepted units. Returns `None` if nothing is accepted, or if the result is deleted or not text.
///
/// # Errors
/// The quarantine is damaged.
pub fn resulting(
    sheet: &ReviewModel<'_>,
    change: &FileChange,
    picks: &crate::changes::Selection,
    text: &FileText,
) -> io::Result<Option<(FileChange, Vec<u8>)>> {
    let selected = apply_selection(change, text.old.bytes(), text.new.bytes(), picks, &|hash| sheet.text(hash))?;
    Ok(selected.and_then(|selected| match selected {
        SelectedContent::Content(kind @ (EntryKind::Regular | EntryKind::Executable), content) => {
            Some((change.with_result(kind, &content), content))
        }
        _ => None,
    }))
}
