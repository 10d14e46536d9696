//! A file's lines, and the order in which those of a hunk stand.

use std::io;
use std::ops::Range;

use super::{ReviewFile, ReviewModel};
use crate::changes::{HunkLine, LineSet, Lines, MAX_TEXT, Unit, UnitKind, interleave_lines, is_interleaved};

/// Both sides of a file by line.
#[derive(Debug, Default)]
pub struct FileText {
    pub old: Lines<Vec<u8>>,
    pub new: Lines<Vec<u8>>,
}

impl FileText {
    /// Reads a file; one without hunks has no lines.
    ///
    /// # Errors
    /// The quarantine is damaged.
    pub fn read(sheet: &ReviewModel<'_>, file: &ReviewFile<'_>) -> io::Result<Self> {
        let is_deleted = |u: &Unit| u.kind == UnitKind::Delete && is_small_text(file);
        if !file.units.iter().any(|u| matches!(u.kind, UnitKind::Hunk { .. }) || is_deleted(u)) {
            return Ok(Self::default());
        }
        let (old, new) = sheet.contents(file)?;
        Ok(Self { old: Lines::new(old), new: Lines::new(new) })
    }
}

/// Returns whether what a deleted file held can be shown by line.
fn is_small_text(file: &ReviewFile<'_>) -> bool {
    let old = file.change.old.as_ref();
    // Of one that is no text no lines are counted.
    file.line_counts.1 > 0 && old.is_some_and(|old| old.size <= MAX_TEXT)
}

/// The rows of a hunk in the order of [`interleave_lines`].
#[derive(Debug, Clone)]
pub struct HunkRows {
    /// Its lines of the base.
    pub old: Range<usize>,
    /// Its lines of the result.
    pub new: Range<usize>,
    /// Nothing where all removed lines come first.
    interleaved_lines: Option<Vec<HunkLine>>,
}

impl HunkRows {
    /// Orders a unit's lines; nothing for one that has none.
    #[must_use]
    pub fn from_unit(unit: &Unit, text: &FileText) -> Option<Self> {
        let UnitKind::Hunk { old, new } = &unit.kind else { return None };
        Some(Self::interleaved(old.clone(), new.clone(), text))
    }

    /// Orders the lines of a hunk.
    #[must_use]
    pub fn interleaved(old: Range<usize>, new: Range<usize>, text: &FileText) -> Self {
        let interleaved_lines = is_interleaved(old.len(), new.len())
            .then(|| interleave_lines(&text.old.list(old.clone()), &text.new.list(new.clone())));
        Self { old, new, interleaved_lines }
    }

    /// Returns a row.
    #[must_use]
    pub fn row(&self, at: usize) -> HunkLine {
        match &self.interleaved_lines {
            Some(rows) => rows[at],
            None if at < self.old.len() => HunkLine::Removed(at),
            None => HunkLine::Added(at - self.old.len()),
        }
    }

    /// Returns the line that is decided on with a row: the removed ones are counted first, then the added ones.
    #[must_use]
    pub fn line(&self, at: usize) -> usize {
        match self.row(at) {
            HunkLine::Removed(line) => line,
            HunkLine::Added(line) => self.old.len() + line,
        }
    }

    /// Returns the lines that are decided on with rows.
    #[must_use]
    pub fn lines(&self, rows: Range<usize>) -> LineSet {
        let mut lines: Vec<usize> = rows.map(|row| self.line(row)).collect();
        lines.sort_unstable();
        LineSet::from_lines(lines)
    }

    /// Returns a row's content.
    #[must_use]
    pub fn content<'a>(&self, text: &'a FileText, at: usize) -> &'a [u8] {
        match self.row(at) {
            HunkLine::Removed(line) => text.old.get(self.old.start + line),
            HunkLine::Added(line) => text.new.get(self.new.start + line),
        }
    }

    /// Counts its rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.old.len() + self.new.len()
    }

    /// Returns whether it has none, which no hunk of a changeset is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the row of a removed line that a row's added one came of, or the reverse, if they stand next to each other.
    #[must_use]
    pub fn paired_row(&self, at: usize) -> Option<usize> {
        let is_removed = |row: usize| matches!(self.row(row), HunkLine::Removed(_));
        if is_removed(at) {
            let next = at + 1;
            let ends = next + 1 >= self.len() || is_removed(next + 1);
            let begins = at == 0 || !is_removed(at - 1);
            (next < self.len() && !is_removed(next) && ends && begins).then_some(next)
        } else {
            let before = at.checked_sub(1)?;
            (is_removed(before) && self.paired_row(before) == Some(at)).then_some(before)
        }
    }
}
