//! The scroll position of a pane, drawn on its right border.

use ratatui::Frame;
use ratatui::layout::Rect;

use super::app::App;
use super::style::{StyleKind, Symbol};

/// The rows of a pane that are on the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ScrollPosition {
    pub first: usize,
    pub shown: usize,
    pub all: usize,
}

impl ScrollPosition {
    /// Returns the offset and length of the thumb on a track, or `None` if everything is shown.
    fn thumb_range(self, track: usize) -> Option<(usize, usize)> {
        if self.all <= self.shown || track == 0 {
            return None;
        }
        let length = (track * self.shown / self.all).clamp(1, track);
        let last = self.all - self.shown;
        Some(((track - length) * self.first.min(last) / last, length))
    }
}

/// Draws the position on the right border of a box, unless everything is shown.
pub(super) fn draw_scrollbar(app: &App<'_>, frame: &mut Frame<'_>, area: Rect, position: ScrollPosition) {
    let track = area.height.saturating_sub(2);
    let Some((offset, length)) = position.thumb_range(track.into()) else { return };
    for row in offset..offset + length {
        let y = area.y + 1 + u16::try_from(row).unwrap_or(track);
        if let Some(cell) = frame.buffer_mut().cell_mut((area.right().saturating_sub(1), y)) {
            cell.set_symbol(app.styles.symbol_text(Symbol::Thumb));
            cell.set_style(app.styles.role_style(StyleKind::Strong));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thumb_covers_the_shown_part() {
        let thumb = |first, shown, all| ScrollPosition { first, shown, all }.thumb_range(10);
        assert_eq!(thumb(0, 10, 10), None);
        assert_eq!(thumb(0, 10, 20), Some((0, 5)));
        assert_eq!(thumb(10, 10, 20), Some((5, 5)));
        assert_eq!(thumb(99, 10, 20), Some((5, 5)), "scrolled past the end");
        assert_eq!(thumb(500, 10, 1000), Some((4, 1)));
        assert_eq!(thumb(990, 10, 1000), Some((9, 1)));
    }
}
