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
/// Maximum length in bytes of an extension that is kept.
const MAX_EXTENSION: usize = 12;

impl Sandbox {
    /// Writes copies that only the user can read, and no one can write. Returns their paths, in the same order.
    ///
    /// A path is kept if all of its names are plain. Editors read settings from files beside the one that they open, and some of
    /// their names begin with a dot, so a file with another path gets a new name.
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
            let copy = dir.join(copy_path(path, number + 1));
            if let Some(parent) = copy.parent() {
                fs::create_dir_all(parent)?;
            }
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

/// Returns the path of a copy, relative to its directory.
fn copy_path(path: &RepoPath, number: usize) -> PathBuf {
    let is_plain_byte = |b: &u8| b.is_ascii_alphanumeric() || b"._-+".contains(b);
    let is_plain = |name: &[u8]| !matches!(name.first(), Some(b'.' | b'-')) && name.iter().all(is_plain_byte);
    if let Ok(text) = std::str::from_utf8(path.as_bytes())
        && path.components().all(is_plain)
    {
        return text.into();
    }
    let name = path.file_name();
    let extension = name.iter().rposition(|b| *b == b'.').map_or(&[][..], |at| &name[at + 1..]);
    let has_extension =
        (1..=MAX_EXTENSION).contains(&extension.len()) && extension.iter().all(u8::is_ascii_alphanumeric);
    // No plain path has a colon.
    let dot = if has_extension { "." } else { "" };
    let extension = if has_extension { String::from_utf8_lossy(extension) } else { "".into() };
    format!("other:{number}{dot}{extension}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_paths_are_kept() {
        let copy = |path: &[u8]| copy_path(&RepoPath::from_bytes(path).expect("a path"), 7);
        assert_eq!(copy(b"src/a-b.rs"), Path::new("src/a-b.rs"));
        for (path, expected) in [
            (&b".envrc"[..], "other:7.envrc"),
            (b".vscode/settings.json", "other:7.json"),
            (b"src/.dir-locals.el", "other:7.el"),
            (b"-c", "other:7"),
            (b"a b.txt", "other:7.txt"),
            (b"a\x1b[31m", "other:7"),
            (b"a.\xff", "other:7"),
            (b"other:1", "other:7"),
        ] {
            assert_eq!(copy(path), Path::new(expected));
        }
    }
}
