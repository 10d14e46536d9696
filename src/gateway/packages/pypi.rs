//! The Python package index: pages of the simple repository API, in JSON or HTML (PEP 503, 691, 658), and the files that
//! they list.
//!
//! A page is parsed into data and written again, so nothing but data passes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::LazyLock;

use regex::Regex;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::digest::FileDigest;
use super::resource::{
    Document, Ecosystem, IndexRequest, ListedFile, RenderedDocument, Resource, RouteUrl, append_path, resolve_link,
};
use crate::gateway::request_path::decode_percent;
use crate::gateway::upstream::is_path_below;

const JSON: &str = "application/vnd.pypi.simple.v1+json";
/// Both forms, because some mirrors know only HTML.
const ACCEPT: &str = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1";

/// The indexes of the user: the first is the main one, the others are extra.
pub(super) struct PyPi {
    /// URLs of simple indexes.
    pub indexes: Vec<Url>,
    pub route: RouteUrl,
}

impl PyPi {
    /// Splits `N/` off a path: the number of an extra index.
    fn split_index<'a>(&self, path: &'a str) -> Option<(usize, &'a str)> {
        match path.split_once('/') {
            Some((number, rest)) if number.bytes().all(|b| b.is_ascii_digit()) && !number.is_empty() => {
                let number = number.parse().ok().filter(|n| *n < self.indexes.len())?;
                Some((number, rest))
            }
            _ => Some((0, path)),
        }
    }

    fn index_request(&self, index: usize, project: &str) -> Result<IndexRequest, &'static str> {
        let base = self.indexes.get(index).ok_or("the index does not exist")?;
        let url = append_path(base, &format!("{project}/")).ok_or("the path is not one of a project")?;
        Ok(IndexRequest { url, accept: ACCEPT })
    }

    /// Returns the index and the project of a page by its URL.
    fn page_location(&self, url: &Url) -> Option<(usize, String)> {
        let project = url.path().trim_end_matches('/').rsplit('/').next()?.to_owned();
        let index = self
            .indexes
            .iter()
            .position(|base| base.origin() == url.origin() && is_path_below(url.path(), base.path()));
        is_project(&project).then(|| (index.unwrap_or(0), normalize_project(&project)))
    }
}

impl Ecosystem for PyPi {
    fn parse(&self, path: &str, query: Option<&str>, _accept: &str) -> Result<Resource, &'static str> {
        if query.is_some() {
            return Err("requests with a query are not package requests");
        }
        let (index, path) = self.split_index(path).ok_or("the index does not exist")?;
        match path.split('/').collect::<Vec<_>>().as_slice() {
            ["simple", project] | ["simple", project, ""] if is_project(project) => {
                self.index_request(index, &normalize_project(project)).map(Resource::Index)
            }
            ["simple"] | ["simple", ""] => Err("the list of all projects is not passed on"),
            ["files", project, file] if is_project(project) && is_file_name(file) => {
                let project = normalize_project(project);
                let indexes = vec![self.index_request(index, &project)?];
                Ok(Resource::File { key: format!("{index}/{project}/{file}"), indexes })
            }
            _ => Err("the path is not one of a package index"),
        }
    }

    fn parse_own(&self, url: &Url, accept: &str) -> Option<Result<Resource, &'static str>> {
        let segments: Vec<&str> = url.path().split('/').skip(1).collect();
        for (number, index) in self.indexes.iter().enumerate().filter(|(_, index)| index.origin() == url.origin()) {
            let rest =
                url.path().strip_prefix(index.path().trim_end_matches('/')).and_then(|rest| rest.strip_prefix('/'));
            if let Some(rest) = rest.filter(|rest| !rest.contains(".whl") && !rest.contains(".tar.")) {
                let parsed = self.parse(&format!("{number}/simple/{rest}"), url.query(), accept);
                return Some(parsed.map(|resource| match resource {
                    // The page is passed on as it is, so it has to be of a kind that the client reads.
                    Resource::Index(request) if !accept.contains(JSON) => {
                        Resource::Index(IndexRequest { accept: "text/html", ..request })
                    }
                    other => other,
                }));
            }
            // The metadata of a release, which poetry reads.
            if let ["pypi", project, .., "json"] = segments.as_slice()
                && is_project(project)
                && segments.len() <= 4
                && url.query().is_none()
            {
                return Some(Ok(Resource::Index(IndexRequest { url: url.clone(), accept: "application/json" })));
            }
        }
        let file = segments.last().map(|file| decode_percent(file)).filter(|file| is_file_name(file))?;
        let indexes = find_projects(&file)
            .iter()
            .flat_map(|project| (0..self.indexes.len()).map(|n| self.index_request(n, project)).collect::<Vec<_>>())
            .collect::<Result<Vec<_>, _>>();
        Some(indexes.map(|indexes| Resource::File { key: url.to_string(), indexes }))
    }

    fn own_urls(&self) -> Vec<Url> {
        self.indexes.clone()
    }

    fn sample_index(&self) -> Option<IndexRequest> {
        // Every index that serves pip has pip.
        self.index_request(0, "pip").ok()
    }

    fn list_files(&self, document: &Document) -> Vec<(String, ListedFile)> {
        let Some((index, project)) = self.page_location(&document.url) else { return Vec::new() };
        let Ok(files) = parse_page(document) else { return Vec::new() };
        files
            .into_iter()
            .flat_map(|file| {
                let key = format!("{index}/{project}/{}", file.name);
                let metadata = file.has_metadata().then(|| {
                    let mut url = file.url.clone();
                    url.set_path(&format!("{}.metadata", file.url.path()));
                    let digest = file.metadata.get("sha256").and_then(Value::as_str);
                    let digest = digest.and_then(FileDigest::from_sha256_hex);
                    (format!("{key}.metadata"), ListedFile { url, digest })
                });
                let digest = file.sha256.as_deref().and_then(FileDigest::from_sha256_hex);
                [Some((key, ListedFile { url: file.url, digest })), metadata].into_iter().flatten()
            })
            .collect()
    }

    fn render_document(&self, document: Document, accept: &str) -> Result<RenderedDocument, String> {
        let (index, project) = self.page_location(&document.url).ok_or("the page belongs to no project")?;
        let files = parse_page(&document)?;
        let base = format!("{}{index}/files/{project}/", self.route);
        // Clients list every form that they read.
        let (content_type, body) = if accept.contains(JSON) {
            (JSON, render_json(&project, &files, &base))
        } else {
            ("text/html; charset=utf-8", render_html(&project, &files, &base))
        };
        Ok(RenderedDocument { content_type: content_type.into(), body: body.into() })
    }
}

