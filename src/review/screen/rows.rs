//! The rows of a file: context, blocks with a mark for each line, findings, comments.

use std::ops::Range;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::app::{App, Level};
use super::fit::{LAST_COLUMN, clip, fit};
use super::moved::key;
use super::palette::{Role, Sign};
use super::pieces::{Opened, Piece, Tone, heading, unit_text};
use super::syntax::class_at;
use crate::changes::{LineSet, Row, Unit, without_ending};
use crate::display::Shown;
use crate::review::words::differing;
use crate::review::{Decision, Ruling, State};

/// Columns of a mark, with the blank before it.
const MARK: usize = 4;
/// Rows that stay in sight around the cursor, where there is room.
const MARGIN: usize = 3;

/// What a line of content looks like, besides what its bytes are.
struct Content<'a> {
    bytes: &'a [u8],
    /// Which side it is of, and which line: for the colours of the language.
    side: usize,
    line: usize,
    base: Style,
    word: Style,
    words: &'a [Range<usize>],
}

/// Draws the rows in sight, and remembers which lines those were.
pub fn rows(app: &mut App<'_>, frame: &mut Frame<'_>, area: Rect) {
    app.hits.rows = area;
    app.goes_on.set(false);
    scroll(app, usize::from(area.height));
    let Some(opened) = &app.opened else { return };
    let (from, height, width) = (app.scroll, usize::from(area.height), usize::from(area.width));
    let shown = from..opened.rows().min(from + height);
    let lines: Vec<Line<'static>> = (shown.clone())
        .filter_map(|row| opened.at(row).map(|(piece, at)| draw_row(app, opened, piece, at, width)))
        .collect();
    see(&mut app.state, &app.sheet.files[opened.file].units, opened, shown);
    frame.render_widget(Paragraph::new(lines), area);
}

/// Moves the scroll position so that the cursor is in sight.
fn scroll(app: &mut App<'_>, height: usize) {
    let Some(opened) = &app.opened else { return };
    let last = opened.rows().saturating_sub(height);
    if app.follows
        && let Some(unit) = opened.rows_of_unit(app.at.unit)
    {
        let part = if app.level == Level::Line { app.at.row..app.at.row + 1 } else { app.part() };
        let size = unit.len();
        let rows = unit.start + part.start.min(size)..unit.start + part.end.min(size);
        // At the beginning also what stands above is of interest: findings.
        let is_first = app.at.unit == 0 && part.start == 0;
        let top = if is_first && rows.start < height / 2 { 0 } else { rows.start.saturating_sub(MARGIN) };
        let bottom = rows.end + MARGIN;
        if top < app.scroll || rows.len() + MARGIN >= height {
            app.scroll = top;
        } else if bottom > app.scroll + height {
            app.scroll = bottom.saturating_sub(height).min(top);
        }
    }
    app.scroll = app.scroll.min(last);
}

/// Remembers the lines of blocks that were drawn.
fn see(state: &mut State, units: &[Unit], opened: &Opened, rows: Range<usize>) {
    let mut row = rows.start;
    while row < rows.end {
        let Some((piece, at)) = opened.at(row) else { break };
        match piece {
            Piece::Unit(unit) => {
                state.see(&units[*unit].id, &LineSet::of([0]));
                row += 1;
            }
            Piece::Block(unit) => {
                let shown = at..opened.size(*unit).min(at + (rows.end - row));
                if let Some(block) = opened.block(*unit) {
                    let both = shown.clone().map(|row| opened.pair(*unit, row));
                    let mut lines: Vec<usize> =
                        both.flat_map(|(a, b)| a.into_iter().chain(b)).map(|row| block.line(row)).collect();
                    lines.sort_unstable();
                    state.see(&units[*unit].id, &LineSet::of(lines));
                }
                row += shown.len().max(1);
            }
            _ => row += 1,
        }
    }
}

