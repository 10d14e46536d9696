//! Merges the content of three files by line with two engines. If their results are not identical, the merge is a conflict.

use std::collections::HashSet;
use std::ops::Range;

use git2::{FileFavor, MergeFileInput, MergeFileOptions, Oid};
use similar::{Algorithm, DiffTag, MergeResolution, TextMergeConfig};

use super::entry_merge::ConflictKind;
use crate::changes::{ContentHash, is_comparable, is_line_based, split_lines};

/// The three sides of a merge.
#[derive(Debug, Clone, Copy)]
pub struct Sides<'a> {
    /// The merge base.
    pub base: &'a [u8],
    /// The working tree's content.
    pub ours: &'a [u8],
    pub theirs: &'a [u8],
}

/// The result of a merge without conflicts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    pub content: Vec<u8>,
    /// The user's own edits, as lines of the result, counted from 0.
    pub own_lines: Vec<Range<usize>>,
}

/// Lines that both sides changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConflictHunk {
    /// Lines of the base, counted from 0.
    pub base: Range<usize>,
    /// Lines of the working tree.
    pub ours: Range<usize>,
    /// Lines of the accepted content.
    pub theirs: Range<usize>,
}

/// Merges three sides. On a conflict, returns the kind, and the conflicting lines if known.
///
/// # Errors
/// [`ConflictKind::Binary`], [`ConflictKind::Large`], [`ConflictKind::Lines`], [`ConflictKind::EnginesDisagree`].
pub fn merge_content(sides: Sides<'_>) -> Result<Merged, (ConflictKind, Vec<ConflictHunk>)> {
    check_mergeable(sides).map_err(|conflict_kind| (conflict_kind, Vec::new()))?;
    let git = merge_with_libgit2(sides, false).map_err(|_| (ConflictKind::EnginesDisagree, Vec::new()))?;
    let (content, own_lines, regions) = merge_with_similar(sides, Algorithm::Histogram);
    match git {
        // A merge that only libgit2 can do, or that the other engine does differently, is not certain.
        Some(git) if regions.is_empty() && content == git => Ok(Merged { content, own_lines }),
        Some(git) => {
            // Another algorithm for matching lines often yields the same result as libgit2.
            let (content, own_lines, others) = merge_with_similar(sides, Algorithm::Myers);
            if others.is_empty() && content == git {
                return Ok(Merged { content, own_lines });
            }
            let conflict_kind = if regions.is_empty() || others.is_empty() {
                ConflictKind::EnginesDisagree
            } else {
                ConflictKind::Lines
            };
            Err((conflict_kind, regions))
        }
        None if regions.is_empty() => Err((ConflictKind::EnginesDisagree, Vec::new())),
        None => Err((ConflictKind::Lines, regions)),
    }
}

/// Merges with libgit2 alone, for a user who has seen the result. Returns `None` if it has a conflict.
#[must_use]
pub(super) fn merge_with_git(sides: Sides<'_>) -> Option<Merged> {
    check_mergeable(sides).ok()?;
    let content = merge_with_libgit2(sides, false).ok().flatten()?;
    let (theirs, merged) = (split_lines(sides.theirs), split_lines(&content));
    let changes = similar::capture_diff_slices(Algorithm::Histogram, &theirs, &merged);
    let own_lines = changes.iter().filter(|op| op.tag() != DiffTag::Equal).map(similar::DiffOp::new_range).collect();
    Some(Merged { content, own_lines })
}

/// Merges with conflict markers (zdiff3) around lines that both sides changed. Returns the content and the number of
/// conflicts.
///
/// # Errors
/// As without markers, except [`ConflictKind::Lines`].
pub fn merge_with_markers(sides: Sides<'_>) -> Result<(Vec<u8>, usize), ConflictKind> {
    check_mergeable(sides)?;
    // No line of any side has a marker of this length. The marker is matched without its label, because a side without lines
    // has no label.
    let size = marker_size(sides).ok_or(ConflictKind::Large)?;
    let marker = "<".repeat(size.into());
    let content = merge_with_libgit2(sides, true)
        .map_err(|_| ConflictKind::EnginesDisagree)?
        .ok_or(ConflictKind::EnginesDisagree)?;
    let conflict_count = split_lines(&content).iter().filter(|line| line.starts_with(marker.as_bytes())).count();
    Ok((content, conflict_count))
}

