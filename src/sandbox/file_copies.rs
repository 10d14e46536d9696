//! Copies of a sandbox's files for an editor. They are in the sandbox's directory on the host, because an editor may return before
//! it is closed. The next copies remove those of more than a day ago.

#![expect(clippy::disallowed_methods, reason = "our own state, outside every working tree")]

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::store::Sandbox;
use crate::core::path::RepoPath;

/// The directory of the copies.
const COPIES: &str = "copies";
/// Time after which copies are removed.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// Maximum length of the part of a name that comes from the path.
const MAX_NAME: usize = 100;

impl Sandbox {
    /// Writes copies that only the user can read, and no one can write. Returns their paths, in the same order.
    ///
    /// *Invariant:* each copy is alone in a directory, and its name begins with `copy-`. Editors and the tools that they start
    /// (git, language servers, linters) look for files with special names beside the open one, and some of these run commands: a
    /// `Cargo.toml` with a `build.rs`, an `eslint.config.js`, or `HEAD`, `config`, `objects` and `refs`, which are a git repository.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn write_copies(&self, files: &[(RepoPath, Vec<u8>)]) -> io::Result<Vec<PathBuf>> {
        let all = self.file_path(COPIES);
        fs::create_dir_all(&all)?;
        fs::set_permissions(&all, Permissions::from_mode(0o700))?;
        remove_old(&all)?;
        let dir = tempfile::Builder::new().prefix(self.record.name.as_str()).tempdir_in(&all)?.keep();
        let mut paths = Vec::new();
        for (number, (path, content)) in files.iter().enumerate() {
            let alone = dir.join((number + 1).to_string());
            fs::create_dir(&alone)?;
            let copy = alone.join(copy_name(path));
            File::create_new(&copy)?.write_all(content)?;
            fs::set_permissions(&copy, Permissions::from_mode(0o400))?;
            paths.push(copy);
        }
        Ok(paths)
    }
}

fn remove_old(all: &Path) -> io::Result<()> {
    for entry in fs::read_dir(all)?.flatten() {
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        if modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > KEPT)) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Returns the name of a copy, from which a person can tell the path, and an editor the language.
fn copy_name(path: &RepoPath) -> String {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"._-+".contains(&b);
    let plain = path.as_bytes().iter().map(|b| if is_plain(*b) { char::from(*b) } else { '-' });
    let name: Vec<char> = plain.collect();
    // The end has the name of the file.
    let end = &name[name.len().saturating_sub(MAX_NAME)..];
    format!("copy-{}", end.iter().collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_copies_are_plain_and_not_special() {
        let name = |path: &[u8]| copy_name(&RepoPath::from_bytes(path).expect("a path"));
        for (path, expected) in [
            (&b"src/a-b.rs"[..], "copy-src-a-b.rs"),
            (b".envrc", "copy-.envrc"),
            (b"HEAD", "copy-HEAD"),
            (b"a b/$(x).txt", "copy-a-b---x-.txt"),
            (b"a\x1b[31m", "copy-a--31m"),
            (b"a.\xff", "copy-a.-"),
        ] {
            assert_eq!(name(path), expected);
        }
        let long = format!("{}/end.rs", "d".repeat(200));
        assert!(name(long.as_bytes()).len() <= 110 && name(long.as_bytes()).ends_with("d-end.rs"));
    }
}
