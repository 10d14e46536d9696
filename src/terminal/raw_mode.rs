//! The user's terminal while an agent has it: raw, and put back whatever happens.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{self, OptionalActions, QueueSelector, Termios};

use super::output_filter::{ON_BY_DEFAULT, PRIVATE_MODES};

/// Settings to restore, kept where a panic or a signal finds them too.
static SAVED: Mutex<Option<Termios>> = Mutex::new(None);

/// Returns whether a person sits at both ends: standard input and standard output are terminals, and this process is in the
/// foreground. A background job that touched the terminal would be stopped.
#[must_use]
pub fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal() && is_foreground()
}

/// Returns whether the terminal at standard input takes keys for this process.
fn is_foreground() -> bool {
    termios::tcgetpgrp(io::stdin()).is_ok_and(|group| group == rustix::process::getpgrp())
}

/// Returns columns and rows of the terminal.
#[must_use]
pub fn size() -> Option<(u16, u16)> {
    let size = termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}

/// Keeps the terminal raw until dropped.
#[derive(Debug)]
pub struct RawModeGuard(());

impl RawModeGuard {
    /// Creates standard input raw.
    ///
    /// # Errors
    /// It is no terminal.
    pub fn enter() -> io::Result<Self> {
        let before = termios::tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        if let Ok(mut saved) = SAVED.lock() {
            *saved = Some(before);
        }
        termios::tcsetattr(io::stdin(), OptionalActions::Drain, &raw)?;
        Ok(Self(()))
    }
}

impl Drop for RawModeGuard {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts the settings back, if they were changed. What was typed meanwhile is thrown away: keys and terminal answers
/// that were meant for the agent must not answer a prompt of ours.
pub fn restore() {
    let before = SAVED.lock().ok().and_then(|mut saved| saved.take());
    if let Some(before) = before {
        // Flush: unread input goes.
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Flush, &before);
    }
}

/// Maximum time for a terminal to answer: at the end of a slow line there may be megabytes before the question.
const ANSWER: Duration = Duration::from_secs(10);
/// Time after which the user gets an explanation.
const QUIET: Duration = Duration::from_secs(1);
/// Pause that ends the answers of a terminal that knows only one of the two questions.
const SILENCE: Duration = Duration::from_millis(40);
/// Mode numbers (DECRQM) that no terminal has and no agent may ask for.
const UNUSED_MODES: std::ops::Range<u16> = 30_000..60_000;

/// Modes that show the alternate screen.
const ALTERNATE: [u16; 3] = [47, 1047, 1049];

/// The terminal has not answered [`drain_answers`]: what it still sends may be the answer to a question of the agent.
static UNANSWERED: AtomicBool = AtomicBool::new(false);

/// The questions that an agent has asked the terminal.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Questions {
    /// Questions of any kind.
    pub all: u64,
    /// Those for the device attributes (DA1).
    pub attributes: u64,
}

/// The answers in what comes from the terminal; sequences may be cut anywhere.
#[derive(Default)]
pub struct Answers {
    parser: vte::Parser,
    found: Found,
}

#[derive(Debug, Default)]
struct Found {
    /// Answers to DA1.
    attributes: u64,
    /// The mode of the last answer to DECRQM.
    mode: Option<u16>,
    /// Answers to DA1 since [`Found::mode`].
    since: u64,
}

impl Answers {
    /// Takes in what came from the terminal.
    pub fn follow(&mut self, bytes: &[u8]) {
        self.parser.advance(&mut self.found, bytes);
    }

    /// Counts the answers to DA1.
    #[must_use]
    pub fn attributes(&self) -> u64 {
        self.found.attributes
    }
}

impl vte::Perform for Found {
    fn csi_dispatch(&mut self, params: &vte::Params, intermediates: &[u8], _: bool, action: char) {
        match (intermediates, action) {
            (b"?", 'c') => {
                self.attributes += 1;
                self.since += 1;
            }
            (b"?$", 'y') => {
                self.mode = params.iter().next().and_then(|p| p.first()).copied();
                self.since = 0;
            }
            _ => {}
        }
    }
}

