//! Applies a selection to the working tree: builds the plan, checks its risks, executes it and prints the next steps.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::json;

use super::apply_context::{ApplyContext, tell, told, warn};
use super::apply_options::ApplyOptions;
use super::holdings::{holdings, way_to_get};
use super::policy::{CONFIGURED, configured_rules};
use super::risk_check::Judge;
use super::sending::{cannot_send, way_to_send};
use super::{conflict, draft};
use crate::apply::{
    ApplyRequest, Conflict, EntryContent, Kind, MergeMode, OnConflict, PathState, Plan, PlanOptions, PriorRoundChange,
    SelectedChange, Step, StepAction, WorkingTree, run_transaction,
};
use crate::changes::{Changeset, MAX_TEXT, Quarantine, Selection, Unit, UnitSelection, split_units};
use crate::cli::error::{CONFLICT, CliError, FAILED};
use crate::cli::interrupt::Interrupt;
use crate::cli::outcome::{Outcome, OutcomeMode};
use crate::cli::output::{Output, count, print};
use crate::core::escape::Escaped;
use crate::core::path::{EntryKind, RepoPath};
use crate::git::{AttributeFiles, HostRepo, MergeAttribute};
use crate::review::{Decision, ReviewModel, ReviewState, has_unsent_comment};
use crate::sandbox::{AppliedPath, AppliedState, Record, Sandbox, lifecycle};

/// Plans and executes an apply. Returns the exit status.
pub fn apply_to_worktree(
    repo: &HostRepo,
    sandbox: &mut Sandbox,
    sheet: &ReviewModel<'_>,
    wanted: &ApplyOptions,
    output: Output,
) -> Result<u8, CliError> {
    let name = sandbox.record.name.clone();
    // If the recorded path no longer exists, or resolves to this tree, then the working tree was moved.
    let is_moved = sandbox.record.worktree_place.as_ref() == Some(&repo.worktree_place())
        && Path::new(&sandbox.record.worktree).canonicalize().map_or(true, |path| path == repo.root);
    if sandbox.record.worktree != repo.worktree_id() && !is_moved {
        return Err(CliError::new(FAILED, format!("{name} was made from another working tree of this repository"))
            .hint(if Path::new(&sandbox.record.worktree).exists() {
                format!("cd {} and try again", sandbox.record.worktree)
            } else {
                format!("it is gone; what was accepted can go elsewhere: airlock apply {name} --accept-all --to branch:{name}")
            }));
    }
    let interrupt = Interrupt::watch();
    let mut host = ApplyContext::of(repo)?;
    // A dry run takes no lock and writes nothing.
    if wanted.dry_run {
        warn(repo, output);
    } else {
        host.prepare(output)?;
    }
    let modules = sandbox.record.manifest.modules.clone();
    let tree = host.tree(&modules)?;
    let store = sandbox.quarantine()?;
    let before = host.applied_state(sandbox)?;
    let rounds = rounds_of(sandbox, sheet, &before)?;
    let plan = plan(repo, &sandbox.record.base, &tree, sheet, wanted, (&before, &rounds), &store)?;
    check_refused_and_risky(sheet, plan.steps.iter().map(|step| &step.path), wanted)?;
    let written = plan.steps.iter().filter(|step| step.action != StepAction::Unchanged).map(|step| &step.path);
    check_configured(repo, &modules, sheet, written, wanted)?;
    judge(repo, sandbox, sheet, &plan, wanted, output)?;
    let parts = sheet.files.iter().map(|f| (&f.change.path, f.units.as_slice())).collect();
    let tense = if wanted.dry_run { OutcomeMode::Future } else { OutcomeMode::Applied };
    let mut outcome = Outcome::of(&plan, &parts, tense);
    for (paths, reason) in [
        (&wanted.selection.skipped_high_risk, "high finding: needs --allow-risky"),
        (&wanted.selection.rejected, "rejected in the review: name it to accept it"),
    ] {
        paths.iter().for_each(|path| outcome.add(path, "skipped", reason));
    }
    wanted.selection.refused.iter().for_each(|path| outcome.add(path, "refused", "cannot be accepted"));
    let of = sheet.files.len();
    let more = |applied: usize| json!({"sandbox": name, "dry_run": wanted.dry_run, "applied": applied, "of": of});
    if !plan.conflicts.is_empty() {
        outcome.leave(&plan, "because of the conflicts");
        outcome.print(wanted.json, more(0))?;
        if !wanted.json {
            print(&conflict::show(&plan.conflicts, conflict::APPLY, &store))?;
            output.say(&format!("{}; nothing was written", count(plan.conflicts.len(), "conflict")));
            let top = "../".repeat(repo.subdir.components().count());
            let markers = wanted.on_conflict == OnConflict::Abort;
            for way in conflict::resolution_hints(&plan.conflicts, !plan.is_noop(), markers, top.as_bytes()) {
                output.say(&way);
            }
        }
        return Ok(CONFLICT);
    }
    if wanted.dry_run {
        outcome.print(wanted.json, more(0))?;
        if !wanted.json {
            say_directories(&plan, output);
            output.say("this was a dry run; nothing was written");
        }
        return Ok(0);
    }
    let brought = picks(&plan, &before, sheet);
    let done = if plan.is_noop() {
        Ok(None)
    } else {
        let job = ApplyRequest {
            target: &host.site,
            fs: &host.disk,
            tree: &tree,
            kind: Kind::Apply,
            sandbox: name.as_str(),
            sandbox_id: &sandbox.record.id,
            modules,
            selection: brought.clone(),
            blobs: &store,
            interrupted: &|| interrupt.is_set(),
        };
        run_transaction(&job, &plan, &host.applies).map(Some)
    };
    let report = match done {
        Ok(report) => report,
        Err(problem) => {
            outcome.fail(&plan, &problem);
            outcome.print(wanted.json, more(0))?;
            return Err(told(problem, output));
        }
    };
    let mut after = before;
    for (step, (_, _, picks)) in plan.steps.iter().zip(brought) {
        let left = step.result.as_ref().map(|v| (v.kind, v.hash.clone()));
        after.paths.insert(step.path.clone(), AppliedPath { picks, left: Some(left) });
    }
    after.through = report.as_ref().map_or(after.through, |r| r.number);
    // A failure is only a warning, because the journal has the state as well.
    if let Err(error) = sandbox.set_applied(&after) {
        output.say(&format!("failed to update the record of {name}: {}", Escaped::new(&error.to_string())));
    }
    let written = plan.steps.iter().filter(|s| s.action != StepAction::Unchanged).count();
    if let Err(failure) = outcome.print(wanted.json, more(written)) {
        let were = if written == 1 { "was" } else { "were" };
        let done = format!("{} {were} applied, and that could not be printed", count(written, "file"));
        return Err(
            CliError::new(FAILED, format!("{done}: {}", failure.message())).hint(format!("airlock undo {name}"))
        );
    }
    if let Some(report) = &report {
        tell(report, output);
    }
    let state = draft::load(sandbox, sheet)?;
    let settled = is_decided(sheet, &sandbox.record, &state, &after);
    if !wanted.json {
        let send = way_to_send(&sandbox.record, sheet, &state);
        say_end(&plan, sandbox, of, written, (!settled).then_some(send), output);
        let ignored = sandbox.changeset()?.map(|changes| changes.ignored).unwrap_or_default();
        if let Some(holds) = holdings(&sandbox.record, &ignored, false) {
            output
                .say(&format!("{name} also holds {holds}, which no apply brings; it keeps it until airlock rm {name}"));
            if let Some(way) = way_to_get(name.as_str(), &ignored) {
                output.say(&way);
            }
        }
    }
    if settled && sandbox.record.settled.is_none() {
        lifecycle::settle(sandbox)?;
    }
    Ok(0)
}

