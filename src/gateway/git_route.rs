//! The git route: fetches over smart HTTP from hosts of the repository's remotes and submodules. A push cannot pass:
//! only the two requests of `git-upload-pack` exist, and the second is parsed.

use std::collections::HashMap;
use std::io::Read;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Frame, Incoming};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use url::Url;

use super::audit::Exchange;
use super::download_budget::{DownloadBudget, NO_BUDGET};
use super::host::HostName;
use super::packages::RequestHead;
use super::policy::{HostVerdict, Policy};
use super::reply::{ChannelBody, Reply};
use super::upstream::{FetchOptions, IDLE_TIMEOUT, UpstreamClient, UpstreamError, host_of};

/// Maximum size of a request of `git-upload-pack`, decompressed: 300,000 object IDs.
const MAX_REQUEST: usize = 16 << 20;
/// Maximum length of a line with free text, such as the name of a ref, and number of such lines in a request.
const MAX_LINE: usize = 512;
const MAX_TEXT_LINES: usize = 2000;
/// Maximum size of the response to a fetch.
const MAX_RESPONSE: u64 = 16 << 30;

const ADVERTISEMENT: &str = "application/x-git-upload-pack-advertisement";
const UPLOAD_REQUEST: &str = "application/x-git-upload-pack-request";
const UPLOAD_RESULT: &str = "application/x-git-upload-pack-result";
const PROTOCOL: HeaderName = HeaderName::from_static("git-protocol");

/// A function that returns the user's credential for a repository's URL, as the value of an `authorization` header.
pub type FindGitCredential = Arc<dyn Fn(&Url) -> Option<HeaderValue> + Send + Sync>;

/// The hosts and repositories that the git route may reach.
#[derive(Clone, Default)]
pub struct GitUpstreams {
    /// Hosts with their ports from which the agent may fetch.
    pub hosts: Vec<(String, u16)>,
    /// Those of them that are reached without TLS.
    pub http_hosts: Vec<(String, u16)>,
    /// Repositories that are fetched with the user's credential: the repository's own remotes.
    pub remotes: Vec<Url>,
    pub find_credential: Option<FindGitCredential>,
}

/// The git route of one sandbox.
pub(super) struct GitRoute {
    upstreams: GitUpstreams,
    /// Credentials that were found, by repository.
    credentials: Mutex<HashMap<Url, Option<HeaderValue>>>,
    /// Repositories that moved, by their old URL.
    moved: Mutex<HashMap<Url, Url>>,
}

/// The two requests of a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Advertisement,
    Upload,
}

impl GitRoute {
    pub(super) fn new(upstreams: GitUpstreams) -> Self {
        Self { upstreams, credentials: Mutex::default(), moved: Mutex::default() }
    }

