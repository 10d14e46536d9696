//! Fuzzes the parsers of the documents of package registries: a listed file has a URL without a login.
#![no_main]

use airlock::gateway::parse_any_document;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, &[u8])| {
    let (is_json, body) = input;
    for url in parse_any_document(if is_json { "application/json" } else { "text/html" }, body) {
        assert!(url.scheme() == "https", "{url}");
        assert!(url.username().is_empty() && url.password().is_none(), "{url}");
    }
});
