//! Benchmarks of the parts of a start and of a base build that read the host repository, with 5,000 files:
//! `cargo bench`. Whole commands are measured by `scripts/bench`.
#![expect(clippy::disallowed_methods, reason = "it creates its own repository")]

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use airlock::git::{DeltaLimit, HostRepo, Snapshot, SnapshotOptions, UncommittedScope};

const FILES: usize = 5000;

struct Fixture {
    folder: tempfile::TempDir,
    first: String,
}

/// A repository with a commit of 5,000 files of 4 KiB, and a commit that changes 100 of them.
static FIXTURE: LazyLock<Fixture> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    git(root, &["init", "-q", "-b", "main"]);
    for n in 0..FILES {
        let path = root.join(format!("d{}/e{}/f{n}.txt", n % 20, n % 7));
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("made");
        std::fs::write(path, format!("line {n}\n").repeat(400)).expect("written");
    }
    std::fs::write(root.join(".gitattributes"), "*.txt text=auto\n").expect("written");
    git(root, &["add", "-A"]);
    git(root, &["commit", "-qm", "start"]);
    let first = git(root, &["rev-parse", "HEAD"]).trim().to_owned();
    for n in 0..100 {
        std::fs::write(root.join(format!("d{}/e{}/f{n}.txt", n % 20, n % 7)), "changed\n").expect("written");
    }
    git(root, &["commit", "-qam", "next"]);
    Fixture { folder, first }
});

fn git(root: &Path, args: &[&str]) -> String {
    let mut git = Command::new("git");
    git.args(["-c", "user.name=A", "-c", "user.email=a@example.org"]).args(args).current_dir(root);
    let out = git.env("GIT_CONFIG_GLOBAL", "/dev/null").output().expect("git runs");
    assert!(out.status.success(), "git {args:?}");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn host() -> HostRepo {
    HostRepo::discover(FIXTURE.folder.path()).expect("a repository")
}

fn snapshot() -> Snapshot {
    host().take_snapshot(&SnapshotOptions::default()).expect("a snapshot")
}

fn main() {
    divan::main();
}

/// The work of every start, which must not depend on the number of files.
#[divan::bench]
fn name_a_snapshot(bencher: divan::Bencher<'_, '_>) {
    host();
    bencher.bench(|| snapshot().base_key());
}

/// The work of a start after HEAD has changed 100 files.
#[divan::bench]
fn difference_of_100_files(bencher: divan::Bencher<'_, '_>) {
    let snapshot = snapshot();
    bencher.bench(|| {
        snapshot.read_delta_from(&FIXTURE.first, DeltaLimit::for_base(FILES)).expect("compared").expect("near")
    });
}

/// The listing of a base build.
#[divan::bench]
fn list_5000_files(bencher: divan::Bencher<'_, '_>) {
    let snapshot = snapshot();
    bencher.bench(|| snapshot.list_files().expect("listed"));
}

/// Reading and converting for a base build, without writing.
#[divan::bench(args = [1, 2])]
fn read_and_convert_5000_files(bencher: divan::Bencher<'_, '_>, threads: usize) {
    let snapshot = snapshot();
    let listing = snapshot.list_files().expect("listed");
    bencher.bench(|| snapshot.read_all(&listing, threads, |_| |_| Ok(())).expect("read"));
}

/// The work of `--uncommitted` without uncommitted changes.
#[divan::bench]
fn look_for_uncommitted_work(bencher: divan::Bencher<'_, '_>) {
    let (host, snapshot) = (host(), snapshot());
    bencher.bench_local(|| host.read_uncommitted(&snapshot, UncommittedScope::All, &[]).expect("looked"));
}
