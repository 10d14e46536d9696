//! Selects the refs that a workspace gets beside HEAD's own branch: tags, and the base branch that work is compared with.
//!
//! *Invariant:* a ref is included only if its commit is in the included history, so no ref adds a commit.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use git2::{ObjectType, Oid, Reference, Repository};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::error::SnapshotError;
use super::history::{History, read_shallow_file};
use super::repo::HostRepo;
use crate::core::atomic_file::write_atomic;
use crate::core::hex::to_hex;

/// A part of every key. Raise it when other refs are selected for the same input.
const FORMAT: &str = "airlock-refs-1";
/// Maximum number of tags. A repository with more has them for machines.
const MAX_TAGS: usize = 20_000;
/// Maximum number of tags that point to tags.
const MAX_CHAIN: usize = 5;
/// Names of the base branch if the remote does not tell its own.
const USUAL_BASES: [&str; 2] = ["main", "master"];

/// The refs that a workspace gets beside HEAD's own branch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncludedRefs {
    /// A key of what was selected, and from what.
    key: String,
    /// The content of git's file `packed-refs`; empty for none.
    packed: String,
    /// The tag objects, in hexadecimal.
    tag_objects: Vec<String>,
    pub summary: RefsSummary,
}

/// A description of the refs for the user and the agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RefsSummary {
    /// The number of tags.
    pub tags: usize,
    /// The names of the base branch, such as `main` and `origin/main`.
    pub base_branches: Vec<String>,
    /// A base branch that is not included, with the commit at which HEAD left it.
    pub missing_base: Option<(String, String)>,
    /// The size of git's file in bytes.
    pub packed_size: u64,
}

/// A ref that may be included.
struct Candidate {
    name: String,
    id: Oid,
    /// The tag objects on the way to the commit, the first one being `id`.
    tags: Vec<Oid>,
    commit: Oid,
}

impl IncludedRefs {
    /// Returns a key: equal keys mean equal refs.
    #[must_use]
    pub fn content_key(&self) -> String {
        if self.packed.is_empty() { String::new() } else { to_hex(&Sha256::digest(&self.packed)) }
    }

    /// Returns the content of git's file `packed-refs`, unless there are no refs.
    pub(crate) fn packed_refs(&self) -> Option<&[u8]> {
        (!self.packed.is_empty()).then_some(self.packed.as_bytes())
    }

    /// Returns the names of the tag objects, one a line, for `git pack-objects`.
    pub(crate) fn tag_object_list(&self) -> String {
        self.tag_objects.iter().flat_map(|id| [id.as_str(), "\n"]).collect()
    }
}

impl HostRepo {
    /// Selects the refs for a commit with a history. An earlier selection from the same refs is used again, because a walk
    /// over a long history takes time.
    ///
    /// # Errors
    /// A missing object.
    pub(crate) fn select_refs(
        &self,
        commit: Oid,
        branch: Option<&str>,
        history: History,
    ) -> Result<IncludedRefs, SnapshotError> {
        if history == History::None {
            return Ok(IncludedRefs::default());
        }
        let git = self.repository();
        let (tags, bases) = (list_tags(git)?, list_bases(git, branch));
        let key = selection_key(git, commit, history, tags.iter().chain(&bases));
        let cache = CacheFile::new(&self.common_dir);
        if let Some(known) = cache.load_selection().filter(|known| known.key == key) {
            return Ok(known);
        }
        let selected = if tags.is_empty() && bases.is_empty() {
            IncludedRefs { key, ..IncludedRefs::default() }
        } else {
            select_from(git, (commit, history), key, tags, bases)?
        };
        cache.save_selection(&selected);
        Ok(selected)
    }
}

/// Returns the key of a selection: all candidates, and what determines the history.
fn selection_key<'a>(
    git: &Repository,
    commit: Oid,
    history: History,
    candidates: impl Iterator<Item = &'a Candidate>,
) -> String {
    let mut key = Sha256::new();
    key.update(format!("{FORMAT}\0{commit}\0{history:?}\0{}\0", read_shallow_file(git.commondir())));
    for candidate in candidates {
        key.update(format!("{} {}\n", candidate.id, candidate.name));
    }
    to_hex(&key.finalize())
}