    /// Answers a request. The path is `SCHEME/HOST[:PORT]/REPOSITORY/…`.
    pub(super) async fn serve_request(
        &self,
        head: RequestHead<'_>,
        body: Incoming,
        client: &UpstreamClient,
        policy: &Policy,
        mut exchange: Exchange,
    ) -> Response<Reply> {
        let (repository, step) = match parse_request(head.method, head.path, head.query) {
            Ok(parsed) => parsed,
            Err(reason) => return exchange.deny_response(StatusCode::FORBIDDEN, reason),
        };
        exchange.set_host(&host_of(&repository));
        match self.decide_host(&repository, policy) {
            HostVerdict::Allowed => {}
            HostVerdict::Denied => {
                return exchange.deny_response(StatusCode::FORBIDDEN, &format!("{} is denied", host_of(&repository)));
            }
            HostVerdict::NotAllowed => {
                let host = host_of(&repository);
                let reason = format!("fetching from {host} is not allowed");
                return exchange.deny_host_response(&reason, &policy.allow_hint(&host));
            }
        }
        if policy.budget.is_spent() {
            return exchange.deny_response(StatusCode::FORBIDDEN, NO_BUDGET);
        }
        let protocol = head
            .headers
            .get(PROTOCOL)
            .filter(|value| matches!(value.as_bytes(), b"version=0" | b"version=1" | b"version=2"));
        let answered = match step {
            Step::Advertisement => self.request_advertisement(&repository, protocol, (client, policy)).await,
            Step::Upload => {
                let is_gzip = match head.headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes) {
                    None | Some(b"identity") => Some(false),
                    Some(b"gzip" | b"x-gzip") => Some(true),
                    Some(_) => None,
                };
                match read_upload_request(body, is_gzip).await {
                    Ok(body) => {
                        exchange.add_sent(body.len());
                        self.request_pack(&repository, body, protocol, client).await
                    }
                    Err(reason) => return exchange.deny_response(StatusCode::FORBIDDEN, reason),
                }
            }
        };
        let expected = if step == Step::Advertisement { ADVERTISEMENT } else { UPLOAD_RESULT };
        match answered {
            Ok(response) if response.status() == StatusCode::OK => {
                let is_expected = response.headers().get(CONTENT_TYPE).is_some_and(|value| value == expected);
                if !is_expected {
                    return exchange
                        .fail_response(&format!("{} does not speak git's smart protocol", host_of(&repository)));
                }
                exchange.mark_allowed();
                let (sender, channel) = ChannelBody::new();
                tokio::spawn(stream_pack(response.into_body(), sender, policy.budget.clone()));
                exchange.finish_response(
                    Response::builder().header(CONTENT_TYPE, expected).header("cache-control", "no-cache"),
                    channel.into(),
                )
            }
            Ok(response) if matches!(response.status().as_u16(), 401 | 403 | 404) => {
                // git would ask for a password after a 401, which the sandbox does not have.
                exchange.mark_allowed();
                let text = format!(
                    "airlock: {} answered with status {}: the repository does not exist, or needs a credential that git on the host does not have\n",
                    host_of(&repository),
                    response.status().as_u16()
                );
                exchange.finish_response(
                    Response::builder().status(StatusCode::NOT_FOUND).header(CONTENT_TYPE, "text/plain"),
                    super::reply::full_body(text),
                )
            }
            Ok(response) => exchange.fail_response(&format!(
                "{} answered with status {}",
                host_of(&repository),
                response.status().as_u16()
            )),
            Err(UpstreamError::Refused(reason)) => exchange.deny_response(StatusCode::FORBIDDEN, &reason),
            Err(UpstreamError::Failed(reason)) => exchange.fail_response(&reason),
        }
    }

    fn decide_host(&self, repository: &Url, policy: &Policy) -> HostVerdict {
        let (host, port) =
            (repository.host_str().unwrap_or_default(), repository.port_or_known_default().unwrap_or_default());
        let is_own = self.upstreams.hosts.iter().any(|(own, own_port)| own == host && *own_port == port);
        match HostName::parse(host) {
            Ok(name) if policy.is_denied(&name, port) => HostVerdict::Denied,
            _ if is_own => HostVerdict::Allowed,
            Ok(name) => policy.decide_host(&name, port),
            Err(_) => HostVerdict::NotAllowed,
        }
    }

    async fn request_advertisement(
        &self,
        repository: &Url,
        protocol: Option<&HeaderValue>,
        (client, policy): (&UpstreamClient, &Policy),
    ) -> Result<Response<Incoming>, UpstreamError> {
        let url = append_to_url(repository, "info/refs?service=git-upload-pack")?;
        let request = |credential: Option<&HeaderValue>| {
            let mut request = Request::new(Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync());
            request.headers_mut().insert(ACCEPT, HeaderValue::from_static(ADVERTISEMENT));
            request.headers_mut().extend(protocol.map(|value| (PROTOCOL, value.clone())));
            request.headers_mut().extend(credential.map(|value| (AUTHORIZATION, value.clone())));
            request
        };
        let mut response = client.send_request(&url, request(self.known_credential(repository).as_ref())).await?;
        if response.status().is_redirection() {
            // A repository that moved. The final URL is asked again, without a credential.
            let (_, moved) = client
                .get_following(
                    &url,
                    &FetchOptions { accept: Some(ADVERTISEMENT), policy: Some(policy), ..FetchOptions::default() },
                )
                .await?;
            let target = moved
                .as_str()
                .strip_suffix("/info/refs?service=git-upload-pack")
                .and_then(|text| Url::parse(text).ok());
            let target = target
                .ok_or_else(|| UpstreamError::Failed(format!("{} redirects to no repository", host_of(repository))))?;
            if self.decide_host(&target, policy) != HostVerdict::Allowed {
                let (from, to) = (host_of(repository), host_of(&target));
                return Err(UpstreamError::Refused(format!("{from} redirects to {to}, which is not allowed")));
            }
            response = client.send_request(&moved, request(None)).await?;
            if let Ok(mut all) = self.moved.lock() {
                all.insert(repository.clone(), target);
            }
        }
        if response.status() == StatusCode::UNAUTHORIZED
            && let Some(credential) = self.find_credential(repository).await
        {
            response = client.send_request(&url, request(Some(&credential))).await?;
        }
        Ok(response)
    }

    async fn request_pack(
        &self,
        repository: &Url,
        body: Bytes,
        protocol: Option<&HeaderValue>,
        client: &UpstreamClient,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let moved = self.moved.lock().ok().and_then(|moved| moved.get(repository).cloned());
        let url = append_to_url(moved.as_ref().unwrap_or(repository), "git-upload-pack")?;
        let mut request = Request::new(Full::new(body).map_err(|never| match never {}).boxed_unsync());
        *request.method_mut() = Method::POST;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(UPLOAD_REQUEST));
        headers.insert(ACCEPT, HeaderValue::from_static(UPLOAD_RESULT));
        headers.extend(protocol.map(|value| (PROTOCOL, value.clone())));
        if moved.is_none() {
            headers.extend(self.known_credential(repository).map(|value| (AUTHORIZATION, value)));
        }
        client.send_request(&url, request).await
    }

    fn known_credential(&self, repository: &Url) -> Option<HeaderValue> {
        self.credentials.lock().ok()?.get(repository).cloned().flatten()
    }

    /// Asks git on the host for the credential of a remote of the repository. Other repositories of the same host are
    /// only read without one.
    async fn find_credential(&self, repository: &Url) -> Option<HeaderValue> {
        let is_remote = self.upstreams.remotes.iter().any(|remote| is_same_repository(remote, repository));
        let find = self.upstreams.find_credential.clone().filter(|_| is_remote)?;
        let url = repository.clone();
        let found = tokio::task::spawn_blocking(move || find(&url)).await.ok().flatten();
        if let Ok(mut all) = self.credentials.lock() {
            all.insert(repository.clone(), found.clone());
        }
        found
    }
}

