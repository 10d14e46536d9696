//! The registry of npm, pnpm, yarn and bun: package documents, version manifests and tarballs.

use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::digest::FileDigest;
use super::resource::{
    Document, Ecosystem, IndexRequest, ListedFile, RenderedDocument, Resource, RouteUrl, append_path, is_version,
    resolve_link,
};
use crate::gateway::upstream::is_path_below;

/// The media type of abbreviated package documents, which is all that an installation needs.
const ABBREVIATED: &str = "application/vnd.npm.install-v1+json";

/// The registries of the user: a default one, and others for scopes.
pub(super) struct Npm {
    pub default: Url,
    /// Scopes with their `@`.
    pub scopes: Vec<(String, Url)>,
    /// Other names of the default registry, which some clients use.
    pub aliases: Vec<Url>,
    pub route: RouteUrl,
}

impl Npm {
    fn find_registry(&self, name: &str) -> &Url {
        let scope = name.split_once('/').map(|(scope, _)| scope);
        self.scopes.iter().find(|(own, _)| Some(own.as_str()) == scope).map_or(&self.default, |(_, url)| url)
    }

    /// Returns the request for a package's document, or for the manifest of one version.
    fn index_request(
        &self,
        name: &str,
        version: Option<&str>,
        accept: &'static str,
    ) -> Result<IndexRequest, &'static str> {
        let name_in_path = name.replacen('/', "%2f", 1);
        let path = version.map_or(name_in_path.clone(), |version| format!("{name_in_path}/{version}"));
        let url = append_path(self.find_registry(name), &path).ok_or("the path is not one of a package")?;
        Ok(IndexRequest { url, accept })
    }
}

impl Ecosystem for Npm {
    fn parse(&self, path: &str, query: Option<&str>, accept: &str) -> Result<Resource, &'static str> {
        if query.is_some_and(|query| query != "write=false") {
            return Err("requests with a query are not package requests");
        }
        let segments: Vec<&str> = path.split('/').collect();
        let (name, rest) = match segments.as_slice() {
            [scope, name, rest @ ..] if scope.starts_with('@') => (format!("{scope}/{name}"), rest),
            [name, rest @ ..] => ((*name).to_owned(), rest),
            [] => return Err("the path names no package"),
        };
        if !is_package_name(&name) {
            return Err("the path is not one of a package");
        }
        match rest {
            [] => {
                let accept = if accept.contains(ABBREVIATED) { ABBREVIATED } else { "application/json" };
                self.index_request(&name, None, accept).map(Resource::Index)
            }
            [version] if is_version(version) => {
                self.index_request(&name, Some(version), "application/json").map(Resource::Index)
            }
            _ => {
                // A tarball. Its conventional name tells the version, whose manifest is small.
                let unscoped = name.rsplit('/').next().unwrap_or_default();
                let version = match rest {
                    ["-", file] => file
                        .strip_prefix(unscoped)
                        .and_then(|rest| rest.strip_prefix('-')?.strip_suffix(".tgz"))
                        .filter(|version| is_version(version)),
                    _ => None,
                };
                let indexes = match version {
                    Some(version) => vec![self.index_request(&name, Some(version), "application/json")?],
                    None => Vec::new(),
                };
                Ok(Resource::File { key: path.to_owned(), indexes })
            }
        }
    }

    fn parse_own(&self, url: &Url, accept: &str) -> Option<Result<Resource, &'static str>> {
        let mut registries = self.own_urls();
        registries.retain(|own| own.origin() == url.origin() && is_path_below(url.path(), own.path()));
        let registry = registries.into_iter().max_by_key(|own| own.path().len());
        let Some(registry) = registry else {
            // A tarball at another place, which a document may have listed.
            let is_file = url.path().ends_with(".tgz") || url.path().ends_with(".tar.gz");
            return is_file.then(|| Ok(Resource::File { key: url.to_string(), indexes: Vec::new() }));
        };
        let path = url.path().strip_prefix(registry.path().trim_end_matches('/'))?.trim_start_matches('/').to_owned();
        let own = Self { default: registry, scopes: Vec::new(), aliases: Vec::new(), route: String::new() };
        Some(own.parse(&decode_scope(&path), url.query(), accept))
    }

    fn own_urls(&self) -> Vec<Url> {
        let scopes = self.scopes.iter().map(|(_, url)| url);
        [&self.default].into_iter().chain(scopes).chain(&self.aliases).cloned().collect()
    }

    fn render_document(&self, document: Document, _accept: &str) -> Result<RenderedDocument, String> {
        let Document { url, content_type, body } = document;
        // Clients reach a registry with TLS under its own name, and its documents are passed on as they are.
        if url.scheme() != "http" {
            return Ok(RenderedDocument { content_type, body });
        }
        let mut value: Value = serde_json::from_slice(&body).map_err(|_| "the registry sent damaged JSON")?;
        self.rewrite_tarball(&mut value, &url);
        for version in value.get_mut("versions").and_then(Value::as_object_mut).into_iter().flatten() {
            self.rewrite_tarball(version.1, &url);
        }
        Ok(RenderedDocument { content_type, body: value.to_string().into() })
    }

    fn list_files(&self, document: &Document) -> Vec<(String, ListedFile)> {
        let Ok(parsed) = serde_json::from_slice::<PackageDocument>(&document.body) else { return Vec::new() };
        let dists = parsed.versions.into_values().map(|version| version.dist).chain([parsed.dist]);
        dists
            .flatten()
            .filter_map(|dist| {
                let url = resolve_link(&document.url, &dist.tarball)?;
                let digest = dist.integrity.as_deref().and_then(FileDigest::from_integrity);
                // npm requests a tarball by its path below the registry that it knows.
                let base = self.base_path(&url);
                let key = url.path().strip_prefix(base).unwrap_or(url.path()).trim_start_matches('/').to_owned();
                Some((decode_scope(&key), ListedFile { url, digest }))
            })
            .collect()
    }
}

