//! Indexes the lines of content. A line takes four bytes, so that files with half a million lines can be shown.

use std::ops::Range;

/// Content of less than 4 GiB with an index of its lines.
#[derive(Debug, Clone, Default)]
pub struct Lines<B> {
    bytes: B,
    ends: Vec<u32>,
}

impl<B: AsRef<[u8]>> Lines<B> {
    /// Indexes the lines of content. Bytes beyond 4 GiB belong to no line.
    pub fn new(bytes: B) -> Self {
        let whole = bytes.as_ref();
        let mut ends: Vec<u32> = memchr::memchr_iter(b'\n', whole).map_while(|at| u32::try_from(at + 1).ok()).collect();
        if let Ok(end) = u32::try_from(whole.len())
            && ends.last().copied().unwrap_or(0) < end
        {
            ends.push(end);
        }
        Self { bytes, ends }
    }

    /// Returns the number of lines.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns whether there are no lines.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Returns a line including its line feed, or an empty slice if the line does not exist.
    #[must_use]
    pub fn get(&self, line: usize) -> &[u8] {
        self.slice_lines(line..line + 1)
    }

    /// Returns consecutive lines as one slice.
    #[must_use]
    pub fn slice_lines(&self, lines: Range<usize>) -> &[u8] {
        let at = |line: usize| match line.checked_sub(1) {
            None => 0,
            Some(before) => self.ends.get(before).or(self.ends.last()).map_or(0, |end| *end as usize),
        };
        self.bytes.as_ref().get(at(lines.start)..at(lines.end)).unwrap_or_default()
    }

    /// Returns consecutive lines separately.
    #[must_use]
    pub fn collect_lines(&self, lines: Range<usize>) -> Vec<&[u8]> {
        lines.map(|line| self.get(line)).collect()
    }

    /// Returns the whole content.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_index_equals_split() {
        for text in ["", "\n", "a", "a\n", "a\nb", "\n\nx\r\n", "é\n"] {
            let (lines, expected) = (Lines::new(text.as_bytes()), super::super::split_lines(text.as_bytes()));
            assert_eq!(lines.collect_lines(0..lines.len()), expected, "{text:?}");
            assert_eq!(lines.slice_lines(0..lines.len()), text.as_bytes());
            assert_eq!((lines.get(9), lines.slice_lines(7..9)), (&b""[..], &b""[..]));
        }
        assert_eq!(Lines::new("a\nb\nc").slice_lines(1..3), b"b\nc");
    }
}
