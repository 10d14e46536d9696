//! Snapshot → seed → collect on the real engine: the sidecar serves a workspace, files are added to it through the guest,
//! and exactly these come back. No agent runs here, and nothing is modified or deleted.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use airlock::engine::{ContainerSpec, Docker, Engine, Labels, Mount, Network, image, sidecar_spec};
use airlock::sandbox::{Caps, HomeEntry, Link, Record, SandboxName, State, Store, View, collect, random, seed};
use airlock::snapshot::HostRepo;
use futures_util::FutureExt;
use tokio::sync::mpsc;

fn git(folder: &Path, args: &[&str]) {
    let mut git = Command::new("git");
    git.args(["-c", "user.name=T", "-c", "user.email=t@example.org"]).args(args).current_dir(folder);
    assert!(git.status().expect("git runs").success(), "git {args:?}");
}

/// Removes everything of one sandbox, also when a test panics.
async fn remove_all(engine: &dyn Engine, id: &str) {
    for container in engine.containers("dev.airlock.sandbox", Some(id)).await.expect("listed") {
        engine.remove_container(&container.id).await.expect("removed");
    }
    for volume in engine.volumes("dev.airlock.sandbox", Some(id)).await.expect("listed") {
        engine.remove_volume(&volume.name).await.expect("removed");
    }
    assert!(engine.volumes("dev.airlock.sandbox", Some(id)).await.expect("listed").is_empty());
}

fn host() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    std::fs::create_dir_all(root.join("dir")).expect("made");
    for (path, content) in
        [("a.txt", "one\ntwo\n"), ("c.txt", "gone\n"), ("dir/keep.txt", "k\n"), ("run.sh", "#!/bin/sh\n")]
    {
        std::fs::write(root.join(path), content).expect("written");
    }
    std::fs::write(root.join(".gitignore"), "/target\n").expect("written");
    std::fs::write(root.join("large.bin"), vec![7_u8; 3 << 20]).expect("written");
    std::os::unix::fs::symlink("a.txt", root.join("old-link")).expect("made");
    git(root, &["init", "-q", "-b", "main"]);
    git(root, &["add", "-A"]);
    git(root, &["commit", "-qm", "start"]);
    folder
}

async fn seed_and_collect(engine: &dyn Engine, id: &str) {
    let folder = host();
    let host = HostRepo::discover(folder.path()).expect("a repository");
    let snapshot = host.snapshot().expect("a snapshot");
    assert_eq!(snapshot.entries.len(), 7);

    let labels: Labels = BTreeMap::from([("dev.airlock.sandbox".to_owned(), id.to_owned())]);
    let guest = image::ensure_guest(engine).await.expect("the guest image");
    let names = ["work", "home", "launch"].map(|kind| format!("airlock-{id}-{kind}"));
    for name in &names {
        engine.create_volume(name, &labels).await.expect("a volume");
    }
    let volumes = [names[0].as_str(), names[1].as_str(), names[2].as_str()];
    let sidecar = engine
        .create_container(&sidecar_spec(&format!("airlock-{id}-sidecar"), &guest, volumes, &labels))
        .await
        .expect("the sidecar");
    let attached = engine.attach(&sidecar, false).await.expect("attached");
    engine.start(&sidecar).await.expect("started");
    let (accept, _connections) = mpsc::unbounded_channel();
    let link = Link::greet(attached, accept.clone()).await.expect("the guest answers");
    let writer = engine.exec(&sidecar, "1000:1000", &["/airlock/guest", "serve"]).await.expect("a second guest");
    let writer = Link::greet(writer, accept).await.expect("it answers");

    let record = Record {
        schema_version: 1,
        name: "t1".parse::<SandboxName>().expect("a name"),
        id: id.into(),
        created: 0,
        verb: "run".into(),
        base: snapshot.commit.clone(),
        branch: snapshot.branch.clone(),
        repository: String::new(),
        worktree: host.worktree_id(),
        workspace: "/work".into(),
        image: guest.clone(),
        state: State::Seeding,
    };
    let sandbox = Store::of(&host.common_dir).create(record).expect("a record");
    let seeded =
        seed(&host, &snapshot, &writer, vec![HomeEntry::File("x", b"home".to_vec())]).await.expect("it is seeded");
    assert_eq!(seeded.iter().filter(|s| s.ino > 0).count(), 6, "every file but the link has stat data");
    sandbox.set_seeded(&seeded).expect("remembered");

    let nothing = collect(&host, &snapshot, &sandbox, &link, Caps::default(), View::Final).await.expect("collected");
    assert!(nothing.is_empty(), "an untouched workspace has no change: {nothing:?}");

    let spec = |command: &[&str]| ContainerSpec {
        name: format!("airlock-{id}-probe"),
        entrypoint: command.iter().map(|&c| c.to_owned()).collect(),
        command: Vec::new(),
        mounts: vec![Mount { volume: names[0].clone(), target: "/v/work".into(), read_only: false, fill: false }],
        user: "1000:1000".into(),
        network: Network::Join(sidecar.clone()),
        capabilities: Vec::new(),
        ..sidecar_spec("probe", &guest, volumes, &labels)
    };
    // The launcher installs its filter, then says that the command is not there.
    let probe = engine.create_container(&spec(&["/airlock/guest", "exec", "/nothing"])).await.expect("a container");
    engine.start(&probe).await.expect("started");
    assert_eq!(engine.wait(&probe).await.expect("it ends"), 127);
    engine.remove_container(&probe).await.expect("removed");

    overwrite(&writer).await;
    let changes = collect(&host, &snapshot, &sandbox, &link, Caps::default(), View::Final).await.expect("collected");
    let listed: Vec<_> =
        changes.files.iter().map(|f| (String::from_utf8_lossy(f.path.as_bytes()).into_owned(), f.verb())).collect();
    let expected = [("dir/b.txt", "added"), ("link", "added"), ("new.sh", "added")];
    assert_eq!(listed, expected.map(|(path, verb)| (path.to_owned(), verb)));
}

async fn overwrite(link: &Link) {
    use airlock::wire::{Encoder, Entry, Kind, Root};
    let file = |executable, bytes: &'static [u8]| Entry::File {
        executable,
        report: false,
        mtime: 0,
        size: bytes.len() as u64,
        offset: 0,
        bytes,
    };
    let mut encoder = Encoder::default();
    encoder.entry(Root::Work, b"dir/b.txt", &file(false, b"new\n"));
    encoder.entry(Root::Work, b"new.sh", &file(true, b"#!/bin/sh\n"));
    encoder.entry(Root::Work, b"link", &Entry::Link(b"a.txt"));
    encoder.entry(Root::Work, b"target", &Entry::Directory);
    encoder.entry(Root::Work, b"target/out", &file(false, b"ignored\n"));
    link.send(Kind::Write, 0, &encoder.0).await.expect("sent");
    link.flush(drop).await.expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_goes_in_and_exactly_the_changes_come_back() {
    let engine = Docker::connect().await.expect("an engine answers; scripts/engine starts one");
    let id: String = random::<8>().expect("random bytes").iter().map(|b| format!("{b:02x}")).collect();
    let result = std::panic::AssertUnwindSafe(seed_and_collect(&engine, &id)).catch_unwind().await;
    remove_all(&engine, &id).await;
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}
