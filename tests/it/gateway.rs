//! The gateway between an agent that sends raw HTTP and an upstream that sends any response.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::support::TestRepo;

const KEY: &str = "sk-ant-api03-never-to-come-back";

/// Starts an upstream and sets it as the model server. It records each request, responds with the bytes that `answer`
/// returns for the path, and closes the connection.
fn start_upstream(repo: &mut TestRepo, answer: fn(&str) -> Vec<u8>) -> Arc<Mutex<String>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port");
    repo.set("ANTHROPIC_BASE_URL", format!("http://{}", listener.local_addr().expect("it is bound")));
    repo.set("ANTHROPIC_API_KEY", KEY);
    let received = Arc::<Mutex<String>>::default();
    let log = Arc::clone(&received);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let log = Arc::clone(&log);
            std::thread::spawn(move || serve_request(stream.expect("a connection"), answer, &log));
        }
    });
    received
}

fn serve_request(mut stream: TcpStream, answer: fn(&str) -> Vec<u8>, log: &Mutex<String>) {
    let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
    let (mut head, mut line) = (String::new(), String::new());
    while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
        head += &std::mem::take(&mut line);
    }
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        // Reads to the last chunk and the trailers after it.
        let mut body = String::new();
        while !body.contains("\n0\r\n") || !body.ends_with("\r\n\r\n") {
            assert_ne!(reader.read_line(&mut body).unwrap_or(0), 0, "{body}");
        }
        head += &body;
    } else if let Some(length) = head.to_ascii_lowercase().split("content-length: ").nth(1) {
        let length = length.split('\r').next().and_then(|n| n.parse().ok()).expect("a number");
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("a body");
    }
    log.lock().expect("no panic").push_str(&head);
    // The connection serves one request. Without this header, the next one could be sent while it closes.
    let answer = answer(&path);
    let at = answer.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let close = if at == 0 { &b""[..] } else { b"connection: close\r\n" };
    let _ = stream.write_all(&[&answer[..at], close, &answer[at..]].concat());
}

/// A shell function that posts with curl and prints the response with its headers, and curl's exit status.
const POST: &str = r#"post() { curl -sS -i -X POST -H 'content-type: application/json' -d '{}' "$ANTHROPIC_BASE_URL/v1/messages?$1"; echo " curl: $?"; }; "#;

