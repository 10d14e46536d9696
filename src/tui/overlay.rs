//! Overlays of the review: help, file preview, apply preview and feedback.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::app::{App, Mode};
use super::apply_overlay::draw_apply;
use super::comments::draw_comments;
use super::commits::draw_commits;
use super::keymap::{Command, HELP};
use super::menu::draw_menu;
use super::outline::{display_width, draw_box};
use super::resolve_overlay::draw_resolve;
use super::scrollbar::{ScrollPosition, draw_scrollbar};
use super::style::{StyleKind, Symbol};
use super::text_layout::{layout_line, wrap_line};
use crate::changes::Lines;
use crate::core::escape::Escaped;

/// Draws the overlay of the current mode, if it has one.
pub(super) fn draw(app: &mut App<'_>, frame: &mut Frame<'_>, area: Rect) {
    let mode = std::mem::replace(&mut app.mode, Mode::Browse);
    match &mode {
        Mode::Help(typed, scroll) => draw_help(app, frame, area, typed, *scroll),
        Mode::Preview { title, content, new_lines, scroll } => {
            draw_text(app, frame, area, title, (content, &new_lines.added), *scroll);
        }
        Mode::Commits(scroll) => draw_commits(app, frame, area, *scroll),
        Mode::Comments(selected) => draw_comments(app, frame, area, *selected),
        Mode::Apply(view) => draw_apply(app, frame, area, view),
        Mode::Resolve(view) => draw_resolve(app, frame, area, view),
        Mode::Send { feedback, scroll } => {
            draw_text(app, frame, area, "Message to the agent", (feedback.text.as_bytes(), &[]), *scroll);
        }
        Mode::Menu { menu, selected } => draw_menu(app, frame, area, *menu, *selected),
        Mode::Browse | Mode::Input(..) | Mode::Confirm(..) => {}
    }
    app.mode = mode;
}

/// Returns the marks of the screen with their meaning.
fn mark_rows(app: &App<'_>) -> Vec<(String, &'static str)> {
    let symbols = |all: &[Symbol]| all.iter().map(|one| app.styles.symbol_text(*one)).collect::<Vec<_>>().join(" ");
    vec![
        ("[+] [x] [ ]".into(), "a line: accepted, rejected, undecided; [e]: your text replaces the hunk"),
        (symbols(&[Symbol::Accepted, Symbol::Rejected, Symbol::Mixed]), "a file: all accepted, all rejected, mixed"),
        (
            format!("{} ? {}", symbols(&[Symbol::Risk]), symbols(&[Symbol::Refused])),
            "high risk, medium risk, cannot be accepted",
        ),
        (symbols(&[Symbol::Conflict]), "in conflict with the working tree"),
        (symbols(&[Symbol::Comment]), "a comment"),
        ("*".into(), "a line that the last round did not have"),
        (app.styles.symbol_text(Symbol::Arrow).into(), "a renamed file"),
        ("mouse".into(), "selects, scrolls, toggles a mark, drags a range of lines"),
    ]
}

