//! Connections from the host to upstream servers: which addresses they may have, which proxy and which certificates are
//! used, and which redirects are followed.
//!
//! *Invariant:* a name that the agent or a document chose is resolved once, every address of the answer must be public,
//! and the connection goes to one of those addresses. Only names in the user's own configuration may have others.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HeaderValue, IF_NONE_MATCH, LOCATION, PROXY_AUTHORIZATION, USER_AGENT,
};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::{Request, Response, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use url::Url;

use super::address::is_public;
use super::host::{HostName, HostPattern};
use super::policy::Policy;

/// Maximum time to connect, including the handshake with a proxy.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum time without a byte of a response.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// Maximum number of redirects.
const MAX_REDIRECTS: usize = 5;
/// Maximum length of a proxy's answer to `CONNECT`.
const MAX_PROXY_HEAD: usize = 8 * 1024;

/// The failure of a request whose connection ended before the response.
const CLOSED_EARLY: &str = "the server closed the connection before it answered";

/// The body of a request to an upstream.
pub(super) type RequestBody = UnsyncBoxBody<Bytes, hyper::Error>;

/// A failure to get a response.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpstreamError {
    /// A rule forbids the connection.
    #[error("{0}")]
    Refused(String),
    /// The upstream or the network failed.
    #[error("{0}")]
    Failed(String),
}

/// A credential for every URL that begins with a prefix.
#[derive(Clone)]
pub struct UrlCredential {
    /// Scheme, host, port and path.
    pub prefix: Url,
    /// The value of the `authorization` header.
    pub value: HeaderValue,
}

impl std::fmt::Debug for UrlCredential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UrlCredential({}, …)", self.prefix.host_str().unwrap_or_default())
    }
}

impl UrlCredential {
    fn matches_url(&self, url: &Url) -> bool {
        let is_same_origin = self.prefix.origin() == url.origin();
        is_same_origin && is_path_below(url.path(), self.prefix.path())
    }
}

/// The user's configuration of upstream connections.
#[derive(Debug, Clone, Default)]
pub struct UpstreamOptions {
    pub credentials: Vec<UrlCredential>,
    /// Hosts with their ports that may have any address, because the user's configuration names them as an upstream.
    pub trusted: BTreeSet<(String, u16)>,
    /// Further hosts that may have any address.
    pub private_hosts: Vec<HostPattern>,
    pub connections: super::connections::ConnectionSettings,
}

/// A request for a document or file. It has no body.
#[derive(Clone, Copy, Default)]
pub(super) struct FetchOptions<'a> {
    pub accept: Option<&'a str>,
    /// Whether the response may be compressed with gzip.
    pub gzip: bool,
    /// The entity tag of a stored response.
    pub etag: Option<&'a str>,
    /// The policy that every URL of the way has to pass.
    pub policy: Option<&'a Policy>,
}

/// Connections by one rule for addresses.
type UpstreamConnections = Client<HttpsConnector<CheckedConnector>, RequestBody>;

/// The client for all upstreams.
#[derive(Clone)]
pub(super) struct UpstreamClient {
    public: UpstreamConnections,
    any: UpstreamConnections,
    /// For the model: every event of a stream has to arrive at once, so there is one request per connection at a time.
    model: UpstreamConnections,
    proxies: Arc<Matcher>,
    options: Arc<UpstreamOptions>,
}

impl UpstreamClient {
    /// Creates a client with the certificates and proxies of the user's environment.
    ///
    /// # Errors
    /// A certificate file cannot be read, or there is no certificate at all.
    pub(super) fn new(options: UpstreamOptions) -> io::Result<Self> {
        let proxies = Arc::new(options.connections.proxy_matcher());
        let tls = options.connections.tls_config()?;
        let client = |rule: AddressRule, http2: bool| {
            let inner = CheckedConnector { proxies: Arc::clone(&proxies), rule };
            let builder = HttpsConnectorBuilder::new().with_tls_config(tls.clone()).https_or_http();
            let https = if http2 {
                builder.enable_all_versions().wrap_connector(inner)
            } else {
                builder.enable_http1().wrap_connector(inner)
            };
            Client::builder(TokioExecutor::new()).pool_idle_timeout(Duration::from_secs(60)).build(https)
        };
        Ok(Self {
            public: client(AddressRule::Public, true),
            any: client(AddressRule::Any, true),
            model: client(AddressRule::Any, false),
            proxies,
            options: Arc::new(options),
        })
    }

