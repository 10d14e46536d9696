//! The command line: `commands` has one module for each subcommand, `ops` has the operations that they share.

mod args;
mod claude_args;
mod claude_path;
mod commands;
mod completers;
mod completion;
mod confirm;
mod editor;
mod error;
mod examples;
mod interrupt;
mod json;
mod json_rpc;
mod new_file;
mod ops;
mod outcome;
mod output;
mod overview;
mod pager;
mod progress;
#[cfg(test)]
mod reference;
mod shell_word;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use args::{Cli, Command, cli_definition};
use claude_args::is_claude_option;
use commands::{
    apply, attach, bring, config, diff, doctor, edit, gc, hosts, image, link, log, ls, man, port, recover, resume,
    review, rm, run, setup, status, stop, undo, watch,
};
use error::{CliError, EXIT_INTERNAL, ErrorKind};
use output::Output;

/// Runs the program and returns its exit status.
#[must_use]
pub fn main(argv: Vec<OsString>) -> ExitCode {
    completion::answer_shell();
    let (ours, theirs) = split_args(argv);
    let verb = subcommand_index(&ours[1..]).and_then(|at| ours[at + 1].to_str());
    let runs_agent = matches!(verb, None | Some("claude" | "run" | "shell" | "resume"));
    if verb == Some("run")
        && let Some(failure) = check_run_words(&ours)
    {
        return print_failure(&failure, true);
    }
    let cli = match parse_args(&ours) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(if runs_agent { EXIT_INTERNAL } else { ErrorKind::Usage.exit_status() })
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let runs_agent = matches!(
        cli.verb,
        None | Some(Command::Claude | Command::Run { .. } | Command::Shell { .. } | Command::Resume(_))
    );
    match run_subcommand(cli, theirs.unwrap_or_default()) {
        Ok(status) => ExitCode::from(status),
        Err(failure) => print_failure(&failure, runs_agent),
    }
}

fn parse_args(ours: &[OsString]) -> Result<Cli, clap::Error> {
    let mut definition = if ours[1..] == ["-h"] { overview::short_definition() } else { cli_definition() };
    let matches = definition.try_get_matches_from_mut(ours)?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut definition))
}

/// Refuses a command after `run` that has options and no `--` before it: they would be taken for options of Airlock.
fn check_run_words(ours: &[OsString]) -> Option<CliError> {
    if ours.iter().any(|word| word == "--") {
        return None;
    }
    let at = subcommand_index(&ours[1..])? + 2;
    let words: Vec<String> = ours[at..].iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let command = subcommand_index(&ours[at..])?;
    let has_options = words[command..].iter().any(|word| word.starts_with('-'));
    has_options.then(|| run::missing_dashes_error(&words, command))
}

fn print_failure(failure: &CliError, runs_agent: bool) -> ExitCode {
    output::print_stderr(&failure.format_text());
    let ours = runs_agent && failure.kind != ErrorKind::Interrupted;
    ExitCode::from(if ours { EXIT_INTERNAL } else { failure.kind.exit_status() })
}

fn run_subcommand(cli: Cli, claude_args: Vec<OsString>) -> Result<u8, CliError> {
    let output = Output::new(cli.color, cli.quiet);
    ops::settings::choose_engine(cli.engine);
    match cli.verb {
        None | Some(Command::Claude) => run::run_claude(cli.run, claude_args, output),
        Some(Command::Run { options, stray, command }) => {
            // Without `--`, a command without options is clear.
            let command = if command.is_empty() {
                stray
            } else if stray.is_empty() {
                command
            } else {
                return Err(run::missing_dashes_error(&[stray, command].concat(), 0));
            };
            run::run_command(options.with_defaults(cli.run), command, output)
        }
        Some(Command::Shell { options, sandbox: None }) => run::run_shell(options.with_defaults(cli.run), output),
        Some(Command::Shell { options, sandbox: Some(name) }) => {
            resume::run_shell_in(&name, &options.with_defaults(cli.run), output)
        }
        Some(Command::Resume(args)) => resume::run_resume(args, cli.run.agent, output),
        Some(Command::Diff(args)) => diff::run_diff(&args, output),
        Some(Command::Edit { name, paths }) => edit::run_edit(name.as_deref(), &paths, output),
        Some(Command::Review(args)) => review::run_review(&args, output),
        Some(Command::Apply(args)) => apply::run_apply(args, output),
        Some(Command::Undo(args)) => undo::run_undo(&args, output),
        Some(Command::Recover(args)) => recover::run_recover(&args, output),
        Some(Command::Ls { all, watch: true, .. }) => watch::run_watch(all, output),
        Some(Command::Ls { all, json, .. }) => ls::run_ls(all, json, output),
        Some(Command::Attach { name }) => attach::run_attach(name.as_deref(), output),
        Some(Command::Stop { names }) => stop::run_stop(&names, output),
        Some(Command::Status { name, json }) => status::run_status(name.as_deref(), json, output),
        Some(Command::Gc { dry_run, json }) => gc::run_gc(dry_run, json, output),
        Some(Command::Rm { names, force }) => rm::run_rm(&names, force, output),
        Some(Command::Bring(args)) => bring::run_bring(args, output),
        Some(Command::Log { name, denied, follow, json }) => {
            log::run_log(name.as_deref(), log::LogOptions { denied, follow, json }, output)
        }
        Some(Command::Allow(args)) => hosts::change_host(&args, true, output),
        Some(Command::Deny(args)) => hosts::change_host(&args, false, output),
        Some(Command::Port { name, port }) => port::run_port(&name, port, output),
        Some(Command::Link { dir, remove }) => link::run_link(dir.as_deref(), remove, output),
        Some(Command::Setup(args)) => setup::run_setup(&args, output),
        Some(Command::Image(verb)) => image::run_image(verb, output),
        Some(Command::Config(verb)) => config::run_config(&verb, output),
        Some(Command::Doctor { json }) => doctor::run_doctor(json, output),
        Some(Command::Completions { shell }) => {
            let mut script = Vec::new();
            completion::write_script(shell, &mut script)?;
            output::print_stdout(&String::from_utf8_lossy(&script))?;
            Ok(0)
        }
        Some(Command::Man { command, write }) => man::run_man(command.as_deref(), write.as_deref(), output),
    }
}

