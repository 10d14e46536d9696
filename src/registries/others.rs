//! The configuration of Go, Maven, RubyGems and of `.netrc`.

use super::clients::{HostClients, basic_credential, parse_url, take_url_credential};
use super::environment::HostEnvironment;
use crate::gateway::ChecksumDatabase;

/// Reads `GOPROXY` and `GOSUMDB` from the environment or from Go's own file.
pub(super) fn read_go(host: &HostEnvironment<'_>, clients: &mut HostClients) {
    let file = host.find_variable("GOENV").map_or_else(|| host.config_path("go/env"), Into::into);
    let text = host.read_file(&file).unwrap_or_default();
    let value = |name: &str| {
        let stored = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned);
        host.find_variable(name).or(stored)
    };
    // The first server of the list; `direct` and `off` are none.
    let proxy = value("GOPROXY");
    let proxy =
        proxy.iter().flat_map(|list| list.split([',', '|'])).find_map(|text| take_url_credential(text.trim(), clients));
    clients.upstreams.go_proxy = proxy;
    clients.go_sumdb = value("GOSUMDB");
    // Private modules are fetched from their repositories, by the git route.
    for name in ["GOPRIVATE", "GONOPROXY", "GONOSUMDB"] {
        let plain = value(name).filter(|value| value.bytes().all(|b| b.is_ascii_graphic()));
        clients.upstreams.go_settings.extend(plain.map(|value| format!("{name}={value}\n")));
    }
}

/// Parses `NAME[+KEY] [URL]`, the value of `GOSUMDB`.
pub(super) fn parse_sumdb(text: &str) -> Option<ChecksumDatabase> {
    let mut words = text.split_ascii_whitespace();
    let setting = words.next().filter(|word| *word != "off")?;
    let name = setting.split('+').next()?;
    let url = words.next().map_or_else(|| format!("https://{name}"), str::to_owned);
    Some(ChecksumDatabase { setting: setting.to_owned(), name: name.to_owned(), url: parse_url(&url)? })
}

/// Reads the mirror of Maven for all repositories or for the central one, with its credential.
pub(super) fn read_maven(host: &HostEnvironment<'_>, clients: &mut HostClients) {
    let Some(text) = host.read_file(&host.home_path(".m2/settings.xml")) else { return };
    let Ok(document) = roxmltree::Document::parse(&text) else { return };
    let child = |node: roxmltree::Node<'_, '_>, name: &str| {
        let found = node.children().find(|child| child.tag_name().name() == name)?;
        found.text().map(|text| text.trim().to_owned())
    };
    let all = |name: &'static str| document.descendants().filter(move |node| node.tag_name().name() == name);
    let mirror = all("mirror").find(|mirror| {
        let of = child(*mirror, "mirrorOf").unwrap_or_default();
        of.split(',').any(|pattern| matches!(pattern.trim(), "*" | "central" | "external:*"))
    });
    let Some(mirror) = mirror else { return };
    let Some(url) = child(mirror, "url").and_then(|text| take_url_credential(&text, clients)) else { return };
    let id = child(mirror, "id");
    let server = all("server").find(|server| id.is_some() && child(*server, "id") == id);
    if let Some((user, password)) =
        server.and_then(|server| Some((child(server, "username")?, child(server, "password")?)))
    {
        clients.credentials.extend(basic_credential(&url, &user, &password));
    }
    clients.upstreams.maven = Some(url);
}

/// Reads the mirror of Bundler for all sources, or else the first source of `gem`.
pub(super) fn read_rubygems(host: &HostEnvironment<'_>, clients: &mut HostClients) {
    let field = |text: &str, key: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(':'))?;
        Some(line.trim().trim_matches(['"', '\'']).to_owned())
    };
    let bundle = host.read_file(&host.home_path(".bundle/config")).unwrap_or_default();
    let mirror = host.find_variable("BUNDLE_MIRROR__ALL").or_else(|| field(&bundle, "BUNDLE_MIRROR__ALL"));
    for (key, value) in bundle.lines().filter_map(|line| line.trim().strip_prefix("BUNDLE_")?.split_once(": ")) {
        if key.starts_with("MIRROR__") {
            continue;
        }
        // A login of a host: its dots are two underscores, its dashes three.
        let name = key.replace("___", "-").replace("__", ".").to_lowercase();
        let login = value
            .trim()
            .trim_matches(['"', '\''])
            .split_once(':')
            .filter(|_| name.contains('.') && !name.contains('/'));
        let prefix = parse_url(&format!("https://{name}/"));
        clients
            .credentials
            .extend(prefix.zip(login).and_then(|(url, (user, password))| basic_credential(&url, user, password)));
    }
    let gemrc = host.read_file(&host.home_path(".gemrc")).unwrap_or_default();
    let source = || {
        let at = gemrc.lines().position(|line| line.trim().trim_matches(':') == "sources")?;
        gemrc.lines().nth(at + 1)?.trim().strip_prefix('-').map(|text| text.trim().trim_matches(['"', '\'']).to_owned())
    };
    clients.upstreams.rubygems = mirror.or_else(source).and_then(|text| take_url_credential(&text, clients));
}

/// Reads the logins of `.netrc`, which pip, uv, Go and git honor. A login of `default` is not used.
pub(super) fn read_netrc(host: &HostEnvironment<'_>, clients: &mut HostClients) {
    let path = host.find_variable("NETRC").map_or_else(|| host.home_path(".netrc"), Into::into);
    let text = host.read_file(&path).unwrap_or_default();
    let mut machine: Option<String> = None;
    let mut login: Option<String> = None;
    let mut words = text.split_ascii_whitespace();
    while let Some(word) = words.next() {
        match word {
            "machine" => (machine, login) = (words.next().map(str::to_owned), None),
            "default" => machine = None,
            "login" => login = words.next().map(str::to_owned),
            "password" => {
                let password = words.next();
                if let (Some(machine), Some(login), Some(password)) = (&machine, &login, password) {
                    let prefix = parse_url(&format!("https://{machine}/"));
                    clients.credentials.extend(prefix.and_then(|prefix| basic_credential(&prefix, login, password)));
                }
            }
            _ => {}
        }
    }
}
