//! Draws the file list.

use std::ops::Range;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::app::{App, Granularity};
use super::outline::display_width;
use super::style::{StyleKind, StyleSheet, Symbol};
use super::text_layout::truncate_start;
use super::tree::{Folder, ListRow};
use crate::changes::{FileChange, Severity as Risk, rename_label};
use crate::core::escape::Escaped;
use crate::review::DecisionCounts;

/// Maximum depth by which rows of the tree are indented.
const MAX_INDENT: usize = 8;

/// Draws the visible part of the file list.
pub(super) fn draw_files(app: &mut App<'_>, frame: &mut Frame<'_>, area: Rect) {
    let height = usize::from(area.height).max(1);
    let current = app.current_list_row();
    if current < app.files_scroll {
        // The folders directly above are shown with their first file.
        let is_folder = |row: &ListRow| matches!(row, ListRow::Folder(_));
        let above = app.list[..current].iter().rev().take_while(|row| is_folder(row)).count();
        app.files_scroll = current - above.min(height - 1);
    } else if current >= app.files_scroll + height {
        app.files_scroll = current + 1 - height;
    }
    app.files_scroll = app.files_scroll.min(app.list.len().saturating_sub(height));
    app.hit_areas.files = (area, app.files_scroll);
    let shown = app.list.iter().enumerate().skip(app.files_scroll).take(height);
    let lines: Vec<Line<'static>> = shown
        .map(|(at, row)| match row {
            ListRow::File { file, depth } => file_row(app, *file, *depth, (at == current, area.width.into())),
            ListRow::Folder(folder) => folder_row(app, folder, (at == current, area.width.into())),
        })
        .collect();
    frame.render_widget(Paragraph::new(lines), area);
}

/// Returns the path of a change within `room` columns. The path before a rename is omitted if both do not fit.
fn truncated_path(change: &FileChange, room: usize, styles: StyleSheet) -> String {
    let (ellipsis, arrow) = (styles.symbol_text(Symbol::Ellipsis), styles.symbol_text(Symbol::Arrow));
    let path = Escaped::new(change.path.as_bytes()).to_string();
    let Some(from) = change.old_path() else { return truncate_start(&path, room, ellipsis) };
    let both = rename_label(from, &change.path, arrow);
    if display_width(&both) <= room {
        return both;
    }
    format!("{arrow} {}", truncate_start(&path, room.saturating_sub(display_width(arrow) + 1), ellipsis))
}

/// Returns the name of a change in its folder within `room` columns.
fn truncated_name(change: &FileChange, room: usize, styles: StyleSheet) -> String {
    let (ellipsis, arrow) = (styles.symbol_text(Symbol::Ellipsis), styles.symbol_text(Symbol::Arrow));
    let name = Escaped::new(change.path.file_name()).to_string();
    let Some(from) = change.old_path() else { return truncate_start(&name, room, ellipsis) };
    // Of a file that comes from another folder, the whole old path.
    let old = if from.parent() == change.path.parent() { from.file_name() } else { from.as_bytes() };
    let both = format!("{} {arrow} {name}", Escaped::new(old));
    if display_width(&both) <= room {
        both
    } else {
        format!("{arrow} {}", truncate_start(&name, room.saturating_sub(2), ellipsis))
    }
}

/// Returns the mark for the decisions on some lines.
fn decision_mark(lines: DecisionCounts) -> (Symbol, StyleKind) {
    match (lines.accepted, lines.rejected, lines.undecided) {
        (0, 0, _) => (Symbol::Undecided, StyleKind::Faint),
        (_, 0, 0) => (Symbol::Accepted, StyleKind::Accepted),
        (0, _, 0) => (Symbol::Rejected, StyleKind::Rejected),
        _ => (Symbol::Mixed, StyleKind::Strong),
    }
}

/// Returns the mark for the highest risk.
fn risk_mark(styles: StyleSheet, level: Option<Risk>) -> Option<(&'static str, StyleKind)> {
    match level? {
        Risk::Refused => Some((styles.symbol_text(Symbol::Refused), StyleKind::Risk)),
        Risk::High => Some((styles.symbol_text(Symbol::Risk), StyleKind::Risk)),
        Risk::Medium => Some(("?", StyleKind::Faint)),
        Risk::Note => None,
    }
}

/// Returns the mark for conflicts of files with the working tree.
fn conflict_mark(app: &App<'_>, files: &[usize]) -> (&'static str, StyleKind) {
    let symbol = app.styles.symbol_text(Symbol::Conflict);
    let mut conflicts = files.iter().filter_map(|file| app.file_conflict(*file)).peekable();
    if conflicts.peek().is_none() {
        return (" ", StyleKind::Faint);
    }
    if conflicts.all(|conflict| app.is_resolved(conflict)) {
        (symbol, StyleKind::Accepted)
    } else {
        (symbol, StyleKind::Risk)
    }
}

