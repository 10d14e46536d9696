//! The gateway's routes, from an agent's container to servers on loopback that the user's configuration names.

use std::io::{Read, Write};

use serde_json::{Value, json};

use crate::support::{CommandOutput, TestRepo, wait_until};
use crate::terminal::Terminal;
use crate::upstream::{Upstream, git_server, ok, status};

/// Reads the audit log of a sandbox.
fn read_log(repo: &TestRepo, name: &str) -> Vec<Value> {
    let log = repo.airlock(&["log", name, "--json"]).ok().stdout;
    log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Runs a script with packages, in a sandbox that is kept.
fn run_with_packages(repo: &TestRepo, name: &str, script: &str) -> CommandOutput {
    repo.airlock(&[
        "--keep", "run", "--name", name, "--net", "packages", "--review", "never", "--", "bash", "-c", script,
    ])
}

/// A shell function that prints the status and body of a request to the gateway.
const ASK: &str = r#"ask() { curl -sS --path-as-is -o /tmp/body -w '%{http_code} ' "$@" && head -c 200 /tmp/body; echo; }; gw=http://127.0.0.1:47821; "#;

/// Writes the configuration of package clients that names one upstream for each ecosystem.
fn configure_clients(repo: &TestRepo, url: &str) {
    let home = repo.directory().join("home");
    let write = |path: &str, text: String| {
        let path = home.join(path);
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("made");
        std::fs::write(path, text).expect("written");
    };
    write(
        ".npmrc",
        format!("registry={url}/npm/\n//{}/npm/:_authToken=registry-token\n", url.trim_start_matches("http://")),
    );
    write(".config/pip/pip.conf", format!("[global]\nindex-url = {url}/simple\n"));
    write(
        ".cargo/config.toml",
        format!("[source.crates-io]\nreplace-with = 'm'\n[source.m]\nregistry = 'sparse+{url}/crates/'\n"),
    );
    write(".config/go/env", format!("GOPROXY={url}/go\nGOSUMDB=off\n"));
    write(
        ".m2/settings.xml",
        format!(
            "<settings><mirrors><mirror><id>m</id><url>{url}/maven</url><mirrorOf>*</mirrorOf></mirror></mirrors></settings>"
        ),
    );
    write(".bundle/config", format!("---\nBUNDLE_MIRROR__ALL: \"{url}/gems\"\n"));
}

const CONTENT: &str = "content of a package";
const SHA256: &str = "5d3dbd58e2a0a33f1d1b3ffd1c4a2b9a3e1c0b0c6f70f5f2e8a0d0e2e1b1f0aa";

fn sha256_of(text: &str) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Starts a registry of all ecosystems with one package, whose files have the digest `sha256`.
fn start_registry(sha256: String) -> Upstream {
    Upstream::start(move |request| {
        let host = request.head.split("host: ").nth(1).and_then(|rest| rest.split('\r').next()).unwrap_or_default();
        let base = format!("http://{host}");
        match request.target.as_str() {
            "/npm/x" | "/npm/x/1.0.0" => ok("application/json", json!({"name": "x", "dist": {"tarball": format!("{base}/npm/x/-/x-1.0.0.tgz")}}).to_string()),
            "/npm/away" => ok("application/json", json!({"dist": {"tarball": "http://169.254.169.254/x/-/x-1.0.0.tgz"}}).to_string()),
            "/simple/x/" => ok("application/vnd.pypi.simple.v1+json", json!({"files": [
                {"filename": "x-1.0.tar.gz", "url": format!("{base}/files/x-1.0.tar.gz"), "hashes": {"sha256": sha256}},
                {"filename": "x-2.0.tar.gz", "url": "file:///etc/passwd", "hashes": {}},
                {"filename": "x-3.0.tar.gz", "url": "http://10.0.0.1/x-3.0.tar.gz", "hashes": {}},
            ]}).to_string()),
            "/simple/big/" => ok("text/html", "x".repeat(129 << 20)),
            "/simple/loop/" => b"HTTP/1.1 302 Found\r\nlocation: /simple/loop/\r\ncontent-length: 0\r\n\r\n".to_vec(),
            "/simple/private/" => b"HTTP/1.1 302 Found\r\nlocation: http://localhost:9/simple/private/\r\ncontent-length: 0\r\n\r\n".to_vec(),
            "/simple/bomb/" => {
                let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
                for _ in 0..200 {
                    bomb.write_all(&vec![b' '; 1 << 20]).expect("compressed");
                }
                let bomb = bomb.finish().expect("compressed");
                let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", bomb.len());
                [head.as_bytes(), &bomb].concat()
            }
            "/crates/config.json" => ok("application/json", json!({"dl": format!("{base}/dl"), "api": base}).to_string()),
            "/crates/1/x" => ok("text/plain", json!({"name": "x", "vers": "1.0.0", "cksum": sha256}).to_string()),
            "/go/a.example/x/@v/list" => ok("text/plain", "v1.0.0\n"),
            "/gems/info/x" => ok("text/plain", format!("---\n1.0 |checksum:{sha256}\n")),
            "/maven/g/a/maven-metadata.xml" => ok("text/xml", "<metadata/>"),
            "/npm/x/-/x-1.0.0.tgz" | "/files/x-1.0.tar.gz" | "/dl/x/1.0.0/download" | "/go/a.example/x/@v/v1.0.0.zip" | "/gems/gems/x-1.0.gem" | "/maven/g/a/1.0/a-1.0.jar" => ok("application/octet-stream", CONTENT),
            _ => status("404 Not Found"),
        }
    })
}

/// The path of the file of each ecosystem's package on the gateway.
const FILES: [&str; 6] = [
    "npm/x/-/x-1.0.0.tgz",
    "pypi/0/files/x/x-1.0.tar.gz",
    "cargo/crates-io/dl/x/1.0.0/download",
    "go/a.example/x/@v/v1.0.0.zip",
    "rubygems/gems/x-1.0.gem",
    "maven/g/a/1.0/a-1.0.jar",
];

#[test]
fn package_files_are_read_once_and_then_come_from_the_cache() {
    let repo = TestRepo::new();
    let registry = start_registry(sha256_of(CONTENT));
    configure_clients(&repo, &registry.url);
    let script = FILES.map(|file| format!("ask $gw/{file}; ")).concat();
    let first = run_with_packages(&repo, "first", &format!("{ASK}{script}")).ok();
    assert_eq!(first.stdout, format!("200 {CONTENT}\n").repeat(FILES.len()));
    let before = registry.seen().len();
    let second = run_with_packages(&repo, "second", &format!("{ASK}{script}")).ok();
    assert_eq!(second.stdout, first.stdout);
    assert_eq!(registry.seen().len(), before, "{:?}", registry.targets());
    assert!(read_log(&repo, "second").iter().all(|entry| entry["cached"] == true), "{:?}", read_log(&repo, "second"));
    assert!(second.stderr.contains("npm 1 (1 cached)"), "{}", second.stderr);
    let offline = repo
        .airlock(&[
            "run",
            "--net",
            "packages",
            "--offline",
            "--",
            "bash",
            "-c",
            &format!("{ASK}{script} ask $gw/pypi/0/simple/other/"),
        ])
        .ok();
    assert!(
        offline.stdout.starts_with(&first.stdout)
            && offline.stdout.contains("403 airlock: the document is not in the cache"),
        "{}",
        offline.stdout
    );
    // A registry without TLS is reached under its own name too, and only read.
    let own = format!(
        "{ASK} ask -x $HTTP_PROXY --noproxy '' {0}/npm/x/-/x-1.0.0.tgz; ask -x $HTTP_PROXY --noproxy '' -X PUT -d x {0}/npm/x; ask -x $HTTP_PROXY --noproxy '' {0}/hidden",
        registry.url
    );
    let ran = run_with_packages(&repo, "own", &own).ok();
    let lines: Vec<&str> = ran.stdout.lines().filter(|line| !line.is_empty()).collect();
    assert!(
        lines[0] == format!("200 {CONTENT}") && lines[1].starts_with("403 ") && lines[2].starts_with("403 "),
        "{}",
        ran.stdout
    );
    assert_eq!(registry.seen().len(), before, "{:?}", registry.targets());
    // The agent's headers are not passed on, and the registry gets the user's credential.
    let requests = registry.seen();
    let npm = requests.iter().find(|request| request.target.starts_with("/npm/")).expect("requested");
    assert!(npm.head.contains("authorization: bearer registry-token") && !npm.head.contains("curl"), "{}", npm.head);
    assert!(
        requests
            .iter()
            .filter(|request| !request.target.starts_with("/npm/"))
            .all(|request| !request.head.contains("authorization"))
    );
    let log = repo.airlock(&["log", "first", "--json"]).ok().stdout;
    assert!(!log.contains("registry-token"));
}

#[test]
fn nothing_but_requests_to_read_packages_passes() {
    let repo = TestRepo::new();
    let registry = start_registry(sha256_of(CONTENT));
    configure_clients(&repo, &registry.url);
    let routes = [
        "npm/x",
        "pypi/0/simple/x/",
        "cargo/crates-io/1/x",
        "go/a.example/x/@v/list",
        "rubygems/info/x",
        "maven/g/a/maven-metadata.xml",
    ];
    let writes = routes.map(|route| format!("ask -X POST -d secret $gw/{route}; ask -X PUT -T /etc/hostname $gw/{route}; ask -X DELETE $gw/{route}; ask -X GET -d secret $gw/{route}; ")).concat();
    let paths = [
        "npm/x/-/../../../etc/passwd",
        "npm/%2e%2e/x",
        "npm/x%2f..%2fy",
        "npm//x",
        "npm/x?a=1",
        "npm/-/v1/search",
        "npm/-/user/org.couchdb.user:x",
        "npm/x/-/x-9.9.9.tgz",
        "npm/@a%2fb%2fc",
        "npm/x%00",
        "pypi/0/simple/",
        "pypi/0/files/x/x-2.0.tar.gz",
        "pypi/0/files/x/x-3.0.tar.gz",
        "pypi/0/files/x/y-1.0.tar.gz",
        "pypi/9/simple/x/",
        "pypi/0/simple/big/",
        "pypi/0/simple/loop/",
        "pypi/0/simple/private/",
        "pypi/0/simple/bomb/",
        "cargo/crates-io/api/v1/crates/new",
        "cargo/crates-io/dl/x/2.0.0/download",
        "go/sumdb/other/latest",
        "rubygems/api/v1/gems",
        "rubygems/gems/x-2.0.gem",
        "maven/../x",
        "maven/g/a/1.0/b-1.0.jar",
        "cargo/crates-io/1/x%c0%ae",
        "unknown/x",
        "npm/x\\y",
    ];
    let reads: String = paths.iter().map(|path| format!("ask 'http://127.0.0.1:47821/{path}'; ")).collect();
    let ran = run_with_packages(&repo, "w", &format!("{ASK}{writes}{reads}")).ok();
    let answers: Vec<&str> = ran.stdout.lines().filter(|line| line.len() > 4).collect();
    assert_eq!(answers.len(), routes.len() * 4 + paths.len(), "{}", ran.stdout);
    for answer in &answers {
        assert!(answer.starts_with("403 ") || answer.starts_with("400 "), "{answer}\n{}", ran.stdout);
        assert!(answer.contains("airlock: "), "{answer}");
    }
    let targets = registry.targets();
    assert!(targets.iter().all(|target| target.starts_with("GET ")), "{targets:?}");
    assert!(registry.seen().iter().all(|request| request.body.is_empty()));
    assert!(
        !targets.iter().any(|target| target.contains("..") || target.contains("passwd") || target.contains("user")),
        "{targets:?}"
    );
    let log = read_log(&repo, "w");
    assert!(log.iter().all(|entry| entry["verdict"] == "denied"), "{log:?}");
    assert_eq!(log.len(), answers.len());
}

#[test]
fn refusal_arrives_although_the_agent_is_still_sending() {
    let repo = TestRepo::new();
    let registry = start_registry(sha256_of(CONTENT));
    configure_clients(&repo, &registry.url);
    let script = "head -c 8000000 /dev/zero > /tmp/big; for n in $(seq 20); do ask -H expect: -X POST --data-binary @/tmp/big $gw/npm/x; done";
    let ran = run_with_packages(&repo, "w", &format!("{ASK}{script}")).ok();
    assert_eq!(
        ran.stdout.matches("403 {\"error\":\"airlock: the npm route only reads").count(),
        20,
        "{} {}",
        ran.stdout,
        ran.stderr
    );
    assert!(registry.seen().is_empty());
}

#[test]
fn file_that_differs_from_its_index_is_never_complete() {
    let repo = TestRepo::new();
    let registry = start_registry(SHA256.into());
    configure_clients(&repo, &registry.url);
    let script = r#"for path in pypi/0/files/x/x-1.0.tar.gz cargo/crates-io/dl/x/1.0.0/download rubygems/gems/x-1.0.gem; do
        curl -sS -o /tmp/f http://127.0.0.1:47821/$path; echo "curl: $?"; cmp -s /tmp/f <(printf 'content of a package') && echo complete; rm -f /tmp/f; done"#;
    let ran = run_with_packages(&repo, "w", script).ok();
    let ends: Vec<&str> = ran.stdout.lines().collect();
    assert!(
        ends.len() == 3 && ends.iter().all(|end| *end == "curl: 18" || *end == "curl: 56" || *end == "curl: 52"),
        "{}",
        ran.stdout
    );
    let log = read_log(&repo, "w");
    assert!(
        log.iter().all(
            |entry| entry["verdict"] == "failed" && entry["reason"].as_str().is_some_and(|r| r.contains("differs"))
        ),
        "{log:?}"
    );
    // Nothing was stored.
    let again = run_with_packages(&repo, "v", script).ok();
    assert!(again.stdout.lines().count() == 3 && !again.stdout.contains("complete"), "{}", again.stdout);
    assert!(read_log(&repo, "v").iter().all(|entry| entry["cached"] == false));
}

#[test]
fn requests_for_packages_that_do_not_exist_are_limited() {
    let repo = TestRepo::new();
    let registry = start_registry(sha256_of(CONTENT));
    configure_clients(&repo, &registry.url);
    let script = r#"for n in $(seq 1000); do echo "url = http://127.0.0.1:47821/npm/missing-$n"; echo 'output = /dev/null'; done > /tmp/c
        curl -sS -w '%{http_code}\n' -K /tmp/c | sort | uniq -c; curl -sS -o /dev/null -w '%{http_code}\n' http://127.0.0.1:47821/npm/x"#;
    let ran = run_with_packages(&repo, "w", script).ok();
    let requested = registry.targets().len();
    assert!((100..200).contains(&requested), "{requested} {}", ran.stdout);
    assert!(ran.stdout.contains(" 403\n") && ran.stdout.contains(" 404\n"), "{}", ran.stdout);
    assert!(ran.stderr.contains("refused: "), "{}", ran.stderr);
    assert_eq!(read_log(&repo, "w").len(), 1001);
}

#[test]
fn git_fetches_from_remotes_but_never_pushes() {
    let mut repo = TestRepo::new();
    let served = repo.directory().join("served");
    std::fs::create_dir(&served).expect("made");
    let bare = |name: &str| {
        let path = served.join(name);
        repo.git(&["clone", "-q", "--bare", ".", path.to_str().expect("UTF-8")]);
        repo.git(&["-C", path.to_str().expect("UTF-8"), "config", "http.receivepack", "true"]);
    };
    bare("module.git");
    let server = Upstream::start(git_server(&served));
    repo.write(".gitmodules", format!("[submodule \"m\"]\n\tpath = m\n\turl = {}/module.git\n", server.url));
    for n in 0..3 {
        repo.write("a.txt", format!("{n}\n"));
        repo.commit();
    }
    bare("main.git");
    repo.git(&["remote", "add", "origin", &format!("{}/main.git", server.url)]);
    let other = Upstream::start(git_server(&served));
    let script = format!(
        r#"set -x; git fetch -q {0}/main.git main && git log --oneline FETCH_HEAD | wc -l; git clone -q --depth 1 {0}/main.git /tmp/c && git -C /tmp/c log --oneline | wc -l && git -C /tmp/c fetch -q --deepen 1 && git -C /tmp/c log --oneline | wc -l
        for v in 0 1 2; do git -c protocol.version=$v ls-remote {0}/module.git HEAD | wc -l; done
        git push origin HEAD:refs/heads/evil; echo "push: $?"; git -C /tmp/c push {0}/main.git HEAD:refs/heads/evil; echo "push: $?"
        git clone -q {1}/main.git /tmp/d; echo "other: $?"
        git ls-remote https://git.example/x; echo "host: $?"
        for path in main.git/git-receive-pack main.git/HEAD main.git/info/refs 'main.git/info/refs?service=git-receive-pack' 'main.git/info/refs?service=git-upload-pack&service=git-receive-pack'; do
            curl -sS -o /dev/null -w '%{{http_code}}\n' "http://127.0.0.1:47821/git/http/127.0.0.1:{2}/$path"; done
        printf 'secret' | curl -sS -o /dev/null -w '%{{http_code}}\n' -H 'content-type: application/x-git-upload-pack-request' --data-binary @- http://127.0.0.1:47821/git/http/127.0.0.1:{2}/main.git/git-upload-pack"#,
        server.url, other.url, server.port
    );
    repo.set("GIT_CONFIG_GLOBAL", "/dev/null");
    // A login for the whole host is not for repositories of the agent's choice.
    std::fs::create_dir_all(repo.directory().join("home")).expect("made");
    std::fs::write(repo.directory().join("home/.netrc"), "machine 127.0.0.1 login a password netrc-secret\n")
        .expect("written");
    let ran = run_with_packages(&repo, "w", &script).ok();
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(
        lines,
        [
            "4",
            "1",
            "2",
            "1",
            "1",
            "1",
            "push: 128",
            "push: 128",
            "other: 128",
            "host: 128",
            "403",
            "403",
            "403",
            "403",
            "403",
            "403"
        ],
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("remote: airlock: the git route only fetches")
            && ran.stderr.contains("airlock: fetching from git.example is not allowed"),
        "{}",
        ran.stderr
    );
    assert!(server.targets().iter().all(|target| !target.contains("receive-pack")), "{:?}", server.targets());
    assert!(server.seen().iter().all(|request| !request.head.contains("authorization")));
    assert!(other.seen().is_empty());
    assert!(ran.stderr.contains("(allow with: airlock allow w "), "{}", ran.stderr);
}

#[test]
fn tunnels_lead_only_to_allowed_hosts_over_tls() {
    let mut repo = TestRepo::new();
    let (server, certificate) = Upstream::start_tls(|_| ok("text/plain", "secure"));
    let port = server.port;
    let plain = Upstream::start(|_| ok("text/plain", "plain"));
    repo.write("ca.pem", certificate);
    repo.commit();
    repo.set("AIRLOCK_PRIVATE_HOSTS", "localhost");
    repo.set("ANTHROPIC_API_KEY", "sk-ant-api03-test");
    let script = format!(
        r#"get() {{ curl -sS -o /tmp/o -w '%{{http_connect}} %{{http_code}} ' --noproxy '' -x $HTTPS_PROXY --max-time 20 "$@"; echo "$? $(cat /tmp/o 2>/dev/null)"; rm -f /tmp/o; }}
        get --cacert ca.pem https://localhost:{port}/
        get -k --connect-to other.example:{port}:localhost:{port} https://other.example:{port}/
        get -p http://localhost:{port}/
        get -k https://127.0.0.1:{port}/; get -k https://2130706433:{port}/; get -k 'https://[::1]:{port}/'
        get -k https://localhost:{plain}/; get -k https://localhost.evil.example:{port}/; get http://localhost:{plain}/"#,
        plain = plain.port
    );
    let ran = repo
        .airlock(&[
            "--keep",
            "--allow",
            &format!("localhost:{port}"),
            "run",
            "--name",
            "w",
            "--net",
            "model",
            "--review",
            "never",
            "--",
            "bash",
            "-c",
            &script,
        ])
        .ok();
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines[0], "200 200 0 secure", "{} {}", ran.stdout, ran.stderr);
    // The TLS names another server; no TLS.
    assert!(lines[1].starts_with("200 000 35") && lines[2].starts_with("200 000 "), "{}", ran.stdout);
    for line in &lines[3..8] {
        assert!(line.starts_with("403 000 56"), "{line}: {}", ran.stdout);
    }
    assert!(lines[8].starts_with("000 403 0 airlock: localhost:"), "{}", ran.stdout);
    assert!(plain.seen().is_empty());
    assert!(ran.stderr.contains(&format!("network: proxy 1 (localhost:{port})")), "{}", ran.stderr);
    let reasons: Vec<String> =
        read_log(&repo, "w").iter().map(|entry| entry["reason"].as_str().unwrap_or_default().to_owned()).collect();
    assert!(
        reasons[1].contains("the TLS in the tunnel names other.example")
            && reasons[2].contains("did not begin with TLS"),
        "{reasons:?}"
    );
    assert!(reasons[3].contains("is an address"), "{reasons:?}");
}

