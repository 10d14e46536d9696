//! Filters an agent's output before it reaches the user's terminal.
//!
//! A terminal obeys control sequences: they can write to the clipboard, print, or make the terminal send text that counts as
//! typed input. The filter therefore parses the output and writes it again from an allow-list: text, drawing, the modes that
//! full-screen programs need, and the queries that Claude Code sends. Everything else is dropped and counted.
//!
//! Sequences: ECMA-48, and xterm's `ctlseqs` for the private ones.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::core::escape::is_hidden;

/// Private modes (DECSET) that an agent may set. Each is off by default, or listed in [`ON_BY_DEFAULT`], and is reset at the
/// end.
pub(crate) const PRIVATE_MODES: [u16; 22] =
    [1, 5, 6, 7, 25, 47, 66, 1000, 1002, 1003, 1004, 1005, 1006, 1015, 1016, 1047, 1048, 1049, 2004, 2026, 2027, 2031];
/// The private modes that are on by default: wrapping and the cursor.
pub(crate) const ON_BY_DEFAULT: [u16; 2] = [7, 25];
/// ANSI modes (SM): insert and line feed, but not the keyboard lock.
const ANSI_MODES: [u16; 2] = [4, 20];
/// Maximum number of repetitions of a character (REP).
const MAX_REPEATS: u16 = 1000;
/// Maximum number of characters of a title.
const MAX_TITLE_CHARS: usize = 200;
/// Limit in bytes of a hyperlink address. A longer address may be incomplete, because the parser truncates strings at 1,024
/// bytes.
const MAX_LINK_BYTES: usize = 900;

/// The command (OSC) by which the launcher reports that the agent was stopped, see `guest/init.rs`.
const STOPPED: &[u8] = b"airlock-stopped";
/// The OSC command by which the launcher reports that it continues.
const CONTINUED: &[u8] = b"airlock-continued";
/// Maximum number of titles that an agent may push at once.
const MAX_TITLES: u32 = 8;

/// Filters an agent's output.
#[derive(Default)]
pub struct OutputFilter {
    parser: vte::Parser,
    sequence_filter: EscapeSequenceFilter,
    /// Whether the last byte was an escape. The next byte may start a string that the parser skips without reporting it.
    is_after_escape: bool,
    /// An incomplete character at the end of the input. The parser loses bytes next to a split character.
    partial_char: Vec<u8>,
}

#[derive(Default)]
struct EscapeSequenceFilter {
    out: String,
    dropped: BTreeMap<&'static str, u64>,
    /// Whether the user's title is saved, which happens before the agent sets its first title.
    is_title_saved: bool,
    /// Titles that the agent has pushed and not popped.
    pushed_titles: u32,
    /// Whether the scrollback may be erased, as Claude Code does when it redraws its screen.
    may_erase_scrollback: bool,
    /// Whether the launcher has reported that the agent was stopped. An agent can forge the report.
    is_stopped: bool,
    is_continued: bool,
}

impl OutputFilter {
    /// Allows the agent to erase the scrollback.
    #[must_use]
    pub fn with_scrollback_erase(mut self) -> Self {
        self.sequence_filter.may_erase_scrollback = true;
        self
    }

    /// Returns the allowed part of a chunk of output. Chunks may be split anywhere.
    pub fn filter_bytes(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = [&std::mem::take(&mut self.partial_char), bytes].concat();
        self.partial_char = bytes.split_off(bytes.len() - incomplete_len(&bytes));
        for byte in &bytes {
            if self.is_after_escape {
                let string = match byte {
                    b'P' => Some("an image or setting (DCS)"),
                    b'_' => Some("an image or command (APC)"),
                    b'^' => Some("a private message (PM)"),
                    b'X' => Some("a string (SOS)"),
                    _ => None,
                };
                string.into_iter().for_each(|s| self.sequence_filter.count_dropped(s));
            }
            self.is_after_escape = *byte == 0x1b;
        }
        self.parser.advance(&mut self.sequence_filter, &bytes);
        std::mem::take(&mut self.sequence_filter.out).into_bytes()
    }

    /// Returns whether the agent was reported as stopped since the last call.
    pub fn take_stopped(&mut self) -> bool {
        std::mem::take(&mut self.sequence_filter.is_stopped)
    }

