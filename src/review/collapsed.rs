//! Files that nobody wrote by hand: they begin folded. A fold never hides what was found out about a file.

use crate::changes::{FileChange, is_lock_file};
use crate::core::path::RepoPath;

/// Directories of other people's code.
const VENDORED: [&str; 5] = ["vendor", "node_modules", "third_party", "thirdparty", "bower_components"];

/// Endings of what tools write.
const GENERATED: [&str; 6] = [".min.js", ".min.css", ".map", ".pb.go", "_pb2.py", ".snap"];

/// Bytes at the beginning of a file in which it says that it is generated.
const HEAD: usize = 1024;

/// Changed lines up to which a file costs nobody any time.
const SHORT: usize = 8;

/// Returns whether a file begins folded: a lock file, another's, or one whose base says that it is generated.
///
/// *Invariant:* neither what an agent writes into a file folds it, nor how an agent names it: a file that the base does not
/// have begins open.
#[must_use]
pub fn is_collapsed_by_default(change: &FileChange, old: &[u8], changed: usize) -> bool {
    change.old.is_some() && changed > SHORT && (has_generated_name(&change.path) || has_generated_marker(old))
}

fn has_generated_name(path: &RepoPath) -> bool {
    let name = path.file_name();
    let is_vendored = path.components().any(|part| VENDORED.iter().any(|v| v.as_bytes() == part));
    is_lock_file(name) || GENERATED.iter().any(|ending| name.ends_with(ending.as_bytes())) || is_vendored
}

fn has_generated_marker(old: &[u8]) -> bool {
    let head = &old[..old.len().min(HEAD)];
    let holds = |what: &str| memchr::memmem::find(head, what.as_bytes()).is_some();
    holds("@generated") || holds("DO NOT EDIT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_nobody_writes_by_hand() {
        let is = |path: &str| has_generated_name(&RepoPath::from_bytes(path.as_bytes()).expect("a path"));
        for path in ["Cargo.lock", "web/yarn.lock", "vendor/a/b.go", "x/node_modules/y.js", "app.min.js", "a_pb2.py"] {
            assert!(is(path), "{path}");
        }
        for path in ["src/lock.rs", "Cargo.lock.md", "vendors/a.go", "map.rs", "a.rs"] {
            assert!(!is(path), "{path}");
        }
    }
}
