//! What a repository requests in its committed files: hosts in `.airlock.toml`, registries in the configuration of its
//! package clients. The user is asked once for each request; the answer is bound to the repository and to the hash of the
//! request.

use std::collections::BTreeMap;

use url::Url;

use super::answers::Request;
use super::policy::{read_committed_file, read_repository_settings};
use crate::cli::confirm::ask_yes_no;
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::gateway::{HostLists, HostName, HostPattern, PackageUpstreams, is_path_below};
use crate::git::HostRepo;
use crate::registries::{REPOSITORY_FILES, RepositoryRegistries};
use crate::terminal;

/// The hosts and registries that a repository requests.
#[derive(Default)]
pub(crate) struct RepositoryRequests {
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
        host: &HostRepo,
        upstreams: &PackageUpstreams,
        lists: &HostLists,
        output: Output,
    ) -> Result<(Vec<HostPattern>, RepositoryRegistries), CliError> {
        let place = |url: &Url| (url.host_str().map(str::to_owned), url.port_or_known_default());
        let urls = upstreams.list_urls();
        let known = |url: &Url| {
            let mut all = urls.iter().chain(&upstreams.npm_aliases);
            all.any(|own| {
                own.scheme() == url.scheme() && place(own) == place(url) && is_path_below(url.path(), own.path())
            })
        };
        let is_known = |url: &Url| {
            let host = url.host_str().and_then(|host| HostName::parse(host).ok());
            let port = url.port_or_known_default().unwrap_or_default();
            known(url) || host.is_some_and(|host| lists.allow.iter().any(|pattern| pattern.matches_host(&host, port)))
        };
        let (mut known_registries, mut others) = (self.registries.clone(), self.registries);
        known_registries.retain_urls(is_known);
        others.retain_urls(|url| !is_known(url));
        let registries = others.list_urls().into_iter().map(|(client, url)| format!("{url} ({client})"));
        let names: Vec<String> = self.hosts.iter().map(ToString::to_string).chain(registries).collect();
        if names.is_empty() || is_granted(&Request::new(host, "network", &names)?, &names, output)? {
            known_registries.extend_with(others);
            return Ok((self.hosts, known_registries));
        }
        Ok((Vec::new(), known_registries))
    }
}

/// Returns the user's answer about a request, and asks if there is none.
fn is_granted(request: &Request, names: &[String], output: Output) -> Result<bool, CliError> {
    let list = names.join(", ");
    match request.find_answer() {
        Some(true) => Ok(true),
        Some(false) => {
            output.print_status(&format!("you declined that this repository reaches {list}; `--allow` allows it"));
            Ok(false)
        }
        None if terminal::is_interactive() => {
            let question = format!("This repository asks to reach {list} from its sandboxes. Allow?");
            let answer = ask_yes_no(&question, false)?;
            request.save_answer(answer)?;
            Ok(answer)
        }
        None => {
            output.print_status(&format!("this repository asks to reach {list}; to allow it, use `--allow`"));
            Ok(false)
        }
    }
}
