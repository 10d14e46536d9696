//! The state of the full screen: what is shown, where the cursor is, and how it moves. It reads no key and draws nothing.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;

use globset::GlobMatcher;

use super::counts::Counts;
use super::moved::moved_lines;
use super::palette::Look;
use super::pieces::{Display, Opened, hides};
use super::syntax::{Answer, Highlighted, Request, is_small};
use crate::changes::{Level as Risk, LineSet, Unit, UnitKind};
use crate::display::Shown;
use crate::review::{Action, Around, Decision, Item, Preview, Sheet, SheetFile, State, Text, update};

/// What a key moves and decides on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Files.
    File,
    /// Blocks, or the parts of one that was split.
    Block,
    /// Lines.
    Line,
}

/// The order of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// What needs a closer look first.
    Risk,
    /// By path.
    Path,
    /// The largest first.
    Size,
}

/// Which files are shown.
#[derive(Debug, Clone)]
pub enum Filter {
    /// All.
    All,
    /// With something undecided.
    Undecided,
    /// With a finding.
    Risky,
    /// That cannot be brought to the working tree as it is.
    Conflict,
    /// With a comment.
    Commented,
    /// With what the last round changed.
    New,
    /// By path.
    Glob(String, GlobMatcher),
}

/// Where the cursor is: a row is one of the screen, within the unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    /// Of the sheet.
    pub file: usize,
    /// Of the file.
    pub unit: usize,
    /// Of the unit.
    pub row: usize,
}

/// What a line of input is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asking {
    /// What to look for.
    Search,
    /// What to show.
    Filter,
    /// What to say, and where.
    Comment(crate::review::Anchor),
}

/// What happens after a yes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pending {
    /// Decides on everything that is undecided.
    All(Decision),
    /// Accepts a risky file.
    File(Vec<Item>),
    /// Throws the draft away.
    Discard,
    /// Sends what was said to the agent.
    Send,
}

/// What the keys mean at the moment.
#[derive(Debug)]
pub enum Mode {
    /// The review.
    Browse,
    /// A line of input.
    Input(Asking, String),
    /// A question.
    Confirm(String, Pending),
    /// The keys, those that match what is typed.
    Help(String),
    /// A file as it would be.
    Preview { title: String, content: Vec<u8>, scroll: usize },
    /// What an apply would do; and what was typed, where a word is asked for.
    Apply { preview: Preview, scroll: usize, typed: Option<String> },
}

/// Parts of the screen that a mouse can hit, as they were drawn last.
#[derive(Debug, Default)]
pub struct Hits {
    /// The list of files: column and row where it begins, its columns and rows, the first file shown.
    pub files: (ratatui::layout::Rect, usize),
    /// The rows of the file.
    pub rows: ratatui::layout::Rect,
}

/// Everything about the screen.
pub struct App<'a> {
    pub(super) sheet: &'a Sheet<'a>,
    /// What was decided.
    pub state: State,
    /// The sandbox.
    pub(super) name: String,
    pub(super) look: Look,
    pub(super) counts: Counts,
    /// Units that the last round changed; nothing in the first.
    pub(super) new: Option<BTreeSet<String>>,
    /// Comments and rejections can be sent to the agent.
    pub(super) can_send: bool,
    pub(super) order: Order,
    pub(super) filter: Filter,
    /// The files that are shown, in order.
    pub(super) files: Vec<usize>,
    pub(super) display: Display,
    pub(super) folds: BTreeSet<usize>,
    pub(super) moved: Option<HashSet<u64>>,
    pub(super) level: Level,
    pub(super) at: At,
    /// The other end of a range of lines: unit and row.
    pub(super) anchor: Option<(usize, usize)>,
    pub(super) opened: Option<Opened>,
    pub(super) scroll: usize,
    pub(super) sideways: usize,
    /// The scroll position follows the cursor; a wheel lets go of it.
    pub(super) follows: bool,
    pub(super) search: String,
    pub(super) mode: Mode,
    pub(super) message: Option<String>,
    pub(super) highlighted: BTreeMap<usize, [Highlighted; 2]>,
    asked: BTreeSet<usize>,
    attention: Attention,
    /// All line endings of the open file change.
    has_endings: bool,
    request: Option<Request>,
    pub(super) hits: Hits,
    /// A line in sight, as it was drawn last, goes on to the right.
    pub(super) goes_on: Cell<bool>,
    pub(super) files_scroll: usize,
}

