//! The user's time zone and locale, as variables for the agent. The launcher fits them to what the image knows.

use std::path::Path;

/// Maximum size of a time zone file in bytes.
const MAX_ZONE: u64 = 64 * 1024;
const ZONES: &str = "/usr/share/zoneinfo";

/// Returns the variables, as `KEY=VALUE`. What the user has set for the sandbox is left as it is.
pub(super) fn user_surroundings(is_set: impl Fn(&str) -> bool) -> Vec<String> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let mut env = Vec::new();
    let zone = variable("TZ").or_else(read_local_zone).filter(|zone| is_zone_name(zone) && !is_set("TZ"));
    if let Some(zone) = zone {
        env.extend(read_zone_rule(&zone).map(|rule| format!("AIRLOCK_ZONE_RULE={rule}")));
        env.push(format!("TZ={zone}"));
    }
    let locale = variable("LC_ALL").or_else(|| variable("LANG"));
    let locale = locale.filter(|_| !is_set("LANG") && !is_set("LC_ALL"));
    let is_word =
        |text: &String| text.len() < 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-@".contains(&b));
    env.extend(locale.filter(is_word).map(|locale| format!("AIRLOCK_LOCALE={locale}")));
    env
}

/// Returns the name of the system's time zone.
fn read_local_zone() -> Option<String> {
    let target = std::fs::canonicalize("/etc/localtime").ok();
    let linked = target.as_deref().and_then(|target| Some(target.strip_prefix(ZONES).ok()?.to_str()?.to_owned()));
    linked.or_else(|| Some(std::fs::read_to_string("/etc/timezone").ok()?.trim().to_owned()))
}

fn is_zone_name(zone: &str) -> bool {
    zone.len() < 64
        && !zone.starts_with('/')
        && zone.split('/').all(|part| !part.is_empty() && part != "..")
        && zone.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_+-.".contains(&b))
}

/// Returns the rule for future times at the end of a time zone file (RFC 9636, "footer"), such as `CET-1CEST,M3.5.0,M10.5.0/3`.
fn read_zone_rule(zone: &str) -> Option<String> {
    let path = Path::new(ZONES).join(zone);
    if std::fs::metadata(&path).ok()?.len() > MAX_ZONE {
        return None;
    }
    parse_footer(&std::fs::read(path).ok()?)
}

fn parse_footer(file: &[u8]) -> Option<String> {
    let text = file.strip_suffix(b"\n")?;
    let start = text.iter().rposition(|b| *b == b'\n')? + 1;
    let rule = std::str::from_utf8(&text[start..]).ok()?;
    let is_rule = !rule.is_empty() && rule.bytes().all(|b| b.is_ascii_graphic() && b != b'"');
    (file.starts_with(b"TZif") && is_rule).then(|| rule.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zone_names_and_rules_are_parsed() {
        assert!(is_zone_name("Europe/Berlin") && is_zone_name("Etc/GMT+3") && is_zone_name("UTC"));
        for odd in ["", "../etc/passwd", "/etc/localtime", "a//b", ":x", "a b", "CET-1CEST,M3.5.0"] {
            assert!(!is_zone_name(odd), "{odd}");
        }
        assert_eq!(
            parse_footer(b"TZif2\0\0\n\0\x01\nCET-1CEST,M3.5.0,M10.5.0/3\n").as_deref(),
            Some("CET-1CEST,M3.5.0,M10.5.0/3")
        );
        assert_eq!(parse_footer(b"TZif2\0\nx\n\n"), None);
        assert_eq!(parse_footer(b"text\nUTC0\n"), None);
    }
}
