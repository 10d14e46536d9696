//! Images and agents cannot leave the restrictions of the container or outlive it.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use insta::assert_snapshot;
use rustix::process::{Signal, kill_process};

use crate::support::{AIRLOCK, CommandOutput, TestRepo, engine_lacks, pid};
use crate::terminal::Terminal;

/// An image that is built from the agent image for one test and removed at its end.
struct Image<'a> {
    repo: &'a TestRepo,
    name: String,
}

impl<'a> Image<'a> {
    fn build(repo: &'a TestRepo, name: &str, dockerfile: &str) -> Self {
        let context = tempfile::tempdir().expect("a folder");
        fs::write(context.path().join("Dockerfile"), dockerfile).expect("written");
        let name = format!("airlock-test-{name}-{}", std::process::id());
        let folder = context.path().to_str().expect("UTF-8");
        // Every engine has Docker's classic builder, and the build needs no network.
        let mut build = repo.command("docker", &["build", "-q", "--network", "none", "-t", &name, folder]);
        build.env("DOCKER_BUILDKIT", "0");
        CommandOutput::from_command(build).ok();
        Self { repo, name }
    }
}

impl Drop for Image<'_> {
    fn drop(&mut self) {
        let run = |args: &[&str]| CommandOutput::from_command(self.repo.command("docker", args)).stdout;
        // An ID stands for all names. After a failure, another one would make other tests fail.
        let id = run(&["image", "inspect", "-f", "{{.Id}}", &self.name]);
        let image = if std::thread::panicking() { id.trim() } else { self.name.as_str() };
        run(&["image", "rm", "-f", image]);
    }
}

/// Lists the anonymous volumes, which an engine creates for the volumes of an image.
fn list_unnamed_volumes(repo: &TestRepo) -> Vec<String> {
    let listed = CommandOutput::from_command(repo.command("docker", &["volume", "ls", "-q"])).ok().stdout;
    listed.lines().filter(|name| name.len() == 64).map(str::to_owned).collect()
}

#[test]
fn seccomp_filter_covers_every_process() {
    let repo = TestRepo::new();
    let script = "sleep 5 & setsid sleep 5 & \
                  grep -h ^Seccomp_filters /proc/[0-9]*/status | sort | uniq -c | tr -s ' '; \
                  grep -h ^NoNewPrivs /proc/[0-9]*/status | sort -u; cat /proc/1/comm";
    let out = repo.airlock(&["run", "--", "sh", "-c", script]).ok().stdout;
    let lines: Vec<&str> = out.lines().collect();
    // The launcher, the shell, both `sleep` processes and grep have the engine's filter and Airlock's filter.
    assert_eq!(lines.len(), 3, "{out}");
    assert!(lines[0].ends_with("Seccomp_filters:\t2"), "{out}");
    assert_eq!(lines[1..], ["NoNewPrivs:\t1", "guest"], "{out}");
}

#[test]
fn first_process_cannot_be_traced_or_written() {
    let repo = TestRepo::new();
    let script = "import ctypes, os\n\
                  libc = ctypes.CDLL(None, use_errno=True)\n\
                  ATTACH, SEIZE = 16, 0x4206\n\
                  for request in (ATTACH, SEIZE):\n\
                  \x20   assert libc.ptrace(request, 1, 0, 0) == -1\n\
                  \x20   print(os.strerror(ctypes.get_errno()))\n\
                  for path in ('/proc/1/mem', '/proc/1/environ', '/proc/1/maps'):\n\
                  \x20   try: open(path, 'r+b' if path.endswith('mem') else 'rb').read(1); print(path)\n\
                  \x20   except OSError as error: print(error.strerror)\n\
                  child = os.fork()\n\
                  if child == 0:\n\
                  \x20   while True: pass\n\
                  print(libc.ptrace(ATTACH, child, 0, 0), 'its own children can be traced')\n\
                  os.kill(child, 9)\n";
    let out = repo.airlock(&["run", "--", "python3", "-c", script]).ok().stdout;
    let refused = "Operation not permitted\n".repeat(2) + &"Permission denied\n".repeat(3);
    assert_eq!(out, refused + "0 its own children can be traced\n");
}

