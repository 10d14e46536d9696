//! The commits of an agent, as its own git listed them in the sandbox: data of the agent, to be shown and offered as messages.

use serde::{Deserialize, Serialize};

use crate::core::path::RepoPath;

/// Maximum number of commits, of files of a commit, and of bytes of a message.
const MAX_COMMITS: usize = 200;
const MAX_FILES: usize = 5000;
const MAX_MESSAGE: usize = 8 << 10;

/// A commit of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentCommit {
    /// The ID, in hexadecimal.
    pub id: String,
    pub author: String,
    /// The time in seconds since the epoch.
    pub time: i64,
    /// The message. Lines are separated by line feeds; other control characters are as the agent wrote them.
    pub message: String,
    /// The files that it changed.
    pub files: Vec<CommittedFile>,
}

/// A file that a commit of the agent changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedFile {
    pub path: RepoPath,
    /// The ID of the blob after the commit, in hexadecimal, or `None` if the commit deleted the file.
    pub blob: Option<String>,
}

impl AgentCommit {
    /// Parses the list that the launcher writes: oldest first, each commit after 0x1e, with fields that 0x1f ends, and then its
    /// files as `git log --raw -z` lists them. What cannot be parsed is left out.
    #[must_use]
    pub fn parse_list(list: &[u8]) -> Vec<Self> {
        let commits = list.split(|b| *b == 0x1e).filter_map(Self::parse);
        commits.take(MAX_COMMITS).collect()
    }

    fn parse(commit: &[u8]) -> Option<Self> {
        let mut fields = commit.splitn(5, |b| *b == 0x1f);
        let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
        let id = text(fields.next()?);
        if !matches!(id.len(), 40 | 64) || !id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        let (author, time, message) = (text(fields.next()?), text(fields.next()?).parse().ok()?, fields.next()?);
        let message = text(&message[..message.len().min(MAX_MESSAGE)]).trim().to_owned();
        let mut parts = fields.next()?.split(|b| *b == 0).map(|part| part.strip_prefix(b"\n").unwrap_or(part));
        let mut files = Vec::new();
        while let Some(part) = parts.next() {
            let Some(description) = part.strip_prefix(b":") else { continue };
            // The modes, the IDs and the status, which spaces separate.
            let (Some(blob), Some(path)) = (description.split(|b| *b == b' ').nth(3), parts.next()) else { break };
            if let Ok(path) = RepoPath::from_bytes(path)
                && files.len() < MAX_FILES
            {
                let is_id = matches!(blob.len(), 40 | 64) && blob.iter().all(u8::is_ascii_hexdigit);
                let blob = (is_id && blob.iter().any(|byte| *byte != b'0')).then(|| text(blob));
                files.push(CommittedFile { path, blob });
            }
        }
        Some(Self { id, author, time, message, files })
    }

    /// Returns the file of this path that the commit changed.
    #[must_use]
    pub fn find_file(&self, path: &RepoPath) -> Option<&CommittedFile> {
        self.files.iter().find(|file| file.path == *path)
    }

    /// Returns the first line of the message.
    #[must_use]
    pub fn subject_line(&self) -> &str {
        self.message.lines().next().unwrap_or("(no message)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_of_git_is_parsed() {
        let id = "a".repeat(40);
        let raw = |blob: &str, path: &str| format!(":100644 100644 {} {} M\0{path}\0", "1".repeat(40), blob.repeat(40));
        let list = format!(
            "\u{1e}{id}\u{1f}Ann\u{1f}17\u{1f}one\n\nbody\n\u{1f}\0\n{}\u{1e}{id}\u{1f}B\u{1f}18\u{1f}two\u{1f}\0\n{}{}",
            raw("2", "a b"),
            raw("3", "c"),
            raw("0", ":d")
        );
        let commits = AgentCommit::parse_list(list.as_bytes());
        assert_eq!(commits.iter().map(AgentCommit::subject_line).collect::<Vec<_>>(), ["one", "two"]);
        assert_eq!((commits[0].message.as_str(), commits[0].time), ("one\n\nbody", 17));
        let files: Vec<(&[u8], Option<String>)> =
            commits[1].files.iter().map(|file| (file.path.as_bytes(), file.blob.clone())).collect();
        assert_eq!(files, [(&b"c"[..], Some("3".repeat(40))), (b":d", None)]);
    }

    #[test]
    fn hostile_list_yields_no_path_outside_of_the_repository() {
        let id = "b".repeat(40);
        let list = format!(
            "junk\u{1e}\u{1e}{id}\u{1f}x\u{1f}nan\u{1f}m\u{1f}\u{1e}{id}\u{1f}x\u{1f}1\u{1f}m\u{1f}\0\n:1 2 3 4 M\0../up\0:1 2 3 4 M\0/etc\0:1 2 3 4 M\0.git/config\0:1 2 3 4 M\0ok\0:\0x\0:1 2 3 4"
        );
        let commits = AgentCommit::parse_list(list.as_bytes());
        assert_eq!(commits.len(), 1);
        assert_eq!(commits[0].files.iter().map(|file| file.path.as_bytes()).collect::<Vec<_>>(), [b"ok"]);
        assert_eq!(AgentCommit::parse_list(&vec![0x1e; 1 << 20]), []);
    }
}
