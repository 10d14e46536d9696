//! Draws the rows of a file: context, hunks with a decision mark for each line, findings and comments.

use std::collections::BTreeMap;
use std::ops::Range;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::app::{App, Granularity, Place};
use super::layout::{FileLayout, NoteKind, RowGroup, heading, unit_text};
use super::moved_lines::key;
use super::style::{StyleKind, Symbol};
use super::syntax::class_at;
use super::text_layout::{LAST_COLUMN, LineLayout, layout_line, truncate, wrap, wrap_text};
use crate::changes::{HunkLine, LineSet, Unit, trim_line_ending};
use crate::core::escape::Escaped;
use crate::review::{Decision, ReviewState, UnitDecision, differing};

/// Columns of a decision mark with the blank before it.
const MARK: usize = 4;
/// The sign of a display row that continues the line above.
const CONTINUED: char = '~';
/// Rows kept visible around the cursor if they fit.
const MARGIN: usize = 3;

/// A line of content and its styles.
struct Content<'a> {
    bytes: &'a [u8],
    /// The side of the diff and the line on that side, which select the syntax colors.
    side: usize,
    line: usize,
    base: Style,
    word: Style,
    words: &'a [Range<usize>],
}

/// Draws the visible rows, and marks their lines as viewed.
pub fn rows(app: &mut App<'_>, frame: &mut Frame<'_>, area: Rect) {
    app.hits.rows = area;
    let (height, width) = (usize::from(area.height), usize::from(area.width));
    scroll(app, height, width);
    let Some(opened) = &app.opened else { return };
    let (mut lines, mut hits, mut seen, mut goes_on) = (Vec::new(), Vec::new(), Vec::new(), false);
    let mut row = app.scroll;
    while lines.len() < height
        && let Some((piece, at)) = opened.at(row)
    {
        app.goes_on.set(false);
        let drawn = draw_row(app, opened, piece, at, (width, height));
        // A row that is only partly visible does not count as viewed.
        let is_whole = lines.len() + drawn.len() <= height;
        if is_whole {
            seen.push((row, app.goes_on.get(), drawn.len()));
        }
        goes_on |= app.goes_on.get();
        hits.extend(drawn.iter().map(|_| row));
        lines.extend(drawn);
        row += 1;
    }
    lines.truncate(height);
    hits.truncate(height);
    let room = content_room(app, opened, width);
    let units = &app.sheet.files[opened.file].units;
    for (row, is_cut, rows) in seen {
        see(
            &mut app.state,
            &mut app.shown_to,
            units,
            opened,
            row,
            app.sideways,
            (is_cut || room == 0, rows * room.saturating_sub(1)),
        );
    }
    app.goes_on.set(goes_on);
    app.hits.lines = hits;
    frame.render_widget(Paragraph::new(lines), area);
}

/// Returns the width of a row of content.
fn content_room(app: &App<'_>, opened: &FileLayout, width: usize) -> usize {
    let room = width.saturating_sub(MARK + 1);
    let half = if app.display.side_by_side { room / 2 } else { room };
    half.saturating_sub(opened.digits() + 3)
}

/// Adjusts the scroll position so that the cursor is visible.
fn scroll(app: &mut App<'_>, height: usize, width: usize) {
    let Some(opened) = &app.opened else { return };
    let mut to = app.scroll;
    if app.follows
        && let Some(unit) = opened.rows_of_unit(app.at.unit)
    {
        let part = if app.level == Granularity::Line { app.at.row..app.at.row + 1 } else { app.part() };
        let size = unit.len();
        let rows = unit.start + part.start.min(size)..unit.start + part.end.min(size);
        // At the top of the file, also show the findings.
        let is_first = app.at.unit == 0 && part.start == 0;
        let top = if is_first && rows.start < height / 2 { 0 } else { rows.start.saturating_sub(MARGIN) };
        let bottom = rows.end + MARGIN;
        if top < to || rows.len() + MARGIN >= height {
            to = top;
        } else if bottom > to + height {
            to = bottom.saturating_sub(height).min(top);
        }
        if app.display.wraps {
            // Wrapped rows need more space: scroll further until the rows up to the cursor fit.
            let heights =
                heights(app, opened, to..rows.end.min(to + height + MARGIN).min(opened.rows()), width, height);
            let mut all: usize = heights.iter().sum();
            for high in heights {
                if all <= height || to >= rows.start {
                    break;
                }
                all -= high;
                to += 1;
            }
        }
    }
    app.scroll = to.min(last_scroll(app, opened, height, width));
}

