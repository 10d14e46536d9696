//! Builds a changeset from the contents of a sandbox: sorts and classifies the changes, and computes the ID.
//!
//! Duplicate paths are an error. Paths that would be both a file and a directory are refused.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use sha2::{Digest, Sha256};

use super::aliases::LinkAliases;
use super::cancel::CancelToken;
use super::links::{LinkTarget, PathEntry, resolve_symlink};
use super::packages::is_package_file;
use super::renames::pair_renames;
use super::{
    Changeset, DeletedContent, EmbeddedRepoRule, FileChange, Finding, IgnoredPaths, PackageManifests, Quarantine,
    RenameFindings, RiskContext, RuleSet, Severity, UncollectedEntry, find_risks, has_folded_path,
};
use crate::core::escape::escape_lossy;
use crate::core::hex::to_hex;
use crate::core::parallel::try_parallel_map;
use crate::core::path::{EntryKind, RepoPath, has_path_below};

/// Maximum number of path components that are visited to resolve all symlinks of a changeset.
const MAX_LINK_STEPS: usize = 3_000_000;

/// An unfinished changeset, with its entries in any order.
#[derive(Debug, Default)]
pub struct ChangesetBuilder {
    /// The commit that the sandbox was seeded with.
    pub base: String,
    /// The changes, with the findings that only their collector can produce.
    pub files: Vec<FileChange>,
    /// Entries that cannot be accepted.
    pub uncollected: Vec<UncollectedEntry>,
    /// New files that are ignored by rules which the agent added.
    pub ignored_by_agent_rules: Vec<RepoPath>,
    /// New files that are ignored by other rules.
    pub ignored: IgnoredPaths,
    /// The facts about contents of deleted files, as far as they are known.
    pub deleted: Vec<(RepoPath, DeletedContent)>,
}

/// The tree that a sandbox started with.
pub trait BaseEntries {
    /// Returns the entry at a path.
    fn entry_at(&self, path: &RepoPath) -> PathEntry;
    /// Returns the symlinks of the tree with their targets.
    fn list_symlinks(&self) -> Vec<(RepoPath, Vec<u8>)>;
    /// Returns whether the tree has an entry at a path, or below it, that can make a directory a repository.
    fn has_repo_marker(&self, path: &RepoPath) -> bool {
        self.entry_at(path) != PathEntry::Absent
    }
}

/// The empty tree.
impl BaseEntries for () {
    fn entry_at(&self, _: &RepoPath) -> PathEntry {
        PathEntry::Absent
    }
    fn list_symlinks(&self) -> Vec<(RepoPath, Vec<u8>)> {
        Vec::new()
    }
}

