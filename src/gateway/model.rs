//! The model route: forwards four kinds of requests to the model's API, with the user's credential. All others get a 403.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING,
};
use hyper::{Method, Request, Response, StatusCode, Uri};
use url::Url;

use super::audit::{AuditLog, Exchange};
use super::body::{BodyObserver, Mask, ResponseBody};
use super::headers::strip_hop_headers;
use super::model_request::{ProviderTools, check_message_request};
use super::policy::Policy;
use super::reply::{Reply, full_body};
use super::upstream::{UpstreamClient, UpstreamError};
use super::usage::{TokenUsage, UsageReader};
use super::{Credential, CredentialError, CredentialSource};

/// Maximum size of a request in bytes. The API accepts 32 MB.
const MAX_REQUEST: usize = 64 << 20;
/// Maximum time for the body of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);

/// The settings of the model route.
#[derive(Clone)]
pub struct ModelOptions {
    /// The address of the API: `https://HOST` or, for a local server, `http://HOST:PORT`, with an optional path.
    pub upstream: Uri,
    pub credential: Option<CredentialSource>,
    /// Headers of the user (`ANTHROPIC_CUSTOM_HEADERS`), which may hold credentials.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub provider_tools: ProviderTools,
    /// The number of tokens after which no further request is forwarded.
    pub budget: Option<u64>,
}

impl ModelOptions {
    /// Parses the address of the API.
    ///
    /// # Errors
    /// The address is not an http(s) address, or has a user name or password.
    pub fn parse_upstream(text: &str) -> Result<Uri, &'static str> {
        const INVALID: &str = "ANTHROPIC_BASE_URL is not an http(s) address without a name and password";
        let upstream: Uri = text.trim_end_matches('/').parse().map_err(|_| INVALID)?;
        let authority = upstream.authority().ok_or(INVALID)?;
        // A name and password would be a credential in the address, and addresses are printed.
        if !matches!(upstream.scheme_str(), Some("http" | "https")) || authority.as_str().contains('@') {
            return Err(INVALID);
        }
        Ok(upstream)
    }
}

/// Counts of the model route.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ModelStats {
    /// Messages that the model has answered.
    pub answered: u64,
    pub tokens: TokenUsage,
}

/// The model route of one sandbox.
pub(super) struct ModelRoute {
    options: ModelOptions,
    stats: Arc<Mutex<ModelStats>>,
    /// The number of requests that are being answered.
    pending: Arc<AtomicU64>,
    log: AuditLog,
}

/// A request that is being answered.
struct PendingRequest(Arc<AtomicU64>);

impl PendingRequest {
    fn start_request(pending: &Arc<AtomicU64>) -> Self {
        pending.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(pending))
    }
}

impl Drop for PendingRequest {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl ModelRoute {
    pub(super) fn new(options: ModelOptions, log: AuditLog) -> Self {
        Self { options, stats: Arc::default(), pending: Arc::default(), log }
    }

    /// Returns whether the user denied the host of the API.
    pub(super) fn is_denied(&self, policy: &Policy) -> bool {
        Url::parse(&self.options.upstream.to_string()).is_ok_and(|url| policy.is_url_denied(&url))
    }

    /// Returns the counts so far.
    pub(super) fn current_stats(&self) -> ModelStats {
        self.stats.lock().map(|stats| *stats).unwrap_or_default()
    }

    /// Returns whether a request is being answered.
    pub(super) fn is_pending(&self) -> bool {
        self.pending.load(Ordering::SeqCst) > 0
    }

