//! The configuration of package clients in the agent's home: each points at its route of the gateway.
//!
//! *Invariant:* nothing is written to the workspace, and no file holds a credential.

use std::fmt::Write as _;

use super::request::NetworkRequest;
use crate::gateway::{GATEWAY_PORT, GitUpstreams, NetworkLevel};

/// The directory of certificates in the home.
const CERTIFICATES: &str = ".config/airlock";

/// An entry of the home, as arguments of the launcher.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct HomeFile {
    pub kind: &'static str,
    pub path: String,
    /// `None` for a directory.
    pub content: Option<String>,
}

/// Returns the environment variables by which clients find certificates and the proxy.
pub(super) fn client_variables(network: &NetworkRequest) -> Vec<String> {
    // Node.js uses the proxy of the environment only if this says so.
    let mut variables = vec!["NODE_USE_ENV_PROXY=1".to_owned()];
    if has_own_names(network) {
        let file = |name: &str| format!("/home/agent/{CERTIFICATES}/{name}");
        variables.push(format!("NODE_EXTRA_CA_CERTS={}", file("authority.pem")));
        variables
            .extend(["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"].map(|name| format!("{name}={}", file("certificates.pem"))));
    }
    variables
}

/// Returns whether clients reach registries under their own names, with a certificate of the sandbox's authority.
fn has_own_names(network: &NetworkRequest) -> bool {
    let upstreams = &network.gateway.packages;
    network.gateway.level >= NetworkLevel::Packages && (upstreams.npm.is_some() || !upstreams.pypi.is_empty())
}

/// Returns the entries of the home, parents first.
pub(super) fn client_files(network: &NetworkRequest, certificate: &str) -> Vec<HomeFile> {
    let mut files = HomeFiles(Vec::new());
    if network.gateway.level < NetworkLevel::Packages {
        return files.0;
    }
    let upstreams = &network.gateway.packages;
    let gateway = format!("http://127.0.0.1:{GATEWAY_PORT}");
    let route = |name: &str| format!("{gateway}/{name}");
    if has_own_names(network) {
        files.add_file("file", &format!("{CERTIFICATES}/authority.pem"), certificate.to_owned());
        files.add_file("certificates", &format!("{CERTIFICATES}/certificates.pem"), certificate.to_owned());
    }
    if let Some(registry) = &upstreams.npm {
        // npm, pnpm, yarn and bun read the same file. Most of them record the registry's address in lock files, so they
        // use its own name.
        let address = |registry: &url::Url| {
            if is_loopback(registry) { format!("{}/", route("npm")) } else { registry.to_string() }
        };
        let mut text = format!("registry={}\naudit=false\nfund=false\nupdate-notifier=false\n", address(registry));
        for (scope, registry) in &upstreams.npm_scopes {
            let _ = writeln!(text, "{scope}:registry={}", address(registry));
        }
        files.add_file("file", ".npmrc", text);
        let server = address(registry);
        let server = server.trim_end_matches('/');
        files.add_file("file", ".yarnrc.yml", format!("npmRegistryServer: \"{server}\"\nunsafeHttpWhitelist: [\"127.0.0.1\"]\nhttpProxy: \"{gateway}\"\nhttpsProxy: \"{gateway}\"\nenableTelemetry: false\n"));
    }
    if !upstreams.pypi.is_empty() {
        let index = |n: usize| format!("{}/{n}/simple/", route("pypi"));
        let extra: Vec<String> = (1..1 + upstreams.pypi_extra).map(index).collect();
        let mut text = format!("[global]\nindex-url = {}\ndisable-pip-version-check = true\n", index(0));
        if !extra.is_empty() {
            let _ = writeln!(text, "extra-index-url =\n  {}", extra.join("\n  "));
        }
        files.add_file("file", ".config/pip/pip.conf", text);
        // uv records the address in its lock file, so it gets the index's own name. Without a setting of the user, it uses
        // its default.
        if let Some(uv) = &upstreams.uv {
            let address = |url: &url::Url| if is_loopback(url) { index(0) } else { url.to_string() };
            files.add_file(
                "file",
                ".config/uv/uv.toml",
                format!("[[index]]\nurl = \"{}\"\ndefault = true\n", address(uv)),
            );
        }
    }
    if !upstreams.cargo.is_empty() {
        let mut text = String::from("[net]\ngit-fetch-with-cli = true\n");
        for (name, original) in &upstreams.cargo {
            let index = format!("sparse+{}/{name}/", route("cargo"));
            if name == "crates-io" {
                let _ = write!(
                    text,
                    "[source.crates-io]\nreplace-with = \"airlock\"\n[source.airlock]\nregistry = \"{index}\"\n"
                );
            } else {
                // Lock files have the original address.
                let _ = write!(
                    text,
                    "[registries.{name}]\nindex = \"sparse+{original}\"\n[source.{name}]\nregistry = \"sparse+{original}\"\nreplace-with = \"airlock-{name}\"\n[source.airlock-{name}]\nregistry = \"{index}\"\n"
                );
            }
        }
        files.add_file("file", ".cargo/config.toml", text);
    }
    if upstreams.go_proxy.is_some() {
        let sumdb = upstreams.go_sumdb.as_ref().map_or("off", |database| &database.setting);
        files.add_file(
            "file",
            ".config/go/env",
            format!("GOPROXY={}\nGOSUMDB={sumdb}\n{}", route("go"), upstreams.go_settings),
        );
    }
    if upstreams.maven.is_some() {
        let maven = route("maven");
        files.add_file("file", ".m2/settings.xml", format!("<settings><mirrors><mirror><id>airlock</id><url>{maven}/</url><mirrorOf>*</mirrorOf></mirror></mirrors></settings>\n"));
        files.add_file("file", ".gradle/init.gradle", gradle_script(&maven));
    }
    if upstreams.rubygems.is_some() {
        let gems = route("rubygems");
        files.add_file("file", ".bundle/config", format!("---\nBUNDLE_MIRROR__ALL: \"{gems}/\"\n"));
        files.add_file("file", ".gemrc", format!("---\n:sources:\n- {gems}/\n"));
    }
    files.add_file("file", ".gitconfig", git_config(&network.gateway.git, &route("git")));
    files.0
}

