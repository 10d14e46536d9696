//! The module proxy protocol of Go, and the checksum database behind it. The go command checks every module against
//! that database by itself.

use std::collections::BTreeSet;

use url::Url;

use super::resource::{Ecosystem, IndexRequest, Resource, append_path, is_version};

/// The module proxy and the checksum database of the user.
pub(super) struct Go {
    pub proxy: Url,
    /// The name of the checksum database, such as in `GOSUMDB`, and its URL.
    pub sumdb: Option<(String, Url)>,
    /// The hosts of modules that the repository uses already.
    pub known_hosts: BTreeSet<String>,
}

impl Ecosystem for Go {
    fn charged_name(&self, path: &str) -> Option<String> {
        // A module proxy asks the host in a module's path where the module is.
        let module = match path.strip_prefix("sumdb/") {
            Some(rest) => rest.split_once("/lookup/")?.1.split('@').next()?,
            None => path.split("/@").next()?,
        };
        (!self.is_known(module)).then(|| module.to_owned())
    }

    fn parse(&self, path: &str, query: Option<&str>, _accept: &str) -> Result<Resource, &'static str> {
        if query.is_some() {
            return Err("requests with a query are not package requests");
        }
        if let Some(rest) = path.strip_prefix("sumdb/") {
            return self.parse_sumdb(rest);
        }
        let url = || append_path(&self.proxy, path).ok_or("the path is not one of a module");
        if let Some(module) = path.strip_suffix("/@latest") {
            return if is_module(module) { index_resource(url()?) } else { Err("the path is not one of a module") };
        }
        let (module, file) = path.rsplit_once("/@v/").ok_or("the path is not one of a module")?;
        if !is_module(module) {
            return Err("the path is not one of a module");
        }
        if file == "list" {
            return index_resource(url()?);
        }
        let (version, extension) = file.rsplit_once('.').ok_or("the path is not one of a module")?;
        if !is_version(version) || !matches!(extension, "info" | "mod" | "zip") {
            return Err("the path is not one of a module");
        }
        // `.info` of a branch's name changes, so it is not stored.
        let is_immutable = version.starts_with('v') && version.matches('.').count() >= 2;
        Ok(Resource::Direct { url: url()?, is_immutable })
    }
}

impl Go {
    fn is_known(&self, module: &str) -> bool {
        module.split('/').next().is_some_and(|host| self.known_hosts.contains(host))
    }

    fn parse_sumdb(&self, path: &str) -> Result<Resource, &'static str> {
        let (name, rest) = path.split_once('/').ok_or("the path is not one of a checksum database")?;
        let Some((_, database)) = self.sumdb.as_ref().filter(|(own, _)| own == name) else {
            return Err("the checksum database is not the configured one");
        };
        if rest == "supported" {
            return Ok(Resource::Fixed { content_type: "text/plain", body: String::new() });
        }
        let is_path = |text: &str| {
            !text.is_empty()
                && text.split('/').all(|part| !part.is_empty())
                && text.bytes().all(is_module_byte_with_version)
        };
        let is_known = rest == "latest"
            || rest.strip_prefix("lookup/").is_some_and(|module| module.contains('@') && is_path(module))
            || rest.strip_prefix("tile/").is_some_and(|tile| {
                is_path(tile) && tile.bytes().all(|b| b.is_ascii_digit() || b"/.xpdat".contains(&b))
            });
        if !is_known {
            return Err("the path is not one of a checksum database");
        }
        let url = append_path(database, rest).ok_or("the path is not one of a checksum database")?;
        Ok(Resource::Direct { url, is_immutable: rest.starts_with("tile/") })
    }
}

fn index_resource(url: Url) -> Result<Resource, &'static str> {
    Ok(Resource::Index(IndexRequest { url, accept: "*/*" }))
}

/// Returns whether a text is an escaped module path: lower case, with `!` before what was an upper-case letter.
fn is_module(path: &str) -> bool {
    let is_element = |element: &str| {
        !element.is_empty()
            && !element.starts_with('.')
            && element.bytes().all(|b| b != b'@' && is_module_byte_with_version(b))
    };
    path.len() <= 500
        && path.split('/').all(is_element)
        && path.split('/').next().is_some_and(|host| host.contains('.'))
}

fn is_module_byte_with_version(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._~!@/+".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_module_paths_are_requested() {
        let url = |text: &str| Url::parse(text).expect("a URL");
        let go = Go {
            proxy: url("https://go.example/"),
            sumdb: Some(("sum.example".into(), url("https://sum.example"))),
            known_hosts: ["rsc.io".to_owned()].into(),
        };
        for path in [
            "rsc.io/quote/@v/list",
            "rsc.io/quote/@latest",
            "github.com/!burnt!sushi/toml/@v/v0.3.1.mod",
            "rsc.io/quote/v3/@v/v3.0.0.zip",
            "a.b/c/@v/v0.0.0-20190101000000-abcdefabcdef.info",
            "a.b/c/@v/v2.0.0+incompatible.zip",
            "a.b/c/@v/master.info",
            "sumdb/sum.example/supported",
            "sumdb/sum.example/latest",
            "sumdb/sum.example/lookup/rsc.io/quote@v1.5.2",
            "sumdb/sum.example/tile/8/0/x001/234.p/5",
        ] {
            assert!(go.parse(path, None, "").is_ok(), "{path}");
        }
        for path in [
            "",
            "@v/list",
            "quote/@v/list",
            "rsc.io/Quote/@v/list",
            "rsc.io//quote/@v/list",
            "rsc.io/quote/@v/v1.exe",
            "rsc.io/quote/@v/",
            "rsc.io/.git/@v/list",
            "rsc.io/quote",
            "sumdb/other.example/latest",
            "sumdb/sum.example/lookup/x",
            "sumdb/sum.example/tile/../x",
            "sumdb/sum.example/x",
        ] {
            assert!(go.parse(path, None, "").is_err(), "{path}");
        }
    }

    #[test]
    fn modules_of_other_hosts_are_charged_once() {
        let url = |text: &str| Url::parse(text).expect("a URL");
        let go = Go { proxy: url("https://go.example/"), sumdb: None, known_hosts: ["rsc.io".to_owned()].into() };
        assert_eq!(go.charged_name("rsc.io/quote/@v/list"), None);
        for path in [
            "evil.example/a/@v/list",
            "evil.example/a/@latest",
            "evil.example/a/@v/v1.0.0.zip",
            "sumdb/sum.example/lookup/evil.example/a@v1.0.0",
        ] {
            assert_eq!(go.charged_name(path).as_deref(), Some("evil.example/a"), "{path}");
        }
    }
}
