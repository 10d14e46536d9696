//! Shows a progress bar while a base is created, a workspace is copied or changes are collected. Only on a terminal.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::output::Output;
use crate::core::progress::{ProgressCounter, ProgressStep};

const SHOWN: u8 = 0;
const PAUSED: u8 = 1;
const ENDED: u8 = 2;
/// Interval between updates of the bar.
const TICK: Duration = Duration::from_millis(80);

/// A bar that follows a progress counter.
pub(super) struct Progress {
    pub counter: Arc<ProgressCounter>,
    bar: ProgressBar,
    /// The state of the bar. The lock is held while the bar is drawn, so that a removed bar is not drawn again.
    state: Arc<Mutex<u8>>,
}

impl Progress {
    pub(super) fn start_bar(output: Output) -> Self {
        let counter = Arc::new(ProgressCounter::default());
        let state = Arc::new(Mutex::new(SHOWN));
        let bar = if output.is_progress_shown() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        if output.is_progress_shown() {
            let (counter, bar, state) = (Arc::clone(&counter), bar.clone(), Arc::clone(&state));
            std::thread::spawn(move || follow_counter(&counter, &bar, &state));
        }
        Self { counter, bar, state }
    }

    /// Hides the bar while `print` runs.
    pub(super) fn suspend_bar(&self, print: impl FnOnce()) {
        self.bar.suspend(print);
    }

    /// Hides the bar while the agent has the terminal. It is shown again when changes are collected.
    pub(super) fn pause_bar(&self) {
        self.hide_bar(PAUSED);
    }

    /// Removes the bar for good.
    pub(super) fn remove_bar(&self) {
        self.hide_bar(ENDED);
    }

    fn hide_bar(&self, state: u8) {
        let mut current = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *current = state;
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.remove_bar();
    }
}

fn follow_counter(counter: &ProgressCounter, bar: &ProgressBar, state: &Mutex<u8>) {
    let counted =
        ProgressStyle::with_template("{spinner} {msg} {bar:24} {human_pos}/{human_len} files, {prefix}, {eta} left");
    let counted = counted.unwrap_or_else(|_| ProgressStyle::default_bar());
    let plain = ProgressStyle::default_spinner();
    let mut step = None;
    loop {
        std::thread::sleep(TICK);
        let now = counter.read();
        let current = state.lock().unwrap_or_else(PoisonError::into_inner);
        match *current {
            ENDED => return,
            PAUSED if now.step != ProgressStep::Collecting => continue,
            _ => {}
        }
        if step != Some(now.step) {
            bar.reset();
            bar.set_style(if now.total > 0 { counted.clone() } else { plain.clone() });
            bar.set_length(now.total);
            bar.set_message(match now.step {
                ProgressStep::Starting => "starting",
                ProgressStep::Waiting => "waiting for another airlock to copy the same commit",
                ProgressStep::Seeding => "copying (once for this commit)",
                ProgressStep::Copying => "copying",
                ProgressStep::Collecting => "collecting changes",
            });
            step = Some(now.step);
        }
        bar.set_prefix(indicatif::HumanBytes(now.bytes).to_string());
        bar.set_position(now.files);
        bar.tick();
    }
}
