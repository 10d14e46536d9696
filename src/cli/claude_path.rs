//! Finds Claude Code on the `PATH`, as distinct from Airlock under the name `claude`.

use std::path::PathBuf;

/// A program named `claude` on the `PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClaudeProgram {
    pub path: PathBuf,
    /// Whether it is Airlock.
    pub is_airlock: bool,
}

/// Lists the programs named `claude` in the order of the `PATH`.
pub(crate) fn list_programs() -> Vec<ClaudeProgram> {
    let ours = std::env::current_exe().and_then(|exe| exe.canonicalize()).ok();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let programs = std::env::split_paths(&path).map(|dir| dir.join("claude")).filter(|file| file.is_file());
    programs.map(|path| ClaudeProgram { is_airlock: path.canonicalize().ok() == ours, path }).collect()
}

/// Returns the shell command that runs Claude Code itself.
///
/// This is `claude`, or a path if an earlier `claude` on the `PATH` is Airlock. Returns `None` if every `claude` on the
/// `PATH` is Airlock.
pub(crate) fn real_claude_command() -> Option<String> {
    let programs = list_programs();
    let Some(index) = programs.iter().position(|program| !program.is_airlock) else {
        return programs.is_empty().then(|| "claude".to_owned());
    };
    let text = programs[index].path.display().to_string();
    let is_plain = text.chars().all(|c| c.is_alphanumeric() || "/._-+".contains(c));
    Some(match index {
        0 => "claude".to_owned(),
        _ if is_plain => text,
        _ => format!("'{}'", text.replace('\'', r"'\''")),
    })
}
