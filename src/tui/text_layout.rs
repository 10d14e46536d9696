//! Lays out lines of untrusted bytes in columns: escaped, with tabs as spaces, whole wide characters, and from any column.

use std::ops::ControlFlow;

use ratatui::style::Style;
use ratatui::text::Span;
use unicode_width::UnicodeWidthChar;

use crate::core::escape::{Escaped, EscapedChunk};

/// Maximum number of columns shown of a line. The rest of a longer line is only visible in an editor.
pub(super) const LAST_COLUMN: usize = 20_000;
/// Columns between tab stops.
const TAB_WIDTH: usize = 8;
/// Maximum number of combining marks drawn on one character. Further marks are shown as escapes.
const MAX_MARKS: usize = 4;

/// A part of a line, ready to be drawn.
#[derive(Debug, Default)]
pub(super) struct LineLayout {
    /// The spans, at most as wide as requested.
    pub spans: Vec<Span<'static>>,
    pub columns: usize,
    /// Whether the line continues to the right.
    pub is_continued: bool,
}

/// Lays out `width` columns of a line, starting at column `from`. `style` returns the style of the byte at an offset, and
/// `escape` is the style of escapes.
pub(super) fn layout_line(
    bytes: &[u8],
    from: usize,
    width: usize,
    style: impl Fn(usize) -> Style,
    escape: Style,
) -> LineLayout {
    let mut cells = CellWriter { from, width, column: 0, layout: LineLayout::default() };
    let mut marks = MAX_MARKS;
    let flow = Escaped::from_line(bytes).for_each_chunk(|at, piece| {
        match piece {
            EscapedChunk::Plain('\t') => {
                let to = cells.column / TAB_WIDTH * TAB_WIDTH + TAB_WIDTH;
                while cells.column < to {
                    cells.put_char(' ', 1, style(at))?;
                }
                marks = 0;
            }
            EscapedChunk::Plain(c) => match c.width().unwrap_or(0) {
                // A combining mark needs a base character, and a few marks suffice for any language.
                0 if marks < MAX_MARKS => {
                    marks += 1;
                    cells.push_mark(c);
                }
                0 => cells.put_text(&format!("<U+{:04X}>", u32::from(c)), escape)?,
                columns => {
                    marks = 0;
                    cells.put_char(c, columns, style(at))?;
                }
            },
            EscapedChunk::Escape(text) => {
                marks = MAX_MARKS;
                cells.put_text(&text, escape)?;
            }
        }
        ControlFlow::Continue(())
    });
    cells.layout.is_continued = flow.is_break();
    cells.layout
}

/// Lays out a line from column `from` in rows of a maximum width and number. A wide character is never split. The last row is
/// marked as continued if some of the line did not fit.
pub(super) fn wrap_line(
    bytes: &[u8],
    from: usize,
    (width, max_rows): (usize, usize),
    style: impl Fn(usize) -> Style,
    escape: Style,
) -> Vec<LineLayout> {
    let mut rows = RowWrapper {
        from,
        width: width.max(2),
        max_rows: max_rows.max(1),
        column: 0,
        rows: vec![LineLayout::default()],
    };
    let flow = Escaped::from_line(bytes).for_each_chunk(|at, piece| match piece {
        EscapedChunk::Plain('\t') => {
            let to = rows.column / TAB_WIDTH * TAB_WIDTH + TAB_WIDTH;
            (rows.column..to).try_for_each(|_| rows.put_char(' ', 1, style(at)))
        }
        EscapedChunk::Plain(c) => match c.width().unwrap_or(0) {
            0 => {
                rows.push_mark(c);
                ControlFlow::Continue(())
            }
            columns => rows.put_char(c, columns, style(at)),
        },
        EscapedChunk::Escape(text) => text.chars().try_for_each(|c| rows.put_char(c, 1, escape)),
    });
    let mut rows = rows.rows;
    if let Some(last) = rows.last_mut() {
        last.is_continued = flow.is_break();
    }
    rows
}

/// The rows of a wrapped line.
struct RowWrapper {
    from: usize,
    width: usize,
    max_rows: usize,
    column: usize,
    rows: Vec<LineLayout>,
}

impl RowWrapper {
    fn put_char(&mut self, c: char, columns: usize, style: Style) -> ControlFlow<()> {
        if self.column >= LAST_COLUMN {
            return ControlFlow::Break(());
        }
        self.column += columns;
        if self.column <= self.from {
            return ControlFlow::Continue(());
        }
        if self.rows.last().is_none_or(|row| row.columns + columns > self.width) {
            if self.rows.len() == self.max_rows {
                return ControlFlow::Break(());
            }
            self.rows.push(LineLayout::default());
        }
        if let Some(row) = self.rows.last_mut() {
            row.push(c, columns, style);
        }
        ControlFlow::Continue(())
    }