    /// Returns whether the command was continued since the last call.
    pub(crate) fn take_continued(&mut self) -> bool {
        std::mem::take(&mut self.sequence_filter.is_continued)
    }

    /// Returns the number of dropped sequences of each kind.
    #[must_use]
    pub fn dropped_sequences(&self) -> &BTreeMap<&'static str, u64> {
        &self.sequence_filter.dropped
    }
}

/// Returns the number of bytes at the end that are the start of an incomplete character.
fn incomplete_len(bytes: &[u8]) -> usize {
    let is_beginning = |n: &usize| {
        let tail = &bytes[bytes.len() - n..];
        std::str::from_utf8(tail).is_err_and(|e| e.valid_up_to() == 0 && e.error_len().is_none())
    };
    (1..=bytes.len().min(3)).rev().find(is_beginning).unwrap_or(0)
}

impl EscapeSequenceFilter {
    fn count_dropped(&mut self, kind: &'static str) {
        let count = self.dropped.entry(kind).or_default();
        *count = count.saturating_add(1);
    }

    /// Pushes or pops a title of the agent. The user's title is at the bottom of the stack and is never popped.
    fn push_or_pop_title(&mut self, is_push: bool, params: &[&[u16]]) {
        if is_push && self.pushed_titles < MAX_TITLES {
            self.save_title();
            self.pushed_titles += 1;
            self.write_csi(params, "", "", 't');
        } else if !is_push && self.pushed_titles > 0 {
            self.pushed_titles -= 1;
            self.write_csi(params, "", "", 't');
        }
    }

    fn save_title(&mut self) {
        if !self.is_title_saved {
            self.is_title_saved = true;
            self.out += "\x1b[22;0t";
        }
    }

    /// Writes a control sequence in its canonical form.
    fn write_csi(&mut self, params: &[&[u16]], prefix: &str, intermediates: &str, action: char) {
        self.out += "\x1b[";
        self.out += prefix;
        // A single parameter 0 is the same as no parameter.
        if !(params.len() == 1 && params[0] == [0]) {
            for (at, param) in params.iter().enumerate() {
                if at > 0 {
                    self.out.push(';');
                }
                for (at, part) in param.iter().enumerate() {
                    let colon = if at > 0 { ":" } else { "" };
                    let _ = write!(self.out, "{colon}{part}");
                }
            }
        }
        self.out += intermediates;
        self.out.push(action);
    }
}

/// Returns whether a control sequence is allowed as it is. `first` is its first parameter, and `count` the number of
/// parameters.
fn is_allowed(prefix: &str, intermediates: &str, action: char, first: u16, count: usize) -> bool {
    match (prefix, intermediates, action) {
        // Moving, erasing, inserting, deleting, scrolling, colors, the scrolling region, and restoring the cursor.
        ("", "", 'A'..='M' | 'P' | 'S' | 'T' | 'X' | 'Z' | '@' | '`' | 'a' | 'd'..='f' | 'm' | 'r' | 'u') => true,
        // A repeated character, up to a limit.
        ("", "", 'b') => first <= MAX_REPEATS,
        ("", "", 's') => count == 1 && first == 0,
        ("?", "", 'K') => true,
        ("?", "", 'J') => first != 3,
        // The cursor shape, a soft reset, and keyboard protocols.
        ("", " ", 'q') | ("", "!", 'p') | ("<" | ">" | "=", "", 'u') => true,
        (">", "", 'm') => first == 4,
        // Queries whose answer is a single control sequence of numbers, which no input reader takes for letters: cursor
        // position, terminal type, colors. Not the terminal's name (XTVERSION) or unit ID (DA3), whose answers are text.
        ("" | ">", "", 'c') => first == 0,
        ("", "", 'n') => matches!(first, 5 | 6),
        ("?", "", 'n') => matches!(first, 6 | 996),
        ("?", "", 'u' | 'm') => true,
        // Queries for the modes that an agent may set. The query that ends a run is for another mode.
        ("?", "$", 'p') => count == 1 && PRIVATE_MODES.contains(&first),
        ("", "$", 'p') => count == 1 && ANSI_MODES.contains(&first),
        // The size. Not a report of the title, which the terminal would send as input.
        ("", "", 't') => matches!(first, 14 | 16 | 18),
        _ => false,
    }
}

