//! The proxy for hosts that the user allowed: tunnels by `CONNECT`, whose TLS stays end to end, and plain HTTP in
//! absolute form.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use url::Url;

use super::audit::{AuditLog, Exchange, RequestPermit};
use super::body::DataBody;
use super::client_hello::{HelloState, MAX_HELLO, parse_hello};
use super::counted::{ByteCounts, CountedStream};
use super::download_budget::{DownloadBudget, NO_BUDGET};
use super::headers::strip_hop_headers;
use super::host::{HostError, HostName};
use super::policy::{HostVerdict, Policy};
use super::reply::{ChannelBody, Reply, full_body};
use super::upstream::{IDLE_TIMEOUT, UpstreamClient, UpstreamError, host_of};

/// Time after which a tunnel in which nothing is transferred is closed.
const TUNNEL_IDLE: Duration = Duration::from_secs(300);
/// Time between two looks at the policy while a tunnel is open.
const TUNNEL_CHECK: Duration = Duration::from_millis(500);
/// Maximum time for the first message of TLS.
const HELLO_TIMEOUT: Duration = Duration::from_secs(15);

/// Serves a `CONNECT` request: checks the host, connects, and relays once the client's TLS names the same host.
pub(super) async fn serve_connect(
    request: Request<Incoming>,
    client: &UpstreamClient,
    policy: &Arc<Policy>,
    (log, permit): (&AuditLog, RequestPermit),
) -> Response<Reply> {
    let target = request.uri().to_string();
    let mut exchange = Exchange::start_exchange(log, "proxy", "CONNECT", &target);
    exchange.hold_permit(permit);
    let (host, port) = match split_target(&target) {
        Ok(parsed) => parsed,
        Err(reason) => {
            exchange.set_host(&target);
            return exchange.deny_response(StatusCode::FORBIDDEN, &reason);
        }
    };
    exchange.set_host(&name_target(&host, port));
    if let Err(response) = check_policy(policy, &host, port) {
        return refuse_target(exchange, response, policy);
    }
    let upstream = match client.connect_tunnel(&host, port).await {
        Ok(stream) => stream,
        Err(UpstreamError::Refused(reason)) => return exchange.deny_response(StatusCode::FORBIDDEN, &reason),
        Err(UpstreamError::Failed(reason)) => return exchange.fail_response(&reason),
    };
    let policy = Arc::clone(policy);
    tokio::spawn(async move {
        match hyper::upgrade::on(request).await {
            Ok(upgraded) => relay_tunnel(TokioIo::new(upgraded), upstream, (&host, port), (&policy, exchange)).await,
            Err(_) => drop(exchange),
        }
    });
    let mut response = Response::new(full_body(""));
    *response.status_mut() = StatusCode::OK;
    response
}

/// A refusal by the policy.
struct Refusal {
    reason: String,
    /// The pattern that would allow the host.
    pattern: Option<String>,
}

fn check_policy(policy: &Policy, host: &HostName, port: u16) -> Result<(), Refusal> {
    if policy.budget.is_spent() {
        return Err(Refusal { reason: NO_BUDGET.into(), pattern: None });
    }
    match policy.decide_host(host, port) {
        HostVerdict::Allowed => Ok(()),
        HostVerdict::Denied => Err(Refusal { reason: format!("{host} is denied"), pattern: None }),
        HostVerdict::NotAllowed => {
            let name = name_target(host, port);
            Err(Refusal { reason: format!("{name} is not allowed"), pattern: Some(name) })
        }
    }
}

fn refuse_target(exchange: Exchange, refusal: Refusal, policy: &Policy) -> Response<Reply> {
    match refusal.pattern {
        Some(pattern) => exchange.deny_host_response(&refusal.reason, &policy.allow_hint(&pattern)),
        None => exchange.deny_response(StatusCode::FORBIDDEN, &refusal.reason),
    }
}

fn name_target(host: &HostName, port: u16) -> String {
    if matches!(port, 80 | 443) { host.to_string() } else { format!("{host}:{port}") }
}

/// Returns the host and port of a `CONNECT` request, if they are valid.
pub(super) fn parse_target(request: &Request<Incoming>) -> Option<(HostName, u16)> {
    split_target(&request.uri().to_string()).ok()
}

