//! `airlock image`: builds, lists and removes agent images.

use std::path::Path;

use serde_json::json;

use crate::cli::args::ImageVerb;
use crate::cli::error::CliError;
use crate::cli::json::render_json;
use crate::cli::ops::agent_image::{build_image, claude_version, find_or_build_recipe};
use crate::cli::ops::choose_image::{Proposal, choose_image};
use crate::cli::ops::engine::connect_engine;
use crate::cli::ops::repo::{Repo, create_runtime, format_age};
use crate::cli::ops::settings::load_settings;
use crate::cli::output::{Output, print_stdout};
use crate::core::escape::Escaped;
use crate::engine::image::IMAGE_LABEL;
use crate::engine::{Docker, Engine, ImageInfo};
use crate::git::SnapshotOptions;
use crate::images::{BaseSource, ClaudeSource, ImageRecipe, PINNED, read_recipe};

pub(crate) fn run_image(verb: ImageVerb, output: Output) -> Result<u8, CliError> {
    create_runtime()?.block_on(async {
        let engine = connect_engine(&load_settings()?).await?;
        match verb {
            ImageVerb::Build { project: true, .. } => build_project_image(&engine, output).await?,
            ImageVerb::Build { base, with, claude, name, project: false } => {
                build_image(&engine, &create_recipe(base, with, claude)?, (&name, false), None, output).await?;
            }
            ImageVerb::Update { names } => update_images(&engine, &names, output).await?,
            ImageVerb::Ls { json } => list_images(&engine.list_images(IMAGE_LABEL).await?, json)?,
            ImageVerb::Rm { names } => remove_images(&engine, &names, output).await?,
        }
        Ok(0)
    })
}

/// Builds the image that the files of the current repository call for.
async fn build_project_image(engine: &Docker, output: Output) -> Result<(), CliError> {
    let repo = Repo::open(output)?;
    let snapshot = repo.host.take_snapshot(&SnapshotOptions::default())?;
    let choice = choose_image(&repo.host, &snapshot.commit, &load_settings()?, Proposal::Take, output)?;
    let Some(recipe) = &choice.recipe else {
        return Err(CliError::failed("nothing in this repository calls for a particular image")
            .with_hint("choose packages yourself: `airlock image build --with PACKAGE,…`"));
    };
    find_or_build_recipe(engine, &repo.host, (recipe, choice.context.as_ref()), output).await?;
    output.print_status(&format!("sandboxes of this repository use {}", recipe.image_name()));
    Ok(())
}

/// Returns the recipe that the options describe.
fn create_recipe(
    base: Option<String>,
    mut packages: Vec<String>,
    claude: Option<String>,
) -> Result<ImageRecipe, CliError> {
    let mut recipe = ImageRecipe::new_default(&claude.clone().unwrap_or(claude_version(&load_settings()?)));
    let absolute = |text: &str| std::path::absolute(text).unwrap_or_else(|_| text.into());
    if let Some(path) = claude.filter(|text| text.contains('/') || Path::new(text).is_file()) {
        if !Path::new(&path).is_file() {
            return Err(CliError::usage(format!("--claude: {path} is not a file")));
        }
        recipe.claude = ClaudeSource::File(absolute(&path));
    }
    if let Some(base) = base.or(load_settings()?.image_base) {
        recipe.base = BaseSource::parse_base(&base);
    }
    packages.sort();
    packages.dedup();
    recipe.packages = packages;
    recipe.check_packages().map_err(|name| CliError::usage(format!("--with: {name} is not the name of a package")))?;
    Ok(recipe)
}

/// Builds the named images again, or all.
async fn update_images(engine: &Docker, names: &[String], output: Output) -> Result<(), CliError> {
    let version = claude_version(&load_settings()?);
    let images = engine.list_images(IMAGE_LABEL).await?;
    let is_agent = |image: &&ImageInfo| image.labels.get(IMAGE_LABEL).is_some_and(|kind| kind == "agent");
    let ours = images.iter().filter(is_agent).flat_map(|image| image.names.iter().map(move |name| (name, image)));
    let ours: Vec<_> = ours.filter(|(name, _)| !name.starts_with("<none>")).collect();
    if let Some(unknown) = names.iter().find(|name| ours.iter().all(|(own, _)| own != name)) {
        return Err(CliError::failed(format!("no agent image of Airlock is named `{unknown}`"))
            .with_hint("to list the images, run `airlock image ls`"));
    }
    for (name, image) in ours.iter().filter(|(name, _)| names.is_empty() || names.contains(name)) {
        let Some(mut recipe) = read_recipe(image) else {
            output.print_status(&format!(
                "{} is not built again: the files that it was built from are gone",
                Escaped::new(name)
            ));
            continue;
        };
        // A version that the recipe names was chosen for this image.
        if recipe.claude == ClaudeSource::Npm(PINNED.into()) {
            recipe.claude = ClaudeSource::Npm(version.clone());
        }
        build_image(engine, &recipe, (name, true), None, output).await?;
    }
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
            // The guest's image has no time, so that it is the same everywhere.
            let created =
                u64::try_from(image.created).ok().filter(|time| *time > 0).map(format_age).unwrap_or_default();
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
