//! The configuration of pip and uv: `pip.conf`, `uv.toml` and variables.

use std::path::PathBuf;

use super::clients::{HostClients, basic_credential, parse_url, take_url_credential};
use super::environment::HostEnvironment;
use super::ini::parse_ini;

/// Reads the index and extra indexes of each.
pub(super) fn read_config(host: &HostEnvironment<'_>, clients: &mut HostClients) {
    let words = |text: &str| text.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let mut main = host.find_variable("PIP_INDEX_URL");
    let mut extra: Vec<String> =
        host.find_variable("PIP_EXTRA_INDEX_URL").iter().flat_map(|text| words(text)).collect();
    let own = host.find_variable("PIP_CONFIG_FILE").map(PathBuf::from);
    let files = [
        Some("/etc/pip.conf".into()),
        Some(host.home_path(".pip/pip.conf")),
        Some(host.config_path("pip/pip.conf")),
        own,
    ];
    let mut configured = None;
    for path in files.into_iter().flatten() {
        let text = host.read_file(&path).unwrap_or_default();
        for (section, key, value) in parse_ini(&text, true) {
            match (section.as_str(), key.as_str()) {
                ("global" | "install", "index-url") => configured = Some(value.trim().to_owned()),
                ("global" | "install", "extra-index-url") => extra.extend(words(&value)),
                _ => {}
            }
        }
    }
    main = main.or(configured);
    let mut uv_extra = Vec::new();
    for name in ["UV_INDEX", "UV_EXTRA_INDEX_URL"] {
        uv_extra.extend(host.find_variable(name).iter().flat_map(|text| words(text)));
    }
    let from_file = read_uv_index(host, &mut uv_extra);
    let uv = host.find_variable("UV_DEFAULT_INDEX").or_else(|| host.find_variable("UV_INDEX_URL")).or(from_file);
    let main = main.and_then(|text| take_index(&text, host, clients));
    let extra: Vec<url::Url> = extra.iter().filter_map(|text| take_index(text, host, clients)).collect();
    clients.upstreams.uv = uv.and_then(|text| take_index(&text, host, clients));
    clients.uv_indexes = uv_extra.iter().filter_map(|text| take_index(text, host, clients)).collect();
    clients.upstreams.pypi.extend(main);
    clients.extra_indexes.extend(extra);
}

/// Parses the address of an index, which uv writes as `NAME=URL`, and reads its credential: from the address, from the
/// variables that uv reads for a name, or from a keyring.
fn take_index(text: &str, host: &HostEnvironment<'_>, clients: &mut HostClients) -> Option<url::Url> {
    let (name, text) = match text.split_once('=') {
        Some((name, url)) if !name.contains(':') => (Some(name), url),
        _ => (None, text),
    };
    let with_login = url::Url::parse(text.trim()).ok()?;
    let before = clients.credentials.len();
    let user = Some(with_login.username()).filter(|user| !user.is_empty());
    if let (Some(user), None) = (user, with_login.password()) {
        let mut url = with_login.clone();
        url.set_username("").ok()?;
        if let Some(password) = host.ask_keyring(url.as_str(), user) {
            clients.credentials.extend(basic_credential(&url.join("/").ok()?, user, &password));
        }
    }
    let found_in_keyring = clients.credentials.len() > before;
    let url = if found_in_keyring {
        let mut url = with_login;
        url.set_username("").ok()?;
        parse_url(url.as_str())?
    } else {
        take_url_credential(text, clients)?
    };
    if let Some(name) = name {
        let name: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
        let variable = |field: &str| host.find_variable(&format!("UV_INDEX_{name}_{field}"));
        let password = variable("PASSWORD").unwrap_or_default();
        if let Some(user) = variable("USERNAME") {
            clients.credentials.extend(basic_credential(&url.join("/").ok()?, &user, &password));
        }
    }
    Some(url)
}

/// Returns the default index of `uv.toml`, and adds the others.
fn read_uv_index(host: &HostEnvironment<'_>, extra: &mut Vec<String>) -> Option<String> {
    let table: toml::Table = host.read_file(&host.config_path("uv/uv.toml"))?.parse().ok()?;
    let mut main = table.get("index-url").and_then(|url| url.as_str()).map(str::to_owned);
    for index in table.get("index").and_then(|list| list.as_array()).into_iter().flatten() {
        let Some(url) = index.get("url").and_then(|url| url.as_str()) else { continue };
        let name = index.get("name").and_then(|name| name.as_str());
        let url = name.map_or_else(|| url.to_owned(), |name| format!("{name}={url}"));
        if index.get("default").and_then(toml::Value::as_bool) == Some(true) {
            main = Some(url);
        } else {
            extra.push(url);
        }
    }
    main
}
