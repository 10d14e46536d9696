//! A Maven repository: artifacts, their metadata, checksums and signatures. Clients check the checksums by themselves.

use url::Url;

use super::resource::{Ecosystem, IndexRequest, Resource, append_path, is_version};

/// The repository of the user.
pub(super) struct Maven {
    pub repository: Url,
}

/// The endings of files beside an artifact.
const CHECKSUMS: [&str; 5] = [".sha1", ".md5", ".sha256", ".sha512", ".asc"];

impl Ecosystem for Maven {
    fn parse(&self, path: &str, query: Option<&str>, _accept: &str) -> Result<Resource, &'static str> {
        const REFUSED: &str = "the path is not one of a Maven repository";
        if query.is_some() {
            return Err("requests with a query are not package requests");
        }
        let segments: Vec<&str> = path.split('/').collect();
        let [group @ .., file] = segments.as_slice() else { return Err(REFUSED) };
        if group.is_empty() || path.len() > 500 || !group.iter().all(|part| is_name(part)) || !is_name(file) {
            return Err(REFUSED);
        }
        let url = append_path(&self.repository, path).ok_or(REFUSED)?;
        let stem = CHECKSUMS.iter().find_map(|ending| file.strip_suffix(ending)).unwrap_or(file);
        if stem == "maven-metadata.xml" {
            return Ok(Resource::Index(IndexRequest { url, accept: "*/*" }));
        }
        let [.., artifact, version] = group else { return Err(REFUSED) };
        let snapshot = version.strip_suffix("-SNAPSHOT");
        let rest = stem.strip_prefix(artifact).and_then(|rest| rest.strip_prefix('-')).ok_or(REFUSED)?;
        if !is_version(version) || group.len() < 3 || !rest.starts_with(snapshot.unwrap_or(version)) {
            return Err(REFUSED);
        }
        Ok(Resource::Direct { url, is_immutable: snapshot.is_none() })
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('.')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.+~".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_artifacts_and_metadata_are_requested() {
        let maven = Maven { repository: Url::parse("https://maven.example/maven2").expect("a URL") };
        for path in [
            "junit/junit/maven-metadata.xml",
            "junit/junit/4.13/junit-4.13.jar",
            "org/a/b-c/1.0-rc1/b-c-1.0-rc1-sources.jar.sha1",
            "org/a/b/1.0-SNAPSHOT/b-1.0-20200101.120000-1.pom",
            "org/a/b/1.0/b-1.0.module",
            "org/a/b/1.0/b-1.0.pom.asc",
        ] {
            assert!(maven.parse(path, None, "").is_ok(), "{path}");
        }
        for path in [
            "",
            "x.jar",
            "junit/4.13/junit-4.13.jar",
            "org/a/b/1.0/c-1.0.jar",
            "org/a/b/1.0/b-2.0.jar",
            "org/.a/b/1.0/b-1.0.jar",
            "org/a/b/1.0/b-1.0%2Bx.jar",
            "org/a/b/",
            "a//b/1/b-1.jar",
        ] {
            assert!(maven.parse(path, None, "").is_err(), "{path}");
        }
        assert!(maven.parse("junit/junit/4.13/junit-4.13.jar", Some("x"), "").is_err());
    }
}
