//! The draft of a review on disk: one line of JSON for each event, appended as it happens. Whoever is killed at any moment
//! finds everything but the line that was being written.
#![expect(clippy::disallowed_methods, reason = "our own state, outside every working tree")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;

use super::state::{Event, ReviewState};

/// The first line: what this is, and the version of its format.
const HEADER: &str = "{\"airlock\":\"draft\",\"schema_version\":1}\n";
/// Events above which a draft is written anew when it is opened.
const MANY: usize = 4096;

/// A draft that is open.
#[derive(Debug)]
pub struct DecisionLog {
    path: PathBuf,
    file: File,
    /// Asks the worker to bring the file to disk.
    sync: Option<Sender<()>>,
    worker: Option<JoinHandle<io::Result<()>>>,
}

/// An error in a decision log.
#[derive(Debug, thiserror::Error)]
pub enum DecisionLogError {
    /// An I/O error.
    #[error("failed to keep the decisions: {0}")]
    Io(#[from] io::Error),
    /// A line in the middle is none.
    #[error("the decisions in {path} are damaged: line {line}: {reason}")]
    Damaged {
        path: PathBuf,
        /// From 1.
        line: usize,
        reason: String,
    },
}

/// Reads a draft; one that is not there is empty.
///
/// # Errors
/// It is damaged.
pub fn read_draft(path: &Path) -> Result<ReviewState, DecisionLogError> {
    Ok(ReviewState::of(events(path)?.0))
}

/// Returns the events of a draft and how many bytes they take.
fn events(path: &Path) -> Result<(Vec<Event>, u64), DecisionLogError> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        other => other?,
    };
    let damaged = |line, reason: String| DecisionLogError::Damaged { path: path.to_owned(), line, reason };
    let (mut found, mut good) = (Vec::new(), 0);
    for (at, line) in bytes.split_inclusive(|b| *b == b'\n').enumerate() {
        // The last line was being written when its process ended.
        if !line.ends_with(b"\n") {
            break;
        }
        if at == 0 {
            if line != HEADER.as_bytes() {
                return Err(damaged(1, "it is of another version".into()));
            }
        } else {
            found.push(serde_json::from_slice(line).map_err(|e| damaged(at + 1, e.to_string()))?);
        }
        good += line.len() as u64;
    }
    Ok((found, good))
}

impl DecisionLog {
    /// Opens a draft, or begins one, and gives the state that it holds.
    ///
    /// # Errors
    /// It is damaged; what the system says.
    pub fn open(path: &Path) -> Result<(Self, ReviewState), DecisionLogError> {
        let (found, good) = events(path)?;
        let many = found.len() > MANY;
        let state = ReviewState::of(found);
        if good == 0 || many {
            rewrite(path, &state)?;
        } else {
            OpenOptions::new().write(true).open(path)?.set_len(good)?;
        }
        let file = OpenOptions::new().append(true).open(path)?;
        let (sync, asked) = mpsc::channel::<()>();
        let on_disk = file.try_clone()?;
        let worker = std::thread::Builder::new().name("draft".into()).spawn(move || {
            while asked.recv().is_ok() {
                // What has come meanwhile is brought to disk by the same call.
                while asked.try_recv().is_ok() {}
                on_disk.sync_data()?;
            }
            Ok(())
        })?;
        let draft = Self { path: path.to_owned(), file, sync: Some(sync), worker: Some(worker) };
        Ok((draft, state))
    }

    /// Appends events. They are the kernel's when this returns; a worker brings them to disk.
    pub fn keep(&mut self, events: &[Event]) -> Result<(), DecisionLogError> {
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
            // The worker only ends on an error, which `close` gives.
            let _ = sync.send(());
        }
        Ok(())
    }

    /// Waits until all of it is on disk.
    pub fn close(mut self) -> Result<(), DecisionLogError> {
        self.end()
    }

    /// Throws it away.
    pub fn discard(self) -> Result<(), DecisionLogError> {
        Ok(fs::remove_file(&self.path)?)
    }

    fn end(&mut self) -> Result<(), DecisionLogError> {
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
        let _ = self.end();
    }
}

fn rewrite(path: &Path, state: &ReviewState) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let aside = folder.join(format!(".draft-{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    let mut lines = HEADER.as_bytes().to_vec();
    for event in state.to_events() {
        serde_json::to_writer(&mut lines, &event)?;
        lines.push(b'\n');
    }
    file.write_all(&lines)?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::review::{Decision, UnitDecision};

    fn accepted(unit: &str) -> Event {
        Event::Ruling { unit: unit.into(), is: Some(UnitDecision::All(Decision::Accepted)) }
    }

    #[test]
    fn a_draft_that_is_cut_anywhere_holds_what_was_written_before() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("draft");
        let (mut draft, _) = DecisionLog::open(&path).expect("opened");
        for unit in ["a", "b", "c"] {
            draft.keep(&[accepted(unit)]).expect("kept");
        }
        draft.close().expect("closed");
        let whole = fs::read(&path).expect("it is there");
        for cut in 0..=whole.len() {
            fs::write(&path, &whole[..cut]).expect("written");
            let lines = whole[..cut].iter().filter(|b| **b == b'\n').count();
            let (mut draft, state) = DecisionLog::open(&path).expect("opened");
            assert_eq!(state.decisions.unit_decisions().count(), lines.saturating_sub(1), "cut at {cut}");
            draft.keep(&[accepted("d")]).expect("kept");
            draft.close().expect("closed");
            assert!(read_draft(&path).expect("read").decisions.get("d").is_some(), "cut at {cut}");
        }
    }

    #[test]
    fn a_damaged_line_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("draft");
        fs::write(&path, format!("{HEADER}{{\"ruling\":{{\"unit\":\"a\",\"is\":\"perhaps\"}}}}\n")).expect("written");
        assert!(matches!(read_draft(&path), Err(DecisionLogError::Damaged { line: 2, .. })));
        fs::write(&path, "{\"airlock\":\"draft\",\"schema_version\":9}\n").expect("written");
        assert!(matches!(DecisionLog::open(&path), Err(DecisionLogError::Damaged { line: 1, .. })));
    }

    #[test]
    fn a_long_draft_is_written_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("draft");
        let (mut draft, _) = DecisionLog::open(&path).expect("opened");
        draft.keep(&vec![accepted("a"); MANY + 1]).expect("kept");
        draft.close().expect("closed");
        let (_, state) = DecisionLog::open(&path).expect("opened");
        assert!(state.decisions.get("a").is_some());
        assert!(fs::metadata(&path).expect("it is there").len() < 200);
    }
}
