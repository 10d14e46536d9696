//! The configuration of pip and uv: `pip.conf`, `uv.toml` and variables.

use std::path::PathBuf;

use super::clients::{HostClients, take_url_credential};
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
    // uv writes `NAME=URL`.
    let url = |text: &str| match text.split_once('=') {
        Some((name, url)) if !name.contains(':') => url.to_owned(),
        _ => text.to_owned(),
    };
    let main = main.and_then(|text| take_url_credential(&url(&text), clients));
    let extra: Vec<url::Url> = extra.iter().filter_map(|text| take_url_credential(&url(text), clients)).collect();
    clients.upstreams.uv = uv.and_then(|text| take_url_credential(&url(&text), clients));
    clients.uv_indexes = uv_extra.iter().filter_map(|text| take_url_credential(&url(text), clients)).collect();
    clients.upstreams.pypi.extend(main);
    clients.extra_indexes.extend(extra);
}

/// Returns the default index of `uv.toml`, and adds the others.
fn read_uv_index(host: &HostEnvironment<'_>, extra: &mut Vec<String>) -> Option<String> {
    let table: toml::Table = host.read_file(&host.config_path("uv/uv.toml"))?.parse().ok()?;
    let mut main = table.get("index-url").and_then(|url| url.as_str()).map(str::to_owned);
    for index in table.get("index").and_then(|list| list.as_array()).into_iter().flatten() {
        let Some(url) = index.get("url").and_then(|url| url.as_str()) else { continue };
        if index.get("default").and_then(toml::Value::as_bool) == Some(true) {
            main = Some(url.to_owned());
        } else {
            extra.push(url.to_owned());
        }
    }
    main
}
