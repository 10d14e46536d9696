//! `airlock rm`: removes sandboxes.

use std::collections::{BTreeMap, BTreeSet};

use std::collections::btree_map::Entry;

use crate::changes::{Severity, UnitSelection};
use crate::cli::confirm::ask_yes_no;
use crate::cli::error::CliError;
use crate::cli::ops::draft::{DRAFT_FILE, join_renames};
use crate::cli::ops::engine::connect_engine_of;
use crate::cli::ops::holdings::describe_holdings;
use crate::cli::ops::repo::{Repo, create_runtime};
use crate::cli::output::{Output, format_count};
use crate::review::{Decision, UnitDecision, read_draft};
use crate::sandbox::{Sandbox, SandboxState, lifecycle};
use crate::terminal;

/// Returns whether a review has comments, or accepted changes that were not applied. A draft that cannot be read counts as
/// one with such decisions.
fn has_open_decisions(sandbox: &Sandbox) -> bool {
    let draft = read_draft(&sandbox.file_path(DRAFT_FILE));
    let Ok(decisions) = draft.map(|state| state.decisions) else { return true };
    let applied = sandbox.read_applied().unwrap_or_default();
    let applied_units: BTreeMap<&str, &UnitSelection> =
        applied.paths.values().flat_map(|applied_path| applied_path.selection.iter()).collect();
    let is_open = |(id, unit_decision): (&str, &UnitDecision)| {
        let lines = unit_decision.matching_lines(|decision| decision == Some(Decision::Accepted));
        match (unit_decision, applied_units.get(id).copied()) {
            (UnitDecision::All(Decision::Rejected), _) | (UnitDecision::All(_), Some(UnitSelection::All)) => false,
            (UnitDecision::Edited(text), Some(UnitSelection::Text(there))) => text != there,
            (UnitDecision::Lines(_), Some(UnitSelection::All)) => false,
            (UnitDecision::Lines(_), Some(UnitSelection::Lines(there))) => !lines.difference(there).is_empty(),
            (UnitDecision::Lines(_), None) => !lines.is_empty(),
            _ => true,
        }
    };
    decisions.all_comments().next().is_some() || decisions.unit_decisions().any(is_open)
}

/// Returns a warning about content that would be lost with a sandbox and is in none of its changes.
fn describe_losses(sandbox: &Sandbox) -> Option<String> {
    let name = &sandbox.record.name;
    if sandbox.is_busy() {
        // The removal of a sandbox in use fails.
        return None;
    }
    if sandbox.record.state == SandboxState::Running {
        return Some(format!("{name} was interrupted, and its changes were not collected"));
    }
    let ignored = sandbox.read_changeset().ok().flatten().map(|changes| changes.ignored).unwrap_or_default();
    describe_holdings(&sandbox.record, &ignored, false).map(|holds| format!("{name} contains {holds}"))
}

/// Returns a warning about changes that no review has decided.
fn describe_undecided(sandbox: &Sandbox) -> Option<String> {
    let record = &sandbox.record;
    if sandbox.is_busy() || record.decided_at.is_some() {
        return None;
    }
    let name = &record.name;
    let Ok(changes) = sandbox.read_changeset() else {
        return Some(format!("the changes of {name} cannot be read"));
    };
    let changes = changes?;
    let progress = record.progress.as_ref().filter(|progress| progress.changeset == changes.id);
    let (uncollected, changes) = (changes.uncollected.len(), join_renames(sandbox, changes));
    let (refused, undecided): (Vec<_>, Vec<_>) =
        changes.files.iter().partition(|file| file.max_severity() == Some(Severity::Refused));
    let counts = [
        match progress {
            Some(progress) => (progress.hunks - progress.decided, "undecided hunk", ""),
            None => (undecided.len(), "undecided file", ""),
        },
        (refused.len(), "file", " that cannot be accepted"),
        (uncollected, "path", " that was not collected"),
    ];
    let parts = counts.into_iter().filter(|(count, ..)| *count > 0);
    let parts: Vec<String> = parts.map(|(count, noun, more)| format_count(count, noun) + more).collect();
    (!parts.is_empty()).then(|| format!("{name} has {}", parts.join(", ")))
}

pub(crate) fn run_rm(names: &[String], force: bool, output: Output) -> Result<u8, CliError> {
    let repo = Repo::open(output)?;
    // All names are looked up before the first sandbox is removed.
    let distinct: BTreeSet<&String> = names.iter().collect();
    let sandboxes = distinct.into_iter().map(|name| repo.open_sandbox(Some(name), "rm")).collect::<Result<Vec<_>, _>>();
    let sandboxes = sandboxes.map_err(|failure| match names.len() {
        1 => failure,
        _ => failure.with_details(["nothing was removed".to_owned()]),
    })?;
    let with_decisions: Vec<_> =
        sandboxes.iter().filter(|s| has_open_decisions(s)).map(|s| s.record.name.to_string()).collect();
    let losses = sandboxes.iter().flat_map(|sandbox| [describe_undecided(sandbox), describe_losses(sandbox)]);
    let losses: Vec<String> = losses.flatten().collect();
    let asks = !force && terminal::is_interactive();
    if asks && !losses.is_empty() && !ask_yes_no(&format!("{}. Remove it anyway?", losses.join("; ")), false)? {
        output.print_status("nothing was removed");
        return Ok(0);
    }
    if asks && !with_decisions.is_empty() {
        let list = with_decisions.join(", ");
        let question =
            format!("The review of {list} has decisions or comments that were not applied. Remove it anyway?");
        if !ask_yes_no(&question, false)? {
            output.print_status("nothing was removed");
            return Ok(0);
        }
    }
    create_runtime()?.block_on(async {
        let mut engines = BTreeMap::new();
        for sandbox in sandboxes {
            let name = sandbox.record.name.clone();
            let engine = match engines.entry(sandbox.record.engine.clone()) {
                Entry::Occupied(connected) => connected.into_mut(),
                Entry::Vacant(free) => match connect_engine_of(&sandbox.record).await {
                    Ok(engine) => free.insert(engine),
                    // An engine that no longer exists must not keep the sandbox for ever.
                    Err(error) if force && sandbox.record.engine.is_some() => {
                        output.print_status(&format!(
                            "{}; removed {name} here, and its containers and volumes are left on that engine",
                            error.escaped_message()
                        ));
                        sandbox.remove()?;
                        continue;
                    }
                    Err(error) => return Err(error),
                },
            };
            lifecycle::remove_sandbox(engine, sandbox, true).await?;
            output.print_status(&format!("removed {name}"));
        }
        Ok(0)
    })
}
