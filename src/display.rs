//! The one sink that makes untrusted text visible and harmless.
//!
//! Names, file contents, link targets, errors of the engine and anything else that a container or a repository can
//! choose pass through [`Shown`] before they reach a terminal. The result holds no control character, no
//! direction override and no invisible character, and it is injective: two different inputs never look the same.
//! This module must never print by itself.

use std::fmt;

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// Untrusted bytes that can only be printed escaped.
///
/// Control characters (tab and newline too), formatting and other invisible code points become `<U+202E>`; bytes that
/// are not UTF-8 become `<0xFF>`; a literal `<` that would look like the start of such an escape becomes `<U+003C>`.
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    bytes: &'a [u8],
    tabs: bool,
}

impl<'a> Shown<'a> {
    /// Wraps a name or a message: everything invisible is escaped, tabs and newlines included.
    pub fn new<T: AsRef<[u8]> + ?Sized>(bytes: &'a T) -> Self {
        Self { bytes: bytes.as_ref(), tabs: false }
    }

    /// Wraps one line of a file's content: as [`Shown::new`], but a tab stays a tab.
    pub fn line<T: AsRef<[u8]> + ?Sized>(bytes: &'a T) -> Self {
        Self { bytes: bytes.as_ref(), tabs: true }
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        for chunk in self.bytes.utf8_chunks() {
            let text = chunk.valid();
            for (at, c) in text.char_indices() {
                if c == '<' && looks_like_escape(&text[at..]) || is_hidden(c) && !(self.tabs && c == '\t') {
                    write!(f, "<U+{:04X}>", u32::from(c))?;
                } else {
                    f.write_char(c)?;
                }
            }
            for byte in chunk.invalid() {
                write!(f, "<0x{byte:02X}>")?;
            }
        }
        Ok(())
    }
}

/// Shown like [`fmt::Display`]; a debug print must not be a way around the sink.
impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn looks_like_escape(text: &str) -> bool {
    text.starts_with("<U+") || text.starts_with("<0x")
}

/// Tells whether a code point has no shape of its own on a terminal, or changes how others are drawn.
///
/// By Unicode general category: controls, formatting characters, line and paragraph separators, private use and
/// unassigned code points; and those letters and marks that are defined to be invisible.
#[must_use]
pub fn is_hidden(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    matches!(
        c.general_category(),
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
            | '\u{e0100}'..='\u{e01ef}'
    )
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
        for (bytes, shown) in cases {
            assert_eq!(Shown::new(bytes).to_string(), *shown);
        }
        assert_eq!(Shown::line("\ta\u{b}").to_string(), "\ta<U+000B>");
    }

    proptest! {
        #[test]
        fn nothing_hidden_comes_out(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let shown = Shown::new(&bytes).to_string();
            prop_assert!(!shown.chars().any(is_hidden));
        }

        #[test]
        fn different_inputs_look_different(
            a in "(<U\\+|<0x|[<U+0x9BE>\u{202e}\u{9b}a]){0,6}",
            b in "(<U\\+|<0x|[<U+0x9BE>\u{202e}\u{9b}a]){0,6}",
        ) {
            prop_assert_eq!(a == b, Shown::new(&a).to_string() == Shown::new(&b).to_string());
        }
    }
}
