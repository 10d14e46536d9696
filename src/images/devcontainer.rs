//! Reads a repository's `devcontainer.json`: the image or Dockerfile, the environment and the setup commands. Everything
//! else is named as not supported.

use std::collections::BTreeMap;

use jsonc_parser::ParseOptions;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The places of the file, as the specification lists them.
pub const DEVCONTAINER_FILES: [&str; 2] = [".devcontainer/devcontainer.json", ".devcontainer.json"];

/// The parts of a `devcontainer.json` that are used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Devcontainer {
    pub source: Option<DevcontainerSource>,
    /// Variables for the agent.
    pub env: BTreeMap<String, String>,
    /// Commands that prepare the workspace, in order.
    pub setup: Vec<String>,
    /// Parts that have no effect, by name.
    pub unsupported: Vec<String>,
}

/// The source of the image of a devcontainer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DevcontainerSource {
    Image(String),
    Dockerfile(DockerfileSource),
}

/// A Dockerfile of the repository. Paths are relative to its root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DockerfileSource {
    pub dockerfile: String,
    /// The directory that the build gets.
    pub context: String,
    pub args: BTreeMap<String, String>,
    pub target: Option<String>,
}

/// Keys that have no meaning in a sandbox, or only for an editor.
const IGNORED: [&str; 13] = [
    "$schema",
    "name",
    "remoteUser",
    "containerUser",
    "updateRemoteUserUID",
    "workspaceFolder",
    "workspaceMount",
    "customizations",
    "forwardPorts",
    "portsAttributes",
    "otherPortsAttributes",
    "shutdownAction",
    "waitFor",
];
/// Commands that prepare a workspace, in the order in which they run.
const SETUP: [&str; 3] = ["onCreateCommand", "updateContentCommand", "postCreateCommand"];

impl Devcontainer {
    /// Parses a file. `path` is its place in the repository.
    ///
    /// # Errors
    /// It is not JSON with comments, or not an object.
    pub fn parse(path: &str, text: &str) -> Result<Self, String> {
        let value: Value =
            jsonc_parser::parse_to_serde_value(text, &ParseOptions::default()).map_err(|error| error.to_string())?;
        let Value::Object(mut fields) = value else { return Err("it is not an object".into()) };
        let mut found = Self::default();
        let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        if let Some(image) = fields.remove("image").as_ref().and_then(text) {
            found.source = Some(DevcontainerSource::Image(image));
        }
        if let Some(build) = fields.remove("build") {
            found.read_build(&build, dir);
        }
        // The older spelling.
        if let Some(dockerfile) = fields.remove("dockerFile").as_ref().and_then(text) {
            let context = fields.remove("context").as_ref().and_then(text).unwrap_or_else(|| ".".into());
            found.set_dockerfile(dir, &dockerfile, &context, BTreeMap::new(), None);
        }
        for key in ["containerEnv", "remoteEnv"] {
            for (name, value) in fields.remove(key).as_ref().and_then(Value::as_object).into_iter().flatten() {
                match text(value).filter(|value| !value.contains("${")) {
                    Some(value) => drop(found.env.insert(name.clone(), value)),
                    // Variables of the host do not go into a sandbox.
                    None => found.unsupported.push(format!("{key}.{name}")),
                }
            }
        }
        for key in SETUP {
            if let Some(command) = fields.remove(key) {
                found.setup.extend(list_commands(&command));
            }
        }
        found.unsupported.extend(list_features(&fields));
        fields.remove("features");
        found.unsupported.extend(fields.keys().filter(|key| !IGNORED.contains(&key.as_str())).cloned());
        Ok(found)
    }

    fn read_build(&mut self, build: &Value, dir: &str) {
        let field = |name: &str| build.get(name).and_then(Value::as_str);
        let args = build.get("args").and_then(Value::as_object).into_iter().flatten();
        let plain = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
            _ => None,
        };
        let args = args.filter_map(|(name, value)| Some((name.clone(), plain(value)?))).collect();
        if let Some(dockerfile) = field("dockerfile").or_else(|| field("dockerFile")) {
            let target = field("target").map(str::to_owned);
            self.set_dockerfile(dir, dockerfile, field("context").unwrap_or("."), args, target);
        }
        let known = ["dockerfile", "dockerFile", "context", "args", "target"];
        let others = build.as_object().into_iter().flat_map(Map::keys).filter(|key| !known.contains(&key.as_str()));
        self.unsupported.extend(others.map(|key| format!("build.{key}")));
    }

    fn set_dockerfile(
        &mut self,
        dir: &str,
        dockerfile: &str,
        context: &str,
        args: BTreeMap<String, String>,
        target: Option<String>,
    ) {
        match (join_path(dir, dockerfile), join_path(dir, context)) {
            (Some(dockerfile), Some(context)) => {
                let source = DockerfileSource { dockerfile, context, args, target };
                self.source = Some(DevcontainerSource::Dockerfile(source));
            }
            _ => self.unsupported.push("build (a path outside the repository)".into()),
        }
    }
}

