//! Fuzzes the check of what git sends for a fetch.
#![no_main]

use airlock::gateway::check_upload_request;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = check_upload_request(bytes);
});
