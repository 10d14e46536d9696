//! Writes copies of the user's files to the home of a sandbox, before its agent starts.

use std::collections::BTreeSet;

use crate::claude_config::HomeCopy;
use crate::guest_client::{EntryBatch, GuestClient, GuestError, split_content};
use crate::protocol::{Entry, Root};

/// The file with instructions for Claude Code in all repositories.
const MEMORY: &str = ".claude/CLAUDE.md";

/// Writes the copies with the writer of the agent's own user. The instructions of the user follow `memory`, which are those
/// of Airlock.
///
/// # Errors
/// The guest fails.
pub(super) async fn write_home_copies(
    writer: &GuestClient,
    copies: &[HomeCopy],
    memory: &str,
) -> Result<(), GuestError> {
    let mut batch = EntryBatch::new(writer, Root::Home);
    let mut directories = BTreeSet::new();
    for copy in copies {
        for (end, _) in copy.path.match_indices('/') {
            if directories.insert(&copy.path[..end]) {
                batch.add_entry(&copy.path.as_bytes()[..end], &Entry::Directory).await?;
            }
        }
        let with_memory = (copy.path == MEMORY).then(|| [memory.as_bytes(), b"\n", &copy.content].concat());
        let content = with_memory.as_ref().unwrap_or(&copy.content);
        for (offset, bytes) in split_content(content) {
            let (offset, size) = (offset as u64, content.len() as u64);
            let entry = Entry::File { executable: copy.executable, report: false, mtime: 0, size, offset, bytes };
            batch.add_entry(copy.path.as_bytes(), &entry).await?;
        }
    }
    batch.send_entries().await?;
    writer.flush_writes(drop).await
}
