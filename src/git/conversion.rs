//! Converts files between git's form and worktree form, by the attributes and the settings for line endings.
//!
//! Only built-in conversions are performed: line endings, `ident`, `working-tree-encoding`, and Git LFS from its local
//! store. No filter driver that a configuration names is ever run.

use crate::core::hex::to_hex;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use git2::{ObjectType, Oid, Repository, Tree};
use gix_attributes::{Search, State, StateRef, search::MetadataCollection, search::Outcome};
use gix_filter::Pipeline;
use gix_filter::eol::{AutoCrlf, Configuration, Mode};
use gix_filter::pipeline::convert::ToGitOutcome;
use gix_glob::pattern::Case;
use sha2::{Digest, Sha256};

use super::error::SnapshotError;

/// The attributes that determine a file's form. No other attribute changes a byte.
const FORM_ATTRIBUTES: [&str; 6] = ["text", "crlf", "eol", "ident", "filter", ENCODING];
/// The size in bytes above which a blob is not an LFS pointer (the LFS specification, "The Pointer").
const MAX_POINTER_BYTES: usize = 1024;

/// The settings of one repository that determine the worktree form of its files, besides the attributes in its tree.
#[derive(Debug, Clone)]
pub(crate) struct ConversionSettings {
    eol: Configuration,
    /// The attributes of the system and of the user, weakest first.
    global: Vec<(PathBuf, Vec<u8>)>,
    /// The attributes of `info/attributes`, which take precedence.
    info: Vec<u8>,
    lfs: PathBuf,
    /// Filters that the configuration defines, except Git LFS. Git runs them, Airlock does not.
    filters: BTreeSet<Vec<u8>>,
    /// Merge drivers that the configuration defines.
    merge_drivers: BTreeSet<Vec<u8>>,
    /// The merge driver if no attribute names one (`merge.default`).
    default_merge: Vec<u8>,
}

/// The way in which git merges a path's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergeAttribute {
    Text,
    /// By line, keeping both sides.
    Union,
    NotByLine,
    /// By a program that the user's configuration names.
    Driver,
    /// By line, although a filter that Airlock does not run converts between git's form and the working tree.
    Filtered,
}

const ENCODING: &str = "working-tree-encoding";

/// An encoding of UTF-16 or UTF-32, as git and glibc's iconv write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct WideEncoding {
    bytes: usize,
    big_endian: bool,
    has_bom: bool,
}

impl WideEncoding {
    /// Parses a name as git does: in any case, and with or without the hyphen after `UTF`.
    fn from_name(name: &[u8]) -> Option<Self> {
        let name = String::from_utf8_lossy(name).to_ascii_uppercase();
        let rest = name.strip_prefix("UTF")?;
        let (bytes, rest) = match rest.strip_prefix('-').unwrap_or(rest).split_at_checked(2)? {
            ("16", rest) => (2, rest),
            ("32", rest) => (4, rest),
            _ => return None,
        };
        let (big_endian, has_bom) = match rest {
            // iconv writes a byte order mark and the machine's byte order.
            "" => (cfg!(target_endian = "big"), true),
            "LE" => (false, false),
            "BE" => (true, false),
            "LE-BOM" if bytes == 2 => (false, true),
            "BE-BOM" if bytes == 2 => (true, true),
            _ => return None,
        };
        Some(Self { bytes, big_endian, has_bom })
    }

    /// Encodes UTF-8. Other bytes are returned unchanged, as in git.
    fn encode_text(self, text: &[u8]) -> Vec<u8> {
        let Ok(text) = std::str::from_utf8(text) else { return text.to_vec() };
        let mut out = Vec::with_capacity(text.len() * self.bytes + 4);
        let mut put = |unit: u32| match (self.bytes, self.big_endian) {
            (2, false) => out.extend_from_slice(&unit.to_le_bytes()[..2]),
            (2, true) => out.extend_from_slice(&unit.to_be_bytes()[2..]),
            (_, false) => out.extend_from_slice(&unit.to_le_bytes()),
            (_, true) => out.extend_from_slice(&unit.to_be_bytes()),
        };
        if self.has_bom {
            put(0xfeff);
        }
        if self.bytes == 2 {
            text.encode_utf16().for_each(|unit| put(unit.into()));
        } else {
            text.chars().for_each(|c| put(c.into()));
        }
        out
    }
}

