//! The command line, as data.

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCompleter;

use super::completers::{
    complete_files, complete_hunks, complete_paths, complete_sandboxes, complete_sandboxes_anywhere,
};
use super::examples::add_examples;
use crate::config::{ReviewMode, Settings};
use crate::core::on_conflict::OnConflict;
use crate::gateway::{HostPattern, NetworkLevel};
use crate::sandbox::ports::PortSpec;

/// Run Claude Code in a hardened container on a copy of your repository, and apply only what you accept
#[derive(Debug, Parser)]
#[command(
    name = "airlock",
    version = env!("CARGO_PKG_VERSION"),
    long_version = env!("AIRLOCK_LONG_VERSION"),
    max_term_width = 100,
    override_usage = "airlock [OPTIONS] [claude ARGS…]\n       airlock <COMMAND>",
    after_help = "Without a command, `airlock claude` is run. Arguments after the word `claude` are passed to Claude Code unchanged."
)]
pub(super) struct Cli {
    /// Choose when to color the output: auto, always or never
    #[arg(long, value_enum, value_name = "WHEN", default_value = "auto", hide_possible_values = true, global = true)]
    pub color: ColorChoice,
    /// Suppress status messages
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Choose the engine: a docker context, an address (ssh://HOST), or any
    ///
    /// With `any`, it is the engine of the setting `engines` with the most room. Later commands find a sandbox on its engine.
    #[arg(long, value_name = "ENGINE", global = true)]
    pub engine: Option<String>,
    #[command(flatten)]
    pub run: RunOptions,
    #[command(subcommand)]
    pub verb: Option<Command>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ColorChoice {
    Auto,
    Always,
    Never,
}

/// The uncommitted work to include.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum UncommittedArg {
    /// Include changes of tracked files, staged or not
    Tracked,
    /// Include untracked files as well, except ignored ones
    All,
}

/// The options of a sandbox.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Options for a sandbox")]
pub(super) struct RunOptions {
    /// Name the sandbox [default: a random name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Include uncommitted changes of tracked files, or of all (untracked too)
    #[arg(long, value_enum, value_name = "WHICH", num_args = 0..=1, require_equals = true, default_missing_value = "tracked",
          hide_possible_values = true)]
    pub uncommitted: Option<UncommittedArg>,
    /// Include ignored or untracked files, and collect changes to them
    ///
    /// GLOB is a path, a directory or a glob, from the root of the repository. The option can be repeated:
    /// `--include .env --include 'data/*.csv'`.
    #[arg(long, value_name = "GLOB", add = ArgValueCompleter::new(complete_files))]
    pub include: Vec<String>,
    /// Limit the history to include [default: full, or about 200 commits of a large history]
    #[arg(long, value_name = "full|N|none", hide_short_help = true)]
    pub history: Option<String>,
    /// Include all tracked files, even in a sparse checkout
    #[arg(long, hide_short_help = true)]
    pub full: bool,
    #[command(flatten)]
    pub agent: AgentOptions,
    /// Start without the setup of the repository
    #[arg(long, hide_short_help = true)]
    pub no_setup: bool,
    /// Keep the sandbox even if nothing changed
    #[arg(long)]
    pub keep: bool,
}

impl RunOptions {
    /// Returns the first given option that concerns only new sandboxes.
    pub(super) fn first_of_new_sandbox(&self) -> Option<&'static str> {
        let given = [
            ("--name", self.name.is_some()),
            ("--uncommitted", self.uncommitted.is_some()),
            ("--include", !self.include.is_empty()),
            ("--history", self.history.is_some()),
            ("--full", self.full),
        ];
        given.into_iter().find(|(_, is_given)| *is_given).map(|(option, _)| option)
    }
}

