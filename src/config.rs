//! Reads the user's settings. Flags override `AIRLOCK_*` variables, which override the configuration file, which
//! overrides the defaults.
//!
//! A repository can only add risk rules, and request hosts and a setup, in its committed `.airlock.toml`: a file that an agent
//! can edit must not weaken the agent's sandbox.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use etcetera::{BaseStrategy, choose_base_strategy};
use serde::Deserialize;

use crate::changes::Rule;
use crate::gateway::{HostPattern, NetworkLevel};

/// The description of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettingInfo {
    pub name: &'static str,
    pub description: &'static str,
    /// `default` or `example`: the meaning of the sample.
    pub kind: &'static str,
    /// A value as in the file.
    pub sample: &'static str,
}

/// A setting with its value and origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingValue {
    pub name: &'static str,
    /// The value as in the file; `None` if there is neither a value nor a default.
    pub value: Option<String>,
    pub origin: SettingOrigin,
}

/// The place that a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingOrigin {
    Default,
    File(PathBuf),
    Variable(String),
}

/// Declares each setting once: its field and name in the file, its type, whether its environment variable holds a number,
/// and its default, or else an example.
macro_rules! settings {
    ($($(#[doc = $doc:literal])* $key:ident: $type:ty, $number:literal, $kind:ident $sample:literal;)*) => {
        /// The user's settings; `None` stands for the default.
        #[derive(Debug, Clone, Default, PartialEq, Deserialize)]
        pub struct Settings {
            $($(#[doc = $doc])* pub $key: Option<$type>,)*
            /// The user's risk rules, in addition to the built-in ones.
            #[serde(default)]
            pub risk: Vec<Rule>,
            /// The user's routes for requests with a credential from the host.
            #[serde(default)]
            pub route: Vec<RouteSetting>,
            /// The keys of commands of the full-screen review, by command.
            #[serde(default)]
            pub keys: BTreeMap<String, KeyNames>,
        }

        /// The names of the settings, and whether the environment variable holds a number.
        const KEYS: &[(&str, bool)] = &[$((stringify!($key), $number),)*];

        /// All settings, in the order of the documentation.
        pub const SETTINGS: &[SettingInfo] = &[$(SettingInfo {
            name: stringify!($key),
            description: concat!($($doc),*),
            kind: stringify!($kind),
            sample: $sample,
        },)*];

        impl Settings {
            /// Returns these settings overridden by `over`; risk rules are concatenated.
            #[must_use]
            pub fn overridden_by(self, over: Self) -> Self {
                Self {
                    $($key: over.$key.or(self.$key),)*
                    risk: self.risk.into_iter().chain(over.risk).collect(),
                    route: self.route.into_iter().chain(over.route).collect(),
                    keys: self.keys.into_iter().chain(over.keys).collect(),
                }
            }
        }
    };
}

settings! {
    /// The engine for new sandboxes: a docker context, an address such as `ssh://build-box`, or `any` for one of `engines`.
    engine: String, false, example r#""ssh://build-box""#;
    /// The engines that `any` stands for, such as `default`, docker contexts and addresses.
    engines: Words, false, example r#"["default", "ssh://build-box"]"#;
    /// The runtime of the agent's container, by its name in the engine.
    runtime: String, false, example r#""crun""#;
    /// The agent image.
    image: String, false, default r#""airlock-agent:latest""#;
    /// The base of agent images that Airlock builds: the name of an image, or the path of a root file system as tar.
    image_base: String, false, default r#""debian:trixie-slim""#;
    /// A Dockerfile of the repository, as committed, from which the agent image is built.
    dockerfile: String, false, example r#"".devcontainer/Dockerfile""#;
    /// The command that prepares the workspace of a repository, run once: its result is shared; `none` for no setup.
    setup: String, false, example r#""npm ci""#;
    /// The version of Claude Code in images that Airlock builds: `pinned`, `latest`, or a version such as `2.1.x`.
    claude_version: String, false, default r#""pinned""#;
    /// The extent of the user's own configuration of Claude Code in sandboxes: `filtered` or `none`.
    claude_config: ClaudeConfigMode, false, default r#""filtered""#;
    /// The permissions that Claude Code asks for in sandboxes: `ask`, `edits` (asks for commands only) or `all` (asks for nothing).
    claude_permissions: ClaudePermissions, false, default r#""ask""#;
    /// The user's MCP servers that sandboxes get, by name.
    mcp: Words, false, example r#"["tickets"]"#;
    /// The memory limit, such as `4g`.
    memory: String, false, example r#""4g""#;
    /// The CPU limit, such as `1.5`.
    cpus: f64, true, example "1.5";
    /// The limit on processes and threads.
    pids: u32, true, default "2048";
    /// The disk limit of workspace and home together, such as `10g`.
    disk: String, false, default r#""10g""#;
    /// The limit on files and directories of workspace and home together.
    inodes: u64, true, default "2000000";
    /// The time limit of the agent, such as `30m`.
    timeout: String, false, example r#""30m""#;
    /// The extent of the agent's network: `none`, `model`, `packages` or `open`.
    net: NetworkLevel, false, example r#""packages""#;
    /// Hosts that the agent may reach, such as `example.org` or `*.example.org:8443`.
    allow: HostPatterns, false, example r#"["example.org"]"#;
    /// Hosts that the agent may not reach, whatever else allows them.
    deny: HostPatterns, false, example r#"["example.org"]"#;
    /// Hosts that may have an address outside the public internet.
    private_hosts: HostPatterns, false, example r#"["registry.example.org"]"#;
    /// Abilities of the model's provider that the agent may use, such as `web_search`.
    provider_tools: Words, false, example r#"["web_search"]"#;
    /// The number of tokens of the model per run, such as `500k`.
    budget: String, false, example r#""500k""#;
    /// The maximum size of all downloads of a run, except from the model, such as `20g`.
    max_download: String, false, default r#""20g""#;
    /// The maximum size of the package cache, such as `10g`.
    cache_size: String, false, default r#""10g""#;
    /// The review behavior when the agent ends: `ask`, `always` or `never`.
    review: ReviewMode, false, default r#""ask""#;
    /// The colors of the terminal: `auto`, `dark`, `light` or `ansi`.
    theme: ThemeMode, false, default r#""auto""#;
    /// The initial decisions of a review: `none`, or `all` to accept everything but high risk.
    preselect: Preselect, false, default r#""none""#;
    /// The source of a workspace's files: `auto`, `overlay` or `copy`.
    workspace: WorkspaceMode, false, default r#""auto""#;
    /// The sandboxes that are kept when the agent ends without a change to review: `auto`, `always` or `changed`.
    keep: KeepMode, false, default r#""auto""#;
    /// Whether an agent continues when its terminal goes away.
    detach: bool, true, default "false";
    /// The keys that detach from a session, such as `ctrl-b,d`; `none` for no keys.
    detach_keys: String, false, default r#""ctrl-],ctrl-],ctrl-]""#;
    /// The notification when an agent waits for an answer or has ended: `off`, `bell`, `osc9` or `command`.
    notify: NotifyMode, false, default r#""off""#;
    /// The shell command of the notification `command`, which gets `AIRLOCK_SANDBOX` and `AIRLOCK_EVENT`.
    notify_command: String, false, example r#"'notify-send "$AIRLOCK_SANDBOX" "$AIRLOCK_EVENT"'"#;
    /// The number of bases per repository that `airlock gc` keeps.
    bases: usize, true, default "3";
    /// The time for which `airlock gc` keeps backups of applies, such as `30d`.
    backups: String, false, default r#""30d""#;
    /// The maximum number of new workspace entries of any kind that a collection lists.
    max_entries: usize, true, default "250000";
    /// The maximum number of files that differ.
    max_files: usize, true, default "100000";
    /// The maximum size of one file that differs, such as `100m`.
    max_file: String, false, default r#""100m""#;
    /// The maximum size of all files that differ, such as `2g`.
    max_total: String, false, default r#""2g""#;
    /// The maximum depth of nested directories.
    max_depth: usize, true, default "256";
    /// The maximum duration of a collection, such as `10m`.
    max_time: String, false, default r#""10m""#;
}

/// The keys of a command: one, or a list.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum KeyNames {
    One(String),
    Many(Vec<String>),
}

impl KeyNames {
    /// Returns the keys.
    #[must_use]
    pub fn to_list(&self) -> Vec<String> {
        match self {
            Self::One(key) => vec![key.clone()],
            Self::Many(keys) => keys.clone(),
        }
    }
}

/// The settings that a repository's `.airlock.toml` can add.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct RepositorySettings {
    #[serde(default)]
    pub risk: Vec<Rule>,
    /// Hosts that it requests. The user is asked.
    #[serde(default)]
    pub allow: HostPatterns,
    /// The setup command that it requests. The user is asked.
    #[serde(default)]
    pub setup: Option<String>,
}

impl RepositorySettings {
    /// Parses the text of an `.airlock.toml`; the second value lists its unsupported keys.
    ///
    /// # Errors
    /// Invalid TOML, or an invalid rule.
    pub fn parse(text: &str) -> Result<(Self, Vec<String>), ConfigError> {
        let wrong = |e: toml::de::Error| ConfigError {
            place: ".airlock.toml".into(),
            problem: e.message().to_owned(),
            suggestion: None,
        };
        let table: toml::Table = text.parse().map_err(wrong)?;
        let others = table.keys().filter(|key| !matches!(key.as_str(), "risk" | "allow" | "setup")).cloned().collect();
        Ok((table.try_into().map_err(wrong)?, others))
    }
}

/// A route that the user defines. Either `value_env` or `value_command` is the source of its credential.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteSetting {
    pub name: String,
    pub url: String,
    #[serde(default = "default_methods")]
    pub methods: Vec<String>,
    /// Globs of paths below the URL; none for all paths.
    #[serde(default)]
    pub paths: Vec<String>,
    #[serde(default = "default_header")]
    pub header: String,
    #[serde(default)]
    pub prefix: String,
    pub value_env: Option<String>,
    pub value_command: Option<String>,
}

fn default_methods() -> Vec<String> {
    vec!["GET".into(), "HEAD".into()]
}

fn default_header() -> String {
    "authorization".into()
}

/// A list of words: an array, or one string with blanks or commas between them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "OneOrMany")]
pub struct Words(pub Vec<String>);

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl From<OneOrMany> for Words {
    fn from(words: OneOrMany) -> Self {
        Self(match words {
            OneOrMany::One(text) => {
                let words = text.split(|c: char| c == ',' || c.is_whitespace());
                words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
            }
            OneOrMany::Many(words) => words,
        })
    }
}

/// A list of patterns for hosts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Words")]
pub struct HostPatterns(pub Vec<HostPattern>);

impl TryFrom<Words> for HostPatterns {
    type Error = String;

    fn try_from(words: Words) -> Result<Self, String> {
        words.0.iter().map(|word| word.parse()).collect::<Result<_, _>>().map(Self)
    }
}

/// The review behavior when the agent ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ReviewMode {
    /// Ask whether to review, if there is a terminal.
    #[default]
    Ask,
    /// Open the review, if there is a terminal.
    Always,
    Never,
}

