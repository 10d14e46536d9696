//! Applies a selection to the working tree: builds the plan, checks its risks, executes it and prints the next steps.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde_json::{Value, json};

use super::apply_context::{ApplyContext, print_report, report_apply_error, warn_interrupted};
use super::apply_options::{ApplyEnd, ApplyOptions, ReportForm};
use super::decided::save_progress;
use super::head_change::describe_head_change;
use super::holdings::{bring_hints, describe_holdings};
use super::policy::{CONFIGURED, configured_rules};
use super::risk_check::{RiskChecker, WrittenContent};
use super::selected_changes::{load_needed_rounds, retired_selection, select_changes};
use super::sending::{resume_command, send_hint};
use super::{conflict, draft};
use crate::apply::{
    ApplyRequest, BlobStore, Conflict, MergeMode, PathRequest, PathState, Plan, PlanOptions, SelectionChange, Step,
    StepAction, TransactionKind, WorkingTree, run_transaction,
};
use crate::changes::{Changeset, ContentHash, MAX_TEXT, Quarantine, Selection, Unit};
use crate::cli::error::{CONFLICT, CliError};
use crate::cli::interrupt::Interrupt;
use crate::cli::outcome::{Outcome, OutcomeMode, units_by_path};
use crate::cli::output::{Output, format_count, print_stdout};
use crate::cli::shell_word::quote_shell_word;
use crate::core::escape::Escaped;
use crate::core::known::Known;
use crate::core::on_conflict::OnConflict;
use crate::core::parallel::try_parallel_map;
use crate::core::path::{EntryKind, RepoPath};
use crate::git::{AttributeFiles, HostRepo, MergeAttribute};
use crate::review::ReviewModel;
use crate::sandbox::{AppliedPath, AppliedState, Sandbox};

