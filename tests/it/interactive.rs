//! Claude Code on a pseudo-terminal: what a person sees and types.

use std::io::{Read, Write};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

use crate::claude::{greeting, model};
use crate::support::{AIRLOCK, Place};

/// How long a screen may take to show what is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program on a terminal of our own.
struct Terminal {
    child: Box<dyn Child + Send + Sync>,
    master: Box<dyn MasterPty + Send>,
    keys: Box<dyn Write + Send>,
    screen: Arc<(Mutex<vt100::Parser>, Condvar)>,
    /// Everything that came, as it came.
    raw: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn start(place: &Place, args: &[&str]) -> Self {
        let size = PtySize { rows: 40, cols: 100, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).expect("a terminal");
        let mut command = CommandBuilder::new(AIRLOCK);
        command.args(args);
        command.cwd(&place.repo);
        command.env_clear();
        place.environment().iter().for_each(|(name, value)| command.env(name, value));
        command.env("TERM", "xterm-256color");
        let child = pair.slave.spawn_command(command).expect("it runs");
        let screen = Arc::new((Mutex::new(vt100::Parser::new(40, 100, 1000)), Condvar::new()));
        let mut output = pair.master.try_clone_reader().expect("a reader");
        let shared = Arc::clone(&screen);
        let raw = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&raw);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = output.read(&mut buffer) {
                kept.lock().expect("no panic").extend_from_slice(&buffer[..n]);
                shared.0.lock().expect("no panic").process(&buffer[..n]);
                shared.1.notify_all();
            }
        });
        let keys = pair.master.take_writer().expect("a writer");
        Self { child, master: pair.master, keys, screen, raw }
    }

    /// Waits until the screen fulfils a condition, and gives its text.
    #[track_caller]
    fn wait(&self, what: &str, fulfils: impl Fn(&vt100::Screen) -> bool) -> String {
        let end = Instant::now() + PATIENCE;
        let mut parser = self.screen.0.lock().expect("no panic");
        while !fulfils(parser.screen()) {
            let left = end.checked_duration_since(Instant::now());
            let Some(left) = left else { panic!("no {what} on the screen:\n{}", parser.screen().contents()) };
            parser = self.screen.1.wait_timeout(parser, left).expect("no panic").0;
        }
        parser.screen().contents()
    }

    #[track_caller]
    fn shows(&self, text: &str) -> String {
        self.wait(text, |screen| screen.contents().contains(text))
    }

    /// Waits until these bytes have come.
    #[track_caller]
    fn receives(&self, bytes: &[u8]) {
        let has = || self.raw.lock().expect("no panic").windows(bytes.len()).any(|w| w == bytes);
        self.wait("such bytes", |_| has());
    }

    fn types(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).and_then(|()| self.keys.flush()).expect("typed");
    }

    /// Tells whether the terminal reads lines, echoes and makes signals.
    fn is_sane(&self) -> bool {
        use rustix::termios::{InputModes, LocalModes, tcgetattr};
        let name = self.master.tty_name().expect("it has one");
        let tty = std::fs::File::open(name).expect("it can be opened");
        let settings = tcgetattr(&tty).expect("it is a terminal");
        let local = LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        settings.local_modes.contains(local) && settings.input_modes.contains(InputModes::ICRNL)
    }
}

#[test]
fn the_prompt_a_request_the_review_and_a_sane_terminal() {
    let mut place = Place::new();
    let script = greeting(&place);
    let (_runtime, _model) = model(&mut place, script);
    let mut terminal = Terminal::start(&place, &["--name", "i", "claude", "--permission-mode", "acceptEdits"]);
    let first = terminal.shows("❯");
    assert!(first.contains("Claude Code v"), "no first-run question comes before the prompt:\n{first}");
    assert!(!first.contains("missing or broken"), "{first}");
    terminal.shows("accept edits on");
    terminal.types("add a greeting");
    terminal.shows("add a greeting");
    terminal.types("\r");
    terminal.shows("A greeting is in.");
    // The size follows.
    terminal.master.resize(PtySize { rows: 30, cols: 80, pixel_width: 0, pixel_height: 0 }).expect("resized");
    terminal.screen.0.lock().expect("no panic").screen_mut().set_size(30, 80);
    let line = "─".repeat(80);
    terminal.wait("a line of the new width", |s| s.contents().lines().any(|l| l == line));
    terminal.types("/exit");
    terminal.shows("/exit");
    terminal.types("\r");
    terminal.shows("Review now?");
    terminal.types("y");
    terminal.shows("(1/4) a.txt Apply? [y,n,a,d,s,e,c,u,j,k,g,/,p,w,q,?]");
    assert!(terminal.is_sane(), "the review reads lines");
    terminal.types("y\n");
    terminal.shows("(2/4) c.txt Apply?");
    terminal.types("n\n");
    terminal.shows("(3/4) copy.txt Apply?");
    terminal.types("d\n");
    terminal.shows("(4/4) dir/new.txt Apply?");
    terminal.types("n\n");
    terminal.shows("Apply 1 block to your working tree?");
    terminal.types("y");
    terminal.shows("1 of 4 files applied");
    assert!(terminal.child.wait().expect("it ends").success());
    assert!(terminal.is_sane());
    let parser = terminal.screen.0.lock().expect("no panic");
    let screen = parser.screen();
    assert!(!screen.hide_cursor() && !screen.bracketed_paste() && !screen.alternate_screen());
    assert_eq!(screen.mouse_protocol_mode(), vt100::MouseProtocolMode::None);
    drop(parser);
    assert_eq!(place.git(&["status", "--short"]), " M a.txt\n");
    assert_eq!(place.read("a.txt"), "one\nhello\n");
}

