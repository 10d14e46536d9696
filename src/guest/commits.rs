//! Lists the commits that were made while the command ran, by the git of the image, and writes the list to the home. The host
//! reads it as data of the agent.
#![expect(clippy::disallowed_methods, reason = "the guest writes to the home of its sandbox")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use crate::init::unblock_signals;

/// The file of the list, in the home.
const LIST: &str = ".config/airlock/commits";
/// Maximum size of the list, and of the time that git may take.
const MAX_LIST: u64 = 512 << 10;
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

    /// Writes the list of commits if HEAD was moved. Failures are ignored: the commits are in the sandbox in any case.
    pub fn write_commits(&self) {
        let Some(list) = std::env::var_os("HOME").map(|home| Path::new(&home).join(LIST)) else { return };
        // The list of an earlier run is still right.
        if file_state(&self.file) == self.before {
            return;
        }
        if let Some(commits) = list_commits() {
            let _ = list.parent().map(fs::create_dir_all);
            // A file of the agent in its place, such as a pipe, is replaced, not opened.
            let new = list.with_extension("new");
            let _ = fs::remove_file(&new);
            if fs::File::create_new(&new).and_then(|mut file| file.write_all(&commits)).is_ok() {
                let _ = fs::rename(&new, &list);
            }
        }
    }
}

fn file_state(file: &Path) -> Option<(u64, SystemTime)> {
    let metadata = fs::symlink_metadata(file).ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}

fn list_commits() -> Option<Vec<u8>> {
    let mut command = Command::new("git");
    command.args([
        "-c",
        "log.showSignature=false",
        "--no-pager",
        "log",
        "-z",
        "--reverse",
        "--name-only",
        "--no-renames",
        "--no-color",
    ]);
    command.args(["-n", MAX_COMMITS, "--format=%x1e%H%x1f%an <%ae>%x1f%at%x1f%B%x1f"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    unblock_signals(&mut command);
    let mut child = command.spawn().ok()?;
    let output = child.stdout.take()?;
    let (sender, received) = mpsc::channel();
    std::thread::spawn(move || {
        let mut list = Vec::new();
        let is_read = output.take(MAX_LIST).read_to_end(&mut list).is_ok();
        let _ = sender.send(is_read.then_some(list));
    });
    let list = received.recv_timeout(TIMEOUT).ok().flatten();
    // A git that still runs, because the list is too long or something holds it up, is ended.
    let _ = child.kill();
    let _ = child.wait();
    list
}
