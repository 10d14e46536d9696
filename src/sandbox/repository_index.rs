//! The repositories of this user that have had sandboxes: a file for each, named by the repository's ID, with the path of its
//! git directory. It serves `airlock ls --all` and `airlock attach` from any directory.
#![expect(clippy::disallowed_methods, reason = "our own state, outside every working tree")]

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::store::SandboxStore;
use crate::core::atomic_file::write_atomic;
use crate::core::state_dir::state_dir;

/// The index of this user.
#[derive(Debug, Clone)]
pub struct RepositoryIndex {
    dir: PathBuf,
}

impl RepositoryIndex {
    /// Opens the index; returns `None` if the user has no home directory.
    #[must_use]
    pub fn open() -> Option<Self> {
        Some(Self { dir: state_dir()?.join("repositories") })
    }

    /// Adds a repository. It may be there already.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn add_repository(&self, id: &str, common_dir: &Path) -> io::Result<()> {
        let path = common_dir.as_os_str().as_bytes();
        if std::fs::read(self.dir.join(id)).is_ok_and(|known| known == path) {
            return Ok(());
        }
        std::fs::create_dir_all(&self.dir)?;
        write_atomic(&self.dir, id, path)
    }

    /// Lists the git directories of the repositories that exist.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn list_repositories(&self) -> io::Result<Vec<PathBuf>> {
        let mut found: Vec<_> =
            self.read_entries()?.into_iter().map(|(_, path)| path).filter(|path| path.exists()).collect();
        found.sort();
        Ok(found)
    }

    /// Returns the files of the index with the paths in them.
    fn read_entries(&self) -> io::Result<Vec<(PathBuf, PathBuf)>> {
        let entries = match std::fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let file = entry?.path();
            // Temporary files of a write in progress begin with a dot.
            if file.file_name().is_some_and(|name| name.as_bytes().starts_with(b".")) {
                continue;
            }
            match std::fs::read(&file) {
                Ok(path) => found.push((file, PathBuf::from(OsStr::from_bytes(&path)))),
                // Another process has just removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Removes the repositories that do not exist from the index. (They may only be on a disk that is not mounted; the next
    /// sandbox adds them again.)
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn forget_missing(&self) -> io::Result<()> {
        for (file, path) in self.read_entries()? {
            if matches!(path.try_exists(), Ok(false)) {
                let _ = std::fs::remove_file(file);
            }
        }
        Ok(())
    }

    /// Returns the stores of sandboxes of all repositories.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn list_stores(&self) -> io::Result<Vec<SandboxStore>> {
        Ok(self.list_repositories()?.iter().map(|path| SandboxStore::new(path)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_lists_existing_repositories_and_forgets_others() {
        let dir = tempfile::tempdir().expect("a directory");
        let index = RepositoryIndex { dir: dir.path().join("index") };
        assert_eq!(index.list_repositories().expect("no index yet"), Vec::<PathBuf>::new());
        let (first, second) = (dir.path().join("first"), dir.path().join(OsStr::from_bytes(b"caf\xe9")));
        for (id, path) in [("1", &first), ("2", &second), ("2", &second)] {
            let _ = std::fs::create_dir(path);
            index.add_repository(id, path).expect("added");
        }
        let mut both = vec![first.clone(), second.clone()];
        both.sort();
        assert_eq!(index.list_repositories().expect("listed"), both);
        std::fs::remove_dir(&first).expect("removed");
        assert_eq!(index.list_repositories().expect("listed"), [second]);
        index.forget_missing().expect("removed");
        assert!(!index.dir.join("1").exists() && index.dir.join("2").exists());
    }
}
