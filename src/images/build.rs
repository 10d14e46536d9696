//! Builds agent images.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::base_facts::{BaseFacts, PROBE_SCRIPT};
use super::claude_binary::{CLAUDE_VERSION, fetch_binary, has_npm, package_name};
use super::devcontainer::DockerfileSource;
use super::dockerfile::render_dockerfile;
use super::probe::probe_image;
use super::recipe::{BaseSource, ClaudeSource, ImageRecipe, PINNED, RECIPE_LABEL};
use crate::core::clock::seconds_since_epoch;
use crate::core::random::create_random_id;
use crate::engine::image::{IMAGE_LABEL, build_context, stream_file};
use crate::engine::{BuildLine, BuildProgress, Engine, EngineError, ImageBuild, ImageInfo, Labels, TarStream};

/// The label with the version of Claude Code.
const CLAUDE_LABEL: &str = "dev.airlock.claude";
/// The label with the time of the build, in seconds since the epoch.
const BUILT_LABEL: &str = "dev.airlock.built";
/// Age after which an image is called old.
const MAX_AGE_SECS: u64 = 30 * 24 * 3600;

/// The options of a build.
#[derive(Clone, Copy)]
pub struct BuildOptions<'a> {
    /// The name of the image.
    pub name: &'a str,
    /// Whether to get the base again, and to run every step again.
    pub fresh: bool,
    /// The labels of the container that asks the base about itself.
    pub probe_labels: &'a Labels,
    /// The context of the repository's Dockerfile, if the base is one.
    pub context: Option<&'a ContextSource>,
}

/// Returns the context of a repository's Dockerfile.
pub type ContextSource = dyn Fn() -> TarStream + Sync;

/// Builds the image of a recipe.
///
/// # Errors
/// The base cannot be used, Claude Code cannot be fetched, or the builder fails.
pub async fn build_agent_image(
    engine: &dyn Engine,
    recipe: &ImageRecipe,
    options: BuildOptions<'_>,
    progress: &BuildProgress<'_>,
) -> Result<(), EngineError> {
    recipe.check_packages().map_err(|package| refuse_build(format!("{package} is not the name of a package")))?;
    let base = find_base(engine, recipe, options, progress).await?;
    let facts = ask_base(engine, &base, options.probe_labels).await?;
    progress(BuildLine::Output(&format!("the base is {}", facts.name)));
    if facts.distribution.is_none() && recipe.needs_distribution() {
        return Err(refuse_build(format!(
            "packages cannot be installed on {}, because it has none of apt, dnf and apk",
            facts.name
        )));
    }
    let package = package_name(&engine.engine_info().await?.arch, facts.is_musl);
    let (binary, version) = match &recipe.claude {
        ClaudeSource::File(path) => (Some(path.clone()), "of this machine".to_owned()),
        ClaudeSource::Npm(range) if has_npm() => {
            let range = resolve_version(range);
            progress(BuildLine::Output(&format!("getting Claude Code {range} with npm")));
            let (package, range) = (package.clone(), range.to_owned());
            let fetched = tokio::task::spawn_blocking(move || fetch_binary(&package, &range)).await;
            let binary = fetched.map_err(std::io::Error::other)?.map_err(|error| EngineError::Refused {
                attempt: "get Claude Code".into(),
                message: error.to_string(),
                status: 0,
            })?;
            (Some(binary.path), binary.version)
        }
        ClaudeSource::Npm(range) => (None, resolve_version(range).to_owned()),
    };
    let mut args = Vec::new();
    if binary.is_none() {
        args.push(("CLAUDE_PACKAGE".into(), format!("{package}@{version}")));
    }
    args.extend(read_proxy_arguments());
    let labels = [
        (IMAGE_LABEL, "agent".to_owned()),
        (CLAUDE_LABEL, version),
        (BUILT_LABEL, seconds_since_epoch().to_string()),
        (RECIPE_LABEL, serde_json::to_string(recipe).unwrap_or_default()),
    ];
    let dockerfile = render_dockerfile(&facts, &recipe.packages, binary.is_some());
    let build = ImageBuild {
        context: build_context(dockerfile, binary),
        dockerfile: "Dockerfile".into(),
        target: None,
        name: options.name.to_owned(),
        fresh: options.fresh,
        labels: labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        args,
        base: Some(base.id),
        network: find_build_network(engine).await?,
    };
    let built = engine.build_image(build, progress).await;
    remove_stages(engine).await?;
    built
}

