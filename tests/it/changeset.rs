//! Sandboxes whose changes were collected, written to disk without an engine: for tests of what follows collecting.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use airlock::base::{Base, Manifest, repository_id};
use airlock::changes::links::PathEntry;
use airlock::changes::{BaseEntries, CancelToken, ChangesetBuilder, FileChange, FileVersion, Quarantine, RuleSet};
use airlock::core::path::{EntryKind, RepoPath};
use airlock::core::random::read_random_bytes;
use airlock::git::{CommittedEntry, CommittedTree, HostRepo, SnapshotOptions};
use airlock::sandbox::{Sandbox, SandboxRecord, SandboxState, SandboxStore, WorkspaceKind};

use crate::support::TestRepo;

impl TestRepo {
    /// Runs a script in a clone of HEAD, and writes what it changes as a sandbox of this name. Called again, it is another
    /// round of the sandbox, with the clone as the last one left it.
    pub fn changeset(&self, name: &str, script: &str) {
        let (base, work) = (self.directory().join("base").join(name), self.directory().join("work").join(name));
        let host = HostRepo::discover(&self.path).expect("a repository");
        let store = SandboxStore::new(&host.common_dir);
        let name = name.parse().expect("a name");
        let mut sandbox = match store.open(&name).expect("records can be read") {
            Some(sandbox) => sandbox,
            None => {
                for clone in [&base, &work] {
                    let source = self.path.to_str().expect("UTF-8");
                    self.git(&["clone", "-q", "--no-hardlinks", source, clone.to_str().expect("UTF-8")]);
                }
                let snapshot = host.take_snapshot(&SnapshotOptions::default()).expect("a commit");
                let record = SandboxRecord {
                    layer: None,
                    builds_layer: None,
                    schema_version: 2,
                    name,
                    id: read_random_bytes::<8>().expect("a number").iter().map(|b| format!("{b:02x}")).collect(),
                    created: 1_700_000_000,
                    created_nanos: 0,
                    verb: "run".into(),
                    base: snapshot.commit,
                    branch: snapshot.branch,
                    repository: repository_id(&host.common_dir).expect("an id"),
                    worktree: host.worktree_id(),
                    worktree_place: Some(host.worktree_place()),
                    workspace: "/workspace".into(),
                    workdir: "/workspace".into(),
                    workspace_kind: WorkspaceKind::Overlay,
                    base_volume: Base::default(),
                    manifest: Manifest::default(),
                    user_config: Default::default(),
                    brought: Default::default(),
                    includes: Vec::new(),
                    image: "sha256:0".into(),
                    agent_config: None,
                    conversation: None,
                    limits_hit: Vec::new(),
                    decided_at: None,
                    progress: None,
                    other_contents: Vec::new(),
                    size: None,
                    engine: None,
                    state: SandboxState::Running,
                };
                store.create_sandbox(record).expect("written")
            }
        };
        let ran = Command::new("sh").args(["-euc", script]).current_dir(&work).status().expect("it runs");
        assert!(ran.success(), "{script}");
        sandbox.acquire_lock().expect("it is ours");
        let changes = compare(&sandbox, &host, &base, &work);
        sandbox.write_changeset(&changes).expect("written");
        sandbox.record.state = SandboxState::Collected { exit: Some(0) };
        (sandbox.record.decided_at, sandbox.record.progress) = (None, None);
        sandbox.save_record().expect("written");
    }
}

/// Compares two trees, and builds the changeset with the contents in the sandbox's quarantine.
fn compare(sandbox: &Sandbox, host: &HostRepo, base: &Path, work: &Path) -> airlock::changes::Changeset {
    let store = sandbox.open_quarantine().expect("opened");
    let (old, new) = (read_versions(base, &store), read_versions(work, &store));
    let paths = old.keys().chain(new.keys()).collect::<std::collections::BTreeSet<_>>();
    let files = paths.into_iter().filter(|path| old.get(*path) != new.get(*path)).map(|path| FileChange {
        path: path.clone(),
        old: old.get(path).cloned(),
        new: new.get(path).cloned(),
        renamed_from: None,
        findings: Vec::new(),
    });
    let commit = sandbox.record.base.clone();
    let committed = host.open_commit(&commit).expect("the commit is there");
    let builder = ChangesetBuilder { base: commit, files: files.collect(), ..ChangesetBuilder::default() };
    builder
        .build_changeset(&store, &RuleSet::default(), &CommitEntries(committed), &CancelToken::default())
        .expect("built")
}

/// Reads every file that git does not ignore.
fn read_versions(root: &Path, store: &Quarantine) -> BTreeMap<RepoPath, FileVersion> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(root);
    let listed = git.env("GIT_CONFIG_GLOBAL", "/dev/null").output().expect("git runs").stdout;
    let mut found = BTreeMap::new();
    for name in listed.split(|b| *b == 0).filter(|name| !name.is_empty()) {
        let file: PathBuf = root.join(std::ffi::OsStr::from_bytes(name));
        let Ok(metadata) = file.symlink_metadata() else { continue };
        let (kind, content) = if metadata.is_symlink() {
            (EntryKind::Symlink, fs::read_link(&file).expect("a symlink").into_os_string().into_encoded_bytes())
        } else if metadata.is_dir() {
            continue;
        } else {
            let is_executable = metadata.permissions().mode() & 0o100 != 0;
            let kind = if is_executable { EntryKind::Executable } else { EntryKind::Regular };
            (kind, fs::read(&file).expect("readable"))
        };
        let hash = store.store_blob(&content).expect("stored");
        let path = RepoPath::from_bytes(name).expect("a path");
        found.insert(path, FileVersion { kind, hash, size: content.len() as u64 });
    }
    found
}

/// The files of a commit, as symlinks are followed through them.
struct CommitEntries<'a>(CommittedTree<'a>);

impl BaseEntries for CommitEntries<'_> {
    fn entry_at(&self, path: &RepoPath) -> PathEntry {
        match self.0.find_entry(path).expect("readable") {
            None => PathEntry::Absent,
            Some(CommittedEntry::File) => PathEntry::File,
            Some(CommittedEntry::Symlink(target)) => PathEntry::Link(target),
            Some(CommittedEntry::Directory) => PathEntry::Directory,
            Some(CommittedEntry::Submodule) => PathEntry::Repository,
        }
    }

    fn list_symlinks(&self) -> Vec<(RepoPath, Vec<u8>)> {
        self.0.list_symlinks().expect("readable")
    }

    fn has_repo_marker(&self, _: &RepoPath) -> bool {
        false
    }
}
