//! Writes a directory of a commit as a tar archive, as the context of an image build. Contents are those that git stores:
//! no filter runs.

use std::io;

use git2::{ObjectType, Oid, Repository, TreeWalkMode, TreeWalkResult};

use super::error::SnapshotError;
use super::os_path;
use super::repo::HostRepo;
use crate::core::path::RepoPath;

/// Maximum size of an archive in bytes.
const MAX_BYTES: usize = 1 << 30;
const SYMLINK_MODE: i32 = 0o120_000;

/// A directory of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedDir {
    /// The object of the directory, which names its whole content.
    pub id: String,
}

impl HostRepo {
    /// Finds a directory of a commit; the empty path is the root.
    ///
    /// # Errors
    /// A missing object.
    pub fn find_directory(&self, commit: &str, path: &str) -> Result<Option<CommittedDir>, SnapshotError> {
        let tree = self.repository().find_commit(Oid::from_str(commit)?)?.tree()?;
        if path.is_empty() {
            return Ok(Some(CommittedDir { id: tree.id().to_string() }));
        }
        let entry = tree.get_path(&os_path(path.as_bytes()));
        let entry = entry.ok().filter(|entry| entry.kind() == Some(ObjectType::Tree));
        Ok(entry.map(|entry| CommittedDir { id: entry.id().to_string() }))
    }

    /// Writes the files of a directory to an archive. Submodules are empty.
    ///
    /// # Errors
    /// A missing object, an invalid path, too many bytes, or an error of the writer.
    pub fn write_archive(&self, dir: &CommittedDir, writer: impl io::Write) -> io::Result<()> {
        let failed = |error: git2::Error| io::Error::other(error.message().to_owned());
        let git = self.repository();
        let tree = git.find_tree(Oid::from_str(&dir.id).map_err(failed)?).map_err(failed)?;
        let mut tar = tar::Builder::new(writer);
        let (mut total, mut failure) = (0, None);
        let walked = tree.walk(TreeWalkMode::PreOrder, |directory, entry| {
            let path = [directory.as_bytes(), entry.name_bytes()].concat();
            match add_entry(git, &mut tar, &path, entry, &mut total) {
                Ok(()) => TreeWalkResult::Ok,
                Err(error) => {
                    failure = Some(error);
                    TreeWalkResult::Abort
                }
            }
        });
        if let Some(error) = failure {
            return Err(error);
        }
        walked.map_err(failed)?;
        tar.into_inner().map(drop)
    }
}

fn add_entry(
    git: &Repository,
    tar: &mut tar::Builder<impl io::Write>,
    path: &[u8],
    entry: &git2::TreeEntry<'_>,
    total: &mut usize,
) -> io::Result<()> {
    let failed = |error: git2::Error| io::Error::other(error.message().to_owned());
    let valid = RepoPath::from_bytes(path).map_err(|error| io::Error::other(error.to_string()))?;
    let path = os_path(valid.as_bytes());
    let mut header = tar::Header::new_gnu();
    header.set_mtime(0);
    if entry.kind() != Some(ObjectType::Blob) {
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o755);
        header.set_size(0);
        return tar.append_data(&mut header, path, io::empty());
    }
    let blob = git.find_blob(entry.id()).map_err(failed)?;
    *total += blob.size();
    if *total > MAX_BYTES {
        return Err(io::Error::other(format!("the directory has more than {} MiB", MAX_BYTES >> 20)));
    }
    if entry.filemode() == SYMLINK_MODE {
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        return tar.append_link(&mut header, path, os_path(blob.content()));
    }
    header.set_mode(if entry.filemode() & 0o100 != 0 { 0o755 } else { 0o644 });
    header.set_size(blob.size() as u64);
    tar.append_data(&mut header, path, blob.content())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make files")]
mod tests {
    use std::io::Read as _;

    use crate::git::HostRepo;

    #[test]
    fn archive_has_the_committed_content() {
        let dir = tempfile::tempdir().expect("a directory");
        let git = git2::Repository::init(dir.path()).expect("a repository");
        let blob = |text: &str| git.blob(text.as_bytes()).expect("written");
        let mut inner = git.treebuilder(None).expect("a builder");
        inner.insert("Dockerfile", blob("FROM x\n"), 0o100_644).expect("added");
        inner.insert("run", blob("#!/bin/sh\n"), 0o100_755).expect("added");
        inner.insert("link", blob("run"), 0o120_000).expect("added");
        let inner = inner.write().expect("a tree");
        let mut root = git.treebuilder(None).expect("a builder");
        root.insert("image", inner, 0o040_000).expect("added");
        let tree = git.find_tree(root.write().expect("a tree")).expect("found");
        let signature = git2::Signature::now("A", "a@example.org").expect("a signature");
        let commit = git.commit(Some("HEAD"), &signature, &signature, "c", &tree, &[]).expect("committed").to_string();
        // What the working tree has does not count.
        std::fs::create_dir(dir.path().join("image")).expect("made");
        std::fs::write(dir.path().join("image/Dockerfile"), "FROM evil\n").expect("written");
        let host = HostRepo::discover(dir.path()).expect("a repository");
        assert_eq!(host.find_directory(&commit, "none").expect("asked"), None);
        let found = host.find_directory(&commit, "image").expect("asked").expect("found");
        let mut bytes = Vec::new();
        host.write_archive(&found, &mut bytes).expect("written");
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries = archive.entries().expect("entries").map(|entry| {
            let mut entry = entry.expect("an entry");
            let mut text = String::new();
            entry.read_to_string(&mut text).expect("text");
            (entry.path().expect("a path").display().to_string(), entry.header().mode().expect("a mode"), text)
        });
        let expected = [("Dockerfile", 0o644, "FROM x\n"), ("link", 0o777, ""), ("run", 0o755, "#!/bin/sh\n")];
        assert_eq!(entries.collect::<Vec<_>>(), expected.map(|(p, m, t)| (p.to_owned(), m, t.to_owned())));
    }
}
