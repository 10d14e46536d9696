//! Orders the lines of a hunk so that each removed line is followed by the added line that replaced it.
//!
//! This is the order of the lines that remain when only some are accepted. A hunk is shown with its removed lines first.
//! If no lines are similar, they are paired one to one if there are as many added as removed lines. Otherwise, and in
//! large hunks, all removed lines come first.
//!
//! *Invariant:* the order is part of the format of decisions, so it must not change for a hunk that was already
//! decided.

use std::collections::HashMap;

/// A line of a hunk, counted from 0 on its side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HunkLine {
    /// A line of the base.
    Removed(usize),
    /// A line of the result.
    Added(usize),
}

/// Maximum product of removed and added lines for which pairs are searched.
const MAX_PAIRS: usize = 2500;
/// Maximum length in bytes of a line that can be similar to another one.
const MAX_LINE_BYTES: usize = 400;
/// Minimum similarity, in thousandths, at which an added line counts as the replacement of a removed line.
const MIN_SIMILARITY: u32 = 550;

/// Returns the lines of a hunk in order.
#[must_use]
pub(crate) fn interleave_lines(removed: &[&[u8]], added: &[&[u8]]) -> Vec<HunkLine> {
    let mut rows = Vec::with_capacity(removed.len() + added.len());
    let (mut i, mut j) = (0, 0);
    let mut push_until = |to_i: usize, to_j: usize, rows: &mut Vec<HunkLine>| {
        rows.extend((i..to_i).map(HunkLine::Removed));
        rows.extend((j..to_j).map(HunkLine::Added));
        (i, j) = (to_i, to_j);
    };
    let mut pairs = pair_lines(removed, added);
    if pairs.is_empty() && removed.len() == added.len() && is_interleaved(removed.len(), added.len()) {
        // As many added as removed lines, and none similar: pair them in order.
        pairs = (0..removed.len()).map(|at| (at, at)).collect();
    }
    for (a, b) in pairs {
        push_until(a, b, &mut rows);
        push_until(a + 1, b + 1, &mut rows);
    }
    push_until(removed.len(), added.len(), &mut rows);
    rows
}

/// Returns the removed lines that exactly one added line replaces, each with that line.
#[must_use]
pub(crate) fn replaced_lines(removed: &[&[u8]], added: &[&[u8]]) -> Vec<(usize, usize)> {
    let rows = interleave_lines(removed, added);
    let is_removed = |at: usize| matches!(rows.get(at), Some(HunkLine::Removed(_)));
    let is_added = |at: usize| matches!(rows.get(at), Some(HunkLine::Added(_)));
    let pairs = rows.windows(2).enumerate().filter_map(|(at, pair)| match pair {
        [HunkLine::Removed(old), HunkLine::Added(new)] => Some((at, (*old, *new))),
        _ => None,
    });
    let is_isolated = |at: usize| (at == 0 || !is_removed(at - 1)) && !is_added(at + 2);
    pairs.filter(|(at, _)| is_isolated(*at)).map(|(_, pair)| pair).collect()
}

/// Returns whether the order of a hunk depends on its content. Otherwise, all removed lines come first.
#[must_use]
pub(crate) fn is_interleaved(removed: usize, added: usize) -> bool {
    removed > 0 && added > 0 && removed * added <= MAX_PAIRS && removed + added > 2
}

/// Returns the pairs of lines, ascending on both sides, with the highest total similarity.
fn pair_lines(removed: &[&[u8]], added: &[&[u8]]) -> Vec<(usize, usize)> {
    let (n, m) = (removed.len(), added.len());
    if !is_interleaved(n, m) {
        return Vec::new();
    }
    let old: Vec<TokenSet<'_>> = removed.iter().map(|line| TokenSet::from_line(line)).collect();
    let new: Vec<TokenSet<'_>> = added.iter().map(|line| TokenSet::from_line(line)).collect();
    // `best[i][j]`: the highest total similarity of removed lines from `i` on and added lines from `j` on.
    let (width, mut similarities) = (m + 1, vec![0_u32; n * m]);
    let mut best = vec![0_u32; (n + 1) * width];
    for i in (0..n).rev() {
        for j in (0..m).rev() {
            let common = old[i].compute_similarity(&new[j]);
            similarities[i * m + j] = common;
            let skip = best[(i + 1) * width + j].max(best[i * width + j + 1]);
            let take = if common >= MIN_SIMILARITY { common + best[(i + 1) * width + j + 1] } else { 0 };
            best[i * width + j] = skip.max(take);
        }
    }
    let (mut found, mut i, mut j) = (Vec::new(), 0, 0);
    while i < n && j < m {
        let remaining = best[i * width + j];
        let common = similarities[i * m + j];
        if common >= MIN_SIMILARITY && remaining == common + best[(i + 1) * width + j + 1] {
            found.push((i, j));
            (i, j) = (i + 1, j + 1);
        } else if remaining == best[(i + 1) * width + j] {
            i += 1;
        } else {
            j += 1;
        }
    }
    found
}

