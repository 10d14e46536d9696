//! Routes that the user defines: requests to one URL and below, by method and path, with a credential from the host.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH, USER_AGENT,
};
use hyper::{Method, Request, Response, StatusCode};
use url::Url;

use super::audit::{AuditLog, Exchange};
use super::body::{BodyObserver, Mask, ResponseBody};
use super::download_budget::{DownloadBudget, NO_BUDGET};
use super::packages::{RequestHead, RouteContext};
use super::reply::Reply;
use super::upstream::{IDLE_TIMEOUT, UpstreamClient, UpstreamError, host_of};
use crate::core::host_command::run_shell;

/// Maximum size of a request's body in bytes.
const MAX_BODY: usize = 64 << 20;
/// The time that the command for a credential gets.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);
/// Headers of a request that are passed on, and of a response.
const REQUEST_HEADERS: [HeaderName; 7] = [
    ACCEPT,
    CONTENT_TYPE,
    IF_NONE_MATCH,
    USER_AGENT,
    MCP_SESSION,
    HeaderName::from_static("mcp-protocol-version"),
    HeaderName::from_static("last-event-id"),
];
const RESPONSE_HEADERS: [HeaderName; 3] = [CONTENT_TYPE, ETAG, MCP_SESSION];
/// The session of an MCP server behind HTTP.
const MCP_SESSION: HeaderName = HeaderName::from_static("mcp-session-id");

/// The source of a route's credential on the host. It is read when the route is first used.
#[derive(Clone, PartialEq, Eq)]
pub enum RouteCredential {
    /// The value of an environment variable.
    Variable(String),
    /// The output of a shell command, without the line break at its end.
    Command(String),
    /// The credential as it is sent.
    Value(String),
}

/// A route that the user defines.
#[derive(Clone)]
pub struct HttpRouteOptions {
    /// The segment after `/http/` in paths on the gateway.
    pub name: String,
    /// The URL below which the route leads.
    pub url: Url,
    pub methods: Vec<Method>,
    /// Globs of paths below the URL, without a leading slash; none for all paths.
    pub paths: Vec<String>,
    pub header: HeaderName,
    /// A text before the credential, such as `Bearer `.
    pub prefix: String,
    pub credential: Option<RouteCredential>,
}

impl fmt::Debug for HttpRouteOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpRouteOptions({})", self.name)
    }
}

/// The routes of the user.
pub(super) struct HttpRoutes {
    routes: Vec<HttpRoute>,
    log: AuditLog,
}

struct HttpRoute {
    options: HttpRouteOptions,
    paths: Option<GlobSet>,
    credential: Mutex<Option<HeaderValue>>,
}

/// Checks the globs of a route.
///
/// # Errors
/// The problem of a glob.
pub fn parse_route_paths(paths: &[String]) -> Result<GlobSet, String> {
    let mut set = GlobSetBuilder::new();
    for path in paths {
        set.add(GlobBuilder::new(path).literal_separator(true).build().map_err(|error| error.to_string())?);
    }
    set.build().map_err(|error| error.to_string())
}

impl HttpRoutes {
    pub(super) fn new(options: Vec<HttpRouteOptions>, log: AuditLog) -> Self {
        let to_route = |options: HttpRouteOptions| HttpRoute {
            // The settings were checked. A glob that cannot be parsed matches nothing.
            paths: (!options.paths.is_empty()).then(|| parse_route_paths(&options.paths).unwrap_or_default()),
            options,
            credential: Mutex::default(),
        };
        Self { routes: options.into_iter().map(to_route).collect(), log }
    }

    /// Answers a request. The path is `NAME/…`.
    pub(super) async fn serve_request(
        &self,
        head: RequestHead<'_>,
        body: Incoming,
        context: RouteContext<'_>,
        mut exchange: Exchange,
    ) -> Response<Reply> {
        // Without a slash, it is the route's own address.
        let (name, path, is_exact) =
            head.path.split_once('/').map_or((head.path, "", true), |(name, path)| (name, path, false));
        let Some(route) = self.routes.iter().find(|route| route.options.name == name) else {
            return exchange
                .deny_response(StatusCode::FORBIDDEN, "the configuration on the host defines no such route");
        };
        exchange.set_host(&host_of(&route.options.url));
        if !route.options.methods.contains(head.method) {
            return exchange
                .deny_response(StatusCode::FORBIDDEN, &format!("the route {name} does not pass {}", head.method));
        }
        if route.paths.as_ref().is_some_and(|paths| !paths.is_match(path)) {
            return exchange.deny_response(StatusCode::FORBIDDEN, &format!("the route {name} does not pass this path"));
        }
        let below = format!("{}/{path}", route.options.url.as_str().trim_end_matches('/'));
        let target = format!(
            "{}{}",
            if is_exact { route.options.url.as_str() } else { &below },
            head.query.map_or_else(String::new, |query| format!("?{query}"))
        );
        let Some(url) = Url::parse(&target).ok().filter(|url| url.as_str() == target) else {
            return exchange.deny_response(StatusCode::FORBIDDEN, "the path cannot be requested");
        };
        if context.policy.is_url_denied(&url) {
            return exchange.deny_response(StatusCode::FORBIDDEN, &format!("{} is denied", host_of(&url)));
        }
        if context.policy.budget.is_spent() {
            return exchange.deny_response(StatusCode::FORBIDDEN, NO_BUDGET);
        }
        let limit = if matches!(*head.method, Method::GET | Method::HEAD) { 0 } else { MAX_BODY };
        let body = match tokio::time::timeout(IDLE_TIMEOUT, Limited::new(body, limit).collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            _ => {
                return exchange
                    .deny_response(StatusCode::FORBIDDEN, "the body is not allowed, too large, or broke off");
            }
        };
        let credential = match route.read_credential().await {
            Ok(credential) => credential,
            Err(reason) => return exchange.fail_response(&reason),
        };
        exchange.add_sent(body.len());
        match route.send_request(&url, &head, body, credential.as_ref(), context.client).await {
            Ok(response) => {
                let observer = RouteObserver(self.log.clone(), context.policy.budget.clone());
                build_response(response, credential.as_ref(), &route.options, (exchange, observer))
            }
            Err(UpstreamError::Refused(reason)) => exchange.deny_response(StatusCode::FORBIDDEN, &reason),
            Err(UpstreamError::Failed(reason)) => exchange.fail_response(&reason),
        }
    }
}