/// Splits `HOST:PORT` and checks both.
fn split_target(target: &str) -> Result<(HostName, u16), String> {
    let shown: String = target.chars().take(100).collect();
    let (host, port) = target.rsplit_once(':').ok_or_else(|| format!("{shown} has no port"))?;
    let port =
        port.parse::<u16>().ok().filter(|port| *port != 0).ok_or_else(|| format!("{shown} has no valid port"))?;
    let host = HostName::parse(host).map_err(|error| match error {
        HostError::Address => {
            format!("{shown} is an address; only names can be reached. For a service of the host, see --forward")
        }
        HostError::Invalid => format!("{shown} is not the name of a host"),
    })?;
    Ok((host, port))
}

/// Relays a tunnel in both directions until both ends are closed.
async fn relay_tunnel(
    mut agent: TokioIo<hyper::upgrade::Upgraded>,
    mut upstream: TcpStream,
    (host, port): (&HostName, u16),
    (policy, mut exchange): (&Policy, Exchange),
) {
    let hello = match tokio::time::timeout(HELLO_TIMEOUT, read_hello(&mut agent)).await {
        Ok(Ok(hello)) => hello,
        Ok(Err(reason)) => return exchange.mark_denied(reason, false),
        Err(_) => return exchange.mark_denied("the tunnel did not begin with TLS", false),
    };
    let HelloState::ServerName(name) = parse_hello(&hello) else {
        return exchange.mark_denied("the tunnel did not begin with TLS that names its server", false);
    };
    if HostName::parse(&name).as_ref() != Ok(host) {
        return exchange.mark_denied(&format!("the TLS in the tunnel names {name}"), false);
    }
    exchange.mark_allowed();
    exchange.add_sent(hello.len());
    if upstream.write_all(&hello).await.is_err() {
        return exchange.mark_failed("the upstream closed the tunnel");
    }
    // An idle tunnel keeps no request of others waiting.
    exchange.hold_permit(None);
    let counts = ByteCounts::default();
    let charged = AtomicU64::new(0);
    let mut agent = CountedStream::new(agent, &counts);
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut agent, &mut upstream) => {}
        () = counts.wait_idle(TUNNEL_IDLE) => {}
        reason = watch_tunnel(&counts, &charged, policy, (host, port)) => exchange.mark_denied(&reason, false),
    }
    let (sent, received) = counts.current_counts();
    // The last look may be a while ago.
    policy.budget.charge_bytes(received.saturating_sub(charged.load(Ordering::Relaxed)));
    exchange.add_sent(usize::try_from(sent).unwrap_or(usize::MAX));
    exchange.add_received(usize::try_from(received).unwrap_or(usize::MAX));
}

/// Returns once the user denies the host of a tunnel, or once nothing may be downloaded any longer, with the reason.
async fn watch_tunnel(
    counts: &ByteCounts,
    charged: &AtomicU64,
    policy: &Policy,
    (host, port): (&HostName, u16),
) -> String {
    loop {
        tokio::time::sleep(TUNNEL_CHECK).await;
        let (_, received) = counts.current_counts();
        let before = charged.swap(received, Ordering::Relaxed);
        if !policy.budget.charge_bytes(received.saturating_sub(before)) {
            return NO_BUDGET.into();
        }
        if policy.decide_host(host, port) != HostVerdict::Allowed {
            return format!("{host} was denied while the tunnel was open");
        }
    }
}

async fn read_hello(agent: &mut (impl AsyncReadExt + Unpin)) -> Result<Vec<u8>, &'static str> {
    let mut hello = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match agent.read(&mut buffer).await {
            Ok(n @ 1..) => hello.extend_from_slice(&buffer[..n]),
            _ => return Err("the tunnel ended before TLS began"),
        }
        match parse_hello(&hello) {
            HelloState::Incomplete if hello.len() <= MAX_HELLO => {}
            HelloState::ServerName(_) => return Ok(hello),
            _ => return Err("the tunnel did not begin with TLS that names its server"),
        }
    }
}

