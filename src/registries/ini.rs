//! Parses the INI dialects of `.npmrc` and `pip.conf`.

/// Returns the section, key and value of each line. A line that begins with a blank continues the value before it, as
/// in `pip.conf`.
pub(super) fn parse_ini(text: &str, continues_lines: bool) -> Vec<(String, String, String)> {
    let mut entries: Vec<(String, String, String)> = Vec::new();
    let mut section = String::new();
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if continues_lines && line.starts_with([' ', '\t']) {
            if let Some((_, _, value)) = entries.last_mut() {
                value.push('\n');
                value.push_str(trimmed);
            }
        } else if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.trim().to_owned();
        } else if let Some((key, value)) = split_line(trimmed, continues_lines) {
            entries.push((section.clone(), key.trim().to_owned(), unquote_value(value.trim()).to_owned()));
        }
    }
    entries
}

/// Splits a line at the first `=`, or with `pip.conf` also at a `:`.
fn split_line(line: &str, has_colons: bool) -> Option<(&str, &str)> {
    let at = line.find(|c| c == '=' || (has_colons && c == ':'))?;
    Some((&line[..at], &line[at + 1..]))
}

fn unquote_value(value: &str) -> &str {
    let quoted = |quote| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    quoted('"').or_else(|| quoted('\'')).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_quotes_and_continued_lines_are_parsed() {
        let text = "a = 1\n# c\n[global]\nindex-url: https://x/simple\nextra-index-url =\n  https://y/simple\n\thttps://z/simple\n";
        let found = parse_ini(text, true);
        let values: Vec<(&str, &str, &str)> =
            found.iter().map(|(s, k, v)| (s.as_str(), k.as_str(), v.as_str())).collect();
        assert_eq!(
            values,
            [
                ("", "a", "1"),
                ("global", "index-url", "https://x/simple"),
                ("global", "extra-index-url", "\nhttps://y/simple\nhttps://z/simple"),
            ]
        );
        let found = parse_ini("registry = \"https://x/\"\n//x/:_authToken=a=b\n", false);
        assert_eq!(found[0].2, "https://x/");
        assert_eq!((found[1].1.as_str(), found[1].2.as_str()), ("//x/:_authToken", "a=b"));
    }
}
