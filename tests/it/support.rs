//! An isolated environment for tests: a repository, a home directory and variables. It is removed at the end.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use airlock::base::{BASE_LABEL, REPOSITORY_LABEL, repository_id};
use airlock::engine::{Docker, Engine, Labels};
use regex::Regex;
use serde_json::Value;

#[path = "../support/model.rs"]
pub mod model;

/// The program under test.
pub const AIRLOCK: &str = env!("CARGO_BIN_EXE_airlock");

/// A repository in a temporary directory.
pub struct TestRepo {
    folder: tempfile::TempDir,
    /// The working tree.
    pub path: PathBuf,
    variables: BTreeMap<String, String>,
}

/// The mode and the content of each path of a tree.
pub type TreeContents = BTreeMap<PathBuf, (u32, Vec<u8>)>;

impl TestRepo {
    /// Creates a repository with a few files on one commit.
    pub fn new() -> Self {
        let repo = Self::empty();
        repo.write("a.txt", "one\ntwo\n");
        repo.write("c.txt", "gone\n");
        repo.write("dir/keep.txt", "k\n");
        repo.write("run.sh", "#!/bin/sh\n");
        repo.write(".gitignore", "/target\n");
        repo.commit();
        repo
    }

    /// Creates a repository without a commit.
    pub fn empty() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().canonicalize().expect("it is there").join("repo");
        fs::create_dir_all(&path).expect("made");
        let repo = Self { folder, path, variables: BTreeMap::new() };
        repo.git(&["init", "-q", "-b", "main"]);
        repo
    }

    /// Returns the directory of the test, which holds the repository, without symlinks on the way.
    pub fn directory(&self) -> PathBuf {
        self.path.parent().expect("it has one").to_owned()
    }

    /// Sets a variable for every command that follows.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.variables.insert(name.into(), value.into());
    }

    /// Unsets a variable.
    pub fn unset(&mut self, name: &str) {
        self.variables.remove(name);
    }

    /// Writes a file of the working tree.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path.join(path);
        fs::create_dir_all(path.parent().expect("it has one")).expect("made");
        fs::write(path, content).expect("written");
    }

    /// Reads a file of the working tree.
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path.join(path)).expect("it is there")
    }

    /// Commits everything.
    pub fn commit(&self) {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-qm", "start"]);
    }

    /// Runs git in the working tree, and returns its output.
    pub fn git(&self, args: &[&str]) -> String {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=Ann", "-c", "user.email=ann@example.org"]).args(args).current_dir(&self.path);
        git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
        let out = git.output().expect("git runs");
        assert!(out.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// Returns the environment of every command.
    pub fn environment(&self) -> Vec<(String, String)> {
        let home = self.folder.path().join("home");
        fs::create_dir_all(&home).expect("made");
        let mut all = vec![
            ("HOME".to_owned(), home.to_str().expect("UTF-8").to_owned()),
            ("GIT_CONFIG_SYSTEM".into(), "/dev/null".into()),
        ];
        let has_own_address = self.variables.contains_key("DOCKER_HOST");
        let tls = if has_own_address { [].as_slice() } else { &["DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"] };
        for name in ["PATH", "DOCKER_HOST"].iter().chain(tls) {
            all.extend(std::env::var(name).ok().map(|value| ((*name).to_owned(), value)));
        }
        all.extend(self.variables.clone());
        all
    }

    /// Prepares a command of any program in the working tree.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).current_dir(&self.path).env_clear().envs(self.environment()).stdin(Stdio::null());
        command
    }

    /// Runs airlock without a terminal.
    pub fn airlock(&self, args: &[&str]) -> CommandOutput {
        CommandOutput::from_command(self.command(AIRLOCK, args))
    }

    /// Runs airlock without a terminal, with an input on stdin.
    pub fn airlock_with_input(&self, args: &[&str], input: &str) -> CommandOutput {
        let mut command = self.command(AIRLOCK, args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it runs");
        // The program may end before it has read everything, so errors are ignored.
        let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
        let output: CommandOutput = child.wait_with_output().expect("it ends").into();
        CommandOutput { directory: Some(self.directory()), ..output }
    }

    /// Runs a script in a named sandbox.
    pub fn sandbox(&self, name: &str, script: &str) -> CommandOutput {
        self.airlock(&["run", "--name", name, "--", "sh", "-euc", script])
    }

    /// Reads the changes of a sandbox as JSON.
    pub fn diff(&self, name: &str) -> Value {
        serde_json::from_str(&self.airlock(&["diff", name, "--json"]).ok().stdout).expect("JSON")
    }

    /// Returns the path and the kind of each change of a sandbox.
    pub fn changes(&self, name: &str) -> Vec<(String, String)> {
        let text = |v: &Value| v.as_str().expect("a string").to_owned();
        let diff = self.airlock(&["diff", name, "--json", "--no-renames"]).ok().stdout;
        let diff: Value = serde_json::from_str(&diff).expect("JSON");
        diff["files"].as_array().expect("a list").iter().map(|f| (text(&f["path"]), text(&f["change"]))).collect()
    }

    /// Reads the working tree and its git directory, without Airlock's own directory.
    pub fn read_tree(&self) -> TreeContents {
        let (mut found, mut open) = (TreeContents::new(), vec![self.path.clone()]);
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(folder).expect("it can be listed") {
                let path = entry.expect("it can be listed").path();
                let metadata = path.symlink_metadata().expect("the entry exists");
                let content = if metadata.is_symlink() {
                    fs::read_link(&path).expect("a link").into_os_string().into_encoded_bytes()
                } else if metadata.is_dir() {
                    if path != self.path.join(".git/airlock") {
                        open.push(path);
                    }
                    continue;
                } else {
                    fs::read(&path).expect("it can be read")
                };
                found.insert(path, (metadata.permissions().mode(), content));
            }
        }
        found
    }

    /// Counts the containers and volumes of this repository's sandboxes in the engine.
    pub fn engine_objects(&self) -> usize {
        let (containers, volumes) = self.engine_lists();
        containers.len() + volumes.iter().filter(|labels| !labels.contains_key(BASE_LABEL)).count()
    }

    /// Counts the containers of this repository's sandboxes in the engine.
    pub fn containers(&self) -> usize {
        self.engine_lists().0.len()
    }

    fn engine_lists(&self) -> (Vec<Labels>, Vec<Labels>) {
        let id = repository_id(&self.path.join(".git")).expect("an identity");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let engine = Docker::connect(None).await.expect("an engine answers; scripts/engine starts one");
            let containers = engine.list_containers(REPOSITORY_LABEL, Some(&id)).await.expect("listed");
            let volumes = engine.list_volumes(REPOSITORY_LABEL, Some(&id)).await.expect("listed");
            (containers.into_iter().map(|c| c.labels).collect(), volumes.into_iter().map(|v| v.labels).collect())
        })
    }

    /// Counts this repository's bases in the engine. Each base has two volumes.
    pub fn base_volumes(&self) -> usize {
        self.engine_lists().1.iter().filter(|labels| labels.contains_key(BASE_LABEL)).count().div_ceil(2)
    }

    /// Returns whether the engine created a sandbox or a base of this repository. [`TestRepo::changeset`] uses no engine.
    fn has_used_engine(&self) -> bool {
        let names = |folder: &str| {
            let entries = fs::read_dir(self.path.join(".git/airlock").join(folder)).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name()).collect::<Vec<_>>()
        };
        !names("bases").is_empty()
            || names("sandboxes").iter().any(|name| !self.directory().join("work").join(name).exists())
    }

    /// Returns the permissions of a file.
    pub fn mode(&self, path: &str) -> u32 {
        use std::os::unix::fs::PermissionsExt;
        fs::metadata(self.path.join(path)).expect("it is there").permissions().mode() & 0o7777
    }

    /// Sets the permissions of a file.
    pub fn set_mode(&self, path: &str, mode: u32) {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(self.path.join(path), fs::Permissions::from_mode(mode)).expect("set");
    }

    /// Puts a program named `claude` first on the `PATH`, in the directory of the test.
    pub fn put_claude_on_path(&mut self) {
        let programs = self.directory().join("programs");
        fs::create_dir_all(&programs).expect("made");
        fs::write(programs.join("claude"), "#!/bin/sh\n").expect("written");
        let path = std::env::var("PATH").expect("a PATH");
        self.set("PATH", format!("{}:{path}", programs.display()));
    }

    /// Returns the status of a sandbox as `ls --json` has it.
    pub fn status(&self, name: &str) -> String {
        let list: Value = serde_json::from_str(&self.airlock(&["ls", "--json"]).ok().stdout).expect("JSON");
        let mut sandboxes = list["sandboxes"].as_array().expect("a list").iter();
        let sandbox = sandboxes.find(|sandbox| sandbox["name"] == name).expect("listed");
        sandbox["status"].as_str().expect("a word").to_owned()
    }

    /// Sets a field of a sandbox's record.
    pub fn set_record(&self, name: &str, field: &str, number: u64) {
        let record = self.path.join(".git/airlock/sandboxes").join(name).join("record.json");
        let mut value: Value = serde_json::from_slice(&fs::read(&record).expect("read")).expect("JSON");
        value[field] = number.into();
        fs::write(&record, value.to_string()).expect("written");
    }

    /// Returns the inode of a file.
    pub fn inode(&self, path: &str) -> u64 {
        self.path.join(path).symlink_metadata().expect("the entry exists").ino()
    }
}

