//! Fuzzes the check of a request to the model: what passes has no MCP server of the provider.
#![no_main]

use airlock::gateway::{ProviderTools, check_message_request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if check_message_request(bytes, &ProviderTools::default()).is_ok() {
        let value: serde_json::Value = serde_json::from_slice(bytes).expect("JSON");
        assert!(value.get("mcp_servers").is_none_or(|v| v.is_null() || v.as_array().is_some_and(Vec::is_empty)));
    }
});
