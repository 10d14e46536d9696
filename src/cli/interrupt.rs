//! Handles signals while the working tree is written. The first signal rolls the write back. The second ends the process at
//! once, which is safe as well. When nothing is written, a signal ends the process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, mpsc as blocking};

use tokio::sync::{mpsc, oneshot};

use crate::terminal::Signals;

/// Whether a signal arrived during any write of this process.
static HAS_ARRIVED: AtomicBool = AtomicBool::new(false);

/// A write that watches for signals.
struct Watch {
    arrived: Arc<AtomicBool>,
    /// Closed when the write has ended.
    end: oneshot::Receiver<()>,
    /// Answered when a further signal ends the process.
    released: blocking::Sender<()>,
}

/// A flag that is set by a signal. When it is dropped, signals end the process again.
pub(super) struct Interrupt {
    arrived: Arc<AtomicBool>,
    end: Option<oneshot::Sender<()>>,
    released: blocking::Receiver<()>,
}

impl Interrupt {
    /// Starts to handle signals. If this fails, a signal ends the process.
    pub(super) fn watch_signals() -> Self {
        let arrived = Arc::new(AtomicBool::new(false));
        let (end, ended) = oneshot::channel();
        let (answer, released) = blocking::channel();
        let watch = Watch { arrived: Arc::clone(&arrived), end: ended, released: answer };
        if let Some(watcher) = start_watcher() {
            // Without a watcher, the default of the signals remains.
            let _ = watcher.send(watch);
        }
        Self { arrived, end: Some(end), released }
    }

    /// Returns whether a signal has arrived.
    pub(super) fn is_set(&self) -> bool {
        self.arrived.load(Ordering::SeqCst)
    }

    /// Returns whether a signal arrived during a write that has ended.
    pub(super) fn has_arrived() -> bool {
        HAS_ARRIVED.load(Ordering::SeqCst)
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        drop(self.end.take());
        // Fails if there is no watcher.
        let _ = self.released.recv();
    }
}

/// Starts the thread that handles the signals of all writes, one after the other. Returns its channel, or `None` if it could not
/// be started.
fn start_watcher() -> Option<&'static mpsc::UnboundedSender<Watch>> {
    static WATCHER: OnceLock<Option<mpsc::UnboundedSender<Watch>>> = OnceLock::new();
    let started = WATCHER.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        let (sender, watches) = mpsc::unbounded_channel();
        let watch_all = move || runtime.block_on(watch_writes(watches));
        std::thread::Builder::new().name("signals".into()).spawn(watch_all).ok()?;
        Some(sender)
    });
    started.as_ref()
}

async fn watch_writes(mut watches: mpsc::UnboundedReceiver<Watch>) {
    while let Some(Watch { arrived, mut end, released }) = watches.recv().await {
        let Ok(mut signals) = Signals::take_over() else { continue };
        tokio::select! {
            _ = signals.next(0) => {
                arrived.store(true, Ordering::SeqCst);
                signals.end_at_once();
                let _ = end.await;
            }
            _ = &mut end => signals.end_at_once(),
        }
        if signals.stop_request().count > 0 {
            HAS_ARRIVED.store(true, Ordering::SeqCst);
        }
        let _ = released.send(());
    }
}