/// The outcome of a conversion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConversionOutcome {
    /// Not a pointer, and without a filter.
    Converted,
    /// A pointer whose content came from the local store.
    LfsContent,
    /// A pointer that is kept, because the local store does not have its content.
    LfsPointer,
    /// A file that a filter would convert further, which Airlock does not run.
    Filtered,
}

/// Lists the names between a section and one of these keys, as in `filter.NAME.clean`.
fn config_subsections(config: &git2::Config, section: &str, keys: &str) -> Result<BTreeSet<Vec<u8>>, SnapshotError> {
    let mut found = BTreeSet::new();
    let mut entries = config.entries(Some(&format!("^{section}\\..*\\.({keys})$")))?;
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let rest = entry.name_bytes().get(section.len() + 1..).unwrap_or_default();
        found.extend(rest.iter().rposition(|b| *b == b'.').map(|at| rest[..at].to_vec()));
    }
    Ok(found)
}

impl ConversionSettings {
    /// Reads the settings of a repository.
    pub(crate) fn from_repository(git: &Repository, common_dir: &Path) -> Result<Self, SnapshotError> {
        let config = git.config()?.snapshot()?;
        let auto_crlf = match config.get_bool("core.autocrlf") {
            Ok(true) => AutoCrlf::Enabled,
            Ok(false) => AutoCrlf::Disabled,
            Err(_) if config.get_str("core.autocrlf").is_ok_and(|v| v.eq_ignore_ascii_case("input")) => AutoCrlf::Input,
            Err(_) => AutoCrlf::Disabled,
        };
        let eol = match config.get_str("core.eol").unwrap_or_default().to_ascii_lowercase().as_str() {
            "crlf" => Some(Mode::CrLf),
            "lf" => Some(Mode::Lf),
            _ => None,
        };
        let user_file = config.get_path("core.attributesFile").ok().or_else(|| {
            use etcetera::BaseStrategy as _;
            Some(etcetera::choose_base_strategy().ok()?.config_dir().join("git/attributes"))
        });
        let read = |path: PathBuf| std::fs::read(&path).ok().map(|bytes| (path, bytes));
        let global =
            [Some(PathBuf::from("/etc/gitattributes")), user_file].into_iter().flatten().filter_map(read).collect();
        let info = std::fs::read(common_dir.join("info/attributes")).unwrap_or_default();
        let lfs = match config.get_path("lfs.storage") {
            Ok(path) if path.is_absolute() => path,
            Ok(path) => common_dir.join(path),
            Err(_) => common_dir.join("lfs"),
        };
        let mut filters = config_subsections(&config, "filter", "clean|smudge|process|required")?;
        filters.remove(&b"lfs"[..]);
        let merge_drivers = config_subsections(&config, "merge", "driver")?;
        let default_merge = config.get_str("merge.default").unwrap_or("text").as_bytes().to_vec();
        Ok(Self { eol: Configuration { auto_crlf, eol }, global, info, lfs, filters, merge_drivers, default_merge })
    }

    /// Adds everything that determines the worktree form to a key.
    pub(crate) fn add_to_key(&self, key: &mut Sha256) {
        key.update(format!("{:?} {:?} ", self.eol.auto_crlf, self.eol.eol));
        for text in self.global.iter().map(|(_, text)| text).chain([&self.info]).chain(&self.filters) {
            key.update((text.len() as u64).to_le_bytes());
            key.update(text);
        }
    }

    /// Returns the attributes that are in no tree, for the sandbox's `info/attributes`.
    pub(crate) fn outside_attributes(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for part in self.global.iter().map(|(_, text)| text).chain([&self.info]) {
            text.extend_from_slice(part);
            if !text.ends_with(b"\n") && !text.is_empty() {
                text.push(b'\n');
            }
        }
        text
    }

    /// Returns the settings for line endings, as git's configuration spells them.
    pub(crate) fn eol_settings(&self) -> Vec<(&'static str, &'static str)> {
        let mut found = Vec::new();
        match self.eol.auto_crlf {
            AutoCrlf::Enabled => found.push(("core.autocrlf", "true")),
            AutoCrlf::Input => found.push(("core.autocrlf", "input")),
            AutoCrlf::Disabled => {}
        }
        match self.eol.eol {
            Some(Mode::CrLf) => found.push(("core.eol", "crlf")),
            Some(Mode::Lf) => found.push(("core.eol", "lf")),
            None => {}
        }
        found
    }