/// The tokens of a line with their number of occurrences, and their total length in bytes.
struct TokenSet<'a> {
    counts: HashMap<&'a [u8], u32>,
    bytes: u32,
}

impl<'a> TokenSet<'a> {
    fn from_line(line: &'a [u8]) -> Self {
        let mut tokens = Self { counts: HashMap::new(), bytes: 0 };
        if line.len() > MAX_LINE_BYTES {
            return tokens;
        }
        let is_word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_' || *b >= 0x80;
        for word in line.chunk_by(|a, b| is_word(a) && is_word(b)).filter(|w| !w[0].is_ascii_whitespace()) {
            *tokens.counts.entry(word).or_default() += 1;
            tokens.bytes += u32::try_from(word.len()).unwrap_or(u32::MAX);
        }
        tokens
    }

    /// Returns the common share of two lines, in thousandths.
    fn compute_similarity(&self, other: &Self) -> u32 {
        let same = self.counts.iter().map(|(word, n)| {
            let shared = other.counts.get(word).map_or(0, |m| *n.min(m));
            shared * u32::try_from(word.len()).unwrap_or(u32::MAX)
        });
        let (same, total) = (same.sum::<u32>(), self.bytes + other.bytes);
        (same * 2000).checked_div(total).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::HunkLine::{Added as A, Removed as R};
    use super::*;

    fn interleave(removed: &[&str], added: &[&str]) -> Vec<HunkLine> {
        let bytes = |lines: &[&'static str]| lines.iter().map(|l| l.as_bytes()).collect::<Vec<_>>();
        let (removed, added): (Vec<&'static str>, Vec<&'static str>) = (
            removed.iter().map(|l| &*l.to_string().leak()).collect(),
            added.iter().map(|l| &*l.to_string().leak()).collect(),
        );
        interleave_lines(&bytes(&removed), &bytes(&added))
    }

    #[test]
    fn added_line_follows_the_line_it_replaces() {
        let old = ["let total = sum(a);", "let name = first(b);", "return total;"];
        let new = ["let total = sum(a, c);", "let name = first_name(b);", "return total + 1;"];
        assert_eq!(interleave(&old, &new), [R(0), A(0), R(1), A(1), R(2), A(2)]);
        assert_eq!(interleave(&old[..2], &["let name = first_name(b);"]), [R(0), R(1), A(0)]);
        assert_eq!(interleave(&["let name = first(b);"], &new[..2]), [A(0), R(0), A(1)]);
    }

    #[test]
    fn unrelated_lines_are_not_interleaved() {
        assert_eq!(interleave(&["abc def", "ghi"], &["xyz", "uvw rst", "more"]), [R(0), R(1), A(0), A(1), A(2)]);
        assert_eq!(
            interleave(&["", "  "], &["\t", "", " "]),
            [R(0), R(1), A(0), A(1), A(2)],
            "blank lines are similar to no line"
        );
        // Equal numbers of removed and added lines are paired in order.
        assert_eq!(interleave(&["abc def", "ghi"], &["xyz", "uvw rst"]), [R(0), A(0), R(1), A(1)]);
        let many: Vec<String> = (0..60).map(|n| format!("same words {n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(interleave(&many, &many[1..])[..60].iter().all(|row| matches!(row, R(_))), "too many lines to compare");
        assert_eq!(interleave(&[], &["a"]), [A(0)]);
    }
}
