//! The user's settings, checked as a whole.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::config::ThemeMode;
use crate::config::{Settings, config_path};
use crate::tui::{ColorDepth, Keymap, StyleSheet, Theme};

/// The engine of this command line.
static ENGINE: OnceLock<String> = OnceLock::new();

/// Sets the engine of this command line, which overrides the setting.
pub(crate) fn choose_engine(engine: Option<String>) {
    if let Some(engine) = engine {
        // It is set once, before anything else.
        let _ = ENGINE.set(engine);
    }
}

/// Reads the settings of the user, and checks the keys of the review: an agent must not run for an hour before they turn out
/// to be wrong.
///
/// # Errors
/// The configuration file or a variable is invalid.
pub(crate) fn load_settings() -> Result<Settings, CliError> {
    let mut settings = Settings::load(|name| std::env::var(name).ok())?;
    settings.engine = ENGINE.get().cloned().or(settings.engine);
    load_keymap(&settings)?;
    Ok(settings)
}

/// Returns the keymap of the review.
///
/// # Errors
/// The keys in the configuration are invalid.
pub(crate) fn load_keymap(settings: &Settings) -> Result<Keymap, CliError> {
    let overrides: BTreeMap<String, Vec<String>> =
        settings.keys.iter().map(|(command, keys)| (command.clone(), keys.to_list())).collect();
    Keymap::with_overrides(&overrides).map_err(|error| {
        let file = config_path().map_or_else(String::new, |path| format!("{}: ", path.display()));
        let hint = error.hint();
        let failure = CliError::usage(format!("{file}{error}"));
        match hint {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    })
}

/// Returns the styles of a full screen for the terminal and the user's settings.
pub(crate) fn load_style_sheet(settings: &Settings, output: Output) -> StyleSheet {
    let mode = settings.theme.unwrap_or_default();
    let theme = match mode {
        ThemeMode::Auto | ThemeMode::Ansi => None,
        ThemeMode::Dark => Some(Theme::Dark),
        ThemeMode::Light => Some(Theme::Light),
    };
    let sheet = StyleSheet::from_env(output.is_colored(), theme, &|name| std::env::var(name).ok());
    match (mode, sheet.depth) {
        (_, ColorDepth::None) => sheet,
        (ThemeMode::Ansi, _) => StyleSheet { depth: ColorDepth::Basic, ..sheet },
        _ => sheet,
    }
}