/// Merges with the lines of both sides where both changed the same lines, as git's `union` driver does.
///
/// # Errors
/// [`ConflictKind::Binary`], [`ConflictKind::Large`], [`ConflictKind::EnginesDisagree`].
pub(super) fn merge_union(sides: Sides<'_>) -> Result<Merged, ConflictKind> {
    check_mergeable(sides)?;
    let (content, is_clean) = run_libgit2(sides, FileFavor::Union).map_err(|_| ConflictKind::EnginesDisagree)?;
    if !is_clean {
        return Err(ConflictKind::EnginesDisagree);
    }
    let (ours, theirs): (HashSet<&[u8]>, HashSet<&[u8]>) =
        (split_lines(sides.ours).into_iter().collect(), split_lines(sides.theirs).into_iter().collect());
    let is_own = |line: &[u8]| ours.contains(line) && !theirs.contains(line);
    let own_lines =
        split_lines(&content).iter().enumerate().filter(|(_, line)| is_own(line)).map(|(at, _)| at..at + 1).collect();
    Ok(Merged { content, own_lines })
}

/// Merges into a working-tree file that only adds whole lines to the base, if their positions are unambiguous. Where the
/// accepted side changes lines, the added lines stay before and after them. Returns `None` if the sides cannot be merged
/// this way.
#[must_use]
pub(super) fn merge_around_insertions(sides: Sides<'_>) -> Option<Merged> {
    check_mergeable(sides).ok()?;
    let [base, ours, theirs] = [sides.base, sides.ours, sides.theirs].map(split_lines);
    let positions = find_unique_placement(&base, &ours)?;
    // Returns the lines that the working tree adds before a line of the base, or at the end.
    let added = |at: usize| {
        let from = at.checked_sub(1).map_or(0, |before| positions[before] + 1);
        &ours[from..positions.get(at).copied().unwrap_or(ours.len())]
    };
    let (mut content, mut own_lines, mut at) = (Vec::new(), Vec::new(), 0);
    let mut append_lines = |lines: &[&[u8]], is_own: bool| {
        if is_own && !lines.is_empty() {
            own_lines.push(at..at + lines.len());
        }
        at += lines.len();
        content.extend(lines.concat());
    };
    for op in similar::capture_diff_slices(Algorithm::Histogram, &base, &theirs) {
        let (tag, old, new) = op.as_tag_tuple();
        let is_inside = |at: usize| at > old.start && !added(at).is_empty();
        match tag {
            DiffTag::Equal => {
                for line in old {
                    append_lines(added(line), true);
                    append_lines(&base[line..=line], false);
                }
            }
            DiffTag::Replace if old.len() == new.len() => {
                for (line, new) in old.zip(new) {
                    append_lines(added(line), true);
                    append_lines(&theirs[new..=new], false);
                }
            }
            DiffTag::Replace if !old.clone().any(is_inside) => {
                append_lines(added(old.start), true);
                append_lines(&theirs[new], false);
            }
            DiffTag::Insert if added(old.start).is_empty() => append_lines(&theirs[new], false),
            // It is unknown whether lines that were added next to deleted lines belong to them.
            DiffTag::Delete if (old.start..=old.end).all(|line| added(line).is_empty()) => {}
            _ => return None,
        }
    }
    append_lines(added(base.len()), true);
    Some(Merged { content, own_lines })
}