    fn push_mark(&mut self, mark: char) {
        if self.column > self.from
            && let Some(last) = self.rows.last_mut().and_then(|row| row.spans.last_mut())
        {
            last.content.to_mut().push(mark);
        }
    }
}

impl LineLayout {
    fn push(&mut self, c: char, columns: usize, style: Style) {
        self.columns += columns;
        match self.spans.last_mut() {
            Some(last) if last.style == style => last.content.to_mut().push(c),
            _ => self.spans.push(Span::styled(c.to_string(), style)),
        }
    }
}

/// Wraps escaped or generated text at blanks if possible. Continuation rows are indented by `indent` columns.
#[must_use]
pub(super) fn wrap_text(text: &str, width: usize, indent: usize) -> Vec<String> {
    let columns = |text: &str| text.chars().map(|c| c.width().unwrap_or(0)).sum::<usize>();
    let width = width.max(indent + 8);
    let (mut rows, mut rest) = (Vec::new(), text.to_owned());
    while columns(&rest) > width {
        let mut used = 0;
        let cut = rest
            .char_indices()
            .find(|(_, c)| {
                used += c.width().unwrap_or(0);
                used > width
            })
            .map_or(rest.len(), |(at, _)| at);
        let blank = rest[..cut].rfind(' ').filter(|at| *at > indent && columns(&rest[..*at]) * 2 > width);
        let (row, next) = rest.split_at(blank.unwrap_or(cut));
        rows.push(row.to_owned());
        rest = format!("{}{}", " ".repeat(indent), if blank.is_some() { &next[1..] } else { next });
    }
    rows.push(rest);
    rows
}

struct CellWriter {
    from: usize,
    width: usize,
    column: usize,
    layout: LineLayout,
}

impl CellWriter {
    fn put_text(&mut self, text: &str, style: Style) -> ControlFlow<()> {
        text.chars().try_for_each(|c| self.put_char(c, 1, style))
    }

