//! Takes over the terminal for the full-screen review, and restores it at the end, after a panic or a signal, for an editor,
//! and for Ctrl-Z.

use std::io::{self, BufWriter, Read, Stdout, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once, mpsc};
use std::time::{Duration, Instant};

use crossterm::event::{
    self, DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture, Event as Input,
    KeyCode, KeyEvent, KeyEventKind, KeyModifiers,
};
use crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use crossterm::{cursor, execute, queue, style};
use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use ratatui::{Terminal, TerminalOptions, Viewport};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, kill_current_process_group};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGTSTP, SIGWINCH};
use signal_hook::{SigId, flag, low_level};

use super::app::App;
use super::conflict_watch::ConflictWatch;
use super::draw::draw;
use super::key_repeat::KeyRepeatGuard;
use super::keys::Effect;
use super::sandbox_list::{ListAction, SandboxList, SandboxRow};
use super::syntax::HighlightWorker;
use crate::changes::{FileChange, Finding};
use crate::core::path::RepoPath;
use crate::review::{ApplyPlanner, Decisions, Event, Preview, ReviewHost, ReviewOutcome};

type ScreenTerminal = Terminal<CrosstermBackend<BufWriter<Stdout>>>;

/// Whether the review has taken over the terminal.
static IS_TAKEN_OVER: AtomicBool = AtomicBool::new(false);

/// Runs the full-screen review until the user or a signal ends it.
///
/// # Errors
/// An error of the terminal or of the host. The terminal is restored first.
pub fn run(
    app: &mut App<'_>,
    host: &mut dyn ReviewHost,
    planner: Option<&dyn ApplyPlanner>,
) -> io::Result<ReviewOutcome> {
    install_panic_hook();
    let wake = EventWaker::register_signals()?;
    let plan_wake = wake.wake_stream()?;
    let is_stopped = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let wake_loop = move || drop((&plan_wake).write_all(&[0]));
        let watch = planner.map(|planner| ConflictWatch::start_watch(scope, planner, &is_stopped, wake_loop));
        run_loop(app, host, wake, watch.as_ref())
    })
}

fn run_loop(
    app: &mut App<'_>,
    host: &mut dyn ReviewHost,
    mut wake: EventWaker,
    watch: Option<&ConflictWatch<'_>>,
) -> io::Result<ReviewOutcome> {
    let _screen = AlternateScreenGuard::enter_screen()?;
    let mut terminal = new_terminal()?;
    let (highlight_sender, highlighted_files) = mpsc::channel();
    let wake_stream = wake.wake_stream()?;
    let worker = HighlightWorker::start_thread(move |answer| {
        // An error means that the review has ended.
        if highlight_sender.send(answer).is_ok() {
            let _ = (&wake_stream).write_all(&[0]);
        }
    })?;
    let mut suspended_host = SuspendedHost { host, is_editor_running: Arc::clone(&wake.is_editor_running) };
    let mut needs_redraw = true;
    let mut repeat_guard = KeyRepeatGuard::default();
    loop {
        if needs_redraw {
            terminal.draw(|frame| draw(app, frame))?;
            app.save_pending_events(&mut suspended_host)?;
            needs_redraw = false;
        }
        if let Some(request) = app.take_highlight_request() {
            worker.send_request(request);
        }
        if let Some(watch) = watch
            && let Some(decisions) = app.take_plan_request()
        {
            watch.request_plan(decisions);
        }
        match wake.wait_for_screen(&mut terminal, None)? {
            Some(is_renewed) => needs_redraw |= is_renewed,
            None => return Ok(ReviewOutcome::Interrupted),
        }
        for answer in highlighted_files.try_iter() {
            needs_redraw |= app.store_highlighting(answer);
        }
        if let Some(plan) = watch.and_then(|watch| watch.plans.try_iter().last()) {
            needs_redraw |= app.store_plan(&plan);
        }
        // Handle all pending input before drawing.
        while event::poll(Duration::ZERO)? {
            let input = event::read()?;
            let key = match &input {
                Input::Key(key) => Some(key.code),
                _ => None,
            };
            if key.is_some_and(|key| repeat_guard.is_repeat(key, Instant::now())) {
                app.message = Some("too fast after the key that asked: press it again".into());
                needs_redraw = true;
                continue;
            }
            let accepting_key = match &input {
                Input::Key(event) => key.filter(|_| app.is_accepting_key(*event)),
                _ => None,
            };
            let effect = match input {
                Input::Key(key) if key.kind != KeyEventKind::Release => app.handle_key(key, &mut suspended_host)?,
                Input::Mouse(mouse) => app.handle_mouse(mouse, &mut suspended_host)?,
                Input::Paste(text) => {
                    app.insert_paste(&text);
                    Effect::Redraw
                }
                Input::Key(_) | Input::Resize(..) | Input::FocusGained | Input::FocusLost => Effect::Redraw,
            };
            needs_redraw = true;
            match effect {
                // Input typed before a dialog or a risky file was drawn must not answer it, so it is discarded.
                Effect::Redraw if app.consume_input_guard() => {
                    let guarded_key = accepting_key.or(key.filter(|_| app.is_question_open()));
                    repeat_guard.record_key(guarded_key, Instant::now());
                    while event::poll(Duration::ZERO)? {
                        drop(event::read()?);
                    }
                    break;
                }
                Effect::Redraw => {}
                Effect::Exit(outcome) => return Ok(outcome),
                Effect::RedrawAll => {
                    // An editor had the terminal, so signals of that time were meant for the editor.
                    wake.interrupted.store(false, Ordering::SeqCst);
                    wake.suspend_requested.store(false, Ordering::SeqCst);
                    terminal = new_terminal()?;
                }
                Effect::Suspend if crate::terminal::is_orphan() => app.show_message("there is no shell to return to"),
                Effect::Suspend => {
                    let _ = kill_current_process_group(Signal::TSTP);
                    break;
                }
            }
        }
    }
}

