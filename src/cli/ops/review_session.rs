//! Runs a review of a changeset, and applies the accepted changes.

use std::io;

use crate::apply::{Conflict, OnConflict, Step};
use crate::changes::{Changeset, FileChange, Finding};
use crate::cli::confirm::confirm_apply;
use crate::cli::editor;
use crate::cli::error::{CliError, INTERRUPTED};
use crate::cli::ops::apply_context::ApplyContext;
use crate::cli::ops::apply_options::ApplyOptions;
use crate::cli::ops::apply_to_worktree::{apply_to_worktree, plan, rounds_of};
use crate::cli::ops::conflict;
use crate::cli::ops::draft::{DRAFT, failure, open};
use crate::cli::ops::risk_check::Judge;
use crate::cli::outcome::{OutcomeMode, action_label};
use crate::cli::output::Output;
use crate::config::{Preselect, Settings, ThemeMode};
use crate::core::path::RepoPath;
use crate::git::HostRepo;
use crate::render::TextRenderer;
use crate::review::{
    Action, ConflictHandling, Decision, DecisionLog, DecisionTarget, Decisions, Event, Feedback, Preview, PreviewLine,
    ReviewHost, ReviewModel, ReviewOutcome, ReviewState, RoundDiff, read_draft, update,
};
use crate::sandbox::Sandbox;
use crate::terminal::Signals;
use crate::tui::{App, PlainReview, ReviewOptions, StyleSheet, Theme};
use crate::{terminal, tui};

/// Returns whether a person is at a terminal that can show the full-screen review.
fn is_full_screen() -> bool {
    terminal::is_interactive() && std::env::var("TERM").is_ok_and(|term| !term.is_empty() && term != "dumb")
}

/// The host of a review on the command line.
struct CliReviewHost<'a> {
    repo: &'a HostRepo,
    sandbox: &'a Sandbox,
    sheet: &'a ReviewModel<'a>,
    judge: Judge,
    draft: DecisionLog,
    /// Directories of texts that an editor was started on. They are kept for the whole review, because an editor may return
    /// before it is closed.
    texts: Vec<tempfile::TempDir>,
}

impl ReviewHost for CliReviewHost<'_> {
    fn save_events(&mut self, events: &[Event]) -> io::Result<()> {
        self.draft.keep(events).map_err(io::Error::other)
    }

    fn edit_text(&mut self, path: &RepoPath, text: &[u8]) -> io::Result<Vec<u8>> {
        let (folder, left) = editor::edit(path, text)?;
        self.texts.push(folder);
        Ok(left)
    }

    fn view_text(&mut self, path: &RepoPath, text: &[u8]) -> io::Result<()> {
        self.texts.push(editor::view(path, text)?);
        Ok(())
    }

    fn find_risks(&self, change: &FileChange, old: &[u8], new: &[u8]) -> Vec<Finding> {
        self.judge.findings(change, old, new)
    }

    fn preview_apply(&mut self, decisions: &Decisions) -> Result<Preview, String> {
        self.preview(decisions).map_err(|failure| failure.message().to_owned())
    }
}

impl CliReviewHost<'_> {
    fn preview(&self, decisions: &Decisions) -> Result<Preview, CliError> {
        let host = ApplyContext::of(self.repo)?;
        let tree = host.tree(&self.sandbox.record.manifest.modules)?;
        let (store, before) = (self.sandbox.quarantine()?, host.applied_state(self.sandbox)?);
        let rounds = rounds_of(self.sandbox, self.sheet, &before)?;
        let plan = plan(
            self.repo,
            &self.sandbox.record.base,
            &tree,
            self.sheet,
            &ApplyOptions::decided(self.sheet, decisions),
            (&before, &rounds),
            &store,
        )?;
        let parts = self.sheet.files.iter().map(|f| (&f.change.path, f.units.as_slice())).collect();
        let line = |step: &Step| PreviewLine {
            path: step.path.clone(),
            outcome: action_label(&step.action, OutcomeMode::Future),
            reason: crate::cli::outcome::step_note(step, &parts),
            is_conflict: false,
            sides: Vec::new(),
        };
        let conflict = |c: &Conflict| PreviewLine {
            path: c.path.clone(),
            outcome: "conflict",
            reason: c.reason.clone(),
            is_conflict: true,
            sides: conflict::show(std::slice::from_ref(c), conflict::APPLY, &store)
                .lines()
                .skip(2)
                .map(str::to_owned)
                .collect(),
        };
        let mut lines: Vec<PreviewLine> =
            plan.steps.iter().map(line).chain(plan.conflicts.iter().map(conflict)).collect();
        lines.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Preview { lines })
    }
}

/// The result of a review.
pub enum ReviewEnd {
    /// The exit status. Nothing is left to do.
    Done(u8),
    /// The message that the agent is resumed with.
    Send(Box<Sandbox>, Feedback),
}

