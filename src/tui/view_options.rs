//! View options: order, folding, blanks, side-by-side view, wrapping, context and moved lines.

use super::app::App;
use super::keymap::Command;
use super::moved_lines::moved_lines;

impl App<'_> {
    /// Toggles the dimming of moved lines.
    pub(crate) fn toggle_moved(&mut self) {
        self.moved_lines = match self.moved_lines {
            Some(_) => None,
            None => Some(moved_lines(self.model)),
        };
        let text = match &self.moved_lines {
            None => "moved lines are not dimmed".to_owned(),
            Some(moved) if moved.is_empty() => "no lines were moved".into(),
            Some(_) => "moved lines are dimmed".into(),
        };
        self.message = Some(text);
    }

    pub(crate) fn toggle_fold(&mut self) {
        if !self.folded_files.remove(&self.cursor.file) {
            self.folded_files.insert(self.cursor.file);
        }
        self.update_layout();
        self.clamp_cursor();
    }

    pub(crate) fn toggle_blanks(&mut self) {
        self.display.hides_blanks = !self.display.hides_blanks;
        self.update_layout();
        self.clamp_cursor();
        self.message = Some(if self.display.hides_blanks {
            "whitespace-only hunks are hidden and cannot be accepted".into()
        } else {
            "all hunks are shown".into()
        });
    }

    /// Toggles the wrapping of long lines.
    pub(crate) fn toggle_wrapping(&mut self) {
        self.display.wraps = !self.display.wraps;
        self.h_scroll = 0;
        self.message = Some(if self.display.wraps {
            "long lines are wrapped".into()
        } else {
            format!("long lines are truncated{}", self.key_note(Command::ScrollRight, "scrolls them"))
        });
    }

    pub(crate) fn toggle_side_by_side(&mut self) {
        let row_pair = self.layout.as_ref().map(|o| o.row_pair(self.cursor.unit, self.cursor.row));
        self.display.side_by_side = !self.display.side_by_side;
        self.anchor = None;
        self.update_layout();
        if let (Some((removed, added)), Some(opened)) = (row_pair, &self.layout)
            && let Some(row) = removed.or(added)
        {
            self.cursor.row = opened.display_row(self.cursor.unit, row);
        }
        self.clamp_cursor();
    }

    pub(crate) fn set_context(&mut self, context: usize) {
        self.display.context = context;
        self.update_layout();
        self.clamp_cursor();
        self.message = Some(format!("{context} lines of context"));
    }
}
