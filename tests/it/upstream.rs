//! Servers on loopback that stand for what is outside the sandbox: a scripted HTTP server, and a git server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

/// A received request.
#[derive(Debug, Clone)]
pub struct UpstreamRequest {
    pub method: String,
    /// The path with the query.
    pub target: String,
    /// The headers as they were sent, in lower case.
    pub head: String,
    pub body: Vec<u8>,
}

/// A scripted HTTP server. It closes each connection after one response.
pub struct Upstream {
    /// The address, such as `http://127.0.0.1:PORT`.
    pub url: String,
    pub port: u16,
    seen: Arc<Mutex<Vec<UpstreamRequest>>>,
}

type Respond = Arc<dyn Fn(&UpstreamRequest) -> Vec<u8> + Send + Sync>;

impl Upstream {
    /// Starts a server that responds with the bytes that `respond` returns for a request.
    pub fn start(respond: impl Fn(&UpstreamRequest) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::listen("http://127.0.0.1", None, Arc::new(respond))
    }

    /// Starts a server with TLS for `localhost`. Also returns its certificate in PEM form.
    pub fn start_tls(respond: impl Fn(&UpstreamRequest) -> Vec<u8> + Send + Sync + 'static) -> (Self, String) {
        let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let private = rustls::pki_types::PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![key.cert.der().clone()], private)
            .expect("valid");
        (Self::listen("https://localhost", Some(Arc::new(config)), Arc::new(respond)), key.cert.pem())
    }

    fn listen(scheme: &str, tls: Option<Arc<rustls::ServerConfig>>, respond: Respond) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port");
        let port = listener.local_addr().expect("it is bound").port();
        let seen = Arc::<Mutex<Vec<UpstreamRequest>>>::default();
        let log = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, respond, tls) = (Arc::clone(&log), Arc::clone(&respond), tls.clone());
                std::thread::spawn(move || match tls {
                    None => serve_stream(&mut &stream, &log, &respond),
                    Some(config) => {
                        let connection = rustls::ServerConnection::new(config).expect("a connection");
                        let mut stream = rustls::StreamOwned::new(connection, stream);
                        serve_stream(&mut stream, &log, &respond);
                        stream.conn.send_close_notify();
                        let _ = stream.flush();
                    }
                });
            }
        });
        Self { url: format!("{scheme}:{port}"), port, seen }
    }

    /// Returns the requests so far.
    pub fn seen(&self) -> Vec<UpstreamRequest> {
        self.seen.lock().expect("no panic").clone()
    }

    /// Returns the method and target of each request so far.
    pub fn targets(&self) -> Vec<String> {
        self.seen().iter().map(|request| format!("{} {}", request.method, request.target)).collect()
    }
}

fn serve_stream(stream: &mut (impl Read + Write), log: &Mutex<Vec<UpstreamRequest>>, respond: &Respond) {
    let Some(request) = read_request(stream) else { return };
    log.lock().expect("no panic").push(request.clone());
    let _ = stream.write_all(&respond(&request));
}

/// Reads a request with its body.
fn read_request(stream: &mut impl Read) -> Option<UpstreamRequest> {
    let mut reader = BufReader::new(stream);
    let (mut head, mut line) = (String::new(), String::new());
    while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
        head += &std::mem::take(&mut line);
    }
    let mut words = head.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let lower = head.to_ascii_lowercase();
    let length = lower.split("content-length: ").nth(1).and_then(|rest| rest.split('\r').next()?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some(UpstreamRequest { method, target, head: lower, body })
}

/// Returns a response with a body.
pub fn ok(content_type: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Returns a response without a body.
pub fn status(line: &str) -> Vec<u8> {
    format!("HTTP/1.1 {line}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").into_bytes()
}

/// Returns the responses of a git server for the repositories in a directory, through `git http-backend`.
pub fn git_server(root: &Path) -> impl Fn(&UpstreamRequest) -> Vec<u8> + Send + Sync + 'static {
    let root: PathBuf = root.to_owned();
    move |request| {
        let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        let header = |name: &str| {
            let line = request.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            line.unwrap_or_default().trim().to_owned()
        };
        let mut backend = Command::new("git")
            .arg("http-backend")
            .env_clear()
            .env("PATH", std::env::var("PATH").expect("a PATH"))
            .env("GIT_PROJECT_ROOT", &root)
            .env("GIT_HTTP_EXPORT_ALL", "1")
            .env("PATH_INFO", path)
            .env("QUERY_STRING", query)
            .env("REQUEST_METHOD", &request.method)
            .env("CONTENT_TYPE", header("content-type"))
            .env("GIT_PROTOCOL", header("git-protocol"))
            .env("REMOTE_USER", "test")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("git runs");
        let mut input = backend.stdin.take().expect("a pipe");
        let body = request.body.clone();
        let writer = std::thread::spawn(move || drop(input.write_all(&body)));
        let output = backend.wait_with_output().expect("git ends").stdout;
        writer.join().expect("no panic");
        let at = output.windows(4).position(|w| w == b"\r\n\r\n").expect("headers");
        let (head, body) = (String::from_utf8_lossy(&output[..at]), &output[at + 4..]);
        let line = head.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap_or("200 OK").to_owned();
        let head: String =
            head.lines().filter(|line| !line.starts_with("Status")).map(|line| format!("{line}\r\n")).collect();
        [
            format!("HTTP/1.1 {line}\r\n{head}content-length: {}\r\nconnection: close\r\n\r\n", body.len()).as_bytes(),
            body,
        ]
        .concat()
    }
}
