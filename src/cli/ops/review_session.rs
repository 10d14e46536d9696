//! Runs a review of a changeset, and applies the accepted changes.

use std::io;

use crate::changes::{Changeset, FileChange, Finding, Unit};
use crate::cli::confirm::confirm_apply;
use crate::cli::editor;
use crate::cli::error::{CONFLICT, CliError};
use crate::cli::ops::apply_options::ApplyOptions;
use crate::cli::ops::apply_planner::WorktreePlanner;
use crate::cli::ops::apply_to_worktree::apply_to_worktree;
use crate::cli::ops::decided::update_decided;
use crate::cli::ops::draft::{DRAFT_FILE, draft_error, join_renames, open_draft, open_model};
use crate::cli::ops::head_change::describe_head_change;
use crate::cli::ops::risk_check::RiskChecker;
use crate::cli::ops::sending::resume_command;
use crate::cli::ops::settings::{load_keymap, load_settings, load_style_sheet};
use crate::cli::output::Output;
use crate::config::Preselect;
use crate::core::on_conflict::OnConflict;
use crate::core::path::RepoPath;
use crate::git::HostRepo;
use crate::render::TextRenderer;
use crate::review::{
    Action, ApplyPlanner, Decision, DecisionLog, DecisionTarget, Decisions, Event, Feedback, Preview, ReviewHost,
    ReviewModel, ReviewOutcome, ReviewState, RoundDiff, read_draft, update_state,
};
use crate::sandbox::Sandbox;
use crate::terminal::Signals;
use crate::tui::{App, PlainReview, ReviewOptions};
use crate::{terminal, tui};

/// Returns whether a user is at a terminal that can show the full-screen review.
fn is_full_screen() -> bool {
    terminal::is_interactive() && std::env::var("TERM").is_ok_and(|term| !term.is_empty() && term != "dumb")
}

/// The host of a review on the command line.
struct CliReviewHost<'a> {
    planner: &'a WorktreePlanner<'a>,
    risk_checker: RiskChecker,
    draft: DecisionLog,
    /// Directories of texts that an editor was started on. They are kept for the whole review, because an editor may return
    /// before it is closed.
    editor_dirs: Vec<tempfile::TempDir>,
}

impl ReviewHost for CliReviewHost<'_> {
    fn save_events(&mut self, events: &[Event]) -> io::Result<()> {
        self.draft.append_events(events).map_err(io::Error::other)
    }

    fn edit_text(&mut self, path: &RepoPath, text: &[u8]) -> io::Result<Vec<u8>> {
        let (dir, edited) = editor::edit_text(path, text)?;
        self.editor_dirs.push(dir);
        Ok(edited)
    }

    fn view_text(&mut self, path: &RepoPath, text: &[u8]) -> io::Result<bool> {
        Ok(self.edit_text(path, text)? != text)
    }

    fn find_risks(&self, change: &FileChange, old: &[u8], new: &[u8]) -> Vec<Finding> {
        self.risk_checker.content_findings(change, old, new)
    }

    fn preview_apply(&mut self, decisions: &Decisions) -> Result<Preview, String> {
        self.planner.plan_apply(decisions, &|| false)
    }
}

/// The result of a review.
pub(crate) enum ReviewEnd {
    /// The exit status. Nothing is left to do.
    Done(u8),
    /// The message that the agent is resumed with.
    Send(Box<Sandbox>, Feedback),
}

