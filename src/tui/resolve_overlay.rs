//! Draws a region in conflict: base, ours and theirs in this order, and the chosen result.

use std::collections::HashSet;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::app::App;
use super::dialogs::ResolveView;
use super::outline::draw_box;
use super::scrollbar::{ScrollPosition, draw_scrollbar};
use super::side_words::{choice_word, side_lines};
use super::style::{StyleKind, Symbol};
use super::text_layout::{truncate_start, wrap_line};
use crate::changes::{RegionSide, split_lines, trim_line_ending};
use crate::core::escape::Escaped;

/// Columns before a line.
const INDENT: usize = 4;

pub(super) fn draw_resolve(app: &mut App<'_>, frame: &mut Frame<'_>, area: Rect, view: &ResolveView) {
    let (path, region) = &view.items[view.at];
    let styles = app.styles;
    let resolved =
        view.items.iter().filter(|(_, region)| app.state.decisions.conflict_choices().contains_key(&region.id)).count();
    let place = format!(" Conflict {}/{}, {resolved} resolved: ", view.at + 1, view.items.len());
    let room = usize::from(area.width).saturating_sub(place.chars().count() + 4);
    let name = truncate_start(&Escaped::new(path.as_bytes()).to_string(), room, styles.symbol_text(Symbol::Ellipsis));
    let inner = draw_box(app, frame, area, &format!("{place}{name} "), true);
    app.hit_areas.rows = inner;
    let (width, height) = (usize::from(inner.width), usize::from(inner.height));
    let mut lines = Vec::new();
    let sides = [
        ("base", &region.base, None),
        ("ours (working tree)", &region.ours, Some(&region.base)),
        ("theirs (accepted)", &region.theirs, Some(&region.base)),
    ];
    for (name, side, base) in sides {
        let place = if region.is_whole { String::new() } else { format!(", {}", side_lines(side)) };
        lines.push(Line::styled(format!(" {name}{place}"), styles.role_style(StyleKind::Strong)));
        match &side.text {
            Some(text) => lines.extend(text_rows(app, text, base, width)),
            None => lines.push(Line::styled(
                format!("{}{}", " ".repeat(INDENT), side.note),
                styles.role_style(StyleKind::Faint),
            )),
        }
        lines.push(Line::default());
    }
    let choice = app.state.decisions.conflict_choices().get(&region.id);
    match choice {
        None => lines.push(Line::styled(" result: not chosen yet", styles.role_style(StyleKind::Faint))),
        Some(choice) => {
            let heading = format!(" result: {}", choice_word(choice));
            lines.push(Line::styled(heading, styles.role_style(StyleKind::Accepted)));
            if let Ok(Some(text)) = region.chosen_text(choice, |hash| app.model.read_text(hash)) {
                lines.extend(text_rows(app, &text, None, width));
            }
        }
    }
    let last = lines.len().saturating_sub(height);
    app.max_scroll.set(last);
    let position = ScrollPosition { first: view.scroll.min(last), shown: height, all: lines.len() };
    let shown: Vec<Line<'static>> = lines.into_iter().skip(position.first).collect();
    frame.render_widget(Paragraph::new(shown), inner);
    draw_scrollbar(app, frame, area, position);
}

/// Returns the rows of a text. Lines that `base` does not have are tinted.
fn text_rows(app: &App<'_>, text: &[u8], base: Option<&RegionSide>, width: usize) -> Vec<Line<'static>> {
    let styles = app.styles;
    let base: Option<HashSet<&[u8]>> =
        base.map(|side| split_lines(side.text.as_deref().unwrap_or_default()).into_iter().collect());
    let room = width.saturating_sub(INDENT);
    let lines = split_lines(text);
    if lines.is_empty() {
        return vec![Line::styled(format!("{}no lines", " ".repeat(INDENT)), styles.role_style(StyleKind::Faint))];
    }
    let mut rows = Vec::new();
    for line in lines {
        let is_new = base.as_ref().is_some_and(|base| !base.contains(line));
        let style = if is_new { styles.role_style(StyleKind::Added) } else { Style::new() };
        let escape = styles.role_style(StyleKind::Escape);
        for (at, layout) in
            wrap_line(trim_line_ending(line), 0, (room, usize::MAX), |_| style, escape).into_iter().enumerate()
        {
            let sign = match (at, is_new) {
                (0, true) => "  + ",
                (0, false) => "    ",
                _ => "  ~ ",
            };
            let pad = Span::styled(" ".repeat(room.saturating_sub(layout.columns)), style);
            let gutter = Span::styled(sign, styles.role_style(StyleKind::Faint));
            rows.push(Line::from([vec![gutter], layout.spans, vec![pad]].concat()));
        }
    }
    rows
}
