//! Reads many blobs of a repository. Inflating is most of the time of a first seed, and gitoxide's object store inflates nearly
//! twice as fast as libgit2.

use git2::{Odb, Oid, Repository};
use gix_object::{Find, Kind};

/// Maximum size in bytes of a buffer that is used again.
const MAX_KEPT_BYTES: usize = 16 << 20;

/// A reader of blobs for one thread.
pub(crate) struct BlobReader {
    /// `None` if it cannot be opened. libgit2 then says what is wrong with the repository, if anything.
    store: Option<gix_odb::HandleArc>,
    content: Vec<u8>,
}

impl BlobReader {
    /// Opens the objects of a repository.
    pub(crate) fn open(git: &Repository) -> Self {
        let store = gix_odb::at(git.commondir().join("objects"), gix_hash::Kind::Sha1);
        Self { store: store.and_then(gix_odb::Handle::into_arc).ok(), content: Vec::new() }
    }

    /// Reads the content of a blob of the repository.
    ///
    /// # Errors
    /// It is missing, damaged, or not a blob.
    pub(crate) fn read_blob(&mut self, odb: &Odb<'_>, id: Oid) -> Result<&[u8], git2::Error> {
        if self.content.capacity() > MAX_KEPT_BYTES {
            self.content = Vec::new();
        }
        // libgit2 reads some damaged objects forever, so it is only asked for what the other does not find.
        let damaged =
            |error: &dyn std::error::Error| git2::Error::from_str(&format!("the object {id} is damaged: {error}"));
        let name = gix_hash::oid::try_from_bytes(id.as_bytes()).map_err(|error| damaged(&error))?;
        let found = self.store.as_ref().map(|store| store.try_find(name, &mut self.content)).transpose();
        let found = found.map_err(|error| damaged(&error))?.flatten().map(|object| object.kind);
        if found != Some(Kind::Blob) {
            let object = odb.read(id)?;
            if object.kind() != git2::ObjectType::Blob {
                return Err(git2::Error::from_str(&format!("{id} is not a blob")));
            }
            self.content.clear();
            self.content.extend_from_slice(object.data());
        }
        Ok(&self.content)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Runs git in a directory and returns what it prints.
    fn run_git(dir: &std::path::Path, args: &[&str]) -> String {
        let identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"];
        let output = Command::new("git").current_dir(dir).args(identity).args(args).output().expect("git");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    #[test]
    fn blobs_of_every_storage_are_read() {
        let dir = tempfile::tempdir().expect("directory");
        let write = |repository: &str, name: &str, text: &str| {
            let path = dir.path().join(repository).join(name);
            crate::core::atomic_file::replace_unsynced(&path, text.as_bytes()).expect("written");
        };
        let (origin, clone) = (dir.path().join("origin"), dir.path().join("clone"));
        run_git(dir.path(), &["init", "--quiet", "origin"]);
        // Similar contents become deltas.
        let texts: Vec<String> = (0..20).map(|n| format!("{}line {n}\n", "the same line\n".repeat(500))).collect();
        texts.iter().enumerate().for_each(|(n, text)| write("origin", &format!("{n}"), text));
        run_git(&origin, &["add", "."]);
        run_git(&origin, &["commit", "--quiet", "-m", "packed"]);
        run_git(&origin, &["repack", "-adfq"]);
        assert!(run_git(&origin, &["count-objects", "-v"]).contains("count: 0"));
        write("origin", "loose", "loose\n");
        write("origin", "empty", "");
        run_git(&origin, &["add", "."]);
        run_git(&origin, &["commit", "--quiet", "-m", "loose"]);
        // A clone that has objects of its own and borrows the others.
        run_git(dir.path(), &["clone", "--quiet", "--shared", "origin", "clone"]);
        let git = Repository::open(&clone).expect("opened");
        let odb = git.odb().expect("opened");
        let mut reader = BlobReader::open(&git);
        let mut read = |name: &str| {
            let id = Oid::from_str(&run_git(&clone, &["rev-parse", name])).expect("an ID");
            reader.read_blob(&odb, id).map(<[u8]>::to_vec)
        };
        for (n, text) in texts.iter().enumerate() {
            assert_eq!(read(&format!("HEAD:{n}")).expect("read"), text.as_bytes());
        }
        assert_eq!(read("HEAD:loose").expect("read"), b"loose\n");
        assert_eq!(read("HEAD:empty").expect("read"), b"");
        // Objects that come later are found.
        write("clone", "new", "new\n");
        run_git(&clone, &["add", "."]);
        run_git(&clone, &["commit", "--quiet", "-m", "new"]);
        assert_eq!(read("HEAD:new").expect("read"), b"new\n");
        run_git(&clone, &["repack", "-adfq"]);
        assert_eq!(read("HEAD:new").expect("read"), b"new\n");
        assert!(read("HEAD^{tree}").is_err(), "a tree is not a blob");
        let missing = reader.read_blob(&odb, Oid::from_str(&"1".repeat(40)).expect("an ID"));
        assert_eq!(missing.expect_err("missing").code(), git2::ErrorCode::NotFound);
    }

    #[test]
    fn damaged_blobs_are_errors() {
        let dir = tempfile::tempdir().expect("directory");
        run_git(dir.path(), &["init", "--quiet", "."]);
        let text = "some text that is not compressed to nothing\n".repeat(3);
        crate::core::atomic_file::replace_unsynced(&dir.path().join("a"), text.as_bytes()).expect("written");
        run_git(dir.path(), &["add", "."]);
        let id = run_git(dir.path(), &["rev-parse", ":a"]);
        let path = dir.path().join(".git/objects").join(&id[..2]).join(&id[2..]);
        let whole = std::fs::read(&path).expect("read");
        let git = Repository::open(dir.path()).expect("opened");
        let odb = git.odb().expect("opened");
        let oid = Oid::from_str(&id).expect("an ID");
        for length in 0..whole.len() {
            crate::core::atomic_file::replace_unsynced(&path, &whole[..length]).expect("written");
            let read = BlobReader::open(&git).read_blob(&odb, oid).map(<[u8]>::to_vec);
            // Without its checksum, it is whole.
            assert!(read.is_err() || length + 8 > whole.len() && read.is_ok_and(|b| b == text.as_bytes()), "{length}");
        }
    }
}