/// Runs a review, and then asks whether to apply.
pub fn review_sandbox(
    host: &HostRepo,
    mut sandbox: Sandbox,
    changes: &Changeset,
    plain: bool,
    output: Output,
) -> Result<ReviewEnd, CliError> {
    let sheet = ReviewModel::open(changes, &sandbox.quarantine()?)?;
    let name = sandbox.record.name.clone();
    let settings = Settings::load(|name| std::env::var(name).ok())?;
    let known = read_draft(&sandbox.path(DRAFT)).map_err(|error| failure(&error, &sandbox))?;
    let is_first = known.rounds().last() != Some(&changes.id);
    let (draft, mut state) = open(&sandbox, &sheet)?;
    let judge = Judge::of(host, &sandbox, &sheet, output)?;
    let since = since(&sandbox, &sheet, &state)?;
    let mut outbox = None;
    let mut desk = CliReviewHost { repo: host, sandbox: &sandbox, sheet: &sheet, judge, draft, texts: Vec::new() };
    if is_first && settings.preselect == Some(Preselect::All) {
        let accept = preselected(&sheet, &state.decisions);
        state = update(state, &sheet, accept);
        desk.save_events(&state.take_events())?;
    }
    terminal::discard_input();
    let ended = if plain || !is_full_screen() {
        let painter = TextRenderer { colour: output.colours(), width: output.width() };
        loop {
            let (input, out) = (io::stdin().lock(), io::stdout().lock());
            let mut plain = PlainReview { sheet: &sheet, input, output: out, painter };
            let ended = plain.run(&mut state, &mut desk)?;
            drop(plain);
            if ended != ReviewOutcome::Apply(None) || !terminal::is_interactive() {
                break ended;
            }
            let accepted = accepted(&sheet, &state.decisions);
            // If the user declines, the review continues.
            if accepted == 0 || confirm_apply(&sheet, &state.decisions, accepted)? {
                break ReviewOutcome::Apply(Some(ConflictHandling::Abort));
            }
        }
    } else {
        // The screen must be restored before a signal ends the process.
        Signals::yield_turn();
        let theme = match settings.theme.unwrap_or_default() {
            ThemeMode::Auto => None,
            ThemeMode::Dark => Some(Theme::Dark),
            ThemeMode::Light => Some(Theme::Light),
        };
        let look = StyleSheet::of(output.colours(), theme, &|name| std::env::var(name).ok());
        let cannot_send = crate::cli::ops::sending::cannot_send(&sandbox.record);
        let opening = ReviewOptions { name: name.to_string(), look, since, cannot_send };
        let mut app = App::new(&sheet, std::mem::take(&mut state), opening);
        let ended = tui::run(&mut app, &mut desk)?;
        (state, outbox) = (app.state, app.outbox);
        ended
    };
    if ended == ReviewOutcome::Discarded {
        desk.draft.discard().map_err(|error| failure(&error, &sandbox))?;
        output.say(&format!("the draft is discarded. Next: airlock review {name}, or airlock rm {name}"));
        return Ok(ReviewEnd::Done(0));
    }
    desk.draft.close().map_err(|error| failure(&error, &sandbox))?;
    if ended == ReviewOutcome::Signalled {
        return Err(CliError::new(INTERRUPTED, "interrupted; what was decided is saved")
            .hint(format!("airlock review {name} goes on")));
    }
    if let (ReviewOutcome::Send, Some(feedback)) = (ended, outbox) {
        return Ok(ReviewEnd::Send(Box::new(sandbox), feedback));
    }
    let decisions = &state.decisions;
    let accepted = accepted(&sheet, decisions);
    let send = crate::cli::ops::sending::way_to_send(&sandbox.record, &sheet, &state);
    if ended == ReviewOutcome::Left || accepted == 0 {
        let what = if accepted == 0 { "nothing is accepted" } else { "the decisions are saved" };
        output.say(&format!("{what}. Next: airlock review {name}{send}, or airlock rm {name}"));
        return Ok(ReviewEnd::Done(0));
    }
    let on_conflict = match ended {
        ReviewOutcome::Apply(Some(conflicts)) => Some(conflicts),
        // In the full-screen review, the user chooses to apply there.
        ReviewOutcome::Through if terminal::is_interactive() => {
            confirm_apply(&sheet, decisions, accepted)?.then_some(ConflictHandling::Abort)
        }
        _ => None,
    };
    if let Some(on_conflict) = on_conflict {
        let on_conflict = match on_conflict {
            ConflictHandling::Abort => OnConflict::Abort,
            ConflictHandling::Skip => OnConflict::Skip,
            ConflictHandling::Markers => OnConflict::Markers,
        };
        let wanted = ApplyOptions { on_conflict, ..ApplyOptions::decided(&sheet, decisions) };
        let status = apply_to_worktree(host, &mut sandbox, &sheet, &wanted, output)?;
        if status != 0 {
            output.say(&format!("the decisions are saved. Next: airlock apply {name}"));
        }
        return Ok(ReviewEnd::Done(status));
    }
    output.say(&format!("the decisions are saved. Next: airlock apply {name}{send}"));
    Ok(ReviewEnd::Done(0))
}

/// Counts the hunks with an accepted part.
fn accepted(sheet: &ReviewModel<'_>, decisions: &Decisions) -> usize {
    sheet.files.iter().flat_map(|f| &f.units).filter(|u| decisions.is_accepted(u)).count()
}

/// Accepts all undecided units, as `A` does. High-risk units are skipped.
fn preselected(sheet: &ReviewModel<'_>, decisions: &Decisions) -> Action {
    let files = sheet.files.iter().enumerate().filter(|(_, f)| !f.is_refused());
    let units = files.flat_map(|(file, f)| f.units.iter().enumerate().map(move |(unit, of)| (file, unit, of)));
    let open = units.filter(|(_, _, of)| decisions.get(&of.id).is_none());
    let items = open.map(|(file, unit, _)| DecisionTarget { file, unit, lines: None }).collect();
    Action::BulkDecide { items, decision: Decision::Accepted, hidden: 0 }
}

/// Compares with the last earlier round that was reviewed. Returns `None` if no earlier round was.
fn since(sandbox: &Sandbox, sheet: &ReviewModel<'_>, state: &ReviewState) -> Result<Option<RoundDiff>, CliError> {
    let is_reviewed = |round: &Changeset| round.id != *sheet.changeset && state.rounds().contains(&round.id);
    let Some(before) = sandbox.rounds()?.into_iter().find(is_reviewed) else { return Ok(None) };
    Ok(Some(RoundDiff::of(sheet, &before, &sandbox.quarantine()?)))
}
