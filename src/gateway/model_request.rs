//! Checks the body of a request to the model's API before it is forwarded.
//!
//! The provider can act for the agent: fetch a URL, search the web, run code, connect to an MCP server, read an uploaded
//! file. Each would be a way out of the sandbox that the gateway does not see, so it is refused unless the user allows
//! it by name.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Types of tools that the client runs, without the date at their end. All others run at the provider.
const CLIENT_TOOLS: [&str; 6] = ["custom", "bash", "text_editor", "computer", "memory", "tool_search_tool"];

/// Maximum number of values in a request. Each takes up to 700 bytes of memory while it is checked.
const MAX_VALUES: usize = 200_000;

/// Parses and checks a body. `allowed` names the provider's abilities that the user allows.
///
/// # Errors
/// The reason for the refusal, as a fragment for a message.
pub fn check_message_request(body: &[u8], allowed: &ProviderTools) -> Result<(), String> {
    let request = parse_strictly(body)?;
    let Value::Object(request) = &request else { return Err("the body is not a JSON object".into()) };
    if is_present(request.get("mcp_servers")) {
        allowed.require_ability("mcp_servers")?;
    }
    if is_present(request.get("container")) {
        allowed.require_ability("code_execution")?;
    }
    for tool in request.get("tools").and_then(Value::as_array).into_iter().flatten() {
        let kind = match tool.get("type") {
            None | Some(Value::Null) => continue,
            Some(Value::String(kind)) => kind.as_str(),
            Some(_) => return Err("a tool has an invalid type".into()),
        };
        let name = tool_name(kind);
        if !CLIENT_TOOLS.iter().any(|known| name == *known || (*known == "tool_search_tool" && name.starts_with(known)))
        {
            allowed.require_ability(name)?;
        }
    }
    check_content(request.get("system"), allowed)?;
    for message in request.get("messages").and_then(Value::as_array).into_iter().flatten() {
        check_content(message.get("content"), allowed)?;
    }
    Ok(())
}

/// The provider's abilities that the user allows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProviderTools {
    /// Whether all are allowed.
    pub all: bool,
    /// Names such as `web_search`.
    pub names: Vec<String>,
}

impl ProviderTools {
    fn require_ability(&self, name: &str) -> Result<(), String> {
        if self.all || self.names.iter().any(|own| own == name) {
            return Ok(());
        }
        let shown: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(60).collect();
        Err(format!(
            "{shown} would let the model's provider act outside the sandbox; to allow it, add provider_tools = [\"{shown}\"] to the configuration on the host"
        ))
    }
}

fn is_present(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => false,
        Some(Value::Array(list)) => !list.is_empty(),
        Some(_) => true,
    }
}

/// Returns a tool's type without the date at its end.
fn tool_name(kind: &str) -> &str {
    match kind.rsplit_once('_') {
        Some((name, date)) if date.len() == 8 && date.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => kind,
    }
}

/// Checks content blocks: a text, or a list in which some blocks have content again.
fn check_content(content: Option<&Value>, allowed: &ProviderTools) -> Result<(), String> {
    for block in content.and_then(Value::as_array).into_iter().flatten() {
        let kind = block.get("type").and_then(Value::as_str).unwrap_or_default();
        if kind == "container_upload" {
            allowed.require_ability("files")?;
        }
        if let Some(source @ Value::Object(_)) = block.get("source") {
            match source.get("type").and_then(Value::as_str) {
                Some("base64" | "text") => {}
                Some("content") => check_content(source.get("content"), allowed)?,
                Some("url") => allowed.require_ability("url_sources")?,
                Some("file") => allowed.require_ability("files")?,
                _ => return Err("a source has an unknown type".into()),
            }
        }
        if kind == "tool_result" {
            check_content(block.get("content"), allowed)?;
        }
    }
    Ok(())
}

/// Parses JSON and refuses duplicate keys, of which two parsers could see different ones.
fn parse_strictly(body: &[u8]) -> Result<Value, String> {
    let left = Cell::new(MAX_VALUES);
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = StrictValue { left: &left }
        .deserialize(&mut deserializer)
        .map_err(|error| format!("the body is not strict JSON: {error}"))?;
    deserializer.end().map_err(|error| format!("the body is not strict JSON: {error}"))?;
    Ok(value)
}

/// A parser of one value.
#[derive(Clone, Copy)]
struct StrictValue<'a> {
    /// The number of values that may still be parsed.
    left: &'a Cell<usize>,
}

