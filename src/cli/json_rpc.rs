//! JSON-RPC 2.0 on standard input and output, for programs that drive Airlock: one message on each line.

use std::io::{self, BufRead, Read};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::error::CliError;
use super::interrupt::Interrupt;
use super::json::render_json_line;
use super::output::print_stdout;

/// Maximum size of a message, in bytes.
const MAX_MESSAGE_BYTES: u64 = 256 << 20;

/// The reason why a request has no result.
#[derive(Debug)]
pub(super) enum RpcError {
    UnknownMethod,
    InvalidParams(String),
    Failed(Box<CliError>),
}

impl<E: Into<CliError>> From<E> for RpcError {
    fn from(error: E) -> Self {
        Self::Failed(Box::new(error.into()))
    }
}

/// A message of a client.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    jsonrpc: String,
    /// A request without an ID is not answered.
    #[serde(default, deserialize_with = "some_value")]
    id: Option<Value>,
    method: String,
    #[serde(default)]
    params: Value,
}

/// Reads a field that is present, null included.
fn some_value<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(value).map(Some)
}

/// Parses the parameters of a method. No parameters are an empty object, or an empty list, which some languages do not tell apart.
pub(super) fn parse_params<T: DeserializeOwned>(params: Value) -> Result<T, RpcError> {
    let is_empty = params.is_null() || params.as_array().is_some_and(Vec::is_empty);
    let params = if is_empty { json!({}) } else { params };
    if !params.is_object() {
        return Err(RpcError::InvalidParams("parameters are passed by name, as an object".into()));
    }
    serde_json::from_value(params).map_err(|error| RpcError::InvalidParams(error.to_string()))
}

/// Answers the requests of `input`, one after the other, until it ends.
///
/// # Errors
/// A message is too large, a signal arrived while a request was carried out, or an I/O error. Wrong messages are answered with an error.
pub(super) fn serve_requests(
    mut input: impl BufRead,
    mut answer: impl FnMut(&str, Value) -> Result<Value, RpcError>,
) -> Result<(), CliError> {
    let mut line = Vec::new();
    while read_message(&mut input, &mut line)? {
        let reply = match parse_message(&line) {
            Ok(message) => {
                let result = answer(&message.method, message.params);
                message.id.map(|id| match result {
                    Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
                    Err(error) => error_reply(&id, error_object(error, &message.method)),
                })
            }
            Err(error) => Some(error_reply(&Value::Null, error)),
        };
        if let Some(reply) = reply {
            print_stdout(&render_json_line(&reply))?;
        }
        if Interrupt::has_arrived() {
            return Err(CliError::interrupted("interrupted; the decisions are saved"));
        }
    }
    Ok(())
}

/// Reads the next line. Returns whether there was one.
fn read_message(input: &mut impl BufRead, line: &mut Vec<u8>) -> Result<bool, CliError> {
    line.clear();
    let count = input.take(MAX_MESSAGE_BYTES + 1).read_until(b'\n', line)?;
    if count as u64 > MAX_MESSAGE_BYTES {
        return Err(io::Error::other(format!("a message is larger than {MAX_MESSAGE_BYTES} bytes")).into());
    }
    Ok(count > 0)
}

/// Parses a message, or returns the error object that answers it.
fn parse_message(line: &[u8]) -> Result<Message, Value> {
    let value: Value = serde_json::from_slice(line)
        .map_err(|error| json!({"code": -32700, "message": format!("no JSON: {error}")}))?;
    let invalid = |reason: String| json!({"code": -32600, "message": format!("invalid request: {reason}")});
    if value.is_array() {
        return Err(invalid("batches are not supported".into()));
    }
    let message: Message = serde_json::from_value(value).map_err(|error| invalid(error.to_string()))?;
    if message.jsonrpc != "2.0" {
        return Err(invalid("`jsonrpc` is not \"2.0\"".into()));
    }
    Ok(message)
}

fn error_reply(id: &Value, error: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "error": error})
}

/// Returns the error object of a failed request. The code of a failure is the exit status that a command would have.
fn error_object(error: RpcError, method: &str) -> Value {
    match error {
        RpcError::UnknownMethod => json!({"code": -32601, "message": format!("there is no method `{method}`")}),
        RpcError::InvalidParams(reason) => json!({"code": -32602, "message": format!("invalid parameters: {reason}")}),
        RpcError::Failed(error) => json!({
            "code": error.kind.exit_status(),
            "message": error.message(),
            "data": {"details": error.detail_lines(), "hints": error.hints()},
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_messages_have_codes_of_the_standard() {
        for (line, code) in [
            (&b"{"[..], -32700),
            (b"\xff", -32700),
            (b"[]", -32600),
            (b"3", -32600),
            (br#"{"jsonrpc": "1.0", "id": 1, "method": "list"}"#, -32600),
            (br#"{"jsonrpc": "2.0", "id": 1}"#, -32600),
            (br#"{"jsonrpc": "2.0", "id": 1, "method": "list", "more": 1}"#, -32600),
        ] {
            let error = parse_message(line).expect_err("it is wrong");
            assert_eq!(error["code"], code, "{error}");
        }
    }

    #[test]
    fn null_is_an_id() {
        let with = |id: &str| parse_message(format!(r#"{{"jsonrpc": "2.0"{id}, "method": "list"}}"#).as_bytes());
        assert_eq!(with("").expect("valid").id, None);
        assert_eq!(with(r#", "id": null"#).expect("valid").id, Some(Value::Null));
        assert_eq!(with(r#", "id": "a""#).expect("valid").id, Some("a".into()));
    }

    #[test]
    fn large_message_is_an_error() {
        let mut endless = io::BufReader::new(io::repeat(b' '));
        let failure = read_message(&mut endless, &mut Vec::new()).expect_err("too large");
        assert!(failure.message().contains("larger than 268435456 bytes"), "{failure:?}");
    }

    #[test]
    fn failure_has_the_exit_status_details_and_hints() {
        let failure = CliError::stale("it changed").with_details(["a".to_owned()]).with_hint("run `b`");
        let object = error_object(RpcError::from(failure), "decide");
        let data = json!({"details": ["a"], "hints": ["run `b`"]});
        assert_eq!(object, json!({"code": 5, "message": "it changed", "data": data}));
    }
}