/// Reads away the terminal's answers to what the agent asked. The terminal must be raw. What was typed meanwhile goes too: on
/// a slow link the user may still answer a question of the agent's, and the terminal's answer shows that they see ours.
///
/// A terminal answers in order, so after the answer to one more question there is none to an earlier one. That question must
/// be one that the agent cannot have asked: it is for a mode (DECRQM) that [`crate::terminal::OutputFilter`] lets no agent ask for,
/// drawn at random. Some terminals do not know this question. Every terminal knows DA1, which the agent may ask as well: so the
/// agent's are counted, and their answers. `open` is what the agent has asked and was not answered; nothing where that is
/// not known.
pub fn drain_answers(asked: Questions, open: Option<u64>) {
    let dumb = std::env::var("TERM").map_or(true, |term| term.is_empty() || term == "dumb");
    if dumb || !is_interactive() {
        return;
    }
    let patience = if asked.all == 0 { QUIET } else { ANSWER };
    UNANSWERED.store(ask_and_wait(unused_mode(), open, patience, false).is_none(), Ordering::SeqCst);
}

/// Draws the number of a mode that no agent can have asked for.
fn unused_mode() -> u16 {
    crate::core::name::random::<2>().map_or(UNUSED_MODES.start, |bytes| {
        UNUSED_MODES.start + u16::from_le_bytes(bytes) % (UNUSED_MODES.end - UNUSED_MODES.start)
    })
}

/// Asks both questions and reads until the last of the answers; nothing if it does not come, or the user does not wait.
/// `explained` says that the user knows about Enter already.
fn ask_and_wait(mode: u16, open: Option<u64>, patience: Duration, mut explained: bool) -> Option<()> {
    let mut stdin = stdin_unbuffered().ok()?;
    {
        let mut out = io::stdout().lock();
        write!(out, "\x1b[?{mode}$p\x1b[c").and_then(|()| out.flush()).ok()?;
    }
    let (begun, mut answers, mut buffer) = (Instant::now(), Answers::default(), [0; 4096]);
    let mut end = begun + patience;
    loop {
        let now = Instant::now();
        let wait = if explained { end } else { end.min(begun + QUIET) }.saturating_duration_since(now);
        let left = Timespec { tv_sec: i64::try_from(wait.as_secs()).ok()?, tv_nsec: i64::from(wait.subsec_nanos()) };
        let mut watched = [PollFd::new(&stdin, PollFlags::IN)];
        match poll(&mut watched, Some(&left)) {
            Ok(1..) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Ok(_) if end < begun + patience => return Some(()),
            Ok(_) if !explained && begun.elapsed() < patience => {
                explained = true;
                let _ =
                    io::stderr().write_all(b"airlock: waiting for your terminal to answer (Enter: do not wait)\r\n");
                continue;
            }
            _ => return None,
        }
        let n = stdin.read(&mut buffer).ok().filter(|n| *n > 0)?;
        answers.follow(&buffer[..n]);
        // No answer of a terminal has one.
        if explained && buffer[..n].contains(&b'\r') {
            return None;
        }
        let found = &answers.found;
        let is_last = found.mode == Some(mode) && found.since > 0;
        let is_counted = open.is_some_and(|open| found.attributes > open);
        if is_last {
            return Some(());
        }
        if is_counted {
            // A terminal that does not know the other question; one more answer would be on its heels.
            end = end.min(Instant::now() + SILENCE);
        }
    }
}

/// Waits for the terminal where it has not answered [`drain_answers`]: what it still sends must not count as keys. Returns whether keys
/// can be trusted now. Enter alone is no proof: the answers to an agent's questions may still be on their way, and some look
/// like keys. So whoever does not wait gets no review here, and starts it when they like.
pub fn wait_until_settled() -> io::Result<bool> {
    if !UNANSWERED.swap(false, Ordering::SeqCst) || !is_interactive() {
        return Ok(true);
    }
    io::stderr().write_all(b"airlock: your terminal has not answered yet; waiting for it (Enter: no review now)\n")?;
    let raw = RawModeGuard::enter()?;
    let answered = ask_and_wait(unused_mode(), None, ANSWER, true).is_some();
    drop(raw);
    Ok(answered)
}

/// Throws away what was typed ahead.
pub fn discard_input() {
    if io::stdin().is_terminal() {
        let _ = termios::tcflush(io::stdin(), QueueSelector::IFlush);
    }
}

/// Follows an agent's output and knows which modes it has left on.
#[derive(Default)]
pub struct Modes {
    parser: vte::Parser,
    state: ModeState,
    /// Anything came at all.
    used: bool,
}

