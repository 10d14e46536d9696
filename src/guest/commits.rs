//! Lists the commits above the base, by the git of the image, and writes the list and the contents of the commits' files to the
//! home. The host reads them as data of the agent.
#![expect(clippy::disallowed_methods, reason = "the guest writes to the home of its sandbox")]

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use crate::init::unblock_signals;

/// The files of the list and of the contents, in the home.
const LIST: &str = ".config/airlock/commits";
const CONTENTS: &str = ".config/airlock/commit-contents";
/// Maximum size of the list and of the contents in bytes, and maximum time of each run of git.
const MAX_LIST: u64 = 512 << 10;
const MAX_CONTENTS: u64 = 8 << 20;
const TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum number of commits, the newest ones.
const MAX_COMMITS: &str = "200";
/// Maximum number of directories above the current one in which the repository is searched.
const MAX_PARENTS: usize = 64;

/// The log of HEAD before the command started.
pub struct HeadLog {
    file: PathBuf,
    before: Option<(u64, SystemTime)>,
}

impl HeadLog {
    /// Finds the repository around the current directory.
    pub fn find_log() -> Option<Self> {
        let current = std::env::current_dir().ok()?;
        let git_dir = |dir: &Path| Some(dir.join(".git")).filter(|path| path.is_dir());
        let file = current.ancestors().take(MAX_PARENTS).find_map(git_dir)?.join("logs/HEAD");
        let before = file_state(&file);
        Some(Self { file, before })
    }

    /// Writes the list of commits above `base` if HEAD was moved. Failures are ignored: the commits are in the sandbox in any
    /// case.
    pub fn write_commits(&self, base: &OsStr) {
        let Some(home) = std::env::var_os("HOME") else { return };
        // The list of an earlier run is still right.
        if file_state(&self.file) == self.before {
            return;
        }
        let Some(list) = list_commits(base) else { return };
        let contents = read_blobs(&list).unwrap_or_default();
        for (name, bytes) in [(LIST, list), (CONTENTS, contents)] {
            let file = Path::new(&home).join(name);
            let _ = file.parent().map(fs::create_dir_all);
            // A file of the agent in its place, such as a pipe, is replaced, not opened.
            let new = file.with_extension("new");
            let _ = fs::remove_file(&new);
            if fs::File::create_new(&new).and_then(|mut file| file.write_all(&bytes)).is_ok() {
                let _ = fs::rename(&new, &file);
            }
        }
    }
}

fn file_state(file: &Path) -> Option<(u64, SystemTime)> {
    let metadata = fs::symlink_metadata(file).ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}

/// Lists the commits above the base, oldest first, with the blobs of their files. Merges have no files.
fn list_commits(base: &OsStr) -> Option<Vec<u8>> {
    let mut command = Command::new("git");
    command.args(["-c", "log.showSignature=false", "--no-pager", "log", "-z", "--reverse", "--raw", "--no-abbrev"]);
    command.args(["--no-renames", "--no-color", "-n", MAX_COMMITS, "--format=%x1e%H%x1f%an <%ae>%x1f%at%x1f%B%x1f"]);
    command.args(["HEAD", "--not"]).arg(base);
    run_git(command, Vec::new(), MAX_LIST)
}

/// Reads the blobs that the list names, in its order, each after a line with its ID, type and size.
fn read_blobs(list: &[u8]) -> Option<Vec<u8>> {
    let mut ids: BTreeSet<&[u8]> = BTreeSet::new();
    let mut input = Vec::new();
    for commit in list.split(|byte| *byte == 0x1e) {
        let files = commit.splitn(5, |byte| *byte == 0x1f).nth(4).unwrap_or_default();
        for part in files.split(|byte| *byte == 0) {
            let Some(description) = part.strip_prefix(b"\n").unwrap_or(part).strip_prefix(b":") else { continue };
            let Some(id) = description.split(|byte| *byte == b' ').nth(3) else { continue };
            let is_blob = !id.is_empty() && id.iter().all(u8::is_ascii_hexdigit) && id.iter().any(|byte| *byte != b'0');
            if is_blob && ids.insert(id) {
                input.extend_from_slice(id);
                input.push(b'\n');
            }
        }
    }
    let mut command = Command::new("git");
    command.args(["cat-file", "--batch", "--buffer"]);
    run_git(command, input, MAX_CONTENTS)
}

/// Runs git with an input, and returns at most `limit` bytes of its output.
fn run_git(mut command: Command, input: Vec<u8>, limit: u64) -> Option<Vec<u8>> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    unblock_signals(&mut command);
    let mut child = command.spawn().ok()?;
    let (mut stdin, output) = (child.stdin.take()?, child.stdout.take()?);
    let (sender, received) = mpsc::channel();
    // git is killed below if it does not read its input, which ends this thread.
    std::thread::spawn(move || drop(stdin.write_all(&input)));
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let is_read = output.take(limit).read_to_end(&mut bytes).is_ok();
        let _ = sender.send(is_read.then_some(bytes));
    });
    let output = received.recv_timeout(TIMEOUT).ok().flatten();
    // A git that still runs, because the output is too long or something holds it up, is ended.
    let _ = child.kill();
    let _ = child.wait();
    output
}
