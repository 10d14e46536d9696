//! Boxes around parts of the screen, and the display width of text.

use super::app::App;
use super::style::{StyleKind, Symbol};
use super::text_layout::truncate_text;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Span;
use ratatui::widgets::{Block as Outline, Borders, Clear};

const ASCII_BORDER: ratatui::symbols::border::Set<'static> = ratatui::symbols::border::Set {
    top_left: "+",
    top_right: "+",
    bottom_left: "+",
    bottom_right: "+",
    vertical_left: "|",
    vertical_right: "|",
    horizontal_top: "-",
    horizontal_bottom: "-",
};

/// Draws a box with a title, and returns its inner area.
pub(crate) fn draw_box(app: &App<'_>, frame: &mut Frame<'_>, area: Rect, title: &str, is_active: bool) -> Rect {
    let style = if is_active { Style::new() } else { app.styles.role_style(StyleKind::Faint) };
    let mut outline = Outline::new().borders(Borders::ALL).border_style(style);
    if !app.styles.unicode {
        outline = outline.border_set(ASCII_BORDER);
    }
    let role = if is_active { StyleKind::Strong } else { StyleKind::Faint };
    let width = usize::from(area.width).saturating_sub(2);
    let title = truncate_text(title, width, app.styles.symbol_text(Symbol::Ellipsis));
    outline = outline.title(Span::styled(title, app.styles.role_style(role)));
    let inner = outline.inner(area);
    frame.render_widget(Clear, area);
    frame.render_widget(outline, area);
    inner
}

/// Returns the display width of escaped or generated text.
pub(crate) fn display_width(text: &str) -> usize {
    use unicode_width::UnicodeWidthChar;
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}