impl vte::Perform for EscapeSequenceFilter {
    fn print(&mut self, c: char) {
        if ('\u{80}'..='\u{9f}').contains(&c) {
            self.count_dropped("control characters (C1)");
        } else {
            self.out.push(c);
        }
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            // SO and SI switch to line drawing and back, as ncurses does under tmux. This is reset at the end.
            b'\x07'..=b'\r' | 0x0e | 0x0f => self.out.push(char::from(byte)),
            0x80..=0x9f => self.count_dropped("control characters (C1)"),
            // These include queries (ENQ) and flow control.
            _ => self.count_dropped("control characters (C0)"),
        }
    }

    fn csi_dispatch(&mut self, params: &vte::Params, intermediates: &[u8], ignore: bool, action: char) {
        // The parser returns the private prefix and the intermediates in one list.
        let text = String::from_utf8_lossy(intermediates);
        let prefix_len = text.find(|c| !('<'..='?').contains(&c)).unwrap_or(text.len());
        let (prefix, rest) = text.split_at(prefix_len);
        let params: Vec<&[u16]> = params.iter().collect();
        let first = params.first().and_then(|p| p.first()).copied().unwrap_or(0);
        if ignore {
            return self.count_dropped("control sequences (CSI)");
        }
        if let ("" | "?", "", 'h' | 'l') = (prefix, rest, action) {
            let allowed_modes: &[u16] = if prefix.is_empty() { &ANSI_MODES } else { &PRIVATE_MODES };
            let allowed: Vec<&[u16]> = params.iter().copied().filter(|p| allowed_modes.contains(&p[0])).collect();
            if allowed.len() < params.len() {
                self.count_dropped("control sequences (CSI)");
            }
            if !allowed.is_empty() {
                self.write_csi(&allowed, prefix, rest, action);
            }
        } else if let ("", "", 't', 22 | 23) = (prefix, rest, action, first) {
            self.push_or_pop_title(first == 22, &params);
        } else if let ("" | "?", "", 'J', 3) = (prefix, rest, action, first) {
            // Programs send this together with the sequence that clears the screen. The visible result is the same without it.
            if self.may_erase_scrollback {
                self.write_csi(&params, prefix, rest, action);
            }
        } else if let (">" | "=", "", 'q' | 'c', 0) = (prefix, rest, action, first)
            && (prefix, action) != (">", 'c')
        {
            // Claude Code queries the terminal's name but does not need an answer, so this is not counted as dropped.
        } else if is_allowed(prefix, rest, action, first, params.len()) {
            self.write_csi(&params, prefix, rest, action);
        } else {
            self.count_dropped("control sequences (CSI)");
        }
    }

    fn osc_dispatch(&mut self, params: &[&[u8]], _: bool) {
        let text = |from: usize| {
            let bytes = params.get(from..).unwrap_or_default().join(&b';');
            String::from_utf8_lossy(&bytes).into_owned()
        };
        match params.first().copied() {
            Some(STOPPED) if params.len() == 1 => self.is_stopped = true,
            Some(CONTINUED) if params.len() == 1 => self.is_continued = true,
            Some(number @ (b"0" | b"2")) => {
                self.save_title();
                let title: String = text(1).chars().filter(|c| !is_hidden(*c)).take(MAX_TITLE_CHARS).collect();
                let _ = write!(self.out, "\x1b]{};{title}\x1b\\", String::from_utf8_lossy(number));
            }
            Some(b"8") => {
                let (id, address) = (params.get(1).copied().unwrap_or_default(), text(2));
                let is_printable = |s: &str| s.bytes().all(|b| b.is_ascii_graphic());
                let link_id =
                    id.strip_prefix(b"id=").filter(|id| id.iter().all(u8::is_ascii_alphanumeric) && id.len() < 64);
                let id = link_id.map_or_else(String::new, |id| format!("id={}", String::from_utf8_lossy(id)));
                let lower = address.to_ascii_lowercase();
                let is_web = lower.starts_with("http://") || lower.starts_with("https://");
                if address.is_empty() || is_web && is_printable(&address) && address.len() < MAX_LINK_BYTES {
                    let _ = write!(self.out, "\x1b]8;{id};{address}\x1b\\");
                } else {
                    // The text of the link is kept, and an open link ends here.
                    self.out += "\x1b]8;;\x1b\\";
                    self.count_dropped("a non-web link (OSC 8)");
                }
            }
            Some(b"52") => self.count_dropped("a clipboard write (OSC 52)"),
            Some(b"9" | b"99" | b"777") => self.count_dropped("a notification (OSC 9, 99, 777)"),
            Some(b"4" | b"5" | b"10" | b"11" | b"12" | b"104" | b"110" | b"111" | b"112") => {
                self.count_dropped("a terminal color (OSC 4, 10 to 12)");
            }
            Some(b"7") => self.count_dropped("a working directory (OSC 7)"),
            Some(b"1337") => self.count_dropped("an iTerm2 command (OSC 1337)"),
            _ => self.count_dropped("other terminal commands (OSC)"),
        }
    }

    fn esc_dispatch(&mut self, intermediates: &[u8], ignore: bool, byte: u8) {
        let text = match (intermediates, byte) {
            // The end of a string.
            (b"", b'\\') => return,
            (b"", b'7' | b'8' | b'=' | b'>' | b'D' | b'E' | b'M') => format!("\x1b{}", char::from(byte)),
            // A full reset would erase the scrollback and the user's settings. A soft reset and a cleared screen look the same.
            (b"", b'c') => "\x1b[!p\x1b[H\x1b[2J".to_owned(),
            (b"(" | b")", b'B' | b'0') => format!("\x1b{}{}", char::from(intermediates[0]), char::from(byte)),
            _ => return self.count_dropped("escape sequences (ESC)"),
        };
        if ignore { self.count_dropped("escape sequences (ESC)") } else { self.out += &text }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pass(bytes: &[u8]) -> (String, u64) {
        let mut filter = OutputFilter::default();
        let out = filter.filter_bytes(bytes);
        (String::from_utf8(out).expect("UTF-8"), filter.dropped_sequences().values().sum())
    }

    #[test]
    fn reports_of_the_launcher_are_noticed_and_not_shown() {
        let mut filter = OutputFilter::default();
        assert_eq!(filter.filter_bytes(b"a\x1b]airlock-stopped\x07b"), b"ab");
        assert!(filter.take_stopped() && !filter.take_stopped() && !filter.take_continued());
        assert_eq!(filter.filter_bytes(b"\x1b]airlock-continued\x07c"), b"c");
        assert!(filter.take_continued() && !filter.take_continued() && !filter.take_stopped());
    }

    #[test]
    fn output_of_claude_passes_unchanged() {
        for sequence in [
            "\x1b[?25l",
            "\x1b[?2004h",
            "\x1b[?1004h",
            "\x1b[?2031h",
            "\x1b[c",
            "\x1b[<u",
            "\x1b[>4m",
            "\x1b[38;5;153m",
            "\x1b[38:2:0:1:2:3m",
            "\x1b[3A",
            "\x1b[1G",
            "\x1b[2K",
            "\x1b7",
            "\x1b8",
            "\x1b[r",
            "\x1b(B",
            "\x1b]0;\u{2733} Claude Code\x1b\\",
            "\x1b[?1000;1002;1006h",
            "plain é 日本 🦀\r\n\t\x07",
            "\x1b[2 q",
            "\x1b]8;id=a1;https://example.org/x?y=1;z\x1b\\",
            "\x1b]8;;\x1b\\",
            "\x1b[?u",
            "\x1b[>1u",
            "\x1b[=1;1u",
            "\x1b[?2026$p",
            "\x1b[6n",
            "\x1b[?996n",
            "\x1b[18t",
            "\x1b[s",
            "\x1b[u",
            "\x1b[?1049h",
            "\x1b[4h",
            "\x1b[!p",
        ] {
            let (out, dropped) = pass(sequence.as_bytes());
            // The user's title is saved first.
            let title_save = if sequence.starts_with("\x1b]0;") { "\x1b[22;0t" } else { "" };
            assert_eq!(out, format!("{title_save}{sequence}"), "{sequence:?}");
            assert_eq!(dropped, 0, "{sequence:?}");
        }
        assert_eq!(pass(b"\x1b]0;t\x07").0, "\x1b[22;0t\x1b]0;t\x1b\\", "both string terminators are accepted");
    }

    #[test]
    fn queries_with_textual_responses_are_dropped() {
        for query in ["\x1b[>0q", "\x1b[>q", "\x1b[=c", "\x1b[=0c"] {
            assert_eq!(pass(query.as_bytes()), (String::new(), 0), "{query:?}");
        }
        // A query for a mode that no agent may set is also dropped: such a query ends the run.
        for query in ["\x1b[?31337$p", "\x1b[?1001$p", "\x1b[99$p", "\x1b[?2026;31337$p"] {
            let (out, dropped) = pass(query.as_bytes());
            assert_eq!((out.as_str(), dropped), ("", 1), "{query:?}");
        }
    }

    #[test]
    fn title_of_user_is_restored_despite_saved_titles() {
        let filter_and_reset = |bytes: &[u8]| {
            let out = OutputFilter::default().filter_bytes(bytes);
            let mut modes = crate::terminal::ModeTracker::default();
            modes.parse_output(&out);
            let reset = String::from_utf8(modes.reset_sequence()).expect("ASCII");
            let title = reset.find("\x1b]0;").map(|at| reset[at..].to_owned());
            (String::from_utf8(out).expect("UTF-8"), title.unwrap_or_default())
        };
        assert_eq!(filter_and_reset(b"text"), ("text".into(), String::new()));
        let restore = "\x1b]0;\x1b\\\x1b[23;0t";
        assert_eq!(filter_and_reset(b"\x1b]2;a\x07").1, restore);
        // A title that was not pushed is not popped, or the user's title would be lost.
        assert_eq!(filter_and_reset(b"\x1b[23;0t\x1b]2;a\x07\x1b[23t").0, "\x1b[22;0t\x1b]2;a\x1b\\");
        assert_eq!(filter_and_reset(b"\x1b[22;0t\x1b[22t\x1b[23t").1, format!("{restore}\x1b[23;0t"));
        let (out, _) = filter_and_reset("\x1b[22t".repeat(1000).as_bytes());
        assert_eq!(out.matches("\x1b[22t").count(), 8);
    }

    #[test]
    fn scrollback_is_kept_unless_agent_is_claude() {
        assert_eq!(pass(b"\x1b[2J\x1b[3J\x1bc"), ("\x1b[2J\x1b[!p\x1b[H\x1b[2J".into(), 0));
        assert_eq!(OutputFilter::default().with_scrollback_erase().filter_bytes(b"\x1b[3J"), b"\x1b[3J");
    }

    #[test]
    fn forbidden_sequences_are_dropped_and_counted() {
        for sequence in [
            "\x1b]52;c;cm0gLXJmIC8=\x07",
            "\x1b]1337;File=name=a:AAAA\x07",
            "\x1bPq#0;2;0;0;0\x1b\\",
            "\x1b_Gf=24;AAAA\x1b\\",
            "\x1b^x\x1b\\",
            "\x1bXx\x1b\\",
            "\x1b]4;1;?\x07",
            "\x1b]10;?\x1b\\",
            "\x1b]7;file:///etc\x07",
            "\x1b]9;hi\x07",
            "\x1b]777;notify;a;b\x07",
            "\x1b]50;x\x07",
            "\x1b[5i",
            "\x1b[4i",
            "\x1b[?5i",
            "\x1b[2h",
            "\x1b[?3h",
            "\x1b[?1007h",
            "\x1b[21t",
            "\x1b[20t",
            "\x1b[8;1;1t",
            "\x1b[3;9;9t",
            "\x1b[0;1$x",
            "\x1b[?1000s",
            "\x1b[\"q",
            "\x1b[1;2s",
            "\x1b[>2m",
            "\x1b[15n",
            "\x1b[3g",
            "\x1bH",
            "\x1b[?1001h",
            "\x1b[65535b",
            "\x1b[1c",
            "\x1bZ",
            "\x1b#8",
            "\x1b%G",
            "\x1b n",
            "\x05",
            "\x00",
            "\x13",
            "\u{9b}5i",
            "\u{90}q",
            "\x1b[>1q",
            "\x1b[>3q",
            "\x1b[1;2;3;4;5;6;7;8;9;1;2;3;4;5;6;7;8;9;1;2;3;4;5;6;7;8;9;1;2;3;4;5;6m",
        ] {
            let (out, dropped) = pass(format!("a{sequence}b").as_bytes());
            let text: String = out.chars().filter(|c| !c.is_control()).collect();
            assert!(!out.contains('\x1b') && text.starts_with('a') && text.ends_with('b'), "{sequence:?}: {out:?}");
            assert!(dropped > 0, "{sequence:?}");
        }
        assert_eq!(pass(b"\x9b5i").0, "5i", "the rest of the sequence is text");
        for link in ["file:///etc/passwd", "javascript:x", "ssh://x", "http://a b", "https://\u{202e}"] {
            let (out, dropped) = pass(format!("\x1b]8;;{link}\x1b\\x\x1b]8;;\x1b\\").as_bytes());
            assert_eq!((out.as_str(), dropped), ("\x1b]8;;\x1b\\x\x1b]8;;\x1b\\", 1), "{link}");
        }
        let long = format!("\x1b]8;;https://{}\x1b\\x", "a".repeat(2000));
        assert_eq!(
            pass(long.as_bytes()),
            ("\x1b]8;;\x1b\\x".into(), 1),
            "the parser truncates the address, which makes it a different one"
        );
    }

    #[test]
    fn forbidden_mode_does_not_drop_allowed_ones() {
        assert_eq!(pass(b"\x1b[?1049;1337;25h"), ("\x1b[?1049;25h".into(), 1));
        assert_eq!(pass(b"\x1b[2;4h"), ("\x1b[4h".into(), 1));
    }

    #[test]
    fn title_is_short_plain_text() {
        assert_eq!(pass(b"\x1b]2;a\xe2\x80\xaeb;c\x07").0, "\x1b[22;0t\x1b]2;ab;c\x1b\\");
        let (out, _) = pass(format!("\x1b]0;{}\x07", "x".repeat(500)).as_bytes());
        assert_eq!(out.len(), MAX_TITLE_CHARS + "\x1b[22;0t\x1b]0;\x1b\\".len());
    }

    #[test]
    fn unterminated_string_uses_no_memory_and_shows_nothing() {
        let mut filter = OutputFilter::default();
        assert_eq!(filter.filter_bytes(b"a\x1b]52;c;"), b"a");
        for _ in 0..1000 {
            assert_eq!(filter.filter_bytes(&[b'x'; 4096]), b"");
        }
        assert_eq!(filter.filter_bytes(b"\x07b"), b"b");
        assert_eq!(filter.dropped_sequences().get("a clipboard write (OSC 52)"), Some(&1));
    }

    #[test]
    fn multibyte_characters_pass_at_every_split() {
        for text in ["é", "日本", "🦀🦀"] {
            for split in 0..=text.len() {
                let mut filter = OutputFilter::default();
                let mut out = filter.filter_bytes(&text.as_bytes()[..split]);
                out.extend(filter.filter_bytes(&text.as_bytes()[split..]));
                assert_eq!(out, text.as_bytes());
            }
        }
        // Found by fuzzing: the parser dropped the `q`.
        let mut filter = OutputFilter::default();
        let mut out = filter.filter_bytes(b"Q\xc6\xc6");
        out.extend(filter.filter_bytes(b"\xc6\x86q"));
        assert_eq!(out, "Q\u{fffd}\u{fffd}\u{186}q".as_bytes());
    }

    proptest! {
        #[test]
        fn output_is_independent_of_chunk_boundaries(bytes in prop::collection::vec(prop::sample::select(b"\x1b[]?;:01859mhlicqP_\\\x07\x9b\xc3\xa9aX \n".to_vec()), 0..60), split in 0_usize..60) {
            let expected = pass(&bytes);
            let mut filter = OutputFilter::default();
            let split = split.min(bytes.len());
            let mut out = filter.filter_bytes(&bytes[..split]);
            out.extend(filter.filter_bytes(&bytes[split..]));
            prop_assert_eq!(String::from_utf8(out).expect("UTF-8"), expected.0.clone());
            // Filtering the output a second time only saves the title a second time.
            let without_title_save = |text: &str| text.replace("\x1b[22;0t", "");
            let second = pass(expected.0.as_bytes());
            prop_assert_eq!((without_title_save(&second.0), second.1), (without_title_save(&expected.0), 0));
        }
    }
}
