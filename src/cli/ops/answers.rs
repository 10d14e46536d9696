//! The user's answers about what repositories request. Each is bound to the repository and to the hash of the request.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use crate::base::repository_id;
use crate::cli::error::CliError;
use crate::core::atomic_file::write_atomic;
use crate::core::hex::to_hex;
use crate::core::state_dir::state_dir;
use crate::git::HostRepo;

const FILE_NAME: &str = "repository-requests.json";

/// A request of a repository.
pub(crate) struct Request(String);

impl Request {
    /// Creates a request from its kind and all that the answer is about.
    ///
    /// # Errors
    /// The repository cannot be identified.
    pub(crate) fn new(host: &HostRepo, kind: &str, parts: &[String]) -> Result<Self, CliError> {
        let repository = repository_id(&host.common_dir).map_err(crate::sandbox::SandboxError::from)?;
        let mut hash = Sha256::new();
        // With their lengths, no parts of one request are those of another.
        for part in [repository.as_str(), kind].into_iter().chain(parts.iter().map(String::as_str)) {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Ok(Self(to_hex(&hash.finalize())))
    }

    /// Returns an earlier answer.
    pub(crate) fn find_answer(&self) -> Option<bool> {
        load_answers().get(&self.0).copied()
    }

    /// Saves the answer of the user.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn save_answer(&self, answer: bool) -> Result<(), CliError> {
        let Some(dir) = state_dir() else { return Ok(()) };
        let mut answers = load_answers();
        answers.insert(self.0.clone(), answer);
        std::fs::create_dir_all(&dir)?;
        let bytes = serde_json::to_vec_pretty(&answers).map_err(std::io::Error::other)?;
        Ok(write_atomic(&dir, FILE_NAME, &bytes)?)
    }
}

fn load_answers() -> BTreeMap<String, bool> {
    let bytes = state_dir().and_then(|dir| std::fs::read(dir.join(FILE_NAME)).ok()).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}