    /// Returns whether the user's configuration names this host as an upstream, so that it may have any address.
    fn is_trusted(&self, url: &Url) -> bool {
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { return false };
        self.options.trusted.contains(&(host.to_owned(), port))
            || HostName::parse(host).is_ok_and(|host| self.is_private_allowed(&host))
    }

    fn is_private_allowed(&self, host: &HostName) -> bool {
        self.options.private_hosts.iter().any(|pattern| pattern.matches_name(host))
    }

    /// Sends a request of the model route.
    pub(super) async fn send_to_model(
        &self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, UpstreamError> {
        self.model.request(self.with_proxy_credential(request)).await.map_err(|error| describe_error(&error))
    }

    /// Sends one request of a package route to a URL, with the user's credential for it, and follows no redirect.
    async fn send_with_credential(
        &self,
        url: &Url,
        mut request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, UpstreamError> {
        // Only for hosts that the user's configuration names as an upstream: a document may link to any other.
        let is_own = self.is_trusted(url);
        let credentials = self.options.credentials.iter().filter(|credential| is_own && credential.matches_url(url));
        if let Some(credential) = credentials.max_by_key(|credential| credential.prefix.path().len()) {
            request.headers_mut().insert(AUTHORIZATION, credential.value.clone());
        }
        self.send_request(url, request).await
    }

    /// Sends one request to a URL, and follows no redirect. The credentials of package clients are not added.
    pub(super) async fn send_request(
        &self,
        url: &Url,
        mut request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let agent = HeaderValue::from_static(concat!("airlock/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().entry(USER_AGENT).or_insert(agent);
        let client = if self.is_trusted(url) { &self.any } else { &self.public };
        self.send_by(client, url, request).await
    }

    /// Forwards a request of the agent to a host that the user allowed, without any credential of the user.
    pub(super) async fn forward_request(
        &self,
        url: &Url,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, UpstreamError> {
        // What the user's configuration names as an upstream is named for its own route only.
        let host = url.host_str().and_then(|host| HostName::parse(host).ok());
        let is_private = host.is_some_and(|host| self.is_private_allowed(&host));
        let client = if is_private { &self.any } else { &self.public };
        self.send_by(client, url, request).await
    }

    async fn send_by(
        &self,
        client: &UpstreamConnections,
        url: &Url,
        mut request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, UpstreamError> {
        check_url(url)?;
        *request.uri_mut() =
            url.as_str().parse().map_err(|_| UpstreamError::Refused("the URL cannot be requested".into()))?;
        match tokio::time::timeout(IDLE_TIMEOUT, client.request(self.with_proxy_credential(request))).await {
            Ok(sent) => sent.map_err(|error| describe_error(&error)),
            Err(_) => Err(UpstreamError::Failed(format!("{} does not answer", host_of(url)))),
        }
    }

    /// Gets a URL, and follows redirects. Returns the response with the URL that sent it.
    pub(super) async fn get_following(
        &self,
        url: &Url,
        options: &FetchOptions<'_>,
    ) -> Result<(Response<Incoming>, Url), UpstreamError> {
        let mut url = url.clone();
        let (mut redirects, mut is_repeated) = (0, false);
        while redirects <= MAX_REDIRECTS {
            if options.policy.is_some_and(|policy| policy.is_url_denied(&url)) {
                return Err(UpstreamError::Refused(format!("{} is denied", host_of(&url))));
            }
            let mut request = Request::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
            let headers = request.headers_mut();
            let encoding = if options.gzip { "gzip" } else { "identity" };
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(encoding));
            for (name, value) in [(ACCEPT, options.accept), (IF_NONE_MATCH, options.etag)] {
                if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
                    headers.insert(name, value);
                }
            }
            let response = match self.send_with_credential(&url, request).await {
                // A server may close an idle connection at any time, even while a request is on its way.
                Err(UpstreamError::Failed(reason)) if reason == CLOSED_EARLY && !is_repeated => {
                    is_repeated = true;
                    continue;
                }
                other => other?,
            };
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok((response, url));
            }
            let target = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let target = target.and_then(|target| url.join(target).ok());
            let Some(target) = target else {
                return Err(UpstreamError::Failed(format!("{} redirects to no valid URL", host_of(&url))));
            };
            if url.scheme() == "https" && target.scheme() != "https" {
                return Err(UpstreamError::Refused(format!("{} redirects away from HTTPS", host_of(&url))));
            }
            url = target;
            (redirects, is_repeated) = (redirects + 1, false);
        }
        Err(UpstreamError::Refused(format!("{} redirects more than {MAX_REDIRECTS} times", host_of(&url))))
    }

    /// Adds the credential for the user's proxy to a request that it forwards. A tunnel gets it when it is opened.
    fn with_proxy_credential(&self, mut request: Request<RequestBody>) -> Request<RequestBody> {
        if request.uri().scheme_str() == Some("http")
            && let Some(proxy) = self.proxies.intercept(request.uri())
            && let Some(credential) = proxy.basic_auth()
        {
            request.headers_mut().insert(PROXY_AUTHORIZATION, credential.clone());
        }
        request
    }

    /// Connects to a host for a tunnel of the agent.
    pub(super) async fn connect_tunnel(&self, host: &HostName, port: u16) -> Result<TcpStream, UpstreamError> {
        let uri: Uri = format!("https://{host}:{port}")
            .parse()
            .map_err(|_| UpstreamError::Refused("the host cannot be reached".into()))?;
        let rule = if self.is_private_allowed(host) { AddressRule::Any } else { AddressRule::Public };
        let connector = CheckedConnector { proxies: Arc::clone(&self.proxies), rule };
        connector
            .connect_uri(uri)
            .await
            .map(|stream| stream.stream.into_inner())
            .map_err(ConnectError::into_upstream_error)
    }
}

/// Returns the host of a URL for messages, with its port if that is unusual.
pub(super) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Returns whether a path is another one or below it.
pub(crate) fn is_path_below(path: &str, parent: &str) -> bool {
    path.strip_prefix(parent.trim_end_matches('/')).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Checks a URL's scheme, and that it has no user information, which would be a credential.
fn check_url(url: &Url) -> Result<(), UpstreamError> {
    if !matches!(url.scheme(), "https" | "http") || !url.has_host() {
        return Err(UpstreamError::Refused(format!("a URL of the scheme {} is not requested", url.scheme())));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(UpstreamError::Refused("a URL with a user name or password is not requested".into()));
    }
    Ok(())
}

/// The addresses that a name may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AddressRule {
    Public,
    Any,
}

/// Connects over TCP, directly or through the user's proxy.
#[derive(Clone)]
struct CheckedConnector {
    proxies: Arc<Matcher>,
    rule: AddressRule,
}

/// A failure to connect.
#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Failed(String),
}

impl ConnectError {
    fn into_upstream_error(self) -> UpstreamError {
        match self {
            Self::Refused(reason) => UpstreamError::Refused(reason),
            Self::Failed(reason) => UpstreamError::Failed(reason),
        }
    }
}

impl CheckedConnector {
    async fn connect_uri(self, uri: Uri) -> Result<UpstreamStream, ConnectError> {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let connecting = async {
            match self.proxies.intercept(&uri) {
                Some(proxy) => self.connect_by_proxy(&uri, &host, &proxy).await,
                None => {
                    let default = if uri.scheme_str() == Some("http") { 80 } else { 443 };
                    let stream = self.connect_directly(&host, uri.port_u16().unwrap_or(default)).await?;
                    Ok(UpstreamStream { stream: TokioIo::new(stream), is_forwarded: false })
                }
            }
        };
        let timed_out = |_| ConnectError::Failed(format!("{host} does not answer"));
        tokio::time::timeout(CONNECT_TIMEOUT, connecting).await.map_err(timed_out)?
    }

    /// Resolves a name once, checks every address, and connects to the first that answers.
    async fn connect_directly(&self, host: &str, port: u16) -> Result<TcpStream, ConnectError> {
        let failed = |error: io::Error| ConnectError::Failed(format!("failed to connect to {host}: {error}"));
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await.map_err(failed)?.collect();
        if self.rule == AddressRule::Public && addresses.iter().any(|address| !is_public(address.ip())) {
            return Err(ConnectError::Refused(format!("{host} has an address that is not on the public internet")));
        }
        let stream = TcpStream::connect(addresses.as_slice()).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        Ok(stream)
    }

    async fn connect_by_proxy(&self, uri: &Uri, host: &str, proxy: &Intercept) -> Result<UpstreamStream, ConnectError> {
        let address = proxy.uri();
        let proxy_host = address.host().unwrap_or_default().to_owned();
        if address.scheme_str() != Some("http") {
            let scheme = address.scheme_str().unwrap_or_default();
            return Err(ConnectError::Failed(format!(
                "the proxy {proxy_host} has the scheme {scheme}, which is not supported; use http://"
            )));
        }
        // The proxy resolves the name, so only its text can be checked.
        if self.rule == AddressRule::Public && HostName::parse(host).map_or(true, |host| host.is_local()) {
            return Err(ConnectError::Refused(format!("{host} is not a name on the public internet")));
        }
        let failed = |error: io::Error| {
            ConnectError::Failed(format!("failed to connect through the proxy {proxy_host}: {error}"))
        };
        let mut stream =
            TcpStream::connect((proxy_host.as_str(), address.port_u16().unwrap_or(80))).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        if uri.scheme_str() == Some("http") {
            return Ok(UpstreamStream { stream: TokioIo::new(stream), is_forwarded: true });
        }
        let target = format!("{}:{}", uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(443));
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n").into_bytes();
        if let Some(credential) = proxy.basic_auth() {
            request.extend_from_slice(b"proxy-authorization: ");
            request.extend_from_slice(credential.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        stream.write_all(&request).await.map_err(failed)?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() >= MAX_PROXY_HEAD {
                return Err(ConnectError::Failed(format!("the proxy {proxy_host} sent an invalid answer")));
            }
            head.push(stream.read_u8().await.map_err(failed)?);
        }
        let status = head.split(|b| *b == b' ').nth(1).unwrap_or_default();
        if status != b"200" {
            let status = String::from_utf8_lossy(status).chars().take(3).collect::<String>();
            return Err(ConnectError::Failed(format!("the proxy {proxy_host} refused {host} with status {status}")));
        }
        Ok(UpstreamStream { stream: TokioIo::new(stream), is_forwarded: false })
    }
}

impl tower_service::Service<Uri> for CheckedConnector {
    type Response = UpstreamStream;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<UpstreamStream, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.connect_uri(uri).await.map_err(Into::into) })
    }
}

