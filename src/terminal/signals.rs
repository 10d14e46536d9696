//! Signals that end Airlock; while an agent runs, they are passed on to it.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// The number of the current owner of the signals. Earlier owners no longer end the process.
static OWNER: AtomicU32 = AtomicU32::new(0);

/// The text that is printed when a signal ends the process at once.
static EXIT_MESSAGE: Mutex<String> = Mutex::new(String::new());

/// The signals received so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StopRequest {
    /// The number of signals received.
    pub count: u32,
    /// The last signal, by the name that the engine uses.
    pub last: &'static str,
}

/// SIGINT, SIGTERM, SIGHUP and SIGQUIT of this process.
#[derive(Clone)]
pub struct Signals {
    requests: watch::Receiver<StopRequest>,
    ends_at_once: Arc<AtomicBool>,
}

impl Signals {
    /// Takes over the signals. They no longer end the process, except after [`Signals::end_at_once`].
    pub fn take_over() -> io::Result<Self> {
        let turn = OWNER.fetch_add(1, Ordering::SeqCst) + 1;
        let (sender, requests) = watch::channel(StopRequest::default());
        let ends_at_once = Arc::new(AtomicBool::new(false));
        let sender = Arc::new(sender);
        let kinds = [
            (SignalKind::interrupt(), "SIGINT"),
            (SignalKind::terminate(), "SIGTERM"),
            (SignalKind::hangup(), "SIGHUP"),
            (SignalKind::quit(), "SIGQUIT"),
        ];
        for (kind, name) in kinds {
            let mut stream = signal(kind)?;
            let (sender, ends_at_once) = (Arc::clone(&sender), Arc::clone(&ends_at_once));
            tokio::spawn(async move {
                while stream.recv().await.is_some() {
                    if ends_at_once.load(Ordering::Relaxed) && OWNER.load(Ordering::SeqCst) == turn {
                        Self::exit_interrupted();
                    }
                    sender.send_modify(|asked| *asked = StopRequest { count: asked.count + 1, last: name });
                }
            });
        }
        Ok(Self { requests, ends_at_once })
    }

    /// Sets the text that is printed when a signal ends the process at once, such as during a question.
    pub fn set_exit_message(text: String) {
        if let Ok(mut message) = EXIT_MESSAGE.lock() {
            *message = text;
        }
    }

    /// Returns whether there is such a text.
    #[must_use]
    pub fn has_exit_message() -> bool {
        EXIT_MESSAGE.lock().is_ok_and(|message| !message.is_empty())
    }

    /// Prints that text, and ends the process with status 130. Another thread that does so waits.
    pub fn exit_interrupted() -> ! {
        let _message = EXIT_MESSAGE.lock().inspect(|message| {
            // A prompt may have hidden the cursor.
            let cursor = if io::stderr().is_terminal() { "\x1b[?25h" } else { "" };
            let _ = io::stderr().write_all(format!("{cursor}{message}").as_bytes());
        });
        std::process::exit(130);
    }

    /// Leaves the signals to another handler, which has registered for them. No earlier owner ends the process from now on.
    pub fn release_signals() {
        OWNER.fetch_add(1, Ordering::SeqCst);
    }

    /// Lets the next signal end the process with status 130. Used when no agent runs and everything is saved.
    pub fn end_at_once(&self) {
        self.ends_at_once.store(true, Ordering::Relaxed);
    }

    /// Returns the signals received so far.
    #[must_use]
    pub fn stop_request(&self) -> StopRequest {
        *self.requests.borrow()
    }

    /// Waits until more than `seen` signals have been received.
    pub async fn next(&mut self, seen: u32) -> StopRequest {
        match self.requests.wait_for(|asked| asked.count > seen).await {
            Ok(asked) => *asked,
            Err(_) => std::future::pending().await,
        }
    }
}
