//! Package routes: requests of package clients, of which only those to read pass.
//!
//! *Invariant:* the upstream gets a URL that this module built from a checked path or found in an index document, a
//! fixed set of headers and no body. A file is delivered only if an index document names it, and only if its content
//! has the digest that the index gives.

mod cargo;
mod digest;
mod go;
mod maven;
mod npm;
mod pypi;
mod resource;
mod rubygems;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::{self, Read};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use hyper::header::{ACCEPT, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap, IF_NONE_MATCH};
use hyper::{Method, Response, StatusCode};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Semaphore, mpsc};
use url::Url;

use self::digest::{DigestCheck, FileDigest};
use self::npm::decode_scope;
use self::resource::{Document, Ecosystem, IndexRequest, ListedFile, RenderedDocument, Resource};
use super::audit::{AuditLog, Exchange, RequestPermit};
use super::cache::{Cache, CacheEntry, ObjectWriter};
use super::download_budget::{DownloadBudget, NO_BUDGET};
use super::host::HostName;
use super::policy::{HostVerdict, Policy};
use super::reply::{ChannelBody, Reply, file_body, full_body};
use super::request_path::decode_percent;
use super::upstream::{FetchOptions, IDLE_TIMEOUT, UpstreamClient, UpstreamError, host_of};
use crate::core::clock::seconds_since_epoch;
use crate::core::hex::to_hex;

/// The time in seconds for which a stored index document is used without asking the upstream.
const DOCUMENT_MAX_AGE: u64 = 600;
/// Maximum size of an index document, decompressed. The largest known one, of all gems, has 25 MB.
const MAX_DOCUMENT: u64 = 128 << 20;
/// Number of documents that are loaded at once, and memory in MiB for those that clients read.
const MAX_LOADING: usize = 16;
const DOCUMENT_MEMORY_MIB: usize = 256;
const TOO_MANY_NAMES: &str = "too many requests for packages that do not exist; wait a minute";
/// Number of listed files that a route remembers, and of their hosts.
const MAX_LISTED: usize = 200_000;
const MAX_FILE_HOSTS: usize = 100;
/// Maximum size of a package file.
const MAX_FILE: u64 = 8 << 30;
/// The number of requests for packages that do not exist that are passed on at once, and the pause after which there is
/// one more. Names are the only thing that a package route lets out, and an honest client rarely misses.
const MISSES: u32 = 100;
const MISS_PAUSE: Duration = Duration::from_secs(6);

/// The upstreams of the package routes; a client without one has no route.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackageUpstreams {
    pub npm: Option<Url>,
    /// Registries of scopes, such as `@corp`.
    pub npm_scopes: Vec<(String, Url)>,
    /// Other names of the default registry, which some clients use.
    pub npm_aliases: Vec<Url>,
    /// URLs of simple indexes: the main one of pip, its extra ones, and others.
    pub pypi: Vec<Url>,
    /// The number of extra indexes of pip.
    pub pypi_extra: usize,
    /// The default index of uv, if the user has set one.
    pub uv: Option<Url>,
    /// Sparse indexes by name. The first replaces the default registry.
    pub cargo: Vec<(String, Url)>,
    pub go_proxy: Option<Url>,
    pub go_sumdb: Option<ChecksumDatabase>,
    /// The hosts of Go modules that the repository uses already.
    pub go_hosts: BTreeSet<String>,
    /// Further lines of Go's own configuration.
    pub go_settings: String,
    pub maven: Option<Url>,
    pub rubygems: Option<Url>,
}

/// The checksum database of Go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChecksumDatabase {
    /// The value of `GOSUMDB`, with its key if it has one.
    pub setting: String,
    pub name: String,
    pub url: Url,
}

impl PackageUpstreams {
    /// Lists the names of the routes that exist.
    #[must_use]
    pub fn list_clients(&self) -> Vec<&'static str> {
        let has = [
            ("npm", self.npm.is_some()),
            ("pypi", !self.pypi.is_empty()),
            ("cargo", !self.cargo.is_empty()),
            ("go", self.go_proxy.is_some()),
            ("maven", self.maven.is_some()),
            ("rubygems", self.rubygems.is_some()),
        ];
        has.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect()
    }

    /// Lists the URLs of all upstreams.
    #[must_use]
    pub fn list_urls(&self) -> Vec<Url> {
        let npm = self.npm.iter().chain(self.npm_scopes.iter().map(|(_, url)| url)).chain(&self.pypi);
        let cargo = self.cargo.iter().map(|(_, url)| url);
        let go = self.go_proxy.iter().chain(self.go_sumdb.as_ref().map(|database| &database.url));
        npm.chain(cargo).chain(go).chain(&self.maven).chain(&self.rubygems).cloned().collect()
    }
}

