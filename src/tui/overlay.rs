//! Overlays of the review: help, file preview, apply preview and feedback.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::app::{App, Mode};
use super::help::KEYS;
use super::outline::{boxed, columns};
use super::style::{StyleKind, Symbol};
use super::text_layout::{layout_line, truncate, wrap, wrap_text};
use crate::changes::{Lines, UnitKind};
use crate::core::escape::Escaped;
use crate::review::{Preview, ReviewFile};

/// Draws the overlay of the current mode, if it has one.
pub fn draw(app: &mut App<'_>, frame: &mut Frame<'_>, area: Rect) {
    let mode = std::mem::replace(&mut app.mode, Mode::Browse);
    match &mode {
        Mode::Help(typed, scroll) => help(app, frame, area, typed, *scroll),
        Mode::Preview { title, content, scroll } => preview(app, frame, area, title, content, *scroll),
        Mode::Apply { preview, scroll, typed } => {
            apply(app, frame, area, preview, *scroll, typed.as_ref().map(|(word, _)| word.as_str()));
        }
        Mode::Send { feedback, scroll } => {
            preview(app, frame, area, "What the agent would get", feedback.text.as_bytes(), *scroll);
        }
        Mode::Browse | Mode::Input(..) | Mode::Confirm(..) => {}
    }
    app.mode = mode;
}

fn help(app: &App<'_>, frame: &mut Frame<'_>, area: Rect, typed: &str, scroll: usize) {
    app.last_row.set(0);
    let title = if typed.is_empty() { " Keys ".to_owned() } else { format!(" Keys with \"{}\" ", Escaped::new(typed)) };
    let inner = boxed(app, frame, area, &title, true);
    let wanted = typed.to_lowercase();
    let fits = |key: &str, text: &str| key.contains(typed) || text.to_lowercase().contains(&wanted);
    let key_width = KEYS.iter().flat_map(|(_, keys)| *keys).map(|(key, _)| columns(key)).max().unwrap_or(0);
    let mut groups: Vec<Vec<Line<'static>>> = Vec::new();
    for (name, keys) in KEYS {
        let rows: Vec<Line<'static>> = (keys.iter())
            .filter(|(key, text)| fits(key, text) && (*key != "R" || app.cannot_send.is_none()))
            .map(|(key, text)| {
                Line::from(vec![
                    Span::styled(
                        format!("  {key}{} ", " ".repeat(key_width - columns(key))),
                        app.look.style(StyleKind::Strong),
                    ),
                    Span::raw((*text).to_owned()),
                ])
            })
            .collect();
        if !rows.is_empty() {
            let head = Line::styled(format!(" {name}"), app.look.style(StyleKind::Faint));
            groups.push(std::iter::once(head).chain(rows).collect());
        }
    }
    if groups.is_empty() {
        frame.render_widget(Paragraph::new(" no key does that"), inner);
        return;
    }
    // Minimum column width. A help that is too long for one column uses two if they fit.
    const COLUMN: u16 = 66;
    let all: usize = groups.iter().map(Vec::len).sum();
    if inner.width >= COLUMN * 2 && all > usize::from(inner.height) {
        let mut left = Vec::new();
        while left.len() < all / 2 && !groups.is_empty() {
            left.extend(groups.remove(0));
        }
        let half = Rect { width: COLUMN, ..inner };
        frame.render_widget(Paragraph::new(left), half);
        let rest = Rect { x: inner.x + COLUMN, width: inner.width - COLUMN, ..inner };
        frame.render_widget(Paragraph::new(groups.concat()), rest);
        return;
    }
    let mut lines = groups.concat();
    let height = usize::from(inner.height);
    if lines.len() > height && height > 1 {
        app.last_row.set(lines.len() - (height - 1));
        lines.drain(..scroll.min(app.last_row.get()));
        let more = lines.len().saturating_sub(height - 1);
        lines.truncate(height - 1);
        let text = if more > 0 { format!(" {more} more below; or type a word to search") } else { String::new() };
        lines.push(Line::styled(text, app.look.style(StyleKind::Strong)));
    }
    frame.render_widget(Paragraph::new(lines), inner);
}

fn preview(app: &mut App<'_>, frame: &mut Frame<'_>, area: Rect, title: &str, content: &[u8], scroll: usize) {
    let inner = boxed(app, frame, area, &format!(" {title} "), true);
    app.hits.rows = inner;
    app.goes_on.set(false);
    let lines = Lines::new(content);
    let digits = lines.len().max(1).to_string().len();
    let (room, height) = (usize::from(inner.width).saturating_sub(digits + 2), usize::from(inner.height));
    let mut rows: Vec<Line<'static>> = Vec::new();
    for at in scroll..lines.len() {
        if rows.len() >= height {
            break;
        }
        let bytes = lines.get(at);
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let (plain, escape) = (|_| Style::new(), app.look.style(StyleKind::Escape));
        let fitted = if app.display.wraps {
            wrap(bytes, app.sideways, (room, height), plain, escape)
        } else {
            vec![layout_line(bytes, app.sideways, room, plain, escape)]
        };
        for (nth, fitted) in fitted.into_iter().enumerate() {
            let number = if nth == 0 { format!("{:>digits$}  ", at + 1) } else { format!("{:>digits$}~ ", "") };
            app.goes_on.set(app.goes_on.get() | fitted.more);
            let gutter = Span::styled(number, app.look.style(StyleKind::Faint));
            rows.push(Line::from([vec![gutter], fitted.spans].concat()));
        }
    }
    rows.truncate(height);
    frame.render_widget(Paragraph::new(rows), inner);
}