    /// Returns whether the local LFS store has an object with this ID and size.
    pub(crate) fn has_lfs_object(&self, id: &str, size: u64) -> bool {
        self.lfs_path(id).metadata().is_ok_and(|m| m.is_file() && m.len() == size)
    }

    fn lfs_path(&self, id: &str) -> PathBuf {
        self.lfs.join("objects").join(&id[..2]).join(&id[2..4]).join(id)
    }
}

/// The source of the attributes files.
pub(crate) enum AttributeSource<'a> {
    /// All files, by their directory (with a trailing `/`, or empty) and blob.
    Known(&'a [(Vec<u8>, Oid)]),
    /// The files of this tree, read when files of their directory are converted.
    Lazy(Oid),
    /// The files of this tree, with these files instead of those in the tree.
    Overridden(Oid, &'a AttributeFiles),
}

/// Attributes files by directory (with a trailing `/`, or empty). `None` is a deleted file.
pub(crate) type AttributeFiles = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// The directories of a tree in which files were converted so far, by path with a trailing `/`.
struct LoadedDirs<'a>(BTreeMap<Vec<u8>, Option<Tree<'a>>>);

/// A converter for the files of one repository.
pub(crate) struct Converter<'a> {
    git: &'a Repository,
    settings: &'a ConversionSettings,
    pipeline: Pipeline,
    search: Search,
    /// The patterns of `info/attributes`, which take precedence over every tree's, no matter when those are read.
    info: Search,
    collection: MetadataCollection,
    outcome: Outcome,
    /// The buffer for [`FORM_ATTRIBUTES`].
    form_outcome: Outcome,
    loaded_dirs: Option<LoadedDirs<'a>>,
    /// Attributes files in place of the tree's.
    overrides: AttributeFiles,
    /// Whether any setting or attribute read so far can change a byte.
    active: bool,
    /// Whether any attribute read so far names an encoding.
    encodes: bool,
    /// The maximum number of `**` in a line, and the number of lines with some, for each attributes file read so far.
    double_stars: BTreeSet<(usize, usize)>,
}

/// The maximum attempts to match the patterns of an attributes file on one path, which take some milliseconds.
const MAX_MATCH_ATTEMPTS: u128 = 1_000_000;

/// Returns an upper bound of the attempts to match a pattern with this many `**` on a path. Each `**` matches no
/// component, or one more. The matcher of attributes tries all combinations, as git's does.
fn count_match_attempts(double_stars: usize, path: &[u8]) -> u128 {
    let depth = path.iter().filter(|b| **b == b'/').count();
    let (all, few) = (depth + double_stars, depth.min(double_stars));
    (0..few).fold(1_u128, |ways, n| ways.saturating_mul((all - n) as u128) / (n as u128 + 1))
}

impl<'a> Converter<'a> {
    pub(crate) fn new(
        git: &'a Repository,
        settings: &'a ConversionSettings,
        attributes: AttributeSource<'_>,
    ) -> Result<Self, SnapshotError> {
        let mut pipeline = Pipeline::new(Default::default(), Default::default(), Default::default());
        pipeline.options_mut().eol_config = settings.eol;
        let mut collection = MetadataCollection::default();
        let none: [PathBuf; 0] = [];
        let search = Search::new_globals(none, &mut Vec::new(), &mut collection)?;
        let mut info = Search::default();
        info.add_patterns_buffer(&settings.info, "info/attributes".into(), None, &mut collection, true)?;
        let active = settings.eol.auto_crlf == AutoCrlf::Enabled || !settings.info.is_empty();
        let (outcome, form_outcome) = (Outcome::default(), Outcome::default());
        let mut converter = Self {
            git,
            settings,
            pipeline,
            search,
            info,
            collection,
            outcome,
            form_outcome,
            loaded_dirs: None,
            overrides: AttributeFiles::new(),
            active,
            encodes: false,
            double_stars: BTreeSet::new(),
        };
        for (path, text) in &settings.global {
            converter.add_attributes(text, path.clone(), None, true)?;
        }
        match attributes {
            AttributeSource::Known(files) => {
                let mut files: Vec<_> = files.iter().collect();
                files.sort_by_key(|(directory, _)| directory.iter().filter(|b| **b == b'/').count());
                for (directory, blob) in files {
                    converter.add_attributes_blob(directory, *blob)?;
                }
            }
            AttributeSource::Lazy(tree) | AttributeSource::Overridden(tree, _) => {
                if let AttributeSource::Overridden(_, files) = attributes {
                    converter.overrides.clone_from(files);
                }
                let root = git.find_tree(tree)?;
                converter.add_attributes_of_dir(b"", Some(&root))?;
                converter.loaded_dirs = Some(LoadedDirs(BTreeMap::from([(Vec::new(), Some(root))])));
            }
        }
        converter.outcome.initialize_with_selection(&converter.collection, ["filter", ENCODING, "merge"]);
        converter.form_outcome.initialize_with_selection(&converter.collection, FORM_ATTRIBUTES);
        Ok(converter)
    }

