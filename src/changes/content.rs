//! Finds risks in file contents: hidden characters, text out of sight, unreadable content.

use std::cell::LazyCell;
use std::collections::HashSet;

use super::{Finding, Severity};
use crate::core::escape::{LONGEST_RUN, find_first_hidden, is_blank};

/// Maximum length in bytes of a line that a reviewer can be expected to read.
const MAX_LINE_BYTES: usize = 5_000;
/// Maximum number of consecutive blank lines before the text after them counts as out of sight.
const MAX_BLANK_LINES: usize = 200;

/// Returns the findings for a file's content, compared with the base.
pub(super) fn find_content_risks(old: &[u8], new: &[u8]) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut add = |rule: &str, level, reason: String, line| {
        found.push(Finding { rule: rule.into(), severity: level, reason, line });
    };
    if let Some(line) = find_invisible_line(old, new) {
        add("invisible", Severity::High, "contains invisible characters".into(), Some(line));
    }
    let lost = count_replaced_bytes(old, new);
    if lost > 0 {
        let reason = format!("replaces {lost} bytes that are not UTF-8 with U+FFFD");
        add("lost-bytes", Severity::Medium, reason, None);
    }
    if is_legacy_text(new) {
        add("encoding", Severity::Medium, "is not UTF-8".into(), None);
    } else if !is_text(new) {
        // A shell runs it in spite of the binary content.
        let (level, what) = if new.starts_with(b"#!") {
            (Severity::High, "is binary and starts with `#!`")
        } else {
            (Severity::Medium, "is binary")
        };
        add("binary", level, what.into(), None);
        return found;
    }
    if let Some((line, bytes)) = find_longest_line(new).filter(|(_, n)| *n > MAX_LINE_BYTES)
        && find_longest_line(old).is_none_or(|(_, was)| was < bytes)
    {
        add("minified", Severity::Medium, format!("has a line of {bytes} bytes"), Some(line));
    }
    if let Some(line) = find_hidden_tail(new).filter(|_| find_hidden_tail(old).is_none()) {
        add("out-of-sight", Severity::Medium, "has text after a long run of whitespace".into(), Some(line));
    }
    found
}

/// Returns whether content is UTF-8 text without NUL.
pub(super) fn is_text(bytes: &[u8]) -> bool {
    memchr::memchr(0, bytes).is_none() && std::str::from_utf8(bytes).is_ok()
}

/// Returns whether content is text in a legacy encoding.
///
/// Such text is not valid UTF-8, has no control characters except tab, line feed, carriage return and form feed, and
/// has fewer than a third of its bytes in invalid sequences.
pub(super) fn is_legacy_text(bytes: &[u8]) -> bool {
    if std::str::from_utf8(bytes).is_ok() || bytes.iter().any(|b| b.is_ascii_control() && !b"\t\n\r\x0c".contains(b)) {
        return false;
    }
    let bad: usize = bytes.utf8_chunks().map(|chunk| chunk.invalid().len()).sum();
    bad * 3 < bytes.len()
}

/// Counts the non-UTF-8 bytes that were replaced by U+FFFD. Returns 0 if the base is binary (has a NUL).
fn count_replaced_bytes(old: &[u8], new: &[u8]) -> usize {
    if std::str::from_utf8(old).is_ok() {
        return 0;
    }
    let bad = |bytes: &[u8]| bytes.utf8_chunks().map(|chunk| chunk.invalid().len()).sum::<usize>();
    let marks = |bytes: &[u8]| memchr::memmem::find_iter(bytes, "\u{fffd}".as_bytes()).count();
    let (lost_bytes, come) = (bad(old).saturating_sub(bad(new)), marks(new).saturating_sub(marks(old)));
    if memchr::memchr(0, old).is_some() { 0 } else { lost_bytes.min(come) }
}

/// Returns the 1-based number of the line that contains a byte.
pub(super) fn line_number_at(bytes: &[u8], at: usize) -> usize {
    memchr::memchr_iter(b'\n', &bytes[..at]).count() + 1
}

/// Returns the first line with an unexpected hidden character, except lines that the base also has.
fn find_invisible_line(old: &[u8], new: &[u8]) -> Option<usize> {
    let has_hidden_char = |line: &[u8]| {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        // Invalid sequences are skipped; the valid parts are checked.
        line.utf8_chunks().any(|chunk| {
            let text = chunk.valid();
            if text.is_ascii() {
                return text.bytes().any(|b| b.is_ascii_control() && !matches!(b, b'\t' | b'\x0c' | 0));
            }
            let plain: String = text.chars().map(|c| if matches!(c, '\t' | '\x0c' | '\0') { ' ' } else { c }).collect();
            find_first_hidden(&plain).is_some()
        })
    };
    // Most content is printable ASCII, for which this is much faster.
    if new.iter().all(|b| matches!(b, b' '..=b'~' | b'\t' | b'\n' | b'\x0c')) {
        return None;
    }
    // In binary content, control characters are common, and no one reads them.
    if !is_text(new) && !is_nearly_text(new) {
        return None;
    }
    let bom = "\u{feff}".as_bytes();
    let (old, new) = (old.strip_prefix(bom).unwrap_or(old), new.strip_prefix(bom).unwrap_or(new));
    let known = LazyCell::new(|| {
        let lines = old.split_inclusive(|b| *b == b'\n').filter(|line| has_hidden_char(line));
        lines.collect::<HashSet<&[u8]>>()
    });
    new.split_inclusive(|b| *b == b'\n')
        .position(|line| has_hidden_char(line) && !known.contains(line))
        .map(|at| at + 1)
}

