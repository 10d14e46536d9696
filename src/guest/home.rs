//! Creates the initial files of the agent's home as the agent's own user. Files that an agent planted there earlier
//! therefore cannot make it do more than the agent could.
#![expect(clippy::disallowed_methods, reason = "it writes inside the agent's container")]

use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The first file that is created in a new home.
const FIRST_FILE: &str = ".claude.json";
/// A link to the home of the image's own user, if another one is in its list of users now.
const IMAGE_HOME: &str = "/usr/share/airlock/home";

/// Files with the certificates that an image trusts, in its distributions' places.
const SYSTEM_CERTIFICATES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Creates the missing files that the arguments up to `--` name: `dir PATH`, `file PATH CONTENT`, `link PATH TARGET`, and
/// `certificates PATH CONTENT` for a file with the image's certificates before the content.
pub fn populate_home(args: &mut impl Iterator<Item = OsString>) -> io::Result<()> {
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/home/agent".into()));
    let is_first_start = fs::symlink_metadata(home.join(FIRST_FILE)).is_err();
    let missing = || io::Error::new(ErrorKind::InvalidInput, "an argument is missing");
    loop {
        let kind = args.next().ok_or_else(missing)?;
        if kind == "--" {
            if is_first_start && let Some(image_home) = find_image_home().filter(|found| *found != home) {
                let mut adopted = Vec::new();
                adopt_files(&image_home, &home, &mut Budget::default(), &mut adopted);
                let _ = record_adopted(&home, &adopted);
            }
            return Ok(());
        }
        let path = home.join(args.next().ok_or_else(missing)?);
        let result = match kind.to_str() {
            Some("dir") => fs::create_dir(&path),
            Some("file") => create_file(&path, &args.next().ok_or_else(missing)?),
            Some("certificates") => {
                let mut content = SYSTEM_CERTIFICATES.iter().find_map(|file| fs::read(file).ok()).unwrap_or_default();
                content.extend_from_slice(args.next().ok_or_else(missing)?.as_bytes());
                create_file(&path, OsStr::from_bytes(&content))
            }
            Some("link") => std::os::unix::fs::symlink(args.next().ok_or_else(missing)?, &path),
            _ => Err(io::Error::new(ErrorKind::InvalidInput, "an argument has an unknown kind")),
        };
        match result {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
}

/// Finds the home of the image's own user with our number.
fn find_image_home() -> Option<PathBuf> {
    if let Ok(home) = fs::read_link(IMAGE_HOME) {
        return Some(home);
    }
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let mut homes = users.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.get(2) == Some(&"1000")).then(|| fields.get(5).map(PathBuf::from)).flatten()
    });
    homes.next().filter(|home| home.parent().is_some() && home.is_dir())
}

/// The bytes and entries that may still be copied.
struct Budget {
    bytes: u64,
    entries: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Self { bytes: 16 << 20, entries: 2_000 }
    }
}

impl Budget {
    /// Returns what is left after a file or directory, or `None` if it does not fit.
    fn subtract_entry(&self, path: &Path) -> Option<Self> {
        let metadata = fs::symlink_metadata(path).ok()?;
        let bytes = if metadata.is_dir() { 0 } else { metadata.len() };
        let mut left = Self { bytes: self.bytes.checked_sub(bytes)?, entries: self.entries.checked_sub(1)? };
        if metadata.is_dir() {
            for entry in fs::read_dir(path).ok()? {
                left = left.subtract_entry(&entry.ok()?.path())?;
            }
        }
        Some(left)
    }
}

/// Lists what was taken, one path a line, so that it does not count as the agent's work.
fn record_adopted(home: &Path, adopted: &[PathBuf]) -> io::Result<()> {
    // The search for work looks no deeper.
    let paths = adopted.iter().filter_map(|path| path.strip_prefix(home).ok());
    let lines = paths.filter(|path| path.components().count() <= 3).map(|path| path.as_os_str().as_bytes());
    fs::create_dir_all(home.join(".config/airlock"))?;
    fs::write(home.join(".config/airlock/image-home"), lines.collect::<Vec<_>>().join(&b'\n'))
}

/// Copies what the home of the image has and ours does not. What is large or unreadable becomes a link, and stays
/// read-only.
fn adopt_files(from: &Path, to: &Path, budget: &mut Budget, adopted: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let Ok(kind) = entry.file_type() else { continue };
        if fs::symlink_metadata(&target).is_err() {
            adopted.push(target.clone());
        }
        match fs::symlink_metadata(&target) {
            Ok(existing) if existing.is_dir() && kind.is_dir() => adopt_files(&source, &target, budget, adopted),
            Ok(_) => {}
            Err(_) if kind.is_symlink() => {
                let _ = fs::read_link(&source).and_then(|link| std::os::unix::fs::symlink(link, &target));
            }
            Err(_) if !kind.is_file() && !kind.is_dir() => {}
            Err(_) => match budget.subtract_entry(&source) {
                Some(left) if kind.is_dir() && fs::create_dir(&target).is_ok() => {
                    adopt_files(&source, &target, &mut Budget { bytes: u64::MAX, entries: u32::MAX }, adopted);
                    *budget = left;
                }
                Some(left) if kind.is_file() && fs::copy(&source, &target).is_ok() => *budget = left,
                _ => {
                    let _ = std::os::unix::fs::symlink(&source, &target);
                }
            },
        }
    }
}

fn create_file(path: &PathBuf, content: &OsStr) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).open(path)?.write_all(content.as_bytes())
}
