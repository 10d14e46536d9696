//! Raw mode of the user's terminal while an agent runs, the terminal's answers to the agent, and the modes to reset at the end.

use crate::core::random::read_random_bytes;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{self, OptionalActions, QueueSelector, Termios};

use super::output_filter::{ON_BY_DEFAULT, PRIVATE_MODES};

/// The terminal settings to restore.
static SAVED_SETTINGS: Mutex<Option<Termios>> = Mutex::new(None);

/// Returns whether standard input and output are terminals and this process is in the foreground. A background job that touches
/// the terminal would be stopped.
#[must_use]
pub fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal() && is_foreground()
}

/// Returns whether this process is in the terminal's foreground process group.
fn is_foreground() -> bool {
    termios::tcgetpgrp(io::stdin()).is_ok_and(|group| group == rustix::process::getpgrp())
}

/// Returns the columns and rows of the terminal.
#[must_use]
pub fn terminal_size() -> Option<(u16, u16)> {
    let size = termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}

/// Keeps the terminal in raw mode until dropped.
#[derive(Debug)]
pub struct RawModeGuard(());

impl RawModeGuard {
    /// Switches standard input to raw mode.
    ///
    /// # Errors
    /// Standard input is not a terminal.
    pub fn enter_raw_mode() -> io::Result<Self> {
        let settings = termios::tcgetattr(io::stdin())?;
        let mut raw = settings.clone();
        raw.make_raw();
        if let Ok(mut saved) = SAVED_SETTINGS.lock() {
            *saved = Some(settings);
        }
        termios::tcsetattr(io::stdin(), OptionalActions::Drain, &raw)?;
        Ok(Self(()))
    }
}

impl Drop for RawModeGuard {
    fn drop(&mut self) {
        restore_terminal();
    }
}

/// Restores the settings if they were changed. Pending input is discarded: keys and terminal answers that were meant for the
/// agent must not answer a prompt of Airlock.
pub fn restore_terminal() {
    let settings = SAVED_SETTINGS.lock().ok().and_then(|mut saved| saved.take());
    if let Some(before) = settings {
        // Discards unread input.
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Flush, &before);
    }
}

/// Maximum time for the terminal to answer. On a slow connection, megabytes of output may precede the query.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Time after which the user gets an explanation.
const EXPLAIN_AFTER: Duration = Duration::from_secs(1);
/// Pause after which a terminal that supports only one of the two queries has finished its answers.
const SETTLE_TIME: Duration = Duration::from_millis(40);
/// Mode numbers (DECRQM) that no terminal has and no agent may query.
const UNUSED_MODES: std::ops::Range<u16> = 30_000..60_000;

/// Modes that switch to the alternate screen.
const ALTERNATE_SCREEN_MODES: [u16; 3] = [47, 1047, 1049];

/// Modes that a redraw sets with the contents (origin, cursor, alternate screen), or that last only for a moment.
const DRAWN_MODES: [u16; 8] = [5, 6, 25, 47, 1047, 1048, 1049, 2026];
/// Maximum number of saved titles that are tracked.
const MAX_SAVED_TITLES: u32 = 16;
/// Maximum number of pushed flags of the keyboard protocol that are tracked.
const MAX_KEYBOARD_FLAGS: usize = 16;

/// Whether the terminal has not answered [`drain_answers`]. Further input may then be the answer to a query of the agent.
static IS_UNANSWERED: AtomicBool = AtomicBool::new(false);

/// Counts of an agent's queries to the terminal.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct QueryCounts {
    /// Queries of any kind.
    pub all: u64,
    /// Queries for the device attributes (DA1).
    pub attributes: u64,
}

/// The terminal's answers in its input. Sequences may be split anywhere.
#[derive(Default)]
pub struct TerminalAnswers {
    parser: vte::Parser,
    counts: AnswerCounts,
}

