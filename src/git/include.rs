//! Matches the globs of `--include`, which select ignored or untracked files to copy into the sandbox and to collect.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::{GlobBuilder, GlobMatcher};
use rustix::fs::{AtFlags, Dir, FileType, Mode};
use rustix::io::Errno;

use super::error::SnapshotError;
use super::open_dir::OPEN_DIR_FLAGS;
use crate::core::path::RepoPath;

/// The globs of `--include`: a path, a directory with everything below it, or a glob in which `*` stays within a
/// directory and `**` does not.
#[derive(Debug, Clone, Default)]
pub(crate) struct Includes {
    globs: Vec<(Vec<u8>, GlobMatcher)>,
}

impl Includes {
    /// Parses the globs.
    ///
    /// # Errors
    /// An invalid glob.
    pub(crate) fn parse_globs(patterns: &[String]) -> Result<Self, SnapshotError> {
        let glob = |pattern: &String| {
            let glob = GlobBuilder::new(pattern).literal_separator(true).build();
            let glob = glob.map_err(|e| SnapshotError::InvalidInclude(e.to_string()))?;
            Ok((pattern.trim_end_matches('/').as_bytes().to_vec(), glob.compile_matcher()))
        };
        Ok(Self { globs: patterns.iter().map(glob).collect::<Result<_, SnapshotError>>()? })
    }

    /// Returns whether a glob matches this path or a directory above it.
    #[must_use]
    pub(crate) fn is_match(&self, path: &RepoPath) -> bool {
        let bytes = path.as_bytes();
        let is_below = |plain: &[u8]| bytes.strip_prefix(plain).is_some_and(|rest| rest.is_empty() || rest[0] == b'/');
        self.globs.iter().any(|(plain, glob)| is_below(plain) || glob.is_match(OsStr::from_bytes(bytes)))
    }
}

/// Finds the files of the working tree that a pattern matches. Only the directory before the first wildcard is
/// searched, and repositories below it are not entered.
pub(crate) fn find_matching_files(root: &OwnedFd, pattern: &String) -> Result<Vec<RepoPath>, SnapshotError> {
    let includes = Includes::parse_globs(std::slice::from_ref(pattern))?;
    let plain = pattern.trim_end_matches('/');
    let fixed = match plain.find(['*', '?', '[', '{', '\\']) {
        Some(at) => plain[..at].rsplit_once('/').map_or("", |(above, _)| above),
        None => plain,
    };
    let no_match = |_| SnapshotError::UnmatchedInclude(pattern.clone());
    let start = if fixed.is_empty() { None } else { Some(RepoPath::from_bytes(fixed.as_bytes()).map_err(no_match)?) };
    let (mut found, mut pending) = (Vec::new(), vec![start]);
    while let Some(at) = pending.pop() {
        let directory = match open_below(root, at.as_ref()) {
            Ok(directory) => directory,
            Err(Errno::NOTDIR | Errno::LOOP) => {
                // A file or symlink that the pattern names.
                found.extend(at.filter(|path| includes.is_match(path)));
                continue;
            }
            Err(_) => continue,
        };
        for entry in Dir::read_from(&directory).map_err(std::io::Error::from)? {
            let entry = entry.map_err(std::io::Error::from)?;
            let name = entry.file_name().to_bytes();
            let Ok(path) = RepoPath::from_parent(at.as_ref(), name) else { continue };
            if is_directory(&directory, name, entry.file_type()) {
                let git = Path::new(OsStr::from_bytes(name)).join(".git");
                if rustix::fs::statat(&directory, &git, AtFlags::SYMLINK_NOFOLLOW).is_err() {
                    pending.push(Some(path));
                }
            } else if includes.is_match(&path) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Returns whether an entry is a directory. Not every file system includes the kind in its listings.
fn is_directory(directory: &OwnedFd, name: &[u8], listed: FileType) -> bool {
    let asked = || rustix::fs::statat(directory, Path::new(OsStr::from_bytes(name)), AtFlags::SYMLINK_NOFOLLOW);
    match listed {
        FileType::Unknown => asked().is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Directory),
        kind => kind == FileType::Directory,
    }
}

fn open_below(root: &OwnedFd, path: Option<&RepoPath>) -> Result<OwnedFd, Errno> {
    let mut directory = rustix::fs::openat(root, ".", OPEN_DIR_FLAGS, Mode::empty())?;
    for component in path.into_iter().flat_map(RepoPath::components) {
        directory =
            rustix::fs::openat(&directory, Path::new(OsStr::from_bytes(component)), OPEN_DIR_FLAGS, Mode::empty())?;
    }
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use super::Includes;
    use crate::core::path::RepoPath;

    #[test]
    fn include_accepts_paths_directories_and_globs() {
        let includes = Includes::parse_globs(&["a/b/".into(), "*.env".into(), "x/**/y".into()]).expect("valid globs");
        let is_match = |path: &str| includes.is_match(&RepoPath::from_bytes(path.as_bytes()).expect("valid path"));
        for path in ["a/b", "a/b/c/d", "k.env", "x/1/2/y"] {
            assert!(is_match(path), "{path}");
        }
        for path in ["a/bc", "a", "dir/k.env", "x/y/z"] {
            assert!(!is_match(path), "{path}");
        }
        assert!(Includes::parse_globs(&["[".into()]).is_err());
    }
}