fn apply(app: &mut App<'_>, frame: &mut Frame<'_>, area: Rect, plan: &Preview, scroll: usize, typed: Option<&str>) {
    let title = " What an apply would do to your working tree ";
    let inner = boxed(app, frame, area, title, true);
    let asks = u16::from(typed.is_some()) * 2;
    let list = Rect { height: inner.height.saturating_sub(asks), ..inner };
    app.hits.rows = list;
    let width = usize::from(inner.width);
    let lines = apply_lines(app, plan, width);
    let last = lines.len().saturating_sub(usize::from(list.height));
    app.last_row.set(last);
    let shown: Vec<Line<'static>> = lines.into_iter().skip(scroll.min(last)).collect();
    frame.render_widget(Paragraph::new(shown), list);
    if let Some(typed) = typed {
        let place = Rect { y: list.y + list.height, height: asks, ..inner };
        let text = format!(" High risk is among it. Type apply to do it: {}", Escaped::new(typed));
        frame.render_widget(
            Paragraph::new(vec![Line::default(), Line::styled(text, app.look.style(StyleKind::Risk))]),
            place,
        );
    }
}

/// Returns the rows of the apply preview: outcomes, notes on unseen lines and kept decisions, files that are left as they are,
/// and the next command.
fn apply_lines(app: &App<'_>, plan: &Preview, width: usize) -> Vec<Line<'static>> {
    let look = app.look;
    let ellipsis = look.sign(Symbol::Ellipsis);
    let mut lines = Vec::new();
    let path_width = plan.lines.iter().map(|l| columns(&Escaped::new(l.path.as_bytes()).to_string())).max();
    let path_width = path_width.unwrap_or(0).min(40);
    for line in &plan.lines {
        let file = app.sheet.files.iter().find(|f| f.change.path == line.path);
        let worst = file.filter(|f| f.is_risky()).and_then(|f| f.change.findings.first());
        let role = if line.is_conflict || worst.is_some() { StyleKind::Risk } else { StyleKind::Context };
        let path = Escaped::new(line.path.as_bytes()).to_string();
        let pad = " ".repeat(path_width.saturating_sub(columns(&path)));
        let risk = worst.map(crate::review::finding_line).unwrap_or_default();
        let reason = [Escaped::new(&line.reason).to_string(), risk].join(" ");
        let text = format!(" {:9}  {path}{pad}  {}", line.outcome, reason.trim());
        let rows = |text: &str, indent, role| -> Vec<Line<'static>> {
            wrap_text(text, width, indent).into_iter().map(|row| Line::styled(row, look.style(role))).collect()
        };
        lines.extend(rows(text.trim_end(), 12, role));
        // Conflict sides may differ only at their ends, so they are wrapped and not truncated.
        for side in &line.sides {
            lines.extend(rows(&format!("     {side}"), 9, StyleKind::Faint));
        }
    }
    let mut notes: Vec<(String, StyleKind)> = Vec::new();
    for (at, file) in app.sheet.files.iter().enumerate() {
        let unseen: usize = file.units.iter().map(|unit| app.state.unseen(unit)).sum();
        if unseen > 0 {
            notes.push((format!("{}: {}accepted unseen", app.path(at), lines_of(file, unseen)), StyleKind::Risk));
        }
        if let Some(kept) = app.kept_in(at) {
            notes.push((kept, StyleKind::Context));
        }
    }
    if !notes.is_empty() {
        lines.push(Line::default());
        lines.extend(
            notes
                .into_iter()
                .map(|(text, role)| Line::styled(truncate(&format!(" {text}"), width, ellipsis), look.style(role))),
        );
    }
    let left = left(app);
    if !left.is_empty() {
        lines.push(Line::default());
        lines.push(Line::styled(" Left as it is:", look.style(StyleKind::Faint)));
        lines.extend(
            left.into_iter().map(|text| {
                Line::styled(truncate(&format!("   {text}"), width, ellipsis), look.style(StyleKind::Faint))
            }),
        );
    }
    let stays = format!(" The sandbox stays. Go on in it: airlock resume {}", app.name);
    lines.push(Line::default());
    lines.extend(wrap_text(&stays, width, 1).into_iter().map(|row| Line::styled(row, look.style(StyleKind::Faint))));
    lines
}

/// Returns a number of lines as text; empty for a file without lines.
fn lines_of(file: &ReviewFile<'_>, count: usize) -> String {
    let has_lines = file.units.iter().any(|u| matches!(u.kind, UnitKind::Hunk { .. }));
    match (has_lines, count) {
        (false, _) => String::new(),
        (true, 1) => "1 line ".into(),
        (true, n) => format!("{n} lines "),
    }
}

/// Returns the files that are not applied completely, with the reason.
fn left(app: &App<'_>) -> Vec<String> {
    let mut left = Vec::new();
    for (at, file) in app.sheet.files.iter().enumerate() {
        if file.is_refused() {
            left.push(format!("{}: cannot be accepted", app.path(at)));
            continue;
        }
        let lines = app.counts.file(at).lines;
        let mut why = Vec::new();
        if lines.undecided > 0 {
            why.push(format!("{}undecided", lines_of(file, lines.undecided)));
        }
        if lines.rejected > 0 {
            why.push(format!("{}rejected", lines_of(file, lines.rejected)));
        }
        if !why.is_empty() {
            left.push(format!("{}: {}", app.path(at), why.join(", ")));
        }
    }
    left
}