impl Npm {
    /// Replaces the URL of a tarball by one of the route.
    fn rewrite_tarball(&self, version: &mut Value, document: &Url) {
        let Some(tarball) = version.pointer_mut("/dist/tarball") else { return };
        let url = tarball.as_str().and_then(|text| resolve_link(document, text));
        if let Some(url) = url {
            let key = url.path().strip_prefix(self.base_path(&url)).unwrap_or(url.path()).trim_start_matches('/');
            *tarball = format!("{}{key}", self.route).into();
        }
    }

    /// Returns the path of the registry that has the URL's origin.
    fn base_path(&self, url: &Url) -> &str {
        let registries = self.scopes.iter().map(|(_, url)| url).chain([&self.default]).chain(&self.aliases);
        let mut paths: Vec<&str> = registries
            .filter(|registry| registry.origin() == url.origin())
            .map(|r| r.path().trim_end_matches('/'))
            .collect();
        paths.sort_by_key(|path| std::cmp::Reverse(path.len()));
        paths.into_iter().find(|path| is_path_below(url.path(), path)).unwrap_or_default()
    }
}

/// Replaces the encoded slash behind a scope, which npm sends and which no other route accepts.
pub(super) fn decode_scope(path: &str) -> String {
    let Some(at) = path.get(..path.len().min(300)).and_then(|start| start.find('%')) else { return path.to_owned() };
    let is_encoded = path[at..].get(..3).is_some_and(|code| code.eq_ignore_ascii_case("%2f"));
    if is_encoded && path.trim_start_matches('/').starts_with('@') && !path[..at].trim_start_matches('/').contains('/')
    {
        format!("{}/{}", &path[..at], &path[at + 3..])
    } else {
        path.to_owned()
    }
}

/// Returns whether a text is a package name: up to 214 URL-safe characters, with an optional scope. Old packages have
/// upper-case letters and `!'()*~`.
fn is_package_name(name: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['.', '-'])
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.!'()*~".contains(&b))
    };
    let parts: Vec<&str> = name.split('/').collect();
    name.len() <= 214
        && match parts.as_slice() {
            [name] => is_part(name),
            [scope, name] => scope.strip_prefix('@').is_some_and(is_part) && is_part(name),
            _ => false,
        }
}

/// A package document with its versions, or the manifest of one version.
#[derive(Deserialize)]
struct PackageDocument {
    #[serde(default)]
    versions: std::collections::BTreeMap<String, VersionManifest>,
    dist: Option<Dist>,
}

#[derive(Deserialize)]
struct VersionManifest {
    dist: Option<Dist>,
}

#[derive(Deserialize)]
struct Dist {
    tarball: String,
    integrity: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npm() -> Npm {
        let url = |text: &str| Url::parse(text).expect("a URL");
        Npm {
            default: url("https://npm.example/"),
            scopes: vec![("@corp".into(), url("https://mirror.example/npm/"))],
            aliases: vec![url("https://alias.example/")],
            route: "http://127.0.0.1:1/npm/".into(),
        }
    }

