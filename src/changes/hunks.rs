//! Splits a file change into the units that a user decides on.

use std::hash::Hash;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use similar::{Algorithm, DiffOp, capture_diff_slices};

use super::FileChange;
use super::content::{is_legacy_text, is_text};
use crate::core::hex::to_hex;
use crate::core::path::EntryKind;

/// A part of a change that can be decided: as a whole, or line by line for a hunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// The full SHA-256, in hexadecimal, of the path, kind, base content, position in the base, and removed and added
    /// bytes. A later changeset has the same ID if nothing in the unit changed. A prefix is only for display: the agent
    /// chooses the hashed bytes and can create two units with the same prefix.
    pub id: String,
    pub kind: UnitKind,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum UnitKind {
    /// A run of changed lines, counted from 0.
    Hunk {
        /// The lines of the base.
        old: Range<usize>,
        /// The lines of the result.
        new: Range<usize>,
    },
    /// The line endings of the whole file. Other changes of its lines are hunks.
    LineEndings(LineEnding),
    /// The executable bit: `true` sets it, `false` clears it.
    Mode(bool),
    /// The move of the file from its old path. Other units apply at the file's resulting path.
    Rename,
    /// The creation of a file without lines.
    CreateEmpty,
    Delete,
    /// The replacement of the whole content: a binary file, a symlink's target, or a change between file and symlink.
    Whole,
}

/// The line ending that all lines of a file have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LineEnding {
    Lf,
    /// Carriage return and line feed.
    Crlf,
}

impl LineEnding {
    /// Returns the line ending of content, or `None` if it is mixed or no line has one.
    #[must_use]
    pub fn detect_uniform(bytes: &[u8]) -> Option<Self> {
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

    /// Returns the bytes of the line ending.
    #[must_use]
    pub fn as_bytes(self) -> &'static [u8] {
        match self {
            Self::Lf => b"\n",
            Self::Crlf => b"\r\n",
        }
    }
}

/// Returns the new line ending if each content has a uniform line ending and they differ.
#[must_use]
pub(crate) fn detect_line_ending_change(old: &[u8], new: &[u8]) -> Option<LineEnding> {
    let (before, after) = (LineEnding::detect_uniform(old)?, LineEnding::detect_uniform(new)?);
    (before != after).then_some(after)
}

/// Returns a line without its line ending.
#[must_use]
pub(crate) fn trim_line_ending(line: &[u8]) -> &[u8] {
    let body = line.strip_suffix(b"\n").unwrap_or(line);
    if body.len() < line.len() { body.strip_suffix(b"\r").unwrap_or(body) } else { body }
}

impl Unit {
    /// Returns whether two units of the same base, from different changes, change the same part of it.
    ///
    /// Hunks overlap if they have a base line in common, or if one is an insertion that touches the other. (Within one
    /// change, adjacent edits form a single hunk, so the text next to an insertion is the result of both.)
    #[must_use]
    pub fn overlaps_base_of(&self, other: &Self) -> bool {
        match (&self.kind, &other.kind) {
            (UnitKind::Hunk { old: a, .. }, UnitKind::Hunk { old: b, .. }) => {
                let (is_insertion, touches) = (a.is_empty() || b.is_empty(), a.start <= b.end && b.start <= a.end);
                if is_insertion { touches } else { a.start < b.end && b.start < a.end }
            }
            (UnitKind::Rename, kind) | (kind, UnitKind::Rename) => matches!(kind, UnitKind::Rename | UnitKind::Delete),
            (UnitKind::Mode(_), kind) | (kind, UnitKind::Mode(_)) => {
                matches!(kind, UnitKind::Mode(_) | UnitKind::Delete)
            }
            (UnitKind::LineEndings(_), kind) | (kind, UnitKind::LineEndings(_)) => {
                matches!(kind, UnitKind::LineEndings(_) | UnitKind::Whole | UnitKind::Delete)
            }
            _ => true,
        }
    }

    /// Returns the number of parts that can be decided separately: removed and added lines for a hunk, otherwise 1.
    #[must_use]
    pub fn line_count(&self) -> usize {
        match &self.kind {
            UnitKind::Hunk { old, new } => old.len() + new.len(),
            _ => 1,
        }
    }
}

/// Splits content into lines, including their line feeds.
#[must_use]
pub(crate) fn split_lines(bytes: &[u8]) -> Vec<&[u8]> {
    bytes.split_inclusive(|b| *b == b'\n').collect()
}

/// Number of line feeds at which a file becomes a single unit.
const MAX_LINES: usize = 1_000_000;

/// Returns whether content is shown, selected and merged by line.
///
/// This is text without NUL and with fewer than a million line feeds. Text in a single-byte encoding, such as Latin-1,
/// is included; its bytes are kept unchanged.
#[must_use]
pub(crate) fn is_line_based(bytes: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', bytes).count() < MAX_LINES && (is_text(bytes) || is_legacy_text(bytes))
}

/// Maximum product of base lines and result lines that are compared.
///
/// A larger region becomes a single hunk, because hostile or generated content must not keep the user waiting.
const MAX_LINE_COMPARISONS: usize = 400_000_000;

/// Returns the number of lines that two contents have in common at the start and at the end.
fn count_common_affixes<T: Eq>(old: &[T], new: &[T]) -> (usize, usize) {
    let head = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let tail = old[head..].iter().rev().zip(new[head..].iter().rev()).take_while(|(a, b)| a == b).count();
    (head, tail)
}

/// Returns whether two contents are compared line by line.
///
/// The region between the common start and end must be small enough to compare without a noticeable delay.
#[must_use]
pub(crate) fn is_comparable<T: Eq>(old: &[T], new: &[T]) -> bool {
    let (head, tail) = count_common_affixes(old, new);
    (old.len() - head - tail).saturating_mul(new.len() - head - tail) <= MAX_LINE_COMPARISONS
}

