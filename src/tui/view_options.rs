//! View options: order, folding, blanks, side-by-side view, wrapping, context and moved lines.

use std::collections::BTreeSet;

use super::app::{App, Order};
use super::moved_lines::moved_lines;

impl App<'_> {
    /// Toggles the dimming of moved lines.
    pub(crate) fn toggle_moved(&mut self) {
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

    pub(crate) fn next_order(&mut self) {
        self.order = match self.order {
            Order::Risk => Order::Path,
            Order::Path => Order::Size,
            Order::Size => Order::Risk,
        };
        let chosen: BTreeSet<usize> = self.files.iter().copied().collect();
        self.choose(&chosen);
    }

    pub(crate) fn fold(&mut self) {
        if !self.folds.remove(&self.at.file) {
            self.folds.insert(self.at.file);
        }
        self.lay_out();
        self.hold_cursor();
    }

    pub(crate) fn hide_blanks(&mut self) {
        self.display.hides_blanks = !self.display.hides_blanks;
        self.lay_out();
        self.hold_cursor();
        self.message = Some(if self.display.hides_blanks {
            "hunks that change nothing but blanks are hidden, and cannot be accepted while they are".into()
        } else {
            "all hunks are shown".into()
        });
    }

    /// Toggles the wrapping of long lines.
    pub(crate) fn wrap_lines(&mut self) {
        self.display.wraps = !self.display.wraps;
        self.sideways = 0;
        self.message = Some(if self.display.wraps {
            "long lines are wrapped".into()
        } else {
            "long lines are cut at the edge: > and < scroll them".into()
        });
    }

    pub(crate) fn put_beside(&mut self) {
        let block_row = self.opened.as_ref().map(|o| o.pair(self.at.unit, self.at.row));
        self.display.side_by_side = !self.display.side_by_side;
        self.anchor = None;
        self.lay_out();
        if let (Some((removed, added)), Some(opened)) = (block_row, &self.opened)
            && let Some(row) = removed.or(added)
        {
            self.at.row = opened.screen_row(self.at.unit, row);
        }
        self.hold_cursor();
    }

    pub(crate) fn set_context(&mut self, context: usize) {
        self.display.context = context;
        self.lay_out();
        self.hold_cursor();
        self.message = Some(format!("{context} lines of context"));
    }
}
