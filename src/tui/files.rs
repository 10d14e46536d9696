//! Draws the file list.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::app::{App, Granularity};
use super::outline::display_width;
use super::style::{StyleKind, StyleSheet, Symbol};
use super::text_layout::truncate_start;
use crate::changes::{FileChange, Severity as Risk};
use crate::core::escape::Escaped;

/// Draws the visible part of the file list.
pub(super) fn draw_files(app: &mut App<'_>, frame: &mut Frame<'_>, area: Rect) {
    let height = usize::from(area.height).max(1);
    let current = app.files.iter().position(|f| *f == app.cursor.file).unwrap_or(0);
    if current < app.files_scroll {
        app.files_scroll = current;
    } else if current >= app.files_scroll + height {
        app.files_scroll = current + 1 - height;
    }
    app.files_scroll = app.files_scroll.min(app.files.len().saturating_sub(height));
    app.hit_areas.files = (area, app.files_scroll);
    let lines: Vec<Line<'static>> = (app.files.iter().skip(app.files_scroll).take(height))
        .map(|file| file_row(app, *file, usize::from(area.width)))
        .collect();
    frame.render_widget(Paragraph::new(lines), area);
}

/// Returns the path of a change within `room` columns. The path before a rename is omitted if both do not fit.
fn truncated_path(change: &FileChange, room: usize, styles: StyleSheet) -> String {
    let ellipsis = styles.symbol_text(Symbol::Ellipsis);
    let path = Escaped::new(change.path.as_bytes()).to_string();
    let Some(from) = change.old_path() else { return truncate_start(&path, room, ellipsis) };
    let arrow = if styles.unicode { "→" } else { "->" };
    let both = format!("{} {arrow} {path}", Escaped::new(from.as_bytes()));
    if display_width(&both) <= room {
        return both;
    }
    format!("{arrow} {}", truncate_start(&path, room.saturating_sub(display_width(arrow) + 1), ellipsis))
}

/// Returns the row of a file: decision, risk, path, and the number of decided units.
fn file_row(app: &App<'_>, at: usize, width: usize) -> Line<'static> {
    let styles = app.styles;
    let file = &app.model.files[at];
    let count = app.counts.file_counts(at);
    let lines = count.lines;
    let (symbol, role) = match (lines.accepted, lines.rejected, lines.undecided) {
        (0, 0, _) => (Symbol::Undecided, StyleKind::Faint),
        (_, 0, 0) => (Symbol::Accepted, StyleKind::Accepted),
        (0, _, 0) => (Symbol::Rejected, StyleKind::Rejected),
        _ => (Symbol::Mixed, StyleKind::Strong),
    };
    let (risk, risk_role) = match file.change.max_severity() {
        Some(Risk::Refused) => (styles.symbol_text(Symbol::Refused), StyleKind::Risk),
        Some(Risk::High) => (styles.symbol_text(Symbol::Risk), StyleKind::Risk),
        Some(Risk::Medium) => ("?", StyleKind::Faint),
        _ if app.folded_files.contains(&at) => (styles.symbol_text(Symbol::Folded), StyleKind::Faint),
        _ => (" ", StyleKind::Faint),
    };
    let tail = if file.is_refused() { " refused".into() } else { format!(" {}/{}", count.decided, count.all) };
    let room = width.saturating_sub(display_width(&tail) + 4);
    let path = truncated_path(file.change, room, styles);
    let pad = " ".repeat(room.saturating_sub(display_width(&path)));
    let is_current = at == app.cursor.file;
    let with_cursor_style = |style: Style| match (is_current, app.granularity) {
        (true, Granularity::File) => style.patch(styles.role_style(StyleKind::Cursor)),
        (true, _) => style.patch(styles.role_style(StyleKind::Strong)),
        _ => style,
    };
    let cursor = match (is_current, app.granularity) {
        (true, Granularity::File) => styles.symbol_text(Symbol::Cursor),
        (true, _) => styles.symbol_text(Symbol::Bar),
        (false, _) => " ",
    };
    Line::from(vec![
        Span::styled(cursor.to_owned(), with_cursor_style(Style::new())),
        Span::styled(styles.symbol_text(symbol).to_owned(), with_cursor_style(styles.role_style(role))),
        Span::styled(risk.to_owned(), with_cursor_style(styles.role_style(risk_role))),
        Span::styled(format!(" {path}{pad}"), with_cursor_style(Style::new())),
        Span::styled(tail, with_cursor_style(styles.role_style(StyleKind::Faint))),
    ])
}
