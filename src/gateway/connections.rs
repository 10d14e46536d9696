//! The proxies and certificates of the user, which apply to every connection of the gateway.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper_util::client::proxy::matcher::Matcher;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// The variables that name proxies. Each may be in lower case.
const PROXY_VARIABLES: [&str; 4] = ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"];
/// The variables that name certificates.
const CERTIFICATE_VARIABLES: [&str; 3] = ["SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS"];

/// The values of those variables, in their order.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ConnectionSettings {
    proxies: [Option<String>; 4],
    certificates: [Option<PathBuf>; 3],
}

/// A proxy's address may have a password.
impl std::fmt::Debug for ConnectionSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectionSettings").field("certificates", &self.certificates).finish_non_exhaustive()
    }
}

impl ConnectionSettings {
    /// Reads the variables. An empty one does not count.
    #[must_use]
    pub fn from_variables(find: impl Fn(&str) -> Option<String>) -> Self {
        let find = |name: &str| find(name).filter(|value| !value.is_empty());
        Self {
            proxies: PROXY_VARIABLES.map(|name| find(name).or_else(|| find(&name.to_lowercase()))),
            certificates: CERTIFICATE_VARIABLES.map(|name| find(name).map(PathBuf::from)),
        }
    }

    /// Lists the proxy variables that are set.
    pub fn list_proxies(&self) -> impl Iterator<Item = (&'static str, &str)> {
        PROXY_VARIABLES.into_iter().zip(&self.proxies).filter_map(|(name, value)| Some((name, value.as_deref()?)))
    }

    /// Lists the certificate variables that are set.
    pub fn list_certificates(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let all = CERTIFICATE_VARIABLES.into_iter().zip(&self.certificates);
        all.filter_map(|(name, value)| Some((name, value.as_deref()?)))
    }

    /// Checks that the certificates can be read.
    ///
    /// # Errors
    /// The system has no root certificates, or a file cannot be read.
    pub fn check_certificates(&self) -> io::Result<()> {
        self.tls_config().map(drop)
    }

    pub(super) fn proxy_matcher(&self) -> Matcher {
        let [https, http, all, no] = self.proxies.each_ref().map(|value| value.clone().unwrap_or_default());
        Matcher::builder().https(https).http(http).all(all).no(no).build()
    }

    /// Reads the system's certificates, which `SSL_CERT_FILE` and `SSL_CERT_DIR` override, and those of
    /// `NODE_EXTRA_CA_CERTS`.
    pub(super) fn tls_config(&self) -> io::Result<rustls::ClientConfig> {
        let [file, dir, extra] = self.certificates.each_ref().map(Option::as_deref);
        let mut roots = rustls::RootCertStore::empty();
        let found = if file.is_some() || dir.is_some() {
            rustls_native_certs::load_certs_from_paths(file, dir)
        } else {
            rustls_native_certs::load_native_certs()
        };
        roots.add_parsable_certificates(found.certs);
        if let Some(path) = extra {
            let unreadable = |error: String| {
                io::Error::other(format!("NODE_EXTRA_CA_CERTS names a file that cannot be read: {error}"))
            };
            for certificate in CertificateDer::pem_file_iter(path).map_err(|e| unreadable(e.to_string()))? {
                roots.add_parsable_certificates([certificate.map_err(|e| unreadable(e.to_string()))?]);
            }
        }
        if roots.is_empty() {
            let reason = found.errors.first().map_or_else(String::new, |error| format!(": {error}"));
            return Err(io::Error::other(format!("there are no root certificates{reason}")));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        Ok(versions.map_err(io::Error::other)?.with_root_certificates(roots).with_no_client_auth())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_choose_the_proxy_and_certificates() {
        let settings = ConnectionSettings::from_variables(|name| match name {
            "https_proxy" => Some("http://user:secret@proxy.example:3128".into()),
            "HTTP_PROXY" => Some(String::new()),
            "NO_PROXY" => Some("inside.example".into()),
            "NODE_EXTRA_CA_CERTS" => Some("/nonexistent/extra.pem".into()),
            _ => None,
        });
        let matcher = settings.proxy_matcher();
        let proxy = |uri: &str| matcher.intercept(&uri.parse().expect("a URI")).map(|proxy| proxy.uri().to_string());
        assert_eq!(proxy("https://example.org/").as_deref(), Some("http://proxy.example:3128/"));
        assert_eq!((proxy("http://example.org/"), proxy("https://inside.example/")), (None, None));
        let names: Vec<&str> = settings.list_proxies().map(|(name, _)| name).collect();
        assert_eq!(names, ["HTTPS_PROXY", "NO_PROXY"]);
        assert_eq!(settings.list_certificates().count(), 1);
        let error = settings.check_certificates().expect_err("the file does not exist").to_string();
        assert!(error.starts_with("NODE_EXTRA_CA_CERTS names a file that cannot be read: "), "{error}");
        assert!(!format!("{settings:?}").contains("secret"));
    }
}