/// Builds the plan for a selection, without writing to the working tree.
pub fn plan(
    repo: &HostRepo,
    commit: &str,
    tree: &WorkingTree,
    sheet: &ReviewModel<'_>,
    wanted: &ApplyOptions,
    (before, rounds): (&AppliedState, &[Changeset]),
    store: &Quarantine,
) -> Result<Plan, CliError> {
    let (mut wishes, mut nothing) = (Vec::new(), Vec::new());
    for choice in selected_changes(sheet, wanted, before, (rounds, store)) {
        match choice.wish(store)? {
            Ok(wish) => wishes.push(wish),
            Err(reason) => {
                nothing.push(Conflict { path: choice.change.path.clone(), reason: reason.into(), sides: None });
            }
        }
    }
    let modes = merge_modes(repo, tree, commit, wishes.iter().map(|wish| &wish.path))?;
    let terms = PlanOptions { on_conflict: wanted.on_conflict, merge_modes: modes, ..PlanOptions::default() };
    let mut plan = Plan::build(tree, wishes, store, terms)?;
    let into = if wanted.on_conflict == OnConflict::Skip { &mut plan.skipped } else { &mut plan.conflicts };
    into.extend(nothing);
    Ok(plan)
}

/// Reads the merge modes of paths from git's attributes: those of the working tree, or of the commit if the working tree
/// lacks the attributes file.
pub fn merge_modes<'a>(
    repo: &HostRepo,
    tree: &WorkingTree,
    commit: &str,
    paths: impl Iterator<Item = &'a RepoPath> + Clone,
) -> Result<BTreeMap<RepoPath, MergeMode>, CliError> {
    let mut over = AttributeFiles::new();
    for path in paths.clone() {
        let cuts = path.as_bytes().iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at + 1);
        for directory in std::iter::once(0).chain(cuts).map(|cut| &path.as_bytes()[..cut]) {
            if over.contains_key(directory) {
                continue;
            }
            let file = RepoPath::from_bytes(&[directory, b".gitattributes"].concat());
            if let Ok(file) = file
                && let Ok(PathState::File(seen)) = tree.observe(&file)
                && seen.version.kind != EntryKind::Link
                && seen.size() <= MAX_TEXT
            {
                over.insert(directory.to_vec(), Some(tree.read_file(&file, &seen)?));
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
        .merge_attributes(commit, &over, paths)?
        .into_iter()
        .map(|(path, attribute)| (path, mode(attribute)))
        .collect())
}

/// Returns the selected units of each file, with those that earlier applies wrote.
pub fn selected_changes<'a>(
    sheet: &'a ReviewModel<'_>,
    wanted: &ApplyOptions,
    before: &AppliedState,
    (rounds, store): (&'a [Changeset], &Quarantine),
) -> Vec<SelectedChange<'a>> {
    let choice = |file: &'a crate::review::ReviewFile<'_>| {
        let picks = wanted.selection.picks.get(&file.change.path)?.restricted_to(&file.units);
        let brought = before.paths.get(&file.change.path);
        let prior = brought.map(|b| b.picks.restricted_to(&file.units)).unwrap_or_default();
        let left = brought.and_then(|b| b.left.clone()).map(|v| v.map(|(kind, hash)| EntryContent { kind, hash }));
        let gone = brought.map(|b| retired_selection(&b.picks, &file.units)).unwrap_or_default();
        let earlier = prior_round_changes(rounds, store, &file.change.path, gone);
        (!picks.is_empty()).then_some(SelectedChange {
            change: file.change,
            picks,
            applied: prior,
            last_result: left,
            is_named: wanted.is_named,
            prior_rounds: earlier,
        })
    };
    sheet.files.iter().filter(|file| !file.is_refused()).filter_map(choice).collect()
}