fn resolve_version(range: &str) -> &str {
    if range == PINNED { CLAUDE_VERSION } else { range }
}

fn refuse_build(message: String) -> EngineError {
    EngineError::Refused { attempt: "build the agent image".into(), message, status: 0 }
}

/// Finds, pulls or imports the base, and checks that the agent layer can be built on it.
async fn find_base(
    engine: &dyn Engine,
    recipe: &ImageRecipe,
    options: BuildOptions<'_>,
    progress: &BuildProgress<'_>,
) -> Result<ImageInfo, EngineError> {
    let name = match &recipe.base {
        BaseSource::Image(name) => {
            let is_present = engine.find_image(name).await?.is_some();
            if !is_present || options.fresh {
                match engine.pull_image(name, progress).await {
                    // A base of this machine is in no registry.
                    Err(_) if is_present => {
                        progress(BuildLine::Output(&format!("using the base {name} of this machine")))
                    }
                    other => other?,
                }
            }
            name.clone()
        }
        BaseSource::Archive(path) => {
            progress(BuildLine::Output(&format!("importing the base image from {}", path.display())));
            let file = File::open(path).map_err(|error| EngineError::Refused {
                attempt: format!("read the base image {}", path.display()),
                message: error.to_string(),
                status: 0,
            })?;
            // It gets no name at all: it goes with the last image that was built on it, or with `gc` after BuildKit.
            engine.import_image(stream_file(file), "", &[format!("LABEL {IMAGE_LABEL}=base")]).await?
        }
        BaseSource::Dockerfile { source, .. } => {
            let name = recipe.toolchain_name();
            if options.fresh || engine.find_image(&name).await?.is_none() {
                build_toolchain(engine, source, &name, options, progress).await?;
            }
            name
        }
    };
    let Some(base) = engine.find_image(&name).await? else {
        return Err(refuse_build(format!("the base {name} was removed")));
    };
    let arch = &engine.engine_info().await?.arch;
    if !base.arch.is_empty() && base.arch != *arch {
        return Err(refuse_build(format!("the base {name} is for {}, but the engine runs on {arch}", base.arch)));
    }
    if let Some(first) = base.on_build.first() {
        return Err(refuse_build(format!(
            "the base {name} has instructions for builds that start from it (ONBUILD {first}), which expect a project's files"
        )));
    }
    Ok(base)
}

/// Builds a Dockerfile of the repository.
async fn build_toolchain(
    engine: &dyn Engine,
    source: &DockerfileSource,
    name: &str,
    options: BuildOptions<'_>,
    progress: &BuildProgress<'_>,
) -> Result<(), EngineError> {
    let context =
        options.context.ok_or_else(|| refuse_build("the repository of the Dockerfile is not known".into()))?;
    let inside = Path::new(&source.dockerfile).strip_prefix(&source.context).map_err(|_| {
        refuse_build(format!(
            "{} is not below {}, the directory in which it is built",
            source.dockerfile, source.context
        ))
    })?;
    let build = ImageBuild {
        context: context(),
        dockerfile: inside.to_string_lossy().into_owned(),
        target: source.target.clone(),
        name: name.to_owned(),
        fresh: options.fresh,
        labels: [(IMAGE_LABEL.to_owned(), "toolchain".to_owned())].into(),
        args: source.args.clone().into_iter().chain(read_proxy_arguments()).collect(),
        base: None,
        network: find_build_network(engine).await?,
    };
    engine.build_image(build, progress).await
}

/// Returns the network of a build: the engine's own, or the host's if the engine has no bridge.
async fn find_build_network(engine: &dyn Engine) -> Result<Option<String>, EngineError> {
    if engine.has_bridge().await {
        return Ok(None);
    }
    if engine.engine_info().await?.security_option("userns").is_some() {
        return Err(EngineError::NoBuildNetwork);
    }
    Ok(Some("host".to_owned()))
}

async fn ask_base(engine: &dyn Engine, base: &ImageInfo, labels: &Labels) -> Result<BaseFacts, EngineError> {
    let name = format!("airlock-{}-base", create_random_id::<8>()?);
    let output = probe_image(engine, &base.id, PROBE_SCRIPT, (&name, labels)).await?;
    let output = output.ok_or_else(|| refuse_build("the base did not answer in time".into()))?;
    if output.is_empty() {
        return Err(refuse_build("the base has no shell, by which the agent's user could be added".into()));
    }
    Ok(BaseFacts::parse_output(&output))
}