/// Plans and executes an apply.
pub(crate) fn apply_to_worktree(
    repo: &HostRepo,
    sandbox: &mut Sandbox,
    model: &ReviewModel<'_>,
    options: &ApplyOptions,
    output: Output,
) -> Result<ApplyEnd, CliError> {
    let name = sandbox.record.name.clone();
    // If the recorded path no longer exists, or resolves to this tree, then the working tree was moved.
    let is_moved = sandbox.record.worktree_place.as_ref() == Some(&repo.worktree_place())
        && Path::new(&sandbox.record.worktree).canonicalize().map_or(true, |path| path == repo.root);
    if sandbox.record.worktree != repo.worktree_id() && !is_moved {
        return Err(CliError::failed(format!("`{name}` was created from another working tree of this repository"))
            .with_hint(if Path::new(&sandbox.record.worktree).exists() {
                format!("run `cd {}` and try again", quote_shell_word(sandbox.record.worktree.as_bytes()))
            } else {
                format!("that working tree no longer exists; to export to a branch, run `airlock apply {name} --accept-all --to branch:{name}`")
            }));
    }
    // Nothing is written in a dry run, so a signal may end it.
    let interrupt = (!options.dry_run).then(Interrupt::watch_signals);
    let mut context = ApplyContext::new(repo)?;
    // A dry run takes no lock and writes nothing.
    if options.dry_run {
        warn_interrupted(repo, output);
    } else {
        context.prepare_for_write(output)?;
    }
    let modules = sandbox.record.manifest.submodules.clone();
    let tree = context.open_tree(&modules)?;
    let store = sandbox.open_quarantine()?;
    let before = context.applied_state(sandbox)?;
    let rounds = load_needed_rounds(sandbox, model, &before)?;
    let commit = &sandbox.record.base;
    let inputs = PlanInputs {
        repo,
        commit,
        tree: &tree,
        model,
        options,
        before: &before,
        rounds: &rounds,
        store: &store,
        is_cancelled: &|| false,
    };
    let plan = build_plan(&inputs)?;
    if let Some(change) = describe_head_change(repo, &sandbox.record) {
        output.print_status(&format!("note: {change}; the changes are merged into your working tree"));
    }
    // A path that only an earlier round renamed a file to belongs to the change that moves the file on.
    let known_path = |step: &'_ Step| step.moved_to.clone().unwrap_or_else(|| step.path.clone());
    let known_paths: Vec<RepoPath> = plan.steps.iter().map(known_path).collect();
    check_refused_and_risky(model, known_paths.iter(), options)?;
    let written = plan.steps.iter().filter(|step| step.action != StepAction::Unchanged).map(|step| &step.path);
    check_configured(repo, &modules, model, written, options)?;
    check_partial_risks(repo, sandbox, model, &plan, options, output)?;
    let mode = if options.dry_run { OutcomeMode::Planned } else { OutcomeMode::Applied };
    let mut outcome = Outcome::from_plan(&plan, &units_by_path(model), mode);
    for (paths, reason) in [
        (&options.selection.skipped_high_risk, "high finding: needs --allow-risky"),
        (&options.selection.rejected, "rejected in the review: name it to accept it"),
        (&options.selection.partly_matched, "only one path of the rename matches: name it to accept it"),
    ] {
        paths.iter().for_each(|path| outcome.add_path(path, "skipped", reason));
    }
    options.selection.refused.iter().for_each(|path| outcome.add_path(path, "refused", "cannot be accepted"));
    let total = model.files.len();
    let more = |applied: usize| json!({"sandbox": name, "dry_run": options.dry_run, "applied": applied, "of": total});
    let report_outcome = |outcome: &Outcome, applied: usize| -> Result<Value, CliError> {
        match options.report {
            ReportForm::Returned => return Ok(outcome.to_json(more(applied))),
            form => outcome.print_outcome(form == ReportForm::Json, more(applied))?,
        }
        Ok(Value::Null)
    };
    let is_text = options.report == ReportForm::Text;
    if !plan.conflicts.is_empty() {
        outcome.mark_skipped(&plan, "because of the conflicts");
        let outcome = report_outcome(&outcome, 0)?;
        if is_text {
            print_stdout(&conflict::format_conflicts(&plan.conflicts, conflict::APPLY_LABELS, &store))?;
            output.print_status(&format!("{}; nothing was written", format_count(plan.conflicts.len(), "conflict")));
            let top = repo.path_to_root();
            let markers = options.on_conflict == OnConflict::Abort;
            if plan.conflicts.iter().any(|conflict| !conflict.split_regions(&store).is_empty()) {
                output
                    .print_status(&format!("to resolve conflicts one by one, run `airlock review {name}` and press x"));
            }
            for hint in conflict::resolution_hints(&plan.conflicts, !plan.is_noop(), markers, top.as_bytes()) {
                output.print_status(&hint);
            }
        }
        return Ok(ApplyEnd { status: CONFLICT, outcome });
    }
    if options.dry_run {
        let outcome = report_outcome(&outcome, 0)?;
        if is_text {
            print_directories(&plan, output);
            output.print_status("this was a dry run; nothing was written");
        }
        return Ok(ApplyEnd { status: 0, outcome });
    }
    let path_selections = selection_changes(&plan, &before, model);
    let done = if plan.is_noop() {
        Ok(None)
    } else {
        let request = ApplyRequest {
            target: &context.target,
            fs: &context.fs,
            tree: &tree,
            kind: TransactionKind::Apply,
            sandbox: name.as_str(),
            sandbox_id: &sandbox.record.id,
            modules,
            selection: path_selections.clone(),
            blobs: &store,
            interrupted: &|| interrupt.as_ref().is_some_and(Interrupt::is_set),
        };
        run_transaction(&request, &plan, &context.log).map(Some)
    };
    let report = match done {
        Ok(report) => report,
        Err(problem) => {
            outcome.mark_failed(&plan, &problem);
            report_outcome(&outcome, 0)?;
            return Err(report_apply_error(problem, output));
        }
    };
    let mut after = before;
    for (step, SelectionChange { after: selection, .. }) in plan.steps.iter().zip(path_selections) {
        let result = step.result.as_ref().map(|v| (v.kind, v.hash.clone()));
        after.paths.insert(step.path.clone(), AppliedPath { selection, result: Known::from_option(result) });
    }
    after.last_apply = report.as_ref().map_or(after.last_apply, |r| r.number);
    // A failure is only a warning, because the journal has the state as well.
    if let Err(error) = sandbox.write_applied(&after) {
        output.print_status(&format!("failed to update the record of {name}: {}", Escaped::new(&error.to_string())));
    }
    let written = plan.count_written_files();
    let outcome = report_outcome(&outcome, written).map_err(|failure| {
        let were = if written == 1 { "was" } else { "were" };
        let done = format!("{} {were} applied, but the outcome could not be printed", format_count(written, "file"));
        CliError::failed(format!("{done}: {}", failure.message()))
            .with_hint(format!("to undo the apply, run `airlock undo {name}`"))
    })?;
    if let Some(report) = &report {
        print_report(report, output);
    }
    let state = draft::load_draft(sandbox, model)?;
    let is_decided = save_progress(sandbox, model, &state, &after)?;
    if is_text {
        let send = send_hint(&sandbox.record, model, &state);
        print_result(&plan, sandbox, total, (written, plan.count_files()), (!is_decided).then_some(send), output);
        let ignored = sandbox.read_changeset()?.map(|changes| changes.ignored).unwrap_or_default();
        if let Some(holds) = describe_holdings(&sandbox.record, &ignored, false) {
            output.print_status(&format!("{name} also contains {holds}, kept until `airlock rm {name}`"));
            for hint in bring_hints(&sandbox.record, &ignored) {
                output.print_status(&hint);
            }
        }
    }
    Ok(ApplyEnd { status: 0, outcome })
}

