//! The facts about a deleted file that a review needs without reading it.

use serde::{Deserialize, Serialize};

/// Bytes at the beginning of a file that are searched for a marker of generated code.
const MARKER_BYTES: usize = 1024;

/// The facts about the content of a deleted file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedContent {
    /// Number of lines, or 0 for a file that is not text.
    pub lines: usize,
    /// Whether a marker says that it was generated.
    pub is_generated: bool,
}

impl DeletedContent {
    /// Examines the content of a file.
    #[must_use]
    pub fn from_content(content: &[u8]) -> Self {
        let is_text = memchr::memchr(0, content).is_none();
        let lines = if is_text { count_text_lines(content) } else { 0 };
        Self { lines, is_generated: has_generated_marker(content) }
    }
}

/// Returns the number of lines; the last one may have no end.
fn count_text_lines(bytes: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', bytes).count() + usize::from(bytes.last().is_some_and(|b| *b != b'\n'))
}

/// Returns whether the first lines of a file say that it was generated.
fn has_generated_marker(content: &[u8]) -> bool {
    let head = &content[..content.len().min(MARKER_BYTES)];
    let holds = |what: &str| memchr::memmem::find(head, what.as_bytes()).is_some();
    holds("@generated") || holds("DO NOT EDIT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_markers_are_found() {
        let facts = |content: &[u8]| {
            let found = DeletedContent::from_content(content);
            (found.lines, found.is_generated)
        };
        assert_eq!(facts(b""), (0, false));
        assert_eq!(facts(b"a\nb"), (2, false));
        assert_eq!(facts(b"// @generated\nb\n"), (2, true));
        assert_eq!(facts(b"a\0\n\n"), (0, false));
        assert_eq!(facts(&[&b"x".repeat(1100)[..], b"DO NOT EDIT"].concat()), (1, false), "too far down");
    }
}
