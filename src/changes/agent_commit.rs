//! The commits of an agent, as its own git listed them in the sandbox: data of the agent, to be shown and offered as messages.

use serde::{Deserialize, Serialize};

use crate::core::path::RepoPath;

/// Maximum number of commits, of paths of a commit, and of bytes of a message.
const MAX_COMMITS: usize = 200;
const MAX_PATHS: usize = 5000;
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
    /// The paths that it changed.
    pub paths: Vec<RepoPath>,
}

impl AgentCommit {
    /// Parses the list that the launcher writes: oldest first, each commit after 0x1e, with fields that 0x1f ends, and then its
    /// paths, which NUL ends. What cannot be parsed is left out.
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
        let names = fields.next()?.split(|b| *b == 0).map(|name| name.strip_prefix(b"\n").unwrap_or(name));
        let paths = names.filter(|name| !name.is_empty()).filter_map(|name| RepoPath::from_bytes(name).ok());
        Some(Self { id, author, time, message, paths: paths.take(MAX_PATHS).collect() })
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
        let list = format!(
            "\u{1e}{id}\u{1f}Ann\u{1f}17\u{1f}one\n\nbody\n\u{1f}\0\na b\0\u{1e}{id}\u{1f}B\u{1f}18\u{1f}two\u{1f}\0\nc\0d/e\0"
        );
        let commits = AgentCommit::parse_list(list.as_bytes());
        assert_eq!(commits.iter().map(AgentCommit::subject_line).collect::<Vec<_>>(), ["one", "two"]);
        assert_eq!((commits[0].message.as_str(), commits[0].time), ("one\n\nbody", 17));
        let paths: Vec<&[u8]> = commits[1].paths.iter().map(RepoPath::as_bytes).collect();
        assert_eq!(paths, [&b"c"[..], b"d/e"]);
    }

    #[test]
    fn hostile_list_yields_no_path_outside_of_the_repository() {
        let id = "b".repeat(40);
        let list = format!(
            "junk\u{1e}\u{1e}{id}\u{1f}x\u{1f}nan\u{1f}m\u{1f}\u{1e}{id}\u{1f}x\u{1f}1\u{1f}m\u{1f}\0\n../up\0/etc\0.git/config\0ok\0"
        );
        let commits = AgentCommit::parse_list(list.as_bytes());
        assert_eq!(commits.len(), 1);
        assert_eq!(commits[0].paths.iter().map(RepoPath::as_bytes).collect::<Vec<_>>(), [&b"ok"[..]]);
        assert_eq!(AgentCommit::parse_list(&vec![0x1e; 1 << 20]), []);
    }
}
