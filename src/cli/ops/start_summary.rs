//! Messages before an agent starts: what its sandbox includes, and what it does not include.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::base::Manifest;
use crate::cli::output::{Output, format_count};
use crate::core::escape::Escaped;
use crate::git::{HostRepo, UncommittedScope, WorktreeStatus};
use crate::sandbox::Sandbox;

/// A scan for uncommitted work on a separate thread. No one waits for its result.
pub(crate) struct DirtyScan {
    result: Receiver<WorktreeStatus>,
    started: Sender<()>,
}

impl DirtyScan {
    /// Starts the scan. It reads the whole tree and competes with the engine for the CPU, so the agent starts first in a
    /// large tree.
    pub(crate) fn start_scan(host: HostRepo, scope: UncommittedScope) -> Self {
        let (sender, result) = channel();
        let (started, start) = channel::<()>();
        let is_large = host.index_bytes() > LARGE_INDEX;
        std::thread::spawn(move || {
            if is_large {
                // Waits until the agent starts, and then for a moment. An agent that ends within that time needs no scan.
                let _ = start.recv();
                if start.recv_timeout(HEAD_START) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
            if let Ok(status) = host.worktree_status(scope) {
                let _ = sender.send(status);
            }
        });
        Self { result, started }
    }

    /// Signals that the agent starts.
    pub(crate) fn signal_agent_start(&self) {
        let _ = self.started.send(());
    }

    /// Returns the result if it is available. Later calls return `None`.
    pub(crate) fn take_result(&self) -> Option<WorktreeStatus> {
        self.result.try_recv().ok()
    }
}

/// Size of the index, in bytes, above which a tree is large: about 20,000 files.
const LARGE_INDEX: u64 = 2 << 20;
/// Time that an agent runs before the scan of a large tree starts.
const HEAD_START: Duration = Duration::from_secs(1);

/// Returns the first line that is printed for a sandbox: what it starts with.
pub(crate) fn first_line(
    sandbox: &Sandbox,
    status: Option<&WorktreeStatus>,
    scope: UncommittedScope,
    network: &str,
) -> String {
    let record = &sandbox.record;
    let short: String = record.base.chars().take(7).collect();
    let branch = record.branch.as_deref().unwrap_or("detached HEAD");
    let manifest = &record.manifest;
    let mut line =
        format!("{} · {} at {short}, {}", record.name, Escaped::new(branch), format_count(manifest.files, "file"));
    if manifest.uncommitted > 0 {
        line += &format!(" and {}", format_count(manifest.uncommitted, "uncommitted change"));
    }
    if manifest.included > 0 {
        line += &format!(" and {} from --include", format_count(manifest.included, "file"));
    }
    match status {
        Some(status) => line.extend(uncommitted_text(status).map(|text| format!(" · {text}"))),
        // The scan has not ended yet.
        None if scope == UncommittedScope::None => {
            line += " · uncommitted work not included (--uncommitted includes it)"
        }
        None => {}
    }
    let omitted = manifest.skipped_submodules.len() + manifest.lfs_pointers.len() + manifest.skipped.len();
    if omitted > 0 {
        let name = &record.name;
        line += &format!(" · {} not included: airlock status {name}", format_count(omitted, "submodule or file"));
    }
    if !record.user_config.parts.is_empty() {
        let parts: Vec<_> = record.user_config.parts.iter().map(|part| Escaped::new(part).to_string()).collect();
        line += &format!(" · your {}", parts.join(", "));
    }
    line + network
}

pub(crate) fn print_start(line: &str, status: Option<&WorktreeStatus>, manifest: &Manifest, output: Output) {
    output.print_status(line);
    if let Some(note) = status.and_then(operation_note) {
        output.print_status(&note);
    }
    if let Some(first) = manifest.filtered.first() {
        let (n, first) = (format_count(manifest.filtered.len(), "file"), Escaped::new(first.as_bytes()));
        output
            .print_status(&format!("{n} in git's stored form, such as {first}: Airlock does not run their git filter"));
    }
    if manifest.sparse {
        output.print_status("only the files of the sparse checkout are included (--full includes all)");
    }
}

fn uncommitted_text(status: &WorktreeStatus) -> Option<String> {
    let them = if status.files == 1 { "it" } else { "them" };
    // Untracked files are included only by the stronger option.
    let (what, hint) = match (status.files - status.untracked, status.untracked) {
        (0, _) => ("untracked file", format!("--uncommitted=all includes {them}")),
        (_, 0) => ("uncommitted file", format!("--uncommitted includes {them}")),
        (tracked, _) => {
            ("uncommitted file", format!("--uncommitted includes {tracked}, --uncommitted=all includes all"))
        }
    };
    (status.files > 0).then(|| format!("{} not included ({hint})", format_count(status.files, what)))
}

fn operation_note(status: &WorktreeStatus) -> Option<String> {
    let operation = status.operation?;
    Some(format!("a {operation} is in progress; the sandbox starts from HEAD without it"))
}

/// Returns the messages about uncommitted work that was not known before the agent started.
pub(crate) fn worktree_notes(status: &WorktreeStatus) -> Vec<String> {
    operation_note(status).into_iter().chain(uncommitted_text(status)).collect()
}
