//! Builds images with BuildKit, the builder of Docker since version 23.
//!
//! The build is one request with the context as its body, and without a session. A Dockerfile can therefore have neither the
//! user's credentials nor files of this machine, and no step has the host's network unless the whole build has it.
//!
//! Progress arrives as messages of the form `moby.buildkit.v1.StatusResponse` (protocol buffers), of which only names of steps and
//! their output are read.

use std::collections::{HashMap, HashSet};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::StreamExt;
use http_body_util::BodyExt;
use serde::Deserialize;

use super::connect::Connector;
use super::hijack::{innermost_message, post_archive};
use super::{BuildLine, BuildProgress, EngineError, ImageBuild};
use crate::core::clock::seconds_since_epoch;
use crate::core::random::create_random_id;

/// The argument that names the base of an image.
pub(super) const BASE_ARGUMENT: &str = "BASE";
/// The repository of the names that bases have during a build. No registry can have this host.
pub(super) const BASE_REPOSITORY: &str = "airlock-base.invalid/base";
/// Age in seconds after which a name is left by a build that was interrupted.
const MAX_BASE_NAME_AGE: u64 = 24 * 60 * 60;
/// Maximum length in bytes of a message of the builder.
const MAX_MESSAGE: usize = 16 << 20;

/// Creates a name for the base of one build, with the time.
pub(super) fn create_base_name() -> Result<String, EngineError> {
    Ok(format!("{BASE_REPOSITORY}:{}-{}", seconds_since_epoch(), create_random_id::<8>()?))
}

/// Returns whether a base has a name only for a build.
pub(super) fn is_base_name(name: &str) -> bool {
    name.split_once(':').is_some_and(|(repository, _)| repository == BASE_REPOSITORY)
}

/// Returns whether the build that a base has a name for has certainly ended.
pub(super) fn is_old_base_name(name: &str) -> bool {
    let time = name.rsplit_once(':').and_then(|(_, tag)| tag.split_once('-')?.0.parse::<u64>().ok());
    is_base_name(name) && time.is_some_and(|time| time.saturating_add(MAX_BASE_NAME_AGE) < seconds_since_epoch())
}

/// Builds an image by one request.
pub(super) async fn build_image(
    connector: &Connector,
    build: ImageBuild,
    progress: &BuildProgress<'_>,
) -> Result<(), EngineError> {
    let attempt = format!("build the image {}", build.name);
    let refused = |message: String| EngineError::Refused { attempt: attempt.clone(), message, status: 0 };
    let query = build_query(&build);
    let mut answer =
        post_archive(connector, &format!("/build?{query}"), build.context, &attempt).await?.into_data_stream();
    let (mut buffer, mut log) = (BytesMut::new(), BuildLog::default());
    while let Some(piece) = answer.next().await {
        buffer.extend_from_slice(&piece.map_err(|error| refused(innermost_message(&error)))?);
        if buffer.len() > MAX_MESSAGE {
            return Err(refused("the builder sent a message that is too long".into()));
        }
        while let Some(line) = take_line(&mut buffer) {
            if let Some(message) = log.read_message(&line, progress) {
                log.finish_lines(progress);
                return Err(refused(message));
            }
        }
    }
    if log.is_finished { Ok(()) } else { Err(refused("the connection to the builder ended before the build".into())) }
}

/// Returns the options of a build for its address.
fn build_query(build: &ImageBuild) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    let json = |pairs: serde_json::Map<String, serde_json::Value>| serde_json::Value::Object(pairs).to_string();
    let base = build.base.iter().map(|name| (BASE_ARGUMENT.to_owned(), name.clone()));
    // These would replace the program that reads the Dockerfile.
    let own = build.args.iter().filter(|(name, _)| !name.starts_with("BUILDKIT_"));
    let arguments = own.cloned().chain(base).map(|(name, value)| (name, value.into()));
    let labels = build.labels.iter().map(|(name, value)| (name.clone(), value.clone().into()));
    query
        .append_pair("version", "2")
        .append_pair("t", &build.name)
        .append_pair("dockerfile", &build.dockerfile)
        .append_pair("buildargs", &json(arguments.collect()))
        .append_pair("labels", &json(labels.collect()));
    if let Some(target) = &build.target {
        query.append_pair("target", target);
    }
    if build.fresh {
        query.append_pair("nocache", "1");
    }
    if let Some(network) = &build.network {
        query.append_pair("networkmode", network);
    }
    query.finish()
}

/// Takes a line from the front of a buffer, if a whole one is there.
fn take_line(buffer: &mut BytesMut) -> Option<Bytes> {
    let end = memchr::memchr(b'\n', buffer)?;
    let line = buffer.split_to(end).freeze();
    buffer.advance(1);
    Some(line)
}

