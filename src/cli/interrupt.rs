//! Handles signals while the working tree is written. The first signal rolls the write back. The second ends the process at
//! once, which is safe as well.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use crate::terminal::Signals;

/// A flag that is set by a signal. After it is dropped, a signal ends the process.
pub(super) struct Interrupt {
    arrived: Arc<AtomicBool>,
    write_ended: Arc<Notify>,
}

impl Interrupt {
    /// Starts to handle signals. If this fails, a signal ends the process.
    pub(super) fn watch_signals() -> Self {
        let arrived = Arc::new(AtomicBool::new(false));
        let write_ended = Arc::new(Notify::new());
        let (flag, end) = (Arc::clone(&arrived), Arc::clone(&write_ended));
        std::thread::spawn(move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
            runtime.block_on(async {
                let Ok(mut signals) = Signals::take_over() else { return };
                tokio::select! {
                    _ = signals.next(0) => flag.store(true, Ordering::SeqCst),
                    () = end.notified() => {}
                }
                signals.end_at_once();
                std::future::pending::<()>().await;
            });
        });
        Self { arrived, write_ended }
    }

    /// Returns whether a signal has arrived.
    pub(super) fn is_set(&self) -> bool {
        self.arrived.load(Ordering::SeqCst)
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        self.write_ended.notify_one();
    }
}
