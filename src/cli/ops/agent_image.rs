//! Finds the image of an agent, and builds it with a progress bar.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::base::REPOSITORY_LABEL;
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::config::Settings;
use crate::core::escape::Escaped;
use crate::engine::image::{IMAGE_LABEL, stream_archive};
use crate::engine::{BuildLine, Engine, EngineError, ImageInfo, Labels};
use crate::git::{CommittedDir, HostRepo};
use crate::images::{
    AGENT_IMAGE, BaseSource, BuildOptions, ContextSource, ImageRecipe, PINNED, PROBE_REPOSITORY, build_agent_image,
    describe_age,
};
use crate::sandbox::SANDBOX_LABEL;
use crate::sandbox::placement::EngineNeeds;

/// Lines of the builder's output that are shown after a failure.
const SHOWN_LINES: usize = 8;

/// The image of a sandbox.
#[derive(Debug, Default)]
pub(crate) struct ImageChoice {
    /// The recipe; `None` for the configured image or the default one.
    pub recipe: Option<ImageRecipe>,
    /// Variables that the devcontainer sets, as `KEY=VALUE`.
    pub env: Vec<String>,
    /// Commands of the devcontainer that prepare the workspace.
    pub setup: Vec<String>,
    /// The directory in which the repository's Dockerfile is built.
    pub context: Option<CommittedDir>,
}

impl ImageChoice {
    /// Returns the name of the image.
    fn image_name(&self, settings: &Settings) -> String {
        let configured = || settings.image.clone().unwrap_or_else(|| AGENT_IMAGE.into());
        self.recipe.as_ref().map_or_else(configured, ImageRecipe::image_name)
    }

    /// Returns what the engine of a sandbox needs for it.
    pub(crate) fn engine_needs(&self, settings: &Settings) -> EngineNeeds {
        let image = self.image_name(settings);
        let builds_image = self.recipe.is_some() || image == AGENT_IMAGE;
        EngineNeeds { image, builds_image, runtime: settings.runtime.clone() }
    }
}

/// Returns the version of Claude Code that the settings name.
pub(crate) fn claude_version(settings: &Settings) -> String {
    match settings.claude_version.as_deref() {
        None => PINNED.into(),
        Some(version) => version.into(),
    }
}

/// Returns the image to run. Builds Airlock's agent image if it does not exist yet.
///
/// # Errors
/// The image does not exist, cannot be used, or cannot be built.
pub(crate) async fn find_or_build_image(
    engine: &dyn Engine,
    host: &HostRepo,
    choice: &ImageChoice,
    settings: &Settings,
    output: Output,
) -> Result<ImageInfo, CliError> {
    if let Some(recipe) = &choice.recipe {
        return find_or_build_recipe(engine, host, (recipe, choice.context.as_ref()), output).await;
    }
    let requested = settings.image.as_deref();
    let name = requested.unwrap_or(AGENT_IMAGE);
    if let Some(image) = engine.find_image(name).await? {
        // An image with the name of Airlock's image must also have its label. Any other image is the user's choice.
        if name == AGENT_IMAGE && image.labels.get(IMAGE_LABEL).is_none_or(|kind| kind != "agent") {
            return Err(CliError::from(EngineError::Foreign { kind: "image", name: name.into() })
                .with_hint("to replace it, run `airlock image build`"));
        }
        check_image(engine, &image, name, output).await?;
        return Ok(image);
    }
    if requested.is_some_and(|w| w != AGENT_IMAGE) {
        return Err(CliError::failed(format!("the image `{name}` does not exist"))
            .with_hint(format!("run `docker pull {name}`, or omit `--image`")));
    }
    output.print_status("building the agent image; this happens once");
    let recipe = ImageRecipe::new_default(&claude_version(settings));
    build_image(engine, &recipe, (name, false), None, output).await?;
    find_built(engine, name).await
}

async fn find_built(engine: &dyn Engine, name: &str) -> Result<ImageInfo, CliError> {
    let found = engine.find_image(name).await?;
    found.ok_or_else(|| CliError::failed(format!("the image `{name}` was removed after it was built")))
}

/// Returns the image of a recipe, which is built once.
///
/// # Errors
/// The image cannot be built.
pub(crate) async fn find_or_build_recipe(
    engine: &dyn Engine,
    host: &HostRepo,
    (recipe, context): (&ImageRecipe, Option<&CommittedDir>),
    output: Output,
) -> Result<ImageInfo, CliError> {
    let name = recipe.image_name();
    if let Some(image) = engine.find_image(&name).await? {
        check_image(engine, &image, &name, output).await?;
        return Ok(image);
    }
    let what = match &recipe.base {
        BaseSource::Image(name) => name.clone(),
        BaseSource::Archive(path) => path.display().to_string(),
        BaseSource::Dockerfile { source, .. } => source.dockerfile.clone(),
    };
    output.print_status(&format!("building an agent image from {}; this happens once", Escaped::new(&what)));
    let context = context.cloned().map(|dir| (host, dir));
    build_image(engine, recipe, (&name, false), context, output).await?;
    find_built(engine, &name).await
}

