//! Finds secrets that a change adds, by issuers' token prefixes, and by names and entropy.
//!
//! The patterns follow the rules of gitleaks (`config/gitleaks.toml`), except those that are heuristic.

use std::collections::HashSet;
use std::sync::LazyLock;

use regex::bytes::{Regex, RegexBuilder};

use super::content::line_number_at;
use super::{Finding, Severity};

/// The patterns of secrets, with their descriptions.
const SECRET_PATTERNS: &[(&str, &str)] = &[
    ("an AWS access key", r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}\b"),
    ("an Anthropic key", r"\bsk-ant-[a-z]+[0-9]{2}-[A-Za-z0-9_-]{20,}"),
    ("an OpenAI key", r"\bsk-(?:proj|svcacct|admin)-[A-Za-z0-9_-]{20,}|\bsk-[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20}\b"),
    ("a GitHub token", r"\bgh[pousr]_[A-Za-z0-9]{36,}\b|\bgithub_pat_[A-Za-z0-9_]{22,}\b"),
    ("a GitLab token", r"\bgl(?:pat|ptt|rt|cbt|dt|ft|imt|agent|oas|soat)-[A-Za-z0-9_-]{20,}"),
    ("a Slack token", r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}|\bxapp-[0-9]-[A-Z0-9]+-[0-9]+-[a-z0-9]+"),
    ("a Slack webhook", r"hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9+/]{20,}"),
    ("a Google key", r"\bAIza[A-Za-z0-9_-]{35}\b"),
    ("a Google OAuth secret", r"\bGOCSPX-[A-Za-z0-9_-]{28}\b"),
    ("a Stripe key", r"\b(?:sk|rk)_(?:live|prod|test)_[A-Za-z0-9]{10,99}\b"),
    ("a SendGrid key", r"\bSG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{32,64}\b"),
    ("an npm token", r"\bnpm_[A-Za-z0-9]{36}\b"),
    ("a PyPI token", r"\bpypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50,}"),
    ("a crates.io token", r"\bcio[A-Za-z0-9]{32}\b"),
    ("a Docker Hub token", r"\bdckr_(?:pat|oat)_[A-Za-z0-9_-]{27,}"),
    ("a Hugging Face token", r"\bhf_[A-Za-z]{34}\b"),
    ("a DigitalOcean token", r"\bdo[opr]_v1_[a-f0-9]{64}\b"),
    ("a Telegram bot token", r"\b[0-9]{8,10}:AA[A-Za-z0-9_-]{33}\b"),
    ("a Vault token", r"\bhv[sbr]\.[A-Za-z0-9_-]{24,}"),
    ("an age key", r"\bAGE-SECRET-KEY-1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58}\b"),
    ("a private key", r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----"),
    ("a JSON web token", r"\beyJ[A-Za-z0-9_-]{14,}\.eyJ[A-Za-z0-9_-]{14,}\.[A-Za-z0-9_-]{10,}"),
    ("a password in a URL", r"\b[a-z][a-z0-9+.-]{2,}://[^\s/:@]{2,}:[^\s/:@${}<>*]{6,}@[A-Za-z0-9.-]+"),
];

/// A value that is assigned to a name for a secret.
const ASSIGNMENT_PATTERN: &str = r#"(?i)(?:secret|token|passw(?:or)?d|passphrase|api[_-]?key|access[_-]?key|private[_-]?key|credential)[a-z0-9_-]{0,20}["'\]]{0,2}[ \t]{0,4}(?::=|=>|=|:)[ \t]{0,4}["'`]?([A-Za-z0-9+/=_.~-]{20,200})"#;
/// Entropy in bits per character above which a value counts as random, as in gitleaks' rule for such names.
const MIN_ENTROPY: f64 = 3.5;

/// Compiles a byte pattern in which character classes are limited to ASCII.
fn compile_ascii_regex(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).unicode(false).build()
}

static SECRET_REGEXES: LazyLock<Vec<(&str, Regex)>> = LazyLock::new(|| {
    let compile = |(name, shape): &(&'static str, &str)| {
        (*name, compile_ascii_regex(shape).expect("the table's shapes are valid; a test uses them all"))
    };
    SECRET_PATTERNS.iter().map(compile).collect()
});
static ASSIGNMENT_REGEX: LazyLock<Regex> =
    LazyLock::new(|| compile_ascii_regex(ASSIGNMENT_PATTERN).expect("it is valid; a test uses it"));