fn draw_row(app: &App<'_>, opened: &Opened, piece: &Piece, at: usize, width: usize) -> Line<'static> {
    let look = app.look;
    let file = &app.sheet.files[opened.file];
    let digits = opened.digits();
    let indent = " ".repeat(digits + 4);
    let ours = |text: String, role| {
        let text = clip(&format!("{indent}{text}"), width, look.sign(Sign::Ellipsis));
        Line::styled(text, look.style(role))
    };
    match piece {
        Piece::Note(text, Tone::Risk) => {
            Line::styled(clip(&format!(" {text}"), width, look.sign(Sign::Ellipsis)), look.style(Role::Risk))
        }
        Piece::Note(text, Tone::Plain) => ours(text.clone(), Role::Faint),
        Piece::Hidden(unit) => {
            let text = format!(
                "{} {} rows that change nothing but blanks (b shows them)",
                look.sign(Sign::Gap),
                opened.size(*unit)
            );
            let mut line = ours(text, Role::Faint);
            if *unit == app.at.unit && app.level != Level::File {
                line.spans.insert(0, Span::styled(look.sign(Sign::Cursor), look.style(Role::Strong)));
            }
            line
        }
        Piece::Comment(unit, line, text) => {
            let place = match (line, opened.block(*unit)) {
                (Some(line), Some(block)) if *line < block.old.len() => {
                    format!("(on old line {}) ", block.old.start + line + 1)
                }
                (Some(line), Some(block)) => {
                    format!("(on line {}) ", block.new.start + line - block.old.len() + 1)
                }
                _ => String::new(),
            };
            ours(format!("{} {place}{}", look.sign(Sign::Comment), Shown::new(text)), Role::Comment)
        }
        Piece::Gap(lines) => {
            let above = heading(&opened.text.old, lines.end).map(|line| {
                let room = width.saturating_sub(digits + 24);
                let fitted = fit(line, 0, room, |_| Style::new(), Style::new());
                fitted.spans.iter().map(|s| s.content.as_ref()).collect::<String>()
            });
            let count = lines.len();
            let noun = if count == 1 { "line" } else { "lines" };
            let text = format!("{} {count} {noun}   {}", look.sign(Sign::Gap), above.unwrap_or_default());
            ours(text.trim_end().to_owned(), Role::Faint)
        }
        Piece::Context(lines, new) => {
            let (old, new) = (lines.start + at, new + at);
            let content = Content {
                bytes: opened.text.old.get(old),
                side: 1,
                line: new,
                base: look.style(Role::Context),
                word: Style::new(),
                words: &[],
            };
            if app.display.beside {
                let half = (width.saturating_sub(MARK + 1)) / 2;
                let mut line = half_row(app, opened, Some(old), ' ', &content, half);
                line.push(Span::styled(divider(app), look.style(Role::Faint)));
                line.extend(half_row(app, opened, Some(new), ' ', &content, half));
                return Line::from([vec![Span::raw(" ")], line].concat());
            }
            let mut spans = vec![Span::raw(" ")];
            spans.extend(half_row(app, opened, Some(new), ' ', &content, width.saturating_sub(MARK + 1)));
            Line::from(spans)
        }
        Piece::Gone => {
            let content = Content {
                bytes: opened.text.old.get(at),
                side: 0,
                line: at,
                base: look.style(Role::Removed),
                word: Style::new(),
                words: &[],
            };
            let mut spans = vec![Span::raw(" ")];
            spans.extend(half_row(app, opened, Some(at), '-', &content, width.saturating_sub(MARK + 1)));
            Line::from(spans)
        }
        Piece::Unit(unit) => {
            let text = unit_text(file, *unit);
            decidable(app, opened, *unit, 0, vec![Span::raw(format!("{}{text}", &indent[1..]))], width)
        }
        Piece::Edited(unit) => edited_row(app, opened, *unit, at, width),
        Piece::Block(unit) => block_row(app, opened, *unit, at, width),
    }
}

fn divider(app: &App<'_>) -> &'static str {
    if app.look.unicode { "│" } else { "|" }
}

/// One half of a row, or all of it: number, sign, content.
fn half_row(
    app: &App<'_>,
    opened: &Opened,
    number: Option<usize>,
    sign: char,
    content: &Content<'_>,
    width: usize,
) -> Vec<Span<'static>> {
    let look = app.look;
    let digits = opened.digits();
    let number = number.map_or_else(|| " ".repeat(digits), |n| format!("{:>digits$}", n + 1));
    let mut spans = vec![
        Span::styled(number, look.style(Role::Faint)),
        Span::styled(format!(" {sign} "), content.base.patch(sign_style(app, sign))),
    ];
    let room = width.saturating_sub(digits + 3);
    spans.extend(text(app, opened, content, room));
    spans
}

fn sign_style(app: &App<'_>, sign: char) -> Style {
    match sign {
        '+' => app.look.style(Role::Accepted),
        '-' => app.look.style(Role::Rejected),
        _ => Style::new(),
    }
}

/// Content in exactly so many columns.
fn text(app: &App<'_>, opened: &Opened, content: &Content<'_>, room: usize) -> Vec<Span<'static>> {
    let look = app.look;
    let has_feed = content.bytes.ends_with(b"\n");
    let bytes = if app.has_ending_unit() {
        without_ending(content.bytes)
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
            style = style.patch(look.style(Role::Found));
        }
        style
    };
    let fitted = fit(bytes, app.sideways, room, style, look.style(Role::Escape));
    let (mut spans, mut left) = (fitted.spans, room.saturating_sub(fitted.columns));
    // A sign of ours at the edge, where no content can stand.
    if fitted.more && room > 0 {
        app.goes_on.set(true);
        spans = shorten(spans, room - 1);
        let taken: usize = spans.iter().map(|s| super::draw::columns(&s.content)).sum();
        spans.push(Span::styled(" ".repeat(room - 1 - taken), content.base));
        spans.push(Span::styled(look.sign(Sign::More), look.style(Role::Strong)));
        left = 0;
    }
    const NO_FEED: &str = " no newline";
    if !has_feed && left > NO_FEED.len() && app.sideways == 0 {
        spans.push(Span::styled(NO_FEED, content.base.patch(look.style(Role::Faint))));
        left -= NO_FEED.len();
    }
    spans.push(Span::styled(" ".repeat(left), content.base));
    spans
}

