//! Agent images: what an image brings, and what Airlock builds.

use std::process::{Command, Stdio};

use sha2::{Digest as _, Sha256};

use crate::claude::model;
use crate::support::model::Step;
use crate::support::{CommandOutput, TestRepo, engine_lacks, is_podman};
use crate::terminal::Terminal;

/// Builds an image over the agent image, which a test removes again.
struct Image(&'static str);

impl Image {
    fn build(name: &'static str, dockerfile: &str) -> Self {
        use std::io::Write as _;
        let mut command = Command::new("docker");
        command.args(["build", "--quiet", "--network", "host", "--tag", name, "-"]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
        child.stdin.take().expect("piped").write_all(dockerfile.as_bytes()).expect("written");
        assert!(child.wait().expect("it ends").success(), "{dockerfile}");
        Self(name)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rmi", "--force", self.0]).output();
    }
}

/// Returns an archive with an empty image for another machine, as `docker save` writes it.
fn foreign_image(name: &str) -> Vec<u8> {
    let layer = [0; 1024];
    let id = Sha256::digest(layer).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let config = serde_json::json!({
        "architecture": "s390x", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{id}")]},
    });
    let manifest = serde_json::json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
    let mut tar = tar::Builder::new(Vec::new());
    let (config, manifest) = (config.to_string(), manifest.to_string());
    for (path, content) in
        [("config.json", config.as_bytes()), ("layer.tar", &layer), ("manifest.json", manifest.as_bytes())]
    {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, content).expect("added");
    }
    tar.into_inner().expect("complete")
}

/// A binary that stands for Claude Code where it does not run.
fn write_program(repo: &TestRepo) -> String {
    let path = repo.directory().join("claude");
    std::fs::write(&path, "#!/bin/sh\necho program\n").expect("written");
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn image_of_any_kind_runs_or_is_refused_with_its_reason() {
    if engine_lacks("host-network") {
        return;
    }
    let mut repo = TestRepo::new();
    let root = Image::build(
        "airlock-test-root:1",
        "FROM airlock-agent:latest\nUSER 0\nRUN mkdir -p /usr/local/cargo/bin && printf '#!/bin/sh\\necho tool\\n' > /usr/local/cargo/bin/tool && chmod +x /usr/local/cargo/bin/tool\nENV CARGO_HOME=/usr/local/cargo GEM_HOME=/usr/local/bundle PATH=/usr/local/cargo/bin:$PATH\nVOLUME /var/tmp /data\nWORKDIR /somewhere\nENTRYPOINT [\"/bin/false\"]\n",
    );
    repo.set("TERM", "xterm-kitty");
    repo.set("TZ", "America/Sao_Paulo");
    let script = "id -u; pwd; tool; echo $CARGO_HOME $GEM_HOME $GEM_PATH; touch /tmp/x /var/tmp/x /run/x /dev/shm/x /data/x; date +%z; env | grep -c AIRLOCK_ || true";
    let ran = repo.airlock(&["run", "--image", root.0, "--", "sh", "-euc", script]).ok();
    let workspace = repo.path.display();
    assert_eq!(
        ran.stdout,
        format!("1000\n{workspace}\ntool\n/home/agent/.cargo /home/agent/.gem /usr/local/bundle:\n-0300\n0\n")
    );
    assert!(ran.stderr.contains("the entrypoint of airlock-test-root:1 is not run"), "{}", ran.stderr);
    // The image knows this terminal, and not that one.
    let mut terminal = Terminal::start(&repo, &["run", "--image", root.0, "--", "sh", "-c", "echo \"<$TERM>\""]);
    terminal.shows("<xterm-256color>");
    terminal.child.wait().expect("it ends");

    let claude = write_program(&repo);
    let build = |base: &str, more: &[&str]| {
        let args = ["image", "build", "--base", base, "--claude", &claude, "--name", "airlock-test-built:1"];
        repo.airlock(&[&args, more].concat())
    };
    let on_build = Image::build("airlock-test-onbuild:1", "FROM airlock-agent:latest\nONBUILD COPY . /app\n");
    let built = build(on_build.0, &[]);
    if is_podman() {
        // Its images have no such instructions.
        built.ok();
    } else {
        built.expect_failure(1, &["ONBUILD COPY . /app", "expect a project's files"]);
    }
    let bare = Image::build(
        "airlock-test-bare:1",
        "FROM airlock-agent:latest AS all\nFROM scratch\nCOPY --from=all /etc/hostname /x\n",
    );
    build(bare.0, &[]).expect_failure(1, &["the base has no shell"]);
    let without_git = Image::build(
        "airlock-test-nogit:1",
        "FROM airlock-agent:latest\nUSER 0\nRUN rm /usr/bin/git /usr/bin/apt-get /usr/bin/rg\n",
    );
    build(without_git.0, &["--with", "zstd"]).expect_failure(1, &["packages cannot be installed on Debian"]);
    build(without_git.0, &[]).ok();
    let ran = repo.airlock(&[
        "run",
        "--image",
        "airlock-test-built:1",
        "--",
        "sh",
        "-c",
        "claude; command -v git || echo none",
    ]);
    assert_eq!(ran.ok().stdout, "program\nnone\n");
    let _built = Image("airlock-test-built:1");

    // An image for another machine.
    let foreign = Image("airlock-test-foreign:1");
    let archive = repo.directory().join("foreign.tar");
    std::fs::write(&archive, foreign_image(foreign.0)).expect("written");
    let load = repo.command("docker", &["load", "--input", archive.to_str().expect("UTF-8")]);
    CommandOutput::from_command(load).ok();
    repo.airlock(&["run", "--image", foreign.0, "--", "true"])
        .expect_failure(125, &["airlock-test-foreign:1", "is for s390x, but the engine runs on"]);
    build(foreign.0, &[]).expect_failure(1, &["is for s390x"]);
    repo.airlock(&["image", "build", "--with", "a;b"]).expect_failure(2, &["--with: a;b is not the name of a package"]);
    repo.airlock(&["image", "build", "--claude", "./none"]).expect_failure(2, &["--claude: ./none is not a file"]);
}

#[test]
fn home_of_the_image_is_brought_along() {
    if engine_lacks("host-network") {
        return;
    }
    let repo = TestRepo::new();
    let image = Image::build(
        "airlock-test-home:1",
        r"FROM airlock-agent:latest
USER 0
RUN sed -i 's|^\([^:]*:[^:]*:1000:[^:]*:[^:]*:\)[^:]*|\1/home/dev|' /etc/passwd && mkdir -p /home/dev/.config/tool /home/dev/.local/bin /home/dev/sdk && cd /home/dev && echo rc > .toolrc && echo x > .config/tool/x && ln -s .toolrc link && echo own > .claude.json && printf '#!/bin/sh\necho tool\n' > .local/bin/tool && chmod +x .local/bin/tool && head -c 20m /dev/zero > sdk/big && chown -R 1000:1000 /home/dev
",
    );
    let look = "cd; cat .toolrc link .config/tool/x; ~/.local/bin/tool; readlink .local/bin/claude sdk; stat -c %s sdk/big; grep -c own .claude.json || true; echo more >> .toolrc; rm .config/tool/x";
    let expected = "rc\nrc\nx\ntool\n/usr/local/bin/claude\n/home/dev/sdk\n20971520\n0\n";
    let ran = repo
        .airlock(&["--keep", "run", "--name", "w", "--image", image.0, "--review", "never", "--", "sh", "-euc", look]);
    assert_eq!(ran.ok().stdout, expected);
    let unchanged = repo.airlock(&["run", "--image", image.0, "--", "cat", "/home/agent/.toolrc"]).ok();
    assert!(unchanged.stderr.contains("changed nothing, so it is removed"), "{}", unchanged.stderr);
    // What was changed or removed stays so.
    let resumed =
        repo.airlock(&["resume", "w", "--review", "never", "--", "sh", "-c", "cat ~/.toolrc; ls ~/.config/tool"]);
    assert_eq!(resumed.ok().stdout, "rc\nmore\n");

    // In an image that Airlock builds, the list of users has the agent's home, where programs may write.
    let (claude, built) = (write_program(&repo), Image("airlock-test-home-built:1"));
    repo.airlock(&["image", "build", "--base", image.0, "--claude", &claude, "--name", built.0]).ok();
    let ran = repo.airlock(&[
        "run",
        "--image",
        built.0,
        "--",
        "sh",
        "-euc",
        &format!("getent passwd 1000 | cut -d: -f6; {look}"),
    ]);
    assert_eq!(ran.ok().stdout, format!("/home/agent\n{expected}"));
}

#[test]
fn image_follows_the_configuration() {
    if engine_lacks("host-network") {
        return;
    }
    let mut repo = TestRepo::new();
    let default = repo.airlock(&["run", "--", "sh", "-c", "test ! -e /etc/airlock-test-base"]).ok();
    assert!(!default.stderr.contains("building"), "{}", default.stderr);
    // Another base at each run of the test, because the image that is built from it stays for all repositories.
    let name: &'static str = format!("airlock-test-base:{}", std::process::id()).leak();
    let base = Image::build(name, "FROM airlock-agent:latest\nUSER 0\nRUN touch /etc/airlock-test-base\n");
    repo.set("AIRLOCK_IMAGE_BASE", base.0);
    let built = repo.airlock(&["run", "--", "cat", "/etc/airlock-test-base"]).ok();
    assert!(built.stderr.contains(&format!("building an agent image from {name}")), "{}", built.stderr);
    let image = built.stderr.split("built ").nth(1).and_then(|rest| rest.split(' ').next()).expect("named").to_owned();
    let _built = Image(image.leak());
    let again = repo.airlock(&["run", "--", "cat", "/etc/airlock-test-base"]).ok();
    assert!(!again.stderr.contains("building"), "{}", again.stderr);
}

#[test]
fn image_is_built_with_packages_and_again() {
    if engine_lacks("host-network") {
        return;
    }
    let repo = TestRepo::new();
    let claude = write_program(&repo);
    let image = Image("airlock-test-with:1");
    let args = [
        "image",
        "build",
        "--base",
        "airlock-agent:latest",
        "--with",
        "zstd,xz-utils",
        "--claude",
        &claude,
        "--name",
        image.0,
    ];
    let built = repo.airlock(&args).ok();
    assert!(
        built.stderr.contains("built airlock-test-with:1 (") && !built.stderr.contains("LABEL"),
        "{}",
        built.stderr
    );
    let version = |repo: &TestRepo| {
        repo.airlock(&[
            "run",
            "--image",
            image.0,
            "--",
            "sh",
            "-c",
            "zstd --version | cut -c1-8; xz --version | head -n 1 | cut -c1-2; claude",
        ])
        .ok()
        .stdout
    };
    assert_eq!(version(&repo), "*** Zsta\nxz\nprogram\n");
    // An update takes the recipe from the image, and leaves nothing without a name.
    std::fs::write(&claude, "#!/bin/sh\necho newer\n").expect("written");
    repo.airlock(&["image", "update", image.0]).ok();
    assert_eq!(version(&repo), "*** Zsta\nxz\nnewer\n");
    let stages = repo.command("docker", &["images", "--quiet", "--filter", "label=dev.airlock.image=stage"]);
    assert_eq!(CommandOutput::from_command(stages).ok().stdout, "");
    repo.airlock(&["image", "update", "other:1"]).expect_failure(1, &["no agent image of Airlock is named `other:1`"]);
    std::fs::remove_file(&claude).expect("removed");
    let skipped = repo.airlock(&["image", "update", image.0]).ok();
    assert!(skipped.stderr.contains("is not built again: the files"), "{}", skipped.stderr);
}

#[test]
fn project_gets_an_image_for_its_files_once() {
    if engine_lacks("host-network") {
        return;
    }
    let mut repo = TestRepo::empty();
    repo.write("Cargo.toml", "[package]\nname = \"demo\"\nversion = \"0.1.0\"\nedition = \"2021\"\n");
    repo.write("src/lib.rs", "#[test]\nfn works() {}\n");
    repo.write(".gitignore", "target\n");
    repo.commit();
    repo.set("AIRLOCK_IMAGE_BASE", "airlock-clients:latest");
    repo.set("ANTHROPIC_API_KEY", "sk-ant-api03-test");
    let mut terminal = Terminal::start(&repo, &["run", "--review", "never", "--", "cargo", "test", "--offline"]);
    terminal.shows("This repository has Cargo.toml. Build an agent image with cargo, gcc, libc6-dev, pkg-config, rustc for it (n: use the general image)? [Y/n]");
    terminal.types("\r");
    terminal.shows("test works ... ok");
    terminal.child.wait().expect("it ends");
    // The answer holds, and the image exists.
    let again =
        repo.airlock(&["run", "--review", "never", "--", "sh", "-c", "cargo --version; command -v pkg-config"]).ok();
    assert!(
        again.stdout.starts_with("cargo 1.") && !again.stderr.contains("building"),
        "{} {}",
        again.stdout,
        again.stderr
    );
    let images = repo.airlock(&["image", "ls", "--json"]).ok().stdout;
    assert!(images.contains("\"airlock-agent:"), "{images}");

    // Other files are another question, which is not asked without a terminal.
    repo.write("package.json", "{}\n");
    repo.commit();
    let (_runtime, _model) = model(&mut repo, vec![Step::Text("x".into())]);
    let mentioned = repo.airlock(&["claude", "-p", "x"]);
    assert!(
        mentioned
            .stderr
            .contains("this repository has Cargo.toml and package.json; `airlock image build --project` builds"),
        "{}",
        mentioned.stderr
    );
    let mut terminal = Terminal::start(&repo, &["run", "--", "true"]);
    terminal.shows("has Cargo.toml and package.json");
    terminal.types("n\r");
    terminal.child.wait().expect("it ends");
    assert!(!repo.airlock(&["claude", "-p", "x"]).stderr.contains("--project"));
    repo.airlock(&["image", "build", "--project"]).ok();
    let ran = repo.airlock(&["run", "--", "npm", "--version"]).ok();
    assert!(!ran.stdout.is_empty());
}

#[test]
fn devcontainer_is_built_from_the_commit() {
    if engine_lacks("build-network") {
        return;
    }
    let mut repo = TestRepo::new();
    let devcontainer = r#"{
        // A comment, and a comma at the end.
        "build": {"dockerfile": "Dockerfile", "args": {"MARK": "from-args"}},
        "features": {"registry.example/features/github-cli:1": {}},
        "containerEnv": {"FROM_JSON": "yes"},
        "mounts": ["source=/,target=/host,type=bind"],
        "remoteUser": "root",
    }"#;
    repo.write(".devcontainer/devcontainer.json", devcontainer);
    repo.write(
        ".devcontainer/Dockerfile",
        "FROM airlock-agent:latest\nUSER 0\nARG MARK\nENV MARK=$MARK\nCOPY data /data.txt\n",
    );
    repo.write(".devcontainer/data", "committed\n");
    repo.commit();
    repo.write(".devcontainer/Dockerfile", "FROM airlock-agent:latest\nRUN false\n");
    repo.write(".devcontainer/data", "edited\n");
    // Without an answer it is not used.
    let script = "echo $MARK; cat /data.txt 2>/dev/null || echo none; id -u; echo $FROM_JSON";
    let args = ["run", "--", "sh", "-c", script];
    assert_eq!(repo.airlock(&args).ok().stdout, "\nnone\n1000\n\n");
    let built = repo.airlock(&["image", "build", "--project"]).ok();
    assert!(
        built.stderr.contains(
            ".devcontainer/devcontainer.json: not supported: feature registry.example/features/github-cli:1, mounts"
        ),
        "{}",
        built.stderr
    );
    assert_eq!(repo.airlock(&args).ok().stdout, "from-args\ncommitted\n1000\nyes\n");
    // Other content of the Dockerfile's directory is another question.
    repo.git(&["checkout", "-q", "."]);
    repo.write(".devcontainer/data", "another\n");
    repo.commit();
    assert_eq!(repo.airlock(&args).ok().stdout, "\nnone\n1000\n\n");
    // The user's own image takes precedence, and so does a Dockerfile that the user names.
    assert_eq!(
        repo.airlock(&["run", "--image", "airlock-agent:latest", "--", "sh", "-c", "echo $MARK"]).ok().stdout,
        "\n"
    );
    repo.set("AIRLOCK_DOCKERFILE", "none/Dockerfile");
    repo.airlock(&args)
        .expect_failure(125, &["none/Dockerfile does not exist in the commit", "Dockerfiles are taken from HEAD"]);
    repo.set("AIRLOCK_DOCKERFILE", "");
    repo.write(".devcontainer/devcontainer.json", "{\"image\": ");
    repo.commit();
    repo.airlock(&args).expect_failure(125, &[".devcontainer/devcontainer.json is invalid", "correct and commit it"]);
}

#[test]
fn failed_build_shows_the_last_output() {
    if engine_lacks("build-network") {
        return;
    }
    let mut repo = TestRepo::new();
    repo.write(
        "image/Dockerfile",
        "FROM airlock-agent:latest\nUSER 0\nRUN echo first-step\nRUN printf 'one\\ntwo\\033[31m\\nno-end'; exit 3\n",
    );
    repo.commit();
    repo.set("AIRLOCK_DOCKERFILE", "image/Dockerfile");
    let failed = repo.airlock(&["run", "--", "true"]);
    let shown = failed.expect_failure(125, &["failed to build the image", "one\n", "two", "no-end"]).stderr;
    assert!(!shown.contains('\u{1b}'), "{shown}");
    // What was built by then is no image.
    repo.airlock(&["run", "--", "true"]).expect_failure(125, &["failed to build the image"]);
}