    fn parse(path: &str) -> Result<String, &'static str> {
        npm().parse(path, None, "*/*").map(|resource| match resource {
            Resource::Index(index) => index.url.to_string(),
            Resource::File { key, indexes } => {
                format!("{key} in {}", indexes.first().map_or("none".into(), |i| i.url.to_string()))
            }
            other => format!("{other:?}"),
        })
    }

    #[test]
    fn only_package_paths_are_requested() {
        for (path, expected) in [
            ("left-pad", "https://npm.example/left-pad"),
            ("@babel/core", "https://npm.example/@babel%2fcore"),
            ("@corp/x/1.0.0", "https://mirror.example/npm/@corp%2fx/1.0.0"),
            ("left-pad/-/left-pad-1.3.0.tgz", "left-pad/-/left-pad-1.3.0.tgz in https://npm.example/left-pad/1.3.0"),
            (
                "@babel/core/-/core-7.0.0-rc.1.tgz",
                "@babel/core/-/core-7.0.0-rc.1.tgz in https://npm.example/@babel%2fcore/7.0.0-rc.1",
            ),
            ("x/-/other-1.0.0.tgz", "x/-/other-1.0.0.tgz in none"),
            ("x/-/x-../y.tgz", "x/-/x-../y.tgz in none"),
        ] {
            assert_eq!(parse(path).as_deref(), Ok(expected), "{path}");
        }
        for path in [
            "",
            "-/v1/search",
            "-/npm/v1/security/audits",
            "-/user/x",
            ".x",
            "@/x",
            "@a",
            "@a/",
            "a%2fb",
            &"x".repeat(215),
        ] {
            assert!(parse(path).is_err(), "{path}");
        }
        assert!(npm().parse("x", Some("data=1"), "").is_err());
        let own = |text: &str| npm().parse_own(&Url::parse(text).expect("a URL"), "");
        let Some(Ok(Resource::Index(request))) = own("https://alias.example/@babel%2fcore") else { panic!() };
        assert_eq!(request.url.as_str(), "https://alias.example/@babel%2fcore");
        let Some(Ok(Resource::File { key, .. })) = own("https://mirror.example/npm/x/-/x-1.0.0.tgz") else { panic!() };
        assert_eq!(key, "x/-/x-1.0.0.tgz");
        assert!(
            own("https://other.example/x").is_none()
                && own("https://mirror.example/x").is_none()
                && matches!(own("https://mirror.example/x.tgz"), Some(Ok(Resource::File { .. })))
        );
        assert_eq!(decode_scope("@babel%2fcore"), "@babel/core");
        assert_eq!(decode_scope("/@babel%2Fcore/-/x.tgz"), "/@babel/core/-/x.tgz");
        for other in ["a%2fb", "@a/b%2fc", "@a%2eb", "@a%2", "%"] {
            assert_eq!(decode_scope(other), other);
        }
    }

    #[test]
    fn documents_list_their_tarballs() {
        let document = |url: &str, body: &str| Document {
            url: Url::parse(url).expect("a URL"),
            content_type: "application/json".into(),
            body: body.to_owned().into(),
        };
        let dist = |tarball: &str| format!(r#"{{"dist": {{"tarball": "{tarball}"}}}}"#);
        let keys = |url: &str, tarball: &str| {
            let listed = npm().list_files(&document(url, &dist(tarball)));
            listed.into_iter().map(|(key, file)| format!("{key} {}", file.url)).collect::<Vec<_>>()
        };
        assert_eq!(
            keys("https://npm.example/x", "https://npm.example/x/-/x-1.0.0.tgz"),
            ["x/-/x-1.0.0.tgz https://npm.example/x/-/x-1.0.0.tgz"]
        );
        assert_eq!(
            keys("https://mirror.example/npm/@corp%2fx", "https://mirror.example/npm/@corp/x/-/x-1.tgz"),
            ["@corp/x/-/x-1.tgz https://mirror.example/npm/@corp/x/-/x-1.tgz"]
        );
        assert!(keys("https://npm.example/x", "http://evil.example/x.tgz").is_empty());
        assert!(keys("https://npm.example/x", "file:///etc/passwd").is_empty());
        assert!(npm().list_files(&document("https://npm.example/x", "[")).is_empty());
    }
}
