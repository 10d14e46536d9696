//! The registries that the committed configuration of a repository's package clients names.
//!
//! *Invariant:* a repository names addresses only. Credentials in its files are not read, and whether its registries are
//! reached is for the user to say.

use url::Url;

use super::clients::parse_url;
use super::ini::parse_ini;
use crate::gateway::PackageUpstreams;

/// The files that are read, below the root of the repository.
pub const REPOSITORY_FILES: [&str; 6] =
    [".npmrc", ".yarnrc.yml", "pyproject.toml", "uv.toml", "requirements.txt", ".cargo/config.toml"];

/// The registries that a repository names, by client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepositoryRegistries {
    pub npm: Vec<Url>,
    pub pypi: Vec<Url>,
    /// Sparse indexes by name.
    pub cargo: Vec<(String, Url)>,
}

impl RepositoryRegistries {
    /// Reads the files of a repository. A damaged file names nothing: its client would say so.
    #[must_use]
    pub fn read_files(read: impl Fn(&str) -> Option<String>) -> Self {
        let mut found = Self::default();
        let [npmrc, yarnrc, pyproject, uv, requirements, cargo] =
            REPOSITORY_FILES.map(|path| read(path).unwrap_or_default());
        for (_, key, value) in parse_ini(&npmrc, false) {
            if key == "registry" || (key.starts_with('@') && key.ends_with(":registry")) {
                found.npm.extend(parse_url(&value));
            }
        }
        // Scopes have the same key one level deeper.
        for line in yarnrc.lines() {
            if let Some(value) = line.trim().strip_prefix("npmRegistryServer:") {
                found.npm.extend(parse_url(value.trim().trim_matches(['"', '\''])));
            }
        }
        let table = |text: &str| text.parse::<toml::Table>().unwrap_or_default();
        let pyproject = table(&pyproject);
        let tool = |name: &str| pyproject.get("tool")?.get(name)?.as_table().cloned();
        let uv = [table(&uv)].into_iter().chain(tool("uv"));
        found.pypi.extend(uv.flat_map(|uv| list_uv_indexes(&uv)));
        for name in ["poetry", "pdm"] {
            found.pypi.extend(tool(name).iter().flat_map(|tool| list_table_urls(tool, "source")));
        }
        for line in requirements.lines().map(str::trim) {
            let options = ["--index-url", "--extra-index-url", "-i"];
            let value = options.iter().find_map(|option| line.strip_prefix(option)?.strip_prefix(['=', ' ']));
            found.pypi.extend(value.and_then(|value| parse_url(value.split_ascii_whitespace().next()?)));
        }
        let cargo = table(&cargo);
        for (name, registry) in cargo.get("registries").and_then(toml::Value::as_table).into_iter().flatten() {
            let index = registry.get("index").and_then(toml::Value::as_str).and_then(super::cargo::parse_sparse);
            found.cargo.extend(index.filter(|_| super::cargo::is_name(name)).map(|url| (name.clone(), url)));
        }
        found
    }

    /// Keeps the registries for which `keep` returns true.
    pub fn retain_urls(&mut self, keep: impl Fn(&Url) -> bool) {
        self.npm.retain(&keep);
        self.pypi.retain(&keep);
        self.cargo.retain(|(_, url)| keep(url));
    }

    /// Adds the registries of another list.
    pub fn extend_with(&mut self, other: Self) {
        self.npm.extend(other.npm);
        self.pypi.extend(other.pypi);
        self.cargo.extend(other.cargo);
    }

    /// Lists the URLs with their clients' names.
    #[must_use]
    pub fn list_urls(&self) -> Vec<(&'static str, &Url)> {
        let npm = self.npm.iter().map(|url| ("npm", url));
        let cargo = self.cargo.iter().map(|(_, url)| ("cargo", url));
        npm.chain(self.pypi.iter().map(|url| ("pypi", url))).chain(cargo).collect()
    }

