//! Groups changed lines into hunks with context, as in a unified diff.

use std::ops::Range;

use super::{Unit, UnitKind};

/// Number of context lines before and after a hunk.
pub(crate) const CONTEXT_LINES: usize = 3;

/// An `@@` hunk: one or more hunks with adjoining contexts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ContextHunk<'a> {
    /// The lines of the base, counted from 0.
    pub old: Range<usize>,
    /// The lines of the result, counted from 0.
    pub new: Range<usize>,
    pub lines: Vec<ContextLine<'a>>,
}

/// A line of a hunk, including its line feed if it has one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ContextLine<'a> {
    Context(&'a [u8]),
    /// A line that is only in the base.
    Removed(&'a [u8]),
    /// A line that is only in the result.
    Added(&'a [u8]),
}

impl<'a> ContextLine<'a> {
    /// Returns the content of the line.
    #[must_use]
    pub(crate) fn line_bytes(&self) -> &'a [u8] {
        let (Self::Context(bytes) | Self::Removed(bytes) | Self::Added(bytes)) = self;
        bytes
    }
}

impl ContextHunk<'_> {
    /// Returns the `@@` line in the format of `diff -u`.
    #[must_use]
    pub(crate) fn header_line(&self) -> String {
        // An empty range is given by the line before it.
        let side = |range: &Range<usize>| match range.len() {
            0 => format!("{},0", range.start),
            1 => format!("{}", range.start + 1),
            n => format!("{},{n}", range.start + 1),
        };
        format!("@@ -{} +{} @@", side(&self.old), side(&self.new))
    }
}

/// Returns the hunks of a change with this number of unchanged lines around them.
#[must_use]
pub(crate) fn build_context_hunks<'a>(
    units: &[Unit],
    old: &[&'a [u8]],
    new: &[&'a [u8]],
    context: usize,
) -> Vec<ContextHunk<'a>> {
    let mut hunks: Vec<ContextHunk<'a>> = Vec::new();
    for unit in units {
        let UnitKind::Hunk { old: o, new: n } = &unit.kind else { continue };
        let from = o.start.saturating_sub(context);
        let joins = hunks.last().is_some_and(|h| from <= h.old.end);
        if !joins {
            let before = o.start - from;
            hunks.push(ContextHunk { old: from..from, new: n.start - before..n.start - before, lines: Vec::new() });
        }
        let Some(hunk) = hunks.last_mut() else { continue };
        // The trailing context of a continued hunk may overlap this hunk; trim it.
        while hunk.old.end > o.start {
            hunk.lines.pop();
            hunk.old.end -= 1;
            hunk.new.end -= 1;
        }
        hunk.lines.extend(old[hunk.old.end..o.start].iter().map(|l| ContextLine::Context(l)));
        hunk.lines.extend(old[o.clone()].iter().map(|line| ContextLine::Removed(line)));
        hunk.lines.extend(new[n.clone()].iter().map(|line| ContextLine::Added(line)));
        let after = (o.end + context).min(old.len());
        hunk.lines.extend(old[o.end..after].iter().map(|l| ContextLine::Context(l)));
        hunk.old.end = after;
        hunk.new.end = n.end + (after - o.end);
    }
    hunks
}
