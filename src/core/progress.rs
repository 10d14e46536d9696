//! Counts the progress of a long step for a progress bar.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// A step that may take a long time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ProgressStep {
    /// Containers and volumes are being created.
    Starting = 0,
    /// Another process is creating the base.
    Waiting = 1,
    /// The snapshot is being written to a base volume.
    Seeding = 2,
    /// A workspace is being copied from its base.
    Copying = 3,
    /// Changes are being collected.
    Collecting = 4,
}

/// Counters that are shared with the thread that displays them.
#[derive(Debug, Default)]
pub struct ProgressCounter {
    step: AtomicU8,
    total: AtomicU64,
    files: AtomicU64,
    bytes: AtomicU64,
}

/// The progress at one point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProgressSnapshot {
    /// The current step.
    pub step: ProgressStep,
    /// The total number of files, or 0 if unknown.
    pub total: u64,
    pub files: u64,
    pub bytes: u64,
}

impl ProgressCounter {
    /// Starts a step with this number of files.
    pub fn begin_step(&self, step: ProgressStep, total: usize) {
        self.files.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
        self.total.store(total as u64, Ordering::Relaxed);
        self.step.store(step as u8, Ordering::Relaxed);
    }

    /// Sets the progress of a step that another process does.
    pub fn set_position(&self, step: ProgressStep, files: u64, bytes: u64) {
        self.files.store(files, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
        self.step.store(step as u8, Ordering::Relaxed);
    }

    /// Counts one file of this size.
    pub fn add_file(&self, bytes: usize) {
        self.files.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Returns the current progress.
    #[must_use]
    pub fn read(&self) -> ProgressSnapshot {
        let steps = [
            ProgressStep::Starting,
            ProgressStep::Waiting,
            ProgressStep::Seeding,
            ProgressStep::Copying,
            ProgressStep::Collecting,
        ];
        let now = self.step.load(Ordering::Relaxed);
        ProgressSnapshot {
            step: steps.into_iter().find(|s| *s as u8 == now).unwrap_or(ProgressStep::Starting),
            total: self.total.load(Ordering::Relaxed),
            files: self.files.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}
