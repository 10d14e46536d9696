//! Takes a file change apart into the units that a person decides on.

use std::hash::Hash;
use std::ops::Range;

use sha2::{Digest, Sha256};
use similar::{Algorithm, DiffOp, capture_diff_slices};

use super::FileChange;
use super::content::{is_legacy_text, is_text};
use super::quarantine::hex;
use crate::core::path::EntryKind;

/// A part of a change that is decided on: as a whole, or a hunk by its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// The whole SHA-256, in hexadecimal, of path, kind, base content, place in the base, removed and added bytes. It
    /// stays the same in a later changeset if nothing of the unit changed. A prefix of it is for people only: the agent
    /// chooses what is hashed, and can make two prefixes equal.
    pub id: String,
    pub kind: UnitKind,
}

/// The kind of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitKind {
    /// A run of changed lines: which of the base by which of the result (counted from 0).
    Hunk {
        /// Lines of the base.
        old: Range<usize>,
        /// Lines of the result.
        new: Range<usize>,
    },
    /// Line ends all over the file; what else changed is a matter of hunks.
    LineEndings(LineEnding),
    /// The executable bit; `true` sets it.
    Mode(bool),
    /// A file is made that has no line.
    CreateEmpty,
    Delete,
    /// The whole content is another: binary, a link's target, a file in place of a link.
    Whole,
}

/// The line ending of all lines of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineEnding {
    Lf,
    /// A carriage return and a line feed.
    Crlf,
}

impl LineEnding {
    /// Returns what every line of a content ends with; nothing where they differ or there is none.
    #[must_use]
    pub fn detect(bytes: &[u8]) -> Option<Self> {
        let (mut lf, mut crlf) = (false, false);
        for at in memchr::memchr_iter(b'\n', bytes) {
            let is_crlf = at > 0 && bytes[at - 1] == b'\r';
            lf |= !is_crlf;
            crlf |= is_crlf;
            if lf && crlf {
                return None;
            }
        }
        match (lf, crlf) {
            (true, false) => Some(Self::Lf),
            (false, true) => Some(Self::Crlf),
            _ => None,
        }
    }

    /// Returns its bytes.
    #[must_use]
    pub fn as_bytes(self) -> &'static [u8] {
        match self {
            Self::Lf => b"\n",
            Self::Crlf => b"\r\n",
        }
    }
}

/// Returns whether every line of one content ends with a line feed and every line of the other with a carriage return before
/// it, and gives what those of the new one end with.
#[must_use]
pub fn changed_line_ending(old: &[u8], new: &[u8]) -> Option<LineEnding> {
    let (before, after) = (LineEnding::detect(old)?, LineEnding::detect(new)?);
    (before != after).then_some(after)
}

/// Parts a line from what it ends with.
#[must_use]
pub fn trim_line_ending(line: &[u8]) -> &[u8] {
    let body = line.strip_suffix(b"\n").unwrap_or(line);
    if body.len() < line.len() { body.strip_suffix(b"\r").unwrap_or(body) } else { body }
}

impl Unit {
    /// Returns whether it changes what another unit of the same base does: a line of it, or what it inserts beside. (Within one
    /// change neighbours are one hunk: what stands next to where something was inserted is what became of both.)
    #[must_use]
    pub fn overlaps_base_of(&self, other: &Self) -> bool {
        match (&self.kind, &other.kind) {
            (UnitKind::Hunk { old: a, .. }, UnitKind::Hunk { old: b, .. }) => {
                let (is_insertion, touches) = (a.is_empty() || b.is_empty(), a.start <= b.end && b.start <= a.end);
                if is_insertion { touches } else { a.start < b.end && b.start < a.end }
            }
            (UnitKind::Mode(_), kind) | (kind, UnitKind::Mode(_)) => {
                matches!(kind, UnitKind::Mode(_) | UnitKind::Delete)
            }
            (UnitKind::LineEndings(_), kind) | (kind, UnitKind::LineEndings(_)) => {
                matches!(kind, UnitKind::LineEndings(_) | UnitKind::Whole | UnitKind::Delete)
            }
            _ => true,
        }
    }

    /// Counts what can be decided one by one: the removed and the added lines of a hunk; 1 of anything else.
    #[must_use]
    pub fn line_count(&self) -> usize {
        match &self.kind {
            UnitKind::Hunk { old, new } => old.len() + new.len(),
            _ => 1,
        }
    }
}

/// Splits content into lines, each with its line feed.
#[must_use]
pub fn split_lines(bytes: &[u8]) -> Vec<&[u8]> {
    bytes.split_inclusive(|b| *b == b'\n').collect()
}

/// Lines above which a file is one unit.
const MAX_LINES: usize = 1_000_000;

/// Returns whether content is shown, chosen and merged by line: text without NUL, of a million lines at the most. Text of an
/// encoding of one byte a character, such as Latin-1, counts; its bytes are kept as they are.
#[must_use]
pub fn is_by_line(bytes: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', bytes).count() < MAX_LINES && (is_text(bytes) || is_legacy_text(bytes))
}

/// Lines of the base times lines of the result above which a stretch is not compared any further but is one hunk: hostile
/// or generated content must not keep a person waiting.
const MOST_COMPARED: usize = 400_000_000;

/// Counts the lines that two contents have in common at their start, and at their end.
fn common_affixes<T: Eq>(old: &[T], new: &[T]) -> (usize, usize) {
    let head = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let tail = old[head..].iter().rev().zip(new[head..].iter().rev()).take_while(|(a, b)| a == b).count();
    (head, tail)
}

