//! The draft of a review in a sandbox's directory, and its migration to another round.

use crate::cli::error::{CliError, FAILED};
use crate::review::{DecisionLog, DecisionLogError, ReviewModel, ReviewState, newly_risky, read_draft};
use crate::sandbox::Sandbox;

/// The name of the draft's file.
pub const DRAFT: &str = "draft.jsonl";

/// Reads the draft of a review of a sandbox's changes.
pub fn load(sandbox: &Sandbox, sheet: &ReviewModel<'_>) -> Result<ReviewState, CliError> {
    let mut state = read_draft(&sandbox.path(DRAFT)).map_err(|error| failure(&error, sandbox))?;
    go_over(&mut state, sandbox, sheet)?;
    Ok(state)
}

/// Opens the draft for writing.
pub fn open(sandbox: &Sandbox, sheet: &ReviewModel<'_>) -> Result<(DecisionLog, ReviewState), CliError> {
    let (mut draft, mut state) = DecisionLog::open(&sandbox.path(DRAFT)).map_err(|error| failure(&error, sandbox))?;
    go_over(&mut state, sandbox, sheet)?;
    draft.keep(&state.take_events()).map_err(|error| failure(&error, sandbox))?;
    Ok((draft, state))
}

/// Migrates a draft to the changes of another round, if these are. A file that became high-risk has to be accepted again.
fn go_over(state: &mut ReviewState, sandbox: &Sandbox, sheet: &ReviewModel<'_>) -> Result<(), CliError> {
    let Some(last) = state.rounds().last().filter(|last| **last != *sheet.changeset) else {
        if state.rounds().is_empty() {
            state.begin_round(sheet.changeset);
        }
        return Ok(());
    };
    // If the last round can no longer be read, any high-risk file may have become one since.
    let before = sandbox.rounds()?.into_iter().find(|round| round.id == *last);
    let risen = before.map(|before| newly_risky(sheet, &before));
    let is_risen = |path| risen.as_ref().is_none_or(|risen| risen.contains(path));
    let files = sheet.files.iter().filter(|f| f.is_risky() && is_risen(&f.change.path));
    state.forget_accepted(files.flat_map(|f| &f.units));
    state.begin_round(sheet.changeset);
    Ok(())
}

pub fn failure(error: &DecisionLogError, sandbox: &Sandbox) -> CliError {
    let failure = CliError::new(FAILED, error.to_string());
    match error {
        DecisionLogError::Damaged { .. } => {
            failure.hint(format!("to start over, move it away: mv {0} {0}.damaged", sandbox.path(DRAFT).display()))
        }
        DecisionLogError::Io(_) => failure,
    }
}
