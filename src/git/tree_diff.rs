//! Compares two trees in time proportional to the difference: equal subtrees are never opened.

use git2::{ObjectType, Oid, Repository, Tree, TreeEntry};

use super::error::SnapshotError;

/// A path that differs, with its mode and object on both sides, including submodules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChangedPath {
    pub path: Vec<u8>,
    pub old: Option<(i32, Oid)>,
    pub new: Option<(i32, Oid)>,
}

/// Lists the paths that differ, and stops soon after `limit` paths.
pub(crate) fn compare_trees(
    git: &Repository,
    old: Oid,
    new: Oid,
    limit: usize,
) -> Result<Vec<ChangedPath>, SnapshotError> {
    let mut found = Vec::new();
    let (old, new) = (git.find_tree(old)?, git.find_tree(new)?);
    Comparison { git, limit, found: &mut found }.compare_subtrees(Some(&old), Some(&new), b"")?;
    Ok(found)
}

struct Comparison<'a> {
    git: &'a Repository,
    limit: usize,
    found: &'a mut Vec<ChangedPath>,
}

impl Comparison<'_> {
    fn compare_subtrees(
        &mut self,
        old: Option<&Tree<'_>>,
        new: Option<&Tree<'_>>,
        prefix: &[u8],
    ) -> Result<(), SnapshotError> {
        if old.map(Tree::id) == new.map(Tree::id) {
            return Ok(());
        }
        for entry in new.into_iter().flat_map(Tree::iter) {
            let other = old.and_then(|tree| tree.get_name_bytes(entry.name_bytes()));
            self.compare_entries(other.as_ref(), Some(&entry), prefix)?;
        }
        for entry in old.into_iter().flat_map(Tree::iter) {
            if new.is_none_or(|tree| tree.get_name_bytes(entry.name_bytes()).is_none()) {
                self.compare_entries(Some(&entry), None, prefix)?;
            }
        }
        Ok(())
    }

    fn compare_entries(
        &mut self,
        old: Option<&TreeEntry<'_>>,
        new: Option<&TreeEntry<'_>>,
        prefix: &[u8],
    ) -> Result<(), SnapshotError> {
        let side = |entry: Option<&TreeEntry<'_>>| entry.map(|e| (e.filemode(), e.id()));
        if side(old) == side(new) || self.found.len() > self.limit {
            return Ok(());
        }
        let name = old.or(new).map_or(&b""[..], TreeEntry::name_bytes);
        let path = [prefix, name].concat();
        let is_tree = |entry: &&TreeEntry<'_>| entry.kind() == Some(ObjectType::Tree);
        let tree =
            |entry: Option<&TreeEntry<'_>>| entry.filter(is_tree).map(|e| self.git.find_tree(e.id())).transpose();
        let (old_tree, new_tree) = (tree(old)?, tree(new)?);
        if old_tree.is_some() || new_tree.is_some() {
            self.compare_subtrees(old_tree.as_ref(), new_tree.as_ref(), &[&path, &b"/"[..]].concat())?;
        }
        let file = |entry: Option<&TreeEntry<'_>>| side(entry.filter(|e| !is_tree(e)));
        let (old, new) = (file(old), file(new));
        if old.is_some() || new.is_some() {
            self.found.push(ChangedPath { path, old, new });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::compare_trees;
    use git2::{ObjectType, Oid, Repository};

    #[test]
    fn tree_diff_finds_each_kind_of_difference_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let git = Repository::init_bare(dir.path()).expect("a repository");
        let blob = |text: &str| git.blob(text.as_bytes()).expect("a blob");
        let tree = |entries: &[(&str, Oid, i32)]| {
            let mut builder = git.treebuilder(None).expect("a builder");
            for (name, id, mode) in entries {
                builder.insert(name, *id, *mode).expect("inserted");
            }
            builder.write().expect("a tree")
        };
        let same = tree(&[("x", blob("x"), 0o100_644)]);
        let old = tree(&[
            ("edited", blob("1"), 0o100_644),
            ("gone", blob("1"), 0o100_644),
            ("mode", blob("1"), 0o100_644),
            ("same", same, 0o040_000),
            ("to-file", same, 0o040_000),
            ("to-tree", blob("1"), 0o100_644),
        ]);
        let new = tree(&[
            ("edited", blob("2"), 0o100_644),
            ("made", same, 0o040_000),
            ("mode", blob("1"), 0o100_755),
            ("same", same, 0o040_000),
            ("to-file", blob("3"), 0o120_000),
            ("to-tree", same, 0o040_000),
        ]);
        let diff_trees = |limit| {
            let found = compare_trees(&git, old, new, limit).expect("compared");
            found
                .into_iter()
                .map(|c| (String::from_utf8(c.path).expect("UTF-8"), c.old.is_some(), c.new.is_some()))
                .collect::<Vec<_>>()
        };
        let expected = [
            ("edited", true, true),
            ("made/x", false, true),
            ("mode", true, true),
            ("to-file/x", true, false),
            ("to-file", false, true),
            ("to-tree/x", false, true),
            ("to-tree", true, false),
            ("gone", true, false),
        ];
        assert_eq!(diff_trees(100), expected.map(|(p, a, b)| (p.to_owned(), a, b)));
        assert_eq!(diff_trees(2).len(), 3, "one more than the limit shows that it was exceeded");
        assert_eq!(git.find_object(old, Some(ObjectType::Tree)).expect("tree exists").id(), old);
        assert!(compare_trees(&git, old, old, 1).expect("compared").is_empty());
    }
}
