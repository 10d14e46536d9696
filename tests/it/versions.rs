//! Tests of files that another version of Airlock wrote: they are refused by name, and nothing is lost.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use serde_json::{Value, json};

use crate::support::TestRepo;

/// Sends a message as the processes of a session do: its kind, its length, its content.
fn send_message(mut stream: &UnixStream, message: &Value) {
    let content = message.to_string();
    let length = u32::try_from(content.len()).expect("short");
    stream.write_all(&[&[1][..], &length.to_be_bytes(), content.as_bytes()].concat()).expect("sent");
}

/// Reads the next message of another process.
pub fn read_message(mut stream: &UnixStream) -> Value {
    let mut head = [0; 5];
    stream.read_exact(&mut head).expect("read");
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    let mut content = vec![0; length as usize];
    stream.read_exact(&mut content).expect("read");
    serde_json::from_slice(&content).expect("JSON")
}

/// Connects to the owner of a session as a terminal of another version, which wants to stop it. Returns the answer.
pub fn stop_as_another_version(socket: &std::path::Path) -> Value {
    let stream = UnixStream::connect(socket).expect("connected");
    let hello = json!({"is": "hello", "version": 99, "purpose": "stop", "columns": 80, "rows": 24});
    send_message(&stream, &hello);
    read_message(&stream)
}

#[test]
fn newer_record_is_refused_and_kept() {
    let repo = TestRepo::new();
    repo.changeset("s", "echo x >> a.txt");
    let record = repo.path.join(".git/airlock/sandboxes/s/record.json");
    let ours = fs::read_to_string(&record).expect("read");
    let newer = r#"{"schema_version": 99, "state": {"moon": 1}}"#;
    fs::write(&record, newer).expect("written");
    for args in [&["diff", "s"][..], &["apply", "s", "--accept-all"], &["rm", "--force", "s"], &["resume", "s"]] {
        let ran = repo.airlock(args);
        assert!(ran.status != 0 && ran.stderr.contains("was written by a newer Airlock"), "{args:?}: {ran:?}");
    }
    assert_eq!(fs::read_to_string(&record).expect("read"), newer);
    assert_eq!(repo.read("a.txt"), "one\ntwo\n");
    // The newer version is installed again.
    fs::write(&record, ours).expect("written");
    repo.airlock(&["apply", "s", "--accept-all"]).ok();
    assert_eq!(repo.read("a.txt"), "one\ntwo\nx\n");
}

#[test]
fn decision_file_of_another_version_is_refused() {
    let repo = TestRepo::new();
    repo.changeset("s", "echo x >> a.txt");
    let file = repo.directory().join("decisions.json");
    fs::write(&file, r#"{"schema_version": 7, "choices": []}"#).expect("written");
    let file = file.to_str().expect("UTF-8");
    for args in [&["review", "s", "--import", file][..], &["apply", "s", "--decisions", file]] {
        let ran = repo.airlock(args);
        assert!(
            ran.status != 0 && ran.stderr.contains("it has format version 7, and this Airlock reads version 1"),
            "{ran:?}"
        );
    }
    assert_eq!(repo.read("a.txt"), "one\ntwo\n");
}

#[test]
fn owner_of_another_version_is_not_stopped() {
    let repo = TestRepo::new();
    repo.changeset("s", "echo x >> a.txt");
    let directory = repo.path.join(".git/airlock/sandboxes/s");
    // The owner of another version holds the lock and answers as that version does.
    let lock = fs::File::open(directory.join("lock")).expect("opened");
    lock.try_lock().expect("locked");
    let listener = UnixListener::bind(directory.join("session.sock")).expect("bound");
    let owner = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a connection");
        let hello = read_message(&stream);
        send_message(&stream, &json!({"is": "refused", "reason": "it was started by another version of Airlock"}));
        hello
    });
    let stopped = repo.airlock(&["stop", "s"]);
    assert_eq!(owner.join().expect("it ran")["purpose"], "stop");
    stopped.expect_failure(1, &["it was started by another version of Airlock"]);
}
