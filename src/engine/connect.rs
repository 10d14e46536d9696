//! Connects to an engine: over a Unix socket, TCP, TLS, or the streams of `ssh`. All requests go through here.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper::rt::ReadBufCursor;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustix::net::sockopt;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::EngineError;
use super::address::{Address, Questions, TlsFiles};
use super::local_stream::LocalStream;
use super::ssh::SshConnector;

/// Maximum time to connect to an address, without what `ssh` takes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Time without data after which the other machine is asked whether it is there, and number of questions without an answer.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 3;

pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection to an engine, of any kind.
pub(super) struct EngineStream(TokioIo<Box<dyn Duplex>>);

impl EngineStream {
    fn new(stream: impl Duplex + 'static) -> Self {
        Self(TokioIo::new(Box::new(stream)))
    }
}

impl hyper::rt::Read for EngineStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl hyper::rt::Write for EngineStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

impl Connection for EngineStream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

/// A way to connect to one engine.
#[derive(Clone)]
pub(super) struct Connector {
    kind: Arc<ConnectorKind>,
}

enum ConnectorKind {
    Unix(std::path::PathBuf),
    Tcp(String),
    Tls { host: String, name: ServerName<'static>, config: Arc<ClientConfig> },
    Ssh(SshConnector),
}

impl Connector {
    /// Prepares connections to an address. Files of TLS are read; nothing is sent.
    pub(super) fn new(address: &Address, questions: Questions) -> Result<Self, EngineError> {
        let kind = match address {
            Address::Unix(path) => ConnectorKind::Unix(path.clone()),
            Address::Tcp(host) => ConnectorKind::Tcp(host.clone()),
            Address::Tls { host, files } => ConnectorKind::Tls {
                host: host.clone(),
                name: server_name(host).ok_or_else(|| EngineError::Address { address: format!("tcp://{host}") })?,
                config: Arc::new(tls_config(files)?),
            },
            Address::Ssh(target) => ConnectorKind::Ssh(SshConnector::new(target, questions)),
        };
        Ok(Self { kind: Arc::new(kind) })
    }

    /// Does what may ask the user something, and thus take a long time, before connections are opened.
    pub(super) async fn prepare_connections(&self) -> io::Result<()> {
        match &*self.kind {
            ConnectorKind::Ssh(ssh) => ssh.check_once().await,
            _ => Ok(()),
        }
    }

    /// Opens a connection, within a limited time.
    pub(super) async fn open_connection(&self) -> io::Result<EngineStream> {
        if let ConnectorKind::Ssh(ssh) = &*self.kind {
            return ssh.open_connection().await.map(EngineStream::new);
        }
        let opening = async {
            Ok(match &*self.kind {
                ConnectorKind::Unix(path) => EngineStream::new(LocalStream::connect(path).await?),
                ConnectorKind::Tcp(host) => EngineStream::new(connect_tcp(host).await?),
                ConnectorKind::Tls { host, name, config } => {
                    let tls = TlsConnector::from(Arc::clone(config));
                    EngineStream::new(tls.connect(name.clone(), connect_tcp(host).await?).await?)
                }
                ConnectorKind::Ssh(_) => unreachable!("it was opened above"),
            })
        };
        tokio::time::timeout(CONNECT_TIMEOUT, opening)
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer within 10 seconds")))
    }
}

async fn connect_tcp(host: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(host).await?;
    // Keys are small packets, which must not wait for an acknowledgment.
    stream.set_nodelay(true)?;
    // A machine that is gone says nothing.
    sockopt::set_socket_keepalive(&stream, true)?;
    sockopt::set_tcp_keepidle(&stream, KEEPALIVE)?;
    sockopt::set_tcp_keepintvl(&stream, KEEPALIVE / 3)?;
    sockopt::set_tcp_keepcnt(&stream, KEEPALIVE_PROBES)?;
    Ok(stream)
}

impl tower_service::Service<Uri> for Connector {
    type Response = EngineStream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<EngineStream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.open_connection().await })
    }
}

/// Returns the name that the server's certificate must have.
fn server_name(host: &str) -> Option<ServerName<'static>> {
    let (name, _) = host.rsplit_once(':')?;
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    ServerName::try_from(name.to_owned()).ok()
}

fn tls_config(files: &TlsFiles) -> Result<ClientConfig, EngineError> {
    let failed = |path: &Path, problem: String| EngineError::TlsFile { path: path.display().to_string(), problem };
    let certificates = |path: &Path| {
        let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        read.map_err(|error| failed(path, error.to_string()))
    };
    let mut roots = RootCertStore::empty();
    match &files.authorities {
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| failed(path, error.to_string()))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| EngineError::Stream(io::Error::other(error)))?
        .with_root_certificates(roots);
    Ok(match &files.client {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate)?;
            let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| failed(key, error.to_string()))?;
            config.with_client_auth_cert(chain, secret).map_err(|error| failed(key, error.to_string()))?
        }
    })
}
