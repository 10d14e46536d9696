//! Answers arguments that need no sandbox: the version, the help, and subcommands that change this machine.

use std::io::IsTerminal as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use crate::cli::claude_args::ClaudeArgs;
use crate::cli::claude_path::list_programs;
use crate::cli::error::CliError;
use crate::cli::ops::agent_image::claude_version;
use crate::cli::ops::settings::load_settings;
use crate::cli::output::{Output, print_stdout};
use crate::images::{CLAUDE_VERSION, PINNED};

const HELP: &str = "\
Usage: claude [options] [prompt]

Claude Code, in a sandbox of Airlock: it works on a copy of the repository, and its changes are reviewed at the end. All options of
Claude Code are passed on to it. Its own help: airlock run -- claude --help

Conversations:
  -c, --continue        continue the last conversation of this repository, in its sandbox
  -r, --resume [ID]     continue another one

Options of the sandbox come before the word claude, as in `airlock --net none claude`, from AIRLOCK_* variables or from
the configuration: airlock --help
";

/// Answers arguments on this machine; returns `None` if they need a sandbox.
///
/// # Errors
/// A subcommand or an option cannot be used, or the program for it does not exist.
pub(crate) fn answer_on_host(parsed: &ClaudeArgs, args: &[String], output: Output) -> Result<Option<u8>, CliError> {
    if parsed.is_version {
        print_stdout(&format!("{} (Claude Code)\n", sandbox_version()))?;
        return Ok(Some(0));
    }
    if let Some(name) = &parsed.subcommand {
        if let Some(reason) = parsed.subcommand_obstacle(args) {
            return Err(CliError::usage(format!("`claude {name}` is not run: {reason}"))
                .with_hint("to run it without Airlock, use the path of Claude Code itself"));
        }
        return run_on_host(name, parsed, args, output).map(Some);
    }
    if parsed.is_help {
        print_stdout(HELP)?;
        return Ok(Some(0));
    }
    if let Some((name, reason)) = &parsed.refused {
        return Err(CliError::usage(format!("{name} cannot be used in a sandbox: {reason}")));
    }
    Ok(None)
}

/// Returns the version of Claude Code in sandboxes, as far as it is known without an engine.
fn sandbox_version() -> String {
    let version = load_settings().map(|settings| claude_version(&settings)).unwrap_or_default();
    let is_exact = version.split('.').count() == 3 && version.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if is_exact && version != PINNED { version } else { CLAUDE_VERSION.to_owned() }
}

/// Replaces this process with Claude Code itself.
fn run_on_host(name: &str, parsed: &ClaudeArgs, args: &[String], output: Output) -> Result<u8, CliError> {
    let program = list_programs().into_iter().find(|program| !program.is_airlock);
    let Some(program) = program else {
        let failed = CliError::failed(format!(
            "`claude {name}` changes this machine, and no Claude Code is on its PATH: sandboxes have one in their image"
        ));
        return Err(match name {
            "update" | "upgrade" | "install" => {
                failed.with_hint("to renew the one in the image, run `airlock image update`")
            }
            "doctor" => failed.with_hint("to check Airlock, run `airlock doctor`"),
            _ => failed.with_hint("install it with `npm install -g @anthropic-ai/claude-code`"),
        });
    };
    let path = program.path.display();
    output.print_status(&format!("`claude {name}` concerns this machine, so it runs outside a sandbox: {path}"));
    let mut command = Command::new(&program.path);
    command.args(args);
    if !std::io::stdin().is_terminal() {
        command.stdin(Stdio::null());
    }
    if !parsed.needs_directory(args) {
        command.current_dir("/");
    }
    Err(CliError::failed(format!("failed to start {path}: {}", command.exec())))
}
