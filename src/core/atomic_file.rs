//! Writes files of our own state so that a crash leaves the old content or the new.

use std::io::{self, Write};
use std::path::Path;

/// Writes a file whole or not at all, and to disk.
pub(crate) fn write_atomic(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    put_in_place(file, &folder.join(name))
}

pub(crate) fn put_in_place(file: tempfile::NamedTempFile, path: &Path) -> io::Result<()> {
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?;
    Ok(())
}