#[derive(Debug, Default)]
struct ModeState {
    /// Modes that are not at their default.
    changed: BTreeSet<u16>,
    /// The keyboard protocol was used; each screen has a stack of its own.
    keyboard: bool,
    /// The alternate screen was used.
    alternate: bool,
    /// `modifyOtherKeys` was set.
    other_keys: bool,
    keypad: bool,
    cursor_shape: bool,
    /// Colors or character sets may have been left.
    drawn: bool,
    /// ANSI modes (SM) that are on: keyboard lock, insert, line feed.
    ansi: BTreeSet<u16>,
    /// A scrolling region was set.
    region: bool,
    /// A hyperlink was opened, and may be open.
    link: bool,
    questions: Questions,
}

impl Modes {
    /// Takes output in; sequences may be cut anywhere.
    pub fn follow(&mut self, bytes: &[u8]) {
        self.used |= !bytes.is_empty();
        self.parser.advance(&mut self.state, bytes);
    }

    /// Counts what was asked.
    #[must_use]
    pub fn questions(&self) -> Questions {
        self.state.questions
    }

    /// Returns what switches everything off that is still on.
    #[must_use]
    pub fn reset(&self) -> Vec<u8> {
        let state = &self.state;
        let mut out = Vec::new();
        if self.used {
            // Ends a string that was left open, which would swallow everything that follows.
            out.extend_from_slice(b"\x1b\\");
        }
        // What is too much to pop is no error; once on the screen that it is left on, and once on the main one.
        let keyboard: &[u8] = if state.keyboard { b"\x1b[<99u\x1b[=0u" } else { b"" };
        out.extend_from_slice(keyboard);
        for mode in &state.ansi {
            let _ = write!(out, "\x1b[{mode}l");
        }
        for mode in &state.changed {
            let letter = if ON_BY_DEFAULT.contains(mode) { 'h' } else { 'l' };
            let _ = write!(out, "\x1b[?{mode}{letter}");
        }
        out.extend_from_slice(keyboard);
        if state.keyboard && state.alternate && !state.changed.iter().any(|mode| ALTERNATE.contains(mode)) {
            // It has left the alternate screen, whose stack is still full.
            out.extend_from_slice(b"\x1b[?1049h\x1b[<99u\x1b[=0u\x1b[?1049l");
        }
        let flags: [(bool, &[u8]); 6] = [
            // No reset of colors ends a hyperlink.
            (state.link, b"\x1b]8;;\x1b\\"),
            // Setting the region moves the cursor: it is kept.
            (state.region, b"\x1b7\x1b[r\x1b8"),
            (state.other_keys, b"\x1b[>4;0m"),
            (state.keypad, b"\x1b>"),
            (state.cursor_shape, b"\x1b[0 q"),
            // Colors; then the character sets, as a lone SO or `ESC ( 0` turns all our words into line drawing.
            (state.drawn, b"\x1b[0m\x1b(B\x1b)B\x0f"),
        ];
        for (on, sequence) in flags {
            if on {
                out.extend_from_slice(sequence);
            }
        }
        out
    }
}

impl vte::Perform for ModeState {
    fn print(&mut self, _: char) {
        self.drawn = true;
    }

    fn execute(&mut self, byte: u8) {
        // Another character set.
        self.drawn |= byte == 0x0e;
    }

