//! `airlock allow` and `airlock deny`: change what a sandbox can reach, while its agent runs and later.

use crate::cli::args::HostArgs;
use crate::cli::error::CliError;
use crate::cli::ops::repo::Repo;
use crate::cli::output::Output;
use crate::config::config_path;
use crate::core::atomic_file::write_atomic;
use crate::gateway::{HostLists, HostPattern, NetworkLevel};
use crate::sandbox::{NETWORK_LISTS, Sandbox};

pub(crate) fn change_host(args: &HostArgs, is_allowed: bool, output: Output) -> Result<u8, CliError> {
    let repo = Repo::open(output)?;
    let verb = if is_allowed { "allow" } else { "deny" };
    let sandbox = repo.open_sandbox(Some(&args.name), verb)?;
    let name = &sandbox.record.name;
    let config = sandbox.record.agent_config.as_ref().map(|config| config.network.clone()).unwrap_or_default();
    if config.level == NetworkLevel::None {
        return Err(CliError::failed(format!("`{name}` has no network")).with_hint(format!(
            "to start its next agent with one, run `airlock resume {name} --net model --allow {}`",
            args.host
        )));
    }
    let mut lists = read_changes(&sandbox)?;
    lists.set_pattern(&args.host, is_allowed);
    let bytes = serde_json::to_vec_pretty(&lists).map_err(std::io::Error::other)?;
    let file = sandbox.file_path(NETWORK_LISTS);
    write_atomic(file.parent().unwrap_or(&file), NETWORK_LISTS, &bytes)?;
    let done = if is_allowed { "can reach" } else { "can no longer reach" };
    output.print_status(&format!("{name} {done} {}", args.host));
    if args.always {
        save_setting(&args.host, is_allowed)?;
        output.print_status(&format!("saved in {}", config_path().unwrap_or_default().display()));
    }
    Ok(0)
}

/// Reads the changes that were made before.
fn read_changes(sandbox: &Sandbox) -> Result<HostLists, CliError> {
    match std::fs::read(sandbox.file_path(NETWORK_LISTS)) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).map_err(std::io::Error::other)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(HostLists::default()),
        Err(error) => Err(error.into()),
    }
}

/// Adds a host to the list in the user's configuration, and removes it from the other list. Everything else in the file
/// stays as it is.
fn save_setting(host: &HostPattern, is_allowed: bool) -> Result<(), CliError> {
    let path = config_path().ok_or_else(|| CliError::failed("the directory for the configuration is not known"))?;
    let text = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        other => other?,
    };
    let invalid = |error: String| CliError::failed(format!("failed to change {}: {error}", path.display()));
    let mut document: toml_edit::DocumentMut =
        text.parse().map_err(|e: toml_edit::TomlError| invalid(e.message().to_owned()))?;
    for (key, is_own) in [("allow", is_allowed), ("deny", !is_allowed)] {
        if is_own && document.get(key).is_none() {
            document.insert(key, toml_edit::value(toml_edit::Array::new()));
        }
        let Some(item) = document.get_mut(key) else { continue };
        let Some(list) = item.as_array_mut() else { return Err(invalid(format!("{key} is not a list"))) };
        list.retain(|value| value.as_str().and_then(|text| text.parse::<HostPattern>().ok()).as_ref() != Some(host));
        if is_own {
            list.push(host.to_string());
        }
    }
    let dir = path.parent().ok_or_else(|| invalid("it has no directory".into()))?;
    std::fs::create_dir_all(dir)?;
    Ok(write_atomic(dir, "config.toml", document.to_string().as_bytes())?)
}
