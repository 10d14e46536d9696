//! Real Claude Code in the sandbox, against the scripted model server.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::symlink;
use std::process::Stdio;

use airlock::base::{REPOSITORY_LABEL, repository_id};
use bollard::query_parameters::{InspectContainerOptions, ListContainersOptions};
use insta::assert_snapshot;
use serde_json::json;

use crate::support::model::{ScriptedModel, Step};
use crate::support::{AIRLOCK, CommandOutput, TestRepo, engine_socket, is_podman};

/// The capabilities of a container that drops none.
const PODMAN_CAPABILITIES: [&str; 11] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// The credential that must not be in any container.
const KEY: &str = "sk-ant-api03-the-real-key-that-never-enters";

fn tool_step(name: &str, input: serde_json::Value) -> Step {
    Step::Tool(name.into(), input)
}

/// Returns a script of the model that edits files of this repository with three tools.
pub fn greeting(repo: &TestRepo) -> Vec<Step> {
    let at = |path: &str| repo.path.join(path).to_str().expect("UTF-8").to_owned();
    vec![
        tool_step("Read", json!({"file_path": at("a.txt")})),
        tool_step("Edit", json!({"file_path": at("a.txt"), "old_string": "two", "new_string": "hello"})),
        tool_step("Write", json!({"file_path": at("dir/new.txt"), "content": "a greeting\n"})),
        tool_step("Bash", json!({"command": "cp a.txt copy.txt && rm c.txt", "description": "Copy"})),
        Step::Text("A greeting is in.".into()),
    ]
}

/// Starts a scripted model server in a new runtime, and sets its address and the key in the repository's environment.
pub fn model(repo: &mut TestRepo, script: Vec<Step>) -> (tokio::runtime::Runtime, ScriptedModel) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let model = runtime.block_on(ScriptedModel::start(script));
    repo.set("ANTHROPIC_BASE_URL", format!("http://{}", model.address));
    repo.set("ANTHROPIC_API_KEY", KEY);
    (runtime, model)
}

fn expected_edits() -> Vec<(String, String)> {
    [("a.txt", "modified"), ("c.txt", "deleted"), ("copy.txt", "added"), ("dir/new.txt", "added")]
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .into()
}

#[test]
fn claude_edits_in_sandbox_with_real_key_outside() {
    let mut repo = TestRepo::new();
    let script = greeting(&repo);
    let (_runtime, model) = model(&mut repo, script);
    let before = repo.read_tree();
    let args = ["--name", "c1", "claude", "-p", "add a greeting", "--permission-mode", "acceptEdits"];
    let ran = repo.airlock(&args).ok();
    assert_eq!(ran.stdout, "A greeting is in.\n", "Airlock writes nothing to stdout");
    assert_eq!(repo.read_tree(), before);
    assert_eq!(repo.changes("c1"), expected_edits());
    let seen = model.seen();
    let has_read = |words: &str| seen.iter().any(|s| s.what == "POST /v1/messages" && s.body.contains(words));
    assert!(has_read("# About this workspace") && has_read("no uncommitted changes"), "Claude knows what is missing");
    assert!(seen.iter().filter(|s| s.what == "POST /v1/messages").count() >= 5, "{}", seen.len());
    for request in &seen {
        assert!(request.credentials.iter().all(|c| c == KEY), "{}: {:?}", request.what, request.credentials);
    }
    assert!(seen.iter().any(|s| !s.credentials.is_empty()));
}

#[test]
fn symlink_named_claude_runs_claude() {
    let mut repo = TestRepo::new();
    let script = greeting(&repo);
    let (_runtime, _model) = model(&mut repo, script);
    let bin = tempfile::tempdir().expect("a folder");
    let link = bin.path().join("claude");
    symlink(AIRLOCK, &link).expect("made");
    let ran =
        CommandOutput::from_command(repo.command(&link, &["-p", "add a greeting", "--permission-mode", "acceptEdits"]))
            .ok();
    assert_eq!(ran.stdout, "A greeting is in.\n");
    let list: serde_json::Value = serde_json::from_str(&repo.airlock(&["ls", "--json"]).ok().stdout).expect("JSON");
    let name = list["sandboxes"][0]["name"].as_str().expect("a name");
    assert_eq!(repo.changes(name), expected_edits());
    assert!(CommandOutput::from_command(repo.command(&link, &["--version"])).ok().stdout.contains("Claude Code"));
}

