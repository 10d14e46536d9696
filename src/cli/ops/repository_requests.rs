//! What a repository requests in its committed files: hosts in `.airlock.toml`, registries in the configuration of its
//! package clients. The user is asked once for each request; the answer is bound to the repository and to the hash of the
//! request.

use std::collections::BTreeMap;
use std::path::PathBuf;

use etcetera::BaseStrategy as _;
use sha2::{Digest as _, Sha256};
use url::Url;

use super::policy::{read_committed_file, read_repository_settings};
use crate::base::repository_id;
use crate::cli::confirm::ask_yes_no;
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::core::atomic_file::write_atomic;
use crate::core::hex::to_hex;
use crate::gateway::{HostLists, HostName, HostPattern, PackageUpstreams};
use crate::git::HostRepo;
use crate::registries::{REPOSITORY_FILES, RepositoryRegistries};
use crate::terminal;

const FILE_NAME: &str = "repository-requests.json";

/// What a repository requests.
#[derive(Default)]
pub(crate) struct RepositoryRequests {
    /// The identifier of the repository.
    repository: String,
    pub hosts: Vec<HostPattern>,
    pub registries: RepositoryRegistries,
}

impl RepositoryRequests {
    /// Reads the files of a commit. The agent can edit the files in its workspace.
    ///
    /// # Errors
    /// `.airlock.toml` is invalid, or git fails.
    pub(crate) fn read_commit(host: &HostRepo, commit: &str) -> Result<Self, CliError> {
        let settings = read_repository_settings(host, commit)?.map(|(settings, _)| settings).unwrap_or_default();
        let mut files = BTreeMap::new();
        for path in REPOSITORY_FILES {
            files.extend(read_committed_file(host, commit, path)?.map(|text| (path, text)));
        }
        Ok(Self {
            repository: repository_id(&host.common_dir).map_err(crate::sandbox::SandboxError::from)?,
            hosts: settings.allow.0,
            registries: RepositoryRegistries::read_files(|path| files.get(path).cloned()),
        })
    }

    /// Returns the requests that the user allows. Registries on hosts that sandboxes reach anyway need no answer. Without
    /// a terminal nothing is asked, and a request that was not answered before is not granted.
    ///
    /// # Errors
    /// The answer cannot be saved.
    pub(crate) fn ask_user(
        self,
        upstreams: &PackageUpstreams,
        lists: &HostLists,
        output: Output,
    ) -> Result<(Vec<HostPattern>, RepositoryRegistries), CliError> {
        let place = |url: &Url| (url.host_str().map(str::to_owned), url.port_or_known_default());
        let known: Vec<_> = upstreams.list_urls().iter().chain(&upstreams.npm_aliases).map(place).collect();
        let is_known = |url: &Url| {
            let host = url.host_str().and_then(|host| HostName::parse(host).ok());
            let port = url.port_or_known_default().unwrap_or_default();
            known.contains(&place(url))
                || host.is_some_and(|host| lists.allow.iter().any(|pattern| pattern.matches_host(&host, port)))
        };
        let (mut known_registries, mut others) = (self.registries.clone(), self.registries);
        known_registries.retain_urls(is_known);
        others.retain_urls(|url| !is_known(url));
        let registries = others.list_urls().into_iter().map(|(client, url)| format!("{url} ({client})"));
        let names: Vec<String> = self.hosts.iter().map(ToString::to_string).chain(registries).collect();
        if names.is_empty() || is_granted(&self.repository, &names, output)? {
            known_registries.extend(others);
            return Ok((self.hosts, known_registries));
        }
        Ok((Vec::new(), known_registries))
    }
}

/// Returns the user's answer about a request, and asks if there is none.
fn is_granted(repository: &str, names: &[String], output: Output) -> Result<bool, CliError> {
    let key = to_hex(&Sha256::digest(format!("{repository}\0{}", names.join("\0"))));
    let list = names.join(", ");
    let mut answers = load_answers();
    match answers.get(&key) {
        Some(true) => Ok(true),
        Some(false) => {
            output.print_status(&format!("you declined that this repository reaches {list}; `--allow` allows it"));
            Ok(false)
        }
        None if terminal::is_interactive() => {
            let question = format!("This repository asks to reach {list} from its sandboxes. Allow?");
            let answer = ask_yes_no(&question, false)?;
            answers.insert(key, answer);
            save_answers(&answers)?;
            Ok(answer)
        }
        None => {
            output.print_status(&format!("this repository asks to reach {list}; to allow it, use `--allow`"));
            Ok(false)
        }
    }
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
