//! Review actions of the full screen: accept, reject, split, edit, comment and undo.

use std::collections::BTreeSet;
use std::io;

use super::app::{App, ConfirmAction, Cursor, Filter, Granularity, Mode, PromptKind};
use super::keys::Effect;
use crate::changes::{HunkLine, Severity as Risk, UnitKind};
use crate::core::escape::Escaped;
use crate::review::{
    Action, DOES_IT_WAIT, Decision, DecisionTarget, Edited, FileText, ReviewHost, ReviewOutcome, UnitDecision, edit,
    finding_line, is_comment_sent, refusal,
};

impl App<'_> {
    pub(crate) fn toggled(&self) -> Option<Decision> {
        let items = self.items();
        let first = items.first().and_then(|item| {
            let unit = self.sheet.files[item.file].units.get(item.unit)?;
            let line = item.lines.as_ref().and_then(|lines| lines.iter().next()).unwrap_or(0);
            self.state.decisions.line(&unit.id, line)
        });
        match first {
            None => Some(Decision::Accepted),
            Some(Decision::Accepted) => Some(Decision::Rejected),
            Some(Decision::Rejected) => None,
        }
    }

    pub(crate) fn decide(
        &mut self,
        decision: Option<Decision>,
        advance: bool,
        around: &mut dyn ReviewHost,
    ) -> io::Result<Effect> {
        let items = self.items();
        let Some(file) = self.file() else { return Ok(Effect::On) };
        if items.is_empty() {
            self.message = Some(if file.units.is_empty() {
                "there is nothing to decide here".into()
            } else {
                "this view hides it: b shows it".into()
            });
            return Ok(Effect::On);
        }
        let is_many = items.len() > 1 && items.iter().all(|item| item.lines.is_none());
        if is_many && file.is_risky() && !file.is_refused() && decision == Some(Decision::Accepted) {
            let reason = file.change.findings.first().map(finding_line).unwrap_or_default();
            let question = format!("Accept all {} parts of {}? {reason}", items.len(), self.path(self.at.file));
            self.mode = Mode::Confirm(question, ConfirmAction::File(items));
            return Ok(Effect::On);
        }
        let hidden = if self.level == Granularity::File { file.units.len() - items.len() } else { 0 };
        let turned = if is_many { self.turned(&items, decision) } else { None };
        let turned = turned.or_else(|| (hidden > 0).then(|| format!("{hidden} left that this view hides")));
        self.act(Action::Decide(items, decision), around)?;
        if self.message.is_none() && advance {
            self.advance();
        }
        if self.message.is_none() {
            self.message = turned;
        }
        self.after_decision();
        Ok(Effect::On)
    }

    /// Returns a message if a decision on many units reverses earlier decisions.
    fn turned(&self, items: &[DecisionTarget], decision: Option<Decision>) -> Option<String> {
        let of = |item: &DecisionTarget| self.counts.unit(item.file, item.unit);
        let (lines, before, now): (usize, _, _) = match decision? {
            Decision::Accepted => (items.iter().map(|i| of(i).rejected).sum(), "rejected", "accepted"),
            Decision::Rejected => (items.iter().map(|i| of(i).accepted).sum(), "accepted", "rejected"),
        };
        let are = if lines == 1 { "line is" } else { "lines are" };
        (lines > 0).then(|| format!("{lines} {before} {are} {now} now, with the rest of the file (u undoes it)"))
    }

    /// Ends the range of lines, and lays the file out again if it showed edited text: a new decision replaces an edit.
    pub(crate) fn after_decision(&mut self) {
        self.anchor = None;
        if self.opened.as_ref().is_some_and(|o| !o.edited.is_empty()) {
            self.lay_out();
        }
    }

    pub(crate) fn rest_of_file(&mut self, decision: Decision, around: &mut dyn ReviewHost) -> io::Result<Effect> {
        let Some(file) = self.file() else { return Ok(Effect::On) };
        if decision == Decision::Accepted && file.is_refused() {
            self.message = Some(refusal(file));
            return Ok(Effect::On);
        }
        let (items, hidden) = self.open_items(self.at.file);
        self.act(Action::BulkDecide { items, decision, hidden }, around)?;
        let said = self.message.take();
        let is_left = decision == Decision::Accepted && (file.is_risky() || hidden > 0);
        if !is_left {
            self.advance();
        }
        self.message = said;
        self.after_decision();
        Ok(Effect::On)
    }

    pub(crate) fn ask_for_rest(&mut self, decision: Decision) {
        let (mut units, mut files, mut risky, mut not_shown) = (0, 0, 0, 0);
        for file in &self.files {
            let (items, _) = self.open_items(*file);
            if decision == Decision::Accepted && self.sheet.files[*file].is_risky() {
                risky += items.len();
            } else if !items.is_empty() {
                units += items.len();
                files += 1;
                let lines = |item: &DecisionTarget| {
                    let unit = &self.sheet.files[item.file].units[item.unit];
                    self.state.not_shown(unit, item.lines.as_ref())
                };
                not_shown += items.iter().map(lines).sum::<usize>();
            }
        }
        if decision == Decision::Rejected {
            not_shown = 0;
        }
        let word = if decision == Decision::Accepted { "Accept" } else { "Reject" };
        let left = match risky {
            0 => String::new(),
            1 => " 1 high stays.".into(),
            n => format!(" {n} high stay."),
        };
        if units == 0 {
            self.message = Some(format!("nothing that could be {}ed is undecided.{left}", word.to_lowercase()));
            return;
        }
        let hunks = if units == 1 { "hunk" } else { "hunks" };
        let in_files = if files == 1 { "file" } else { "files" };
        let shown = if matches!(self.filter, Filter::All) { "" } else { " of those shown" };
        // The number includes folded lines.
        let unseen = match not_shown {
            0 => String::new(),
            1 => ", 1 line unseen".into(),
            n => format!(", {n} lines unseen"),
        };
        let question = format!("{word} {units} undecided {hunks} in {files} {in_files}{shown}{unseen}?{left}");
        self.mode = Mode::Confirm(question, ConfirmAction::All(decision));
    }

    pub(crate) fn confirmed(&mut self, pending: ConfirmAction, around: &mut dyn ReviewHost) -> io::Result<Effect> {
        match pending {
            ConfirmAction::Discard => return Ok(Effect::End(ReviewOutcome::Discarded)),
            ConfirmAction::File(items) => {
                self.act(Action::Decide(items, Some(Decision::Accepted)), around)?;
                self.advance();
            }
            ConfirmAction::All(decision) => {
                let (mut all, mut hidden) = (Vec::new(), 0);
                for file in &self.files {
                    let (items, unseen) = self.open_items(*file);
                    all.extend(items);
                    hidden += unseen;
                }
                self.act(Action::BulkDecide { items: all, decision, hidden }, around)?;
                let said = self.message.take();
                self.advance();
                self.message = said;
            }
        }
        self.after_decision();
        Ok(Effect::On)
    }

    pub(crate) fn begin_range(&mut self) {
        if self.anchor.take().is_none() {
            self.level = Granularity::Line;
            self.anchor = Some((self.at.unit, self.at.row));
            self.message = Some("range: move, then y, n or space · v or Esc ends it".into());
        }
    }

    pub(crate) fn travel(&mut self, action: Action, around: &mut dyn ReviewHost) -> io::Result<Effect> {
        self.act(action, around)?;
        // If the action changed several units, go to the first of them.
        let first = self.state.touched.iter().filter_map(|id| self.counts.place(id)).min();
        if let Some((file, unit)) = first {
            if !self.files.contains(&file) {
                self.filter = Filter::All;
                self.choose(&BTreeSet::new());
            }
            if (self.at.file, self.at.unit) != (file, unit) {
                self.go(Cursor { file, unit, row: 0 });
            }
        }
        self.lay_out();
        self.hold_cursor();
        Ok(Effect::On)
    }

    pub(crate) fn split(&mut self, around: &mut dyn ReviewHost) -> io::Result<Effect> {
        let Some(unit) = self.unit() else { return Ok(Effect::On) };
        let size = self.opened.as_ref().map_or(1, |o| o.size(self.at.unit));
        if !matches!(unit.kind, UnitKind::Hunk { .. }) || size < 2 {
            self.message = Some("this cannot be split".into());
            return Ok(Effect::On);
        }
        if self.level != Granularity::Line {
            self.set_level(Granularity::Line);
            self.message = Some("move to the line where the second part begins, and press s there".into());
            return Ok(Effect::On);
        }
        if self.at.row == 0 {
            self.message = Some("the hunk begins here already: move on to where the second part begins".into());
            return Ok(Effect::On);
        }
        let row = self.opened.as_ref().map_or((None, None), |o| o.pair(self.at.unit, self.at.row));
        let Some(row) = row.0.or(row.1) else { return Ok(Effect::On) };
        self.act(Action::Split(unit.id.clone(), row), around)?;
        let is_apart = self.parts(self.at.unit).iter().any(|part| part.start == self.at.row);
        self.set_level(Granularity::Block);
        self.message = Some(if is_apart { "split" } else { "joined again" }.into());
        Ok(Effect::On)
    }

    pub(crate) fn edit(&mut self, around: &mut dyn ReviewHost) -> io::Result<Effect> {
        let (at, Some(unit)) = (self.at, self.unit()) else { return Ok(Effect::On) };
        let item = DecisionTarget { file: at.file, unit: at.unit, lines: None };
        let empty = FileText::default();
        let text = self.opened.as_ref().map_or(&empty, |o| &o.text);
        match edit(self.sheet, &self.state, &item, text, around) {
            Ok(Edited::Unchanged { at_once: true }) => self.message = Some(DOES_IT_WAIT.into()),
            Ok(Edited::Unchanged { at_once: false }) => {
                self.message = Some("nothing was changed, and nothing is decided".into())
            }
            Ok(Edited::Wrong(why)) => self.message = Some(why.to_owned()),
            Ok(Edited::Done(action, findings)) => {
                self.act(action, around)?;
                let known = &self.sheet.files[at.file].change.findings;
                let worse = findings.iter().find(|f| f.severity >= Risk::Medium && !known.contains(f));
                self.lay_out();
                self.message = Some(match (self.state.decisions.get(&unit.id), worse) {
                    (Some(UnitDecision::Edited(_)), Some(finding)) => format!("edited · {}", finding_line(finding)),
                    (Some(UnitDecision::Edited(_)), None) => "edited, and accepted so".into(),
                    _ => "nothing of it is left: rejected".into(),
                });
            }
            Err(error) => self.message = Some(format!("the editor failed: {}", Escaped::new(&error.to_string()))),
        }
        Ok(Effect::Clear)
    }

    pub(crate) fn view(&mut self, around: &mut dyn ReviewHost) -> io::Result<Effect> {
        let Some(file) = self.file() else { return Ok(Effect::On) };
        let (_, new) = match self.sheet.contents(file) {
            Ok(contents) => contents,
            Err(error) => {
                self.message = Some(Escaped::new(&error.to_string()).to_string());
                return Ok(Effect::On);
            }
        };
        match around.view_text(&file.change.path, &new) {
            Ok(()) => {
                self.message = Some("that was a copy of the agent's file: nothing that is changed in it is kept".into())
            }
            Err(error) => self.message = Some(format!("the editor failed: {}", Escaped::new(&error.to_string()))),
        }
        Ok(Effect::Clear)
    }

    /// Returns the position of the cursor, such as `a.rs:12`.
    fn place(&self) -> String {
        let path = self.path(self.at.file);
        let row = self.opened.as_ref().and_then(|opened| {
            let (removed, added) = opened.pair(self.at.unit, self.at.row);
            let (text, at) = (opened.hunk(self.at.unit)?, added.or(removed)?);
            Some(match text.row(at) {
                HunkLine::Removed(line) => text.old.start + line + 1,
                HunkLine::Added(line) => text.new.start + line + 1,
            })
        });
        row.map_or(path.clone(), |row| format!("{path}:{row}"))
    }

    pub(crate) fn begin_comment(&mut self) {
        let Some(unit) = self.unit() else { return };
        let line = match self.level {
            Granularity::Line => {
                self.lines(self.at.unit, self.at.row..self.at.row + 1).and_then(|lines| lines.iter().next())
            }
            Granularity::File | Granularity::Block => None,
        };
        let anchor = (unit.id.clone(), line);
        let before = self.state.decisions.comments().find(|(at, _)| **at == anchor);
        // A comment that was already sent is not offered for editing: the agent would get it a second time.
        let before = before.filter(|(_, said)| !is_comment_sent(unit, line, said, &self.state));
        let before = before.map(|(_, text)| text.to_owned()).unwrap_or_default();
        let place = self.place();
        self.mode = Mode::Input(PromptKind::Comment(anchor, place), before);
    }
}
