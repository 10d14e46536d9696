//! Tests that take minutes or need root; `scripts/test --long` runs them. The real program is killed or fails from the
//! outside, or its file system has no space left.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use airlock::apply::{ApplyError, HostFs, RecoveryMode};
use airlock::core::on_conflict::OnConflict;
use rustix::process::{Pid, Signal, kill_process};

use crate::faults::{build_trees, list_differences};
use crate::field::{ApplyFixture, TreeState, read_tree_state};
use crate::support::{AIRLOCK, CommandOutput, TestRepo, pid};
use crate::terminal::{Terminal, children_of};

fn print_line(text: &str) {
    std::io::stdout().write_all(format!("{text}\n").as_bytes()).expect("written");
}

/// Creates a repository with a sandbox that changes 40 paths of many kinds, and returns it with the arguments of an
/// apply. The apply rejects one path, so that the sandbox is kept.
fn sample_repo() -> (TestRepo, [&'static str; 6]) {
    let repo = TestRepo::new();
    for n in 0..12 {
        repo.write(&format!("edit/{n}"), format!("{n}\n"));
        repo.write(&format!("lost/{n}"), format!("{n}\n"));
    }
    std::os::unix::fs::symlink("a.txt", repo.path.join("link")).expect("made");
    repo.write("swap/file", "f\n");
    repo.write("flat", "f\n");
    repo.commit();
    let script = "for n in $(seq 0 11); do echo more >> edit/$n; rm lost/$n; mkdir -p new/$n; echo n > new/$n/f; done; \
                  ln -sf c.txt link; ln -s a.txt new-link; chmod +x a.txt; rm -r swap; echo s > swap; rm flat; mkdir flat; \
                  echo f > flat/f; echo undecided > undecided";
    repo.changeset("l", script);
    repo.write("edit/3", "mine\n3\n");
    (repo, ["apply", "l", "--accept-all", "--allow-risky", "--reject", "undecided"])
}

/// The states of the tree before and after the apply.
struct Endpoints {
    before: TreeState,
    after: TreeState,
}

impl Endpoints {
    fn from_apply(repo: &TestRepo, apply: &[&str]) -> Self {
        let before = read_tree_state(&repo.path);
        repo.airlock(apply).ok();
        let after = read_tree_state(&repo.path);
        repo.airlock(&["undo"]).ok();
        let endpoints = Self { before, after };
        assert!(!endpoints.recover_and_check(repo, "the undo"));
        endpoints
    }

    /// Runs `recover`, requires the tree to be as before or as after the apply, and undoes the apply. Returns whether
    /// the tree was as after it.
    #[track_caller]
    fn recover_and_check(&self, repo: &TestRepo, what: &str) -> bool {
        let recovered = repo.airlock(&["recover"]).ok();
        assert!(!recovered.stderr.contains("was not changed"), "{what}: {}", recovered.stderr);
        let now = read_tree_state(&repo.path);
        let (to_before, to_after) = (list_differences(&now, &self.before), list_differences(&now, &self.after));
        let nearer = if to_before.len() < to_after.len() { &to_before } else { &to_after };
        assert!(nearer.is_empty(), "{what}: {nearer:#?}");
        if to_after.is_empty() {
            repo.airlock(&["undo"]).ok();
            assert_eq!(list_differences(&read_tree_state(&repo.path), &self.before), [""; 0], "{what}: the undo");
        }
        to_after.is_empty()
    }
}

/// Removes the old applies, which the test does not need and which make each command slower.
fn remove_old_applies(repo: &TestRepo) {
    let folder = repo.path.join(".git/airlock/applies");
    for entry in fs::read_dir(folder).expect("listed").flatten().filter(|e| e.path().is_dir()) {
        fs::remove_dir_all(entry.path()).expect("removed");
    }
}

#[test]
#[ignore = "minutes: scripts/test --long"]
fn apply_killed_at_random_is_all_or_nothing() {
    let (repo, apply) = sample_repo();
    let endpoints = Endpoints::from_apply(&repo, &apply);
    let start = Instant::now();
    repo.airlock(&apply).ok();
    let whole = start.elapsed();
    repo.airlock(&["undo"]).ok();
    let (mut done, mut before, mut unfinished) = (0, 0, 0);
    let runs: u64 = 600;
    for run in 0..runs {
        let mut child = repo.command(AIRLOCK, &apply);
        let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
        // The fractional parts of multiples of the golden ratio spread the moments evenly over the whole run.
        let part = u32::try_from((run * 618_033_989) % 1_000_000_000).expect("it is below");
        std::thread::sleep(whole.mul_f64(0.3 + 1.2 * f64::from(part) / 1e9));
        let _ = rustix::process::kill_process(pid(&child), rustix::process::Signal::KILL);
        child.wait().expect("it ends");
        let folder = repo.path.join(".git/airlock/applies");
        let is_unfinished = |f: PathBuf| f.join("journal").exists() && !f.join("end").exists();
        let found = fs::read_dir(&folder).expect("listed").flatten().any(|e| is_unfinished(e.path()));
        unfinished += usize::from(found);
        if endpoints.recover_and_check(&repo, &format!("run {run}")) {
            done += 1;
        } else {
            before += 1;
        }
        if run % 20 == 19 {
            remove_old_applies(&repo);
        }
    }
    print_line(&format!(
        "{runs} kills spread over {whole:?}: {done} ended all after, {before} all before, {unfinished} were unfinished"
    ));
    assert!(unfinished > 20, "{unfinished} were interrupted in the middle: the moments are badly spread");
}

#[test]
#[ignore = "minutes, and strace: scripts/test --long"]
fn apply_survives_fault_in_every_system_call() {
    let (repo, apply) = sample_repo();
    let endpoints = Endpoints::from_apply(&repo, &apply);
    let trace = repo.path.with_file_name("trace");
    let strace = |call: &str, fault: &str| {
        let trace = trace.to_str().expect("UTF-8");
        let (only, inject) = (format!("trace={call}"), format!("inject={call}:{fault}"));
        // `--seccomp-bpf` is faster, but strace injects no signals with it.
        let fast: &[&str] = if fault.starts_with("error") { &["--seccomp-bpf"] } else { &[] };
        let args = [&["-f", "-qq", "-o", trace, "-e", &only, "-e", &inject], fast, &[AIRLOCK]].concat();
        let mut command = repo.command("strace", &[&args[..], &apply].concat());
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        CommandOutput::from_command(command)
    };
    // The system calls that change a file system, and those that open and read.
    let calls = [
        "mkdirat",
        "mkdir",
        "renameat2",
        "rename",
        "unlinkat",
        "symlinkat",
        "linkat",
        "fchmod",
        "fchownat",
        "utimensat",
        "fsync",
        "fdatasync",
        "ftruncate",
        "write",
        "openat",
        "newfstatat",
        "getdents64",
        "readlinkat",
        "flock",
    ];
    let mut summary = Vec::new();
    for call in calls {
        for fault in ["signal=KILL", "error=ENOSPC", "error=EIO"] {
            // A call that only reads never fails with ENOSPC.
            let reads = ["openat", "newfstatat", "getdents64", "readlinkat", "flock"].contains(&call);
            if reads && fault == "error=ENOSPC" {
                continue;
            }
            let mut points = 0;
            for n in 1.. {
                let ran = strace(call, &format!("{fault}:when={n}"));
                let text = fs::read_to_string(&trace).expect("traced");
                let reached = text.contains("(INJECTED)") || text.contains("+++ killed by SIGKILL +++");
                endpoints.recover_and_check(&repo, &format!("{call} {n} {fault}: {ran:?}"));
                if !reached {
                    break;
                }
                points += 1;
                if n % 20 == 0 {
                    remove_old_applies(&repo);
                }
            }
            summary.push(format!("{call} {fault}: {points}"));
            print_line(summary.last().expect("just pushed"));
        }
    }
    for call in ["mkdirat", "renameat2", "unlinkat", "symlinkat", "linkat", "fchmod", "utimensat", "fsync", "write"] {
        for fault in ["signal=KILL", "error=EIO"] {
            let line = summary.iter().find(|s| s.starts_with(&format!("{call} {fault}: "))).expect("it was tried");
            assert!(!line.ends_with(": 0"), "{call} was never called");
        }
    }
}

/// A mounted file system, which needs root.
struct Mounted(PathBuf);

impl Mounted {
    fn new(folder: &Path, args: &[&str]) -> Self {
        let path = folder.join("mounted");
        fs::create_dir_all(&path).expect("made");
        let done = Command::new("mount").args(args).arg(&path).status().expect("mount runs");
        assert!(done.success(), "mounting a file system needs root: mount {args:?}");
        Self(path)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// Applies with more and more space left on a file system, from none until the apply succeeds.
fn apply_until_space_suffices(directory: &Path, step: usize, what: &str) {
    let (base, host, accepted) = build_trees();
    let (mut done, mut failed) = (0, 0);
    let filler = directory.join("filler");
    let reference = {
        let fixture = ApplyFixture::new(&host);
        let before = fixture.read_state();
        fixture.apply_plan(&fixture.plan(&base, &accepted, OnConflict::Abort), &HostFs::default()).expect("applied");
        (before, fixture.read_state())
    };
    for left in 0..400 {
        let _ = fs::remove_file(&filler);
        let fixture = ApplyFixture::in_dir(directory, &host);
        // The accepted content is stored before the disk fills up.
        let plan = fixture.plan(&base, &accepted, OnConflict::Abort);
        drop(fixture.lock_log());
        let free = {
            let stat = rustix::fs::statvfs(directory).expect("asked");
            usize::try_from(stat.f_bavail * stat.f_frsize).expect("small")
        };
        let size = free.saturating_sub(left * step);
        let mut file = fs::File::create(&filler).expect("made");
        let zeros = vec![0_u8; 65536];
        let mut to_go = size;
        while to_go > 0 {
            match file.write(&zeros[..to_go.min(zeros.len())]) {
                Ok(0) | Err(_) => break,
                Ok(n) => to_go -= n,
            }
        }
        let _ = file.sync_all();
        drop(file);
        let result = fixture.apply_plan(&plan, &HostFs::default());
        if let Err(ApplyError::RollbackFailed { .. }) = result {
            // There was no space even for the end of the journal.
            fs::remove_file(&filler).expect("removed");
            fixture.recover(RecoveryMode::RollBack, &HostFs::default()).expect("recovered");
        }
        let now = fixture.read_state();
        let expected = if result.is_ok() { &reference.1 } else { &reference.0 };
        assert_eq!(list_differences(&now, expected), [""; 0], "{what} with {left} steps left: {result:?}");
        if result.is_ok() {
            done += 1;
            if done > 5 {
                break;
            }
        } else {
            failed += 1;
        }
    }
    print_line(&format!("{what}: {failed} applies ran out of space and changed nothing, then {done} had enough"));
    assert!(failed > 5 && done > 0, "{what}: {failed} failed, {done} did not");
}

#[test]
#[ignore = "root: scripts/test --long"]
fn apply_on_full_tmpfs_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let mounted = Mounted::new(folder.path(), &["-t", "tmpfs", "-o", "size=2m", "tmpfs"]);
    apply_until_space_suffices(&mounted.0, 4096, "tmpfs of 2 MiB");
}

#[test]
#[ignore = "root: scripts/test --long"]
fn apply_on_full_ext4_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let image = folder.path().join("image");
    fs::File::create(&image).expect("made").set_len(4 << 20).expect("sized");
    let path = image.to_str().expect("UTF-8");
    let mut make = Command::new("mkfs.ext4");
    make.args(["-q", "-b", "1024", "-N", "1024", "-m", "0", path]).env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin");
    assert!(make.status().expect("mkfs.ext4 runs").success());
    let mounted = Mounted::new(folder.path(), &["-o", "loop", path]);
    apply_until_space_suffices(&mounted.0, 1024, "ext4 of 4 MiB");
}

#[test]
#[ignore = "root: scripts/test --long"]
fn collect_survives_full_repository_disk() {
    let mut repo = TestRepo::new();
    let (git, state) = (repo.path.join(".git"), repo.path.join(".git/airlock"));
    let mounted = Mounted::new(&git, &["-t", "tmpfs", "-o", "size=60m", "tmpfs"]);
    std::os::unix::fs::symlink(&mounted.0, &state).expect("linked");
    let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do head -c 8M /dev/urandom > big$i; done; echo x > small";
    let ran = repo.airlock(&["run", "--name", "full", "--review", "never", "--", "sh", "-c", script]);
    ran.expect_failure(
        125,
        &["MiB left, too little for the changes of the sandbox", "`full` is kept with the agent's work"],
    );
    let left = fs::read_dir(state.join("sandboxes/full/quarantine")).expect("listed").count();
    assert_eq!(left, 0, "the stored content is removed");
    repo.set("AIRLOCK_MAX_TOTAL", "10m");
    let diff = repo.diff("full");
    assert_eq!(diff["not_collected"].as_array().expect("a list").len(), 11, "{:#}", diff["not_collected"]);
    repo.unset("AIRLOCK_MAX_TOTAL");
    repo.airlock(&["rm", "full"]).ok();
}

/// Returns the processes whose command line begins with these words.
fn processes_of(words: &[&str]) -> Vec<Pid> {
    let start = words.iter().map(|word| format!("{word}\0")).collect::<String>();
    let processes = fs::read_dir("/proc").expect("listed").flatten();
    let is_meant = |path: &Path| fs::read(path.join("cmdline")).is_ok_and(|line| line.starts_with(start.as_bytes()));
    let found = processes.filter(|entry| is_meant(&entry.path()));
    found.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// One process of a session is killed at a random moment. What the agent had written by then is there afterwards, and nothing
/// is left of the processes and containers.
#[test]
#[ignore = "minutes: scripts/test --long"]
fn sessions_killed_at_random_lose_nothing() {
    const ROUNDS: usize = 200;
    let repo = TestRepo::new();
    let mut killed: BTreeMap<&str, usize> = BTreeMap::new();
    let mut written_rounds = 0;
    for round in 0..ROUNDS {
        let name = format!("k{round}");
        let script = format!("echo {round} > work.txt; echo rea''dy; exec sleep 86397");
        let args = ["run", "--name", &name, "--review", "never", "--", "sh", "-c", &script];
        let mut terminal = Terminal::start(&repo, &args);
        let process = terminal.child.process_id().and_then(|id| Pid::from_raw(id.cast_signed())).expect("it runs");
        let random = RandomState::new().build_hasher().finish();
        let victim = ["agent", "sidecar", "owner", "terminal"][usize::try_from(random % 4).expect("small")];
        let is_written = || terminal.screen.0.lock().expect("no panic").screen().contents().contains("ready");
        if random & 16 == 0 {
            terminal.shows("ready");
        } else {
            // A random moment of the start.
            std::thread::sleep(Duration::from_millis(random / 32 % 1500));
        }
        let was_written = is_written();
        let victims = match victim {
            "agent" => processes_of(&["sleep", "86397"]),
            "sidecar" => processes_of(&["/airlock/guest", "serve"]),
            "owner" => children_of(process),
            _ => vec![process],
        };
        for pid in &victims {
            let _ = kill_process(*pid, Signal::KILL);
        }
        *killed.entry(if victims.is_empty() { "nothing" } else { victim }).or_default() += 1;
        if victims.is_empty() {
            // It does not run yet.
            kill_process(process, Signal::TERM).expect("signaled");
        }
        terminal.child.wait().expect("it ends");
        let end = Instant::now() + Duration::from_secs(60);
        while repo.path.join(".git/airlock/sandboxes").join(&name).exists()
            && ["running", "waiting", "starting", "in-use"].contains(&repo.status(&name).as_str())
        {
            assert!(Instant::now() < end, "round {round}, {victim}: the sandbox stays in use");
        }
        if was_written {
            written_rounds += 1;
            let added = ("work.txt".to_owned(), "added".to_owned());
            assert!(repo.changes(&name).contains(&added), "round {round}, {victim}: the work is lost");
        }
        if repo.path.join(".git/airlock/sandboxes").join(&name).exists() {
            repo.airlock(&["rm", "-f", &name]).ok();
        }
    }
    repo.airlock(&["gc"]).ok();
    let orphans = repo.engine_objects();
    let processes = [processes_of(&["sleep", "86397"]), processes_of(&[AIRLOCK])].concat().len();
    print_line(&format!(
        "sessions: {ROUNDS} kills {killed:?}, {written_rounds} after the agent had written; orphans after gc: {orphans} objects, {processes} processes"
    ));
    assert_eq!((orphans, processes), (0, 0));
    assert!(written_rounds > ROUNDS / 4 && killed.len() >= 4, "{killed:?}");
}
