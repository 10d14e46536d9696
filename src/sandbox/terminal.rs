//! The user's terminal while an agent has it: raw, and put back whatever happens.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{self, OptionalActions, QueueSelector, Termios};

use super::screen::{ON_BY_DEFAULT, PRIVATE_MODES};

/// Settings to restore, kept where a panic or a signal finds them too.
static SAVED: Mutex<Option<Termios>> = Mutex::new(None);

/// Tells whether a person sits at both ends: standard input and standard output are terminals.
#[must_use]
pub fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Gives columns and rows of the terminal.
#[must_use]
pub fn size() -> Option<(u16, u16)> {
    let size = termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}

/// Keeps the terminal raw until dropped.
#[derive(Debug)]
pub struct Raw(());

impl Raw {
    /// Makes standard input raw.
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

impl Drop for Raw {
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

/// How long a terminal may take to answer; one at the end of a slow line takes longer, and is flushed all the same.
const ANSWER: Duration = Duration::from_millis(300);
/// How long there must be none after it was answered.
const SILENCE: Duration = Duration::from_millis(40);
/// Bytes of answers that are waited through.
const MOST_ANSWERS: usize = 64 * 1024;

/// Reads away the terminal's answers to what the agent asked, by asking one more question: answers come in order, so after
/// this one there is none. The terminal must be raw. What was typed meanwhile goes too.
pub fn drain() {
    let dumb = std::env::var("TERM").map_or(true, |term| term.is_empty() || term == "dumb");
    if dumb || !is_interactive() {
        return;
    }
    let Ok(mut stdin) = stdin_unbuffered() else { return };
    // Device attributes (DA1): every terminal knows it.
    let mut out = io::stdout().lock();
    if out.write_all(b"\x1b[c").and_then(|()| out.flush()).is_err() {
        return;
    }
    let (mut end, mut seen, mut buffer) = (Instant::now() + ANSWER, Vec::new(), [0; 4096]);
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        let mut watched = [PollFd::new(&stdin, PollFlags::IN)];
        let left = Timespec { tv_sec: 0, tv_nsec: i64::from(left.subsec_nanos()) };
        if !matches!(poll(&mut watched, Some(&left)), Ok(1..)) {
            return;
        }
        match stdin.read(&mut buffer) {
            Ok(n @ 1..) => seen.extend_from_slice(&buffer[..n]),
            _ => return,
        }
        if seen.len() > MOST_ANSWERS {
            return;
        }
        if has_answer(&seen) {
            // It may be the answer to a question of the agent's: ours is on its way then. Silence tells.
            end = end.min(Instant::now() + SILENCE);
        }
    }
}

/// Tells whether the answer to [`drain`]'s question is there: `ESC [ ? numbers c`.
fn has_answer(seen: &[u8]) -> bool {
    let starts = seen.windows(3).enumerate().filter(|(_, w)| w == b"\x1b[?").map(|(at, _)| at + 3);
    starts.into_iter().any(|at| {
        let rest = &seen[at..];
        let numbers = rest.iter().take_while(|b| b.is_ascii_digit() || **b == b';').count();
        rest.get(numbers) == Some(&b'c')
    })
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
    /// `modifyOtherKeys` was set.
    other_keys: bool,
    keypad: bool,
    cursor_shape: bool,
    /// Colours or character sets may have been left.
    drawn: bool,
    /// ANSI modes (SM) that are on: keyboard lock, insert, line feed.
    ansi: BTreeSet<u16>,
    /// A scrolling region was set.
    region: bool,
}

impl Modes {
    /// Takes output in; sequences may be cut anywhere.
    pub fn follow(&mut self, bytes: &[u8]) {
        self.used |= !bytes.is_empty();
        self.parser.advance(&mut self.state, bytes);
    }

    /// Gives what switches everything off that is still on.
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
        let flags: [(bool, &[u8]); 5] = [
            // Setting the region moves the cursor: it is kept.
            (state.region, b"\x1b7\x1b[r\x1b8"),
            (state.other_keys, b"\x1b[>4;0m"),
            (state.keypad, b"\x1b>"),
            (state.cursor_shape, b"\x1b[0 q"),
            // Colours; then the character sets, as a lone SO or `ESC ( 0` turns all our words into line drawing.
            (state.drawn, b"\x1b[0m\x1b(B\x0f"),
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
            _ => self.drawn = true,
        }
    }

    fn esc_dispatch(&mut self, intermediates: &[u8], _: bool, byte: u8) {
        match (intermediates, byte) {
            (b"", b'=') => self.keypad = true,
            (b"", b'>') => self.keypad = false,
            (b"", b'c') => *self = Self::default(),
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
        assert_eq!(after(&[b"\x0e"]), "\x1b[0m\x1b(B\x0f");
        assert_eq!(after(&[b"\x1b[31mred"]), "\x1b[0m\x1b(B\x0f");
        assert_eq!(after(&[b"\x1b[4h\x1b[2h\x1b[4l"]), "\x1b[2l", "a locked keyboard is unlocked");
        assert_eq!(after(&[b"\x1b[2;3r"]), "\x1b7\x1b[r\x1b8");
        assert_eq!(after(&[b"\x1b[?2004hx\x1bc"]), "", "a full reset leaves nothing");
        let all: String = PRIVATE_MODES
            .iter()
            .map(|m| format!("\x1b[?{m}{}", if ON_BY_DEFAULT.contains(m) { 'l' } else { 'h' }))
            .collect();
        let reset = after(&[all.as_bytes()]);
        assert!(PRIVATE_MODES.iter().all(|m| reset.contains(&format!("\x1b[?{m}"))), "whatever may be set is put back");
    }

    #[test]
    fn the_answer_is_told_from_others() {
        assert!(has_answer(b"\x1b[?62;22c") && has_answer(b"x\x1b[?1;2R\x1b[?6c") && has_answer(b"\x1b[?c"));
        assert!(!has_answer(b"\x1b[?62;22") && !has_answer(b"\x1b[>0;95;0c") && !has_answer(b"c\x1b[?1u"));
    }
}