    /// Adds the registries to the upstreams. The routes serve them under their own names, which the repository's files
    /// have. A client that has no route gets none.
    pub fn add_to(self, upstreams: &mut PackageUpstreams) {
        if upstreams.npm.is_some() {
            upstreams.npm_aliases.extend(self.npm);
        }
        if !upstreams.pypi.is_empty() {
            for url in self.pypi {
                if !upstreams.pypi.contains(&url) {
                    upstreams.pypi.push(url);
                }
            }
        }
        for (name, url) in self.cargo {
            if !upstreams.cargo.iter().any(|(own, _)| *own == name) {
                upstreams.cargo.push((name, url));
            }
        }
    }
}

/// Lists the indexes in a configuration of uv.
fn list_uv_indexes(table: &toml::Table) -> Vec<Url> {
    let one = table.get("index-url").into_iter();
    let more = table.get("extra-index-url").and_then(toml::Value::as_array).into_iter().flatten();
    let plain = one.chain(more).filter_map(|value| parse_url(value.as_str()?));
    plain.chain(list_table_urls(table, "index")).collect()
}

/// Lists the `url` of each table in an array.
fn list_table_urls(table: &toml::Table, key: &str) -> Vec<Url> {
    let entries = table.get(key).and_then(toml::Value::as_array).into_iter().flatten();
    entries.filter_map(|entry| parse_url(entry.get("url")?.as_str()?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_of_committed_files_are_read_without_credentials() {
        let files = [
            (
                ".npmrc",
                "registry=https://npm.corp.example/\n@corp:registry=https://scope.example/npm/\n//npm.corp.example/:_authToken=secret\n",
            ),
            (
                ".yarnrc.yml",
                "npmRegistryServer: \"https://yarn.example\"\nnpmScopes:\n  corp:\n    npmRegistryServer: https://scope.example/yarn\n",
            ),
            (
                "pyproject.toml",
                "[[tool.uv.index]]\nname = 'a'\nurl = 'https://uv.example/simple'\n[[tool.poetry.source]]\nname = 'b'\nurl = 'https://poetry.example/simple/'\n[[tool.pdm.source]]\nurl = 'https://user:secret@pdm.example/simple'\n",
            ),
            ("uv.toml", "extra-index-url = ['https://extra.example/simple']\n"),
            (
                "requirements.txt",
                "--index-url https://pip.example/simple\n-i=https://short.example/simple\nnumpy --index\n",
            ),
            (
                ".cargo/config.toml",
                "[registries.corp]\nindex = 'sparse+https://crates.example/'\n[registries.git]\nindex = 'https://git.example/index'\n[registries.'a b']\nindex = 'sparse+https://x.example/'\n",
            ),
        ];
        let read = |path: &str| files.iter().find(|(own, _)| *own == path).map(|(_, text)| (*text).to_owned());
        let found = RepositoryRegistries::read_files(read);
        let urls: Vec<String> = found.list_urls().iter().map(|(client, url)| format!("{client} {url}")).collect();
        assert_eq!(
            urls,
            [
                "npm https://npm.corp.example/",
                "npm https://scope.example/npm/",
                "npm https://yarn.example/",
                "npm https://scope.example/yarn",
                "pypi https://extra.example/simple",
                "pypi https://uv.example/simple",
                "pypi https://poetry.example/simple/",
                "pypi https://pip.example/simple",
                "pypi https://short.example/simple",
                "cargo https://crates.example/",
            ]
        );
        let mut upstreams = PackageUpstreams::default();
        found.clone().add_to(&mut upstreams);
        assert!(upstreams.npm_aliases.is_empty() && upstreams.pypi.is_empty());
        upstreams.npm = parse_url("https://npm.example/");
        found.add_to(&mut upstreams);
        assert_eq!((upstreams.npm_aliases.len(), upstreams.cargo.len()), (4, 1));
    }
}
