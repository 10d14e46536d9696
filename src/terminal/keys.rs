//! Keys of the user that mean something to Airlock: repeated Ctrl-C, Ctrl-Z, and the keys that detach.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Number of presses of Ctrl-C, and the time within which they must occur, to end an agent that does not react.
const CTRL_C_PRESSES: usize = 3;
const CTRL_C_WINDOW: Duration = Duration::from_secs(1);
/// Time within which the keys that detach must be pressed.
const DETACH_WINDOW: Duration = Duration::from_secs(1);
/// Codes of modifier keys in kitty's protocol.
const MODIFIER_KEYS: std::ops::RangeInclusive<u32> = 57441..=57454;
/// Maximum number of keys that detach.
const MAX_DETACH_KEYS: usize = 8;

/// A detector for repeated Ctrl-C.
#[derive(Debug, Default)]
pub struct CtrlCDetector {
    /// The times of the last presses.
    pressed: VecDeque<Instant>,
}

impl CtrlCDetector {
    /// Processes input that was typed at `now`, and returns whether Ctrl-C was pressed often enough to end the agent.
    pub fn detect_presses(&mut self, typed: &[u8], now: Instant) -> bool {
        // A byte, or a sequence if the agent has enabled a keyboard protocol.
        let bytes = memchr::memchr_iter(0x03, typed).count();
        let sequences =
            memchr::memmem::find_iter(typed, b"\x1b[").filter(|at| is_ctrl_key(&typed[at + 2..], C)).count();
        let n = bytes + sequences;
        self.pressed.extend(std::iter::repeat_n(now, n));
        self.pressed.retain(|at| now.saturating_duration_since(*at) < CTRL_C_WINDOW);
        self.pressed.len() >= CTRL_C_PRESSES
    }
}

/// The letters C and Z, and those on the same keys of a Cyrillic layout.
const C: [u32; 2] = [99, 1089];
const Z: [u32; 2] = [122, 1103];

/// Returns whether Ctrl-Z was pressed.
#[must_use]
pub fn has_ctrl_z(typed: &[u8]) -> bool {
    typed.contains(&0x1a) || memchr::memmem::find_iter(typed, b"\x1b[").any(|at| is_ctrl_key(&typed[at + 2..], Z))
}

/// Returns whether Ctrl was pressed with a key, given the text after the start of a sequence.
fn is_ctrl_key(text: &[u8], letters: [u32; 2]) -> bool {
    parse_sequence(text).is_some_and(|press| press.is_ctrl && press.codes.iter().any(|code| letters.contains(code)))
}

/// A press of a key.
#[derive(Debug, PartialEq, Eq)]
struct KeyPress {
    /// The character, and those on the same key in other states or layouts.
    codes: Vec<u32>,
    is_ctrl: bool,
}

/// Parses the text after the start of a sequence; returns `None` if it is not the press of a key.
///
/// The text is `99;5u` (kitty's protocol, possibly with other modifiers, an event and the key of another layout) or
/// `27;5;99~` (xterm's).
fn parse_sequence(text: &[u8]) -> Option<KeyPress> {
    const CTRL: u32 = 4;
    const RELEASE: u32 = 3;
    let end = text.iter().position(|b| (0x40..=0x7e).contains(b))?;
    let parse_field = |field: &[u8]| -> Vec<u32> {
        let parse = |n: &[u8]| std::str::from_utf8(n).ok()?.parse().ok();
        field.split(|b| *b == b':').map(|n| parse(n).unwrap_or_default()).collect()
    };
    let fields: Vec<Vec<u32>> = text[..end].split(|b| *b == b';').map(parse_field).collect();
    let no_modifiers = vec![1];
    let (codes, modifiers) = match (text[end], fields.as_slice()) {
        (b'u', [codes]) => (codes, &no_modifiers),
        (b'u', [codes, modifiers, ..]) => (codes, modifiers),
        (b'~', [first, modifiers, codes]) if first.as_slice() == [27] => (codes, modifiers),
        _ => return None,
    };
    if modifiers.get(1) == Some(&RELEASE) || codes.first().is_some_and(|code| MODIFIER_KEYS.contains(code)) {
        return None;
    }
    let held_modifiers = modifiers.first().map_or(0, |n| n.saturating_sub(1));
    Some(KeyPress { codes: codes.clone(), is_ctrl: held_modifiers & CTRL != 0 })
}

