//! Escapes untrusted text so that it is visible and harmless on a terminal.
//!
//! Names, file contents, symlink targets, error messages of the engine and all other text that a container or a
//! repository can choose pass through [`Escaped`] before they reach a terminal. The result has no control characters,
//! direction overrides or invisible characters. Escaping is injective: two different inputs never look the same. This
//! module must never print anything.

use std::fmt;
use std::ops::ControlFlow;

use unicode_properties::{GeneralCategory, UnicodeEmoji, UnicodeGeneralCategory};
use unicode_script::{Script, UnicodeScript};
use unicode_width::UnicodeWidthChar;

/// Untrusted bytes that can only be printed escaped.
///
/// Control characters (including tab and newline), formatting characters and other invisible code points become
/// `<U+202E>`, and so do blanks other than the space. Bytes that are not UTF-8 become `<0xFF>`. A literal `<` that
/// would look like the start of such an escape becomes `<U+003C>`. More than [`LONGEST_RUN`] consecutive spaces or tabs
/// become `<U+0020 x5000>`, so that the text after them stays visible. A combining mark without a base character, or
/// one too many, is also escaped, because it would be drawn over Airlock's own text.
#[derive(Clone, Copy)]
pub struct Escaped<'a> {
    bytes: &'a [u8],
    keeps_tabs: bool,
}

/// Maximum number of combining marks on one character, which is enough for any language.
const MAX_MARKS: usize = 4;

/// Maximum number of consecutive spaces or tabs that are shown unescaped.
pub const LONGEST_RUN: usize = 64;

impl<'a> Escaped<'a> {
    /// Wraps a name or a message: all invisible characters are escaped, including tabs and newlines.
    pub fn new<T: AsRef<[u8]> + ?Sized>(bytes: &'a T) -> Self {
        Self { bytes: bytes.as_ref(), keeps_tabs: false }
    }

    /// Wraps one line of a file's content, like [`Escaped::new`] except that tabs are kept.
    pub fn from_line<T: AsRef<[u8]> + ?Sized>(bytes: &'a T) -> Self {
        Self { bytes: bytes.as_ref(), keeps_tabs: true }
    }
}

/// A chunk of escaped text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EscapedChunk {
    /// A character that is shown unescaped.
    Plain(char),
    /// The escape for a hidden character or a run of blanks: characters between `<` and `>`.
    Escape(String),
}

impl Escaped<'_> {
    /// Calls `put` with each chunk and the byte offset of its source, until `put` breaks.
    ///
    /// This allows showing the start of a long line without escaping all of it.
    pub fn for_each_chunk<B>(self, mut put: impl FnMut(usize, EscapedChunk) -> ControlFlow<B>) -> ControlFlow<B> {
        // The number of marks that the last character can still carry.
        let (mut base, mut marks) = (0, 0);
        for chunk in self.bytes.utf8_chunks() {
            let text = chunk.valid();
            // In a run of too many blanks of any kind, each kind is counted.
            let (mut blank_ends, mut run_ends) = (0, 0);
            for (at, c) in text.char_indices() {
                if at < run_ends {
                    continue;
                }
                if at >= blank_ends && is_blank(c) {
                    let blanks = text[at..].chars().take_while(|d| is_blank(*d));
                    let (count, bytes) = blanks.fold((0, 0), |(n, bytes), d| (n + 1, bytes + d.len_utf8()));
                    blank_ends = if count > LONGEST_RUN { at + bytes } else { 0 };
                }
                let is_odd_blank = is_blank(c) && !matches!(c, ' ' | '\t');
                let escaped = if at < blank_ends || is_odd_blank && text[at + c.len_utf8()..].starts_with(c) {
                    let run = text[at..].chars().take_while(|d| *d == c).count();
                    run_ends = at + run * c.len_utf8();
                    EscapedChunk::Escape(format!("<U+{:04X} x{run}>", u32::from(c)))
                } else if self.is_escaped(c, at, text) || is_mark(c) && (marks == 0 || is_enclosing(c)) {
                    EscapedChunk::Escape(format!("<U+{:04X}>", u32::from(c)))
                } else {
                    EscapedChunk::Plain(c)
                };
                marks = match &escaped {
                    EscapedChunk::Plain(c) if is_mark(*c) => marks - 1,
                    EscapedChunk::Plain(c) if !is_blank(*c) => MAX_MARKS,
                    _ => 0,
                };
                put(base + at, escaped)?;
            }
            base += text.len();
            for (at, byte) in chunk.invalid().iter().enumerate() {
                marks = 0;
                put(base + at, EscapedChunk::Escape(format!("<0x{byte:02X}>")))?;
            }
            base += chunk.invalid().len();
        }
        ControlFlow::Continue(())
    }

    /// Returns whether a character of a text is escaped, regardless of the rules for runs of blanks and combining
    /// marks.
    fn is_escaped(self, c: char, at: usize, text: &str) -> bool {
        match c {
            ' ' => false,
            '\t' => !self.keeps_tabs,
            '<' => looks_like_escape(&text[at..]),
            _ if is_composed_jamo(c, &text[..at]) => false,
            _ if is_stacker(c) => {
                let (head, tail) = (&text[..at], &text[at + c.len_utf8()..]);
                !is_legitimate(c, head.chars().next_back(), head, tail)
            }
            _ => is_hidden(c) || is_blank(c),
        }
    }
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        let written = self.for_each_chunk(|_, chunk| {
            let written = match chunk {
                EscapedChunk::Plain(c) => f.write_char(c),
                EscapedChunk::Escape(text) => f.write_str(&text),
            };
            written.map_or_else(ControlFlow::Break, ControlFlow::Continue)
        });
        match written {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(error),
        }
    }
}

