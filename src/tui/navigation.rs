//! Cursor movement by file, hunk, line and page, and to the next undecided unit.

use crossterm::event::KeyCode;

use super::app::{ALL_DECIDED, App, Cursor, Granularity};
use super::keys::SIDESTEP;
use super::layout::RowGroup;

impl App<'_> {
    /// Returns whether a unit has undecided lines and its file is not refused.
    pub(crate) fn has_open(&self, file: usize, unit: usize) -> bool {
        let Some(of) = self.sheet.files.get(file) else { return false };
        !of.is_refused() && of.units.get(unit).is_some() && self.counts.unit(file, unit).undecided > 0
    }

    /// Returns the next undecided position after the cursor at the current granularity, wrapping around to the first file.
    pub(crate) fn next_open(&self) -> Option<Cursor> {
        let here = self.files.iter().position(|f| *f == self.at.file).unwrap_or(0);
        if self.level != Granularity::File
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
            return Some(Cursor { file: *file, unit, row: 0 });
        }
        None
    }

    /// Returns the first undecided part or line of the open file that starts at or after a row of a unit.
    pub(crate) fn open_from(&self, first: usize, row: usize) -> Option<Cursor> {
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
                Granularity::Line => (from..opened.size(unit)).find(|row| is_open(unit, *row..*row + 1)),
                _ => (self.parts(unit).into_iter())
                    .find(|part| part.start >= from && is_open(unit, part.clone()))
                    .map(|part| part.start),
            };
            if let Some(row) = row {
                return Some(Cursor { file, unit, row });
            }
        }
        None
    }

    /// Moves the cursor.
    pub(crate) fn go(&mut self, at: Cursor) {
        self.at = at;
        self.open();
        self.hold_cursor();
    }

    /// Moves the cursor to the nearest valid position.
    pub(crate) fn hold_cursor(&mut self) {
        let Some(opened) = &self.opened else { return };
        let units = self.sheet.files[self.at.file].units.len();
        self.at.unit = self.at.unit.min(units.saturating_sub(1));
        self.at.row = self.at.row.min(opened.size(self.at.unit).saturating_sub(1));
        if self.level == Granularity::Block {
            self.at.row = self.part().start;
        }
        self.follows = true;
    }

    /// Moves to the next undecided position, or shows a message if nothing is undecided.
    pub(crate) fn advance(&mut self) {
        self.anchor = None;
        match self.next_open() {
            Some(at) => {
                self.go(at);
                // In a partly decided unit, move to the first undecided row.
                if self.level != Granularity::File
                    && let Some(at) = self.open_from(at.unit, at.row)
                {
                    self.go(at);
                }
            }
            None if self.message.is_none() => {
                self.message = Some(ALL_DECIDED.into());
            }
            None => {}
        }
    }

    /// Moves by files in display order, and stops at both ends.
    pub(crate) fn move_file(&mut self, by: isize) {
        let here = self.files.iter().position(|f| *f == self.at.file).unwrap_or(0);
        let to = here.saturating_add_signed(by).min(self.files.len().saturating_sub(1));
        if let Some(file) = self.files.get(to).filter(|file| **file != self.at.file) {
            self.go(Cursor { file: *file, unit: 0, row: 0 });
        }
    }

    /// Moves by hunks or parts of hunks, and past the last one to the next file.
    pub(crate) fn move_hunk(&mut self, forward: bool) {
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

    /// Moves by lines that can be decided, and past the last one to the next file.
    pub(crate) fn move_line(&mut self, forward: bool) {
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

    /// Moves to the last line of the file.
    pub(crate) fn go_last(&mut self) {
        let Some(opened) = &self.opened else { return };
        self.at.unit = self.file().map_or(0, |f| f.units.len().saturating_sub(1));
        self.at.row = opened.size(self.at.unit).saturating_sub(1);
        self.hold_cursor();
    }

    /// Scrolls right if a visible line continues there.
    pub(crate) fn step_aside(&mut self) {
        if self.goes_on.get() {
            self.sideways += SIDESTEP;
        }
    }

    pub(crate) fn set_level(&mut self, level: Granularity) {
        self.level = level;
        self.anchor = None;
        self.hold_cursor();
    }

    pub(crate) fn step(&mut self, forward: bool) {
        match self.level {
            Granularity::File => self.move_file(if forward { 1 } else { -1 }),
            Granularity::Block => self.move_hunk(forward),
            Granularity::Line => self.move_line(forward),
        }
    }

    /// Scrolls by a page, and moves the cursor to the first visible line.
    pub(crate) fn page(&mut self, rows: usize, forward: bool) {
        let Some(opened) = &self.opened else { return };
        // With wrapped lines, fewer rows fit on the screen.
        let shown = self.hits.lines.last().map_or(rows, |last| (last + 1).saturating_sub(self.scroll));
        let last = opened.rows().saturating_sub(shown);
        let step = if forward { shown } else { rows }.saturating_sub(2).max(1);
        if forward && self.scroll >= last {
            // Nothing is below: of a long hunk, show the end and not the start.
            self.go_last();
            if self.level == Granularity::Block {
                (self.scroll, self.follows) = (last, false);
            }
            return;
        }
        self.scroll = if forward { (self.scroll + step).min(last) } else { self.scroll.saturating_sub(step) };
        self.take_along(rows);
    }

    /// Moves the cursor to the first visible line or unit, so that the target of a decision has been seen.
    pub(crate) fn take_along(&mut self, rows: usize) {
        let Some(opened) = &self.opened else { return };
        self.follows = false;
        let in_sight = (self.scroll..opened.rows().min(self.scroll + rows)).find_map(|row| match opened.at(row)? {
            (RowGroup::Block(unit), at) => Some((*unit, at)),
            (RowGroup::Unit(unit), _) => Some((*unit, 0)),
            _ => None,
        });
        if let Some((unit, row)) = in_sight {
            (self.at.unit, self.at.row) = (unit, row);
            if self.level == Granularity::Block {
                self.at.row = self.part().start;
            }
        }
    }

    /// Returns the new scroll position of a text for a key. The keys `<` and `>` scroll sideways.
    pub(crate) fn scrolled(&mut self, from: usize, text: &[u8], key: KeyCode) -> usize {
        let page = usize::from(self.hits.rows.height).max(1);
        let last = memchr::memchr_iter(b'\n', text).count();
        let to = match key {
            KeyCode::Down | KeyCode::Char('j') => from + 1,
            KeyCode::Up | KeyCode::Char('k') => from.saturating_sub(1),
            KeyCode::PageDown | KeyCode::Char(' ') => from + page,
            KeyCode::PageUp => from.saturating_sub(page),
            KeyCode::Home | KeyCode::Char('g') => 0,
            KeyCode::End | KeyCode::Char('G') => last,
            KeyCode::Char('>') => {
                self.step_aside();
                from
            }
            KeyCode::Char('<') => {
                self.sideways = self.sideways.saturating_sub(SIDESTEP);
                from
            }
            _ => from,
        };
        to.min(last.saturating_sub(page / 2))
    }
}