#[test]
fn credentials_reach_server_unless_expired() {
    let mut repo = TestRepo::new();
    let (_runtime, model) = model(&mut repo, vec![Step::Text("hi".into())]);
    repo.unset("ANTHROPIC_API_KEY");
    let login = |expires: u64| {
        json!({"claudeAiOauth": {"accessToken": "sk-ant-oat01-from-the-file", "expiresAt": expires}}).to_string()
    };
    let folder = repo.directory().join("login");
    std::fs::create_dir_all(&folder).expect("made");
    std::fs::write(folder.join(".credentials.json"), login(4_102_444_800_000)).expect("written");
    let kinds = [
        ("ANTHROPIC_AUTH_TOKEN", "a-real-token", "Bearer a-real-token"),
        ("CLAUDE_CODE_OAUTH_TOKEN", "sk-ant-oat01-real", "Bearer sk-ant-oat01-real"),
        ("CLAUDE_CONFIG_DIR", folder.to_str().expect("UTF-8"), "Bearer sk-ant-oat01-from-the-file"),
    ];
    for (variable, value, header) in kinds {
        repo.set(variable, value);
        let before = model.seen().len();
        assert_eq!(repo.airlock(&["claude", "-p", "hello"]).ok().stdout, "hi\n", "{variable}");
        let sent: Vec<String> = model.seen()[before..].iter().flat_map(|s| s.credentials.clone()).collect();
        assert!(!sent.is_empty() && sent.iter().all(|c| c == header), "{variable}: {sent:?}");
        repo.unset(variable);
    }
    repo.set("CLAUDE_CONFIG_DIR", folder.to_str().expect("UTF-8"));
    std::fs::write(folder.join(".credentials.json"), login(1)).expect("written");
    repo.put_claude_on_path();
    assert_snapshot!(repo.airlock(&["claude", "-p", "hello"]), @"
    status: 125
    ----- stderr -----
    error: Claude Code's login in [TMP]/login/.credentials.json has expired
    hint: to renew it, run `claude` outside the sandbox, then /login; or set CLAUDE_CODE_OAUTH_TOKEN from `claude setup-token`
    ");
    // If the first `claude` in PATH is Airlock, the hint names the next one.
    let link = repo.directory().join("link");
    std::fs::create_dir_all(&link).expect("made");
    symlink(AIRLOCK, link.join("claude")).expect("made");
    let path = repo.environment().into_iter().rfind(|(name, _)| name == "PATH").expect("set").1;
    repo.set("PATH", format!("{}:{path}", link.display()));
    assert_snapshot!(repo.airlock(&["claude", "-p", "hello"]), @"
    status: 125
    ----- stderr -----
    error: Claude Code's login in [TMP]/login/.credentials.json has expired
    hint: to renew it, run `[TMP]/programs/claude` outside the sandbox, then /login; or set CLAUDE_CODE_OAUTH_TOKEN from `[TMP]/programs/claude setup-token`
    ");
}

/// Searches everything that an agent can read: environments and arguments of every process, and the whole file system.
#[test]
fn key_is_absent_from_containers() {
    let mut repo = TestRepo::new();
    let (_runtime, model) = model(&mut repo, vec![Step::Text("hi".into())]);
    let script = "curl -s -o /dev/null -w '%{http_code}\\n' -X POST -H 'x-api-key: foreign' -d '{}' $ANTHROPIC_BASE_URL/v1/messages; \
                  curl -s -o /dev/null -w '%{http_code}\\n' $ANTHROPIC_BASE_URL/v1/files; \
                  echo $ANTHROPIC_API_KEY; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'; \
                  grep -rIl 'the-re''al-key' / --exclude-dir=proc --exclude-dir=sys 2>/dev/null; echo ready; cat";
    let mut command = repo.command(AIRLOCK, &["run", "--net", "model", "--", "sh", "-c", script]);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it runs");
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut text = String::new();
    while !text.ends_with("ready\n") {
        assert_ne!(out.read_line(&mut text).expect("UTF-8"), 0, "it ended early: {text}");
    }
    assert!(text.starts_with("200\n403\nsk-ant-api03-airlock-placeholder"), "{text}");
    assert!(!text.contains("the-real-key"), "{text}");

    // The engine's data about both running containers.
    let id = repository_id(&repo.path.join(".git")).expect("an identity");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let inspected = runtime.block_on(async {
        let socket = engine_socket();
        let socket = socket.to_str().expect("UTF-8");
        let docker = bollard::Docker::connect_with_unix(socket, 60, bollard::API_DEFAULT_VERSION).expect("an address");
        let filters = HashMap::from([("label".to_owned(), vec![format!("{REPOSITORY_LABEL}={id}")])]);
        let options = ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
        let mut all = Vec::new();
        for container in docker.list_containers(Some(options)).await.expect("listed") {
            let id = container.id.expect("an id");
            all.push(docker.inspect_container(&id, None::<InspectContainerOptions>).await.expect("inspected"));
        }
        all
    });
    assert_eq!(inspected.len(), 2, "a sidecar and an agent");
    for container in &inspected {
        assert!(!serde_json::to_string(container).expect("JSON").contains("the-real-key"));
        let host = container.host_config.as_ref().expect("it has one");
        // Podman lists what it dropped of the capabilities that a container has by default.
        let all: &[&str] = if is_podman() { &PODMAN_CAPABILITIES } else { &["ALL"] };
        assert_eq!(host.cap_drop.clone().unwrap_or_default(), all);
        assert!(host.cap_add.iter().flatten().all(|added| added.contains("DAC_READ_SEARCH")), "{:?}", host.cap_add);
        assert_eq!((host.readonly_rootfs, host.privileged), (Some(true), Some(false)));
        // Podman lists volumes here; a path would begin with a slash.
        let listed = host.binds.iter().flatten().filter(|bind| !is_podman() || !bind.starts_with("airlock-"));
        assert_eq!(listed.count(), 0, "{:?}", host.binds);
        assert_eq!(host.log_config.as_ref().and_then(|l| l.typ.clone()), Some("none".into()));
        let network = host.network_mode.as_deref().expect("it is set");
        assert!(network == "none" || network.starts_with("container:"), "{network}");
    }
    child.stdin.take().expect("a pipe").write_all(b"").expect("closed");
    let mut err = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut err).expect("UTF-8");
    assert!(child.wait().expect("it ends").success());
    assert!(err.contains("GET /v1/files"), "the refused request is reported: {err}");
    let seen = model.seen();
    assert_eq!(seen.len(), 1, "the refused request never left");
    assert_eq!(seen[0].credentials, [KEY], "a foreign key is replaced");
    let state = std::process::Command::new("grep").args(["-r", "the-real-key"]).arg(repo.path.join(".git")).output();
    assert!(state.expect("grep runs").stdout.is_empty(), "the key is not in the record");
}
