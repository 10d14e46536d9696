//! Messages after an agent has ended.

use super::holdings::{hidden, holdings, way_to_get};
use crate::changes::Severity;
use crate::cli::error::CliError;
use crate::cli::output::{Output, count, eprint};
use crate::core::escape::Escaped;
use crate::gateway::ModelProxy;
use crate::review::ReviewModel;
use crate::sandbox::Finished;

/// Prints the limits that were hit, the dropped control sequences and the refused requests.
pub fn say_ended(finished: &Finished, route: Option<&ModelProxy>, output: Output) {
    if let Some(error) = &finished.unsealed {
        output.say(&format!("the base could not be kept for later starts: {}", Escaped::new(&error.to_string())));
    }
    // Printed even with `--quiet`, because the exit status is not clear without it.
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
