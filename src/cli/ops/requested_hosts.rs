//! The hosts that a repository requests in its committed `.airlock.toml`. The user is asked once for each request; the
//! answer is bound to the repository and to the hash of the request.

use std::collections::BTreeMap;
use std::path::PathBuf;

use etcetera::BaseStrategy as _;
use sha2::{Digest as _, Sha256};

use super::policy::read_repository_settings;
use crate::base::repository_id;
use crate::cli::confirm::ask_yes_no;
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::core::atomic_file::write_atomic;
use crate::core::hex::to_hex;
use crate::gateway::HostPattern;
use crate::git::HostRepo;
use crate::terminal;

const FILE_NAME: &str = "repository-requests.json";

/// Returns the requested hosts if the user allows them. Without a terminal nothing is asked, and a request that was not
/// answered before is not granted.
///
/// # Errors
/// The file is invalid, or the answer cannot be saved.
pub(crate) fn find_requested_hosts(
    host: &HostRepo,
    commit: &str,
    output: Output,
) -> Result<Vec<HostPattern>, CliError> {
    let Some((settings, _)) = read_repository_settings(host, commit)? else { return Ok(Vec::new()) };
    if settings.allow.0.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<String> = settings.allow.0.iter().map(ToString::to_string).collect();
    let repository = repository_id(&host.common_dir).map_err(crate::sandbox::SandboxError::from)?;
    let key = to_hex(&Sha256::digest(format!("{repository}\0{}", names.join("\0"))));
    let mut answers = load_answers();
    let answer = match answers.get(&key) {
        Some(answer) => {
            if !answer {
                output.print_status(&format!(
                    "you declined that this repository reaches {}; `--allow` allows it",
                    names.join(", ")
                ));
            }
            *answer
        }
        None if terminal::is_interactive() => {
            let question = format!("This repository asks to reach {} from its sandboxes. Allow?", names.join(", "));
            let answer = ask_yes_no(&question, false)?;
            answers.insert(key, answer);
            save_answers(&answers)?;
            answer
        }
        None => {
            output.print_status(&format!(
                "this repository asks to reach {}; to allow it, use `--allow`",
                names.join(", ")
            ));
            false
        }
    };
    Ok(if answer { settings.allow.0 } else { Vec::new() })
}

fn state_dir() -> Option<PathBuf> {
    Some(etcetera::choose_base_strategy().ok()?.state_dir()?.join("airlock"))
}

fn load_answers() -> BTreeMap<String, bool> {
    let bytes = state_dir().and_then(|dir| std::fs::read(dir.join(FILE_NAME)).ok()).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

fn save_answers(answers: &BTreeMap<String, bool>) -> Result<(), CliError> {
    let Some(dir) = state_dir() else { return Ok(()) };
    std::fs::create_dir_all(&dir)?;
    let bytes = serde_json::to_vec_pretty(answers).map_err(std::io::Error::other)?;
    Ok(write_atomic(&dir, FILE_NAME, &bytes)?)
}
