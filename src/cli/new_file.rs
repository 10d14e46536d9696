//! Writes new files for the user.

use std::io::Write as _;
use std::path::Path;

use super::error::CliError;

/// Creates a file and writes it. With `force`, an existing file is replaced once the new one is complete.
pub(super) fn write_new_file(path: &Path, bytes: &[u8], force: bool) -> Result<(), CliError> {
    let shown = path.display();
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => CliError::failed(format!("{shown} already exists; nothing was written"))
            .with_hint("to replace it, add `--force`, or use `-` for stdout"),
        _ => CliError::failed(format!("failed to write {shown}: {error}")),
    };
    if force {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
        file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
        return file.persist(path).map(drop).map_err(|error| failed(error.error));
    }
    let mut file = std::fs::File::create_new(path).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)
}