fn is_same_repository(a: &Url, b: &Url) -> bool {
    let path = |url: &Url| {
        let path = url.path().trim_end_matches('/');
        path.strip_suffix(".git").unwrap_or(path).to_owned()
    };
    a.origin() == b.origin() && path(a) == path(b)
}

fn append_to_url(repository: &Url, rest: &str) -> Result<Url, UpstreamError> {
    let text = format!("{}/{rest}", repository.as_str().trim_end_matches('/'));
    Url::parse(&text).map_err(|_| UpstreamError::Refused("the repository's URL is invalid".into()))
}

/// Parses a request into the repository's URL and the step.
fn parse_request(method: &Method, path: &str, query: Option<&str>) -> Result<(Url, Step), &'static str> {
    let is_push = path.contains("receive-pack") || query.is_some_and(|query| query.contains("receive-pack"));
    if is_push {
        return Err("the git route only fetches; a push is not passed on. Push from the host after the review");
    }
    let (repository, step) = if let Some(repository) = path.strip_suffix("/info/refs") {
        if query != Some("service=git-upload-pack") {
            return Err("only git's smart protocol for fetching is passed on");
        }
        (repository, Step::Advertisement)
    } else if let Some(repository) = path.strip_suffix("/git-upload-pack") {
        if query.is_some() {
            return Err("a fetch has no query");
        }
        (repository, Step::Upload)
    } else {
        return Err("only git's smart protocol for fetching is passed on");
    };
    match (step, method) {
        (Step::Advertisement, &Method::GET) | (Step::Upload, &Method::POST) => {}
        _ => return Err("the method is not one of a fetch"),
    }
    let (scheme, rest) = repository.split_once('/').ok_or("the path names no repository")?;
    let (authority, name) = rest.split_once('/').ok_or("the path names no repository")?;
    if !matches!(scheme, "https" | "http") || name.is_empty() || authority.contains('@') {
        return Err("the path names no repository");
    }
    let text = format!("{scheme}://{authority}/{name}");
    let url = Url::parse(&text).map_err(|_| "the repository's URL is invalid")?;
    if !url.path().eq(&format!("/{name}")) || !url.username().is_empty() || url.password().is_some() {
        return Err("the repository's URL is invalid");
    }
    Ok((url, step))
}