/// A file of a project.
#[derive(Debug)]
struct ProjectFile {
    name: String,
    url: Url,
    sha256: Option<String>,
    requires_python: Option<String>,
    /// `false`, `true` or the reason.
    yanked: Value,
    /// `false`, `true` or the digests of the metadata file.
    metadata: Value,
    size: Option<u64>,
    upload_time: Option<String>,
}

impl ProjectFile {
    fn has_metadata(&self) -> bool {
        self.metadata != Value::Bool(false)
    }
}

fn parse_page(document: &Document) -> Result<Vec<ProjectFile>, String> {
    if document.content_type.contains("json") {
        parse_json(document)
    } else if document.content_type.contains("html") {
        Ok(parse_html(document))
    } else {
        Err(format!("the index sent {}, neither JSON nor HTML", document.content_type))
    }
}

/// A page in JSON (PEP 691), as far as it is passed on.
#[derive(Deserialize)]
struct JsonPage {
    files: Vec<JsonFile>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct JsonFile {
    filename: String,
    url: String,
    #[serde(default)]
    hashes: BTreeMap<String, String>,
    requires_python: Option<String>,
    yanked: Option<BoolOr<String>>,
    core_metadata: Option<BoolOr<BTreeMap<String, String>>>,
    dist_info_metadata: Option<BoolOr<BTreeMap<String, String>>>,
    size: Option<u64>,
    upload_time: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum BoolOr<T> {
    Bool(bool),
    Other(T),
}

fn parse_json(document: &Document) -> Result<Vec<ProjectFile>, String> {
    let page: JsonPage = serde_json::from_slice(&document.body).map_err(|_| "the index sent a damaged page")?;
    let parse_file = |file: JsonFile| {
        let metadata = match file.core_metadata.or(file.dist_info_metadata) {
            None => Value::Bool(false),
            Some(BoolOr::Bool(has)) => Value::Bool(has),
            Some(BoolOr::Other(hashes)) => clean_metadata(&json!(hashes)),
        };
        Some(ProjectFile {
            url: resolve_link(&document.url, &file.url)?,
            name: Some(file.filename).filter(|name| is_file_name(name))?,
            sha256: file.hashes.get("sha256").filter(|hex| FileDigest::from_sha256_hex(hex).is_some()).cloned(),
            requires_python: file.requires_python,
            yanked: match file.yanked {
                None => Value::Bool(false),
                Some(BoolOr::Bool(is_yanked)) => Value::Bool(is_yanked),
                Some(BoolOr::Other(reason)) => Value::String(reason),
            },
            metadata,
            size: file.size,
            upload_time: file.upload_time,
        })
    };
    Ok(page.files.into_iter().filter_map(parse_file).collect())
}

/// Reduces the digests of a metadata file to the SHA-256.
fn clean_metadata(value: &Value) -> Value {
    match value.get("sha256").and_then(Value::as_str).filter(|hex| FileDigest::from_sha256_hex(hex).is_some()) {
        Some(hex) => json!({"sha256": hex}),
        None => Value::Bool(value.as_bool().unwrap_or(value.is_object())),
    }
}

static ANCHOR: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?is)<a\s([^>]*)>(.*?)</a\s*>").expect("a valid pattern"));
static ATTRIBUTE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"(?is)([a-z][a-z0-9-]*)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+)))?"#).expect("a valid pattern")
});

