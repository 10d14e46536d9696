//! The gateway of one sandbox: reads requests from the tunnel's connections, and gives each to its route.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;
use url::Url;

use super::audit::{AuditLog, AuditSummary, Exchange, RequestPermit};
use super::authority::Authority;
use super::cache::Cache;
use super::download_budget::DownloadBudget;
use super::git_route::{GitRoute, GitUpstreams};
use super::host::HostName;
use super::http_route::{HttpRouteOptions, HttpRoutes};
use super::model::{ModelOptions, ModelRoute, ModelStats};
use super::packages::{PackageRoutes, PackageUpstreams, RequestHead, RouteContext};
use super::policy::{HostLists, NetworkLevel, Policy};
use super::proxy;
use super::reply::Reply;
use super::reply::full_body;
use super::request_path::{check_path, check_query};
use super::tunnel::TunnelStream;
use super::upstream::{UpstreamClient, UpstreamOptions};

/// The loopback port of the gateway inside the sandbox, which has its own network.
pub const GATEWAY_PORT: u16 = 47_821;
/// Maximum size of a request's line and headers, in bytes.
const MAX_HEAD: usize = 32 * 1024;
/// Maximum size of all request bodies in memory, in KiB. Requests beyond it wait.
const BODY_MEMORY_KIB: usize = 256 * 1024;
/// Size in KiB that a body without a length counts as; the limit of every route.
const MAX_BODY_KIB: u64 = 64 * 1024;
/// Maximum number of concurrent requests of a sandbox. Others wait.
const MAX_REQUESTS: usize = 256;
/// Maximum time for a request's line and headers.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum number of bytes that a sandbox downloads, unless `max_download` says otherwise.
pub const DEFAULT_MAX_DOWNLOAD: u64 = 20 << 30;

/// The settings of a sandbox's gateway.
#[derive(Clone)]
pub struct GatewayOptions {
    pub level: NetworkLevel,
    pub lists: HostLists,
    pub model: Option<ModelOptions>,
    pub packages: PackageUpstreams,
    pub git: GitUpstreams,
    /// Routes that the user defines.
    pub http: Vec<HttpRouteOptions>,
    pub upstream: UpstreamOptions,
    pub cache: Option<Cache>,
    pub is_offline: bool,
    pub max_download: u64,
    /// The name of the sandbox, for commands in messages.
    pub name: String,
}

/// The gateway of one sandbox.
#[derive(Clone)]
pub struct Gateway(Arc<Routes>);

struct Routes {
    client: UpstreamClient,
    policy: Arc<Policy>,
    model: Option<ModelRoute>,
    packages: PackageRoutes,
    git: GitRoute,
    http: HttpRoutes,
    authority: Authority,
    log: AuditLog,
    permits: Arc<Semaphore>,
    /// A permit for each KiB of request bodies in memory.
    body_memory: Arc<Semaphore>,
}

impl Gateway {
    /// Creates a gateway that writes to `log` and follows `lists_file`, in which the user's later changes of the lists
    /// are stored. Nothing is connected yet.
    ///
    /// # Errors
    /// The system has no root certificates, or a file of certificates cannot be read.
    pub(crate) fn new(
        options: GatewayOptions,
        log: AuditLog,
        authority: Authority,
        lists_file: PathBuf,
    ) -> std::io::Result<Self> {
        let has_packages = options.level >= NetworkLevel::Packages;
        let base = format!("http://127.0.0.1:{GATEWAY_PORT}");
        let upstreams = if has_packages { options.packages } else { PackageUpstreams::default() };
        let git = if has_packages { options.git } else { GitUpstreams::default() };
        let budget = DownloadBudget::new(options.max_download);
        let policy = Policy::new(options.level, options.lists, Some(lists_file));
        Ok(Self(Arc::new(Routes {
            client: UpstreamClient::new(options.upstream)?,
            policy: Arc::new(policy.with_name(options.name).with_budget(budget.clone())),
            model: options.model.map(|model| ModelRoute::new(model, log.clone())),
            packages: PackageRoutes::new(upstreams, &base, options.cache, options.is_offline, budget),
            git: GitRoute::new(git),
            http: HttpRoutes::new(options.http, log.clone()),
            authority,
            log,
            permits: Arc::new(Semaphore::new(MAX_REQUESTS)),
            body_memory: Arc::new(Semaphore::new(BODY_MEMORY_KIB)),
        })))
    }

    /// Serves one connection until it ends. An error of the peer ends only that connection.
    pub async fn serve_connection(self, stream: TunnelStream) {
        let service = service_fn(move |request| {
            let routes = Arc::clone(&self.0);
            async move { Ok::<_, Infallible>(routes.serve_request(request).await) }
        });
        let _ = http_server().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
    }

    /// Returns the counts of all requests so far.
    #[must_use]
    pub fn audit_summary(&self) -> AuditSummary {
        self.0.log.current_summary()
    }

    /// Returns the counts of the model route.
    #[must_use]
    pub fn model_stats(&self) -> ModelStats {
        self.0.model.as_ref().map(ModelRoute::current_stats).unwrap_or_default()
    }

