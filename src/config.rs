//! The user's settings: flags before `AIRLOCK_*` before the configuration file before the defaults.
//!
//! Nothing that a repository holds is read here: a file that an agent can edit must not weaken its own sandbox.

use std::path::PathBuf;

use etcetera::{BaseStrategy, choose_base_strategy};
use serde::Deserialize;

/// What may be set; nothing means the default.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Settings {
    /// The agent image.
    pub image: Option<String>,
    /// Its memory, such as `4g`.
    pub memory: Option<String>,
    /// Its CPUs, such as `1.5`.
    pub cpus: Option<f64>,
    /// Its processes and threads.
    pub pids: Option<u32>,
    /// Its network.
    pub net: Option<Net>,
    /// Whether to review when the agent ends.
    pub review: Option<ReviewMode>,
    /// How a workspace is made.
    pub workspace: Option<WorkspaceMode>,
    /// How many bases of each repository `airlock gc` keeps.
    pub bases: Option<usize>,
}

/// The names of the settings, as in the file.
const KEYS: [&str; 8] = ["image", "memory", "cpus", "pids", "net", "review", "workspace", "bases"];

/// What an agent reaches beyond its own loopback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Net {
    /// Nothing.
    None,
    /// The model's API, with your credential added outside the sandbox.
    Model,
}

/// Whether to review when the agent ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ReviewMode {
    /// Ask, on a terminal.
    #[default]
    Ask,
    /// At once, on a terminal.
    Always,
    /// Never.
    Never,
}

/// How a workspace gets its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkspaceMode {
    /// As an overlay where the engine can mount one.
    #[default]
    Auto,
    /// As an overlay, or not at all.
    Overlay,
    /// As a copy.
    Copy,
}

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct ConfigError {
    /// The file or variable.
    pub place: String,
    /// What is wrong with it.
    pub problem: String,
    /// What was probably meant.
    pub suggestion: Option<String>,
}

impl Settings {
    /// Reads the configuration file, if there is one, and the environment over it.
    ///
    /// # Errors
    /// An unknown key, or a value of another kind.
    pub fn load(env: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let mut settings = match path() {
            Some(path) => match std::fs::read_to_string(&path) {
                Ok(text) => Self::parse(&text, &path.display().to_string())?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::default(),
                Err(error) => {
                    let place = path.display().to_string();
                    return Err(ConfigError { place, problem: error.to_string(), suggestion: None });
                }
            },
            None => Self::default(),
        };
        for key in KEYS {
            let variable = format!("AIRLOCK_{}", key.to_uppercase());
            let Some(value) = env(&variable).filter(|v| !v.is_empty()) else { continue };
            // A number stays one; everything else is a string, however it looks.
            let value =
                if matches!(key, "cpus" | "pids" | "bases") { value } else { toml::Value::String(value).to_string() };
            settings = settings.under(Self::parse(&format!("{key} = {value}"), &variable)?);
        }
        Ok(settings)
    }

    fn parse(text: &str, place: &str) -> Result<Self, ConfigError> {
        let wrong = |problem: String, suggestion| ConfigError { place: place.to_owned(), problem, suggestion };
        let table: toml::Table = text.parse().map_err(|e: toml::de::Error| wrong(e.message().to_owned(), None))?;
        if let Some(unknown) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(wrong(format!("there is no setting {unknown}"), closest(unknown, KEYS).map(str::to_owned)));
        }
        table.try_into().map_err(|e: toml::de::Error| wrong(e.message().to_owned(), None))
    }

    /// Gives these settings with `over` on top.
    #[must_use]
    pub fn under(self, over: Self) -> Self {
        Self {
            image: over.image.or(self.image),
            memory: over.memory.or(self.memory),
            cpus: over.cpus.or(self.cpus),
            pids: over.pids.or(self.pids),
            net: over.net.or(self.net),
            review: over.review.or(self.review),
            workspace: over.workspace.or(self.workspace),
            bases: over.bases.or(self.bases),
        }
    }
}

/// Gives the path of the configuration file.
#[must_use]
pub fn path() -> Option<PathBuf> {
    Some(choose_base_strategy().ok()?.config_dir().join("airlock/config.toml"))
}

/// Finds the name that was probably meant.
pub fn closest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.into_iter().map(|name| (strsim::jaro_winkler(given, name), name));
    scored.filter(|(score, _)| *score > 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

/// Reads a size such as `512m`, `4g`, `4GiB` or a number of bytes.
///
/// # Errors
/// A sentence for a person.
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
    number.checked_shl(shift).filter(|n| n >> shift == number).ok_or_else(|| format!("{text} is too much"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_is_an_error_with_the_right_one() {
        let error = Settings::parse("memry = \"4g\"", "config.toml").expect_err("unknown");
        assert_eq!(error.suggestion.as_deref(), Some("memory"));
        assert!(Settings::parse("pids = \"many\"", "config.toml").is_err());
        let settings = Settings::parse("image = \"x\"\npids = 9\nreview = \"never\"", "config.toml").expect("valid");
        assert_eq!((settings.pids, settings.review), (Some(9), Some(ReviewMode::Never)));
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [("0", 0), ("1k", 1024), ("4g", 4 << 30), ("4GiB", 4 << 30), ("512MB", 512 << 20)] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for bad in ["", "g", "4x", "-1", "99999999999t", "1.5g"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }
}
