//! The sparse registry protocol of cargo: configuration, index entries and crate files.

use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::digest::FileDigest;
use super::resource::{
    Document, Ecosystem, IndexRequest, ListedFile, RenderedDocument, Resource, RouteUrl, append_path, is_version,
};

/// The registries of the user. The first is the default one.
pub(super) struct Cargo {
    pub registries: Vec<CargoRegistry>,
    pub route: RouteUrl,
}

/// One registry of the user.
pub(super) struct CargoRegistry {
    /// The first segment of its paths on the gateway.
    pub name: String,
    /// The URL of its sparse index.
    pub index: Url,
    /// The template of its download URLs, from its configuration.
    pub download: std::sync::Mutex<Option<String>>,
}

impl Cargo {
    fn find_registry(&self, name: &str) -> Option<&CargoRegistry> {
        self.registries.iter().find(|registry| registry.name == name)
    }

    fn find_by_url(&self, url: &Url) -> Option<(&CargoRegistry, String)> {
        self.registries.iter().find_map(|registry| {
            let rest = url.as_str().strip_prefix(registry.index.as_str().trim_end_matches('/'))?.strip_prefix('/')?;
            Some((registry, rest.to_owned()))
        })
    }
}

impl CargoRegistry {
    fn index_request(&self, path: &str) -> Result<IndexRequest, &'static str> {
        let url = append_path(&self.index, path).ok_or("the path is not one of a crate")?;
        Ok(IndexRequest { url, accept: "*/*" })
    }

    /// Returns the download URL of a crate file (the cargo book, "Index Configuration").
    fn download_url(&self, name: &str, version: &str, checksum: &str) -> Option<Url> {
        let template = self.download.lock().ok()?.clone()?;
        let markers = ["{crate}", "{version}", "{prefix}", "{lowerprefix}", "{sha256-checksum}"];
        let template = if markers.iter().any(|marker| template.contains(marker)) {
            template
        } else {
            format!("{}/{{crate}}/{{version}}/download", template.trim_end_matches('/'))
        };
        let text = template
            .replace("{crate}", name)
            .replace("{version}", version)
            .replace("{prefix}", &index_prefix(name))
            .replace("{lowerprefix}", &index_prefix(&name.to_ascii_lowercase()))
            .replace("{sha256-checksum}", checksum);
        let url = Url::parse(&text).ok()?;
        (url.scheme() == "https" || url.origin() == self.index.origin()).then_some(url)
    }
}

impl Ecosystem for Cargo {
    fn parse(&self, path: &str, query: Option<&str>, _accept: &str) -> Result<Resource, &'static str> {
        if query.is_some() {
            return Err("requests with a query are not package requests");
        }
        let (registry, path) = path.split_once('/').ok_or("the path names no registry")?;
        let registry = self.find_registry(registry).ok_or("the registry does not exist")?;
        match path.split('/').collect::<Vec<_>>().as_slice() {
            ["config.json"] => registry.index_request("config.json").map(Resource::Index),
            ["dl", name, version, "download"] if is_crate(name) && is_version(version) => {
                let entry = format!("{}/{}", index_prefix(&name.to_ascii_lowercase()), name.to_ascii_lowercase());
                let indexes = vec![registry.index_request("config.json")?, registry.index_request(&entry)?];
                Ok(Resource::File { key: format!("{}/{name}/{version}", registry.name), indexes })
            }
            [.., name] if is_crate(name) && path == format!("{}/{name}", index_prefix(name)) => {
                registry.index_request(path).map(Resource::Index)
            }
            _ => Err("the path is not one of a sparse index"),
        }
    }

    fn list_files(&self, document: &Document) -> Vec<(String, ListedFile)> {
        let Some((registry, path)) = self.find_by_url(&document.url) else { return Vec::new() };
        if path == "config.json" {
            let config = serde_json::from_slice::<IndexConfig>(&document.body).ok();
            if let (Some(config), Ok(mut download)) = (config, registry.download.lock()) {
                *download = Some(config.dl);
            }
            return Vec::new();
        }
        let text = String::from_utf8_lossy(&document.body);
        let parse_line = |line: &str| {
            let entry: IndexEntry = serde_json::from_str(line).ok()?;
            let is_valid = is_crate(&entry.name) && is_version(&entry.vers);
            let digest = FileDigest::from_sha256_hex(&entry.cksum).filter(|_| is_valid)?;
            let url = registry.download_url(&entry.name, &entry.vers, &entry.cksum)?;
            let key = format!("{}/{}/{}", registry.name, entry.name, entry.vers);
            Some((key, ListedFile { url, digest: Some(digest) }))
        };
        text.lines().filter_map(parse_line).collect()
    }

    fn render_document(&self, document: Document, _accept: &str) -> Result<RenderedDocument, String> {
        let (registry, path) = self.find_by_url(&document.url).ok_or("the index redirects elsewhere")?;
        if path == "config.json" {
            // Without `api`, cargo knows no address for publishing.
            let body = json!({"dl": format!("{}{}/dl", self.route, registry.name)}).to_string();
            return Ok(RenderedDocument { content_type: "application/json".into(), body: body.into() });
        }
        Ok(RenderedDocument { content_type: "text/plain".into(), body: document.body })
    }
}