    /// Returns whether the model is answering a request.
    #[must_use]
    pub fn is_model_pending(&self) -> bool {
        self.0.model.as_ref().is_some_and(ModelRoute::is_pending)
    }

    /// Returns the certificate of the authority for package registries, in PEM form.
    #[must_use]
    pub fn authority_certificate(&self) -> &str {
        self.0.authority.certificate_pem()
    }

    /// Ends the audit log of a run.
    pub fn close_log(&self) {
        self.0.log.close_run();
    }
}

/// Returns the settings of the HTTP server for connections from the sandbox.
fn http_server() -> hyper::server::conn::http1::Builder {
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD).half_close(true);
    server
}

/// The names of the routes that are addressed by the first segment of a path.
const PREFIXES: [&str; 8] = ["npm", "pypi", "cargo", "go", "maven", "rubygems", "git", "http"];

impl Routes {
    async fn serve_request(self: &Arc<Self>, request: Request<Incoming>) -> Response<Reply> {
        if let Err((status, reason)) = check_framing(&request) {
            let exchange =
                Exchange::start_exchange(&self.log, "", request.method().as_str(), &request.uri().to_string());
            return exchange.deny_response(status, reason);
        }
        if request.method() == Method::CONNECT {
            if let Some((host, port)) = proxy::parse_target(&request)
                && !self.policy.is_denied(&host, port)
                && self.packages.is_registry_host(&host, port, self.route_context()).await
            {
                return self.serve_registry(request, host, port);
            }
            let permit = self.take_permit().await;
            return proxy::serve_connect(request, &self.client, &self.policy, (&self.log, permit)).await;
        }
        if proxy::is_proxy_request(&request) {
            if let Some(url) = self.find_registry_url(&request) {
                return self.serve_own(request, &url).await;
            }
            let permit = self.take_permit().await;
            return proxy::serve_absolute(request, &self.client, &self.policy, (&self.log, permit)).await;
        }
        let path = request.uri().path();
        let prefix = path.strip_prefix('/').and_then(|rest| rest.split_once('/')).map(|(prefix, _)| prefix);
        let route = PREFIXES.into_iter().find(|name| Some(*name) == prefix);
        let name = route.unwrap_or(if self.model.is_some() { "model" } else { "" });
        let mut exchange = Exchange::start_exchange(&self.log, name, request.method().as_str(), path);
        exchange.hold_permit(self.take_permit().await);
        exchange.hold_memory(self.take_body_memory(request.body()).await);
        let (Some(route), Some(rest)) = (route, route.and_then(|name| path.get(name.len() + 2..))) else {
            return match &self.model {
                Some(model) if model.is_denied(&self.policy) => {
                    exchange.deny_response(StatusCode::FORBIDDEN, "the host of the model's API is denied")
                }
                Some(model) => model.serve_request(request, &self.client, exchange).await,
                None => exchange.deny_response(StatusCode::FORBIDDEN, "this sandbox has no route for this request"),
            };
        };
        // npm encodes the slash behind a scope.
        let checked =
            if route == "npm" { rest.replacen("%2f", "/", 1).replacen("%2F", "/", 1) } else { rest.to_owned() };
        let checks = [check_path(&format!("/{checked}")), request.uri().query().map_or(Ok(()), check_query)];
        if let Some(reason) = checks.into_iter().find_map(Result::err) {
            return exchange.deny_response(StatusCode::BAD_REQUEST, reason);
        }
        let (parts, body) = request.into_parts();
        let rest = parts.uri.path()[route.len() + 2..].to_owned();
        let head = RequestHead {
            method: &parts.method,
            path: &rest,
            query: parts.uri.query(),
            headers: &parts.headers,
            is_rubygems: route == "rubygems",
        };
        if route == "http" {
            return self.http.serve_request(head, body, self.route_context(), exchange).await;
        }
        if route == "git" {
            return self.git.serve_request(head, body, &self.client, &self.policy, exchange).await;
        }
        if !hyper::body::Body::is_end_stream(&body) {
            return exchange.deny_response(
                StatusCode::FORBIDDEN,
                &format!("the {route} route only reads; a request with a body is not passed on"),
            );
        }
        self.packages.serve_request(route, head, self.route_context(), exchange).await
    }

    /// Waits until there is memory for a request's body.
    async fn take_body_memory(&self, body: &Incoming) -> RequestPermit {
        let bytes = hyper::body::Body::size_hint(body).upper();
        let size = bytes.map_or(MAX_BODY_KIB, |bytes| bytes.div_ceil(1024).min(MAX_BODY_KIB));
        let size = u32::try_from(size).ok().filter(|size| *size > 0)?;
        Arc::clone(&self.body_memory).acquire_many_owned(size).await.ok()
    }

    /// Waits for one of the concurrent requests that a sandbox may have.
    async fn take_permit(&self) -> RequestPermit {
        Arc::clone(&self.permits).acquire_owned().await.ok()
    }

