//! Takes over the terminal for the full-screen review, and restores it at the end, after a panic or a signal, for an editor,
//! and for Ctrl-Z.

use std::io::{self, BufWriter, Read, Stdout, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once, mpsc};
use std::time::{Duration, Instant};

use crossterm::event::{
    self, DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture, Event as Input,
    KeyEventKind,
};
use crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use crossterm::{cursor, execute, queue, style};
use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use ratatui::{Terminal, TerminalOptions, Viewport};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Signal, getpgid, getpgrp, getppid, getsid, kill_current_process_group};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGTSTP, SIGWINCH};
use signal_hook::{SigId, flag, low_level};

use super::app::App;
use super::draw::draw;
use super::key_repeat::KeyRepeatGuard;
use super::keys::Effect;
use super::syntax::Worker;
use crate::changes::{FileChange, Finding};
use crate::core::path::RepoPath;
use crate::review::{Decisions, Event, Preview, ReviewHost, ReviewOutcome};

/// Whether the review has taken over the terminal.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Runs the full-screen review until the user or a signal ends it.
///
/// # Errors
/// An error of the terminal or of the host. The terminal is restored first.
pub fn run(app: &mut App<'_>, around: &mut dyn ReviewHost) -> io::Result<ReviewOutcome> {
    restore_at_panic();
    let mut wake = EventWaker::listen()?;
    let _screen = AlternateScreenGuard::take()?;
    let mut terminal = fresh()?;
    let (colours, answers) = mpsc::channel();
    let bell = wake.bell()?;
    let worker = Worker::start(move |answer| {
        // An error means that the review has ended.
        if colours.send(answer).is_ok() {
            let _ = (&bell).write_all(&[0]);
        }
    })?;
    let mut around = SuspendedHost { around, is_aside: Arc::clone(&wake.is_aside) };
    let mut is_stale = true;
    let mut held = KeyRepeatGuard::default();
    loop {
        if is_stale {
            terminal.draw(|frame| draw(app, frame))?;
            app.flush(&mut around)?;
            is_stale = false;
        }
        if let Some(request) = app.take_request() {
            worker.ask(request);
        }
        let gone = wake.wait()?;
        if gone || wake.ended() {
            return Ok(ReviewOutcome::Signalled);
        }
        if wake.stop.swap(false, Ordering::SeqCst) {
            stop()?;
            terminal = fresh()?;
            is_stale = true;
        }
        if wake.resized.swap(false, Ordering::SeqCst) {
            terminal = fresh()?;
            is_stale = true;
        }
        for answer in answers.try_iter() {
            is_stale |= app.highlight(answer);
        }
        // Handle all pending input before drawing.
        while event::poll(Duration::ZERO)? {
            let input = event::read()?;
            let key = match &input {
                Input::Key(key) => Some(key.code),
                _ => None,
            };
            if key.is_some_and(|key| held.is_repeat(key, Instant::now())) {
                continue;
            }
            let flow = match input {
                Input::Key(key) if key.kind != KeyEventKind::Release => app.key(key, &mut around)?,
                Input::Mouse(mouse) => app.mouse(mouse, &mut around)?,
                Input::Paste(text) => {
                    app.paste(&text);
                    Effect::On
                }
                Input::Key(_) | Input::Resize(..) | Input::FocusGained | Input::FocusLost => Effect::On,
            };
            is_stale = true;
            match flow {
                // Input typed before a dialog or a risky file was drawn must not answer it, so it is discarded.
                Effect::On if app.consume_input_guard() => {
                    held.called(key, Instant::now());
                    while event::poll(Duration::ZERO)? {
                        drop(event::read()?);
                    }
                    break;
                }
                Effect::On => {}
                Effect::End(ended) => return Ok(ended),
                Effect::Clear => {
                    // An editor had the terminal, so signals of that time were meant for the editor.
                    wake.interrupted.store(false, Ordering::SeqCst);
                    wake.stop.store(false, Ordering::SeqCst);
                    terminal = fresh()?;
                }
                Effect::Suspend if is_orphan() => app.say("there is no shell to go back to"),
                Effect::Suspend => {
                    let _ = kill_current_process_group(Signal::TSTP);
                    break;
                }
            }
        }
    }
}

/// Holds the alternate screen and raw mode until dropped.
struct AlternateScreenGuard(());

impl AlternateScreenGuard {
    fn take() -> io::Result<Self> {
        let screen = Self(());
        enter()?;
        Ok(screen)
    }
}

impl Drop for AlternateScreenGuard {
    fn drop(&mut self) {
        leave();
    }
}

fn enter() -> io::Result<()> {
    TAKEN.store(true, Ordering::SeqCst);
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen, EnableMouseCapture, EnableBracketedPaste, cursor::Hide)
}

/// Restores the terminal if it was taken over. Errors are ignored because nothing could be done about them.
fn leave() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        let _ = execute!(io::stdout(), DisableBracketedPaste, DisableMouseCapture, style::ResetColor);
        // Remaining content can show up in the history of a multiplexer whose window was resized.
        let _ = clear_lines(&mut io::stdout());
        let _ = execute!(io::stdout(), LeaveAlternateScreen, cursor::Show);
        let _ = disable_raw_mode();
    }
}

/// Installs a panic hook that leaves the alternate screen, so that the message stays visible.
fn restore_at_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            leave();
            before(info);
        }));
    });
}

/// Suspends the process until the shell resumes it.
fn stop() -> io::Result<()> {
    leave();
    low_level::emulate_default_handler(SIGTSTP)?;
    enter()
}