impl ChangesetBuilder {
    /// Sorts and classifies the changes, finds renames, and computes the ID.
    ///
    /// # Errors
    /// Fails if the quarantine is damaged, or if a path occurs twice, which is impossible in a tree. Fails with
    /// `TimedOut` or `Interrupted` if the token has expired or was canceled.
    pub fn build_changeset(
        mut self,
        store: &Quarantine,
        rules: &RuleSet,
        base: &impl BaseEntries,
        cancel_token: &CancelToken,
    ) -> io::Result<Changeset> {
        self.files.sort_by(|a, b| a.path.cmp(&b.path));
        if let Some(duplicate) = self.files.windows(2).find(|pair| pair[0].path == pair[1].path) {
            let message = format!("{:?} was collected twice", duplicate[0].path);
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        self.uncollected.sort_by(|a, b| a.path.cmp(&b.path));
        self.ignored_by_agent_rules.sort();
        self.ignored_by_agent_rules.dedup();
        self.deleted.sort_by(|a, b| a.0.cmp(&b.0));
        if self.files.is_empty() {
            return Ok(self.assign_id(Vec::new()));
        }
        pair_renames(&mut self.files, store, cancel_token)?;
        let targets = read_link_targets(&self.files, store)?;
        let changed = self.files.iter().map(|f| f.path.clone()).collect();
        let (aliases, manifests) = (find_aliases(base, &targets, &changed), PackageManifests::from_paths(&changed));
        let context = RiskContext { rules, manifests: &manifests, aliases: &aliases };
        self.add_findings(store, context, cancel_token)?;
        refuse_embedded_repos(&mut self.files, |path| base.has_repo_marker(path));
        refuse_prefixes(&mut self.files);
        self.check_symlinks(base, &targets, cancel_token)?;
        for file in &mut self.files {
            file.findings.sort_by_key(|f| std::cmp::Reverse(f.severity));
        }
        let rename_findings = find_rename_findings(&self.files, store, context, cancel_token)?;
        Ok(self.assign_id(rename_findings))
    }

    fn assign_id(self, rename_findings: Vec<RenameFindings>) -> Changeset {
        let Self { base, files, uncollected, ignored_by_agent_rules: hidden, ignored, deleted } = self;
        let mut hash = HashWriter(Sha256::new());
        // Serialization cannot fail: the writer accepts all bytes, and all maps have string keys.
        let _ = serde_json::to_writer(&mut hash, &(&base, &files, &rename_findings, &uncollected, &hidden));
        let id = to_hex(&hash.0.finalize());
        Changeset {
            schema_version: 1,
            id,
            base,
            files,
            rename_findings,
            uncollected,
            ignored_by_agent_rules: hidden,
            ignored,
            deleted,
        }
    }

    fn add_findings(
        &mut self,
        store: &Quarantine,
        context: RiskContext<'_>,
        cancel_token: &CancelToken,
    ) -> io::Result<()> {
        let found = try_parallel_map(&self.files, |file| {
            cancel_token.check_canceled()?;
            // Of other deleted files, only the path matters.
            let is_read = file.new.is_some() || is_package_file(&file.path);
            let (old, new) = if is_read { file.read_contents(store)? } else { Default::default() };
            let mut found = find_risks(file, &old, &new, context);
            if file.is_large() {
                found.push(Finding::for_file("large", Severity::Medium, "is too large to be checked"));
            }
            found.extend(find_hidden_files(file, &self.ignored_by_agent_rules));
            Ok(found)
        })?;
        for (file, found) in self.files.iter_mut().zip(found) {
            file.findings.extend(found);
        }
        Ok(())
    }

    /// Resolves every new symlink in the resulting tree.
    fn check_symlinks(
        &mut self,
        base: &impl BaseEntries,
        targets: &BTreeMap<RepoPath, Vec<u8>>,
        cancel_token: &CancelToken,
    ) -> io::Result<()> {
        let created: BTreeSet<RepoPath> =
            self.files.iter().filter(|f| f.new.is_some()).map(|f| f.path.clone()).collect();
        let entry_at = |path: &RepoPath| {
            if let Some(target) = targets.get(path) {
                return PathEntry::Link(target.clone());
            }
            match self.files.binary_search_by(|f| f.path.cmp(path)).map(|at| &self.files[at].new) {
                Ok(Some(_)) => PathEntry::File,
                _ if has_path_below(&created, path) => PathEntry::Directory,
                Ok(None) => PathEntry::Absent,
                Err(_) => base.entry_at(path),
            }
        };
        let mut budget = MAX_LINK_STEPS;
        let mut link_findings = Vec::new();
        for (index, file) in self.files.iter().enumerate() {
            let Some(target) = targets.get(&file.path) else { continue };
            cancel_token.check_canceled()?;
            link_findings.push(match resolve_symlink(&file.path, target, &mut budget, entry_at) {
                LinkTarget::Inside => continue,
                LinkTarget::Missing => {
                    (index, Finding::for_file("link-dangling", Severity::Note, "points to a path that does not exist"))
                }
                LinkTarget::Loop => {
                    (index, Finding::for_file("link-loop", Severity::Medium, "is part of a symlink loop"))
                }
                LinkTarget::Outside(reason) => (index, Finding::for_file("link-escape", Severity::Refused, reason)),
            });
        }
        for (index, finding) in link_findings {
            let findings = &mut self.files[index].findings;
            // The target may have caused the same finding without the tree.
            if findings.iter().all(|f| f.rule != finding.rule) {
                findings.push(finding);
            }
        }
        Ok(())
    }
}

/// A writer that hashes its input.
struct HashWriter(Sha256);

impl io::Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads the targets of all new symlinks.
fn read_link_targets(files: &[FileChange], store: &Quarantine) -> io::Result<BTreeMap<RepoPath, Vec<u8>>> {
    let links = files.iter().filter_map(|f| Some((f, f.new.as_ref().filter(|s| s.kind == EntryKind::Symlink)?)));
    links.map(|(file, side)| Ok((file.path.clone(), store.get(&side.hash)?))).collect()
}

/// Returns the other names that symlinks give to paths in the resulting tree.
fn find_aliases(
    base: &impl BaseEntries,
    targets: &BTreeMap<RepoPath, Vec<u8>>,
    changed: &BTreeSet<RepoPath>,
) -> LinkAliases {
    let unchanged_links = base.list_symlinks().into_iter().filter(|(link, _)| !changed.contains(link));
    let new_links = targets.iter().map(|(link, target)| (link.clone(), target.clone()));
    LinkAliases::from_links(unchanged_links.chain(new_links))
}

/// Computes the findings of each rename: of the new content at both paths, because it can be applied without the rename, and
/// compared with the old content.
fn find_rename_findings(
    files: &[FileChange],
    store: &Quarantine,
    context: RiskContext<'_>,
    cancel_token: &CancelToken,
) -> io::Result<Vec<RenameFindings>> {
    let mut renames = Vec::new();
    for added in files.iter().filter(|file| file.old.is_none()) {
        let source = added.renamed_from.as_ref().and_then(|from| files.binary_search_by(|f| f.path.cmp(from)).ok());
        let Some(deleted) = source.map(|at| &files[at]) else { continue };
        cancel_token.check_canceled()?;
        let joined = FileChange { old: deleted.old.clone(), ..added.clone() };
        let in_place = FileChange { path: deleted.path.clone(), renamed_from: None, ..joined.clone() };
        let (old, new) = joined.read_contents(store)?;
        let separate = [find_risks(added, &[], &new, context), find_risks(deleted, &old, &[], context)].concat();
        let mut findings = find_risks(&joined, &old, &new, context);
        findings.extend(find_risks(deleted, &old, &[], context));
        if joined.old != joined.new {
            findings.extend(find_risks(&in_place, &old, &new, context));
        }
        // Other findings are about the tree, or about the collected entry.
        let others = added.findings.iter().chain(&deleted.findings).filter(|finding| !separate.contains(finding));
        findings.extend(others.cloned());
        findings.sort_by_key(|f| std::cmp::Reverse(f.severity));
        let mut unique: Vec<Finding> = Vec::new();
        for finding in findings {
            if !unique.contains(&finding) {
                unique.push(finding);
            }
        }
        renames.push(RenameFindings { path: added.path.clone(), findings: unique });
    }
    Ok(renames)
}

/// Refuses paths that would be both a file and a directory.
fn refuse_prefixes(files: &mut [FileChange]) {
    let created: BTreeSet<RepoPath> = files.iter().filter(|f| f.new.is_some()).map(|f| f.path.clone()).collect();
    let mut conflicting: BTreeSet<RepoPath> = BTreeSet::new();
    for path in &created {
        let mut ancestor = path.parent();
        while let Some(directory) = ancestor {
            if created.contains(&directory) {
                conflicting.extend([directory.clone(), path.clone()]);
            }
            ancestor = directory.parent();
        }
    }
    for file in files.iter_mut().filter(|f| conflicting.contains(&f.path)) {
        file.findings.push(Finding::for_file("prefix", Severity::Refused, "is a file and a directory at once"));
    }
}

/// Returns a finding if a changed `.gitignore` hides new files.
fn find_hidden_files(file: &FileChange, hidden: &[RepoPath]) -> Option<Finding> {
    if file.path.file_name() != b".gitignore" || file.new.is_none() {
        return None;
    }
    let prefix = file.path.parent().map_or_else(Vec::new, |d| [d.as_bytes(), b"/"].concat());
    let from = hidden.partition_point(|p| p.as_bytes() < prefix.as_slice());
    let to = from + hidden[from..].partition_point(|p| p.as_bytes().starts_with(&prefix));
    let first = hidden[from..to].first()?;
    let more = if to - from > 1 { format!(" and {} more", to - from - 1) } else { String::new() };
    let reason = format!("ignores new files: {}{more}", escape_lossy(first.as_bytes()));
    Some(Finding::for_file("hides-new-files", Severity::Note, reason))
}

/// Refuses files that would complete or change a repository inside the tree.
fn refuse_embedded_repos(files: &mut [FileChange], in_base: impl Fn(&RepoPath) -> bool) {
    // A name exists in the result if it was created at or below that path, or if the base has it. Deletions by the
    // agent are ignored.
    let created: BTreeSet<Vec<u8>> = files.iter().filter(|f| f.new.is_some()).map(|f| f.path.folded_key()).collect();
    let exists = |path: &RepoPath| has_folded_path(&created, path) || in_base(path);
    let mut rule = EmbeddedRepoRule::default();
    let enclosing_repos: Vec<Option<RepoPath>> =
        files.iter().map(|f| f.new.as_ref().and_then(|_| rule.find_enclosing_repo(&f.path, exists))).collect();
    for (file, repo) in files.iter_mut().zip(enclosing_repos) {
        if repo.is_some() {
            let reason = "is in a directory that git would open as a repository";
            file.findings.push(Finding::for_file("planted-repository", Severity::Refused, reason));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ContentHash, FileVersion};
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::time::Instant;

    use super::*;

    /// A base with these paths. A path with a target is a symlink, a path without one is a file.
    struct Tree(Vec<(&'static str, Option<&'static str>)>);

    impl BaseEntries for Tree {
        fn entry_at(&self, path: &RepoPath) -> PathEntry {
            let below = |p: &str| p.as_bytes().starts_with(&[path.as_bytes(), b"/"].concat());
            match self.0.iter().find(|(p, _)| p.as_bytes() == path.as_bytes()) {
                Some((_, Some(target))) => PathEntry::Link(target.as_bytes().to_vec()),
                Some((_, None)) => PathEntry::File,
                None if self.0.iter().any(|(p, _)| below(p)) => PathEntry::Directory,
                None => PathEntry::Absent,
            }
        }
        fn list_symlinks(&self) -> Vec<(RepoPath, Vec<u8>)> {
            let link = |(p, t): &(&str, Option<&str>)| Some((path(p), t.as_ref()?.as_bytes().to_vec()));
            self.0.iter().filter_map(link).collect()
        }
    }

    fn path(text: &str) -> RepoPath {
        RepoPath::from_bytes(text.as_bytes()).expect("valid path")
    }

    /// Builds a changeset from these changes. `None` deletes a file; `->` precedes the target of a symlink.
    fn build_changeset(base: Tree, changes: &[(&str, Option<&str>)]) -> io::Result<Changeset> {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Quarantine::open(dir.path().into()).expect("opened");
        let version = |content: &str| {
            let (kind, bytes) = match content.strip_prefix("->") {
                Some(target) => (EntryKind::Symlink, target),
                None => (EntryKind::Regular, content),
            };
            let hash = store.store_blob(bytes.as_bytes()).expect("stored");
            FileVersion { kind, hash, size: bytes.len() as u64 }
        };
        let files = changes.iter().map(|(p, content)| FileChange {
            path: path(p),
            old: content.is_none().then(|| version("old\n")),
            new: content.map(version),
            renamed_from: None,
            findings: Vec::new(),
        });
        ChangesetBuilder { base: "b".into(), files: files.collect(), ..ChangesetBuilder::default() }.build_changeset(
            &store,
            &RuleSet::default(),
            &base,
            &CancelToken::default(),
        )
    }

    fn refused_paths(base: Tree, changes: &[(&str, Option<&str>)]) -> Vec<String> {
        let changeset = build_changeset(base, changes).expect("built");
        let files = changeset.files.iter().filter(|f| f.max_severity() == Some(Severity::Refused));
        files.map(|f| String::from_utf8_lossy(f.path.as_bytes()).into_owned()).collect()
    }

    fn empty_tree() -> Tree {
        Tree(Vec::new())
    }

    #[test]
    fn changeset_is_sorted_and_refuses_duplicate_paths() {
        let changeset = build_changeset(empty_tree(), &[("b", Some("x")), ("a", Some("y"))]).expect("built");
        assert_eq!(changeset.files[0].path, path("a"));
        let duplicate = build_changeset(empty_tree(), &[("a", Some("x")), ("b", Some("z")), ("a", Some("y"))]);
        assert_eq!(duplicate.expect_err("duplicate path").kind(), io::ErrorKind::InvalidData);
        let reordered = build_changeset(empty_tree(), &[("a", Some("y")), ("b", Some("x"))]).expect("built");
        assert_eq!(reordered.id, changeset.id, "the ID does not depend on the input order");
        assert_ne!(build_changeset(empty_tree(), &[("a", Some("y"))]).expect("built").id, changeset.id);
    }

    #[test]
    fn path_below_changed_file_is_refused_with_it() {
        let changes = [("a", Some("->x")), ("a-", Some("y")), ("a/b/c", Some("z")), ("q", Some("z"))];
        assert_eq!(refused_paths(empty_tree(), &changes), ["a", "a/b/c"]);
        assert_eq!(
            refused_paths(empty_tree(), &[("a", None), ("a/b", Some("z"))]),
            [""; 0],
            "a file that becomes a directory"
        );
    }

    #[test]
    fn symlinks_are_resolved_in_resulting_tree() {
        assert_eq!(refused_paths(Tree(vec![("ext", Some("/opt"))]), &[("l", Some("->ext/x"))]), ["l"]);
        assert_eq!(refused_paths(Tree(vec![("ext", Some("/opt"))]), &[("l", Some("->ext/x")), ("ext", None)]), [""; 0]);
        let find_rules = |base, changes: &[_]| {
            let changeset = build_changeset(base, changes).expect("built");
            let file = changeset.files.iter().find(|f| f.path == path("l")).expect("file in changeset");
            file.findings.iter().map(|f| f.rule.clone()).collect::<Vec<_>>()
        };
        assert_eq!(find_rules(empty_tree(), &[("l", Some("->m")), ("m", Some("->l"))]), ["link", "link-loop"]);
        assert_eq!(find_rules(empty_tree(), &[("l", Some("->nope"))]), ["link", "link-dangling"]);
        assert_eq!(find_rules(Tree(vec![("d/f", None)]), &[("l", Some("->d"))]), ["link"]);
        assert_eq!(find_rules(empty_tree(), &[("l", Some("->d/f")), ("d/f", Some("x"))]), ["link"]);
    }

    #[test]
    fn embedded_repository_is_refused_even_with_parts_in_base() {
        let partial = [("x/objects/a", None), ("x/refs/b", None)];
        assert_eq!(refused_paths(Tree(partial.to_vec()), &[("x/HEAD", Some("ref: refs/heads/m\n"))]), ["x/HEAD"]);
        let complete =
            [("x/HEAD", Some("->y")), ("x/objects", Some("->y")), ("x/refs", Some("->y")), ("y/z", Some(""))];
        assert_eq!(refused_paths(empty_tree(), &complete), ["x/HEAD", "x/objects", "x/refs"]);
        assert_eq!(refused_paths(empty_tree(), &[("x/HEAD", Some("a")), ("x/commondir", Some("b"))]).len(), 2);
        let folded = [("x/head", Some("a")), ("X/Objects/a", Some("b")), ("x/REFS/b", Some("c"))];
        assert_eq!(refused_paths(empty_tree(), &folded).len(), 3);
        assert_eq!(refused_paths(empty_tree(), &[("x/HEAD", Some("a")), ("x/config.worktree", Some("b"))]).len(), 2);
        assert_eq!(
            refused_paths(empty_tree(), &[("HEAD", Some("a")), ("objects/x", Some("b")), ("refs/x", Some("b"))]),
            [""; 0]
        );
    }

    #[test]
    fn build_stops_at_deadline_and_on_cancel() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Quarantine::open(dir.path().into()).expect("opened");
        let canceled = CancelToken { is_canceled: Arc::new(AtomicBool::new(true)), ..CancelToken::default() };
        let expired = CancelToken { deadline: Some(Instant::now()), ..CancelToken::default() };
        for (cancel, kind) in [(canceled, io::ErrorKind::Interrupted), (expired, io::ErrorKind::TimedOut)] {
            let version =
                FileVersion { kind: EntryKind::Regular, hash: store.store_blob(b"x").expect("stored"), size: 1 };
            let file =
                FileChange { path: path("a"), old: None, new: Some(version), renamed_from: None, findings: Vec::new() };
            let builder = ChangesetBuilder { files: vec![file], ..ChangesetBuilder::default() };
            let changeset = builder.build_changeset(&store, &RuleSet::default(), &empty_tree(), &cancel);
            assert_eq!(changeset.expect_err("canceled or timed out").kind(), kind);
        }
    }

    #[test]
    fn renames_are_paired_once() {
        let changes = [("a", None), ("b", None), ("c", Some("old\n")), ("d", Some("old\n")), ("e", Some("old\n"))];
        let changeset = build_changeset(empty_tree(), &changes).expect("built");
        let sources: Vec<_> = changeset.files.iter().map(|f| f.renamed_from.clone()).collect();
        assert_eq!(sources, [None, None, Some(path("a")), Some(path("b")), None]);
    }

    #[test]
    fn gitignore_finding_names_hidden_files() {
        let hidden = ["a/x", "a/y", "b/z"].map(path);
        let file = |p: &str| FileChange {
            path: path(p),
            old: None,
            new: Some(FileVersion { kind: EntryKind::Regular, hash: ContentHash::from_content(b""), size: 0 }),
            renamed_from: None,
            findings: Vec::new(),
        };
        let reason = |p: &str| find_hidden_files(&file(p), &hidden).map(|f| f.reason);
        assert_eq!(reason("a/.gitignore").as_deref(), Some("ignores new files: a/x and 1 more"));
        assert_eq!(reason("b/.gitignore").as_deref(), Some("ignores new files: b/z"));
        assert_eq!(reason(".gitignore").as_deref(), Some("ignores new files: a/x and 2 more"));
        assert_eq!(reason("c/.gitignore"), None);
        assert_eq!(reason("a/x"), None);
    }
}
