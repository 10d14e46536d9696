//! Labels that identify the engine's objects, and the identity of the repository in them.

use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::store::Base;
use crate::core::hex::to_hex;
use crate::core::random::create_random_id;
use crate::engine::VolumeSpec;

/// The label whose value is a base's id.
pub const BASE_LABEL: &str = "dev.airlock.base";
/// The label whose value is the repository's id, see [`repository_id`].
pub const REPOSITORY_LABEL: &str = "dev.airlock.repo";

/// Computes the id of a repository for labels and records.
///
/// It is a hash of the path of the git directory and of a random number stored in it. Another repository at the same
/// path therefore has another id, and so does a copy.
pub fn repository_id(common_dir: &Path) -> io::Result<String> {
    let hash = Sha256::new()
        .chain_update(common_dir.as_os_str().as_bytes())
        .chain_update(read_or_create_identity(common_dir)?);
    Ok(to_hex(&hash.finalize()[..8]))
}

/// Reads the random number that identifies a repository, and creates it first if it does not exist.
pub(crate) fn read_or_create_identity(common_dir: &Path) -> io::Result<String> {
    let dir = common_dir.join("airlock");
    let path = dir.join("id");
    if !path.is_file() {
        DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        let id = create_random_id::<16>()?;
        let mut file = tempfile::NamedTempFile::new_in(&dir)?;
        file.write_all(id.as_bytes())?;
        file.as_file().sync_all()?;
        // Another process may have been first. Its number is used then.
        match file.persist_noclobber(&path) {
            Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => {}
            other => drop(other.map_err(|e| e.error)?),
        }
    }
    fs::read_to_string(path)
}

/// Returns the specifications of a base's volume and of its launcher volume.
#[must_use]
pub fn base_volumes(base: &Base) -> [VolumeSpec; 2] {
    let labels = [(BASE_LABEL, base.id.as_str()), (REPOSITORY_LABEL, base.repository.as_str())];
    let labels = labels.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    [&base.volume, &base.launcher].map(|name| VolumeSpec::new_plain(name, &labels))
}
