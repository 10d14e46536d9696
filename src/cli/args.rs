//! The command line, as data.

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{NetworkAccess, ReviewMode, Settings};

/// Run Claude Code in a hardened container against a copy of your repository; apply only what you accept.
#[derive(Debug, Parser)]
#[command(
    name = "airlock",
    version,
    max_term_width = 100,
    override_usage = "airlock [OPTIONS] [claude ARGS…]\n       airlock <COMMAND>",
    after_help = "Without a command: airlock claude. What follows the word claude goes to Claude Code untouched."
)]
pub struct Cli {
    /// Color the output.
    #[arg(long, value_enum, value_name = "WHEN", default_value = "auto", global = true)]
    pub color: Colour,
    /// Say less.
    #[arg(short, long, global = true)]
    pub quiet: bool,
    #[command(flatten)]
    pub run: RunOptions,
    #[command(subcommand)]
    pub verb: Option<Command>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Colour {
    Auto,
    Always,
    Never,
}

/// Uncommitted work that can go along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum UncommittedArg {
    /// Changes of tracked files, staged or not.
    Tracked,
    /// Untracked files too, as far as they are not ignored.
    All,
}

/// What a sandbox is and has.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Options for a sandbox")]
pub struct RunOptions {
    /// Its name [default: a random one].
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Take uncommitted changes along: of tracked files, or all (untracked files too).
    #[arg(long, value_enum, value_name = "WHICH", num_args = 0..=1, require_equals = true, default_missing_value = "tracked")]
    pub uncommitted: Option<UncommittedArg>,
    /// Take ignored or untracked files along, and bring changes of them back: a path, a directory or a glob.
    #[arg(long, value_name = "GLOB")]
    pub include: Vec<String>,
    /// How much of the history goes along: full, none or a number of commits [default: all of it, or about 200 commits of a large one].
    #[arg(long, value_name = "HOW MUCH")]
    pub history: Option<String>,
    /// All tracked files, in a sparse checkout too.
    #[arg(long)]
    pub full: bool,
    #[command(flatten)]
    pub agent: AgentOptions,
    /// Keeps the sandbox although nothing changed.
    #[arg(long)]
    pub keep: bool,
}

/// The agent's configuration.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Options for a sandbox")]
pub struct AgentOptions {
    /// What it reaches beyond its own loopback [default: model for claude, none otherwise].
    #[arg(long, value_enum, value_name = "NET")]
    pub net: Option<NetworkAccess>,
    /// The agent image.
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// Sets a variable, or passes one of yours on; it is visible to the agent.
    #[arg(long, value_name = "KEY[=VALUE]")]
    pub env: Vec<String>,
    /// Its memory, such as 4g [default: 8g, or three quarters of the machine].
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Its CPUs, such as 1.5 [default: all].
    #[arg(long, value_name = "N")]
    pub cpus: Option<f64>,
    /// Its processes and threads [default: 2048].
    #[arg(long, value_name = "N")]
    pub pids: Option<u32>,
    /// What its workspace and home may take together, such as 20g [default: 10g].
    #[arg(long, value_name = "SIZE")]
    pub disk: Option<String>,
    /// How long it may take, such as 90s, 30m or 2h [default: no end].
    #[arg(long, value_name = "DURATION")]
    pub timeout: Option<String>,
    /// Whether to review when the agent ends [default: ask, on a terminal].
    #[arg(long, value_enum, value_name = "WHEN")]
    pub review: Option<ReviewMode>,
}

impl AgentOptions {
    /// Returns these options, with those before the verb where they leave something open.
    pub fn over(self, before: Self) -> Self {
        Self {
            net: self.net.or(before.net),
            image: self.image.or(before.image),
            env: before.env.into_iter().chain(self.env).collect(),
            memory: self.memory.or(before.memory),
            cpus: self.cpus.or(before.cpus),
            pids: self.pids.or(before.pids),
            disk: self.disk.or(before.disk),
            timeout: self.timeout.or(before.timeout),
            review: self.review.or(before.review),
        }
    }

