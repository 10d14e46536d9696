//! The rows of the file list: files in order, or a tree of folders with their files.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::core::path::RepoPath;

/// Number of files from which a review starts with a tree of folders.
pub(super) const MIN_TREE_FILES: usize = 24;

/// A row of the file list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ListRow {
    Folder(Folder),
    /// A file of the model. In a tree, its depth.
    File {
        file: usize,
        depth: usize,
    },
}

/// A folder in the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Folder {
    /// The path, with a slash at its end.
    pub path: Vec<u8>,
    /// Bytes of the path that belong to the folders above.
    pub parent_len: usize,
    pub depth: usize,
    /// The positions of its files among those that are shown.
    pub files: Range<usize>,
    pub is_collapsed: bool,
}

/// A file with its path and the key that sorts it, lowest first.
#[derive(Debug, Clone)]
pub(crate) struct TreeFile<'a, K> {
    pub file: usize,
    pub path: &'a RepoPath,
    pub key: K,
}

/// Sorts files as a tree: what a folder contains is together, and folders are sorted by their lowest key, before the files
/// beside them if the keys are equal.
pub(crate) fn sort_as_tree<K: Ord + Copy>(files: &mut [TreeFile<'_, K>]) {
    files.sort_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
    sort_folder(files, 0);
}

fn sort_folder<K: Ord + Copy>(files: &mut [TreeFile<'_, K>], prefix: usize) {
    // Each entry: a folder or a file, as a range of the files.
    let mut entries: Vec<(K, bool, Range<usize>)> = Vec::new();
    let mut at = 0;
    while at < files.len() {
        let name = entry_name(files[at].path, prefix);
        let is_file = name.len() == files[at].path.as_bytes().len() - prefix;
        let same = |file: &TreeFile<'_, K>| entry_name(file.path, prefix) == name;
        let end = if is_file { at + 1 } else { at + files[at..].iter().take_while(|file| same(file)).count() };
        if !is_file {
            let prefix = prefix + name.len();
            sort_folder(&mut files[at..end], prefix);
        }
        let key = files[at..end].iter().map(|file| file.key).min();
        entries.extend(key.map(|key| (key, is_file, at..end)));
        at = end;
    }
    entries.sort_by_key(|(key, is_file, _)| (*key, *is_file));
    let sorted: Vec<TreeFile<'_, K>> = entries.into_iter().flat_map(|(_, _, range)| files[range].to_vec()).collect();
    files.clone_from_slice(&sorted);
}

/// Returns the part of a path from `prefix` to the next slash, which it includes.
fn entry_name(path: &RepoPath, prefix: usize) -> &[u8] {
    let rest = &path.as_bytes()[prefix..];
    let end = rest.iter().position(|b| *b == b'/').map_or(rest.len(), |at| at + 1);
    &rest[..end]
}

/// Returns the rows of files that are sorted as a tree. A folder that contains only another one is shown with it as one row, and
/// a collapsed one without its content.
#[must_use]
pub(crate) fn tree_rows(files: &[(usize, &RepoPath)], collapsed: &BTreeSet<Vec<u8>>) -> Vec<ListRow> {
    let mut rows = Vec::new();
    add_rows(files, 0, 0, 0, collapsed, &mut rows);
    rows
}

fn add_rows(
    files: &[(usize, &RepoPath)],
    first: usize,
    prefix: usize,
    depth: usize,
    collapsed: &BTreeSet<Vec<u8>>,
    rows: &mut Vec<ListRow>,
) {
    let mut at = 0;
    while at < files.len() {
        let (file, path) = files[at];
        let name = entry_name(path, prefix);
        if name.len() == path.as_bytes().len() - prefix {
            rows.push(ListRow::File { file, depth });
            at += 1;
            continue;
        }
        let end = at + files[at..].iter().take_while(|(_, other)| entry_name(other, prefix) == name).count();
        let inside = &files[at..end];
        let mut len = prefix + name.len();
        // A chain of folders without files of their own is one row.
        loop {
            let next = entry_name(path, len);
            let is_file = next.len() == path.as_bytes().len() - len;
            if is_file || !inside.iter().all(|(_, other)| entry_name(other, len) == next) {
                break;
            }
            len += next.len();
        }
        let folder = path.as_bytes()[..len].to_vec();
        let is_collapsed = collapsed.contains(&folder);
        let range = first + at..first + end;
        rows.push(ListRow::Folder(Folder { path: folder, parent_len: prefix, depth, files: range, is_collapsed }));
        if !is_collapsed {
            add_rows(inside, first + at, len, depth + 1, collapsed, rows);
        }
        at = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(names: &[&str]) -> Vec<RepoPath> {
        names.iter().map(|name| RepoPath::from_bytes(name.as_bytes()).expect("a path")).collect()
    }

    fn show(rows: &[ListRow], paths: &[RepoPath]) -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        rows.iter()
            .map(|row| match row {
                ListRow::File { file, depth } => format!("{}{}", " ".repeat(*depth), text(paths[*file].file_name())),
                ListRow::Folder(folder) => format!(
                    "{}{} {:?}{}",
                    " ".repeat(folder.depth),
                    text(&folder.path[folder.parent_len..]),
                    folder.files,
                    if folder.is_collapsed { " collapsed" } else { "" }
                ),
            })
            .collect()
    }

    #[test]
    fn files_of_a_folder_are_together() {
        let paths =
            paths(&["src/a.rs", "z.txt", "src/deep/er/b.rs", "src/deep/er/c.rs", "src-old/d.rs", "src/deep-e.rs"]);
        let mut files: Vec<TreeFile<'_, u8>> =
            paths.iter().enumerate().map(|(file, path)| TreeFile { file, path, key: 1 }).collect();
        sort_as_tree(&mut files);
        let sorted: Vec<(usize, &RepoPath)> = files.iter().map(|file| (file.file, file.path)).collect();
        let expected = [
            "src-old/ 0..1",
            " d.rs",
            "src/ 1..5",
            " deep/er/ 1..3",
            "  b.rs",
            "  c.rs",
            " a.rs",
            " deep-e.rs",
            "z.txt",
        ];
        assert_eq!(show(&tree_rows(&sorted, &BTreeSet::new()), &paths), expected);
        let collapsed = BTreeSet::from([b"src/deep/er/".to_vec()]);
        assert_eq!(show(&tree_rows(&sorted, &collapsed), &paths)[3..5], [" deep/er/ 1..3 collapsed", " a.rs"]);
        // A folder comes where its first file would.
        for file in &mut files {
            file.key = if file.path.as_bytes() == b"src/deep/er/c.rs" { 0 } else { 1 };
        }
        sort_as_tree(&mut files);
        let order: Vec<usize> = files.iter().map(|file| file.file).collect();
        assert_eq!(order, [3, 2, 0, 5, 4, 1]);
    }
}
