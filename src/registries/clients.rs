//! What the user's package clients on the host are configured to use.

use hyper::header::HeaderValue;
use url::Url;

use crate::gateway::{PackageUpstreams, UrlCredential};

/// The configuration of all package clients on the host.
#[derive(Debug, Clone, Default)]
pub struct HostClients {
    /// Upstreams that the user's configuration names.
    pub upstreams: PackageUpstreams,
    /// Python indexes besides the main one.
    pub extra_indexes: Vec<Url>,
    /// Indexes of uv besides its default one.
    pub uv_indexes: Vec<Url>,
    /// The value of `GOSUMDB`.
    pub go_sumdb: Option<String>,
    pub credentials: Vec<UrlCredential>,
}

/// Parses an http(s) URL without a user name and password. A missing slash at the end of the path is not added.
pub(super) fn parse_url(text: &str) -> Option<Url> {
    let mut url = Url::parse(text.trim()).ok()?;
    let is_plain = matches!(url.scheme(), "https" | "http")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none();
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
        // Files of the index may be beside it, and clients send the credential to the whole host.
        let prefix = url.join("/").unwrap_or_else(|_| url.clone());
        clients.credentials.extend(basic_credential(&prefix, &decode(&user), &decode(&password)));
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