/// The agent's configuration.
#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(next_help_heading = "Options for a sandbox")]
pub(super) struct AgentOptions {
    /// Set the network: none, model, packages or open [default: by command]
    ///
    /// By default, Claude Code gets `packages`, and any other command `none`. A resumed sandbox keeps its network.
    #[arg(long, value_enum, value_name = "LEVEL", hide_possible_values = true)]
    pub net: Option<NetworkLevel>,
    /// Let the agent reach a host, e.g. example.org or *.example.org
    ///
    /// With a port (example.org:8443), only that one. The option can be repeated. While the agent runs, use `airlock allow`.
    #[arg(long, value_name = "HOST[:PORT]")]
    pub allow: Vec<HostPattern>,
    /// Serve packages only from the cache
    #[arg(long, hide_short_help = true)]
    pub offline: bool,
    /// Publish a port of the sandbox on this machine, e.g. 3000 or 8080:3000
    ///
    /// PORT is `[[ADDRESS:]HOSTPORT:]PORT`. The address is 127.0.0.1 unless it is given, and the host port 0 means a free one.
    /// The option can be repeated.
    #[arg(long, value_name = "PORT")]
    pub port: Vec<PortSpec>,
    /// Let the sandbox reach a service of this machine, e.g. 5432 for a database
    ///
    /// The agent reaches it under the same port of 127.0.0.1. The option can be repeated.
    #[arg(long, value_name = "PORT", hide_short_help = true)]
    pub forward: Vec<u16>,
    /// Limit the model's tokens per run, e.g. 500k [default: no limit]
    #[arg(long, value_name = "TOKENS")]
    pub budget: Option<String>,
    /// Choose the agent image
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// Set a variable that the agent can read, or pass on one of yours
    ///
    /// The option can be repeated: `--env CI=1 --env LANG`.
    #[arg(long, value_name = "KEY[=VALUE]", hide_short_help = true)]
    pub env: Vec<String>,
    /// Limit memory, e.g. 4g [default: 8g, or three quarters of the machine's]
    #[arg(long, value_name = "SIZE", hide_short_help = true)]
    pub memory: Option<String>,
    /// Limit CPUs, e.g. 1.5 [default: all]
    #[arg(long, value_name = "N", hide_short_help = true)]
    pub cpus: Option<f64>,
    /// Limit processes and threads [default: 2048]
    #[arg(long, value_name = "N", hide_short_help = true)]
    pub pids: Option<u32>,
    /// Limit the disk space of workspace and home together, e.g. 20g [default: 10g]
    #[arg(long, value_name = "SIZE", hide_short_help = true)]
    pub disk: Option<String>,
    /// Limit the running time, e.g. 90s, 30m or 2h [default: no limit]
    #[arg(long, value_name = "DURATION", hide_short_help = true)]
    pub timeout: Option<String>,
    /// Choose the runtime of the agent's container, such as crun or runsc [default: the engine's]
    #[arg(long, value_name = "RUNTIME", hide_short_help = true)]
    pub runtime: Option<String>,
    /// Review when the agent ends: ask, always or never [default: ask]
    ///
    /// Without a terminal, no review is started.
    #[arg(long, value_enum, value_name = "WHEN", hide_possible_values = true)]
    pub review: Option<ReviewMode>,
}

impl AgentOptions {
    /// Returns these options, with unset ones taken from those before the subcommand.
    pub(super) fn with_defaults(self, before: Self) -> Self {
        Self {
            net: self.net.or(before.net),
            allow: before.allow.into_iter().chain(self.allow).collect(),
            port: before.port.into_iter().chain(self.port).collect(),
            forward: before.forward.into_iter().chain(self.forward).collect(),
            offline: self.offline || before.offline,
            budget: self.budget.or(before.budget),
            image: self.image.or(before.image),
            env: before.env.into_iter().chain(self.env).collect(),
            memory: self.memory.or(before.memory),
            cpus: self.cpus.or(before.cpus),
            pids: self.pids.or(before.pids),
            disk: self.disk.or(before.disk),
            timeout: self.timeout.or(before.timeout),
            runtime: self.runtime.or(before.runtime),
            review: self.review.or(before.review),
        }
    }

    /// Returns whether any option but the review was given.
    pub(super) fn changes_agent(&self) -> bool {
        Self { review: None, ..self.clone() } != Self::default()
    }

    /// Returns the options of this subcommand as settings.
    pub(super) fn settings(&self) -> Settings {
        Settings {
            image: self.image.clone(),
            memory: self.memory.clone(),
            cpus: self.cpus,
            pids: self.pids,
            net: self.net,
            budget: self.budget.clone(),
            disk: self.disk.clone(),
            timeout: self.timeout.clone(),
            runtime: self.runtime.clone(),
            review: self.review,
            ..Settings::default()
        }
    }
}

