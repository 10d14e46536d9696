//! The draft of a review in a sandbox's folder, and what becomes of it when another round has come.

use crate::cli::error::{CliError, FAILED};
use crate::review::{DecisionLog, DecisionLogError, ReviewModel, ReviewState, newly_risky, read_draft};
use crate::sandbox::Sandbox;

/// Where it is kept.
pub const DRAFT: &str = "draft.jsonl";

/// Reads the draft of a review of a sandbox's changes.
pub fn load(sandbox: &Sandbox, sheet: &ReviewModel<'_>) -> Result<ReviewState, CliError> {
    let mut state = read_draft(&sandbox.path(DRAFT)).map_err(|error| failure(&error, sandbox))?;
    go_over(&mut state, sandbox, sheet)?;
    Ok(state)
}

/// Opens it to be written to.
pub fn open(sandbox: &Sandbox, sheet: &ReviewModel<'_>) -> Result<(DecisionLog, ReviewState), CliError> {
    let (mut draft, mut state) = DecisionLog::open(&sandbox.path(DRAFT)).map_err(|error| failure(&error, sandbox))?;
    go_over(&mut state, sandbox, sheet)?;
    draft.keep(&state.take_events()).map_err(|error| failure(&error, sandbox))?;
    Ok((draft, state))
}

/// Goes over to the changes of another round, if these are: a yes from before a file became one of high risk counts no more.
fn go_over(state: &mut ReviewState, sandbox: &Sandbox, sheet: &ReviewModel<'_>) -> Result<(), CliError> {
    let Some(last) = state.rounds().last().filter(|last| **last != *sheet.changeset) else {
        if state.rounds().is_empty() {
            state.begin_round(sheet.changeset);
        }
        return Ok(());
    };
    // Where that round cannot be read any more, every one of high risk may be such a file.
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
