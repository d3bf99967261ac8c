//! `agentkernel.toml`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use agentkernel::{Hidden, Privacy};
use serde::{Deserialize, Deserializer, de};

use crate::arguments::Configuration;
use crate::failure::{Failure, Result};
use crate::grants::{Clock, Random, Secrets};
use crate::llm::LlmConfig;
use crate::servers::McpConfig;
use crate::task::TasksConfig;
use crate::units::{self, Timeout};

const NAME: &str = "agentkernel.toml";

/// The file's content. Every setting is that of the flag with the same name.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    pub workspace: Option<PathBuf>,
    #[serde(default)]
    pub mounts: Vec<String>,
    #[serde(default)]
    pub env: Vec<String>,
    #[serde(default, deserialize_with = "timeout")]
    pub timeout: Option<Timeout>,
    #[serde(default, deserialize_with = "bytes")]
    pub memory: Option<u64>,
    pub fuel: Option<u64>,
    #[serde(default, deserialize_with = "bytes")]
    pub max_output: Option<u64>,
    #[serde(default, deserialize_with = "bytes")]
    pub max_written: Option<u64>,
    pub max_open_files: Option<u32>,
    pub max_entries: Option<u32>,
    pub max_path: Option<u32>,
    pub max_operations: Option<u32>,
    pub guest: Option<PathBuf>,
    pub portable: Option<bool>,
    pub cache_dir: Option<PathBuf>,
    #[serde(default)]
    pub tools: Vec<PathBuf>,
    #[serde(default)]
    pub tool: BTreeMap<String, ToolConfig>,
    pub llm: Option<LlmConfig>,
    #[serde(default)]
    pub tasks: TasksConfig,
    pub state: Option<StateConfig>,
    pub skills: Option<SkillsConfig>,
    /// Images by name.
    #[serde(default)]
    pub image: BTreeMap<String, ImageConfig>,
    pub privacy: Option<PrivacyConfig>,
    /// Where the file lies: relative paths in it start here.
    #[serde(skip)]
    pub directory: PathBuf,
    /// The file, if there is one.
    #[serde(skip)]
    pub file: Option<PathBuf>,
}

/// `[image.NAME]`: what sessions find imported and run.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageConfig {
    /// Tools whose modules are imported.
    #[serde(default)]
    pub tools: Vec<String>,
    /// A program in a file.
    pub prelude: Option<PathBuf>,
    /// A program, in place of a file.
    pub code: Option<String>,
}

/// `[state]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateConfig {
    /// The database of what programs keep.
    pub file: PathBuf,
}

/// `[skills]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SkillsConfig {
    pub directory: PathBuf,
    /// Whether programs may save and delete skills.
    #[serde(default)]
    pub write: bool,
}

/// `[privacy]`: what models are not shown.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrivacyConfig {
    /// Names of what is hidden; all that there is where it is left out.
    pub hide: Option<Vec<String>>,
    /// Regular expressions of what is hidden as well, by name.
    #[serde(default)]
    pub patterns: BTreeMap<String, String>,
}

impl PrivacyConfig {
    pub fn privacy(&self) -> Result<Privacy> {
        let mut privacy = Privacy::new();
        if let Some(names) = &self.hide {
            let known = Hidden::ALL.map(Hidden::name);
            if let Some(name) = names.iter().find(|name| !known.contains(&name.as_str())) {
                return Err(Failure::new(format!("`{name}` in `[privacy] hide` is nothing that is found"))
                    .hint(format!(
                        "there are {}; give others under `[privacy.patterns]`",
                        known.join(", ")
                    )));
            }
            let shown =
                Hidden::ALL.into_iter().filter(|hidden| !names.iter().any(|name| name == hidden.name()));
            privacy = shown.fold(privacy, Privacy::without);
        }
        if self.hide.as_ref().is_some_and(Vec::is_empty) && self.patterns.is_empty() {
            return Err(Failure::new("`[privacy]` hides nothing")
                .hint("name what it hides: `hide = [\"email\"]`, or leave the table out"));
        }
        for (name, expression) in &self.patterns {
            privacy = privacy.pattern(name, expression)?;
        }
        Ok(privacy)
    }
}

/// `[tool.NAME]`: a tool and what it is granted.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ToolConfig {
    /// The component; left out for a tool that `tools` or `--tools` name.
    pub component: Option<PathBuf>,
    /// A directory with a Python package, in place of a component.
    pub python: Option<PathBuf>,
    /// A server of the Model Context Protocol, in place of a component.
    pub mcp: Option<McpConfig>,
    pub summary: Option<String>,
    pub mounts: Option<Vec<String>>,
    #[serde(default)]
    pub env: Vec<String>,
    /// Rules for HTTP requests.
    #[serde(default)]
    pub http: Vec<String>,
    #[serde(default)]
    pub secrets: Secrets,
    pub random: Option<Random>,
    pub clock: Option<Clock>,
    /// Functions, parameters or paths in them, and what must hold there.
    #[serde(default)]
    pub allow: BTreeMap<String, BTreeMap<String, ConstraintConfig>>,
    #[serde(default, deserialize_with = "timeout")]
    pub timeout: Option<Timeout>,
    #[serde(default, deserialize_with = "bytes")]
    pub memory: Option<u64>,
    #[serde(default, deserialize_with = "bytes")]
    pub max_written: Option<u64>,
    pub max_open_files: Option<u32>,
    pub max_entries: Option<u32>,
    pub max_path: Option<u32>,
    /// Instances that calls which overlap may have.
    pub max_instances: Option<u32>,
    /// Whether each call gets an instance of its own.
    pub per_call: Option<bool>,
    pub max_requests: Option<u32>,
    pub max_concurrent_requests: Option<u32>,
    #[serde(default, deserialize_with = "bytes")]
    pub max_sent: Option<u64>,
    #[serde(default, deserialize_with = "bytes")]
    pub max_received: Option<u64>,
}