/// Returns findings for values that look like secrets and are not in the base.
pub(super) fn find_secrets(old: &[u8], new: &[u8]) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut add = |what: &str, at: usize| {
        let line = Some(line_number_at(new, at));
        found.push(Finding {
            rule: "secret".into(),
            severity: Severity::High,
            reason: format!("adds what looks like {what}"),
            line,
        });
    };
    // The values of the base are collected once, with the same pattern.
    let find_first_new = |shape: &Regex, fits: fn(&[u8]) -> bool| {
        let value = |c: &regex::bytes::Captures<'_>| c.get(1).or(c.get(0)).map(|m| m.range());
        let all = |bytes: &'_ [u8]| shape.captures_iter(bytes).filter_map(|c| value(&c)).collect::<Vec<_>>();
        let found = all(new);
        if found.is_empty() {
            return None;
        }
        let known: HashSet<&[u8]> = all(old).into_iter().map(|range| &old[range]).collect();
        found
            .into_iter()
            .find(|range| fits(&new[range.clone()]) && !known.contains(&new[range.clone()]))
            .map(|r| r.start)
    };
    for (what, shape) in SECRET_REGEXES.iter() {
        if let Some(at) = find_first_new(shape, |_| true) {
            add(what, at);
        }
    }
    let assigned = find_first_new(&ASSIGNMENT_REGEX, is_random);
    if let Some(at) = assigned.filter(|_| found.is_empty()) {
        let line = Some(line_number_at(new, at));
        let reason = "adds what looks like a secret".into();
        found.push(Finding { rule: "secret".into(), severity: Severity::High, reason, line });
    }
    found
}

/// Returns whether a value is random rather than a word: it has letters, digits and a high entropy.
fn is_random(value: &[u8]) -> bool {
    let mut counts = [0_u32; 256];
    for byte in value {
        counts[usize::from(*byte)] += 1;
    }
    let length = f64::from(u32::try_from(value.len()).unwrap_or(u32::MAX));
    let bits = counts.iter().filter(|n| **n > 0).map(|n| f64::from(*n) / length).map(|p| -p * p.log2()).sum::<f64>();
    bits > MIN_ENTROPY && value.iter().any(u8::is_ascii_digit) && value.iter().any(u8::is_ascii_alphabetic)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns fake secrets. They are assembled at run time so that no scanner reports this file as a leak.
    fn samples() -> Vec<String> {
        let word = |n: usize| {
            "aZ3kQ9xW7bT1mC5vR8yL2nD6pF4hJ0sGqEuXoBiVtKzMwNcAeIgUdYfHrPjSlO".chars().cycle().take(n).collect::<String>()
        };
        let upper = |n: usize| "QWERTYUIOPASDFGHJKLZXCVBNM".chars().cycle().take(n).collect::<String>();
        let hex = |n: usize| "0a1b2c3d4e5f6789".chars().cycle().take(n).collect::<String>();
        vec![
            format!("AKIA{}", upper(16)),
            format!("sk-ant-api03-{}", word(40)),
            format!("sk-proj-{}", word(40)),
            format!("ghp_{}", word(36)),
            format!("glpat-{}", word(20)),
            format!("xoxb-{}", word(24)),
            format!("https://hooks.slack.com/services/{}", word(30)),
            format!("AIza{}", word(35)),
            format!("GOCSPX-{}", word(28)),
            format!("sk_live_{}", word(24)),
            format!("SG.{}.{}", word(22), word(43)),
            format!("npm_{}", word(36)),
            format!("pypi-AgEIcHlwaS5vcmc{}", word(60)),
            format!("cio{}", word(32)),
            format!("dckr_pat_{}", word(27)),
            format!("hf_{}", upper(34)),
            format!("dop_v1_{}", hex(64)),
            format!("123456789:AA{}", word(33)),
            format!("hvs.{}", word(30)),
            format!(
                "AGE-SECRET-KEY-1{}",
                "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L".chars().cycle().take(58).collect::<String>()
            ),
            "-----BEGIN OPENSSH PRIVATE KEY-----".into(),
            format!("eyJ{}.eyJ{}.{}", word(20), word(20), word(20)),
            format!("postgres://user:{}@db.example.org/x", word(10)),
        ]
    }

    #[test]
    fn secret_patterns_are_found_by_line_unless_in_base() {
        let samples = samples();
        assert_eq!(samples.len(), SECRET_PATTERNS.len());
        for (sample, (description, _)) in samples.iter().zip(SECRET_PATTERNS) {
            let new = format!("first\nx = \"{sample}\"\nlast\n");
            let found = find_secrets(b"", new.as_bytes());
            let reason = format!("adds what looks like {description}");
            assert!(found.iter().any(|f| f.reason == reason && f.line == Some(2)), "{sample}: {found:?}");
            assert!(found.iter().all(|f| f.severity == Severity::High && !f.reason.contains(sample.as_str())));
            assert_eq!(find_secrets(new.as_bytes(), format!("{new}more\n").as_bytes()), [], "{sample}");
        }
    }

    #[test]
    fn secret_assignments_need_name_and_entropy() {
        for line in ["api_key = \"q8Zr1Vt6Xw3Yb9Nc2Md5\"", "PASSWORD: 'kT7#'", "token => zX9cV8bN7mA6sD5fG4hJ3k"] {
            assert_eq!(find_secrets(b"", line.as_bytes()).len(), usize::from(!line.contains('#')), "{line}");
        }
        for line in [
            "token = \"aaaaaaaaaaaaaaaaaaaaaaaaa1\"",
            "password = \"correcthorsebatterystaple\"",
            "secret_name = config.get_or_default_value",
            "const tokenizer = new Tokenizer()",
            "integrity: sha512-q8Zr1Vt6Xw3Yb9Nc2Md5q8Zr1Vt6Xw3Yb9Nc2Md5",
        ] {
            assert_eq!(find_secrets(b"", line.as_bytes()), [], "{line}");
        }
    }
}