/// The inputs of a plan.
pub(crate) struct PlanInputs<'a> {
    pub repo: &'a HostRepo,
    /// The commit that the sandbox was seeded with.
    pub commit: &'a str,
    pub tree: &'a WorkingTree,
    pub model: &'a ReviewModel<'a>,
    pub options: &'a ApplyOptions,
    /// The state after earlier applies.
    pub before: &'a AppliedState,
    /// The rounds that wrote it, see `load_needed_rounds`.
    pub rounds: &'a [Changeset],
    pub store: &'a Quarantine,
    /// Whether the plan is no longer needed.
    pub is_cancelled: &'a (dyn Fn() -> bool + Sync),
}

/// Builds the plan for a selection, without writing to the working tree.
pub(crate) fn build_plan(inputs: &PlanInputs<'_>) -> Result<Plan, CliError> {
    let PlanInputs { repo, commit, tree, model, options, before, rounds, store, is_cancelled } = *inputs;
    let selected = select_changes(model, options, before, (rounds, store));
    let (mut requests, mut conflicts) = (Vec::new(), Vec::new());
    let built = try_parallel_map(&selected, |change| {
        if is_cancelled() { Err(io::ErrorKind::Interrupted.into()) } else { change.build_request(store) }
    })?;
    for (change, request) in selected.iter().zip(built) {
        match request {
            Ok(request) => requests.push(request),
            Err(reason) => conflicts.push(Conflict::new(change.path().clone(), reason)),
        }
    }
    let modes = merge_modes(repo, tree, commit, requests.iter().flat_map(PathRequest::related_paths))?;
    let plan_options = PlanOptions {
        on_conflict: options.on_conflict,
        merge_modes: modes,
        choices: options.choices.clone(),
        ..PlanOptions::default()
    };
    let mut plan = Plan::build(tree, requests, &CancellableStore { store, is_cancelled }, plan_options)?;
    let into = if options.on_conflict == OnConflict::Skip { &mut plan.skipped } else { &mut plan.conflicts };
    into.extend(conflicts);
    Ok(plan)
}

/// A store that fails once its work is cancelled.
struct CancellableStore<'a> {
    store: &'a Quarantine,
    is_cancelled: &'a (dyn Fn() -> bool + Sync),
}