/// What must be seen before keys count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attention {
    /// Nothing.
    None,
    /// A question.
    Question,
    /// A risky file.
    File(usize),
}

/// How a screen begins.
pub struct Opening {
    /// The sandbox's name.
    pub name: String,
    /// How it looks.
    pub look: Look,
    /// Units that the last round changed; nothing in the first.
    pub new: Option<BTreeSet<String>>,
    /// Whether comments and rejections can be sent to the agent.
    pub can_send: bool,
}

/// Files whose colours are kept.
const MOST_HIGHLIGHTED: usize = 12;

impl<'a> App<'a> {
    /// Opens the screen on the first file with something undecided.
    #[must_use]
    pub fn new(sheet: &'a Sheet<'a>, state: State, opening: Opening) -> Self {
        let folds = (0..sheet.files.len()).filter(|at| sheet.files[*at].begins_folded).collect();
        let counts = Counts::of(sheet, &state.decisions);
        let is_first = opening.new.is_none();
        let mut app = Self {
            sheet,
            name: opening.name,
            look: opening.look,
            counts,
            new: opening.new,
            can_send: opening.can_send,
            order: Order::Risk,
            filter: if is_first { Filter::All } else { Filter::New },
            files: Vec::new(),
            display: Display { context: 3, hides_blanks: false, beside: false, folded: false },
            folds,
            moved: None,
            level: Level::Block,
            at: At { file: 0, unit: 0, row: 0 },
            anchor: None,
            opened: None,
            scroll: 0,
            sideways: 0,
            follows: true,
            search: String::new(),
            mode: Mode::Browse,
            message: None,
            highlighted: BTreeMap::new(),
            asked: BTreeSet::new(),
            attention: Attention::None,
            has_endings: false,
            request: None,
            hits: Hits::default(),
            goes_on: Cell::new(false),
            files_scroll: 0,
            state,
        };
        app.choose(&BTreeSet::new());
        if app.files.is_empty() {
            app.filter = Filter::All;
            app.choose(&BTreeSet::new());
        }
        let first = app.files.first().copied().unwrap_or(0);
        app.at.file = first;
        if !app.has_open(first, 0) {
            app.at = app.next_open().unwrap_or(app.at);
        }
        app.open();
        app
    }

    /// Gives the file that is shown.
    pub(super) fn file(&self) -> Option<&'a SheetFile<'a>> {
        self.sheet.files.get(self.at.file)
    }

