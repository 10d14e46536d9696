//! `airlock review --export` and `--import`: decisions as a file.

use std::io::{self, Read};
use std::path::Path;

use super::draft::{failure, load, open};
use crate::changes::Changeset;
use crate::cli::error::{CliError, FAILED, STALE};
use crate::cli::json::render;
use crate::cli::new_file::write_new;
use crate::cli::output::{Output, count, print, shell_word};
use crate::review::{DecisionFile, DecisionFileError, Decisions, Event, ReviewModel};
use crate::sandbox::Sandbox;

/// Writes the decisions to a file.
pub fn export(sandbox: &Sandbox, changes: &Changeset, file: &Path, output: Output) -> Result<u8, CliError> {
    let sheet = ReviewModel::open(changes, &sandbox.quarantine()?)?;
    let decisions = load(sandbox, &sheet)?.decisions;
    let name = sandbox.record.name.as_str();
    let all = DecisionFile::of(&sheet, &decisions, name, &changes.id)?;
    let text = render(&serde_json::to_value(&all).map_err(io::Error::from)?);
    if file.as_os_str() == "-" {
        print(&text)?;
        return Ok(0);
    }
    write_new(file, text.as_bytes())?;
    let word = shell_word(file.as_os_str().as_encoded_bytes());
    output.say(&format!("the decisions on {name} are in {word}. Next: airlock review {name} --import {word}"));
    Ok(0)
}

/// Reads a decision file, and returns the events that change the current decisions accordingly.
pub fn decisions_from(
    sheet: &ReviewModel<'_>,
    so_far: &Decisions,
    file: &Path,
    allow_risky: bool,
) -> Result<Vec<Event>, CliError> {
    let mut bytes = Vec::new();
    let most = MOST_IMPORTED + 1;
    let read = if file.as_os_str() == "-" {
        io::stdin().lock().take(most).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(most).read_to_end(&mut bytes))
    };
    let shown = file.display();
    read.map_err(|error| CliError::new(FAILED, format!("failed to read {shown}: {error}")))?;
    if bytes.len() as u64 > MOST_IMPORTED {
        return Err(CliError::new(FAILED, format!("{shown} has more than {MOST_IMPORTED} bytes")));
    }
    let parsed = DecisionFile::parse(&bytes).and_then(|all| all.events(sheet, so_far, allow_risky));
    parsed.map_err(|error| {
        let exit = if matches!(error, DecisionFileError::Stale { .. }) { STALE } else { FAILED };
        let failure = CliError::new(exit, format!("{shown}: {error}; nothing of it was taken"));
        match error {
            DecisionFileError::Stale { current, .. } => {
                let more = current.len().saturating_sub(MOST_LISTED);
                let rest = (more > 0).then(|| format!("and {more} more"));
                failure
                    .details(current.into_iter().take(MOST_LISTED).chain(rest))
                    .hint("these are the current ones; airlock review --export - gives all of them")
            }
            DecisionFileError::Risky(_) => failure.hint("look at it, then add --allow-risky"),
            _ => failure,
        }
    })
}

/// Maximum size of a decision file, in bytes.
const MOST_IMPORTED: u64 = 256 << 20;
/// Maximum number of ids listed after a stale one.
const MOST_LISTED: usize = 40;

/// Reads decisions from a file, and saves them.
pub fn import(
    sandbox: &Sandbox,
    changes: &Changeset,
    file: &Path,
    allow_risky: bool,
    output: Output,
) -> Result<u8, CliError> {
    let sheet = ReviewModel::open(changes, &sandbox.quarantine()?)?;
    let (mut draft, state) = open(sandbox, &sheet)?;
    let events = decisions_from(&sheet, &state.decisions, file, allow_risky)?;
    draft.keep(&events).and_then(|()| draft.close()).map_err(|error| failure(&error, sandbox))?;
    let decisions = load(sandbox, &sheet)?.decisions;
    let units = || sheet.files.iter().flat_map(|f| &f.units);
    let decided = units().filter(|u| decisions.is_decided(u)).count();
    let name = &sandbox.record.name;
    output.say(&format!(
        "{} decided of {}. Next: airlock apply {name}, or airlock review {name}",
        count(decided, "hunk"),
        units().count()
    ));
    Ok(0)
}