impl CancellableStore<'_> {
    fn check_cancelled(&self) -> io::Result<()> {
        if (self.is_cancelled)() { Err(io::Error::from(io::ErrorKind::Interrupted)) } else { Ok(()) }
    }
}

impl BlobStore for CancellableStore<'_> {
    fn read_blob(&self, hash: &ContentHash) -> io::Result<Vec<u8>> {
        self.check_cancelled()?;
        self.store.read_blob(hash)
    }

    fn write_blob(&self, bytes: &[u8]) -> io::Result<ContentHash> {
        self.check_cancelled()?;
        self.store.write_blob(bytes)
    }
}

/// Reads the merge modes of paths from git's attributes: those of the working tree, or of the commit if the working tree
/// lacks the attributes file.
pub(crate) fn merge_modes<'a>(
    repo: &HostRepo,
    tree: &WorkingTree,
    commit: &str,
    paths: impl Iterator<Item = &'a RepoPath>,
) -> Result<BTreeMap<RepoPath, MergeMode>, CliError> {
    let mut attributes = AttributeFiles::new();
    let paths: Vec<&RepoPath> = paths.collect();
    for path in &paths {
        let cuts = path.as_bytes().iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at + 1);
        for directory in std::iter::once(0).chain(cuts).map(|cut| &path.as_bytes()[..cut]) {
            if attributes.contains_key(directory) {
                continue;
            }
            let file = RepoPath::from_bytes(&[directory, b".gitattributes"].concat());
            if let Ok(file) = file
                && let Ok(PathState::File(seen)) = tree.observe_path(&file)
                && seen.version.kind != EntryKind::Symlink
                && seen.size() <= MAX_TEXT
            {
                attributes.insert(directory.to_vec(), Some(tree.read_file(&file, &seen)?));
            }
        }
    }
    let mode = |attribute| match attribute {
        MergeAttribute::Text => MergeMode::Text,
        MergeAttribute::Union => MergeMode::Union,
        MergeAttribute::NotByLine => MergeMode::NotByLine,
        MergeAttribute::Driver => MergeMode::Driver,
        MergeAttribute::Filtered => MergeMode::Filtered,
    };
    Ok(repo
        .merge_attributes(commit, &attributes, paths.into_iter())?
        .into_iter()
        .map(|(path, attribute)| (path, mode(attribute)))
        .collect())
}

/// Returns the applied units of each path before and after a plan, for the journal. Units of earlier rounds are kept unless
/// the plan supersedes them.
fn selection_changes(plan: &Plan, before: &AppliedState, model: &ReviewModel<'_>) -> Vec<SelectionChange> {
    let files: BTreeMap<&RepoPath, &[Unit]> = units_by_path(model);
    let row = |step: &Step| {
        let old = before.paths.get(&step.path).map(|b| b.selection.clone()).unwrap_or_default();
        let retired = retired_selection(&old, files.get(&step.path).copied().unwrap_or_default());
        let kept = retired.iter().filter(|(id, _)| step.superseded.get(id).is_none());
        let kept: Selection = kept.map(|(id, pick)| (id.to_owned(), pick.clone())).collect();
        // The file was moved on from a path of an earlier round.
        let is_left = step.moved_to.is_some() && step.selection.is_empty();
        let kept = if is_left { Selection::default() } else { kept };
        SelectionChange { path: step.path.clone(), before: old, after: step.selection.union(&kept) }
    };
    plan.steps.iter().map(row).collect()
}

