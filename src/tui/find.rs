//! Search in changed lines and paths.

use std::collections::BTreeSet;

use super::app::{App, Cursor, Granularity};
use super::outline::columns;
use super::plain::contains;
use crate::changes::UnitKind;
use crate::core::escape::Escaped;

impl App<'_> {
    /// Moves the cursor to the next or previous match in a changed line or a path.
    pub(crate) fn find(&mut self, forward: bool) {
        if self.search.is_empty() {
            self.message = Some("type / and what to look for".into());
            return;
        }
        let what = self.search.clone().into_bytes();
        if self.without.0 != what {
            self.without = (what.clone(), BTreeSet::new());
        }
        let here = self.files.iter().position(|f| *f == self.at.file).unwrap_or(0);
        let count = self.files.len();
        if count == 0 {
            return;
        }
        let is_at_line = self.level == Granularity::Line;
        // The open file is searched twice: first from the cursor, and last from its other end.
        for step in 0..=count {
            let at = if forward { (here + step) % count } else { (here + count * 2 - step) % count };
            let file = self.files[at];
            if self.without.1.contains(&file) {
                continue;
            }
            let found = self.places(file, &what);
            if found.is_empty() && !self.display.hides_blanks {
                self.without.1.insert(file);
            }
            let cursor = (self.at.unit, self.at.row);
            let place = match (forward, step) {
                // Above line level, the row at the cursor has not been visited as a match.
                (true, 0) if !is_at_line => found.iter().find(|place| **place >= cursor),
                (true, 0) => found.iter().find(|place| **place > cursor),
                (false, 0) => found.iter().rev().find(|place| **place < cursor),
                (true, _) => found.first(),
                (false, _) => found.last(),
            };
            if let Some((unit, row)) = place.copied() {
                let number = found.iter().position(|at| *at == (unit, row)).unwrap_or(0) + 1;
                self.level = Granularity::Line;
                self.folds.remove(&file);
                self.go(Cursor { file, unit, row });
                self.message = Some(format!("{number} of {} in this file", found.len()));
                self.bring_in_sight(&what);
                return;
            }
        }
        self.message = Some(format!("\"{}\" is in no changed line", Escaped::new(&self.search)));
    }

    /// Scrolls sideways until the match in the current line is visible.
    fn bring_in_sight(&mut self, what: &[u8]) {
        let column = self.opened.as_ref().and_then(|opened| {
            let block = opened.hunk(self.at.unit)?;
            let (removed, added) = opened.pair(self.at.unit, self.at.row);
            let mut lines = added.into_iter().chain(removed).map(|row| block.content(&opened.text, row));
            lines.find_map(|line| {
                let starts = 0..line.len().saturating_sub(what.len() - 1);
                let at = starts.into_iter().find(|at| contains(&line[*at..*at + what.len()], what))?;
                Some(columns(&Escaped::line(&line[..at]).to_string()))
            })
        });
        let room = usize::from(self.hits.rows.width) / 2;
        self.sideways =
            column.filter(|column| !self.display.wraps && *column > room).map_or(0, |column| column - room / 2);
    }

    /// Returns the matches in a file as units and rows. A match in the path counts as the first unit.
    pub(crate) fn places(&self, file: usize, what: &[u8]) -> Vec<(usize, usize)> {
        let of = &self.sheet.files[file];
        let another;
        let opened = match &self.opened {
            Some(opened) if opened.file == file => opened,
            _ => {
                let mut opened = super::layout::FileLayout::of(self.sheet, file);
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
            let UnitKind::Hunk { old, new } = &unit.kind else { continue };
            // If neither side has a match, its rows need not be searched.
            let is_there =
                contains(opened.text.old.span(old.clone()), what) || contains(opened.text.new.span(new.clone()), what);
            let Some(block) = opened.hunk(at).filter(|_| is_there) else { continue };
            let rows = (0..block.len()).filter(|row| contains(block.content(&opened.text, *row), what));
            let mut rows: Vec<usize> = rows.map(|row| opened.screen_row(at, row)).collect();
            rows.dedup();
            found.extend(rows.into_iter().map(|row| (at, row)));
        }
        found.dedup();
        found
    }
}
