//! `airlock undo`: reverses the last apply.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::json;

use crate::apply::{
    ApplyHistory, ApplyRequest, FinishedTransaction, Op, PathRequest, Plan, SelectionChange, StagedFile,
    TransactionKind, Undo, WorkingTree, run_transaction, staged_file_path,
};
use crate::cli::args::UndoArgs;
use crate::cli::error::{CONFLICT, CliError};
use crate::cli::interrupt::Interrupt;
use crate::cli::json::{path_text, render_json};
use crate::cli::ops::apply_context::{ApplyContext, load_history as read_history, print_report, report_apply_error};
use crate::cli::ops::apply_to_worktree::merge_modes;
use crate::cli::ops::conflict;
use crate::cli::ops::decided::remeasure_progress;
use crate::cli::ops::repo::{Repo, format_age};
use crate::cli::outcome::{Outcome, OutcomeMode};
use crate::cli::output::{Output, format_count, print_stdout};
use crate::core::escape::Escaped;
use crate::core::path::RepoPath;

pub(crate) fn run_undo(args: &UndoArgs, output: Output) -> Result<u8, CliError> {
    let repo = if args.list || args.dry_run { Repo::open(output)? } else { Repo::open_for_write()? };
    let mut context = ApplyContext::new(&repo.host)?;
    if args.list {
        return list_applies(&context, args, output);
    }
    let interrupt = (!args.dry_run).then(Interrupt::watch_signals);
    if !args.dry_run {
        context.prepare_for_write(output)?;
    }
    let history = read_history(&context.log)?;
    let is_sandbox = |name: &str| {
        repo.has_sandbox(name) || history.finished.iter().any(|transaction| transaction.journal.sandbox == name)
    };
    let number = args.name.as_deref().filter(|name| !is_sandbox(name)).and_then(|name| name.parse().ok());
    let transaction = match number {
        Some(number) => find_numbered(&history, &context, number)?,
        None => history
            .find_last_undoable(&context.target.fingerprint, args.name.as_deref())
            .ok_or_else(|| no_apply_error(&history, args))?,
    };
    let tree = context.open_tree(&transaction.journal.modules)?;
    let undo = Undo::from_transaction(transaction, &tree)?;
    let Undo { requests, mut options, blobs, late_edits } = undo;
    options.merge_modes = merge_modes(&repo.host, &tree, "HEAD", requests.iter().flat_map(PathRequest::related_paths))?;
    let plan = Plan::build(&tree, requests, &blobs, options)?;
    let mode = if args.dry_run { OutcomeMode::Planned } else { OutcomeMode::Undone };
    let mut outcome = Outcome::from_plan(&plan, &BTreeMap::new(), mode);
    for path in &late_edits {
        outcome.set_outcome(path, if args.dry_run { "restore" } else { "restored" }, "with edits from after the apply");
    }
    let sandbox = transaction.journal.sandbox.clone();
    let more = |undone: usize| json!({"sandbox": sandbox, "dry_run": args.dry_run, "undone": undone});
    if !plan.conflicts.is_empty() {
        outcome.mark_skipped(&plan, "because of the conflicts");
        outcome.print_outcome(args.json, more(0))?;
        if !args.json {
            print_stdout(&conflict::format_conflicts(&plan.conflicts, conflict::UNDO_LABELS, &blobs))?;
            output.print_status(&format!("{}; nothing was written", format_count(plan.conflicts.len(), "conflict")));
            let backups = list_backups(transaction, &tree);
            for (path, file) in backups.iter().filter(|(path, _)| plan.conflicts.iter().any(|c| c.path == *path)) {
                let (path, file) = (Escaped::new(path.as_bytes()), Escaped::new(file.as_os_str().as_encoded_bytes()));
                output.print_status(&format!("the previous content of {path} is in {file}"));
            }
        }
        return Ok(CONFLICT);
    }
    if args.dry_run {
        outcome.print_outcome(args.json, more(0))?;
        if !args.json {
            output.print_status("this was a dry run; nothing was written");
        }
        return Ok(0);
    }
    // The two sides are swapped: once undone, these changes no longer count as applied.
    let selection = transaction.journal.selection.iter().cloned();
    let selection: Vec<_> = selection
        .map(|SelectionChange { path, before, after }| SelectionChange { path, before: after, after: before })
        .collect();
    let request = ApplyRequest {
        target: &context.target,
        fs: &context.fs,
        tree: &tree,
        kind: TransactionKind::Undo(transaction.journal.id.clone()),
        sandbox: &sandbox,
        sandbox_id: &transaction.journal.sandbox_id,
        modules: transaction.journal.modules.clone(),
        selection,
        blobs: &blobs,
        interrupted: &|| interrupt.as_ref().is_some_and(Interrupt::is_set),
    };
    let report = match run_transaction(&request, &plan, &context.log) {
        Ok(report) => report,
        Err(problem) => {
            outcome.mark_failed(&plan, &problem);
            outcome.print_outcome(args.json, more(0))?;
            return Err(report_apply_error(problem, output));
        }
    };
    let recorded = context.record_applied(&sandbox).and_then(|()| remeasure_progress(&repo.host, &sandbox));
    if let Err(failure) = recorded {
        output.print_status(&format!("failed to update the record of {sandbox}: {}", failure.escaped_message()));
    }
    let written = plan.count_written_files();
    outcome.print_outcome(args.json, more(written))?;
    print_report(&report, output);
    if !args.json {
        let remaining = read_history(&context.log)?;
        let next = match remaining.find_last_undoable(&context.target.fingerprint, None) {
            Some(next) => {
                format!(
                    "Next: airlock undo (reverses the apply of {}, {})",
                    next.journal.sandbox,
                    format_age(next.outcome.at)
                )
            }
            None if context.has_sandbox(&sandbox) => format!("Next: airlock review {sandbox}"),
            None => "No applies are left to undo.".into(),
        };
        output.print_status(&format!("undid the apply of {sandbox} ({}). {next}", format_count(written, "file")));
    }
    Ok(0)
}