/// Writes the same as [`fmt::Display`], so that debug output is escaped too.
impl fmt::Debug for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Converts bytes to text for a message that is escaped later.
///
/// UTF-8 is kept unchanged. Other bytes are escaped as by [`slice::escape_ascii`], which writes `\xff`, `\n` and `\\`.
#[must_use]
pub fn escape_lossy(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| bytes.escape_ascii().to_string(), str::to_owned)
}

fn looks_like_escape(text: &str) -> bool {
    text.starts_with("<U+") || text.starts_with("<0x")
}

/// Returns whether a character is a tab or any kind of space.
#[must_use]
pub fn is_blank(c: char) -> bool {
    c == '\t' || c.is_whitespace() && !c.is_control()
}

/// Returns whether a code point has no visible shape on a terminal, or changes how others are drawn.
///
/// This is decided by the Unicode general category: controls, formatting characters, line and paragraph separators,
/// private use and unassigned code points. Letters and marks that are defined to be invisible are also hidden.
#[must_use]
pub fn is_hidden(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    let category = c.general_category();
    if c.width() == Some(0) && !is_mark_category(category) {
        return true;
    }
    matches!(
        category,
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
            | GeneralCategory::PrivateUse
            | GeneralCategory::Surrogate
            | GeneralCategory::Unassigned
    ) || matches!(
        c,
        '\u{034f}'
            | '\u{115f}'
            | '\u{1160}'
            | '\u{17b4}'
            | '\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{2800}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{ffa0}'
            // Blanks that count as letters or symbols: hieroglyphs, a Khitan filler, a note without a head.
            | '\u{13441}'..='\u{13442}'
            | '\u{16fe4}'
            | '\u{1d159}'
            | '\u{e0100}'..='\u{e01ef}'
            // Defined to be equivalent to an ASCII character, although programs distinguish them.
            | '\u{037e}'
            | '\u{1fef}'
            | '\u{212a}'
    ) || is_stacker(c)
}

/// Returns whether a sign is invisible and places the letter after it below the one before it (Unicode,
/// Indic_Syllabic_Category `Invisible_Stacker` and `Number_Joiner`).
fn is_stacker(c: char) -> bool {
    matches!(
        c,
        '\u{1039}'
            | '\u{17d2}'
            | '\u{1a60}'
            | '\u{2d7f}'
            | '\u{aaf6}'
            | '\u{10a3f}'
            | '\u{1107f}'
            | '\u{11133}'
            | '\u{113d0}'
            | '\u{1193e}'
            | '\u{11a47}'
            | '\u{11a99}'
            | '\u{11d45}'
            | '\u{11d97}'
            | '\u{11f42}'
    )
}