#[test]
fn downloads_of_every_route_are_limited() {
    let mut repo = TestRepo::new();
    let large = Upstream::start(|_| ok("text/plain", vec![b'x'; 200_000]));
    repo.set("AIRLOCK_PRIVATE_HOSTS", "localhost");
    repo.set("AIRLOCK_MAX_DOWNLOAD", "300k");
    let script = format!(
        "for n in 1 2 3; do curl -sS -o /dev/null -w '%{{http_code}} %{{size_download}}\\n' -x $HTTP_PROXY --noproxy '' http://localhost:{}/; done; true",
        large.port
    );
    let allow = format!("localhost:{}", large.port);
    let args = [
        "--keep", "run", "--name", "w", "--net", "packages", "--allow", &allow, "--review", "never", "--", "bash",
        "-c", &script,
    ];
    let ran = repo.airlock(&args).ok();
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!((lines.len(), lines[0]), (3, "200 200000"), "{}", ran.stdout);
    let partial: u32 = lines[1].strip_prefix("200 ").and_then(|bytes| bytes.parse().ok()).expect("a size");
    assert!(partial < 200_000 && lines[2].starts_with("403 "), "{}", ran.stdout);
    let reasons =
        read_log(&repo, "w").iter().filter(|entry| entry["reason"].to_string().contains("max_download")).count();
    assert_eq!(reasons, 2);
}

