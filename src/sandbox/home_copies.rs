//! Writes copies of the user's files to the home of a sandbox, before its agent starts.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::Manifest;
use crate::claude_config::HomeCopy;
use crate::guest_client::{EntryBatch, GuestClient, GuestError, split_content};
use crate::protocol::{Entry, Root};

/// The file with instructions for Claude Code in all repositories.
const MEMORY: &str = ".claude/CLAUDE.md";

/// Lists the topmost entries by which the search for work in a home recognizes the copies.
pub(super) fn list_brought(copies: &[HomeCopy], manifest: &Manifest) -> BTreeMap<String, Option<u64>> {
    let mut brought = BTreeMap::new();
    for copy in copies {
        // Entries of `.claude` are distinguished two levels below it.
        let depth = if copy.path.starts_with(".claude/") { 3 } else { 1 };
        let end = copy.path.match_indices('/').nth(depth - 1).map_or(copy.path.len(), |(end, _)| end);
        let own = if copy.path == MEMORY { manifest.format_memory().len() + 1 } else { 0 };
        let size = (end == copy.path.len()).then(|| (own + copy.content.len()) as u64);
        brought.insert(copy.path[..end].to_owned(), size);
    }
    brought
}

/// Writes the copies with the writer of the agent's own user. The instructions of the user follow `memory`, which are those
/// of Airlock.
///
/// # Errors
/// A file cannot be written.
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