/// A line of the builder's answer.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    id: String,
    #[serde(default)]
    aux: serde_json::Value,
    #[serde(default)]
    error: Option<String>,
}

/// The messages of a build so far.
#[derive(Default)]
struct BuildLog {
    /// The steps that were named.
    started: HashSet<Bytes>,
    /// The beginning of a line of output, of each step. Steps run at the same time.
    unfinished: HashMap<Bytes, Vec<u8>>,
    is_finished: bool,
}

impl BuildLog {
    /// Passes on what a message says. Returns the error that ended the build.
    fn read_message(&mut self, line: &[u8], progress: &BuildProgress<'_>) -> Option<String> {
        let answer: Answer = serde_json::from_slice(line).ok()?;
        match (answer.id.as_str(), &answer.aux) {
            ("moby.image.id", _) => self.is_finished = true,
            ("moby.buildkit.trace", serde_json::Value::String(trace)) => {
                use base64::Engine as _;
                if let Ok(trace) = base64::engine::general_purpose::STANDARD.decode(trace) {
                    self.read_status(&trace.into(), progress);
                }
            }
            _ => {}
        }
        answer.error
    }

    /// Reads a `StatusResponse`: steps (1) and pieces of output (3).
    fn read_status(&mut self, status: &Bytes, progress: &BuildProgress<'_>) {
        for (field, value) in split_fields(status) {
            match field {
                1 => self.read_step(&value, progress),
                3 => self.read_output(&value, progress),
                _ => {}
            }
        }
    }

    /// Reads a `Vertex`: its digest (1), its name (3), whether it is cached (4), and when it started (5).
    fn read_step(&mut self, step: &Bytes, progress: &BuildProgress<'_>) {
        let (mut digest, mut name, mut is_cached, mut has_started) = (Bytes::new(), Bytes::new(), false, false);
        for (field, value) in split_fields(step) {
            match field {
                1 => digest = value,
                3 => name = value,
                4 => is_cached = true,
                5 => has_started = true,
                _ => {}
            }
        }
        if (has_started || is_cached) && !name.starts_with(b"[internal]") && self.started.insert(digest) {
            let note = if is_cached { " (cached)" } else { "" };
            let text = format!("{}{note}", String::from_utf8_lossy(&name));
            // `[2/3] RUN make`, unlike `exporting to image`.
            progress(if text.starts_with('[') { BuildLine::Step(&text) } else { BuildLine::Output(&text) });
        }
    }

    /// Reads a `VertexLog`: the digest of its step (1), and a piece of output (4).
    fn read_output(&mut self, log: &Bytes, progress: &BuildProgress<'_>) {
        let (mut step, mut piece) = (Bytes::new(), Bytes::new());
        for (field, value) in split_fields(log) {
            match field {
                1 => step = value,
                4 => piece = value,
                _ => {}
            }
        }
        let unfinished = self.unfinished.entry(step).or_default();
        unfinished.extend_from_slice(&piece);
        let end = memchr::memrchr2(b'\n', b'\r', unfinished).map_or(0, |at| at + 1);
        unfinished[..end].split(|byte| matches!(byte, b'\n' | b'\r')).for_each(|line| report_line(line, progress));
        unfinished.drain(..end);
        unfinished.truncate(MAX_MESSAGE);
    }

    /// Passes on the lines of output that have no end.
    fn finish_lines(&mut self, progress: &BuildProgress<'_>) {
        self.unfinished.drain().for_each(|(_, line)| report_line(&line, progress));
    }
}

/// Passes on a line of output.
fn report_line(line: &[u8], progress: &BuildProgress<'_>) {
    if !line.is_empty() {
        progress(BuildLine::Output(&String::from_utf8_lossy(line)));
    }
}

/// Returns the fields of a message with their numbers, up to what cannot be read. A number is returned as an empty value, and
/// only if it is not 0.
fn split_fields(message: &Bytes) -> impl Iterator<Item = (u64, Bytes)> {
    let mut rest = message.clone();
    std::iter::from_fn(move || {
        loop {
            let tag = read_number(&mut rest)?;
            let value = match tag & 7 {
                0 if read_number(&mut rest)? == 0 => continue,
                0 => Bytes::new(),
                2 => {
                    let length = usize::try_from(read_number(&mut rest)?).ok()?;
                    (length <= rest.len()).then(|| rest.split_to(length))?
                }
                kind @ (1 | 5) => {
                    let length = if kind == 1 { 8 } else { 4 };
                    (length <= rest.len()).then(|| rest.split_to(length))?
                }
                _ => return None,
            };
            return Some((tag >> 3, value));
        }
    })
}