/// Shows the list of sandboxes until the user chooses what to do. `refresh` returns the rows if they have changed; it is
/// asked at each key and after `interval`.
///
/// # Errors
/// An error of the terminal. The terminal is restored first.
pub fn run_list(
    list: &mut SandboxList,
    refresh: &mut dyn FnMut() -> Option<Vec<SandboxRow>>,
    interval: Duration,
) -> io::Result<ListAction> {
    install_panic_hook();
    let mut wake = EventWaker::register_signals()?;
    let _screen = AlternateScreenGuard::enter_screen()?;
    let mut terminal = new_terminal()?;
    let mut needs_redraw = true;
    loop {
        if let Some(rows) = refresh() {
            needs_redraw |= list.set_rows(rows);
        }
        if std::mem::take(&mut needs_redraw) {
            terminal.draw(|frame| list.draw(frame))?;
        }
        match wake.wait_for_screen(&mut terminal, Some(interval))? {
            Some(is_renewed) => needs_redraw |= is_renewed,
            None => return Ok(ListAction::Quit),
        }
        while event::poll(Duration::ZERO)? {
            let input = event::read()?;
            needs_redraw = true;
            let Input::Key(key) = input else { continue };
            if is_suspend_key(key) {
                if !crate::terminal::is_orphan() {
                    let _ = kill_current_process_group(Signal::TSTP);
                }
                break;
            }
            if key.kind != KeyEventKind::Release
                && let Some(action) = list.handle_key(key)
            {
                return Ok(action);
            }
        }
    }
}

fn is_suspend_key(key: KeyEvent) -> bool {
    key.code == KeyCode::Char('z') && key.modifiers.contains(KeyModifiers::CONTROL)
}

/// Holds the alternate screen and raw mode until dropped.
struct AlternateScreenGuard(());

impl AlternateScreenGuard {
    fn enter_screen() -> io::Result<Self> {
        let screen = Self(());
        enter_review_screen()?;
        Ok(screen)
    }
}

impl Drop for AlternateScreenGuard {
    fn drop(&mut self) {
        leave_review_screen();
    }
}

fn enter_review_screen() -> io::Result<()> {
    IS_TAKEN_OVER.store(true, Ordering::SeqCst);
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen, EnableMouseCapture, EnableBracketedPaste, cursor::Hide)
}

/// Restores the terminal if it was taken over. Errors are ignored because nothing could be done about them.
fn leave_review_screen() {
    if IS_TAKEN_OVER.swap(false, Ordering::SeqCst) {
        let _ = execute!(io::stdout(), DisableBracketedPaste, DisableMouseCapture, style::ResetColor);
        // Remaining content can show up in the history of a multiplexer whose window was resized.
        let _ = clear_lines(&mut io::stdout());
        let _ = execute!(io::stdout(), LeaveAlternateScreen, cursor::Show);
        let _ = disable_raw_mode();
    }
}

/// Installs a panic hook that leaves the alternate screen, so that the message stays visible.
fn install_panic_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous_hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            leave_review_screen();
            previous_hook(info);
        }));
    });
}

/// Suspends the process until the shell resumes it.
fn suspend_process() -> io::Result<()> {
    leave_review_screen();
    low_level::emulate_default_handler(SIGTSTP)?;
    enter_review_screen()
}

