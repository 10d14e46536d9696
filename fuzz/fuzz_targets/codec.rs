//! Fuzzes the frame codec of both peers: no input panics, and a decoded message round-trips.
#![no_main]

use airlock::protocol::{Decoder, Encoder, HEADER_LEN, MAX_PAYLOAD, parse_header, read_frame};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut reader = bytes;
    while let Ok(Some(frame)) = read_frame(&mut reader) {
        assert!(frame.payload.len() <= MAX_PAYLOAD);
    }
    if let Some(head) = bytes.first_chunk::<HEADER_LEN>() {
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
    round_trip!(decode_request, |encoder, value| encoder.encode_request(&value));
    round_trip!(decode_entry, |encoder, value| encoder.encode_entry(value.0, value.1, &value.2));
    round_trip!(decode_listed, |encoder, value| encoder.encode_listed(&value));
    round_trip!(decode_written, |encoder, value| encoder.encode_written(&value));
    round_trip!(decode_usage, |encoder, value| encoder.encode_usage(&value));
    round_trip!(decode_space, |encoder, value| encoder.encode_space(value));
    round_trip!(decode_stat, |encoder, value| encoder.encode_stat(&value));
});