#[test]
fn syscalls_to_processes_and_keyrings_are_denied() {
    let repo = TestRepo::new();
    let script = "import ctypes, os, platform\n\
                  libc = ctypes.CDLL(None, use_errno=True)\n\
                  first = 310 if platform.machine() == 'x86_64' else 270\n\
                  keys = 248 if platform.machine() == 'x86_64' else 217\n\
                  for call in [first, first + 1, first + 2, keys, keys + 1, keys + 2]:\n\
                  \x20   assert libc.syscall(call, 0, 0, 0, 0, 0) == -1\n\
                  \x20   print(os.strerror(ctypes.get_errno()))\n";
    let out = repo.airlock(&["run", "--", "python3", "-c", script]).ok().stdout;
    assert_eq!(out, "Operation not permitted\n".repeat(6));
}

#[test]
fn image_health_checks_do_not_run() {
    let repo = TestRepo::new();
    let image =
        Image::build(&repo, "health", "FROM airlock-agent:latest\nHEALTHCHECK --interval=1s CMD touch /tmp/checked\n");
    let script = "sleep 3; ls /tmp";
    assert_eq!(repo.airlock(&["run", "--image", &image.name, "--", "sh", "-c", script]).ok().stdout, "");
}

/// The images have a symlink at the path where the launcher used to be mounted. The engine resolved it differently when
/// it mounted the launcher and when it started the first process.
#[test]
fn launcher_cannot_be_replaced_by_image() {
    let repo = TestRepo::new();
    repo.write("x/guest", "#!/bin/sh\necho the image has PID 1\n");
    fs::set_permissions(repo.path.join("x/guest"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
    repo.commit();
    let up = "../".repeat(12);
    for (n, target) in ["/proc/self/cwd/x", "/proc/1/cwd/x", &format!("/proc/self/cwd/{up}evil")].iter().enumerate() {
        let dockerfile = format!(
            "FROM airlock-agent:latest\nUSER root\n\
             RUN mkdir /evil && printf '#!/bin/sh\\necho the image has PID 1\\n' > /evil/guest && chmod 755 /evil/guest && \
             rm -rf /.airlock && ln -s {target} /.airlock\nUSER 1000:1000\n"
        );
        let image = Image::build(&repo, &format!("link-{n}"), &dockerfile);
        let script = "cat /proc/1/comm; grep -h ^Seccomp_filters /proc/1/status";
        let ran = repo.airlock(&["run", "--image", &image.name, "--", "sh", "-c", script]).ok();
        assert_eq!(ran.stdout, "guest\nSeccomp_filters:\t2\n", "{target}");
    }
    // The path differs in each run.
    let name = |repo: &TestRepo| {
        let script = "grep -o '/.airlock-[0-9a-f]*' /proc/self/mountinfo | sort -u";
        repo.airlock(&["run", "--", "sh", "-c", script]).ok().stdout
    };
    let (one, other) = (name(&repo), name(&repo));
    assert!(one.trim().len() == "/.airlock-".len() + 32 && one != other, "{one} {other}");
}

#[test]
fn image_volumes_are_covered_counted_and_removed() {
    if engine_lacks("limits") {
        return;
    }
    let repo = TestRepo::new();
    let before = list_unnamed_volumes(&repo);
    let image = Image::build(
        &repo,
        "volume",
        "FROM airlock-agent:latest\nUSER root\nRUN mkdir -p /data /srv/deep && chmod 1777 /data /srv/deep\n\
         VOLUME /data /srv/deep/ /tmp /home/agent\nUSER 1000:1000\n",
    );
    let run = |options: &[&str], script: &str| {
        let args = [&["run", "--name", "v", "--review", "never", "--image", &image.name], options];
        repo.airlock(&[&args.concat(), &["--", "sh", "-c", script][..]].concat())
    };
    let script = "for d in /data /srv/deep; do stat -f -c %T $d; echo x > $d/x && cat $d/x; done";
    assert_eq!(run(&[], script).ok().stdout, "tmpfs\nx\ntmpfs\nx\n");
    // Data in these volumes counts as memory.
    let filled = run(&["--memory", "100m"], "head -c 500000000 /dev/zero > /data/x; exit 3");
    assert!(filled.status != 0 && filled.stderr.contains("(--memory)"), "{filled:?}");
    assert_eq!(list_unnamed_volumes(&repo), before, "the engine has created no anonymous volume");
    let bad = format!("FROM airlock-agent:latest\nVOLUME {}\n", repo.path.join("below").display());
    let bad = Image::build(&repo, "bad-volume", &bad);
    assert_snapshot!(repo.airlock(&["run", "--name", "v", "--image", &bad.name, "--", "true"]), @"
    status: 125
    ----- stderr -----
    airlock: v · main at [COMMIT], 5 files · network: none
    error: failed to use the image: the image declares a volume at [TMP]/repo/below, where a sandbox cannot have one
    ");
    assert_eq!(repo.engine_objects(), 0);
}

#[test]
fn agent_ends_with_its_owner() {
    let repo = TestRepo::new();
    let script = "trap '' HUP INT TERM; echo work >> a.txt; echo ready; while :; do sleep 0.1; done";
    let mut command = repo.command(AIRLOCK, &["run", "--name", "o", "--", "sh", "-c", script]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it runs");
    let mut out = child.stdout.take().expect("a pipe");
    std::io::Read::read_exact(&mut out, &mut [0; 6]).expect("it is ready");
    let running = || {
        let filter =
            format!("label=dev.airlock.repo={}", airlock::base::repository_id(&repo.path.join(".git")).expect("an id"));
        let names = repo.command("docker", &["ps", "--format", "{{.Names}}", "--filter", &filter]);
        CommandOutput::from_command(names).ok().stdout
    };
    // A container that filled the workspace may still be about to end.
    let there = running();
    assert!(there.contains("-agent\n") && there.contains("-sidecar\n"), "{there}");
    kill_process(pid(&child), Signal::KILL).expect("it is there");
    child.wait().expect("it ends");
    let end = Instant::now() + Duration::from_secs(20);
    while !running().is_empty() {
        assert!(Instant::now() < end, "the agent is still running");
        std::thread::yield_now();
    }
    // The agent's work is collected, and the sandbox can be resumed.
    assert_eq!(repo.changes("o"), [("a.txt".into(), "modified".into())]);
    assert_eq!(repo.airlock(&["resume", "o", "--", "tail", "-n", "1", "a.txt"]).ok().stdout, "work\n");
}

#[test]
fn agent_ends_at_deadline_with_owner_stopped() {
    let repo = TestRepo::new();
    let script = "echo ready; trap '' TERM; while :; do sleep 0.1; done";
    let mut command = repo.command(AIRLOCK, &["run", "--name", "d", "--timeout", "1s", "--", "sh", "-c", script]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it runs");
    let mut out = child.stdout.take().expect("a pipe");
    std::io::Read::read_exact(&mut out, &mut [0; 6]).expect("it is ready");
    // A stopped process keeps its connections open, but cannot enforce the deadline.
    kill_process(pid(&child), Signal::STOP).expect("it is there");
    let inspect = ["ps", "-q", "--filter", "name=-agent", "--filter"];
    let filter =
        format!("label=dev.airlock.repo={}", airlock::base::repository_id(&repo.path.join(".git")).expect("an id"));
    let running = || {
        CommandOutput::from_command(repo.command("docker", &[&inspect[..], &[filter.as_str()]].concat())).ok().stdout
    };
    assert_eq!(running().lines().count(), 1);
    let end = Instant::now() + Duration::from_secs(60);
    while !running().is_empty() {
        assert!(Instant::now() < end, "the agent is still running");
        std::thread::yield_now();
    }
    kill_process(pid(&child), Signal::CONT).expect("it is there");
    child.wait().expect("it ends");
}

#[test]
fn command_that_stops_itself_is_continued() {
    let repo = TestRepo::new();
    let script = "kill -STOP $$; echo back; sh -c 'kill -TSTP $PPID'; echo again";
    let ran = repo.airlock(&["run", "--", "sh", "-c", script]).ok();
    assert_eq!(ran.stdout, "back\nagain\n");
    assert!(ran.stderr.contains("airlock: a sandbox has no job control; the command continues"), "{}", ran.stderr);
    // On a terminal, the command is in the foreground again afterwards.
    let script = "kill -STOP $$; read line; echo got $line";
    let mut terminal = Terminal::start(&repo, &["run", "--", "sh", "-c", script]);
    terminal.shows("it continues");
    terminal.types("word\r");
    terminal.shows("got word");
    assert!(terminal.child.wait().expect("it ends").success());
}

#[test]
fn exit_status_and_signal_match_command() {
    let repo = TestRepo::new();
    for (script, status) in
        [("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143), ("(sleep 0.1; exit 3) & wait $!", 3)]
    {
        assert_eq!(repo.airlock(&["run", "--", "sh", "-c", script]).status, status, "{script}");
    }
    assert_snapshot!(repo.airlock(&["run", "--name", "p", "--", "no-such-program"]), @r#"
    status: 127
    ----- stderr -----
    airlock: p · main at [COMMIT], 5 files · network: none
    airlock: failed to run "no-such-program" in the sandbox: No such file or directory (os error 2)
    hint: to add it to the image, run `airlock image build --with PACKAGE`, or `--project` for what this repository calls for
    airlock: p changed nothing, so it is removed
    "#);
    assert_snapshot!(repo.airlock(&["run", "--name", "p", "--", "/etc/passwd"]), @r#"
    status: 126
    ----- stderr -----
    airlock: p · main at [COMMIT], 5 files · network: none
    airlock: failed to run "/etc/passwd" in the sandbox: Permission denied (os error 13)
    airlock: p changed nothing, so it is removed
    "#);
    // The first process reaps orphans.
    let script = "for i in 1 2 3 4 5; do sh -c 'sleep 0.05 & exit'; done; sleep 0.5; ps -o stat= | grep -c Z";
    assert_eq!(repo.airlock(&["run", "--", "sh", "-c", script]).stdout, "0\n");
}

#[test]
fn ctrl_c_three_times_kills_deaf_agent() {
    let repo = TestRepo::new();
    let script = "trap '' INT TERM HUP QUIT TSTP; stty -isig; echo work >> a.txt; echo 'does not listen'; while :; do sleep 0.1; done";
    let mut terminal =
        Terminal::start(&repo, &["run", "--name", "deaf", "--review", "never", "--", "sh", "-c", script]);
    terminal.shows("does not listen");
    terminal.types("\u{3}\u{3}\u{3}");
    terminal.shows("kept. Next: airlock review deaf");
    assert_eq!(terminal.child.wait().expect("it ends").exit_code(), 137);
    assert!(terminal.is_sane());
    assert_eq!(repo.changes("deaf"), [("a.txt".into(), "modified".into())]);
}

#[test]
fn loopback_names_and_shared_memory_work() {
    let repo = TestRepo::new();
    let script = "import socket, os\n\
                  print(socket.gethostbyname(socket.gethostname()), socket.gethostbyname('localhost'))\n\
                  from multiprocessing import shared_memory\n\
                  m = shared_memory.SharedMemory(create=True, size=150 << 20)\n\
                  m.buf[:] = bytes(150 << 20); m.close(); m.unlink(); print('shared')\n";
    let out = repo.airlock(&["run", "--", "python3", "-c", script]).ok().stdout;
    assert_eq!(out, "127.0.0.1 127.0.0.1\nshared\n");
    // A program can listen on each address that the hosts file has for localhost.
    let script = "import socket\n\
                  for line in open('/etc/hosts'):\n    \
                  words = line.split('#')[0].split()\n    \
                  if 'localhost' in words[1:]:\n        \
                  family = socket.AF_INET6 if ':' in words[0] else socket.AF_INET\n        \
                  s = socket.socket(family); s.bind((words[0], 0)); s.listen()\n        \
                  socket.create_connection(s.getsockname()[:2], 5).close()\n        \
                  print('listens')\n";
    let out = repo.airlock(&["run", "--", "python3", "-c", script]).ok().stdout;
    assert!(out.lines().count() >= 1 && out.lines().all(|line| line == "listens"), "{out}");
}

/// An image with the name and the label of the guest image is not run.
#[test]
fn planted_guest_image_is_not_run() {
    let repo = TestRepo::new();
    let hash = airlock::engine::image::guest_hash();
    let name = format!("airlock-guest:{}", &hash[..16]);
    // It has no program that could answer.
    let labels = format!("FROM scratch\nLABEL dev.airlock.image=guest dev.airlock.guest={hash}\n");
    let planted = Image::build(&repo, "planted-guest", &labels);
    let id_of = |name: &str| {
        let inspect = repo.command("docker", &["image", "inspect", "-f", "{{.Id}}", name]);
        CommandOutput::from_command(inspect).ok().stdout
    };
    CommandOutput::from_command(repo.command("docker", &["tag", &planted.name, &name])).ok();
    assert_eq!(repo.airlock(&["run", "--", "echo", "works"]).ok().stdout, "works\n");
    assert_ne!(id_of(&name), id_of(&planted.name));
}
