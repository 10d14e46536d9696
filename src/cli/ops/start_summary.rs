//! Messages before an agent starts: what its sandbox includes, and what it does not include.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::base::Manifest;
use crate::cli::output::{Output, count};
use crate::core::escape::Escaped;
use crate::git::{HostRepo, UncommittedScope, WorktreeStatus};
use crate::sandbox::Sandbox;

/// A scan for uncommitted work on a separate thread. No one waits for its result.
pub struct DirtyScan {
    found: Receiver<WorktreeStatus>,
    started: Sender<()>,
}

impl DirtyScan {
    /// Starts the scan. It reads the whole tree and competes with the engine for the CPU, so the agent starts first in a
    /// large tree.
    pub fn begin(host: HostRepo, along: UncommittedScope) -> Self {
        let (sender, found) = channel();
        let (started, start) = channel::<()>();
        let large = host.index_bytes() > LARGE_INDEX;
        std::thread::spawn(move || {
            if large {
                // Waits until the agent starts, and then for a moment. An agent that ends within that time needs no scan.
                let _ = start.recv();
                if start.recv_timeout(HEAD_START) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
            if let Ok(dirt) = host.worktree_status(along) {
                let _ = sender.send(dirt);
            }
        });
        Self { found, started }
    }

    /// Signals that the agent starts.
    pub fn agent_starts(&self) {
        let _ = self.started.send(());
    }

    /// Returns the result if it is available. Later calls return `None`.
    pub fn take(&self) -> Option<WorktreeStatus> {
        self.found.try_recv().ok()
    }
}

/// Size of the index, in bytes, above which a tree is large: about 20,000 files.
const LARGE_INDEX: u64 = 2 << 20;
/// Time that an agent runs before the scan of a large tree starts.
const HEAD_START: Duration = Duration::from_secs(1);

/// Returns the first line that is printed for a sandbox: what it starts with.
pub fn first_line(
    sandbox: &Sandbox,
    dirt: Option<&WorktreeStatus>,
    along: UncommittedScope,
    has_route: bool,
) -> String {
    let record = &sandbox.record;
    let short: String = record.base.chars().take(7).collect();
    let branch = record.branch.as_deref().unwrap_or("detached HEAD");
    let manifest = &record.manifest;
    let mut line = format!("{} · {} at {short}, {}", record.name, Escaped::new(branch), count(manifest.files, "file"));
    if manifest.uncommitted > 0 {
        line += &format!(" and {}", count(manifest.uncommitted, "uncommitted change"));
    }
    if manifest.included > 0 {
        line += &format!(" and {} of --include", count(manifest.included, "file"));
    }
    match dirt {
        Some(dirt) => line.extend(dirt_text(dirt).map(|text| format!(" · {text}"))),
        // The scan has not ended yet.
        None if along == UncommittedScope::None => line += " · without uncommitted work (--uncommitted takes it along)",
        None => {}
    }
    let behind = manifest.left.len() + manifest.pointers.len() + manifest.skipped.len();
    if behind > 0 {
        let name = &record.name;
        line += &format!(" · {} not here: airlock status {name}", count(behind, "submodule or file"));
    }
    line + if has_route { " · network: model only" } else { " · network: none" }
}

pub fn say_beginning(line: &str, dirt: Option<&WorktreeStatus>, manifest: &Manifest, output: Output) {
    output.say(line);
    if let Some(dirt) = dirt {
        say_operation(dirt, output);
    }
    if let Some(first) = manifest.filtered.first() {
        let (n, first) = (count(manifest.filtered.len(), "file"), Escaped::new(first.as_bytes()));
        output
            .say(&format!("{n} as git stores them, such as {first}: git runs a filter on them, and Airlock runs none"));
    }
    if manifest.sparse {
        output.say("the sparse checkout's files alone (--full takes all along)");
    }
}

fn dirt_text(dirt: &WorktreeStatus) -> Option<String> {
    let (verb, them) = if dirt.files == 1 { ("stays", "it") } else { ("stay", "them") };
    // Untracked files are included only by the stronger option.
    let (what, ways) = match (dirt.files - dirt.untracked, dirt.untracked) {
        (0, _) => ("untracked file", format!("--uncommitted=all takes {them} along")),
        (_, 0) => ("uncommitted file", format!("--uncommitted takes {them} along")),
        (tracked, _) => {
            ("uncommitted file", format!("--uncommitted takes {tracked} along, --uncommitted=all takes all"))
        }
    };
    (dirt.files > 0).then(|| format!("{} {verb} behind ({ways})", count(dirt.files, what)))
}

fn say_operation(dirt: &WorktreeStatus, output: Output) {
    if let Some(operation) = dirt.operation {
        output.say(&format!("a {operation} is in progress here; the sandbox has HEAD without it"));
    }
}

pub fn say_dirt(dirt: &WorktreeStatus, output: Output) {
    say_operation(dirt, output);
    if let Some(text) = dirt_text(dirt) {
        output.say(&text);
    }
}
