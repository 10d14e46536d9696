//! Findings by content, whatever the name: hidden characters, text that is out of sight, unreadable content.

use std::collections::HashSet;

use super::{Finding, Severity};
use crate::core::escape::{LONGEST_RUN, first_hidden, is_blank};

/// Bytes of a line above which nobody reads it.
const LONGEST_LINE: usize = 5_000;
/// Blank lines in a row that push what follows out of sight.
const MOST_BLANK_LINES: usize = 200;

/// Judges a file's content against the base's.
pub fn find_content_risks(old: &[u8], new: &[u8]) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut add = |rule: &str, level, reason: String, line| {
        found.push(Finding { rule: rule.into(), severity: level, reason, line });
    };
    if let Some(line) = find_invisible_line(old, new) {
        add("invisible", Severity::High, "has invisible characters".into(), Some(line));
    }
    let lost = count_replaced_bytes(old, new);
    if lost > 0 {
        let reason = format!("has U+FFFD in place of {lost} bytes that are not UTF-8: an editor has destroyed them");
        add("lost-bytes", Severity::Medium, reason, None);
    }
    if is_legacy_text(new) {
        add("encoding", Severity::Medium, "is not UTF-8".into(), None);
    } else if !is_text(new) {
        // A shell runs it all the same.
        let (level, what) = if new.starts_with(b"#!") {
            (Severity::High, "is binary and a script")
        } else {
            (Severity::Medium, "is binary")
        };
        add("binary", level, what.into(), None);
        return found;
    }
    if let Some((line, bytes)) = find_longest_line(new).filter(|(_, n)| *n > LONGEST_LINE)
        && find_longest_line(old).is_none_or(|(_, was)| was < bytes)
    {
        add("minified", Severity::Medium, format!("has a line of {bytes} bytes"), Some(line));
    }
    if let Some(line) = find_hidden_tail(new).filter(|_| find_hidden_tail(old).is_none()) {
        add("out-of-sight", Severity::Medium, "has text behind many blanks".into(), Some(line));
    }
    found
}

/// Returns whether content is text for us: UTF-8 without NUL.
pub fn is_text(bytes: &[u8]) -> bool {
    memchr::memchr(0, bytes).is_none() && std::str::from_utf8(bytes).is_ok()
}

/// Returns whether content is text of an older encoding: no NUL, no control character, and less than a third of it is not UTF-8.
pub fn is_legacy_text(bytes: &[u8]) -> bool {
    if std::str::from_utf8(bytes).is_ok() || bytes.iter().any(|b| b.is_ascii_control() && !b"\t\n\r\x0c".contains(b)) {
        return false;
    }
    let bad: usize = bytes.utf8_chunks().map(|chunk| chunk.invalid().len()).sum();
    bad * 3 < bytes.len()
}

/// Counts the bytes that are not UTF-8 and in whose place there are replacement characters now.
fn count_replaced_bytes(old: &[u8], new: &[u8]) -> usize {
    let bad = |bytes: &[u8]| bytes.utf8_chunks().map(|chunk| chunk.invalid().len()).sum::<usize>();
    let marks = |bytes: &[u8]| memchr::memmem::find_iter(bytes, "\u{fffd}".as_bytes()).count();
    let (gone, come) = (bad(old).saturating_sub(bad(new)), marks(new).saturating_sub(marks(old)));
    if memchr::memchr(0, old).is_some() { 0 } else { gone.min(come) }
}

/// Returns the number of the line, from 1, that a byte is on.
pub fn line_of(bytes: &[u8], at: usize) -> usize {
    memchr::memchr_iter(b'\n', &bytes[..at]).count() + 1
}

/// Finds the first line with a hidden character of no use among the lines that the base does not have.
fn find_invisible_line(old: &[u8], new: &[u8]) -> Option<usize> {
    let hides = |line: &[u8]| {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        // Where it is not UTF-8, the parts that are count.
        line.utf8_chunks().any(|chunk| {
            let text = chunk.valid();
            if text.is_ascii() {
                return text.bytes().any(|b| b.is_ascii_control() && !matches!(b, b'\t' | b'\x0c' | 0));
            }
            let plain: String = text.chars().map(|c| if matches!(c, '\t' | '\x0c' | '\0') { ' ' } else { c }).collect();
            first_hidden(&plain).is_some()
        })
    };
    // In what is no text every second byte is a control character, and none of them is read by a person.
    if !is_text(new) && !is_nearly_text(new) {
        return None;
    }
    let mark = "\u{feff}".as_bytes();
    let (old, new) = (old.strip_prefix(mark).unwrap_or(old), new.strip_prefix(mark).unwrap_or(new));
    let known: HashSet<&[u8]> = old.split_inclusive(|b| *b == b'\n').filter(|line| hides(line)).collect();
    new.split_inclusive(|b| *b == b'\n').position(|line| hides(line) && !known.contains(line)).map(|at| at + 1)
}

