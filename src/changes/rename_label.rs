//! Both paths of a rename as one short text, as git writes it: `src/{old.rs → new.rs}`.

use super::FileChange;
use crate::core::escape::Escaped;
use crate::core::path::RepoPath;

/// Returns both paths, escaped, with what they have in common written once.
#[must_use]
pub(crate) fn rename_label(from: &RepoPath, to: &RepoPath, arrow: &str) -> String {
    let (old, new) = (from.as_bytes(), to.as_bytes());
    let is_slash = |at: &usize| old[*at] == b'/';
    let same = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let prefix = (0..same).rev().find(is_slash).map_or(0, |at| at + 1);
    let shortest = old.len().min(new.len());
    let same = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
    // The slash before the common end may be that after the common start.
    let longest = same.min(shortest + usize::from(prefix > 0) - prefix);
    let suffix = (1..=longest).rev().find(|len| old[old.len() - len] == b'/').unwrap_or(0);
    let text = |bytes: &[u8]| Escaped::new(bytes).to_string();
    if (prefix, suffix) == (0, 0) {
        return format!("{} {arrow} {}", text(old), text(new));
    }
    let middle = |path: &[u8]| text(path.get(prefix..path.len() - suffix).unwrap_or_default());
    let (start, end) = (text(&old[..prefix]), text(&old[old.len() - suffix..]));
    format!("{start}{{{} {arrow} {}}}{end}", middle(old), middle(new))
}

impl FileChange {
    /// Returns the path, or both paths of a rename, escaped.
    #[must_use]
    pub(crate) fn path_label(&self, arrow: &str) -> String {
        match self.old_path() {
            Some(from) => rename_label(from, &self.path, arrow),
            None => Escaped::new(self.path.as_bytes()).to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_directories_are_written_once() {
        let label = |from: &str, to: &str| {
            let path = |text: &str| RepoPath::from_bytes(text.as_bytes()).expect("a path");
            rename_label(&path(from), &path(to), "→")
        };
        assert_eq!(label("a.rs", "b.rs"), "a.rs → b.rs");
        assert_eq!(label("tests/test_store.py", "tests/test_basics.py"), "tests/{test_store.py → test_basics.py}");
        assert_eq!(label("src/mod1/a.rs", "src/core/a.rs"), "src/{mod1 → core}/a.rs");
        assert_eq!(label("mod1/a.rs", "core/a.rs"), "{mod1 → core}/a.rs");
        assert_eq!(label("a/b/c.rs", "a/c.rs"), "a/{b → }/c.rs");
        assert_eq!(label("a/c.rs", "a/b/c.rs"), "a/{ → b}/c.rs");
        assert_eq!(label("c.rs", "a/c.rs"), "c.rs → a/c.rs");
        assert_eq!(label("a/a/x", "a/x"), "a/{a → }/x");
        assert_eq!(label("a/\u{1b}x", "a/y"), "a/{<U+001B>x → y}");
    }
}
