//! Opens copies of texts in the user's editor. The repository's git configuration cannot choose the editor.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::Command;

use crate::core::path::RepoPath;

/// Maximum size of an edited text, in bytes. A larger one is refused.
const MAX_TEXT_BYTES: u64 = 64 << 20;

/// Lets the user edit a text, and returns the result with the directory of the file. The caller keeps the directory,
/// because an editor may still have the file open.
pub(super) fn edit_text(path: &RepoPath, text: &[u8]) -> io::Result<(tempfile::TempDir, Vec<u8>)> {
    let (dir, file) = write_temp_file(path, text)?;
    open_files(std::slice::from_ref(&file))?;
    let mut edited = Vec::new();
    File::open(&file)?.take(MAX_TEXT_BYTES + 1).read_to_end(&mut edited)?;
    if edited.len() as u64 > MAX_TEXT_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("the text is larger than {MAX_TEXT_BYTES} bytes"),
        ));
    }
    Ok((dir, edited))
}

/// Writes a text to a directory that no other user can enter. The file name has an extension from which an editor can tell
/// the language.
fn write_temp_file(path: &RepoPath, text: &[u8]) -> io::Result<(tempfile::TempDir, PathBuf)> {
    let dir = tempfile::Builder::new().prefix("airlock-").tempdir()?;
    let name = path.file_name();
    let extension = name.iter().rposition(|b| *b == b'.').map_or(&[][..], |at| &name[at + 1..]);
    let is_plain = (1..=12).contains(&extension.len()) && extension.iter().all(u8::is_ascii_alphanumeric);
    let file = dir.path().join(if is_plain {
        format!("proposal.{}", String::from_utf8_lossy(extension))
    } else {
        "proposal".into()
    });
    File::create_new(&file)?.write_all(text)?;
    Ok((dir, file))
}

/// Opens files in the user's editor.
pub(super) fn open_files(files: &[PathBuf]) -> io::Result<()> {
    let editor = find_editor();
    // As in git, the editor may be a command with options.
    let status = Command::new("sh").arg("-c").arg(format!("{editor} \"$@\"")).arg(&editor).args(files).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{editor} ended with {status}"))) }
}

/// Returns the user's editor, in git's order: `GIT_EDITOR`, the user's `core.editor`, `VISUAL`, `EDITOR`, `vi`.
fn find_editor() -> String {
    let variable = |name: &str| std::env::var(name).ok().filter(|v| !v.trim().is_empty());
    let configured = || git2::Config::open_default().and_then(|config| config.get_string("core.editor")).ok();
    let fallback = || variable("VISUAL").or_else(|| variable("EDITOR")).unwrap_or_else(|| "vi".into());
    variable("GIT_EDITOR").or_else(configured).unwrap_or_else(fallback)
}
