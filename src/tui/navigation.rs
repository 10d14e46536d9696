//! Cursor movement by file, hunk, line and page, and to the next undecided unit.

use crossterm::event::KeyCode;

use super::app::{App, Cursor, Granularity};
use super::keys::H_SCROLL_STEP;
use super::layout::RowGroup;

impl App<'_> {
    /// Returns whether a unit has undecided lines and its file is not refused.
    pub(crate) fn has_undecided(&self, file: usize, unit: usize) -> bool {
        let Some(review_file) = self.model.files.get(file) else { return false };
        !review_file.is_refused()
            && review_file.units.get(unit).is_some()
            && self.counts.unit_line_counts(file, unit).undecided > 0
    }

    /// Returns the next undecided position after the cursor at the current granularity, wrapping around to the first file.
    pub(crate) fn next_undecided(&self) -> Option<Cursor> {
        let current = self.files.iter().position(|f| *f == self.cursor.file).unwrap_or(0);
        if self.granularity != Granularity::File
            && let Some(at) = self.next_undecided_in_file(self.cursor.unit, self.cursor.row + 1)
            && (self.granularity == Granularity::Hunk || at.unit == self.cursor.unit)
        {
            return Some(at);
        }
        // Single lines end with their hunk: lines above come before the next hunk.
        if self.granularity == Granularity::Line
            && let Some(at) = self.next_undecided_in_file(self.cursor.unit, 0)
        {
            return Some(at);
        }
        let order = (current + 1..self.files.len()).chain(0..=current);
        for file in order.filter_map(|at| self.files.get(at)) {
            let count = self.counts.file_counts(*file);
            if count.decided == count.all || self.model.files[*file].is_refused() {
                continue;
            }
            let unit = (0..count.all).find(|unit| self.has_undecided(*file, *unit))?;
            return Some(Cursor { file: *file, unit, row: 0 });
        }
        None
    }

    /// Returns the first undecided part or line of the open file that starts at or after a row of a unit.
    pub(crate) fn next_undecided_in_file(&self, first: usize, row: usize) -> Option<Cursor> {
        let opened = self.layout.as_ref()?;
        let review_file = self.current_file()?;
        let file = self.cursor.file;
        let is_open = |unit: usize, rows: std::ops::Range<usize>| {
            let is_line_undecided =
                |line| self.state.decisions.line_decision(&review_file.units[unit].id, line).is_none();
            match self.lines_in_rows(unit, rows) {
                None => self.has_undecided(file, unit),
                Some(lines) => lines.iter().any(is_line_undecided),
            }
        };
        for unit in first..review_file.units.len() {
            if !self.has_undecided(file, unit) || opened.is_hidden(unit) {
                continue;
            }
            let from = if unit == first { row } else { 0 };
            let row = match self.granularity {
                Granularity::Line => (from..opened.unit_row_count(unit)).find(|row| is_open(unit, *row..*row + 1)),
                _ => (self.unit_parts(unit).into_iter())
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
    pub(crate) fn move_cursor(&mut self, at: Cursor) {
        self.cursor = at;
        self.show_open_file_in_list();
        self.open_current_file();
        self.clamp_cursor();
    }

    /// Moves the cursor to the nearest valid position.
    pub(crate) fn clamp_cursor(&mut self) {
        let Some(opened) = &self.layout else { return };
        let units = self.model.files[self.cursor.file].units.len();
        self.cursor.unit = self.cursor.unit.min(units.saturating_sub(1));
        self.cursor.row = self.cursor.row.min(opened.unit_row_count(self.cursor.unit).saturating_sub(1));
        if self.granularity == Granularity::Hunk {
            self.cursor.row = self.current_part().start;
        }
        self.scroll_follows_cursor = true;
    }

    /// Moves to the next undecided position, or shows a message if nothing is undecided.
    pub(crate) fn go_to_next_undecided(&mut self) {
        self.anchor = None;
        match self.next_undecided() {
            Some(at) => {
                // Single lines end with their hunk.
                let is_other_hunk = (at.file, at.unit) != (self.cursor.file, self.cursor.unit);
                if self.granularity == Granularity::Line && is_other_hunk {
                    self.granularity = Granularity::Hunk;
                }
                self.move_cursor(at);
                // In a partly decided unit, move to the first undecided row.
                if self.granularity != Granularity::File
                    && let Some(at) = self.next_undecided_in_file(at.unit, at.row)
                {
                    self.move_cursor(at);
                }
            }
            None if self.message.is_none() => {
                self.message = Some(self.all_decided_message());
            }
            None => {}
        }
    }

    /// Moves by files in display order, and stops at both ends.
    pub(crate) fn move_file(&mut self, by: isize) {
        let current = self.files.iter().position(|f| *f == self.cursor.file).unwrap_or(0);
        let to = current.saturating_add_signed(by).min(self.files.len().saturating_sub(1));
        if let Some(file) = self.files.get(to).filter(|file| **file != self.cursor.file) {
            self.move_cursor(Cursor { file: *file, unit: 0, row: 0 });
        }
    }

    /// Moves by hunks or parts of hunks, and past the last one to the next file.
    pub(crate) fn move_hunk(&mut self, forward: bool) {
        let parts = self.unit_parts(self.cursor.unit);
        let current = parts.iter().position(|part| part.contains(&self.cursor.row)).unwrap_or(0);
        let units = self.current_file().map_or(0, |f| f.units.len());
        if self.display.folded {
            return self.move_file(if forward { 1 } else { -1 });
        }
        if forward {
            if let Some(next) = parts.get(current + 1) {
                self.cursor.row = next.start;
            } else if self.cursor.unit + 1 < units {
                (self.cursor.unit, self.cursor.row) = (self.cursor.unit + 1, 0);
            } else {
                return self.move_file(1);
            }
        } else if current > 0 {
            self.cursor.row = parts[current - 1].start;
        } else if self.cursor.unit > 0 {
            self.cursor.unit -= 1;
            self.cursor.row = self.unit_parts(self.cursor.unit).last().map_or(0, |part| part.start);
        } else {
            let before = self.cursor.file;
            self.move_file(-1);
            if self.cursor.file != before {
                self.move_to_end();
            }
            return;
        }
        self.clamp_cursor();
    }

    /// Moves by lines that can be decided, and past the last one to the next file.
    pub(crate) fn move_line(&mut self, forward: bool) {
        let Some(opened) = &self.layout else { return };
        let units = self.current_file().map_or(0, |f| f.units.len());
        if self.display.folded {
            return self.move_file(if forward { 1 } else { -1 });
        }
        if forward {
            if self.cursor.row + 1 < opened.unit_row_count(self.cursor.unit) {
                self.cursor.row += 1;
            } else if self.cursor.unit + 1 < units {
                (self.cursor.unit, self.cursor.row) = (self.cursor.unit + 1, 0);
            } else if self.anchor.is_none() {
                return self.move_file(1);
            }
        } else if self.cursor.row > 0 {
            self.cursor.row -= 1;
        } else if self.cursor.unit > 0 {
            self.cursor.unit -= 1;
            self.cursor.row = opened.unit_row_count(self.cursor.unit).saturating_sub(1);
        } else if self.anchor.is_none() {
            let before = self.cursor.file;
            self.move_file(-1);
            if self.cursor.file != before {
                self.move_to_end();
            }
            return;
        }
        self.scroll_follows_cursor = true;
    }

    /// Moves to the last line of the file.
    pub(crate) fn move_to_end(&mut self) {
        let Some(opened) = &self.layout else { return };
        self.cursor.unit = self.current_file().map_or(0, |f| f.units.len().saturating_sub(1));
        self.cursor.row = opened.unit_row_count(self.cursor.unit).saturating_sub(1);
        self.clamp_cursor();
    }

    /// Scrolls right if a visible line continues there.
    pub(crate) fn scroll_right(&mut self) {
        if self.is_truncated.get() {
            self.h_scroll += H_SCROLL_STEP;
        }
    }

    pub(crate) fn set_granularity(&mut self, granularity: Granularity) {
        self.granularity = granularity;
        (self.anchor, self.folder) = (None, None);
        self.clamp_cursor();
    }

    pub(crate) fn step_cursor(&mut self, forward: bool) {
        match self.granularity {
            Granularity::File => self.move_list_row(if forward { 1 } else { -1 }),
            Granularity::Hunk => self.move_hunk(forward),
            Granularity::Line => self.move_line(forward),
        }
    }

    /// Scrolls by a page, and moves the cursor to the first visible line.
    pub(crate) fn scroll_page(&mut self, rows: usize, forward: bool) {
        let Some(opened) = &self.layout else { return };
        // With wrapped lines, fewer rows fit on the screen.
        let shown = self.hit_areas.lines.last().map_or(rows, |last| (last + 1).saturating_sub(self.scroll));
        let last = opened.row_count().saturating_sub(shown);
        let step = if forward { shown } else { rows }.saturating_sub(2).max(1);
        if forward && self.scroll >= last {
            // Nothing is below: of a long hunk, show the end and not the start.
            self.move_to_end();
            if self.granularity == Granularity::Hunk {
                (self.scroll, self.scroll_follows_cursor) = (last, false);
            }
            return;
        }
        self.scroll = if forward { (self.scroll + step).min(last) } else { self.scroll.saturating_sub(step) };
        self.move_cursor_into_view(rows);
    }

    /// Moves the cursor to the first visible line or unit, so that the target of a decision has been seen.
    pub(crate) fn move_cursor_into_view(&mut self, rows: usize) {
        let Some(opened) = &self.layout else { return };
        self.scroll_follows_cursor = false;
        let first_visible =
            (self.scroll..opened.row_count().min(self.scroll + rows)).find_map(|row| match opened.group_at(row)? {
                (RowGroup::Hunk(unit), at) => Some((*unit, at)),
                (RowGroup::Unit(unit), _) => Some((*unit, 0)),
                _ => None,
            });
        if let Some((unit, row)) = first_visible {
            (self.cursor.unit, self.cursor.row) = (unit, row);
            if self.granularity == Granularity::Hunk {
                self.cursor.row = self.current_part().start;
            }
        }
    }

    /// Returns the new scroll position of a text for a key. The keys `<` and `>` scroll sideways.
    pub(crate) fn scroll_text(&mut self, from: usize, text: &[u8], key: KeyCode) -> usize {
        let page = usize::from(self.hit_areas.rows.height).max(1);
        let last = memchr::memchr_iter(b'\n', text).count();
        let to = match key {
            KeyCode::Down | KeyCode::Char('j') => from + 1,
            KeyCode::Up | KeyCode::Char('k') => from.saturating_sub(1),
            KeyCode::PageDown | KeyCode::Char(' ') => from + page,
            KeyCode::PageUp => from.saturating_sub(page),
            KeyCode::Home | KeyCode::Char('g') => 0,
            KeyCode::End | KeyCode::Char('G') => last,
            KeyCode::Char('>') => {
                self.scroll_right();
                from
            }
            KeyCode::Char('<') => {
                self.h_scroll = self.h_scroll.saturating_sub(H_SCROLL_STEP);
                from
            }
            _ => from,
        };
        to.min(last.saturating_sub(page / 2))
    }
}