    /// Gives the unit that the cursor is on.
    pub(super) fn unit(&self) -> Option<&'a Unit> {
        self.file()?.units.get(self.at.unit)
    }

    /// Chooses and orders the files that are shown; `conflicts` are those of an apply of everything.
    pub(super) fn choose(&mut self, conflicts: &BTreeSet<usize>) {
        let commented: BTreeSet<&str> = self.state.decisions.comments().map(|((unit, _), _)| unit.as_str()).collect();
        let is_shown = |at: &usize| {
            let file = &self.sheet.files[*at];
            match &self.filter {
                Filter::All => true,
                Filter::Undecided => !file.is_refused() && self.counts.file(*at).decided < file.units.len(),
                Filter::Risky => file.change.level() > Some(Risk::Note),
                Filter::Conflict => conflicts.contains(at),
                Filter::Commented => file.units.iter().any(|u| commented.contains(u.id.as_str())),
                Filter::New => self.new.as_ref().is_some_and(|new| file.units.iter().any(|u| new.contains(&u.id))),
                Filter::Glob(_, glob) => glob.is_match(String::from_utf8_lossy(file.change.path.as_bytes()).as_ref()),
            }
        };
        let mut files: Vec<usize> = (0..self.sheet.files.len()).filter(is_shown).collect();
        let path = |at: &usize| &self.sheet.files[*at].change.path;
        match self.order {
            Order::Path => files.sort_by(|a, b| path(a).cmp(path(b))),
            Order::Risk => files.sort_by(|a, b| {
                let level = |at: &usize| self.sheet.files[*at].change.level();
                level(b).cmp(&level(a)).then_with(|| path(a).cmp(path(b)))
            }),
            Order::Size => files.sort_by(|a, b| {
                let lines = |at: &usize| {
                    let (added, removed) = self.sheet.files[*at].line_counts;
                    added + removed
                };
                lines(b).cmp(&lines(a)).then_with(|| path(a).cmp(path(b)))
            }),
        }
        self.files = files;
        if !self.files.contains(&self.at.file)
            && let Some(first) = self.files.first()
        {
            self.at = At { file: *first, unit: 0, row: 0 };
            self.open();
        }
    }

    /// Opens the file of the cursor, if another was open, and lays it out.
    pub(super) fn open(&mut self) {
        if self.file().is_none() {
            return;
        }
        if self.opened.as_ref().is_none_or(|o| o.file != self.at.file) {
            self.opened = Some(Opened::of(self.sheet, self.at.file));
            let is_ending = |u: &Unit| matches!(u.kind, UnitKind::Endings(_));
            self.has_endings = self.file().is_some_and(|f| f.units.iter().any(is_ending));
            (self.scroll, self.sideways, self.anchor) = (0, 0, None);
            self.ask_for_colours();
        }
        self.follows = true;
        self.lay_out();
    }

    /// Lays the open file out anew.
    pub(super) fn lay_out(&mut self) {
        self.display.folded = self.folds.contains(&self.at.file);
        if let Some(opened) = &mut self.opened {
            opened.lay_out(self.sheet, &self.state, self.display);
        }
    }

    fn ask_for_colours(&mut self) {
        let Some(opened) = &self.opened else { return };
        let (old, new) = (opened.text.old.bytes(), opened.text.new.bytes());
        let is_worth_it = (!old.is_empty() || !new.is_empty()) && is_small(old) && is_small(new);
        if is_worth_it && self.asked.insert(opened.file) {
            let name = self.sheet.files[opened.file].change.path.file_name();
            let name = String::from_utf8_lossy(name).into_owned();
            self.request = Some(Request { file: opened.file, name, contents: [old.to_vec(), new.to_vec()] });
        }
    }

    /// Gives the file whose colours are wanted, once.
    pub fn take_request(&mut self) -> Option<Request> {
        self.request.take()
    }

    /// Takes colours in; tells whether they are of what is shown.
    pub fn highlight(&mut self, answer: Answer) -> bool {
        while self.highlighted.len() >= MOST_HIGHLIGHTED {
            let furthest = self.highlighted.keys().copied().max_by_key(|file| file.abs_diff(self.at.file));
            let Some(furthest) = furthest else { break };
            self.highlighted.remove(&furthest);
            self.asked.remove(&furthest);
        }
        let is_shown = answer.file == self.at.file;
        self.highlighted.insert(answer.file, answer.sides);
        is_shown
    }

    /// Gives the rows of the screen, within the unit, of the part that the cursor is in.
    pub(super) fn part(&self) -> std::ops::Range<usize> {
        let all = self.parts(self.at.unit);
        let within = all.iter().find(|part| part.contains(&self.at.row));
        within.or(all.first()).cloned().unwrap_or(0..1)
    }

    /// Gives the parts of a unit of the open file, as rows of the screen.
    pub(super) fn parts(&self, unit: usize) -> Vec<std::ops::Range<usize>> {
        let (Some(file), Some(opened)) = (self.file(), &self.opened) else { return Vec::new() };
        let Some(of) = file.units.get(unit) else { return Vec::new() };
        if !matches!(of.kind, UnitKind::Block { .. }) {
            return std::iter::once(0..1).collect();
        }
        let size = opened.size(unit);
        let mut cuts: Vec<usize> =
            self.state.parts(of).iter().skip(1).map(|part| opened.screen_row(unit, part.start)).collect();
        cuts.retain(|cut| (1..size).contains(cut));
        cuts.dedup();
        let ends = cuts.iter().copied().chain([size]);
        let mut from = 0;
        ends.map(|end| std::mem::replace(&mut from, end)..end).collect()
    }

    /// Gives the lines that stand in rows of the screen of a unit of the open file; nothing is all of it.
    pub(super) fn lines(&self, unit: usize, rows: std::ops::Range<usize>) -> Option<LineSet> {
        let opened = self.opened.as_ref()?;
        let block = opened.block(unit)?;
        if rows == (0..opened.size(unit)) {
            return None;
        }
        let mut lines: Vec<usize> = rows
            .flat_map(|row| {
                let (removed, added) = opened.pair(unit, row);
                removed.into_iter().chain(added)
            })
            .map(|row| block.line(row))
            .collect();
        lines.sort_unstable();
        Some(LineSet::of(lines))
    }

    /// Gives what a decision would be about.
    pub(super) fn items(&self) -> Vec<Item> {
        let (file, Some(of)) = (self.at.file, self.file()) else { return Vec::new() };
        let shown = |unit: &usize| self.opened.as_ref().is_none_or(|o| !o.is_hidden(*unit));
        // Of a folded file nobody sees the parts.
        let level = if self.display.folded { Level::File } else { self.level };
        match level {
            Level::File => (0..of.units.len()).filter(shown).map(|unit| Item { file, unit, lines: None }).collect(),
            Level::Block => {
                let unit = self.at.unit;
                std::iter::once(Item { file, unit, lines: self.lines(unit, self.part()) })
                    .filter(|item| shown(&item.unit))
                    .collect()
            }
            Level::Line => {
                let (first, last) = self.range();
                (first.0..=last.0)
                    .filter(shown)
                    .map(|unit| {
                        let from = if unit == first.0 { first.1 } else { 0 };
                        let size = self.opened.as_ref().map_or(1, |o| o.size(unit));
                        let to = if unit == last.0 { last.1 + 1 } else { size };
                        Item { file, unit, lines: self.lines(unit, from..to.min(size)) }
                    })
                    .collect()
            }
        }
    }

    /// Gives both ends of the range of lines, in order; without one it is the line of the cursor.
    pub(super) fn range(&self) -> ((usize, usize), (usize, usize)) {
        let here = (self.at.unit, self.at.row);
        let there = self.anchor.unwrap_or(here);
        (here.min(there), here.max(there))
    }

    /// Gives what is undecided of a file, and how much of that the display hides.
    pub(super) fn open_items(&self, file: usize) -> (Vec<Item>, usize) {
        let of = &self.sheet.files[file];
        let (mut items, mut hidden) = (Vec::new(), 0);
        if of.is_refused() {
            return (items, hidden);
        }
        let is_here = self.opened.as_ref().filter(|o| o.file == file);
        // What cannot be read is shown as such when it is opened, and none of it is hidden.
        let text = (self.display.hides_blanks && is_here.is_none()).then(|| Text::read(self.sheet, of).ok()).flatten();
        for (unit, of) in of.units.iter().enumerate() {
            let tally = self.counts.unit(file, unit);
            if tally.undecided == 0 {
                continue;
            }
            let is_hidden = match is_here {
                Some(opened) => opened.is_hidden(unit),
                None => text.as_ref().is_some_and(|text| hides(of, text)),
            };
            if is_hidden {
                hidden += 1;
                continue;
            }
            let ruling = self.state.decisions.of(&of.id).filter(|_| tally.undecided < of.size());
            let lines = ruling.map(|ruling| ruling.lines(|decision| decision.is_none()));
            items.push(Item { file, unit, lines });
        }
        (items, hidden)
    }

    /// Does something, and keeps it.
    pub(super) fn act(&mut self, action: Action, around: &mut dyn Around) -> io::Result<()> {
        self.state = update(std::mem::take(&mut self.state), self.sheet, action);
        self.message = self.state.said.take();
        self.flush(around)
    }

    /// Keeps what has happened.
    ///
    /// # Errors
    /// What `around` says.
    pub fn flush(&mut self, around: &mut dyn Around) -> io::Result<()> {
        let events = self.state.take_events();
        around.keep(&events)?;
        self.counts.follow(self.sheet, &self.state.decisions, &events);
        Ok(())
    }

    /// Tells whether a unit has something undecided from a row of the screen on.
    fn has_open(&self, file: usize, unit: usize) -> bool {
        let Some(of) = self.sheet.files.get(file) else { return false };
        !of.is_refused() && of.units.get(unit).is_some() && self.counts.unit(file, unit).undecided > 0
    }

    /// Finds what is undecided next, behind the cursor or else from the beginning, at the level of the cursor.
    pub(super) fn next_open(&self) -> Option<At> {
        let here = self.files.iter().position(|f| *f == self.at.file).unwrap_or(0);
        if self.level != Level::File
            && let Some(at) = self.open_from(self.at.unit, self.at.row + 1)
        {
            return Some(at);
        }
        let order = (here + 1..self.files.len()).chain(0..=here);
        for file in order.filter_map(|at| self.files.get(at)) {
            let count = self.counts.file(*file);
            if count.decided == count.all || self.sheet.files[*file].is_refused() {
                continue;
            }
            let unit = (0..count.all).find(|unit| self.has_open(*file, *unit))?;
            return Some(At { file: *file, unit, row: 0 });
        }
        None
    }

    /// Finds the first undecided part or line of the open file that begins at a row of a unit or behind it.
    fn open_from(&self, first: usize, row: usize) -> Option<At> {
        let opened = self.opened.as_ref()?;
        let of = self.file()?;
        let file = self.at.file;
        let is_open = |unit: usize, rows: std::ops::Range<usize>| {
            let undecided = |line| self.state.decisions.line(&of.units[unit].id, line).is_none();
            match self.lines(unit, rows) {
                None => self.has_open(file, unit),
                Some(lines) => lines.iter().any(undecided),
            }
        };
        for unit in first..of.units.len() {
            if !self.has_open(file, unit) || opened.is_hidden(unit) {
                continue;
            }
            let from = if unit == first { row } else { 0 };
            let row = match self.level {
                Level::Line => (from..opened.size(unit)).find(|row| is_open(unit, *row..*row + 1)),
                _ => (self.parts(unit).into_iter())
                    .find(|part| part.start >= from && is_open(unit, part.clone()))
                    .map(|part| part.start),
            };
            if let Some(row) = row {
                return Some(At { file, unit, row });
            }
        }
        None
    }

    /// Goes to a place.
    pub(super) fn go(&mut self, at: At) {
        self.at = at;
        self.open();
        self.hold_cursor();
    }

    /// Keeps the cursor on something that is there.
    pub(super) fn hold_cursor(&mut self) {
        let Some(opened) = &self.opened else { return };
        let units = self.sheet.files[self.at.file].units.len();
        self.at.unit = self.at.unit.min(units.saturating_sub(1));
        self.at.row = self.at.row.min(opened.size(self.at.unit).saturating_sub(1));
        if self.level == Level::Block {
            self.at.row = self.part().start;
        }
        self.follows = true;
    }

    /// Goes on to what is undecided next, or says that nothing is.
    pub(super) fn advance(&mut self) {
        self.anchor = None;
        match self.next_open() {
            Some(at) => {
                self.go(at);
                // Of a unit that is decided in part the first open row is meant.
                if self.level != Level::File
                    && let Some(at) = self.open_from(at.unit, at.row)
                {
                    self.go(at);
                }
            }
            None if self.message.is_none() => {
                self.message = Some("all is decided · w shows what an apply would do".into());
            }
            None => {}
        }
    }

    /// Moves by files, in the order shown; stays at the ends.
    pub(super) fn move_file(&mut self, by: isize) {
        let here = self.files.iter().position(|f| *f == self.at.file).unwrap_or(0);
        let to = here.saturating_add_signed(by).min(self.files.len().saturating_sub(1));
        if let Some(file) = self.files.get(to).filter(|file| **file != self.at.file) {
            self.go(At { file: *file, unit: 0, row: 0 });
        }
    }

    /// Moves by blocks, or parts of them; from the last on to the next file.
    pub(super) fn move_block(&mut self, forward: bool) {
        let parts = self.parts(self.at.unit);
        let here = parts.iter().position(|part| part.contains(&self.at.row)).unwrap_or(0);
        let units = self.file().map_or(0, |f| f.units.len());
        if self.display.folded {
            return self.move_file(if forward { 1 } else { -1 });
        }
        if forward {
            if let Some(next) = parts.get(here + 1) {
                self.at.row = next.start;
            } else if self.at.unit + 1 < units {
                (self.at.unit, self.at.row) = (self.at.unit + 1, 0);
            } else {
                return self.move_file(1);
            }
        } else if here > 0 {
            self.at.row = parts[here - 1].start;
        } else if self.at.unit > 0 {
            self.at.unit -= 1;
            self.at.row = self.parts(self.at.unit).last().map_or(0, |part| part.start);
        } else {
            let before = self.at.file;
            self.move_file(-1);
            if self.at.file != before {
                self.go_last();
            }
            return;
        }
        self.hold_cursor();
    }

    /// Moves by lines that can be decided on; from the last on to the next file.
    pub(super) fn move_line(&mut self, forward: bool) {
        let Some(opened) = &self.opened else { return };
        let units = self.file().map_or(0, |f| f.units.len());
        if self.display.folded {
            return self.move_file(if forward { 1 } else { -1 });
        }
        if forward {
            if self.at.row + 1 < opened.size(self.at.unit) {
                self.at.row += 1;
            } else if self.at.unit + 1 < units {
                (self.at.unit, self.at.row) = (self.at.unit + 1, 0);
            } else if self.anchor.is_none() {
                return self.move_file(1);
            }
        } else if self.at.row > 0 {
            self.at.row -= 1;
        } else if self.at.unit > 0 {
            self.at.unit -= 1;
            self.at.row = opened.size(self.at.unit).saturating_sub(1);
        } else if self.anchor.is_none() {
            let before = self.at.file;
            self.move_file(-1);
            if self.at.file != before {
                self.go_last();
            }
            return;
        }
        self.follows = true;
    }

    /// Goes to the last thing of the file.
    pub(super) fn go_last(&mut self) {
        let Some(opened) = &self.opened else { return };
        self.at.unit = self.file().map_or(0, |f| f.units.len().saturating_sub(1));
        self.at.row = opened.size(self.at.unit).saturating_sub(1);
        self.hold_cursor();
    }

    /// Dims lines that stand elsewhere too, or no more.
    pub(super) fn toggle_moved(&mut self) {
        self.moved = match self.moved {
            Some(_) => None,
            None => Some(moved_lines(self.sheet)),
        };
        let text = match &self.moved {
            None => "moved lines are shown as the others".to_owned(),
            Some(moved) if moved.is_empty() => "no line has moved".into(),
            Some(_) => "lines that have only moved are dim".into(),
        };
        self.message = Some(text);
    }

    /// Tells whether all line endings of the open file change: they are not shown line by line then.
    pub(super) fn has_ending_unit(&self) -> bool {
        self.has_endings
    }

    /// Tells whether the last round changed what the cursor is on.
    pub(super) fn is_new(&self) -> bool {
        let Some(unit) = self.unit() else { return false };
        self.new.as_ref().is_some_and(|new| new.contains(&unit.id))
    }

    /// Says of a file that the last round changed that decisions on other parts of it were kept.
    pub(super) fn kept_in(&self, file: usize) -> Option<String> {
        let new = self.new.as_ref()?;
        let units = &self.sheet.files[file].units;
        let kept = units.iter().filter(|u| !new.contains(&u.id) && self.state.decisions.is_accepted(u)).count();
        let has_new = units.iter().any(|u| new.contains(&u.id));
        let noun = if kept == 1 { "decision" } else { "decisions" };
        (kept > 0 && has_new)
            .then(|| format!("{}: {kept} {noun} kept, though the file changed otherwise", self.path(file)))
    }

    /// Tells, once, whether something has come up that must be seen before the next key counts: a question, the apply screen, a
    /// risky file.
    pub(super) fn takes_attention(&mut self) -> bool {
        let now = match &self.mode {
            Mode::Confirm(..) | Mode::Apply { .. } => Attention::Question,
            _ if self.file().is_some_and(SheetFile::is_risky) => Attention::File(self.at.file),
            _ => Attention::None,
        };
        let before = std::mem::replace(&mut self.attention, now);
        now != before && now != Attention::None
    }

    /// Says something in the last line.
    pub(super) fn say(&mut self, text: &str) {
        self.message = Some(text.to_owned());
    }

    /// Gives a file's path for a person.
    pub(super) fn path(&self, file: usize) -> String {
        Shown::new(self.sheet.files[file].change.path.as_bytes()).to_string()
    }
}
