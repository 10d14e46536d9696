//! Host names and the patterns that allow or deny them. A name has one spelling: lower case, ASCII, without a trailing
//! dot.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A host name in its one spelling. It is never an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(String);

/// A reason why a text is not the name of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    #[error("is an address; only names can be allowed")]
    Address,
    #[error("is not a host name")]
    Invalid,
}

impl HostName {
    /// Parses a host name. One trailing dot is dropped, and an internationalized name is converted to ASCII.
    ///
    /// # Errors
    /// The text is an address in any spelling that a URL accepts (`0x7f.1`, `2130706433`), or no name at all.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        // A URL's parser would decode these.
        if text.contains(|c: char| c == '%' || c.is_whitespace() || c.is_control()) {
            return Err(HostError::Invalid);
        }
        match url::Host::parse(text.strip_suffix('.').unwrap_or(text)) {
            Ok(url::Host::Domain(name)) => Self::from_ascii(&name),
            Ok(url::Host::Ipv4(_) | url::Host::Ipv6(_)) => Err(HostError::Address),
            Err(_) if text.contains(':') || text.bytes().all(|b| b.is_ascii_digit() || b == b'.') => {
                Err(HostError::Address)
            }
            Err(_) => Err(HostError::Invalid),
        }
    }

    /// Checks the labels: letters, digits, hyphens and underscores, at most 63 bytes each and 253 bytes in all (RFC
    /// 1035, 2.3.4).
    fn from_ascii(name: &str) -> Result<Self, HostError> {
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b))
        };
        if name.len() > 253 || !name.split('.').all(is_label) {
            return Err(HostError::Invalid);
        }
        Ok(Self(name.to_owned()))
    }

    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether the name has no meaning on the public internet, such as `localhost` or one label.
    #[must_use]
    pub fn is_local(&self) -> bool {
        let last = self.0.rsplit('.').next().unwrap_or_default();
        !self.0.contains('.') || ["localhost", "local", "internal", "lan", "home", "arpa", "onion"].contains(&last)
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A pattern for hosts: `example.org`, or `*.example.org` for every name below it but not itself, each with an optional
/// port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPattern {
    name: HostName,
    has_wildcard: bool,
    port: Option<u16>,
}

impl HostPattern {
    /// Returns whether the pattern matches a host and port. A pattern without a port matches the ports of HTTPS and
    /// HTTP.
    #[must_use]
    pub fn matches_host(&self, host: &HostName, port: u16) -> bool {
        let is_port = self.port.map_or(matches!(port, 80 | 443), |own| own == port);
        is_port && self.matches_name(host)
    }

    /// Returns whether the pattern denies a host and port. A pattern without a port covers all ports.
    #[must_use]
    pub fn covers_host(&self, host: &HostName, port: u16) -> bool {
        self.port.is_none_or(|own| own == port) && self.matches_name(host)
    }

    /// Returns whether the pattern matches a host on any port.
    #[must_use]
    pub fn matches_name(&self, host: &HostName) -> bool {
        if self.has_wildcard {
            host.0.strip_suffix(&self.name.0).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        } else {
            host == &self.name
        }
    }
}

impl std::str::FromStr for HostPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains("://") {
            return Err(format!(
                "{text} is an address with a scheme; give only the host, such as example.org or example.org:8443"
            ));
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port))
                if !name.contains(':') && !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) =>
            {
                let port = port.parse().ok().filter(|p| *p != 0).ok_or_else(|| format!("{text} has no valid port"))?;
                (name, Some(port))
            }
            _ => (text, None),
        };
        let (name, has_wildcard) = name.strip_prefix("*.").map_or((name, false), |rest| (rest, true));
        if name.contains('*') {
            return Err(format!("{text} has a wildcard that is not at the beginning, as in *.example.org"));
        }
        let name = HostName::parse(name).map_err(|error| format!("{text} {error}"))?;
        if has_wildcard && !name.0.contains('.') {
            return Err(format!("{text} would match every name of a top-level domain"));
        }
        Ok(Self { name, has_wildcard, port })
    }
}

impl TryFrom<String> for HostPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> Self {
        pattern.to_string()
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.has_wildcard { "*." } else { "" }, self.name)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_has_one_spelling_and_is_never_an_address() {
        for (text, name) in [
            ("Example.ORG", "example.org"),
            ("example.org.", "example.org"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("localhost", "localhost"),
            ("a_b.example", "a_b.example"),
        ] {
            assert_eq!(HostName::parse(text).map(|host| host.0), Ok(name.to_owned()), "{text}");
        }
        for address in [
            "127.0.0.1",
            "127.1",
            "0x7f.1",
            "0x7f000001",
            "2130706433",
            "017700000001",
            "0177.0.0.1",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[64:ff9b::1]",
            "::1",
            "1.2.3.4.",
            "999.1.1.1",
            "①②⑦.0.0.1",
            "127。0。0。1",
        ] {
            assert_eq!(HostName::parse(address), Err(HostError::Address), "{address}");
        }
        for text in [
            "",
            ".",
            "..",
            "a..b",
            "a b",
            "a\0b",
            "a\r\nb",
            "a/b",
            "a@b",
            "%61.example",
            "example.org..",
            "a:b@c",
            "a#b",
        ] {
            assert!(HostName::parse(text).is_err(), "{text:?}");
        }
        assert!(HostName::parse(&format!("{}.org", "a".repeat(64))).is_err());
    }

    #[test]
    fn patterns_match_what_they_name() {
        let matches = |pattern: &str, host: &str, port| {
            let pattern: HostPattern = pattern.parse().expect("a pattern");
            pattern.matches_host(&HostName::parse(host).expect("a host"), port)
        };
        assert!(matches("example.org", "EXAMPLE.org.", 443) && matches("example.org", "example.org", 80));
        assert!(!matches("example.org", "example.org", 8443) && !matches("example.org", "a.example.org", 443));
        assert!(matches("example.org:8443", "example.org", 8443) && !matches("example.org:8443", "example.org", 443));
        assert!(matches("*.example.org", "a.b.example.org", 443) && !matches("*.example.org", "example.org", 443));
        assert!(!matches("*.example.org", "badexample.org", 443));
        assert!(!matches("allowed.example", "allowed.example.evil.example", 443));
        for bad in [
            "",
            "*",
            "*.",
            "*.org",
            "a.*.org",
            "10.0.0.1",
            "[::1]:443",
            "example.org:0",
            "example.org:99999",
            "https://example.org",
            "*.*.org",
        ] {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad}");
        }
    }
}
