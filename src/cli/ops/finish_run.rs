//! Finishes a run at the terminal: messages, removal of a sandbox without work, and the offer of a review.

use clap::ValueEnum as _;

use super::end_summary::{print_run_notes, print_summary, trim_cache};
use super::holdings::{bring_hints, describe_holdings};
use super::offer_review::is_review_wanted;
use super::repo::create_runtime;
use super::round::Round;
use super::sending::resume_command;
use super::settings::load_settings;
use crate::cli::error::{CliError, FAILED};
use crate::cli::ops::engine::connect_engine_of;
use crate::cli::output::{Output, print_stderr};
use crate::config::{KeepMode, ReviewMode};
use crate::sandbox::{NetworkUsage, RunResult, lifecycle};

/// The options for the end of a run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FinishOptions {
    /// Whether to keep a sandbox without work.
    pub keep: bool,
    /// The review that was asked for on the command line.
    pub review: Option<ReviewMode>,
    /// Whether the agent was sent feedback. The review then starts without a question.
    pub is_after_feedback: bool,
}

/// Finishes a run. Returns the agent's exit status, and the review that the user wants.
pub(crate) fn finish_run(
    finished: RunResult,
    options: FinishOptions,
    output: Output,
) -> Result<(u8, Option<Round>), CliError> {
    let settings = load_settings()?;
    let report = &finished.report;
    let status = u8::try_from(report.exit).unwrap_or(FAILED);
    let has_no_changes = finished.changes.is_empty();
    // A conversation in which the model answered counts for a new sandbox. A resumed one is kept in any case.
    let has_talked = report.is_first && report.network.as_ref().is_some_and(|network| network.model.answered > 0);
    let keep = settings.keep.unwrap_or_default();
    let holds = describe_holdings(&finished.sandbox.record, &finished.changes.ignored, has_talked);
    let is_kept = !has_no_changes || !report.is_first || options.keep || report.keep || keep == KeepMode::Always;
    let is_removed = !is_kept && (holds.is_none() || keep == KeepMode::Changed);
    print_run_notes(&finished, is_removed, output);
    trim_cache(&finished, &settings, output)?;
    if is_removed {
        remove_unchanged(finished, output)?;
        return Ok((status, None));
    }
    if has_no_changes {
        print_kept(finished, holds, output)?;
        return Ok((status, None));
    }
    print_summary(&finished, output)?;
    if !report.is_first && finished.sandbox.record.decided_at.is_some() {
        let (name, resume) = (&finished.sandbox.record.name, resume_command(&finished.sandbox.record));
        output.print_status(&format!("nothing is new since you decided. Next: {resume}, or airlock rm {name}"));
        return Ok((status, None));
    }
    let asked = report.review.as_deref().and_then(|name| ReviewMode::from_str(name, false).ok());
    let mode = options.review.or(asked).or(settings.review).unwrap_or_default();
    let mode = if options.is_after_feedback && mode == ReviewMode::Ask { ReviewMode::Always } else { mode };
    let review =
        is_review_wanted(&finished.sandbox, mode)?.then_some(Round::Review { sandbox: finished.sandbox, plain: false });
    Ok((status, review))
}

/// Removes a new sandbox that contains nothing.
fn remove_unchanged(finished: RunResult, output: Output) -> Result<(), CliError> {
    let RunResult { sandbox, report, .. } = finished;
    output.print_status(&format!("{} changed nothing, so it is removed", sandbox.record.name));
    if report.network.as_ref().is_some_and(NetworkUsage::is_notable) {
        sandbox.keep_network_log()?;
    }
    create_runtime()?.block_on(async {
        let engine = connect_engine_of(&sandbox.record).await?;
        Ok::<_, CliError>(lifecycle::remove_sandbox(&engine, sandbox, false).await?)
    })
}

/// Prints what a sandbox without changes is kept for.
fn print_kept(mut finished: RunResult, holds: Option<String>, output: Output) -> Result<(), CliError> {
    let is_first = finished.report.is_first;
    lifecycle::set_decided(&mut finished.sandbox, true, None)?;
    let record = &finished.sandbox.record;
    let name = &record.name;
    if let Some(holds) = holds.as_ref().filter(|_| is_first) {
        // Printed even with `--quiet`, because the user needs the name to find the sandbox.
        print_stderr(&format!("airlock: {name} changed no files, but is kept because it contains {holds}\n"));
        print_stderr(&format!("airlock: next: {}, or airlock rm {name}\n", resume_command(record)));
    } else {
        let contains = holds.map_or_else(String::new, |holds| format!(", but contains {holds}"));
        output.print_status(&format!(
            "{name} has no changes{contains}. Next: {}, or airlock rm {name}",
            resume_command(record)
        ));
    }
    for hint in bring_hints(record, &finished.changes.ignored) {
        output.print_status(&hint);
    }
    Ok(())
}
