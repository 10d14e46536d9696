//! The fresh `.git` that a workspace gets: one commit without parents, and an index that knows the files' stat data.
//!
//! It is made in a temporary repository of ours whose object store borrows from the host's, so nothing of the host's
//! config, hooks, refs or history can reach it, and `git pack-objects` runs under our own config.
#![expect(clippy::disallowed_methods, reason = "a temporary repository of our own")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use git2::{Index, IndexEntry, IndexTime, Oid, Repository, RepositoryInitOptions, Signature};
use tempfile::TempDir;

use super::{HostRepo, Snapshot, SnapshotError};
use crate::path::EntryKind;
use crate::wire::Stat;

/// A git directory, ready to be copied.
pub struct GitDir {
    folder: TempDir,
}

impl GitDir {
    /// Makes the commit and packs what it reaches. Takes as long as the snapshot is large: run it beside the seeding.
    ///
    /// # Errors
    /// A missing object, or no `git` on the PATH.
    pub fn create(host: &HostRepo, snapshot: &Snapshot) -> Result<Self, SnapshotError> {
        let folder = tempfile::Builder::new().prefix("airlock-git-").tempdir()?;
        let branch = snapshot.branch.clone().unwrap_or_else(|| "airlock".into());
        let mut options = RepositoryInitOptions::new();
        options.bare(true).external_template(false).mkdir(true).initial_head(&branch);
        drop(Repository::init_opts(folder.path(), &options)?);
        // Git follows the host's own alternates from there.
        let objects = host.common_dir.join("objects");
        let alternates = [std::os::unix::ffi::OsStrExt::as_bytes(objects.as_os_str()), b"\n"].concat();
        fs::create_dir_all(folder.path().join("objects/info"))?;
        fs::write(folder.path().join("objects/info/alternates"), alternates)?;

        let git = Repository::open_bare(folder.path())?;
        let host_config = host.git().config()?.snapshot()?;
        let text =
            |key: &str, or: &str| host_config.get_str(key).ok().filter(|s| !s.is_empty()).unwrap_or(or).to_owned();
        let (name, email) = (text("user.name", "Airlock"), text("user.email", "airlock@localhost"));
        let author = Signature::now(&name, &email)?;
        let from = snapshot.branch.as_deref().unwrap_or("a detached HEAD");
        let message = format!("airlock: snapshot of {from} at {}\n", &snapshot.commit[..snapshot.commit.len().min(12)]);
        let commit = git.commit_create_buffer(&author, &author, &message, &git.find_tree(snapshot.tree)?, &[])?;
        let commit = git.odb()?.write(git2::ObjectType::Commit, &commit)?;
        git.reference(&format!("refs/heads/{branch}"), commit, true, "airlock: snapshot")?;

        fs::write(folder.path().join("config"), "")?;
        let mut config = git2::Config::open(&folder.path().join("config"))?;
        config.set_i32("core.repositoryformatversion", 0)?;
        config.set_bool("core.filemode", true)?;
        config.set_bool("core.bare", false)?;
        config.set_bool("core.logallrefupdates", true)?;
        config.set_str("user.name", &name)?;
        config.set_str("user.email", &email)?;
        pack(folder.path(), commit)?;
        fs::remove_file(folder.path().join("objects/info/alternates"))?;
        Ok(Self { folder })
    }

    /// Writes the index from the files' stat data, in the snapshot's order. The entries' times are what makes the first `git status` open no file.
    ///
    /// # Errors
    /// What libgit2 says.
    pub fn write_index(&self, snapshot: &Snapshot, seeded: &[Stat]) -> Result<(), SnapshotError> {
        let path = self.folder.path().join("index");
        let mut index = Index::open(&path)?;
        let time = |(seconds, nanos): (i64, u32)| IndexTime::new(i32::try_from(seconds).unwrap_or(0), nanos);
        #[expect(clippy::cast_possible_truncation, reason = "git's index keeps the low 32 bits of inode and size")]
        let entry = |path: &[u8], mode: u32, id: Oid, stat: &Stat| IndexEntry {
            ctime: time(stat.ctime),
            mtime: time(stat.mtime),
            dev: 0,
            ino: stat.ino as u32,
            mode,
            uid: 1000,
            gid: 1000,
            file_size: stat.size as u32,
            id,
            flags: 0,
            flags_extended: 0,
            path: path.to_vec(),
        };
        for (file, stat) in snapshot.entries.iter().zip(seeded) {
            let mode = match file.kind {
                EntryKind::Regular => 0o100_644,
                EntryKind::Executable => 0o100_755,
                EntryKind::Link => 0o120_000,
            };
            index.add(&entry(file.path.as_bytes(), mode, file.blob, stat))?;
        }
        for (path, id) in &snapshot.gitlinks {
            index.add(&entry(path.as_bytes(), 0o160_000, *id, &Stat::default()))?;
        }
        Ok(index.write()?)
    }

    /// Lists directories and files, parents first, as paths relative to the git directory.
    ///
    /// # Errors
    /// What the file system says.
    pub fn files(&self) -> Result<Vec<(PathBuf, bool)>, SnapshotError> {
        let mut found = Vec::new();
        let mut open = vec![PathBuf::new()];
        while let Some(directory) = open.pop() {
            for entry in fs::read_dir(self.folder.path().join(&directory))? {
                let entry = entry?;
                let path = directory.join(entry.file_name());
                let is_directory = entry.file_type()?.is_dir();
                if is_directory {
                    open.push(path.clone());
                }
                found.push((path, is_directory));
            }
        }
        found.sort();
        Ok(found)
    }

    /// Gives the full path of a listed file.
    #[must_use]
    pub fn full(&self, path: &Path) -> PathBuf {
        self.folder.path().join(path)
    }
}

/// Packs what the commit reaches, with the deltas that the host's packs have already.
fn pack(folder: &Path, commit: Oid) -> Result<(), SnapshotError> {
    use std::io::Write as _;
    let failed = |e: std::io::Error| SnapshotError::Pack(e.to_string());
    let target = folder.join("objects/pack/pack");
    fs::create_dir_all(folder.join("objects/pack"))?;
    let mut git = Command::new("git");
    git.args(["pack-objects", "--revs", "--window=0", "--delta-base-offset", "--quiet"]).arg(&target);
    git.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    git.envs([("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_CONFIG_GLOBAL", "/dev/null"), ("LC_ALL", "C")]);
    git.env("GIT_DIR", folder).env("HOME", folder).current_dir(folder);
    let mut child = git.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(failed)?;
    if let Some(mut input) = child.stdin.take() {
        writeln!(input, "{commit}").map_err(failed)?;
    }
    let output = child.wait_with_output().map_err(failed)?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(SnapshotError::Pack(text.trim().lines().last().unwrap_or("it failed").to_owned()));
    }
    // The loose commit is in the pack too.
    let hex = commit.to_string();
    let _ = fs::remove_file(folder.join("objects").join(&hex[..2]).join(&hex[2..]));
    let _ = fs::remove_dir(folder.join("objects").join(&hex[..2]));
    Ok(())
}