/// Returns the number of display rows of each row.
fn heights(app: &App<'_>, opened: &FileLayout, rows: Range<usize>, width: usize, height: usize) -> Vec<usize> {
    let high = |row| opened.at(row).map_or(1, |(piece, at)| draw_row(app, opened, piece, at, (width, height)).len());
    rows.map(high).collect()
}

/// Returns the scroll position at which the rest of the file fits on the screen.
fn last_scroll(app: &App<'_>, opened: &FileLayout, height: usize, width: usize) -> usize {
    let rows = opened.rows();
    let last = rows.saturating_sub(height);
    if !app.display.wraps || app.scroll <= last && !app.follows {
        return if app.display.wraps { rows } else { last };
    }
    let (mut from, mut left) = (rows, height);
    while from > 0 {
        let high = heights(app, opened, from - 1..from, width, height)[0];
        if high > left {
            break;
        }
        left -= high;
        from -= 1;
    }
    from.min(rows.saturating_sub(1))
}

/// Marks the lines of a drawn row as viewed once every column of the row has been on the screen.
fn see(
    state: &mut ReviewState,
    shown_to: &mut BTreeMap<Place, usize>,
    units: &[Unit],
    opened: &FileLayout,
    row: usize,
    sideways: usize,
    (is_cut, columns): (bool, usize),
) {
    let Some((piece, at)) = opened.at(row) else { return };
    let (unit, lines) = match piece {
        RowGroup::Unit(unit) => (*unit, LineSet::from_lines([0])),
        RowGroup::Block(unit) => {
            let Some(block) = opened.hunk(*unit) else { return };
            let (removed, added) = opened.pair(*unit, at);
            let mut lines: Vec<usize> = removed.into_iter().chain(added).map(|row| block.line(row)).collect();
            lines.sort_unstable();
            (*unit, LineSet::from_lines(lines))
        }
        _ => return,
    };
    let place = (opened.file, unit, at);
    let known = shown_to.get(&place).copied().unwrap_or(0);
    if sideways > known {
        return;
    }
    if is_cut {
        shown_to.insert(place, known.max(sideways + columns));
    } else {
        state.mark_viewed(&units[unit].id, &lines);
    }
}