#[derive(Debug, Default)]
struct AnswerCounts {
    /// Answers to DA1.
    attributes: u64,
    /// The mode of the last answer to DECRQM.
    mode: Option<u16>,
    /// Answers to DA1 since the last answer to DECRQM.
    attributes_since_mode: u64,
}

impl TerminalAnswers {
    /// Parses input from the terminal.
    pub fn parse_input(&mut self, bytes: &[u8]) {
        self.parser.advance(&mut self.counts, bytes);
    }

    /// Returns the number of answers to DA1.
    #[must_use]
    pub fn attribute_count(&self) -> u64 {
        self.counts.attributes
    }
}

impl vte::Perform for AnswerCounts {
    fn csi_dispatch(&mut self, params: &vte::Params, intermediates: &[u8], _: bool, action: char) {
        match (intermediates, action) {
            (b"?", 'c') => {
                self.attributes += 1;
                self.attributes_since_mode += 1;
            }
            (b"?$", 'y') => {
                self.mode = params.iter().next().and_then(|p| p.first()).copied();
                self.attributes_since_mode = 0;
            }
            _ => {}
        }
    }
}

/// Reads and discards the terminal's answers to the agent's queries. The terminal must be in raw mode. Keys typed in that time
/// are discarded as well: on a slow connection they may still be meant for a prompt of the agent. Once the terminal has
/// answered, the user sees Airlock's own output.
///
/// A terminal answers in order, so no answer to an earlier query follows the answer to one final query. The final query must be
/// one that the agent cannot have sent: a query (DECRQM) for a random mode that [`crate::terminal::OutputFilter`] allows no
/// agent to query. Some terminals do not support DECRQM. Every terminal answers DA1, which the agent may also send, so the
/// agent's DA1 queries and their answers are counted. `open` is the number of the agent's DA1 queries without an answer, or
/// `None` if that is unknown.
pub fn drain_answers(asked: QueryCounts, open: Option<u64>) {
    let is_dumb = std::env::var("TERM").map_or(true, |term| term.is_empty() || term == "dumb");
    if is_dumb || !is_interactive() {
        return;
    }
    let timeout = if asked.all == 0 { EXPLAIN_AFTER } else { ANSWER_TIMEOUT };
    IS_UNANSWERED.store(ask_and_wait(unused_mode(), open, timeout, false).is_none(), Ordering::SeqCst);
}

/// Returns the number of a random mode that no agent can have queried.
fn unused_mode() -> u16 {
    read_random_bytes::<2>().map_or(UNUSED_MODES.start, |bytes| {
        UNUSED_MODES.start + u16::from_le_bytes(bytes) % (UNUSED_MODES.end - UNUSED_MODES.start)
    })
}

/// Sends both queries and reads until the last answer. Returns `None` if the answer does not come or the user stops waiting.
/// `explained` means that the user already knows about Enter.
fn ask_and_wait(mode: u16, open: Option<u64>, timeout: Duration, mut explained: bool) -> Option<()> {
    let mut stdin = stdin_unbuffered().ok()?;
    {
        let mut out = io::stdout().lock();
        write!(out, "\x1b[?{mode}$p\x1b[c").and_then(|()| out.flush()).ok()?;
    }
    let (start, mut answers, mut buffer) = (Instant::now(), TerminalAnswers::default(), [0; 4096]);
    let mut end = start + timeout;
    loop {
        let now = Instant::now();
        let wait = if explained { end } else { end.min(start + EXPLAIN_AFTER) }.saturating_duration_since(now);
        let remaining =
            Timespec { tv_sec: i64::try_from(wait.as_secs()).ok()?, tv_nsec: i64::from(wait.subsec_nanos()) };
        let mut watched = [PollFd::new(&stdin, PollFlags::IN)];
        match poll(&mut watched, Some(&remaining)) {
            Ok(1..) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Ok(_) if end < start + timeout => return Some(()),
            Ok(_) if !explained && start.elapsed() < timeout => {
                explained = true;
                let _ =
                    io::stderr().write_all(b"airlock: waiting for the terminal to answer (Enter: stop waiting)\r\n");
                continue;
            }
            _ => return None,
        }
        let n = stdin.read(&mut buffer).ok().filter(|n| *n > 0)?;
        answers.parse_input(&buffer[..n]);
        // No answer of a terminal contains a carriage return.
        if explained && buffer[..n].contains(&b'\r') {
            return None;
        }
        let found = &answers.counts;
        let is_last = found.mode == Some(mode) && found.attributes_since_mode > 0;
        let is_counted = open.is_some_and(|open| found.attributes > open);
        if is_last {
            return Some(());
        }
        if is_counted {
            // The terminal does not support DECRQM, or one more answer follows immediately.
            end = end.min(Instant::now() + SETTLE_TIME);
        }
    }
}

