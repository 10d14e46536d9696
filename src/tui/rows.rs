//! Draws the rows of a file: context, hunks with a decision mark for each line, findings and comments.

use std::collections::BTreeMap;
use std::ops::Range;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::app::{App, Granularity, RowPosition};
use super::heading::find_heading;
use super::keymap::Command;
use super::layout::{FileLayout, NoteKind, RowGroup, unit_text};
use super::moved_lines::hash_line;
use super::style::{StyleKind, Symbol};
use super::syntax::class_at;
use super::text_layout::{LAST_COLUMN, LineLayout, layout_line, truncate_text, wrap_line, wrap_text};
use crate::changes::{HunkLine, LineSet, Unit, trim_line_ending};
use crate::core::escape::Escaped;
use crate::review::{CommentScope, Decision, HunkRows, ReviewState, UnitDecision, intraline_diff};

/// Columns of a decision mark with the blank before it.
const MARK_WIDTH: usize = 4;
/// The sign of a display row that continues the line above.
const CONTINUATION_SIGN: char = '~';
/// The sign of a line that the last round did not have.
const NEW_LINE_SIGN: &str = "*";
/// Minimum width of a row that has line numbers of both sides.
const MIN_TWO_NUMBERS_WIDTH: usize = 40;
/// Rows kept visible around the cursor if they fit.
const SCROLL_MARGIN: usize = 3;

/// A line of content and its styles.
struct ContentLine<'a> {
    /// Whether the last round did not have the line, although its hunk had others.
    is_new: bool,
    bytes: &'a [u8],
    /// The side of the diff and the line on that side, which select the syntax colors.
    side: usize,
    line: usize,
    base_style: Style,
    word_style: Style,
    changed_words: &'a [Range<usize>],
}

/// Draws the visible rows, and marks their lines as viewed.
pub(super) fn draw_rows(app: &mut App<'_>, frame: &mut Frame<'_>, area: Rect) {
    app.hit_areas.rows = area;
    let (height, width) = (usize::from(area.height), usize::from(area.width));
    adjust_scroll(app, height, width);
    let Some(opened) = &app.layout else { return };
    let (mut lines, mut hits, mut drawn_rows, mut is_truncated) = (Vec::new(), Vec::new(), Vec::new(), false);
    let mut row = app.scroll;
    while lines.len() < height
        && let Some((group, at)) = opened.group_at(row)
    {
        app.is_truncated.set(false);
        let drawn = draw_row(app, opened, group, at, (width, height));
        // A row that is only partly visible does not count as viewed.
        let is_whole = lines.len() + drawn.len() <= height;
        if is_whole {
            drawn_rows.push((row, app.is_truncated.get(), drawn.len()));
        }
        is_truncated |= app.is_truncated.get();
        hits.extend(drawn.iter().map(|_| row));
        lines.extend(drawn);
        row += 1;
    }
    lines.truncate(height);
    hits.truncate(height);
    let room = content_width(app, opened, width);
    let units = &app.model.files[opened.file].units;
    for (row, is_cut, rows) in drawn_rows {
        mark_row_viewed(
            &mut app.state,
            &mut app.viewed_columns,
            units,
            opened,
            DrawnRow {
                row,
                h_scroll: app.h_scroll,
                is_cut: is_cut || room == 0,
                columns: rows * room.saturating_sub(1),
            },
        );
    }
    app.is_truncated.set(is_truncated);
    app.hit_areas.lines = hits;
    frame.render_widget(Paragraph::new(lines), area);
}

/// Returns the width of a row of content.
fn content_width(app: &App<'_>, opened: &FileLayout, width: usize) -> usize {
    let room = width.saturating_sub(MARK_WIDTH + 1);
    let half = if app.display.side_by_side { room / 2 } else { room };
    half.saturating_sub(numbers_width(app, opened, half) + 3)
}

/// Returns the width of the line numbers of a row: of both sides, unless one side has no lines, has its own half, or the row is
/// narrow.
fn numbers_width(app: &App<'_>, opened: &FileLayout, width: usize) -> usize {
    let digits = opened.line_number_width();
    if app.display.side_by_side || !opened.has_both_sides() || width < MIN_TWO_NUMBERS_WIDTH {
        return digits;
    }
    digits * 2 + 1
}

