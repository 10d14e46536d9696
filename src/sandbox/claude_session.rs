//! Which of Claude Code's conversations in an agent's home is the last one. By its id it can be gone on with in any mode;
//! `--continue` does not find, on a terminal, what was said in print mode.
//!
//! The home is the agent's, so this may be any of its conversations, or none. It is used for nothing but to name one to
//! Claude Code in the same sandbox.

use crate::guest_client::GuestClient;
use crate::protocol::{FileKind, Root};

/// The folder in which Claude Code keeps them: for each directory that it was started in a folder, in that `ID.jsonl`.
const PROJECTS: &[u8] = b".claude/projects";
/// Entries of a folder that are looked at; more is not Claude Code's doing.
const MOST: usize = 2000;
/// Folders that are looked into.
const MOST_FOLDERS: usize = 50;

/// Finds the last one; nothing where there is none, or where it cannot be told.
pub(crate) async fn last(link: &GuestClient) -> Option<String> {
    let folders = link.list(Root::Home, PROJECTS, MOST).await.ok()?;
    let mut found = None;
    for folder in folders.into_iter().filter(|f| f.kind == FileKind::Directory).take(MOST_FOLDERS) {
        let path = [PROJECTS, b"/", &folder.name].concat();
        let Ok(files) = link.list(Root::Home, &path, MOST).await else { continue };
        for file in files.into_iter().filter(|f| f.kind == FileKind::Regular) {
            if let Some(id) = id(&file.name) {
                found = found.max(Some((file.stat.mtime, id)));
            }
        }
    }
    found.map(|(_, id)| id)
}

/// Returns the id of a conversation by its file's name: a UUID in hexadecimal, as it must look to be an argument.
fn id(name: &[u8]) -> Option<String> {
    let id = name.strip_suffix(b".jsonl")?;
    let fits = |(at, b): (usize, &u8)| match at {
        8 | 13 | 18 | 23 => *b == b'-',
        _ => b.is_ascii_digit() || (b'a'..=b'f').contains(b),
    };
    (id.len() == 36 && id.iter().enumerate().all(fits)).then(|| String::from_utf8_lossy(id).into_owned())
}

#[cfg(test)]
mod tests {
    use super::id;

    #[test]
    fn nothing_but_a_uuid_is_one() {
        let good = "0a1b2c3d-0123-4567-89ab-0123456789ab";
        assert_eq!(id(format!("{good}.jsonl").as_bytes()).as_deref(), Some(good));
        for bad in ["", ".jsonl", "agent-0a1b2c3d.jsonl", "--dangerously-skip-permissions-aaaaa.jsonl", good] {
            assert_eq!(id(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(id(format!("{}.jsonl", good.replace('-', "/")).as_bytes()), None);
        assert_eq!(id(format!("{}.jsonl", good.to_uppercase()).as_bytes()), None);
    }
}