/// The background of the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ThemeMode {
    /// Detected from the terminal's environment; otherwise colors that suit both backgrounds.
    #[default]
    Auto,
    Dark,
    Light,
    /// The 16 colors of the terminal's own palette.
    Ansi,
}

/// The initial decisions of a review.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preselect {
    #[default]
    None,
    /// Every change is accepted that requires no explicit confirmation.
    All,
}

/// The permissions that Claude Code asks for in sandboxes before it acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClaudePermissions {
    /// Edits and commands, as outside of a sandbox.
    #[default]
    Ask,
    /// Commands, but not edits.
    Edits,
    /// No permissions at all.
    All,
}

/// The extent of the user's own configuration of Claude Code in sandboxes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClaudeConfigMode {
    /// Instructions, permission rules, commands, agents, skills and styles, without credentials and commands of the host.
    #[default]
    Filtered,
    None,
}

/// The notification when an agent waits for an answer or has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NotifyMode {
    #[default]
    Off,
    /// The bell of the attached terminal.
    Bell,
    /// A notification of the attached terminal (OSC 9).
    Osc9,
    /// The command of `notify_command`.
    Command,
}

/// The sandboxes that are kept when the agent ends without a change to review.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeepMode {
    /// Those with anything that a person could miss: commits, stashes, ignored files, a conversation.
    #[default]
    Auto,
    Always,
    /// No sandbox without a change.
    Changed,
}

