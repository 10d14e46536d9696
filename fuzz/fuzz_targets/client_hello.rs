//! Fuzzes the parser of the first message of TLS: more bytes never change an answer.
#![no_main]

use airlock::gateway::{HelloState, parse_hello};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let whole = parse_hello(bytes);
    for end in 0..bytes.len() {
        let part = parse_hello(&bytes[..end]);
        assert!(part == HelloState::Incomplete || part == whole, "{part:?} {whole:?}");
    }
});