/// Creates the ecosystem of each route, for upstreams that do not exist.
fn all_ecosystems() -> Vec<(&'static str, Box<dyn Ecosystem>)> {
    let url = |path: &str| Url::parse(&format!("https://upstream.example/{path}")).ok();
    let upstreams = PackageUpstreams {
        npm: url(""),
        pypi: url("simple/").into_iter().collect(),
        cargo: url("crates/").map(|url| ("crates-io".to_owned(), url)).into_iter().collect(),
        go_proxy: url("go"),
        go_sumdb: url("sum").map(|url| ChecksumDatabase { setting: String::new(), name: "sum.example".into(), url }),
        maven: url("maven"),
        rubygems: url("gems"),
        ..PackageUpstreams::default()
    };
    PackageRoutes::new(upstreams, "http://127.0.0.1:1", None, false, DownloadBudget::new(0))
        .routes
        .into_iter()
        .map(|route| (route.name, route.ecosystem))
        .collect()
}

/// Interprets a path by every route, as requests do, and returns the URLs that they would request. For fuzzing.
#[must_use]
pub fn parse_any_path(path: &str) -> Vec<Url> {
    let parse = |(name, ecosystem): (&'static str, Box<dyn Ecosystem>)| {
        let path = if name == "pypi" { decode_percent(path) } else { decode_scope(path) };
        match ecosystem.parse(&path, None, "") {
            Ok(Resource::Index(index)) => vec![index.url],
            Ok(Resource::File { indexes, .. }) => indexes.into_iter().map(|index| index.url).collect(),
            Ok(Resource::Direct { url, .. }) => vec![url],
            Ok(Resource::Fixed { .. }) | Err(_) => Vec::new(),
        }
    };
    let checked = super::request_path::check_path(&format!("/{}", decode_scope(path)));
    if checked.is_err() { Vec::new() } else { all_ecosystems().into_iter().flat_map(parse).collect() }
}

/// Parses a document of every kind, and returns the URLs of the files that it lists. For fuzzing.
#[must_use]
pub fn parse_any_document(content_type: &str, body: &[u8]) -> Vec<Url> {
    let paths = ["x", "simple/x/", "crates/config.json", "crates/1/x", "gems/info/x"];
    let mut found = Vec::new();
    for (_, ecosystem) in all_ecosystems() {
        for path in paths {
            let Ok(url) = Url::parse(&format!("https://upstream.example/{path}")) else { continue };
            let document = Document { url, content_type: content_type.to_owned(), body: Bytes::copy_from_slice(body) };
            found.extend(ecosystem.list_files(&document).into_iter().map(|(_, file)| file.url));
            // An invalid document is an error.
            drop(ecosystem.render_document(document, content_type));
        }
    }
    found
}

/// The package routes of one sandbox.
pub(super) struct PackageRoutes {
    routes: Vec<PackageRoute>,
    cache: Option<Cache>,
    is_offline: bool,
    budget: DownloadBudget,
    /// Permits to load a document.
    loading: Arc<Semaphore>,
    /// A permit for each MiB of documents on their way to clients.
    document_memory: Arc<Semaphore>,
}

struct PackageRoute {
    name: &'static str,
    ecosystem: Box<dyn Ecosystem>,
    /// Files that documents have listed, by key.
    listed: Mutex<HashMap<String, ListedFile>>,
    misses: Mutex<MissLimit>,
    /// The hosts and ports of listed files, of an ecosystem whose clients use own names.
    file_hosts: Mutex<HashSet<(String, u16)>>,
    /// Whether the sample document was loaded, which names the hosts of files.
    is_sampled: tokio::sync::Mutex<bool>,
}

/// A limit on requests for names that do not exist.
struct MissLimit {
    /// Names whose existence is known.
    known: HashSet<String>,
    left: u32,
    since: Instant,
}

impl MissLimit {
    fn new() -> Self {
        Self { known: HashSet::new(), left: MISSES, since: Instant::now() }
    }

    /// Returns whether a name may be requested.
    fn may_request(&mut self, name: &str, now: Instant) -> bool {
        while self.left < MISSES && now.duration_since(self.since) >= MISS_PAUSE {
            self.left += 1;
            self.since += MISS_PAUSE;
        }
        if self.left == MISSES {
            self.since = now;
        }
        if self.known.contains(name) {
            return true;
        }
        let may_request = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may_request
    }

