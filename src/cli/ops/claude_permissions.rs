//! The permission mode of Claude Code in a sandbox, as the user has chosen it for all of them.

use crate::config::ClaudePermissions;

/// The options of Claude Code that choose a permission mode.
const OPTIONS: [&str; 3] =
    ["--permission-mode", "--dangerously-skip-permissions", "--allow-dangerously-skip-permissions"];

/// The field of `~/.claude.json` with which Claude Code does not ask whether the user accepts that it asks for nothing.
pub(crate) const BYPASS_ACCEPTED: &str = "bypassPermissionsModeAccepted";

/// Adds the mode to a command of Claude Code, unless its arguments have one.
pub(crate) fn add_permission_mode(command: &mut Vec<String>, permissions: ClaudePermissions) {
    let mode = match permissions {
        ClaudePermissions::Ask => return,
        ClaudePermissions::Edits => "acceptEdits",
        ClaudePermissions::All => "bypassPermissions",
    };
    let is_mode = |arg: &String| OPTIONS.contains(&arg.split('=').next().unwrap_or(arg));
    if !command.is_empty() && !command.iter().any(is_mode) {
        command.splice(1..1, [OPTIONS[0].to_owned(), mode.to_owned()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mode_of_the_settings_yields_to_that_of_the_arguments() {
        let add = |args: &[&str], permissions| {
            let mut command: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
            add_permission_mode(&mut command, permissions);
            command.join(" ")
        };
        assert_eq!(add(&["claude", "-p", "hi"], ClaudePermissions::Ask), "claude -p hi");
        assert_eq!(
            add(&["claude", "-p", "hi"], ClaudePermissions::Edits),
            "claude --permission-mode acceptEdits -p hi"
        );
        assert_eq!(add(&["claude"], ClaudePermissions::All), "claude --permission-mode bypassPermissions");
        assert_eq!(add(&["claude", "--permission-mode=plan"], ClaudePermissions::All), "claude --permission-mode=plan");
        assert_eq!(
            add(&["claude", "--dangerously-skip-permissions"], ClaudePermissions::Edits),
            "claude --dangerously-skip-permissions"
        );
    }
}
