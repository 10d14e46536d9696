//! The certificate authority of one sandbox, for package clients that record the address that they were given.
//!
//! Such a client speaks HTTPS to its registry's own name. The gateway answers under that name, with a certificate that
//! only this sandbox trusts. *Invariant:* the authority's key never enters the sandbox, and certificates are made only
//! for hosts of package registries. No other TLS is terminated.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;

use crate::core::atomic_file::write_atomic;

/// Number of hosts that get a certificate.
const MAX_HOSTS: usize = 64;

/// The certificate authority of a sandbox.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    configs: Mutex<HashMap<String, Arc<ServerConfig>>>,
}

impl Authority {
    /// Opens the authority in a file that only the user can read, or creates it.
    ///
    /// # Errors
    /// The file is damaged or cannot be written.
    pub(crate) fn open(dir: &Path, name: &str) -> io::Result<Self> {
        match std::fs::read_to_string(dir.join(name)) {
            Ok(text) => {
                let key = KeyPair::from_pem(&text).map_err(io::Error::other)?;
                let certificate = text.find("-----BEGIN CERTIFICATE-----").map(|at| text[at..].to_owned());
                let certificate = certificate.ok_or_else(|| io::Error::other("the authority has no certificate"))?;
                Ok(Self { issuer: Issuer::new(authority_params(), key), certificate, configs: Mutex::default() })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let authority = Self::create_new()?;
                let text = format!("{}{}", authority.issuer.key().serialize_pem(), authority.certificate);
                write_atomic(dir, name, text.as_bytes())?;
                Ok(authority)
            }
            Err(error) => Err(error),
        }
    }

    fn create_new() -> io::Result<Self> {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = authority_params().self_signed(&key).map_err(io::Error::other)?.pem();
        Ok(Self { issuer: Issuer::new(authority_params(), key), certificate, configs: Mutex::default() })
    }

    /// Returns the certificate of the authority in PEM form, without its key.
    pub(crate) fn certificate_pem(&self) -> &str {
        &self.certificate
    }

    /// Returns the configuration of a TLS server with a certificate for one host.
    pub(super) fn server_config(&self, host: &str) -> io::Result<Arc<ServerConfig>> {
        let poisoned = |_| io::Error::other("a thread panicked");
        if let Some(config) = self.configs.lock().map_err(poisoned)?.get(host) {
            return Ok(Arc::clone(config));
        }
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let mut params = CertificateParams::new(vec![host.to_owned()]).map_err(io::Error::other)?;
        params.distinguished_name = common_name("Airlock gateway");
        // Python requires it since 3.13.
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer).map_err(io::Error::other)?;
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let versions = versions.map_err(io::Error::other)?.with_no_client_auth();
        let mut config = versions.with_single_cert(vec![certificate.der().clone()], key).map_err(io::Error::other)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let config = Arc::new(config);
        let mut configs = self.configs.lock().map_err(poisoned)?;
        if configs.len() < MAX_HOSTS {
            configs.insert(host.to_owned(), Arc::clone(&config));
        }
        Ok(config)
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name("Airlock, for package registries in one sandbox");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    use super::*;

    #[tokio::test]
    async fn clients_that_trust_the_authority_accept_its_hosts() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = Authority::open(dir.path(), "authority.pem").expect("created");
        let again = Authority::open(dir.path(), "authority.pem").expect("opened");
        assert_eq!(first.certificate_pem(), again.certificate_pem());
        assert!(!first.certificate_pem().contains("PRIVATE"));
        let mode = dir.path().join("authority.pem").metadata().expect("it exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(first.certificate_pem().as_bytes()).expect("PEM"))
            .expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        for (name, is_accepted) in [("index.example", true), ("other.example", false)] {
            let (client, server) = tokio::io::duplex(1 << 16);
            let acceptor =
                tokio_rustls::TlsAcceptor::from(again.server_config("index.example").expect("a certificate"));
            let name = name.try_into().expect("a name");
            let (accepted, connected) = tokio::join!(acceptor.accept(server), connector.connect(name, client));
            assert_eq!((accepted.is_ok(), connected.is_ok()), (is_accepted, is_accepted));
        }
    }
}