#[test]
fn names_with_private_addresses_are_not_reached_though_allowed() {
    let mut repo = TestRepo::new();
    let plain = Upstream::start(|_| ok("text/plain", "plain"));
    repo.set("ANTHROPIC_API_KEY", "sk-ant-api03-test");
    let script = format!(
        "curl -sS -o /dev/null -w '%{{http_connect}}\\n' https://localhost:{0}/ -x $HTTPS_PROXY --noproxy ''; curl -sS http://localhost:{0}/ -x $HTTP_PROXY --noproxy ''",
        plain.port
    );
    let ran = repo.airlock(&[
        "--allow",
        &format!("localhost:{}", plain.port),
        "run",
        "--net",
        "open",
        "--",
        "sh",
        "-c",
        &script,
    ]);
    assert!(
        ran.stdout.contains("403\nairlock: localhost has an address that is not on the public internet"),
        "{} {}",
        ran.stdout,
        ran.stderr
    );
    assert!(plain.seen().is_empty());
}

#[test]
fn allow_and_deny_take_effect_while_the_agent_runs() {
    let mut repo = TestRepo::new();
    let plain = Upstream::start(|_| ok("text/plain", "plain"));
    repo.set("AIRLOCK_PRIVATE_HOSTS", "localhost");
    repo.set("ANTHROPIC_API_KEY", "sk-ant-api03-test");
    let host = format!("localhost:{}", plain.port);
    // A server behind an open tunnel, which sends one byte.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let tunnel = format!("localhost:{}", listener.local_addr().expect("bound").port());
    let held = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.write_all(b"!").expect("sent");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    repo.write(
        "tunnel.py",
        format!(
            "import socket, ssl
s = socket.create_connection(('127.0.0.1', 47821))
s.sendall(b'CONNECT {tunnel} HTTP/1.1\\r\\nhost: {tunnel}\\r\\n\\r\\n')
s.recv(4096)
hello = ssl.MemoryBIO()
tls = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), hello, server_hostname='localhost')
try: tls.do_handshake()
except ssl.SSLWantReadError: s.sendall(hello.read())
print(s.recv(1)); open('second', 'w').write('x'); print(s.recv(1))
"
        ),
    );
    repo.commit();
    let script = format!(
        "get() {{ curl -sS -o /dev/null -w '%{{http_code}}\\n' -x $HTTP_PROXY --noproxy '' http://{host}/; }}; get; echo > first; until [ \"$(get)\" = 200 ]; do :; done; python3 tunnel.py; until [ \"$(get)\" = 403 ]; do :; done; echo done"
    );
    let mut command = repo.command(
        crate::support::AIRLOCK,
        &[
            "--keep",
            "run",
            "--name",
            "w",
            "--net",
            "model",
            "--timeout",
            "60",
            "--review",
            "never",
            "--",
            "bash",
            "-c",
            &script,
        ],
    );
    let child =
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().expect("it runs");
    let wait_for = |file: &str| {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(50);
        while !repo.airlock(&["diff", "w", "--name-only"]).stdout.contains(file) {
            assert!(std::time::Instant::now() < deadline, "{file} was not written");
        }
    };
    wait_for("first");
    repo.airlock(&["allow", "w", &tunnel]).ok();
    let allowed = repo.airlock(&["allow", "w", &host, "--always"]).ok();
    assert!(allowed.stderr.contains(&format!("w can reach {host}")), "{}", allowed.stderr);
    wait_for("second");
    repo.airlock(&["deny", "w", &host]).ok();
    repo.airlock(&["deny", "w", &tunnel]).ok();
    let ran: CommandOutput = child.wait_with_output().expect("it ends").into();
    // The open tunnel ends as well.
    assert_eq!(ran.stdout, "403\nb'!'\nb''\ndone\n", "{}", ran.stderr);
    held.join().expect("the server ends");
    let log = read_log(&repo, "w");
    assert!(log.iter().any(|entry| entry["reason"] == "localhost was denied while the tunnel was open"), "{log:?}");
    let config = std::fs::read_to_string(repo.directory().join("home/.config/airlock/config.toml")).expect("written");
    assert!(config.contains(&format!("allow = [\"{host}\"]")), "{config}");
    repo.airlock(&["allow", "w", "10.0.0.1"]).expect_failure(2, &["is an address"]);
}