    fn add_attributes(
        &mut self,
        text: &[u8],
        source: PathBuf,
        root: Option<&Path>,
        macros: bool,
    ) -> Result<(), SnapshotError> {
        let names = |word: &[u8]| text.windows(word.len()).any(|w| w == word);
        self.active |= FORM_ATTRIBUTES.iter().any(|word| names(word.as_bytes()));
        self.encodes |= names(ENCODING.as_bytes());
        let stars = |line: &[u8]| memchr::memmem::find_iter(line, b"**").count();
        let lines: Vec<usize> = text.split(|b| *b == b'\n').map(stars).filter(|n| *n > 0).collect();
        self.double_stars.extend(lines.iter().max().map(|most| (*most, lines.len())));
        Ok(self.search.add_patterns_buffer(text, source, root, &mut self.collection, macros)?)
    }

    /// Adds the attributes file of a directory, if it exists.
    fn add_attributes_of_dir(&mut self, directory: &[u8], tree: Option<&Tree<'_>>) -> Result<(), SnapshotError> {
        match (self.overrides.get(directory).cloned(), tree.and_then(attributes_blob)) {
            (Some(Some(text)), _) => self.add_attributes_text(directory, &text),
            (None, Some(blob)) => self.add_attributes_blob(directory, blob),
            _ => Ok(()),
        }
    }

    fn add_attributes_blob(&mut self, directory: &[u8], blob: Oid) -> Result<(), SnapshotError> {
        let text = self.git.find_blob(blob)?.content().to_vec();
        self.add_attributes_text(directory, &text)
    }

    fn add_attributes_text(&mut self, directory: &[u8], text: &[u8]) -> Result<(), SnapshotError> {
        let source = PathBuf::from(OsString::from_vec([directory, b".gitattributes"].concat()));
        // Macros are only valid at the root (gitattributes(5)).
        self.add_attributes(text, source, Some(Path::new("")), directory.is_empty())
    }

