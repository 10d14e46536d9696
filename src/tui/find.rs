//! Search in changed lines and paths.

use std::collections::BTreeSet;

use super::app::{App, Cursor, Granularity};
use super::keymap::Command;
use super::outline::display_width;
use super::plain::contains_smart_case;
use crate::changes::UnitKind;
use crate::core::escape::Escaped;

impl App<'_> {
    /// Moves the cursor to the next or previous match in a changed line or a path.
    pub(crate) fn find_match(&mut self, forward: bool) {
        if self.search.is_empty() {
            self.message = Some(format!("there is no search yet{}", self.key_note(Command::Search, "searches")));
            return;
        }
        let needle = self.search.clone().into_bytes();
        if self.search_misses.0 != needle {
            self.search_misses = (needle.clone(), BTreeSet::new());
        }
        let current = self.files.iter().position(|f| *f == self.cursor.file).unwrap_or(0);
        let count = self.files.len();
        if count == 0 {
            return;
        }
        let is_at_line = self.granularity == Granularity::Line;
        let last_match = self.last_match.filter(|(file, unit, row)| {
            (*file, *unit) == (self.cursor.file, self.cursor.unit) && self.current_part().contains(row)
        });
        // The open file is searched twice: first from the cursor, and last from its other end.
        for step in 0..=count {
            let at = if forward { (current + step) % count } else { (current + count * 2 - step) % count };
            let file = self.files[at];
            if self.search_misses.1.contains(&file) {
                continue;
            }
            let matches = self.find_matches(file, &needle);
            if matches.is_empty() && !self.display.hides_blanks {
                self.search_misses.1.insert(file);
            }
            let cursor = last_match.map_or((self.cursor.unit, self.cursor.row), |(_, unit, row)| (unit, row));
            let next_match = match (forward, step) {
                // Above line level, the row at the cursor has not been visited as a match.
                (true, 0) if !is_at_line && last_match.is_none() => matches.iter().find(|place| **place >= cursor),
                (true, 0) => matches.iter().find(|place| **place > cursor),
                (false, 0) => matches.iter().rev().find(|place| **place < cursor),
                (true, _) => matches.first(),
                (false, _) => matches.last(),
            };
            if let Some((unit, row)) = next_match.copied() {
                let match_number = matches.iter().position(|at| *at == (unit, row)).unwrap_or(0) + 1;
                if self.granularity == Granularity::File {
                    self.granularity = Granularity::Hunk;
                }
                self.folded_files.remove(&file);
                self.move_cursor(Cursor { file, unit, row });
                self.last_match = Some((file, unit, row));
                self.message = Some(format!("{match_number} of {} in this file", matches.len()));
                self.scroll_to_match(&needle);
                return;
            }
        }
        self.message = Some(format!("\"{}\" was not found in changed lines", Escaped::new(&self.search)));
    }

    /// Scrolls sideways until the match is visible.
    fn scroll_to_match(&mut self, needle: &[u8]) {
        let column = self.layout.as_ref().zip(self.last_match).and_then(|(opened, (_, unit, row))| {
            let hunk = opened.unit_hunk(unit)?;
            let (removed, added) = opened.row_pair(unit, row);
            let mut lines = added.into_iter().chain(removed).map(|row| hunk.row_content(&opened.text, row));
            lines.find_map(|line| {
                let starts = 0..line.len().saturating_sub(needle.len() - 1);
                let at = starts.into_iter().find(|at| contains_smart_case(&line[*at..*at + needle.len()], needle))?;
                Some(display_width(&Escaped::from_line(&line[..at]).to_string()))
            })
        });
        let room = usize::from(self.hit_areas.rows.width) / 2;
        self.h_scroll =
            column.filter(|column| !self.display.wraps && *column > room).map_or(0, |column| column - room / 2);
    }

    /// Returns the matches in a file as units and rows. A match in the path counts as the first unit.
    pub(crate) fn find_matches(&self, file: usize, needle: &[u8]) -> Vec<(usize, usize)> {
        let review_file = &self.model.files[file];
        let other_layout;
        let opened = match &self.layout {
            Some(opened) if opened.file == file => opened,
            _ => {
                let mut opened = super::layout::FileLayout::new(self.model, file);
                opened.compute_rows(self.model, &self.state, self.display);
                other_layout = opened;
                &other_layout
            }
        };
        let mut matches = Vec::new();
        if contains_smart_case(review_file.change.path.as_bytes(), needle) {
            matches.push((0, 0));
        }
        for (at, unit) in review_file.units.iter().enumerate() {
            let UnitKind::Hunk { old, new } = &unit.kind else { continue };
            // If neither side has a match, its rows need not be searched.
            let has_match = contains_smart_case(opened.text.old.slice_lines(old.clone()), needle)
                || contains_smart_case(opened.text.new.slice_lines(new.clone()), needle);
            let Some(hunk) = opened.unit_hunk(at).filter(|_| has_match) else { continue };
            let rows = (0..hunk.len()).filter(|row| contains_smart_case(hunk.row_content(&opened.text, *row), needle));
            let mut rows: Vec<usize> = rows.map(|row| opened.display_row(at, row)).collect();
            rows.dedup();
            matches.extend(rows.into_iter().map(|row| (at, row)));
        }
        matches.dedup();
        matches
    }
}