/// Returns the part of a selection that is about none of these units, and therefore belongs to another round.
fn retired_selection(picks: &Selection, units: &[Unit]) -> Selection {
    let ids: BTreeSet<&str> = units.iter().map(|unit| unit.id.as_str()).collect();
    picks.iter().filter(|(id, _)| !ids.contains(id)).map(|(id, pick)| (id.to_owned(), pick.clone())).collect()
}

/// Reads the changesets of earlier rounds, if something was applied that is no longer part of this round.
pub fn rounds_of(
    sandbox: &Sandbox,
    sheet: &ReviewModel<'_>,
    before: &AppliedState,
) -> Result<Vec<Changeset>, CliError> {
    let brought = sheet.files.iter().filter_map(|f| Some((f, before.paths.get(&f.change.path)?)));
    let is_needed =
        brought.into_iter().any(|(file, brought)| !retired_selection(&brought.picks, &file.units).is_empty());
    Ok(if is_needed { sandbox.rounds()? } else { Vec::new() })
}

/// Finds the changes of earlier rounds that a selection belongs to. Changes that can no longer be read are skipped.
fn prior_round_changes<'a>(
    rounds: &'a [Changeset],
    store: &Quarantine,
    path: &RepoPath,
    mut picks: Selection,
) -> Vec<PriorRoundChange<'a>> {
    let mut found = Vec::new();
    for change in rounds.iter().filter_map(|round| round.files.iter().find(|f| f.path == *path)) {
        if picks.is_empty() {
            break;
        }
        let Ok((old, new)) = change.contents(store) else { continue };
        let of = split_units(change, &old, &new);
        let rest = retired_selection(&picks, &of);
        let here: Selection = (picks.iter().filter(|(id, _)| rest.get(id).is_none()))
            .map(|(id, pick)| (id.to_owned(), pick.clone()))
            .collect();
        if !here.is_empty() {
            found.push(PriorRoundChange { change, picks: here });
        }
        picks = rest;
    }
    found
}