impl Drop for TestRepo {
    fn drop(&mut self) {
        self.variables.clear();
        if !self.has_used_engine() {
            return;
        }
        let listed = self.airlock(&["ls", "--json"]);
        let Ok(list) = serde_json::from_str::<Value>(&listed.stdout) else { return };
        for sandbox in list["sandboxes"].as_array().into_iter().flatten() {
            let removed = self.airlock(&["rm", sandbox["name"].as_str().unwrap_or_default()]);
            if removed.status != 0 && !std::thread::panicking() {
                panic!("{}", removed.stderr);
            }
        }
        // Removes all bases.
        self.set("AIRLOCK_BASES", "0");
        let swept = self.airlock(&["gc"]);
        if swept.status != 0 && !std::thread::panicking() {
            panic!("{}", swept.stderr);
        }
    }
}

/// The output of a command. `Display` writes the whole output for snapshots, with IDs, times and the test's directory
/// replaced.
#[derive(Debug)]
pub struct CommandOutput {
    /// The exit status, or 128 plus the number of the signal.
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
    /// The directory that `Display` replaces with `[TMP]`.
    directory: Option<PathBuf>,
}

/// The patterns of text that differs between runs, with their replacements.
static FILTERS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let filters = [
        (r"\b[0-9a-f]{64}\b", "[SHA256]"),
        (r"\b[0-9a-f]{40}\b", "[COMMIT]"),
        (r"\bat [0-9a-f]{7,12}\b", "at [COMMIT]"),
        (r"\bbase [0-9a-f]{16}\b", "base [BASE]"),
        (r"\b[0-9,]+ (second|minute|hour|day)s? ago\b", "[AGE]"),
        (r"\b(just now|moments ago)\b", "[AGE]"),
        (r"\b20[0-9]{2}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}Z?)?\b", "[TIME]"),
        (r"\b127\.0\.0\.1:[0-9]{2,5}\b", "127.0.0.1:[PORT]"),
    ];
    filters.into_iter().map(|(pattern, name)| (Regex::new(pattern).expect("a pattern"), name)).collect()
});

