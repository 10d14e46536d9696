//! Checks the raw path of a request before any route looks at it. A path that another server could read in a second way
//! is refused, never normalized.

/// The longest path that is accepted, in bytes.
const MAX_LENGTH: usize = 2048;

/// Checks a raw path: it begins with `/`, and has no empty segment, no `.` or `..` segment, no backslash and no control
/// character. Percent-encoding is accepted only for printable ASCII characters other than letters, digits and `%./\`.
///
/// # Errors
/// The problem, as a fragment for a message.
pub(super) fn check_path(path: &str) -> Result<(), &'static str> {
    if path.len() > MAX_LENGTH {
        return Err("the path is too long");
    }
    let Some(rest) = path.strip_prefix('/') else { return Err("the path does not begin with a slash") };
    let mut segments = rest.split('/').peekable();
    while let Some(segment) = segments.next() {
        // A path may end with a slash.
        if segment.is_empty() && segments.peek().is_some() {
            return Err("the path has an empty segment");
        }
        // Some servers ignore what follows a semicolon.
        if matches!(segment.split(';').next(), Some("." | "..")) {
            return Err("the path has a relative segment");
        }
        check_characters(segment)?;
    }
    Ok(())
}

/// Checks a query string by the same rules for characters; slashes are accepted.
pub(super) fn check_query(query: &str) -> Result<(), &'static str> {
    if query.len() > MAX_LENGTH {
        return Err("the query is too long");
    }
    if query.contains('?') {
        return Err("the query has a second question mark");
    }
    query.split('/').try_for_each(check_characters)
}

fn check_characters(text: &str) -> Result<(), &'static str> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += match byte {
            b'%' => {
                let decoded =
                    decode_byte(bytes.get(at + 1..at + 3)).ok_or("the path has a damaged percent-encoding")?;
                if !decoded.is_ascii_graphic() || decoded.is_ascii_alphanumeric() || b"%./\\".contains(&decoded) {
                    return Err("the path encodes a character that must not be encoded");
                }
                3
            }
            b'\\' => return Err("the path has a backslash"),
            _ if !byte.is_ascii_graphic() => return Err("the path has a character that is not printable ASCII"),
            _ => 1,
        };
    }
    Ok(())
}

/// Decodes two hexadecimal digits.
fn decode_byte(digits: Option<&[u8]>) -> Option<u8> {
    let digits = std::str::from_utf8(digits?).ok()?;
    // `from_str_radix` accepts a sign.
    let is_hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
    is_hex.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// Decodes the percent-encoding of a checked text.
pub(super) fn decode_percent(text: &str) -> String {
    let mut parts = text.split('%');
    let mut decoded = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match decode_byte(part.as_bytes().get(..2)) {
            Some(byte) => {
                decoded.push(char::from(byte));
                decoded.push_str(&part[2..]);
            }
            None => {
                decoded.push('%');
                decoded.push_str(part);
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ambiguous_paths_are_refused() {
        for path in
            ["/", "/a", "/a/b/", "/simple/six/", "/a-1.0+local.whl", "/a%2Blocal", "/@scope/name", "/!x/@v/v1.0.0.mod"]
        {
            assert_eq!(check_path(path), Ok(()), "{path}");
        }
        for path in [
            "",
            "a",
            "//a",
            "/a//b",
            "/a/../b",
            "/..",
            "/a/..;x/b",
            "/.",
            "/a/.",
            "/a/%2e%2e/b",
            "/%2E",
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a\\b",
            "/a%00",
            "/a%0d%0a",
            "/a%6d",
            "/a%c0%ae",
            "/a%",
            "/a%4",
            "/a%+1",
            "/é",
            "/a b",
            "/a%25",
            "/a\u{7f}",
        ] {
            assert!(check_path(path).is_err(), "{path}");
        }
        assert!(check_path(&format!("/{}", "x".repeat(MAX_LENGTH))).is_err());
        assert!(check_query("a=b/c&d=%2B").is_ok() && check_query("a?b").is_err() && check_query("a=%2e").is_err());
        assert_eq!(decode_percent("a%2Bb%40"), "a+b@");
    }
}