    /// Answers a request whose path belongs to no other route.
    pub(super) async fn serve_request(
        &self,
        request: Request<Incoming>,
        client: &UpstreamClient,
        mut exchange: Exchange,
    ) -> Response<Reply> {
        exchange.set_host(self.options.upstream.authority().map_or("", |authority| authority.as_str()));
        if !is_allowed(request.method(), request.uri()) {
            return refuse_request(exchange, StatusCode::FORBIDDEN, "this request is none of the model's API");
        }
        let Some(source) = &self.options.credential else {
            return refuse_request(
                exchange,
                StatusCode::FORBIDDEN,
                "no credential for the model was found when the sandbox started",
            );
        };
        let budget = self.options.budget.filter(|budget| self.current_stats().tokens.budgeted_tokens() >= *budget);
        if let Some(budget) = budget {
            let reason = format!(
                "the token budget of {budget} is used up; the work is kept. To continue with a larger one, exit, then run `airlock resume --budget TOKENS` on the host"
            );
            return refuse_request(exchange, StatusCode::FORBIDDEN, &reason);
        }
        // A helper is a command of the user that may take a while.
        let credential = match tokio::task::block_in_place(|| source.read()) {
            Ok(credential) => credential,
            Err(error) => {
                exchange.mark_failed(&error.to_string());
                // Claude Code shows this message to the user.
                let message = match error {
                    CredentialError::Expired(_) => {
                        "the login on the host has expired; renew it there (run Claude Code, then /login), then continue here"
                    }
                    _ => "the credential on the host cannot be used; for the reason, run `airlock doctor` there",
                };
                return respond_with(exchange, StatusCode::UNAUTHORIZED, message);
            }
        };
        let is_message = request.method() == Method::POST && request.uri().path() == "/v1/messages";
        let pending = PendingRequest::start_request(&self.pending);
        let request = match self.read_request(request, &credential).await {
            Ok(request) => request,
            Err(reason) => return refuse_request(exchange, StatusCode::FORBIDDEN, &reason),
        };
        let (head, body) = request.into_parts();
        exchange.add_sent(body.len());
        let request = Request::from_parts(head, Full::new(body).map_err(|never| match never {}).boxed_unsync());
        match self.forward_request(request, client, &credential, (is_message, pending)).await {
            Ok((head, body)) => {
                if head.status == StatusCode::UNAUTHORIZED {
                    source.discard_stored();
                    exchange.mark_failed("the model's API refused the credential (401)");
                } else {
                    exchange.mark_allowed();
                }
                if is_message && head.status.is_success() {
                    update_stats(&self.stats, |stats| stats.answered += 1);
                }
                let mut builder = Response::builder().status(head.status);
                if let Some(headers) = builder.headers_mut() {
                    *headers = head.headers;
                }
                exchange.finish_response(builder, body)
            }
            Err(error) => {
                exchange.mark_failed(&error);
                // The agent does not get the details of failures outside the sandbox.
                respond_with(
                    exchange,
                    StatusCode::BAD_GATEWAY,
                    "failed to reach the model's API; see Airlock's messages on the host",
                )
            }
        }
    }

    /// Reads a request completely, checks its body, and turns it into one for the API.
    async fn read_request(
        &self,
        request: Request<Incoming>,
        credential: &Credential,
    ) -> Result<Request<Bytes>, String> {
        let (mut head, body) = request.into_parts();
        let is_post = head.method == Method::POST;
        if head.headers.get_all(CONTENT_ENCODING).iter().any(|value| value != "identity") {
            return Err("the body is encoded".into());
        }
        let limit = if is_post { MAX_REQUEST } else { 0 };
        let body = tokio::time::timeout(REQUEST_TIMEOUT, Limited::new(body, limit).collect()).await;
        let body = body.map_err(|_| "the body did not end in time")?;
        let body = body
            .map_err(
                |_| if is_post { "the body is too large or broke off" } else { "the request must not have a body" },
            )?
            .to_bytes();
        if is_post {
            check_message_request(&body, &self.options.provider_tools)?;
        }
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let target = format!("{}{path}", self.options.upstream.to_string().trim_end_matches('/'));
        head.uri = target.parse().map_err(|_| "the path cannot be forwarded")?;
        strip_hop_headers(&mut head.headers);
        // The response is not compressed, because it is searched for the credential.
        head.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        head.headers.remove(CONTENT_ENCODING);
        head.headers.remove(hyper::header::CONTENT_LENGTH);
        credential.apply_to_headers(&mut head.headers);
        for (name, value) in &self.options.headers {
            head.headers.insert(name.clone(), value.clone());
        }
        head.extensions.clear();
        Ok(Request::from_parts(head, body))
    }

    async fn forward_request(
        &self,
        request: Request<super::upstream::RequestBody>,
        client: &UpstreamClient,
        credential: &Credential,
        (is_message, pending): (bool, PendingRequest),
    ) -> Result<(hyper::http::response::Parts, Reply), String> {
        let upstream = &self.options.upstream;
        let response = client.send_to_model(request).await.map_err(|error| match error {
            UpstreamError::Refused(reason) | UpstreamError::Failed(reason) => {
                format!("failed to reach the model's API at {upstream}: {reason}")
            }
        })?;
        let is_plain = |name, plain| response.headers().get_all(name).iter().all(|value| value == plain);
        if !is_plain(CONTENT_ENCODING, "identity") || !is_plain(TRANSFER_ENCODING, "chunked") {
            return Err(format!("the model's API at {upstream} answered in an encoding that was not requested"));
        }
        let (mut head, body) = response.into_parts();
        let mask = Mask::new(credential.secret_bytes());
        retain_known_headers(&mut head.headers, &mask);
        let content_type = head.headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        let usage = (is_message && head.status.is_success()).then(|| UsageReader::new(content_type));
        let observer =
            ModelObserver { log: self.log.clone(), stats: Arc::clone(&self.stats), usage, _pending: pending };
        let body = ResponseBody::new(body, mask, observer)
            .map_err(|_| std::io::Error::other("a response of the model's API ended early"));
        Ok((head, body.boxed_unsync()))
    }
}

fn update_stats(stats: &Mutex<ModelStats>, change: impl FnOnce(&mut ModelStats)) {
    if let Ok(mut stats) = stats.lock() {
        change(&mut stats);
    }
}

/// Counts the tokens of a response, and reports a credential in it.
struct ModelObserver {
    log: AuditLog,
    stats: Arc<Mutex<ModelStats>>,
    usage: Option<UsageReader>,
    _pending: PendingRequest,
}

impl BodyObserver for ModelObserver {
    fn on_data(&mut self, chunk: &[u8]) {
        if let Some(usage) = &mut self.usage {
            usage.read_chunk(chunk);
        }
    }

