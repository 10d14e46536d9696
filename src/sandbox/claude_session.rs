//! Finds the last Claude Code conversation in an agent's home. It can be resumed by its id in any mode. On a terminal,
//! `--continue` does not find a conversation from print mode.
//!
//! The agent controls its home, so the result may be any of its conversations or none. It is only used to name a
//! conversation to Claude Code in the same sandbox.

use crate::guest_client::{GuestClient, GuestError};
use crate::protocol::{FileKind, Root};

/// The directory of Claude Code's conversations. It has one directory per working directory, with an `ID.jsonl` for
/// each conversation.
const PROJECTS: &[u8] = b".claude/projects";
/// Maximum number of entries of a directory. Claude Code does not create more, so a larger directory is ignored.
const MAX_ENTRIES: usize = 2000;
/// Maximum number of directories that are searched.
const MAX_DIRS: usize = 50;

/// A conversation in an agent's home.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClaudeSession {
    pub id: String,
    /// The path of its file in the home.
    path: Vec<u8>,
}

impl ClaudeSession {
    /// Reads the conversation, at most `limit` bytes.
    pub(crate) async fn read_content(&self, guest: &GuestClient, limit: u64) -> Result<Vec<u8>, GuestError> {
        guest.read(Root::Home, &self.path, limit).await
    }
}

/// Returns the path in the home at which Claude Code looks for a conversation of a working directory.
#[must_use]
pub(crate) fn session_path(workdir: &str, id: &str) -> String {
    let directory: String = workdir.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    format!(".claude/projects/{directory}/{id}.jsonl")
}

/// Returns the last conversation; `None` if none exists or it cannot be determined.
pub(crate) async fn find_last_session(guest: &GuestClient) -> Option<ClaudeSession> {
    let dirs = guest.list_dir(Root::Home, PROJECTS, MAX_ENTRIES).await.ok()?;
    let mut found = None;
    for dir in dirs.into_iter().filter(|f| f.kind == FileKind::Directory).take(MAX_DIRS) {
        let path = [PROJECTS, b"/", &dir.name].concat();
        let Ok(files) = guest.list_dir(Root::Home, &path, MAX_ENTRIES).await else { continue };
        for file in files.into_iter().filter(|f| f.kind == FileKind::Regular) {
            if let Some(id) = parse_session_id(&file.name) {
                let session = ClaudeSession { id, path: [&path, &b"/"[..], &file.name].concat() };
                found = found.max(Some((file.stat.mtime, session)));
            }
        }
    }
    found.map(|(_, session)| session)
}

/// Returns a conversation's id from the name of its file. The id must be a UUID in lower-case hexadecimal, because it
/// is used as an argument.
fn parse_session_id(name: &[u8]) -> Option<String> {
    let id = std::str::from_utf8(name.strip_suffix(b".jsonl")?).ok()?;
    is_session_id(id).then(|| id.to_owned())
}

pub(super) fn is_session_id(id: &str) -> bool {
    let fits = |(at, b): (usize, &u8)| match at {
        8 | 13 | 18 | 23 => *b == b'-',
        _ => b.is_ascii_digit() || (b'a'..=b'f').contains(b),
    };
    id.len() == 36 && id.as_bytes().iter().enumerate().all(fits)
}

#[cfg(test)]
mod tests {
    use super::parse_session_id;

    #[test]
    fn session_id_must_be_a_uuid() {
        let good = "0a1b2c3d-0123-4567-89ab-0123456789ab";
        assert_eq!(parse_session_id(format!("{good}.jsonl").as_bytes()).as_deref(), Some(good));
        for bad in ["", ".jsonl", "agent-0a1b2c3d.jsonl", "--dangerously-skip-permissions-aaaaa.jsonl", good] {
            assert_eq!(parse_session_id(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(parse_session_id(format!("{}.jsonl", good.replace('-', "/")).as_bytes()), None);
        assert_eq!(parse_session_id(format!("{}.jsonl", good.to_uppercase()).as_bytes()), None);
    }
}