/// Waits for the terminal if it has not answered [`drain_answers`], and returns whether input can be trusted now. Until then,
/// the terminal's answers must not count as keys. Enter alone is no proof: answers to the agent's queries may still arrive, and
/// some look like keys. A user who stops waiting gets no review now, and can start it later.
pub fn wait_until_settled() -> io::Result<bool> {
    if !IS_UNANSWERED.swap(false, Ordering::SeqCst) || !is_interactive() {
        return Ok(true);
    }
    io::stderr().write_all(b"airlock: waiting for the terminal to answer (Enter: skip the review)\n")?;
    let raw = RawModeGuard::enter_raw_mode()?;
    let has_answered = ask_and_wait(unused_mode(), None, ANSWER_TIMEOUT, true).is_some();
    drop(raw);
    Ok(has_answered)
}

/// Discards input that was not read yet.
pub fn discard_input() {
    if io::stdin().is_terminal() {
        let _ = termios::tcflush(io::stdin(), QueueSelector::IFlush);
    }
}

/// Tracks the modes that an agent's output has left on.
#[derive(Default)]
pub struct ModeTracker {
    parser: vte::Parser,
    state: ModeState,
    /// Whether there was any output.
    has_output: bool,
}

#[derive(Debug, Default)]
struct ModeState {
    /// Modes that are not at their default.
    changed: BTreeSet<u16>,
    /// Whether the keyboard protocol was used. Each screen has its own stack.
    used_keyboard_protocol: bool,
    /// Whether the alternate screen was used.
    used_alternate_screen: bool,
    /// The flags of the keyboard protocol, as far as they are pushed.
    keyboard_flags: Vec<u16>,
    /// The value of `modifyOtherKeys`.
    other_keys: u16,
    keypad: bool,
    cursor_shape: bool,
    /// Whether colors or character sets may have changed.
    drawn: bool,
    /// ANSI modes (SM) that are on: keyboard lock, insert and line feed.
    ansi: BTreeSet<u16>,
    /// Whether a scrolling region was set, and its lines if it is smaller than the screen.
    used_region: bool,
    region: Option<(u16, u16)>,
    /// The title, if one was set.
    title: Option<String>,
    /// Titles that are saved in the terminal.
    saved_titles: u32,
    /// Whether a hyperlink was opened, and may still be open.
    hyperlink: bool,
    queries: QueryCounts,
}

impl ModeTracker {
    /// Parses output. Sequences may be split anywhere.
    pub fn parse_output(&mut self, bytes: &[u8]) {
        self.has_output |= !bytes.is_empty();
        self.parser.advance(&mut self.state, bytes);
    }

    /// Returns the counts of queries.
    #[must_use]
    pub fn query_counts(&self) -> QueryCounts {
        self.state.queries
    }