impl std::fmt::Display for CommandOutput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = format!("status: {}\n", self.status);
        for (name, output) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !output.is_empty() {
                let end = if output.ends_with('\n') { "" } else { "\n" };
                text += &format!("----- {name} -----\n{output}{end}");
            }
        }
        if let Some(directory) = self.directory.as_ref().and_then(|d| d.to_str()) {
            text = text.replace(directory, "[TMP]");
        }
        if is_declared_lacking("limits") {
            text = text
                .lines()
                .filter(|line| !line.contains("this engine does not limit"))
                .map(|l| format!("{l}\n"))
                .collect();
        }
        for (pattern, name) in FILTERS.iter() {
            text = pattern.replace_all(&text, *name).into_owned();
        }
        // Snapshots have no trailing blanks.
        text.lines().try_for_each(|line| writeln!(f, "{}", line.trim_end()))
    }
}

impl CommandOutput {
    /// Runs a command to its end.
    pub fn from_command(mut command: Command) -> Self {
        let directory = command.get_current_dir().and_then(Path::parent).map(Path::to_owned);
        let output: Self = command.output().expect("it runs").into();
        Self { directory, ..output }
    }

    /// Requires success.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.status, 0, "{self:#?}");
        self
    }

    /// Requires this exit status, and that stderr contains these words.
    #[track_caller]
    pub fn expect_failure(self, status: i32, words: &[&str]) -> Self {
        assert_eq!(self.status, status, "{self:#?}");
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is missing: {}", self.stderr);
        }
        self
    }
}