/// Adjusts the scroll position so that the cursor is visible.
fn adjust_scroll(app: &mut App<'_>, height: usize, width: usize) {
    let Some(opened) = &app.layout else { return };
    let mut scroll_position = app.scroll;
    if app.scroll_follows_cursor
        && let Some(unit) = opened.unit_rows(app.cursor.unit)
    {
        let part =
            if app.granularity == Granularity::Line { app.cursor.row..app.cursor.row + 1 } else { app.current_part() };
        // Of a hunk that was found, the row with the match.
        let part = match app.last_match {
            Some((file, unit, row)) if (file, unit) == (app.cursor.file, app.cursor.unit) && part.contains(&row) => {
                row..row + 1
            }
            _ => part,
        };
        let size = unit.len();
        let rows = unit.start + part.start.min(size)..unit.start + part.end.min(size);
        // At the top of the file, also show the findings.
        let is_first = app.cursor.unit == 0 && part.start == 0;
        let top = if is_first && rows.start < height / 2 { 0 } else { rows.start.saturating_sub(SCROLL_MARGIN) };
        let bottom = rows.end + SCROLL_MARGIN;
        if top < scroll_position || rows.len() + SCROLL_MARGIN >= height {
            scroll_position = top;
        } else if bottom > scroll_position + height {
            scroll_position = bottom.saturating_sub(height).min(top);
        }
        if app.display.wraps {
            // Wrapped rows need more space: scroll further until the rows up to the cursor fit.
            let heights = row_heights(
                app,
                opened,
                scroll_position..rows.end.min(scroll_position + height + SCROLL_MARGIN).min(opened.row_count()),
                width,
                height,
            );
            let mut total_height: usize = heights.iter().sum();
            for high in heights {
                if total_height <= height || scroll_position >= rows.start {
                    break;
                }
                total_height -= high;
                scroll_position += 1;
            }
        }
    }
    app.scroll = scroll_position.min(max_scroll(app, opened, height, width));
}

/// Returns the number of display rows of each row.
fn row_heights(app: &App<'_>, opened: &FileLayout, rows: Range<usize>, width: usize, height: usize) -> Vec<usize> {
    let high =
        |row| opened.group_at(row).map_or(1, |(piece, at)| draw_row(app, opened, piece, at, (width, height)).len());
    rows.map(high).collect()
}

/// Returns the scroll position at which the rest of the file fits on the screen.
fn max_scroll(app: &App<'_>, opened: &FileLayout, height: usize, width: usize) -> usize {
    let rows = opened.row_count();
    let last = rows.saturating_sub(height);
    if !app.display.wraps || app.scroll <= last && !app.scroll_follows_cursor {
        return if app.display.wraps { rows } else { last };
    }
    let (mut from, mut remaining) = (rows, height);
    while from > 0 {
        let high = row_heights(app, opened, from - 1..from, width, height)[0];
        if high > remaining {
            break;
        }
        remaining -= high;
        from -= 1;
    }
    from.min(rows.saturating_sub(1))
}

/// A row of a file that was drawn.
struct DrawnRow {
    row: usize,
    /// The first column that was drawn.
    h_scroll: usize,
    /// Whether the row has further columns.
    is_cut: bool,
    /// Number of columns that were drawn.
    columns: usize,
}

/// Marks the lines of a drawn row as viewed once every column of the row has been on the screen.
fn mark_row_viewed(
    state: &mut ReviewState,
    viewed_columns: &mut BTreeMap<RowPosition, usize>,
    units: &[Unit],
    opened: &FileLayout,
    DrawnRow { row, h_scroll, is_cut, columns }: DrawnRow,
) {
    let Some((group, at)) = opened.group_at(row) else { return };
    let (unit, lines) = match group {
        RowGroup::Unit(unit) => (*unit, LineSet::from_lines([0])),
        RowGroup::Hunk(unit) => {
            let Some(hunk) = opened.unit_hunk(*unit) else { return };
            let (removed, added) = opened.row_pair(*unit, at);
            let mut lines: Vec<usize> = removed.into_iter().chain(added).map(|row| hunk.decision_line(row)).collect();
            lines.sort_unstable();
            (*unit, LineSet::from_lines(lines))
        }
        _ => return,
    };
    let position = (opened.file, unit, at);
    let known = viewed_columns.get(&position).copied().unwrap_or(0);
    if h_scroll > known {
        return;
    }
    if is_cut {
        viewed_columns.insert(position, known.max(h_scroll + columns));
    } else {
        state.mark_viewed(&units[unit].id, &lines);
    }
}

