//! Fuzzes the escaping of hostile bytes for a terminal: the output has no control or hidden characters, and is injective.
#![no_main]

use airlock::core::escape::{Escaped, find_first_hidden, is_hidden};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], &[u8])| {
    let (one, other) = input;
    let shown = Escaped::new(one).to_string();
    assert!(!shown.chars().any(is_hidden));
    assert!(!Escaped::from_line(one).to_string().chars().any(|c| is_hidden(c) && c != '\t'));
    assert_eq!(one == other, shown == Escaped::new(other).to_string());
    if let Ok(text) = std::str::from_utf8(one) {
        match find_first_hidden(text) {
            Some(at) => assert!(text[at..].chars().next().is_some_and(is_hidden)),
            None => assert!(!text.contains(['\u{202e}', '\u{1b}', '\u{200b}', '\u{2066}'])),
        }
    }
});