/// Returns the display rows of a row of a file: more than one if a line is wrapped.
fn draw_row(
    app: &App<'_>,
    opened: &FileLayout,
    piece: &RowGroup,
    at: usize,
    (width, height): (usize, usize),
) -> Vec<Line<'static>> {
    let look = app.look;
    let file = &app.sheet.files[opened.file];
    let digits = opened.digits();
    let indent = " ".repeat(digits + 4);
    let ours = |text: String, role| {
        let text = truncate(&format!("{indent}{text}"), width, look.sign(Symbol::Ellipsis));
        vec![Line::styled(text, look.style(role))]
    };
    let wrapped = |text: &str, indent: usize, role| -> Vec<Line<'static>> {
        let rows = wrap_text(text, width, indent).into_iter().take(height.max(1));
        rows.map(|row| Line::styled(row, look.style(role))).collect()
    };
    match piece {
        RowGroup::Note(text, NoteKind::Risk) => wrapped(&format!(" {text}"), 3, StyleKind::Risk),
        RowGroup::Note(text, NoteKind::Plain) => ours(text.clone(), StyleKind::Faint),
        RowGroup::Hidden(unit) => {
            let text = format!(
                "{} {} rows that change nothing but blanks (b shows them)",
                look.sign(Symbol::Gap),
                opened.size(*unit)
            );
            let mut line = ours(text, StyleKind::Faint);
            if *unit == app.at.unit && app.level != Granularity::File {
                line[0].spans.insert(0, Span::styled(look.sign(Symbol::Cursor), look.style(StyleKind::Strong)));
            }
            line
        }
        RowGroup::Comment(unit, line, text) => {
            let place = match (line, opened.hunk(*unit)) {
                (Some(line), Some(block)) if *line < block.old.len() => {
                    format!("(on old line {}) ", block.old.start + line + 1)
                }
                (Some(line), Some(block)) => {
                    format!("(on line {}) ", block.new.start + line - block.old.len() + 1)
                }
                _ => String::new(),
            };
            let text = format!("{indent}{} {place}{}", look.sign(Symbol::Comment), Escaped::new(text));
            wrapped(&text, digits + 6, StyleKind::Comment)
        }
        RowGroup::Gap(lines) => {
            let above = heading(&opened.text.old, lines.end).map(|line| {
                let room = width.saturating_sub(digits + 24);
                let fitted = layout_line(line, 0, room, |_| Style::new(), Style::new());
                fitted.spans.iter().map(|s| s.content.as_ref()).collect::<String>()
            });
            let count = lines.len();
            let noun = if count == 1 { "line" } else { "lines" };
            let text = format!("{} {count} {noun}   {}", look.sign(Symbol::Gap), above.unwrap_or_default());
            ours(text.trim_end().to_owned(), StyleKind::Faint)
        }
        RowGroup::Context(lines, new) => {
            let (old, new) = (lines.start + at, new + at);
            let content = Content {
                bytes: opened.text.old.get(old),
                side: 1,
                line: new,
                base: look.style(StyleKind::Context),
                word: Style::new(),
                words: &[],
            };
            if app.display.side_by_side {
                let half = (width.saturating_sub(MARK + 1)) / 2;
                let draw = |line| half_row(app, opened, Some(line), ' ', &content, (half, height));
                return shifted(beside(app, draw(old), draw(new), half));
            }
            shifted(half_row(app, opened, Some(new), ' ', &content, (width.saturating_sub(MARK + 1), height)))
        }
        RowGroup::Gone => {
            let content = Content {
                bytes: opened.text.old.get(at),
                side: 0,
                line: at,
                base: look.style(StyleKind::Removed),
                word: Style::new(),
                words: &[],
            };
            shifted(half_row(app, opened, Some(at), '-', &content, (width.saturating_sub(MARK + 1), height)))
        }
        RowGroup::Unit(unit) => {
            let text = unit_text(file, *unit);
            let rows = wrap_text(&format!("{}{text}", &indent[1..]), width.saturating_sub(MARK + 1), indent.len() - 1);
            decidable(app, opened, *unit, 0, rows.into_iter().map(|row| vec![Span::raw(row)]).collect(), width)
        }
        RowGroup::Edited(unit) => edited_row(app, opened, *unit, at, (width, height)),
        RowGroup::Block(unit) => hunk_row(app, opened, *unit, at, (width, height)),
    }
}

/// The spans of a display row.
type Spans = Vec<Span<'static>>;

/// Inserts an empty cursor column.
fn shifted(rows: Vec<Spans>) -> Vec<Line<'static>> {
    rows.into_iter().map(|spans| Line::from([vec![Span::raw(" ")], spans].concat())).collect()
}

/// Joins two halves into rows; the shorter half is padded.
fn beside(app: &App<'_>, left: Vec<Spans>, right: Vec<Spans>, half: usize) -> Vec<Spans> {
    let rows = left.len().max(right.len());
    let nth = |rows: &[Spans], at: usize| rows.get(at).cloned().unwrap_or_else(|| vec![Span::raw(" ".repeat(half))]);
    let divider = Span::styled(divider(app), app.look.style(StyleKind::Faint));
    (0..rows).map(|at| [nth(&left, at), vec![divider.clone()], nth(&right, at)].concat()).collect()
}