fn parse_html(document: &Document) -> Vec<ProjectFile> {
    let text = String::from_utf8_lossy(&document.body);
    let parse_anchor = |anchor: regex::Captures<'_>| {
        let attributes: Vec<(String, String)> = ATTRIBUTE
            .captures_iter(&anchor[1])
            .map(|found| {
                let value = found.get(2).or(found.get(3)).or(found.get(4)).map_or("", |m| m.as_str());
                (found[1].to_ascii_lowercase(), decode_entities(value))
            })
            .collect();
        let attribute = |name: &str| attributes.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone());
        let name = decode_entities(anchor[2].trim());
        let mut url = resolve_link(&document.url, &attribute("href")?)?;
        let sha256 = url.fragment().and_then(|fragment| fragment.strip_prefix("sha256=")).map(str::to_owned);
        url.set_fragment(None);
        let metadata = attribute("data-core-metadata").or_else(|| attribute("data-dist-info-metadata"));
        let metadata = match metadata.as_deref() {
            None | Some("false") => Value::Bool(false),
            Some(text) => clean_metadata(&json!({"sha256": text.strip_prefix("sha256=").unwrap_or_default()})),
        };
        Some(ProjectFile {
            name: Some(name).filter(|name| is_file_name(name))?,
            url,
            sha256: sha256.filter(|hex| FileDigest::from_sha256_hex(hex).is_some()),
            requires_python: attribute("data-requires-python"),
            yanked: attribute("data-yanked")
                .map_or(Value::Bool(false), |reason| if reason.is_empty() { true.into() } else { reason.into() }),
            metadata,
            size: None,
            upload_time: None,
        })
    };
    ANCHOR.captures_iter(&text).filter_map(parse_anchor).collect()
}

fn decode_entities(text: &str) -> String {
    let mut decoded = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        decoded.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest.bytes().take(10).position(|b| b == b';');
        let entity = end.and_then(|end| match &rest[1..end] {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            code => {
                let digits = code.strip_prefix('#')?;
                let number = match digits.strip_prefix(['x', 'X']) {
                    Some(hex) => u32::from_str_radix(hex, 16),
                    None => digits.parse(),
                };
                number.ok().and_then(char::from_u32)
            }
        });
        match (entity, end) {
            (Some(c), Some(end)) => {
                decoded.push(c);
                rest = &rest[end + 1..];
            }
            _ => {
                decoded.push('&');
                rest = &rest[1..];
            }
        }
    }
    decoded + rest
}

fn render_json(project: &str, files: &[ProjectFile], base: &str) -> String {
    let files: Vec<Value> = files
        .iter()
        .map(|file| {
            let mut entry = json!({
                "filename": file.name,
                "url": format!("{base}{}", encode_name(&file.name)),
                "hashes": file.sha256.as_ref().map_or_else(|| json!({}), |hex| json!({"sha256": hex})),
                "yanked": file.yanked,
                "core-metadata": file.metadata,
                "dist-info-metadata": file.metadata,
            });
            for (key, value) in [
                ("requires-python", file.requires_python.clone().map(Value::from)),
                ("size", file.size.map(Value::from)),
                ("upload-time", file.upload_time.clone().map(Value::from)),
            ] {
                if let Some(value) = value {
                    entry[key] = value;
                }
            }
            entry
        })
        .collect();
    // Version 1.1 requires sizes, which a page in HTML does not have.
    json!({"meta": {"api-version": "1.0"}, "name": project, "files": files}).to_string()
}