#[test]
fn modes_that_an_agent_leaves_on_are_switched_off_and_keys_typed_ahead_answer_nothing() {
    let place = Place::new();
    let script = "echo x >> a.txt; printf '\\033[?1049h\\033[?1003h\\033[?2004h\\033[?25l'; echo ready; sleep 1000";
    let mut terminal = Terminal::start(&place, &["run", "--name", "m", "--", "sh", "-c", script]);
    terminal.shows("ready");
    assert!(terminal.screen.0.lock().expect("no panic").screen().alternate_screen());
    // Ctrl-P is a key like others; Ctrl-C ends the agent, and what follows it is meant for the agent too.
    terminal.types("\u{10}\u{11}y\ny\ny\n\u{3}yyyy");
    terminal.shows("Review now?");
    let parser = terminal.screen.0.lock().expect("no panic");
    assert!(!parser.screen().alternate_screen() && !parser.screen().bracketed_paste());
    assert_eq!(parser.screen().mouse_protocol_mode(), vt100::MouseProtocolMode::None);
    drop(parser);
    terminal.types("n");
    terminal.shows("kept. Next: airlock review m");
    assert_eq!(terminal.child.wait().expect("it ends").exit_code(), 130);
    assert!(terminal.is_sane());
    assert_eq!(place.git(&["status", "--short"]), "");
}

/// A session of Claude Code 2.1.197, as it came from its container: prompt, request, tools, modes, `/exit`.
#[test]
fn claudes_screens_are_the_same_with_and_without_the_filter() {
    let session = std::fs::read("fixtures/claude/session.raw").expect("it is there");
    for size in [1, 7, 4096] {
        let (mut plain, mut filtered) = (vt100::Parser::new(40, 100, 1000), vt100::Parser::new(40, 100, 1000));
        let mut filter = airlock::sandbox::Filter::default();
        for piece in session.chunks(size) {
            plain.process(piece);
            filtered.process(&filter.pass(piece));
        }
        let formatted = |p: &vt100::Parser| (p.screen().contents_formatted(), p.screen().input_mode_formatted());
        assert_eq!(formatted(&plain), formatted(&filtered));
        assert!(plain.screen().contents().contains("--resume"), "it is a whole session");
        assert!(filter.dropped().is_empty(), "{:?}", filter.dropped());
    }
}

#[test]
fn what_an_agent_prints_cannot_drive_the_terminal_or_answer_for_the_user() {
    let place = Place::new();
    // The first process of a container hears only the signals that it has asked for.
    let script = "trap 'exit 0' INT; echo x >> a.txt; printf '\\033]52;c;ZXZpbA==\\a\\033]1337;x\\a\\033_Gx\\033\\\\\\033Pq\\033\\\\\\033[5i\\033[21t'; \
                  printf '\\033]0;fine\\a\\033[31mred\\033[0m \\033[6n\\033[c'; echo asked; sleep 1000";
    let mut terminal = Terminal::start(&place, &["run", "--name", "t", "--", "sh", "-c", script]);
    terminal.shows("asked");
    terminal.receives(b"\x1b[6n\x1b[c");
    // The agent is ended while answers to its questions are on their way, with a yes in them.
    terminal.types("\u{3}");
    terminal.receives(b"\x1b[0m\x1b(B\x0f\x1b[c");
    terminal.types("\u{1b}[1;1Ry\n\u{1b}[?62;22cy\ny\n\u{1b}[?62;22c");
    terminal.shows("Review now?");
    let raw = terminal.raw.lock().expect("no panic").clone();
    let has = |bytes: &[u8]| raw.windows(bytes.len()).any(|w| w == bytes);
    for bad in [&b"]52;"[..], b"]1337", b"\x1b_", b"\x1bP", b"\x1b[5i", b"\x1b[21t"] {
        assert!(!has(bad), "{}", bad.escape_ascii());
    }
    assert!(has(b"\x1b]0;fine\x1b\\") && has(b"\x1b[31mred\x1b[m"), "what draws stays");
    let text = terminal.shows("control sequences were kept from your terminal");
    assert!(text.contains("OSC 52 (clipboard)"), "{text}");
    terminal.types("n");
    terminal.shows("kept. Next: airlock review t");
    assert!(terminal.is_sane());
    assert_eq!(place.git(&["status", "--short"]), "");
}

#[test]
fn a_fast_program_sees_the_terminals_size() {
    let place = Place::new();
    for _ in 0..3 {
        let mut terminal = Terminal::start(&place, &["run", "--", "stty", "size"]);
        terminal.shows("40 100");
        assert!(terminal.child.wait().expect("it ends").success());
    }
}