/// Returns the applied units of each path before and after a plan, for the journal. Units of earlier rounds are kept unless
/// the plan supersedes them.
fn picks(plan: &Plan, before: &AppliedState, sheet: &ReviewModel<'_>) -> Vec<(RepoPath, Selection, Selection)> {
    let files: BTreeMap<&RepoPath, &[Unit]> =
        sheet.files.iter().map(|f| (&f.change.path, f.units.as_slice())).collect();
    let row = |step: &Step| {
        let old = before.paths.get(&step.path).map(|b| b.picks.clone()).unwrap_or_default();
        let gone = retired_selection(&old, files.get(&step.path).copied().unwrap_or_default());
        let kept = gone.iter().filter(|(id, _)| step.superseded.get(id).is_none());
        let kept: Selection = kept.map(|(id, pick)| (id.to_owned(), pick.clone())).collect();
        (step.path.clone(), old, step.picks.union(&kept))
    };
    plan.steps.iter().map(row).collect()
}

/// Checks each file that would be written. Refused files are an error, and so are high-risk files unless a review accepted
/// them individually or `--allow-risky` was given.
///
/// *Invariant:* this checks the paths to be written and not the selection, so that no mistake in the selection can apply
/// such a file.
pub fn check_refused_and_risky<'a>(
    sheet: &ReviewModel<'_>,
    paths: impl Iterator<Item = &'a RepoPath>,
    wanted: &ApplyOptions,
) -> Result<(), CliError> {
    let files: BTreeMap<&RepoPath, &crate::review::ReviewFile<'_>> =
        sheet.files.iter().map(|f| (&f.change.path, f)).collect();
    for path in paths {
        let name = String::from_utf8_lossy(path.as_bytes());
        let Some(file) = files.get(path) else {
            return Err(CliError::new(FAILED, format!("{name} is not among the changes; nothing was written")));
        };
        if file.is_refused() {
            let what = format!("{name} cannot be accepted: it {}; nothing was written", file.reasons());
            return Err(CliError::new(FAILED, what));
        }
        let is_granted = wanted.allow_risky || !wanted.is_named;
        if file.is_risky() && !is_granted {
            let what = format!("{name} needs a closer look: it {}; nothing was written", file.reasons());
            return Err(CliError::new(FAILED, what).hint("look at it, then add --allow-risky"));
        }
    }
    Ok(())
}

/// Checks that the user's git configuration has not started to name a file since its findings were computed.
///
/// # Errors
/// The configuration names a file, and `--allow-risky` was not given.
pub fn check_configured<'a>(
    repo: &HostRepo,
    modules: &[RepoPath],
    sheet: &ReviewModel<'_>,
    paths: impl Iterator<Item = &'a RepoPath>,
    wanted: &ApplyOptions,
) -> Result<(), CliError> {
    if wanted.allow_risky {
        return Ok(());
    }
    let rules = configured_rules(repo, modules)?;
    for path in paths {
        let is_known = sheet.files.iter().any(|f| f.change.path == *path && f.is_risky());
        let named = rules.matches(path).into_iter().find(|named| named.name == CONFIGURED);
        if let (false, Some(named)) = (is_known, named) {
            let name = String::from_utf8_lossy(path.as_bytes());
            let what = format!("{name} {}, since the changes were collected; nothing was written", named.reason);
            return Err(CliError::new(FAILED, what).hint("look at it, then add --allow-risky"));
        }
    }
    Ok(())
}

/// Checks the risks of contents that the review did not show: parts of a change, and merges. Only content that the working
/// tree does not have yet counts.
fn judge(
    repo: &HostRepo,
    sandbox: &Sandbox,
    sheet: &ReviewModel<'_>,
    plan: &Plan,
    wanted: &ApplyOptions,
    output: Output,
) -> Result<(), CliError> {
    let files: BTreeMap<&RepoPath, &crate::review::ReviewFile<'_>> =
        sheet.files.iter().map(|f| (&f.change.path, f)).collect();
    let is_other = |step: &&Step| match step.action {
        StepAction::Merge(_) | StepAction::WriteConflictMarkers(_) => true,
        StepAction::Create | StepAction::Replace => files.get(&step.path).is_some_and(|f| !step.picks.covers(&f.units)),
        StepAction::Delete | StepAction::Unchanged => false,
    };
    let others: Vec<&Step> = plan.steps.iter().filter(is_other).collect();
    if others.is_empty() {
        return Ok(());
    }
    let judge = Judge::of(repo, sandbox, sheet, output)?;
    let store = sandbox.quarantine()?;
    for step in others {
        let (Some(file), Some(left)) = (files.get(&step.path), &step.result) else { continue };
        let content = store.get(&left.hash)?;
        let host = step.expected.as_ref().and_then(|seen| store.get(&seen.version.hash).ok()).unwrap_or_default();
        if let Some(worst) = judge.worse(file, left.kind, &host, &content) {
            Judge::tell(&worst, &step.path, wanted.allow_risky, output)?;
        }
    }
    Ok(())
}

