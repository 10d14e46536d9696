//! Writes new files for the user.

use std::io::Write as _;
use std::path::Path;

use super::error::CliError;

/// Creates a file and writes it. An existing file is not replaced.
pub(super) fn write_new_file(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    let shown = path.display();
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => CliError::failed(format!("{shown} already exists; nothing was written"))
            .with_hint("choose another name, or use `-` for stdout"),
        _ => CliError::failed(format!("failed to write {shown}: {error}")),
    };
    let mut file = std::fs::File::create_new(path).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)
}
