//! The model route: forwards four kinds of requests to the model's API, with the user's credential. All others get a 403.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::DuplexStream;

use super::body::{BodyObserver, DataBody, Mask, ResponseBody};
use super::{CredentialError, CredentialSource};

type Body = Either<ResponseBody<FailureRecorder>, Full<Bytes>>;

/// The proxy for the connections of one sandbox.
#[derive(Clone)]
pub struct ModelProxy {
    client: Client<HttpsConnector<HttpConnector>, DataBody>,
    upstream: Uri,
    credential: Option<CredentialSource>,
    stats: Arc<Mutex<ProxyStats>>,
}

/// The statistics of a route.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxyStats {
    /// Requests that were forwarded.
    pub forwarded: u64,
    /// Messages that the model has answered.
    pub answered: u64,
    /// Refused requests by method and path, which are untrusted, with their count.
    pub refused: BTreeMap<String, u64>,
    /// Failures of the upstream, in Airlock's words, with their count.
    pub failures: BTreeMap<String, u64>,
}

impl ModelProxy {
    /// Creates a route to `upstream` (`https://HOST` or, for a local server, `http://HOST:PORT`).
    ///
    /// # Errors
    /// The address is no such URI, or the system has no root certificates.
    pub fn new(upstream: &str, credential: Option<CredentialSource>) -> std::io::Result<Self> {
        let invalid = || {
            std::io::Error::new(
                std::io::ErrorKind::InvalidInput,
                "ANTHROPIC_BASE_URL is not an http(s) address without a name and password",
            )
        };
        let upstream: Uri = upstream.trim_end_matches('/').parse().map_err(|_| invalid())?;
        let authority = upstream.authority().ok_or_else(invalid)?;
        // A name and password would be a credential in the address, and addresses are printed.
        if !matches!(upstream.scheme_str(), Some("http" | "https")) || authority.as_str().contains('@') {
            return Err(invalid());
        }
        let https =
            hyper_rustls::HttpsConnectorBuilder::new().with_native_roots()?.https_or_http().enable_http1().build();
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(https),
            upstream,
            credential,
            stats: Arc::default(),
        })
    }

    /// Serves one connection until it ends. An error of the peer ends only that connection.
    pub async fn serve_connection(self, stream: DuplexStream) {
        let service = service_fn(move |request| {
            let route = self.clone();
            async move { Ok::<_, std::convert::Infallible>(route.handle_request(request).await) }
        });
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }

    /// Returns the statistics so far.
    #[must_use]
    pub fn current_stats(&self) -> ProxyStats {
        self.stats.lock().map(|r| r.clone()).unwrap_or_default()
    }

    fn update_stats(&self, change: impl FnOnce(&mut ProxyStats)) {
        update_shared_stats(&self.stats, change);
    }

    async fn handle_request(&self, request: Request<Incoming>) -> Response<Body> {
        if !is_allowed(request.method(), request.uri()) {
            let what: String = format!("{} {}", request.method(), request.uri().path()).chars().take(120).collect();
            self.update_stats(|r| {
                if r.refused.len() < 100 || r.refused.contains_key(&what) {
                    *r.refused.entry(what).or_default() += 1;
                }
            });
            return refusal_response(StatusCode::FORBIDDEN, "airlock: this sandbox can reach only the model's API");
        }
        let Some(source) = &self.credential else {
            return refusal_response(
                StatusCode::FORBIDDEN,
                "airlock: no credential for the model was found when the sandbox started",
            );
        };
        let credential = match source.read() {
            Ok(credential) => credential,
            Err(error) => {
                self.update_stats(|r| *r.failures.entry(error.to_string()).or_default() += 1);
                // Claude Code shows this message to the user.
                let what = match error {
                    CredentialError::Expired(_) => {
                        "airlock: the login on the host has expired; renew it there (run Claude Code, then /login), then continue here"
                    }
                    _ => {
                        "airlock: the credential on the host cannot be used; for the reason, run `airlock doctor` there"
                    }
                };
                return refusal_response(StatusCode::UNAUTHORIZED, what);
            }
        };
        let is_message = request.method() == Method::POST && request.uri().path() == "/v1/messages";
        match self.forward_request(request, &credential).await {
            Ok(response) => {
                self.update_stats(|r| {
                    r.forwarded += 1;
                    r.answered += u64::from(is_message && response.status().is_success());
                    if response.status() == StatusCode::UNAUTHORIZED {
                        *r.failures.entry("the model's API refused the credential (401)".into()).or_default() += 1;
                    }
                });
                response
            }
            Err(error) => {
                self.update_stats(|r| *r.failures.entry(error.clone()).or_default() += 1);
                // The agent does not get the details of failures outside the sandbox.
                refusal_response(
                    StatusCode::BAD_GATEWAY,
                    "airlock: failed to reach the model's API; see Airlock's messages on the host",
                )
            }
        }
    }

    async fn forward_request(
        &self,
        mut request: Request<Incoming>,
        credential: &super::Credential,
    ) -> Result<Response<Body>, String> {
        let unreachable = |e: &dyn std::error::Error| {
            let mut error = e;
            while let Some(source) = error.source() {
                error = source;
            }
            format!("failed to reach the model's API at {}: {error}", self.upstream)
        };
        let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
        let target = format!("{}{path}", self.upstream.to_string().trim_end_matches('/'));
        *request.uri_mut() = target.parse().map_err(|_| "the request's path cannot be forwarded".to_owned())?;
        let headers = request.headers_mut();
        strip_hop_headers(headers);
        // The response is not compressed, because it is searched for the credential.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        credential.apply_to_headers(headers);
        let response = self.client.request(request.map(DataBody)).await.map_err(|e| unreachable(&e))?;
        let is_plain = |name, plain| response.headers().get_all(name).iter().all(|value| value == plain);
        if !is_plain(CONTENT_ENCODING, "identity") || !is_plain(TRANSFER_ENCODING, "chunked") {
            return Err(format!("the model's API at {} answered in an encoding that was not requested", self.upstream));
        }
        let (mut head, body) = response.into_parts();
        let mask = Mask::new(credential.secret_bytes());
        retain_known_headers(&mut head.headers, &mask);
        head.extensions.clear();
        Ok(Response::from_parts(
            head,
            Either::Left(ResponseBody::new(body, mask, FailureRecorder(Arc::clone(&self.stats)))),
        ))
    }
}