    /// Records the answer to a request. One for a name that exists does not count.
    fn record_name(&mut self, name: &str, exists: bool) {
        // A name is asked for again without a charge.
        if self.known.len() > MAX_LISTED {
            self.known.clear();
        }
        if self.known.insert(name.to_owned()) && exists {
            self.left = (self.left + 1).min(MISSES);
        }
    }
}

/// The end of a request that is not answered with content.
#[derive(Debug)]
enum Failure {
    Denied(String),
    NotFound,
    Failed(String),
}

impl From<UpstreamError> for Failure {
    fn from(error: UpstreamError) -> Self {
        match error {
            UpstreamError::Refused(reason) => Self::Denied(reason),
            UpstreamError::Failed(reason) => Self::Failed(reason),
        }
    }
}

/// The parts of the gateway that package routes use.
#[derive(Clone, Copy)]
pub(super) struct RouteContext<'a> {
    pub client: &'a UpstreamClient,
    pub policy: &'a Policy,
}

/// The parts of a request that routes look at.
pub(super) struct RequestHead<'a> {
    pub method: &'a Method,
    /// The path below the route's prefix.
    pub path: &'a str,
    pub query: Option<&'a str>,
    pub headers: &'a HeaderMap,
    pub is_rubygems: bool,
}

impl PackageRoutes {
    /// Creates the routes of the given upstreams. `base` is the gateway's URL in the sandbox, without a slash at its
    /// end.
    pub(super) fn new(
        upstreams: PackageUpstreams,
        base: &str,
        cache: Option<Cache>,
        is_offline: bool,
        budget: DownloadBudget,
    ) -> Self {
        let url = |name: &str| format!("{base}/{name}/");
        let mut routes: Vec<(&'static str, Box<dyn Ecosystem>)> = Vec::new();
        if let Some(default) = upstreams.npm {
            routes.push((
                "npm",
                Box::new(npm::Npm {
                    default,
                    scopes: upstreams.npm_scopes,
                    aliases: upstreams.npm_aliases,
                    route: url("npm"),
                }),
            ));
        }
        if !upstreams.pypi.is_empty() {
            routes.push(("pypi", Box::new(pypi::PyPi { indexes: upstreams.pypi, route: url("pypi") })));
        }
        if !upstreams.cargo.is_empty() {
            let registry = |(name, index)| cargo::CargoRegistry { name, index, download: Mutex::default() };
            let registries = upstreams.cargo.into_iter().map(registry).collect();
            routes.push(("cargo", Box::new(cargo::Cargo { registries, route: url("cargo") })));
        }
        if let Some(proxy) = upstreams.go_proxy {
            routes.push((
                "go",
                Box::new(go::Go {
                    proxy,
                    sumdb: upstreams.go_sumdb.map(|database| (database.name, database.url)),
                    known_hosts: upstreams.go_hosts,
                }),
            ));
        }
        if let Some(repository) = upstreams.maven {
            routes.push(("maven", Box::new(maven::Maven { repository })));
        }
        if let Some(source) = upstreams.rubygems {
            routes.push(("rubygems", Box::new(rubygems::RubyGems { source })));
        }
        let to_route = |(name, ecosystem)| PackageRoute {
            name,
            ecosystem,
            listed: Mutex::default(),
            misses: Mutex::new(MissLimit::new()),
            file_hosts: Mutex::default(),
            is_sampled: tokio::sync::Mutex::new(false),
        };
        Self {
            routes: routes.into_iter().map(to_route).collect(),
            cache,
            is_offline,
            budget,
            loading: Arc::new(Semaphore::new(MAX_LOADING)),
            document_memory: Arc::new(Semaphore::new(DOCUMENT_MEMORY_MIB)),
        }
    }

    /// Returns whether a host is a registry's own name, or one where a registry keeps its files.
    pub(super) async fn is_registry_host(&self, host: &HostName, port: u16, context: RouteContext<'_>) -> bool {
        let is_host = |url: &Url| {
            url.scheme() == "https"
                && url.host_str() == Some(host.as_str())
                && url.port_or_known_default() == Some(port)
        };
        if self.routes.iter().any(|route| route.ecosystem.own_urls().iter().any(is_host)) {
            return true;
        }
        // A host of files may serve much else, to which the user can allow a tunnel.
        if context.policy.decide_host(host, port) == HostVerdict::Allowed {
            return false;
        }
        let authority = (host.as_str().to_owned(), port);
        let is_file_host =
            || self.routes.iter().any(|route| route.file_hosts.lock().is_ok_and(|all| all.contains(&authority)));
        if is_file_host() {
            return true;
        }
        for route in &self.routes {
            let Some(sample) = route.ecosystem.sample_index() else { continue };
            // Others wait for the first request, and a failed one is repeated by the next.
            let mut is_sampled = route.is_sampled.lock().await;
            if !*is_sampled {
                *is_sampled = RouteRequest { routes: self, route, context }.load_document(&sample).await.is_ok();
            }
        }
        is_file_host()
    }

    /// Returns whether a URL has the origin of a registry that clients know by its own name.
    pub(super) fn has_own_origin(&self, url: &Url) -> bool {
        let mut own = self.routes.iter().flat_map(|route| route.ecosystem.own_urls());
        own.any(|own| own.origin() == url.origin())
    }

    /// Answers a request under a registry's own name.
    pub(super) async fn serve_own(
        &self,
        url: &Url,
        head: RequestHead<'_>,
        context: RouteContext<'_>,
        (log, permit): (&AuditLog, RequestPermit),
    ) -> Response<Reply> {
        let accept = head.headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let found = self.routes.iter().find_map(|route| Some((route, route.ecosystem.parse_own(url, accept)?)));
        let name = found.as_ref().map_or("", |(route, _)| route.name);
        let mut exchange = Exchange::start_exchange(log, name, head.method.as_str(), url.path());
        exchange.hold_permit(permit);
        exchange.set_host(&host_of(url));
        if !matches!(*head.method, Method::GET | Method::HEAD) {
            return exchange.deny_response(
                StatusCode::FORBIDDEN,
                &format!("package registries are only read; {} is not passed on", head.method),
            );
        }
        let (route, resource) = match found {
            Some((route, Ok(resource))) => (route, resource),
            Some((_, Err(reason))) => return exchange.deny_response(StatusCode::FORBIDDEN, reason),
            None => return exchange.deny_response(StatusCode::FORBIDDEN, "the path is not one of a registry"),
        };
        let answer = RouteRequest { routes: self, route, context }.answer_own(resource, &head, &mut exchange).await;
        Self::build_response(name, answer, exchange)
    }

    /// Answers a request of the named route.
    pub(super) async fn serve_request(
        &self,
        name: &str,
        head: RequestHead<'_>,
        context: RouteContext<'_>,
        mut exchange: Exchange,
    ) -> Response<Reply> {
        let Some(route) = self.routes.iter().find(|route| route.name == name) else {
            return exchange
                .deny_response(StatusCode::FORBIDDEN, &format!("the image has no client for the route {name}"));
        };
        let request = RouteRequest { routes: self, route, context };
        let answer = request.answer_request(&head, &mut exchange).await;
        Self::build_response(name, answer, exchange)
    }

    fn build_response(name: &str, answer: Result<Answer, Failure>, mut exchange: Exchange) -> Response<Reply> {
        match answer {
            Ok((response, body)) => {
                exchange.mark_allowed();
                exchange.finish_response(response, body)
            }
            Err(Failure::Denied(reason)) => exchange.deny_response(StatusCode::FORBIDDEN, &reason),
            Err(Failure::NotFound) => {
                exchange.mark_allowed();
                exchange.finish_response(
                    Response::builder().status(StatusCode::NOT_FOUND),
                    full_body(format!("airlock: the {name} upstream has no such package\n")),
                )
            }
            Err(Failure::Failed(reason)) => exchange.fail_response(&reason),
        }
    }
}

type Answer = (hyper::http::response::Builder, Reply);

struct RouteRequest<'a> {
    routes: &'a PackageRoutes,
    route: &'a PackageRoute,
    context: RouteContext<'a>,
}

