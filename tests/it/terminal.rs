//! A program on a pseudo-terminal, with a screen that tests can wait for.

use std::io::{Read, Write};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use rustix::process::Pid;

use crate::support::{AIRLOCK, TestRepo};

/// The maximum time until a screen meets a condition.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lists the processes that another one has started.
pub fn children_of(parent: Pid) -> Vec<Pid> {
    let id = parent.as_raw_nonzero();
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    children.split_whitespace().filter_map(|child| Pid::from_raw(child.parse().ok()?)).collect()
}

type Keys = Arc<Mutex<Box<dyn Write + Send>>>;

/// The answers that every terminal sends: its device attributes (DA1), and that it does not know a mode (DECRQM).
#[derive(Default)]
struct TerminalAnswers {
    bytes: Vec<u8>,
}

impl vte::Perform for TerminalAnswers {
    fn csi_dispatch(&mut self, params: &vte::Params, intermediates: &[u8], _: bool, action: char) {
        let mode = params.iter().next().and_then(|p| p.first()).copied().unwrap_or(0);
        match (intermediates, action) {
            (b"", 'c') => self.bytes.extend(b"\x1b[?62;22c"),
            (b"?$", 'p') => self.bytes.extend(format!("\x1b[?{mode};0$y").bytes()),
            _ => {}
        }
    }
}

/// Limits the counts of control sequences as terminals do. The emulator takes seconds for one with a large count.
#[derive(Default)]
struct CountLimiter {
    /// The beginning of a sequence.
    started: Vec<u8>,
}

impl CountLimiter {
    fn limit(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut limited = Vec::new();
        for byte in bytes {
            match (self.started.as_slice(), byte) {
                ([], 0x1b) => self.started.push(*byte),
                ([], _) => limited.push(*byte),
                ([0x1b], b'[') | ([0x1b, b'[', ..], b'0'..=b'9' | b';') if self.started.len() < 64 => {
                    self.started.push(*byte)
                }
                _ => {
                    let numbers = self.started.split(|byte| *byte == b'[').nth(1).unwrap_or_default().to_vec();
                    let is_long = |number: &[u8]| number.len() > 3;
                    if b"@LMPSTXbZI".contains(byte) && numbers.split(|byte| *byte == b';').any(is_long) {
                        limited.extend(b"\x1b[100");
                    } else {
                        limited.append(&mut self.started);
                    }
                    self.started.clear();
                    limited.push(*byte);
                }
            }
        }
        limited
    }
}

/// A program on a pseudo-terminal.
pub struct Terminal {
    pub child: Box<dyn Child + Send + Sync>,
    pub master: Box<dyn MasterPty + Send>,
    keys: Keys,
    pub screen: Arc<(Mutex<vt100::Parser>, Condvar)>,
    /// The raw output of the program.
    pub raw: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// Starts Airlock.
    pub fn start(repo: &TestRepo, args: &[&str]) -> Self {
        let mut command = CommandBuilder::new(AIRLOCK);
        command.args(args);
        Self::run(repo, command)
    }

    /// Starts Airlock on a terminal that does not answer queries.
    pub fn mute(repo: &TestRepo, args: &[&str]) -> Self {
        let mut command = CommandBuilder::new(AIRLOCK);
        command.args(args);
        Self::open(repo, command, false)
    }

    /// Starts a program in the repository's environment.
    pub fn run(repo: &TestRepo, command: CommandBuilder) -> Self {
        Self::open(repo, command, true)
    }