    /// Adds the attributes files above a path that have not been read yet, from the root down.
    fn load_attributes_above(&mut self, path: &[u8]) -> Result<(), SnapshotError> {
        let Some(mut known) = self.loaded_dirs.take() else { return Ok(()) };
        let mut start = 0;
        for cut in path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at + 1) {
            if !known.0.contains_key(&path[..cut]) {
                let above = known.0.get(&path[..start]).and_then(Option::as_ref);
                let entry = above.and_then(|tree| tree.get_name_bytes(&path[start..cut - 1]));
                let tree = entry.filter(|e| e.kind() == Some(ObjectType::Tree)).map(|e| self.git.find_tree(e.id()));
                let tree = tree.transpose()?;
                self.add_attributes_of_dir(&path[..cut], tree.as_ref())?;
                known.0.insert(path[..cut].to_vec(), tree);
            }
            start = cut;
        }
        self.loaded_dirs = Some(known);
        Ok(())
    }

    /// Returns the attributes of a path that determine its form, or none if no attribute can.
    pub(crate) fn form_attributes(&mut self, path: &[u8]) -> Result<Vec<(String, State)>, SnapshotError> {
        self.load_attributes_above(path)?;
        if !self.active {
            return Ok(Vec::new());
        }
        self.check_match_cost(path)?;
        let Self { search, info, collection, form_outcome: outcome, .. } = self;
        outcome.initialize(collection);
        info.pattern_matching_relative_path(path.into(), Case::Sensitive, Some(false), outcome);
        search.pattern_matching_relative_path(path.into(), Case::Sensitive, Some(false), outcome);
        let named = |m: gix_attributes::search::Match<'_>| {
            (m.assignment.name.as_str().to_owned(), m.assignment.state.to_owned())
        };
        Ok(outcome.iter_selected().map(named).collect())
    }

    fn check_match_cost(&self, path: &[u8]) -> Result<(), SnapshotError> {
        let Some(n) = self.find_costly_pattern(path) else { return Ok(()) };
        let reason =
            format!("an attributes file has a pattern with {n} `**`, which takes too long to match at this depth");
        Err(SnapshotError::Convert { path: path.escape_ascii().to_string(), reason })
    }

    /// Returns the number of `**` in a line of an attributes file that takes too long to match on this path.
    fn find_costly_pattern(&self, path: &[u8]) -> Option<usize> {
        let is_long = |(most, lines): &&(usize, usize)| {
            count_match_attempts(*most, path).saturating_mul(*lines as u128) > MAX_MATCH_ATTEMPTS
        };
        self.double_stars.iter().find(is_long).map(|(most, _)| *most)
    }

    /// Returns a blob's bytes in worktree form. The path is relative to this repository.
    pub(crate) fn convert_to_worktree<'b>(
        &'b mut self,
        path: &[u8],
        blob: &'b [u8],
    ) -> Result<(Cow<'b, [u8]>, ConversionOutcome), SnapshotError> {
        self.load_attributes_above(path)?;
        if !self.active {
            return Ok((Cow::Borrowed(blob), ConversionOutcome::Converted));
        }
        self.check_match_cost(path)?;
        let Self { settings, pipeline, search, info, collection, outcome, encodes, .. } = self;
        let lookup = |path: &[u8], outcome: &mut Outcome| {
            outcome.initialize(collection);
            info.pattern_matching_relative_path(path.into(), Case::Sensitive, Some(false), outcome);
            search.pattern_matching_relative_path(path.into(), Case::Sensitive, Some(false), outcome);
        };
        let pointer = parse_lfs_pointer(blob);
        if pointer.is_some() || *encodes || !settings.filters.is_empty() {
            lookup(path, outcome);
        }
        let value = |name: &str| {
            let found = outcome.iter_selected().find(|m| m.assignment.name.as_str() == name)?;
            match found.assignment.state {
                StateRef::Value(value) => Some(value.as_bstr().to_vec()),
                _ => None,
            }
        };
        if let Some((id, size)) = pointer {
            let is_lfs = value("filter").is_some_and(|v| v == b"lfs");
            if is_lfs && settings.has_lfs_object(&id, size) {
                let content = std::fs::read(settings.lfs_path(&id))?;
                if to_hex(&Sha256::digest(&content)) == id {
                    return Ok((Cow::Owned(content), ConversionOutcome::LfsContent));
                }
            }
            if is_lfs {
                return Ok((Cow::Borrowed(blob), ConversionOutcome::LfsPointer));
            }
        }
        let is_filtered = value("filter").is_some_and(|name| settings.filters.contains(&name));
        let outcome_kind = if is_filtered { ConversionOutcome::Filtered } else { ConversionOutcome::Converted };
        let encoding = if *encodes { value(ENCODING).and_then(|name| WideEncoding::from_name(&name)) } else { None };
        let converted = pipeline
            .convert_to_worktree(blob, path.into(), &mut |path, outcome| lookup(path, outcome), Default::default())
            .map_err(|e| SnapshotError::Convert { path: path.escape_ascii().to_string(), reason: e.to_string() })?;
        let bytes = converted.as_bytes().ok_or_else(|| io::Error::other("it requires a filter program"))?;
        if let Some(encoding) = encoding {
            // The library has no encoder for these, and does not change the bytes.
            return Ok((Cow::Owned(encoding.encode_text(&fix_ident_expansion(blob, bytes)?)), outcome_kind));
        }
        if !converted.is_changed() {
            return Ok((Cow::Borrowed(blob), outcome_kind));
        }
        Ok((Cow::Owned(fix_ident_expansion(blob, bytes)?), outcome_kind))
    }
}