impl RouteRequest<'_> {
    async fn answer_request(&self, head: &RequestHead<'_>, exchange: &mut Exchange) -> Result<Answer, Failure> {
        if !matches!(*head.method, Method::GET | Method::HEAD) {
            return Err(Failure::Denied(format!(
                "the {} route only reads; {} is not passed on",
                self.route.name, head.method
            )));
        }
        let accept = head.headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let path = match self.route.name {
            "npm" => decode_scope(head.path),
            // A local version has a plus sign, which clients encode or not.
            "pypi" => decode_percent(head.path),
            _ => head.path.to_owned(),
        };
        let resource = self.route.ecosystem.parse(&path, head.query, accept);
        if resource.is_ok()
            && let Some(name) = self.route.ecosystem.charged_name(&path)
        {
            if !self.may_request(&name) {
                return Err(Failure::Denied(TOO_MANY_NAMES.into()));
            }
            self.record_existence(&name, false);
        }
        match resource.map_err(|reason| Failure::Denied(reason.into()))? {
            Resource::Fixed { content_type, body } => {
                Ok((Response::builder().header(CONTENT_TYPE, content_type), full_body(body)))
            }
            Resource::Index(index) => {
                let document = self.load_index(&index, exchange).await?;
                let rendered = self.route.ecosystem.render_document(document, accept).map_err(Failure::Failed)?;
                Ok(answer_document(rendered, head))
            }
            Resource::File { key, indexes } => {
                let file = self.find_listed(&key, &indexes, exchange).await?;
                self.answer_file(&file, head, exchange).await
            }
            Resource::Direct { url, is_immutable: true } => {
                self.answer_file(&ListedFile { url, digest: None }, head, exchange).await
            }
            Resource::Direct { url, is_immutable: false } => {
                let Document { content_type, body, .. } =
                    self.load_index(&IndexRequest { url, accept: "*/*" }, exchange).await?;
                Ok(answer_document(RenderedDocument { content_type, body }, head))
            }
        }
    }

    /// Answers a request under the registry's own name. Documents are passed on unchanged, because their links are the
    /// ones that the client may record.
    async fn answer_own(
        &self,
        resource: Resource,
        head: &RequestHead<'_>,
        exchange: &mut Exchange,
    ) -> Result<Answer, Failure> {
        match resource {
            Resource::Index(index) => {
                let Document { content_type, body, .. } = self.load_index(&index, exchange).await?;
                Ok(answer_document(RenderedDocument { content_type, body }, head))
            }
            Resource::File { key, indexes } => {
                let file = self.find_listed(&key, &indexes, exchange).await?;
                self.answer_file(&file, head, exchange).await
            }
            Resource::Direct { .. } | Resource::Fixed { .. } => {
                Err(Failure::Denied("the path is not one of a registry".into()))
            }
        }
    }

    async fn load_index(&self, index: &IndexRequest, exchange: &mut Exchange) -> Result<Document, Failure> {
        exchange.set_host(&host_of(&index.url));
        let closed = |_| Failure::Failed("the gateway ends".into());
        // Few documents are loaded at once, and then wait for memory until the client has read others.
        let loading = Arc::clone(&self.routes.loading).acquire_owned().await.map_err(closed)?;
        let (document, is_cached) = self.load_document(index).await?;
        let size = u32::try_from(document.body.len() >> 20).unwrap_or(0) + 1;
        let memory = Arc::clone(&self.routes.document_memory).acquire_many_owned(size).await.map_err(closed)?;
        exchange.hold_memory(Some(memory));
        drop(loading);
        if is_cached {
            exchange.set_cached();
        }
        Ok(document)
    }

    /// Finds a file that a document has listed, and loads the documents that should list it if none has.
    async fn find_listed(
        &self,
        key: &str,
        indexes: &[IndexRequest],
        exchange: &mut Exchange,
    ) -> Result<ListedFile, Failure> {
        let find = || self.route.listed.lock().ok().and_then(|listed| listed.get(key).cloned());
        if let Some(file) = find() {
            return Ok(file);
        }
        let mut failure = None;
        for index in indexes {
            exchange.set_host(&host_of(&index.url));
            if let Err(error) = self.load_document(index).await {
                failure = Some(error);
            }
            if let Some(file) = find() {
                return Ok(file);
            }
        }
        Err(match failure {
            Some(error @ (Failure::Failed(_) | Failure::Denied(_))) => error,
            _ => Failure::Denied("no index document lists this file".into()),
        })
    }

    fn check_denied(&self, url: &Url) -> Result<(), Failure> {
        if self.context.policy.is_url_denied(url) {
            return Err(Failure::Denied(format!("{} is denied", host_of(url))));
        }
        Ok(())
    }

    /// Loads an index document from the cache or its upstream, and remembers the files that it lists. The second value
    /// is whether the upstream was not asked.
    async fn load_document(&self, index: &IndexRequest) -> Result<(Document, bool), Failure> {
        self.check_denied(&index.url)?;
        let key = format!("{} {}", index.accept, index.url);
        let stored = self.routes.cache.as_ref().and_then(|cache| {
            let entry = cache.find_entry(&key)?;
            let mut body = Vec::new();
            tokio::task::block_in_place(|| cache.open_object(&entry)?.read_to_end(&mut body).ok())?;
            Some((entry, Bytes::from(body)))
        });
        let now = seconds_since_epoch();
        let is_fresh = |entry: &CacheEntry| now.checked_sub(entry.checked).is_some_and(|age| age < DOCUMENT_MAX_AGE);
        let (entry, body, is_cached) = match stored {
            Some((entry, body)) if self.routes.is_offline || is_fresh(&entry) => (entry, body, true),
            _ if self.routes.is_offline => {
                return Err(Failure::Denied("the document is not in the cache, and the sandbox is offline".into()));
            }
            stored => self.fetch_document(index, key, stored).await?,
        };
        let url = Url::parse(&entry.final_url).unwrap_or_else(|_| index.url.clone());
        let document = Document { url, content_type: entry.content_type, body };
        let files = self.route.ecosystem.list_files(&document);
        if !self.route.ecosystem.own_urls().is_empty()
            && let Ok(mut hosts) = self.route.file_hosts.lock()
        {
            let of_file =
                |file: &ListedFile| Some((file.url.host_str()?.to_owned(), file.url.port_or_known_default()?));
            hosts.extend(files.iter().filter_map(|(_, file)| of_file(file)).take(MAX_FILE_HOSTS));
        }
        if let Ok(mut listed) = self.route.listed.lock() {
            // Documents can be loaded again, so nothing is lost but time.
            if listed.len() > MAX_LISTED {
                listed.clear();
            }
            // Under the registry's own name, a file is requested by its URL.
            listed
                .extend(files.into_iter().flat_map(|(key, file)| [(file.url.to_string(), file.clone()), (key, file)]));
        }
        Ok((document, is_cached))
    }

    async fn fetch_document(
        &self,
        index: &IndexRequest,
        key: String,
        stored: Option<(CacheEntry, Bytes)>,
    ) -> Result<(CacheEntry, Bytes, bool), Failure> {
        let name = index.url.as_str();
        if !self.may_request(name) {
            return Err(Failure::Denied(TOO_MANY_NAMES.into()));
        }
        let etag = stored.as_ref().and_then(|(entry, _)| entry.etag.as_deref());
        let options = FetchOptions { accept: Some(index.accept), gzip: true, etag, policy: Some(self.context.policy) };
        let (response, url) = self.context.client.get_following(&index.url, &options).await?;
        let status = response.status();
        let exists = status.is_success() || status == StatusCode::NOT_MODIFIED;
        if exists || is_missing(status) {
            self.record_existence(name, exists);
        }
        if status == StatusCode::NOT_MODIFIED
            && let Some((entry, body)) = stored
        {
            let entry = CacheEntry { checked: seconds_since_epoch(), ..entry };
            if let Some(cache) = &self.routes.cache {
                let _ = cache.write_entry(&entry);
            }
            return Ok((entry, body, false));
        }
        if is_missing(status) {
            return Err(Failure::NotFound);
        }
        if status != StatusCode::OK {
            return Err(Failure::Failed(format!("{} answered with status {}", host_of(&url), status.as_u16())));
        }
        let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (content_type, etag) = (text(CONTENT_TYPE).unwrap_or_default(), text(ETAG));
        let body = read_document(response, &host_of(&url)).await?;
        self.charge_budget(body.len() as u64)?;
        let entry = CacheEntry { key, content_type, etag, final_url: url.to_string(), ..CacheEntry::default() };
        let entry = match self.routes.cache.as_ref().map(|cache| (cache, cache.create_object())) {
            // A full disk costs only the next request.
            Some((cache, Ok(mut writer))) => {
                let stored = writer.write_chunk(&body).and_then(|()| cache.store_object(writer, entry.clone()));
                stored.unwrap_or(entry)
            }
            _ => entry,
        };
        Ok((entry, body, false))
    }

    fn may_request(&self, name: &str) -> bool {
        self.route.misses.lock().is_ok_and(|mut misses| misses.may_request(name, Instant::now()))
    }

    fn record_existence(&self, name: &str, exists: bool) {
        if let Ok(mut misses) = self.route.misses.lock() {
            misses.record_name(name, exists);
        }
    }

    fn charge_budget(&self, bytes: u64) -> Result<(), Failure> {
        if self.routes.budget.charge_bytes(bytes) { Ok(()) } else { Err(Failure::Denied(NO_BUDGET.into())) }
    }

    async fn answer_file(
        &self,
        file: &ListedFile,
        head: &RequestHead<'_>,
        exchange: &mut Exchange,
    ) -> Result<Answer, Failure> {
        exchange.set_host(&host_of(&file.url));
        self.check_denied(&file.url)?;
        let key = file.url.to_string();
        let digest = file.digest.as_ref().map(FileDigest::to_string);
        // An entry that was checked against another digest is not this file.
        let is_same = |entry: &CacheEntry| digest.is_none() || entry.digest == digest;
        let entry = self.routes.cache.as_ref().and_then(|cache| cache.find_entry(&key)).filter(is_same);
        let is_head = *head.method == Method::HEAD;
        if let Some(entry) = entry.as_ref().filter(|_| is_head) {
            exchange.set_cached();
            return Ok((Response::builder().header(CONTENT_LENGTH, entry.size), full_body(Bytes::new())));
        }
        let stored = self.routes.cache.as_ref().zip(entry).and_then(|(cache, entry)| {
            // The whole file is hashed.
            Some((tokio::task::block_in_place(|| cache.open_object(&entry))?, entry))
        });
        if let Some((content, entry)) = stored {
            exchange.set_cached();
            let response =
                Response::builder().header(CONTENT_LENGTH, entry.size).header(CONTENT_TYPE, "application/octet-stream");
            return Ok((response, file_body(content)));
        }
        if self.routes.is_offline {
            return Err(Failure::Denied("the file is not in the cache, and the sandbox is offline".into()));
        }
        if is_head && file.digest.is_some() {
            return Ok((Response::builder().header(CONTENT_TYPE, "application/octet-stream"), full_body(Bytes::new())));
        }
        // A file without an index counts like a document: its name is free.
        let is_direct = file.digest.is_none();
        if is_direct && !self.may_request(&key) {
            return Err(Failure::Denied(TOO_MANY_NAMES.into()));
        }
        let (response, url) = self
            .context
            .client
            .get_following(&file.url, &FetchOptions { policy: Some(self.context.policy), ..FetchOptions::default() })
            .await?;
        if is_missing(response.status()) {
            self.record_existence(&key, false);
            return Err(Failure::NotFound);
        }
        if response.status() != StatusCode::OK || response.headers().contains_key(CONTENT_ENCODING) {
            return Err(Failure::Failed(format!(
                "{} answered with status {}",
                host_of(&url),
                response.status().as_u16()
            )));
        }
        let length = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > MAX_FILE) {
            return Err(Failure::Denied(format!("the file is larger than {} GiB", MAX_FILE >> 30)));
        }
        self.charge_budget(length.unwrap_or(0))?;
        if is_head {
            let length =
                length.into_iter().fold(Response::builder(), |builder, length| builder.header(CONTENT_LENGTH, length));
            return Ok((length, full_body(Bytes::new())));
        }
        let entry = CacheEntry { key, final_url: url.to_string(), digest, ..CacheEntry::default() };
        let writer = self.routes.cache.as_ref().and_then(|cache| Some((cache.clone(), cache.create_object().ok()?)));
        let download = Download {
            check: DigestCheck::new(file.digest.as_ref()),
            writer,
            entry,
            length,
            budget: self.routes.budget.clone(),
        };
        let mut builder = Response::builder().header(CONTENT_TYPE, "application/octet-stream");
        if let Some(length) = length {
            builder = builder.header(CONTENT_LENGTH, length);
        }
        let (sender, body) = ChannelBody::new();
        tokio::spawn(download.stream_file(response.into_body(), sender));
        Ok((builder, body.into()))
    }
}

