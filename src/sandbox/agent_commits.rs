//! The commits that an agent made in a sandbox. The git of the image has listed them there; the workspace's `.git` is not read.

use std::io;

use serde::{Deserialize, Serialize};

use super::store::Sandbox;
use crate::changes::AgentCommit;
use crate::git::HostRepo;
use crate::guest_client::GuestClient;
use crate::protocol::Root;

/// The list in the home of the sandbox, and its maximum size in bytes.
const LIST: &[u8] = b".config/airlock/commits";
const MAX_LIST: u64 = 512 << 10;
/// The name of the file in the sandbox's directory.
const FILE: &str = "commits.json";

/// The commits that belong to a changeset.
#[derive(Debug, Serialize, Deserialize)]
struct CommitsFile {
    changeset: String,
    commits: Vec<AgentCommit>,
}

/// Reads the agent's commits, oldest first: those after the last one that the host knows. A list that cannot be read is empty.
pub(crate) async fn find_commits(guest: &GuestClient, host: &HostRepo) -> Vec<AgentCommit> {
    let list = guest.read(Root::Home, LIST, MAX_LIST).await.unwrap_or_default();
    let mut commits = AgentCommit::parse_list(&list);
    if let Some(last_known) = commits.iter().rposition(|commit| host.has_commit(&commit.id)) {
        commits.drain(..=last_known);
    }
    commits
}

impl Sandbox {
    /// Saves the commits of a changeset.
    pub(crate) fn write_commits(&self, changeset: &str, commits: Vec<AgentCommit>) -> io::Result<()> {
        let file = CommitsFile { changeset: changeset.to_owned(), commits };
        self.write_json(FILE, &file)
    }

    /// Returns the agent's commits, oldest first; none if they belong to another changeset or cannot be read.
    #[must_use]
    pub fn read_commits(&self, changeset: &str) -> Vec<AgentCommit> {
        let text = std::fs::read(self.file_path(FILE)).unwrap_or_default();
        let file = serde_json::from_slice::<CommitsFile>(&text).ok().filter(|file| file.changeset == changeset);
        file.map(|file| file.commits).unwrap_or_default()
    }
}
