//! Lists work in a sandbox that is in none of its changes and that the user could miss: commits, stashes, worktrees,
//! plans, files in the home.
//!
//! *Invariant:* the workspace's `.git` is never read. Only names and kinds of its entries are listed. They come from
//! the agent, and are shown as such.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::store::SandboxRecord;
use crate::core::escape::escape_lossy;
use crate::guest_client::{GuestClient, GuestError};
use crate::protocol::{FileKind, ListedEntry, Root};

/// Maximum number of entries of one directory.
const MAX_ENTRIES: usize = 2000;
/// Maximum number of refs that are searched, and of names that are listed.
const MAX_REFS: usize = 200;
const MAX_NAMED: usize = 3;
/// Maximum number of characters of a name.
const MAX_NAME_CHARS: usize = 80;
/// The file in which the launcher lists what it took from the home of the image, and its maximum size in bytes.
const IMAGE_ENTRIES: &[u8] = b".config/airlock/image-home";
const MAX_IMAGE_ENTRIES: u64 = 64 << 10;
/// Entries of a home that programs and Airlock create by themselves.
const USUAL_HOME: [&[u8]; 33] = [
    b"from-host",
    b".claude",
    b".claude.json",
    b".claude.json.backup",
    b".local",
    b".cache",
    b".config",
    b".npm",
    b".bash_history",
    b".sh_history",
    b".zsh_history",
    b".python_history",
    b".node_repl_history",
    b".lesshst",
    b".viminfo",
    b".wget-hsts",
    b".gitconfig",
    b".pki",
    b".ssh",
    b".npmrc",
    b".yarnrc.yml",
    b".yarn",
    b".cargo",
    b".rustup",
    b".m2",
    b".gradle",
    b".bundle",
    b".gem",
    b".gemrc",
    b".node-gyp",
    b".pnpm-store",
    b".java",
    b"go",
];
/// Directories for the instructions that a user or an agent writes for agents.
const AGENT_DIRS: [&[u8]; 5] =
    [b".claude/agents", b".claude/commands", b".claude/skills", b".claude/output-styles", b".claude/rules"];
/// The directories of a workspace and of a home that every search lists.
const WORKSPACE_DIRS: [&[u8]; 6] =
    [b".git", b".git/objects", b".git/refs", b".git/refs/heads", b".git/refs/tags", b".git/worktrees"];
const HOME_DIRS: [&[u8]; 6] = [b"", b".claude", b".claude/plans", PROJECTS, b".config", b".local/share"];
/// The directory in which Claude Code keeps one directory per working directory.
const PROJECTS: &[u8] = b".claude/projects";
/// Entries of `~/.config` that programs create by themselves.
const USUAL_CONFIG: [&[u8]; 10] =
    [b"airlock", b"git", b"configstore", b"pip", b"yarn", b"go", b"matplotlib", b"uv", b"pnpm", b"htop"];
/// Entries of `~/.local/share` that programs create by themselves.
const USUAL_DATA: [&[u8]; 8] =
    [b"claude", b"uv", b"pnpm", b"virtualenv", b"jupyter", b"man", b"applications", b"icons"];

/// Returns what a sandbox holds, for a sentence that begins "it holds". Names are not escaped.
///
/// `changed_nothing` means that no file differs. Staged content exists nowhere else in that case.
pub(crate) async fn find_holdings(guest: &GuestClient, record: &SandboxRecord, changed_nothing: bool) -> Vec<String> {
    let search = WorkspaceSearch { guest, listed: list_usual_dirs(guest).await, unknown: RefCell::default() };
    let mut found = search.search_repository(record, changed_nothing).await;
    for module in &record.manifest.submodules {
        let objects = [module.as_bytes(), b"/.git/objects"].concat();
        if search.has_loose_objects(&objects).await {
            found.push(format!("commits in the submodule {}", display_name(module.as_bytes())));
        }
    }
    found.extend(search.search_home(record).await);
    found.extend(search.unknown.into_inner());
    found
}

/// Formats a list of names: `branch a`, or `4 branches (a, b, c, …)`.
fn format_names(one: &str, many: &str, names: &[String]) -> Option<String> {
    match names {
        [] => None,
        [name] => Some(format!("{one} {name}")),
        _ => {
            let more = if names.len() > MAX_NAMED { ", …" } else { "" };
            Some(format!("{} {many} ({}{more})", names.len(), names[..names.len().min(MAX_NAMED)].join(", ")))
        }
    }
}

fn display_name(name: &[u8]) -> String {
    escape_lossy(name).chars().take(MAX_NAME_CHARS).collect()
}

/// The reason why a directory has no entries here.
#[derive(Debug, Clone, Copy)]
enum ListProblem {
    Missing,
    TooMany,
    Failed,
}

impl From<GuestError> for ListProblem {
    fn from(error: GuestError) -> Self {
        match error {
            GuestError::Gone | GuestError::NotADirectory => Self::Missing,
            GuestError::TooMany => Self::TooMany,
            _ => Self::Failed,
        }
    }
}

