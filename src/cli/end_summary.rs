//! What is said once an agent has ended, and what happens then.

use super::confirm::confirm;
use super::diff::hidden;
use super::error::CliError;
use super::output::{Output, count, eprint, shell_word};
use super::review;
use crate::changes::{Ignored, Severity};
use crate::config::ReviewMode;
use crate::escape::Escaped;
use crate::gateway::ModelProxy;
use crate::review::ReviewModel;
use crate::sandbox::lifecycle::Finished;
use crate::sandbox::{Record, terminal};
use crate::snapshot::HostRepo;

/// Prints the limits that were hit, the dropped control sequences, and the refused requests.
pub fn say_ended(finished: &Finished, route: Option<&ModelProxy>, output: Output) {
    if let Some(error) = &finished.unsealed {
        output.say(&format!("the base could not be kept for later starts: {}", Escaped::new(&error.to_string())));
    }
    // However quiet: without this the exit status is a riddle.
    for met in &finished.limits_hit {
        eprint(&format!("airlock: {met}\n"));
    }
    if !finished.dropped.is_empty() {
        let kinds: Vec<String> = (finished.dropped.iter())
            .map(|(kind, n)| if *n == 1 { (*kind).to_owned() } else { format!("{kind}, {n} times") })
            .collect();
        output.say(&format!("kept from your terminal: {}", kinds.join("; ")));
    }
    say_route(route, output);
}

fn say_route(route: Option<&ModelProxy>, output: Output) {
    let Some(report) = route.map(ModelProxy::report) else { return };
    for (what, n) in &report.failures {
        output.say(&format!("{} ({n} times)", Escaped::new(what)));
    }
    if !report.refused.is_empty() {
        let list: Vec<String> = report.refused.iter().take(3).map(|(what, _)| Escaped::new(what).to_string()).collect();
        let all: u64 = report.refused.values().sum();
        output.say(&format!("the gateway refused {all} requests, such as {}", list.join(", ")));
    }
}

/// Ignored paths that are named.
const NAMED: usize = 3;

/// Returns the command that gets ignored files out of a sandbox, for a person to look at before they unpack it.
pub fn way_to_get(name: &str, ignored: &Ignored) -> Option<String> {
    let first = ignored.first.first()?;
    let word = shell_word(first.path.as_bytes());
    Some(format!("to get them: airlock resume {name} --review never -- tar c -- {word} > {name}.tar"))
}

/// Lists what a sandbox holds that is in none of its changes; nothing where there is nothing that a person could miss. A
/// conversation counts where the model has answered in it.
pub fn holdings(record: &Record, ignored: &Ignored, has_talked: bool) -> Option<String> {
    let mut all: Vec<String> = record.holds.iter().map(|text| Escaped::new(text).to_string()).collect();
    let names: Vec<String> = (ignored.first.iter().take(NAMED))
        .map(|i| format!("{}{}", Escaped::new(i.path.as_bytes()), if i.is_directory { "/" } else { "" }))
        .collect();
    if !names.is_empty() {
        let more = if ignored.count > names.len() { ", …" } else { "" };
        all.push(format!("ignored new files ({}{more})", names.join(", ")));
    }
    if has_talked && record.conversation.is_some() {
        all.push("a conversation".to_owned());
    }
    (!all.is_empty()).then(|| all.join(", "))
}

/// Prints the summary of the changes.
pub fn summary(finished: &Finished, output: Output) -> Result<(), CliError> {
    let changes = &finished.changes;
    let sheet = ReviewModel::open(changes, &finished.sandbox.quarantine()?)?;
    let (added, removed) = sheet.line_counts();
    let mut text = format!(
        "{} changed {}, +{added} −{removed}",
        finished.sandbox.record.name,
        count(changes.files.len(), "file"),
    );
    let risky: Vec<String> = (changes.files.iter())
        .filter(|f| f.severity() == Some(Severity::High))
        .map(|f| Escaped::new(f.path.as_bytes()).to_string())
        .collect();
    if !risky.is_empty() {
        let need = if risky.len() == 1 { "needs" } else { "need" };
        let more = if risky.len() > 3 { ", …" } else { "" };
        text += &format!(" · {} {need} a closer look: {}{more}", risky.len(), risky[..risky.len().min(3)].join(", "));
    }
    let refused =
        changes.refused.len() + changes.files.iter().filter(|f| f.severity() == Some(Severity::Refused)).count();
    if refused > 0 {
        text += &format!(" · {refused} cannot be accepted");
    }
    output.say(&text);
    if let Some(holds) = holdings(&finished.sandbox.record, &changes.ignored, false) {
        let name = finished.sandbox.record.name.as_str();
        output.say(&format!(
            "it also holds {holds}, which no apply brings; the sandbox keeps it until airlock rm {name}"
        ));
        if let Some(way) = way_to_get(name, &changes.ignored) {
            output.say(&way);
        }
    }
    if !changes.ignored_by_agent_rules.is_empty() {
        output.say(&hidden(changes));
    }
    Ok(())
}

/// Reviews, or asks whether to; else says how.
pub fn offer_review(host: &HostRepo, finished: Finished, mode: ReviewMode, output: Output) -> Result<(), CliError> {
    let name = finished.sandbox.record.name.clone();
    let is_asked = terminal::is_interactive() && mode != ReviewMode::Never;
    let now = is_asked
        && terminal::wait_until_settled()?
        && match mode {
            ReviewMode::Never => false,
            ReviewMode::Always => true,
            ReviewMode::Ask => confirm("Review now?", true)?,
        };
    if now {
        // The exit status stays the agent's.
        review::interact(host, finished.sandbox, &finished.changes, false, output).map(drop)
    } else {
        // Said however quiet: without the name nobody finds it.
        eprint(&format!("airlock: kept. Next: airlock review {name}\n"));
        Ok(())
    }
}