/// Returns the display rows of a row of a file: more than one if a line is wrapped.
fn draw_row(
    app: &App<'_>,
    opened: &FileLayout,
    group: &RowGroup,
    at: usize,
    (width, height): (usize, usize),
) -> Vec<Line<'static>> {
    let styles = app.styles;
    let file = &app.model.files[opened.file];
    let digits = numbers_width(app, opened, width.saturating_sub(MARK_WIDTH + 1));
    let indent = " ".repeat(digits + 4);
    let generated = |text: String, role| {
        let text = truncate_text(&format!("{indent}{text}"), width, styles.symbol_text(Symbol::Ellipsis));
        vec![Line::styled(text, styles.role_style(role))]
    };
    let wrapped = |text: &str, indent: usize, role| -> Vec<Line<'static>> {
        let rows = wrap_text(text, width, indent).into_iter().take(height.max(1));
        rows.map(|row| Line::styled(row, styles.role_style(role))).collect()
    };
    match group {
        RowGroup::Note(text, NoteKind::Risk) => wrapped(&format!(" {text}"), 3, StyleKind::Risk),
        RowGroup::Note(text, NoteKind::Plain) => generated(text.clone(), StyleKind::Faint),
        RowGroup::Folded(counts) => {
            generated(format!("folded: {counts}{}", app.key_note(Command::Fold, "unfolds it")), StyleKind::Faint)
        }
        RowGroup::Hidden(unit) => {
            let text = format!(
                "{} {} rows that change only whitespace{}",
                styles.symbol_text(Symbol::Gap),
                opened.unit_row_count(*unit),
                app.key_note(Command::HideBlanks, "shows them")
            );
            let mut line = generated(text, StyleKind::Faint);
            if *unit == app.cursor.unit && app.granularity != Granularity::File {
                line[0]
                    .spans
                    .insert(0, Span::styled(styles.symbol_text(Symbol::Cursor), styles.role_style(StyleKind::Strong)));
            }
            line
        }
        RowGroup::Conflict(unit) => {
            let mark = styles.symbol_text(Symbol::Conflict);
            let lines = opened.conflict_notes.get(unit).map(Vec::as_slice).unwrap_or_default();
            let rows = lines.iter().enumerate().flat_map(|(at, line)| {
                let start = if at == 0 { format!("{mark} ") } else { "  ".into() };
                wrapped(&format!("{indent}{start}{line}"), digits + 6, StyleKind::Risk)
            });
            rows.take(height.max(1)).collect()
        }
        RowGroup::Comment(unit, scope, text) => {
            let note = opened.unit_hunk(*unit).map_or_else(String::new, |hunk| scope_note(*scope, hunk));
            let mark = styles.symbol_text(Symbol::Comment);
            let rows = text.lines().enumerate().flat_map(|(at, line)| {
                let line = Escaped::from_line(line);
                let start = if at == 0 { format!("{mark} {note}") } else { "  ".into() };
                wrapped(&format!("{indent}{start}{line}"), digits + 6, StyleKind::Comment)
            });
            rows.take(height.max(1)).collect()
        }
        RowGroup::EarlierComment(text) => {
            let mark = styles.symbol_text(Symbol::Comment);
            let rows = text.lines().enumerate().flat_map(|(at, line)| {
                let start = if at == 0 { format!("{mark} ") } else { "  ".into() };
                wrapped(&format!("{indent}{start}{}", Escaped::from_line(line)), digits + 6, StyleKind::Faint)
            });
            rows.take(height.max(1)).collect()
        }
        RowGroup::Gap(lines) => {
            // A heading that is on the screen above the gap is not repeated.
            let heading = find_heading(&opened.text.old, lines.end, &file.change.path);
            let is_hidden = |line: &usize| *line >= lines.start || *line < opened.shown_since(lines);
            let above = heading.filter(is_hidden).map(|line| {
                let room = width.saturating_sub(digits + 24);
                let line = trim_line_ending(opened.text.old.get(line)).trim_ascii_start();
                let layout = layout_line(line, 0, room, |_| Style::new(), Style::new());
                layout.spans.iter().map(|s| s.content.as_ref()).collect::<String>()
            });
            let count = lines.len();
            let noun = if count == 1 { "line" } else { "lines" };
            let text = format!("{} {count} {noun}   {}", styles.symbol_text(Symbol::Gap), above.unwrap_or_default());
            generated(text.trim_end().to_owned(), StyleKind::Faint)
        }
        RowGroup::Context(lines, new) => {
            let (old, new) = (lines.start + at, new + at);
            let content = ContentLine {
                is_new: false,
                bytes: opened.text.old.get(old),
                side: 1,
                line: new,
                base_style: styles.role_style(StyleKind::Context),
                word_style: Style::new(),
                changed_words: &[],
            };
            if app.display.side_by_side {
                let half = (width.saturating_sub(MARK_WIDTH + 1)) / 2;
                let draw = |numbers| half_row(app, opened, numbers, ' ', &content, (half, height));
                let (left, right) = (draw(LineNumbers::of_old(old)), draw(LineNumbers::of_new(new)));
                return with_cursor_column(join_halves(app, left, right, half));
            }
            with_cursor_column(half_row(
                app,
                opened,
                LineNumbers { old: Some(old), new: Some(new) },
                ' ',
                &content,
                (width.saturating_sub(MARK_WIDTH + 1), height),
            ))
        }
        RowGroup::Deleted => {
            let content = ContentLine {
                is_new: false,
                bytes: opened.text.old.get(at),
                side: 0,
                line: at,
                base_style: styles.role_style(StyleKind::Removed),
                word_style: Style::new(),
                changed_words: &[],
            };
            with_cursor_column(half_row(
                app,
                opened,
                LineNumbers::of_old(at),
                '-',
                &content,
                (width.saturating_sub(MARK_WIDTH + 1), height),
            ))
        }
        RowGroup::Unit(unit) => {
            let text = unit_text(file, *unit);
            let rows =
                wrap_text(&format!("{}{text}", &indent[1..]), width.saturating_sub(MARK_WIDTH + 1), indent.len() - 1);
            with_cursor_and_mark(
                app,
                opened,
                *unit,
                0,
                rows.into_iter().map(|row| vec![Span::raw(row)]).collect(),
                width,
            )
        }
        RowGroup::Edited(unit) => edited_row(app, opened, *unit, at, (width, height)),
        RowGroup::Hunk(unit) => hunk_row(app, opened, *unit, at, (width, height)),
    }
}