    /// Returns the sequences that reset every changed mode.
    #[must_use]
    pub fn reset_sequence(&self) -> Vec<u8> {
        let state = &self.state;
        let mut out = Vec::new();
        if self.has_output {
            // Ends an unterminated string, which would swallow the following output.
            out.extend_from_slice(b"\x1b\\");
        }
        // Popping more than the stack holds is not an error. The reset is written before and after the modes, once for each
        // screen.
        let keyboard: &[u8] = if state.used_keyboard_protocol { b"\x1b[<99u\x1b[=0u" } else { b"" };
        out.extend_from_slice(keyboard);
        for mode in &state.ansi {
            let _ = write!(out, "\x1b[{mode}l");
        }
        for mode in &state.changed {
            let letter = if ON_BY_DEFAULT.contains(mode) { 'h' } else { 'l' };
            let _ = write!(out, "\x1b[?{mode}{letter}");
        }
        out.extend_from_slice(keyboard);
        if state.used_keyboard_protocol
            && state.used_alternate_screen
            && !state.changed.iter().any(|mode| ALTERNATE_SCREEN_MODES.contains(mode))
        {
            // The agent has left the alternate screen, whose stack is still full.
            out.extend_from_slice(b"\x1b[?1049h\x1b[<99u\x1b[=0u\x1b[?1049l");
        }
        let flags: [(bool, &[u8]); 6] = [
            // Resetting colors does not end a hyperlink.
            (state.hyperlink, b"\x1b]8;;\x1b\\"),
            // Setting the region moves the cursor, so the cursor is saved.
            (state.used_region, b"\x1b7\x1b[r\x1b8"),
            (state.other_keys > 0, b"\x1b[>4;0m"),
            (state.keypad, b"\x1b>"),
            (state.cursor_shape, b"\x1b[0 q"),
            // Colors and character sets: a single SO or `ESC ( 0` would turn Airlock's own text into line drawing.
            (state.drawn, b"\x1b[0m\x1b(B\x1b)B\x0f"),
        ];
        for (on, sequence) in flags {
            if on {
                out.extend_from_slice(sequence);
            }
        }
        if state.title.is_some() || state.saved_titles > 0 {
            // An empty title is for terminals that cannot save one.
            out.extend_from_slice(b"\x1b]0;\x1b\\");
            out.extend(b"\x1b[23;0t".repeat(usize::try_from(state.saved_titles).unwrap_or(0)));
        }
        out
    }

    /// Returns the sequences that bring another terminal to the same modes and title. The screens are not included: a
    /// terminal that shows the alternate screen has entered it already, and the cursor is drawn with the contents.
    #[must_use]
    pub fn restore_sequence(&self) -> Vec<u8> {
        let state = &self.state;
        let mut out = Vec::new();
        out.extend(b"\x1b[22;0t".repeat(usize::try_from(state.saved_titles).unwrap_or(0)));
        if let Some(title) = &state.title {
            let _ = write!(out, "\x1b]0;{title}\x1b\\");
        }
        for mode in state.changed.iter().filter(|mode| !DRAWN_MODES.contains(mode)) {
            let letter = if ON_BY_DEFAULT.contains(mode) { 'l' } else { 'h' };
            let _ = write!(out, "\x1b[?{mode}{letter}");
        }
        for mode in &state.ansi {
            let _ = write!(out, "\x1b[{mode}h");
        }
        for flags in &state.keyboard_flags {
            let _ = write!(out, "\x1b[>{flags}u");
        }
        if state.other_keys > 0 {
            let _ = write!(out, "\x1b[>4;{}m", state.other_keys);
        }
        if let Some((top, bottom)) = state.region {
            let _ = write!(out, "\x1b7\x1b[{top};{bottom}r\x1b8");
        }
        if state.keypad {
            out.extend_from_slice(b"\x1b=");
        }
        out
    }
}

impl vte::Perform for ModeState {
    fn print(&mut self, _: char) {
        self.drawn = true;
    }

    fn execute(&mut self, byte: u8) {
        // SO selects another character set.
        self.drawn |= byte == 0x0e;
    }

