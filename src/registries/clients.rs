//! What the user's package clients on the host are configured to use.

use hyper::header::HeaderValue;
use url::Url;

use super::defaults::ImageDefaults;
use super::others::parse_sumdb;
use super::{HostEnvironment, cargo, npm, others, python};
use crate::gateway::{HostPattern, PackageUpstreams, UpstreamOptions, UrlCredential};

/// The configuration of all package clients on the host.
#[derive(Debug, Clone, Default)]
pub struct HostClients {
    /// Upstreams that the user's configuration names.
    pub upstreams: PackageUpstreams,
    /// Further Python indexes.
    pub extra_indexes: Vec<Url>,
    /// The value of `GOSUMDB`.
    pub go_sumdb: Option<String>,
    pub credentials: Vec<UrlCredential>,
}

impl HostClients {
    /// Reads the configuration of the user. A file that is missing or damaged configures nothing: its client would say
    /// so on the host.
    #[must_use]
    pub fn load(host: &HostEnvironment<'_>) -> Self {
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
    pub fn with_defaults(self, defaults: &ImageDefaults, private_hosts: Vec<HostPattern>) -> (PackageUpstreams, UpstreamOptions) {
        let mut upstreams = self.upstreams;
        let configured = upstreams.list_urls().into_iter().chain(self.extra_indexes.clone());
        let trusted = configured.filter_map(|url| Some((url.host_str()?.to_owned(), url.port_or_known_default()?))).collect();
        upstreams.npm = upstreams.npm.or_else(|| defaults.npm.clone());
        // yarn uses its own name for the default registry, but not for a mirror.
        if upstreams.npm == defaults.npm {
            upstreams.npm_aliases.clone_from(&defaults.npm_aliases);
        }
        if upstreams.pypi.is_empty() {
            upstreams.pypi.extend(defaults.pypi.clone());
        }
        if !upstreams.pypi.is_empty() {
            upstreams.pypi.extend(self.extra_indexes);
        }
        if !upstreams.cargo.iter().any(|(name, _)| name == "crates-io") {
            upstreams.cargo.splice(0..0, defaults.cargo.clone().map(|url| ("crates-io".to_owned(), url)));
        }
        upstreams.go_proxy = upstreams.go_proxy.or_else(|| defaults.go_proxy.clone());
        let sumdb = self.go_sumdb.or_else(|| defaults.go_sumdb.clone());
        upstreams.go_sumdb = sumdb.as_deref().and_then(parse_sumdb);
        upstreams.maven = upstreams.maven.or_else(|| defaults.maven.clone());
        upstreams.rubygems = upstreams.rubygems.or_else(|| defaults.rubygems.clone());
        (upstreams, UpstreamOptions { credentials: self.credentials, trusted, private_hosts })
    }
}

/// Parses an http(s) URL without a user name and password. A missing slash at the end of the path is not added.
pub(super) fn parse_url(text: &str) -> Option<Url> {
    let mut url = Url::parse(text.trim()).ok()?;
    let is_plain = matches!(url.scheme(), "https" | "http") && url.has_host() && url.username().is_empty() && url.password().is_none();
    url.set_fragment(None);
    is_plain.then_some(url)
}

/// Parses a URL, and moves a user name and password in it to the credentials.
pub(super) fn take_url_credential(text: &str, clients: &mut HostClients) -> Option<Url> {
    let mut url = Url::parse(text.trim()).ok()?;
    let (user, password) = (url.username().to_owned(), url.password().unwrap_or_default().to_owned());
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    let url = parse_url(url.as_str())?;
    if !user.is_empty() {
        let decode = |text: &str| percent_decode(text);
        clients.credentials.extend(basic_credential(&url, &decode(&user), &decode(&password)));
    }
    Some(url)
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.filter(|_| *first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(super) fn bearer_credential(prefix: &Url, token: &str) -> Option<UrlCredential> {
    header_credential(prefix, &format!("Bearer {token}"))
}

pub(super) fn basic_credential(prefix: &Url, user: &str, password: &str) -> Option<UrlCredential> {
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    header_credential(prefix, &format!("Basic {encoded}"))
}

pub(super) fn header_credential(prefix: &Url, value: &str) -> Option<UrlCredential> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(UrlCredential { prefix: prefix.clone(), value })
}
