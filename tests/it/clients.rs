//! Real package clients against their real registries, in a sandbox of the image with package clients.
//!
//! The names of the registries come from the clients themselves. The tests name them in the user's configuration, so that
//! they also pass where a registry is reached by a private address.

use std::process::Command;

use serde_json::Value;

use crate::claude::model;
use crate::support::model::Step;
use crate::support::{CommandOutput, TestRepo};
use crate::terminal::Terminal;
use crate::upstream::{Upstream, ok, status};

const IMAGE: &str = "airlock-clients:latest";

/// Runs a script with packages, in a sandbox that is kept.
fn run(repo: &TestRepo, name: &str, script: &str) -> CommandOutput {
    let script = format!("set -euo pipefail; {script}");
    let args = [
        "--keep", "run", "--name", name, "--image", IMAGE, "--net", "packages", "--review", "never", "--", "bash",
        "-c", &script,
    ];
    repo.airlock(&args)
}

/// Reads the audit log of a sandbox.
fn read_log(repo: &TestRepo, name: &str) -> Vec<Value> {
    let log = repo.airlock(&["log", name, "--json"]).ok().stdout;
    log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Requires that a sandbox has received files, all of them from the cache.
fn assert_all_files_cached(repo: &TestRepo, name: &str) {
    let log = read_log(repo, name);
    let path = |entry: &Value| entry["path"].as_str().unwrap_or_default().to_owned();
    let is_file =
        |entry: &&Value| [".tgz", ".whl", ".tar.gz", "/download"].iter().any(|end| path(entry).ends_with(end));
    let files: Vec<&Value> = log.iter().filter(is_file).collect();
    assert!(files.len() > 5, "{log:?}");
    for entry in files {
        assert!(entry["cached"] == true && entry["verdict"] == "allowed", "{entry}");
    }
}

/// Creates a repository and writes the configuration of the user that names the default registries.
fn create_repo() -> TestRepo {
    let mut repo = TestRepo::empty();
    repo.write(".gitignore", "node_modules\n.venv\ntarget\n");
    repo.commit();
    let script = r"cd /; npm config get registry; yarn config get registry
        python3 -c 'from pip._internal.models.index import PyPI; print(PyPI.simple_url)'";
    let asked = repo.airlock(&["run", "--image", IMAGE, "--", "bash", "-c", script]).ok().stdout;
    let lines: Vec<&str> = asked.lines().collect();
    let [npm, yarn, pypi] = lines.as_slice() else { panic!("{asked}") };
    let cargo = tame_index::CRATES_IO_HTTP_INDEX.trim_start_matches("sparse+");
    let home = repo.directory().join("home");
    let write = |path: &str, text: String| {
        let path = home.join(path);
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("made");
        std::fs::write(path, text).expect("written");
    };
    write(".npmrc", format!("registry={npm}\n"));
    write(".config/pip/pip.conf", format!("[global]\nindex-url = {pypi}\n"));
    write(
        ".cargo/config.toml",
        format!("[source.crates-io]\nreplace-with = 'm'\n[source.m]\nregistry = 'sparse+{cargo}'\n"),
    );
    // The hosts of files are known from documents only.
    let fetch = |url: &str| {
        let accept = "Accept: application/vnd.pypi.simple.v1+json, */*;q=0.1";
        let output = Command::new("curl").args(["-sSf", "-H", accept, url]).output().expect("curl runs");
        assert!(output.status.success(), "{url}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON")
    };
    let host = |url: &Value| {
        let url = url::Url::parse(url.as_str().expect("a string")).expect("a URL");
        url.host_str().expect("a host").to_owned()
    };
    let files = host(&fetch(&format!("{}/six/", pypi.trim_end_matches('/')))["files"][0]["url"]);
    let crates = host(&fetch(&format!("{cargo}config.json"))["dl"]);
    repo.set("AIRLOCK_PRIVATE_HOSTS", [files, crates, host(&(*yarn).into())].join(","));
    for name in ["SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "HTTPS_PROXY", "NO_PROXY"] {
        if let Ok(value) = std::env::var(name) {
            repo.set(name, value);
        }
    }
    repo
}

#[test]
fn npm_pnpm_and_yarn_install_and_run_the_tests_of_a_project() {
    let mut repo = create_repo();
    repo.write("package.json", r#"{"name": "demo", "version": "1.0.0", "private": true, "scripts": {"test": "jest"}, "dependencies": {"express": "^4.18.0"}, "devDependencies": {"jest": "^29.7.0"}}"#);
    repo.write("sum.test.js", "test('adds', () => expect(require('express')).toBeDefined());\n");
    repo.commit();
    run(&repo, "lock", "npm install 2>&1 | tail -n 3; cp package-lock.json /tmp; npm ci 2>&1; cmp package-lock.json /tmp/package-lock.json").ok();
    repo.airlock(&["apply", "lock", "--accept", "package-lock.json"]).ok();
    let lock = repo.read("package-lock.json");
    assert!(lock.matches("\"integrity\"").count() >= 200, "{}", lock.len());
    assert!(!lock.contains("127.0.0.1"));
    repo.commit();
    // In another sandbox, the files come from the cache, and the lock file does not change.
    let tested = run(&repo, "test", "npm ci 2>&1; npm test 2>&1; ! npm publish 2>&1; git status --short").ok();
    assert!(tested.stdout.contains("1 passed") && !tested.stdout.contains("package-lock"), "{}", tested.stdout);
    assert_all_files_cached(&repo, "test");
    let other = run(
        &repo,
        "others",
        "rm package-lock.json; pnpm install 2>&1 | tail -n 3; rm -rf node_modules; yarn install 2>&1 | tail -n 3; ! grep -c 127.0.0.1 pnpm-lock.yaml yarn.lock; grep -c 'tarball:' pnpm-lock.yaml || true; npx jest 2>&1
        rm -r node_modules yarn.lock; YARN_NODE_LINKER=node-modules yarn-4 install 2>&1 | tail -n 3; npx jest 2>&1; rm -r node_modules; bun install 2>&1 | tail -n 3; npx jest 2>&1; ! grep -c 127.0.0.1 yarn.lock bun.lock",
    )
    .ok();
    assert!(
        other.stdout.contains("pnpm-lock.yaml:0\nyarn.lock:0\n0\n")
            && other.stdout.ends_with("yarn.lock:0\nbun.lock:0\n")
            && other.stdout.matches("1 passed, 1 total").count() == 6,
        "{}",
        other.stdout
    );

    // Claude Code does the same by itself.
    let script = vec![
        Step::Tool("Bash".into(), serde_json::json!({"command": "npm ci && npm test", "description": "test"})),
        Step::Text("tested".into()),
    ];
    let (_runtime, model) = model(&mut repo, script);
    let args = [
        "--keep",
        "--name",
        "claude",
        "--image",
        IMAGE,
        "--review",
        "never",
        "claude",
        "-p",
        "run the tests",
        "--allowedTools",
        "Bash",
    ];
    let ran = repo.airlock(&args).ok();
    assert!(
        ran.stdout.contains("tested") && ran.stderr.contains("network: model, packages"),
        "{} {}",
        ran.stdout,
        ran.stderr
    );
    let results: String = model.seen().iter().map(|request| request.body.clone()).collect();
    assert!(results.contains("1 passed"), "{results}");
    assert_all_files_cached(&repo, "claude");
}

#[test]
fn pip_and_uv_install_compiled_wheels() {
    let repo = create_repo();
    repo.write("pyproject.toml", "[project]\nname = \"demo\"\nversion = \"0.1.0\"\nrequires-python = \">=3.11\"\ndependencies = [\"numpy\", \"requests\", \"pytest\", \"pyyaml\"]\n");
    repo.write("test_sum.py", "import numpy\n\ndef test_sum():\n    assert numpy.array([1, 2]).sum() == 3\n");
    repo.commit();
    let first = run(&repo, "lock", "uv lock 2>&1; cp uv.lock /tmp; uv sync --frozen 2>&1 | tail -n 3; .venv/bin/pytest -q; uv lock --check 2>&1; cmp uv.lock /tmp/uv.lock").ok();
    assert!(first.stdout.contains("1 passed"), "{}", first.stdout);
    repo.airlock(&["apply", "lock", "--accept", "uv.lock"]).ok();
    assert!(!repo.read("uv.lock").contains("127.0.0.1") && repo.read("uv.lock").contains("sha256:"));
    repo.commit();
    let second = run(
        &repo,
        "test",
        "uv sync --frozen 2>&1 | tail -n 3; .venv/bin/pytest -q; rm -rf .venv; python3 -m venv .venv; .venv/bin/pip install numpy requests pytest pyyaml 2>&1; .venv/bin/pytest -q
        .venv/bin/pip download --no-deps -d /tmp iniconfig 2>&1 | tail -n 1; ! twine upload -u a -p b /tmp/iniconfig-*.whl >/tmp/twine 2>&1; git status --short",
    )
    .ok();
    assert!(second.stdout.matches("1 passed").count() == 2 && !second.stdout.contains("uv.lock"), "{}", second.stdout);
    assert_all_files_cached(&repo, "test");
}

#[test]
fn cargo_builds_and_tests_a_project() {
    let repo = create_repo();
    repo.write("Cargo.toml", "[package]\nname = \"demo\"\nversion = \"0.1.0\"\nedition = \"2021\"\nrust-version = \"1.85\"\n[dependencies]\nserde_json = \"1\"\ntokio = { version = \"1.40\", features = [\"full\"] }\nregex = \"1\"\nclap = \"4.5\"\nurl = \"2\"\nchrono = \"0.4\"\ntoml = \"0.8\"\nrand = \"0.8\"\ntower = \"0.5\"\nitertools = \"0.13\"\nflate2 = \"1\"\nsha2 = \"0.10\"\ntempfile = \"3\"\n");
    repo.write(
        "src/lib.rs",
        "#[test]\nfn works() {\n    assert!(regex::Regex::new(\"a+\").unwrap().is_match(\"aa\"));\n}\n",
    );
    repo.commit();
    let lock = "export CARGO_RESOLVER_INCOMPATIBLE_RUST_VERSIONS=fallback; cargo generate-lockfile 2>&1 | tail -n 1; cargo fetch --locked 2>&1 | tail -n 1";
    run(&repo, "lock", lock).ok();
    repo.airlock(&["apply", "lock", "--accept", "Cargo.lock"]).ok();
    let text = repo.read("Cargo.lock");
    assert!(
        text.matches("[[package]]").count() >= 100 && !text.contains("127.0.0.1") && text.contains("registry+https://"),
        "{text}"
    );
    repo.commit();
    let built =
        run(&repo, "test", "cargo test --locked 2>&1; ! cargo publish --registry crates-io --token x --allow-dirty 2>&1; git status --short")
            .ok();
    assert!(built.stdout.contains("1 passed") && !built.stdout.contains("Cargo.lock"), "{}", built.stdout);
    assert_all_files_cached(&repo, "test");
}

/// Prepares the files of a Go module proxy and of a gem server, with one package each.
const SERVE: &str = r#"
mkdir -p served/a.example/x/@v served/gems served/info lib
printf 'v1.0.0\n' > served/a.example/x/@v/list
printf '{"Version":"v1.0.0","Time":"2026-01-01T00:00:00Z"}' > served/a.example/x/@v/v1.0.0.info
printf 'module a.example/x\n\ngo 1.21\n' > served/a.example/x/@v/v1.0.0.mod
python3 -c '
import zipfile
archive = zipfile.ZipFile("served/a.example/x/@v/v1.0.0.zip", "w")
archive.writestr("a.example/x@v1.0.0/go.mod", "module a.example/x\n\ngo 1.21\n")
archive.writestr("a.example/x@v1.0.0/x.go", "package x\n\nfunc Answer() int { return 42 }\n")'
echo 'module Demox; ANSWER = 42; end' > lib/demox.rb
echo 'Gem::Specification.new { |s| s.name = "demox"; s.version = "1.0"; s.summary = "x"; s.authors = ["a"]; s.files = ["lib/demox.rb"] }' > demox.gemspec
gem build demox.gemspec >/dev/null 2>&1
mkdir -p served/quick/Marshal.4.8
ruby -rrubygems -e 'IO.binwrite("served/quick/Marshal.4.8/demox-1.0.gemspec.rz", Gem.deflate(Marshal.dump(Gem::Specification.load("demox.gemspec"))))'
mv demox-1.0.gem served/gems/
printf -- '---\n1.0 |checksum:%s\n' "$(sha256sum served/gems/demox-1.0.gem | cut -d' ' -f1)" > served/info/demox
printf 'created_at: 2026-01-01T00:00:00Z\n---\ndemox 1.0 %s\n' "$(md5sum served/info/demox | cut -d' ' -f1)" > served/versions
"#;

#[test]
fn go_and_bundler_install_from_scripted_upstreams() {
    let repo = TestRepo::empty();
    repo.write("go.mod", "module demo\n\ngo 1.21\n\nrequire a.example/x v1.0.0\n");
    let test = "package demo\n\nimport (\n\t\"testing\"\n\n\t\"a.example/x\"\n)\n\nfunc TestX(t *testing.T) {\n\tif x.Answer() != 42 {\n\t\tt.Fatal()\n\t}\n}\n";
    repo.write("demo_test.go", test);
    repo.write("Gemfile", "source \"https://gems.example\"\ngem \"demox\"\n");
    repo.commit();
    repo.airlock(&["run", "--name", "make", "--image", IMAGE, "--review", "never", "--", "bash", "-euc", SERVE]).ok();
    repo.airlock(&["apply", "make", "--accept", "served/", "--allow-risky"]).ok();
    let served = repo.path.join("served");
    let server =
        Upstream::start(move |request| match std::fs::read(served.join(request.target.trim_start_matches('/'))) {
            Ok(content) => ok("application/octet-stream", content),
            Err(_) => status("404 Not Found"),
        });
    let home = repo.directory().join("home");
    for (path, text) in [
        (".config/go/env", format!("GOPROXY={}\nGOSUMDB=off\n", server.url)),
        (".bundle/config", format!("---\nBUNDLE_MIRROR__ALL: \"{}/\"\n", server.url)),
    ] {
        std::fs::create_dir_all(home.join(path).parent().expect("it has one")).expect("made");
        std::fs::write(home.join(path), text).expect("written");
    }
    let script = "go mod tidy 2>&1; go test ./... 2>&1; bundle config set --global path /tmp/gems; bundle install 2>&1; bundle exec ruby -e 'require \"demox\"; puts Demox::ANSWER'; gem install --install-dir /tmp/own demox 2>&1; ! grep -c 127.0.0.1 go.sum go.mod Gemfile.lock";
    let ran = run(&repo, "w", script).ok();
    assert!(ran.stdout.contains("ok  \tdemo") && ran.stdout.contains("\n42\n"), "{}", ran.stdout);
    assert!(ran.stdout.ends_with("go.sum:0\ngo.mod:0\nGemfile.lock:0\n"), "{}", ran.stdout);
    assert!(repo.changes("w").iter().any(|(path, _)| path == "Gemfile.lock"), "{:?}", repo.changes("w"));
    let log = read_log(&repo, "w");
    for (route, end) in [("go", "v1.0.0.zip"), ("rubygems", "gems/demox-1.0.gem")] {
        let is_file =
            |entry: &Value| entry["route"] == route && entry["path"].as_str().is_some_and(|p| p.ends_with(end));
        assert!(log.iter().any(|entry| is_file(entry) && entry["verdict"] == "allowed"), "{log:?}");
    }
}

/// Serves the files of a directory; a directory is its `index.html`.
fn serve_dir(root: std::path::PathBuf) -> Upstream {
    Upstream::start(move |request| {
        // As a proxy, it gets the whole URL.
        let path = request.target.trim_start_matches("http://packages.example").trim_start_matches('/');
        let path = root.join(path);
        let path = if request.target.ends_with('/') { path.join("index.html") } else { path };
        let kind = if path.ends_with("index.html") { "text/html" } else { "application/octet-stream" };
        std::fs::read(path).map_or_else(|_| status("404 Not Found"), |content| ok(kind, content))
    })
}

/// A wheel, and an extension of Maven with its parent, in the layout of their repositories.
const SERVE_MORE: &str = r#"
mkdir -p served/simple/demox served/wheels pkg/demox-1.0.dist-info pkg/demox
echo 'ANSWER = 42' > pkg/demox/__init__.py
printf 'Metadata-Version: 2.1\nName: demox\nVersion: 1.0\n' > pkg/demox-1.0.dist-info/METADATA
printf 'Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n' > pkg/demox-1.0.dist-info/WHEEL
printf 'demox/__init__.py,,\ndemox-1.0.dist-info/METADATA,,\ndemox-1.0.dist-info/WHEEL,,\ndemox-1.0.dist-info/RECORD,,\n' > pkg/demox-1.0.dist-info/RECORD
wheel=demox-1.0-py3-none-any.whl
(cd pkg && python3 -m zipfile -c ../served/wheels/$wheel demox demox-1.0.dist-info)
hash=$(sha256sum served/wheels/$wheel | cut -d' ' -f1)
echo "<html><body><a href=\"../../wheels/$wheel#sha256=$hash\">$wheel</a></body></html>" > served/simple/demox/index.html
maven=served/maven/example
mkdir -p $maven/parent/1 $maven/ext/1
pom() { echo "<project><modelVersion>4.0.0</modelVersion><groupId>example</groupId><artifactId>$1</artifactId><version>1</version><packaging>$2</packaging>$3</project>"; }
pom parent pom '<properties><answer>42</answer></properties>' > $maven/parent/1/parent-1.pom
pom ext jar '' > $maven/ext/1/ext-1.pom
(cd pkg && python3 -m zipfile -c ../$maven/ext/1/ext-1.jar demox)
for file in $maven/*/1/*.pom $maven/ext/1/ext-1.jar; do printf %s "$(sha1sum $file | cut -d' ' -f1)" > $file.sha1; done
rm -rf pkg
"#;

#[test]
fn poetry_and_maven_install_from_scripted_upstreams() {
    let mut repo = TestRepo::empty();
    repo.write("README.md", "demo\n");
    repo.commit();
    repo.airlock(&["run", "--name", "make", "--image", IMAGE, "--review", "never", "--", "bash", "-euc", SERVE_MORE])
        .ok();
    repo.airlock(&["apply", "make", "--accept", "served/", "--allow-risky"]).ok();
    let server = serve_dir(repo.path.join("served"));
    // The names of example hosts are resolved by the user's proxy.
    repo.set("HTTP_PROXY", &server.url);
    repo.set("NO_PROXY", "127.0.0.1");
    repo.write(
        "pyproject.toml",
        "[project]\nname = \"demo\"\nversion = \"1.0\"\nrequires-python = \">=3.11\"\ndependencies = [\"demox\"]\n[[tool.poetry.source]]\nname = \"own\"\nurl = \"http://packages.example/simple/\"\npriority = \"primary\"\n[tool.poetry]\npackage-mode = false\n",
    );
    repo.write("pom.xml", "<project><modelVersion>4.0.0</modelVersion><parent><groupId>example</groupId><artifactId>parent</artifactId><version>1</version></parent><artifactId>demo</artifactId><packaging>pom</packaging><build><extensions><extension><groupId>example</groupId><artifactId>ext</artifactId><version>1</version></extension></extensions></build></project>\n");
    repo.commit();
    let home = repo.directory().join("home");
    std::fs::create_dir_all(home.join(".m2")).expect("made");
    let mirror = format!("<mirror><id>m</id><url>{}/maven</url><mirrorOf>*</mirrorOf></mirror>", server.url);
    std::fs::write(home.join(".m2/settings.xml"), format!("<settings><mirrors>{mirror}</mirrors></settings>"))
        .expect("written");

    // The index is one that the repository names, so the user is asked once.
    let poetry = "poetry config virtualenvs.in-project true; poetry install 2>&1; .venv/bin/python -c 'import demox; print(demox.ANSWER)'; grep -c 127.0.0.1 poetry.lock || true";
    let refused = run(&repo, "refused", poetry);
    assert_ne!(refused.status, 0);
    assert!(
        refused.stderr.contains("this repository asks to reach http://packages.example/simple/ (pypi); to allow it"),
        "{}",
        refused.stderr
    );
    assert!(refused.stdout.contains("Authorization error"), "{}", refused.stdout);
    let log = read_log(&repo, "refused");
    let is_refusal = |entry: &Value| entry["host"] == "packages.example" && entry["verdict"] == "denied";
    assert!(log.iter().any(is_refusal), "{log:?}");
    let mut terminal =
        Terminal::start(&repo, &["run", "--net", "packages", "--image", IMAGE, "--review", "never", "--", "true"]);
    terminal.shows("asks to reach http://packages.example/simple/ (pypi) from its sandboxes. Allow?");
    terminal.types("y\r");
    terminal.child.wait().expect("it ends");
    let ran = run(&repo, "poetry", poetry).ok();
    assert!(ran.stdout.ends_with("\n42\n0\n"), "{}", ran.stdout);

    let ran = run(&repo, "maven", "mvn -B validate 2>&1; ls ~/.m2/repository/example/ext/1").ok();
    assert!(ran.stdout.contains("BUILD SUCCESS") && ran.stdout.contains("ext-1.jar"), "{}", ran.stdout);
    let log = read_log(&repo, "maven");
    let is_jar = |entry: &Value| entry["path"].as_str().is_some_and(|path| path.ends_with("ext-1.jar"));
    assert!(log.iter().any(|entry| is_jar(entry) && entry["route"] == "maven"), "{log:?}");
}

/// Unpacks the published source of a project into a directory, without the archive's own top directory.
fn unpack_source(url: &str, target: &std::path::Path) {
    let script = format!("curl -sSfL '{url}' | tar xz --strip-components 1");
    let done = Command::new("bash").args(["-euo", "pipefail", "-c", &script]).current_dir(target).status();
    assert!(done.expect("bash runs").success(), "{url}");
}

fn fetch_json(url: &str) -> Value {
    let accept = "Accept: application/vnd.pypi.simple.v1+json, application/json;q=0.5, */*;q=0.1";
    let output = Command::new("curl").args(["-sSfL", "-H", accept, url]).output().expect("curl runs");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Reads the address that a file of the user's configuration has, without a slash at the end.
fn read_setting(repo: &TestRepo, path: &str, key: &str) -> String {
    let text = std::fs::read_to_string(repo.directory().join("home").join(path)).expect("written");
    let line = text.lines().find_map(|line| line.strip_prefix(key)).expect("set");
    line.trim_end_matches('/').to_owned()
}

/// Runs a command by Claude Code in the image that Airlock proposes for the project, and returns what it printed.
fn test_by_claude(repo: &mut TestRepo, command: &str) -> String {
    repo.set("AIRLOCK_IMAGE_BASE", IMAGE);
    repo.airlock(&["image", "build", "--project"]).ok();
    let input = serde_json::json!({"command": command, "description": "test", "timeout": 600_000});
    let (_runtime, model) = model(repo, vec![Step::Tool("Bash".into(), input), Step::Text("tested".into())]);
    let args = ["--review", "never", "claude", "-p", "run the tests", "--allowedTools", "Bash"];
    let ran = repo.airlock(&args).ok();
    assert!(ran.stdout.contains("tested"), "{} {}", ran.stdout, ran.stderr);
    // The results of the tool are in the last request.
    let last = model.seen().iter().rev().find(|request| request.body.contains("tool_result")).map(|r| r.body.clone());
    let body = last.expect("the tool has run");
    body[body.find("tool_result").expect("found")..].to_owned()
}

#[test]
fn projects_of_other_people_pass_their_own_tests() {
    let mut repo = create_repo();
    let index = tame_index::CRATES_IO_HTTP_INDEX.trim_start_matches("sparse+");
    let crates = fetch_json(&format!("{index}config.json"));
    unpack_source(&format!("{}/hexyl/0.16.0/download", crates["dl"].as_str().expect("a URL")), &repo.path);
    repo.commit();
    // The setup that fits its lock file is run once, and tests need no network then.
    repo.set("AIRLOCK_IMAGE_BASE", IMAGE);
    repo.airlock(&["image", "build", "--project"]).ok();
    let setup = repo.airlock(&["setup"]).ok();
    assert!(setup.stderr.contains("`cargo fetch --locked`"), "{}", setup.stderr);
    assert!(setup.stdout.starts_with("caches of the home ("), "{}", setup.stdout);
    let results = test_by_claude(
        &mut repo,
        "cargo test --offline --quiet 2>&1 | grep '^test result' | sort | uniq -c; git status --short",
    );
    assert!(results.contains("test result: ok. ") && !results.contains("FAILED"), "{results}");

    let mut repo = create_repo();
    let package = fetch_json(&format!("{}/minimist/1.2.8", read_setting(&repo, ".npmrc", "registry=")));
    unpack_source(package["dist"]["tarball"].as_str().expect("a URL"), &repo.path);
    repo.commit();
    let results = test_by_claude(
        &mut repo,
        "npm install 2>&1 | tail -n 2; npm run tests-only 2>&1 | grep -E '^# (tests|pass|fail)'",
    );
    assert!(results.contains("# pass ") && !results.contains("# fail "), "{results}");

    let mut repo = create_repo();
    let files = fetch_json(&format!("{}/pluggy/", read_setting(&repo, ".config/pip/pip.conf", "index-url = ")));
    let files = files["files"].as_array().expect("a list");
    let source = files.iter().find(|file| file["filename"] == "pluggy-1.5.0.tar.gz").expect("listed");
    unpack_source(source["url"].as_str().expect("a URL"), &repo.path);
    repo.commit();
    // setuptools-scm takes the version from the tag; without one, it would be 0.1.
    repo.git(&["tag", "-a", "1.5.0", "-m", "x"]);
    let results = test_by_claude(
        &mut repo,
        "python3 -m venv .venv && .venv/bin/pip install --quiet . pytest 2>&1; .venv/bin/pytest -q 2>&1 | tail -n 1; .venv/bin/pip show pluggy | grep Version",
    );
    assert!(results.contains(" passed in ") && results.contains("Version: 1.5.0"), "{results}");
}
