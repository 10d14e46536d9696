//! Fuzzes the paths of package registries: the URL stays at its upstream and below it.
#![no_main]

use airlock::gateway::parse_any_path;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for url in parse_any_path(text) {
        assert_eq!(url.host_str(), Some("upstream.example"));
        assert!(url.query().is_none() && url.fragment().is_none(), "{url}");
        assert!(!url.path().split('/').any(|part| part == ".."), "{url}");
    }
});
