//! Lines that were taken away in one place and stand in another.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::changes::UnitKind;
use crate::review::{FileText, ReviewModel};

/// Letters and digits below which a line is found everywhere: a brace, an `else`.
const FEWEST: usize = 10;

/// Returns the hashes of lines that are removed as well as added, blanks at both ends aside, anywhere in a changeset.
#[must_use]
pub fn moved_lines(sheet: &ReviewModel<'_>) -> HashSet<u64> {
    let (mut removed, mut added) = (HashSet::new(), HashSet::new());
    for file in &sheet.files {
        // What cannot be read is shown as such when it is opened.
        let Ok(text) = FileText::read(sheet, file) else { continue };
        for unit in &file.units {
            let UnitKind::Hunk { old, new } = &unit.kind else { continue };
            removed.extend(old.clone().filter_map(|line| key(text.old.get(line))));
            added.extend(new.clone().filter_map(|line| key(text.new.get(line))));
        }
    }
    removed.intersection(&added).copied().collect()
}

/// Returns what two lines have in common that are the same for [`moved_lines`]; nothing for one that says little.
#[must_use]
pub fn key(line: &[u8]) -> Option<u64> {
    let line = line.trim_ascii();
    if line.iter().filter(|b| b.is_ascii_alphanumeric() || **b >= 0x80).count() < FEWEST {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    line.hash(&mut hasher);
    Some(hasher.finish())
}
