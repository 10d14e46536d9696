//! `airlock rm`: removes sandboxes.

use std::collections::BTreeSet;

use crate::changes::UnitSelection;
use crate::cli::confirm::confirm;
use crate::cli::error::CliError;
use crate::cli::ops::draft::DRAFT;
use crate::cli::ops::holdings::holdings;
use crate::cli::ops::repo::{Repo, runtime};
use crate::cli::output::Output;
use crate::engine::Docker;
use crate::review::{Decision, UnitDecision, read_draft};
use crate::sandbox::{Sandbox, State, lifecycle};
use crate::terminal;

/// Returns whether a review has comments, or accepted changes that were not applied. A draft that cannot be read counts as
/// one with such decisions.
fn has_decisions(sandbox: &Sandbox) -> bool {
    let draft = read_draft(&sandbox.path(DRAFT));
    let Ok(decisions) = draft.map(|state| state.decisions) else { return true };
    let applied = sandbox.applied().unwrap_or_default();
    let brought = |id: &str| applied.paths.values().find_map(|brought| brought.picks.get(id));
    let is_open = |(id, ruling): (&str, &UnitDecision)| {
        let lines = ruling.lines(|decision| decision == Some(Decision::Accepted));
        match (ruling, brought(id)) {
            (UnitDecision::All(Decision::Rejected), _) | (UnitDecision::All(_), Some(UnitSelection::All)) => false,
            (UnitDecision::Edited(text), Some(UnitSelection::Text(there))) => text != there,
            (UnitDecision::Lines(_), Some(UnitSelection::All)) => false,
            (UnitDecision::Lines(_), Some(UnitSelection::Lines(there))) => !lines.difference(there).is_empty(),
            (UnitDecision::Lines(_), None) => !lines.is_empty(),
            _ => true,
        }
    };
    decisions.comments().next().is_some() || decisions.unit_decisions().any(is_open)
}

/// Returns a warning about content that would be lost with a sandbox and is in none of its changes.
fn held(sandbox: &Sandbox) -> Option<String> {
    let name = &sandbox.record.name;
    if sandbox.is_busy() {
        // The removal of a sandbox in use fails.
        return None;
    }
    if sandbox.record.state == State::Running {
        return Some(format!("{name} was interrupted, and what its agent did was not looked at"));
    }
    let ignored = sandbox.changeset().ok().flatten().map(|changes| changes.ignored).unwrap_or_default();
    holdings(&sandbox.record, &ignored, false).map(|holds| format!("{name} holds {holds}"))
}

pub fn rm(names: &[String], force: bool, output: Output) -> Result<u8, CliError> {
    let repo = Repo::open(output)?;
    // All names are looked up before the first sandbox is removed.
    let distinct: BTreeSet<&String> = names.iter().collect();
    let sandboxes = distinct.into_iter().map(|name| repo.sandbox(Some(name), "rm")).collect::<Result<Vec<_>, _>>();
    let sandboxes = sandboxes.map_err(|failure| match names.len() {
        1 => failure,
        _ => failure.details(["nothing was removed".to_owned()]),
    })?;
    let asked: Vec<_> = sandboxes.iter().filter(|s| has_decisions(s)).map(|s| s.record.name.to_string()).collect();
    let holding: Vec<String> = sandboxes.iter().filter_map(held).collect();
    let asks = !force && terminal::is_interactive();
    if asks && !holding.is_empty() && !confirm(&format!("{}. Remove it anyway?", holding.join("; ")), false)? {
        output.say("nothing was removed");
        return Ok(0);
    }
    if asks && !asked.is_empty() {
        let of = asked.join(", ");
        let question =
            format!("Decisions and comments of the review of {of} go with it, and were not applied. Remove it?");
        if !confirm(&question, false)? {
            output.say("nothing was removed");
            return Ok(0);
        }
    }
    runtime()?.block_on(async {
        let engine = Docker::connect().await?;
        for sandbox in sandboxes {
            let name = sandbox.record.name.clone();
            lifecycle::remove(&engine, sandbox, true).await?;
            output.say(&format!("removed {name}"));
        }
        Ok(0)
    })
}
