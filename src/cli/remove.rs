//! `airlock rm`.

use std::collections::BTreeSet;

use super::failure::Failure;
use super::output::Output;
use super::repo::{Repo, runtime};
use super::review::{DRAFT, confirm};
use crate::engine::Docker;
use crate::review::{Decision, Ruling, read_draft};
use crate::sandbox::{Sandbox, lifecycle, terminal};

/// Tells whether a review has come to something that is in no working tree.
fn has_decisions(sandbox: &Sandbox) -> bool {
    let draft = read_draft(&sandbox.path(DRAFT));
    let Ok(decisions) = draft.map(|state| state.decisions) else { return true };
    let applied = sandbox.applied().unwrap_or_default();
    let is_applied = |id: &str| applied.paths.values().any(|brought| brought.picks.of(id).is_some());
    let is_open = |(id, ruling): (&str, &Ruling)| *ruling != Ruling::All(Decision::Rejected) && !is_applied(id);
    decisions.comments().next().is_some() || decisions.rulings().any(is_open)
}

pub fn remove(names: &[String], force: bool, output: Output) -> Result<u8, Failure> {
    let repo = Repo::here(output)?;
    // All names are looked up before the first is removed.
    let distinct: BTreeSet<&String> = names.iter().collect();
    let sandboxes = distinct.into_iter().map(|name| repo.sandbox(Some(name), "rm")).collect::<Result<Vec<_>, _>>();
    let sandboxes = sandboxes.map_err(|failure| match names.len() {
        1 => failure,
        _ => failure.details(["nothing was removed".to_owned()]),
    })?;
    let asked: Vec<_> = sandboxes.iter().filter(|s| has_decisions(s)).map(|s| s.record.name.to_string()).collect();
    if !force && !asked.is_empty() && terminal::is_interactive() {
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
