//! The help on one screen, for `airlock -h`.

use super::args::cli_definition;

/// The commands that are listed with their descriptions.
const COMMON_COMMANDS: &[&str] =
    &["claude", "run", "shell", "resume", "attach", "ls", "diff", "review", "apply", "undo", "rm", "doctor"];

/// The options of a sandbox that are listed.
const COMMON_OPTIONS: &[&str] = &["uncommitted", "include", "net", "allow"];

/// Returns the command line with common commands and options only. The other commands are listed by name.
pub(super) fn short_definition() -> clap::Command {
    let command = cli_definition().disable_help_subcommand(true);
    let is_common = |name: &str| COMMON_COMMANDS.contains(&name);
    let (mut common, mut others) = (Vec::new(), Vec::new());
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let list = if is_common(sub.get_name()) { &mut common } else { &mut others };
        list.push(sub.get_name().to_owned());
    }
    others.sort();
    let notes = format!(
        "Without a command, `airlock claude` is run. More commands: {}.\nAll options: `airlock --help`. One command: `airlock COMMAND --help`.",
        others.join(", ")
    );
    let command = others.iter().fold(command, |command, name| command.mut_subcommand(name, |sub| sub.hide(true)));
    let is_shown = |arg: &clap::Arg| arg.is_global_set() || COMMON_OPTIONS.contains(&arg.get_id().as_str());
    command.mut_args(|arg| if is_shown(&arg) { arg } else { arg.hide(true) }).after_help(notes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_help_fits_on_a_screen() {
        let mut command = short_definition();
        let text = command.render_help().to_string();
        let lines = text.lines().count();
        assert!(lines <= 36, "{lines} lines:\n{text}");
        for name in COMMON_COMMANDS {
            assert!(text.contains(&format!("\n  {name} ")), "{name} is not in:\n{text}");
        }
        for name in COMMON_OPTIONS {
            assert!(text.contains(&format!("--{name}")), "{name} is not in:\n{text}");
        }
        let full = cli_definition();
        for sub in full.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            assert!(text.contains(sub.get_name()), "{} is not in:\n{text}", sub.get_name());
        }
    }
}