/// Checks each file that would be written. Refused files are an error, and so are high-risk files unless a review accepted
/// them individually or `--allow-risky` was given.
///
/// *Invariant:* this checks the paths to be written and not the selection, so that no mistake in the selection can apply
/// such a file.
pub(crate) fn check_refused_and_risky<'a>(
    model: &ReviewModel<'_>,
    paths: impl Iterator<Item = &'a RepoPath>,
    options: &ApplyOptions,
) -> Result<(), CliError> {
    let files: BTreeMap<&RepoPath, &crate::review::ReviewFile<'_>> = model.files_by_path();
    for path in paths {
        let name = String::from_utf8_lossy(path.as_bytes());
        let Some(file) = files.get(path) else {
            return Err(CliError::failed(format!("{name} is not among the changes; nothing was written")));
        };
        if file.is_refused() {
            let what = format!("{name} cannot be accepted: it {}; nothing was written", file.severity_reasons());
            return Err(CliError::failed(what));
        }
        let is_granted = options.allow_risky || !options.is_named;
        if file.is_risky() && !is_granted {
            let what = format!(
                "{name} is high risk and requires confirmation: it {}; nothing was written",
                file.severity_reasons()
            );
            return Err(CliError::failed(what).with_hint("review it, then add `--allow-risky`"));
        }
    }
    Ok(())
}

/// Checks that the user's git configuration has not started to name a file since its findings were computed.
///
/// # Errors
/// The configuration names a file, and `--allow-risky` was not given.
pub(crate) fn check_configured<'a>(
    repo: &HostRepo,
    modules: &[RepoPath],
    model: &ReviewModel<'_>,
    paths: impl Iterator<Item = &'a RepoPath>,
    options: &ApplyOptions,
) -> Result<(), CliError> {
    if options.allow_risky {
        return Ok(());
    }
    let (rules, files) = (configured_rules(repo, modules)?, model.files_by_path());
    for path in paths {
        let is_known = files.get(path).is_some_and(|file| file.is_risky());
        let named = rules.find_matches(path).into_iter().find(|named| named.name == CONFIGURED);
        if let (false, Some(named)) = (is_known, named) {
            let name = String::from_utf8_lossy(path.as_bytes());
            let what = format!("{name} {}, since the changes were collected; nothing was written", named.reason);
            return Err(CliError::failed(what).with_hint("review it, then add `--allow-risky`"));
        }
    }
    Ok(())
}

/// Checks the risks of contents that the review did not show: parts of a change, and merges. Only content that the working
/// tree does not have yet counts.
fn check_partial_risks(
    repo: &HostRepo,
    sandbox: &Sandbox,
    model: &ReviewModel<'_>,
    plan: &Plan,
    options: &ApplyOptions,
    output: Output,
) -> Result<(), CliError> {
    let files: BTreeMap<&RepoPath, &crate::review::ReviewFile<'_>> = model.files_by_path();
    let is_other = |step: &&Step| match step.action {
        StepAction::Merge(_) | StepAction::Resolve | StepAction::WriteConflictMarkers(_) => true,
        StepAction::Create | StepAction::Replace => files.get(&step.path).is_some_and(|f| {
            // A moved file can have edits of the user.
            let is_shown = step.result.as_ref().map(|r| &r.hash) == f.change.new.as_ref().map(|new| &new.hash);
            !step.selection.covers_all(&f.units) || (step.moved_from.is_some() && !is_shown)
        }),
        // A path to which an earlier round renamed the file is not among the changes.
        StepAction::Delete => !files.contains_key(&step.path),
        StepAction::Unchanged => false,
    };
    let others: Vec<&Step> = plan.steps.iter().filter(is_other).collect();
    if others.is_empty() {
        return Ok(());
    }
    let checker = RiskChecker::new(repo, sandbox, model, output)?;
    let store = sandbox.open_quarantine()?;
    for step in others {
        let Some(file) = files.get(step.moved_to.as_ref().unwrap_or(&step.path)) else { continue };
        let content = step.result.as_ref().map_or(Ok(Vec::new()), |result| store.get(&result.hash))?;
        let moved = step.moved_from.as_ref().and_then(|moved| moved.observed.as_ref());
        let ours = step.expected.as_ref().or(moved).and_then(|seen| store.get(&seen.version.hash).ok());
        let written = WrittenContent {
            path: &step.path,
            moved_from: step.moved_from.as_ref().filter(|_| moved.is_some()).map(|moved| &moved.path),
            result: step.result.as_ref(),
            old: &ours.unwrap_or_default(),
            new: &content,
        };
        if let Some(worst) = checker.worsened_finding(file, &written) {
            checker.report_finding(&worst, &step.path, options.allow_risky, output)?;
        }
    }
    Ok(())
}

