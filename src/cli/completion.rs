//! Lets a shell complete the command line: its script, and the candidates that the script asks for.

use std::collections::BTreeSet;
use std::ffi::OsString;

use clap::{Arg, ArgAction, CommandFactory};
use clap_complete::engine::ArgValueCompleter;
use clap_complete::env::{CompleteEnv, Shells};

use super::args::{Cli, Shell};
use super::claude_args::claude_options;
use super::completers::{complete_files, words_before_cursor};
use super::{claude_start, subcommand_index};

/// The variable that asks for candidates, with the name of the shell.
const VARIABLE: &str = "AIRLOCK_COMPLETE";

/// Prints candidates and exits, if a completion script has started this process.
pub(super) fn answer_shell() {
    if std::env::var_os(VARIABLE).is_none() {
        return;
    }
    CompleteEnv::with_factory(|| completed_command(&words_before_cursor())).var(VARIABLE).complete();
}

/// Writes the completion script of a shell.
///
/// # Errors
/// The writer fails.
pub(super) fn write_script(shell: Shell, mut writer: impl std::io::Write) -> std::io::Result<()> {
    let name = match shell {
        Shell::Bash => "bash",
        Shell::Zsh => "zsh",
        Shell::Fish => "fish",
    };
    let shells = Shells::builtins();
    let completer = shells.completer(name).ok_or(std::io::ErrorKind::Unsupported)?;
    completer.write_registration(VARIABLE, "airlock", "airlock", "airlock", &mut writer)
}

/// Returns the command to complete. After the word `claude`, its options are those of Claude Code.
fn completed_command(words: &[OsString]) -> clap::Command {
    let command = Cli::command();
    let is_past_claude = subcommand_index(words).is_some_and(|at| words[at] == "claude" && at + 1 < words.len());
    if !is_past_claude && claude_start(words).is_none() {
        return command;
    }
    // Options of Airlock would be passed to Claude Code.
    command.mut_args(|arg| arg.global(false)).mut_subcommand("claude", |claude| {
        let options: BTreeSet<_> = claude_options().filter_map(|name| name.strip_prefix("--")).collect();
        let options = options.into_iter().map(|name| Arg::new(name).long(name).action(ArgAction::SetTrue));
        let files = Arg::new("words").num_args(0..).add(ArgValueCompleter::new(complete_files));
        claude.disable_help_flag(true).args(options).arg(files)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_after_claude_are_those_of_claude_code() {
        let has_option = |line: &str, option: &str| {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let mut command = completed_command(&words);
            command.build();
            let claude = command.find_subcommand("claude").expect("exists");
            claude.get_arguments().any(|arg| arg.get_long() == Some(option))
        };
        assert!(has_option("claude --m", "model") && !has_option("claude --m", "color"));
        assert!(has_option("--name x claude -p --", "permission-mode"));
        assert!(!has_option("run --", "model"));
    }
}
