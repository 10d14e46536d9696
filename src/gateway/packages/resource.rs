//! What a request of a package client asks for, and what an index document says.

use bytes::Bytes;
use url::Url;

use super::digest::FileDigest;

/// The prefix of a route's own URLs on the gateway, such as `http://127.0.0.1:PORT/npm/`.
pub(super) type RouteUrl = String;

/// A request of a package client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Resource {
    /// An index document to load.
    Index(IndexRequest),
    /// A file that one of these documents has to list. The key is the name under which they list it.
    File { key: String, indexes: Vec<IndexRequest> },
    /// A file whose path says everything. An immutable one is stored without asking again.
    Direct { url: Url, is_immutable: bool },
    /// An answer that needs no upstream.
    Fixed { content_type: &'static str, body: String },
}

/// A request for an index document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IndexRequest {
    pub url: Url,
    /// The media types to request.
    pub accept: &'static str,
}

/// An index document as an upstream sent it.
#[derive(Debug, Clone)]
pub(super) struct Document {
    /// The URL that sent it, for relative links.
    pub url: Url,
    pub content_type: String,
    pub body: Bytes,
}

/// A file that an index document lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ListedFile {
    pub url: Url,
    pub digest: Option<FileDigest>,
}

/// A document in the form for the sandbox.
#[derive(Debug)]
pub(super) struct RenderedDocument {
    pub content_type: String,
    pub body: Bytes,
}

/// The paths and documents of one package registry's protocol.
pub(super) trait Ecosystem: Send + Sync {
    /// Interprets a path below the route's prefix, without its leading slash. `accept` is the client's header.
    ///
    /// # Errors
    /// The reason why the request is refused, as a fragment for a message.
    fn parse(&self, path: &str, query: Option<&str>, accept: &str) -> Result<Resource, &'static str>;

    /// Interprets a request under the registry's own name. `None` if the URL is none of this ecosystem.
    fn parse_own(&self, _url: &Url, _accept: &str) -> Option<Result<Resource, &'static str>> {
        None
    }

    /// Returns a name in a path that the registry itself would look up at a server of the agent's choice. Such a name
    /// counts like one that does not exist.
    fn charged_name(&self, _path: &str) -> Option<String> {
        None
    }

    /// Lists the URLs under which clients know the registry, and which they record.
    fn own_urls(&self) -> Vec<Url> {
        Vec::new()
    }

    /// Returns a request for a document from which the hosts of files can be learned.
    fn sample_index(&self) -> Option<IndexRequest> {
        None
    }

    /// Lists the files that a document names, by key.
    fn list_files(&self, _document: &Document) -> Vec<(String, ListedFile)> {
        Vec::new()
    }

    /// Returns the document for the sandbox.
    ///
    /// # Errors
    /// The document is not what the protocol says.
    fn render_document(&self, document: Document, _accept: &str) -> Result<RenderedDocument, String> {
        Ok(RenderedDocument { content_type: document.content_type, body: document.body })
    }
}

/// Resolves a link of a document. Links must be HTTPS, or have the origin of the document.
pub(super) fn resolve_link(document: &Url, link: &str) -> Option<Url> {
    let url = document.join(link).ok()?;
    let is_safe = url.scheme() == "https" || (url.scheme() == "http" && url.origin() == document.origin());
    (is_safe && url.username().is_empty() && url.password().is_none()).then_some(url)
}

/// Appends path segments to a base URL, which may end with a slash or not.
pub(super) fn append_path(base: &Url, path: &str) -> Option<Url> {
    let mut text = base.as_str().trim_end_matches('/').to_owned();
    text.push('/');
    text.push_str(path);
    let url = Url::parse(&text).ok()?;
    // A parser that normalizes the path would ask for something else than was checked.
    (url.as_str() == text).then_some(url)
}

/// Returns whether a text is a version: letters, digits and `.+-_!~`, beginning with a letter or digit.
pub(super) fn is_version(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".+-_!~".contains(&b))
        && text.as_bytes()[0].is_ascii_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_on_https_or_the_same_origin() {
        let document = Url::parse("http://mirror.example:8080/simple/six/").expect("a URL");
        let resolve = |link| resolve_link(&document, link).map(|url| url.to_string());
        assert_eq!(resolve("../../files/six.whl").as_deref(), Some("http://mirror.example:8080/files/six.whl"));
        assert_eq!(resolve("https://files.example/six.whl").as_deref(), Some("https://files.example/six.whl"));
        for bad in
            ["http://files.example/six.whl", "file:///etc/passwd", "ftp://x/", "//user@mirror.example/x", "data:,x"]
        {
            assert_eq!(resolve(bad), None, "{bad}");
        }
        let base = Url::parse("https://x.example/npm").expect("a URL");
        assert_eq!(append_path(&base, "a/b").map(String::from).as_deref(), Some("https://x.example/npm/a/b"));
        assert_eq!(append_path(&base, "a/../b"), None);
    }
}
