//! Shows a progress bar while a base is created, a workspace is copied or changes are collected. Only on a terminal.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::output::Output;
use crate::core::progress::{ProgressCounter, Step};

const SHOWN: u8 = 0;
const PAUSED: u8 = 1;
const ENDED: u8 = 2;
/// Interval between updates of the bar.
const TICK: Duration = Duration::from_millis(80);

/// A bar that follows a progress counter.
pub struct Progress {
    pub meter: Arc<ProgressCounter>,
    bar: ProgressBar,
    /// The state of the bar. The lock is held while the bar is drawn, so that a removed bar is not drawn again.
    state: Arc<Mutex<u8>>,
}

impl Progress {
    pub fn start(output: Output) -> Self {
        let meter = Arc::new(ProgressCounter::default());
        let state = Arc::new(Mutex::new(SHOWN));
        let bar = if output.shows_progress() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        if output.shows_progress() {
            let (meter, bar, state) = (Arc::clone(&meter), bar.clone(), Arc::clone(&state));
            std::thread::spawn(move || follow(&meter, &bar, &state));
        }
        Self { meter, bar, state }
    }

    /// Hides the bar while `print` runs.
    pub fn aside(&self, print: impl FnOnce()) {
        self.bar.suspend(print);
    }

    /// Hides the bar while the agent has the terminal. It is shown again when changes are collected.
    pub fn pause(&self) {
        self.take_away(PAUSED);
    }

    /// Removes the bar for good.
    pub fn end(&self) {
        self.take_away(ENDED);
    }

    fn take_away(&self, state: u8) {
        let mut held = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *held = state;
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

fn follow(meter: &ProgressCounter, bar: &ProgressBar, state: &Mutex<u8>) {
    let counted =
        ProgressStyle::with_template("{spinner} {msg} {bar:24} {human_pos}/{human_len} files, {prefix}, {eta} left");
    let counted = counted.unwrap_or_else(|_| ProgressStyle::default_bar());
    let plain = ProgressStyle::default_spinner();
    let mut step = None;
    loop {
        std::thread::sleep(TICK);
        let now = meter.read();
        let held = state.lock().unwrap_or_else(PoisonError::into_inner);
        match *held {
            ENDED => return,
            PAUSED if now.step != Step::Collecting => continue,
            _ => {}
        }
        if step != Some(now.step) {
            bar.reset();
            bar.set_style(if now.total > 0 { counted.clone() } else { plain.clone() });
            bar.set_length(now.total);
            bar.set_message(match now.step {
                Step::Starting => "starting",
                Step::Waiting => "waiting for another airlock that copies the same commit",
                Step::Seeding => "copying, once for this commit",
                Step::Copying => "copying",
                Step::Collecting => "collecting the changes",
            });
            step = Some(now.step);
        }
        bar.set_prefix(indicatif::HumanBytes(now.bytes).to_string());
        bar.set_position(now.files);
        bar.tick();
    }
}