/// Returns what a comment is about, unless it is the whole hunk.
fn scope_note(scope: CommentScope, hunk: &HunkRows) -> String {
    let number = |row: usize| match hunk.row_at(row) {
        HunkLine::Removed(line) => ("old line", hunk.old.start + line + 1),
        HunkLine::Added(line) => ("line", hunk.new.start + line + 1),
    };
    match scope {
        CommentScope::Unit => String::new(),
        CommentScope::Line(line) if line < hunk.old.len() => format!("(on old line {}) ", hunk.old.start + line + 1),
        CommentScope::Line(line) => format!("(on line {}) ", hunk.new.start + line - hunk.old.len() + 1),
        CommentScope::Part { from, .. } if from >= hunk.len() => String::new(),
        CommentScope::Part { from, .. } => {
            let (side, line) = number(from);
            format!("(on the part at {side} {line}) ")
        }
    }
}

/// The spans of a display row.
type Spans = Vec<Span<'static>>;

/// Inserts an empty cursor column.
fn with_cursor_column(rows: Vec<Spans>) -> Vec<Line<'static>> {
    rows.into_iter().map(|spans| Line::from([vec![Span::raw(" ")], spans].concat())).collect()
}

/// Joins two halves into rows; the shorter half is padded.
fn join_halves(app: &App<'_>, left: Vec<Spans>, right: Vec<Spans>, half: usize) -> Vec<Spans> {
    let rows = left.len().max(right.len());
    let nth = |rows: &[Spans], at: usize| rows.get(at).cloned().unwrap_or_else(|| vec![Span::raw(" ".repeat(half))]);
    let divider = Span::styled(divider_symbol(app), app.styles.role_style(StyleKind::Faint));
    (0..rows).map(|at| [nth(&left, at), vec![divider.clone()], nth(&right, at)].concat()).collect()
}