    fn route_context(&self) -> RouteContext<'_> {
        RouteContext { client: &self.client, policy: &self.policy }
    }

    /// Accepts a tunnel to a package registry, and answers the requests in it under the registry's own name.
    fn serve_registry(self: &Arc<Self>, request: Request<Incoming>, host: HostName, port: u16) -> Response<Reply> {
        let routes = Arc::clone(self);
        tokio::spawn(async move {
            let Ok(upgraded) = hyper::upgrade::on(request).await else { return };
            let Ok(config) = routes.authority.server_config(host.as_str()) else { return };
            let accepting = tokio_rustls::TlsAcceptor::from(config).accept(TokioIo::new(upgraded));
            let stream = match tokio::time::timeout(HEAD_TIMEOUT, accepting).await {
                Ok(Ok(stream)) if stream.get_ref().1.server_name() == Some(host.as_str()) => stream,
                _ => {
                    let mut exchange = Exchange::start_exchange(&routes.log, "", "CONNECT", &format!("{host}:{port}"));
                    exchange.set_host(host.as_str());
                    return exchange.mark_denied("the tunnel did not begin with TLS that names its server, or the client does not trust the sandbox's authority", false);
                }
            };
            let service = service_fn(move |request| {
                let (routes, host) = (Arc::clone(&routes), host.clone());
                async move { Ok::<_, Infallible>(routes.serve_tunneled(request, &host, port).await) }
            });
            let _ = http_server().serve_connection(TokioIo::new(stream), service).await;
        });
        Response::new(full_body(""))
    }

    /// Returns the URL of a request in absolute form, if it is one of a registry without TLS.
    fn find_registry_url(&self, request: &Request<Incoming>) -> Option<Url> {
        let url = Url::parse(&request.uri().to_string()).ok()?;
        let is_plain = url.scheme() == "http" && url.username().is_empty() && url.password().is_none();
        (is_plain && !self.policy.is_url_denied(&url) && self.packages.has_own_origin(&url)).then_some(url)
    }

    /// Answers a request in a tunnel to a registry.
    async fn serve_tunneled(&self, request: Request<Incoming>, host: &HostName, port: u16) -> Response<Reply> {
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        let is_relative = request.uri().authority().is_none();
        match Url::parse(&format!("https://{host}:{port}{target}")).ok().filter(|_| is_relative) {
            Some(url) => self.serve_own(request, &url).await,
            None => {
                let mut exchange = Exchange::start_exchange(&self.log, "", request.method().as_str(), target);
                exchange.set_host(host.as_str());
                exchange.deny_response(StatusCode::BAD_REQUEST, "the path cannot be requested")
            }
        }
    }

    /// Answers a request under a registry's own name.
    async fn serve_own(&self, request: Request<Incoming>, url: &Url) -> Response<Reply> {
        let refuse = |status, reason: &str| {
            let mut exchange = Exchange::start_exchange(&self.log, "", request.method().as_str(), request.uri().path());
            exchange.set_host(url.host_str().unwrap_or_default());
            exchange.deny_response(status, reason)
        };
        if let Err((status, reason)) = check_framing(&request) {
            return refuse(status, reason);
        }
        let path = request.uri().path();
        // npm encodes the slash behind a scope.
        let checked = path.replacen("%2f", "/", 1).replacen("%2F", "/", 1);
        let checks = [check_path(&checked), request.uri().query().map_or(Ok(()), check_query)];
        if let Some(reason) = checks.into_iter().find_map(Result::err) {
            return refuse(StatusCode::BAD_REQUEST, reason);
        }
        if !hyper::body::Body::is_end_stream(request.body()) {
            return refuse(
                StatusCode::FORBIDDEN,
                "package registries are only read; a request with a body is not passed on",
            );
        }
        if url.path() != path {
            return refuse(StatusCode::BAD_REQUEST, "the path cannot be requested");
        }
        let head = RequestHead {
            method: request.method(),
            path,
            query: request.uri().query(),
            headers: request.headers(),
            is_rubygems: false,
        };
        let permit = self.take_permit().await;
        self.packages.serve_own(url, head, self.route_context(), (&self.log, permit)).await
    }
}

/// Checks the framing of a request. Two lengths, or a host that is no authority, could be read in two ways.
fn check_framing(request: &Request<Incoming>) -> Result<(), (StatusCode, &'static str)> {
    let headers = request.headers();
    let lengths = headers.get_all(CONTENT_LENGTH).iter().count() + usize::from(headers.contains_key(TRANSFER_ENCODING));
    if lengths > 1 {
        return Err((StatusCode::BAD_REQUEST, "the request has more than one length"));
    }
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next();
    let is_authority = |value: &hyper::header::HeaderValue| {
        value.to_str().is_ok_and(|text| text.parse::<hyper::http::uri::Authority>().is_ok() && !text.contains('@'))
    };
    if hosts.next().is_some() || !host.is_none_or(is_authority) {
        return Err((StatusCode::BAD_REQUEST, "the request has no valid host header"));
    }
    Ok(())
}
