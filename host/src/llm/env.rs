//! Which provider the environment names.

use std::sync::Arc;

use super::http::{HttpOptions, base_url};
use super::{Anthropic, AzureOpenAi, OpenAi, Provider, Script};
use crate::{Error, ErrorKind, Result};

/// The provider that is configured in an environment, which `lookup` reads: `std::env::var(name).ok()`, or
/// that and a `.env` file. Empty values count as absent.
///
/// `provider` names it: `openai`, `azure`, `anthropic`, or `script:FILE`. Otherwise it is the one that `model`
/// belongs to by its name (`claude…`, `gpt…`), otherwise the only one whose variables are set.
///
/// | provider | variables |
/// |---|---|
/// | `openai` | `OPENAI_API_KEY`, `OPENAI_BASE_URL`; one is enough where the server wants no key |
/// | `azure` | `AZURE_OPENAI_API_KEY`, `AZURE_OPENAI_ENDPOINT`, `AZURE_OPENAI_DEPLOYMENT`: one for all models, or `MODEL=DEPLOYMENT,…`; `AZURE_OPENAI_API_VERSION` if wanted |
/// | `anthropic` | `ANTHROPIC_API_KEY`; `ANTHROPIC_BASE_URL` if wanted |
///
/// # Errors
///
/// When there is none, more than one could be meant, a variable is missing, or a value cannot be used.
///
/// ```
/// use agentkernel::llm::{HttpOptions, provider_from_environment};
///
/// let lookup = |name: &str| (name == "OPENAI_BASE_URL").then(|| "http://localhost:11434/v1".to_owned());
/// let provider = provider_from_environment(None, Some("llama3.2"), &HttpOptions::new(), lookup)?;
/// assert_eq!(provider.name(), "openai");
/// # Ok::<(), agentkernel::Error>(())
/// ```
pub fn provider_from_environment(
    provider: Option<&str>,
    model: Option<&str>,
    http: &HttpOptions,
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<Arc<dyn Provider>> {
    let get = |name: &str| lookup(name).filter(|value| !value.trim().is_empty());
    let environment = Environment { get: &get, http };
    if let Some(file) = provider.and_then(|provider| provider.strip_prefix("script:")) {
        return Ok(Arc::new(Script::open(file)?));
    }
    let choice = match provider {
        Some(name) => Choice::ALL.into_iter().find(|choice| choice.name() == name).ok_or_else(|| {
            let message = format!("`{}` is no provider", name.escape_debug());
            Error::new(ErrorKind::Model, message).hint("name `openai`, `azure`, `anthropic` or `script:FILE`")
        })?,
        None => environment.choose(model)?,
    };
    environment.build(choice)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    OpenAi,
    Azure,
    Anthropic,
}

impl Choice {
    const ALL: [Choice; 3] = [Choice::OpenAi, Choice::Azure, Choice::Anthropic];

    fn name(self) -> &'static str {
        match self {
            Choice::OpenAi => "openai",
            Choice::Azure => "azure",
            Choice::Anthropic => "anthropic",
        }
    }

    /// The variables that say that it is meant.
    fn signs(self) -> [&'static str; 2] {
        match self {
            Choice::OpenAi => ["OPENAI_API_KEY", "OPENAI_BASE_URL"],
            Choice::Azure => ["AZURE_OPENAI_API_KEY", "AZURE_OPENAI_ENDPOINT"],
            // A base URL alone is useless without the key.
            Choice::Anthropic => ["ANTHROPIC_API_KEY", "ANTHROPIC_API_KEY"],
        }
    }
}

/// Whose model a name is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Maker {
    OpenAi,
    Anthropic,
    Unknown,
}

fn maker(model: &str) -> Maker {
    let reasoning =
        model.strip_prefix('o').is_some_and(|rest| rest.starts_with(|next: char| next.is_ascii_digit()));
    // `gpt-oss` is for everybody to serve.
    let open = model.starts_with("gpt-oss");
    match model {
        _ if model.starts_with("claude") => Maker::Anthropic,
        _ if (model.starts_with("gpt-") || model.starts_with("chatgpt-") || reasoning) && !open => {
            Maker::OpenAi
        }
        _ => Maker::Unknown,
    }
}

struct Environment<'a> {
    get: &'a dyn Fn(&str) -> Option<String>,
    http: &'a HttpOptions,
}