fn divider_symbol(app: &App<'_>) -> &'static str {
    if app.styles.unicode { "│" } else { "|" }
}

/// Returns one half of a row, or a whole row: line numbers, sign and content. Continuation rows begin with a sign in the gutter,
/// which content cannot reach.
fn half_row(
    app: &App<'_>,
    opened: &FileLayout,
    numbers: LineNumbers,
    sign: char,
    content: &ContentLine<'_>,
    (width, height): (usize, usize),
) -> Vec<Spans> {
    let styles = app.styles;
    let (digits, total) = (opened.line_number_width(), numbers_width(app, opened, width));
    let new_style = styles.role_style(StyleKind::Comment);
    let number_text = |number: Option<usize>| match number {
        Some(number) => format!("{:>digits$}", number + 1),
        None => " ".repeat(digits),
    };
    let gutter = |numbers: LineNumbers, sign: char| {
        let text = if total > digits {
            format!("{} {}", number_text(numbers.old), number_text(numbers.new))
        } else {
            number_text(numbers.new.or(numbers.old))
        };
        vec![
            Span::styled(text, styles.role_style(StyleKind::Faint)),
            Span::styled(if content.is_new { NEW_LINE_SIGN } else { " " }, content.base_style.patch(new_style)),
            Span::styled(format!("{sign} "), content.base_style.patch(sign_style(app, sign))),
        ]
    };
    let room = width.saturating_sub(total + 3);
    let rows = content_rows(app, opened, content, (room, height)).into_iter().enumerate();
    let first = |at: usize| if at == 0 { gutter(numbers, sign) } else { gutter(LineNumbers::NONE, CONTINUATION_SIGN) };
    rows.map(|(at, row)| [first(at), row].concat()).collect()
}

/// The numbers of a row's line on each side, from 0.
#[derive(Debug, Clone, Copy)]
struct LineNumbers {
    old: Option<usize>,
    new: Option<usize>,
}

impl LineNumbers {
    const NONE: Self = Self { old: None, new: None };

    fn of_old(line: usize) -> Self {
        Self { old: Some(line), new: None }
    }

    fn of_new(line: usize) -> Self {
        Self { old: None, new: Some(line) }
    }
}

fn sign_style(app: &App<'_>, sign: char) -> Style {
    match sign {
        '+' => app.styles.role_style(StyleKind::Accepted),
        '-' => app.styles.role_style(StyleKind::Rejected),
        _ => Style::new(),
    }
}

/// Returns content in rows of exactly `room` columns.
fn content_rows(
    app: &App<'_>,
    opened: &FileLayout,
    content: &ContentLine<'_>,
    (room, height): (usize, usize),
) -> Vec<Spans> {
    let styles = app.styles;
    let has_feed = content.bytes.ends_with(b"\n");
    let bytes = if app.hides_line_endings() {
        trim_line_ending(content.bytes)
    } else {
        content.bytes.strip_suffix(b"\n").unwrap_or(content.bytes)
    };
    let matches = find_ranges(bytes, &app.search);
    let syntax_classes = app.highlighted.get(&opened.file);
    let is_inside = |ranges: &[Range<usize>], at: usize| {
        let next = ranges.partition_point(|r| r.end <= at);
        ranges.get(next).is_some_and(|r| r.contains(&at))
    };
    let style = |at: usize| {
        let mut style = content.base_style;
        if let Some(sides) = syntax_classes {
            let class = class_at(&sides[content.side], content.line, at);
            style = style.patch(styles.token_style(class, content.base_style.bg.is_some()));
        }
        if is_inside(content.changed_words, at) {
            style = style.patch(content.word_style);
        }
        if is_inside(&matches, at) {
            style = style.patch(styles.role_style(StyleKind::Found));
        }
        style
    };
    let escape = styles.role_style(StyleKind::Escape);
    let layouts = if app.display.wraps {
        wrap_line(bytes, app.h_scroll, (room, height), style, escape)
    } else {
        vec![layout_line(bytes, app.h_scroll, room, style, escape)]
    };
    let last = layouts.len() - 1;
    let rows = layouts.into_iter().enumerate();
    rows.map(|(at, row)| fill_row(app, content, row, room, at == last && !has_feed)).collect()
}

/// Pads a row, and adds the sign of a continued line or the note about a missing newline.
fn fill_row(app: &App<'_>, content: &ContentLine<'_>, layout: LineLayout, room: usize, lacks_feed: bool) -> Spans {
    const NO_FEED: &str = " no newline";
    let styles = app.styles;
    let (mut spans, mut padding) = (layout.spans, room.saturating_sub(layout.columns));
    // The sign is in the last column, which content cannot reach.
    if layout.is_continued && room > 0 {
        app.is_truncated.set(true);
        spans = truncate_spans(spans, room - 1);
        let used: usize = spans.iter().map(|s| super::outline::display_width(&s.content)).sum();
        spans.push(Span::styled(" ".repeat(room - 1 - used), content.base_style));
        spans.push(Span::styled(styles.symbol_text(Symbol::More), styles.role_style(StyleKind::Strong)));
        padding = 0;
    }
    if lacks_feed && padding > NO_FEED.len() && app.h_scroll == 0 {
        spans.push(Span::styled(NO_FEED, content.base_style.patch(styles.role_style(StyleKind::Faint))));
        padding -= NO_FEED.len();
    }
    spans.push(Span::styled(" ".repeat(padding), content.base_style));
    spans
}

/// Truncates spans to a width.
fn truncate_spans(spans: Vec<Span<'static>>, width: usize) -> Vec<Span<'static>> {
    let mut remaining = width;
    let mut truncated = Vec::new();
    for span in spans {
        let text = truncate_text(&span.content, remaining, "");
        remaining -= super::outline::display_width(&text);
        let is_whole = text.len() == span.content.len();
        truncated.push(Span::styled(text, span.style));
        if !is_whole {
            break;
        }
    }
    truncated
}

fn find_ranges(bytes: &[u8], needle: &str) -> Vec<Range<usize>> {
    let needle = needle.as_bytes();
    // Columns after the last are not shown.
    let bytes = &bytes[..bytes.len().min(4 * LAST_COLUMN)];
    if needle.is_empty() || needle.len() > bytes.len() {
        return Vec::new();
    }
    let is_case_sensitive = needle.iter().any(u8::is_ascii_uppercase);
    let is_match =
        |window: &[u8]| if is_case_sensitive { window == needle } else { window.eq_ignore_ascii_case(needle) };
    bytes
        .windows(needle.len())
        .enumerate()
        .filter(|(_, w)| is_match(w))
        .map(|(at, _)| at..at + needle.len())
        .take(200)
        .collect()
}

fn hunk_row(
    app: &App<'_>,
    opened: &FileLayout,
    unit: usize,
    at: usize,
    (width, height): (usize, usize),
) -> Vec<Line<'static>> {
    let styles = app.styles;
    let Some(hunk) = opened.unit_hunk(unit) else { return vec![Line::default()] };
    let (removed, added) = opened.row_pair(unit, at);
    let is_replaced = opened.edited.contains_key(&unit);
    // The lines that replace each other, side by side or one below the other.
    let partner = |row: usize| hunk.paired_row(row);
    let (old_row, new_row) = match (removed, added) {
        (Some(old), Some(new)) => (Some(old), Some(new)),
        (Some(old), None) => (Some(old), partner(old)),
        (None, Some(new)) => (partner(new), Some(new)),
        (None, None) => (None, None),
    };
    let words = match (old_row, new_row) {
        (Some(old), Some(new)) => intraline_diff(
            trim_line_ending(hunk.row_content(&opened.text, old)),
            trim_line_ending(hunk.row_content(&opened.text, new)),
        ),
        _ => Default::default(),
    };
    let side = |row: usize| -> (ContentLine<'_>, char, LineNumbers) {
        let bytes = hunk.row_content(&opened.text, row);
        let is_moved =
            app.moved_lines.as_ref().is_some_and(|moved| hash_line(bytes).is_some_and(|key| moved.contains(&key)));
        let (base, word, ranges, sign, line, side) = match hunk.row_at(row) {
            HunkLine::Removed(line) => {
                (StyleKind::Removed, StyleKind::RemovedWord, &words.0, '-', hunk.old.start + line, 0)
            }
            HunkLine::Added(line) => (StyleKind::Added, StyleKind::AddedWord, &words.1, '+', hunk.new.start + line, 1),
        };
        let is_new = app.is_new_line(&app.model.files[opened.file].units[unit], hunk.decision_line(row));
        let base = if is_moved || is_replaced && sign == '+' { StyleKind::Moved } else { base };
        let content = ContentLine {
            is_new,
            bytes,
            side,
            line,
            base_style: styles.role_style(base),
            word_style: styles.role_style(word),
            changed_words: ranges,
        };
        (content, sign, if side == 0 { LineNumbers::of_old(line) } else { LineNumbers::of_new(line) })
    };
    let room = width.saturating_sub(MARK_WIDTH + 1);
    let spans = if app.display.side_by_side {
        let half = room / 2;
        let empty = ContentLine {
            is_new: false,
            bytes: b"\n",
            side: 0,
            line: 0,
            base_style: Style::new(),
            word_style: Style::new(),
            changed_words: &[],
        };
        let draw = |row: Option<usize>| match row {
            Some(row) => {
                let (content, sign, numbers) = side(row);
                half_row(app, opened, numbers, sign, &content, (half, height))
            }
            None => half_row(app, opened, LineNumbers::NONE, ' ', &empty, (half, height)),
        };
        join_halves(app, draw(removed), draw(added), half)
    } else {
        let Some(row) = removed.or(added) else { return vec![Line::default()] };
        let (content, sign, numbers) = side(row);
        half_row(app, opened, numbers, sign, &content, (room, height))
    };
    with_cursor_and_mark(app, opened, unit, at, spans, width)
}

/// Adds the cursor on the left and the decision mark on the right.
fn with_cursor_and_mark(
    app: &App<'_>,
    opened: &FileLayout,
    unit: usize,
    at: usize,
    content: Vec<Spans>,
    width: usize,
) -> Vec<Line<'static>> {
    let styles = app.styles;
    let id = &app.model.files[opened.file].units[unit].id;
    let is_edited = matches!(app.state.decisions.get(id), Some(UnitDecision::Edited(_)));
    let decision_of = |line: usize| app.state.decisions.line_decision(id, line);
    let (mark, role) = if app.model.files[opened.file].is_refused() {
        (styles.symbol_text(Symbol::Refused), StyleKind::Risk)
    } else if is_edited {
        ("e", StyleKind::Accepted)
    } else {
        let decisions = match opened.unit_hunk(unit) {
            Some(hunk) => {
                let (removed, added) = opened.row_pair(unit, at);
                let row_decisions = removed.into_iter().chain(added).map(|row| decision_of(hunk.decision_line(row)));
                row_decisions.collect::<Vec<_>>()
            }
            None => vec![decision_of(0)],
        };
        match decisions[..] {
            [Some(Decision::Accepted)] | [Some(Decision::Accepted), Some(Decision::Accepted)] => {
                ("+", StyleKind::Accepted)
            }
            [Some(Decision::Rejected)] | [Some(Decision::Rejected), Some(Decision::Rejected)] => {
                ("x", StyleKind::Rejected)
            }
            [None] | [None, None] | [] => (" ", StyleKind::Faint),
            _ => ("~", StyleKind::Strong),
        }
    };
    let is_first = match app.granularity {
        Granularity::Line => (unit, at) == (app.cursor.unit, app.cursor.row),
        _ => unit == app.cursor.unit && at == app.current_part().start,
    };
    let is_selected = match app.granularity {
        Granularity::File => false,
        Granularity::Hunk => unit == app.cursor.unit && app.current_part().contains(&at),
        Granularity::Line => {
            let (first, last) = app.selected_range();
            (first..=last).contains(&(unit, at))
        }
    };
    let cursor = match (is_first && app.granularity != Granularity::File, is_selected) {
        (true, _) => styles.symbol_text(Symbol::Cursor),
        (false, true) => styles.symbol_text(Symbol::Bar),
        // The start of a part of a split hunk.
        _ if at > 0 && app.is_part_start(unit, at) => styles.symbol_text(Symbol::Cut),
        _ => " ",
    };
    let room = width.saturating_sub(MARK_WIDTH + 1);
    let mark_style = if is_selected && app.granularity == Granularity::Line {
        styles.role_style(role).patch(styles.role_style(StyleKind::Cursor))
    } else {
        styles.role_style(role)
    };
    let spans_width =
        |spans: &[Span<'_>]| spans.iter().map(|s| super::outline::display_width(&s.content)).sum::<usize>();
    let draw_line = |(nth, content): (usize, Spans)| {
        let content = if spans_width(&content) > room { truncate_spans(content, room) } else { content };
        let pad = " ".repeat(room.saturating_sub(spans_width(&content)));
        // The bar continues beside wrapped rows.
        let sign = match (nth, is_selected) {
            (0, _) => cursor,
            (_, true) => styles.symbol_text(Symbol::Bar),
            _ => " ",
        };
        let mut spans = vec![Span::styled(sign, styles.role_style(StyleKind::Strong))];
        spans.extend(content);
        spans.push(Span::raw(pad));
        if nth == 0 {
            spans.push(conflict_mark(app, opened.file, unit));
            spans.push(Span::styled(format!("[{mark}]"), mark_style));
        }
        Line::from(spans)
    };
    content.into_iter().enumerate().map(draw_line).collect()
}

/// Returns the mark of a unit that is in conflict with the working tree.
fn conflict_mark(app: &App<'_>, file: usize, unit: usize) -> Span<'static> {
    let styles = app.styles;
    match app.unit_conflict(file, &app.model.files[file].units[unit]) {
        Some(false) => Span::styled(styles.symbol_text(Symbol::Conflict), styles.role_style(StyleKind::Risk)),
        Some(true) => Span::styled(styles.symbol_text(Symbol::Conflict), styles.role_style(StyleKind::Accepted)),
        None => Span::raw(" "),
    }
}

fn edited_row(
    app: &App<'_>,
    opened: &FileLayout,
    unit: usize,
    at: usize,
    (width, height): (usize, usize),
) -> Vec<Line<'static>> {
    let styles = app.styles;
    let digits = numbers_width(app, opened, width.saturating_sub(MARK_WIDTH + 1));
    let Some(line) = at.checked_sub(1) else {
        let text = format!("{} your text instead:", " ".repeat(digits + 3));
        return vec![Line::styled(
            truncate_text(&text, width, styles.symbol_text(Symbol::Ellipsis)),
            styles.role_style(StyleKind::Comment),
        )];
    };
    let Some(lines) = opened.edited.get(&unit) else { return vec![Line::default()] };
    let content = ContentLine {
        is_new: false,
        bytes: lines.get(line),
        side: 1,
        line: usize::MAX,
        base_style: styles.role_style(StyleKind::Added),
        word_style: Style::new(),
        changed_words: &[],
    };
    let mut rows = with_cursor_column(half_row(
        app,
        opened,
        LineNumbers::NONE,
        '+',
        &content,
        (width.saturating_sub(MARK_WIDTH + 1), height),
    ));
    rows[0].spans.push(Span::styled(" [+]", styles.role_style(StyleKind::Accepted)));
    rows
}
