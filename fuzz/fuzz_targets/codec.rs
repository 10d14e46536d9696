//! The frame codec, as either end reads it: nothing panics, and what is understood means the same when it is written again.
#![no_main]

use airlock::protocol::{Decoder, Encoder, HEADER, MAX_PAYLOAD, parse_header, read_frame};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut reader = bytes;
    while let Ok(Some(frame)) = read_frame(&mut reader) {
        assert!(frame.payload.len() <= MAX_PAYLOAD);
    }
    if let Some(head) = bytes.first_chunk::<HEADER>() {
        let _ = parse_header(*head);
    }

    macro_rules! round_trip {
        ($read:ident, |$encoder:ident, $value:ident| $write:expr) => {{
            let mut decoder = Decoder(bytes);
            while let Ok($value) = decoder.$read() {
                let mut $encoder = Encoder::default();
                $write;
                assert_eq!(Decoder(&$encoder.0).$read().expect("it is ours"), $value);
                if decoder.is_empty() {
                    break;
                }
            }
        }};
    }
    round_trip!(request, |encoder, value| encoder.request(&value));
    round_trip!(entry, |encoder, value| encoder.entry(value.0, value.1, &value.2));
    round_trip!(listed, |encoder, value| encoder.listed(&value));
    round_trip!(written, |encoder, value| encoder.written(&value));
    round_trip!(usage, |encoder, value| encoder.usage(&value));
    round_trip!(space, |encoder, value| encoder.space(value));
    round_trip!(stat, |encoder, value| encoder.stat(&value));
});