fn select_from(
    git: &Repository,
    (commit, history): (Oid, History),
    key: String,
    tags: Vec<Candidate>,
    bases: Vec<Candidate>,
) -> Result<IncludedRefs, SnapshotError> {
    let included = history.included_commits(git, commit)?;
    let mut summary = RefsSummary::default();
    let mut refs: Vec<Candidate> = tags.into_iter().filter(|tag| included.contains(&tag.commit)).collect();
    summary.tags = refs.len();
    for base in bases {
        let shown = base.name.strip_prefix("refs/heads/").or_else(|| base.name.strip_prefix("refs/remotes/"));
        let shown = shown.unwrap_or(&base.name).to_owned();
        if included.contains(&base.commit) {
            summary.base_branches.push(shown);
            refs.push(base);
        } else if summary.missing_base.is_none()
            && let Ok(fork) = git.merge_base(commit, base.commit)
            && included.contains(&fork)
        {
            summary.missing_base = Some((shown, fork.to_string()));
        }
    }
    refs.sort_by(|a, b| a.name.cmp(&b.name));
    let mut packed = String::new();
    for entry in &refs {
        packed += &format!("{} {}\n", entry.id, entry.name);
        if !entry.tags.is_empty() {
            packed += &format!("^{}\n", entry.commit);
        }
    }
    if !packed.is_empty() {
        packed.insert_str(0, "# pack-refs with: peeled fully-peeled sorted \n");
    }
    summary.packed_size = packed.len() as u64;
    let tag_objects: BTreeSet<Oid> = refs.iter().flat_map(|entry| entry.tags.iter().copied()).collect();
    Ok(IncludedRefs { key, packed, tag_objects: tag_objects.iter().map(Oid::to_string).collect(), summary })
}

/// Lists the tags of commits. Other tags, and names that are not UTF-8, are left out.
fn list_tags(git: &Repository) -> Result<Vec<Candidate>, SnapshotError> {
    let mut found = Vec::new();
    for reference in git.references_glob("refs/tags/*")?.take(MAX_TAGS) {
        found.extend(reference.ok().as_ref().and_then(|reference| read_candidate(git, reference)));
    }
    Ok(found)
}

/// Finds the base branch, local and of the remote `origin`: the remote's default branch, or else a usual name. HEAD's own
/// branch is there anyway.
fn list_bases(git: &Repository, own: Option<&str>) -> Vec<Candidate> {
    let remote_head = git.find_reference("refs/remotes/origin/HEAD").ok();
    let remote_name = remote_head
        .and_then(|head| Some(head.symbolic_target().ok().flatten()?.strip_prefix("refs/remotes/origin/")?.to_owned()));
    let places = |name: &str| [format!("refs/heads/{name}"), format!("refs/remotes/origin/{name}")];
    let exists = |name: &&str| places(name).iter().any(|place| git.find_reference(place).is_ok());
    let name = remote_name.or_else(|| USUAL_BASES.into_iter().find(exists).map(str::to_owned));
    let found = name
        .iter()
        .flat_map(|name| places(name))
        .filter(|place| own.is_none_or(|own| *place != format!("refs/heads/{own}")));
    found.filter_map(|place| read_candidate(git, &git.find_reference(&place).ok()?)).collect()
}

/// Follows a ref through tag objects to its commit.
fn read_candidate(git: &Repository, reference: &Reference<'_>) -> Option<Candidate> {
    let name = reference.name().ok()?.to_owned();
    let id = reference.target()?;
    let (mut tags, mut object) = (Vec::new(), git.find_object(id, None).ok()?);
    while object.kind() == Some(ObjectType::Tag) && tags.len() < MAX_CHAIN {
        tags.push(object.id());
        object = object.as_tag()?.target().ok()?;
    }
    (object.kind() == Some(ObjectType::Commit)).then(|| Candidate { name, id, commit: object.id(), tags })
}

/// The file with the last selection of a repository.
struct CacheFile(PathBuf);

impl CacheFile {
    const NAME: &'static str = "refs.json";

    fn new(common_dir: &Path) -> Self {
        Self(common_dir.join("airlock"))
    }

    fn load_selection(&self) -> Option<IncludedRefs> {
        serde_json::from_slice(&std::fs::read(self.0.join(Self::NAME)).ok()?).ok()
    }

    /// Saves a selection. A failure is ignored, because the selection can be made again.
    fn save_selection(&self, selected: &IncludedRefs) {
        if self.0.is_dir()
            && let Ok(bytes) = serde_json::to_vec(selected)
        {
            let _ = write_atomic(&self.0, Self::NAME, &bytes);
        }
    }
}
