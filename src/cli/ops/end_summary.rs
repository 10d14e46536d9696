//! Messages after an agent has ended.

use std::collections::BTreeMap;

use super::draft::{join_renames, open_model};
use super::holdings::{bring_hints, describe_holdings, hidden_files_message};
use super::network::{cache_limit, find_cache};
use super::sending::resume_command;
use crate::changes::Severity;
use crate::cli::error::CliError;
use crate::cli::output::{Output, format_count, print_stderr};
use crate::config::Settings;
use crate::core::escape::Escaped;
use crate::gateway::TokenUsage;
use crate::sandbox::{NetworkUsage, RunResult};
use crate::terminal;

/// Reduces the package cache if a run has filled it.
pub(crate) fn trim_cache(finished: &RunResult, settings: &Settings, output: Output) -> Result<(), CliError> {
    let has_packages = finished
        .report
        .network
        .as_ref()
        .is_some_and(|network| network.requests.routes.keys().any(|route| route != "model"));
    if has_packages
        && let Some(cache) = find_cache()?
        && let Err(error) = cache.evict_oldest(cache_limit(settings)?)
    {
        output.print_status(&format!("failed to reduce the package cache: {error}"));
    }
    Ok(())
}

/// Prints the limits that were hit, the dropped control sequences and the refused requests.
pub(crate) fn print_run_notes(finished: &RunResult, is_removed: bool, output: Output) {
    let report = &finished.report;
    for note in &report.notes {
        output.print_status(note);
    }
    if let Some(error) = &report.seal_error {
        output.print_status(&format!("failed to keep the base for later starts: {error}"));
    }
    // Printed even with `--quiet`, because the exit status is not clear without it.
    for limit in &report.limits_hit {
        print_stderr(&format!("airlock: {limit}\n"));
    }
    if !report.dropped.is_empty() {
        let kinds: Vec<String> = (report.dropped.iter())
            .map(|(kind, n)| if *n == 1 { kind.clone() } else { format!("{kind}, {n} times") })
            .collect();
        output.print_status(&format!("blocked in the terminal output: {}", kinds.join("; ")));
    }
    print_network(finished, is_removed, output);
}

/// Prints the failures of the network, and one line with its counts and the command that allows what was denied.
fn print_network(finished: &RunResult, is_removed: bool, output: Output) {
    let Some(NetworkUsage { requests, model }) = &finished.report.network else { return };
    for (what, n) in &requests.failures {
        output.print_status(&format!("{} ({n} times)", Escaped::new(what)));
    }
    let name = &finished.sandbox.record.name;
    let mut parts: Vec<String> = Vec::new();
    for (route, (count, cached)) in &requests.routes {
        let cached = if *cached > 0 { format!(" ({cached} cached)") } else { String::new() };
        let hosts = if route == "proxy" { format_hosts(&requests.proxied) } else { String::new() };
        parts.push(format!("{route} {count}{cached}{hosts}"));
    }
    if model.tokens != TokenUsage::default() {
        let tokens = model.tokens;
        let input = tokens.input + tokens.cache_writes + tokens.cache_reads;
        parts.push(format!("tokens: {input} in, {} out", tokens.output));
    }
    if let Some((first, _)) = requests.allowable.first_key_value() {
        // A sandbox that is removed cannot be changed. The next one can.
        let command = if is_removed { "--allow".to_owned() } else { format!("airlock allow {name}") };
        let hosts = requests.allowable.iter().take(3).map(|(host, n)| format!("{} {n}", Escaped::new(host)));
        let hosts = hosts.collect::<Vec<_>>().join(", ");
        let more = if requests.allowable.len() > 3 { ", …" } else { "" };
        parts.push(format!("denied: {hosts}{more} (allow with: {command} {})", Escaped::new(first)));
    }
    let refused = requests.denied.values().sum::<u64>();
    if refused > 0 {
        let count = format_count(usize::try_from(refused).unwrap_or(usize::MAX), "request");
        let first = requests.denied.first_key_value().map_or("", |(what, _)| what);
        parts.push(format!("refused: {count}, such as {}", Escaped::new(first)));
    }
    // A run that only used the model says only its tokens.
    if finished.report.network.as_ref().is_some_and(NetworkUsage::is_notable) || model.tokens != TokenUsage::default() {
        output.print_status(&format!("network: {}", parts.join(" · ")));
    }
    if requests.dropped > 0 {
        output.print_status(&format!("the log of the network is full; it lacks {} requests", requests.dropped));
    }
}

/// Formats the number of hosts behind the proxy, with the first of them.
fn format_hosts(hosts: &BTreeMap<String, u64>) -> String {
    match hosts.first_key_value() {
        Some((only, _)) if hosts.len() == 1 => format!(" ({})", Escaped::new(only)),
        Some((first, _)) => format!(" ({}, such as {})", format_count(hosts.len(), "host"), Escaped::new(first)),
        None => String::new(),
    }
}

/// Returns the first of some names.
fn first_names(names: &[String]) -> String {
    let more = if names.len() > 3 { ", …" } else { "" };
    format!("{}{more}", names[..names.len().min(3)].join(", "))
}

/// Prints the summary of the changes.
pub(crate) fn print_summary(finished: &RunResult, output: Output) -> Result<(), CliError> {
    let changes = &join_renames(&finished.sandbox, finished.changes.clone());
    let model = open_model(&finished.sandbox, changes)?;
    let (added, removed) = model.line_counts();
    let mut text = format!(
        "{} changed {}, +{added} −{removed}",
        finished.sandbox.record.name,
        format_count(changes.files.len(), "file"),
    );
    let paths = |level| {
        let files = changes.files.iter().filter(move |f| f.max_severity() == Some(level));
        files.map(|f| Escaped::new(f.path.as_bytes()).to_string()).collect::<Vec<_>>()
    };
    let (risky, refused) = (paths(Severity::High), paths(Severity::Refused));
    if !risky.is_empty() {
        text += &format!(" · {}: {}", format_count(risky.len(), "high-risk file"), first_names(&risky));
    }
    if !refused.is_empty() {
        text += &format!(" · {} cannot be accepted: {}", refused.len(), first_names(&refused));
    }
    if !changes.uncollected.is_empty() {
        let names: Vec<String> =
            changes.uncollected.iter().map(|entry| Escaped::new(&entry.path).to_string()).collect();
        text += &format!(" · {} not collected: {}", names.len(), first_names(&names));
    }
    output.print_status(&text);
    // The review shows the commits of the workspace's branch with the changes.
    let mut record = finished.sandbox.record.clone();
    if let (false, Some(branch)) = (changes.is_empty(), &record.branch) {
        let commits = format!("commits on {branch}");
        record.other_contents.retain(|text| *text != commits);
    }
    if let Some(holds) = describe_holdings(&record, &changes.ignored, false) {
        let name = finished.sandbox.record.name.as_str();
        output.print_status(&format!("{name} also contains {holds}, kept until `airlock rm {name}`"));
        for hint in bring_hints(&finished.sandbox.record, &changes.ignored) {
            output.print_status(&hint);
        }
    }
    if !changes.ignored_by_agent_rules.is_empty() {
        output.print_status(&hidden_files_message(changes));
    }
    // Claude Code names its own command, which would continue outside.
    if finished.sandbox.record.conversation.is_some() && terminal::is_interactive() {
        output.print_status(&format!("to continue this conversation: {}", resume_command(&finished.sandbox.record)));
    }
    Ok(())
}
