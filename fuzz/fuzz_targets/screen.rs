//! Fuzzes the output filter: the output is allowed at every split of the input.
#![no_main]

use airlock::terminal::OutputFilter;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, &[u8])| {
    let (at, bytes) = input;
    let whole = OutputFilter::default().filter_bytes(bytes);
    let at = usize::from(at).min(bytes.len());
    let mut filter = OutputFilter::default();
    let mut parts = filter.filter_bytes(&bytes[..at]);
    parts.extend(filter.filter_bytes(&bytes[at..]));
    assert_eq!(parts, whole);
    let mut again = OutputFilter::default();
    assert_eq!(again.filter_bytes(&whole), whole);
    assert!(again.dropped_sequences().is_empty());
    // Only titles and links are strings, and no byte is a control character in another encoding.
    let text = std::str::from_utf8(&whole).expect("UTF-8");
    assert!(!text.chars().any(|c| ('\u{80}'..='\u{9f}').contains(&c)));
    for (at, _) in text.match_indices("\x1b]") {
        assert!(["0;", "2;", "8;"].iter().any(|kind| text[at + 2..].starts_with(kind)));
    }
    for string in ["\x1bP", "\x1b_", "\x1b^", "\x1bX"] {
        assert!(!text.contains(string));
    }
});