/// The source of a workspace's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkspaceMode {
    /// An overlay if the engine can mount one, otherwise a copy.
    #[default]
    Auto,
    /// An overlay, or an error if the engine cannot mount one.
    Overlay,
    Copy,
}

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct ConfigError {
    /// The file or variable.
    pub place: String,
    pub problem: String,
    /// The name that was probably meant.
    pub suggestion: Option<String>,
}

impl Settings {
    /// Reads the configuration file, if it exists, and overrides it with the environment.
    ///
    /// # Errors
    /// An unreadable file, an unknown key, or a value of the wrong type.
    pub fn load(env: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let mut settings = match config_path() {
            Some(path) => match std::fs::read_to_string(&path) {
                Ok(text) => Self::parse(&text, &path.display().to_string())?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::default(),
                Err(error) => {
                    let source = path.display().to_string();
                    return Err(ConfigError { place: source, problem: error.to_string(), suggestion: None });
                }
            },
            None => Self::default(),
        };
        for (key, number) in KEYS {
            let variable = format!("AIRLOCK_{}", key.to_uppercase());
            let Some(value) = env(&variable).filter(|v| !v.is_empty()) else { continue };
            // Only numbers are passed unquoted. Any other value is a string, even if it looks like another type.
            let value = if *number { value } else { toml::Value::String(value).to_string() };
            settings = settings.overridden_by(Self::parse(&format!("{key} = {value}"), &variable)?);
        }
        Ok(settings)
    }