impl Environment<'_> {
    fn get(&self, name: &str) -> Option<String> {
        (self.get)(name)
    }

    /// Whether the model of this maker may be at `choice`.
    fn may_have(&self, choice: Choice, maker: Maker) -> bool {
        match (choice, maker) {
            (_, Maker::Unknown) => true,
            // A server of one's own may be a gateway to anything.
            (Choice::OpenAi, Maker::Anthropic) => self.get("OPENAI_BASE_URL").is_some(),
            (Choice::OpenAi | Choice::Azure, Maker::OpenAi) | (Choice::Anthropic, Maker::Anthropic) => true,
            (Choice::Azure, Maker::Anthropic) | (Choice::Anthropic, Maker::OpenAi) => false,
        }
    }

    fn choose(&self, model: Option<&str>) -> Result<Choice> {
        let is_meant = |choice: &Choice| choice.signs().iter().any(|name| self.get(name).is_some());
        let present: Vec<_> = Choice::ALL.into_iter().filter(is_meant).collect();
        let maker = model.map_or(Maker::Unknown, maker);
        let able: Vec<_> = present.iter().copied().filter(|choice| self.may_have(*choice, maker)).collect();
        if maker == Maker::Anthropic && able.contains(&Choice::Anthropic) {
            return Ok(Choice::Anthropic);
        }
        let model = model.unwrap_or_default().escape_debug();
        match (&able[..], &present[..]) {
            ([one], _) => Ok(*one),
            ([], []) => Err(Error::new(ErrorKind::Model, "no model provider is configured").hint(
                "set OPENAI_API_KEY, OPENAI_BASE_URL, ANTHROPIC_API_KEY or the AZURE_OPENAI_ variables, \
                 in the environment or in `.env`",
            )),
            ([], _) => {
                let wanted = if maker == Maker::Anthropic { "ANTHROPIC_API_KEY" } else { "OPENAI_API_KEY" };
                let message = format!("no provider that is configured has the model `{model}`");
                Err(Error::new(ErrorKind::Model, message).hint(format!("set {wanted}, or name the provider")))
            }
            (several, _) => {
                let names: Vec<_> = several.iter().map(|choice| format!("`{}`", choice.name())).collect();
                let names = names.join(", ");
                let message = format!("several model providers are configured: {names}");
                Err(Error::new(ErrorKind::Model, message).hint("name the one that is meant"))
            }
        }
    }

    fn build(&self, choice: Choice) -> Result<Arc<dyn Provider>> {
        let wanted = |name: &str| {
            self.get(name).ok_or_else(|| {
                let message = format!("the provider `{}` wants {name}, which is not set", choice.name());
                Error::new(ErrorKind::Model, message)
                    .hint(format!("set {name} in the environment or in `.env`"))
            })
        };
        // The name of the variable makes the sentence of an error one that can be followed.
        let checked = |name: &str, url: String| match base_url(&url) {
            Ok(_) => Ok(url),
            Err(error) => Err(Error::new(ErrorKind::Model, format!("{name} cannot be used")).source(error)),
        };
        match choice {
            Choice::OpenAi => {
                let mut builder = OpenAi::builder().http(self.http.clone());
                match self.get("OPENAI_BASE_URL") {
                    Some(url) => builder = builder.base_url(checked("OPENAI_BASE_URL", url)?),
                    None => drop(wanted("OPENAI_API_KEY")?),
                }
                if let Some(key) = self.get("OPENAI_API_KEY") {
                    builder = builder.key(key);
                }
                Ok(Arc::new(builder.build()?))
            }
            Choice::Azure => {
                let mut builder = AzureOpenAi::builder()
                    .http(self.http.clone())
                    .key(wanted("AZURE_OPENAI_API_KEY")?)
                    .endpoint(checked("AZURE_OPENAI_ENDPOINT", wanted("AZURE_OPENAI_ENDPOINT")?)?);
                for entry in wanted("AZURE_OPENAI_DEPLOYMENT")?.split(',') {
                    builder = match entry.split_once('=') {
                        Some((model, deployment)) => builder.deployment(model.trim(), deployment.trim()),
                        None => builder.default_deployment(entry.trim()),
                    };
                }
                if let Some(version) = self.get("AZURE_OPENAI_API_VERSION") {
                    builder = builder.api_version(version);
                }
                Ok(Arc::new(builder.build()?))
            }
            Choice::Anthropic => {
                let key = wanted("ANTHROPIC_API_KEY")?;
                let mut builder = Anthropic::builder().http(self.http.clone()).key(key);
                if let Some(url) = self.get("ANTHROPIC_BASE_URL") {
                    builder = builder.base_url(checked("ANTHROPIC_BASE_URL", url)?);
                }
                Ok(Arc::new(builder.build()?))
            }
        }
    }
}