fn update_shared_stats(report: &Mutex<ProxyStats>, change: impl FnOnce(&mut ProxyStats)) {
    if let Ok(mut report) = report.lock() {
        change(&mut report);
    }
}

/// An observer that records failures of response bodies.
struct FailureRecorder(Arc<Mutex<ProxyStats>>);

impl FailureRecorder {
    fn record_failure(&self, what: &str) {
        update_shared_stats(&self.0, |r| *r.failures.entry(what.to_owned()).or_default() += 1);
    }
}

impl BodyObserver for FailureRecorder {
    fn on_break(&self) {
        self.record_failure("a response of the model's API ended early");
    }

    fn on_mask(&self) {
        self.record_failure("the model's API returned the credential; it was masked and did not reach the agent");
    }
}

/// Removes the headers that are meant for one connection (RFC 9110, 7.6.1), and those that announce trailers.
fn strip_hop_headers(headers: &mut HeaderMap) {
    let listed: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let named = ["keep-alive", "proxy-connection"].map(HeaderName::from_static);
    for name in listed.iter().chain(&named).chain(&[CONNECTION, UPGRADE, TRANSFER_ENCODING, HOST, TE, TRAILER, EXPECT])
    {
        headers.remove(name);
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

fn refusal_response(status: StatusCode, message: &str) -> Response<Body> {
    let body = serde_json::json!({"type": "error", "error": {"type": "permission_error", "message": message}});
    let mut response = Response::new(Either::Right(Full::new(Bytes::from(body.to_string()))));
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
    response
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