/// Returns the space after the column of conflicts, which is empty and separates the text while there are none.
fn conflict_space(app: &App<'_>) -> &'static str {
    if app.conflicts.as_ref().is_some_and(|conflicts| !conflicts.is_empty()) { " " } else { "" }
}

/// The parts of a row of the list.
struct RowParts {
    mark: (Symbol, StyleKind),
    risk: (&'static str, StyleKind),
    /// The mark of a conflict, and the text, which is padded; the counts are at the end.
    conflict: (&'static str, StyleKind),
    text: String,
    tail: String,
    style: Style,
}

/// Returns a row of the list: cursor, decision, risk, text and counts.
fn draw_row(app: &App<'_>, parts: RowParts, is_current: bool, width: usize) -> Line<'static> {
    let styles = app.styles;
    let with_cursor_style = |style: Style| match (is_current, app.granularity) {
        // A single color: the colors of the parts would become backgrounds.
        (true, Granularity::File) => styles.role_style(StyleKind::Cursor),
        (true, _) => style.patch(styles.role_style(StyleKind::Strong)),
        _ => style,
    };
    let cursor = match (is_current, app.granularity) {
        (true, Granularity::File) => styles.symbol_text(Symbol::Cursor),
        (true, _) => styles.symbol_text(Symbol::Bar),
        (false, _) => " ",
    };
    let room = text_room(app, width, &parts.tail);
    let pad = " ".repeat(room.saturating_sub(display_width(&parts.text)));
    let styled = |text: &str, role| Span::styled(text.to_owned(), with_cursor_style(styles.role_style(role)));
    Line::from(vec![
        Span::styled(cursor.to_owned(), with_cursor_style(Style::new())),
        styled(styles.symbol_text(parts.mark.0), parts.mark.1),
        styled(parts.risk.0, parts.risk.1),
        styled(parts.conflict.0, parts.conflict.1),
        styled(conflict_space(app), StyleKind::Faint),
        Span::styled(format!("{}{pad}", parts.text), with_cursor_style(parts.style)),
        styled(&parts.tail, StyleKind::Faint),
    ])
}

/// Returns the columns for the text of a row.
fn text_room(app: &App<'_>, width: usize, tail: &str) -> usize {
    width.saturating_sub(display_width(tail) + 4 + conflict_space(app).len())
}

/// Returns the row of a file: decision, risk, path, and the number of decided units.
fn file_row(app: &App<'_>, at: usize, depth: usize, (is_current, width): (bool, usize)) -> Line<'static> {
    let styles = app.styles;
    let file = &app.model.files[at];
    let count = app.counts.file_counts(at);
    let risk = match risk_mark(styles, file.change.max_severity()) {
        Some(mark) => mark,
        None if app.folded_files.contains(&at) => (styles.symbol_text(Symbol::Folded), StyleKind::Faint),
        None => (" ", StyleKind::Faint),
    };
    let tail = if file.is_refused() { " refused".into() } else { format!(" {}/{}", count.decided, count.all) };
    let indent = " ".repeat(2 * depth.min(MAX_INDENT));
    let room = text_room(app, width, &tail).saturating_sub(indent.len());
    let name = if app.is_tree { truncated_name } else { truncated_path };
    let text = format!("{indent}{}", name(file.change, room, styles));
    let parts = RowParts {
        mark: decision_mark(count.lines),
        risk,
        conflict: conflict_mark(app, std::slice::from_ref(&at)),
        text,
        tail,
        style: Style::new(),
    };
    draw_row(app, parts, is_current, width)
}

/// Returns the row of a folder: the decisions on its files, their highest risk, its name, and the number of decided units.
fn folder_row(app: &App<'_>, folder: &Folder, (is_current, width): (bool, usize)) -> Line<'static> {
    let styles = app.styles;
    let sum = folder_sum(app, folder.files.clone());
    let risk = risk_mark(styles, sum.risk).unwrap_or((" ", StyleKind::Faint));
    let tail = format!(" {}/{}", sum.decided, sum.all);
    let arrow = styles.symbol_text(if folder.is_collapsed { Symbol::Folded } else { Symbol::Unfolded });
    let indent = " ".repeat(2 * folder.depth.min(MAX_INDENT));
    let room = text_room(app, width, &tail).saturating_sub(indent.len() + 2);
    let name = Escaped::new(&folder.path[folder.parent_len..]).to_string();
    let text = format!("{indent}{arrow} {}", truncate_start(&name, room, styles.symbol_text(Symbol::Ellipsis)));
    let parts = RowParts {
        mark: decision_mark(sum.lines),
        risk,
        conflict: conflict_mark(app, &app.files[folder.files.clone()]),
        text,
        tail,
        style: styles.role_style(StyleKind::Strong),
    };
    draw_row(app, parts, is_current, width)
}

/// The sum of some of the files that are shown.
#[derive(Debug, Default)]
pub(super) struct FilesSum {
    pub decided: usize,
    pub all: usize,
    pub lines: DecisionCounts,
    pub added: usize,
    pub removed: usize,
    pub risk: Option<Risk>,
}

/// Returns the sum of the files at some positions. Refused files have no decisions.
pub(super) fn folder_sum(app: &App<'_>, files: Range<usize>) -> FilesSum {
    let files = app.files.get(files).unwrap_or_default();
    files.iter().fold(FilesSum::default(), |mut sum, at| {
        let file = &app.model.files[*at];
        if !file.is_refused() {
            let count = app.counts.file_counts(*at);
            sum.decided += count.decided;
            sum.all += count.all;
            sum.lines = sum.lines.sum_with(count.lines);
        }
        sum.added += file.line_counts.0;
        sum.removed += file.line_counts.1;
        sum.risk = sum.risk.max(file.change.max_severity());
        sum
    })
}