/// Runs a review, and then asks whether to apply.
pub(crate) fn review_sandbox(
    host: &HostRepo,
    mut sandbox: Sandbox,
    plain: bool,
    (start_at, notice): (Option<RepoPath>, Option<String>),
    output: Output,
) -> Result<ReviewEnd, CliError> {
    let name = sandbox.record.name.clone();
    let Some(changes) = sandbox.read_changeset()? else {
        return Err(CliError::failed(format!("the sandbox {name} has no changes")));
    };
    let changes = join_renames(&sandbox, changes);
    let model = open_model(&sandbox, &changes)?;
    let settings = load_settings()?;
    let saved = read_draft(&sandbox.file_path(DRAFT_FILE)).map_err(|error| draft_error(&error, &sandbox))?;
    let is_first = saved.reviewed_rounds().last() != Some(&changes.id);
    let (draft, mut state) = open_draft(&sandbox, &model)?;
    let risk_checker = RiskChecker::new(host, &sandbox, &model, output)?;
    let round_diff = compare_rounds(&sandbox, &model, &state)?;
    let (mut pending_feedback, mut reopen_at) = (None, None);
    let planner = WorktreePlanner::new(host, &sandbox, &model);
    let mut review_host = CliReviewHost { planner: &planner, risk_checker, draft, editor_dirs: Vec::new() };
    if is_first && settings.preselect == Some(Preselect::All) {
        let accept = preselect_action(&model, &state.decisions, round_diff.as_ref());
        state = update_state(state, &model, accept);
        review_host.save_events(&state.take_events())?;
    }
    terminal::discard_input();
    let cannot_send = crate::cli::ops::sending::send_obstacle(&sandbox.record);
    let commits = sandbox.read_commits(&changes.id).commits;
    let notice = notice.or_else(|| describe_head_change(host, &sandbox.record));
    let outcome = if plain || !is_full_screen() {
        if let Some(notice) = &notice {
            output.print_status(&format!("note: {notice}"));
        }
        let renderer = TextRenderer { color: output.is_colored(), width: output.stdout_width() };
        let outcome = loop {
            let (input, out) = (io::stdin().lock(), io::stdout().lock());
            let (cannot_send, commits) = (cannot_send.clone(), commits.clone());
            let mut plain = PlainReview {
                model: &model,
                input,
                output: out,
                renderer,
                cannot_send,
                commits,
                round_diff: round_diff.clone(),
                files: (0..model.files.len()).collect(),
                order: "p",
            };
            let outcome = plain.run(&mut state, &mut review_host)?;
            drop(plain);
            let confirmed = match outcome {
                ReviewOutcome::Apply(on_conflict) => {
                    ReviewOutcome::Apply(Some(on_conflict.unwrap_or(OnConflict::Abort)))
                }
                ReviewOutcome::ApplyAndStay => ReviewOutcome::ApplyAndStay,
                other => break other,
            };
            // Without a person, nothing is applied.
            if !terminal::is_interactive() {
                break ReviewOutcome::Apply(None);
            }
            let accepted = count_accepted(&model, &state.decisions);
            // If the user declines, the review continues.
            if accepted == 0 || confirm_apply(&model, &state.decisions, accepted)? {
                break confirmed;
            }
        };
        if outcome == ReviewOutcome::Send {
            pending_feedback = Feedback::from_review(&model, &state)?;
        }
        outcome
    } else {
        // The screen must be restored before a signal ends the process.
        Signals::release_signals();
        let style_sheet = load_style_sheet(&settings, output);
        let review_options = ReviewOptions {
            name: name.to_string(),
            styles: style_sheet,
            round_diff,
            cannot_send,
            start_at,
            commits,
            notice,
            keymap: load_keymap(&settings)?,
        };
        let mut app = App::new(&model, std::mem::take(&mut state), review_options);
        let outcome = tui::run(&mut app, &mut review_host, Some(&planner))?;
        reopen_at = app.current_path();
        (state, pending_feedback) = (app.state, app.pending_feedback);
        outcome
    };
    if outcome == ReviewOutcome::Discarded {
        review_host.draft.delete_log().map_err(|error| draft_error(&error, &sandbox))?;
        update_decided(host, &mut sandbox, &model, &ReviewState::default())?;
        output.print_status(&format!("discarded the draft. Next: airlock review {name}, or airlock rm {name}"));
        return Ok(ReviewEnd::Done(0));
    }
    review_host.draft.sync_and_close().map_err(|error| draft_error(&error, &sandbox))?;
    update_decided(host, &mut sandbox, &model, &state)?;
    if outcome == ReviewOutcome::Reopen {
        return review_sandbox(host, sandbox, plain, (reopen_at, None), output);
    }
    if outcome == ReviewOutcome::Interrupted {
        return Err(CliError::interrupted("interrupted; the decisions are saved")
            .with_hint(format!("to continue, run `airlock review {name}`")));
    }
    if let (ReviewOutcome::Send, Some(feedback)) = (outcome, pending_feedback) {
        return Ok(ReviewEnd::Send(Box::new(sandbox), feedback));
    }
    let decisions = &state.decisions;
    let accepted = count_accepted(&model, decisions);
    let send = crate::cli::ops::sending::send_hint(&sandbox.record, &model, &state);
    if accepted == 0 || sandbox.record.decided_at.is_some() {
        let what = if accepted == 0 { "nothing is accepted" } else { "all changes are decided and applied" };
        let next = match sandbox.record.decided_at {
            Some(_) => resume_command(&sandbox.record),
            None => format!("airlock review {name}"),
        };
        output.print_status(&format!("{what}. Next: {next}{send}, or airlock rm {name}"));
        return Ok(ReviewEnd::Done(0));
    }
    if outcome == ReviewOutcome::Quit {
        let undecided = sandbox.record.progress.as_ref().map_or(0, |progress| progress.hunks - progress.decided);
        let is_applied = sandbox.record.progress.as_ref().is_some_and(|progress| progress.applied >= progress.accepted);
        let apply = (!is_applied).then(|| format!("airlock apply {name}"));
        let review = (undecided > 0).then(|| format!("airlock review {name}"));
        let next = apply.into_iter().chain(review).collect::<Vec<_>>().join(", ");
        let next = if next.is_empty() { resume_command(&sandbox.record) } else { next };
        output.print_status(&format!("the decisions are saved. Next: {next}{send}"));
        return Ok(ReviewEnd::Done(0));
    }
    let on_conflict = match outcome {
        ReviewOutcome::Apply(Some(conflicts)) => Some(conflicts),
        ReviewOutcome::ApplyAndStay => Some(OnConflict::Abort),
        // In the full-screen review, the user chooses to apply there.
        ReviewOutcome::Completed if terminal::is_interactive() => {
            confirm_apply(&model, decisions, accepted)?.then_some(OnConflict::Abort)
        }
        _ => None,
    };
    if let Some(on_conflict) = on_conflict {
        let options = ApplyOptions { on_conflict, ..ApplyOptions::from_decisions(&model, decisions) };
        let status = apply_to_worktree(host, &mut sandbox, &model, &options, output)?.status;
        if status == 0 && outcome == ReviewOutcome::ApplyAndStay {
            let notice = format!("applied; to undo it, run airlock undo {name}");
            return review_sandbox(host, sandbox, plain, (reopen_at, Some(notice)), output);
        }
        if status == CONFLICT {
            output
                .print_status(&format!("the decisions are saved. Next: airlock review {name} (x resolves a conflict)"));
        } else if status != 0 {
            output.print_status(&format!("the decisions are saved. Next: airlock apply {name}"));
        }
        return Ok(ReviewEnd::Done(status));
    }
    output.print_status(&format!("the decisions are saved. Next: airlock apply {name}{send}"));
    Ok(ReviewEnd::Done(0))
}