impl RunOptions {
    /// Returns these options, with unset ones taken from those before the subcommand.
    pub(super) fn with_defaults(self, before: Self) -> Self {
        Self {
            name: self.name.or(before.name),
            uncommitted: self.uncommitted.or(before.uncommitted),
            include: before.include.into_iter().chain(self.include).collect(),
            history: self.history.or(before.history),
            full: self.full || before.full,
            agent: self.agent.with_defaults(before.agent),
            no_setup: self.no_setup || before.no_setup,
            keep: self.keep || before.keep,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run Claude Code in a sandbox; every ARG is passed to it unchanged
    #[command(
        override_usage = "airlock [OPTIONS] claude [ARGS…]",
        after_help = "The options of the sandbox, such as --net and --memory, come before `claude`: see `airlock --help`."
    )]
    Claude,
    /// Run a command in a sandbox
    #[command(override_usage = "airlock run [OPTIONS] [--] COMMAND…")]
    Run {
        #[command(flatten)]
        options: RunOptions,
        /// The command, if it was given without `--`
        #[arg(hide = true)]
        stray: Vec<String>,
        /// Command to run
        #[arg(last = true, value_name = "COMMAND", help_heading = "Arguments")]
        command: Vec<String>,
    },
    /// Run a shell in a sandbox: a new one, or the one with this NAME, to look around in it
    Shell {
        #[command(flatten)]
        options: RunOptions,
        /// Name of an existing sandbox [default: a new sandbox]
        #[arg(value_name = "NAME", help_heading = "Arguments", add = ArgValueCompleter::new(complete_sandboxes))]
        sandbox: Option<String>,
    },
    /// Continue in a sandbox; for Claude Code, in the same conversation
    ///
    /// ARGS are passed to Claude Code. A sandbox of `run` takes a COMMAND.
    /// Options of the sandbox that are not given keep their values.
    #[command(override_usage = "airlock resume [OPTIONS] [NAME] [-- ARGS…|COMMAND…]", mut_args(without_default))]
    Resume(ResumeArgs),
    /// Show what changed, even while the agent runs
    #[command(override_usage = "airlock diff [OPTIONS] [NAME] [-- PATH…]")]
    Diff(DiffArgs),
    /// Open the current files of a sandbox in your editor, to read them
    ///
    /// The editor gets copies that cannot be written. It is `$GIT_EDITOR`, git's `core.editor`, `$VISUAL` or `$EDITOR`.
    Edit {
        /// Name of the sandbox [default: the only one, or the only undecided one]
        #[arg(add = ArgValueCompleter::new(complete_sandboxes))]
        name: Option<String>,
        /// Files to open: a path, a directory (DIR/) or a glob [default: all that changed]
        #[arg(value_name = "PATH", add = ArgValueCompleter::new(complete_paths))]
        paths: Vec<String>,
    },
    /// Decide what to accept
    Review(ReviewArgs),
    /// Apply accepted changes, or a selection, to your working tree
    Apply(ApplyArgs),
    /// Reverse the last apply
    Undo(UndoArgs),
    /// Recover from an interrupted apply by rolling it back or completing it
    Recover(RecoverArgs),
    /// List the sandboxes of this repository
    Ls {
        /// List the sandboxes of all repositories
        #[arg(short, long)]
        all: bool,
        /// Show a list that stays up to date, to attach, review and stop
        #[arg(short, long, conflicts_with = "json")]
        watch: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the session of a running sandbox on this terminal, from any directory
    ///
    /// Detach with Ctrl-] pressed three times within a second (setting `detach_keys`).
    Attach {
        /// Name of the sandbox [default: the only running one]
        #[arg(add = ArgValueCompleter::new(complete_sandboxes_anywhere))]
        name: Option<String>,
    },
    /// End the agents of sandboxes, and collect their changes
    Stop {
        /// Sandboxes to stop
        #[arg(required = true, value_name = "NAME", add = ArgValueCompleter::new(complete_sandboxes_anywhere))]
        names: Vec<String>,
    },
    /// Show a sandbox's base and state
    Status {
        /// Name of the sandbox [default: the only one, or the only undecided one]
        #[arg(add = ArgValueCompleter::new(complete_sandboxes))]
        name: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove old bases, backups and decided sandboxes, and leftovers of interrupted runs
    Gc {
        /// Show what would be removed, but remove nothing
        #[arg(long)]
        dry_run: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove sandboxes with their changes
    ///
    /// On a terminal, it asks first if undecided changes, decisions or other contents would be lost. An agent that runs has to be
    /// stopped before.
    Rm {
        /// Do not ask
        #[arg(short, long)]
        force: bool,
        /// Sandboxes to remove
        #[arg(required = true, value_name = "NAME", add = ArgValueCompleter::new(complete_sandboxes))]
        names: Vec<String>,
    },
    /// Make commits, a stash, a worktree or ignored files of a sandbox changes to review
    Bring(BringArgs),
    /// Show the requests of a sandbox to the network
    Log {
        /// Name of the sandbox [default: the only one, or the only undecided one]
        #[arg(add = ArgValueCompleter::new(complete_sandboxes))]
        name: Option<String>,
        /// Show only denied and failed requests
        #[arg(long)]
        denied: bool,
        /// Continue until the agent ends
        #[arg(short, long)]
        follow: bool,
        /// Print JSON, one object per line
        #[arg(long)]
        json: bool,
    },
    /// Let a sandbox reach a host, at once
    Allow(HostArgs),
    /// Keep a sandbox from reaching a host, at once
    Deny(HostArgs),
    /// Publish a port of a running sandbox on this machine
    Port {
        /// Name of the sandbox
        #[arg(add = ArgValueCompleter::new(complete_sandboxes))]
        name: String,
        /// Port in the sandbox, e.g. 3000, 8080:3000 or 0:3000 for a free port here
        #[arg(value_name = "[[ADDRESS:]HOSTPORT:]PORT")]
        port: PortSpec,
    },
    /// Put `claude` on the PATH as a link to Airlock, so that it runs in a sandbox
    Link {
        /// Directory for the link [default: ~/.local/bin]
        #[arg(add = ArgValueCompleter::new(complete_files))]
        dir: Option<std::path::PathBuf>,
        /// Remove the link of Airlock instead
        #[arg(long)]
        remove: bool,
    },
    /// Run the setup of this repository, and show its result
    ///
    /// The setup is the command that prepares the working tree, such as `npm ci`. Later sandboxes have its result at once.
    Setup(SetupArgs),
    /// Manage the agent image
    #[command(subcommand)]
    Image(ImageVerb),
    /// Show the settings, or create a configuration file
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Check the engine, hardening, disk, image, credential and terminal, and suggest fixes
    Doctor {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print a script that completes commands, options, sandboxes and paths in a shell
    Completions {
        /// Shell that reads the script
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Show the manual, or write its pages to a directory
    Man {
        /// Command whose page to show [default: airlock]
        command: Option<String>,
        /// Write all pages to a directory
        #[arg(long, value_name = "DIR", conflicts_with = "command", add = ArgValueCompleter::new(complete_files))]
        write: Option<std::path::PathBuf>,
    },
}

/// A shell whose completion is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Returns the definition of the command line, with examples.
pub(super) fn cli_definition() -> clap::Command {
    add_examples(Cli::command())
}

/// Removes the default of an option of [`AgentOptions`] from its help, because `resume` keeps the sandbox's value.
fn without_default(arg: clap::Arg) -> clap::Arg {
    let is_kept = ["net", "budget", "memory", "cpus", "pids", "disk", "timeout"].contains(&arg.get_id().as_str());
    let help = arg.get_help().map(ToString::to_string);
    match help.as_deref().and_then(|help| help.split_once(" [default: ")) {
        Some((help, _)) if is_kept => arg.help(help.to_owned()),
        _ => arg,
    }
}

#[derive(Debug, Args)]
pub(super) struct BringArgs {
    /// Name of the sandbox
    #[arg(add = ArgValueCompleter::new(complete_sandboxes))]
    pub name: String,
    /// Branch, commit or stash of the sandbox, or the path of a worktree in it
    ///
    /// The files of the sandbox become those of the commit. What they were before is a branch in the sandbox.
    #[arg(value_name = "REF|WORKTREE")]
    pub what: Option<std::ffi::OsString>,
    /// Collect ignored files of the sandbox as well: a path, a directory or a glob
    #[arg(long, value_name = "GLOB")]
    pub include: Vec<String>,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option")]
pub(super) struct SetupArgs {
    /// Run it again, even if there is a result
    #[arg(long, conflicts_with_all = ["show", "decline"])]
    pub again: bool,
    /// Only show the command and its result
    #[arg(long)]
    pub show: bool,
    /// Do not run what this repository asks for, from now on
    #[arg(long, conflicts_with = "show")]
    pub decline: bool,
    /// Print the layer and the setup as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct HostArgs {
    /// Name of the sandbox
    #[arg(add = ArgValueCompleter::new(complete_sandboxes))]
    pub name: String,
    /// Host, e.g. example.org, *.example.org or example.org:8443
    #[arg(value_name = "HOST[:PORT]")]
    pub host: HostPattern,
    /// Save this in the configuration, for all sandboxes
    #[arg(long)]
    pub always: bool,
}

#[derive(Debug, Args)]
pub(super) struct ResumeArgs {
    /// Name of the sandbox [default: the only one, or the only undecided one]
    #[arg(add = ArgValueCompleter::new(complete_sandboxes))]
    pub name: Option<String>,
    /// Send your rejections, comments and own texts to Claude Code
    #[arg(long)]
    pub feedback: bool,
    /// Print what --feedback would send, but send nothing
    #[arg(long, requires = "feedback")]
    pub dry_run: bool,
    #[command(flatten)]
    pub agent: AgentOptions,
    /// Arguments for Claude Code, or the command to run
    #[arg(last = true, value_name = "ARGS", help_heading = "Arguments")]
    pub args: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    /// Name of the sandbox [default: the only one, or the only undecided one]
    #[arg(add = ArgValueCompleter::new(complete_sandboxes))]
    pub name: Option<String>,
    /// Treat a renamed file as an addition and a deletion
    #[arg(long)]
    pub no_renames: bool,
    /// Show line counts per file
    #[arg(long, group = "form")]
    pub stat: bool,
    /// Show only paths
    #[arg(long, group = "form")]
    pub name_only: bool,
    /// End each path with NUL, without quoting (with --name-only)
    #[arg(short = 'z', requires = "name_only")]
    pub null: bool,
    /// Print a byte-exact patch for `git apply` to a file or a pipe
    #[arg(long, group = "form")]
    pub patch: bool,
    /// Print files, hunks with their IDs, findings and decisions as JSON
    #[arg(long, group = "form")]
    pub json: bool,
    /// Write an HTML page with findings, decisions and comments to a new file (- for stdout)
    #[arg(long, value_name = "FILE", group = "form", add = ArgValueCompleter::new(complete_files))]
    pub html: Option<std::path::PathBuf>,
    /// Replace the file of --html if it exists
    #[arg(long, requires = "html")]
    pub force: bool,
    /// Print each hunk and finding as `PATH:LINE: TEXT`, for the error list of an editor
    #[arg(long, value_enum, value_name = "FORMAT", group = "form")]
    pub format: Option<DiffFormat>,
    /// Exit with status 3 if there are changes
    #[arg(long)]
    pub exit_code: bool,
    /// Exit with status 3 if there are findings of this severity or above: note, medium, high or refused
    ///
    /// Other changes then do not count, even with --exit-code.
    #[arg(long, value_enum, value_name = "SEVERITY", hide_possible_values = true)]
    pub fail_on: Option<FailOn>,
    /// Do not use a pager
    #[arg(long)]
    pub no_pager: bool,
    /// Files to show: a path, a directory (DIR/) or a glob, as for `apply --accept`
    #[arg(last = true, value_name = "PATH", help_heading = "Arguments", add = ArgValueCompleter::new(complete_paths))]
    pub paths: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum DiffFormat {
    Quickfix,
}

/// The least severity of a finding that lets `diff` fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum FailOn {
    Note,
    Medium,
    High,
    Refused,
}

#[derive(Debug, Args)]
pub(super) struct ReviewArgs {
    /// Name of the sandbox [default: the only one, or the only undecided one]
    #[arg(add = ArgValueCompleter::new(complete_sandboxes))]
    pub name: Option<String>,
    /// Ask hunk by hunk, without the full screen
    #[arg(long, group = "form")]
    pub plain: bool,
    /// Write all decisions and comments to a new file (- for stdout), without a review
    #[arg(long, value_name = "FILE", group = "form", add = ArgValueCompleter::new(complete_files))]
    pub export: Option<std::path::PathBuf>,
    /// Replace the file of --export if it exists
    #[arg(long, requires = "export")]
    pub force: bool,
    /// Read decisions and comments from such a file (- for stdin), without a review
    #[arg(long, value_name = "FILE", group = "form", add = ArgValueCompleter::new(complete_files))]
    pub import: Option<std::path::PathBuf>,
    /// Answer requests of another program, such as an editor, on stdin and stdout
    #[arg(long, group = "form")]
    pub json_rpc: bool,
    /// Let the file accept high findings
    #[arg(long, requires = "import")]
    pub allow_risky: bool,
}

#[derive(Debug, Args)]
pub(super) struct ApplyArgs {
    /// Name of the sandbox [default: the only one, or the only undecided one]
    #[arg(add = ArgValueCompleter::new(complete_sandboxes))]
    pub name: Option<String>,
    /// Accept a path, a directory (DIR/) or a glob
    #[arg(long, value_name = "GLOB", add = ArgValueCompleter::new(complete_paths))]
    pub accept: Vec<String>,
    /// Reject a path, a directory (DIR/) or a glob; overrides --accept
    #[arg(long, value_name = "GLOB", add = ArgValueCompleter::new(complete_paths))]
    pub reject: Vec<String>,
    /// Accept one hunk by its ID (see `airlock diff --json`)
    #[arg(long, value_name = "ID", add = ArgValueCompleter::new(complete_hunks))]
    pub accept_id: Vec<String>,
    /// Accept everything except high findings
    #[arg(long)]
    pub accept_all: bool,
    /// Apply only what a decision file accepts (see `airlock review --export`; - for stdin)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["accept", "reject", "accept_id", "accept_all"],
          add = ArgValueCompleter::new(complete_files))]
    pub decisions: Option<std::path::PathBuf>,
    /// Treat a renamed file as an addition and a deletion
    #[arg(long)]
    pub no_renames: bool,
    /// Accept high findings as well
    #[arg(long)]
    pub allow_risky: bool,
    /// Handle conflicts
    #[arg(long, value_enum, value_name = "HOW", default_value_t)]
    pub on_conflict: OnConflict,
    /// Choose the target: worktree, branch:NAME or patch:FILE (- for stdout)
    ///
    /// The branch gets a commit on top of the commit that the sandbox started from.
    #[arg(long, value_name = "TARGET")]
    pub to: Option<String>,
    /// Message of the commit of --to branch:NAME [default: the agent's, if it committed]
    #[arg(short, long, value_name = "MESSAGE", requires = "to")]
    pub message: Option<String>,
    /// Make one commit on the branch for each of the agent's, with the accepted lines that it had
    #[arg(long, requires = "to", conflicts_with = "message")]
    pub per_commit: bool,
    /// Replace the file of --to patch:FILE if it exists
    #[arg(long, requires = "to")]
    pub force: bool,
    /// Show what would be done, but do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print the outcome as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct UndoArgs {
    /// Sandbox whose last apply to undo, or the number of an apply in --list [default: the last apply of any sandbox]
    #[arg(value_name = "NAME|NUMBER", add = ArgValueCompleter::new(complete_sandboxes))]
    pub name: Option<String>,
    /// List the applies to this working tree
    #[arg(long)]
    pub list: bool,
    /// Show what would be done, but do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print the outcome as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct RecoverArgs {
    /// Restore what the apply replaced (default)
    #[arg(long, group = "way")]
    pub rollback: bool,
    /// Write the remaining files
    #[arg(long = "continue", group = "way")]
    pub complete: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigVerb {
    /// List all settings with their values
    Show {
        /// Show the file or the variable that each value comes from
        #[arg(long)]
        origin: bool,
        /// Print the settings as JSON
        #[arg(long)]
        json: bool,
    },
    /// Create a configuration file in which every setting is a comment
    Init,
}

#[derive(Debug, Subcommand)]
pub(super) enum ImageVerb {
    /// Build the agent image with Claude Code and common tools
    Build {
        /// Start from an image, or from a root file system in a tar archive
        #[arg(long, value_name = "IMAGE|ROOTFS.tar")]
        base: Option<String>,
        /// Install packages of the base's distribution (repeatable)
        #[arg(long, value_name = "PACKAGE", value_delimiter = ',')]
        with: Vec<String>,
        /// Install this version of Claude Code (2.1.197, 2.1.x, latest), or a `claude` binary of this machine
        #[arg(long, value_name = "VERSION|PATH")]
        claude: Option<String>,
        /// Name of the image
        #[arg(long, value_name = "IMAGE", default_value = crate::images::AGENT_IMAGE)]
        name: String,
        /// Build the image that fits the files of this repository, and use it here from now on
        #[arg(long, conflicts_with_all = ["base", "with", "claude", "name"])]
        project: bool,
    },
    /// Build images again, with the newest base and packages
    Update {
        /// Images to build again [default: all that Airlock built]
        names: Vec<String>,
    },
    /// List Airlock's images
    Ls {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove Airlock's images
    Rm {
        /// Images to remove [default: all]
        names: Vec<String>,
    },
}
