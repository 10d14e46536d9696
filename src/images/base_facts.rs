//! What a base image is: its distribution, its C library, its users. Asked from the base itself, in a container without a
//! network.

use std::collections::BTreeMap;

/// A distribution with the package manager that the agent layer uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    /// Debian, Ubuntu and others with apt.
    Debian,
    /// Fedora, Red Hat and others with dnf.
    Fedora,
    Alpine,
}

/// The facts about a base image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseFacts {
    /// `None` if it has no known package manager.
    pub distribution: Option<Distribution>,
    /// Its name for messages.
    pub name: String,
    pub is_musl: bool,
    /// The packages of the agent layer that are missing, by command.
    pub missing: Vec<String>,
    /// The packages of npm and of pip; `None` for one that it has.
    pub npm: Option<String>,
    pub pip: Option<String>,
}

/// A shell script that prints a line `KEY VALUE` for each fact.
pub(super) const PROBE_SCRIPT: &str = r#"
[ -r /etc/os-release ] && . /etc/os-release
echo "name ${PRETTY_NAME:-unknown}"
for manager in apt-get dnf microdnf apk; do command -v $manager >/dev/null 2>&1 && echo "manager $manager"; done
for library in /lib/ld-musl-*; do [ -e "$library" ] && echo "musl 1"; done
for tool in git curl less rg jq ps python3 node make bash npm pip3; do command -v $tool >/dev/null 2>&1 && echo "tool $tool"; done
[ -s /etc/ssl/certs/ca-certificates.crt ] || [ -s /etc/pki/tls/certs/ca-bundle.crt ] && echo "tool ca-certificates"
true
"#;

/// The package clients that install tools, with their packages.
const CLIENTS: [(&str, [&str; 3]); 2] = [("npm", ["npm"; 3]), ("pip3", ["python3-pip", "python3-pip", "py3-pip"])];
/// The commands of the agent layer with their packages, of Debian, Fedora and Alpine.
const TOOLS: [(&str, [&str; 3]); 11] = [
    ("git", ["git"; 3]),
    ("ca-certificates", ["ca-certificates"; 3]),
    ("curl", ["curl"; 3]),
    ("less", ["less"; 3]),
    ("rg", ["ripgrep"; 3]),
    ("jq", ["jq"; 3]),
    ("ps", ["procps", "procps-ng", "procps"]),
    ("python3", ["python3"; 3]),
    ("node", ["nodejs"; 3]),
    ("make", ["make"; 3]),
    ("bash", ["bash"; 3]),
];

impl BaseFacts {
    /// Parses the output of the script, which is the base's and may be anything.
    #[must_use]
    pub fn parse_output(output: &str) -> Self {
        let mut lines: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (key, value) in output.lines().filter_map(|line| line.split_once(' ')) {
            lines.entry(key).or_default().push(value.trim());
        }
        let all = |key: &str| lines.get(key).cloned().unwrap_or_default();
        let has = |manager: &str| all("manager").contains(&manager);
        let distribution = if has("apt-get") {
            Some(Distribution::Debian)
        } else if has("dnf") || has("microdnf") {
            Some(Distribution::Fedora)
        } else {
            has("apk").then_some(Distribution::Alpine)
        };
        let column = match distribution {
            Some(Distribution::Fedora) => 1,
            Some(Distribution::Alpine) => 2,
            _ => 0,
        };
        let tools = all("tool");
        let [npm, pip] =
            CLIENTS.map(|(client, packages)| (!tools.contains(&client)).then(|| packages[column].to_owned()));
        let missing = TOOLS.iter().filter(|(tool, _)| !tools.contains(tool));
        Self {
            distribution,
            name: all("name").first().map_or_else(|| "unknown".into(), |name| name.chars().take(80).collect()),
            is_musl: lines.contains_key("musl"),
            missing: missing.map(|(_, packages)| packages[column].to_owned()).collect(),
            npm,
            pip,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_are_told_apart() {
        let debian = BaseFacts::parse_output("name Debian 13\nmanager apt-get\ntool git\ntool ps\ntool bash\n");
        assert_eq!((debian.distribution, debian.is_musl), (Some(Distribution::Debian), false));
        assert_eq!(debian.missing, ["ca-certificates", "curl", "less", "ripgrep", "jq", "python3", "nodejs", "make"]);
        let alpine = BaseFacts::parse_output("name Alpine Linux\nmanager apk\nmusl 1\nmusl 1\n");
        assert_eq!((alpine.distribution, alpine.is_musl), (Some(Distribution::Alpine), true));
        assert!(alpine.missing.contains(&"procps".to_owned()) && alpine.missing.contains(&"bash".to_owned()));
        let fedora = BaseFacts::parse_output("manager microdnf\n");
        assert_eq!(fedora.distribution, Some(Distribution::Fedora));
        assert!(fedora.missing.contains(&"procps-ng".to_owned()));
        assert_eq!(BaseFacts::parse_output("rubbish\n\u{1b}[2J").distribution, None);
    }
}
