//! Renders changes as escaped text, with a gutter before every line of content.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;

use unicode_width::UnicodeWidthChar;

use crate::changes::{ContextHunk, ContextLine, Finding, UnitKind, replaced_lines, split_lines, trim_line_ending};
use crate::core::escape;
use crate::core::escape::{Escaped, EscapedChunk};
use crate::review::{ReviewFile, describe_unit, finding_line, intraline_diff};

/// A text renderer, with or without colors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TextRenderer {
    pub color: bool,
    /// The columns of the terminal, if the output is one. Longer lines continue behind a gutter: wrapped by the terminal, they
    /// would begin at the margin, where only Airlock's own text may be.
    pub width: Option<usize>,
}

/// The gutter of a row that continues the row before it.
const CONTINUATION_SIGN: char = '~';
/// Minimum width for wrapping. A narrower row would have no space for useful content.
const MIN_WRAP_WIDTH: usize = 20;
/// Maximum number of consecutive blank lines that are shown one by one.
const MAX_BLANK_LINES: usize = 40;

const BOLD: &str = "1";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const CYAN: &str = "36";

impl TextRenderer {
    fn colorize_text(self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Returns the heading of a file: the kind of change, the path and the findings.
    #[must_use]
    pub(crate) fn file_heading(self, file: &ReviewFile<'_>) -> String {
        let change = file.change;
        let note = match &change.renamed_from {
            Some(from) if !change.is_rename() => format!("  (probably renamed from {})", Escaped::new(from.as_bytes())),
            _ => String::new(),
        };
        let title = format!("{}  {}", file.kind_text(), change.path_label("→"));
        let mut out = format!("{}{note}\n", self.colorize_text(BOLD, &title));
        for finding in &change.findings {
            out += &self.finding_row(finding);
        }
        out
    }

    /// Returns the row of a finding.
    #[must_use]
    pub(crate) fn finding_row(self, finding: &Finding) -> String {
        self.note_row(&finding_line(finding))
    }

    /// Returns a file's content, at most `limit` lines.
    #[must_use]
    pub(crate) fn file_content(self, content: &[u8], limit: usize) -> String {
        let lines = split_lines(content);
        let shown = lines.iter().take(limit).map(|line| ContextLine::Context(line)).collect();
        let mut out =
            self.hunk_rows(&ContextHunk { old: 0..lines.len(), new: 0..lines.len(), lines: shown }, usize::MAX);
        if lines.len() > limit {
            out += &self.note_row(&format!("… {} more lines", lines.len() - limit));
        }
        out
    }

    /// Returns a line as one row, with the words that its partner lacks in reverse. `plain` is the same row without emphasis.
    /// It is used unchanged if the text differs, for example because tabs were expanded.
    fn emphasized_row(self, code: &str, sign: char, bytes: &[u8], words: &[Range<usize>], plain: &str) -> String {
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let (mut text, mut is_on) = (format!("\x1b[{code}m{sign}"), false);
        let mut emphasized = String::new();
        let _ = Escaped::from_line(bytes).for_each_chunk(|at, piece| {
            let is_word = words.iter().any(|range| range.contains(&at));
            if is_word != is_on {
                text += if is_word { "\x1b[7m" } else { "\x1b[27m" };
                is_on = is_word;
            }
            let piece = match piece {
                EscapedChunk::Plain(c) => c.to_string(),
                EscapedChunk::Escape(escape) => escape,
            };
            text += &piece;
            emphasized += &piece;
            std::ops::ControlFlow::<()>::Continue(())
        });
        if emphasized == plain { text + "\x1b[0m" } else { self.colorize_text(code, &format!("{sign}{plain}")) }
    }

    /// Returns a highlighted note. The text must be escaped.
    #[must_use]
    pub(crate) fn note_row(self, text: &str) -> String {
        self.colorize_text(YELLOW, text) + "\n"
    }

    /// Returns the row of a unit without lines.
    #[must_use]
    pub(crate) fn unit_row(self, kind: &UnitKind, file: &ReviewFile<'_>) -> String {
        self.colorize_text(CYAN, &describe_unit(kind, file)) + "\n"
    }

    /// Returns a hunk, at most `limit` lines of it. A truncated hunk names the command that shows all of it.
    #[must_use]
    pub(crate) fn hunk_rows(self, hunk: &ContextHunk<'_>, limit: usize) -> String {
        let mut out = self.colorize_text(CYAN, &hunk.header_line()) + "\n";
        let partners = if self.color { find_partners(&hunk.lines) } else { BTreeMap::new() };
        let mut at = 0;
        while at < hunk.lines.len().min(limit) {
            let line = &hunk.lines[at];
            let blank = hunk.lines[at..].iter().take_while(|l| *l == line && is_blank(l)).count();
            let (sign, code, bytes) = match line {
                ContextLine::Context(bytes) => (' ', None, bytes),
                ContextLine::Removed(bytes) => ('-', Some(RED), bytes),
                ContextLine::Added(bytes) => ('+', Some(GREEN), bytes),
            };
            let content = Escaped::from_line(bytes.strip_suffix(b"\n").unwrap_or(bytes));
            let words = changed_words(&hunk.lines, at, &partners);
            let text = if blank > MAX_BLANK_LINES {
                // This keeps the following lines visible. No content looks like this, because `Escaped` escapes a `<` that
                // looks like the start of an escape.
                format!("{content}<U+000A x{blank}>")
            } else {
                content.to_string()
            };
            let shown = wrap_rows(&text, self.width);
            if let ([text], Some(code), false) = (&shown[..], code, words.is_empty())
                && blank <= MAX_BLANK_LINES
            {
                let _ = writeln!(out, "{}", self.emphasized_row(code, sign, bytes, &words, text));
            } else {
                for (row, text) in shown.iter().enumerate() {
                    let text = format!("{}{text}", if row == 0 { sign } else { CONTINUATION_SIGN });
                    let _ =
                        writeln!(out, "{}", code.map_or_else(|| text.clone(), |code| self.colorize_text(code, &text)));
                }
            }
            if blank > MAX_BLANK_LINES {
                at += blank;
                continue;
            }
            if !bytes.ends_with(b"\n") {
                // This starts in the gutter column, so content cannot imitate it.
                out += "\\ No newline at end of file\n";
            }
            at += 1;
        }
        if at < hunk.lines.len() {
            let more = hunk.lines.len() - at;
            out += &self.note_row(&format!("… {more} more lines of this hunk (airlock diff shows all)"));
        }
        out
    }
}

/// Returns for each line that replaces another, or is replaced, the index of the other one.
fn find_partners(lines: &[ContextLine<'_>]) -> BTreeMap<usize, usize> {
    let mut partners = BTreeMap::new();
    let run = |from: usize, is_in: fn(&ContextLine<'_>) -> bool| {
        from + lines[from..].iter().take_while(|line| is_in(line)).count()
    };
    let mut at = 0;
    while at < lines.len() {
        let removed = at..run(at, |line| matches!(line, ContextLine::Removed(_)));
        let added = removed.end..run(removed.end, |line| matches!(line, ContextLine::Added(_)));
        if !removed.is_empty() && !added.is_empty() {
            let [old, new] = [&removed, &added]
                .map(|range| lines[range.clone()].iter().map(ContextLine::line_bytes).collect::<Vec<_>>());
            for (old, new) in replaced_lines(&old, &new) {
                partners.insert(removed.start + old, added.start + new);
                partners.insert(added.start + new, removed.start + old);
            }
        }
        at = added.end.max(at + 1);
    }
    partners
}

/// Returns the words of a removed line that its replacement lacks, or the reverse.
fn changed_words(lines: &[ContextLine<'_>], at: usize, partners: &BTreeMap<usize, usize>) -> Vec<Range<usize>> {
    let Some(other) = partners.get(&at) else { return Vec::new() };
    let line = |at: usize| trim_line_ending(lines[at].line_bytes());
    let (removed, added) = intraline_diff(line(at.min(*other)), line(at.max(*other)));
    if at < *other { removed } else { added }
}

fn is_blank(line: &ContextLine<'_>) -> bool {
    std::str::from_utf8(line.line_bytes())
        .is_ok_and(|text| text.chars().all(|c| c == '\n' || c == '\r' || escape::is_blank(c)))
}

/// Wraps escaped text into rows that leave one column for the gutter. Tabs become spaces.
fn wrap_rows(text: &str, width: Option<usize>) -> Vec<String> {
    let Some(width) = width.filter(|w| *w >= MIN_WRAP_WIDTH) else { return vec![text.to_owned()] };
    let (mut rows, mut row, mut column) = (Vec::new(), String::new(), 1);
    for c in text.chars() {
        let (shown, columns) = if c == '\t' {
            let columns = 8 - column % 8;
            (" ".repeat(columns), columns)
        } else {
            (c.to_string(), c.width().unwrap_or(0))
        };
        if column + columns > width {
            rows.push(std::mem::take(&mut row));
            column = 1;
            if c == '\t' {
                continue;
            }
        }
        row += &shown;
        column += columns;
    }
    rows.push(row);
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_line_continues_behind_gutter() {
        let renderer = TextRenderer { color: false, width: Some(20) };
        let long = format!("{}airlock: 1 of 1 file applied\n", "x".repeat(19));
        let hunk = ContextHunk {
            old: 0..0,
            new: 0..2,
            lines: vec![ContextLine::Added(long.as_bytes()), ContextLine::Added(b"a\tb\n")],
        };
        let rendered = renderer.hunk_rows(&hunk, 9);
        assert_eq!(
            rendered,
            format!("@@ -0,0 +1,2 @@\n+{}\n~airlock: 1 of 1 fil\n~e applied\n+a      b\n", "x".repeat(19))
        );
        assert!(
            TextRenderer { width: None, ..renderer }
                .hunk_rows(&hunk, 9)
                .contains("xairlock: 1 of 1 file applied\n+a\tb\n")
        );
        // A wide character does not cross the right edge, and a zero-width character needs no column.
        assert_eq!(
            wrap_rows(&format!("{}\u{65e5}\u{301}", "x".repeat(18)), Some(20)),
            ["x".repeat(18), "\u{65e5}\u{301}".into()]
        );
    }

    #[test]
    fn differing_words_are_reversed() {
        let renderer = TextRenderer { color: true, width: None };
        let lines = vec![
            ContextLine::Removed(b"let x = 1;\n"),
            ContextLine::Added(b"let x = 22;\n"),
            ContextLine::Context(b"y\n"),
        ];
        let rendered = renderer.hunk_rows(&ContextHunk { old: 0..2, new: 0..2, lines }, 9);
        let expected = "\x1b[31m-let x = \x1b[7m1\x1b[27m;\x1b[0m\n\x1b[32m+let x = \x1b[7m22\x1b[27m;\x1b[0m\n y\n";
        assert!(rendered.ends_with(expected), "{rendered:?}");
        let lines = vec![
            ContextLine::Removed("let name = \u{202e}1\n".as_bytes()),
            ContextLine::Added("let name = \u{202e}2\n".as_bytes()),
        ];
        let rendered = renderer.hunk_rows(&ContextHunk { old: 0..1, new: 0..1, lines }, 9);
        assert!(rendered.contains("-let name = \x1b[7m<U+202E>1"), "{rendered:?}");
    }

    #[test]
    fn blank_lines_are_counted_whatever_characters_they_have() {
        let line = "\u{a0} \n";
        let lines = (0..50).map(|_| ContextLine::Added(line.as_bytes())).chain([ContextLine::Added(b"evil\n")]);
        let hunk = ContextHunk { old: 0..0, new: 0..51, lines: lines.collect() };
        let rendered = TextRenderer { color: false, width: None }.hunk_rows(&hunk, 400);
        assert_eq!(rendered, "@@ -0,0 +1,51 @@\n+<U+00A0> <U+000A x50>\n+evil\n");
    }
}