#[derive(Deserialize)]
struct IndexConfig {
    dl: String,
}

#[derive(Deserialize)]
struct IndexEntry {
    name: String,
    vers: String,
    cksum: String,
}

/// Returns the directory of a crate's index entry, such as `se/rd`.
fn index_prefix(name: &str) -> String {
    match name.len() {
        1 => "1".into(),
        2 => "2".into(),
        3 => format!("3/{}", &name[..1]),
        _ => format!("{}/{}", &name[..2], &name[2..4]),
    }
}

/// Returns whether a text is a crate's name: at most 64 letters, digits, `-` and `_`, beginning with a letter.
fn is_crate(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.as_bytes()[0].is_ascii_alphabetic()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cargo() -> Cargo {
        let index = Url::parse("https://index.example/").expect("a URL");
        let registry = CargoRegistry { name: "crates-io".into(), index, download: std::sync::Mutex::default() };
        Cargo { registries: vec![registry], route: "http://127.0.0.1:1/cargo/".into() }
    }

    fn document(path: &str, body: &str) -> Document {
        let url = Url::parse(&format!("https://index.example/{path}")).expect("a URL");
        Document { url, content_type: String::new(), body: body.to_owned().into() }
    }

    #[test]
    fn only_paths_of_a_sparse_index_are_requested() {
        let cargo = cargo();
        for path in [
            "config.json",
            "1/a",
            "2/ab",
            "3/a/abc",
            "se/rd/serde",
            "dl/serde/1.0.0/download",
            "dl/Inflector/0.11.4+x/download",
        ] {
            assert!(cargo.parse(&format!("crates-io/{path}"), None, "").is_ok(), "{path}");
        }
        for path in [
            "",
            "serde",
            "se/rd/serde_",
            "xx/rd/serde",
            "1/ab",
            "dl/serde/1.0.0",
            "dl/serde//download",
            "dl/-a/1/download",
            "api/v1/crates/new",
            "dl/serde/latest /download",
            "se/rd/se.rde",
        ] {
            let allowed = cargo.parse(&format!("crates-io/{path}"), None, "").is_ok();
            assert_eq!(allowed, path == "se/rd/serde_", "{path}");
        }
        assert!(
            cargo.parse("other/config.json", None, "").is_err() && cargo.parse("crates-io/1/a", Some("q"), "").is_err()
        );
    }

    #[test]
    fn index_entries_list_crates_with_checksums() {
        let cargo = cargo();
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let entries = format!(
            "{{\"name\":\"serde\",\"vers\":\"1.0.0\",\"cksum\":\"{hex}\"}}\n{{\"name\":\"serde\",\"vers\":\"../x\",\"cksum\":\"{hex}\"}}\n{{\"name\":\"serde\",\"vers\":\"2.0.0\",\"cksum\":\"\"}}\nx\n"
        );
        assert!(cargo.list_files(&document("se/rd/serde", &entries)).is_empty(), "the configuration is not known yet");
        let config =
            document("config.json", r#"{"dl": "https://static.example/crates", "api": "https://example.org"}"#);
        cargo.list_files(&config);
        let body = cargo.render_document(config, "").expect("valid").body;
        assert_eq!(&body[..], b"{\"dl\":\"http://127.0.0.1:1/cargo/crates-io/dl\"}");
        let listed = cargo.list_files(&document("se/rd/serde", &entries));
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].0, "crates-io/serde/1.0.0");
        assert_eq!(listed[0].1.url.as_str(), "https://static.example/crates/serde/1.0.0/download");
        cargo.list_files(&document(
            "config.json",
            r#"{"dl": "https://static.example/{prefix}/{crate}-{version}.crate"}"#,
        ));
        assert_eq!(
            cargo.list_files(&document("se/rd/serde", &entries))[0].1.url.as_str(),
            "https://static.example/se/rd/serde-1.0.0.crate"
        );
        cargo.list_files(&document("config.json", r#"{"dl": "http://10.0.0.1/"}"#));
        assert!(cargo.list_files(&document("se/rd/serde", &entries)).is_empty());
    }
}
