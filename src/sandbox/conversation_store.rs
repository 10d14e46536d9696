//! Copies of Claude Code's conversations outside the sandboxes, so that a conversation survives its sandbox for a while.
//!
//! A conversation is written by the agent. It is only kept, and given to the agent of another sandbox; it is never parsed.
#![expect(clippy::disallowed_methods, reason = "our own state, outside every working tree")]

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::claude_session::is_session_id;
use crate::core::atomic_file::write_atomic;
use crate::core::name::SandboxName;

/// The time for which a conversation is kept after its sandbox was removed.
pub(crate) const KEPT_TIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Maximum size of a conversation in bytes. A larger one is only in its sandbox.
pub(crate) const MAX_CONVERSATION: u64 = 64 << 20;

/// The kept conversations of a repository.
#[derive(Debug, Clone)]
pub struct ConversationStore {
    dir: PathBuf,
}

/// A conversation outside its sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptConversation {
    /// Claude Code's own ID.
    pub id: String,
    pub sandbox: SandboxName,
    /// The time of its last run, or of the removal of its sandbox.
    pub time: SystemTime,
    path: PathBuf,
}

impl KeptConversation {
    /// Reads the file of the conversation.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        fs::read(&self.path)
    }
}

impl ConversationStore {
    /// Creates the store of a repository. Nothing is written yet.
    #[must_use]
    pub fn new(common_dir: &Path) -> Self {
        Self { dir: common_dir.join("airlock/conversations") }
    }

    /// Keeps a conversation, in place of an earlier version.
    pub(crate) fn save_conversation(&self, sandbox: &SandboxName, id: &str, content: &[u8]) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        write_atomic(&self.dir, &format!("{sandbox}.{id}.jsonl"), content)
    }

    /// Lists the conversations, newest first.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn list_conversations(&self) -> io::Result<Vec<KeptConversation>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let parts = name.to_str().and_then(|name| name.strip_suffix(".jsonl")?.rsplit_once('.'));
            if let Some((sandbox, id)) = parts
                && let Ok(sandbox) = sandbox.parse()
                && is_session_id(id)
            {
                let time = entry.metadata()?.modified()?;
                found.push(KeptConversation { id: id.to_owned(), sandbox, time, path: entry.path() });
            }
        }
        found.sort_by_key(|kept| (std::cmp::Reverse(kept.time), kept.id.clone()));
        Ok(found)
    }

    /// Counts the time from now on for the conversations of a sandbox that is removed.
    pub(crate) fn mark_removed(&self, sandbox: &SandboxName) -> io::Result<()> {
        for kept in self.list_conversations()?.iter().filter(|kept| kept.sandbox == *sandbox) {
            File::options().append(true).open(&kept.path)?.set_modified(SystemTime::now())?;
        }
        Ok(())
    }

    /// Removes the conversations whose sandbox was removed more than 30 days ago, and returns their number.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn expire_conversations(&self, exists: impl Fn(&SandboxName) -> bool, dry_run: bool) -> io::Result<usize> {
        let is_old = |kept: &KeptConversation| kept.time.elapsed().is_ok_and(|age| age > KEPT_TIME);
        let old = self.list_conversations()?.into_iter().filter(|kept| is_old(kept) && !exists(&kept.sandbox));
        Ok(old.filter(|kept| dry_run || fs::remove_file(&kept.path).is_ok()).count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversations_expire_after_their_sandbox() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = ConversationStore::new(dir.path());
        assert_eq!(store.list_conversations().expect("none"), []);
        let (gone, there): (SandboxName, SandboxName) = ("gone".parse().expect("ok"), "there".parse().expect("ok"));
        let id = |n: u32| format!("{n:08x}-0123-4567-89ab-0123456789ab");
        store.save_conversation(&gone, &id(1), b"old").expect("saved");
        store.save_conversation(&gone, &id(1), b"new").expect("replaced");
        store.save_conversation(&there, &id(2), b"x").expect("saved");
        std::fs::write(store.dir.join("other.txt"), "").expect("written");
        let long_ago = SystemTime::now() - KEPT_TIME - Duration::from_secs(60);
        for kept in store.list_conversations().expect("listed") {
            File::options().append(true).open(&kept.path).and_then(|f| f.set_modified(long_ago)).expect("set");
        }
        let exists = |name: &SandboxName| *name == there;
        assert_eq!(store.expire_conversations(exists, true).expect("counted"), 1);
        let listed = store.list_conversations().expect("listed");
        let found = listed.iter().find(|kept| kept.id == id(1)).expect("a dry run removes nothing");
        assert_eq!(found.read().expect("read"), b"new");
        // The time counts from the removal of the sandbox.
        store.mark_removed(&gone).expect("marked");
        assert_eq!(store.expire_conversations(exists, false).expect("none"), 0);
        File::options().append(true).open(&found.path).and_then(|f| f.set_modified(long_ago)).expect("set");
        assert_eq!(store.expire_conversations(exists, false).expect("removed"), 1);
        let left: Vec<_> = store.list_conversations().expect("listed").into_iter().map(|kept| kept.sandbox).collect();
        assert_eq!(left, [there]);
    }
}