async fn read_upload_request(body: Incoming, is_gzip: Option<bool>) -> Result<Bytes, &'static str> {
    let is_gzip = is_gzip.ok_or("the request has an unknown encoding")?;
    let body = tokio::time::timeout(IDLE_TIMEOUT, Limited::new(body, MAX_REQUEST).collect()).await;
    let bytes = body.map_err(|_| "the request did not end")?.map_err(|_| "the request is too large")?.to_bytes();
    let bytes = if is_gzip {
        let mut decoded = Vec::new();
        let mut decoder = flate2::read::GzDecoder::new(&bytes[..]).take(MAX_REQUEST as u64 + 1);
        decoder.read_to_end(&mut decoded).map_err(|_| "the request has damaged gzip")?;
        Bytes::from(decoded)
    } else {
        bytes
    };
    if bytes.len() > MAX_REQUEST {
        return Err("the request is too large");
    }
    check_upload_request(&bytes)?;
    Ok(bytes)
}

/// Checks that every packet of a request is one of a fetch (gitprotocol-pack(5), gitprotocol-v2(5)).
///
/// # Errors
/// The reason for the refusal, as a fragment for a message.
pub fn check_upload_request(mut bytes: &[u8]) -> Result<(), &'static str> {
    const INVALID: &str = "the request is not one of a fetch";
    let mut text_lines = 0;
    while !bytes.is_empty() {
        let (digits, rest) = bytes.split_at_checked(4).ok_or(INVALID)?;
        let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
        let length = std::str::from_utf8(digits)
            .ok()
            .filter(|_| is_hex)
            .and_then(|text| usize::from_str_radix(text, 16).ok())
            .ok_or(INVALID)?;
        match length {
            // Flush, delimiter, end of response.
            0..=2 => bytes = rest,
            3 => return Err(INVALID),
            _ => {
                let (line, rest) = rest.split_at_checked(length - 4).ok_or(INVALID)?;
                let line = line.strip_suffix(b"\n").unwrap_or(line);
                let text = std::str::from_utf8(line).map_err(|_| INVALID)?;
                match upload_line_kind(text).ok_or(INVALID)? {
                    LineKind::Fixed => {}
                    LineKind::Text if text_lines < MAX_TEXT_LINES => text_lines += 1,
                    LineKind::Text => return Err("the request names too many refs"),
                }
                bytes = rest;
            }
        }
    }
    Ok(())
}

/// The kind of a line in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineKind {
    /// Words of the protocol and object IDs.
    Fixed,
    /// A name of the client's choice.
    Text,
}

fn upload_line_kind(line: &str) -> Option<LineKind> {
    let is_object = |text: &str| matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit());
    let is_plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._/+:=^*~@{}".contains(&b));
    if line.len() > MAX_LINE || line.bytes().any(|b| b < b' ') {
        return None;
    }
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let (kind, is_valid) = match word {
        // The first `want` of old protocols has capabilities.
        "want" => {
            let mut words = rest.split(' ');
            let is_valid = words.next().is_some_and(is_object);
            let capabilities = words.collect::<Vec<_>>();
            let kind = if capabilities.is_empty() { LineKind::Fixed } else { LineKind::Text };
            (kind, is_valid && capabilities.iter().all(|text| text.len() <= 64 && is_plain(text)))
        }
        "have" | "shallow" => (LineKind::Fixed, is_object(rest)),
        "deepen" | "deepen-since" => {
            (LineKind::Fixed, (1..=20).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_digit()))
        }
        "deepen-not" | "ref-prefix" | "want-ref" | "filter" => (LineKind::Text, !rest.is_empty()),
        "done" | "peel" | "symrefs" | "unborn" | "thin-pack" | "no-progress" | "include-tag" | "ofs-delta"
        | "deepen-relative" | "sideband-all" | "wait-for-done" => (LineKind::Fixed, rest.is_empty()),
        "packfile-uris" => (LineKind::Text, is_plain(rest)),
        _ => match line {
            "command=ls-refs" | "command=fetch" | "object-format=sha1" | "object-format=sha256" => {
                (LineKind::Fixed, true)
            }
            _ => {
                let text = ["agent=", "session-id="].iter().find_map(|key| line.strip_prefix(key))?;
                (LineKind::Text, text.len() <= 64 && is_plain(text))
            }
        },
    };
    is_valid.then_some(kind)
}