    /// Lists every setting with its value and origin.
    ///
    /// # Errors
    /// Those of [`Settings::load`].
    pub fn list_values(env: impl Fn(&str) -> Option<String>) -> Result<Vec<SettingValue>, ConfigError> {
        Self::load(&env)?;
        let path = config_path();
        let text = path.as_ref().and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
        // The file was just parsed without an error.
        let table: toml::Table = text.parse().unwrap_or_default();
        let list = |info: &SettingInfo| {
            let variable = format!("AIRLOCK_{}", info.name.to_uppercase());
            let (value, origin) = match (env(&variable).filter(|value| !value.is_empty()), table.get(info.name), &path)
            {
                (Some(value), _, _) => {
                    let is_number = KEYS.contains(&(info.name, true));
                    let text = if is_number { value } else { toml::Value::String(value).to_string() };
                    (Some(text), SettingOrigin::Variable(variable))
                }
                (None, Some(value), Some(path)) => (Some(value.to_string()), SettingOrigin::File(path.clone())),
                _ => ((info.kind == "default").then(|| info.sample.to_owned()), SettingOrigin::Default),
            };
            SettingValue { name: info.name, value, origin }
        };
        Ok(SETTINGS.iter().map(list).collect())
    }

    fn parse(text: &str, source: &str) -> Result<Self, ConfigError> {
        let wrong = |problem: String, suggestion| ConfigError { place: source.to_owned(), problem, suggestion };
        let mut table: toml::Table = text.parse().map_err(|e: toml::de::Error| wrong(e.message().to_owned(), None))?;
        // Sizes and durations without a unit need no quotes.
        for (key, value) in &mut table {
            if let toml::Value::Integer(number) = value
                && KEYS.contains(&(key.as_str(), false))
            {
                *value = toml::Value::String(number.to_string());
            }
        }
        let known = || KEYS.iter().map(|(key, _)| *key).chain(["risk", "keys", "route"]);
        if let Some(unknown) = table.keys().find(|key| known().all(|k| k != key.as_str())) {
            return Err(wrong(
                format!("the setting {unknown} does not exist"),
                closest_name(unknown, known()).map(str::to_owned),
            ));
        }
        table.try_into().map_err(|e: toml::de::Error| wrong(e.message().to_owned(), None))
    }
}

/// Returns a configuration file in which every setting is a comment.
#[must_use]
pub fn commented_file() -> String {
    let mut text = String::from(
        "# The configuration of Airlock. Each setting is here as a comment, with its default or an example.\n# `airlock config show --origin` lists the values in use; docs/settings.md has all details.\n",
    );
    for info in SETTINGS {
        let note = if info.kind == "example" { " For example:" } else { "" };
        text += &format!("\n# {}{note}\n# {} = {}\n", info.description.trim(), info.name, info.sample);
    }
    text
}

/// Returns the path of the configuration file.
#[must_use]
pub fn config_path() -> Option<PathBuf> {
    Some(choose_base_strategy().ok()?.config_dir().join("airlock/config.toml"))
}

