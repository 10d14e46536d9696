//! What a sandbox holds that is in none of its changes and that a person could miss: commits, stashes, worktrees, plans, files
//! in the home.
//!
//! *Invariant:* the workspace's `.git` is never read. Names and kinds of its entries are listed, and nothing else: they come
//! from the agent, and are shown as such.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::link::{Link, LinkError};
use super::store::Record;
use crate::display::readable;
use crate::wire::{FileKind, Listed, Root};

/// Entries of one directory that are looked at.
const MOST: usize = 2000;
/// Refs that are looked for, and that are named.
const MOST_REFS: usize = 200;
const NAMED: usize = 3;
/// Characters of a name that are kept.
const SHOWN: usize = 80;
/// Entries of a home that programs make by themselves.
const USUAL: [&[u8]; 18] = [
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
];

/// Names what a sandbox holds, for a sentence that begins "it holds". Names in it are not escaped.
pub(super) async fn find(link: &Link, record: &Record) -> Vec<String> {
    let look = Look { link, unknown: RefCell::default() };
    let mut found = look.repository(record).await;
    for module in &record.manifest.modules {
        let objects = [module.as_bytes(), b"/.git/objects"].concat();
        if look.has_loose_objects(&objects).await {
            found.push(format!("commits in the submodule {}", shown(module.as_bytes())));
        }
    }
    let plans: Vec<String> = look.entries(Root::Home, b".claude/plans").await.iter().map(|name| shown(name)).collect();
    found.extend(several("plan", "plans", &plans));
    let home = look.entries(Root::Home, b"").await;
    let unusual: Vec<String> =
        home.iter().filter(|name| !USUAL.contains(&name.as_slice())).map(|name| format!("~/{}", shown(name))).collect();
    found.extend(several("file in the home", "files in the home", &unusual));
    found.extend(look.unknown.into_inner());
    found
}

/// Puts names together: `branch a`, or `4 branches (a, b, c, …)`.
fn several(one: &str, many: &str, names: &[String]) -> Option<String> {
    match names {
        [] => None,
        [name] => Some(format!("{one} {name}")),
        _ => {
            let more = if names.len() > NAMED { ", …" } else { "" };
            Some(format!("{} {many} ({}{more})", names.len(), names[..names.len().min(NAMED)].join(", ")))
        }
    }
}

fn shown(name: &[u8]) -> String {
    readable(name).chars().take(SHOWN).collect()
}

/// A look through the guest.
struct Look<'a> {
    link: &'a Link,
    /// What could not be seen: it may be anything.
    unknown: RefCell<BTreeSet<String>>,
}

impl Look<'_> {
    async fn repository(&self, record: &Record) -> Vec<String> {
        let mut found = Vec::new();
        let has_objects = self.has_loose_objects(b".git/objects").await;
        let branches = self.refs(b".git/refs/heads").await;
        let own = record.branch.as_deref().unwrap_or_default().as_bytes();
        let mut others = Vec::new();
        for name in &branches {
            // A sandbox without a history has a branch even where HEAD is on none.
            let is_given = own.is_empty() && !self.is_new(&[b".git/refs/heads/", name.as_slice()].concat()).await;
            if name.as_slice() != own && !is_given {
                others.push(shown(name));
            }
        }
        found.extend(several("branch", "branches", &others));
        let logged = [b".git/logs/refs/heads/", own].concat();
        if has_objects && !own.is_empty() && self.is_new(&logged).await {
            found.push(format!("commits on {}", shown(own)));
        }
        if self.is_new(b".git/refs/stash").await {
            found.push("a stash".to_owned());
        }
        let worktrees: Vec<String> = self.directories(b".git/worktrees").await.iter().map(|name| shown(name)).collect();
        found.extend(several("worktree", "worktrees", &worktrees));
        if self.is_new(b".git/packed-refs").await {
            found.push("refs that git has packed".to_owned());
        }
        if found.is_empty() && has_objects && self.is_new(b".git/logs/HEAD").await {
            found.push("commits that no branch names".to_owned());
        }
        found
    }

    /// Lists a directory. One that is not there is empty; of one that cannot be listed, nobody knows what it holds.
    async fn list(&self, root: Root, path: &[u8]) -> Vec<Listed> {
        let place = if root == Root::Home { format!("~/{}", shown(path)) } else { shown(path) };
        let unknown = match self.link.list(root, path, MOST).await {
            Ok(listed) => return listed,
            Err(LinkError::Gone | LinkError::NotADirectory) => return Vec::new(),
            Err(LinkError::TooMany) => format!("more than {MOST} entries in {place}"),
            Err(_) => format!("something in {place} that could not be listed"),
        };
        self.unknown.borrow_mut().insert(unknown);
        Vec::new()
    }

    async fn entries(&self, root: Root, path: &[u8]) -> Vec<Vec<u8>> {
        self.list(root, path).await.into_iter().map(|entry| entry.name).collect()
    }

    async fn directories(&self, path: &[u8]) -> Vec<Vec<u8>> {
        let listed = self.list(Root::Work, path).await.into_iter();
        listed.filter(|entry| entry.kind == FileKind::Directory).map(|entry| entry.name).collect()
    }

    /// Lists the refs below a directory, by their names below it.
    async fn refs(&self, top: &[u8]) -> BTreeSet<Vec<u8>> {
        let (mut found, mut open) = (BTreeSet::new(), vec![Vec::new()]);
        while let Some(below) = open.pop() {
            let path = [top, if below.is_empty() { b"" } else { b"/" }, &below].concat();
            for entry in self.list(Root::Work, &path).await {
                let name = [&below[..], if below.is_empty() { b"" } else { b"/" }, &entry.name].concat();
                if found.len() + open.len() >= MOST_REFS {
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
        let at = path.iter().rposition(|b| *b == b'/').unwrap_or(0);
        let (parent, name) = (&path[..at], &path[at + 1..]);
        let has = async |root, parent: &[u8]| self.entries(root, parent).await.iter().any(|entry| entry == name);
        has(Root::Work, parent).await && !has(Root::Base, &[super::seed::TREE, parent].concat()).await
    }

    /// Returns whether git has written objects here: what a sandbox begins with is packed.
    async fn has_loose_objects(&self, path: &[u8]) -> bool {
        let is_fan = |name: &Vec<u8>| name.len() == 2 && name.iter().all(u8::is_ascii_hexdigit);
        for directory in self.directories(path).await.into_iter().filter(is_fan) {
            if !self.entries(Root::Work, &[path, b"/", &directory].concat()).await.is_empty() {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::several;

    #[test]
    fn names_are_put_together() {
        let names = |n: usize| ["a", "b", "c", "d"][..n].iter().map(|&s| s.to_owned()).collect::<Vec<_>>();
        assert_eq!(several("branch", "branches", &names(0)), None);
        assert_eq!(several("branch", "branches", &names(1)).as_deref(), Some("branch a"));
        assert_eq!(several("branch", "branches", &names(2)).as_deref(), Some("2 branches (a, b)"));
        assert_eq!(several("branch", "branches", &names(4)).as_deref(), Some("4 branches (a, b, c, …)"));
    }
}
