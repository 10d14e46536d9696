//! `airlock image`, and the first build of the agent image.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::cli::args::ImageVerb;
use crate::cli::error::CliError;
use crate::cli::json::render_json;
use crate::cli::ops::repo::{create_runtime, format_age};
use crate::cli::output::{Output, print_stdout};
use crate::core::escape::Escaped;
use crate::engine::image::{AGENT_IMAGE, AgentImageOptions, CLAUDE_VERSION, DEFAULT_BASE, IMAGE_LABEL, build_agent};
use crate::engine::{Docker, Engine, EngineError, ImageInfo};

pub(crate) fn run_image(verb: ImageVerb, output: Output) -> Result<u8, CliError> {
    create_runtime()?.block_on(async {
        let engine = Docker::connect().await?;
        match verb {
            ImageVerb::Build { base, claude_version, claude } => {
                let options = AgentImageOptions {
                    base: base.unwrap_or_else(|| DEFAULT_BASE.into()),
                    claude_version: claude_version.unwrap_or_else(|| CLAUDE_VERSION.into()),
                    claude,
                };
                build_image(&engine, &options, output).await?;
            }
            ImageVerb::Ls { json } => list_images(&engine.list_images(IMAGE_LABEL).await?, json)?,
            ImageVerb::Rm { names } => remove_images(&engine, &names, output).await?,
        }
        Ok(0)
    })
}

/// Returns the image to run. Builds Airlock's agent image if it does not exist yet.
pub(crate) async fn find_or_build_image(
    engine: &dyn Engine,
    requested: Option<&str>,
    output: Output,
) -> Result<ImageInfo, CliError> {
    let name = requested.unwrap_or(AGENT_IMAGE);
    if let Some(image) = engine.find_image(name).await? {
        // An image with the name of Airlock's image must also have its label. Any other image is the user's choice.
        if name == AGENT_IMAGE && image.labels.get(IMAGE_LABEL).is_none_or(|kind| kind != "agent") {
            return Err(CliError::from(EngineError::Foreign { kind: "image", name: name.into() })
                .with_hint("to replace it, run `airlock image build`"));
        }
        return Ok(image);
    }
    if requested.is_some_and(|w| w != AGENT_IMAGE) {
        return Err(CliError::failed(format!("the image `{name}` does not exist"))
            .with_hint(format!("run `docker pull {name}`, or omit `--image`")));
    }
    output.print_status("building the agent image; this happens once");
    let options = AgentImageOptions { base: DEFAULT_BASE.into(), claude_version: CLAUDE_VERSION.into(), claude: None };
    build_image(engine, &options, output).await?;
    engine
        .find_image(name)
        .await?
        .ok_or_else(|| CliError::failed(format!("the image `{name}` was removed after it was built")))
}

async fn build_image(engine: &dyn Engine, options: &AgentImageOptions, output: Output) -> Result<(), CliError> {
    let start = Instant::now();
    let bar = if output.is_progress_shown() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    let last = std::sync::Mutex::new(Vec::<String>::new());
    let progress = |line: &str| {
        let shown = Escaped::new(line).to_string();
        bar.set_message(shown.clone());
        if bar.is_hidden() && line.starts_with("Step ") {
            output.print_status(&shown);
        }
        if let Ok(mut last) = last.lock() {
            last.extend((!line.is_empty()).then(|| line.to_owned()));
            let from = last.len().saturating_sub(8);
            last.drain(..from);
        }
    };
    let built = build_agent(engine, options, &progress).await;
    bar.finish_and_clear();
    built.map_err(|error| {
        let lines = last.lock().map(|l| l.clone()).unwrap_or_default();
        CliError::from(error).with_details(lines).with_hint(
            "without a registry, run `airlock image build --base ROOTFS.tar --claude PATH` (`scripts/agent-image` creates both)",
        )
    })?;
    output.print_status(&format!("built {AGENT_IMAGE} ({} s)", start.elapsed().as_secs()));
    Ok(())
}

fn list_images(images: &[ImageInfo], json: bool) -> Result<(), CliError> {
    let text = if json {
        let images: Vec<_> = images
            .iter()
            .flat_map(|i| i.names.iter().map(move |name| (i, name)))
            .map(|(i, name)| {
                json!({
                    "name": name, "id": i.id, "kind": i.labels.get(IMAGE_LABEL),
                    "claude": i.labels.get("dev.airlock.claude"), "size": i.size, "created": i.created,
                })
            })
            .collect();
        render_json(&json!({"schema_version": 1, "images": images}))
    } else {
        let mut text = String::new();
        for (image, name) in images.iter().flat_map(|i| i.names.iter().map(move |name| (i, name))) {
            let claude = image.labels.get("dev.airlock.claude").map(|v| format!("claude {v}")).unwrap_or_default();
            let created = format_age(u64::try_from(image.created).unwrap_or(0));
            text += &format!(
                "{:32}  {:>5} MB  {created:14}  {}\n",
                Escaped::new(name).to_string(),
                image.size / 1_000_000,
                Escaped::new(&claude)
            );
        }
        text
    };
    Ok(print_stdout(&text)?)
}

async fn remove_images(engine: &dyn Engine, names: &[String], output: Output) -> Result<(), CliError> {
    let ours: Vec<String> = engine.list_images(IMAGE_LABEL).await?.into_iter().flat_map(|i| i.names).collect();
    for name in names {
        if !ours.contains(name) {
            return Err(CliError::failed(format!("no image of Airlock is named `{name}`"))
                .with_hint("to list the images, run `airlock image ls`"));
        }
    }
    for name in if names.is_empty() { &ours } else { names } {
        engine.remove_image(name).await?;
        output.print_status(&format!("removed {}", Escaped::new(name)));
    }
    Ok(())
}