/// A connection to an upstream.
struct UpstreamStream {
    stream: TokioIo<TcpStream>,
    /// Whether requests go to a proxy, which needs the whole URL.
    is_forwarded: bool,
}

impl Connection for UpstreamStream {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.is_forwarded)
    }
}

impl Read for UpstreamStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl Write for UpstreamStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Turns a client's error into a message with its root cause.
fn describe_error(error: &(dyn std::error::Error + 'static)) -> UpstreamError {
    let mut cause = error;
    loop {
        if let Some(ConnectError::Refused(reason)) = cause.downcast_ref() {
            return UpstreamError::Refused(reason.clone());
        }
        let is_closed = |error: &io::Error| {
            matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof
            )
        };
        if cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message)
            || cause.downcast_ref::<io::Error>().is_some_and(is_closed)
        {
            return UpstreamError::Failed(CLOSED_EARLY.into());
        }
        match cause.source() {
            Some(source) => cause = source,
            None if cause.to_string().contains("UnknownIssuer") => {
                return UpstreamError::Failed(format!(
                    "{cause}; to trust the server's certificate, set NODE_EXTRA_CA_CERTS to a file with its authority"
                ));
            }
            None => return UpstreamError::Failed(cause.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credential_goes_only_to_its_prefix() {
        let url = |text: &str| Url::parse(text).expect("a URL");
        let credential = UrlCredential {
            prefix: url("https://npm.example/team/"),
            value: HeaderValue::from_static("Bearer secret"),
        };
        assert!(!format!("{credential:?}").contains("secret"));
        assert!(credential.matches_url(&url("https://npm.example/team/a")));
        for other in [
            "https://npm.example/other",
            "https://npm.example/teamevil/a",
            "http://npm.example/team/a",
            "https://npm.example:8443/team/a",
            "https://npm.example.evil.example/team/",
            "https://npm.example/team/../x",
        ] {
            assert!(!credential.matches_url(&url(other)), "{other}");
        }
    }

    #[tokio::test]
    async fn names_with_private_addresses_are_refused() {
        let client = UpstreamClient::new(UpstreamOptions::default()).expect("certificates");
        for url in [
            "http://localhost:9/",
            "http://127.0.0.1:9/",
            "http://[::1]:9/",
            "http://0x7f.1:9/",
            "http://169.254.169.254/",
        ] {
            let result = client.get_following(&Url::parse(url).expect("a URL"), &FetchOptions::default()).await;
            assert!(matches!(result, Err(UpstreamError::Refused(_))), "{url}: {:?}", result.err());
        }
        for url in ["file:///etc/passwd", "ftp://example.org/", "https://user:pw@example.org/"] {
            let result = client.get_following(&Url::parse(url).expect("a URL"), &FetchOptions::default()).await;
            assert!(matches!(result, Err(UpstreamError::Refused(_))), "{url}");
        }
    }
}