    fn csi_dispatch(&mut self, params: &vte::Params, intermediates: &[u8], _: bool, action: char) {
        let first = params.iter().next().and_then(|p| p.first()).copied().unwrap_or(0);
        match (intermediates, action) {
            (b"?", 'h' | 'l') => {
                for mode in params.iter().filter_map(|p| p.first().copied()) {
                    self.used_alternate_screen |= ALTERNATE_SCREEN_MODES.contains(&mode);
                    let known = PRIVATE_MODES.contains(&mode);
                    if known && (action == 'h') != ON_BY_DEFAULT.contains(&mode) {
                        self.changed.insert(mode);
                    } else {
                        self.changed.remove(&mode);
                    }
                }
            }
            (b"", 'h') => self.ansi.extend(params.iter().filter_map(|p| p.first()).filter(|m| [2, 4, 20].contains(*m))),
            (b"", 'l') => {
                for mode in params.iter().filter_map(|p| p.first()) {
                    self.ansi.remove(mode);
                }
            }
            (b"", 'r') => {
                self.used_region = true;
                let last = params.iter().nth(1).and_then(|p| p.first()).copied().unwrap_or(0);
                self.region = (last > 0).then_some((first.max(1), last));
            }
            (b"=" | b">", 'u') => {
                self.used_keyboard_protocol = true;
                if intermediates == b"=" || self.keyboard_flags.len() >= MAX_KEYBOARD_FLAGS {
                    self.keyboard_flags.pop();
                }
                self.keyboard_flags.push(first);
            }
            (b"<", 'u') => {
                let left = self.keyboard_flags.len().saturating_sub(usize::from(first.max(1)));
                self.keyboard_flags.truncate(left);
            }
            (b">", 'm') if first == 4 => {
                self.other_keys = params.iter().nth(1).and_then(|p| p.first()).copied().unwrap_or(0);
            }
            (b"", 't') if first == 22 => self.saved_titles = (self.saved_titles + 1).min(MAX_SAVED_TITLES),
            (b"", 't') if first == 23 => self.saved_titles = self.saved_titles.saturating_sub(1),
            (b" ", 'q') => self.cursor_shape = first != 0,
            (b"", 'c') => {
                self.queries.all += 1;
                self.queries.attributes += 1;
            }
            (b">", 'c') | (b"" | b"?", 'n') | (b"?", 'u' | 'm') | (b"$" | b"?$", 'p') => self.queries.all += 1,
            (b"", 't') if matches!(first, 14 | 16 | 18) => self.queries.all += 1,
            _ => self.drawn = true,
        }
    }

    fn osc_dispatch(&mut self, params: &[&[u8]], _: bool) {
        match params.first() {
            Some(&b"8") => self.hyperlink = true,
            Some(&(b"0" | b"2")) => {
                let text = params[1..].join(&b';');
                self.title = Some(String::from_utf8_lossy(&text).into_owned());
            }
            _ => {}
        }
    }

    fn esc_dispatch(&mut self, intermediates: &[u8], _: bool, byte: u8) {
        match (intermediates, byte) {
            (b"", b'=') => self.keypad = true,
            (b"", b'>') => self.keypad = false,
            _ => self.drawn = true,
        }
    }
}