fn answer_document(document: RenderedDocument, head: &RequestHead<'_>) -> Answer {
    let RenderedDocument { content_type, body } = document;
    // Clients store documents by this tag. It is the hash of what they got, not the upstream's.
    let tag = format!("\"sha256-{}\"", &to_hex(&Sha256::digest(&body))[..32]);
    let mut response = Response::builder().header(CONTENT_TYPE, content_type);
    // Older versions of Bundler take the tag for the MD5 of the document.
    if !head.is_rubygems {
        response = response.header(ETAG, &tag);
    }
    let is_known = head.headers.get_all(IF_NONE_MATCH).iter().any(|value| value.as_bytes() == tag.as_bytes());
    if is_known {
        return (response.status(StatusCode::NOT_MODIFIED), full_body(Bytes::new()));
    }
    (response, full_body(body))
}

/// Returns whether a status says that a package does not exist.
fn is_missing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 404 | 410 | 451)
}

/// Reads a document, and decompresses it within the limit.
async fn read_document(response: Response<Incoming>, host: &str) -> Result<Bytes, Failure> {
    let encoding = response.headers().get(CONTENT_ENCODING).cloned();
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    loop {
        let frame = tokio::time::timeout(IDLE_TIMEOUT, body.frame()).await;
        let frame = frame.map_err(|_| Failure::Failed(format!("{host} stopped in the middle of a document")))?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| Failure::Failed(format!("{host} broke off a document: {error}")))?;
        if let Ok(data) = frame.into_data() {
            bytes.extend_from_slice(&data);
        }
        if bytes.len() as u64 > MAX_DOCUMENT {
            return Err(Failure::Denied(format!("the document is larger than {} MiB", MAX_DOCUMENT >> 20)));
        }
    }
    match encoding.as_ref().map(|value| value.as_bytes()) {
        None | Some(b"identity") => Ok(bytes.into()),
        Some(b"gzip") => {
            let mut decoded = Vec::new();
            let mut decoder = flate2::read::MultiGzDecoder::new(bytes.as_slice()).take(MAX_DOCUMENT + 1);
            decoder
                .read_to_end(&mut decoded)
                .map_err(|error| Failure::Failed(format!("{host} sent damaged gzip: {error}")))?;
            if decoded.len() as u64 > MAX_DOCUMENT {
                return Err(Failure::Denied(format!("the document is larger than {} MiB", MAX_DOCUMENT >> 20)));
            }
            Ok(decoded.into())
        }
        Some(_) => Err(Failure::Failed(format!("{host} answered in an encoding that was not requested"))),
    }
}