    /// Returns what was said here alone, as settings.
    pub fn settings(&self) -> Settings {
        Settings {
            image: self.image.clone(),
            memory: self.memory.clone(),
            cpus: self.cpus,
            pids: self.pids,
            net: self.net,
            disk: self.disk.clone(),
            timeout: self.timeout.clone(),
            review: self.review,
            ..Settings::default()
        }
    }
}

impl RunOptions {
    /// Returns these options, with those before the verb where they leave something open.
    pub fn over(self, before: Self) -> Self {
        Self {
            name: self.name.or(before.name),
            uncommitted: self.uncommitted.or(before.uncommitted),
            include: before.include.into_iter().chain(self.include).collect(),
            history: self.history.or(before.history),
            full: self.full || before.full,
            agent: self.agent.over(before.agent),
            keep: self.keep || before.keep,
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Claude Code in a sandbox; every ARG reaches it untouched.
    #[command(override_usage = "airlock [OPTIONS] claude [ARGS…]")]
    Claude,
    /// Any command in a sandbox.
    #[command(override_usage = "airlock run [OPTIONS] -- COMMAND…")]
    Run {
        #[command(flatten)]
        options: RunOptions,
        /// Words before `--`: a mistake, told with the right way.
        #[arg(hide = true)]
        stray: Vec<String>,
        /// The command.
        #[arg(last = true, value_name = "COMMAND", help_heading = "Arguments")]
        command: Vec<String>,
    },
    /// A shell in a sandbox.
    Shell {
        #[command(flatten)]
        options: RunOptions,
    },
    /// Go on in a sandbox: for Claude Code the same conversation, ARGS reach it; a sandbox of `run` takes a COMMAND.
    #[command(override_usage = "airlock resume [OPTIONS] [NAME] [-- ARGS…|COMMAND…]")]
    Resume(ResumeArgs),
    /// Show what changed, also while the agent works.
    #[command(override_usage = "airlock diff [OPTIONS] [NAME] [-- PATH…]")]
    Diff(DiffArgs),
    /// Decide what to accept.
    Review(ReviewArgs),
    /// Bring what was accepted, or a selection given here, to your working tree.
    Apply(ApplyArgs),
    /// Take the last apply back.
    Undo(UndoArgs),
    /// Recover from an interrupted apply: roll it back, or complete it.
    Recover(RecoverArgs),
    /// List the sandboxes of this repository.
    Ls {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Tell what a sandbox began with, and how it is.
    Status {
        /// The sandbox.
        name: Option<String>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Remove what is spent: old bases, what is left of interrupted work.
    Gc {
        /// Say what would be removed, and remove nothing.
        #[arg(long)]
        dry_run: bool,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Remove sandboxes, with the changes in them; on a terminal it asks where decisions would go with them.
    Rm {
        /// Do not ask.
        #[arg(short, long)]
        force: bool,
        /// The sandboxes.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// The agent image.
    #[command(subcommand)]
    Image(ImageVerb),
    /// Look at engine, hardening, disk, image, credential and terminal, and say what to mend.
    Doctor {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// The sandbox.
    pub name: Option<String>,
    /// Send Claude Code what you rejected, and your comments.
    #[arg(long)]
    pub feedback: bool,
    /// Print what --feedback would send, and do nothing.
    #[arg(long, requires = "feedback")]
    pub dry_run: bool,
    #[command(flatten)]
    pub agent: AgentOptions,
    /// What Claude Code gets, or the command.
    #[arg(last = true, value_name = "ARGS", help_heading = "Arguments")]
    pub args: Vec<String>,
}

#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The sandbox.
    pub name: Option<String>,
    /// Counts per file.
    #[arg(long, group = "form")]
    pub stat: bool,
    /// Paths alone.
    #[arg(long, group = "form")]
    pub name_only: bool,
    /// With --name-only: end each path with NUL, and quote none
    #[arg(short = 'z', requires = "name_only")]
    pub null: bool,
    /// A patch for `git apply`, byte for byte; for a file or a pipe.
    #[arg(long, group = "form")]
    pub patch: bool,
    /// Files, hunks with their ids, findings and decisions, as JSON.
    #[arg(long, group = "form")]
    pub json: bool,
    /// Write one page of HTML, with findings, decisions and comments, to a new file (- for standard output).
    #[arg(long, value_name = "FILE", group = "form")]
    pub html: Option<std::path::PathBuf>,
    /// Exit with 3 if there are changes.
    #[arg(long)]
    pub exit_code: bool,
    /// Print it, however long it is.
    #[arg(long)]
    pub no_pager: bool,
    /// These files alone: a path, a directory (DIR/) or a glob, as for `apply --accept`.
    #[arg(last = true, value_name = "PATH", help_heading = "Arguments")]
    pub paths: Vec<String>,
}

#[derive(Debug, Args)]
pub struct ReviewArgs {
    /// The sandbox.
    pub name: Option<String>,
    /// Ask hunk by hunk, without the full screen.
    #[arg(long, group = "form")]
    pub plain: bool,
    /// Write all decisions and comments to a new file (- for standard output), and review nothing.
    #[arg(long, value_name = "FILE", group = "form")]
    pub export: Option<std::path::PathBuf>,
    /// Take decisions and comments from such a file (- for standard input), and review nothing.
    #[arg(long, value_name = "FILE", group = "form")]
    pub import: Option<std::path::PathBuf>,
    /// The file may accept high findings.
    #[arg(long, requires = "import")]
    pub allow_risky: bool,
}

#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// The sandbox.
    pub name: Option<String>,
    /// Accept a path, a directory (DIR/) or a glob.
    #[arg(long, value_name = "GLOB")]
    pub accept: Vec<String>,
    /// Leave out a path, a directory (DIR/) or a glob; beats --accept.
    #[arg(long, value_name = "GLOB")]
    pub reject: Vec<String>,
    /// Accept one hunk by its id (see: airlock diff --json).
    #[arg(long, value_name = "ID")]
    pub accept_id: Vec<String>,
    /// Accept everything but high findings.
    #[arg(long)]
    pub accept_all: bool,
    /// Take what a decision file accepts (see: airlock review --export), and nothing else; - for standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["accept", "reject", "accept_id", "accept_all"])]
    pub decisions: Option<std::path::PathBuf>,
    /// Accept high findings too.
    #[arg(long)]
    pub allow_risky: bool,
    /// What becomes of conflicts: nothing is written, both sides go between markers, or they are passed over.
    #[arg(long, value_enum, value_name = "HOW", default_value = "abort")]
    pub on_conflict: ConflictMode,
    /// Where to: worktree, branch:NAME (a commit on the one that the sandbox began with), or patch:FILE (- for standard output).
    #[arg(long, value_name = "TARGET")]
    pub to: Option<String>,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// The outcome as JSON.
    #[arg(long)]
    pub json: bool,
}

/// The handling of conflicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ConflictMode {
    Abort,
    Markers,
    Skip,
}

#[derive(Debug, Args)]
pub struct UndoArgs {
    /// The sandbox whose last apply is taken back [default: the last apply of all].
    pub name: Option<String>,
    /// List the applies that can be taken back.
    #[arg(long)]
    pub list: bool,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// The outcome as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct RecoverArgs {
    /// Restore what it replaced (the default).
    #[arg(long, group = "way")]
    pub rollback: bool,
    /// Write the rest.
    #[arg(long = "continue", group = "way")]
    pub complete: bool,
}

#[derive(Debug, Subcommand)]
pub enum ImageVerb {
    /// Build the agent image: Claude Code and the usual tools.
    Build {
        /// An image, or a root file system in a tar.
        #[arg(long, value_name = "IMAGE|ROOTFS.tar")]
        base: Option<String>,
        /// The version of Claude Code.
        #[arg(long, value_name = "VERSION", conflicts_with = "claude")]
        claude_version: Option<String>,
        /// A `claude` binary of this machine, instead of the npm package's.
        #[arg(long, value_name = "PATH")]
        claude: Option<std::path::PathBuf>,
    },
    /// List Airlock's images.
    Ls {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Remove Airlock's images.
    Rm {
        /// Which [default: all].
        names: Vec<String>,
    },
}