/// Splits the command line at the word `claude`. Everything after it, including `--` and `--help`, belongs to Claude Code.
/// If the program was started as `claude`, all arguments do.
fn split_args(argv: Vec<OsString>) -> (Vec<OsString>, Option<Vec<OsString>>) {
    let mut argv = argv.into_iter();
    let program = argv.next().unwrap_or_else(|| "airlock".into());
    let rest: Vec<OsString> = argv.collect();
    if Path::new(&program).file_name().is_some_and(|name| name == "claude") {
        return (vec!["airlock".into(), "claude".into()], Some(rest));
    }
    if let Some(at) = claude_start(&rest) {
        let ours = rest[..at].iter().cloned().chain(["claude".into()]);
        return (std::iter::once("airlock".into()).chain(ours).collect(), Some(rest[at..].to_vec()));
    }
    let at = subcommand_index(&rest).filter(|at| rest[*at] == "claude");
    let theirs = at.map(|at| rest[at + 1..].to_vec());
    let ours = rest.into_iter().take(at.map_or(usize::MAX, |at| at + 1));
    (std::iter::once("airlock".into()).chain(ours).collect(), theirs)
}

/// Returns the index at which the arguments of Claude Code begin without the word `claude`: an option that only Claude Code has,
/// or a prompt, which has blanks.
fn claude_start(args: &[OsString]) -> Option<usize> {
    let command = Cli::command();
    let mut at = 0;
    while let Some(arg) = args.get(at) {
        let text = arg.to_str()?;
        let name = text.split('=').next().unwrap_or(text);
        if !name.starts_with('-') {
            return text.contains(char::is_whitespace).then_some(at);
        }
        let is_ours = |option: &clap::Arg| {
            option.get_long().is_some_and(|long| name == format!("--{long}"))
                || option.get_short().is_some_and(|short| name == format!("-{short}"))
        };
        match command.get_arguments().find(|option| is_ours(option)) {
            Some(option) => {
                let takes_next = option.get_action().takes_values() && !option.is_require_equals_set();
                at += if takes_next && name == text { 2 } else { 1 };
            }
            None => return is_claude_option(name).then_some(at),
        }
    }
    None
}

/// Returns the index of the first word that is neither an option nor the value of an option.
fn subcommand_index(args: &[OsString]) -> Option<usize> {
    let command = Cli::command();
    let takes_value = |arg: &str| {
        let name = arg.trim_start_matches('-');
        let is_next = |a: &clap::Arg| a.get_action().takes_values() && !a.is_require_equals_set();
        command.get_arguments().any(|a| a.get_long() == Some(name) && is_next(a))
    };
    let mut at = 0;
    while let Some(arg) = args.get(at) {
        match arg.to_str() {
            Some("--") => return None,
            Some(option) if option.starts_with('-') => at += if takes_value(option) { 2 } else { 1 },
            _ => return Some(at),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_definition_is_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn arguments_after_claude_are_passed_on() {
        let split = |line: &str| {
            let (own_args, agent_args) = split_args(line.split(' ').map(OsString::from).collect());
            let join = |v: Vec<OsString>| v.join(" ".as_ref()).into_string().expect("UTF-8");
            (join(own_args), agent_args.map(join))
        };
        let expected = |own_args: &str, agent_args: Option<&str>| (own_args.to_owned(), agent_args.map(str::to_owned));
        assert_eq!(split("airlock claude -p --help -- x"), expected("airlock claude", Some("-p --help -- x")));
        assert_eq!(
            split("airlock --name claude -q claude --name"),
            expected("airlock --name claude -q claude", Some("--name"))
        );
        assert_eq!(split("/usr/bin/claude --version"), expected("airlock claude", Some("--version")));
        assert_eq!(split("airlock run -- claude"), expected("airlock run -- claude", None));
        assert_eq!(split("airlock --memory=4g claude"), expected("airlock --memory=4g claude", Some("")));
        assert_eq!(
            split("airlock --name x --uncommitted claude -p hi"),
            expected("airlock --name x --uncommitted claude", Some("-p hi"))
        );
        assert_eq!(split("airlock -p hi"), expected("airlock claude", Some("-p hi")));
        assert_eq!(
            split("airlock --name x --uncommitted --model opus -c"),
            expected("airlock --name x --uncommitted claude", Some("--model opus -c"))
        );
        assert_eq!(split("airlock reviw"), expected("airlock reviw", None), "a typo is no prompt");
        assert_eq!(split("airlock --memry 4g"), expected("airlock --memry 4g", None));
        assert_eq!(split("airlock --name -p"), expected("airlock --name -p", None), "the value of an option");
        let prompt = split_args(["airlock", "-q", "fix the bug", "--help"].map(OsString::from).into());
        assert_eq!(prompt.0, ["airlock", "-q", "claude"]);
        assert_eq!(prompt.1, Some(vec!["fix the bug".into(), "--help".into()]));
        assert_eq!(
            split("airlock --uncommitted=all claude -p"),
            expected("airlock --uncommitted=all claude", Some("-p"))
        );
    }
}
