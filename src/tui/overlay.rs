//! Overlays of the review: help, file preview, apply preview and feedback.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::app::{App, Mode};
use super::keymap::{Command, HELP};
use super::menu::draw_menu;
use super::outline::{display_width, draw_box};
use super::scrollbar::{ScrollPosition, draw_scrollbar};
use super::style::{StyleKind, Symbol};
use super::text_layout::{layout_line, truncate_text, wrap_line, wrap_text};
use crate::changes::{Lines, UnitKind, rename_label};
use crate::core::escape::Escaped;
use crate::review::{Preview, PreviewLine, ReviewFile};

/// Draws the overlay of the current mode, if it has one.
pub(super) fn draw(app: &mut App<'_>, frame: &mut Frame<'_>, area: Rect) {
    let mode = std::mem::replace(&mut app.mode, Mode::Browse);
    match &mode {
        Mode::Help(typed, scroll) => draw_help(app, frame, area, typed, *scroll),
        Mode::Preview { title, content, new_lines, scroll } => {
            draw_text(app, frame, area, title, (content, &new_lines.added), *scroll);
        }
        Mode::Apply { preview, scroll, typed } => {
            draw_apply(app, frame, area, preview, *scroll, typed.as_ref().map(|(word, _)| word.as_str()));
        }
        Mode::Send { feedback, scroll } => {
            draw_text(app, frame, area, "Message to the agent", (feedback.text.as_bytes(), &[]), *scroll);
        }
        Mode::Menu { menu, selected } => draw_menu(app, frame, area, *menu, *selected),
        Mode::Browse | Mode::Input(..) | Mode::Confirm(..) => {}
    }
    app.mode = mode;
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

fn draw_apply(
    app: &mut App<'_>,
    frame: &mut Frame<'_>,
    area: Rect,
    apply_preview: &Preview,
    scroll: usize,
    typed: Option<&str>,
) {
    let title = " Preview of the apply to the working tree ";
    let inner = draw_box(app, frame, area, title, true);
    let prompt_height = u16::from(typed.is_some()) * 2;
    let list = Rect { height: inner.height.saturating_sub(prompt_height), ..inner };
    app.hit_areas.rows = list;
    let width = usize::from(inner.width);
    let lines = apply_lines(app, apply_preview, width);
    let last = lines.len().saturating_sub(usize::from(list.height));
    app.max_scroll.set(last);
    let position = ScrollPosition { first: scroll.min(last), shown: list.height.into(), all: lines.len() };
    let shown: Vec<Line<'static>> = lines.into_iter().skip(position.first).collect();
    frame.render_widget(Paragraph::new(shown), list);
    draw_scrollbar(app, frame, area, position);
    if let Some(typed) = typed {
        let prompt_area = Rect { y: list.y + list.height, height: prompt_height, ..inner };
        let text = format!(" This includes high-risk changes. Type apply to confirm: {}", Escaped::new(typed));
        frame.render_widget(
            Paragraph::new(vec![Line::default(), Line::styled(text, app.styles.role_style(StyleKind::Risk))]),
            prompt_area,
        );
    }
}

/// Returns the rows of the apply preview: outcomes, notes on unseen lines and kept decisions, files that are left as they are,
/// and the next command.
fn apply_lines(app: &App<'_>, apply_preview: &Preview, width: usize) -> Vec<Line<'static>> {
    let styles = app.styles;
    let ellipsis = styles.symbol_text(Symbol::Ellipsis);
    let mut lines = Vec::new();
    let path_text = |line: &PreviewLine| match &line.renamed_from {
        Some(from) => rename_label(from, &line.path, styles.symbol_text(Symbol::Arrow)),
        None => Escaped::new(line.path.as_bytes()).to_string(),
    };
    let path_width = apply_preview.lines.iter().map(|line| display_width(&path_text(line))).max();
    let path_width = path_width.unwrap_or(0).min(40);
    for line in &apply_preview.lines {
        let file = app.model.files.iter().find(|f| f.change.path == line.path);
        let worst = file.filter(|f| f.is_risky()).and_then(|f| f.change.findings.first());
        let role = if line.is_conflict || worst.is_some() { StyleKind::Risk } else { StyleKind::Context };
        let path = path_text(line);
        let pad = " ".repeat(path_width.saturating_sub(display_width(&path)));
        let risk = worst.map(crate::review::finding_line).unwrap_or_default();
        let reason = [Escaped::new(&line.reason).to_string(), risk].join(" ");
        let text = format!(" {:9}  {path}{pad}  {}", line.outcome, reason.trim());
        let rows = |text: &str, indent, role| -> Vec<Line<'static>> {
            wrap_text(text, width, indent).into_iter().map(|row| Line::styled(row, styles.role_style(role))).collect()
        };
        lines.extend(rows(text.trim_end(), 12, role));
        // Conflict sides may differ only at their ends, so they are wrapped and not truncated.
        for side in &line.sides {
            lines.extend(rows(&format!("     {side}"), 9, StyleKind::Faint));
        }
    }
    let mut notes: Vec<(String, StyleKind)> = Vec::new();
    for (at, file) in app.model.files.iter().enumerate() {
        let unseen: usize = file.units.iter().map(|unit| app.state.count_unseen_accepted(unit)).sum();
        if unseen > 0 {
            notes.push((
                format!("{}: {}accepted unseen", app.escaped_path(at), line_count_text(file, unseen)),
                StyleKind::Risk,
            ));
        }
        if let Some(kept) = app.kept_decisions_note(at) {
            notes.push((kept, StyleKind::Context));
        }
    }
    if !notes.is_empty() {
        lines.push(Line::default());
        lines.extend(notes.into_iter().map(|(text, role)| {
            Line::styled(truncate_text(&format!(" {text}"), width, ellipsis), styles.role_style(role))
        }));
    }
    let unapplied = list_unapplied_files(app);
    if !unapplied.is_empty() {
        lines.push(Line::default());
        lines.push(Line::styled(" Not applied:", styles.role_style(StyleKind::Faint)));
        lines.extend(unapplied.into_iter().map(|text| {
            Line::styled(truncate_text(&format!("   {text}"), width, ellipsis), styles.role_style(StyleKind::Faint))
        }));
    }
    let next_command = format!(" The sandbox is kept. To continue in it: airlock resume {}", app.name);
    lines.push(Line::default());
    lines.extend(
        wrap_text(&next_command, width, 1)
            .into_iter()
            .map(|row| Line::styled(row, styles.role_style(StyleKind::Faint))),
    );
    lines
}

/// Returns a number of lines as text; empty for a file without lines.
fn line_count_text(file: &ReviewFile<'_>, count: usize) -> String {
    let has_lines = file.units.iter().any(|u| matches!(u.kind, UnitKind::Hunk { .. }));
    match (has_lines, count) {
        (false, _) => String::new(),
        (true, 1) => "1 line ".into(),
        (true, n) => format!("{n} lines "),
    }
}

/// Returns the files that are not applied completely, with the reason.
fn list_unapplied_files(app: &App<'_>) -> Vec<String> {
    let mut unapplied = Vec::new();
    for (at, file) in app.model.files.iter().enumerate() {
        if file.is_refused() {
            unapplied.push(format!("{}: cannot be accepted", app.escaped_path(at)));
            continue;
        }
        let lines = app.counts.file_counts(at).lines;
        let mut reasons = Vec::new();
        if lines.undecided > 0 {
            reasons.push(format!("{}undecided", line_count_text(file, lines.undecided)));
        }
        if lines.rejected > 0 {
            reasons.push(format!("{}rejected", line_count_text(file, lines.rejected)));
        }
        if !reasons.is_empty() {
            unapplied.push(format!("{}: {}", app.escaped_path(at), reasons.join(", ")));
        }
    }
    unapplied
}
