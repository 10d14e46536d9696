//! The package clients on the host and in the image: which registries they use, and with which credentials.
//!
//! *Invariant:* only files and variables of the user are read. No list of hosts is part of this program: what the user
//! did not configure is what the clients in the image report about themselves.

mod cargo;
mod clients;
mod defaults;
mod environment;
mod ini;
mod npm;
mod others;
mod python;
mod repository;

pub use clients::HostClients;
pub use defaults::ImageDefaults;
pub(crate) use defaults::PROBE_SCRIPT;
pub use environment::HostEnvironment;
use others::parse_sumdb;
pub use repository::{REPOSITORY_FILES, RepositoryRegistries};

use crate::gateway::{ConnectionSettings, HostPattern, PackageUpstreams, UpstreamOptions};

impl HostClients {
    /// Reads the configuration of the user. A file that is missing or damaged configures nothing: its client would say
    /// so on the host.
    #[must_use]
    pub fn load_clients(host: &HostEnvironment<'_>) -> Self {
        let mut clients = Self::default();
        npm::read_config(host, &mut clients);
        python::read_config(host, &mut clients);
        cargo::read_config(host, &mut clients);
        others::read_go(host, &mut clients);
        others::read_maven(host, &mut clients);
        others::read_rubygems(host, &mut clients);
        others::read_netrc(host, &mut clients);
        clients
    }

