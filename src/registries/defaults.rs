//! The upstreams that package clients use without any configuration, as the clients in the agent image report them.

use serde::{Deserialize, Serialize};
use url::Url;

/// The default upstreams of the clients in an image. A client that is not in the image has none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageDefaults {
    pub npm: Option<Url>,
    /// The registries that other clients than the first one use.
    #[serde(default)]
    pub npm_aliases: Vec<Url>,
    pub pypi: Option<Url>,
    pub cargo: Option<Url>,
    pub go_proxy: Option<Url>,
    pub go_sumdb: Option<String>,
    pub maven: Option<Url>,
    pub rubygems: Option<Url>,
}

/// A shell script that prints a line `CLIENT VALUE` for each client of an image, without using a network.
pub(crate) const PROBE_SCRIPT: &str = r#"
has() { command -v "$1" >/dev/null 2>&1; }
for client in npm pnpm yarn; do
    if has $client; then echo "npm $(cd / && $client config get registry 2>/dev/null </dev/null)"; fi
done
pypi=
for python in python3 python; do
    has $python && pypi=$($python -c 'from pip._internal.models.index import PyPI; print(PyPI.simple_url)' 2>/dev/null) && [ -n "$pypi" ] && break
done
if [ -z "$pypi" ] && has uv; then
    pypi=$(uv pip install --help 2>/dev/null </dev/null | grep -o 'https://[^ >)]*/simple' | head -n 1)
fi
[ -z "$pypi" ] || echo "pypi $pypi"
if has cargo; then echo 'cargo default'; fi
if has go; then
    echo "go_proxy $(go env GOPROXY 2>/dev/null | tr ',|' '  ' | cut -d' ' -f1)"
    echo "go_sumdb $(go env GOSUMDB 2>/dev/null)"
fi
if has ruby; then echo "rubygems $(ruby -e 'puts Gem::DEFAULT_HOST' 2>/dev/null)"; fi
if has mvn; then
    home=$(dirname "$(dirname "$(readlink -f "$(command -v mvn)")")")
    for jar in "$home"/lib/maven-model-builder*.jar; do
        pom=$(unzip -p "$jar" org/apache/maven/model/pom-4.0.0.xml 2>/dev/null ||
            python3 -c 'import sys, zipfile; print(zipfile.ZipFile(sys.argv[1]).read("org/apache/maven/model/pom-4.0.0.xml").decode())' "$jar" 2>/dev/null)
        echo "maven $(printf '%s' "$pom" | grep -o 'https://[^<]*' | head -n 1)"
    done
fi
true
"#;

impl ImageDefaults {
    /// Parses the output of the probe script. A value that is no https URL is ignored.
    #[must_use]
    pub fn parse(output: &str) -> Self {
        let mut defaults = Self::default();
        for (client, value) in output.lines().filter_map(|line| line.split_once(' ')) {
            let url =
                || Url::parse(value.trim()).ok().filter(|url| url.scheme() == "https" && url.username().is_empty());
            match client {
                "npm" if defaults.npm.is_none() => defaults.npm = url(),
                "npm" => defaults.npm_aliases.extend(url().filter(|url| Some(url) != defaults.npm.as_ref())),
                "pypi" => defaults.pypi = url(),
                // cargo does not report its default registry.
                "cargo" => {
                    defaults.cargo = Url::parse(tame_index::CRATES_IO_HTTP_INDEX.trim_start_matches("sparse+")).ok()
                }
                "go_proxy" => defaults.go_proxy = url(),
                "go_sumdb" => defaults.go_sumdb = Some(value.trim().to_owned()).filter(|value| !value.is_empty()),
                "maven" => defaults.maven = url(),
                "rubygems" => defaults.rubygems = url(),
                _ => {}
            }
        }
        defaults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_of_clients_is_parsed() {
        let defaults = ImageDefaults::parse(
            "npm https://npm.example/\nnpm https://npm.example/\nnpm https://alias.example\npypi undefined\ngo_sumdb sum.example\nrubygems http://x/\nother x\ncargo default\n",
        );
        assert_eq!(defaults.npm.map(String::from).as_deref(), Some("https://npm.example/"));
        assert_eq!((defaults.pypi, defaults.rubygems, defaults.go_sumdb.as_deref()), (None, None, Some("sum.example")));
        assert_eq!(defaults.npm_aliases.len(), 1);
        assert!(defaults.cargo.is_some());
    }
}