/// Returns whether a person, or a program, would take content for text although a byte or two of it are none: few are NUL or not
/// UTF-8.
fn is_nearly_text(bytes: &[u8]) -> bool {
    let bad: usize = bytes.utf8_chunks().map(|chunk| chunk.invalid().len()).sum();
    (bad + memchr::memchr_iter(0, bytes).count()) * 20 < bytes.len()
}

/// Returns the number and the bytes of the longest line.
fn find_longest_line(bytes: &[u8]) -> Option<(usize, usize)> {
    let lines = bytes.split(|b| *b == b'\n').enumerate();
    lines.map(|(at, line)| (at + 1, line.len())).max_by_key(|(at, length)| (*length, std::cmp::Reverse(*at)))
}

/// Finds the first line with text behind more blanks, or more blank lines, than fit a screen.
fn find_hidden_tail(bytes: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut blank_lines = 0;
    for (at, line) in text.split('\n').enumerate() {
        let is_gap = |c: char| c == '\r' || is_blank(c);
        if line.chars().all(is_gap) {
            blank_lines += 1;
            continue;
        }
        // Behind text, or at the beginning of the line where an indentation of that depth is none.
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
        if blank_lines > MOST_BLANK_LINES {
            return Some(at + 1);
        }
        blank_lines = 0;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(old: &[u8], new: &[u8]) -> Vec<(String, Option<usize>)> {
        find_content_risks(old, new).into_iter().map(|f| (f.rule, f.line)).collect()
    }

    fn one(rule: &str, line: usize) -> Vec<(String, Option<usize>)> {
        vec![(rule.into(), Some(line))]
    }

    #[test]
    fn hidden_characters_are_found_in_new_lines() {
        let bad = "ok\nif (a\u{202e}) {\n".as_bytes();
        assert_eq!(rules(b"", bad), one("invisible", 2));
        assert_eq!(rules(bad, &[bad, b"more\n"].concat()), [], "the base has that line");
        assert_eq!(rules(b"", b"a\x1b[2Jb\n"), one("invisible", 1));
        assert_eq!(rules(b"", b"good\revil\n"), one("invisible", 1));
        assert_eq!(rules(b"", "x \u{2764}\u{fe0f}\n".as_bytes()), []);
        assert_eq!(rules(b"", "\u{feff}x\r\n\ty\x0c\r\n".as_bytes()), []);
        assert_eq!(rules(b"", "x\u{feff}\n".as_bytes()), one("invisible", 1));
        let latin =
            [b"caf\xe9 ".as_slice(), "hidden \u{200b} here, in a file that is nearly text\n".as_bytes()].concat();
        assert_eq!(rules(b"", &latin).len(), 2, "invisible and binary");
    }

    #[test]
    fn what_nobody_reads() {
        assert_eq!(rules(b"", b"\xff\xfea\0b\0"), [("binary".into(), None)]);
        let script = "#!/bin/sh\necho ok # \u{202e} and more words\n\0".as_bytes();
        let found = find_content_risks(b"", script);
        assert_eq!(
            found.iter().map(|f| (f.rule.as_str(), f.severity)).collect::<Vec<_>>(),
            [("invisible", Severity::High), ("binary", Severity::High)]
        );
        assert_eq!(rules(b"", &[vec![b'a'; 9000], vec![0]].concat()), [("binary".into(), None)], "NUL after 8 KB");
        let long = [b"a\n".to_vec(), vec![b'x'; 5001]].concat();
        assert_eq!(rules(b"", &long), one("minified", 2));
        assert_eq!(rules(&long, &long[..long.len() - 1]), [], "it was longer before");
        assert_eq!(rules(b"", &[vec![b'x'; 5000], b"\n".to_vec()].concat()), []);
    }

    #[test]
    fn what_is_pushed_out_of_sight() {
        assert_eq!(rules(b"", format!("a{}evil()\n", " ".repeat(1000)).as_bytes()), one("out-of-sight", 1));
        assert_eq!(rules(b"", format!("a\n{}evil()\n", "\t".repeat(193)).as_bytes()), one("out-of-sight", 2));
        assert_eq!(rules(b"", format!("a\n{}evil()\n", "\n".repeat(201)).as_bytes()), one("out-of-sight", 203));
        assert_eq!(rules(b"", format!("a\n{}b\n{}c\n", "\n".repeat(200), "\n".repeat(200)).as_bytes()), []);
        assert_eq!(rules(b"", format!("{}b\n", " ".repeat(192)).as_bytes()), []);
        assert_eq!(rules(b"", "\n".repeat(1000).as_bytes()), [], "nothing comes after");
        assert_eq!(rules(b"", format!("a;{}evil()\n", "\u{3000}".repeat(1000)).as_bytes()), one("out-of-sight", 1));
        assert_eq!(rules(b"", format!("a\n{}evil()\n", "\u{a0}\n".repeat(300)).as_bytes()), one("out-of-sight", 302));
    }
}
