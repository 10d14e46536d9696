//! Twins: names that some file system takes for one (`A` and `a`, `é` in two normal forms).
//!
//! A link that arrives as the twin of a directory turns a harmless `A/x` into a write wherever it points (CVE-2021-21300 was
//! that). So twins of which one is a link, or one a file and the other a directory, are refused on every file system; plain
//! ones are a note where the file system tells them apart, and refused where it does not.

use std::collections::HashMap;

use crate::core::path::fold;

/// The class of an entry, as far as name collisions are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryClass {
    /// A file, executable or not.
    File,
    Directory,
    /// A link, or something that should not be there at all.
    Other,
}

impl EntryClass {
    /// Returns whether two of these may stand beside each other on a file system that tells their names apart.
    #[must_use]
    pub fn can_coexist(self, other: Self) -> bool {
        self == other && self != Self::Other
    }
}

/// Finds the names of one directory that have a twin in it, as pairs of indices; each name is paired with the first of its
/// kin.
#[must_use]
pub fn find_collisions<'a>(names: impl IntoIterator<Item = &'a [u8]>) -> Vec<(usize, usize)> {
    let mut first: HashMap<Vec<u8>, usize> = HashMap::new();
    let mut found = Vec::new();
    for (at, name) in names.into_iter().enumerate() {
        let other = *first.entry(fold(name)).or_insert(at);
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
    fn twins_are_found_by_their_fold() {
        let names = ["a", "b", "A", "caf\u{e9}", "cafe\u{301}", "a\u{200c}", "c"].map(str::as_bytes);
        assert_eq!(find_collisions(names), [(0, 2), (3, 4), (0, 5)]);
        assert_eq!(find_collisions(["x", "y"].map(str::as_bytes)), []);
    }

    #[test]
    fn what_may_stand_side_by_side() {
        use EntryClass::{Directory, File, Other};
        assert!(File.can_coexist(File) && Directory.can_coexist(Directory));
        assert!(!File.can_coexist(Directory) && !Other.can_coexist(Other) && !File.can_coexist(Other));
    }
}
