//! Fuzzes the parsers of the gateway: first messages of TLS, requests of the model and of git, paths and documents of
//! package registries.
#![no_main]

use airlock::gateway::{
    HelloState, HostName, ProviderTools, check_message_request, check_upload_request, parse_any_document, parse_any_path,
    parse_hello,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, Vec<u8>)| {
    let (kind, bytes) = input;
    let text = String::from_utf8_lossy(&bytes);
    match kind % 6 {
        0 => {
            // More bytes never change an answer.
            let whole = parse_hello(&bytes);
            for end in 0..bytes.len() {
                let part = parse_hello(&bytes[..end]);
                assert!(part == HelloState::Incomplete || part == whole, "{part:?} {whole:?}");
            }
        }
        1 => {
            if check_message_request(&bytes, &ProviderTools::default()).is_ok() {
                let value: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
                assert!(value.get("mcp_servers").is_none_or(|v| v.is_null() || v.as_array().is_some_and(Vec::is_empty)));
            }
        }
        2 => drop(check_upload_request(&bytes)),
        3 => {
            for url in parse_any_path(&text) {
                assert_eq!(url.host_str(), Some("upstream.example"));
                assert!(url.query().is_none() && url.fragment().is_none(), "{url}");
                assert!(!url.path().contains("..") || !url.path().split('/').any(|part| part == ".."), "{url}");
            }
        }
        4 => {
            for (content_type, body) in [("application/json", &bytes), ("text/html", &bytes)] {
                for url in parse_any_document(content_type, body) {
                    assert!(url.scheme() == "https", "{url}");
                    assert!(url.username().is_empty() && url.password().is_none(), "{url}");
                }
            }
        }
        _ => {
            if let Ok(host) = HostName::parse(&text) {
                assert_eq!(HostName::parse(host.as_str()).as_ref(), Ok(&host));
                assert!(host.as_str().parse::<std::net::IpAddr>().is_err());
            }
        }
    }
});