/// Sends a request to a port of the host, and returns the response.
fn get_from_host(port: u16) -> Option<String> {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut response = String::new();
    stream.read_to_string(&mut response).ok()?;
    (!response.is_empty()).then_some(response)
}

/// Returns the number after a text on a line of stderr, as it is read.
fn read_port(reader: &mut impl std::io::BufRead, before: &str, after: &str) -> u16 {
    let mut line = String::new();
    loop {
        line.clear();
        assert_ne!(reader.read_line(&mut line).expect("read"), 0, "the line did not come");
        if let Some(rest) = line.split(before).nth(1)
            && rest.contains(after)
        {
            return rest.split(' ').next().and_then(|port| port.parse().ok()).expect("a port");
        }
    }
}

#[test]
fn ports_connect_servers_of_sandbox_and_host() {
    let repo = TestRepo::new();
    let service = Upstream::start(|_| ok("text/plain", "from the host"));
    let script = format!(
        "curl -sS http://127.0.0.1:{}/ > answer; python3 -c 'import http.server; http.server.ThreadingHTTPServer((\"127.0.0.1\", 3000), http.server.SimpleHTTPRequestHandler).serve_forever()' & \
         until [ -e stop ]; do sleep 0.1; done; kill $!",
        service.port
    );
    let forward = service.port.to_string();
    let args = [
        "run",
        "--name",
        "w",
        "--port",
        "0:3000",
        "--forward",
        &forward,
        "--review",
        "never",
        "--timeout",
        "60",
        "--",
        "sh",
        "-c",
        &script,
    ];
    let mut command = repo.command(crate::support::AIRLOCK, &args);
    let mut child = command.stderr(std::process::Stdio::piped()).spawn().expect("it runs");
    let mut stderr = std::io::BufReader::new(child.stderr.take().expect("a pipe"));
    let port = read_port(&mut stderr, "127.0.0.1:", "is port 3000");
    wait_until("the server answers", || get_from_host(port).is_some_and(|text| text.contains("a.txt")));
    // Another port of the same server, while the agent runs.
    let mut command = repo.command(crate::support::AIRLOCK, &["port", "w", "0:3000"]);
    let mut publisher = command.stderr(std::process::Stdio::piped()).spawn().expect("it runs");
    let mut reader = std::io::BufReader::new(publisher.stderr.take().expect("a pipe"));
    let second = read_port(&mut reader, "127.0.0.1:", "is port 3000 of w");
    assert!(get_from_host(second).is_some_and(|text| text.contains("answer")));
    assert_ne!(port, second);
    // No server listens there: the connection ends.
    let mut command = repo.command(crate::support::AIRLOCK, &["port", "w", "0:3001"]);
    let mut idle = command.stderr(std::process::Stdio::piped()).spawn().expect("it runs");
    let mut idle_reader = std::io::BufReader::new(idle.stderr.take().expect("a pipe"));
    assert_eq!(get_from_host(read_port(&mut idle_reader, "127.0.0.1:", "is port 3001 of w")), None);
    rustix::process::kill_process(crate::support::pid(&idle), rustix::process::Signal::INT).expect("signaled");
    assert!(idle.wait().expect("it ends").success());
    let stopped = repo.airlock(&["port", "other", "3000"]);
    assert_eq!(stopped.status, 1);
    rustix::process::kill_process(crate::support::pid(&child), rustix::process::Signal::TERM).expect("signaled");
    child.wait().expect("it ends");
    assert!(publisher.wait().expect("it ends").success());
    assert_eq!(get_from_host(port), None);
    assert_eq!(repo.changes("w"), [("answer".to_owned(), "added".to_owned())]);
    let log = read_log(&repo, "w");
    for (route, count) in [("forward", 1), ("port", 2)] {
        assert!(
            log.iter().filter(|entry| entry["route"] == route && entry["verdict"] == "allowed").count() >= count,
            "{log:?}"
        );
    }
    repo.airlock(&["port", "w", "3000"]).expect_failure(1, &["no agent runs"]);
    for bad in ["47821", "80", "0"] {
        repo.airlock(&["run", "--forward", bad, "--", "true"]).expect_failure(125, &["--forward"]);
    }
}

