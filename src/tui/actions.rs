//! Review actions of the full screen: accept, reject, split, edit, comment and undo.

use std::io;

use super::app::{App, ConfirmAction, Cursor, Filter, Granularity, Mode, PromptKind};
use super::keymap::Command;
use super::keys::Effect;
use crate::changes::{HunkLine, Severity as Risk, UnitKind};
use crate::core::escape::Escaped;
use crate::core::path::RepoPath;
use crate::review::{
    Action, CommentAnchor, CommentScope, Decision, DecisionTarget, EDITOR_RETURNED_AT_ONCE, EditResult, FileText,
    ReviewHost, ReviewOutcome, UnitDecision, edit_hunk, finding_line, is_comment_sent, refusal_message,
};

/// Maximum size of a comment that is written in an editor, in bytes.
const MAX_COMMENT_BYTES: usize = 32 << 10;

impl App<'_> {
    pub(crate) fn toggled_decision(&self) -> Option<Decision> {
        let items = self.decision_targets();
        let first = items.first().and_then(|item| {
            let unit = self.model.files[item.file].units.get(item.unit)?;
            let line = item.lines.as_ref().and_then(|lines| lines.iter().next()).unwrap_or(0);
            self.state.decisions.line_decision(&unit.id, line)
        });
        match first {
            None => Some(Decision::Accepted),
            Some(Decision::Accepted) => Some(Decision::Rejected),
            Some(Decision::Rejected) => None,
        }
    }

    pub(crate) fn decide_targets(
        &mut self,
        decision: Option<Decision>,
        advance: bool,
        host: &mut dyn ReviewHost,
    ) -> io::Result<Effect> {
        let items = self.decision_targets();
        let Some(file) = self.current_file() else { return Ok(Effect::Redraw) };
        if items.is_empty() {
            self.message = Some(if file.units.is_empty() {
                "nothing to decide here".into()
            } else {
                format!("hidden by this view{}", self.key_note(Command::HideBlanks, "shows it"))
            });
            return Ok(Effect::Redraw);
        }
        let is_many = items.len() > 1 && items.iter().all(|item| item.lines.is_none());
        if is_many && file.is_risky() && !file.is_refused() && decision == Some(Decision::Accepted) {
            let reason = file.change.findings.first().map(finding_line).unwrap_or_default();
            let question =
                format!("Accept all {} parts of {}? {reason}", items.len(), self.escaped_path(self.cursor.file));
            self.mode = Mode::Confirm(question, ConfirmAction::File(items));
            return Ok(Effect::Redraw);
        }
        let hidden = if self.granularity == Granularity::File { file.units.len() - items.len() } else { 0 };
        let note = if is_many { self.reversal_message(&items, decision) } else { None };
        let note = note.or_else(|| self.dropped_edit_message(&items, decision));
        let note = note.or_else(|| (hidden > 0).then(|| format!("{hidden} hidden by this view skipped")));
        self.run_action(Action::Decide(items, decision), host)?;
        if self.message.is_none() && advance {
            self.go_to_next_undecided();
        }
        if self.message.is_none() {
            self.message = note;
        }
        self.finish_decision();
        Ok(Effect::Redraw)
    }

    /// Returns a message if a decision replaces the user's own text.
    fn dropped_edit_message(&self, items: &[DecisionTarget], decision: Option<Decision>) -> Option<String> {
        let is_edited = |item: &DecisionTarget| {
            let unit = self.model.files[item.file].units.get(item.unit);
            unit.is_some_and(|unit| matches!(self.state.decisions.get(&unit.id), Some(UnitDecision::Edited(_))))
        };
        let is_dropped = decision != Some(Decision::Accepted) && items.iter().any(is_edited);
        is_dropped.then(|| format!("your edit is dropped{}", self.key_note(Command::Undo, "brings it back")))
    }

    /// Returns a message if a decision on many units reverses earlier decisions.
    fn reversal_message(&self, items: &[DecisionTarget], decision: Option<Decision>) -> Option<String> {
        let line_counts = |item: &DecisionTarget| self.counts.unit_line_counts(item.file, item.unit);
        let (lines, before, now): (usize, _, _) = match decision? {
            Decision::Accepted => (items.iter().map(|i| line_counts(i).rejected).sum(), "rejected", "accepted"),
            Decision::Rejected => (items.iter().map(|i| line_counts(i).accepted).sum(), "accepted", "rejected"),
        };
        let verb = if lines == 1 { "line is" } else { "lines are" };
        let undo = self.key_note(Command::Undo, "undoes it");
        (lines > 0).then(|| format!("{lines} {before} {verb} now {now}, like the rest of the file{undo}"))
    }

    /// Ends the range of lines, and lays the file out again if it showed edited text: a new decision replaces an edit.
    pub(crate) fn finish_decision(&mut self) {
        self.anchor = None;
        if self.layout.as_ref().is_some_and(|o| !o.edited.is_empty()) {
            self.update_layout();
        }
    }

    pub(crate) fn decide_rest_of_file(&mut self, decision: Decision, host: &mut dyn ReviewHost) -> io::Result<Effect> {
        let Some(file) = self.current_file() else { return Ok(Effect::Redraw) };
        if decision == Decision::Accepted && file.is_refused() {
            self.message = Some(refusal_message(file));
            return Ok(Effect::Redraw);
        }
        let (items, hidden) = self.undecided_targets(self.cursor.file);
        self.run_action(Action::BulkDecide { items, decision, hidden }, host)?;
        let message = self.message.take();
        let has_rest = decision == Decision::Accepted && (file.is_risky() || hidden > 0);
        if !has_rest {
            self.go_to_next_undecided();
        }
        self.message = message;
        self.finish_decision();
        Ok(Effect::Redraw)
    }

    pub(crate) fn ask_to_decide_rest(&mut self, decision: Decision) {
        self.ask_to_decide(self.files.clone(), decision, "");
    }

    pub(crate) fn run_confirmed_action(
        &mut self,
        pending: ConfirmAction,
        host: &mut dyn ReviewHost,
    ) -> io::Result<Effect> {
        match pending {
            ConfirmAction::Discard => return Ok(Effect::Exit(ReviewOutcome::Discarded)),
            ConfirmAction::File(items) => {
                self.run_action(Action::Decide(items, Some(Decision::Accepted)), host)?;
                self.go_to_next_undecided();
            }
            ConfirmAction::Files { files, decision, overrides } => {
                let (mut targets, mut hidden) = (Vec::new(), 0);
                for file in &files {
                    let (items, unseen) = self.bulk_targets(*file, decision, overrides);
                    targets.extend(items);
                    hidden += unseen;
                }
                self.run_action(Action::BulkDecide { items: targets, decision, hidden }, host)?;
                let message = self.message.take();
                self.go_to_next_undecided();
                self.message = message;
            }
        }
        self.finish_decision();
        Ok(Effect::Redraw)
    }

    pub(crate) fn toggle_range(&mut self) {
        if self.anchor.take().is_none() {
            self.granularity = Granularity::Line;
            self.anchor = Some((self.cursor.unit, self.cursor.row));
            let key = |command| self.keymap.first_key_name(command, self.styles.unicode);
            let keys = [Command::Accept, Command::Reject, Command::Toggle].map(key);
            self.message = Some(format!("range: move, then {}, {} or {} · Esc ends it", keys[0], keys[1], keys[2]));
        }
    }

    pub(crate) fn undo_or_redo(&mut self, action: Action, host: &mut dyn ReviewHost) -> io::Result<Effect> {
        self.run_action(action, host)?;
        // If the action changed several units, go to the first of them.
        let first = self.state.touched.iter().filter_map(|id| self.counts.unit_position(id)).min();
        if let Some((file, unit)) = first {
            if !self.files.contains(&file) {
                self.filter = Filter::All;
                self.select_files();
            }
            if (self.cursor.file, self.cursor.unit) != (file, unit) {
                self.move_cursor(Cursor { file, unit, row: 0 });
            }
        }
        self.update_layout();
        self.clamp_cursor();
        Ok(Effect::Redraw)
    }

    pub(crate) fn split_or_join_hunk(&mut self, host: &mut dyn ReviewHost) -> io::Result<Effect> {
        let (Some(file), Some(unit)) = (self.current_file(), self.current_unit()) else { return Ok(Effect::Redraw) };
        let is_at_rename = unit.kind == UnitKind::Rename || self.granularity == Granularity::File;
        if is_at_rename && file.change.renamed_from.is_some() {
            self.state.toggle_separate_rename(&file.change.path);
            host.save_events(&self.state.take_events())?;
            return Ok(Effect::Exit(ReviewOutcome::Reopen));
        }
        let size = self.layout.as_ref().map_or(1, |o| o.unit_row_count(self.cursor.unit));
        if !matches!(unit.kind, UnitKind::Hunk { .. }) || size < 2 {
            self.message = Some("this cannot be split".into());
            return Ok(Effect::Redraw);
        }
        if self.granularity != Granularity::Line {
            self.set_granularity(Granularity::Line);
            let again = self.key_note(Command::Split, "splits there");
            self.message = Some(format!("move to the first line of the second part{again}"));
            return Ok(Effect::Redraw);
        }
        let Some(row) = self.split_row() else {
            self.message = Some("the hunk begins here: move to the first line of the second part".into());
            return Ok(Effect::Redraw);
        };
        self.run_action(Action::Split(unit.id.clone(), row), host)?;
        let is_split = self.state.hunk_parts(unit).iter().any(|part| part.start == row);
        // The order of the rows depends on the parts.
        self.update_layout();
        self.cursor.row = self.layout.as_ref().map_or(0, |o| o.display_row(self.cursor.unit, row));
        self.set_granularity(Granularity::Hunk);
        self.message = Some(if is_split { "split" } else { "joined" }.into());
        Ok(Effect::Redraw)
    }

    /// Returns the row of the hunk above which the cursor splits or joins it. A line that replaces another is separated from it
    /// only if the part consists of these two.
    fn split_row(&self) -> Option<usize> {
        let (opened, unit) = (self.layout.as_ref()?, self.cursor.unit);
        let hunk = opened.unit_hunk(unit)?;
        let pair = opened.row_pair(unit, self.cursor.row);
        let row = pair.0.or(pair.1)?;
        let parts = self.state.hunk_parts(self.current_unit()?);
        let part = parts.into_iter().find(|part| part.contains(&row))?;
        if self.current_part().start == self.cursor.row {
            // The first row of a part joins it with the part above.
            return (part.start > 0).then_some(part.start);
        }
        let before = row.checked_sub(1).filter(|before| part.len() > 2 && hunk.paired_row(row) == Some(*before));
        let row = before.unwrap_or(row);
        (row > part.start).then_some(row)
    }

    pub(crate) fn edit_hunk(&mut self, host: &mut dyn ReviewHost) -> io::Result<Effect> {
        let (at, Some(unit)) = (self.cursor, self.current_unit()) else { return Ok(Effect::Redraw) };
        // What is typed for a hunk in conflict is the result of the conflict.
        let has_regions = self.file_conflict(at.file).is_some_and(|conflict| !conflict.regions.is_empty());
        if has_regions && self.unit_conflict(at.file, unit).is_some() {
            self.open_resolve_view();
            self.message = Some("the hunk is in conflict: e edits its result".into());
            return Ok(Effect::Redraw);
        }
        let item = DecisionTarget { file: at.file, unit: at.unit, lines: None };
        let empty = FileText::default();
        let text = self.layout.as_ref().map_or(&empty, |o| &o.text);
        match edit_hunk(self.model, &self.state, &item, text, host) {
            Ok(EditResult::Unchanged { returned_at_once: true }) => self.message = Some(EDITOR_RETURNED_AT_ONCE.into()),
            Ok(EditResult::Unchanged { returned_at_once: false }) => {
                self.message = Some("nothing was changed or decided".into())
            }
            Ok(EditResult::Invalid(reason)) => self.message = Some(reason.to_owned()),
            Ok(EditResult::Done(action, findings)) => {
                self.run_action(action, host)?;
                let known_findings = &self.model.files[at.file].change.findings;
                let new_finding = findings.iter().find(|f| f.severity >= Risk::Medium && !known_findings.contains(f));
                self.update_layout();
                self.message = Some(match (self.state.decisions.get(&unit.id), new_finding) {
                    (Some(UnitDecision::Edited(_)), Some(finding)) => format!("edited · {}", finding_line(finding)),
                    (Some(UnitDecision::Edited(_)), None) => "edited and accepted".into(),
                    _ => "nothing is left of the hunk: rejected".into(),
                });
            }
            Err(error) => self.message = Some(format!("the editor failed: {}", Escaped::new(&error.to_string()))),
        }
        Ok(Effect::RedrawAll)
    }

    pub(crate) fn view_file(&mut self, host: &mut dyn ReviewHost) -> io::Result<Effect> {
        let Some(file) = self.current_file() else { return Ok(Effect::Redraw) };
        let (_, new) = match self.model.read_contents(file) {
            Ok(contents) => contents,
            Err(error) => {
                self.message = Some(Escaped::new(&error.to_string()).to_string());
                return Ok(Effect::Redraw);
            }
        };
        match host.view_text(&file.change.path, &new) {
            Ok(false) => {}
            Ok(true) => {
                self.message = Some("that was a copy of the agent's file; your changes to it are discarded".into())
            }
            Err(error) => self.message = Some(format!("the editor failed: {}", Escaped::new(&error.to_string()))),
        }
        Ok(Effect::RedrawAll)
    }

    /// Returns the position of the cursor, such as `a.rs:12`.
    fn cursor_location(&self) -> String {
        let path = self.escaped_path(self.cursor.file);
        let row = self.layout.as_ref().and_then(|opened| {
            let (removed, added) = opened.row_pair(self.cursor.unit, self.cursor.row);
            let (text, at) = (opened.unit_hunk(self.cursor.unit)?, added.or(removed)?);
            Some(match text.row_at(at) {
                HunkLine::Removed(line) => text.old.start + line + 1,
                HunkLine::Added(line) => text.new.start + line + 1,
            })
        });
        row.map_or(path.clone(), |row| format!("{path}:{row}"))
    }

    pub(crate) fn open_comment_prompt(&mut self, host: &mut dyn ReviewHost) -> io::Result<Effect> {
        let Some(unit) = self.current_unit() else { return Ok(Effect::Redraw) };
        let scope = match self.granularity {
            Granularity::Line => self
                .lines_in_rows(self.cursor.unit, self.cursor.row..self.cursor.row + 1)
                .and_then(|lines| lines.iter().next())
                .map_or(CommentScope::Unit, CommentScope::Line),
            Granularity::Hunk => self.part_scope(),
            Granularity::File => CommentScope::Unit,
        };
        let anchor = CommentAnchor { unit: unit.id.clone(), scope };
        let before = self.state.decisions.all_comments().find(|(at, _)| **at == anchor);
        // A comment that was already sent is not offered for editing: the agent would get it a second time.
        let before = before.filter(|(_, said)| !is_comment_sent(&anchor, said, &self.state));
        let before = before.map(|(_, text)| text.to_owned()).unwrap_or_default();
        if before.contains('\n') {
            return self.edit_comment(anchor, &before, host);
        }
        let unsaved = self.unsaved_comment.take_if(|(at, _)| *at == anchor);
        let before = unsaved.map_or(before, |(_, text)| text);
        let place = self.cursor_location();
        self.mode = Mode::Input(PromptKind::Comment(anchor, place), before);
        Ok(Effect::Redraw)
    }

    /// Returns the part of a split hunk at the cursor, or the whole unit.
    fn part_scope(&self) -> CommentScope {
        let parts = self.current_unit().map(|unit| self.state.hunk_parts(unit)).unwrap_or_default();
        let row = self.layout.as_ref().map(|opened| opened.row_pair(self.cursor.unit, self.cursor.row));
        let row = row.and_then(|(removed, added)| removed.or(added));
        match parts.iter().find(|part| row.is_some_and(|row| part.contains(&row))) {
            Some(part) if parts.len() > 1 => CommentScope::Part { from: part.start, to: part.end },
            _ => CommentScope::Unit,
        }
    }

    /// Lets the user write a comment of several lines in an editor.
    pub(super) fn edit_comment(
        &mut self,
        anchor: CommentAnchor,
        text: &str,
        host: &mut dyn ReviewHost,
    ) -> io::Result<Effect> {
        let path = RepoPath::from_bytes(b"comment.md").map_err(io::Error::other)?;
        match host.edit_text(&path, text.as_bytes()) {
            Ok(edited) if edited.len() > MAX_COMMENT_BYTES => {
                self.message =
                    Some(format!("the comment has more than {} KiB and is not saved", MAX_COMMENT_BYTES >> 10));
            }
            Ok(edited) => {
                let text = String::from_utf8_lossy(&edited).trim().to_owned();
                self.save_comment(anchor, &text, host)?;
            }
            Err(error) => self.message = Some(format!("the editor failed: {}", Escaped::new(&error.to_string()))),
        }
        Ok(Effect::RedrawAll)
    }

    /// Saves a comment; an empty one removes it.
    pub(super) fn save_comment(
        &mut self,
        anchor: CommentAnchor,
        text: &str,
        host: &mut dyn ReviewHost,
    ) -> io::Result<()> {
        let has_comment = self.state.decisions.all_comments().any(|(at, _)| *at == anchor);
        self.run_action(Action::Comment(anchor, Some(text.to_owned())), host)?;
        if has_comment && text.is_empty() {
            self.message = Some("comment removed".into());
        } else if !text.is_empty()
            && let Some(reason) = &self.cannot_send
        {
            self.message = Some(format!("saved, as a note for you: {reason}"));
        }
        self.update_layout();
        self.clamp_cursor();
        Ok(())
    }
}
