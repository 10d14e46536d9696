//! Finds lines that were removed in one place and added in another.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::changes::UnitKind;
use crate::review::{FileText, ReviewModel};

/// Minimum number of letters and digits of a moved line. Shorter lines, such as a brace or `else`, occur everywhere.
const MIN_LETTERS: usize = 10;

/// Returns the hashes of lines that are both removed and added somewhere in a changeset, ignoring blanks at both ends.
#[must_use]
pub(super) fn moved_lines(model: &ReviewModel<'_>) -> HashSet<u64> {
    let (mut removed, mut added) = (HashSet::new(), HashSet::new());
    for file in &model.files {
        // A file that cannot be read shows its error when it is opened.
        let Ok(text) = FileText::read(model, file) else { continue };
        for unit in &file.units {
            let UnitKind::Hunk { old, new } = &unit.kind else { continue };
            removed.extend(old.clone().filter_map(|line| hash_line(text.old.get(line))));
            added.extend(new.clone().filter_map(|line| hash_line(text.new.get(line))));
        }
    }
    removed.intersection(&added).copied().collect()
}

/// Returns the hash of a line for [`moved_lines`], or `None` if the line is too short.
#[must_use]
pub(super) fn hash_line(line: &[u8]) -> Option<u64> {
    let line = line.trim_ascii();
    if line.iter().filter(|b| b.is_ascii_alphanumeric() || **b >= 0x80).count() < MIN_LETTERS {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    line.hash(&mut hasher);
    Some(hasher.finish())
}