    fn open(repo: &TestRepo, mut command: CommandBuilder, has_answers: bool) -> Self {
        let size = PtySize { rows: 40, cols: 100, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).expect("a terminal");
        command.cwd(&repo.path);
        command.env_clear();
        repo.environment().iter().for_each(|(name, value)| command.env(name, value));
        command.env("TERM", "xterm-256color");
        command.env("LANG", "C.UTF-8");
        let child = pair.slave.spawn_command(command).expect("it runs");
        let screen = Arc::new((Mutex::new(vt100::Parser::new(40, 100, 1000)), Condvar::new()));
        let mut output = pair.master.try_clone_reader().expect("a reader");
        let shared = Arc::clone(&screen);
        let raw = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&raw);
        let keys: Keys = Arc::new(Mutex::new(pair.master.take_writer().expect("a writer")));
        let answer_keys = has_answers.then(|| Arc::clone(&keys));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            let mut parser = vte::Parser::new();
            let mut limiter = CountLimiter::default();
            while let Ok(n @ 1..) = output.read(&mut buffer) {
                kept.lock().expect("no panic").extend_from_slice(&buffer[..n]);
                shared.0.lock().expect("no panic").process(&limiter.limit(&buffer[..n]));
                shared.1.notify_all();
                let mut answers = TerminalAnswers::default();
                parser.advance(&mut answers, &buffer[..n]);
                if let Some(keys) = &answer_keys {
                    // The program may have ended, so errors are ignored.
                    let _ = keys.lock().expect("no panic").write_all(&answers.bytes);
                }
            }
        });
        Self { child, master: pair.master, keys, screen, raw }
    }

    /// Waits until the screen meets a condition, and returns its text.
    #[track_caller]
    pub fn wait(&self, what: &str, is_met: impl Fn(&vt100::Screen) -> bool) -> String {
        let end = Instant::now() + PATIENCE;
        let mut parser = self.screen.0.lock().expect("no panic");
        while !is_met(parser.screen()) {
            let left = end.checked_duration_since(Instant::now());
            let Some(left) = left else { panic!("no {what} on the screen:\n{}", parser.screen().contents()) };
            parser = self.screen.1.wait_timeout(parser, left).expect("no panic").0;
        }
        parser.screen().contents()
    }

    /// Waits until the screen contains a text, and returns the text of the screen.
    #[track_caller]
    pub fn shows(&self, text: &str) -> String {
        self.wait(text, |screen| screen.contents().contains(text))
    }

    /// Waits until the screen contains a text and the program has written nothing for a second, and returns the screen.
    #[track_caller]
    pub fn settled_screen(&self, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        let mut parser = self.screen.0.lock().expect("no panic");
        loop {
            assert!(Instant::now() < end, "no {text} on a settled screen:\n{}", parser.screen().contents());
            let waited = self.screen.1.wait_timeout(parser, Duration::from_secs(1)).expect("no panic");
            parser = waited.0;
            let contents = parser.screen().contents();
            if waited.1.timed_out() && contents.contains(text) {
                return contents;
            }
        }
    }

    /// Waits until the program ends.
    #[track_caller]
    pub fn ends(&mut self) -> portable_pty::ExitStatus {
        let end = Instant::now() + PATIENCE;
        let mut parser = self.screen.0.lock().expect("no panic");
        loop {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                return status;
            }
            assert!(Instant::now() < end, "it does not end:\n{}", parser.screen().contents());
            parser = self.screen.1.wait_timeout(parser, Duration::from_millis(20)).expect("no panic").0;
        }
    }

    /// Waits until the program has written these bytes.
    #[track_caller]
    pub fn receives(&self, bytes: &[u8]) {
        self.receives_times(bytes, 1);
    }

    /// Waits until the program has written these bytes `times` times.
    #[track_caller]
    pub fn receives_times(&self, bytes: &[u8], times: usize) {
        let count = || self.raw.lock().expect("no panic").windows(bytes.len()).filter(|w| *w == bytes).count();
        self.wait("such bytes", |_| count() >= times);
    }

    /// Returns a function that types keys from another thread.
    pub fn writer(&self) -> impl FnMut(&[u8]) -> std::io::Result<()> + Send + use<> {
        let keys = Arc::clone(&self.keys);
        move |bytes| keys.lock().expect("no panic").write_all(bytes)
    }

    /// Types keys.
    pub fn types(&mut self, keys: &str) {
        let mut writer = self.keys.lock().expect("no panic");
        writer.write_all(keys.as_bytes()).and_then(|()| writer.flush()).expect("typed");
    }

    /// Waits until a program reads single keys: the shell has given the terminal back to Airlock.
    #[track_caller]
    pub fn wait_for_raw_mode(&self) {
        let end = Instant::now() + PATIENCE;
        let is_left = |parser: &vt100::Parser| !parser.screen().contents().contains("Stopped");
        while !is_left(&self.screen.0.lock().expect("no panic")) || !self.is_raw() {
            assert!(Instant::now() < end, "the terminal stays in line mode");
            std::thread::yield_now();
        }
    }

    fn is_raw(&self) -> bool {
        use rustix::termios::{LocalModes, tcgetattr};
        let name = self.master.tty_name().expect("the terminal has a name");
        let tty = std::fs::File::open(name).expect("it can be opened");
        // A shell that reads a line turns off the line mode, but not signals.
        !tcgetattr(&tty).expect("it is a terminal").local_modes.contains(LocalModes::ISIG)
    }

    /// Returns whether the terminal reads lines, echoes, and turns Ctrl-C into a signal.
    pub fn is_sane(&self) -> bool {
        use rustix::termios::{InputModes, LocalModes, tcgetattr};
        let name = self.master.tty_name().expect("the terminal has a name");
        let tty = std::fs::File::open(name).expect("it can be opened");
        let settings = tcgetattr(&tty).expect("it is a terminal");
        let local = LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        settings.local_modes.contains(local) && settings.input_modes.contains(InputModes::ICRNL)
    }
}
