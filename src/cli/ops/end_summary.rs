//! Messages after an agent has ended.

use super::draft::join_renames;
use super::holdings::{describe_holdings, hidden_files_message, ignored_files_hint};
use crate::changes::Severity;
use crate::cli::error::CliError;
use crate::cli::output::{Output, format_count, print_stderr};
use crate::core::escape::Escaped;
use crate::gateway::ModelProxy;
use crate::review::ReviewModel;
use crate::sandbox::RunResult;

/// Prints the limits that were hit, the dropped control sequences and the refused requests.
pub(crate) fn print_run_notes(finished: &RunResult, route: Option<&ModelProxy>, output: Output) {
    if let Some(error) = &finished.seal_error {
        output.print_status(&format!("failed to keep the base for later starts: {}", Escaped::new(&error.to_string())));
    }
    // Printed even with `--quiet`, because the exit status is not clear without it.
    for limit in &finished.limits_hit {
        print_stderr(&format!("airlock: {limit}\n"));
    }
    if !finished.dropped.is_empty() {
        let kinds: Vec<String> = (finished.dropped.iter())
            .map(|(kind, n)| if *n == 1 { (*kind).to_owned() } else { format!("{kind}, {n} times") })
            .collect();
        output.print_status(&format!("blocked in the terminal output: {}", kinds.join("; ")));
    }
    print_route_stats(route, output);
}

fn print_route_stats(route: Option<&ModelProxy>, output: Output) {
    let Some(report) = route.map(ModelProxy::current_stats) else { return };
    for (what, n) in &report.failures {
        output.print_status(&format!("{} ({n} times)", Escaped::new(what)));
    }
    if !report.refused.is_empty() {
        let list: Vec<String> = report.refused.iter().take(3).map(|(what, _)| Escaped::new(what).to_string()).collect();
        let all: u64 = report.refused.values().sum();
        output.print_status(&format!(
            "the gateway refused {}, such as {}",
            format_count(usize::try_from(all).unwrap_or(usize::MAX), "request"),
            list.join(", ")
        ));
    }
}

/// Prints the summary of the changes.
pub(crate) fn print_summary(finished: &RunResult, output: Output) -> Result<(), CliError> {
    let changes = &join_renames(&finished.sandbox, finished.changes.clone());
    let model = ReviewModel::open(changes, &finished.sandbox.open_quarantine()?)?;
    let (added, removed) = model.line_counts();
    let mut text = format!(
        "{} changed {}, +{added} −{removed}",
        finished.sandbox.record.name,
        format_count(changes.files.len(), "file"),
    );
    let risky: Vec<String> = (changes.files.iter())
        .filter(|f| f.max_severity() == Some(Severity::High))
        .map(|f| Escaped::new(f.path.as_bytes()).to_string())
        .collect();
    if !risky.is_empty() {
        let more = if risky.len() > 3 { ", …" } else { "" };
        text += &format!(
            " · {}: {}{more}",
            format_count(risky.len(), "high-risk file"),
            risky[..risky.len().min(3)].join(", ")
        );
    }
    let refused = changes.files.iter().filter(|f| f.max_severity() == Some(Severity::Refused)).count();
    for (count, what) in [(refused, "cannot be accepted"), (changes.uncollected.len(), "not collected")] {
        if count > 0 {
            text += &format!(" · {count} {what}");
        }
    }
    output.print_status(&text);
    if let Some(holds) = describe_holdings(&finished.sandbox.record, &changes.ignored, false) {
        let name = finished.sandbox.record.name.as_str();
        output.print_status(&format!("{name} also contains {holds}: never applied, kept until `airlock rm {name}`"));
        if let Some(hint) = ignored_files_hint(name, &changes.ignored) {
            output.print_status(&hint);
        }
    }
    if !changes.ignored_by_agent_rules.is_empty() {
        output.print_status(&hidden_files_message(changes));
    }
    Ok(())
}