/// Returns whether a URL leads to loopback, which is another one in the sandbox: such a registry is known by its route.
fn is_loopback(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Sends every fetch over HTTPS to the route, which explains a refusal. Hosts can be allowed while the agent runs.
fn git_config(git: &GitUpstreams, route: &str) -> String {
    let mut text =
        format!("[url \"{route}/https/\"]\n\tinsteadOf = https://\n\tinsteadOf = ssh://git@\n\tinsteadOf = git://\n");
    for (host, port) in &git.hosts {
        if *port == 443 {
            let _ = writeln!(text, "[url \"{route}/https/{host}/\"]\n\tinsteadOf = git@{host}:");
        }
    }
    for (host, port) in &git.http_hosts {
        let authority = if *port == 80 { host.clone() } else { format!("{host}:{port}") };
        let _ = writeln!(text, "[url \"{route}/http/{authority}/\"]\n\tinsteadOf = http://{authority}/");
    }
    text
}

/// Replaces the repositories of a Gradle build, whatever it declares.
fn gradle_script(maven: &str) -> String {
    let repositories = format!(
        "all {{ repository -> if (repository instanceof org.gradle.api.artifacts.repositories.MavenArtifactRepository) {{ repository.url = '{maven}/'; repository.allowInsecureProtocol = true }} }}"
    );
    format!(
        "settingsEvaluated {{ settings -> settings.pluginManagement.repositories {{ maven {{ url = '{maven}/'; allowInsecureProtocol = true }} }} }}\n\
         allprojects {{ buildscript.repositories {{ {repositories} }}\n repositories {{ {repositories} }} }}\n"
    )
}

struct HomeFiles(Vec<HomeFile>);

impl HomeFiles {
    /// Adds a file and its missing parents.
    fn add_file(&mut self, kind: &'static str, path: &str, content: String) {
        for (at, _) in path.match_indices('/') {
            let dir = HomeFile { kind: "dir", path: path[..at].to_owned(), content: None };
            if !self.0.contains(&dir) {
                self.0.push(dir);
            }
        }
        self.0.push(HomeFile { kind, path: path.to_owned(), content: Some(content) });
    }
}