/// Finds the position in `ours` of each line of `base`, if all lines exist in order and in exactly one way.
fn find_unique_placement(base: &[&[u8]], ours: &[&[u8]]) -> Option<Vec<usize>> {
    let mut next = 0;
    let mut first = Vec::with_capacity(base.len());
    for line in base {
        let at = next + ours[next..].iter().position(|other| other == line)?;
        first.push(at);
        next = at + 1;
    }
    let mut end = ours.len();
    for (line, at) in base.iter().zip(&first).rev() {
        end = ours[..end].iter().rposition(|other| other == line)?;
        if end != *at {
            return None;
        }
    }
    Some(first)
}

/// The label of the working tree's side in conflict markers.
const OURS_LABEL: &str = "ours";

/// Returns a marker length that no line of any side has, so that the conflict markers are distinguishable from the content.
fn marker_size(sides: Sides<'_>) -> Option<u16> {
    let run_length = |line: &[u8]| {
        let first = line.first().copied().filter(|b| b"<|=>".contains(b));
        first.map_or(0, |first| line.iter().take_while(|b| **b == first).count())
    };
    let all = [sides.base, sides.ours, sides.theirs];
    let longest = all.iter().flat_map(|side| split_lines(side)).map(run_length).max().unwrap_or(0);
    u16::try_from(longest + 1).ok().map(|size| size.max(7))
}

/// Returns a line that no side has.
fn unused_line(sides: Sides<'_>) -> String {
    let all = [sides.base, sides.ours, sides.theirs];
    let is_used = |line: &String| all.iter().any(|side| memchr::memmem::find(side, line.as_bytes()).is_some());
    // No side can have the hash of itself, so that the first attempt succeeds.
    let hash: String = all.iter().map(|side| ContentHash::from_content(side).to_string()).collect();
    (0_usize..).map(|n| format!("first line {n} {hash}\n")).find(|line| !is_used(line)).unwrap_or_default()
}

fn check_mergeable(sides: Sides<'_>) -> Result<(), ConflictKind> {
    let all = [sides.base, sides.ours, sides.theirs];
    if !all.iter().all(|side| is_line_based(side)) {
        return Err(ConflictKind::Binary);
    }
    let [base, ours, theirs] = all.map(split_lines);
    if !is_comparable(&base, &ours) || !is_comparable(&base, &theirs) {
        return Err(ConflictKind::Large);
    }
    Ok(())
}

/// Merges as `git merge-file` does. Without `marked`, a conflict is `None`.
fn merge_with_libgit2(sides: Sides<'_>, marked: bool) -> Result<Option<Vec<u8>>, git2::Error> {
    let (content, is_clean) = run_libgit2(sides, FileFavor::Normal)?;
    Ok((marked || is_clean).then_some(content))
}

/// Runs libgit2's merge. Returns the content, with markers at conflicts, and whether it has no conflicts.
fn run_libgit2(sides: Sides<'_>, favor: FileFavor) -> Result<(Vec<u8>, bool), git2::Error> {
    // libgit2 is initialized by only some calls, and merging is not among them.
    Oid::hash_object(git2::ObjectType::Blob, b"")?;
    // `git2` reads an empty result through a null pointer, so all sides get the same first line.
    let first_line = unused_line(sides);
    let contents = [sides.base, sides.ours, sides.theirs].map(|content| [first_line.as_bytes(), content].concat());
    let [base, ours, theirs] = contents.each_ref().map(|content| {
        let mut input = MergeFileInput::new();
        input.content(content);
        input
    });
    let mut options = MergeFileOptions::new();
    options.favor(favor);
    options
        .style_zdiff3(true)
        .ancestor_label("base")
        .our_label(OURS_LABEL)
        .their_label("theirs")
        // A longer marker does not exist. `merge_with_markers` refuses such files.
        .marker_size(marker_size(sides).unwrap_or(u16::MAX));
    let merged = git2::merge_file(&base, &ours, &theirs, Some(&mut options))?;
    let content = merged.content().strip_prefix(first_line.as_bytes());
    let content = content.ok_or_else(|| git2::Error::from_str("the merge has another first line"))?;
    Ok((content.to_vec(), merged.is_automergeable()))
}