/// Joins a path to a directory of the repository; `None` if it leads out of the repository.
fn join_path(dir: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = dir.split('/').filter(|part| !part.is_empty()).collect();
    if path.starts_with('/') {
        return None;
    }
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Lists the commands of a lifecycle script: a shell command, words, or an object of named ones.
fn list_commands(value: &Value) -> Vec<String> {
    match value {
        Value::String(command) => vec![command.clone()],
        Value::Array(words) => {
            let words = words.iter().filter_map(Value::as_str);
            vec![words.map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect::<Vec<_>>().join(" ")]
        }
        Value::Object(named) => named.values().flat_map(list_commands).collect(),
        _ => Vec::new(),
    }
}

fn list_features(fields: &Map<String, Value>) -> Vec<String> {
    let features = fields.get("features").and_then(Value::as_object).into_iter().flat_map(Map::keys);
    features.map(|name| format!("feature {name}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = r#"// For format details, see the documentation.
{
    "name": "Node.js & TypeScript",
    "image": "registry.example/devcontainers/typescript-node:22",
    "features": { "registry.example/devcontainers/features/github-cli:1": {}, },
    "customizations": { "vscode": { "extensions": ["a.b"] } },
    "forwardPorts": [3000],
    /* prepares the workspace */
    "postCreateCommand": "npm ci",
    "remoteUser": "node",
}"#;

    #[test]
    fn image_and_setup_are_used_and_the_rest_is_named() {
        let found = Devcontainer::parse(".devcontainer/devcontainer.json", NODE).expect("valid");
        let image = "registry.example/devcontainers/typescript-node:22";
        assert_eq!(found.source, Some(DevcontainerSource::Image(image.into())));
        assert_eq!(found.setup, ["npm ci"]);
        assert_eq!(found.unsupported, ["feature registry.example/devcontainers/features/github-cli:1"]);
    }

    #[test]
    fn dockerfile_is_relative_to_the_file() {
        let text = r#"{"build": {"dockerfile": "Dockerfile", "context": "..", "args": {"VARIANT": "3.12", "NODE": 22, "DOCS": true}, "target": "dev", "cacheFrom": "x"},
            "runArgs": ["--cap-add=SYS_PTRACE"], "mounts": ["source=/var/run/docker.sock"], "privileged": true,
            "containerEnv": {"A": "b", "HOST": "${localEnv:HOME}"}, "onCreateCommand": ["pip", "install", "it's"],
            "postCreateCommand": {"one": "make a", "two": "make b"}, "postStartCommand": "serve"}"#;
        let found = Devcontainer::parse(".devcontainer/devcontainer.json", text).expect("valid");
        let Some(DevcontainerSource::Dockerfile(source)) = &found.source else { panic!("{found:?}") };
        assert_eq!((source.dockerfile.as_str(), source.context.as_str()), (".devcontainer/Dockerfile", ""));
        assert_eq!((source.args["VARIANT"].as_str(), source.target.as_deref()), ("3.12", Some("dev")));
        assert_eq!((source.args["NODE"].as_str(), source.args["DOCS"].as_str()), ("22", "true"));
        assert_eq!(found.env, BTreeMap::from([("A".to_owned(), "b".to_owned())]));
        assert_eq!(found.setup, [r"'pip' 'install' 'it'\''s'", "make a", "make b"]);
        assert_eq!(
            found.unsupported,
            ["build.cacheFrom", "containerEnv.HOST", "mounts", "postStartCommand", "privileged", "runArgs"]
        );
    }

    /// Files in the shape of public repositories, each with what is used and what is named as not supported.
    #[test]
    fn shapes_of_public_repositories_are_read() {
        let path = ".devcontainer/devcontainer.json";
        let source = |found: &Devcontainer| match &found.source {
            Some(DevcontainerSource::Image(name)) => name.clone(),
            Some(DevcontainerSource::Dockerfile(source)) => format!("{} in {:?}", source.dockerfile, source.context),
            None => "none".into(),
        };
        let cases = [
            // A compiler in TypeScript.
            (
                r#"{"name": "TS", "image": "registry.example/devcontainers/typescript-node:20-bookworm",
                    "features": {"registry.example/features/github-cli": {}, "registry.example/features/hereby:1": {}},
                    "onCreateCommand": "npm ci --force", "customizations": {"vscode": {"extensions": ["a.b"]}}}"#,
                ("registry.example/devcontainers/typescript-node:20-bookworm", vec!["npm ci --force"]),
                vec!["feature registry.example/features/github-cli", "feature registry.example/features/hereby:1"],
            ),
            // An editor: a Dockerfile beside the file, a large shared memory, a desktop.
            (
                r#"{"name": "OSS", "build": {"dockerfile": "Dockerfile"}, "overrideCommand": false, "privileged": true,
                    "mounts": [{"source": "dev", "target": "/vscode-dev", "type": "volume"}],
                    "postCreateCommand": "./.devcontainer/install-vscode.sh", "hostRequirements": {"memory": "9gb"},
                    "remoteEnv": {"VSCODE_DEV": "1"}, "runArgs": ["--shm-size=1g"], "forwardPorts": [6080]}"#,
                (".devcontainer/Dockerfile in \".devcontainer\"", vec!["./.devcontainer/install-vscode.sh"]),
                vec!["hostRequirements", "mounts", "overrideCommand", "privileged", "runArgs"],
            ),
            // A web framework with a database beside it.
            (
                r#"{"name": "Framework", "dockerComposeFile": "compose.yaml", "service": "rails", "workspaceFolder": "/workspaces/x",
                    "postCreateCommand": ".devcontainer/boot.sh", "containerEnv": {"EDITOR": "code --wait"},
                    "features": {"registry.example/rails/devcontainer/features/activestorage": {}}}"#,
                ("none", vec![".devcontainer/boot.sh"]),
                vec![
                    "feature registry.example/rails/devcontainer/features/activestorage",
                    "dockerComposeFile",
                    "service",
                ],
            ),
            // A container engine in Go: the repository's own Dockerfile at its root, with a stage.
            (
                r#"{"name": "engine", "build": {"context": "..", "dockerfile": "../Dockerfile", "target": "devcontainer"},
                    "workspaceFolder": "/go/src/x", "workspaceMount": "source=${localWorkspaceFolder},target=/go/src/x,type=bind",
                    "remoteUser": "root", "runArgs": ["--privileged"], "mounts": ["type=volume,target=/var/lib/docker"]}"#,
                ("Dockerfile in \"\"", vec![]),
                vec!["mounts", "runArgs"],
            ),
            // A language implementation in Python: commands by name, a variable of the host.
            (
                r#"{"image": "registry.example/python/devcontainer:2025.05", "onCreateCommand": ["cp", "-r", "a", "b"],
                    "updateContentCommand": {"build": "make -j", "regen": "make regen-all"},
                    "postStartCommand": "git status", "containerEnv": {"TOKEN": "${localEnv:TOKEN}", "MODE": "debug"}}"#,
                (
                    "registry.example/python/devcontainer:2025.05",
                    vec!["'cp' '-r' 'a' 'b'", "make -j", "make regen-all"],
                ),
                vec!["containerEnv.TOKEN", "postStartCommand"],
            ),
        ];
        for (text, (image, setup), unsupported) in cases {
            let found = Devcontainer::parse(path, text).expect("valid");
            assert_eq!(
                (source(&found).as_str(), &found.setup),
                (image, &setup.iter().map(ToString::to_string).collect())
            );
            assert_eq!(found.unsupported, unsupported, "{text}");
        }
    }

    #[test]
    fn other_shapes_are_read() {
        let old = r#"{"dockerFile": "Dockerfile", "context": ".", "workspaceFolder": "/workspace"}"#;
        let found = Devcontainer::parse(".devcontainer.json", old).expect("valid");
        let Some(DevcontainerSource::Dockerfile(source)) = &found.source else { panic!("{found:?}") };
        assert_eq!((source.dockerfile.as_str(), source.context.as_str()), ("Dockerfile", ""));
        let compose = r#"{"dockerComposeFile": "compose.yml", "service": "app"}"#;
        let found = Devcontainer::parse(".devcontainer.json", compose).expect("valid");
        assert_eq!((found.source, found.unsupported), (None, vec!["dockerComposeFile".into(), "service".into()]));
        let outside = r#"{"build": {"dockerfile": "../../../etc/Dockerfile"}}"#;
        let found = Devcontainer::parse(".devcontainer/devcontainer.json", outside).expect("valid");
        assert_eq!(found.unsupported, ["build (a path outside the repository)"]);
        assert_eq!(Devcontainer::parse(".devcontainer.json", "{}"), Ok(Devcontainer::default()));
        assert!(Devcontainer::parse(".devcontainer.json", "[]").is_err());
        assert!(Devcontainer::parse(".devcontainer.json", "{\"image\": ").is_err());
    }
}