impl StrictValue<'_> {
    fn count_value<E: serde::de::Error>(self) -> Result<Self, E> {
        let left = self.left.get().checked_sub(1).ok_or_else(|| E::custom("it has too many values"))?;
        self.left.set(left);
        Ok(self)
    }
}

impl<'de> DeserializeSeed<'de> for StrictValue<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self.count_value()?)
    }
}

impl<'de> Visitor<'de> for StrictValue<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without duplicate keys")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(self)? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = map.next_value_seed(self)?;
            if values.insert(key, value).is_some() {
                return Err(serde::de::Error::custom("a key occurs twice"));
            }
        }
        Ok(values.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abilities_of_the_provider_need_a_name() {
        let check = |body: &str, names: &[&str]| {
            let allowed = ProviderTools { all: false, names: names.iter().map(|name| (*name).to_owned()).collect() };
            check_message_request(body.as_bytes(), &allowed)
        };
        for body in [
            r#"{"model": "m", "messages": [{"role": "user", "content": "mcp_servers"}]}"#,
            r#"{"tools": [{"name": "Bash", "input_schema": {"type": "web_fetch_20250910"}}, {"type": "custom", "name": "x"}, {"type": "bash_20250124"}]}"#,
            r#"{"tools": [{"type": "tool_search_tool_regex_20251119", "name": "t"}], "mcp_servers": [], "container": null}"#,
            r#"{"messages": [{"content": [{"type": "image", "source": {"type": "base64", "data": "AA=="}}, {"type": "tool_use", "input": {"source": {"type": "url"}}}]}]}"#,
        ] {
            assert_eq!(check(body, &[]), Ok(()), "{body}");
        }
        for (body, name) in [
            (r#"{"mcp_servers": [{"type": "url", "url": "https://evil.example"}]}"#, "mcp_servers"),
            (r#"{"tools": [{"type": "web_fetch_20250910", "name": "web_fetch"}]}"#, "web_fetch"),
            (r#"{"tools": [{"type": "web_search_20250305", "name": "web_search"}]}"#, "web_search"),
            (r#"{"tools": [{"type": "code_execution_20250825", "name": "x"}]}"#, "code_execution"),
            (r#"{"tools": [{"type": "mcp_toolset", "mcp_server_name": "x"}]}"#, "mcp_toolset"),
            (r#"{"container": "c_1"}"#, "code_execution"),
            (r#"{"container": {"skills": []}}"#, "code_execution"),
            (
                r#"{"messages": [{"content": [{"type": "image", "source": {"type": "url", "url": "https://evil.example/?q"}}]}]}"#,
                "url_sources",
            ),
            (r#"{"system": [{"type": "document", "source": {"type": "file", "file_id": "f"}}]}"#, "files"),
            (
                r#"{"messages": [{"content": [{"type": "tool_result", "content": [{"type": "document", "source": {"type": "content", "content": [{"type": "image", "source": {"type": "url"}}]}}]}]}]}"#,
                "url_sources",
            ),
            (r#"{"messages": [{"content": [{"type": "container_upload", "file_id": "f"}]}]}"#, "files"),
        ] {
            let refused = check(body, &[]).expect_err(body);
            assert!(refused.starts_with(name), "{refused}");
            assert_eq!(check(body, &[name]), Ok(()), "{body}");
        }
        let all = ProviderTools { all: true, names: Vec::new() };
        assert_eq!(check_message_request(br#"{"mcp_servers": [1]}"#, &all), Ok(()));
    }

    #[test]
    fn bodies_are_parsed_strictly() {
        let nested = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for body in [
            r#"{"a": 1, "a": 2}"#,
            r#"{"messages": [{"content": "a", "content": []}]}"#,
            r#"{"a": 1} {"a": 2}"#,
            "[]",
            "",
            "{",
            r#"{"a": 1,}"#,
            "{\"a\": NaN}",
            &nested,
            r#"{"messages": [{"content": [{"type": "image", "source": {"type": "gopher"}}]}]}"#,
            r#"{"tools": [{"type": 7}]}"#,
        ] {
            assert!(check_message_request(body.as_bytes(), &ProviderTools::default()).is_err(), "{body}");
        }
        let many = format!("[{}0]", "0,".repeat(MAX_VALUES));
        assert!(
            check_message_request(many.as_bytes(), &ProviderTools::default())
                .expect_err("too many")
                .contains("too many values")
        );
        assert!(check_message_request(b"{\"a\": \"\xff\"}", &ProviderTools::default()).is_err());
    }
}