/// Refuses an image that cannot run, and says what of it is not used.
async fn check_image(engine: &dyn Engine, image: &ImageInfo, name: &str, output: Output) -> Result<(), CliError> {
    let arch = &engine.engine_info().await?.arch;
    if !image.arch.is_empty() && image.arch != *arch {
        return Err(CliError::failed(format!(
            "the image `{name}` is for {}, but the engine runs on {arch}",
            image.arch
        )));
    }
    if image.has_entrypoint {
        output.print_status(&format!("the entrypoint of {} is not run", Escaped::new(name)));
    }
    if let Some(age) = describe_age(image) {
        output.print_status(&format!("{age}; `airlock image update` renews it"));
    }
    Ok(())
}

/// Removes the sequences by which programs color their output.
fn remove_colors(line: &str) -> String {
    let mut parts = line.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        plain += end.strip_prefix('m').unwrap_or(part);
    }
    plain.trim_end().to_owned()
}

/// Builds an image, and shows the builder's last line while it runs.
///
/// # Errors
/// The build fails; the last lines of its output are details of the error.
pub(crate) async fn build_image(
    engine: &dyn Engine,
    recipe: &ImageRecipe,
    (name, fresh): (&str, bool),
    context: Option<(&HostRepo, CommittedDir)>,
    output: Output,
) -> Result<(), CliError> {
    let start = Instant::now();
    let bar = if output.is_progress_shown() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    let last = Mutex::new(Vec::<String>::new());
    let progress = |line: BuildLine<'_>| {
        let (BuildLine::Step(text) | BuildLine::Output(text)) = line;
        let is_step = matches!(line, BuildLine::Step(_));
        let line = remove_colors(text);
        let (line, shown) = (line.as_str(), Escaped::new(&line).to_string());
        bar.set_message(shown.clone());
        if bar.is_hidden() && is_step && !line.contains(" : LABEL ") {
            output.print_status(&shown);
        }
        if let Ok(mut last) = last.lock() {
            last.extend((!line.is_empty()).then(|| line.to_owned()));
            let from = last.len().saturating_sub(SHOWN_LINES);
            last.drain(..from);
        }
    };
    // `gc` finds the container by these labels.
    let probe_labels: Labels = [(SANDBOX_LABEL, "image-build"), (REPOSITORY_LABEL, PROBE_REPOSITORY)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let context = context.map(|(host, dir)| Ok::<_, CliError>((host.reopen()?, dir))).transpose()?;
    // The repository is opened again for the thread that reads it.
    let stream = context.map(|(host, dir)| {
        let host = Mutex::new(Some(host));
        move || {
            let (host, dir) = (host.lock().ok().and_then(|mut host| host.take()), dir.clone());
            stream_archive(move |writer| match host {
                Some(host) => host.write_archive(&dir, writer),
                None => Err(std::io::Error::other("the context was read before")),
            })
        }
    });
    let context = stream.as_ref().map(|stream| stream as &ContextSource);
    let options = BuildOptions { name, fresh, probe_labels: &probe_labels, context };
    let built = build_agent_image(engine, recipe, options, &progress).await;
    bar.finish_and_clear();
    built.map_err(|error| {
        let lines = last.lock().map(|l| l.clone()).unwrap_or_default();
        // A refusal of ours has its reason.
        let is_engine = matches!(&error, EngineError::Refused { status, .. } if *status != 0);
        let failed = CliError::from(error).with_details(lines);
        if !is_engine {
            return failed;
        }
        failed.with_hint(
            "without a registry, run `airlock image build --base ROOTFS.tar --claude PATH` (`scripts/agent-image` creates both)",
        )
    })?;
    output.print_status(&format!("built {} ({} s)", Escaped::new(name), start.elapsed().as_secs()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colors_of_a_builder_are_removed() {
        assert_eq!(remove_colors("\u{1b}[91mnpm error\n\u{1b}[0m"), "npm error");
        assert_eq!(remove_colors("\u{1b}[1;31mred\u{1b}[0m and \u{1b}[2Jnot"), "red and 2Jnot");
        assert_eq!(remove_colors("plain"), "plain");
    }
}
