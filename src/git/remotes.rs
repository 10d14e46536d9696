//! The addresses from which a repository fetches: its remotes, and the submodules of HEAD.

use std::process::{Command, Stdio};

use url::Url;

use super::repo::HostRepo;

/// The addresses of a repository, as URLs of git's smart HTTP protocol.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FetchUrls {
    /// From the user's own configuration.
    pub remotes: Vec<Url>,
    /// From `.gitmodules` as committed at HEAD.
    pub submodules: Vec<Url>,
}

impl HostRepo {
    /// Lists the addresses. A remote with another protocol than HTTP and SSH has none.
    #[must_use]
    pub fn list_fetch_urls(&self) -> FetchUrls {
        let repository = self.repository();
        let names = repository.remotes().ok();
        let names = names.iter().flat_map(|names| names.iter()).flatten().flatten();
        let urls = names.filter_map(|name| repository.find_remote(name).ok()?.url().ok().map(str::to_owned));
        let remotes = urls.filter_map(|url| to_http_url(&url)).collect();
        let modules = || {
            let tree = repository.head().ok()?.peel_to_tree().ok()?;
            let entry = tree.get_path(std::path::Path::new(".gitmodules")).ok()?;
            let blob = repository.find_blob(entry.id()).ok()?;
            Some(String::from_utf8_lossy(blob.content()).into_owned())
        };
        let text = modules().unwrap_or_default();
        let values = text.lines().filter_map(|line| line.trim().strip_prefix("url")?.trim_start().strip_prefix('='));
        FetchUrls { remotes, submodules: values.filter_map(|value| to_http_url(value.trim())).collect() }
    }
}

/// Converts an address of git to the URL of the same repository over HTTP.
fn to_http_url(address: &str) -> Option<Url> {
    let scp = address
        .split_once(':')
        .filter(|(host, path)| !host.contains('/') && !path.starts_with("//") && !host.is_empty());
    let text = match scp {
        Some((host, path)) if !path.starts_with(':') => {
            let host = host.rsplit('@').next()?;
            format!("https://{host}/{}", path.trim_start_matches('/'))
        }
        _ => address.to_owned(),
    };
    let mut url = Url::parse(&text).ok()?;
    let host = url.host_str()?.to_owned();
    if matches!(url.scheme(), "ssh" | "git+ssh" | "git") {
        // The port is one of another protocol.
        url = Url::parse(&format!("https://{host}{}", url.path())).ok()?;
    }
    if !matches!(url.scheme(), "https" | "http") || url.path().len() < 2 {
        return None;
    }
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    url.set_query(None);
    url.set_fragment(None);
    Some(url)
}

/// Asks git for the user name and password of a repository, without a prompt. The helpers are those of the user's own
/// configuration, not of any repository.
#[must_use]
pub(crate) fn find_git_credential(url: &Url) -> Option<(String, String)> {
    use std::io::Write as _;
    let mut child = Command::new("git")
        .args(["credential", "fill"])
        .current_dir("/")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ASKPASS", "true")
        .env("SSH_ASKPASS", "true")
        .env_remove("GIT_DIR")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    child.stdin.take()?.write_all(format!("url={url}\n\n").as_bytes()).ok()?;
    let output = child.wait_with_output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let field =
        |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned);
    let (user, password) = (field("username")?, field("password")?);
    (output.status.success() && !password.is_empty()).then_some((user, password))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_git_become_http_urls() {
        for (address, url) in [
            ("https://git.example/a/b.git", "https://git.example/a/b.git"),
            ("https://user:pw@git.example:8443/a", "https://git.example:8443/a"),
            ("git@git.example:a/b.git", "https://git.example/a/b.git"),
            ("git.example:/a/b", "https://git.example/a/b"),
            ("ssh://git@git.example:2222/a/b", "https://git.example/a/b"),
            ("git://git.example/a", "https://git.example/a"),
            ("http://127.0.0.1:8080/a", "http://127.0.0.1:8080/a"),
        ] {
            assert_eq!(to_http_url(address).map(String::from).as_deref(), Some(url), "{address}");
        }
        for address in
            ["", "../other", "/srv/git/x", "file:///srv/x", "ext::sh -c x", "https://git.example/", "-u x", "host:"]
        {
            assert_eq!(to_http_url(address), None, "{address}");
        }
    }
}
