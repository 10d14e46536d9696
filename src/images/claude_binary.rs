//! Gets Claude Code's binary from the npm package, with the npm of this machine: it knows the user's registry, proxy and
//! login, and checks the registry's integrity hash. The binary is kept in the cache directory.

#![expect(clippy::disallowed_methods, reason = "a cache of our own, outside every working tree")]

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use etcetera::BaseStrategy as _;

/// The version of Claude Code that this version of Airlock was tested with.
pub const CLAUDE_VERSION: &str = "2.1.197";

/// A binary on this machine with its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ClaudeBinary {
    pub path: PathBuf,
    pub version: String,
}

/// Returns the npm package for an architecture in Go's spelling.
pub(super) fn package_name(arch: &str, is_musl: bool) -> String {
    let arch = match arch {
        "amd64" => "x64",
        other => other,
    };
    format!("@anthropic-ai/claude-code-linux-{arch}{}", if is_musl { "-musl" } else { "" })
}

/// Returns whether npm is on this machine.
pub(super) fn has_npm() -> bool {
    // Not in the repository, whose files a version manager might read.
    let mut npm = Command::new("npm");
    npm.arg("--version")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

/// Finds the newest version of a range, and gets its binary unless the cache has it.
///
/// # Errors
/// npm fails; the message ends with the last line of its output.
pub(super) fn fetch_binary(package: &str, range: &str) -> io::Result<ClaudeBinary> {
    let version = find_version(package, range)?;
    let cache = etcetera::choose_base_strategy().map_err(io::Error::other)?.cache_dir().join("airlock/claude");
    let dir = cache.join(format!("{}-{version}", package.rsplit('/').next().unwrap_or_default()));
    let path = dir.join("claude");
    if path.is_file() {
        return Ok(ClaudeBinary { path, version });
    }
    fs::create_dir_all(&cache)?;
    let unpacked = tempfile::Builder::new().prefix("new-").tempdir_in(&cache)?;
    // npm compares the archive with the hash that the registry lists.
    run_npm(&["pack", "--silent", &format!("{package}@{version}"), "--pack-destination", "."], unpacked.path())?;
    let archives = fs::read_dir(unpacked.path())?.filter_map(|entry| Some(entry.ok()?.path()));
    let archive = archives.into_iter().find(|path| path.extension() == Some(OsStr::new("tgz")));
    let archive = archive.ok_or_else(|| io::Error::other("npm wrote no archive"))?;
    extract_binary(&archive, &unpacked.path().join("claude"))?;
    fs::remove_file(archive)?;
    match fs::rename(unpacked.path(), &dir) {
        // Another process was faster.
        Err(_) if path.is_file() => {}
        other => other?,
    }
    Ok(ClaudeBinary { path, version })
}

/// Returns the version, or the newest one of a range.
fn find_version(package: &str, range: &str) -> io::Result<String> {
    let is_exact = range.split('.').count() == 3 && range.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if is_exact {
        return Ok(range.to_owned());
    }
    let output = run_npm(&["view", &format!("{package}@{range}"), "version", "--json"], Path::new("/"))?;
    let value: serde_json::Value = serde_json::from_str(&output).map_err(io::Error::other)?;
    // A range has a list of versions, the newest last.
    let newest = value.as_array().and_then(|all| all.last()).unwrap_or(&value).as_str().map(str::to_owned);
    newest.ok_or_else(|| io::Error::other(format!("npm knows no version {range} of {package}")))
}

fn run_npm(args: &[&str], dir: &Path) -> io::Result<String> {
    let output = Command::new("npm").args(args).current_dir(dir).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no error message");
    Err(io::Error::other(format!("npm {}: {last}", args[0])))
}

/// Writes the file `package/claude` of an archive.
fn extract_binary(archive: &Path, target: &Path) -> io::Result<()> {
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(fs::File::open(archive)?));
    for entry in tar.entries()? {
        let mut entry = entry?;
        if entry.path()?.as_ref() == Path::new("package/claude") {
            let mut file = fs::File::create_new(target)?;
            io::copy(&mut entry, &mut file)?;
            return file.sync_all();
        }
    }
    Err(io::Error::other("the package has no file package/claude"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_fits_the_image() {
        assert_eq!(package_name("amd64", false), "@anthropic-ai/claude-code-linux-x64");
        assert_eq!(package_name("arm64", true), "@anthropic-ai/claude-code-linux-arm64-musl");
        assert_eq!(find_version("x", "2.1.197").expect("exact"), "2.1.197");
    }
}
