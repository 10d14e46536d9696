//! Handles mouse events of the review.

use std::io;

use crossterm::event::{KeyCode, KeyEvent, MouseButton, MouseEvent, MouseEventKind};
use ratatui::layout::{Position, Rect};

use super::app::{App, Cursor, Granularity, Mode};
use super::dialogs::{ApplyView, ResolveView};
use super::keys::{Effect, H_SCROLL_STEP};
use super::layout::RowGroup;
use super::tree::ListRow;
use crate::review::ReviewHost;

/// Rows per step of the mouse wheel.
const ROWS_PER_WHEEL_STEP: usize = 3;

impl App<'_> {
    /// Handles a mouse event.
    ///
    /// # Errors
    /// The events could not be saved.
    pub fn handle_mouse(&mut self, mouse: MouseEvent, host: &mut dyn ReviewHost) -> io::Result<Effect> {
        let position = Position { x: mouse.column, y: mouse.row };
        let (files, first) = self.hit_areas.files;
        let rows = self.hit_areas.rows;
        match mouse.kind {
            MouseEventKind::ScrollDown | MouseEventKind::ScrollUp => {
                let down = mouse.kind == MouseEventKind::ScrollDown;
                match &mut self.mode {
                    Mode::Preview { scroll, .. }
                    | Mode::Apply(ApplyView { scroll, .. })
                    | Mode::Resolve(ResolveView { scroll, .. })
                    | Mode::Commits(scroll)
                    | Mode::Send { scroll, .. } => {
                        *scroll = if down {
                            *scroll + ROWS_PER_WHEEL_STEP
                        } else {
                            scroll.saturating_sub(ROWS_PER_WHEEL_STEP)
                        };
                    }
                    Mode::Browse if files.contains(position) => self.move_list_row(if down { 1 } else { -1 }),
                    Mode::Browse => {
                        let last = self.layout.as_ref().map_or(0, |o| o.row_count().saturating_sub(1));
                        self.scroll = if down {
                            (self.scroll + ROWS_PER_WHEEL_STEP).min(last)
                        } else {
                            self.scroll.saturating_sub(ROWS_PER_WHEEL_STEP)
                        };
                        self.move_cursor_into_view(rows.height.into());
                    }
                    Mode::Help(..) | Mode::Menu { .. } | Mode::Comments(_) => {
                        let key = if down { KeyCode::Down } else { KeyCode::Up };
                        return self.handle_key(KeyEvent::from(key), host);
                    }
                    Mode::Input(..) | Mode::Confirm(..) => {}
                }
            }
            MouseEventKind::ScrollLeft => self.h_scroll = self.h_scroll.saturating_sub(H_SCROLL_STEP),
            MouseEventKind::ScrollRight => self.scroll_right(),
            MouseEventKind::Down(MouseButton::Left) if matches!(self.mode, Mode::Menu { .. } | Mode::Comments(_)) => {
                let row_in = |area: Rect| area.contains(position).then(|| usize::from(mouse.row - area.y));
                return match self.mode {
                    Mode::Menu { menu, .. } => self.click_menu(menu, row_in(self.hit_areas.menu), host),
                    Mode::Comments(selected) => self.click_comment(selected, row_in(rows)),
                    _ => Ok(Effect::Redraw),
                };
            }
            MouseEventKind::Drag(MouseButton::Left) if matches!(self.mode, Mode::Browse) => self.drag_range(position),
            MouseEventKind::Down(MouseButton::Left) if matches!(self.mode, Mode::Browse) => {
                self.message = None;
                self.pressed_row = self.row_under(position);
                if files.contains(position) {
                    let row = first + usize::from(mouse.row - files.y);
                    match self.list.get(row) {
                        Some(ListRow::File { file, .. }) => self.move_cursor(Cursor { file: *file, unit: 0, row: 0 }),
                        // A second click collapses or expands the folder.
                        Some(ListRow::Folder(folder)) if self.folder.as_ref() == Some(&folder.path) => {
                            self.toggle_folder();
                        }
                        Some(ListRow::Folder(_)) => self.go_to_list_row(row),
                        None => {}
                    }
                } else if let Some((unit, row)) = self.pressed_row {
                    let is_on_mark = mouse.column + 4 >= rows.x + rows.width;
                    (self.cursor.unit, self.cursor.row) = (unit, row);
                    self.anchor = None;
                    self.granularity =
                        if is_on_mark { Granularity::Line } else { self.granularity.max(Granularity::Hunk) };
                    if is_on_mark {
                        self.scroll_follows_cursor = false;
                        return self.decide_targets(self.toggled_decision(), false, host);
                    }
                    let scroll = self.scroll;
                    self.clamp_cursor();
                    (self.scroll, self.scroll_follows_cursor) = (scroll, false);
                }
            }
            _ => {}
        }
        Ok(Effect::Redraw)
    }

    /// Returns the unit and the row of it at a position of the diff.
    fn row_under(&self, position: Position) -> Option<(usize, usize)> {
        let rows = self.hit_areas.rows;
        let line = rows.contains(position).then(|| usize::from(position.y - rows.y))?;
        let row = self.hit_areas.lines.get(line).copied()?;
        match self.layout.as_ref()?.group_at(row)? {
            (RowGroup::Hunk(unit), at) => Some((*unit, at)),
            (RowGroup::Unit(unit), _) => Some((*unit, 0)),
            _ => None,
        }
    }

    /// Extends a range of lines from the row at which the button was pressed.
    fn drag_range(&mut self, position: Position) {
        let (Some(from), Some(to)) = (self.pressed_row, self.row_under(position)) else { return };
        if from == to && self.anchor.is_none() {
            return;
        }
        self.granularity = Granularity::Line;
        self.anchor = Some(from);
        (self.cursor.unit, self.cursor.row) = to;
        self.scroll_follows_cursor = false;
    }
}
