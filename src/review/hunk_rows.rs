//! The lines of a file, and the order of the lines in a hunk.

use std::io;
use std::ops::Range;

use super::{ReviewFile, ReviewModel};
use crate::changes::{
    HunkLine, LineSet, Lines, MAX_TEXT, Unit, UnitKind, interleave_lines, is_interleaved, is_line_based,
};

/// Both sides of a file by line.
#[derive(Debug, Default)]
pub(crate) struct FileText {
    pub old: Lines<Vec<u8>>,
    pub new: Lines<Vec<u8>>,
}

impl FileText {
    /// Reads both sides of a file. A file without hunks has no lines, unless it is a deleted text, or a text that is renamed and
    /// shown completely.
    ///
    /// # Errors
    /// The quarantine is damaged.
    pub(crate) fn read(model: &ReviewModel<'_>, file: &ReviewFile<'_>) -> io::Result<Self> {
        let is_deleted = |u: &Unit| u.kind == UnitKind::Delete && is_small_text(file);
        let has_lines = file.units.iter().any(|u| matches!(u.kind, UnitKind::Hunk { .. }) || is_deleted(u));
        let is_whole = file.shows_whole_content() && !file.change.is_large();
        if !has_lines && !is_whole {
            return Ok(Self::default());
        }
        let (old, new) = model.read_contents(file)?;
        if !(has_lines || is_line_based(&old) && old == new) {
            return Ok(Self::default());
        }
        Ok(Self { old: Lines::new(old), new: Lines::new(new) })
    }
}

/// Returns whether the content of a deleted file can be shown by line.
fn is_small_text(file: &ReviewFile<'_>) -> bool {
    let old = file.change.old.as_ref();
    // Lines are only counted for text.
    file.line_counts.1 > 0 && old.is_some_and(|old| old.size <= MAX_TEXT)
}

/// The rows of a hunk in the order of [`interleave_lines`].
#[derive(Debug, Clone)]
pub(crate) struct HunkRows {
    /// The hunk's lines in the base.
    pub old: Range<usize>,
    /// The hunk's lines in the result.
    pub new: Range<usize>,
    /// The interleaved lines. `None` if all removed lines come first.
    interleaved_lines: Option<Vec<HunkLine>>,
}

impl HunkRows {
    /// Creates the rows of a unit. Returns `None` if the unit is not a hunk.
    #[must_use]
    pub(crate) fn from_unit(unit: &Unit, text: &FileText) -> Option<Self> {
        let UnitKind::Hunk { old, new } = &unit.kind else { return None };
        Some(Self::from_ranges(old.clone(), new.clone(), text))
    }

    /// Creates the rows of a hunk.
    #[must_use]
    pub(crate) fn from_ranges(old: Range<usize>, new: Range<usize>, text: &FileText) -> Self {
        let interleaved_lines = is_interleaved(old.len(), new.len())
            .then(|| interleave_lines(&text.old.collect_lines(old.clone()), &text.new.collect_lines(new.clone())));
        Self { old, new, interleaved_lines }
    }

    /// Returns rows in the order in which they are shown: removed lines first.
    #[must_use]
    pub(crate) fn removed_first(&self, rows: Range<usize>) -> Vec<usize> {
        let is_removed = |row: &usize| matches!(self.row_at(*row), HunkLine::Removed(_));
        let (removed, added): (Vec<usize>, Vec<usize>) = rows.partition(is_removed);
        [removed, added].concat()
    }

    /// Returns whether added lines may come before removed ones.
    #[must_use]
    pub(crate) fn is_interleaved(&self) -> bool {
        self.interleaved_lines.is_some()
    }

    #[must_use]
    pub(crate) fn row_at(&self, at: usize) -> HunkLine {
        match &self.interleaved_lines {
            Some(rows) => rows[at],
            None if at < self.old.len() => HunkLine::Removed(at),
            None => HunkLine::Added(at - self.old.len()),
        }
    }

    /// Returns the line that is decided with a row. Removed lines are counted first, then added ones.
    #[must_use]
    pub(crate) fn decision_line(&self, at: usize) -> usize {
        match self.row_at(at) {
            HunkLine::Removed(line) => line,
            HunkLine::Added(line) => self.old.len() + line,
        }
    }

    /// Returns the lines that are decided with rows.
    #[must_use]
    pub(crate) fn decision_lines(&self, rows: impl IntoIterator<Item = usize>) -> LineSet {
        let mut lines: Vec<usize> = rows.into_iter().map(|row| self.decision_line(row)).collect();
        lines.sort_unstable();
        LineSet::from_lines(lines)
    }

    #[must_use]
    pub(crate) fn row_content<'a>(&self, text: &'a FileText, at: usize) -> &'a [u8] {
        match self.row_at(at) {
            HunkLine::Removed(line) => text.old.get(self.old.start + line),
            HunkLine::Added(line) => text.new.get(self.new.start + line),
        }
    }

    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.old.len() + self.new.len()
    }

    /// Returns the row paired with a row: a single removed line and the single added line that directly follows it.
    #[must_use]
    pub(crate) fn paired_row(&self, at: usize) -> Option<usize> {
        let is_removed = |row: usize| matches!(self.row_at(row), HunkLine::Removed(_));
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