/// Returns whether two contents are compared line by line: what lies between their common start and end must not be so large
/// that a person would wait.
#[must_use]
pub fn is_comparable<T: Eq>(old: &[T], new: &[T]) -> bool {
    let (head, tail) = common_affixes(old, new);
    (old.len() - head - tail).saturating_mul(new.len() - head - tail) <= MOST_COMPARED
}

/// Lists the units of a change; `old` and `new` are its contents, as [`FileChange::contents`] gives them.
#[must_use]
pub fn split_units(change: &FileChange, old: &[u8], new: &[u8]) -> Vec<Unit> {
    let by_line = !change.is_large() && is_by_line(old) && is_by_line(new);
    let (old_lines, new_lines) = if by_line { (split_lines(old), split_lines(new)) } else { (Vec::new(), Vec::new()) };
    let unit = |kind: UnitKind| Unit { id: unit_id(change, &kind, &old_lines, &new_lines), kind };
    let Some(after) = &change.new else { return vec![unit(UnitKind::Delete)] };
    let before_kind = change.old.as_ref().map_or(EntryKind::Regular, |s| s.kind);
    if after.kind == EntryKind::Link || before_kind == EntryKind::Link {
        return vec![unit(UnitKind::Whole)];
    }
    let mut found = Vec::new();
    if after.kind != before_kind {
        found.push(unit(UnitKind::Mode(after.kind == EntryKind::Executable)));
    }
    if change.old.as_ref().is_some_and(|s| s.hash == after.hash) {
        return found;
    }
    if !by_line {
        found.push(unit(UnitKind::Whole));
    } else if new.is_empty() && change.old.is_none() {
        found.push(unit(UnitKind::CreateEmpty));
    } else {
        let ending = changed_line_ending(old, new);
        found.extend(ending.map(|ending| unit(UnitKind::LineEndings(ending))));
        let blocks = if ending.is_some() {
            let body = |line: &&'_ [u8]| (trim_line_ending(line).to_vec(), line.ends_with(b"\n"));
            let bodies = |lines: &[&[u8]]| lines.iter().map(body).collect::<Vec<_>>();
            find_line_changes(&bodies(&old_lines), &bodies(&new_lines))
        } else {
            find_line_changes(&old_lines, &new_lines)
        };
        found.extend(blocks.into_iter().map(|(old, new)| unit(UnitKind::Hunk { old, new })));
    }
    found
}

/// Hashes what identifies a unit.
fn unit_id(change: &FileChange, kind: &UnitKind, old: &[&[u8]], new: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(change.path.as_bytes());
    part(change.old.as_ref().map_or(String::new(), |s| s.hash.to_string()).as_bytes());
    match kind {
        UnitKind::Hunk { old: o, new: n } => {
            part(b"hunk");
            part(&(o.start as u64).to_le_bytes());
            part(&old[o.clone()].concat());
            part(&new[n.clone()].concat());
        }
        UnitKind::LineEndings(ending) => part(if *ending == LineEnding::Lf { b"endings lf" } else { b"endings crlf" }),
        UnitKind::Mode(set) => part(if *set { b"mode +x" } else { b"mode -x" }),
        UnitKind::CreateEmpty => part(b"create"),
        UnitKind::Delete => part(b"delete"),
        UnitKind::Whole => {
            part(b"whole");
            part(change.new.as_ref().map_or("", |s| s.kind.mode()).as_bytes());
            part(change.new.as_ref().map_or_else(String::new, |s| s.hash.to_string()).as_bytes());
        }
    }
    hex(&hash.finalize())
}

/// A stretch of the base and the one of the result that takes its place.
type LineRanges = (Range<usize>, Range<usize>);

/// Finds the runs of changed lines.
fn find_line_changes<T: Hash + Eq + Ord>(old: &[T], new: &[T]) -> Vec<LineRanges> {
    if !is_comparable(old, new) {
        let (head, tail) = common_affixes(old, new);
        return vec![(head..old.len() - tail, head..new.len() - tail)];
    }
    let mut blocks: Vec<LineRanges> = Vec::new();
    for op in capture_diff_slices(Algorithm::Histogram, old, new) {
        if matches!(op, DiffOp::Equal { .. }) {
            continue;
        }
        // Neighbouring operations are one hunk.
        match blocks.last_mut() {
            Some((o, n)) if o.end == op.old_range().start && n.end == op.new_range().start => {
                o.end = op.old_range().end;
                n.end = op.new_range().end;
            }
            _ => blocks.push((op.old_range(), op.new_range())),
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_too_large_to_compare_is_one_block() {
        let text = |word: &str| (0..21_000).map(|n| format!("{word} {n}\n")).collect::<String>();
        let (old, new) = (format!("same\n{}end\n", text("a")), format!("same\n{}end\n", text("b")));
        let found = find_line_changes(&split_lines(old.as_bytes()), &split_lines(new.as_bytes()));
        assert_eq!(found, [(1..21_001, 1..21_001)]);
        assert_eq!(
            find_line_changes(&split_lines(b"a\nb\nc\n"), &split_lines(b"a\nx\nc\ny\n")),
            [(1..2, 1..2), (3..3, 3..4)]
        );
        assert_eq!(find_line_changes(&split_lines(b"a\na\n"), &split_lines(b"a\na\na\n")).len(), 1);
    }
}
