//! The registry of RubyGems: the compact index that Bundler reads, the older indexes of `gem`, and gems.

use std::collections::BTreeSet;

use url::Url;

use super::digest::FileDigest;
use super::resource::{Document, Ecosystem, IndexRequest, ListedFile, Resource, append_path, is_version};

/// The source of the user.
pub(super) struct RubyGems {
    pub source: Url,
}

impl RubyGems {
    fn index_request(&self, path: &str) -> Result<IndexRequest, &'static str> {
        let url = append_path(&self.source, path).ok_or("the path is not one of a gem")?;
        Ok(IndexRequest { url, accept: "*/*" })
    }
}

impl Ecosystem for RubyGems {
    fn parse(&self, path: &str, query: Option<&str>, _accept: &str) -> Result<Resource, &'static str> {
        if query.is_some() {
            return Err("requests with a query are not package requests");
        }
        let specs = ["specs", "latest_specs", "prerelease_specs"].map(|name| format!("{name}.4.8.gz"));
        if matches!(path, "versions" | "names") || specs.iter().any(|name| name == path) {
            return self.index_request(path).map(Resource::Index);
        }
        if let Some(name) = path.strip_prefix("info/") {
            return if is_gem(name) {
                self.index_request(path).map(Resource::Index)
            } else {
                Err("the path is not one of a gem")
            };
        }
        let file = path.strip_prefix("gems/").and_then(|file| file.strip_suffix(".gem"));
        let spec = path.strip_prefix("quick/Marshal.4.8/").and_then(|file| file.strip_suffix(".gemspec.rz"));
        let full_name = file.or(spec).filter(|name| name.len() <= 300).ok_or("the path is not one of a gem index")?;
        // Names and platforms may contain hyphens: any split before a digit may be the right one.
        let splits = full_name
            .match_indices('-')
            .filter(|(at, _)| full_name.as_bytes().get(at + 1).is_some_and(u8::is_ascii_digit));
        let names: BTreeSet<&str> = splits
            .filter(|(at, _)| is_gem(&full_name[..*at]) && is_version(&full_name[at + 1..]))
            .map(|(at, _)| &full_name[..at])
            .collect();
        if names.is_empty() {
            return Err("the path is not one of a gem");
        }
        let indexes = names
            .into_iter()
            .take(4)
            .map(|name| self.index_request(&format!("info/{name}")))
            .collect::<Result<_, _>>()?;
        Ok(Resource::File { key: path.to_owned(), indexes })
    }

    fn list_files(&self, document: &Document) -> Vec<(String, ListedFile)> {
        let Some(name) = document.url.path().rsplit_once("/info/").map(|(_, name)| name).filter(|name| is_gem(name))
        else {
            return Vec::new();
        };
        let text = String::from_utf8_lossy(&document.body);
        let parse_line = |line: &str| {
            let version = line.split(' ').next().filter(|version| is_version(version))?;
            let checksum = line.split('|').nth(1)?.split(',').find_map(|field| field.strip_prefix("checksum:"));
            let digest = checksum.and_then(FileDigest::from_sha256_hex);
            let gem = format!("gems/{name}-{version}.gem");
            let spec = format!("quick/Marshal.4.8/{name}-{version}.gemspec.rz");
            let url = append_path(&self.source, &gem)?;
            let spec_url = append_path(&self.source, &spec)?;
            Some([(gem, ListedFile { url, digest }), (spec, ListedFile { url: spec_url, digest: None })])
        };
        text.lines().filter_map(parse_line).flatten().collect()
    }
}

/// Returns whether a text is a gem's name.
fn is_gem(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && !name.starts_with(['.', '-'])
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_indexes_and_listed_gems_are_requested() {
        let gems = RubyGems { source: Url::parse("https://gems.example/").expect("a URL") };
        for path in [
            "versions",
            "info/rake",
            "specs.4.8.gz",
            "gems/rake-13.0.0.gem",
            "quick/Marshal.4.8/rake-13.0.0.gemspec.rz",
        ] {
            assert!(gems.parse(path, None, "").is_ok(), "{path}");
        }
        for path in [
            "",
            "info/",
            "info/.x",
            "info/a/b",
            "gems/rake.gem",
            "gems/-1.gem",
            "api/v1/gems",
            "api/v1/dependencies",
            "gems/rake-13.0.0.gem/x",
        ] {
            assert!(gems.parse(path, None, "").is_err(), "{path}");
        }
        let Ok(Resource::File { indexes, .. }) = gems.parse("gems/a-2-b-1.0-x86-64.gem", None, "") else { panic!() };
        let urls: Vec<&str> = indexes.iter().map(|index| index.url.path()).collect();
        assert_eq!(urls, ["/info/a", "/info/a-2-b", "/info/a-2-b-1.0-x86"]);
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let document = Document {
            url: Url::parse("https://gems.example/info/a-2-b").expect("a URL"),
            content_type: String::new(),
            body: format!(
                "---\n1.0-x86_64-linux c:>= 1|checksum:{hex},ruby:>= 2\n../x |checksum:{hex}\n2.0 |ruby:>= 2\n"
            )
            .into(),
        };
        let keys: Vec<(String, bool)> =
            gems.list_files(&document).into_iter().map(|(key, file)| (key, file.digest.is_some())).collect();
        assert_eq!(keys[0], ("gems/a-2-b-1.0-x86_64-linux.gem".into(), true));
        assert_eq!(keys[2], ("gems/a-2-b-2.0.gem".into(), false));
        assert_eq!(keys.len(), 4);
    }
}