/// A file on its way from the upstream to the sandbox and the cache.
struct Download {
    check: DigestCheck,
    writer: Option<(Cache, ObjectWriter)>,
    entry: CacheEntry,
    length: Option<u64>,
    budget: DownloadBudget,
}

impl Download {
    /// Streams the body. The last chunk is withheld until the digest of the whole file is known to match, so a file
    /// that is not the listed one is never complete.
    async fn stream_file(mut self, mut body: Incoming, sender: mpsc::Sender<io::Result<Frame<Bytes>>>) {
        let mut held: Option<Bytes> = None;
        let mut total = 0_u64;
        let host = self.entry.final_url.clone();
        let outcome = loop {
            let frame = match tokio::time::timeout(IDLE_TIMEOUT, body.frame()).await {
                Err(_) => break Err("the upstream stopped in the middle of a file"),
                Ok(None) => break Ok(()),
                Ok(Some(Err(_))) => break Err("the upstream broke off a file"),
                Ok(Some(Ok(frame))) => frame,
            };
            let Ok(data) = frame.into_data() else { continue };
            total += data.len() as u64;
            if total > MAX_FILE {
                break Err("the file is too large");
            }
            // A file of known length was charged before.
            if self.length.is_none() && !self.budget.charge_bytes(data.len() as u64) {
                break Err(NO_BUDGET);
            }
            self.check.update_hash(&data);
            // Without the cache, the file is still delivered.
            if let Some((_, writer)) = &mut self.writer
                && writer.write_chunk(&data).is_err()
            {
                self.writer = None;
            }
            if let Some(chunk) = held.replace(data)
                && sender.send(Ok(Frame::data(chunk))).await.is_err()
            {
                // The client is gone.
                return;
            }
        };
        let is_whole = self.length.is_none_or(|length| length == total);
        let result = match outcome {
            Ok(()) if !is_whole => Err("the upstream broke off a file"),
            Ok(()) if !self.check.finish_check() => Err("the file differs from what the index says"),
            other => other,
        };
        match result {
            Ok(()) => {
                if let Some((cache, writer)) = self.writer {
                    let _ = cache.store_object(writer, self.entry);
                }
                if let Some(chunk) = held {
                    let _ = sender.send(Ok(Frame::data(chunk))).await;
                }
            }
            Err(reason) => {
                let _ = sender.send(Err(io::Error::other(format!("{reason}: {host}")))).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_for_missing_packages_are_limited() {
        let mut limit = MissLimit::new();
        let start = Instant::now();
        for n in 0..MISSES {
            let name = format!("missing-{n}");
            assert!(limit.may_request(&name, start));
            limit.record_name(&name, false);
            assert!(limit.may_request("known", start));
            limit.record_name("known", true);
        }
        assert!(!limit.may_request("missing", start) && limit.may_request("known", start));
        assert!(limit.may_request("missing", start + 2 * MISS_PAUSE));
        assert!(limit.may_request("missing", start + 2 * MISS_PAUSE));
        assert!(!limit.may_request("missing", start + 2 * MISS_PAUSE));
    }
}