/// What an argument must be like.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ConstraintConfig {
    pub pattern: Option<String>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub one_of: Option<Vec<serde_json::Value>>,
    pub max_length: Option<u64>,
    #[serde(default)]
    pub or_none: bool,
}

/// The file beside tools that says what they need.
const TOOLS_NAME: &str = "tools.toml";

/// What tools in one directory are granted where nothing else is said.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ToolDefaults {
    #[serde(default)]
    tool: BTreeMap<String, ToolConfig>,
}

impl ToolConfig {
    /// The defaults that lie beside the tools in `directory`. They grant nothing but the workspace of
    /// the program that calls.
    pub fn beside(directory: &Path) -> Result<BTreeMap<String, Self>> {
        let path = directory.join(TOOLS_NAME);
        if !path.is_file() {
            return Ok(BTreeMap::new());
        }
        let defaults: ToolDefaults = parse(&path)?;
        for (name, table) in &defaults.tool {
            let elsewhere = |mount: &&String| !mount.starts_with(agentkernel::ToolGrants::WORKSPACE);
            let mount = table.mounts.iter().flatten().find(elsewhere);
            let network = !table.http.is_empty() || !table.secrets.is_empty();
            let ambient = table.random.is_some() || table.clock.is_some();
            let source = table.component.is_some() || table.python.is_some() || table.mcp.is_some();
            if mount.is_some() || !table.env.is_empty() || network || ambient || source {
                return Err(Failure::new(format!(
                    "`{}` grants the tool `{name}` more than the workspace",
                    path.display()
                ))
                .hint("such a file may have `summary`, limits, and mounts of `{workspace}`; grant the rest in agentkernel.toml"));
            }
        }
        Ok(defaults.tool)
    }

    /// These settings, and those of `defaults` where nothing is said.
    pub fn over(&self, defaults: &Self) -> Self {
        let ToolConfig { component, python, mcp, summary, mounts, env, http, secrets, allow, .. } =
            self.clone();
        ToolConfig {
            component,
            python,
            mcp,
            summary: summary.or_else(|| defaults.summary.clone()),
            mounts: mounts.or_else(|| defaults.mounts.clone()),
            env,
            http,
            secrets,
            random: self.random,
            clock: self.clock,
            // What lies beside a tool is not loosened by another function's constraints.
            allow: defaults.allow.clone().into_iter().chain(allow).collect(),
            timeout: self.timeout.or(defaults.timeout),
            memory: self.memory.or(defaults.memory),
            max_written: self.max_written.or(defaults.max_written),
            max_open_files: self.max_open_files.or(defaults.max_open_files),
            max_entries: self.max_entries.or(defaults.max_entries),
            max_path: self.max_path.or(defaults.max_path),
            max_instances: self.max_instances.or(defaults.max_instances),
            per_call: self.per_call.or(defaults.per_call),
            max_requests: self.max_requests.or(defaults.max_requests),
            max_concurrent_requests: self.max_concurrent_requests.or(defaults.max_concurrent_requests),
            max_sent: self.max_sent.or(defaults.max_sent),
            max_received: self.max_received.or(defaults.max_received),
        }
    }
}

/// Reads and parses a file; an error tells the place in it.
fn parse<T: de::DeserializeOwned>(path: &Path) -> Result<T> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::new(format!("cannot read the configuration `{shown}`: {error}")))?;
    toml::from_str(&text).map_err(|error| {
        let place = error.span().map(|span| {
            let before = &text[..span.start.min(text.len())];
            let line = before.matches('\n').count() + 1;
            let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
            format!(":{line}:{column}")
        });
        let unknown = error.message().strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
        let hint = match unknown {
            // This file is shared, and shown in bug reports.
            Some(name) if name.to_ascii_lowercase().contains("key") => {
                "keys are not kept in this file: set OPENAI_API_KEY, ANTHROPIC_API_KEY or the AZURE_OPENAI_ variables \
                 in the environment or in a `.env` file"
            }
            _ => "docs/configuration.md lists all settings",
        };
        Failure::new(format!("`{shown}{}`: {}", place.unwrap_or_default(), error.message())).hint(hint)
    })
}

pub fn timeout<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timeout>, D::Error> {
    let text = String::deserialize(deserializer)?;
    units::timeout(&text).map(Some).map_err(de::Error::custom)
}

pub fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    units::bytes(&text).map(Some).map_err(de::Error::custom)
}

impl Config {
    /// What the flags ask for.
    pub fn of(flags: &Configuration) -> Result<Self> {
        match flags.no_config {
            true => Ok(Config::default()),
            false => Self::load(flags.config.as_deref()),
        }
    }

    /// The file that was named, or the nearest one from the working directory upwards, or nothing.
    fn load(named: Option<&Path>) -> Result<Self> {
        if let Some(path) = named {
            return Self::read(path);
        }
        let Ok(current) = std::env::current_dir() else { return Ok(Config::default()) };
        match current.ancestors().map(|directory| directory.join(NAME)).find(|path| path.is_file()) {
            Some(path) => Self::read(&path),
            None => Ok(Config::default()),
        }
    }

    fn read(path: &Path) -> Result<Self> {
        let mut config: Config = parse(path)?;
        let directory = path.parent().unwrap_or(Path::new(""));
        config.directory = if directory.as_os_str().is_empty() { ".".into() } else { directory.to_owned() };
        config.file = Some(path.to_owned());
        Ok(config)
    }
}
