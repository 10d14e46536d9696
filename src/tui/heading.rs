//! The line that says where the lines below a gap belong: the heading of their function, type or section.

use crate::changes::{Lines, trim_line_ending};
use crate::core::path::RepoPath;

/// Lines above a gap in which a heading is searched.
const MAX_DISTANCE: usize = 2000;
/// Columns of a tab.
const TAB_WIDTH: usize = 8;
/// Name endings of files whose sections have headings.
const MARKDOWN: [&str; 3] = [".md", ".markdown", ".mdx"];
/// First words of lines that enclose others and name nothing.
const CONTROL_WORDS: [&str; 24] = [
    "if", "else", "elif", "elsif", "unless", "for", "foreach", "while", "until", "loop", "do", "switch", "match",
    "case", "default", "try", "catch", "except", "finally", "rescue", "with", "when", "return", "then",
];

/// Returns the index of the line that encloses the line `below`: of Markdown the heading of its section; otherwise the innermost
/// less indented line above that names something, such as a function, or the outermost one.
#[must_use]
pub(super) fn find_heading(lines: &Lines<Vec<u8>>, below: usize, path: &RepoPath) -> Option<usize> {
    let line = |at: usize| trim_line_ending(lines.get(at));
    let above = |from: usize| (from.saturating_sub(MAX_DISTANCE)..from).rev();
    if MARKDOWN.iter().any(|ending| path.file_name().ends_with(ending.as_bytes())) {
        return above(below).find(|at| line(*at).starts_with(b"#"));
    }
    let next = (below..lines.len()).map(line).find(|line| indent_columns(line).is_some())?;
    let mut limit = indent_columns(next)?;
    // What closes a body is inside it.
    let start = next.trim_ascii_start();
    limit += usize::from(start.first().is_some_and(|b| b"})]".contains(b)) || first_word(start) == b"end");
    let mut outermost = None;
    for at in above(below) {
        let text = line(at);
        let Some(columns) = indent_columns(text).filter(|columns| *columns < limit) else { continue };
        let text = text.trim_ascii_start();
        // A brace alone on a line belongs to the line above it.
        if text.first().is_some_and(|b| b"{}()".contains(b)) {
            continue;
        }
        limit = columns;
        if is_name_start(text) {
            outermost = Some(at);
            if !is_control(text) {
                return outermost;
            }
        }
        if limit == 0 {
            break;
        }
    }
    outermost
}

/// Returns the columns before the first character of a line that is not blank.
fn indent_columns(line: &[u8]) -> Option<usize> {
    let mut columns = 0;
    for byte in line {
        match byte {
            b' ' => columns += 1,
            b'\t' => columns = columns / TAB_WIDTH * TAB_WIDTH + TAB_WIDTH,
            _ => return Some(columns),
        }
    }
    None
}

fn is_name_start(text: &[u8]) -> bool {
    text.first().is_some_and(|b| {
        b.is_ascii_alphabetic() || matches!(b, b'_' | b'$' | b'[' | b'<' | b'"' | b'.' | b'#' | 0x80..)
    })
}

fn first_word(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|b| !b.is_ascii_alphanumeric() && *b != b'_').unwrap_or(text.len());
    &text[..end]
}

fn is_control(text: &[u8]) -> bool {
    CONTROL_WORDS.iter().any(|word| word.as_bytes() == first_word(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heading(path: &str, text: &str, below: usize) -> Option<String> {
        let lines = Lines::new(text.as_bytes().to_vec());
        let path = RepoPath::from_bytes(path.as_bytes()).expect("a path");
        let at = find_heading(&lines, below, &path)?;
        Some(String::from_utf8_lossy(trim_line_ending(lines.get(at))).trim().to_owned())
    }

    #[test]
    fn heading_is_the_enclosing_definition() {
        let python = "import sys\n\nclass Store:\n    def save(self):\n        x = 1\n\n        if x:\n            y()\n        z()\n\nmain()\n";
        assert_eq!(heading("a.py", python, 7).as_deref(), Some("def save(self):"), "not the condition");
        assert_eq!(
            heading("a.py", python, 5).as_deref(),
            Some("def save(self):"),
            "a blank line belongs to what follows"
        );
        assert_eq!(heading("a.py", python, 3).as_deref(), Some("class Store:"));
        assert_eq!(heading("a.py", python, 10), None, "nothing encloses a line at the margin");
        assert_eq!(heading("a.py", python, 1), None, "an import encloses nothing");
        let c = "int first(void)\n{\n\ta();\n}\n\nint main(void)\n{\n\tfor (;;)\n\t\tb();\n}\n";
        assert_eq!(heading("a.c", c, 8).as_deref(), Some("int main(void)"));
        assert_eq!(heading("a.c", c, 9).as_deref(), Some("int main(void)"), "a brace closes what it belongs to");
    }

    #[test]
    fn heading_of_markdown_is_its_section() {
        let text = "# Tasks\n\nA small list.\n\n## Use\n\nMore text.\n";
        assert_eq!(heading("README.md", text, 6).as_deref(), Some("## Use"));
        assert_eq!(heading("README.md", text, 3).as_deref(), Some("# Tasks"));
        assert_eq!(heading("notes.txt", text, 6), None);
    }
}