/// The keys that detach, such as `ctrl-],ctrl-],ctrl-]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetachKeys(Vec<(u8, bool)>);

impl DetachKeys {
    /// The keys that a user without a setting presses.
    pub const DEFAULT: &str = "ctrl-],ctrl-],ctrl-]";
}

impl std::str::FromStr for DetachKeys {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(Vec::new()));
        }
        let is_ctrl = |word: &str| word.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("ctrl-"));
        let parse_key = |word: &str| match if is_ctrl(word) { &word.as_bytes()[5..] } else { word.as_bytes() } {
            [b'c' | b'z'] if word.len() > 1 => Err(format!("{word} has another meaning")),
            [key] if word.len() == 1 && key.is_ascii_graphic() => Ok((*key, false)),
            [key] if matches!(key, b'a'..=b'z' | b'@' | b'[' | b'\\' | b']' | b'^' | b'_') => Ok((*key, true)),
            _ => Err(format!("`{word}` is neither a character nor ctrl- with a letter or one of @ [ \\ ] ^ _")),
        };
        let keys = text.split(',').map(str::trim).map(parse_key).collect::<Result<Vec<_>, _>>()?;
        if keys.len() > MAX_DETACH_KEYS {
            return Err(format!("there are more than {MAX_DETACH_KEYS} keys"));
        }
        if keys.iter().all(|(_, is_ctrl)| !is_ctrl) {
            return Err("without a key with ctrl-, text would detach".into());
        }
        Ok(Self(keys))
    }
}

/// Detects the keys that detach.
#[derive(Debug)]
pub struct DetachDetector {
    keys: DetachKeys,
    /// The times of the last presses that are the start of the keys.
    pressed: Vec<Instant>,
}

impl DetachDetector {
    /// Creates a detector of these keys.
    #[must_use]
    pub fn new(keys: DetachKeys) -> Self {
        Self { keys, pressed: Vec::new() }
    }

    /// Processes input that was typed at `now`. If the keys are complete, returns the position of the last one.
    pub fn find_detach(&mut self, typed: &[u8], now: Instant) -> Option<usize> {
        let mut at = 0;
        while at < typed.len() {
            let (press, length) = next_press(&typed[at..]);
            let Some(press) = press else {
                at += length;
                continue;
            };
            self.pressed.retain(|time| now.saturating_duration_since(*time) < DETACH_WINDOW);
            let is_next = |n: usize| {
                self.keys
                    .0
                    .get(n)
                    .is_some_and(|(key, is_ctrl)| press.is_ctrl == *is_ctrl && press.codes.contains(&u32::from(*key)))
            };
            if is_next(self.pressed.len()) {
                self.pressed.push(now);
            } else {
                self.pressed.clear();
                if is_next(0) {
                    self.pressed.push(now);
                }
            }
            if !self.keys.0.is_empty() && self.pressed.len() == self.keys.0.len() {
                self.pressed.clear();
                return Some(at);
            }
            at += length;
        }
        None
    }
}