/// Returns the paths that an apply replaced or deleted, with the locations of their backups.
fn list_backups(transaction: &FinishedTransaction, tree: &WorkingTree) -> Vec<(RepoPath, PathBuf)> {
    let backup_path =
        |staged: StagedFile, name: &str| staged_file_path(tree, &transaction.journal, &transaction.dir, staged, name);
    let find = |act: &Op| match act {
        Op::Write { path, staged, before: Some(_), .. } => {
            let backup = backup_path(*staged, &staged.backup_name());
            Some((path.clone(), if backup.exists() { backup } else { backup_path(*staged, &staged.file_name()) }))
        }
        Op::Delete { path, staged, .. } => Some((path.clone(), backup_path(*staged, &staged.file_name()))),
        _ => None,
    };
    transaction.journal.ops.iter().filter_map(find).collect()
}

fn no_apply_error(history: &ApplyHistory, args: &UndoArgs) -> CliError {
    let what = args.name.as_ref().map_or_else(String::new, |name| format!(" of `{name}`"));
    let failure = CliError::failed(format!("there is no apply{what} to undo in this working tree"));
    if history.finished.iter().any(FinishedTransaction::is_undoable) {
        failure.with_hint("to list all applies, run `airlock undo --list`")
    } else {
        failure
    }
}

/// Returns the applies to this working tree, newest first, each with its number: 1 is the oldest that is still known.
fn numbered_applies<'h>(
    history: &'h ApplyHistory,
    context: &ApplyContext<'_>,
) -> Vec<(usize, &'h FinishedTransaction)> {
    let is_apply = |transaction: &&FinishedTransaction| {
        transaction.is_in_worktree(&context.target.fingerprint)
            && transaction.journal.kind == TransactionKind::Apply
            && transaction.outcome.committed
    };
    let mut all: Vec<_> = history.finished.iter().filter(is_apply).enumerate().map(|(at, t)| (at + 1, t)).collect();
    all.reverse();
    all
}

/// Returns the apply with a number of the list.
fn find_numbered<'h>(
    history: &'h ApplyHistory,
    context: &ApplyContext<'_>,
    number: usize,
) -> Result<&'h FinishedTransaction, CliError> {
    let all = numbered_applies(history, context);
    let hint = "to list all applies, run `airlock undo --list`";
    match all.iter().find(|(at, _)| *at == number) {
        Some((_, transaction)) if transaction.is_undoable() => Ok(transaction),
        Some(_) => Err(CliError::failed(format!("apply {number} is undone already")).with_hint(hint)),
        None => Err(CliError::failed(format!("there is no apply {number} in this working tree")).with_hint(hint)),
    }
}

fn list_applies(context: &ApplyContext<'_>, args: &UndoArgs, output: Output) -> Result<u8, CliError> {
    let history = read_history(&context.log)?;
    let is_listed = |(_, transaction): &(usize, &FinishedTransaction)| {
        args.name.as_ref().is_none_or(|name| *name == transaction.journal.sandbox)
    };
    let all: Vec<(usize, &FinishedTransaction)> =
        numbered_applies(&history, context).into_iter().filter(is_listed).collect();
    if args.json {
        let tree = context.open_tree(&[])?;
        let rows: Vec<_> = (all.iter())
            .map(|(number, p)| {
                json!({
                    "number": number, "sandbox": p.journal.sandbox, "at": p.outcome.at, "undone": p.undone,
                    "files": p.journal.changed_files().into_iter().map(path_text).collect::<Vec<_>>(),
                    "backups": list_backups(p, &tree).iter()
                        .map(|(path, file)| json!({"path": path_text(path), "file": file.to_string_lossy()}))
                        .collect::<Vec<_>>(),
                })
            })
            .collect();
        print_stdout(&render_json(&json!({"schema_version": 1, "applies": rows})))?;
        return Ok(0);
    }
    let mut out = String::new();
    let width = all.iter().map(|(_, p)| p.journal.sandbox.len()).max().unwrap_or(0);
    for (number, transaction) in &all {
        let state = if transaction.undone { "undone" } else { "" };
        let line = format!(
            "{:>4}  {:width$}  {:>12}  {:>16}  {state}",
            number,
            Escaped::new(&transaction.journal.sandbox).to_string(),
            format_count(transaction.journal.changed_files().len(), "file"),
            format_age(transaction.outcome.at),
        );
        out += line.trim_end();
        out.push('\n');
    }
    if all.is_empty() {
        output.print_status("there is no apply to undo");
    }
    print_stdout(&out)?;
    Ok(0)
}