/// Returns the units of a change. `old` and `new` are its contents, as returned by [`FileChange::read_contents`].
#[must_use]
pub fn split_units(change: &FileChange, old: &[u8], new: &[u8]) -> Vec<Unit> {
    let by_line = !change.is_large() && is_line_based(old) && is_line_based(new);
    let (old_lines, new_lines) = if by_line { (split_lines(old), split_lines(new)) } else { (Vec::new(), Vec::new()) };
    let unit = |kind: UnitKind| Unit { id: compute_unit_id(change, &kind, &old_lines, &new_lines), kind };
    let Some(after) = &change.new else { return vec![unit(UnitKind::Delete)] };
    let before_kind = change.old.as_ref().map_or(EntryKind::Regular, |s| s.kind);
    let mut units = Vec::new();
    units.extend(change.is_rename().then(|| unit(UnitKind::Rename)));
    if after.kind == EntryKind::Symlink || before_kind == EntryKind::Symlink {
        if units.is_empty() || change.old != change.new {
            units.push(unit(UnitKind::Whole));
        }
        return units;
    }
    if after.kind != before_kind {
        units.push(unit(UnitKind::Mode(after.kind == EntryKind::Executable)));
    }
    if change.old.as_ref().is_some_and(|s| s.hash == after.hash) {
        return units;
    }
    if !by_line {
        units.push(unit(UnitKind::Whole));
    } else if new.is_empty() && change.old.is_none() {
        units.push(unit(UnitKind::CreateEmpty));
    } else {
        let ending = detect_line_ending_change(old, new);
        units.extend(ending.map(|ending| unit(UnitKind::LineEndings(ending))));
        let line_changes = if ending.is_some() {
            let body = |line: &&'_ [u8]| (trim_line_ending(line).to_vec(), line.ends_with(b"\n"));
            let bodies = |lines: &[&[u8]]| lines.iter().map(body).collect::<Vec<_>>();
            find_line_changes(&bodies(&old_lines), &bodies(&new_lines))
        } else {
            find_line_changes(&old_lines, &new_lines)
        };
        units.extend(line_changes.into_iter().map(|(old, new)| unit(UnitKind::Hunk { old, new })));
    }
    units
}

/// Computes the ID of a unit. Of a renamed file, it is that of the same unit at the old path, so that decisions stay with the
/// content that they are about.
fn compute_unit_id(change: &FileChange, kind: &UnitKind, old: &[&[u8]], new: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    let mut hash_part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    hash_part(change.old_path().unwrap_or(&change.path).as_bytes());
    hash_part(change.old.as_ref().map_or(String::new(), |s| s.hash.to_string()).as_bytes());
    match kind {
        UnitKind::Hunk { old: o, new: n } => {
            hash_part(b"hunk");
            hash_part(&(o.start as u64).to_le_bytes());
            hash_part(&old[o.clone()].concat());
            hash_part(&new[n.clone()].concat());
        }
        UnitKind::LineEndings(ending) => {
            hash_part(if *ending == LineEnding::Lf { b"endings lf" } else { b"endings crlf" })
        }
        UnitKind::Mode(set) => hash_part(if *set { b"mode +x" } else { b"mode -x" }),
        UnitKind::Rename => {
            hash_part(b"rename");
            hash_part(change.path.as_bytes());
        }
        UnitKind::CreateEmpty => hash_part(b"create"),
        UnitKind::Delete => hash_part(b"delete"),
        UnitKind::Whole => {
            hash_part(b"whole");
            hash_part(change.new.as_ref().map_or("", |s| s.kind.git_mode()).as_bytes());
            hash_part(change.new.as_ref().map_or_else(String::new, |s| s.hash.to_string()).as_bytes());
        }
    }
    to_hex(&hash.finalize())
}

/// A range of base lines and the range of result lines that replaces it.
type LineRanges = (Range<usize>, Range<usize>);

/// Returns the runs of changed lines.
#[must_use]
pub(super) fn find_line_changes<T: Hash + Eq + Ord>(old: &[T], new: &[T]) -> Vec<LineRanges> {
    if !is_comparable(old, new) {
        let (head, tail) = count_common_affixes(old, new);
        return vec![(head..old.len() - tail, head..new.len() - tail)];
    }
    let mut hunks: Vec<LineRanges> = Vec::new();
    for op in capture_diff_slices(Algorithm::Histogram, old, new) {
        if matches!(op, DiffOp::Equal { .. }) {
            continue;
        }
        // Merge adjacent operations into one hunk.
        match hunks.last_mut() {
            Some((o, n)) if o.end == op.old_range().start && n.end == op.new_range().start => {
                o.end = op.old_range().end;
                n.end = op.new_range().end;
            }
            _ => hunks.push((op.old_range(), op.new_range())),
        }
    }
    hunks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn region_too_large_to_compare_is_one_hunk() {
        let text = |word: &str| (0..21_000).map(|n| format!("{word} {n}\n")).collect::<String>();
        let (old, new) = (format!("same\n{}end\n", text("a")), format!("same\n{}end\n", text("b")));
        let changes = find_line_changes(&split_lines(old.as_bytes()), &split_lines(new.as_bytes()));
        assert_eq!(changes, [(1..21_001, 1..21_001)]);
        assert_eq!(
            find_line_changes(&split_lines(b"a\nb\nc\n"), &split_lines(b"a\nx\nc\ny\n")),
            [(1..2, 1..2), (3..3, 3..4)]
        );
        assert_eq!(find_line_changes(&split_lines(b"a\na\n"), &split_lines(b"a\na\na\n")).len(), 1);
    }
}
