//! What a sandbox may reach: its level, and the hosts that the user allowed or denied. The user can change the lists
//! while the agent runs.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use url::Url;

use super::download_budget::DownloadBudget;
use super::host::{HostName, HostPattern};

/// The extent of a sandbox's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum NetworkLevel {
    /// Reach nothing but loopback
    None,
    /// The model's API, with your credential added outside the sandbox
    Model,
    /// The model, package registries and git remotes, for reading
    Packages,
    /// All of that, and any host on the public internet
    Open,
}

/// The hosts that the user named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostLists {
    #[serde(default)]
    pub allow: Vec<HostPattern>,
    /// Takes precedence over `allow`, over the level and over package registries.
    #[serde(default)]
    pub deny: Vec<HostPattern>,
}

impl HostLists {
    /// Returns these lists with later changes: a pattern that a change allows is no longer denied, and the other way round.
    #[must_use]
    pub fn with_changes(&self, changes: &Self) -> Self {
        let mut lists = self.clone();
        let all = changes.allow.iter().map(|p| (p, true)).chain(changes.deny.iter().map(|p| (p, false)));
        all.for_each(|(pattern, is_allowed)| lists.set_pattern(pattern, is_allowed));
        lists
    }

    /// Adds a pattern to one list, and removes it from the other.
    pub fn set_pattern(&mut self, pattern: &HostPattern, is_allowed: bool) {
        self.allow.retain(|p| p != pattern);
        self.deny.retain(|p| p != pattern);
        if is_allowed { &mut self.allow } else { &mut self.deny }.push(pattern.clone());
    }
}

/// A policy that follows a file with changes, which other processes replace.
pub(super) struct Policy {
    pub level: NetworkLevel,
    /// The name of the sandbox.
    name: String,
    /// The lists at the start of the agent.
    initial: HostLists,
    file: Option<PathBuf>,
    current: Mutex<(Option<SystemTime>, HostLists)>,
    /// The bytes that may still be downloaded.
    pub budget: DownloadBudget,
}

/// A verdict about a host that is not one of a route's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HostVerdict {
    Allowed,
    /// No list names it.
    NotAllowed,
    /// A list denies it.
    Denied,
}

impl Policy {
    /// Creates a policy. `file` holds the lists once the user changes them.
    pub(super) fn new(level: NetworkLevel, initial: HostLists, file: Option<PathBuf>) -> Self {
        let current = Mutex::new((None, initial.clone()));
        Self { level, name: String::new(), initial, file, current, budget: DownloadBudget::new(u64::MAX) }
    }

    /// Sets the name of the sandbox.
    pub(super) fn with_name(self, name: String) -> Self {
        Self { name, ..self }
    }

    /// Limits what is downloaded.
    pub(super) fn with_budget(self, budget: DownloadBudget) -> Self {
        Self { budget, ..self }
    }

    /// Returns the advice for a host that is not allowed.
    pub(super) fn allow_hint(&self, host: &str) -> String {
        format!("on the host, run: airlock allow {} {host}", self.name)
    }

    fn current_lists(&self) -> HostLists {
        let Ok(mut current) = self.current.lock() else { return HostLists::default() };
        let modified = self.file.as_ref().and_then(|file| file.metadata().ok()?.modified().ok());
        if modified != current.0 {
            let read = self.file.as_ref().and_then(|file| serde_json::from_slice(&std::fs::read(file).ok()?).ok());
            // The file is replaced atomically, so a damaged one was not written by Airlock.
            let changes = read.unwrap_or_default();
            *current = (modified, self.initial.with_changes(&changes));
        }
        current.1.clone()
    }

    /// Returns whether the user denied a host, whatever else names it.
    pub(super) fn is_denied(&self, host: &HostName, port: u16) -> bool {
        self.current_lists().deny.iter().any(|pattern| pattern.covers_host(host, port))
    }

    /// Returns whether the user denied the host of a URL.
    pub(super) fn is_url_denied(&self, url: &Url) -> bool {
        let host = url.host_str().and_then(|host| HostName::parse(host).ok());
        host.is_some_and(|host| self.is_denied(&host, url.port_or_known_default().unwrap_or_default()))
    }

    /// Decides about a host that the agent names.
    pub(super) fn decide_host(&self, host: &HostName, port: u16) -> HostVerdict {
        let lists = self.current_lists();
        if lists.deny.iter().any(|pattern| pattern.covers_host(host, port)) {
            return HostVerdict::Denied;
        }
        let is_allowed =
            self.level == NetworkLevel::Open || lists.allow.iter().any(|pattern| pattern.matches_host(host, port));
        if is_allowed && self.level != NetworkLevel::None { HostVerdict::Allowed } else { HostVerdict::NotAllowed }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make files")]
mod tests {
    use super::*;

    #[test]
    fn deny_precedes_allow_and_file_is_followed() {
        let host = |text| HostName::parse(text).expect("a host");
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("network.json");
        let mut lists = HostLists::default();
        lists.set_pattern(&"*.example.org".parse().expect("a pattern"), true);
        lists.set_pattern(&"evil.example.org".parse().expect("a pattern"), false);
        let policy = Policy::new(NetworkLevel::Model, lists.clone(), Some(file.clone()));
        assert_eq!(policy.decide_host(&host("a.example.org"), 443), HostVerdict::Allowed);
        assert_eq!(policy.decide_host(&host("evil.example.org"), 443), HostVerdict::Denied);
        assert_eq!(policy.decide_host(&host("example.com"), 443), HostVerdict::NotAllowed);
        let mut changes = HostLists::default();
        changes.set_pattern(&"example.com".parse().expect("a pattern"), true);
        std::fs::write(&file, serde_json::to_vec(&changes).expect("JSON")).expect("written");
        assert_eq!(policy.decide_host(&host("a.example.org"), 443), HostVerdict::Allowed);
        assert_eq!(policy.decide_host(&host("evil.example.org"), 443), HostVerdict::Denied);
        assert_eq!(policy.decide_host(&host("example.com"), 443), HostVerdict::Allowed);
        std::fs::write(&file, b"{").expect("written");
        let later = SystemTime::now() + std::time::Duration::from_secs(9);
        std::fs::File::options().write(true).open(&file).and_then(|f| f.set_modified(later)).expect("set");
        assert_eq!(policy.decide_host(&host("example.com"), 443), HostVerdict::NotAllowed);
        assert_eq!(policy.decide_host(&host("evil.example.org"), 443), HostVerdict::Denied);
        let open = Policy::new(NetworkLevel::Open, lists, None);
        assert_eq!(open.decide_host(&host("anything.example"), 8443), HostVerdict::Allowed);
        assert!(open.is_denied(&host("evil.example.org"), 443));
        assert!(open.is_url_denied(&Url::parse("https://evil.example.org:8443/x").expect("a URL")));
    }
}
