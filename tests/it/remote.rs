//! Remote engines: over ssh by a real sshd on loopback, over TLS, and by docker context.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use insta::assert_snapshot;
use serde_json::json;

use crate::support::{TestRepo, engine_socket};
use crate::terminal::Terminal;

/// An ssh server on loopback for the current user, and the client's configuration for it.
pub struct SshServer {
    dir: tempfile::TempDir,
    server: Child,
    port: u16,
}

impl SshServer {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name).to_str().expect("UTF-8").to_owned();
        for key in ["host", "key"] {
            run_tool("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &path(key)]);
        }
        let port = free_port();
        let engine = format!("SetEnv DOCKER_HOST=unix://{}\n", engine_socket().display());
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\nStrictModes no\n\
             MaxSessions 64\n{engine}",
            path("host"),
            path("key.pub")
        );
        fs::write(path("sshd"), config).expect("written");
        let _ = fs::create_dir("/run/sshd");
        let server = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f", &path("sshd")])
            .stderr(Stdio::null())
            .spawn()
            .expect("sshd is installed; scripts/test installs openssh-server");
        let known = fs::read_to_string(path("host.pub")).expect("a key");
        fs::write(path("known"), format!("* {known}")).expect("written");
        let client = format!(
            "Host *\nIdentityFile {}\nIdentitiesOnly yes\nUserKnownHostsFile {}\nGlobalKnownHostsFile /dev/null\n",
            path("key"),
            path("known")
        );
        fs::write(path("client"), client).expect("written");
        fs::create_dir(dir.path().join("bin")).expect("made");
        fs::create_dir(dir.path().join("run")).expect("made");
        // The client reads its configuration from the home in the user database, not from that of the environment.
        let script = format!("#!/bin/sh\nexec /usr/bin/ssh -F '{}' \"$@\"\n", path("client"));
        fs::write(path("bin/ssh"), script).expect("written");
        fs::set_permissions(path("bin/ssh"), fs::Permissions::from_mode(0o755)).expect("set");
        let mut server = Self { dir, server, port };
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(server.server.try_wait().expect("known").is_none(), "sshd ended; sshd -D -e says why");
            std::thread::yield_now();
        }
        server
    }

    /// Lets the commands of a repository use this server.
    pub fn configure(&self, repo: &mut TestRepo) {
        let path = std::env::var("PATH").expect("a path");
        repo.set("PATH", format!("{}:{path}", self.dir.path().join("bin").display()));
        repo.set("XDG_RUNTIME_DIR", self.dir.path().join("run").to_str().expect("UTF-8"));
    }

    /// Returns the address of the engine behind a port.
    pub fn address_at(port: u16) -> String {
        let user = String::from_utf8(run_tool("id", &["-un"])).expect("UTF-8");
        format!("ssh://{}@127.0.0.1:{port}", user.trim())
    }
}

