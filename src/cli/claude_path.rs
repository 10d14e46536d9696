//! Finds Claude Code on the `PATH`, as distinct from Airlock under the name `claude`.

/// Returns the shell command that runs Claude Code itself.
///
/// This is `claude`, or a path if an earlier `claude` on the `PATH` is Airlock. Returns `None` if every `claude` on the
/// `PATH` is Airlock.
pub(super) fn find_real_claude() -> Option<String> {
    let ours = std::env::current_exe().and_then(|exe| exe.canonicalize()).ok();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let programs = std::env::split_paths(&path).map(|dir| dir.join("claude")).filter(|file| file.is_file());
    let mut is_hidden = false;
    for (index, program) in programs.enumerate() {
        if program.canonicalize().ok() == ours {
            is_hidden = true;
            continue;
        }
        let text = program.display().to_string();
        let is_plain = text.chars().all(|c| c.is_alphanumeric() || "/._-+".contains(c));
        return Some(match index {
            0 => "claude".to_owned(),
            _ if is_plain => text,
            _ => format!("'{}'", text.replace('\'', r"'\''")),
        });
    }
    (!is_hidden).then(|| "claude".to_owned())
}
