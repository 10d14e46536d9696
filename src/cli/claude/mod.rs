//! Claude Code on the command line: its arguments, and what of them concerns this machine.

mod args;
mod files;
mod on_host;
mod real_program;

pub(super) use args::ClaudeArgs;
pub(super) use files::{Place, bring_files};
pub(super) use on_host::answer_on_host;
pub(super) use real_program::{list_programs, real_claude_command};