/// Returns the first press of a key, if it is one, and the number of its bytes.
fn next_press(typed: &[u8]) -> (Option<KeyPress>, usize) {
    if let Some(text) = typed.strip_prefix(b"\x1b[") {
        let length = text.iter().position(|b| (0x40..=0x7e).contains(b)).map_or(typed.len(), |end| end + 3);
        return (parse_sequence(text), length);
    }
    let press = match typed[0] {
        byte @ 0..0x20 => KeyPress { codes: vec![u32::from((byte | 0x40).to_ascii_lowercase())], is_ctrl: true },
        byte => KeyPress { codes: vec![u32::from(byte)], is_ctrl: false },
    };
    (Some(press), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ctrl_c_three_times_within_a_second_ends_agent() {
        let (start, ms) = (Instant::now(), Duration::from_millis);
        let detects_presses = |keys: &[(u64, &[u8])]| {
            let mut detector = CtrlCDetector::default();
            keys.iter().any(|(time, input)| detector.detect_presses(input, start + ms(*time)))
        };
        assert!(detects_presses(&[(0, b"\x03"), (400, b"\x03"), (900, b"\x03")]));
        assert!(detects_presses(&[(0, b"\x03\x03\x03")]));
        assert!(detects_presses(&[(0, b"\x1b[99;5u"), (1, b"\x1b[27;5;99~"), (2, b"\x03")]));
        assert!(!detects_presses(&[(0, b"\x03"), (600, b"\x03"), (1200, b"\x03"), (1800, b"\x03")]));
        assert!(!detects_presses(&[(0, b"\x03\x03"), (10, b"c\x1b[99u")]));
        // With a lock key on, with the event type, and with another keyboard layout. A release does not count.
        assert!(detects_presses(&[(0, b"\x1b[99;133u"), (1, b"\x1b[99;5:1u"), (2, b"\x1b[1089::99;5u")]));
        assert!(!detects_presses(&[(0, b"\x1b[99;5:3u\x1b[99;5:3u\x1b[99;5:3u")]));
        assert!(!detects_presses(&[(0, b"\x1b[99;2u\x1b[98;5u\x1b[5;5~\x1b[")]));
        assert!(has_ctrl_z(b"a\x1a") && has_ctrl_z(b"\x1b[122;5u") && !has_ctrl_z(b"\x1b[122;5:3u z\x1b[99;5u"));
    }

    #[test]
    fn detach_keys_are_detected_within_a_second() {
        let (start, ms) = (Instant::now(), Duration::from_millis);
        let detects = |keys: &str, typed: &[(u64, &[u8])]| {
            let mut detector = DetachDetector::new(keys.parse().expect("valid keys"));
            typed.iter().find_map(|(time, input)| detector.find_detach(input, start + ms(*time)))
        };
        let default = DetachKeys::DEFAULT;
        assert_eq!(detects(default, &[(0, b"ab\x1d\x1d\x1dc")]), Some(4));
        assert_eq!(detects(default, &[(0, b"\x1d"), (400, b"\x1d"), (900, b"\x1d")]), Some(0));
        assert_eq!(detects(default, &[(0, b"\x1d"), (600, b"\x1d"), (1200, b"\x1d")]), None);
        assert_eq!(detects(default, &[(0, b"\x1d\x1dx\x1d")]), None, "another key is between them");
        // Kitty's protocol, with releases between the presses, and xterm's.
        let kitty = b"\x1b[93;5u\x1b[93;5:3u\x1b[93;5:1u\x1b[93;5:3u\x1b[93;5u";
        assert_eq!(detects(default, &[(0, kitty)]), Some(kitty.len() - 7));
        assert_eq!(detects(default, &[(0, b"\x1b[27;5;93~\x1b[27;5;93~\x1b[27;5;93~")]), Some(20));
        assert_eq!(detects("ctrl-p,ctrl-q", &[(0, b"\x10"), (1, b"\x11")]), Some(0));
        assert_eq!(detects("ctrl-b,d", &[(0, b"\x02\x02d")]), Some(2), "the first key is pressed twice");
        assert_eq!(detects("none", &[(0, b"\x1d\x1d\x1d")]), None);
        assert_eq!("Ctrl-b, d".parse(), "ctrl-b,d".parse::<DetachKeys>());
        // With kitty's protocol, a terminal may report Ctrl itself as a key.
        let with_ctrl = b"\x1b[57442;5u\x1b[93;5u\x1b[57442;5:3u".repeat(3);
        assert!(detects(default, &[(0, &with_ctrl)]).is_some());
        for bad in ["", "d", "ctrl-", "ctrl-1", "ctrl-A", "shift-a", "ctrl-a,,b", "a,b,c", "ctrl-c", "ctrl-z,ctrl-b"] {
            assert!(bad.parse::<DetachKeys>().is_err(), "{bad}");
        }
    }
}
