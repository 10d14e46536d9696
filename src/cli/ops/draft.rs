//! The draft of a review in a sandbox's directory, and its migration to another round.

use crate::changes::Changeset;
use crate::cli::error::CliError;
use crate::cli::shell_word::quote_shell_word;
use crate::review::{DecisionLog, DecisionLogError, ReviewModel, ReviewState, kept_decisions, newly_risky, read_draft};
use crate::sandbox::Sandbox;

/// The name of the file that keeps the units of a large changeset.
const UNITS_FILE: &str = "units.json";
/// The name of the draft's file.
pub(crate) const DRAFT_FILE: &str = "draft.jsonl";

/// Reads the draft of a review of a sandbox's changes.
pub(crate) fn load_draft(sandbox: &Sandbox, model: &ReviewModel<'_>) -> Result<ReviewState, CliError> {
    let mut state = read_draft(&sandbox.file_path(DRAFT_FILE)).map_err(|error| draft_error(&error, sandbox))?;
    migrate_draft(&mut state, sandbox, model)?;
    Ok(state)
}

/// Joins the renames of a changeset, except for those that the review of the sandbox has split. A draft that cannot be read
/// splits none: who needs it reports the error.
pub(crate) fn join_renames(sandbox: &Sandbox, changes: Changeset) -> Changeset {
    let draft = read_draft(&sandbox.file_path(DRAFT_FILE)).unwrap_or_default();
    changes.join_renames(draft.separate_renames())
}

/// Opens a changeset of a sandbox for review.
pub(crate) fn open_model<'a>(sandbox: &Sandbox, changes: &'a Changeset) -> std::io::Result<ReviewModel<'a>> {
    ReviewModel::open_with_cache(changes, &sandbox.open_quarantine()?, &sandbox.file_path(UNITS_FILE))
}

/// Opens the draft for writing.
pub(crate) fn open_draft(sandbox: &Sandbox, model: &ReviewModel<'_>) -> Result<(DecisionLog, ReviewState), CliError> {
    let (mut draft, mut state) =
        DecisionLog::open(&sandbox.file_path(DRAFT_FILE)).map_err(|error| draft_error(&error, sandbox))?;
    migrate_draft(&mut state, sandbox, model)?;
    draft.append_events(&state.take_events()).map_err(|error| draft_error(&error, sandbox))?;
    Ok((draft, state))
}

/// Migrates a draft to the changes of another round, if these are. A file that became high-risk has to be accepted again.
fn migrate_draft(state: &mut ReviewState, sandbox: &Sandbox, model: &ReviewModel<'_>) -> Result<(), CliError> {
    let Some(last) = state.reviewed_rounds().last().filter(|last| **last != *model.changeset) else {
        if state.reviewed_rounds().is_empty() {
            state.begin_round(model.changeset);
        }
        return Ok(());
    };
    // If the last round can no longer be read, any high-risk file may have become one since.
    let before = sandbox.read_rounds()?.into_iter().find(|round| round.id == *last);
    let before = before.map(|before| before.join_renames(state.separate_renames()));
    if let Some(before) = &before {
        state.keep_accepted(kept_decisions(model, before, &sandbox.open_quarantine()?, &state.decisions)?);
    }
    let risky_paths = before.map(|before| newly_risky(model, &before));
    let is_newly_risky = |path| risky_paths.as_ref().is_none_or(|risky_paths| risky_paths.contains(path));
    let files = model.files.iter().filter(|f| f.is_risky() && is_newly_risky(&f.change.path));
    state.revoke_accepted(files.flat_map(|f| &f.units));
    state.begin_round(model.changeset);
    Ok(())
}

pub(crate) fn draft_error(error: &DecisionLogError, sandbox: &Sandbox) -> CliError {
    let failure = CliError::failed(error.to_string());
    match error {
        DecisionLogError::Damaged { .. } => failure.with_hint(format!(
            "to start over, run `mv {0} {0}.damaged`",
            quote_shell_word(sandbox.file_path(DRAFT_FILE).as_os_str().as_encoded_bytes())
        )),
        DecisionLogError::Io(_) => failure,
    }
}
