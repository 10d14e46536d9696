//! Keeps the units of a large changeset beside it, so that the next command does not compare every file again.
//!
//! The file is only a copy of what [`split_units`](crate::changes::split_units) returned. Applying splits the contents again, and
//! knows a unit only by the hash of its bytes.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::changes::{Changeset, Unit};
use crate::core::atomic_file::replace_unsynced;
use crate::core::hex::to_hex;

/// A part of every key. Raise it when the same contents are split into other units, or when [`FileUnits`] changes.
const UNITS_FORMAT: &str = "airlock-units-1";
/// Length of a SHA-256 in hexadecimal.
const HASH_LENGTH: usize = 64;

/// The units of a file, and what is found with them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileUnits {
    pub units: Vec<Unit>,
    pub target: Option<Vec<u8>>,
    pub line_counts: (usize, usize),
    pub similarity: Option<u64>,
    pub is_collapsed: bool,
}

/// Computes a key for the units of a changeset. The ID says everything about it except which renames are joined.
pub(super) fn cache_key(changes: &Changeset) -> String {
    let mut key = Sha256::new();
    for part in [UNITS_FORMAT, env!("CARGO_PKG_VERSION"), &changes.id] {
        key.update(part);
        key.update(b"\0");
    }
    for renamed in changes.files.iter().filter(|change| change.is_rename()) {
        key.update(renamed.path.as_bytes());
        key.update(b"\0");
    }
    to_hex(&key.finalize())
}

/// Reads the units of `files` files that were kept under a key. Whatever is wrong with the file, they are found again.
pub(super) fn read_units(path: &Path, key: &str, files: usize) -> Option<Vec<FileUnits>> {
    let kept = fs::read(path).ok()?;
    let body = kept.strip_prefix(key.as_bytes())?;
    let (checksum, body) = body.split_at_checked(HASH_LENGTH)?;
    if to_hex(&Sha256::digest(body)).as_bytes() != checksum {
        return None;
    }
    serde_json::from_slice::<Vec<FileUnits>>(body).ok().filter(|units| units.len() == files)
}

/// Keeps units under a key, in place of all others.
pub(super) fn write_units(path: &Path, key: &str, units: &[FileUnits]) -> io::Result<()> {
    let body = serde_json::to_vec(units)?;
    let checksum = to_hex(&Sha256::digest(&body));
    replace_unsynced(path, &[key.as_bytes(), checksum.as_bytes(), &body].concat())
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;
    use crate::changes::UnitKind;

    fn kept_units() -> Vec<FileUnits> {
        let unit = |kind| Unit { id: "a".repeat(HASH_LENGTH), kind };
        let hunk = |old: Range<usize>, new| UnitKind::Hunk { old, new };
        vec![
            FileUnits {
                units: vec![unit(hunk(0..1, 0..2)), unit(UnitKind::Mode(true)), unit(UnitKind::Rename)],
                target: None,
                line_counts: (2, 1),
                similarity: Some(70),
                is_collapsed: true,
            },
            FileUnits {
                units: vec![unit(UnitKind::Whole)],
                target: Some(b"\xff/x".to_vec()),
                line_counts: (0, 0),
                similarity: None,
                is_collapsed: false,
            },
        ]
    }

    #[test]
    fn only_undamaged_units_of_the_same_key_are_read() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("units.json");
        let (key, other) = ("1".repeat(HASH_LENGTH), "2".repeat(HASH_LENGTH));
        assert_eq!(read_units(&path, &key, 2), None, "no file");
        write_units(&path, &key, &kept_units()).expect("written");
        assert_eq!(read_units(&path, &key, 2), Some(kept_units()));
        assert_eq!(read_units(&path, &other, 2), None, "another changeset");
        assert_eq!(read_units(&path, &key, 3), None, "another number of files");
        let whole = fs::read(&path).expect("read");
        for length in 0..whole.len() {
            replace_unsynced(&path, &whole[..length]).expect("written");
            assert_eq!(read_units(&path, &key, 2), None, "cut off at {length}");
        }
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            replace_unsynced(&path, &damaged).expect("written");
            assert_eq!(read_units(&path, &key, 2), None, "a bit flipped at {at}");
        }
    }
}
