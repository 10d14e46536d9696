//! The draft of a review on disk: one line of JSON for each event, appended as it happens. After a crash at any moment,
//! only the line that was being written is lost.
#![expect(clippy::disallowed_methods, reason = "our own state, outside every working tree")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;

use super::state::{Event, ReviewState};

/// The first line: the format and its version.
const HEADER: &str = "{\"airlock\":\"draft\",\"schema_version\":1}\n";
/// Number of events above which a draft is compacted when it is opened.
const COMPACT_THRESHOLD: usize = 4096;

/// An open draft.
#[derive(Debug)]
pub(crate) struct DecisionLog {
    path: PathBuf,
    file: File,
    /// The channel that asks the worker to sync the file.
    sync: Option<Sender<()>>,
    worker: Option<JoinHandle<io::Result<()>>>,
}

/// An error in a decision log.
#[derive(Debug, thiserror::Error)]
pub enum DecisionLogError {
    #[error("failed to access the decisions: {0}")]
    Io(#[from] io::Error),
    /// A line that is complete is not valid.
    #[error("the decisions in {path} are damaged: line {line}: {reason}")]
    Damaged {
        path: PathBuf,
        /// The line number, from 1.
        line: usize,
        reason: String,
    },
}

/// Reads a draft. A missing draft is empty.
///
/// # Errors
/// The draft is damaged.
pub fn read_draft(path: &Path) -> Result<ReviewState, DecisionLogError> {
    Ok(ReviewState::from_events(read_events(path)?.0))
}

/// Returns the events of a draft, and the length of its complete lines in bytes.
fn read_events(path: &Path) -> Result<(Vec<Event>, u64), DecisionLogError> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        other => other?,
    };
    let damaged = |line, reason: String| DecisionLogError::Damaged { path: path.to_owned(), line, reason };
    let (mut found, mut good) = (Vec::new(), 0);
    for (at, line) in bytes.split_inclusive(|b| *b == b'\n').enumerate() {
        // The last line is incomplete if its process ended while writing it.
        if !line.ends_with(b"\n") {
            break;
        }
        if at == 0 {
            if line != HEADER.as_bytes() {
                return Err(damaged(1, "it has another version".into()));
            }
        } else {
            found.push(serde_json::from_slice(line).map_err(|e| damaged(at + 1, e.to_string()))?);
        }
        good += line.len() as u64;
    }
    Ok((found, good))
}

impl DecisionLog {
    /// Opens or creates a draft, and returns its state.
    ///
    /// # Errors
    /// The draft is damaged, or an I/O error.
    pub(crate) fn open(path: &Path) -> Result<(Self, ReviewState), DecisionLogError> {
        let (found, good) = read_events(path)?;
        let many = found.len() > COMPACT_THRESHOLD;
        let state = ReviewState::from_events(found);
        if good == 0 || many {
            rewrite_log(path, &state)?;
        } else {
            OpenOptions::new().write(true).open(path)?.set_len(good)?;
        }
        let file = OpenOptions::new().append(true).open(path)?;
        let (sync, requests) = mpsc::channel::<()>();
        let synced_file = file.try_clone()?;
        let worker = std::thread::Builder::new().name("draft".into()).spawn(move || {
            while requests.recv().is_ok() {
                // Requests that arrived in the meantime are covered by the same sync.
                while requests.try_recv().is_ok() {}
                synced_file.sync_data()?;
            }
            Ok(())
        })?;
        let draft = Self { path: path.to_owned(), file, sync: Some(sync), worker: Some(worker) };
        Ok((draft, state))
    }

    /// Appends events. They have been passed to the kernel when this returns, and a worker syncs them to disk.
    pub(crate) fn append_events(&mut self, events: &[Event]) -> Result<(), DecisionLogError> {
        if events.is_empty() {
            return Ok(());
        }
        let mut lines = Vec::new();
        for event in events {
            serde_json::to_writer(&mut lines, event).map_err(io::Error::from)?;
            lines.push(b'\n');
        }
        self.file.write_all(&lines)?;
        if let Some(sync) = &self.sync {
            // The worker ends early only with an error, which `close` returns.
            let _ = sync.send(());
        }
        Ok(())
    }

    /// Waits until all events are on disk.
    pub(crate) fn sync_and_close(mut self) -> Result<(), DecisionLogError> {
        self.join_worker()
    }

    /// Deletes the draft.
    pub(crate) fn delete_log(self) -> Result<(), DecisionLogError> {
        Ok(fs::remove_file(&self.path)?)
    }

    fn join_worker(&mut self) -> Result<(), DecisionLogError> {
        drop(self.sync.take());
        match self.worker.take().map(JoinHandle::join) {
            Some(Ok(done)) => Ok(done?),
            Some(Err(_)) => Err(io::Error::other("the worker panicked").into()),
            None => Ok(()),
        }
    }
}

impl Drop for DecisionLog {
    fn drop(&mut self) {
        let _ = self.join_worker();
    }
}

fn rewrite_log(path: &Path, state: &ReviewState) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let temp_path = dir.join(format!(".draft-{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temp_path)?;
    let mut lines = HEADER.as_bytes().to_vec();
    for event in state.to_events() {
        serde_json::to_writer(&mut lines, &event)?;
        lines.push(b'\n');
    }
    file.write_all(&lines)?;
    file.sync_all()?;
    fs::rename(&temp_path, path)?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::review::{Decision, UnitDecision};

    fn accepted(unit: &str) -> Event {
        Event::Decision { unit: unit.into(), is: Some(UnitDecision::All(Decision::Accepted)) }
    }

    #[test]
    fn draft_truncated_anywhere_keeps_earlier_events() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("draft");
        let (mut draft, _) = DecisionLog::open(&path).expect("opened");
        for unit in ["a", "b", "c"] {
            draft.append_events(&[accepted(unit)]).expect("appended");
        }
        draft.sync_and_close().expect("closed");
        let bytes = fs::read(&path).expect("draft exists");
        for len in 0..=bytes.len() {
            fs::write(&path, &bytes[..len]).expect("written");
            let lines = bytes[..len].iter().filter(|b| **b == b'\n').count();
            let (mut draft, state) = DecisionLog::open(&path).expect("opened");
            assert_eq!(state.decisions.unit_decisions().count(), lines.saturating_sub(1), "truncated at {len}");
            draft.append_events(&[accepted("d")]).expect("appended");
            draft.sync_and_close().expect("closed");
            assert!(read_draft(&path).expect("read").decisions.get("d").is_some(), "truncated at {len}");
        }
    }

    #[test]
    fn damaged_draft_line_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("draft");
        fs::write(&path, format!("{HEADER}{{\"decision\":{{\"unit\":\"a\",\"is\":\"perhaps\"}}}}\n")).expect("written");
        assert!(matches!(read_draft(&path), Err(DecisionLogError::Damaged { line: 2, .. })));
        fs::write(&path, "{\"airlock\":\"draft\",\"schema_version\":9}\n").expect("written");
        assert!(matches!(DecisionLog::open(&path), Err(DecisionLogError::Damaged { line: 1, .. })));
    }

    #[test]
    fn long_draft_is_compacted() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("draft");
        let (mut draft, _) = DecisionLog::open(&path).expect("opened");
        draft.append_events(&vec![accepted("a"); COMPACT_THRESHOLD + 1]).expect("appended");
        draft.sync_and_close().expect("closed");
        let (_, state) = DecisionLog::open(&path).expect("opened");
        assert!(state.decisions.get("a").is_some());
        assert!(fs::metadata(&path).expect("draft exists").len() < 200);
    }
}