/// Duplicates standard input for a thread that polls it. A buffered reader would consume input that comes after the agent has
/// ended.
///
/// # Errors
/// No file descriptor is available.
pub fn stdin_unbuffered() -> io::Result<File> {
    use std::os::fd::AsFd;
    Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reset_after(chunks: &[&[u8]]) -> String {
        let mut modes = ModeTracker::default();
        chunks.iter().for_each(|p| modes.parse_output(p));
        String::from_utf8(modes.reset_sequence()).expect("ASCII")
    }

    #[test]
    fn reset_switches_off_exactly_the_active_modes() {
        let sequence_after = |chunks: &[&[u8]]| {
            reset_after(chunks).strip_prefix("\x1b\\").expect("starts with a string terminator").to_owned()
        };
        assert_eq!(reset_after(&[b""]), "");
        assert_eq!(sequence_after(&[b"\x1b[?1049h\x1b[?25l\x1b[?1049l\x1b[?25h"]), "");
        // A split sequence, two modes in one sequence, and the cursor, which is on by default.
        assert_eq!(sequence_after(&[b"\x1b[?10", b"00;2004h", b"\x1b[?25l"]), "\x1b[?25h\x1b[?1000l\x1b[?2004l");
        assert_eq!(
            sequence_after(&[b"\x1b[>1u\x1b[>1u\x1b[<u\x1b=\x1b[5 q"]),
            "\x1b[<99u\x1b[=0u\x1b[<99u\x1b[=0u\x1b>\x1b[0 q"
        );
        let keyboard_reset = sequence_after(&[b"\x1b[?1049h\x1b[>31u\x1b[?1049l"]);
        assert_eq!(
            keyboard_reset, "\x1b[<99u\x1b[=0u\x1b[<99u\x1b[=0u\x1b[?1049h\x1b[<99u\x1b[=0u\x1b[?1049l",
            "each screen has its own stack"
        );
        assert_eq!(sequence_after(&[b"\x0e"]), "\x1b[0m\x1b(B\x1b)B\x0f");
        assert_eq!(sequence_after(&[b"\x1b[31mred"]), "\x1b[0m\x1b(B\x1b)B\x0f");
        let link = sequence_after(&[b"\x1b]8;;https://evil.example/\x1b\\x"]);
        assert_eq!(link, "\x1b]8;;\x1b\\\x1b[0m\x1b(B\x1b)B\x0f", "an open link is closed");
        assert_eq!(sequence_after(&[b"\x1b[4h\x1b[2h\x1b[4l"]), "\x1b[2l", "the keyboard is unlocked");
        assert_eq!(sequence_after(&[b"\x1b[2;3r"]), "\x1b7\x1b[r\x1b8");
        let all: String = PRIVATE_MODES
            .iter()
            .map(|m| format!("\x1b[?{m}{}", if ON_BY_DEFAULT.contains(m) { 'l' } else { 'h' }))
            .collect();
        let reset = sequence_after(&[all.as_bytes()]);
        assert!(PRIVATE_MODES.iter().all(|m| reset.contains(&format!("\x1b[?{m}"))), "each private mode is reset");
    }

    #[test]
    fn responses_are_counted_at_every_split() {
        let count_responses = |chunks: &[&[u8]]| {
            let mut responses = TerminalAnswers::default();
            chunks.iter().for_each(|p| responses.parse_input(p));
            (responses.counts.attributes, responses.counts.mode, responses.counts.attributes_since_mode)
        };
        assert_eq!(count_responses(&[b"\x1b[?62;22c"]), (1, None, 1));
        assert_eq!(count_responses(&[b"yx\x1b[?1;2R\x1b[?", b"6c\x1b[?4", b"2;0$", b"y"]), (1, Some(42), 0));
        assert_eq!(count_responses(&[b"\x1b[?42;0$y\x1b[?6c"]), (1, Some(42), 1));
        assert_eq!(count_responses(&[b"\x1b[>0;95;0c\x1b[c\x1b[?1uc"]), (0, None, 0));
    }

    #[test]
    fn queries_are_counted() {
        let count_queries = |bytes: &[u8]| {
            let mut modes = ModeTracker::default();
            modes.parse_output(bytes);
            (modes.query_counts().all, modes.query_counts().attributes)
        };
        assert_eq!(count_queries(b"\x1b[31mtext\x1b[?25l"), (0, 0));
        assert_eq!(count_queries(b"\x1b[c\x1b[0c\x1b[>c"), (3, 2));
        assert_eq!(count_queries(b"\x1b[6n\x1b[?996n\x1b[?u\x1b[?4m\x1b[?2026$p\x1b[4$p\x1b[18t"), (7, 0));
    }
}
