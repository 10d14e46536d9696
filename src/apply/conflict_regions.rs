//! The regions of a conflict, and the result of the user's choices for them.
//!
//! *Invariant:* the ID of a region covers the path, its position and the content of all sides, so that a choice is used only for
//! the state that it was made for. A choice for lines is used only if both merge engines merge the rest of the file in the same
//! way.

use std::ops::Range;

use sha2::{Digest, Sha256};

use super::entry_content::EntryContent;
use super::entry_merge::ConflictKind;
use super::merge::{ConflictHunk, Sides, merge_content};
use super::request::BlobStore;
use super::step::{Conflict, ConflictSides};
use crate::changes::{ConflictRegion, RegionSide, is_line_based, split_lines, with_line_feed};
use crate::core::escape::Escaped;
use crate::core::hex::to_hex;
use crate::core::path::{EntryKind, RepoPath};

/// Returns the regions of a conflict that can be resolved one by one; none if the conflict is not about content.
#[must_use]
pub(super) fn conflict_regions(path: &RepoPath, sides: &ConflictSides, blobs: &dyn BlobStore) -> Vec<ConflictRegion> {
    let is_whole = match sides.kind {
        ConflictKind::Lines => sides.hunks.is_empty(),
        ConflictKind::AddAdd
        | ConflictKind::AddAddMode
        | ConflictKind::DeleteModify
        | ConflictKind::ModifyDelete
        | ConflictKind::Links
        | ConflictKind::Kinds
        | ConflictKind::Binary
        | ConflictKind::NotByLine
        | ConflictKind::Driver
        | ConflictKind::Large
        | ConflictKind::EnginesDisagree => true,
        ConflictKind::RenameAdd
        | ConflictKind::RenameDelete
        | ConflictKind::RenameFiltered
        | ConflictKind::EarlierUnits
        | ConflictKind::Filtered
        | ConflictKind::FilteredDeletion => return Vec::new(),
    };
    let all = [&sides.base, &sides.ours, &sides.theirs];
    let contents = all.map(|version| version.as_ref().and_then(|version| read_text(version, blobs)));
    if is_whole {
        let [base, ours, theirs] = [0, 1, 2].map(|at| whole_side(all[at].as_ref(), contents[at].clone(), blobs));
        let can_combine = ours.text.is_some() && theirs.text.is_some();
        let id = region_id(path, sides, None);
        return vec![ConflictRegion { id, base, ours, theirs, is_whole, can_combine }];
    }
    let [Some(base), Some(ours), Some(theirs)] = contents else { return Vec::new() };
    let split = [&base, &ours, &theirs].map(|content| split_lines(content));
    let side = |at: usize, lines: &Range<usize>| RegionSide {
        lines: lines.clone(),
        text: Some(split[at].get(lines.clone()).unwrap_or_default().concat()),
        note: String::new(),
    };
    let region = |hunk: &ConflictHunk| {
        let (base, ours, theirs) = (side(0, &hunk.base), side(1, &hunk.ours), side(2, &hunk.theirs));
        let id = region_id(path, sides, Some((&base, &ours, &theirs)));
        ConflictRegion { id, base, ours, theirs, is_whole, can_combine: true }
    };
    sides.hunks.iter().map(region).collect()
}

impl Conflict {
    /// Returns the regions that can be resolved one by one; none if the conflict is not about content.
    #[must_use]
    pub fn split_regions(&self, blobs: &dyn BlobStore) -> Vec<ConflictRegion> {
        self.sides.as_ref().map(|sides| conflict_regions(&self.path, sides, blobs)).unwrap_or_default()
    }
}

/// Merges by line, with chosen texts in place of the regions. Returns `None` if the engines do not agree on the rest.
#[must_use]
pub(super) fn merge_with_texts(sides: Sides<'_>, regions: &[ConflictRegion], texts: &[Vec<u8>]) -> Option<Vec<u8>> {
    let replace = |content: &[u8], lines_of: fn(&ConflictRegion) -> &Range<usize>| {
        let lines = split_lines(content);
        let (mut replaced, mut at) = (Vec::new(), 0);
        for (region, text) in regions.iter().zip(texts) {
            let range = lines_of(region);
            replaced.extend(lines.get(at..range.start)?.concat());
            let is_last = range.end == lines.len();
            replaced.extend(if is_last { text.clone() } else { with_line_feed(text.clone()) });
            at = range.end;
        }
        replaced.extend(lines.get(at..)?.concat());
        Some(replaced)
    };
    let base = replace(sides.base, |region| &region.base.lines)?;
    let ours = replace(sides.ours, |region| &region.ours.lines)?;
    let theirs = replace(sides.theirs, |region| &region.theirs.lines)?;
    merge_content(Sides { base: &base, ours: &ours, theirs: &theirs }).ok().map(|merged| merged.content)
}

fn read_text(version: &EntryContent, blobs: &dyn BlobStore) -> Option<Vec<u8>> {
    let content = blobs.read_blob(&version.hash).ok().filter(|_| version.kind != EntryKind::Symlink)?;
    is_line_based(&content).then_some(content)
}

fn whole_side(version: Option<&EntryContent>, text: Option<Vec<u8>>, blobs: &dyn BlobStore) -> RegionSide {
    let lines = 0..text.as_deref().map_or(0, |text| split_lines(text).len());
    let note = match (version, &text) {
        (None, _) => "no file".to_owned(),
        (Some(_), Some(_)) => String::new(),
        (Some(version), None) if version.kind == EntryKind::Symlink => {
            let target = blobs.read_blob(&version.hash).unwrap_or_default();
            format!("a symlink to {}", Escaped::new(&target))
        }
        (Some(version), None) => {
            let hash: String = version.hash.to_string().chars().take(12).collect();
            format!("a file that is not text, sha256 {hash}…")
        }
    };
    RegionSide { lines, text, note }
}

/// Returns the ID of a region: lines of the three sides, or whole files.
fn region_id(path: &RepoPath, sides: &ConflictSides, lines: Option<(&RegionSide, &RegionSide, &RegionSide)>) -> String {
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    let version = |version: &Option<EntryContent>| match version {
        Some(version) => format!("{:?} {}", version.kind, version.hash),
        None => String::new(),
    };
    add(path.as_bytes());
    add(version(&sides.base).as_bytes());
    match lines {
        None => {
            add(version(&sides.ours).as_bytes());
            add(version(&sides.theirs).as_bytes());
        }
        Some((base, ours, theirs)) => {
            add(format!("{:?}", base.lines).as_bytes());
            for side in [base, ours, theirs] {
                add(side.text.as_deref().unwrap_or_default());
            }
        }
    }
    to_hex(&hash.finalize())
}