impl Converter<'_> {
    /// Returns the merge attribute of a path, including whether a filter converts between its two forms.
    pub(crate) fn merge_attribute(&mut self, path: &[u8]) -> Result<MergeAttribute, SnapshotError> {
        self.load_attributes_above(path)?;
        if self.find_costly_pattern(path).is_some() {
            return Ok(MergeAttribute::NotByLine);
        }
        let Self { settings, search, info, collection, outcome, .. } = self;
        outcome.initialize(collection);
        info.pattern_matching_relative_path(path.into(), Case::Sensitive, Some(false), outcome);
        search.pattern_matching_relative_path(path.into(), Case::Sensitive, Some(false), outcome);
        let state = |name: &str| {
            let found = outcome.iter_selected().find(|m| m.assignment.name.as_str() == name);
            found.map(|m| m.assignment.state).unwrap_or(StateRef::Unspecified)
        };
        let is_filtered = matches!(state("filter"), StateRef::Value(name) if settings.filters.contains::<[u8]>(name.as_bstr().as_ref()));
        let named = |name: &[u8]| match name {
            b"binary" => MergeAttribute::NotByLine,
            b"union" => MergeAttribute::Union,
            name if name != b"text" && settings.merge_drivers.contains(name) => MergeAttribute::Driver,
            _ if is_filtered => MergeAttribute::Filtered,
            _ => MergeAttribute::Text,
        };
        Ok(match state("merge") {
            StateRef::Unset => MergeAttribute::NotByLine,
            StateRef::Value(name) => named(name.as_bstr().as_ref()),
            StateRef::Set => named(b"text"),
            StateRef::Unspecified => named(&settings.default_merge),
        })
    }

    /// Returns the bytes that git would store for a file of a working tree. The path is relative to this repository.
    ///
    /// # Errors
    /// The bytes cannot be converted, or the conversion cannot be reversed: [`SnapshotError::Convert`].
    pub(crate) fn convert_to_stored(&mut self, path: &[u8], bytes: &[u8]) -> Result<Vec<u8>, SnapshotError> {
        let wrong = |reason: String| SnapshotError::Convert { path: path.escape_ascii().to_string(), reason };
        let cleaned = self.convert_to_git(path, bytes)?;
        // Stored bytes must convert back to themselves, or the file would always appear changed.
        let out = self.convert_to_worktree(path, &cleaned)?.0.into_owned();
        if self.convert_to_git(path, &out)? != cleaned {
            return Err(wrong("git would check it out with different content".into()));
        }
        Ok(cleaned)
    }

    fn convert_to_git(&mut self, path: &[u8], bytes: &[u8]) -> Result<Vec<u8>, SnapshotError> {
        self.load_attributes_above(path)?;
        if !self.active {
            return Ok(bytes.to_vec());
        }
        self.check_match_cost(path)?;
        let wrong = |reason: String| SnapshotError::Convert { path: path.escape_ascii().to_string(), reason };
        let Self { settings, pipeline, search, info, collection, outcome, .. } = self;
        let lookup = |path: &[u8], outcome: &mut Outcome| {
            outcome.initialize(collection);
            info.pattern_matching_relative_path(path.into(), Case::Sensitive, Some(false), outcome);
            search.pattern_matching_relative_path(path.into(), Case::Sensitive, Some(false), outcome);
        };
        lookup(path, outcome);
        let filter = outcome.iter_selected().find(|m| m.assignment.name.as_str() == "filter");
        let filter = filter.and_then(|m| match m.assignment.state {
            StateRef::Value(value) => Some(value.as_bstr().to_vec()),
            _ => None,
        });
        match filter {
            Some(name) if name == b"lfs" && parse_lfs_pointer(bytes).is_none() => {
                return Err(wrong("Git LFS stores it, and Airlock does not create LFS objects".into()));
            }
            Some(name) if settings.filters.contains(&name) => {
                let name = name.escape_ascii();
                return Err(wrong(format!("git stores the output of the filter {name}, which Airlock does not run")));
            }
            _ => {}
        }
        let os_path = super::os_path(path);
        let converted = pipeline
            .convert_to_git(bytes, &os_path, &mut |path, outcome| lookup(path, outcome), &mut |_| Ok(None))
            .map_err(|e| wrong(e.to_string()))?;
        match converted {
            ToGitOutcome::Unchanged(same) => Ok(same.to_vec()),
            ToGitOutcome::Buffer(cleaned) => Ok(cleaned.to_vec()),
            ToGitOutcome::Process(_) => Err(wrong("it requires a filter program".into())),
        }
    }
}