/// Counts the hunks with an accepted part.
fn count_accepted(model: &ReviewModel<'_>, decisions: &Decisions) -> usize {
    model.files.iter().flat_map(|f| &f.units).filter(|u| decisions.is_accepted(u)).count()
}

/// Accepts all undecided units, as `A` does, and what is undecided of hunks that are new in this round. High-risk units are
/// skipped.
fn preselect_action(model: &ReviewModel<'_>, decisions: &Decisions, round_diff: Option<&RoundDiff>) -> Action {
    let files = model.files.iter().enumerate().filter(|(_, f)| !f.is_refused());
    let units = files.flat_map(|(file, f)| f.units.iter().enumerate().map(move |(unit, of)| (file, unit, of)));
    let is_new = |id: &str| round_diff.is_some_and(|diff| diff.new.contains(id));
    let open_target = |(file, unit, of): (usize, usize, &Unit)| match decisions.get(&of.id) {
        None => Some(DecisionTarget { file, unit, lines: None }),
        Some(decision) => {
            let lines = decision.matching_lines(|line| line.is_none());
            (is_new(&of.id) && !lines.is_empty()).then_some(DecisionTarget { file, unit, lines: Some(lines) })
        }
    };
    let items = units.filter_map(open_target).collect();
    Action::BulkDecide { items, decision: Decision::Accepted, hidden: 0 }
}

/// Compares with the last earlier round that was reviewed. Returns `None` if no earlier round was.
fn compare_rounds(
    sandbox: &Sandbox,
    model: &ReviewModel<'_>,
    state: &ReviewState,
) -> Result<Option<RoundDiff>, CliError> {
    let is_reviewed = |round: &Changeset| round.id != *model.changeset && state.reviewed_rounds().contains(&round.id);
    let Some(before) = sandbox.read_rounds()?.into_iter().find(is_reviewed) else { return Ok(None) };
    let before = before.join_renames(state.separate_renames());
    Ok(Some(RoundDiff::from_rounds(model, &before, &sandbox.open_quarantine()?, state)))
}