fn render_html(project: &str, files: &[ProjectFile], base: &str) -> String {
    let mut page = format!(
        "<!DOCTYPE html>\n<html><head><meta name=\"pypi:repository-version\" content=\"1.0\"><title>{project}</title></head><body>\n"
    );
    for file in files {
        let fragment = file.sha256.as_ref().map_or_else(String::new, |hex| format!("#sha256={hex}"));
        let _ = write!(page, "<a href=\"{base}{}{fragment}\"", encode_name(&file.name));
        if let Some(requires) = &file.requires_python {
            let _ = write!(page, " data-requires-python=\"{}\"", encode_entities(requires));
        }
        match &file.yanked {
            Value::Bool(true) => page.push_str(" data-yanked=\"\""),
            Value::String(reason) => {
                let _ = write!(page, " data-yanked=\"{}\"", encode_entities(reason));
            }
            _ => {}
        }
        if file.has_metadata() {
            let digest = file.metadata.get("sha256").and_then(Value::as_str);
            let digest = digest.map_or_else(|| "true".to_owned(), |hex| format!("sha256={hex}"));
            let _ = write!(page, " data-core-metadata=\"{digest}\" data-dist-info-metadata=\"{digest}\"");
        }
        let _ = writeln!(page, ">{}</a><br>", file.name);
    }
    page + "</body></html>\n"
}