#[test]
fn thousand_connections_are_served_and_a_slow_one_blocks_no_other() {
    let mut repo = TestRepo::new();
    let big = "x".repeat(8 << 20);
    let upstream = Upstream::start(move |request| {
        if request.target.starts_with("/v1/models/big") { ok("text/plain", &big) } else { ok("application/json", "{}") }
    });
    repo.set("ANTHROPIC_BASE_URL", &upstream.url);
    repo.set("ANTHROPIC_API_KEY", "sk-ant-api03-test");
    let script = r#"
import socket, sys
def ask(path):
    s = socket.create_connection(("127.0.0.1", 47821))
    s.sendall(f"GET /v1/models/{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
    return s
def read(s):
    data = b""
    while chunk := s.recv(65536):
        data += chunk
    return data
slow = [ask("big") for _ in range(20)]
for s in slow: s.recv(100)
# Connections that say nothing, and a thousand requests at once.
idle = [socket.create_connection(("127.0.0.1", 47821)) for _ in range(20)]
many = [ask(f"m{n}") for n in range(940)]
answers = [read(s) for s in many]
print(sum(a.endswith(b"{}") for a in answers))
# More connections than the tunnel takes wait for their turn.
more = [ask(f"n{n}") for n in range(300)]
print(sum(read(s).endswith(b"{}") for s in more))
print(sum(len(read(s)) >= (8 << 20) - 100 for s in slow))
# The other end is closed one way only.
s = socket.create_connection(("127.0.0.1", 47821))
s.sendall(b"GET /v1/models/half HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"); s.shutdown(socket.SHUT_WR)
print(read(s).endswith(b"{}"))
"#;
    repo.write("load.py", script);
    repo.commit();
    let ran = repo.airlock(&["run", "--net", "model", "--timeout", "120", "--", "python3", "load.py"]).ok();
    assert_eq!(ran.stdout, "940\n300\n20\nTrue\n", "{}", ran.stderr);
}

#[test]
fn routes_of_the_user_have_a_credential_from_the_host() {
    let mut repo = TestRepo::new();
    let api = Upstream::start(|request| match request.target.as_str() {
        "/api/leak" => ok("text/plain", &request.head),
        "/api/away" => {
            b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/api-secret-1\r\ncontent-length: 0\r\n\r\n".to_vec()
        }
        _ => ok("application/json", "{}"),
    });
    let config = repo.directory().join("home/.config/airlock");
    std::fs::create_dir_all(&config).expect("made");
    let text = format!(
        "[[route]]\nname = \"jira\"\nurl = \"{0}/api\"\npaths = [\"issue/*\", \"leak\", \"away\"]\nvalue_command = \"echo api-secret-1\"\nprefix = \"Bearer \"\n\
         [[route]]\nname = \"hook\"\nurl = \"{0}/hook\"\nmethods = [\"POST\"]\nheader = \"x-token\"\nvalue_env = \"HOOK_TOKEN\"\n",
        api.url
    );
    std::fs::write(config.join("config.toml"), text).expect("written");
    repo.set("HOOK_TOKEN", "hook-secret");
    repo.set("ANTHROPIC_API_KEY", "sk-ant-api03-test");
    let script = format!(
        "{ASK} env | grep ROUTE | sort; ask $AIRLOCK_ROUTE_JIRA/issue/7; ask -H 'authorization: Bearer foreign' $AIRLOCK_ROUTE_JIRA/leak; ask $AIRLOCK_ROUTE_JIRA/issue/7/x; ask -X POST -d x $AIRLOCK_ROUTE_JIRA/issue/7; ask -X GET -d x $AIRLOCK_ROUTE_JIRA/issue/7; ask -i $AIRLOCK_ROUTE_JIRA/away; ask -X POST -d body $AIRLOCK_ROUTE_HOOK/x; ask $gw/http/other/x; env | grep -c secret || true"
    );
    let ran = repo
        .airlock(&["--keep", "run", "--name", "w", "--net", "model", "--review", "never", "--", "bash", "-c", &script])
        .ok();
    let lines: Vec<&str> = ran.stdout.lines().filter(|line| !line.is_empty()).collect();
    assert!(lines[0].ends_with("/http/hook") && lines[1].ends_with("/http/jira"), "{}", ran.stdout);
    assert!(!ran.stdout.contains("secret") && !ran.stdout.contains("foreign"), "{}", ran.stdout);
    assert!(ran.stdout.contains("authorization: bearer ************"), "{}", ran.stdout);
    assert_eq!(ran.stdout.matches("403 airlock: ").count(), 4, "{}", ran.stdout);
    assert!(ran.stdout.contains("302 ") && !ran.stdout.contains("location"), "{}", ran.stdout);
    let sent = api.seen();
    let hook = sent.iter().find(|request| request.target == "/hook/x").expect("sent");
    assert!(hook.head.contains("x-token: hook-secret") && hook.body == b"body", "{}", hook.head);
    assert_eq!(sent.len(), 4, "{:?}", api.targets());
    let log = repo.airlock(&["log", "w", "--json"]).ok().stdout;
    assert!(!log.contains("secret") && log.contains("\"http\""), "{log}");
}

#[test]
fn repository_requests_hosts_and_the_user_is_asked_once() {
    let mut repo = TestRepo::new();
    repo.set("ANTHROPIC_API_KEY", "sk-ant-api03-test");
    repo.write(".airlock.toml", "allow = [\"docs.example\", \"*.api.example\"]\n");
    repo.commit();
    let args = ["run", "--net", "model", "--review", "never", "--", "true"];
    let ran = repo.airlock(&args).ok();
    assert!(
        ran.stderr.contains("this repository asks to reach docs.example, *.api.example; to allow it, use `--allow`"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("network: model only"), "{}", ran.stderr);
    let mut terminal = Terminal::start(&repo, &args);
    terminal.shows("asks to reach docs.example, *.api.example from its sandboxes. Allow?");
    terminal.types("y\r");
    terminal.shows("network: model, docs.example, *.api.example");
    terminal.child.wait().expect("it ends");
    // The answer holds for this request, and for no other.
    let ran = repo.airlock(&args).ok();
    assert!(ran.stderr.contains("network: model, docs.example, *.api.example"), "{}", ran.stderr);
    repo.write(".airlock.toml", "allow = [\"docs.example\", \"*.api.example\", \"evil.example\"]\n");
    let ran = repo.airlock(&args).ok();
    assert!(!ran.stderr.contains("evil.example"), "only the committed file counts: {}", ran.stderr);
    repo.commit();
    let ran = repo.airlock(&args).ok();
    assert!(ran.stderr.contains("network: model only"), "{}", ran.stderr);
    repo.write(".airlock.toml", "allow = [\"127.0.0.1\"]\n");
    repo.commit();
    repo.airlock(&args).expect_failure(125, &[".airlock.toml", "is an address"]);
}

#[test]
fn git_clones_submodules_over_https() {
    let mut repo = TestRepo::new();
    let served = repo.directory().join("served");
    std::fs::create_dir(&served).expect("made");
    let bare = |name: &str| {
        repo.git(&["clone", "-q", "--bare", ".", served.join(name).to_str().expect("UTF-8")]);
    };
    bare("module.git");
    let (server, certificate) = Upstream::start_tls(git_server(&served));
    let file = repo.directory().join("ca.pem");
    std::fs::write(&file, certificate).expect("written");
    let head = repo.git(&["rev-parse", "HEAD"]);
    repo.write(".gitmodules", format!("[submodule \"m\"]\n\tpath = m\n\turl = {}/module.git\n", server.url));
    repo.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{},m", head.trim())]);
    repo.git(&["add", ".gitmodules"]);
    repo.git(&["commit", "-qm", "submodule"]);
    bare("main.git");
    repo.git(&["remote", "add", "origin", &format!("{}/main.git", server.url)]);
    let script = format!(
        "git clone -q --recurse-submodules {0}/main.git /tmp/c && cat /tmp/c/m/a.txt && git clone -q --depth 1 {0}/main.git /tmp/d && git -C /tmp/d fetch -q --deepen 1 && git -C /tmp/d log --oneline | wc -l; git -C /tmp/c push -q origin HEAD:evil; echo $?; git -C /tmp/c/m push -q {0}/module.git HEAD:evil; echo $?",
        server.url
    );
    // Without its certificate, the server is not trusted.
    let refused = run_with_packages(&repo, "r", &format!("git ls-remote {}/main.git", server.url));
    assert!(refused.stderr.contains("set NODE_EXTRA_CA_CERTS"), "{}", refused.stderr);
    repo.set("NODE_EXTRA_CA_CERTS", file.to_str().expect("UTF-8"));
    let ran = run_with_packages(&repo, "w", &script).ok();
    assert_eq!(ran.stdout, "one\ntwo\n2\n128\n128\n", "{}", ran.stderr);
    assert_eq!(ran.stderr.matches("a push is not passed on").count(), 2, "{}", ran.stderr);
    assert!(server.targets().iter().all(|target| !target.contains("receive-pack")), "{:?}", server.targets());
}

#[test]
fn agent_has_only_loopback() {
    let mut repo = TestRepo::new();
    repo.set("ANTHROPIC_API_KEY", "sk-ant-api03-test");
    let script = r#"
import errno, socket
def attempt(name, action):
    try:
        print(name, "answered", action())
    except OSError as error:
        print(name, errno.errorcode.get(error.errno, error.errno))
def connect(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as s:
        s.settimeout(10)
        s.connect(address)
def send(family, address):
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        s.settimeout(10)
        s.sendto(b"\0\1\1\0\0\1\0\0\0\0\0\0\7example\3org\0\0\1\0\1", address)
        return s.recv(512)
print(sorted(line.split(":")[0].strip() for line in open("/proc/net/dev").readlines()[2:]))
for host in ["1.1.1.1", "8.8.8.8", "10.0.0.1", "169.254.169.254", "172.17.0.1"]:
    attempt(f"tcp {host}", lambda: connect(socket.AF_INET, (host, 443)))
    attempt(f"dns {host}", lambda: send(socket.AF_INET, (host, 53)))
attempt("ipv6", lambda: connect(socket.AF_INET6, ("2606:4700:4700::1111", 443)))
attempt("ipv6 dns", lambda: send(socket.AF_INET6, ("2001:4860:4860::8888", 53)))
attempt("icmp", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
attempt("ping", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP).sendto(b"\10\0\0\0\0\0\0\0", ("1.1.1.1", 0)))
attempt("name", lambda: socket.getaddrinfo("example.org", 443))
"#;
    repo.write("reach.py", script);
    repo.commit();
    let ran = repo.airlock(&["run", "--net", "open", "--", "python3", "reach.py"]).ok();
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines[0], "['lo']", "{}", ran.stdout);
    assert_eq!(lines.len(), 16, "{}", ran.stdout);
    assert!(!ran.stdout.contains("answered"), "{}", ran.stdout);
    assert!(lines[1..11].iter().all(|line| line.ends_with("ENETUNREACH")), "{}", ran.stdout);
}