    fn on_mask(&self) {
        self.log.note_event("the model's API returned the credential; it was masked and did not reach the agent");
    }
}

impl Drop for ModelObserver {
    /// Counts even a response that the agent did not read to its end.
    fn drop(&mut self) {
        if let Some(mut usage) = self.usage.take() {
            update_stats(&self.stats, |stats| stats.tokens.add_usage(usage.finish_reading()));
        }
    }
}

/// Response headers that are passed to the agent. Headers that begin with `anthropic-` are passed as well.
const KNOWN_HEADERS: [&str; 8] = [
    "content-type",
    "content-length",
    "date",
    "request-id",
    "retry-after",
    "retry-after-ms",
    "x-request-id",
    "x-should-retry",
];

/// Removes all unknown headers from a response, and known ones that contain the credential.
fn retain_known_headers(headers: &mut HeaderMap, mask: &Mask) {
    let is_kept = |name: &HeaderName, value: &HeaderValue| {
        let is_known = KNOWN_HEADERS.contains(&name.as_str()) || name.as_str().starts_with("anthropic-");
        is_known && !mask.is_contained(value.as_bytes()) && !mask.is_in_lower(name.as_str())
    };
    let kept = headers.iter().filter(|(name, value)| is_kept(name, value)).map(|(n, v)| (n.clone(), v.clone()));
    *headers = kept.collect();
}

/// Returns whether a request is exactly `HEAD /`, `POST /v1/messages`, `POST /v1/messages/count_tokens` or `GET
/// /v1/models[/ID]`, by its raw path.
fn is_allowed(method: &Method, uri: &Uri) -> bool {
    if uri.authority().is_some() {
        return false;
    }
    match (method.as_str(), uri.path()) {
        ("HEAD", "/") | ("POST", "/v1/messages" | "/v1/messages/count_tokens") | ("GET", "/v1/models") => true,
        ("GET", path) => path.strip_prefix("/v1/models/").is_some_and(|id| {
            id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b)) && id.bytes().any(|b| b != b'.')
        }),
        _ => false,
    }
}

/// Refuses a request by a rule.
fn refuse_request(mut exchange: Exchange, status: StatusCode, reason: &str) -> Response<Reply> {
    exchange.mark_denied(reason, false);
    respond_with(exchange, status, reason)
}

/// Responds in the form of the model's API, which Claude Code shows.
fn respond_with(exchange: Exchange, status: StatusCode, message: &str) -> Response<Reply> {
    let message = format!("airlock: {message}");
    let body = serde_json::json!({"type": "error", "error": {"type": "permission_error", "message": message}});
    let builder = Response::builder().status(status).header(CONTENT_TYPE, "application/json");
    exchange.finish_response(builder, full_body(body.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_headers_with_credential_are_dropped() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("anthropic-ratelimit-requests-limit", "50"),
            ("anthropic-ratelimit-sk-ant-secret-1", "1"),
            ("anthropic-organization-id", "of sk-ant-SECRET-1"),
            ("set-cookie", "a=b"),
            ("content-type", "text/plain"),
        ] {
            headers.insert(
                HeaderName::from_bytes(name.as_bytes()).expect("valid header name"),
                HeaderValue::from_static(value),
            );
        }
        retain_known_headers(&mut headers, &Mask::new(b"sk-ant-SECRET-1"));
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["anthropic-ratelimit-requests-limit", "content-type"]);
    }

    #[test]
    fn gateway_has_exactly_four_routes() {
        let allowed = |method: &str, uri: &str| {
            is_allowed(&method.parse().expect("valid method"), &uri.parse().expect("valid URI"))
        };
        for (method, uri) in [
            ("HEAD", "/"),
            ("POST", "/v1/messages?beta=true"),
            ("POST", "/v1/messages/count_tokens"),
            ("GET", "/v1/models"),
            ("GET", "/v1/models/claude-x-1.5"),
        ] {
            assert!(allowed(method, uri), "{method} {uri}");
        }
        for (method, uri) in [
            ("GET", "/"),
            ("POST", "/v1/messages/"),
            ("POST", "/v1//messages"),
            ("POST", "/v1/%6dessages"),
            ("POST", "/v1/messages/batches"),
            ("GET", "/v1/files"),
            ("POST", "/v1/files"),
            ("GET", "/v1/models/."),
            ("GET", "/v1/models/.."),
            ("GET", "/v1/models/"),
            ("GET", "/v1/models/a%2fb"),
            ("GET", "/v1/models/a/b"),
            ("DELETE", "/v1/messages"),
            ("POST", "http://evil.example/v1/messages"),
            ("CONNECT", "evil.example:443"),
        ] {
            assert!(!allowed(method, uri), "{method} {uri}");
        }
    }
}
