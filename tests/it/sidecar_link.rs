//! The connection between the agent's container and the sidecar: a socket in a volume of both, or one network namespace.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::Ordering;

use crate::support::{CommandOutput, TestRepo, engine_in_between, engine_lacks, wait_until};

/// Starts a service of the host that says hello to each connection, and returns its port.
fn start_service() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port().to_string();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let _ = client.write_all(b"hello from the host\n");
        }
    });
    port
}

/// A script for the agent that connects to a port and prints what it reads.
fn read_from(port: &str) -> String {
    format!("exec 3<>/dev/tcp/127.0.0.1/{port}; cat <&3")
}

/// Returns a setting of the running containers of a repository, a line for each.
fn inspect_containers(repo: &TestRepo, format: &str) -> String {
    let id = airlock::base::repository_id(&repo.path.join(".git")).expect("an id");
    let label = format!("label=dev.airlock.repo={id}");
    let listed = CommandOutput::from_command(repo.command("docker", &["ps", "-q", "--filter", &label])).ok().stdout;
    let ids: Vec<&str> = listed.lines().collect();
    let inspected = repo.command("docker", &[&["inspect", "--format", format], &ids[..]].concat());
    let mut lines: Vec<String> =
        CommandOutput::from_command(inspected).ok().stdout.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// Runs an agent that waits for a file, and returns what a setting of its containers is meanwhile.
fn inspect_while_running(repo: &TestRepo, format: &str) -> String {
    let script = "touch started; until [ -e go ]; do sleep 0.1; done";
    let mut child = repo
        .command(crate::support::AIRLOCK, &["run", "--name", "w", "--", "sh", "-c", script])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("it runs");
    wait_until("the agent runs", || {
        let listed = repo.airlock(&["diff", "w", "--stat"]);
        listed.status == 0 && listed.stdout.contains("started")
    });
    let found = inspect_containers(repo, format);
    repo.airlock(&["stop", "w"]).ok();
    child.wait().expect("it ends");
    repo.airlock(&["rm", "--force", "w"]).ok();
    found
}

const NETWORK: &str = "{{.HostConfig.NetworkMode}} disabled={{.Config.NetworkDisabled}}";

#[test]
fn containers_have_separate_network_namespaces() {
    if engine_lacks("namespaces") {
        return;
    }
    let repo = TestRepo::new();
    assert_eq!(inspect_while_running(&repo, NETWORK), "none disabled=false\nnone disabled=true");
}

#[test]
fn agent_cannot_use_the_socket_of_the_launcher() {
    if engine_lacks("namespaces") {
        return;
    }
    let repo = TestRepo::new();
    let script = "import ctypes, os, socket\n\
                  mounts = [line.split() for line in open('/proc/mounts') if '/.airlock-' in line]\n\
                  shared = next(m for m in mounts if m[1].endswith('-socket'))\n\
                  print(os.listdir(shared[1]), shared[3].split(',')[0], len(mounts))\n\
                  try: socket.socket(socket.AF_UNIX).bind(shared[1] + '/launcher')\n\
                  except OSError as error: print(error.strerror)\n\
                  print([line for line in open('/proc/net/unix') if 'airlock' in line])\n\
                  try: socket.socket(socket.AF_UNIX).connect('\\0airlock-sockets')\n\
                  except OSError as error: print(error.strerror)\n\
                  libc = ctypes.CDLL(None, use_errno=True)\n\
                  first = libc.syscall(434, 1, 0)\n\
                  print(first >= 0, [libc.syscall(438, first, number, 0) for number in range(8)], os.strerror(ctypes.get_errno()))\n";
    let out = repo.airlock(&["run", "--", "python3", "-c", script]).ok().stdout;
    let refused = "True [-1, -1, -1, -1, -1, -1, -1, -1] Operation not permitted\n";
    assert_eq!(out, format!("[] ro 2\nRead-only file system\n[]\nConnection refused\n{refused}"));
}

#[test]
fn containers_share_a_network_namespace_if_they_cannot_share_a_socket() {
    // Without an overlay, the first start tries twice.
    if engine_lacks("namespaces") || engine_lacks("overlay") {
        return;
    }
    let mut repo = TestRepo::new();
    let service = start_service();
    let run = ["run", "--forward", &service, "--", "bash", "-c", &read_from(&service)];
    // The proxy misspells the place of the socket in the agent's container.
    let (address, asked) = engine_in_between(
        (b"-socket\",\"Source\"", b"-sacket\",\"Source\""),
        (b"-sacket\",\"Source\"", b"-sacket\",\"source\""),
    );
    repo.set("DOCKER_HOST", &address);
    let ran = repo.airlock(&run).ok();
    assert_eq!((ran.stdout.as_str(), asked.load(Ordering::SeqCst)), ("hello from the host\n", 1));
    // The socket is not tried again, in a resumed sandbox either.
    let shared = inspect_while_running(&repo, NETWORK);
    assert!(shared.starts_with("container:") && shared.ends_with("none disabled=false"), "{shared}");
    repo.airlock(&["run", "--name", "s", "--", "touch", "x"]).ok();
    let resumed = ["resume", "s", "--forward", &service, "--", "bash", "-c", &read_from(&service)];
    assert_eq!(repo.airlock(&resumed).ok().stdout, "hello from the host\n");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    // `doctor` names the reason, and lets the next start try again.
    let doctor = repo.airlock(&["doctor"]);
    assert!(doctor.stdout.contains("entity not found"), "{}", doctor.stdout);
    // A sandbox that was created with one namespace can be resumed with two, and the other way round.
    repo.unset("DOCKER_HOST");
    assert_eq!(repo.airlock(&resumed).ok().stdout, "hello from the host\n");
    repo.set("DOCKER_HOST", &address);
    assert_eq!(repo.airlock(&resumed).ok().stdout, "hello from the host\n");
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

/// Another agent, which has the same user ID, can use up all watches of directories.
#[test]
fn agent_without_watches_for_others_does_not_disturb_their_starts() {
    if engine_lacks("namespaces") {
        return;
    }
    let repo = TestRepo::new();
    let script = "import ctypes, os, time\n\
                  libc = ctypes.CDLL(None)\n\
                  while libc.inotify_init1(0) >= 0: pass\n\
                  open('started', 'w')\n\
                  while not os.path.exists('go'): time.sleep(0.1)\n";
    let mut hog = repo
        .command(crate::support::AIRLOCK, &["run", "--name", "w", "--", "python3", "-c", script])
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("it runs");
    wait_until("the agent runs", || repo.airlock(&["diff", "w", "--stat"]).stdout.contains("started"));
    let mounts = repo.airlock(&["run", "--", "grep", "-c", "/.airlock-", "/proc/mounts"]).ok().stdout;
    assert_eq!(mounts, "2\n", "the launcher and its socket");
    repo.airlock(&["stop", "w"]).ok();
    hog.wait().expect("it ends");
}

/// The answer to a request is sent even if a frame without an answer follows it in the same write.
#[test]
fn guest_sends_answers_before_it_waits() {
    use airlock::protocol::{Encoder, HEADER_LEN, Kind, Request, Root, encode_header, parse_header};
    use std::io::Read;
    let mut guest = std::process::Command::new(env!("CARGO_BIN_EXE_airlock-guest"))
        .arg("serve")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("it runs");
    // A request, and credit for a connection that does not exist.
    let mut list = Encoder::default();
    list.encode_request(&Request::List(Root::Work, Vec::new()));
    let head = encode_header(Kind::Request, 7, list.0.len());
    let frames = [&head[..], &list.0, &encode_header(Kind::Grant, 9, 4), &[1, 0, 0, 0]].concat();
    guest.stdin.as_mut().expect("a pipe").write_all(&frames).expect("written");
    let mut answers = guest.stdout.take().expect("a pipe");
    let reader = std::thread::spawn(move || {
        let mut head = [0; HEADER_LEN];
        answers.read_exact(&mut head).map(|()| parse_header(head).expect("a header"))
    });
    // Without an answer, the guest is ended, and the reader gets nothing.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !reader.is_finished() && std::time::Instant::now() < end {
        std::thread::yield_now();
    }
    guest.kill().expect("killed");
    guest.wait().expect("it ends");
    let (kind, stream, _) = reader.join().expect("no panic").expect("an answer");
    assert_eq!((kind, stream), (Kind::Failed, 7), "there is no such directory here");
}