fn is_mark_category(category: GeneralCategory) -> bool {
    matches!(category, GeneralCategory::NonspacingMark | GeneralCategory::SpacingMark | GeneralCategory::EnclosingMark)
}

/// Returns whether a character is drawn over the previous one.
fn is_mark(c: char) -> bool {
    !c.is_ascii() && c.width() == Some(0) && is_mark_category(c.general_category())
}

/// Returns whether a mark is drawn around the previous character, and therefore over adjacent ones.
fn is_enclosing(c: char) -> bool {
    c.general_category() == GeneralCategory::EnclosingMark
}

/// Returns whether a character is a Hangul vowel or final consonant that joins the previous syllable (Unicode Standard,
/// 3.12).
fn is_composed_jamo(c: char, head: &str) -> bool {
    let is_first = |c: char| matches!(c, '\u{1100}'..='\u{115e}' | '\u{a960}'..='\u{a97c}');
    let is_vowel = |c: char| matches!(c, '\u{1161}'..='\u{11a7}' | '\u{d7b0}'..='\u{d7c6}');
    let is_last = |c: char| matches!(c, '\u{11a8}'..='\u{11ff}' | '\u{d7cb}'..='\u{d7fb}');
    // A precomposed syllable without a final consonant.
    let is_open = |c: char| matches!(c, '\u{ac00}'..='\u{d7a3}') && (u32::from(c) - 0xac00).is_multiple_of(28);
    let mut before = head.chars().rev();
    match before.next() {
        Some(first) if is_first(first) => is_vowel(c),
        Some(open) if is_open(open) => is_last(c),
        Some(vowel) if is_vowel(vowel) => is_last(c) && before.next().is_some_and(is_first),
        _ => false,
    }
}

/// Returns the byte offset of the first hidden character that has no legitimate use in text.
///
/// Legitimate are joiners and selectors inside a well-formed emoji sequence (UTS 51), and joiners between letters of a
/// script that is written with them. Every other character for which [`is_hidden`] holds is reported, including line
/// endings and tabs.
#[must_use]
pub fn find_first_hidden(text: &str) -> Option<usize> {
    if text.is_ascii() {
        return text.bytes().position(|b| b.is_ascii_control());
    }
    let mut before = None;
    for (at, c) in text.char_indices() {
        if is_hidden(c) && !is_legitimate(c, before, &text[..at], &text[at + c.len_utf8()..]) {
            return Some(at);
        }
        before = Some(c);
    }
    None
}

/// The tag sequences that fonts support after a black flag: England, Scotland, Wales (UTS 51, RGI).
const FLAG_TAGS: [&str; 3] = ["gbeng", "gbsct", "gbwls"];
const BLACK_FLAG: char = '\u{1f3f4}';

fn is_legitimate(c: char, before: Option<char>, head: &str, tail: &str) -> bool {
    let (Some(before), after) = (before, tail.chars().next()) else { return false };
    let is_emoji = |c: char| !c.is_ascii() && c.is_emoji_char();
    match c {
        _ if is_composed_jamo(c, head) => true,
        _ if is_stacker(c) => {
            let is_of_its_script = |other: char| other.script() == c.script() && !is_hidden(other);
            is_of_its_script(before) && after.is_some_and(is_of_its_script)
        }
        // The text or emoji form of a symbol, or a keycap.
        '\u{fe0e}' | '\u{fe0f}' => {
            is_emoji(before) || matches!(before, '0'..='9' | '#' | '*') && after == Some('\u{20e3}')
        }
        '\u{200d}' if is_emoji(before) || before == '\u{fe0f}' => after.is_some_and(is_emoji),
        // Persian also uses joiners between a Latin word or a number and its suffix.
        '\u{200c}' | '\u{200d}' => {
            let is_part = |c: char| c.is_alphanumeric() && !is_hidden(c);
            after.is_some_and(|after| {
                is_joining_script(before) && (is_joining_script(after) || is_part(after))
                    || is_part(before) && is_joining_script(after)
            })
        }
        // The form of a Mongolian letter.
        '\u{180b}'..='\u{180d}' => before.script() == Script::Mongolian,
        '\u{e0020}'..='\u{e007f}' => {
            let is_tag = |c: char| ('\u{e0020}'..='\u{e007f}').contains(&c);
            let plain = |c: char| char::from_u32(u32::from(c) - 0xe_0000).unwrap_or('?');
            let from = head.trim_end_matches(is_tag);
            let tags: String =
                head[from.len()..].chars().chain([c]).chain(tail.chars().take_while(|c| is_tag(*c))).collect();
            let name: String = tags.chars().map(plain).collect();
            from.ends_with(BLACK_FLAG) && FLAG_TAGS.iter().any(|flag| name.strip_suffix('\u{7f}') == Some(flag))
        }
        _ => false,
    }
}