/// Writes an expanded `$Id$` as git does, with a space before its end (`ident_to_worktree` in git's `convert.c`). The
/// library omits the space. Nothing else can contain a blob's own ID.
fn fix_ident_expansion(blob: &[u8], converted: &[u8]) -> Result<Vec<u8>, SnapshotError> {
    if !blob.windows(3).any(|w| w == b"$Id") {
        return Ok(converted.to_vec());
    }
    let short = format!("$Id: {}$", Oid::hash_object(ObjectType::Blob, blob)?).into_bytes();
    let mut fixed = Vec::with_capacity(converted.len() + 8);
    let mut rest = converted;
    while let Some(at) = rest.windows(short.len()).position(|w| w == short) {
        fixed.extend_from_slice(&rest[..at + short.len() - 1]);
        fixed.extend_from_slice(b" $");
        rest = &rest[at + short.len()..];
    }
    fixed.extend_from_slice(rest);
    Ok(fixed)
}

/// Returns the blob of a directory's attributes file.
fn attributes_blob(tree: &Tree<'_>) -> Option<Oid> {
    let entry = tree.get_name(".gitattributes")?;
    (entry.kind() == Some(ObjectType::Blob) && entry.filemode() != 0o120_000).then(|| entry.id())
}

/// Returns the blob of a regular file in a tree.
pub(crate) fn blob_at(git: &Repository, tree: Oid, path: &[u8]) -> Result<Option<Oid>, SnapshotError> {
    let path = PathBuf::from(OsString::from_vec(path.to_vec()));
    match git.find_tree(tree)?.get_path(&path) {
        Ok(entry) if entry.kind() == Some(ObjectType::Blob) && entry.filemode() != 0o120_000 => Ok(Some(entry.id())),
        Ok(_) => Ok(None),
        Err(e) if e.code() == git2::ErrorCode::NotFound => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Parses an LFS pointer (<https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md>) and returns the object's ID and
/// size.
pub(crate) fn parse_lfs_pointer(blob: &[u8]) -> Option<(String, u64)> {
    if blob.len() > MAX_POINTER_BYTES || !blob.starts_with(b"version https://git-lfs.github.com/spec/") {
        return None;
    }
    let text = std::str::from_utf8(blob).ok()?;
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
    let id = value("oid sha256:")?;
    let is_hash = id.len() == 64 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    Some((id.to_owned(), value("size ")?.parse().ok()?)).filter(|_| is_hash)
}

#[cfg(test)]
mod tests {
    use super::{MAX_MATCH_ATTEMPTS, count_match_attempts, parse_lfs_pointer};

    #[test]
    fn match_attempts_grow_with_depth_and_double_stars() {
        let path = |depth| "a/".repeat(depth).into_bytes();
        for (stars, depth, attempts) in [(0, 100, 1), (1, 10, 11), (2, 10, 66), (60, 1, 61), (60, 0, 1)] {
            assert_eq!(count_match_attempts(stars, &path(depth)), attempts, "{stars} {depth}");
        }
        assert!(
            count_match_attempts(3, &path(64)) < MAX_MATCH_ATTEMPTS
                && count_match_attempts(60, &path(100)) > MAX_MATCH_ATTEMPTS
                && count_match_attempts(60, &path(9)) > MAX_MATCH_ATTEMPTS
                && count_match_attempts(20, &path(10)) > MAX_MATCH_ATTEMPTS
                && count_match_attempts(3, &path(2000)) > MAX_MATCH_ATTEMPTS
        );
    }

    #[test]
    fn lfs_pointers_are_distinguished_from_files() {
        let id = "a".repeat(64);
        let text = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{id}\nsize 12\n");
        assert_eq!(parse_lfs_pointer(text.as_bytes()), Some((id.clone(), 12)));
        for bad in
            [text.replace("sha256", "md5"), text.replace(&id, "../x"), text.replace("12", "-1"), text[8..].into()]
        {
            assert_eq!(parse_lfs_pointer(bad.as_bytes()), None, "{bad}");
        }
    }
}