impl Drop for SshServer {
    fn drop(&mut self) {
        // The shared connection ends with the server's process for it.
        let sockets = fs::read_dir(self.dir.path().join("run")).into_iter().flatten().flatten();
        for socket in sockets {
            let option = format!("-oControlPath={}", socket.path().display());
            let _ = Command::new("/usr/bin/ssh").args(["-Oexit", &option, "x"]).stderr(Stdio::null()).status();
        }
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[track_caller]
fn run_tool(program: &str, args: &[&str]) -> Vec<u8> {
    let out = Command::new(program).args(args).output().expect("it runs");
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr()).expect("a port").port()
}

/// A relay to a port, whose connections can be cut.
pub struct Link {
    pub port: u16,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Link {
    pub fn start(to: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let open = Arc::<Mutex<Vec<TcpStream>>>::default();
        let all = Arc::clone(&open);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)) else { continue };
                let copies = [client.try_clone(), server.try_clone()].map(|copy| copy.expect("copied"));
                all.lock().expect("no panic").extend(copies);
                let (from_client, from_server) = (client.try_clone(), server.try_clone());
                relay(from_client.expect("copied"), server);
                relay(from_server.expect("copied"), client);
            }
        });
        Self { port, open }
    }

    /// Cuts all connections that are open now.
    pub fn cut(&self) {
        for stream in self.open.lock().expect("no panic").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn relay(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            if to.write_all(&buffer[..n]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}

#[test]
fn sandbox_stays_on_its_engine_behind_ssh() {
    let mut repo = TestRepo::new();
    let server = SshServer::start();
    server.configure(&mut repo);
    let address = SshServer::address_at(server.port);
    let script = "echo more >> a.txt; test -t 0 || cat";
    let ran = repo.airlock(&["--engine", &address, "run", "--name", "s", "--", "sh", "-c", script]).ok();
    assert!(ran.stderr.contains("review s"), "{}", ran.stderr);
    assert_eq!(read_json(&repo, &["status", "s", "--json"])["engine"], *address);
    assert!(repo.airlock(&["status", "s"]).ok().stdout.contains(&format!("  engine     {address}\n")));
    // The other commands need no option.
    repo.airlock(&["resume", "s", "--", "sh", "-c", "echo again >> a.txt"]).ok();
    repo.airlock(&["apply", "s", "--accept-all"]).ok();
    assert_eq!(repo.read("a.txt"), "one\ntwo\nmore\nagain\n");
    // Keys and the size of the terminal go through as well.
    let mut terminal = Terminal::start(&repo, &["resume", "s", "--", "sh", "-c", "stty size; read x; echo got $x"]);
    terminal.shows("40 100");
    terminal.types("word\r");
    terminal.shows("got word");
    assert!(terminal.child.wait().expect("it ends").success());
    // Without its engine, nothing is removed, and the message names it.
    repo.set("PATH", std::env::var("PATH").expect("a path"));
    repo.set("XDG_RUNTIME_DIR", server.dir.path().to_str().expect("UTF-8"));
    let failed = repo.airlock(&["rm", "s"]);
    failed.expect_failure(1, &["failed to connect to a container engine; tried ssh://", "s is on the engine ssh://"]);
    // An engine that is gone for ever does not keep it.
    let forced = repo.airlock(&["rm", "--force", "s"]).ok();
    assert!(forced.stderr.contains("its containers and volumes are left on that engine"), "{}", forced.stderr);
    server.configure(&mut repo);
    repo.airlock(&["--engine", &address, "gc"]).ok();
    assert_eq!(engine_objects(&repo, &address), "");
}

#[test]
fn cut_connection_leaves_a_sandbox_that_is_collected() {
    let mut repo = TestRepo::new();
    let server = SshServer::start();
    server.configure(&mut repo);
    let link = Link::start(server.port);
    let address = SshServer::address_at(link.port);
    let script = "echo more >> a.txt; echo written; exec sleep 1000";
    let mut child =
        repo.command(crate::support::AIRLOCK, &["--engine", &address, "run", "--name", "c", "--", "sh", "-c", script]);
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let mut line = [0; 8];
    child.stdout.as_mut().expect("a pipe").read_exact(&mut line).expect("the agent has written");
    link.cut();
    let out = child.wait_with_output().expect("it ends");
    assert_eq!(out.status.code(), Some(125), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(repo.changes("c"), [("a.txt".to_owned(), "modified".to_owned())]);
    repo.airlock(&["apply", "c", "--accept-all"]).ok();
    assert_eq!(repo.read("a.txt"), "one\ntwo\nmore\n");
    repo.airlock(&["rm", "--force", "c"]).ok();
    // The base may not have been sealed.
    repo.airlock(&["--engine", &address, "gc"]).ok();
    assert_eq!(engine_objects(&repo, &address), "");
}

fn read_json(repo: &TestRepo, args: &[&str]) -> serde_json::Value {
    serde_json::from_str(&repo.airlock(args).ok().stdout).expect("JSON")
}

/// The link is cut at random moments of a run: what the agent said that it has written is collected, and nothing is left on the
/// engine.
#[test]
#[ignore = "takes minutes; scripts/test --long runs it"]
fn link_is_cut_at_random_moments() {
    let mut repo = TestRepo::new();
    let server = SshServer::start();
    server.configure(&mut repo);
    let link = Link::start(server.port);
    let address = SshServer::address_at(link.port);
    let script = "echo more >> a.txt; sync; echo written; sleep 0.3";
    let command = ["--engine", &address, "run", "--name", "c", "--review", "never", "--", "sh", "-c", script];
    let whole = std::time::Instant::now();
    repo.airlock(&command).ok();
    let usual = whole.elapsed();
    repo.airlock(&["rm", "--force", "c"]).ok();
    let (mut collected, mut seed) = (0, std::process::id().into());
    for round in 0..100 {
        seed = u64::wrapping_mul(seed, 6_364_136_223_846_793_005).wrapping_add(1);
        let moment = usual.mul_f64((seed >> 40) as f64 / f64::from(1 << 24) * 1.1);
        let mut child = repo.command(crate::support::AIRLOCK, &command);
        let child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
        // The random moment of the cut.
        std::thread::sleep(moment);
        link.cut();
        let out = child.wait_with_output().expect("it ends");
        let what = format!("round {round}, after {moment:?}: {}", String::from_utf8_lossy(&out.stderr));
        if out.stdout == b"written\n" {
            assert_eq!(repo.changes("c"), [("a.txt".to_owned(), "modified".to_owned())], "{what}");
            collected += 1;
        }
        if repo.path.join(".git/airlock/sandboxes/c").exists() {
            repo.airlock(&["rm", "--force", "c"]).ok();
        }
        repo.airlock(&["--engine", &address, "gc"]).ok();
        // Whatever the agent still does ends with its launcher.
        let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while !engine_objects(&repo, &address).is_empty() {
            assert!(std::time::Instant::now() < end, "{what}: {}", engine_objects(&repo, &address));
            repo.airlock(&["--engine", &address, "gc"]).ok();
        }
    }
    let mut out = std::io::stdout();
    writeln!(out, "100 cuts within {usual:?}: {collected} after the agent had written").expect("written");
    assert!(collected > 5, "{collected}");
}

/// Lists the containers and the volumes of sandboxes that the engine has for a repository.
fn engine_objects(repo: &TestRepo, engine: &str) -> String {
    let garbage = read_json(repo, &["--engine", engine, "gc", "--dry-run", "--json"]);
    let found = garbage["removable"].as_array().expect("a list").clone();
    let kinds = found.iter().filter_map(|item| item["kind"].as_str());
    kinds.filter(|kind| ["volume", "container", "running"].contains(kind)).collect::<Vec<_>>().join(" ")
}

/// A certificate with its key.
type Issued = rcgen::CertifiedKey<rcgen::KeyPair>;

/// A relay with TLS in front of the engine, which wants a certificate of its authority from each client.
struct TlsRelay {
    port: u16,
    /// The directory with `ca.pem`, `cert.pem` and `key.pem`.
    dir: tempfile::TempDir,
}

impl TlsRelay {
    fn start() -> Self {
        use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).expect("a certificate");
        let issuer = Issuer::new(params, key);
        let issue = |name: &str| {
            let signing_key = KeyPair::generate().expect("a key");
            let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
            Issued { cert: params.signed_by(&signing_key, &issuer).expect("signed"), signing_key }
        };
        let (server, client) = (issue("localhost"), issue("client"));
        let dir = tempfile::tempdir().expect("a directory");
        for (name, text) in [
            ("ca.pem", authority.pem()),
            ("cert.pem", client.cert.pem()),
            ("key.pem", client.signing_key.serialize_pem()),
        ] {
            fs::write(dir.path().join(name), text).expect("written");
        }
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority.der().clone()).expect("added");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let private = rustls::pki_types::PrivateKeyDer::Pkcs8(server.signing_key.serialize_der().into());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_client_cert_verifier(verifier.build().expect("a verifier"))
            .with_single_cert(vec![server.cert.der().clone()], private)
            .expect("valid");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        std::thread::spawn(move || relay_tls(listener, config));
        Self { port, dir }
    }
}

fn relay_tls(listener: TcpListener, config: rustls::ServerConfig) {
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let socket = engine_socket();
    tokio::runtime::Runtime::new().expect("a runtime").block_on(async {
        listener.set_nonblocking(true).expect("set");
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, socket) = (acceptor.clone(), socket.clone());
            tokio::spawn(async move {
                let Ok(mut client) = acceptor.accept(stream).await else { return };
                let Ok(mut engine) = tokio::net::UnixStream::connect(socket).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut client, &mut engine).await;
            });
        }
    });
}