/// Returns whether a reader or a program would treat content as text despite a few bad bytes.
///
/// Fewer than 5 % of the bytes may be NUL or invalid UTF-8.
fn is_nearly_text(bytes: &[u8]) -> bool {
    let bad: usize = bytes.utf8_chunks().map(|chunk| chunk.invalid().len()).sum();
    (bad + memchr::memchr_iter(0, bytes).count()) * 20 < bytes.len()
}

/// Returns the number and the length in bytes of the longest line.
fn find_longest_line(bytes: &[u8]) -> Option<(usize, usize)> {
    let ends = memchr::memchr_iter(b'\n', bytes).chain([bytes.len()]);
    let lines = ends.scan(0, |start, end| Some(end - std::mem::replace(start, end + 1))).enumerate();
    lines.map(|(at, length)| (at + 1, length)).max_by_key(|(at, length)| (*length, std::cmp::Reverse(*at)))
}

/// Returns the first line with text after more blanks, or more blank lines, than fit on a screen.
fn find_hidden_tail(bytes: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut blank_lines = 0;
    for (at, line) in text.split('\n').enumerate() {
        let is_gap = |c: char| c == '\r' || is_blank(c);
        if line.chars().all(is_gap) {
            blank_lines += 1;
            continue;
        }
        // Blanks count after text, and also at the start of a line, because no indentation is that deep.
        let mut run = 0;
        for c in line.chars() {
            if is_gap(c) {
                run += 1;
            } else if run > LONGEST_RUN * 3 {
                return Some(at + 1);
            } else {
                run = 0;
            }
        }
        if blank_lines > MAX_BLANK_LINES {
            return Some(at + 1);
        }
        blank_lines = 0;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find_rules(old: &[u8], new: &[u8]) -> Vec<(String, Option<usize>)> {
        find_content_risks(old, new).into_iter().map(|f| (f.rule, f.line)).collect()
    }

    fn finding_at(rule: &str, line: usize) -> Vec<(String, Option<usize>)> {
        vec![(rule.into(), Some(line))]
    }

    #[test]
    fn hidden_characters_are_found_in_new_lines() {
        let hidden = "ok\nif (a\u{202e}) {\n".as_bytes();
        assert_eq!(find_rules(b"", hidden), finding_at("invisible", 2));
        assert_eq!(find_rules(hidden, &[hidden, b"more\n"].concat()), [], "the base has the same line");
        assert_eq!(find_rules(b"", b"a\x1b[2Jb\n"), finding_at("invisible", 1));
        assert_eq!(find_rules(b"", b"good\revil\n"), finding_at("invisible", 1));
        assert_eq!(find_rules(b"", "x \u{2764}\u{fe0f}\n".as_bytes()), []);
        assert_eq!(find_rules(b"", "\u{feff}x\r\n\ty\x0c\r\n".as_bytes()), []);
        assert_eq!(find_rules(b"", "x\u{feff}\n".as_bytes()), finding_at("invisible", 1));
        let latin1 =
            [b"caf\xe9 ".as_slice(), "hidden \u{200b} here, in a file that is nearly text\n".as_bytes()].concat();
        assert_eq!(find_rules(b"", &latin1).len(), 2, "invisible and binary");
    }

    #[test]
    fn unreadable_text_is_a_finding() {
        assert_eq!(find_rules(b"", b"\xff\xfea\0b\0"), [("binary".into(), None)]);
        let script = "#!/bin/sh\necho ok # \u{202e} and more words\n\0".as_bytes();
        let found = find_content_risks(b"", script);
        assert_eq!(
            found.iter().map(|f| (f.rule.as_str(), f.severity)).collect::<Vec<_>>(),
            [("invisible", Severity::High), ("binary", Severity::High)]
        );
        assert_eq!(find_rules(b"", &[vec![b'a'; 9000], vec![0]].concat()), [("binary".into(), None)], "NUL after 8 KB");
        let long = [b"a\n".to_vec(), vec![b'x'; 5001]].concat();
        assert_eq!(find_rules(b"", &long), finding_at("minified", 2));
        assert_eq!(find_rules(&long, &long[..long.len() - 1]), [], "the old line was longer");
        assert_eq!(find_rules(b"", &[vec![b'x'; 5000], b"\n".to_vec()].concat()), []);
    }

    #[test]
    fn text_behind_blanks_is_a_finding() {
        assert_eq!(find_rules(b"", format!("a{}evil()\n", " ".repeat(1000)).as_bytes()), finding_at("out-of-sight", 1));
        assert_eq!(
            find_rules(b"", format!("a\n{}evil()\n", "\t".repeat(193)).as_bytes()),
            finding_at("out-of-sight", 2)
        );
        assert_eq!(
            find_rules(b"", format!("a\n{}evil()\n", "\n".repeat(201)).as_bytes()),
            finding_at("out-of-sight", 203)
        );
        assert_eq!(find_rules(b"", format!("a\n{}b\n{}c\n", "\n".repeat(200), "\n".repeat(200)).as_bytes()), []);
        assert_eq!(find_rules(b"", format!("{}b\n", " ".repeat(192)).as_bytes()), []);
        assert_eq!(find_rules(b"", "\n".repeat(1000).as_bytes()), [], "no text follows");
        assert_eq!(
            find_rules(b"", format!("a;{}evil()\n", "\u{3000}".repeat(1000)).as_bytes()),
            finding_at("out-of-sight", 1)
        );
        assert_eq!(
            find_rules(b"", format!("a\n{}evil()\n", "\u{a0}\n".repeat(300)).as_bytes()),
            finding_at("out-of-sight", 302)
        );
    }
}
