//! The configuration of npm: `~/.npmrc` and variables.

use super::clients::{HostClients, basic_credential, bearer_credential, parse_url};
use super::environment::HostEnvironment;
use super::ini::parse_ini;

/// Reads registries, registries of scopes, and credentials.
pub(super) fn read_config(host: &HostEnvironment<'_>, clients: &mut HostClients) {
    let path = host.find_variable("NPM_CONFIG_USERCONFIG").or_else(|| host.find_variable("npm_config_userconfig"));
    let path = path.map_or_else(|| host.home_path(".npmrc"), Into::into);
    let text = host.read_file(&path).unwrap_or_default();
    let entries: Vec<(String, String)> =
        parse_ini(&text, false).into_iter().map(|(_, key, value)| (key, expand_variables(&value, host))).collect();
    for (key, value) in &entries {
        if key == "registry" {
            clients.upstreams.npm = parse_url(value);
        } else if let Some(scope) = key.strip_suffix(":registry").filter(|scope| scope.starts_with('@')) {
            clients.upstreams.npm_scopes.extend(parse_url(value).map(|url| (scope.to_owned(), url)));
        }
    }
    read_yarn_config(host, clients);
    for name in ["NPM_CONFIG_REGISTRY", "npm_config_registry"] {
        if let Some(url) = host.find_variable(name).as_deref().and_then(parse_url) {
            clients.upstreams.npm = Some(url);
        }
    }
    read_credentials(&entries, clients);
}

/// Reads the registry and token of yarn's own file, which count where `.npmrc` has none.
fn read_yarn_config(host: &HostEnvironment<'_>, clients: &mut HostClients) {
    let text = host.read_file(&host.home_path(".yarnrc.yml")).unwrap_or_default();
    let field = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        Some(expand_variables(line.trim().trim_matches(['"', '\'']), host))
    };
    let Some(url) = field("npmRegistryServer").as_deref().and_then(parse_url) else { return };
    clients.credentials.extend(field("npmAuthToken").and_then(|token| bearer_credential(&url, &token)));
    match &clients.upstreams.npm {
        None => clients.upstreams.npm = Some(url),
        Some(npm) if *npm == url => {}
        Some(_) => clients.upstreams.npm_aliases.push(url),
    }
}

/// Reads `//HOST/PATH/:KEY=VALUE`, by which npm binds credentials to the beginning of a URL.
fn read_credentials(entries: &[(String, String)], clients: &mut HostClients) {
    for (key, value) in entries {
        let Some((place, field)) = key.strip_prefix("//").and_then(|rest| rest.rsplit_once(':')) else { continue };
        let prefixes = ["https", "http"].map(|scheme| parse_url(&format!("{scheme}://{place}")));
        // A token is sent in plain text only to a registry that is configured so.
        let prefixes = prefixes.into_iter().flatten().filter(|url| {
            let configured = clients.upstreams.npm_scopes.iter().map(|(_, url)| url).chain(&clients.upstreams.npm);
            url.scheme() == "https" || configured.into_iter().any(|own| own.origin() == url.origin())
        });
        let prefixes: Vec<url::Url> = prefixes.collect();
        let find =
            |name: &str| entries.iter().find(|(key, _)| *key == format!("//{place}:{name}")).map(|(_, value)| value);
        for prefix in prefixes {
            let credential = match field {
                "_authToken" => bearer_credential(&prefix, value),
                "_auth" => super::clients::header_credential(&prefix, &format!("Basic {value}")),
                "username" => find("_password").and_then(|password| {
                    use base64::Engine as _;
                    let password = base64::engine::general_purpose::STANDARD.decode(password).ok()?;
                    basic_credential(&prefix, value, &String::from_utf8(password).ok()?)
                }),
                _ => None,
            };
            clients.credentials.extend(credential);
        }
    }
}

/// Replaces `${NAME}` by the variable's value, as npm does.
fn expand_variables(value: &str, host: &HostEnvironment<'_>) -> String {
    let mut expanded = String::new();
    let mut rest = value;
    while let Some(at) = rest.find("${") {
        let Some(end) = rest[at..].find('}') else { break };
        expanded.push_str(&rest[..at]);
        let name = &rest[at + 2..at + end];
        expanded.push_str(&host.find_variable(name.trim_end_matches('?')).unwrap_or_default());
        rest = &rest[at + end + 1..];
    }
    expanded + rest
}