fn divider(app: &App<'_>) -> &'static str {
    if app.look.unicode { "│" } else { "|" }
}

/// Returns one half of a row, or a whole row: line number, sign and content. Continuation rows begin with a sign in the gutter,
/// which content cannot reach.
fn half_row(
    app: &App<'_>,
    opened: &FileLayout,
    number: Option<usize>,
    sign: char,
    content: &Content<'_>,
    (width, height): (usize, usize),
) -> Vec<Spans> {
    let look = app.look;
    let digits = opened.digits();
    let gutter = |number: Option<usize>, sign: char| {
        let number = number.map_or_else(|| " ".repeat(digits), |n| format!("{:>digits$}", n + 1));
        vec![
            Span::styled(number, look.style(StyleKind::Faint)),
            Span::styled(format!(" {sign} "), content.base.patch(sign_style(app, sign))),
        ]
    };
    let room = width.saturating_sub(digits + 3);
    let rows = text(app, opened, content, (room, height)).into_iter().enumerate();
    rows.map(|(at, row)| [if at == 0 { gutter(number, sign) } else { gutter(None, CONTINUED) }, row].concat()).collect()
}

fn sign_style(app: &App<'_>, sign: char) -> Style {
    match sign {
        '+' => app.look.style(StyleKind::Accepted),
        '-' => app.look.style(StyleKind::Rejected),
        _ => Style::new(),
    }
}

/// Returns content in rows of exactly `room` columns.
fn text(app: &App<'_>, opened: &FileLayout, content: &Content<'_>, (room, height): (usize, usize)) -> Vec<Spans> {
    let look = app.look;
    let has_feed = content.bytes.ends_with(b"\n");
    let bytes = if app.has_ending_unit() {
        trim_line_ending(content.bytes)
    } else {
        content.bytes.strip_suffix(b"\n").unwrap_or(content.bytes)
    };
    let found = found_in(bytes, &app.search);
    let colours = app.highlighted.get(&opened.file);
    let holds = |ranges: &[Range<usize>], at: usize| {
        let next = ranges.partition_point(|r| r.end <= at);
        ranges.get(next).is_some_and(|r| r.contains(&at))
    };
    let style = |at: usize| {
        let mut style = content.base;
        if let Some(sides) = colours {
            style = style.patch(look.class(class_at(&sides[content.side], content.line, at)));
        }
        if holds(content.words, at) {
            style = style.patch(content.word);
        }
        if holds(&found, at) {
            style = style.patch(look.style(StyleKind::Found));
        }
        style
    };
    let escape = look.style(StyleKind::Escape);
    let fitted = if app.display.wraps {
        wrap(bytes, app.sideways, (room, height), style, escape)
    } else {
        vec![layout_line(bytes, app.sideways, room, style, escape)]
    };
    let last = fitted.len() - 1;
    let rows = fitted.into_iter().enumerate();
    rows.map(|(at, row)| fill(app, content, row, room, at == last && !has_feed)).collect()
}

/// Pads a row, and adds the sign of a continued line or the note about a missing newline.
fn fill(app: &App<'_>, content: &Content<'_>, fitted: LineLayout, room: usize, lacks_feed: bool) -> Spans {
    const NO_FEED: &str = " no newline";
    let look = app.look;
    let (mut spans, mut left) = (fitted.spans, room.saturating_sub(fitted.columns));
    // The sign is in the last column, which content cannot reach.
    if fitted.more && room > 0 {
        app.goes_on.set(true);
        spans = shorten(spans, room - 1);
        let taken: usize = spans.iter().map(|s| super::outline::columns(&s.content)).sum();
        spans.push(Span::styled(" ".repeat(room - 1 - taken), content.base));
        spans.push(Span::styled(look.sign(Symbol::More), look.style(StyleKind::Strong)));
        left = 0;
    }
    if lacks_feed && left > NO_FEED.len() && app.sideways == 0 {
        spans.push(Span::styled(NO_FEED, content.base.patch(look.style(StyleKind::Faint))));
        left -= NO_FEED.len();
    }
    spans.push(Span::styled(" ".repeat(left), content.base));
    spans
}

/// Truncates spans to a width.
fn shorten(spans: Vec<Span<'static>>, width: usize) -> Vec<Span<'static>> {
    let mut left = width;
    let mut kept = Vec::new();
    for span in spans {
        let text = truncate(&span.content, left, "");
        left -= super::outline::columns(&text);
        let is_whole = text.len() == span.content.len();
        kept.push(Span::styled(text, span.style));
        if !is_whole {
            break;
        }
    }
    kept
}

fn found_in(bytes: &[u8], what: &str) -> Vec<Range<usize>> {
    let what = what.as_bytes();
    // Columns after the last are not shown.
    let bytes = &bytes[..bytes.len().min(4 * LAST_COLUMN)];
    if what.is_empty() || what.len() > bytes.len() {
        return Vec::new();
    }
    let exact = what.iter().any(u8::is_ascii_uppercase);
    let same = |window: &[u8]| if exact { window == what } else { window.eq_ignore_ascii_case(what) };
    bytes
        .windows(what.len())
        .enumerate()
        .filter(|(_, w)| same(w))
        .map(|(at, _)| at..at + what.len())
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
    let look = app.look;
    let Some(block) = opened.hunk(unit) else { return vec![Line::default()] };
    let (removed, added) = opened.pair(unit, at);
    let is_replaced = opened.edited.contains_key(&unit);
    // The lines that replace each other, side by side or one below the other.
    let other = |row: usize| block.paired_row(row);
    let (old_row, new_row) = match (removed, added) {
        (Some(old), Some(new)) => (Some(old), Some(new)),
        (Some(old), None) => (Some(old), other(old)),
        (None, Some(new)) => (other(new), Some(new)),
        (None, None) => (None, None),
    };
    let words = match (old_row, new_row) {
        (Some(old), Some(new)) => differing(
            trim_line_ending(block.content(&opened.text, old)),
            trim_line_ending(block.content(&opened.text, new)),
        ),
        _ => Default::default(),
    };
    let side = |row: usize| -> (Content<'_>, char, usize) {
        let bytes = block.content(&opened.text, row);
        let is_moved = app.moved.as_ref().is_some_and(|moved| key(bytes).is_some_and(|key| moved.contains(&key)));
        let (base, word, ranges, sign, line, side) = match block.row(row) {
            HunkLine::Removed(line) => {
                (StyleKind::Removed, StyleKind::RemovedWord, &words.0, '-', block.old.start + line, 0)
            }
            HunkLine::Added(line) => (StyleKind::Added, StyleKind::AddedWord, &words.1, '+', block.new.start + line, 1),
        };
        let base = if is_moved || is_replaced && sign == '+' { StyleKind::Moved } else { base };
        let content = Content { bytes, side, line, base: look.style(base), word: look.style(word), words: ranges };
        (content, sign, line)
    };
    let room = width.saturating_sub(MARK + 1);
    let spans = if app.display.side_by_side {
        let half = room / 2;
        let empty = Content { bytes: b"\n", side: 0, line: 0, base: Style::new(), word: Style::new(), words: &[] };
        let draw = |row: Option<usize>| match row {
            Some(row) => {
                let (content, sign, line) = side(row);
                half_row(app, opened, Some(line), sign, &content, (half, height))
            }
            None => half_row(app, opened, None, ' ', &empty, (half, height)),
        };
        beside(app, draw(removed), draw(added), half)
    } else {
        let Some(row) = removed.or(added) else { return vec![Line::default()] };
        let (content, sign, line) = side(row);
        half_row(app, opened, Some(line), sign, &content, (room, height))
    };
    decidable(app, opened, unit, at, spans, width)
}

/// Adds the cursor on the left and the decision mark on the right.
fn decidable(
    app: &App<'_>,
    opened: &FileLayout,
    unit: usize,
    at: usize,
    content: Vec<Spans>,
    width: usize,
) -> Vec<Line<'static>> {
    let look = app.look;
    let id = &app.sheet.files[opened.file].units[unit].id;
    let is_edited = matches!(app.state.decisions.get(id), Some(UnitDecision::Edited(_)));
    let of = |line: usize| app.state.decisions.line(id, line);
    let (mark, role) = if app.sheet.files[opened.file].is_refused() {
        (look.sign(Symbol::Refused), StyleKind::Risk)
    } else if is_edited {
        ("e", StyleKind::Accepted)
    } else {
        let decisions = match opened.hunk(unit) {
            Some(block) => {
                let (removed, added) = opened.pair(unit, at);
                let both = removed.into_iter().chain(added).map(|row| of(block.line(row)));
                both.collect::<Vec<_>>()
            }
            None => vec![of(0)],
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
    let is_first = match app.level {
        Granularity::Line => (unit, at) == (app.at.unit, app.at.row),
        _ => unit == app.at.unit && at == app.part().start,
    };
    let is_meant = match app.level {
        Granularity::File => false,
        Granularity::Block => unit == app.at.unit && app.part().contains(&at),
        Granularity::Line => {
            let (first, last) = app.range();
            (first..=last).contains(&(unit, at))
        }
    };
    let cursor = match (is_first && app.level != Granularity::File, is_meant) {
        (true, _) => look.sign(Symbol::Cursor),
        (false, true) => look.sign(Symbol::Bar),
        // The start of a part of a split hunk.
        _ if at > 0 && app.begins_part(unit, at) => look.sign(Symbol::Cut),
        _ => " ",
    };
    let room = width.saturating_sub(MARK + 1);
    let mark_style = if is_meant && app.level == Granularity::Line {
        look.style(role).patch(look.style(StyleKind::Cursor))
    } else {
        look.style(role)
    };
    let taken = |spans: &[Span<'_>]| spans.iter().map(|s| super::outline::columns(&s.content)).sum::<usize>();
    let one = |(nth, content): (usize, Spans)| {
        let content = if taken(&content) > room { shorten(content, room) } else { content };
        let pad = " ".repeat(room.saturating_sub(taken(&content)));
        // The bar continues beside wrapped rows.
        let sign = match (nth, is_meant) {
            (0, _) => cursor,
            (_, true) => look.sign(Symbol::Bar),
            _ => " ",
        };
        let mut spans = vec![Span::styled(sign, look.style(StyleKind::Strong))];
        spans.extend(content);
        spans.push(Span::raw(pad));
        if nth == 0 {
            spans.push(Span::raw(" "));
            spans.push(Span::styled(format!("[{mark}]"), mark_style));
        }
        Line::from(spans)
    };
    content.into_iter().enumerate().map(one).collect()
}

fn edited_row(
    app: &App<'_>,
    opened: &FileLayout,
    unit: usize,
    at: usize,
    (width, height): (usize, usize),
) -> Vec<Line<'static>> {
    let look = app.look;
    let digits = opened.digits();
    let Some(line) = at.checked_sub(1) else {
        let text = format!("{} your text, in its place:", " ".repeat(digits + 3));
        return vec![Line::styled(truncate(&text, width, look.sign(Symbol::Ellipsis)), look.style(StyleKind::Comment))];
    };
    let Some(lines) = opened.edited.get(&unit) else { return vec![Line::default()] };
    let content = Content {
        bytes: lines.get(line),
        side: 1,
        line: usize::MAX,
        base: look.style(StyleKind::Added),
        word: Style::new(),
        words: &[],
    };
    let mut rows = shifted(half_row(app, opened, None, '+', &content, (width.saturating_sub(MARK + 1), height)));
    rows[0].spans.push(Span::styled(" [+]", look.style(StyleKind::Accepted)));
    rows
}
