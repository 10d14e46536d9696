//! The configuration of package clients in the agent's home: each points at its route of the gateway.
//!
//! *Invariant:* nothing is written to the workspace, and no file holds a credential.

use std::fmt::Write as _;

use super::request::NetworkRequest;
use crate::gateway::{GATEWAY_PORT, NetworkLevel};

/// Returns the entries as arguments of the launcher, parents first.
pub(super) fn client_files(network: &NetworkRequest) -> Vec<[String; 3]> {
    let mut files = HomeFiles(Vec::new());
    if network.gateway.level < NetworkLevel::Packages {
        return files.0;
    }
    let upstreams = &network.gateway.packages;
    let route = |name: &str| format!("http://127.0.0.1:{GATEWAY_PORT}/{name}");
    if upstreams.npm.is_some() {
        let npm = route("npm");
        let mut text = format!("registry={npm}/\naudit=false\nfund=false\nupdate-notifier=false\n");
        for (scope, _) in &upstreams.npm_scopes {
            let _ = writeln!(text, "{scope}:registry={npm}/");
        }
        files.add(".npmrc", text);
        files.add(".yarnrc.yml", format!("npmRegistryServer: \"{npm}\"\nunsafeHttpWhitelist: [\"127.0.0.1\"]\nenableTelemetry: false\n"));
    }
    if !upstreams.pypi.is_empty() {
        let index = |n: usize| format!("{}/{n}/simple/", route("pypi"));
        let extra: Vec<String> = (1..upstreams.pypi.len()).map(index).collect();
        let mut text = format!("[global]\nindex-url = {}\ndisable-pip-version-check = true\n", index(0));
        if !extra.is_empty() {
            let _ = writeln!(text, "extra-index-url =\n  {}", extra.join("\n  "));
        }
        files.add(".config/pip/pip.conf", text);
    }
    if !upstreams.cargo.is_empty() {
        let mut text = String::from("[net]\ngit-fetch-with-cli = true\n");
        for (name, _) in &upstreams.cargo {
            let index = format!("sparse+{}/{name}/", route("cargo"));
            if name == "crates-io" {
                let _ = write!(text, "[source.crates-io]\nreplace-with = \"airlock\"\n[source.airlock]\nregistry = \"{index}\"\n");
            } else {
                let _ = write!(text, "[registries.{name}]\nindex = \"{index}\"\n");
            }
        }
        files.add(".cargo/config.toml", text);
    }
    if upstreams.go_proxy.is_some() {
        let sumdb = upstreams.go_sumdb.as_ref().map_or("off", |(name, _)| name);
        files.add(".config/go/env", format!("GOPROXY={}\nGOSUMDB={sumdb}\n", route("go")));
    }
    if upstreams.maven.is_some() {
        let maven = route("maven");
        files.add(".m2/settings.xml", format!("<settings><mirrors><mirror><id>airlock</id><url>{maven}/</url><mirrorOf>*</mirrorOf></mirror></mirrors></settings>\n"));
        files.add(".gradle/init.gradle", gradle_script(&maven));
    }
    if upstreams.rubygems.is_some() {
        let gems = route("rubygems");
        files.add(".bundle/config", format!("---\nBUNDLE_MIRROR__ALL: \"{gems}/\"\n"));
        files.add(".gemrc", format!("---\n:sources:\n- {gems}/\n"));
    }
    let mut git = String::new();
    for (host, port) in &network.gateway.git.hosts {
        let authority = if *port == 443 { host.clone() } else { format!("{host}:{port}") };
        let _ = writeln!(git, "[url \"{}/https/{authority}/\"]\n\tinsteadOf = https://{authority}/", route("git"));
        if *port == 443 {
            let _ = writeln!(git, "\tinsteadOf = git@{host}:\n\tinsteadOf = ssh://git@{host}/\n\tinsteadOf = git://{host}/");
        }
    }
    if !git.is_empty() {
        files.add(".gitconfig", git);
    }
    files.0
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

struct HomeFiles(Vec<[String; 3]>);

impl HomeFiles {
    /// Adds a file and its missing parents.
    fn add(&mut self, path: &str, content: String) {
        for (at, _) in path.match_indices('/') {
            let dir = ["dir".to_owned(), path[..at].to_owned(), String::new()];
            if !self.0.contains(&dir) {
                self.0.push(dir);
            }
        }
        self.0.push(["file".into(), path.into(), content]);
    }
}
