//! Puts into the agent's home what it begins with, as the agent's own user: whatever an agent has planted there before,
//! this can do no more than the agent could.
#![expect(clippy::disallowed_methods, reason = "it writes inside the agent's container")]

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::Path;

/// What the home begins with, in the launcher's volume.
const FURNITURE: &str = "/.airlock/home";

/// Copies what is not there yet.
pub fn furnish() -> io::Result<()> {
    let from = Path::new(FURNITURE);
    let Some(home) = std::env::var_os("HOME").filter(|_| from.is_dir()) else { return Ok(()) };
    copy(from, Path::new(&home))
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target, kind) = (entry.path(), to.join(entry.file_name()), entry.file_type()?);
        let made = if kind.is_dir() {
            fs::create_dir(&target)
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&source)?, &target)
        } else {
            (OpenOptions::new().write(true).create_new(true).open(&target))
                .and_then(|mut file| io::copy(&mut fs::File::open(&source)?, &mut file).map(drop))
        };
        match made {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ if kind.is_dir() && target.is_dir() => copy(&source, &target)?,
            _ => {}
        }
    }
    Ok(())
}