/// Creates a terminal with an empty screen of the current size. Ratatui's own method queries the cursor position, which not
/// every terminal answers.
fn new_terminal() -> io::Result<ScreenTerminal> {
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

/// Wakes the event loop on keys, signals and messages from workers.
struct EventWaker {
    receiver: UnixStream,
    sender: UnixStream,
    registered: Vec<SigId>,
    terminated: Arc<AtomicBool>,
    interrupted: Arc<AtomicBool>,
    suspend_requested: Arc<AtomicBool>,
    /// Whether an editor has the terminal. SIGTSTP then stops this process with the editor.
    is_editor_running: Arc<AtomicBool>,
    resized: Arc<AtomicBool>,
}

impl EventWaker {
    fn register_signals() -> io::Result<Self> {
        let (receiver, sender) = UnixStream::pair()?;
        receiver.set_nonblocking(true)?;
        sender.set_nonblocking(true)?;
        let mut wake = Self {
            receiver,
            sender,
            registered: Vec::new(),
            terminated: Arc::default(),
            interrupted: Arc::default(),
            suspend_requested: Arc::default(),
            is_editor_running: Arc::default(),
            resized: Arc::default(),
        };
        let flags = [
            (SIGTERM, &wake.terminated),
            (SIGHUP, &wake.terminated),
            (SIGINT, &wake.interrupted),
            (SIGTSTP, &wake.suspend_requested),
            (SIGWINCH, &wake.resized),
            (SIGCONT, &wake.resized),
        ];
        wake.registered.push(flag::register_conditional_default(SIGTSTP, Arc::clone(&wake.is_editor_running))?);
        // The flag is registered before the pipe, so it is set when the loop wakes up.
        for (signal, signal_flag) in flags {
            wake.registered.push(flag::register(signal, Arc::clone(signal_flag))?);
            wake.registered.push(low_level::pipe::register(signal, wake.sender.try_clone()?)?);
        }
        Ok(wake)
    }

    /// Returns a stream that wakes the event loop when a byte is written to it.
    fn wake_stream(&self) -> io::Result<UnixStream> {
        self.sender.try_clone()
    }

    /// Waits for an event, at most until `timeout`. Suspends the process if that was asked for, and renews the terminal after that
    /// and after a change of its size. Returns whether it was renewed, or `None` if the program has to end.
    fn wait_for_screen(
        &mut self,
        terminal: &mut ScreenTerminal,
        timeout: Option<Duration>,
    ) -> io::Result<Option<bool>> {
        let is_closed = self.wait_for_event(timeout)?;
        if is_closed || self.has_ended() {
            return Ok(None);
        }
        let is_suspended = self.suspend_requested.swap(false, Ordering::SeqCst);
        if is_suspended {
            suspend_process()?;
        }
        let is_renewed = self.resized.swap(false, Ordering::SeqCst) || is_suspended;
        if is_renewed {
            *terminal = new_terminal()?;
        }
        Ok(Some(is_renewed))
    }

    /// Waits for an event, at most until `timeout`, and returns whether the terminal was closed.
    fn wait_for_event(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        let timeout = timeout.map(Timespec::try_from).transpose().map_err(io::Error::other)?;
        let stdin = io::stdin();
        let mut watched = [PollFd::new(&stdin, PollFlags::IN), PollFd::new(&self.receiver, PollFlags::IN)];
        match poll(&mut watched, timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) | Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let is_closed = watched[0].revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL);
        let mut bytes = [0; 64];
        while matches!((&self.receiver).read(&mut bytes), Ok(1..)) {}
        Ok(is_closed)
    }

    fn has_ended(&self) -> bool {
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
    host: &'a mut dyn ReviewHost,
    is_editor_running: Arc<AtomicBool>,
}

impl SuspendedHost<'_> {
    fn run_with_editor<T>(&mut self, work: impl FnOnce(&mut dyn ReviewHost) -> io::Result<T>) -> io::Result<T> {
        leave_review_screen();
        self.is_editor_running.store(true, Ordering::SeqCst);
        let result = work(self.host);
        self.is_editor_running.store(false, Ordering::SeqCst);
        enter_review_screen()?;
        result
    }
}

impl ReviewHost for SuspendedHost<'_> {
    fn save_events(&mut self, events: &[Event]) -> io::Result<()> {
        self.host.save_events(events)
    }

    fn edit_text(&mut self, path: &RepoPath, text: &[u8]) -> io::Result<Vec<u8>> {
        self.run_with_editor(|host| host.edit_text(path, text))
    }

    fn view_text(&mut self, path: &RepoPath, text: &[u8]) -> io::Result<bool> {
        self.run_with_editor(|host| host.view_text(path, text))
    }

    fn find_risks(&self, change: &FileChange, old: &[u8], new: &[u8]) -> Vec<Finding> {
        self.host.find_risks(change, old, new)
    }

    fn preview_apply(&mut self, decisions: &Decisions) -> Result<Preview, String> {
        self.host.preview_apply(decisions)
    }
}
