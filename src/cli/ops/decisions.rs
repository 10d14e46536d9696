//! `airlock review --export` and `--import`: decisions as a file.

use std::io::{self, Read};
use std::path::Path;

use super::decided::update_decided;
use super::draft::{draft_error, load_draft, open_draft, open_model};
use crate::changes::Changeset;
use crate::cli::error::CliError;
use crate::cli::json::render_json;
use crate::cli::new_file::write_new_file;
use crate::cli::output::{Output, format_count, print_stdout};
use crate::cli::shell_word::quote_shell_word;
use crate::git::HostRepo;
use crate::review::{DecisionFile, DecisionFileError, Decisions, Event, ReviewModel};
use crate::sandbox::Sandbox;

/// Writes the decisions to a file.
pub(crate) fn export_decisions(
    sandbox: &Sandbox,
    changes: &Changeset,
    (file, force): (&Path, bool),
    output: Output,
) -> Result<u8, CliError> {
    let model = open_model(sandbox, changes)?;
    let decisions = load_draft(sandbox, &model)?.decisions;
    let name = sandbox.record.name.as_str();
    let all = DecisionFile::from_decisions(&model, &decisions, name, &changes.id)?;
    let text = render_json(&serde_json::to_value(&all).map_err(io::Error::from)?);
    if file.as_os_str() == "-" {
        print_stdout(&text)?;
        return Ok(0);
    }
    write_new_file(file, text.as_bytes(), force)?;
    let word = quote_shell_word(file.as_os_str().as_encoded_bytes());
    output
        .print_status(&format!("wrote the decisions on {name} to {word}. Next: airlock review {name} --import {word}"));
    Ok(0)
}

/// Reads a decision file, and returns the events that change the current decisions accordingly.
pub(crate) fn read_decision_file(
    model: &ReviewModel<'_>,
    so_far: &Decisions,
    file: &Path,
    allow_risky: bool,
) -> Result<Vec<Event>, CliError> {
    let mut bytes = Vec::new();
    let most = MAX_FILE_BYTES + 1;
    let read = if file.as_os_str() == "-" {
        io::stdin().lock().take(most).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(most).read_to_end(&mut bytes))
    };
    let shown = file.display();
    read.map_err(|error| CliError::failed(format!("failed to read {shown}: {error}")))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(CliError::failed(format!("{shown} is larger than {MAX_FILE_BYTES} bytes")));
    }
    let parsed = DecisionFile::parse(&bytes).and_then(|all| all.to_events(model, so_far, allow_risky));
    parsed.map_err(|error| {
        let message = format!("{shown}: {error}");
        decision_error(error, &message, "no decisions were read", "review it, then add `--allow-risky`")
    })
}

/// Returns the error of decisions that were refused. `consequence` follows the message, and `remedy` is the hint for a change of
/// high risk.
pub(crate) fn decision_error(error: DecisionFileError, message: &str, consequence: &str, remedy: &str) -> CliError {
    let message = format!("{message}; {consequence}");
    match error {
        DecisionFileError::Stale { current, .. } => {
            let more = current.len().saturating_sub(MAX_LISTED_IDS);
            let rest = (more > 0).then(|| format!("and {more} more"));
            CliError::stale(message)
                .with_details(current.into_iter().take(MAX_LISTED_IDS).chain(rest))
                .with_hint("the current IDs are listed above; to print all of them, run `airlock review --export -`")
        }
        DecisionFileError::Risky(_) => CliError::failed(message).with_hint(remedy),
        _ => CliError::failed(message),
    }
}

/// Maximum size of a decision file, in bytes.
const MAX_FILE_BYTES: u64 = 256 << 20;
/// Maximum number of ids listed after a stale one.
const MAX_LISTED_IDS: usize = 40;

/// Reads decisions from a file, and saves them.
pub(crate) fn import_decisions(
    host: &HostRepo,
    sandbox: &mut Sandbox,
    changes: &Changeset,
    (file, allow_risky): (&Path, bool),
    output: Output,
) -> Result<u8, CliError> {
    let model = open_model(sandbox, changes)?;
    let (mut draft, before) = open_draft(sandbox, &model)?;
    let events = read_decision_file(&model, &before.decisions, file, allow_risky)?;
    draft.append_events(&events).and_then(|()| draft.sync_and_close()).map_err(|error| draft_error(&error, sandbox))?;
    let state = load_draft(sandbox, &model)?;
    update_decided(host, sandbox, &model, &state)?;
    let units = || model.files.iter().flat_map(|f| &f.units);
    let decided = units().filter(|u| state.decisions.is_decided(u)).count();
    let name = &sandbox.record.name;
    output.print_status(&format!(
        "{decided} of {} decided. Next: airlock apply {name}, or airlock review {name}",
        format_count(units().count(), "hunk")
    ));
    Ok(0)
}
