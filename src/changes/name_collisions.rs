//! Finds name collisions: names that some file systems treat as the same (`A` and `a`, `é` in two normal forms).
//!
//! A symlink that collides with a directory turns a harmless `A/x` into a write to wherever it points (as in
//! CVE-2021-21300). Collisions of which one name is a symlink, or one a file and the other a directory, are therefore
//! refused on every file system. Other collisions are a note on file systems that distinguish the names, and refused on
//! those that do not.

use std::collections::HashMap;

use crate::core::path::fold_component;

/// The class of an entry for the purpose of name collisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryClass {
    /// A regular or executable file.
    File,
    Directory,
    /// A symlink, or an entry of an unsupported type.
    Other,
}

impl EntryClass {
    /// Returns whether two colliding entries may coexist on a file system that distinguishes their names.
    #[must_use]
    pub fn can_coexist(self, other: Self) -> bool {
        self == other && self != Self::Other
    }
}

/// Returns the colliding names of one directory as pairs of indices. Each name is paired with the first one that it
/// collides with.
#[must_use]
pub fn find_collisions<'a>(names: impl IntoIterator<Item = &'a [u8]>) -> Vec<(usize, usize)> {
    let mut first: HashMap<Vec<u8>, usize> = HashMap::new();
    let mut found = Vec::new();
    for (at, name) in names.into_iter().enumerate() {
        let other = *first.entry(fold_component(name)).or_insert(at);
        if other != at {
            found.push((other, at));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collisions_are_found_by_folded_name() {
        let names = ["a", "b", "A", "caf\u{e9}", "cafe\u{301}", "a\u{200c}", "c"].map(str::as_bytes);
        assert_eq!(find_collisions(names), [(0, 2), (3, 4), (0, 5)]);
        assert_eq!(find_collisions(["x", "y"].map(str::as_bytes)), []);
    }

    #[test]
    fn entry_classes_that_can_coexist() {
        use EntryClass::{Directory, File, Other};
        assert!(File.can_coexist(File) && Directory.can_coexist(Directory));
        assert!(!File.can_coexist(Directory) && !Other.can_coexist(Other) && !File.can_coexist(Other));
    }
}