/// Reads a number of seven bits a byte.
fn read_number(bytes: &mut Bytes) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes.try_get_u8().ok()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use base64::Engine as _;
    use proptest::prelude::*;

    use super::*;

    /// Encodes a field whose value is text or another message.
    fn field(number: u8, value: &[u8]) -> Vec<u8> {
        let length = u8::try_from(value.len()).expect("short");
        assert!(length < 0x80);
        [&[number << 3 | 2, length], value].concat()
    }

    fn trace(status: &[u8]) -> String {
        let trace = base64::engine::general_purpose::STANDARD.encode(status);
        format!(r#"{{"id":"moby.buildkit.trace","aux":"{trace}"}}"#)
    }

    fn read(lines: &[String]) -> (Vec<String>, Option<String>, bool) {
        let said = Mutex::new(Vec::new());
        let progress = |line: BuildLine<'_>| said.lock().expect("locked").push(format!("{line:?}"));
        let mut log = BuildLog::default();
        let error = lines.iter().find_map(|line| log.read_message(line.as_bytes(), &progress));
        log.finish_lines(&progress);
        (said.into_inner().expect("locked"), error, log.is_finished)
    }

    #[test]
    fn steps_output_and_errors_are_read() {
        let step = |digest: &[u8], name: &[u8], more: &[u8]| {
            field(1, &[&field(1, digest)[..], &field(3, name), more].concat())
        };
        let started = field(5, b"\x08\x01");
        let cached = [4 << 3, 1];
        let not_cached = [4 << 3, 0];
        let log_of =
            |step: &[u8], text: &[u8]| field(3, &[&field(1, step)[..], &[3 << 3, 1], &field(4, text)].concat());
        let log = |text: &[u8]| log_of(b"a", text);
        let lines = [
            trace(&step(b"a", b"[1/2] FROM base", b"")),
            trace(&step(b"a", b"[1/2] FROM base", &cached)),
            trace(&step(b"i", b"[internal] load metadata", &started)),
            trace(&step(b"b", b"[2/2] RUN make", &[&not_cached[..], &started].concat())),
            trace(&step(b"b", b"[2/2] RUN make", &started)),
            trace(
                &[log(b"one\ntw"), log_of(b"b", b"other\nun"), log(b"o\r\n"), log_of(b"b", b"til\n"), log(b"rest")]
                    .concat(),
            ),
            r#"{"stream":"something else"}"#.into(),
            "not JSON".into(),
            r#"{"id":"moby.image.id","aux":{"ID":"sha256:1"}}"#.into(),
        ];
        let (said, error, is_finished) = read(&lines);
        let steps = [r#"Step("[1/2] FROM base (cached)")"#, r#"Step("[2/2] RUN make")"#];
        let output = ["one", "other", "two", "until", "rest"].map(|line| format!("Output({line:?})"));
        assert_eq!(said, [&steps.map(str::to_owned)[..], &output].concat());
        assert!(error.is_none() && is_finished);
        let failed = [r#"{"errorDetail":{"message":"exit code: 1"},"error":"exit code: 1"}"#.to_owned()];
        assert_eq!(read(&failed), (Vec::new(), Some("exit code: 1".into()), false));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(split_fields(&bytes.clone().into()).count() <= bytes.len());
            read(&[trace(&bytes)]);
        }
    }

    #[test]
    fn names_of_bases_are_told_from_others_and_expire() {
        let name = create_base_name().expect("random");
        assert!(is_base_name(&name) && !is_old_base_name(&name), "{name}");
        assert!(is_old_base_name(&format!("{BASE_REPOSITORY}:1700000000-ab")));
        for other in ["debian:1700000000-ab", "airlock-base.invalid/base2:1700000000-ab", "<none>:<none>"] {
            assert!(!is_base_name(other) && !is_old_base_name(other), "{other}");
        }
    }

    #[test]
    fn build_arguments_cannot_choose_the_frontend() {
        let build = ImageBuild {
            context: Box::pin(futures_util::stream::empty()),
            dockerfile: "a b/Dockerfile".into(),
            target: Some("last".into()),
            name: "image:1".into(),
            labels: [("label".to_owned(), "x&y".to_owned())].into(),
            fresh: true,
            args: vec![("BUILDKIT_SYNTAX".into(), "evil".into()), ("MARK".into(), "1".into())],
            base: Some("base:1".into()),
            network: None,
        };
        let query = build_query(&build);
        let pairs: HashMap<_, _> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        assert_eq!(pairs["buildargs"], r#"{"BASE":"base:1","MARK":"1"}"#);
        assert_eq!(pairs["labels"], r#"{"label":"x&y"}"#);
        assert_eq!((pairs["dockerfile"].as_str(), pairs["target"].as_str()), ("a b/Dockerfile", "last"));
        assert!(!pairs.contains_key("networkmode") && pairs["version"] == "2");
    }
}
