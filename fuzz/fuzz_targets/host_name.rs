//! Fuzzes names of hosts: a name that passes is no address, and parses to itself.
#![no_main]

use airlock::gateway::HostName;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(host) = HostName::parse(text) {
        assert_eq!(HostName::parse(host.as_str()).as_ref(), Ok(&host));
        assert!(host.as_str().parse::<std::net::IpAddr>().is_err());
    }
});
