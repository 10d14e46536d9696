//! `airlock undo`: reverses the last apply.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::json;

use crate::apply::{
    AppliedTransaction, ApplyHistory, ApplyRequest, Kind, Op, Plan, StagedFile, StepAction, Undo, UndoError,
    WorkingTree, run_transaction, staged_file_path,
};
use crate::cli::args::UndoArgs;
use crate::cli::error::{CONFLICT, CliError, FAILED};
use crate::cli::interrupt::Interrupt;
use crate::cli::json::{render, text};
use crate::cli::ops::apply_context::{ApplyContext, history as read_history, tell, told};
use crate::cli::ops::apply_to_worktree::merge_modes;
use crate::cli::ops::conflict;
use crate::cli::ops::repo::{Repo, age};
use crate::cli::outcome::{Outcome, OutcomeMode};
use crate::cli::output::{Output, count, print};
use crate::core::escape::Escaped;
use crate::core::path::RepoPath;

pub fn undo(args: &UndoArgs, output: Output) -> Result<u8, CliError> {
    let repo = if args.list || args.dry_run { Repo::open(output)? } else { Repo::open_for_write()? };
    let mut host = ApplyContext::of(&repo.host)?;
    if args.list {
        return list(&host, args, output);
    }
    let interrupt = Interrupt::watch();
    if !args.dry_run {
        host.prepare(output)?;
    }
    let history = read_history(&host.applies)?;
    let Some(past) = history.find_last(&host.site.fingerprint, args.name.as_deref()) else {
        return Err(nothing(&history, args));
    };
    let tree = host.tree(&past.journal.modules)?;
    let undo = Undo::of(past, &tree)?;
    let Undo { requests: wishes, options: mut terms, blobs: contents, late_edits: late } = undo;
    terms.merge_modes = merge_modes(&repo.host, &tree, "HEAD", wishes.iter().map(|wish| &wish.path))?;
    let plan = Plan::build(&tree, wishes, &contents, terms)?;
    let tense = if args.dry_run { OutcomeMode::Future } else { OutcomeMode::Undone };
    let mut outcome = Outcome::of(&plan, &BTreeMap::new(), tense);
    for path in &late {
        outcome.set(
            path,
            if args.dry_run { "restore" } else { "restored" },
            "with what was written to it after the apply",
        );
    }
    let sandbox = past.journal.sandbox.clone();
    let more = |undone: usize| json!({"sandbox": sandbox, "dry_run": args.dry_run, "undone": undone});
    if !plan.conflicts.is_empty() {
        outcome.leave(&plan, "because of the conflicts");
        outcome.print(args.json, more(0))?;
        if !args.json {
            print(&conflict::show(&plan.conflicts, conflict::UNDO, &contents))?;
            output.say(&format!("{}; nothing was written", count(plan.conflicts.len(), "conflict")));
            let backups = backups(past, &tree);
            for (path, file) in backups.iter().filter(|(path, _)| plan.conflicts.iter().any(|c| c.path == *path)) {
                let (path, file) = (Escaped::new(path.as_bytes()), Escaped::new(file.as_os_str().as_encoded_bytes()));
                output.say(&format!("what {path} was before is in {file}"));
            }
        }
        return Ok(CONFLICT);
    }
    if args.dry_run {
        outcome.print(args.json, more(0))?;
        if !args.json {
            output.say("this was a dry run; nothing was written");
        }
        return Ok(0);
    }
    // The two sides are swapped: once undone, these changes no longer count as applied.
    let picks: Vec<_> =
        past.journal.selection.iter().map(|(path, old, new)| (path.clone(), new.clone(), old.clone())).collect();
    let job = ApplyRequest {
        target: &host.site,
        fs: &host.disk,
        tree: &tree,
        kind: Kind::Undo(past.journal.id.clone()),
        sandbox: &sandbox,
        sandbox_id: &past.journal.sandbox_id,
        modules: past.journal.modules.clone(),
        selection: picks,
        blobs: &contents,
        interrupted: &|| interrupt.is_set(),
    };
    let report = match run_transaction(&job, &plan, &host.applies) {
        Ok(report) => report,
        Err(problem) => {
            outcome.fail(&plan, &problem);
            outcome.print(args.json, more(0))?;
            return Err(told(problem, output));
        }
    };
    if let Err(failure) = host.record_applied(&sandbox) {
        output.say(&format!("failed to update the record of {sandbox}: {}", failure.message()));
    }
    let written = plan.steps.iter().filter(|s| s.action != StepAction::Unchanged).count();
    outcome.print(args.json, more(written))?;
    tell(&report, output);
    if !args.json {
        let left = read_history(&host.applies)?;
        let next = match left.find_last(&host.site.fingerprint, None) {
            Some(next) => format!("airlock undo reverts that of {}, {}", next.journal.sandbox, age(next.end.at)),
            None if host.has(&sandbox) => format!("airlock review {sandbox}"),
            None => "nothing is left to undo".into(),
        };
        output.say(&format!("undid the apply of {sandbox} ({}). Next: {next}", count(written, "file")));
    }
    Ok(0)
}