/// Directories with their entries. The keys say whether a directory is in the home.
type ListedDirs = BTreeMap<(bool, Vec<u8>), Result<Vec<ListedEntry>, ListProblem>>;

/// Lists the directories that every search needs, concurrently: each round trip to a remote engine is slow.
async fn list_usual_dirs(guest: &GuestClient) -> ListedDirs {
    let workspace = WORKSPACE_DIRS.iter().map(|dir| (Root::Work, *dir));
    let home = HOME_DIRS.iter().chain(&AGENT_DIRS).map(|dir| (Root::Home, *dir));
    let list = async |(root, dir): (Root, &[u8])| {
        ((root == Root::Home, dir.to_vec()), guest.list_dir(root, dir, MAX_ENTRIES).await.map_err(ListProblem::from))
    };
    futures_util::future::join_all(workspace.chain(home).map(list)).await.into_iter().collect()
}

/// A search through the guest.
struct WorkspaceSearch<'a> {
    guest: &'a GuestClient,
    /// Directories that were listed at the start.
    listed: ListedDirs,
    /// Notes on directories that could not be listed and may hold anything.
    unknown: RefCell<BTreeSet<String>>,
}

impl WorkspaceSearch<'_> {
    async fn search_home(&self, record: &SandboxRecord) -> Vec<String> {
        let mut found = Vec::new();
        let plans: Vec<String> =
            self.list_names(Root::Home, b".claude/plans").await.iter().map(|name| display_name(name)).collect();
        found.extend(format_names("plan", "plans", &plans));
        let mut files = Vec::new();
        for dir in AGENT_DIRS {
            for entry in self.list_dir(Root::Home, dir).await {
                let path = [dir, b"/", &entry.name].concat();
                let known = str::from_utf8(&path).ok().and_then(|path| record.brought.get(path));
                // An edited file has another size, nearly always.
                let is_brought = known.is_some_and(|size| size.is_none_or(|size| size == entry.stat.size));
                files.extend((!is_brought).then(|| format!("~/{}", display_name(&path))));
            }
        }
        for project in self.list_names(Root::Home, PROJECTS).await {
            let memory = [PROJECTS, b"/", &project, b"/memory"].concat();
            if !self.list_names(Root::Home, &memory).await.is_empty() {
                files.push(format!("~/{}", display_name(&memory)));
            }
        }
        // The file that Airlock wrote has the size of that content.
        let written_size = match record.brought.get(".claude/CLAUDE.md") {
            Some(Some(size)) => *size,
            _ => record.manifest.format_memory().len() as u64,
        };
        let is_memory = |entry: &&ListedEntry| entry.name == b"CLAUDE.md" && entry.stat.size != written_size;
        if self.list_dir(Root::Home, b".claude").await.iter().any(|entry| is_memory(&entry)) {
            files.push("~/.claude/CLAUDE.md".to_owned());
        }
        let of_image = self.guest.read(Root::Home, IMAGE_ENTRIES, MAX_IMAGE_ENTRIES).await.unwrap_or_default();
        let of_image: BTreeSet<&[u8]> = of_image.split(|byte| *byte == b'\n').collect();
        for (dir, usual) in [(&b""[..], &USUAL_HOME[..]), (b".config", &USUAL_CONFIG), (b".local/share", &USUAL_DATA)] {
            let names = self.list_names(Root::Home, dir).await;
            let slash = if dir.is_empty() { "" } else { "/" };
            let is_of_image = |name: &[u8]| of_image.contains([dir, slash.as_bytes(), name].concat().as_slice());
            let unusual = names.iter().filter(|name| !usual.contains(&name.as_slice()) && !is_of_image(name));
            files.extend(unusual.map(|name| format!("~/{}{slash}{}", display_name(dir), display_name(name))));
        }
        found.extend(format_names("file in the home directory", "files in the home directory", &files));
        found
    }

    /// Lists refs of the workspace that are neither branches nor the stash, and that the base does not have.
    async fn list_other_refs(&self) -> Vec<String> {
        let mut found = Vec::new();
        for top in self.list_names(Root::Work, b".git/refs").await {
            if top == b"heads" || top == b"stash" {
                continue;
            }
            let dir = [&b".git/refs/"[..], &top].concat();
            for name in self.list_refs(&dir).await {
                let path = [&dir[..], b"/", &name].concat();
                if self.is_new(&path).await {
                    found.push(format!("refs/{}/{}", display_name(&top), display_name(&name)));
                }
            }
        }
        found
    }

    async fn search_repository(&self, record: &SandboxRecord, changed_nothing: bool) -> Vec<String> {
        let mut found = Vec::new();
        let has_objects = self.has_loose_objects(b".git/objects").await;
        let branches = self.list_refs(b".git/refs/heads").await;
        let own_branch = record.branch.as_deref().unwrap_or_default().as_bytes();
        let mut others = Vec::new();
        for name in &branches {
            // A sandbox without history has a branch even if HEAD is detached.
            let is_initial =
                own_branch.is_empty() && !self.is_new(&[b".git/refs/heads/", name.as_slice()].concat()).await;
            if name.as_slice() != own_branch && !is_initial {
                others.push(display_name(name));
            }
        }
        found.extend(format_names("branch", "branches", &others));
        let logged = [b".git/logs/refs/heads/", own_branch].concat();
        if has_objects && !own_branch.is_empty() && self.is_new(&logged).await {
            found.push(format!("commits on {}", display_name(own_branch)));
        }
        if self.is_new(b".git/refs/stash").await {
            found.push("a stash".to_owned());
        }
        let worktrees: Vec<String> =
            self.list_subdirs(b".git/worktrees").await.iter().map(|name| display_name(name)).collect();
        found.extend(format_names("worktree", "worktrees", &worktrees));
        found.extend(format_names("ref", "refs", &self.list_other_refs().await));
        // The file that Airlock wrote has that size.
        let packed = self.list_dir(Root::Work, b".git").await.into_iter().find(|entry| entry.name == b"packed-refs");
        if packed.is_some_and(|packed| packed.stat.size != record.manifest.refs.packed_size) {
            found.push("packed refs (git for-each-ref lists them)".to_owned());
        }
        if found.is_empty() && has_objects {
            if self.is_new(b".git/logs/HEAD").await {
                found.push("commits on no branch".to_owned());
            } else if changed_nothing {
                found.push("staged content".to_owned());
            }
        }
        found
    }

    /// Lists a directory. A missing directory is empty; one that cannot be listed is noted as unknown.
    async fn list_dir(&self, root: Root, path: &[u8]) -> Vec<ListedEntry> {
        let place = if root == Root::Home { format!("~/{}", display_name(path)) } else { display_name(path) };
        let known = if root == Root::Base { None } else { self.listed.get(&(root == Root::Home, path.to_vec())) };
        let listed = match known {
            Some(listed) => listed.clone(),
            None => self.guest.list_dir(root, path, MAX_ENTRIES).await.map_err(ListProblem::from),
        };
        let unknown = match listed {
            Ok(listed) => return listed,
            Err(ListProblem::Missing) => return Vec::new(),
            Err(ListProblem::TooMany) => format!("more than {MAX_ENTRIES} entries in {place}"),
            Err(ListProblem::Failed) => format!("entries in {place} that could not be listed"),
        };
        self.unknown.borrow_mut().insert(unknown);
        Vec::new()
    }

    async fn list_names(&self, root: Root, path: &[u8]) -> Vec<Vec<u8>> {
        self.list_dir(root, path).await.into_iter().map(|entry| entry.name).collect()
    }

    async fn list_subdirs(&self, path: &[u8]) -> Vec<Vec<u8>> {
        let listed = self.list_dir(Root::Work, path).await.into_iter();
        listed.filter(|entry| entry.kind == FileKind::Directory).map(|entry| entry.name).collect()
    }

    /// Lists the refs below a directory, with names relative to it.
    async fn list_refs(&self, top: &[u8]) -> BTreeSet<Vec<u8>> {
        let (mut found, mut open) = (BTreeSet::new(), vec![Vec::new()]);
        while let Some(below) = open.pop() {
            let path = [top, if below.is_empty() { b"" } else { b"/" }, &below].concat();
            for entry in self.list_dir(Root::Work, &path).await {
                let name = [&below[..], if below.is_empty() { b"" } else { b"/" }, &entry.name].concat();
                if found.len() + open.len() >= MAX_REFS {
                    return found;
                }
                match entry.kind {
                    FileKind::Directory => open.push(name),
                    _ => drop(found.insert(name)),
                }
            }
        }
        found
    }

    /// Returns whether the workspace has a path that the base does not have.
    async fn is_new(&self, path: &[u8]) -> bool {
        let slash = path.iter().rposition(|b| *b == b'/').unwrap_or(0);
        let (parent, name) = (&path[..slash], &path[slash + 1..]);
        let has = async |root, parent: &[u8]| self.list_names(root, parent).await.iter().any(|entry| entry == name);
        has(Root::Work, parent).await && !has(Root::Base, &[crate::base::TREE, parent].concat()).await
    }

    /// Returns whether git has written loose objects here. A new sandbox has only packed objects.
    async fn has_loose_objects(&self, path: &[u8]) -> bool {
        let is_fan = |name: &Vec<u8>| name.len() == 2 && name.iter().all(u8::is_ascii_hexdigit);
        for directory in self.list_subdirs(path).await.into_iter().filter(is_fan) {
            if !self.list_names(Root::Work, &[path, b"/", &directory].concat()).await.is_empty() {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::format_names;

    #[test]
    fn name_list_is_joined() {
        let names = |n: usize| ["a", "b", "c", "d"][..n].iter().map(|&s| s.to_owned()).collect::<Vec<_>>();
        assert_eq!(format_names("branch", "branches", &names(0)), None);
        assert_eq!(format_names("branch", "branches", &names(1)).as_deref(), Some("branch a"));
        assert_eq!(format_names("branch", "branches", &names(2)).as_deref(), Some("2 branches (a, b)"));
        assert_eq!(format_names("branch", "branches", &names(4)).as_deref(), Some("4 branches (a, b, c, …)"));
    }
}