/// Writes a docker context, and returns the directory of its TLS files.
fn write_context(config: &Path, name: &str, host: &str, skips_check: bool) -> PathBuf {
    use sha2::Digest;
    let id: String = sha2::Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let meta = config.join("contexts/meta").join(&id);
    fs::create_dir_all(&meta).expect("made");
    let text = json!({"Name": name, "Endpoints": {"docker": {"Host": host, "SkipTLSVerify": skips_check}}});
    fs::write(meta.join("meta.json"), text.to_string()).expect("written");
    let tls = config.join("contexts/tls").join(id).join("docker");
    fs::create_dir_all(&tls).expect("made");
    tls
}

#[test]
fn engine_with_tls_is_checked_and_gets_our_certificate() {
    let mut repo = TestRepo::new();
    let relay = TlsRelay::start();
    let address = format!("tcp://localhost:{}", relay.port);
    let files = relay.dir.path().to_str().expect("UTF-8");
    let run = ["run", "--", "echo", "over TLS"];
    repo.set("DOCKER_HOST", &address);
    repo.set("DOCKER_TLS_VERIFY", "1");
    repo.set("DOCKER_CERT_PATH", files);
    assert_eq!(repo.airlock(&run).ok().stdout, "over TLS\n");
    // The certificate does not have this name.
    repo.set("DOCKER_HOST", format!("tcp://127.0.0.1:{}", relay.port));
    repo.airlock(&run).expect_failure(125, &["certificate not valid for name"]);
    repo.set("DOCKER_HOST", &address);
    // Another authority, and no certificate of the client.
    let empty = tempfile::tempdir().expect("a directory");
    repo.set("DOCKER_CERT_PATH", empty.path().to_str().expect("UTF-8"));
    repo.airlock(&run).expect_failure(125, &["invalid peer certificate: UnknownIssuer"]);
    fs::copy(relay.dir.path().join("ca.pem"), empty.path().join("ca.pem")).expect("copied");
    repo.airlock(&run).expect_failure(125, &["failed to connect to a container engine", "(TLS)"]);
    fs::write(empty.path().join("ca.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        .expect("written");
    repo.airlock(&run).expect_failure(125, &["ca.pem for TLS", "check the files in DOCKER_CERT_PATH"]);
    repo.unset("DOCKER_TLS_VERIFY");
    repo.set("DOCKER_TLS", "1");
    repo.airlock(&run).expect_failure(125, &["DOCKER_TLS asks for TLS without a check of the engine"]);
    repo.unset("DOCKER_TLS");
    // The same by a docker context.
    let config = tempfile::tempdir().expect("a directory");
    repo.set("DOCKER_CONFIG", config.path().to_str().expect("UTF-8"));
    repo.unset("DOCKER_CERT_PATH");
    let tls = write_context(config.path(), "build-box", &address, false);
    for name in ["ca.pem", "cert.pem", "key.pem"] {
        fs::copy(relay.dir.path().join(name), tls.join(name)).expect("copied");
    }
    repo.set("DOCKER_HOST", "unix:///nowhere");
    let by_context = ["--engine", "build-box", "run", "--", "echo", "by context"];
    assert_eq!(repo.airlock(&by_context).ok().stdout, "by context\n");
    repo.set("AIRLOCK_ENGINE", "build-box");
    assert_eq!(repo.airlock(&run).ok().stdout, "over TLS\n");
    let tls = write_context(config.path(), "careless", &address, true);
    fs::copy(relay.dir.path().join("ca.pem"), tls.join("ca.pem")).expect("copied");
    repo.airlock(&["--engine", "careless", "run", "--", "true"])
        .expect_failure(125, &["the docker context careless asks for TLS without a check"]);
    assert_snapshot!(repo.airlock(&["--engine", "no-such", "run", "--", "true"]), @"
    status: 125
    ----- stderr -----
    error: the docker context no-such does not exist
    hint: for a machine that you reach by ssh, use `ssh://no-such`; otherwise see `docker context ls`, or run `docker context use default`
    ");
}

#[test]
fn ssh_errors_say_what_is_wrong() {
    let mut repo = TestRepo::new();
    let server = SshServer::start();
    server.configure(&mut repo);
    let run = |repo: &TestRepo, address: &str| repo.airlock(&["--engine", address, "run", "--", "true"]);
    let closed = SshServer::address_at(free_port());
    run(&repo, &closed).expect_failure(125, &["tried ssh://", "Connection refused"]);
    let missing = format!("{}/no/such.sock", SshServer::address_at(server.port));
    run(&repo, &missing).expect_failure(125, &["tried ssh://", "no/such.sock"]);
    run(&repo, "ssh://user:secret@host").expect_failure(125, &["is not supported"]);
    // A machine with git and without ssh.
    let bin = tempfile::tempdir().expect("a directory");
    let git = String::from_utf8(run_tool("sh", &["-c", "command -v git"])).expect("UTF-8");
    std::os::unix::fs::symlink(git.trim(), bin.path().join("git")).expect("linked");
    repo.set("PATH", bin.path().to_str().expect("UTF-8"));
    run(&repo, &closed).expect_failure(125, &["ssh is not installed"]);
}