/// Returns whether a letter or mark belongs to a script that is written with joiners (Unicode Standard, 23.2).
fn is_joining_script(c: char) -> bool {
    use Script::{
        Arabic, Bengali, Devanagari, Gujarati, Gurmukhi, Kannada, Khmer, Malayalam, Mongolian, Oriya, Sinhala, Syriac,
        Tamil, Telugu,
    };
    let scripts = [
        Arabic, Bengali, Devanagari, Gujarati, Gurmukhi, Kannada, Khmer, Malayalam, Mongolian, Oriya, Sinhala, Syriac,
        Tamil, Telugu,
    ];
    scripts.contains(&c.script()) && !is_hidden(c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hostile_text_is_escaped() {
        let cases: &[(&[u8], &str)] = &[
            (b"\x1b[2J", "<U+001B>[2J"),
            (b"good\revil", "good<U+000D>evil"),
            (b"\x9b31m", "<0x9B>31m"),
            ("\u{9b}31m".as_bytes(), "<U+009B>31m"),
            (b"\x07\x08\x0e\x7f", "<U+0007><U+0008><U+000E><U+007F>"),
            ("a\u{202e}b".as_bytes(), "a<U+202E>b"),
            (b"a<U+202E>b", "a<U+003C>U+202E>b"),
            (b"<0x9B>", "<U+003C>0x9B>"),
            (b"a < b << c", "a < b << c"),
            ("\u{e0041}\u{fe0f}\u{200d}\u{2800}\u{3164}".as_bytes(), "<U+E0041><U+FE0F><U+200D><U+2800><U+3164>"),
            ("naïve 日本 🦀".as_bytes(), "naïve 日本 🦀"),
            (b"two\nlines\t", "two<U+000A>lines<U+0009>"),
        ];
        for (bytes, escaped) in cases {
            assert_eq!(Escaped::new(bytes).to_string(), *escaped);
        }
        assert_eq!(Escaped::from_line("\ta\u{b}").to_string(), "\ta<U+000B>");
        assert_eq!(format!("{:?}", Escaped::new("\x1b")), "<U+001B>", "debug output is escaped");
    }

    #[test]
    fn control_sequences_are_escaped() {
        let sequences = [
            "\x1b[2J",
            "\x1b[1A\x1b[2K",
            "\x1b]0;t\x07",
            "\x1b]8;;http://x\x1b\\",
            "\x1b]52;c;eA==\x07",
            "\x1bPq\x1b\\",
            "\x1b_x\x1b\\",
            "\u{9b}",
            "\x07",
            "\x08",
            "\x0e",
            "\x7f",
            "\x1b[6n",
            "\x1b[?1049h",
            "\x1b[200~",
            "good\revil",
        ];
        for sequence in sequences {
            for escaped in [Escaped::new(sequence).to_string(), Escaped::from_line(sequence).to_string()] {
                assert!(!escaped.chars().any(char::is_control) && escaped.contains("<U+"), "{escaped:?}");
            }
        }
        assert_eq!(Escaped::new(b"\x9b2J").to_string(), "<0x9B>2J");
    }

    #[test]
    fn hidden_characters_are_found_by_property() {
        let ranges = [
            0x61c..=0x61c,
            0x200e..=0x200f,
            0x202a..=0x202e,
            0x2066..=0x2069,
            0xad..=0xad,
            0x34f..=0x34f,
            0x115f..=0x1160,
            0x180e..=0x180e,
            0x200b..=0x200d,
            0x2060..=0x2064,
            0x2800..=0x2800,
            0x3164..=0x3164,
            0xfe00..=0xfe0f,
            0xffa0..=0xffa0,
            0xfeff..=0xfeff,
            0xe0000..=0xe007f,
            0xe0100..=0xe01ef,
            0x2028..=0x2029,
            0xfff9..=0xfffb,
            0xe000..=0xe000,
            0xf8ff..=0xf8ff,
            0xf0000..=0xf0000,
            0x180b..=0x180f,
            0x17b4..=0x17b5,
        ];
        for c in ranges.into_iter().flatten().filter_map(char::from_u32) {
            assert!(is_hidden(c), "U+{:04X}", u32::from(c));
            let text = format!("a{c}b");
            assert_eq!(find_first_hidden(&text), Some(1), "U+{:04X}", u32::from(c));
            assert_eq!(Escaped::from_line(&text).to_string(), format!("a<U+{:04X}>b", u32::from(c)));
        }
        for c in "aé日\u{301}🦀 \u{a0}".chars() {
            assert!(!is_hidden(c), "{c}");
        }
    }

    #[test]
    fn unusual_blanks_are_escaped() {
        for c in ['\u{a0}', '\u{1680}', '\u{2003}', '\u{200a}', '\u{202f}', '\u{205f}', '\u{3000}'] {
            let text = format!("a{c}b");
            assert_eq!(Escaped::from_line(&text).to_string(), format!("a<U+{:04X}>b", u32::from(c)));
            assert_eq!(Escaped::new(&text).to_string(), format!("a<U+{:04X}>b", u32::from(c)));
        }
        for c in ['\u{13441}', '\u{13442}', '\u{16fe4}', '\u{1d159}', '\u{1161}', '\u{11a8}', '\u{d7b0}', '\u{1bca0}'] {
            assert!(is_hidden(c), "U+{:04X}", u32::from(c));
            assert_eq!(find_first_hidden(&format!("a{c}b")), Some(1), "U+{:04X}", u32::from(c));
            assert_eq!(Escaped::from_line(&format!("a{c}b")).to_string(), format!("a<U+{:04X}>b", u32::from(c)));
        }
        // Characters that look like `;`, a backtick and K, and signs that place one letter below another.
        for c in ['\u{37e}', '\u{1fef}', '\u{212a}', '\u{1039}', '\u{17d2}', '\u{2d7f}', '\u{11f42}', '\u{1107f}'] {
            assert_eq!(find_first_hidden(&format!("a{c}b")), Some(1), "U+{:04X}", u32::from(c));
            assert_eq!(Escaped::from_line(&format!("a{c}b")).to_string(), format!("a<U+{:04X}>b", u32::from(c)));
        }
        let khmer = "\u{1797}\u{17d2}\u{1789}";
        assert_eq!((find_first_hidden(khmer), Escaped::from_line(khmer).to_string()), (None, khmer.to_owned()));
        assert_eq!(find_first_hidden("\u{1797}\u{17d2}"), Some(3), "no letter follows");
        assert_eq!(find_first_hidden("\u{ac00}\u{1161}"), Some(3), "a vowel after a complete syllable");
        assert_eq!(find_first_hidden("\u{ac01}\u{11a8}"), Some(3));
        assert_eq!(find_first_hidden("\u{ac00}\u{11a8}"), None);
        // Decomposed Hangul is ordinary text.
        let korean = "\u{1112}\u{1161}\u{11ab}\u{1100}\u{1173}\u{11af}";
        assert_eq!(Escaped::from_line(korean).to_string(), korean);
        assert_eq!(find_first_hidden(korean), None);
    }

    #[test]
    fn combining_marks_stay_on_their_character_and_do_not_stack() {
        let escaped = |text: &str| Escaped::from_line(text).to_string();
        assert_eq!(escaped("\u{338}a"), "<U+0338>a", "the gutter is not a base character");
        assert_eq!(escaped(" \u{338}\t\u{301}"), " <U+0338>\t<U+0301>", "a blank is not a base character");
        assert_eq!(escaped("\u{20de}"), "<U+20DE>");
        assert_eq!(escaped("e\u{301}\u{308}"), "e\u{301}\u{308}");
        assert_eq!(escaped(&format!("e{}", "\u{301}".repeat(6))), format!("e{}<U+0301><U+0301>", "\u{301}".repeat(4)));
        assert_eq!(escaped("-\u{20d2}"), "-\u{20d2}");
        assert_eq!(escaped("a\u{20dd}"), "a<U+20DD>", "an enclosing mark extends beyond its character");
        assert_eq!(escaped("a\u{202e}\u{301}"), "a<U+202E><U+0301>");
    }

    #[test]
    fn useful_joiners_and_selectors_are_no_findings() {
        let allowed = [
            "\u{2764}\u{fe0f}",
            "\u{26a0}\u{fe0e}",
            "1\u{fe0f}\u{20e3}",
            "#\u{fe0f}\u{20e3}",
            "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}",
            "\u{1f3f3}\u{fe0f}\u{200d}\u{1f308}",
            "\u{1f469}\u{1f3fd}\u{200d}\u{1f4bb}",
            "\u{645}\u{6cc}\u{200c}\u{62e}",
            "\u{915}\u{94d}\u{200d}\u{937}",
            "\u{1820}\u{180b}",
            "API\u{200c}\u{647}\u{627}",
            "\u{1f3f4}\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f}",
            "plain é 日本",
        ];
        for text in allowed {
            assert_eq!(find_first_hidden(text), None, "{}", text.escape_unicode());
        }
        let findings = [
            ("a\u{fe0f}", 1),
            ("1\u{fe0f}", 1),
            ("a\u{200d}b", 1),
            ("\u{1f468}\u{200d}b", 4),
            ("\u{645}\u{200c} ", 2),
            (" \u{200c}\u{645}", 1),
            ("\u{200d}\u{1f468}", 0),
            ("\u{1f3f4}\u{e0068}\u{e0069}\u{e007f}", 4),
            ("x\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f}", 1),
            ("\u{1f3f4}\u{e0067}\u{e0062}", 4),
            ("a\u{180b}", 1),
            ("a\tb", 1),
            ("\u{2764}\u{fe0f}\u{fe0f}", 6),
            ("\u{645}\u{200c}\u{200c}\u{645}", 2),
        ];
        for (text, at) in findings {
            assert_eq!(find_first_hidden(text), Some(at), "{}", text.escape_unicode());
        }
    }

    #[test]
    fn long_runs_of_blanks_are_counted() {
        let long_run = format!("a{}evil", " ".repeat(5000));
        assert_eq!(Escaped::from_line(&long_run).to_string(), "a<U+0020 x5000>evil");
        assert_eq!(Escaped::from_line(&"\t".repeat(65)).to_string(), "<U+0009 x65>");
        assert_eq!(Escaped::from_line(&" ".repeat(64)).to_string(), " ".repeat(64));
        assert_eq!(Escaped::from_line("<U+0020 x5000>").to_string(), "<U+003C>U+0020 x5000>");
        assert_eq!(Escaped::from_line(&"\u{3000}".repeat(70)).to_string(), "<U+3000 x70>");
        assert_eq!(Escaped::from_line(&"\u{a0}".repeat(2)).to_string(), "<U+00A0 x2>");
        let mixed = format!("{}x", " \t".repeat(40));
        assert_eq!(Escaped::from_line(&mixed).to_string(), format!("{}x", "<U+0020 x1><U+0009 x1>".repeat(40)));
    }

    proptest! {
        #[test]
        fn escaped_text_has_no_hidden_characters(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let escaped = Escaped::new(&bytes).to_string();
            prop_assert!(!escaped.chars().any(is_hidden));
        }

        #[test]
        fn findings_and_hidden_characters_agree(text in "[a\u{645}\u{200c}\u{200d}\u{2764}\u{fe0f}\u{1f3f4}\u{e0067}\u{202e}]{0,8}") {
            match find_first_hidden(&text) {
                Some(at) => prop_assert!(text[at..].chars().next().is_some_and(is_hidden)),
                None => prop_assert_eq!(text.find('\u{202e}'), None),
            }
        }

        #[test]
        fn escaping_is_injective(
            a in "(<U\\+|<0x|[<U+0x9BE>\u{202e}\u{9b}a]| {65}| {66}){0,6}",
            b in "(<U\\+|<0x|[<U+0x9BE>\u{202e}\u{9b}a]| {65}| {66}){0,6}",
        ) {
            prop_assert_eq!(a == b, Escaped::new(&a).to_string() == Escaped::new(&b).to_string());
        }
    }
}