fn encode_entities(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Encodes the only character of a file name that has another meaning in some servers' paths.
fn encode_name(name: &str) -> String {
    name.replace('+', "%2B")
}

/// Lists the projects that a distribution file may belong to. In a source distribution, the hyphens of the name are not
/// distinguished from the one before the version.
fn find_projects(file: &str) -> Vec<String> {
    let stem = file.strip_suffix(".metadata").unwrap_or(file);
    if stem.ends_with(".whl") || stem.ends_with(".egg") {
        return stem.split('-').next().filter(|name| is_project(name)).map(normalize_project).into_iter().collect();
    }
    let splits = stem.match_indices('-').filter(|(at, _)| stem.as_bytes().get(at + 1).is_some_and(u8::is_ascii_digit));
    let names = splits.map(|(at, _)| &stem[..at]).filter(|name| is_project(name));
    names.take(3).map(normalize_project).collect()
}

/// Returns whether a text is a project's name (PEP 508).
fn is_project(name: &str) -> bool {
    let is_end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    (1..=128).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && is_end(name.as_bytes().first())
        && is_end(name.as_bytes().last())
}

/// Returns the normalized form of a project's name (PEP 503).
fn normalize_project(name: &str) -> String {
    let mut normalized = String::new();
    for c in name.chars() {
        match c {
            '-' | '_' | '.' if normalized.ends_with('-') => {}
            '-' | '_' | '.' => normalized.push('-'),
            c => normalized.push(c.to_ascii_lowercase()),
        }
    }
    normalized
}

/// Returns whether a text is the name of a distribution file or of its metadata.
fn is_file_name(name: &str) -> bool {
    let stem = name.strip_suffix(".metadata").unwrap_or(name);
    let is_known = [
        ".whl", ".tar.gz", ".zip", ".tar.bz2", ".tgz", ".egg", ".exe", ".msi", ".rpm", ".deb", ".dmg", ".tar.xz",
        ".tar.Z",
    ]
    .iter()
    .any(|extension| stem.ends_with(extension));
    is_known
        && name.len() <= 300
        && name.as_bytes()[0].is_ascii_alphanumeric()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_+!".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> PyPi {
        let url = |text: &str| Url::parse(text).expect("a URL");
        PyPi {
            indexes: vec![url("https://index.example/simple"), url("https://corp.example/pypi/simple/")],
            route: "http://127.0.0.1:1/pypi/".into(),
        }
    }

    fn page(content_type: &str, body: &str) -> Document {
        Document {
            url: Url::parse("https://index.example/simple/six/").expect("a URL"),
            content_type: content_type.into(),
            body: body.to_owned().into(),
        }
    }

    #[test]
    fn only_pages_and_files_of_projects_are_requested() {
        let parse = |path: &str| index().parse(path, None, "");
        let Ok(Resource::Index(request)) = parse("simple/Zope.Interface/") else { panic!() };
        assert_eq!(request.url.as_str(), "https://index.example/simple/zope-interface/");
        let Ok(Resource::Index(request)) = parse("1/simple/a") else { panic!() };
        assert_eq!(request.url.as_str(), "https://corp.example/pypi/simple/a/");
        let Ok(Resource::File { key, indexes }) = parse("0/files/six/six-1.0.tar.gz") else { panic!() };
        assert_eq!((key.as_str(), indexes.len()), ("0/six/six-1.0.tar.gz", 1));
        for path in [
            "simple",
            "simple/",
            "simple/-a/",
            "simple/a/b/",
            "9/simple/a/",
            "files/a/x.exe/y",
            "files/a/.whl",
            "files/a/a.txt",
            "legacy/",
            "pypi/a/json",
            "simple/a%2Bb/",
        ] {
            assert!(parse(path).is_err(), "{path}");
        }
    }

    #[test]
    fn own_names_of_the_index_are_parsed() {
        let own = |text: &str| index().parse_own(&Url::parse(text).expect("a URL"), JSON);
        let Some(Ok(Resource::Index(request))) = own("https://index.example/simple/Six/") else { panic!() };
        assert_eq!((request.url.as_str(), request.accept), ("https://index.example/simple/six/", ACCEPT));
        let Some(Ok(Resource::Index(request))) = own("https://index.example/pypi/six/1.0/json") else { panic!() };
        assert_eq!(request.url.as_str(), "https://index.example/pypi/six/1.0/json");
        let Some(Ok(Resource::File { key, indexes })) = own("https://files.example/a/b/zope.interface-5.0-1-a.tar.gz")
        else {
            panic!()
        };
        assert_eq!(key, "https://files.example/a/b/zope.interface-5.0-1-a.tar.gz");
        assert_eq!(indexes[0].url.as_str(), "https://index.example/simple/zope-interface/");
        assert_eq!(indexes[2].url.as_str(), "https://index.example/simple/zope-interface-5-0/");
        for text in [
            "https://index.example/simple/",
            "https://index.example/legacy/",
            "https://index.example/pypi/six/1/2/json",
            "https://files.example/a",
            "https://files.example/x.sh",
        ] {
            assert!(!matches!(own(text), Some(Ok(_))), "{text}");
        }
    }

    #[test]
    fn pages_are_written_again_with_links_to_the_route() {
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let json = format!(
            r#"{{"files": [{{"filename": "six-1.0+x-py3-none-any.whl", "url": "https://files.example/a/six-1.0+x-py3-none-any.whl", "hashes": {{"sha256": "{hex}"}},
            "requires-python": ">=3", "yanked": "bad <b>", "core-metadata": {{"sha256": "{hex}"}}, "provenance": "https://evil.example"}},
            {{"filename": "evil-1.whl", "url": "http://10.0.0.1/evil-1.whl", "hashes": {{}}}},
            {{"filename": "../x.whl", "url": "https://files.example/x.whl", "hashes": {{}}}}]}}"#
        );
        let html = format!(
            "<a  HREF='https://files.example/a/six-1.0+x-py3-none-any.whl#sha256={hex}' data-requires-python=\"&gt;=3\" data-yanked=\"bad &lt;b&gt;\" data-core-metadata=sha256={hex}\n>six-1.0+x-py3-none-any.whl</a>
             <a href=\"file:///etc/evil-1.whl\">evil-1.whl</a> <a href=x.whl>../x.whl</a>"
        );
        for document in [page(JSON, &json), page("text/html; charset=utf-8", &html)] {
            let keys: Vec<String> = index()
                .list_files(&document)
                .into_iter()
                .map(|(key, file)| format!("{key} {} {}", file.url, file.digest.is_some()))
                .collect();
            assert_eq!(
                keys,
                [
                    "0/six/six-1.0+x-py3-none-any.whl https://files.example/a/six-1.0+x-py3-none-any.whl true",
                    "0/six/six-1.0+x-py3-none-any.whl.metadata https://files.example/a/six-1.0+x-py3-none-any.whl.metadata true",
                ]
            );
            let rendered = index().render_document(document.clone(), "text/html").expect("valid");
            let text = String::from_utf8(rendered.body.to_vec()).expect("UTF-8");
            assert!(text.contains(&format!("<a href=\"http://127.0.0.1:1/pypi/0/files/six/six-1.0%2Bx-py3-none-any.whl#sha256={hex}\" data-requires-python=\"&gt;=3\" data-yanked=\"bad &lt;b&gt;\"")), "{text}");
            assert!(!text.contains("evil"), "{text}");
            let rendered = index().render_document(document, &format!("{JSON}, text/html")).expect("valid");
            let value: Value = serde_json::from_slice(&rendered.body).expect("JSON");
            assert_eq!(value["files"][0]["url"], "http://127.0.0.1:1/pypi/0/files/six/six-1.0%2Bx-py3-none-any.whl");
            assert_eq!(value["files"][0]["yanked"], "bad <b>");
            assert_eq!(value["files"].as_array().map(Vec::len), Some(1));
        }
        assert!(
            index().render_document(page("text/plain", "x"), "").is_err()
                && index().render_document(page(JSON, "["), "").is_err()
        );
    }
}
