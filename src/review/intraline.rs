//! Computes the words that differ between two lines.

use std::ops::Range;

use similar::{Algorithm, DiffOp, capture_diff_slices};

/// Maximum length of a line that is compared by word, in bytes.
const MAX_LINE_BYTES: usize = 2000;

/// Returns the byte ranges of the words that only one of two lines has, for each line. If the lines have little in common,
/// there are no ranges, because the whole lines differ.
#[must_use]
pub(crate) fn intraline_diff(old: &[u8], new: &[u8]) -> (Vec<Range<usize>>, Vec<Range<usize>>) {
    if old.len() > MAX_LINE_BYTES || new.len() > MAX_LINE_BYTES {
        return Default::default();
    }
    let (a, b) = (split_words(old), split_words(new));
    let (mut gone, mut come, mut same) = (Vec::new(), Vec::new(), 0);
    for op in capture_diff_slices(Algorithm::Myers, &a, &b) {
        if let DiffOp::Equal { old_index, len, .. } = op {
            let kept = &a[old_index..old_index + len];
            same += kept.iter().filter(|w| !w[0].is_ascii_whitespace()).map(|w| w.len()).sum::<usize>();
            continue;
        }
        push_range(&mut gone, &a, op.old_range());
        push_range(&mut come, &b, op.new_range());
    }
    let solid = |line: &[u8]| line.iter().filter(|b| !b.is_ascii_whitespace()).count();
    if same * 3 < solid(old).max(solid(new)) {
        return Default::default();
    }
    (gone, come)
}

fn split_words(line: &[u8]) -> Vec<&[u8]> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let kind = |b: u8| match b {
        b'_' | 0x80.. => 0,
        _ if b.is_ascii_alphanumeric() => 0,
        b' ' | b'\t' => 1,
        // Each symbol is a separate word.
        _ => 2,
    };
    line.chunk_by(|a, b| kind(*a) == kind(*b) && kind(*a) < 2).collect()
}

fn push_range(ranges: &mut Vec<Range<usize>>, words: &[&[u8]], indexes: Range<usize>) {
    let byte_offset = |word: usize| words[..word].iter().map(|w| w.len()).sum::<usize>();
    let range = byte_offset(indexes.start)..byte_offset(indexes.end);
    match ranges.last_mut() {
        _ if range.is_empty() => {}
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(found: &[Range<usize>]) -> Vec<(usize, usize)> {
        found.iter().map(|r| (r.start, r.end)).collect()
    }

    #[test]
    fn differing_words_are_found() {
        let (removed, added) = intraline_diff(b"let x = first(a);\n", b"let x = second(a, b);\n");
        assert_eq!((ranges(&removed), ranges(&added)), (vec![(8, 13)], vec![(8, 14), (16, 19)]));
        assert_eq!(intraline_diff(b"abc\n", b"xyz\n"), (vec![], vec![]), "no words in common");
        assert_eq!(intraline_diff(&[b'a'; 3000], b"a"), (vec![], vec![]));
        let (_, added) = intraline_diff("abc é def\n".as_bytes(), "abc é日 def\n".as_bytes());
        assert_eq!(ranges(&added), [(4, 9)]);
    }
}
