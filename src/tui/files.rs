//! Draws the file list.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::app::{App, Granularity};
use super::outline::columns;
use super::style::{StyleKind, Symbol};
use super::text_layout::clip_start;
use crate::changes::Severity as Risk;
use crate::core::escape::Escaped;

/// Draws the visible part of the file list.
pub fn files(app: &mut App<'_>, frame: &mut Frame<'_>, area: Rect) {
    let height = usize::from(area.height).max(1);
    let here = app.files.iter().position(|f| *f == app.at.file).unwrap_or(0);
    if here < app.files_scroll {
        app.files_scroll = here;
    } else if here >= app.files_scroll + height {
        app.files_scroll = here + 1 - height;
    }
    app.files_scroll = app.files_scroll.min(app.files.len().saturating_sub(height));
    app.hits.files = (area, app.files_scroll);
    let lines: Vec<Line<'static>> = (app.files.iter().skip(app.files_scroll).take(height))
        .map(|file| row(app, *file, usize::from(area.width)))
        .collect();
    frame.render_widget(Paragraph::new(lines), area);
}

/// Returns the row of a file: decision, risk, path, and the number of decided units.
fn row(app: &App<'_>, at: usize, width: usize) -> Line<'static> {
    let look = app.look;
    let file = &app.sheet.files[at];
    let count = app.counts.file(at);
    let lines = count.lines;
    let (decided, role) = match (lines.accepted, lines.rejected, lines.undecided) {
        (0, 0, _) => (Symbol::Undecided, StyleKind::Faint),
        (_, 0, 0) => (Symbol::Accepted, StyleKind::Accepted),
        (0, _, 0) => (Symbol::Rejected, StyleKind::Rejected),
        _ => (Symbol::Mixed, StyleKind::Strong),
    };
    let (risk, risk_role) = match file.change.severity() {
        Some(Risk::Refused) => (look.sign(Symbol::Refused), StyleKind::Risk),
        Some(Risk::High) => (look.sign(Symbol::Risk), StyleKind::Risk),
        Some(Risk::Medium) => ("?", StyleKind::Faint),
        _ if app.folds.contains(&at) => (look.sign(Symbol::Folded), StyleKind::Faint),
        _ => (" ", StyleKind::Faint),
    };
    let tail = if file.is_refused() { " refused".into() } else { format!(" {}/{}", count.decided, count.all) };
    let mut path = Escaped::new(file.change.path.as_bytes()).to_string();
    if let Some(from) = &file.change.renamed_from {
        let from = Escaped::new(from.as_bytes()).to_string();
        path = format!("{from} {} {path}", if look.unicode { "→" } else { "->" });
    }
    let room = width.saturating_sub(columns(&tail) + 4);
    let path = clip_start(&path, room, look.sign(Symbol::Ellipsis));
    let pad = " ".repeat(room.saturating_sub(columns(&path)));
    let is_here = at == app.at.file;
    let over = |style: Style| match (is_here, app.level) {
        (true, Granularity::File) => style.patch(look.style(StyleKind::Cursor)),
        (true, _) => style.patch(look.style(StyleKind::Strong)),
        _ => style,
    };
    let cursor = match (is_here, app.level) {
        (true, Granularity::File) => look.sign(Symbol::Cursor),
        (true, _) => look.sign(Symbol::Bar),
        (false, _) => " ",
    };
    Line::from(vec![
        Span::styled(cursor.to_owned(), over(Style::new())),
        Span::styled(look.sign(decided).to_owned(), over(look.style(role))),
        Span::styled(risk.to_owned(), over(look.style(risk_role))),
        Span::styled(format!(" {path}{pad}"), over(Style::new())),
        Span::styled(tail, over(look.style(StyleKind::Faint))),
    ])
}