/// Forwards a request in absolute form, `http://HOST/…`, to an allowed host.
pub(super) async fn serve_absolute(
    mut request: Request<Incoming>,
    client: &UpstreamClient,
    policy: &Policy,
    (log, permit): (&AuditLog, RequestPermit),
) -> Response<Reply> {
    let mut exchange = Exchange::start_exchange(log, "proxy", request.method().as_str(), request.uri().path());
    exchange.hold_permit(permit);
    let target = request.uri().to_string();
    let host = request.uri().host().unwrap_or_default().to_owned();
    exchange.set_host(&host);
    let url = match Url::parse(&target) {
        Ok(url) if url.scheme() == "http" && url.username().is_empty() && url.password().is_none() => url,
        _ => {
            return exchange
                .deny_response(StatusCode::FORBIDDEN, "only http:// URLs without a user name are forwarded");
        }
    };
    let port = url.port_or_known_default().unwrap_or(80);
    let name = match split_target(&format!("{host}:{port}")) {
        Ok((name, _)) => name,
        Err(reason) => return exchange.deny_response(StatusCode::FORBIDDEN, &reason),
    };
    exchange.set_host(&name_target(&name, port));
    if let Err(refusal) = check_policy(policy, &name, port) {
        return refuse_target(exchange, refusal, policy);
    }
    strip_hop_headers(request.headers_mut());
    let announced = hyper::body::Body::size_hint(request.body()).exact();
    exchange.add_sent(usize::try_from(announced.unwrap_or(0)).unwrap_or(usize::MAX));
    let request = request.map(|body| http_body_util::BodyExt::boxed_unsync(DataBody(body)));
    match client.forward_request(&url, request).await {
        Ok(response) => {
            exchange.mark_allowed();
            let (mut head, body) = response.into_parts();
            strip_hop_headers(&mut head.headers);
            let (sender, channel) = ChannelBody::new();
            tokio::spawn(stream_body(body, sender, host_of(&url), policy.budget.clone()));
            let mut builder = Response::builder().status(head.status);
            if let Some(headers) = builder.headers_mut() {
                *headers = head.headers;
            }
            exchange.finish_response(builder, channel.into())
        }
        Err(UpstreamError::Refused(reason)) => exchange.deny_response(StatusCode::FORBIDDEN, &reason),
        Err(UpstreamError::Failed(reason)) => exchange.fail_response(&reason),
    }
}

/// Streams a body into a channel, within the idle limit.
async fn stream_body(
    mut body: Incoming,
    sender: tokio::sync::mpsc::Sender<std::io::Result<hyper::body::Frame<bytes::Bytes>>>,
    host: String,
    budget: DownloadBudget,
) {
    use http_body_util::BodyExt as _;
    loop {
        let frame = match tokio::time::timeout(IDLE_TIMEOUT, body.frame()).await {
            Ok(None) => return,
            Ok(Some(Ok(frame))) => frame,
            Err(_) | Ok(Some(Err(_))) => {
                let _ = sender.send(Err(std::io::Error::other(format!("{host} broke off a response")))).await;
                return;
            }
        };
        let Ok(data) = frame.into_data() else { continue };
        let is_allowed = budget.charge_bytes(data.len() as u64);
        let frame = if is_allowed { Ok(hyper::body::Frame::data(data)) } else { Err(std::io::Error::other(NO_BUDGET)) };
        if sender.send(frame).await.is_err() || !is_allowed {
            return;
        }
    }
}

/// Returns whether a request asks for a proxy.
pub(super) fn is_proxy_request(request: &Request<Incoming>) -> bool {
    request.method() == Method::CONNECT || request.uri().authority().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_names_with_ports() {
        let split = |target: &str| split_target(target).map(|(host, port)| format!("{host} {port}"));
        assert_eq!(split("Example.ORG.:443").as_deref(), Ok("example.org 443"));
        for target in [
            "127.0.0.1:443",
            "0x7f.1:443",
            "2130706433:80",
            "[::1]:443",
            "[64:ff9b::7f00:1]:443",
            "::1:443",
            "169.254.169.254:80",
            "example.org",
            "example.org:0",
            "example.org:99999",
            "example.org:443x",
            "a\0b:443",
            "a b:443",
            ":443",
            "user@example.org:443",
        ] {
            assert!(split(target).is_err(), "{target}");
        }
    }
}