/// Returns the paths that an apply replaced or deleted, with the locations of their backups.
fn backups(past: &AppliedTransaction, tree: &WorkingTree) -> Vec<(RepoPath, PathBuf)> {
    let at = |slot: StagedFile, name: &str| staged_file_path(tree, &past.journal, &past.folder, slot, name);
    let find = |act: &Op| match act {
        Op::Write { path, slot, before: Some(_), .. } => {
            let there = at(*slot, &slot.backup_name());
            Some((path.clone(), if there.exists() { there } else { at(*slot, &slot.name()) }))
        }
        Op::Delete { path, slot, .. } => Some((path.clone(), at(*slot, &slot.name()))),
        _ => None,
    };
    past.journal.ops.iter().filter_map(find).collect()
}

fn nothing(history: &ApplyHistory, args: &UndoArgs) -> CliError {
    let what = args.name.as_ref().map_or_else(String::new, |name| format!(" of {name}"));
    let failure = CliError::new(FAILED, format!("there is no apply{what} to undo in this working tree"));
    if history.past.iter().any(AppliedTransaction::is_undoable) { failure.hint("airlock undo --list") } else { failure }
}

fn list(host: &ApplyContext<'_>, args: &UndoArgs, output: Output) -> Result<u8, CliError> {
    let history = read_history(&host.applies)?;
    let here = |past: &&AppliedTransaction| {
        past.is_in_worktree(&host.site.fingerprint)
            && past.journal.kind == Kind::Apply
            && past.end.committed
            && args.name.as_ref().is_none_or(|name| *name == past.journal.sandbox)
    };
    let all: Vec<&AppliedTransaction> = history.past.iter().rev().filter(here).collect();
    let files = |past: &AppliedTransaction| {
        let touches = |act: &&Op| matches!(act, Op::Write { .. } | Op::Delete { .. });
        past.journal.ops.iter().filter(touches).map(|act| act.path().clone()).collect::<Vec<_>>()
    };
    if args.json {
        let tree = host.tree(&[])?;
        let rows: Vec<_> = (all.iter())
            .map(|p| {
                json!({
                    "number": p.folder.number(), "sandbox": p.journal.sandbox, "at": p.end.at, "undone": p.undone,
                    "files": files(p).iter().map(text).collect::<Vec<_>>(),
                    "backups": backups(p, &tree).iter()
                        .map(|(path, file)| json!({"path": text(path), "file": file.to_string_lossy()}))
                        .collect::<Vec<_>>(),
                })
            })
            .collect();
        print(&render(&json!({"schema_version": 1, "applies": rows})))?;
        return Ok(0);
    }
    let mut out = String::new();
    let width = all.iter().map(|p| p.journal.sandbox.len()).max().unwrap_or(0);
    for past in &all {
        let state = if past.undone { "taken back" } else { "" };
        let line = format!(
            "{:>4}  {:width$}  {:>12}  {:>16}  {state}",
            past.folder.number(),
            Escaped::new(&past.journal.sandbox).to_string(),
            count(files(past).len(), "file"),
            age(past.end.at),
        );
        out += line.trim_end();
        out.push('\n');
    }
    if all.is_empty() {
        output.say("there is no apply to undo");
    }
    print(&out)?;
    Ok(0)
}

impl From<UndoError> for CliError {
    fn from(error: UndoError) -> Self {
        Self::new(FAILED, format!("{error}; nothing was written"))
    }
}