#[test]
fn gateway_masks_returned_credential() {
    let mut repo = TestRepo::new();
    start_upstream(&mut repo, |path| {
        match path.split('?').nth(1) {
        Some("heads") => format!(
            "HTTP/1.1 200 OK\r\nx-reflect: {KEY}\r\nanthropic-echo: {KEY}\r\nanthropic-ratelimit: 7\r\nset-cookie: k={KEY}\r\n\
             request-id: r1\r\nlocation: /{KEY}\r\ncontent-length: 2\r\n\r\nok"
        )
        .into_bytes(),
        Some("body") => {
            let body = format!("{{\"error\": \"you sent x-api-key: {KEY}\"}}");
            format!("HTTP/1.1 400 Bad\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
        }
        Some("chunks") => {
            let (a, b) = KEY.split_at(9);
            let chunks = [a, b, "."].map(|c| format!("{:x}\r\n{c}\r\n", c.len())).concat();
            format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-reflect\r\n\r\n{chunks}0\r\nx-reflect: {KEY}\r\n\r\n")
                .into_bytes()
        }
        _ => format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\nx: {KEY}\r\n\r\nzz").into_bytes(),
    }
    });
    let script = format!("{POST} post heads; post body; post chunks; post packed");
    let ran = repo.airlock(&["run", "--net", "model", "--", "sh", "-c", &script]).ok();
    assert!(!ran.stdout.contains("never-to-come") && !ran.stdout.to_lowercase().contains("reflect"), "{}", ran.stdout);
    assert!(ran.stdout.contains("request-id: r1") && ran.stdout.contains("anthropic-ratelimit: 7"), "{}", ran.stdout);
    assert!(!ran.stdout.contains("set-cookie") && !ran.stdout.contains("location"), "{}", ran.stdout);
    let masked = "*".repeat(KEY.len());
    assert!(ran.stdout.contains(&format!("you sent x-api-key: {masked}\"}}")), "{}", ran.stdout);
    assert!(ran.stdout.contains(&format!("{masked}.")) && ran.stdout.contains("502"), "{}", ran.stdout);
    assert!(ran.stderr.contains("returned the credential") && ran.stderr.contains("an encoding"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("never-to-come"), "{}", ran.stderr);
}

#[test]
fn gateway_drops_foreign_headers_and_paths() {
    let mut repo = TestRepo::new();
    let received = start_upstream(&mut repo, |_| b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec());
    let script = r#"exec 3<>"/dev/tcp/127.0.0.1/${ANTHROPIC_BASE_URL##*:}"
        printf 'POST /v1/messages HTTP/1.1\r\nhost: x\r\nconnection: close, x-mine\r\nx-mine: 1\r\nte: trailers\r\ntrailer: x-api-key\r\ntransfer-encoding: chunked\r\nauthorization: Bearer foreign\r\ncookie: foreign\r\n\r\n2\r\n{}\r\n0\r\nx-api-key: foreign\r\n\r\n' >&3
        cat <&3
        for path in . .. ... ''; do curl -s -o /dev/null -w '%{http_code} ' --path-as-is "$ANTHROPIC_BASE_URL/v1/models/$path"; done"#;
    let ran = repo.airlock(&["run", "--net", "model", "--", "bash", "-c", script]).ok();
    assert!(ran.stdout.contains("200 OK") && ran.stdout.ends_with("403 403 403 403 "), "{}", ran.stdout);
    let received = received.lock().expect("no panic").to_lowercase();
    assert!(received.contains("post /v1/messages") && received.contains(&format!("x-api-key: {KEY}")), "{received}");
    for word in ["foreign", "x-mine", "trailer", "\nte:"] {
        assert!(!received.contains(word), "{word}: {received}");
    }
}

#[test]
fn gateway_reports_truncated_responses() {
    let mut repo = TestRepo::new();
    start_upstream(&mut repo, |path| match path.split('?').nth(1) {
        Some("length") => b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf".to_vec(),
        _ => b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n".to_vec(),
    });
    let script = format!("{POST} post length; post chunks");
    let ran = repo.airlock(&["run", "--net", "model", "--", "sh", "-c", &script]).ok();
    let ends: Vec<&str> = ran.stdout.lines().filter_map(|line| line.split(" curl: ").nth(1)).collect();
    // A response that breaks off before its head was sent is an empty one (52).
    assert!(ends.len() == 2 && ends.iter().all(|end| matches!(*end, "18" | "52" | "56")), "{}", ran.stdout);
    assert!(ran.stderr.contains("ended early (2 times)"), "{}", ran.stderr);
}

/// The response of a model that has used 1,000 tokens.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 54\r\nconnection: close\r\n\r\n{\"usage\":{\"input_tokens\":400,\"output_tokens\":600   }}\r\n";

#[test]
fn provider_tools_are_refused_unless_allowed() {
    let mut repo = TestRepo::new();
    let received = start_upstream(&mut repo, |_| ANSWER.to_vec());
    let script = r#"post() { curl -sS -X POST -H 'content-type: application/json' -d "$1" "$ANTHROPIC_BASE_URL/v1/messages" | head -c 400; echo; }
        post '{"messages": []}'; post '{"tools": [{"type": "web_search_20250305", "name": "web_search"}]}'; post '{"tools": [{"type": "web_fetch_20250910"}]}'
        post '{"mcp_servers": [{"type": "url", "url": "https://evil.example"}]}'; post '{"model": "a", "model": "b"}'
        post '{"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "https://evil.example/secret"}}]}]}'
        printf '{}' | gzip | curl -sS -X POST -H 'content-encoding: gzip' --data-binary @- "$ANTHROPIC_BASE_URL/v1/messages" | head -c 100; echo
        curl -sS -X GET -d x "$ANTHROPIC_BASE_URL/v1/models" | head -c 100"#;
    let ran = repo.airlock(&["run", "--net", "model", "--", "sh", "-c", script]).ok();
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines[0].contains("usage") && lines.len() == 8, "{}", ran.stdout);
    assert!(lines[1..].iter().all(|line| line.contains("permission_error")), "{}", ran.stdout);
    let sent = received.lock().expect("no panic").clone();
    assert_eq!(sent.matches("POST /v1/messages").count(), 1, "{sent}");
    assert!(ran.stderr.contains("refused: 7 requests"), "{}", ran.stderr);
    repo.set("AIRLOCK_PROVIDER_TOOLS", "web_search");
    let ran = repo.airlock(&["run", "--net", "model", "--", "sh", "-c", script]).ok();
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines[1].contains("usage") && lines[2].contains("web_fetch would let"), "{}", ran.stdout);
}

