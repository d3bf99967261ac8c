//! Images that sessions start from: `[image.NAME]` of the configuration, and files.

use std::collections::BTreeMap;
use std::path::Path;

use agentkernel::{Context, ContextMark, Image, Kernel};

use crate::config::ImageConfig;
use crate::failure::{Failure, Result};
use crate::run::{CONTEXT, source};
use crate::settings::Settings;
use crate::terminal::escaped;

/// What files of images end in.
pub const EXTENSION: &str = "akimg";

/// The same with paths from where the configuration lies.
pub fn below(images: &BTreeMap<String, ImageConfig>, base: &Path) -> BTreeMap<String, ImageConfig> {
    let resolved = |image: &ImageConfig| ImageConfig {
        prelude: image.prelude.as_ref().map(|prelude| base.join(prelude)),
        ..image.clone()
    };
    images.iter().map(|(name, image)| (name.clone(), resolved(image))).collect()
}

/// Whether `--image` names a file, and not one of the configuration.
pub fn is_file(image: &Path) -> bool {
    image.extension().is_some_and(|extension| extension == EXTENSION) || image.components().count() > 1
}

/// Refuses an image that could not be made of what it names.
pub fn check(name: &str, config: &ImageConfig, tools: &[String]) -> Result<()> {
    if config.prelude.is_some() && config.code.is_some() {
        return Err(Failure::new(format!("`[image.{name}]` has both a `prelude` and `code`"))
            .hint("keep one of them"));
    }
    if config.prelude.is_none() && config.code.is_none() && config.tools.is_empty() {
        return Err(Failure::new(format!("`[image.{name}]` has nothing in it"))
            .hint("give it `tools = [\"NAME\"]`, `prelude = \"FILE\"` or `code = \"…\"`"));
    }
    match config.tools.iter().find(|tool| !tools.contains(tool)) {
        Some(tool) => Err(Failure::new(format!("there is no tool `{tool}`, which `[image.{name}]` imports"))
            .hint("name it in `tools` or as `[tool.NAME]`, or correct the name")),
        None => Ok(()),
    }
}

/// The image that `--image` names, for a session over a context: one that holds positions in another is refused.
pub fn image_over(
    kernel: &Kernel,
    settings: &Settings,
    image: &Path,
    context: Option<&Context>,
) -> Result<Image> {
    let image = self::image(kernel, settings, image)?;
    check_context(image.context_mark(CONTEXT), context.map(Context::mark)).map_err(|failure| {
        failure.hint("put that back as it was, or name an image that was made over what is there now")
    })?;
    Ok(image)
}

/// Refuses a session over a context if the image that it begins with was made over another one.
pub fn check_context(before: Option<&ContextMark>, now: Option<&ContextMark>) -> Result<()> {
    match before.zip(now).and_then(|(before, now)| before.difference(now)) {
        None => Ok(()),
        Some(difference) => Err(Failure::new(format!(
            "the image that the session begins with was made over another context: {}",
            escaped(&difference)
        ))),
    }
}

/// The image that `--image` names.
pub fn image(kernel: &Kernel, settings: &Settings, image: &Path) -> Result<Image> {
    if is_file(image) {
        return Ok(kernel.load_image(image)?);
    }
    let name = image.display().to_string();
    let Some(config) = settings.images.get(&name) else {
        let failure = Failure::new(format!("there is no image `{name}`"));
        let known: Vec<_> = settings.images.keys().map(|name| format!("`{name}`")).collect();
        return Err(match known.is_empty() {
            true => failure.hint(format!(
                "describe it as `[image.{name}]` in agentkernel.toml, or name a file as `./{name}.{EXTENSION}`"
            )),
            false => {
                failure.hint(format!("there are {} in the configuration; a file is named by a path", known.join(", ")))
            }
        });
    };
    let tools: Vec<String> = kernel.tools().into_iter().map(|tool| tool.name).collect();
    check(&name, config, &tools)?;
    let mut builder = kernel.image();
    for tool in &config.tools {
        builder = builder.tool(tool);
    }
    match (&config.prelude, &config.code) {
        (Some(prelude), _) => {
            let shown = prelude.display();
            let text = std::fs::read(prelude).map_err(|error| {
                Failure::new(format!("cannot read the prelude `{shown}`: {error}"))
                    .hint(format!("correct `prelude` of `[image.{name}]`; paths start where the file lies"))
            })?;
            builder = builder.prelude(source(text, &format!("`{shown}`"))?);
        }
        (None, Some(code)) => builder = builder.prelude(code),
        (None, None) => {}
    }
    Ok(builder.build()?)
}
