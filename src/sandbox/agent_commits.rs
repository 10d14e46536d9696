//! The commits that an agent made in a sandbox. The git of the image has listed them there; the workspace's `.git` is not read.

use std::collections::{BTreeMap, HashSet};
use std::io;

use serde::{Deserialize, Serialize};

use super::store::Sandbox;
use crate::changes::{AgentCommit, ContentHash};
use crate::git::HostRepo;
use crate::guest_client::GuestClient;
use crate::protocol::Root;

/// The list and the contents in the home of the sandbox, and their maximum sizes in bytes.
const LIST: &[u8] = b".config/airlock/commits";
const MAX_LIST: u64 = 512 << 10;
const CONTENTS: &[u8] = b".config/airlock/commit-contents";
const MAX_CONTENTS: u64 = 8 << 20;
/// The name of the file in the sandbox's directory.
const FILE: &str = "commits.json";

/// The agent's commits, oldest first.
#[derive(Debug, Default)]
pub struct AgentCommits {
    pub commits: Vec<AgentCommit>,
    /// The contents of files after a commit, by the ID of the blob: data of the agent, of which parts may be missing.
    pub contents: BTreeMap<String, ContentHash>,
}

/// The commits that belong to a changeset.
#[derive(Debug, Serialize, Deserialize)]
struct CommitsFile {
    changeset: String,
    commits: Vec<AgentCommit>,
    contents: BTreeMap<String, ContentHash>,
}

/// The commits as the sandbox lists them.
#[derive(Debug)]
pub(crate) struct FoundCommits {
    commits: Vec<AgentCommit>,
    contents: Vec<u8>,
}

/// Reads the agent's commits: those after the last one that the host knows. What cannot be read is empty.
pub(crate) async fn find_commits(guest: &GuestClient, host: &HostRepo) -> FoundCommits {
    let list = guest.read(Root::Home, LIST, MAX_LIST).await.unwrap_or_default();
    let mut commits = AgentCommit::parse_list(&list);
    if let Some(last_known) = commits.iter().rposition(|commit| host.has_commit(&commit.id)) {
        commits.drain(..=last_known);
    }
    let is_needed = !commits.is_empty();
    let contents = if is_needed { guest.read(Root::Home, CONTENTS, MAX_CONTENTS).await.ok() } else { None };
    FoundCommits { commits, contents: contents.unwrap_or_default() }
}

/// Parses blobs, each of which follows a line with its ID, type and size. What follows an incomplete one is left out.
fn parse_contents(mut bytes: &[u8]) -> Vec<(&str, &[u8])> {
    let mut found = Vec::new();
    while let Some(end) = memchr::memchr(b'\n', bytes) {
        let Ok(header) = std::str::from_utf8(&bytes[..end]) else { break };
        bytes = &bytes[end + 1..];
        let mut words = header.split(' ');
        let (id, kind, size) = (words.next().unwrap_or_default(), words.next(), words.next());
        // A missing object has no size and no content.
        let Some(size) = size.and_then(|size| size.parse::<usize>().ok()) else { continue };
        let Some(content) = bytes.get(..size) else { break };
        if kind == Some("blob") {
            found.push((id, content));
        }
        bytes = bytes.get(size.saturating_add(1)..).unwrap_or_default();
    }
    found
}

impl Sandbox {
    /// Saves the commits of a changeset, and the contents of their files.
    pub(crate) fn write_commits(&self, changeset: &str, found: FoundCommits) -> io::Result<()> {
        let files = found.commits.iter().flat_map(|commit| &commit.files);
        let blobs: HashSet<&str> = files.filter_map(|file| file.blob.as_deref()).collect();
        let mut contents = BTreeMap::new();
        if !found.contents.is_empty() {
            let store = self.open_quarantine()?;
            for (id, content) in parse_contents(&found.contents) {
                if blobs.contains(id) && !contents.contains_key(id) {
                    contents.insert(id.to_owned(), store.store_blob(content)?);
                }
            }
        }
        let file = CommitsFile { changeset: changeset.to_owned(), commits: found.commits, contents };
        self.write_json(FILE, &file)
    }

    /// Returns the agent's commits; none if they belong to another changeset or cannot be read.
    #[must_use]
    pub fn read_commits(&self, changeset: &str) -> AgentCommits {
        let text = std::fs::read(self.file_path(FILE)).unwrap_or_default();
        let file = serde_json::from_slice::<CommitsFile>(&text).ok().filter(|file| file.changeset == changeset);
        file.map(|file| AgentCommits { commits: file.commits, contents: file.contents }).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::parse_contents;

    #[test]
    fn contents_of_git_are_parsed() {
        let batch = b"aa blob 3\nx\ny\nbb missing\ncc tree 2\n..\ndd blob 0\n\nee blob 9\nshort";
        assert_eq!(parse_contents(batch), [("aa", &b"x\ny"[..]), ("dd", b"")]);
        assert_eq!(parse_contents(b"aa blob 18446744073709551615\nx"), []);
        assert_eq!(parse_contents(b"\xff\nbb blob 1\nx\n"), []);
    }
}