fn merge_with_similar(sides: Sides<'_>, algorithm: Algorithm) -> (Vec<u8>, Vec<Range<usize>>, Vec<ConflictHunk>) {
    let mut config = TextMergeConfig::new();
    config.algorithm(algorithm);
    let [base, ours, theirs] = [sides.base, sides.ours, sides.theirs].map(split_lines);
    let merged = config.merge_lines(sides.base, sides.ours, sides.theirs);
    let (mut content, mut own_lines, mut hunks) = (Vec::new(), Vec::new(), Vec::new());
    let mut at = 0;
    // `similar` also splits lines at lone carriage returns, so its line numbers would differ.
    if (merged.base_len(), merged.ours_len(), merged.theirs_len()) != (base.len(), ours.len(), theirs.len()) {
        hunks.push(ConflictHunk { base: 0..base.len(), ours: 0..ours.len(), theirs: 0..theirs.len() });
        return (content, own_lines, hunks);
    }
    for region in merged.regions() {
        let from: &[&[u8]] = match region.resolution() {
            MergeResolution::Theirs => &theirs[region.theirs_range()],
            MergeResolution::Conflict => {
                hunks.push(ConflictHunk {
                    base: region.base_range(),
                    ours: region.ours_range(),
                    theirs: region.theirs_range(),
                });
                continue;
            }
            _ => &ours[region.ours_range()],
        };
        if region.resolution() == MergeResolution::Ours {
            own_lines.push(at..at + from.len());
        }
        at += from.len();
        content.extend(from.concat());
    }
    (content, own_lines, hunks)
}

#[cfg(test)]
mod tests {
    use super::{Sides, merge_around_insertions, merge_content};

    #[test]
    fn result_without_lines_is_a_result() {
        let merge = |base: &str, ours: &str, theirs: &str| {
            merge_content(Sides { base: base.as_bytes(), ours: ours.as_bytes(), theirs: theirs.as_bytes() })
        };
        assert_eq!(
            merge("a\nb\nc\nd\ne\n", "d\ne\n", "").map(|merged| merged.content).ok(),
            None,
            "both deleted lines"
        );
        assert_eq!(merge("a\n", "", "").map(|merged| merged.content).ok(), Some(Vec::new()));
        assert_eq!(merge("first line 0\n", "", "first line 0\n").map(|merged| merged.content).ok(), Some(Vec::new()));
    }

    #[test]
    fn stripped_lines_keep_their_position() {
        let merge = |base: &str, ours: &str, theirs: &str| {
            let lines = |text: &str| text.split_whitespace().map(|line| format!("{line}\n")).collect::<String>();
            let [base, ours, theirs] = [base, ours, theirs].map(lines);
            let sides = Sides { base: base.as_bytes(), ours: ours.as_bytes(), theirs: theirs.as_bytes() };
            let result = merge_around_insertions(sides)?;
            Some(String::from_utf8(result.content).expect("UTF-8").replace('\n', " ").trim_end().to_owned())
        };
        for (base, ours, theirs, expected) in [
            ("in end", "O1 in O2 end", "IN end", Some("O1 IN O2 end")),
            ("a b end", "a O b O end", "A B end", Some("A O B O end")),
            ("a b end", "a b O end", "A A2 B end", Some("A A2 B O end")),
            ("a b end", "a O b end", "X end", None),
            ("a b end", "a b end O", "a end", Some("a end O")),
            ("a b end", "a O b end", "a end", None),
            ("a end", "a O end", "a x end", None),
            ("a end", "O a end", "a x end", Some("O a x end")),
            // The user changed a line, or the lines can be placed in two ways.
            ("a end", "b O end", "x end", None),
            ("a a end", "a a a end", "x a end", None),
        ] {
            assert_eq!(merge(base, ours, theirs).as_deref(), expected, "{base} | {ours} | {theirs}");
        }
    }
}