fn draw_help(app: &App<'_>, frame: &mut Frame<'_>, area: Rect, typed: &str, scroll: usize) {
    app.max_scroll.set(0);
    let title = if typed.is_empty() { " Keys ".to_owned() } else { format!(" Keys with \"{}\" ", Escaped::new(typed)) };
    let inner = draw_box(app, frame, area, &title, true);
    let needle = typed.to_lowercase();
    let is_match = |key: &str, text: &str| key.contains(typed) || text.to_lowercase().contains(&needle);
    let key_names = |commands: &[Command]| app.keymap.all_key_names(commands, app.styles.unicode);
    let rows = HELP.iter().flat_map(|(_, rows)| *rows);
    let key_width = rows.map(|(commands, _)| display_width(&key_names(commands))).max().unwrap_or(0);
    let mut groups: Vec<Vec<Line<'static>>> = Vec::new();
    for (name, rows) in HELP {
        let rows: Vec<Line<'static>> = (rows.iter())
            .map(|(commands, text)| (commands, key_names(commands), *text))
            .filter(|(commands, keys, text)| {
                is_match(keys, text) && (!commands.contains(&Command::Send) || app.cannot_send.is_none())
            })
            .map(|(_, keys, text)| {
                Line::from(vec![
                    Span::styled(
                        format!("  {keys}{} ", " ".repeat(key_width - display_width(&keys))),
                        app.styles.role_style(StyleKind::Strong),
                    ),
                    Span::raw(text.to_owned()),
                ])
            })
            .collect();
        if !rows.is_empty() {
            let head = Line::styled(format!(" {name}"), app.styles.role_style(StyleKind::Faint));
            groups.push(std::iter::once(head).chain(rows).collect());
        }
    }
    let marks: Vec<Line<'static>> = mark_rows(app)
        .into_iter()
        .filter(|(mark, text)| is_match(mark, text))
        .map(|(mark, text)| {
            let pad = " ".repeat(key_width.saturating_sub(display_width(&mark)));
            Line::from(vec![
                Span::styled(format!("  {mark}{pad} "), app.styles.role_style(StyleKind::Strong)),
                Span::raw(text),
            ])
        })
        .collect();
    if !marks.is_empty() {
        let head = Line::styled(" Marks", app.styles.role_style(StyleKind::Faint));
        groups.push(std::iter::once(head).chain(marks).collect());
    }
    if groups.is_empty() {
        frame.render_widget(Paragraph::new(" no matching key"), inner);
        return;
    }
    // Minimum column width. A help that is too long for one column uses two if they fit.
    const COLUMN: u16 = 66;
    let all: usize = groups.iter().map(Vec::len).sum();
    if inner.width >= COLUMN * 2 && all > usize::from(inner.height) {
        let mut left_column = Vec::new();
        while left_column.len() < all / 2 && !groups.is_empty() {
            left_column.extend(groups.remove(0));
        }
        let half = Rect { width: COLUMN, ..inner };
        frame.render_widget(Paragraph::new(left_column), half);
        let right_half = Rect { x: inner.x + COLUMN, width: inner.width - COLUMN, ..inner };
        frame.render_widget(Paragraph::new(groups.concat()), right_half);
        return;
    }
    let mut lines = groups.concat();
    let height = usize::from(inner.height);
    if lines.len() > height && height > 1 {
        app.max_scroll.set(lines.len() - (height - 1));
        lines.drain(..scroll.min(app.max_scroll.get()));
        let more = lines.len().saturating_sub(height - 1);
        lines.truncate(height - 1);
        let text = if more > 0 { format!(" {more} more below; or type a word to search") } else { String::new() };
        lines.push(Line::styled(text, app.styles.role_style(StyleKind::Strong)));
    }
    frame.render_widget(Paragraph::new(lines), inner);
}

/// Draws a text with line numbers, and a sign before each line of `added`.
fn draw_text(
    app: &mut App<'_>,
    frame: &mut Frame<'_>,
    area: Rect,
    title: &str,
    (content, added): (&[u8], &[usize]),
    scroll: usize,
) {
    let inner = draw_box(app, frame, area, &format!(" {title} "), true);
    app.hit_areas.rows = inner;
    app.is_truncated.set(false);
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
        let is_added = added.binary_search(&at).is_ok();
        let style = if is_added { app.styles.role_style(StyleKind::Added) } else { Style::new() };
        let (plain, escape) = (|_| style, app.styles.role_style(StyleKind::Escape));
        let layouts = if app.display.wraps {
            wrap_line(bytes, app.h_scroll, (room, height), plain, escape)
        } else {
            vec![layout_line(bytes, app.h_scroll, room, plain, escape)]
        };
        for (nth, layout) in layouts.into_iter().enumerate() {
            let (number, sign) = match (nth, is_added) {
                (0, true) => (format!("{:>digits$}", at + 1), "+ "),
                (0, false) => (format!("{:>digits$}", at + 1), "  "),
                _ => (" ".repeat(digits), "~ "),
            };
            app.is_truncated.set(app.is_truncated.get() | layout.is_continued);
            let gutter = Span::styled(number, app.styles.role_style(StyleKind::Faint));
            let sign = Span::styled(sign, app.styles.role_style(StyleKind::Accepted));
            let pad = Span::styled(" ".repeat(room.saturating_sub(layout.columns)), style);
            rows.push(Line::from([vec![gutter, sign], layout.spans, vec![pad]].concat()));
        }
    }
    rows.truncate(height);
    frame.render_widget(Paragraph::new(rows), inner);
    draw_scrollbar(app, frame, area, ScrollPosition { first: scroll, shown: height, all: lines.len() });
}