    /// Combines the configuration with the defaults of the clients in the image. A client that is not in the image has
    /// no route, except where the user's configuration names an upstream.
    #[must_use]
    pub fn with_defaults(
        self,
        defaults: &ImageDefaults,
        private_hosts: Vec<HostPattern>,
    ) -> (PackageUpstreams, UpstreamOptions) {
        let mut upstreams = self.upstreams;
        let others =
            self.extra_indexes.iter().chain(&self.uv_indexes).chain(&upstreams.uv).chain(&upstreams.npm_aliases);
        let others: Vec<_> = others.cloned().collect();
        let configured = upstreams.list_urls().into_iter().chain(others);
        let trusted =
            configured.filter_map(|url| Some((url.host_str()?.to_owned(), url.port_or_known_default()?))).collect();
        upstreams.npm = upstreams.npm.or_else(|| defaults.npm.clone());
        // yarn uses its own name for the default registry, but not for a mirror.
        if upstreams.npm == defaults.npm {
            upstreams.npm_aliases.extend(defaults.npm_aliases.clone());
        }
        if upstreams.pypi.is_empty() {
            upstreams.pypi.extend(defaults.pypi.clone());
        }
        if !upstreams.pypi.is_empty() {
            upstreams.pypi_extra = self.extra_indexes.len();
            upstreams.pypi.extend(self.extra_indexes);
            // Clients without the setting of pip go to these by their names.
            for url in upstreams.uv.iter().chain(&self.uv_indexes).chain(&defaults.pypi) {
                if !upstreams.pypi.contains(url) {
                    upstreams.pypi.push(url.clone());
                }
            }
        }
        if !upstreams.cargo.iter().any(|(name, _)| name == "crates-io") {
            upstreams.cargo.splice(0..0, defaults.cargo.clone().map(|url| ("crates-io".to_owned(), url)));
        }
        upstreams.go_proxy = upstreams.go_proxy.or_else(|| defaults.go_proxy.clone());
        let sumdb = self.go_sumdb.or_else(|| defaults.go_sumdb.clone());
        upstreams.go_sumdb = sumdb.as_deref().and_then(parse_sumdb);
        upstreams.maven = upstreams.maven.or_else(|| defaults.maven.clone());
        upstreams.rubygems = upstreams.rubygems.or_else(|| defaults.rubygems.clone());
        (
            upstreams,
            UpstreamOptions {
                credentials: self.credentials,
                trusted,
                private_hosts,
                connections: ConnectionSettings::default(),
            },
        )
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make files")]
mod tests {
    use super::*;

    #[test]
    fn upstreams_and_credentials_come_from_the_configuration_of_the_user() {
        let home = tempfile::tempdir().expect("a directory");
        let write = |path: &str, text: &str| {
            let path = home.path().join(path);
            std::fs::create_dir_all(path.parent().expect("it has one")).expect("made");
            std::fs::write(path, text).expect("written");
        };
        write(
            ".npmrc",
            "registry=https://npm.example/all/\n@corp:registry = https://corp.example/\n//corp.example/:_authToken=${TOKEN}\n//plain.example/:_authToken=x\n",
        );
        write(
            ".config/pip/pip.conf",
            "[global]\nindex-url = https://me:s%40crt@pypi.example/simple\nextra-index-url =\n  https://extra.example/simple\n",
        );
        write(
            ".cargo/config.toml",
            "[source.crates-io]\nreplace-with = 'mirror'\n[source.mirror]\nregistry = 'sparse+https://crates.example/index/'\n[registries.corp]\nindex = 'sparse+https://corp.example/crates/'\n",
        );
        write(".cargo/credentials.toml", "[registries.corp]\ntoken = 'crate-token'\n");
        write(".config/go/env", "GOPROXY=https://go.example|direct\nGOSUMDB=sum.example+abc\n");
        write(
            ".m2/settings.xml",
            "<settings xmlns='http://maven.apache.org/SETTINGS/1.2.0'><servers><server><id>m</id><username>u</username><password>p</password></server></servers><mirrors><mirror><id>m</id><url>https://maven.example/all</url><mirrorOf>*</mirrorOf></mirror></mirrors></settings>",
        );
        write(
            ".bundle/config",
            "---\nBUNDLE_MIRROR__ALL: \"https://gems.example/\"\nBUNDLE_GEMS__MY___CORP__EXAMPLE: \"g:h\"\nBUNDLE_JOBS: \"4\"\n",
        );
        write(".yarnrc.yml", "npmRegistryServer: \"https://yarn.example\"\nnpmAuthToken: \"${TOKEN}\"\n");
        write(
            ".config/uv/uv.toml",
            "[[index]]\nname = 'my-index'\nurl = 'https://uv.example/simple'\n[[index]]\nurl = 'https://ring@keyring.example/simple'\n",
        );
        write("bin/keyring", "#!/bin/sh\necho \"$2 for $3\"\n");
        let keyring = home.path().join("bin/keyring");
        std::fs::set_permissions(keyring, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
        write(".netrc", "machine files.example login a password b\ndefault login c password d\n");
        let path = home.path().join("bin").to_str().expect("UTF-8").to_owned();
        let env = |name: &str| match name {
            "TOKEN" => Some("npm-token".to_owned()),
            "PATH" => Some(path.clone()),
            "UV_INDEX_MY_INDEX_USERNAME" => Some("a".into()),
            "UV_INDEX_MY_INDEX_PASSWORD" => Some("b".into()),
            _ => None,
        };
        let clients = HostClients::load_clients(&HostEnvironment { env: &env, home: home.path().to_owned() });
        let (upstreams, options) = clients.with_defaults(&ImageDefaults::default(), Vec::new());
        let urls: Vec<String> = upstreams.list_urls().into_iter().map(String::from).collect();
        assert_eq!(
            urls,
            [
                "https://npm.example/all/",
                "https://corp.example/",
                "https://pypi.example/simple",
                "https://extra.example/simple",
                "https://uv.example/simple",
                "https://keyring.example/simple",
                "https://crates.example/index/",
                "https://corp.example/crates/",
                "https://go.example/",
                "https://sum.example/",
                "https://maven.example/all",
                "https://gems.example/",
            ]
        );
        let credentials: Vec<(&str, &str)> =
            options.credentials.iter().map(|c| (c.prefix.as_str(), c.value.to_str().expect("ASCII"))).collect();
        assert_eq!(
            credentials,
            [
                ("https://yarn.example/", "Bearer npm-token"),
                ("https://corp.example/", "Bearer npm-token"),
                ("https://plain.example/", "Bearer x"),
                ("https://pypi.example/", "Basic bWU6c0BjcnQ="),
                ("https://uv.example/", "Basic YTpi"),
                ("https://keyring.example/", "Basic cmluZzpodHRwczovL2tleXJpbmcuZXhhbXBsZS9zaW1wbGUgZm9yIHJpbmc="),
                ("https://corp.example/", "crate-token"),
                ("https://maven.example/all", "Basic dTpw"),
                ("https://gems.my-corp.example/", "Basic Zzpo"),
                ("https://files.example/", "Basic YTpi"),
            ]
        );
        assert!(
            options.trusted.contains(&("pypi.example".into(), 443))
                && !options.trusted.contains(&("files.example".into(), 443))
        );
        assert!(!format!("{options:?}").contains("token"));
    }

    #[test]
    fn clients_of_the_image_provide_the_defaults() {
        let home = tempfile::tempdir().expect("a directory");
        let env = |name: &str| (name == "PIP_INDEX_URL").then(|| "https://pypi.example/simple".to_owned());
        let load = || HostClients::load_clients(&HostEnvironment { env: &env, home: home.path().to_owned() });
        let (upstreams, options) = load().with_defaults(&ImageDefaults::default(), Vec::new());
        assert_eq!((upstreams.npm, upstreams.pypi.len(), options.trusted.len()), (None, 1, 1));
        let defaults =
            ImageDefaults::parse("npm https://npm.example/\npypi https://other.example/simple\ncargo default\n");
        let (upstreams, options) = load().with_defaults(&defaults, Vec::new());
        assert_eq!(upstreams.npm.map(String::from).as_deref(), Some("https://npm.example/"));
        // uv uses its own default, although pip has another index.
        assert_eq!((upstreams.pypi.len(), upstreams.cargo.len(), options.trusted.len()), (2, 1, 1));
    }
}