    fn put_char(&mut self, c: char, columns: usize, style: Style) -> ControlFlow<()> {
        let start = self.column;
        let end = self.from + self.width;
        if start >= end || start >= LAST_COLUMN {
            return ControlFlow::Break(());
        }
        self.column += columns;
        if self.column <= self.from {
            return ControlFlow::Continue(());
        }
        // The visible half of a wide character is drawn as a blank.
        if start < self.from || self.column > end {
            let visible = self.column.min(end) - start.max(self.from);
            (0..visible).for_each(|_| self.push(' ', 1, style));
        } else {
            self.push(c, columns, style);
        }
        if self.column > end { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn push(&mut self, c: char, columns: usize, style: Style) {
        self.layout.push(c, columns, style);
    }

    fn push_mark(&mut self, mark: char) {
        if self.column > self.from
            && let Some(last) = self.layout.spans.last_mut()
        {
            last.content.to_mut().push(mark);
        }
    }
}

/// Truncates escaped or generated text to a width. Truncated text ends with `sign`.
#[must_use]
pub(super) fn truncate_text(text: &str, width: usize, sign: &str) -> String {
    let columns = |text: &str| text.chars().map(|c| c.width().unwrap_or(0)).sum::<usize>();
    if columns(text) <= width {
        return text.to_owned();
    }
    let (mut clipped, mut remaining) = (String::new(), width.saturating_sub(columns(sign)));
    for c in text.chars() {
        let char_width = c.width().unwrap_or(0);
        if char_width > remaining {
            break;
        }
        remaining -= char_width;
        clipped.push(c);
    }
    if width > 0 {
        clipped += sign;
    }
    clipped
}

/// Truncates the start of text, because the end of a path is its most specific part.
#[must_use]
pub(super) fn truncate_start(text: &str, width: usize, sign: &str) -> String {
    let columns = |text: &str| text.chars().map(|c| c.width().unwrap_or(0)).sum::<usize>();
    if columns(text) <= width {
        return text.to_owned();
    }
    let mut remaining = width.saturating_sub(columns(sign));
    let mut kept: Vec<char> = Vec::new();
    for c in text.chars().rev() {
        let char_width = c.width().unwrap_or(0);
        if char_width > remaining {
            break;
        }
        remaining -= char_width;
        kept.push(c);
    }
    let sign = if width > 0 { sign } else { "" };
    sign.chars().chain(kept.into_iter().rev()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(bytes: &[u8], start: usize, width: usize) -> String {
        let layout = layout_line(bytes, start, width, |_| Style::new(), Style::new());
        layout.spans.iter().map(|s| s.content.as_ref()).collect()
    }

    #[test]
    fn lines_are_truncated_by_column() {
        assert_eq!(text(b"abcdef", 2, 3), "cde");
        assert_eq!(text(b"a\tb", 0, 20), "a       b");
        assert_eq!(text(b"a\tb", 6, 20), "  b");
        assert_eq!(text("a日本".as_bytes(), 0, 3), "a日");
        assert_eq!(text("a日本".as_bytes(), 0, 4), "a日 ", "half of a wide character is a space");
        assert_eq!(text("a日本".as_bytes(), 2, 9), " 本");
        assert_eq!(text("x\u{202e}y".as_bytes(), 0, 20), "x<U+202E>y");
        assert_eq!(text("\u{301}x".as_bytes(), 0, 20), "<U+0301>x", "a combining mark without a base character");
        let marks = "\u{301}".repeat(6);
        assert_eq!(text(format!("e{marks}").as_bytes(), 0, 40), format!("e{}<U+0301><U+0301>", "\u{301}".repeat(4)));
        assert!(layout_line(&[b'a'; 50_000], 0, 10, |_| Style::new(), Style::new()).is_continued);
        assert_eq!(text(&[b'a'; 50_000], LAST_COLUMN - 3, 10), "aaa");
    }

    #[test]
    fn paths_are_truncated_at_the_start() {
        assert_eq!(truncate_start("src/deep/name.rs", 10, "…"), "…p/name.rs");
        assert_eq!(
            (truncate_text("abc", 3, "…"), truncate_text("abcd", 3, "…"), truncate_text("abc", 0, "…")),
            ("abc".into(), "ab…".into(), String::new())
        );
    }

    #[test]
    fn wrapping_keeps_every_character_whole() {
        let rows = |bytes: &[u8], start, width, max_rows| -> (Vec<String>, bool) {
            let rows = wrap_line(bytes, start, (width, max_rows), |_| Style::new(), Style::new());
            let is_continued = rows.last().is_some_and(|row| row.is_continued);
            (rows.iter().map(|row| row.spans.iter().map(|s| s.content.as_ref()).collect()).collect(), is_continued)
        };
        let strings = |rows: &[&str]| rows.iter().map(|&r| r.to_owned()).collect::<Vec<_>>();
        assert_eq!(rows(b"abcdefg", 0, 3, 9), (strings(&["abc", "def", "g"]), false));
        assert_eq!(rows(b"abcdef", 0, 3, 9), (strings(&["abc", "def"]), false));
        assert_eq!(rows(b"abcdefg", 0, 3, 2), (strings(&["abc", "def"]), true));
        assert_eq!(rows(b"abcdefg", 2, 3, 9), (strings(&["cde", "fg"]), false));
        assert_eq!(rows("a日本b".as_bytes(), 0, 4, 9), (strings(&["a日", "本b"]), false));
        assert_eq!(rows(b"", 0, 4, 9), (strings(&[""]), false));
        assert_eq!(rows("ab\u{202e}".as_bytes(), 0, 80, 9).0.len(), 1);
        assert!(rows(&[b'a'; 50_000], 0, 10, 100_000).1, "text after the last column is not shown");
        assert_eq!(wrap_text("one two three four", 11, 2), ["one two", "  three", "  four"]);
        assert_eq!(wrap_text("abcdefghijklmnop", 12, 2), ["abcdefghijkl", "  mnop"]);
        assert_eq!(wrap_text("short", 12, 2), ["short"]);
    }

    proptest! {
        #[test]
        fn layout_never_exceeds_requested_width(
            line in "([a\u{65e5}\u{301}\t\u{202e}<]|\u{1f980}){0,40}", start in 0_usize..30, width in 0_usize..30,
        ) {
            let layout = layout_line(line.as_bytes(), start, width, |_| Style::new(), Style::new());
            let text: String = layout.spans.iter().map(|s| s.content.as_ref()).collect();
            let columns: usize = text.chars().map(|c| c.width().unwrap_or(0)).sum();
            prop_assert_eq!(columns, layout.columns);
            prop_assert!(columns <= width);
            prop_assert!(!text.chars().any(crate::core::escape::is_hidden));
        }
    }
}
