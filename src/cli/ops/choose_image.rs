//! Chooses the image of a sandbox: the user's own, the repository's devcontainer, or one with the packages that its files
//! call for. What comes from the repository is asked once.

use super::agent_image::{ImageChoice, claude_version};
use super::answers::Request;
use super::policy::read_committed_file;
use crate::cli::confirm::ask_yes_no;
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::config::Settings;
use crate::core::escape::Escaped;
use crate::core::path::RepoPath;
use crate::git::{CommittedEntry, HostRepo};
use crate::images::{
    BaseSource, DEVCONTAINER_FILES, Devcontainer, DevcontainerSource, DockerfileSource, ImageRecipe, ProjectSuggestion,
};
use crate::terminal;

/// Whether a suggestion is asked about, taken, or only mentioned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proposal {
    /// Ask on a terminal; mention it otherwise.
    Ask,
    /// Ask on a terminal.
    AskQuietly,
    /// The user has asked for it.
    Take,
}

/// Chooses the image for a commit.
///
/// # Errors
/// The Dockerfile does not exist, a file of the repository is invalid, or git fails.
pub(crate) fn choose_image(
    host: &HostRepo,
    commit: &str,
    settings: &Settings,
    proposal: Proposal,
    output: Output,
) -> Result<ImageChoice, CliError> {
    if settings.image.is_some() && proposal != Proposal::Take {
        return Ok(ImageChoice::default());
    }
    let source = RepositorySource { host, commit, settings };
    if let Some(dockerfile) = &settings.dockerfile {
        let context = dockerfile.rsplit_once('/').map_or("", |(dir, _)| dir).to_owned();
        let dockerfile =
            DockerfileSource { dockerfile: dockerfile.clone(), context, args: Default::default(), target: None };
        return source.choose_dockerfile(dockerfile);
    }
    let mut setup = Vec::new();
    if let Some((path, devcontainer)) = source.read_devcontainer()? {
        // Its commands are asked about by themselves.
        setup.clone_from(&devcontainer.setup);
        if let Some(choice) = source.propose_devcontainer(path, devcontainer, proposal, output)? {
            return Ok(choice);
        }
    }
    let mut choice = source.propose_packages(proposal, output)?.unwrap_or_default();
    choice.setup = setup;
    // An image with another base or Claude Code than the default one has another name.
    if choice.recipe.is_none() && (settings.image_base.is_some() || settings.claude_version.is_some()) {
        choice.recipe = Some(source.recipe_with(None));
    }
    Ok(choice)
}

struct RepositorySource<'a> {
    host: &'a HostRepo,
    commit: &'a str,
    settings: &'a Settings,
}