/// Drops columns from the end.
fn shorten(spans: Vec<Span<'static>>, width: usize) -> Vec<Span<'static>> {
    let mut left = width;
    let mut kept = Vec::new();
    for span in spans {
        let text = clip(&span.content, left, "");
        left -= super::draw::columns(&text);
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
    // What lies behind the last column is not shown.
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

fn block_row(app: &App<'_>, opened: &Opened, unit: usize, at: usize, width: usize) -> Line<'static> {
    let look = app.look;
    let Some(block) = opened.block(unit) else { return Line::default() };
    let (removed, added) = opened.pair(unit, at);
    let is_replaced = opened.edited.contains_key(&unit);
    // What came of what: beside each other, or one below the other.
    let other = |row: usize| block.partner(row);
    let (old_row, new_row) = match (removed, added) {
        (Some(old), Some(new)) => (Some(old), Some(new)),
        (Some(old), None) => (Some(old), other(old)),
        (None, Some(new)) => (other(new), Some(new)),
        (None, None) => (None, None),
    };
    let words = match (old_row, new_row) {
        (Some(old), Some(new)) => differing(
            without_ending(block.content(&opened.text, old)),
            without_ending(block.content(&opened.text, new)),
        ),
        _ => Default::default(),
    };
    let side = |row: usize| -> (Content<'_>, char, usize) {
        let bytes = block.content(&opened.text, row);
        let is_moved = app.moved.as_ref().is_some_and(|moved| key(bytes).is_some_and(|key| moved.contains(&key)));
        let (base, word, ranges, sign, line, side) = match block.row(row) {
            Row::Removed(line) => (Role::Removed, Role::RemovedWord, &words.0, '-', block.old.start + line, 0),
            Row::Added(line) => (Role::Added, Role::AddedWord, &words.1, '+', block.new.start + line, 1),
        };
        let base = if is_moved || is_replaced && sign == '+' { Role::Moved } else { base };
        let content = Content { bytes, side, line, base: look.style(base), word: look.style(word), words: ranges };
        (content, sign, line)
    };
    let room = width.saturating_sub(MARK + 1);
    let spans = if app.display.beside {
        let half = room / 2;
        let empty = Content { bytes: b"\n", side: 0, line: 0, base: Style::new(), word: Style::new(), words: &[] };
        let draw = |row: Option<usize>| match row {
            Some(row) => {
                let (content, sign, line) = side(row);
                half_row(app, opened, Some(line), sign, &content, half)
            }
            None => half_row(app, opened, None, ' ', &empty, half),
        };
        let mut spans = draw(removed);
        spans.push(Span::styled(divider(app), look.style(Role::Faint)));
        spans.extend(draw(added));
        spans
    } else {
        let Some(row) = removed.or(added) else { return Line::default() };
        let (content, sign, line) = side(row);
        half_row(app, opened, Some(line), sign, &content, room)
    };
    decidable(app, opened, unit, at, spans, width)
}

/// A row with the cursor at its left and its mark at its right.
fn decidable(
    app: &App<'_>,
    opened: &Opened,
    unit: usize,
    at: usize,
    content: Vec<Span<'static>>,
    width: usize,
) -> Line<'static> {
    let look = app.look;
    let id = &app.sheet.files[opened.file].units[unit].id;
    let is_edited = matches!(app.state.decisions.of(id), Some(Ruling::Edited(_)));
    let of = |line: usize| app.state.decisions.line(id, line);
    let (mark, role) = if app.sheet.files[opened.file].is_refused() {
        (look.sign(Sign::Refused), Role::Risk)
    } else if is_edited {
        ("e", Role::Accepted)
    } else {
        let decisions = match opened.block(unit) {
            Some(block) => {
                let (removed, added) = opened.pair(unit, at);
                let both = removed.into_iter().chain(added).map(|row| of(block.line(row)));
                both.collect::<Vec<_>>()
            }
            None => vec![of(0)],
        };
        match decisions[..] {
            [Some(Decision::Accepted)] | [Some(Decision::Accepted), Some(Decision::Accepted)] => ("+", Role::Accepted),
            [Some(Decision::Rejected)] | [Some(Decision::Rejected), Some(Decision::Rejected)] => ("x", Role::Rejected),
            [None] | [None, None] | [] => (" ", Role::Faint),
            _ => ("~", Role::Strong),
        }
    };
    let is_first = match app.level {
        Level::Line => (unit, at) == (app.at.unit, app.at.row),
        _ => unit == app.at.unit && at == app.part().start,
    };
    let is_meant = match app.level {
        Level::File => false,
        Level::Block => unit == app.at.unit && app.part().contains(&at),
        Level::Line => {
            let (first, last) = app.range();
            (first..=last).contains(&(unit, at))
        }
    };
    let cursor = match (is_first && app.level != Level::File, is_meant) {
        (true, _) => look.sign(Sign::Cursor),
        (false, true) => look.sign(Sign::Bar),
        // Where a block is parted.
        _ if at > 0 && app.begins_part(unit, at) => look.sign(Sign::Cut),
        _ => " ",
    };
    let room = width.saturating_sub(MARK + 1);
    let taken: usize = content.iter().map(|s| super::draw::columns(&s.content)).sum();
    let content = if taken > room { shorten(content, room) } else { content };
    let taken: usize = content.iter().map(|s| super::draw::columns(&s.content)).sum();
    let mut spans = vec![Span::styled(cursor, look.style(Role::Strong))];
    spans.extend(content);
    spans.push(Span::raw(" ".repeat(room.saturating_sub(taken))));
    let mark_style = if is_meant && app.level == Level::Line {
        look.style(role).patch(look.style(Role::Cursor))
    } else {
        look.style(role)
    };
    spans.push(Span::raw(" "));
    spans.push(Span::styled(format!("[{mark}]"), mark_style));
    Line::from(spans)
}

fn edited_row(app: &App<'_>, opened: &Opened, unit: usize, at: usize, width: usize) -> Line<'static> {
    let look = app.look;
    let digits = opened.digits();
    let Some(line) = at.checked_sub(1) else {
        let text = format!("{} your text, in its place:", " ".repeat(digits + 3));
        return Line::styled(clip(&text, width, look.sign(Sign::Ellipsis)), look.style(Role::Comment));
    };
    let Some(lines) = opened.edited.get(&unit) else { return Line::default() };
    let content = Content {
        bytes: lines.get(line),
        side: 1,
        line: usize::MAX,
        base: look.style(Role::Added),
        word: Style::new(),
        words: &[],
    };
    let mut spans = vec![Span::raw(" ")];
    spans.extend(half_row(app, opened, None, '+', &content, width.saturating_sub(MARK + 1)));
    spans.push(Span::styled(" [+]", look.style(Role::Accepted)));
    Line::from(spans)
}