/// Removes the build stages that a builder leaves without a name, and images whose name a newer one has for a month: until
/// then, a sandbox that started from one can be resumed.
///
/// # Errors
/// The images cannot be listed.
pub async fn remove_unnamed_images(engine: &dyn Engine) -> Result<usize, EngineError> {
    engine.remove_base_names().await?;
    let mut removed = 0;
    for image in engine.list_images(IMAGE_LABEL).await? {
        let is_unnamed = image.names.iter().all(|name| name.starts_with("<none>"));
        let age = seconds_since_epoch().saturating_sub(u64::try_from(image.created).unwrap_or(0));
        // The base of an image has no name either, and cannot be removed before it.
        if is_unnamed && age > MAX_AGE_SECS && engine.remove_image(&image.id).await.is_ok() {
            removed += 1;
        }
    }
    remove_stages(engine).await?;
    Ok(removed)
}

/// Removes the build stages that a builder leaves without a name.
async fn remove_stages(engine: &dyn Engine) -> Result<(), EngineError> {
    for image in engine.list_images(IMAGE_LABEL).await? {
        let is_unnamed = image.names.iter().all(|name| name.starts_with("<none>"));
        if is_unnamed && image.labels.get(IMAGE_LABEL).is_some_and(|kind| kind == "stage") {
            // Another build may be using it.
            let _ = engine.remove_image(&image.id).await;
        }
    }
    Ok(())
}

/// Returns the build arguments for the proxies of the user's Docker configuration, as `docker build` sets them.
fn read_proxy_arguments() -> Vec<(String, String)> {
    let home = etcetera::home_dir().unwrap_or_default();
    let dir = std::env::var_os("DOCKER_CONFIG").map_or_else(|| home.join(".docker"), PathBuf::from);
    parse_proxies(&std::fs::read_to_string(dir.join("config.json")).unwrap_or_default())
}

fn parse_proxies(config: &str) -> Vec<(String, String)> {
    let config: serde_json::Value = serde_json::from_str(config).unwrap_or_default();
    let names = [
        ("httpProxy", "HTTP_PROXY"),
        ("httpsProxy", "HTTPS_PROXY"),
        ("noProxy", "NO_PROXY"),
        ("ftpProxy", "FTP_PROXY"),
        ("allProxy", "ALL_PROXY"),
    ];
    let value = |key: &str| config.get("proxies")?.get("default")?.get(key)?.as_str().map(str::to_owned);
    let found = names.into_iter().filter_map(|(key, name)| Some((name, value(key)?)));
    found.flat_map(|(name, value)| [(name.to_owned(), value.clone()), (name.to_lowercase(), value)]).collect()
}

/// Returns a note if the agent in an image is old. Nothing is asked over a network.
#[must_use]
pub fn describe_age(image: &ImageInfo) -> Option<String> {
    let built: u64 = image.labels.get(BUILT_LABEL)?.parse().ok()?;
    let age = seconds_since_epoch().saturating_sub(built);
    (age > MAX_AGE_SECS).then(|| format!("Claude Code in the agent image is from {} days ago", age / (24 * 3600)))
}

/// Returns the recipe of an image that Airlock built, unless its files are no longer on this machine.
#[must_use]
pub fn read_recipe(image: &ImageInfo) -> Option<ImageRecipe> {
    let recipe: ImageRecipe = serde_json::from_str(image.labels.get(RECIPE_LABEL)?).ok()?;
    let has = |path: &Path| path.is_file();
    let base_exists = match &recipe.base {
        BaseSource::Image(_) => true,
        BaseSource::Archive(path) => has(path),
        // It is built again with a new commit.
        BaseSource::Dockerfile { .. } => false,
    };
    let claude_exists = !matches!(&recipe.claude, ClaudeSource::File(path) if !has(path));
    (base_exists && claude_exists).then_some(recipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_of_docker_become_build_arguments() {
        let config = r#"{"proxies": {"default": {"httpProxy": "http://p.example:1", "noProxy": "a"}}}"#;
        let names: Vec<String> =
            parse_proxies(config).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            names,
            ["HTTP_PROXY=http://p.example:1", "http_proxy=http://p.example:1", "NO_PROXY=a", "no_proxy=a"]
        );
        assert!(parse_proxies("{").is_empty());
    }
}
