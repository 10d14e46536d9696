//! Counts the tokens that responses of the model's API report.

use serde::{Deserialize, Serialize};

/// Longest event or response in which usage is looked for, in bytes.
const MAX_BUFFER: usize = 4 << 20;

/// Numbers of tokens, as the provider reports them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TokenUsage {
    #[serde(rename = "input_tokens", deserialize_with = "number_or_zero")]
    pub input: u64,
    #[serde(rename = "cache_creation_input_tokens", deserialize_with = "number_or_zero")]
    pub cache_writes: u64,
    #[serde(rename = "cache_read_input_tokens", deserialize_with = "number_or_zero")]
    pub cache_reads: u64,
    #[serde(rename = "output_tokens", deserialize_with = "number_or_zero")]
    pub output: u64,
}

fn number_or_zero<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    Ok(Option::<u64>::deserialize(deserializer)?.unwrap_or(0))
}

impl TokenUsage {
    /// Returns the number that a budget counts: everything except reads from the provider's cache, which cost a tenth.
    #[must_use]
    pub fn budgeted_tokens(&self) -> u64 {
        self.input.saturating_add(self.cache_writes).saturating_add(self.output)
    }

    /// Adds another response's tokens.
    pub fn add_usage(&mut self, other: Self) {
        self.input = self.input.saturating_add(other.input);
        self.cache_writes = self.cache_writes.saturating_add(other.cache_writes);
        self.cache_reads = self.cache_reads.saturating_add(other.cache_reads);
        self.output = self.output.saturating_add(other.output);
    }
}

/// Reads the usage of one response, chunk by chunk.
#[derive(Debug, Default)]
pub(super) struct UsageReader {
    is_stream: bool,
    buffer: Vec<u8>,
    is_too_long: bool,
    usage: TokenUsage,
    /// Bytes since the start of the message, until its usage is known.
    unreported: u64,
}

/// Bytes of events for one token of output, at least: the estimate for a response that the agent did not read to its
/// end.
const BYTES_PER_TOKEN: u64 = 40;

impl UsageReader {
    /// Creates a reader for a stream of events, or for one JSON document.
    pub(super) fn new(content_type: &[u8]) -> Self {
        Self { is_stream: content_type.starts_with(b"text/event-stream"), ..Self::default() }
    }

    pub(super) fn read_chunk(&mut self, chunk: &[u8]) {
        if !self.is_stream {
            self.is_too_long |= self.buffer.len() + chunk.len() > MAX_BUFFER;
            if !self.is_too_long {
                self.buffer.extend_from_slice(chunk);
            }
            return;
        }
        self.unreported += chunk.len() as u64;
        for part in chunk.split_inclusive(|b| *b == b'\n') {
            self.is_too_long |= self.buffer.len() + part.len() > MAX_BUFFER;
            if !self.is_too_long {
                self.buffer.extend_from_slice(part);
            }
            if part.ends_with(b"\n") {
                if !self.is_too_long {
                    self.read_line();
                }
                self.buffer.clear();
                self.is_too_long = false;
            }
        }
    }

    fn read_line(&mut self) {
        let Some(data) = self.buffer.strip_prefix(b"data:") else { return };
        // Most events are pieces of text, which need not be parsed.
        if memchr::memmem::find(data, b"\"usage\"").is_none() {
            return;
        }
        let Ok(event) = serde_json::from_slice::<Event>(data) else { return };
        match event.kind.as_str() {
            "message_start" => self.usage = event.message.and_then(|message| message.usage).unwrap_or_default(),
            // The numbers of a delta are cumulative.
            "message_delta" => {
                if let Some(usage) = event.usage {
                    self.unreported = 0;
                    self.usage.output = usage.output;
                    self.usage.input = self.usage.input.max(usage.input);
                    self.usage.cache_writes = self.usage.cache_writes.max(usage.cache_writes);
                    self.usage.cache_reads = self.usage.cache_reads.max(usage.cache_reads);
                }
            }
            _ => {}
        }
    }

    /// Returns the usage that was read so far. The output of a stream that ended early is estimated.
    pub(super) fn finish_reading(&mut self) -> TokenUsage {
        if !self.is_stream && !self.is_too_long {
            let message = serde_json::from_slice::<Message>(&self.buffer).ok();
            self.usage = message.and_then(|message| message.usage).unwrap_or_default();
        }
        if self.is_stream && self.unreported > 1000 {
            self.usage.output = self.usage.output.max(self.unreported / BYTES_PER_TOKEN);
        }
        self.usage
    }
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    message: Option<Message>,
    usage: Option<TokenUsage>,
}

#[derive(Deserialize)]
struct Message {
    usage: Option<TokenUsage>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_from_events_at_every_split_and_from_documents() {
        let stream = concat!(
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":10,\"cache_creation_input_tokens\":5,\"cache_read_input_tokens\":null,\"output_tokens\":1}}}\n\n",
            "data: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"\\\"usage\\\"\"}}\n\n",
            "data: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":7}}\n\ndata: {\"type\":\"message_stop\"}\n\n"
        );
        for size in 1..stream.len() {
            let mut reader = UsageReader::new(b"text/event-stream; charset=utf-8");
            stream.as_bytes().chunks(size).for_each(|chunk| reader.read_chunk(chunk));
            let usage = reader.finish_reading();
            assert_eq!(usage, TokenUsage { input: 10, cache_writes: 5, cache_reads: 0, output: 7 }, "{size}");
            assert_eq!(usage.budgeted_tokens(), 22);
        }
        let mut reader = UsageReader::new(b"application/json");
        reader.read_chunk(b"{\"usage\": {\"input_tokens\": 3, \"out");
        reader.read_chunk(b"put_tokens\": 4}}");
        assert_eq!(reader.finish_reading(), TokenUsage { input: 3, output: 4, ..TokenUsage::default() });
        let mut reader = UsageReader::new(b"text/event-stream");
        reader.read_chunk(&vec![b'x'; MAX_BUFFER + 1]);
        reader.read_chunk(b"\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":2}}}\n");
        let usage = reader.finish_reading();
        assert_eq!(usage.input, 2, "a line that is too long is skipped");
        assert!(usage.output > 100_000, "a response without its end is estimated");
        assert!(reader.buffer.is_empty());
    }
}