async fn stream_pack(
    mut body: Incoming,
    sender: tokio::sync::mpsc::Sender<std::io::Result<Frame<Bytes>>>,
    budget: DownloadBudget,
) {
    let mut total = 0_u64;
    loop {
        let frame = match tokio::time::timeout(IDLE_TIMEOUT, body.frame()).await {
            Ok(None) => return,
            Ok(Some(Ok(frame))) => frame,
            Err(_) | Ok(Some(Err(_))) => {
                let _ = sender.send(Err(std::io::Error::other("the upstream broke off the fetch"))).await;
                return;
            }
        };
        let Ok(data) = frame.into_data() else { continue };
        total += data.len() as u64;
        let chunk = if total > MAX_RESPONSE {
            Err(std::io::Error::other("the fetch is too large"))
        } else if !budget.charge_bytes(data.len() as u64) {
            Err(std::io::Error::other(NO_BUDGET))
        } else {
            Ok(Frame::data(data))
        };
        let is_end = chunk.is_err();
        if sender.send(chunk).await.is_err() || is_end {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_two_requests_of_a_fetch_are_parsed() {
        let parse = |method: &str, path: &str, query| {
            parse_request(&method.parse().expect("a method"), path, query).map(|(url, step)| (url.to_string(), step))
        };
        let service = Some("service=git-upload-pack");
        assert_eq!(
            parse("GET", "https/git.example/a/b.git/info/refs", service),
            Ok(("https://git.example/a/b.git".into(), Step::Advertisement))
        );
        assert_eq!(
            parse("POST", "http/git.example:8080/b/git-upload-pack", None),
            Ok(("http://git.example:8080/b".into(), Step::Upload))
        );
        for (method, path, query) in [
            ("GET", "https/git.example/b/info/refs", None),
            ("GET", "https/git.example/b/info/refs", Some("service=git-receive-pack")),
            ("GET", "https/git.example/b/info/refs", Some("service=git-upload-pack&service=git-receive-pack")),
            ("GET", "https/git.example/b/info/refs", Some("service=git-upload-archive")),
            ("POST", "https/git.example/b/git-receive-pack", None),
            ("POST", "https/git.example/git-receive-pack/git-upload-pack", None),
            ("GET", "https/git.example/b/HEAD", None),
            ("GET", "https/git.example/b/objects/info/packs", None),
            ("POST", "https/git.example/b/info/refs", service),
            ("GET", "https/git.example/b/git-upload-pack", None),
            ("GET", "https/user:pw@git.example/b/info/refs", service),
            ("GET", "https/git.example/info/refs", service),
            ("GET", "file/etc/passwd/info/refs", service),
            ("GET", "ext::sh/x/y/info/refs", service),
            ("GET", "https//b/info/refs", service),
        ] {
            assert!(parse(method, path, query).is_err(), "{method} {path} {query:?}");
        }
    }

    #[test]
    fn upload_requests_are_parsed_strictly() {
        let packet = |line: &str| format!("{:04x}{line}", line.len() + 4);
        let oid = "0123456789012345678901234567890123456789";
        let v0 = packet(&format!("want {oid} multi_ack agent=git/2\n"))
            + "0000"
            + &packet(&format!("have {oid}\n"))
            + &packet("done\n");
        let v2 = packet("command=fetch")
            + &packet("agent=git/2.47")
            + "0001"
            + &packet("thin-pack")
            + &packet(&format!("want {oid}\n"))
            + &packet("deepen 1\n")
            + "0000";
        let refs =
            packet("command=ls-refs\n") + "0001" + &packet("peel\n") + &packet("ref-prefix refs/heads/\n") + "0000";
        for request in [v0.as_str(), &v2, &refs, "0000", ""] {
            assert_eq!(check_upload_request(request.as_bytes()), Ok(()), "{request}");
        }
        let update = packet(&format!("{oid} {oid} refs/heads/main\0report-status"));
        for request in [
            update.as_str(),
            "0003",
            "00",
            "ffff",
            "0009x",
            "+004",
            "secret",
            &packet("have secret"),
            &packet("command=push"),
            &packet("want"),
            &packet(&format!("ref-prefix {}", "x".repeat(MAX_LINE))),
            &packet("filter\u{1}"),
            &packet("agent=a secret text"),
            &packet("server-option=secret"),
            &packet(&format!("want {oid} agent=git secret,text")),
            &packet("ref-prefix refs/x\n").repeat(MAX_TEXT_LINES + 1),
        ] {
            assert!(check_upload_request(request.as_bytes()).is_err(), "{request}");
        }
        assert!(check_upload_request(b"0008\xff\xfe\xfd\xfc").is_err());
    }
}