fn say_directories(plan: &Plan, output: Output) {
    for (paths, verb) in [(&plan.dirs_to_create, "make"), (&plan.dirs_to_remove, "remove, for nothing is left in it,")]
    {
        for path in paths.iter().take(20) {
            output.say(&format!("it would {verb} the directory {}", Escaped::new(path.as_bytes())));
        }
        if paths.len() > 20 {
            output.say(&format!("and {} more", paths.len() - 20));
        }
    }
}

/// Returns whether nothing of a sandbox is open: each part is applied or rejected, and no comment waits to be sent.
fn is_decided(sheet: &ReviewModel<'_>, record: &Record, state: &ReviewState, applied: &AppliedState) -> bool {
    let decisions = &state.decisions;
    if cannot_send(record).is_none() && has_unsent_comment(sheet.files.iter().flat_map(|f| &f.units), state) {
        return false;
    }
    let mut units = (sheet.files.iter()).filter(|f| !f.is_refused()).flat_map(|f| f.units.iter().map(move |u| (f, u)));
    units.all(|(file, unit)| {
        let brought = applied.paths.get(&file.change.path).and_then(|b| b.picks.get(&unit.id));
        let is_rejected = |line| decisions.line(&unit.id, line) == Some(Decision::Rejected);
        match brought {
            Some(UnitSelection::All | UnitSelection::Text(_)) => true,
            Some(UnitSelection::Lines(lines)) => {
                (0..unit.line_count()).all(|line| lines.contains(line) || is_rejected(line))
            }
            None => decisions.count_lines(unit).rejected == unit.line_count(),
        }
    })
}

fn say_end(plan: &Plan, sandbox: &Sandbox, of: usize, written: usize, open: Option<String>, output: Output) {
    let name = &sandbox.record.name;
    let already = plan.steps.len() - written;
    let there = if already > 0 { format!(", {already} as accepted already") } else { String::new() };
    let marked: Vec<&Step> =
        plan.steps.iter().filter(|s| matches!(s.action, StepAction::WriteConflictMarkers(_))).collect();
    if !marked.is_empty() {
        let hold = if marked.len() == 1 { "holds" } else { "hold" };
        output.say(&format!("{} {hold} markers: decide there (<<<<<<< to >>>>>>>)", count(marked.len(), "file")));
    }
    if !plan.skipped.is_empty() {
        output.say(&format!("{} passed over", count(plan.skipped.len(), "conflict")));
    }
    let undo = if written > 0 { format!(" Undo: airlock undo {name} ·") } else { String::new() };
    let next = match open {
        None => format!("{undo} Everything is decided: airlock resume {name} continues, airlock rm {name} removes it"),
        Some(send) => format!("{undo} Next: airlock review {name}{send}, or airlock rm {name}"),
    };
    output.say(&format!("{written} of {} applied{there}.{next}", count(of, "file")));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::changes::{ContentHash, FileChange, FileVersion, Finding, Severity};
    use crate::core::path::EntryKind;

    #[test]
    fn a_plan_is_checked_whatever_selected_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Quarantine::open(folder.path().to_owned()).expect("it opens");
        let hash: ContentHash = store.put(b"x\n").expect("stored");
        let change = |path: &str, level: Option<Severity>| FileChange {
            path: RepoPath::from_bytes(path.as_bytes()).expect("a path"),
            old: None,
            new: Some(FileVersion { kind: EntryKind::Regular, hash: hash.clone(), size: 2 }),
            renamed_from: None,
            findings: level.into_iter().map(|level| Finding::for_file("r", level, "is what it is")).collect(),
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
            refused: Vec::new(),
            ignored_by_agent_rules: Vec::new(),
            ignored: Default::default(),
        };
        let sheet = ReviewModel::open(&changes, &store).expect("it opens");
        let verdict = |path: &str, is_named: bool, allow_risky: bool| {
            let path = RepoPath::from_bytes(path.as_bytes()).expect("a path");
            let wanted = ApplyOptions { is_named, allow_risky, ..ApplyOptions::default() };
            check_refused_and_risky(&sheet, [&path].into_iter(), &wanted).is_ok()
        };
        for (path, named, named_with_consent, reviewed) in [
            ("plain", true, true, true),
            ("high", false, true, true),
            ("refused", false, false, false),
            ("of no change", false, false, false),
        ] {
            let found = [verdict(path, true, false), verdict(path, true, true), verdict(path, false, false)];
            assert_eq!(found, [named, named_with_consent, reviewed], "{path}");
        }
    }
}
