//! Writes Airlock's state files so that a crash leaves either the old or the new content.

use std::io::{self, Write};
use std::path::Path;

/// Writes a file atomically and syncs it to disk.
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