    fn csi_dispatch(&mut self, params: &vte::Params, intermediates: &[u8], _: bool, action: char) {
        let first = params.iter().next().and_then(|p| p.first()).copied().unwrap_or(0);
        match (intermediates, action) {
            (b"?", 'h' | 'l') => {
                for mode in params.iter().filter_map(|p| p.first().copied()) {
                    self.alternate |= ALTERNATE.contains(&mode);
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
            (b"", 'r') => self.region = true,
            (b"=" | b">", 'u') => self.keyboard = true,
            (b"<", 'u') => {}
            (b">", 'm') if first == 4 => self.other_keys = params.iter().nth(1).is_some_and(|p| p.first() != Some(&0)),
            (b" ", 'q') => self.cursor_shape = first != 0,
            (b"", 'c') => {
                self.questions.all += 1;
                self.questions.attributes += 1;
            }
            (b">", 'c') | (b"" | b"?", 'n') | (b"?", 'u' | 'm') | (b"$" | b"?$", 'p') => self.questions.all += 1,
            (b"", 't') if matches!(first, 14 | 16 | 18) => self.questions.all += 1,
            _ => self.drawn = true,
        }
    }

    fn osc_dispatch(&mut self, params: &[&[u8]], _: bool) {
        self.link |= params.first() == Some(&&b"8"[..]);
    }

    fn esc_dispatch(&mut self, intermediates: &[u8], _: bool, byte: u8) {
        match (intermediates, byte) {
            (b"", b'=') => self.keypad = true,
            (b"", b'>') => self.keypad = false,
            _ => self.drawn = true,
        }
    }
}

/// Duplicates standard input for a thread that polls it: buffering readers would swallow what comes after the agent.
///
/// # Errors
/// No more descriptors.
pub fn stdin_unbuffered() -> io::Result<File> {
    use std::os::fd::AsFd;
    Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reset_after(pieces: &[&[u8]]) -> String {
        let mut modes = Modes::default();
        pieces.iter().for_each(|p| modes.follow(p));
        String::from_utf8(modes.reset()).expect("ASCII")
    }

    #[test]
    fn what_was_left_on_is_switched_off_and_nothing_else() {
        let after =
            |pieces: &[&[u8]]| reset_after(pieces).strip_prefix("\x1b\\").expect("a string is ended").to_owned();
        assert_eq!(reset_after(&[b""]), "");
        assert_eq!(after(&[b"\x1b[?1049h\x1b[?25l\x1b[?1049l\x1b[?25h"]), "");
        // Cut in the middle; two modes in one sequence; the cursor is on by default.
        assert_eq!(after(&[b"\x1b[?10", b"00;2004h", b"\x1b[?25l"]), "\x1b[?25h\x1b[?1000l\x1b[?2004l");
        assert_eq!(
            after(&[b"\x1b[>1u\x1b[>1u\x1b[<u\x1b=\x1b[5 q"]),
            "\x1b[<99u\x1b[=0u\x1b[<99u\x1b[=0u\x1b>\x1b[0 q"
        );
        let left = after(&[b"\x1b[?1049h\x1b[>31u\x1b[?1049l"]);
        assert_eq!(left, "\x1b[<99u\x1b[=0u\x1b[<99u\x1b[=0u\x1b[?1049h\x1b[<99u\x1b[=0u\x1b[?1049l", "its own stack");
        assert_eq!(after(&[b"\x0e"]), "\x1b[0m\x1b(B\x1b)B\x0f");
        assert_eq!(after(&[b"\x1b[31mred"]), "\x1b[0m\x1b(B\x1b)B\x0f");
        let link = after(&[b"\x1b]8;;https://evil.example/\x1b\\x"]);
        assert_eq!(link, "\x1b]8;;\x1b\\\x1b[0m\x1b(B\x1b)B\x0f", "an open link is closed");
        assert_eq!(after(&[b"\x1b[4h\x1b[2h\x1b[4l"]), "\x1b[2l", "a locked keyboard is unlocked");
        assert_eq!(after(&[b"\x1b[2;3r"]), "\x1b7\x1b[r\x1b8");
        let all: String = PRIVATE_MODES
            .iter()
            .map(|m| format!("\x1b[?{m}{}", if ON_BY_DEFAULT.contains(m) { 'l' } else { 'h' }))
            .collect();
        let reset = after(&[all.as_bytes()]);
        assert!(PRIVATE_MODES.iter().all(|m| reset.contains(&format!("\x1b[?{m}"))), "whatever may be set is put back");
    }

    #[test]
    fn answers_are_counted_wherever_they_are_cut() {
        let answers = |pieces: &[&[u8]]| {
            let mut answers = Answers::default();
            pieces.iter().for_each(|p| answers.follow(p));
            (answers.found.attributes, answers.found.mode, answers.found.since)
        };
        assert_eq!(answers(&[b"\x1b[?62;22c"]), (1, None, 1));
        assert_eq!(answers(&[b"yx\x1b[?1;2R\x1b[?", b"6c\x1b[?4", b"2;0$", b"y"]), (1, Some(42), 0));
        assert_eq!(answers(&[b"\x1b[?42;0$y\x1b[?6c"]), (1, Some(42), 1));
        assert_eq!(answers(&[b"\x1b[>0;95;0c\x1b[c\x1b[?1uc"]), (0, None, 0));
    }

    #[test]
    fn questions_are_counted() {
        let asked = |bytes: &[u8]| {
            let mut modes = Modes::default();
            modes.follow(bytes);
            (modes.questions().all, modes.questions().attributes)
        };
        assert_eq!(asked(b"\x1b[31mtext\x1b[?25l"), (0, 0));
        assert_eq!(asked(b"\x1b[c\x1b[0c\x1b[>c"), (3, 2));
        assert_eq!(asked(b"\x1b[6n\x1b[?996n\x1b[?u\x1b[?4m\x1b[?2026$p\x1b[4$p\x1b[18t"), (7, 0));
    }
}