impl RepositorySource<'_> {
    /// Returns the recipe of the default image with another base.
    fn recipe_with(&self, base: Option<BaseSource>) -> ImageRecipe {
        let mut recipe = ImageRecipe::new_default(&claude_version(self.settings));
        if let Some(base) = base.or_else(|| self.settings.image_base.as_deref().map(BaseSource::parse_base)) {
            recipe.base = base;
        }
        recipe
    }

    fn choose_dockerfile(&self, source: DockerfileSource) -> Result<ImageChoice, CliError> {
        let missing = || {
            CliError::failed(format!("{} does not exist in the commit", Escaped::new(&source.dockerfile)))
                .with_hint("commit it: Dockerfiles are taken from HEAD")
        };
        let path = RepoPath::from_bytes(source.dockerfile.as_bytes()).map_err(|_| missing())?;
        if self.host.open_commit(self.commit)?.find_entry(&path)? != Some(CommittedEntry::File) {
            return Err(missing());
        }
        let context = self.host.find_directory(self.commit, &source.context)?.ok_or_else(missing)?;
        let base = BaseSource::Dockerfile { source, tree: context.id.clone() };
        Ok(ImageChoice { recipe: Some(self.recipe_with(Some(base))), context: Some(context), ..ImageChoice::default() })
    }

    fn read_devcontainer(&self) -> Result<Option<(&'static str, Devcontainer)>, CliError> {
        for path in DEVCONTAINER_FILES {
            if let Some(text) = read_committed_file(self.host, self.commit, path)? {
                let parsed = Devcontainer::parse(path, &text);
                return parsed.map(|found| Some((path, found))).map_err(|problem| {
                    CliError::failed(format!("{path} is invalid: {problem}"))
                        .with_hint("correct and commit it, or choose an image with `--image`")
                });
            }
        }
        Ok(None)
    }

    fn propose_devcontainer(
        &self,
        path: &str,
        devcontainer: Devcontainer,
        proposal: Proposal,
        output: Output,
    ) -> Result<Option<ImageChoice>, CliError> {
        let Some(source) = devcontainer.source.clone() else {
            let variables = devcontainer.env.keys().map(|name| format!("the variable {name}"));
            let others: Vec<String> = devcontainer.unsupported.into_iter().chain(variables).collect();
            if proposal == Proposal::Ask && !others.is_empty() {
                let list = others.join(", ");
                output.print_status(&format!("{path} names no image; not supported: {}", Escaped::new(&list)));
            }
            return Ok(None);
        };
        let name = match &source {
            DevcontainerSource::Image(name) => name.clone(),
            DevcontainerSource::Dockerfile(dockerfile) => dockerfile.dockerfile.clone(),
        };
        let mut choice = match source {
            DevcontainerSource::Image(name) => {
                ImageChoice { recipe: Some(self.recipe_with(Some(BaseSource::Image(name)))), ..ImageChoice::default() }
            }
            DevcontainerSource::Dockerfile(source) => self.choose_dockerfile(source)?,
        };
        // The base has the object of the directory that is built, so other content is another question.
        let base = choice.recipe.as_ref().map(|recipe| format!("{:?}", recipe.base)).unwrap_or_default();
        let request = Request::new(self.host, "devcontainer", &[base, format!("{:?}", devcontainer.env)])?;
        let name = Escaped::new(&name).to_string();
        let question = format!(
            "This repository has a {path} with {name}. Build the agent image from it, on your engine and with its network (n: use the general image)?"
        );
        if !is_accepted(&request, &question, proposal)? {
            return Ok(None);
        }
        if !devcontainer.unsupported.is_empty() {
            let list = devcontainer.unsupported.join(", ");
            output.print_status(&format!("{path}: not supported: {}", Escaped::new(&list)));
        }
        choice.setup = devcontainer.setup;
        choice.env = devcontainer.env.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        Ok(Some(choice))
    }

    fn propose_packages(&self, proposal: Proposal, output: Output) -> Result<Option<ImageChoice>, CliError> {
        let tree = self.host.open_commit(self.commit)?;
        let has_file = |name: &str| tree.has_file(name);
        let Some(suggestion) = ProjectSuggestion::find_for(has_file) else { return Ok(None) };
        let (files, packages) = (suggestion.files.join(" and "), suggestion.packages.join(", "));
        let request = Request::new(self.host, "packages", &suggestion.packages)?;
        let question = format!(
            "This repository has {files}. Build an agent image with {packages} for it (n: use the general image)?"
        );
        if !is_accepted(&request, &question, proposal)? {
            if proposal == Proposal::Ask && !terminal::is_interactive() && request.find_answer().is_none() {
                output.print_status(&format!(
                    "this repository has {files}; `airlock image build --project` builds an image with {packages} for it"
                ));
            }
            return Ok(None);
        }
        let recipe = ImageRecipe { packages: suggestion.packages, ..self.recipe_with(None) };
        Ok(Some(ImageChoice { recipe: Some(recipe), ..ImageChoice::default() }))
    }
}

/// Returns whether the user accepts a proposal, and asks if there is no answer yet.
///
/// # Errors
/// The answer cannot be saved.
pub(crate) fn is_accepted(request: &Request, question: &str, proposal: Proposal) -> Result<bool, CliError> {
    if proposal == Proposal::Take {
        request.save_answer(true)?;
        return Ok(true);
    }
    if let Some(answer) = request.find_answer() {
        return Ok(answer);
    }
    if !terminal::is_interactive() {
        return Ok(false);
    }
    let answer = ask_yes_no(question, true)?;
    request.save_answer(answer)?;
    Ok(answer)
}
