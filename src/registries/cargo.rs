//! The configuration of cargo: source replacement, registries and their tokens.

use std::path::PathBuf;

use super::clients::{HostClients, header_credential, parse_url};
use super::environment::HostEnvironment;

/// Reads the replacement of the default registry, and other registries. Only sparse indexes have a route.
pub(super) fn read_config(host: &HostEnvironment<'_>, clients: &mut HostClients) {
    let home = host.find_variable("CARGO_HOME").map_or_else(|| host.home_path(".cargo"), PathBuf::from);
    let read = |names: [&str; 2]| -> Option<toml::Table> {
        names.into_iter().find_map(|name| host.read_file(&home.join(name))?.parse().ok())
    };
    let config = read(["config.toml", "config"]).unwrap_or_default();
    let tokens = read(["credentials.toml", "credentials"]).unwrap_or_default();
    let registries = config.get("registries").and_then(toml::Value::as_table);
    let index_of = |name: &str| {
        let variable = format!("CARGO_REGISTRIES_{}_INDEX", name.to_uppercase().replace('-', "_"));
        let configured = registries.and_then(|all| all.get(name)?.get("index")?.as_str().map(str::to_owned));
        host.find_variable(&variable).or(configured).and_then(|text| parse_sparse(&text))
    };
    if let Some(url) = find_replacement(&config).and_then(|source| match source {
        Replacement::Url(text) => parse_sparse(&text),
        Replacement::Registry(name) => index_of(&name),
    }) {
        clients.upstreams.cargo.push(("crates-io".into(), url));
    }
    for name in registries.into_iter().flatten().map(|(name, _)| name) {
        let Some(url) = index_of(name).filter(|_| is_name(name)) else { continue };
        let variable = format!("CARGO_REGISTRIES_{}_TOKEN", name.to_uppercase().replace('-', "_"));
        let stored = || tokens.get("registries")?.get(name)?.get("token")?.as_str().map(str::to_owned);
        let token = host.find_variable(&variable).or_else(stored);
        // cargo sends the token as it is.
        clients.credentials.extend(token.and_then(|token| header_credential(&url.join("/").ok()?, &token)));
        clients.upstreams.cargo.push((name.clone(), url));
    }
}

enum Replacement {
    Url(String),
    Registry(String),
}

/// Follows `replace-with` from the default registry.
fn find_replacement(config: &toml::Table) -> Option<Replacement> {
    let sources = config.get("source")?.as_table()?;
    let mut name = sources.get("crates-io")?.get("replace-with")?.as_str()?;
    for _ in 0..8 {
        let source = sources.get(name).and_then(toml::Value::as_table);
        if let Some(next) = source.and_then(|source| source.get("replace-with")?.as_str()) {
            name = next;
            continue;
        }
        let url = source.and_then(|source| source.get("registry")?.as_str());
        return Some(
            url.map_or_else(|| Replacement::Registry(name.to_owned()), |url| Replacement::Url(url.to_owned())),
        );
    }
    None
}

pub(super) fn parse_sparse(text: &str) -> Option<url::Url> {
    parse_url(text.strip_prefix("sparse+")?)
}

pub(super) fn is_name(name: &str) -> bool {
    name != "crates-io" && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)) && name.len() <= 64
}