impl From<Output> for CommandOutput {
    fn from(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let status = output.status;
        Self {
            status: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            directory: None,
        }
    }
}

/// Returns the process ID of a child.
pub fn pid(child: &std::process::Child) -> rustix::process::Pid {
    rustix::process::Pid::from_child(child)
}

/// Returns whether a directory is empty or does not exist.
pub fn is_bare(folder: &Path) -> bool {
    fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none())
}

/// Returns the socket of the engine on this machine, whatever address DOCKER_HOST has.
pub fn engine_socket() -> PathBuf {
    let address = std::env::var("DOCKER_HOST").unwrap_or_default();
    let named = std::env::var("AIRLOCK_TEST_SOCKET").ok();
    named.as_deref().or(address.strip_prefix("unix://")).unwrap_or("/var/run/docker.sock").into()
}

/// A text and its replacement, which has the same length.
type Swap = (&'static [u8], &'static [u8]);

/// Starts a proxy between Airlock and the engine that replaces a text in requests and another in responses. Returns its
/// address and the count of replacements in requests.
pub fn engine_in_between(requests: Swap, responses: Swap) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("tcp://{}", listener.local_addr().expect("an address"));
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(engine) = UnixStream::connect(engine_socket()) else { return };
            let (Ok(from_client), Ok(from_engine)) = (client.try_clone(), engine.try_clone()) else { return };
            let counter = Arc::clone(&counter);
            std::thread::spawn(move || {
                relay_bytes(from_client, &engine, requests, &counter);
                let _ = engine.shutdown(std::net::Shutdown::Write);
            });
            std::thread::spawn(move || {
                relay_bytes(from_engine, &client, responses, &AtomicUsize::new(0));
                let _ = TcpStream::shutdown(&client, std::net::Shutdown::Write);
            });
        }
    });
    (address, count)
}

fn relay_bytes(mut from: impl Read, mut to: impl Write, (old, new): Swap, count: &AtomicUsize) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        while let Some(at) = buffer[..n].windows(old.len()).position(|w| w == old) {
            buffer[at..at + old.len()].copy_from_slice(new);
            count.fetch_add(1, Ordering::SeqCst);
        }
        if to.write_all(&buffer[..n]).and_then(|()| to.flush()).is_err() {
            return;
        }
    }
}

/// Returns whether the engine is Podman, which needs fewer volumes and keeps fewer properties of images.
pub fn is_podman() -> bool {
    let mut version = Command::new("docker");
    let output =
        version.args(["version", "--format", "{{(index .Server.Components 0).Name}}"]).output().expect("it runs");
    String::from_utf8_lossy(&output.stdout).contains("Podman")
}

/// Returns whether the engine lacks something that a test is about, so that the test ends. Only `scripts/engine-table` says so, which
/// counts these tests separately; without it, an engine lacks nothing.
pub fn engine_lacks(what: &str) -> bool {
    let lacks = is_declared_lacking(what);
    if lacks {
        let log = std::env::var_os("AIRLOCK_TEST_LACKS_LOG").expect("AIRLOCK_TEST_LACKS_LOG names a file");
        let name = std::thread::current().name().unwrap_or("?").to_owned();
        let mut log = std::fs::OpenOptions::new().append(true).create(true).open(log).expect("opened");
        std::io::Write::write_all(&mut log, format!("{what}: {name}\n").as_bytes()).expect("written");
    }
    lacks
}

/// Returns whether `scripts/engine-table` says that the engine lacks something.
pub fn is_declared_lacking(what: &str) -> bool {
    std::env::var("AIRLOCK_TEST_LACKS").unwrap_or_default().split_whitespace().any(|lacking| lacking == what)
}

/// Waits until a condition holds. Fails after a minute.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}
