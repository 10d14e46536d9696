//! `airlock link`: puts a link named `claude` on the PATH.
#![expect(clippy::disallowed_methods, reason = "a link in a directory of programs that the user names")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::cli::claude_path::list_programs;
use crate::cli::error::CliError;
use crate::cli::output::{Output, print_stdout};

/// The name under which Airlock behaves as Claude Code.
const NAME: &str = "claude";

pub(crate) fn run_link(dir: Option<&Path>, remove: bool, output: Output) -> Result<u8, CliError> {
    let exe = std::env::current_exe()?;
    let program = exe.canonicalize().unwrap_or_else(|_| exe.clone());
    let directory = match dir {
        Some(dir) => std::path::absolute(dir)?,
        None => default_directory()?,
    };
    let link = directory.join(NAME);
    let is_ours = fs::symlink_metadata(&link).is_ok_and(|metadata| metadata.is_symlink())
        && link.canonicalize().is_ok_and(|target| target == program);
    if remove {
        if directory.exists() && !directory.is_dir() {
            return Err(CliError::usage(format!("{} is not a directory", directory.display())));
        }
        if !is_ours {
            return Err(CliError::failed(format!("{} is not a link of Airlock", link.display())));
        }
        fs::remove_file(&link)?;
        output.print_status(&format!("removed {}", link.display()));
        return Ok(0);
    }
    let is_dangling = fs::symlink_metadata(&link).is_ok_and(|metadata| metadata.is_symlink()) && !link.exists();
    if !is_ours {
        if link.exists() {
            return Err(CliError::failed(format!("{} exists, and is not Airlock: it is not replaced", link.display()))
                .with_hint("choose a directory that comes earlier on your PATH: `airlock link DIR`"));
        }
        fs::create_dir_all(&directory)?;
        if is_dangling {
            fs::remove_file(&link)?;
        }
        symlink(&exe, &link)
            .map_err(|error| CliError::failed(format!("failed to create {}: {error}", link.display())))?;
    }
    print_stdout(&format!("{} -> {}\n", link.display(), exe.display()))?;
    check_path(&directory, output);
    Ok(0)
}

/// Chooses `~/.local/bin` or `~/bin`, whichever comes first on the PATH.
fn default_directory() -> Result<PathBuf, CliError> {
    let home =
        etcetera::home_dir().map_err(|error| CliError::failed(format!("there is no home directory: {error}")))?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = [home.join(".local/bin"), home.join("bin")];
    let first = std::env::split_paths(&path).find(|dir| usual.contains(dir));
    Ok(first.unwrap_or_else(|| usual[0].clone()))
}

/// Reports whether `claude` now runs Airlock, and if not, what to do.
fn check_path(directory: &Path, output: Output) {
    let programs = list_programs();
    match programs.first() {
        Some(first) if first.is_airlock => {
            output.print_status("`claude` runs in a sandbox from now on. A shell that ran it before may need: hash -r");
            if let Some(real) = programs.iter().find(|program| !program.is_airlock) {
                let path = real.path.display();
                output.print_status(&format!("`claude update`, `claude mcp` and the like still run {path}"));
            }
        }
        first => {
            let why = match first {
                Some(first) => format!("{} comes first on your PATH", first.path.display()),
                None => format!("{} is not on your PATH", directory.display()),
            };
            output.print_status(&format!(
                "{why}. Add this to the end of your shell's startup file: export PATH=\"{}:$PATH\"",
                directory.display()
            ));
        }
    }
}