/// Returns the known name that is most similar to the one given, if any is similar enough.
pub fn closest_name<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.into_iter().map(|name| (strsim::jaro_winkler(typed, name), name));
    scored.filter(|(score, _)| *score > 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

/// Parses a size such as `512m`, `4g`, `4GiB` or a number of bytes.
///
/// # Errors
/// A message for the user.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match lower[digits.len()..].trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(format!("{text} is not a size such as 512m or 4g")),
    };
    let number: u64 = digits.parse().map_err(|_| format!("{text} is not a size such as 512m or 4g"))?;
    number.checked_shl(shift).filter(|n| n >> shift == number).ok_or_else(|| format!("{text} is too large"))
}

/// Parses a number of tokens such as `200000`, `500k` or `2m`.
///
/// # Errors
/// A message for the user.
pub fn parse_tokens(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text} is not a number of tokens such as 200000, 500k or 2m");
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(['k', 'm']);
    let unit = match &lower[digits.len()..] {
        "" => 1,
        "k" => 1000,
        "m" => 1_000_000,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(unit).filter(|tokens| *tokens > 0).ok_or_else(wrong)
}

/// Parses a duration such as `90s`, `30m`, `2h` or a number of seconds.
///
/// # Errors
/// A message for the user.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text} is not a duration such as 90s, 30m or 2h");
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let seconds = number.checked_mul(unit).filter(|s| (1..=u64::from(u32::MAX)).contains(s)).ok_or_else(wrong)?;
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_described_and_has_a_valid_sample() {
        let page = include_str!("../docs/settings.md");
        for info in SETTINGS {
            assert!(page.contains(&format!("\n| `{}` |", info.name)), "docs/settings.md has no row for {}", info.name);
            let one = format!("{} = {}", info.name, info.sample);
            Settings::parse(&one, "sample").unwrap_or_else(|error| panic!("{one}: {error}"));
            assert!(info.kind == "default" || info.kind == "example");
            assert!(info.description.trim().ends_with('.'), "{}", info.name);
        }
        let all = commented_file()
            .lines()
            .filter_map(|line| line.strip_prefix("# ").filter(|l| l.contains(" = ") && !l.contains(", ")))
            .collect::<Vec<_>>()
            .join("\n");
        Settings::parse(&all, "file").expect("valid together");
        assert_eq!(Settings::parse(&commented_file(), "file"), Ok(Settings::default()));
    }

    #[test]
    fn sizes_and_durations_without_unit_need_no_quotes() {
        let settings = Settings::parse("memory = 4096\ntimeout = 90\npids = 5", "config.toml").expect("valid");
        assert_eq!(settings.memory.as_deref(), Some("4096"));
        assert_eq!((settings.timeout.as_deref(), settings.pids), (Some("90"), Some(5)));
        assert!(Settings::parse("net = 1", "config.toml").is_err());
    }

    #[test]
    fn misspelled_key_is_an_error_with_suggestion() {
        let error = Settings::parse("memry = \"4g\"", "config.toml").expect_err("unknown key");
        assert_eq!(error.suggestion.as_deref(), Some("memory"));
        assert!(Settings::parse("pids = \"many\"", "config.toml").is_err());
        let settings =
            Settings::parse("image = \"x\"\npids = 9\nreview = \"never\"", "config.toml").expect("valid settings");
        assert_eq!((settings.pids, settings.review), (Some(9), Some(ReviewMode::Never)));
    }

    #[test]
    fn durations_are_parsed() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("30m", 1800), ("2h", 7200), ("1d", 86_400)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "0", "m", "-1s", "1w", "1.5h", "99999999999h", "1 m"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn repository_settings_only_add_risk_rules() {
        let text = "[[risk]]\nname = \"deploy\"\nseverity = \"high\"\npaths = [\"deploy/**\"]\n";
        let settings = Settings::parse(text, "config.toml").expect("valid settings");
        assert_eq!(settings.clone().overridden_by(settings.clone()).risk.len(), 2);
        assert!(Settings::parse(&text.replace("high", "low"), "config.toml").is_err());
        assert!(Settings::parse(&text.replace("paths", "path"), "config.toml").is_err());
        let (rules, ignored_keys) =
            RepositorySettings::parse(&format!("image = \"evil\"\n{text}")).expect("valid settings");
        assert_eq!((rules.risk, ignored_keys), (settings.risk, vec!["image".to_owned()]));
    }

    #[test]
    fn sizes_are_parsed() {
        for (text, bytes) in [("0", 0), ("1k", 1024), ("4g", 4 << 30), ("4GiB", 4 << 30), ("512MB", 512 << 20)] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for bad in ["", "g", "4x", "-1", "99999999999t", "1.5g"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }
}