/// Creates a terminal with an empty screen of the current size. Ratatui's own method queries the cursor position, which not
/// every terminal answers.
fn fresh() -> io::Result<Terminal<CrosstermBackend<BufWriter<Stdout>>>> {
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout());
    let (columns, rows) = clear_lines(&mut out)?;
    let viewport = Viewport::Fixed(Rect::new(0, 0, columns, rows));
    Terminal::with_options(CrosstermBackend::new(out), TerminalOptions { viewport })
}

/// Clears the screen line by line, and returns its columns and rows. Some multiplexers save a screen that is cleared at once in
/// their history.
fn clear_lines(out: &mut impl Write) -> io::Result<(u16, u16)> {
    let (columns, rows) = crossterm::terminal::size()?;
    for row in 0..rows {
        queue!(out, cursor::MoveTo(0, row), Clear(ClearType::CurrentLine))?;
    }
    queue!(out, cursor::MoveTo(0, 0))?;
    Ok((columns, rows))
}

/// Returns whether no shell can resume this process: its parent is in another session or in its own process group.
fn is_orphan() -> bool {
    let Some(parent) = getppid() else { return true };
    let same_session = matches!((getsid(Some(parent)), getsid(None)), (Ok(theirs), Ok(ours)) if theirs == ours);
    !same_session || getpgid(Some(parent)).is_ok_and(|group| group == getpgrp())
}

/// Wakes the event loop on keys, signals and messages from workers.
struct EventWaker {
    receiver: UnixStream,
    sender: UnixStream,
    registered: Vec<SigId>,
    terminated: Arc<AtomicBool>,
    interrupted: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    /// Whether an editor has the terminal. SIGTSTP then stops this process with the editor.
    is_aside: Arc<AtomicBool>,
    resized: Arc<AtomicBool>,
}

impl EventWaker {
    fn listen() -> io::Result<Self> {
        let (receiver, sender) = UnixStream::pair()?;
        receiver.set_nonblocking(true)?;
        sender.set_nonblocking(true)?;
        let mut wake = Self {
            receiver,
            sender,
            registered: Vec::new(),
            terminated: Arc::default(),
            interrupted: Arc::default(),
            stop: Arc::default(),
            is_aside: Arc::default(),
            resized: Arc::default(),
        };
        let flags = [
            (SIGTERM, &wake.terminated),
            (SIGHUP, &wake.terminated),
            (SIGINT, &wake.interrupted),
            (SIGTSTP, &wake.stop),
            (SIGWINCH, &wake.resized),
            (SIGCONT, &wake.resized),
        ];
        wake.registered.push(flag::register_conditional_default(SIGTSTP, Arc::clone(&wake.is_aside))?);
        // The flag is registered before the pipe, so it is set when the loop wakes up.
        for (signal, is) in flags {
            wake.registered.push(flag::register(signal, Arc::clone(is))?);
            wake.registered.push(low_level::pipe::register(signal, wake.sender.try_clone()?)?);
        }
        Ok(wake)
    }

    /// Returns a stream that wakes the event loop when a byte is written to it.
    fn bell(&self) -> io::Result<UnixStream> {
        self.sender.try_clone()
    }

    /// Waits for an event, and returns whether the terminal was closed.
    fn wait(&mut self) -> io::Result<bool> {
        let stdin = io::stdin();
        let mut watched = [PollFd::new(&stdin, PollFlags::IN), PollFd::new(&self.receiver, PollFlags::IN)];
        match poll(&mut watched, None) {
            Err(rustix::io::Errno::INTR) | Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let gone = watched[0].revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL);
        let mut bytes = [0; 64];
        while matches!((&self.receiver).read(&mut bytes), Ok(1..)) {}
        Ok(gone)
    }

    fn ended(&self) -> bool {
        self.terminated.load(Ordering::SeqCst) || self.interrupted.load(Ordering::SeqCst)
    }
}

impl Drop for EventWaker {
    fn drop(&mut self) {
        for id in self.registered.drain(..) {
            low_level::unregister(id);
        }
    }
}

/// The review's host, with the terminal released while an editor runs.
struct SuspendedHost<'a> {
    around: &'a mut dyn ReviewHost,
    is_aside: Arc<AtomicBool>,
}

impl SuspendedHost<'_> {
    fn aside<T>(&mut self, work: impl FnOnce(&mut dyn ReviewHost) -> io::Result<T>) -> io::Result<T> {
        leave();
        self.is_aside.store(true, Ordering::SeqCst);
        let done = work(self.around);
        self.is_aside.store(false, Ordering::SeqCst);
        enter()?;
        done
    }
}

impl ReviewHost for SuspendedHost<'_> {
    fn save_events(&mut self, events: &[Event]) -> io::Result<()> {
        self.around.save_events(events)
    }

    fn edit_text(&mut self, path: &RepoPath, text: &[u8]) -> io::Result<Vec<u8>> {
        self.aside(|around| around.edit_text(path, text))
    }

    fn view_text(&mut self, path: &RepoPath, text: &[u8]) -> io::Result<()> {
        self.aside(|around| around.view_text(path, text))
    }

    fn find_risks(&self, change: &FileChange, old: &[u8], new: &[u8]) -> Vec<Finding> {
        self.around.find_risks(change, old, new)
    }

    fn preview_apply(&mut self, decisions: &Decisions) -> Result<Preview, String> {
        self.around.preview_apply(decisions)
    }
}
