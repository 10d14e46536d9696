//! Fits the environment of the command to the image: a terminal, a time zone and a locale that the image knows, and
//! writable directories for tools whose own ones are in the read-only root.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

unsafe extern "C" {
    /// See access(2). The result is 0 if the mode is allowed.
    #[link_name = "access"]
    fn check_access(path: *const std::ffi::c_char, mode: i32) -> i32;
}

const W_OK: i32 = 2;
/// Directories with descriptions of terminals.
const TERMINFO: [&str; 4] = ["/etc/terminfo", "/lib/terminfo", "/usr/share/terminfo", "/usr/lib/terminfo"];
/// Terminals that nearly every image knows, the most capable first.
const USUAL_TERMINALS: [&str; 2] = ["xterm-256color", "xterm"];
const ZONES: &str = "/usr/share/zoneinfo";
const LOCALES: &str = "/usr/lib/locale";
/// The part of a locale archive in which the names are, in bytes.
const ARCHIVE_NAMES: u64 = 1 << 20;
/// Variables with a directory that a tool writes to, and their replacement below the home.
const TOOL_DIRS: [(&str, &str); 9] = [
    ("CARGO_HOME", ".cargo"),
    ("GOPATH", "go"),
    ("GOCACHE", ".cache/go-build"),
    ("GEM_HOME", ".gem"),
    ("BUNDLE_APP_CONFIG", ".bundle"),
    ("npm_config_cache", ".npm"),
    ("PIP_CACHE_DIR", ".cache/pip"),
    ("UV_CACHE_DIR", ".cache/uv"),
    ("YARN_CACHE_FOLDER", ".cache/yarn"),
];
/// The rule of the user's time zone, for an image without time zones.
const ZONE_RULE: &str = "AIRLOCK_ZONE_RULE";
/// The locale of the user, from the host.
const USER_LOCALE: &str = "AIRLOCK_LOCALE";

/// Changes the variables of this process, which the command inherits. No other thread exists yet.
pub fn adapt_environment() {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if let Some(term) = variable("TERM").filter(|term| !is_terminal_known(term))
        && let Some(usual) = USUAL_TERMINALS.into_iter().find(|usual| is_terminal_known(usual) && *usual != term)
    {
        set_variable("TERM", Some(usual));
    }
    let rule = variable(ZONE_RULE);
    if variable("TZ").is_some_and(|zone| !Path::new(ZONES).join(zone).is_file()) && rule.is_some() {
        set_variable("TZ", rule.as_deref());
    }
    let locale = variable(USER_LOCALE);
    let is_plain = variable("LANG").is_none_or(|lang| lang == "C" || lang == "POSIX" || lang.starts_with("C."));
    if is_plain && locale.as_deref().is_some_and(has_locale) {
        set_variable("LANG", locale.as_deref());
    }
    set_variable(ZONE_RULE, None);
    set_variable(USER_LOCALE, None);
    let home = variable("HOME").unwrap_or_else(|| "/home/agent".into());
    for (name, place) in TOOL_DIRS {
        let Some(dir) = variable(name).filter(|dir| !is_writable(dir)) else { continue };
        set_variable(name, Some(&format!("{home}/{place}")));
        if name == "GEM_HOME" && variable("GEM_PATH").is_none() {
            // Gems of the image stay visible; the empty last entry stands for Ruby's own.
            set_variable("GEM_PATH", Some(&format!("{dir}:")));
        }
    }
}

fn set_variable(name: &str, value: Option<&str>) {
    // SAFETY: the launcher has one thread at this point.
    unsafe {
        match value {
            Some(value) => std::env::set_var(name, value),
            None => std::env::remove_var(name),
        }
    }
}

fn is_terminal_known(term: &str) -> bool {
    let Some(first) = term.bytes().next().filter(|_| !term.contains('/')) else { return false };
    // Some systems name the directories by the number of the letter.
    let dirs = [char::from(first).to_string(), format!("{first:x}")];
    TERMINFO.iter().any(|root| dirs.iter().any(|dir| Path::new(root).join(dir).join(term).exists()))
}

/// Returns whether the image has a locale, as a directory or in glibc's archive. Names of codesets are written there in
/// lower case without a dash.
fn has_locale(locale: &str) -> bool {
    let Some((language, codeset)) = locale.split_once('.') else { return false };
    let codeset: String = codeset.chars().filter(char::is_ascii_alphanumeric).collect();
    let stored = format!("{language}.{}", codeset.to_lowercase());
    if stored.contains('/') {
        return false;
    }
    if Path::new(LOCALES).join(&stored).is_dir() {
        return true;
    }
    let mut names = Vec::new();
    let archive = File::open(Path::new(LOCALES).join("locale-archive"));
    let is_read = archive.and_then(|file| file.take(ARCHIVE_NAMES).read_to_end(&mut names)).is_ok();
    let wanted = [b"\0", stored.as_bytes(), b"\0"].concat();
    is_read && names.windows(wanted.len()).any(|window| window == wanted)
}

fn is_writable(dir: &str) -> bool {
    let Ok(path) = CString::new(Path::new(dir).as_os_str().as_bytes()) else { return true };
    // SAFETY: the path ends with a zero byte, and the call only reads it. A missing directory counts as not writable.
    unsafe { check_access(path.as_ptr(), W_OK) == 0 }
}
