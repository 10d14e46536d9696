//! Handles mouse events.

use std::io;

use crossterm::event::{MouseButton, MouseEvent, MouseEventKind};

use super::app::{App, Cursor, Granularity, Mode};
use super::keys::{Effect, SIDESTEP};
use super::layout::RowGroup;
use crate::review::ReviewHost;

/// Rows per step of the mouse wheel.
const WHEEL: usize = 3;

impl App<'_> {
    /// Handles a mouse event.
    ///
    /// # Errors
    /// The events could not be saved.
    pub fn mouse(&mut self, mouse: MouseEvent, around: &mut dyn ReviewHost) -> io::Result<Effect> {
        let place = ratatui::layout::Position { x: mouse.column, y: mouse.row };
        let (files, first) = self.hits.files;
        let rows = self.hits.rows;
        match mouse.kind {
            MouseEventKind::ScrollDown | MouseEventKind::ScrollUp => {
                let down = mouse.kind == MouseEventKind::ScrollDown;
                match &mut self.mode {
                    Mode::Preview { scroll, .. } | Mode::Apply { scroll, .. } | Mode::Send { scroll, .. } => {
                        *scroll = if down { *scroll + WHEEL } else { scroll.saturating_sub(WHEEL) };
                    }
                    Mode::Browse if files.contains(place) => self.move_file(if down { 1 } else { -1 }),
                    Mode::Browse => {
                        let last = self.opened.as_ref().map_or(0, |o| o.rows().saturating_sub(1));
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
                        self.go(Cursor { file: *file, unit: 0, row: 0 });
                    }
                } else if rows.contains(place) {
                    let row = self.hits.lines.get(usize::from(mouse.row - rows.y)).copied();
                    let hit = self.opened.as_ref().and_then(|o| match o.at(row?)? {
                        (RowGroup::Block(unit), at) => Some((*unit, at)),
                        (RowGroup::Unit(unit), _) => Some((*unit, 0)),
                        _ => None,
                    });
                    if let Some((unit, row)) = hit {
                        let on_mark = mouse.column + 4 >= rows.x + rows.width;
                        (self.at.unit, self.at.row) = (unit, row);
                        self.anchor = None;
                        self.level = if on_mark { Granularity::Line } else { self.level.max(Granularity::Block) };
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
        Ok(Effect::On)
    }
}