impl HttpRoute {
    /// Returns the value of the credential's header.
    async fn read_credential(&self) -> Result<Option<HeaderValue>, String> {
        let Some(source) = self.options.credential.clone() else { return Ok(None) };
        if let Some(known) = self.credential.lock().ok().and_then(|known| known.clone()) {
            return Ok(Some(known));
        }
        let name = &self.options.name;
        let read = tokio::task::spawn_blocking(move || source.read_value()).await;
        let text = read
            .ok()
            .flatten()
            .ok_or_else(|| format!("the credential of the route {name} cannot be read on the host"))?;
        let mut value = HeaderValue::from_str(&format!("{}{text}", self.options.prefix))
            .map_err(|_| format!("the credential of the route {name} has a character that a header cannot contain"))?;
        value.set_sensitive(true);
        if let Ok(mut known) = self.credential.lock() {
            *known = Some(value.clone());
        }
        Ok(Some(value))
    }

    async fn send_request(
        &self,
        url: &Url,
        head: &RequestHead<'_>,
        body: Bytes,
        credential: Option<&HeaderValue>,
        client: &UpstreamClient,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let mut request = Request::new(Full::new(body).map_err(|never| match never {}).boxed_unsync());
        *request.method_mut() = head.method.clone();
        let headers = request.headers_mut();
        for name in REQUEST_HEADERS {
            headers.extend(head.headers.get(&name).map(|value| (name, value.clone())));
        }
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.extend(credential.map(|value| (self.options.header.clone(), value.clone())));
        client.send_request(url, request).await
    }
}

fn build_response(
    response: Response<Incoming>,
    credential: Option<&HeaderValue>,
    options: &HttpRouteOptions,
    (mut exchange, observer): (Exchange, RouteObserver),
) -> Response<Reply> {
    if response.headers().get_all(CONTENT_ENCODING).iter().any(|value| value != "identity") {
        return exchange.fail_response("the upstream answered in an encoding that was not requested");
    }
    exchange.mark_allowed();
    let (head, body) = response.into_parts();
    let secret = credential.map(HeaderValue::as_bytes).unwrap_or_default();
    let mask = Mask::new(secret.strip_prefix(options.prefix.as_bytes()).unwrap_or(secret));
    let mut builder = Response::builder().status(head.status);
    for name in RESPONSE_HEADERS {
        for value in head.headers.get_all(&name).iter().filter(|value| !mask.is_contained(value.as_bytes())) {
            builder = builder.header(name.clone(), value);
        }
    }
    let body = ResponseBody::new(body, mask, observer);
    let body = body.map_err(|_| std::io::Error::other("the upstream broke off a response")).boxed_unsync();
    exchange.finish_response(builder, body)
}

impl RouteCredential {
    fn read_value(&self) -> Option<String> {
        match self {
            Self::Variable(name) => std::env::var(name).ok().filter(|value| !value.is_empty()),
            Self::Value(value) => Some(value.clone()).filter(|value| !value.is_empty()),
            Self::Command(command) => {
                let output = run_shell(command, COMMAND_TIMEOUT).ok()?;
                let text = String::from_utf8(output.stdout).ok()?.trim_end_matches(['\n', '\r']).to_owned();
                (output.status.success() && !text.is_empty()).then_some(text)
            }
        }
    }
}

struct RouteObserver(AuditLog, DownloadBudget);

impl BodyObserver for RouteObserver {
    fn on_data(&mut self, chunk: &[u8]) {
        self.1.charge_bytes(chunk.len() as u64);
    }

    fn on_mask(&self) {
        self.0.note_event("an upstream returned the credential of a route; it was masked and did not reach the agent");
    }
}
