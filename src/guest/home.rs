//! Creates the initial files of the agent's home as the agent's own user. Files that an agent planted there earlier
//! therefore cannot make it do more than the agent could.
#![expect(clippy::disallowed_methods, reason = "it writes inside the agent's container")]

use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

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
    let missing = || io::Error::new(ErrorKind::InvalidInput, "an argument is missing");
    loop {
        let kind = args.next().ok_or_else(missing)?;
        if kind == "--" {
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

fn create_file(path: &PathBuf, content: &OsStr) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).open(path)?.write_all(content.as_bytes())
}