#[test]
fn budget_stops_further_requests() {
    let mut repo = TestRepo::new();
    start_upstream(&mut repo, |_| ANSWER.to_vec());
    let script = format!("{POST} post 1; post 2; post 3; post 4");
    let ran = repo.airlock(&["--budget", "2k", "run", "--net", "model", "--", "sh", "-c", &script]).ok();
    assert_eq!(ran.stdout.matches("200 OK").count(), 2, "{}", ran.stdout);
    assert_eq!(ran.stdout.matches("the token budget of 2000 is used up").count(), 2, "{}", ran.stdout);
    assert!(ran.stderr.contains("tokens: 800 in, 1200 out"), "{}", ran.stderr);
    repo.airlock(&["--budget", "many", "run", "--", "true"]).expect_failure(125, &["is not a number of tokens"]);
}

#[test]
fn gateway_sends_the_credential_that_claude_code_would_send() {
    let mut repo = TestRepo::new();
    let received = start_upstream(&mut repo, |_| ANSWER.to_vec());
    repo.set("ANTHROPIC_AUTH_TOKEN", "gateway-token");
    repo.set("ANTHROPIC_CUSTOM_HEADERS", "x-team: blue");
    let claude = repo.directory().join("home/.claude");
    std::fs::create_dir_all(&claude).expect("made");
    let settings = r#"{"env": {"ANTHROPIC_MODEL": "from-settings"}, "apiKeyHelper": "echo from-helper"}"#;
    std::fs::write(claude.join("settings.json"), settings).expect("written");
    let script = format!("{POST} echo $ANTHROPIC_MODEL; env | grep -c gateway-token; post 1");
    let run = |repo: &TestRepo| {
        received.lock().expect("no panic").clear();
        let ran = repo.airlock(&["run", "--net", "model", "--", "sh", "-c", &script]).ok();
        (ran, received.lock().expect("no panic").to_lowercase())
    };
    let (ran, sent) = run(&repo);
    assert!(ran.stdout.starts_with("from-settings\n0\n"), "{}", ran.stdout);
    assert!(sent.contains("authorization: bearer gateway-token") && !sent.contains(KEY), "{sent}");
    assert!(sent.contains("x-team: blue"), "{sent}");
    repo.unset("ANTHROPIC_AUTH_TOKEN");
    repo.unset("ANTHROPIC_API_KEY");
    let (_, sent) = run(&repo);
    assert!(sent.contains("x-api-key: from-helper"), "{sent}");
    repo.set("CLAUDE_CODE_USE_BEDROCK", "1");
    repo.airlock(&["--", "true"]).expect_failure(125, &[]);
    repo.airlock(&["run", "--net", "model", "--", "true"])
        .expect_failure(125, &["CLAUDE_CODE_USE_BEDROCK", "Amazon Bedrock"]);
}

#[test]
fn gateway_uses_the_proxy_of_the_host() {
    let mut repo = TestRepo::new();
    let received = start_upstream(&mut repo, |_| ANSWER.to_vec());
    let address = repo.environment().into_iter().find(|(name, _)| name == "ANTHROPIC_BASE_URL").expect("set").1;
    let proxy = address.replace("http://", "http://user:secret@");
    repo.set("HTTP_PROXY", &proxy);
    repo.set("http_proxy", &proxy);
    repo.set("ANTHROPIC_BASE_URL", "http://model.invalid");
    let script = format!("{POST} post 1; env | grep -c secret || true");
    let ran = repo.airlock(&["run", "--net", "model", "--", "sh", "-c", &script]).ok();
    assert!(ran.stdout.contains("200 OK") && ran.stdout.ends_with("\n0\n"), "{} {}", ran.stdout, ran.stderr);
    let sent = received.lock().expect("no panic").clone();
    assert!(sent.contains("POST http://model.invalid/v1/messages?1 HTTP/1.1"), "{sent}");
    assert!(sent.to_lowercase().contains("proxy-authorization: basic dxnlcjpzzwnyzxq="), "{sent}");
    let doctor = repo.airlock(&["doctor"]);
    assert!(
        doctor.stdout.contains("HTTP_PROXY is 127.0.0.1:") && !doctor.stdout.contains("secret"),
        "{}",
        doctor.stdout
    );
    repo.set("NO_PROXY", "model.invalid");
    repo.set("no_proxy", "model.invalid");
    let ran = repo.airlock(&["run", "--net", "model", "--", "sh", "-c", &script]);
    assert!(
        ran.stdout.contains("502") && ran.stderr.contains("failed to reach the model's API at http://model.invalid"),
        "{}",
        ran.stderr
    );
}