fn print_directories(plan: &Plan, output: Output) {
    for (paths, verb) in
        [(&plan.dirs_to_create, "create the directory"), (&plan.dirs_to_remove, "remove the empty directory")]
    {
        for path in paths.iter().take(20) {
            output.print_status(&format!("would {verb} {}", Escaped::new(path.as_bytes())));
        }
        if paths.len() > 20 {
            output.print_status(&format!("and {} more", paths.len() - 20));
        }
    }
}

fn print_result(
    plan: &Plan,
    sandbox: &Sandbox,
    total: usize,
    (written, selected): (usize, usize),
    open: Option<String>,
    output: Output,
) {
    let name = &sandbox.record.name;
    let unchanged = selected - written;
    let unchanged_note = if unchanged > 0 { format!(", {unchanged} unchanged") } else { String::new() };
    let marked: Vec<&Step> =
        plan.steps.iter().filter(|s| matches!(s.action, StepAction::WriteConflictMarkers(_))).collect();
    if !marked.is_empty() {
        let contain = if marked.len() == 1 { "contains" } else { "contain" };
        output.print_status(&format!(
            "{} {contain} conflict markers (<<<<<<< to >>>>>>>) to resolve",
            format_count(marked.len(), "file")
        ));
    }
    if !plan.skipped.is_empty() {
        output.print_status(&format!("{} skipped", format_count(plan.skipped.len(), "conflict")));
    }
    let undo = if written > 0 { format!(" Undo: airlock undo {name} ·") } else { String::new() };
    let next = match open {
        None => {
            let resume = resume_command(&sandbox.record);
            format!("{undo} All changes are decided. Next: {resume}, or airlock rm {name}")
        }
        Some(send) => format!("{undo} Next: airlock review {name}{send}, or airlock rm {name}"),
    };
    output.print_status(&format!("{written} of {} applied{unchanged_note}.{next}", format_count(total, "file")));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::changes::{ContentHash, FileChange, FileVersion, Finding, Severity};
    use crate::core::path::EntryKind;

    #[test]
    fn plan_is_checked_whatever_selected_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Quarantine::open(dir.path().to_owned()).expect("opened");
        let hash: ContentHash = store.store_blob(b"x\n").expect("stored");
        let change = |path: &str, severity: Option<Severity>| FileChange {
            path: RepoPath::from_bytes(path.as_bytes()).expect("valid path"),
            old: None,
            new: Some(FileVersion { kind: EntryKind::Regular, hash: hash.clone(), size: 2 }),
            renamed_from: None,
            findings: severity.into_iter().map(|severity| Finding::for_file("r", severity, "is what it is")).collect(),
        };
        let files = vec![
            change("high", Some(Severity::High)),
            change("plain", None),
            change("refused", Some(Severity::Refused)),
        ];
        let changes = Changeset {
            schema_version: 1,
            id: String::new(),
            base: String::new(),
            files,
            rename_findings: Vec::new(),
            uncollected: Vec::new(),
            ignored_by_agent_rules: Vec::new(),
            ignored: Default::default(),
            deleted: Default::default(),
        };
        let model = ReviewModel::open(&changes, &store).expect("opened");
        let is_allowed = |path: &str, is_named: bool, allow_risky: bool| {
            let path = RepoPath::from_bytes(path.as_bytes()).expect("valid path");
            let options = ApplyOptions { is_named, allow_risky, ..ApplyOptions::default() };
            check_refused_and_risky(&model, [&path].into_iter(), &options).is_ok()
        };
        for (path, named, named_with_consent, reviewed) in [
            ("plain", true, true, true),
            ("high", false, true, true),
            ("refused", false, false, false),
            ("of no change", false, false, false),
        ] {
            let results = [is_allowed(path, true, false), is_allowed(path, true, true), is_allowed(path, false, false)];
            assert_eq!(results, [named, named_with_consent, reviewed], "{path}");
        }
    }
}
