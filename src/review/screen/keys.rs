//! What each key and each click does.

use std::collections::BTreeSet;
use std::io;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use globset::Glob;

use super::app::{App, Asking, At, Filter, Level, Mode, Order, Pending};
use super::pieces::Piece;
use crate::changes::{Level as Risk, UnitKind};
use crate::display::Shown;
use crate::review::edit::{Edited, edit, resulting};
use crate::review::plain::contains;
use crate::review::{Action, Around, Conflicts, Decision, Decisions, Ended, Item, Ruling, Text, finding_line, refusal};

/// What happens after a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// The screen is drawn anew.
    On,
    /// It ends.
    End(Ended),
    /// The shell gets the terminal for a while.
    Suspend,
    /// Whatever is on the terminal, all of it is drawn.
    Clear,
}

/// Columns that one step goes to the side.
const SIDESTEP: usize = 8;
/// Rows that a turn of the wheel moves.
const WHEEL: usize = 3;
/// Characters of a line of input.
const LONGEST_INPUT: usize = 2000;

impl App<'_> {
    /// Does what a key says.
    ///
    /// # Errors
    /// The draft could not be kept.
    pub fn key(&mut self, key: KeyEvent, around: &mut dyn Around) -> io::Result<Flow> {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('z') if control => return Ok(Flow::Suspend),
            KeyCode::Char('l') if control => return Ok(Flow::Clear),
            // What was decided is kept.
            KeyCode::Char('c') if control => return Ok(Flow::End(Ended::Left)),
            _ => {}
        }
        match std::mem::replace(&mut self.mode, Mode::Browse) {
            Mode::Browse => self.browse(key, around),
            Mode::Input(asking, text) => self.input(asking, text, key, around),
            Mode::Confirm(question, pending) => match key.code {
                KeyCode::Char('y' | 'Y') => self.confirmed(pending, around),
                KeyCode::Char('n' | 'N' | 'q') | KeyCode::Esc => Ok(Flow::On),
                _ => {
                    self.mode = Mode::Confirm(question, pending);
                    Ok(Flow::On)
                }
            },
            Mode::Help(mut typed) => {
                match key.code {
                    KeyCode::Esc | KeyCode::Enter => return Ok(Flow::On),
                    KeyCode::Char('?' | 'q') if typed.is_empty() => return Ok(Flow::On),
                    KeyCode::Backspace => drop(typed.pop()),
                    KeyCode::Char(c) if !control && typed.len() < 40 => typed.push(c),
                    _ => {}
                }
                self.mode = Mode::Help(typed);
                Ok(Flow::On)
            }
            Mode::Preview { title, content, scroll } => {
                let page = usize::from(self.hits.rows.height).max(1);
                let last = memchr::memchr_iter(b'\n', &content).count();
                let scroll = match key.code {
                    KeyCode::Esc | KeyCode::Char('q' | 'p') | KeyCode::Enter => return Ok(Flow::On),
                    KeyCode::Down | KeyCode::Char('j') => scroll + 1,
                    KeyCode::Up | KeyCode::Char('k') => scroll.saturating_sub(1),
                    KeyCode::PageDown | KeyCode::Char(' ') => scroll + page,
                    KeyCode::PageUp => scroll.saturating_sub(page),
                    KeyCode::Home | KeyCode::Char('g') => 0,
                    KeyCode::End | KeyCode::Char('G') => last,
                    KeyCode::Char('>') => {
                        self.step_aside();
                        scroll
                    }
                    KeyCode::Char('<') => {
                        self.sideways = self.sideways.saturating_sub(SIDESTEP);
                        scroll
                    }
                    _ => scroll,
                };
                self.mode = Mode::Preview { title, content, scroll: scroll.min(last.saturating_sub(page / 2)) };
                Ok(Flow::On)
            }
            Mode::Apply { preview, scroll, typed } => self.on_apply(preview, scroll, typed, key),
        }
    }

    fn browse(&mut self, key: KeyEvent, around: &mut dyn Around) -> io::Result<Flow> {
        self.message = None;
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let shift = key.modifiers.contains(KeyModifiers::SHIFT);
        let page = usize::from(self.hits.rows.height).max(1);
        match key.code {
            KeyCode::Char('r') if control => return self.travel(Action::Redo, around),
            KeyCode::Char('n') if control => self.find(true),
            KeyCode::Char('p') if control => self.find(false),
            KeyCode::Char(_) if control => {}
            KeyCode::Left if shift => self.sideways = self.sideways.saturating_sub(SIDESTEP),
            KeyCode::Right if shift => self.step_aside(),
            KeyCode::Char('<') => self.sideways = self.sideways.saturating_sub(SIDESTEP),
            KeyCode::Char('>') => self.step_aside(),
            KeyCode::Left | KeyCode::Char('h') => self.set_level(match self.level {
                Level::Line => Level::Block,
                _ => Level::File,
            }),
            KeyCode::Right | KeyCode::Char('l') | KeyCode::Enter => self.set_level(match self.level {
                Level::File => Level::Block,
                _ => Level::Line,
            }),
            KeyCode::Down | KeyCode::Char('j') => self.step(true),
            KeyCode::Up | KeyCode::Char('k') => self.step(false),
            KeyCode::Char(']') => self.move_block(true),
            KeyCode::Char('[') => self.move_block(false),
            KeyCode::Char('}') => self.move_file(1),
            KeyCode::Char('{') => self.move_file(-1),
            KeyCode::PageDown => self.page(page, true),
            KeyCode::PageUp => self.page(page, false),
            KeyCode::Home | KeyCode::Char('g') => self.go(At { unit: 0, row: 0, ..self.at }),
            KeyCode::End | KeyCode::Char('G') => self.go_last(),
            KeyCode::Char('y') => return self.decide(Some(Decision::Accepted), true, around),
            KeyCode::Char('n') => return self.decide(Some(Decision::Rejected), true, around),
            KeyCode::Char(' ') => return self.decide(self.toggled(), false, around),
            KeyCode::Char('v') => self.begin_range(),
            KeyCode::Char('a') => return self.rest_of_file(Decision::Accepted, around),
            KeyCode::Char('d') => return self.rest_of_file(Decision::Rejected, around),
            KeyCode::Char('A') => self.ask_for_rest(Decision::Accepted),
            KeyCode::Char('D') => self.ask_for_rest(Decision::Rejected),
            KeyCode::Char('s') => return self.split(around),
            KeyCode::Char('e') => return self.edit(around),
            KeyCode::Char('E') => return self.view(around),
            KeyCode::Char('c') => self.begin_comment(),
            KeyCode::Char('R') => self.ask_to_send(),
            KeyCode::Char('u') => return self.travel(Action::Undo, around),
            KeyCode::Char('/') => self.mode = Mode::Input(Asking::Search, String::new()),
            KeyCode::Char('f') => self.mode = Mode::Input(Asking::Filter, String::new()),
            KeyCode::Char('o') => self.next_order(),
            KeyCode::Char('z') => self.fold(),
            KeyCode::Char('b') => self.hide_blanks(),
            KeyCode::Char('|') => self.put_beside(),
            KeyCode::Char('m') => self.toggle_moved(),
            KeyCode::Char('+' | '=') => self.set_context((self.display.context * 2).clamp(1, 1 << 20)),
            KeyCode::Char('-') => self.set_context(self.display.context / 2),
            KeyCode::Char('p') => return self.preview(),
            KeyCode::Char('w') => self.plan(around),
            KeyCode::Char('q') => return Ok(Flow::End(Ended::Left)),
            KeyCode::Char('Q') => {
                let question = "Discard all decisions and comments on these changes?".to_owned();
                self.mode = Mode::Confirm(question, Pending::Discard);
            }
            KeyCode::Char('?') => self.mode = Mode::Help(String::new()),
            KeyCode::Esc => {
                self.anchor = None;
                self.search.clear();
            }
            _ => {}
        }
        Ok(Flow::On)
    }

    /// Goes to the side, as long as something in sight goes on there.
    fn step_aside(&mut self) {
        if self.goes_on.get() {
            self.sideways += SIDESTEP;
        }
    }

    fn set_level(&mut self, level: Level) {
        self.level = level;
        self.anchor = None;
        self.hold_cursor();
    }

    fn step(&mut self, forward: bool) {
        match self.level {
            Level::File => self.move_file(if forward { 1 } else { -1 }),
            Level::Block => self.move_block(forward),
            Level::Line => self.move_line(forward),
        }
    }

    /// Scrolls by a page, and takes the cursor along to the first thing in sight.
    fn page(&mut self, rows: usize, forward: bool) {
        let Some(opened) = &self.opened else { return };
        let last = opened.rows().saturating_sub(rows);
        let step = rows.saturating_sub(2).max(1);
        if forward && self.scroll >= last {
            return self.go_last();
        }
        self.scroll = if forward { (self.scroll + step).min(last) } else { self.scroll.saturating_sub(step) };
        self.take_along(rows);
    }

    /// Takes the cursor to the first thing in sight: what is decided on has to be seen.
    fn take_along(&mut self, rows: usize) {
        let Some(opened) = &self.opened else { return };
        self.follows = false;
        let in_sight = (self.scroll..opened.rows().min(self.scroll + rows)).find_map(|row| match opened.at(row)? {
            (Piece::Block(unit), at) => Some((*unit, at)),
            (Piece::Unit(unit), _) => Some((*unit, 0)),
            _ => None,
        });
        if let Some((unit, row)) = in_sight {
            (self.at.unit, self.at.row) = (unit, row);
            if self.level == Level::Block {
                self.at.row = self.part().start;
            }
        }
    }

    fn toggled(&self) -> Option<Decision> {
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

    fn decide(&mut self, decision: Option<Decision>, advance: bool, around: &mut dyn Around) -> io::Result<Flow> {
        let items = self.items();
        let Some(file) = self.file() else { return Ok(Flow::On) };
        if items.is_empty() {
            self.message = Some(if file.units.is_empty() {
                "there is nothing to decide here".into()
            } else {
                "this view hides it: b shows it".into()
            });
            return Ok(Flow::On);
        }
        let is_many = items.len() > 1 && items.iter().all(|item| item.lines.is_none());
        if is_many && file.is_risky() && !file.is_refused() && decision == Some(Decision::Accepted) {
            let reason = file.change.findings.first().map(finding_line).unwrap_or_default();
            let question = format!("Accept all {} parts of {}? {reason}", items.len(), self.path(self.at.file));
            self.mode = Mode::Confirm(question, Pending::File(items));
            return Ok(Flow::On);
        }
        self.act(Action::Decide(items, decision), around)?;
        if self.message.is_none() && advance {
            self.advance();
        }
        self.after_decision();
        Ok(Flow::On)
    }

    /// An edit that was decided anew has no text of its own any more.
    fn after_decision(&mut self) {
        self.anchor = None;
        if self.opened.as_ref().is_some_and(|o| !o.edited.is_empty()) {
            self.lay_out();
        }
    }

    fn rest_of_file(&mut self, decision: Decision, around: &mut dyn Around) -> io::Result<Flow> {
        let Some(file) = self.file() else { return Ok(Flow::On) };
        if decision == Decision::Accepted && file.is_refused() {
            self.message = Some(refusal(file));
            return Ok(Flow::On);
        }
        let (items, hidden) = self.open_items(self.at.file);
        self.act(Action::Sweep { items, decision, hidden }, around)?;
        let said = self.message.take();
        let is_left = decision == Decision::Accepted && (file.is_risky() || hidden > 0);
        if !is_left {
            self.advance();
        }
        self.message = said;
        self.after_decision();
        Ok(Flow::On)
    }

    fn ask_for_rest(&mut self, decision: Decision) {
        let (mut units, mut files, mut risky) = (0, 0, 0);
        for file in &self.files {
            let (items, _) = self.open_items(*file);
            if decision == Decision::Accepted && self.sheet.files[*file].is_risky() {
                risky += items.len();
            } else if !items.is_empty() {
                units += items.len();
                files += 1;
            }
        }
        let word = if decision == Decision::Accepted { "Accept" } else { "Reject" };
        let left = match risky {
            0 => String::new(),
            1 => " 1 of high risk stays.".into(),
            n => format!(" {n} of high risk stay."),
        };
        if units == 0 {
            self.message = Some(format!("nothing that could be {}ed is undecided.{left}", word.to_lowercase()));
            return;
        }
        let blocks = if units == 1 { "block" } else { "blocks" };
        let in_files = if files == 1 { "file" } else { "files" };
        let shown = if matches!(self.filter, Filter::All) { "" } else { " of those shown" };
        let question = format!("{word} {units} undecided {blocks} in {files} {in_files}{shown}?{left}");
        self.mode = Mode::Confirm(question, Pending::All(decision));
    }

    fn confirmed(&mut self, pending: Pending, around: &mut dyn Around) -> io::Result<Flow> {
        match pending {
            Pending::Discard => return Ok(Flow::End(Ended::Discarded)),
            Pending::Send => return Ok(Flow::End(Ended::Send)),
            Pending::File(items) => {
                self.act(Action::Decide(items, Some(Decision::Accepted)), around)?;
                self.advance();
            }
            Pending::All(decision) => {
                let (mut all, mut hidden) = (Vec::new(), 0);
                for file in &self.files {
                    let (items, unseen) = self.open_items(*file);
                    all.extend(items);
                    hidden += unseen;
                }
                self.act(Action::Sweep { items: all, decision, hidden }, around)?;
                let said = self.message.take();
                self.advance();
                self.message = said;
            }
        }
        self.after_decision();
        Ok(Flow::On)
    }

    fn begin_range(&mut self) {
        if self.anchor.take().is_none() {
            self.level = Level::Line;
            self.anchor = Some((self.at.unit, self.at.row));
            self.message = Some("range: move, then y, n or space · v or Esc ends it".into());
        }
    }

    fn travel(&mut self, action: Action, around: &mut dyn Around) -> io::Result<Flow> {
        self.act(action, around)?;
        if let Some((file, unit)) = self.state.touched.as_deref().and_then(|id| self.counts.place(id)) {
            if !self.files.contains(&file) {
                self.filter = Filter::All;
                self.choose(&BTreeSet::new());
            }
            if (self.at.file, self.at.unit) != (file, unit) {
                self.go(At { file, unit, row: 0 });
            }
        }
        self.lay_out();
        self.hold_cursor();
        Ok(Flow::On)
    }

    fn split(&mut self, around: &mut dyn Around) -> io::Result<Flow> {
        let Some(unit) = self.unit() else { return Ok(Flow::On) };
        let size = self.opened.as_ref().map_or(1, |o| o.size(self.at.unit));
        if !matches!(unit.kind, UnitKind::Block { .. }) || size < 2 {
            self.message = Some("this cannot be split".into());
            return Ok(Flow::On);
        }
        if self.level != Level::Line {
            self.set_level(Level::Line);
            self.message = Some("move to the line where the second part begins, and press s there".into());
            return Ok(Flow::On);
        }
        if self.at.row == 0 {
            self.message = Some("the block begins here already: move on to where the second part begins".into());
            return Ok(Flow::On);
        }
        let row = self.opened.as_ref().map_or((None, None), |o| o.pair(self.at.unit, self.at.row));
        let Some(row) = row.0.or(row.1) else { return Ok(Flow::On) };
        self.act(Action::Split(unit.id.clone(), row), around)?;
        let is_apart = self.parts(self.at.unit).iter().any(|part| part.start == self.at.row);
        self.set_level(Level::Block);
        self.message = Some(if is_apart { "split" } else { "joined again" }.into());
        Ok(Flow::On)
    }

    fn edit(&mut self, around: &mut dyn Around) -> io::Result<Flow> {
        let (at, Some(unit)) = (self.at, self.unit()) else { return Ok(Flow::On) };
        let item = Item { file: at.file, unit: at.unit, lines: None };
        let empty = Text::default();
        let text = self.opened.as_ref().map_or(&empty, |o| &o.text);
        match edit(self.sheet, &self.state, &item, text, around) {
            Ok(Edited::Unchanged) => self.message = Some("nothing was changed, and nothing is decided".into()),
            Ok(Edited::Wrong(why)) => self.message = Some(why.to_owned()),
            Ok(Edited::Done(action, findings)) => {
                self.act(action, around)?;
                let known = &self.sheet.files[at.file].change.findings;
                let worse = findings.iter().find(|f| f.level >= Risk::Medium && !known.contains(f));
                self.lay_out();
                self.message = Some(match (self.state.decisions.of(&unit.id), worse) {
                    (Some(Ruling::Edited(_)), Some(finding)) => format!("edited · {}", finding_line(finding)),
                    (Some(Ruling::Edited(_)), None) => "edited, and accepted so".into(),
                    _ => "nothing of it is left: rejected".into(),
                });
            }
            Err(error) => self.message = Some(format!("the editor failed: {}", Shown::new(&error.to_string()))),
        }
        Ok(Flow::Clear)
    }

    fn view(&mut self, around: &mut dyn Around) -> io::Result<Flow> {
        let Some(file) = self.file() else { return Ok(Flow::On) };
        let (_, new) = match self.sheet.contents(file) {
            Ok(contents) => contents,
            Err(error) => {
                self.message = Some(Shown::new(&error.to_string()).to_string());
                return Ok(Flow::On);
            }
        };
        match around.view(&file.change.path, &new) {
            Ok(()) => {
                self.message = Some("that was a copy of the agent's file: what you changed in it is not kept".into())
            }
            Err(error) => self.message = Some(format!("the editor failed: {}", Shown::new(&error.to_string()))),
        }
        Ok(Flow::Clear)
    }

    fn begin_comment(&mut self) {
        let Some(unit) = self.unit() else { return };
        let line = match self.level {
            Level::Line => self.lines(self.at.unit, self.at.row..self.at.row + 1).and_then(|lines| lines.iter().next()),
            Level::File | Level::Block => None,
        };
        let anchor = (unit.id.clone(), line);
        let before = self.state.decisions.comments().find(|(at, _)| **at == anchor);
        let before = before.map(|(_, text)| text.to_owned()).unwrap_or_default();
        self.mode = Mode::Input(Asking::Comment(anchor), before);
    }

    fn ask_to_send(&mut self) {
        if !self.can_send {
            self.message = Some("this sandbox cannot be resumed".into());
            return;
        }
        let comments = self.state.decisions.comments().count();
        let rejected = self.counts.total().lines.rejected;
        if comments == 0 && rejected == 0 {
            self.message = Some("there is nothing to send: comment (c) or reject (n) something first".into());
            return;
        }
        let (c, r) = (if comments == 1 { "" } else { "s" }, if rejected == 1 { "" } else { "s" });
        let question =
            format!("Send {comments} comment{c} and {rejected} rejected line{r} to the agent, for another round?");
        self.mode = Mode::Confirm(question, Pending::Send);
    }

    fn next_order(&mut self) {
        self.order = match self.order {
            Order::Risk => Order::Path,
            Order::Path => Order::Size,
            Order::Size => Order::Risk,
        };
        let chosen: BTreeSet<usize> = self.files.iter().copied().collect();
        self.choose(&chosen);
    }

    fn fold(&mut self) {
        if !self.folds.remove(&self.at.file) {
            self.folds.insert(self.at.file);
        }
        self.lay_out();
        self.hold_cursor();
    }

    fn hide_blanks(&mut self) {
        self.display.hides_blanks = !self.display.hides_blanks;
        self.lay_out();
        self.hold_cursor();
        self.message = Some(if self.display.hides_blanks {
            "blocks that change nothing but blanks are hidden, and cannot be accepted while they are".into()
        } else {
            "all blocks are shown".into()
        });
    }

    fn put_beside(&mut self) {
        let block_row = self.opened.as_ref().map(|o| o.pair(self.at.unit, self.at.row));
        self.display.beside = !self.display.beside;
        self.anchor = None;
        self.lay_out();
        if let (Some((removed, added)), Some(opened)) = (block_row, &self.opened)
            && let Some(row) = removed.or(added)
        {
            self.at.row = opened.screen_row(self.at.unit, row);
        }
        self.hold_cursor();
    }

    fn set_context(&mut self, context: usize) {
        self.display.context = context;
        self.lay_out();
        self.hold_cursor();
        self.message = Some(format!("{context} lines of context"));
    }

    fn preview(&mut self) -> io::Result<Flow> {
        let Some(file) = self.file() else { return Ok(Flow::On) };
        let empty = Text::default();
        let text = self.opened.as_ref().map_or(&empty, |o| &o.text);
        let picks = self.state.decisions.picks(&file.units);
        match resulting(self.sheet, file.change, &picks, text) {
            Ok(Some((_, content))) => {
                let title = format!("{} with what is accepted", self.path(self.at.file));
                self.mode = Mode::Preview { title, content, scroll: 0 };
            }
            Ok(None) => self.message = Some("nothing that could be shown is accepted of this file".into()),
            Err(error) => self.message = Some(Shown::new(&error.to_string()).to_string()),
        }
        Ok(Flow::On)
    }

    fn plan(&mut self, around: &mut dyn Around) {
        if self.counts.total().accepted == 0 {
            self.message = Some("nothing is accepted yet: y accepts what the cursor is on".into());
            return;
        }
        match around.plan(&self.state.decisions) {
            Ok(preview) => self.mode = Mode::Apply { preview, scroll: 0, typed: None },
            Err(why) => self.message = Some(why),
        }
    }

    fn on_apply(
        &mut self,
        preview: crate::review::Preview,
        scroll: usize,
        typed: Option<String>,
        key: KeyEvent,
    ) -> io::Result<Flow> {
        let conflicts = preview.conflicts();
        let page = usize::from(self.hits.rows.height).max(1);
        let mut next = (scroll, typed);
        if let (_, Some(word)) = &mut next {
            match key.code {
                KeyCode::Enter if word == "apply" => return Ok(Flow::End(Ended::Apply(Some(Conflicts::Abort)))),
                KeyCode::Enter => self.message = Some("type the word apply, or Esc to go back".into()),
                KeyCode::Esc => next.1 = None,
                KeyCode::Backspace => drop(word.pop()),
                KeyCode::Char(c) if word.len() < 20 => word.push(c),
                _ => {}
            }
        } else {
            match key.code {
                KeyCode::Esc | KeyCode::Char('q' | 'n') => return Ok(Flow::On),
                KeyCode::Char('y') | KeyCode::Enter if conflicts > 0 => {
                    let text = "nothing is written while there is a conflict: s passes over them, m puts both sides between markers";
                    self.message = Some(text.into());
                }
                KeyCode::Char('y') | KeyCode::Enter if self.accepts_risk() => next.1 = Some(String::new()),
                KeyCode::Char('y') | KeyCode::Enter => return Ok(Flow::End(Ended::Apply(Some(Conflicts::Abort)))),
                KeyCode::Char('s') if conflicts > 0 && !self.accepts_risk() => {
                    return Ok(Flow::End(Ended::Apply(Some(Conflicts::Skip))));
                }
                KeyCode::Char('m') if conflicts > 0 && !self.accepts_risk() => {
                    return Ok(Flow::End(Ended::Apply(Some(Conflicts::Markers))));
                }
                KeyCode::Char('s' | 'm') if conflicts > 0 => {
                    self.message = Some("with high risk among it: airlock apply --on-conflict skip, or markers".into());
                }
                KeyCode::Down | KeyCode::Char('j') => next.0 += 1,
                KeyCode::Up | KeyCode::Char('k') => next.0 = next.0.saturating_sub(1),
                KeyCode::PageDown | KeyCode::Char(' ') => next.0 += page,
                KeyCode::PageUp => next.0 = next.0.saturating_sub(page),
                _ => {}
            }
        }
        let (scroll, typed) = next;
        self.mode = Mode::Apply { preview, scroll, typed };
        Ok(Flow::On)
    }

    /// Tells whether something of high risk is accepted.
    pub(super) fn accepts_risk(&self) -> bool {
        let files = self.sheet.files.iter().enumerate();
        files.into_iter().any(|(at, f)| f.is_risky() && !f.is_refused() && self.counts.file(at).accepted > 0)
    }

    fn input(&mut self, asking: Asking, mut text: String, key: KeyEvent, around: &mut dyn Around) -> io::Result<Flow> {
        match key.code {
            KeyCode::Esc => return Ok(Flow::On),
            KeyCode::Enter => return self.entered(asking, &text, around),
            KeyCode::Backspace => drop(text.pop()),
            KeyCode::Char('u') if key.modifiers.contains(KeyModifiers::CONTROL) => text.clear(),
            KeyCode::Char('w') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                let kept = text.trim_end().rfind(' ').map_or(0, |at| at + 1);
                text.truncate(kept);
            }
            KeyCode::Char(c) if !key.modifiers.contains(KeyModifiers::CONTROL) && text.len() < LONGEST_INPUT => {
                text.push(c);
            }
            _ => {}
        }
        self.mode = Mode::Input(asking, text);
        Ok(Flow::On)
    }

    /// Takes in what was pasted, as long as there is a line to paste it to: pasted keys decide nothing.
    pub fn paste(&mut self, pasted: &str) {
        match &mut self.mode {
            Mode::Input(_, text) => {
                let line = pasted.split(['\n', '\r']).collect::<Vec<_>>().join(" ");
                text.extend(line.chars().filter(|c| !c.is_control()).take(LONGEST_INPUT));
            }
            _ => self.message = Some("what was pasted is ignored: nothing here asks for text".into()),
        }
    }

    fn entered(&mut self, asking: Asking, text: &str, around: &mut dyn Around) -> io::Result<Flow> {
        match asking {
            Asking::Search => {
                text.clone_into(&mut self.search);
                if !text.is_empty() {
                    self.find(true);
                }
            }
            Asking::Comment(anchor) => {
                let before = self.state.decisions.comments().any(|(at, _)| *at == anchor);
                self.act(Action::Comment(anchor, Some(text.trim().to_owned())), around)?;
                if before && text.trim().is_empty() {
                    self.message = Some("the comment is taken back".into());
                }
                self.lay_out();
                self.hold_cursor();
            }
            Asking::Filter => self.set_filter(text.trim(), around),
        }
        Ok(Flow::On)
    }

    fn set_filter(&mut self, text: &str, around: &mut dyn Around) {
        let before = self.filter.clone();
        let mut conflicts = BTreeSet::new();
        self.filter = match text {
            "" | "all" => Filter::All,
            "u" | "undecided" => Filter::Undecided,
            "r" | "risky" => Filter::Risky,
            "c" | "commented" => Filter::Commented,
            "n" | "new" if self.new.is_none() => {
                self.message = Some("this is the first round: all of it is new".into());
                return;
            }
            "n" | "new" => Filter::New,
            "x" | "conflict" => match around.plan(&self.with_everything()) {
                Ok(preview) => {
                    let paths: BTreeSet<_> = preview.lines.iter().filter(|l| l.is_conflict).map(|l| &l.path).collect();
                    let files = self.sheet.files.iter().enumerate();
                    conflicts = files.filter(|(_, f)| paths.contains(&f.change.path)).map(|(at, _)| at).collect();
                    Filter::Conflict
                }
                Err(why) => {
                    self.message = Some(why);
                    return;
                }
            },
            glob => {
                // A word without a sign of a glob is a part of a path.
                let pattern = if glob.contains(['*', '?', '[', '{']) { glob.to_owned() } else { format!("*{glob}*") };
                match Glob::new(&pattern) {
                    Ok(matcher) => Filter::Glob(glob.to_owned(), matcher.compile_matcher()),
                    Err(error) => {
                        self.message = Some(format!("{} is no glob: {}", Shown::new(glob), error.kind()));
                        return;
                    }
                }
            }
        };
        self.choose(&conflicts);
        if self.files.is_empty() {
            self.filter = before;
            self.choose(&conflicts);
            if self.files.is_empty() {
                self.filter = Filter::All;
                self.choose(&conflicts);
            }
            self.message = Some("no file is like that: the filter stays as it was".into());
        }
        self.open();
    }

    /// Everything that can be accepted, as if it were.
    fn with_everything(&self) -> Decisions {
        let mut all = self.state.decisions.clone();
        for file in self.sheet.files.iter().filter(|f| !f.is_refused()) {
            for unit in &file.units {
                if !matches!(all.of(&unit.id), Some(Ruling::Edited(_))) {
                    all.set(&unit.id, Some(Ruling::All(Decision::Accepted)));
                }
            }
        }
        all
    }

    /// Goes to the next, or the last, place where what was searched for stands: in a changed line, or in a path.
    fn find(&mut self, forward: bool) {
        if self.search.is_empty() {
            self.message = Some("type / and what to look for".into());
            return;
        }
        let what = self.search.clone().into_bytes();
        let here = self.files.iter().position(|f| *f == self.at.file).unwrap_or(0);
        let count = self.files.len();
        if count == 0 {
            return;
        }
        // The open file twice: behind the cursor first, before it at last.
        for step in 0..=count {
            let at = if forward { (here + step) % count } else { (here + count * 2 - step) % count };
            let file = self.files[at];
            let found = self.places(file, &what);
            let cursor = (self.at.unit, self.at.row);
            let place = match (forward, step) {
                (true, 0) => found.iter().find(|place| **place > cursor),
                (false, 0) => found.iter().rev().find(|place| **place < cursor),
                (true, _) => found.first(),
                (false, _) => found.last(),
            };
            if let Some((unit, row)) = place.copied() {
                self.level = self.level.max(Level::Block);
                self.folds.remove(&file);
                self.go(At { file, unit, row });
                if self.level == Level::Block {
                    self.at.row = self.part().start;
                }
                return;
            }
        }
        self.message = Some(format!("\"{}\" is in no changed line", Shown::new(&self.search)));
    }

    /// Units and rows of a file where something stands; a path that holds it counts for its first unit.
    fn places(&self, file: usize, what: &[u8]) -> Vec<(usize, usize)> {
        let of = &self.sheet.files[file];
        let another;
        let opened = match &self.opened {
            Some(opened) if opened.file == file => opened,
            _ => {
                let mut opened = super::pieces::Opened::of(self.sheet, file);
                opened.lay_out(self.sheet, &self.state, self.display);
                another = opened;
                &another
            }
        };
        let mut found = Vec::new();
        if contains(of.change.path.as_bytes(), what) {
            found.push((0, 0));
        }
        for (at, unit) in of.units.iter().enumerate() {
            let UnitKind::Block { old, new } = &unit.kind else { continue };
            // Without a match in either side no row needs to be looked at.
            let is_there =
                contains(opened.text.old.span(old.clone()), what) || contains(opened.text.new.span(new.clone()), what);
            let Some(block) = opened.block(at).filter(|_| is_there) else { continue };
            let rows = (0..block.len()).filter(|row| contains(block.content(&opened.text, *row), what));
            let mut rows: Vec<usize> = rows.map(|row| opened.screen_row(at, row)).collect();
            rows.dedup();
            found.extend(rows.into_iter().map(|row| (at, row)));
        }
        found.dedup();
        found
    }

    /// Does what the mouse says.
    ///
    /// # Errors
    /// The draft could not be kept.
    pub fn mouse(&mut self, mouse: MouseEvent, around: &mut dyn Around) -> io::Result<Flow> {
        let place = ratatui::layout::Position { x: mouse.column, y: mouse.row };
        let (files, first) = self.hits.files;
        let rows = self.hits.rows;
        match mouse.kind {
            MouseEventKind::ScrollDown | MouseEventKind::ScrollUp => {
                let down = mouse.kind == MouseEventKind::ScrollDown;
                match &mut self.mode {
                    Mode::Preview { scroll, .. } | Mode::Apply { scroll, .. } => {
                        *scroll = if down { *scroll + WHEEL } else { scroll.saturating_sub(WHEEL) };
                    }
                    Mode::Browse if files.contains(place) => self.move_file(if down { 1 } else { -1 }),
                    Mode::Browse => {
                        let last = self.opened.as_ref().map_or(0, |o| o.rows().saturating_sub(rows.height.into()));
                        self.scroll =
                            if down { (self.scroll + WHEEL).min(last) } else { self.scroll.saturating_sub(WHEEL) };
                        self.take_along(rows.height.into());
                    }
                    _ => {}
                }
            }
            MouseEventKind::ScrollLeft => self.sideways = self.sideways.saturating_sub(SIDESTEP),
            MouseEventKind::ScrollRight => self.step_aside(),
            MouseEventKind::Down(MouseButton::Left) if matches!(self.mode, Mode::Browse) => {
                self.message = None;
                if files.contains(place) {
                    if let Some(file) = self.files.get(first + usize::from(mouse.row - files.y)) {
                        self.go(At { file: *file, unit: 0, row: 0 });
                    }
                } else if rows.contains(place) {
                    let row = self.scroll + usize::from(mouse.row - rows.y);
                    let hit = self.opened.as_ref().and_then(|o| match o.at(row)? {
                        (Piece::Block(unit), at) => Some((*unit, at)),
                        (Piece::Unit(unit), _) => Some((*unit, 0)),
                        _ => None,
                    });
                    if let Some((unit, row)) = hit {
                        let on_mark = mouse.column + 4 >= rows.x + rows.width;
                        (self.at.unit, self.at.row) = (unit, row);
                        self.anchor = None;
                        self.level = if on_mark { Level::Line } else { self.level.max(Level::Block) };
                        if on_mark {
                            self.follows = false;
                            return self.decide(self.toggled(), false, around);
                        }
                        let scroll = self.scroll;
                        self.hold_cursor();
                        (self.scroll, self.follows) = (scroll, false);
                    }
                }
            }
            _ => {}
        }
        Ok(Flow::On)
    }
}
