//! `agentkernel.toml`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use agentkernel::{Hidden, Privacy};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use crate::arguments::Configuration;
use crate::failure::{Failure, Result};
use crate::grants::{Clock, Random, Resources, Secrets};
use crate::llm::LlmConfig;
use crate::schema;
use crate::servers::McpConfig;
use crate::task::TasksConfig;
use crate::trust;
use crate::units::{self, Timeout};

const NAME: &str = "agentkernel.toml";

// The documentation of a field is its description in the schema and on the page of the configuration. Its default is
// what stands there between backticks after `Default:`; `x-flag` names its flag, by which its variable is found.

/// agentkernel.toml: what programs may touch and use where no flag says it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The directory at `/workspace`, read and written. Default: an empty one, removed afterwards.
    #[schemars(with = "Option<schema::PathText>", extend("x-flag" = "--workspace"), example = &"work")]
    pub workspace: Option<PathBuf>,
    /// Further directories, `HOST:GUEST`, read-only unless `:rw` is added. Those of flags are added; for the same guest path
    /// the flag's wins. Default: none.
    #[serde(default)]
    #[schemars(extend("x-flag" = "--mount"), example = ["data:/data", "out:/out:rw"])]
    pub mounts: Vec<String>,
    /// Environment variables, `NAME=VALUE`; a name alone passes on the value that it has where the program is started.
    /// Those of flags are added. Default: none.
    #[serde(default)]
    #[schemars(extend("x-flag" = "--env"), example = ["LANG=C.UTF-8"])]
    pub env: Vec<String>,
    /// Wall-clock time of a turn, waiting included; of a block of code of `rlm` it is `10m` by default. Default: `60s`.
    #[serde(default, deserialize_with = "timeout")]
    #[schemars(with = "Option<schema::TimeOrNone>", extend("x-flag" = "--timeout"))]
    pub timeout: Option<Timeout>,
    /// Memory of the interpreter. Default: `512MiB`.
    #[serde(default, deserialize_with = "bytes")]
    #[schemars(with = "Option<schema::Size>", extend("x-flag" = "--memory"))]
    pub memory: Option<u64>,
    /// Units of computation of a turn, the same on every machine. Default: not counted, which is faster.
    #[schemars(extend("x-flag" = "--fuel"), example = 1_000_000_000)]
    pub fuel: Option<u64>,
    /// Output in all; the rest is dropped after a marker. Default: `10MiB`.
    #[serde(default, deserialize_with = "bytes")]
    #[schemars(with = "Option<schema::Size>", extend("x-flag" = "--max-output"))]
    pub max_output: Option<u64>,
    /// Bytes written to all directories. Default: `1GiB`.
    #[serde(default, deserialize_with = "bytes")]
    #[schemars(with = "Option<schema::Size>", extend("x-flag" = "--max-written"))]
    pub max_written: Option<u64>,
    /// Files and directories open at once. Default: `256`.
    #[schemars(extend("x-flag" = "--max-open-files"))]
    pub max_open_files: Option<u32>,
    /// Files, directories and links made, less those removed. Default: `20000`.
    #[schemars(extend("x-flag" = "--max-entries"))]
    pub max_entries: Option<u32>,
    /// Length of a path in bytes. Default: `4096`.
    #[schemars(extend("x-flag" = "--max-path"))]
    pub max_path: Option<u32>,
    /// Host calls in flight at once. Default: `256`.
    #[schemars(extend("x-flag" = "--max-operations"))]
    pub max_operations: Option<u32>,
    /// What runs programs; there is one. Default: `wasm`.
    #[schemars(extend("x-flag" = "--sandbox"))]
    pub sandbox: Option<String>,
    /// Another interpreter than the built-in one, trusted as this program is. Default: the built-in one.
    #[schemars(with = "Option<schema::PathText>", extend("x-flag" = "--guest"), example = &"python.wasm.zst")]
    pub guest: Option<PathBuf>,
    /// Does without host-owned memory and safepoints, as on systems other than Linux. Default: `false`.
    #[schemars(extend("x-flag" = "--portable"))]
    pub portable: Option<bool>,
    /// Where compiled interpreters and tools are kept. Default: the user's cache directory.
    #[schemars(with = "Option<schema::PathText>", extend("x-flag" = "--cache-dir", "x-made" = true), example = &".cache")]
    pub cache_dir: Option<PathBuf>,
    /// Tool components, or directories of them: `text.wasm` is imported as `tools.text`. Those of flags are added.
    /// Default: none.
    #[serde(default)]
    #[schemars(with = "Vec<schema::PathText>", extend("x-flag" = "--tools"), example = ["tools"])]
    pub tools: Vec<PathBuf>,
    #[serde(default)]
    pub tool: BTreeMap<String, ToolConfig>,
    pub llm: Option<LlmConfig>,
    pub privacy: Option<PrivacyConfig>,
    #[serde(default)]
    pub tasks: TasksConfig,
    pub state: Option<StateConfig>,
    pub skills: Option<SkillsConfig>,
    #[serde(default)]
    pub image: BTreeMap<String, ImageConfig>,
    pub telemetry: Option<TelemetryConfig>,
    /// Where the file lies: relative paths in it start here.
    #[serde(skip)]
    pub directory: PathBuf,
    /// The file, if there is one.
    #[serde(skip)]
    pub file: Option<PathBuf>,
}

/// What sessions find imported and run, by the name that `--image NAME` has (docs/sessions.md).
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageConfig {
    /// Tools whose modules are imported. Default: none.
    #[serde(default)]
    #[schemars(example = ["text"])]
    pub tools: Vec<String>,
    /// A program in a file. Default: none.
    #[schemars(with = "Option<schema::PathText>", example = &"prelude.py")]
    pub prelude: Option<PathBuf>,
    /// A program, in place of a file. Default: none.
    #[schemars(example = &"rows = []")]
    pub code: Option<String>,
}

/// What programs keep from session to session (docs/state.md).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StateConfig {
    /// The database of what programs keep, made if there is none. Default: none, so nothing is kept.
    #[schemars(with = "schema::PathText", extend("x-flag" = "--state", "x-made" = true), example = &"state.db")]
    pub file: PathBuf,
}

/// Programs that are kept, and imported later (docs/skills.md).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SkillsConfig {
    /// The directory. Default: none.
    #[schemars(with = "schema::PathText", extend("x-flag" = ["--skills", "--skills-write"]), example = &"skills")]
    pub directory: PathBuf,
    /// Whether programs may save and delete skills. Default: `false`.
    #[serde(default)]
    #[schemars(extend("x-flag" = "--skills-write"))]
    pub write: bool,
}

/// What is told of a run, and to whom (docs/telemetry.md).
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TelemetryConfig {
    /// A file for Perfetto or chrome://tracing. Default: none.
    #[schemars(with = "Option<schema::PathText>", extend("x-flag" = "--trace", "x-made" = true), example = &"trace.json")]
    pub trace: Option<PathBuf>,
    /// The OpenTelemetry collector that spans are sent to over HTTP, or `env` for the one that OTEL_EXPORTER_OTLP_ENDPOINT
    /// names. Default: none.
    #[schemars(extend("x-flag" = "--otlp"), example = &"http://localhost:4318")]
    pub otlp: Option<String>,
    /// Whether both hold texts too: programs, output, prompts and answers. Default: `false`.
    #[serde(default)]
    #[schemars(extend("x-flag" = "--trace-content"))]
    pub content: bool,
}

/// What models are not shown (docs/privacy.md).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrivacyConfig {
    /// Names of what is hidden. Default: all that there is.
    #[schemars(example = ["email", "phone", "card", "iban", "key"])]
    pub hide: Option<Vec<String>>,
    /// A regular expression of what is hidden as well, by name. Default: none.
    #[serde(default)]
    #[schemars(example = &r"E-\d{6}")]
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

/// A tool by its name, and what it is granted (docs/tools.md).
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ToolConfig {
    /// The component. Default: the one that `tools` or `--tools` name.
    #[schemars(with = "Option<schema::PathText>", example = &"text.wasm")]
    pub component: Option<PathBuf>,
    /// A directory with a Python package, in place of a component. Default: none.
    #[schemars(with = "Option<schema::PathText>", example = &"helpers")]
    pub python: Option<PathBuf>,
    /// A server of the Model Context Protocol, in place of a component. Default: none.
    #[schemars(example = &"{ command = \"npx\", args = [\"-y\", \"@modelcontextprotocol/server-memory\"] }")]
    pub mcp: Option<McpConfig>,
    /// One line about what it is for. Default: the first line of its documentation.
    #[schemars(example = &"Search and split text.")]
    pub summary: Option<String>,
    /// Directories that it sees, `HOST:GUEST[:rw]`; `{workspace}` is that of the program. Default: none.
    #[schemars(example = ["{workspace}:/workspace"])]
    pub mounts: Option<Vec<String>>,
    /// Its environment variables, `NAME=VALUE` or a name alone. Default: none.
    #[serde(default)]
    #[schemars(example = ["LANG=C.UTF-8"])]
    pub env: Vec<String>,
    /// Requests that it may send, as rules of method, host, port and path. Default: none.
    #[serde(default)]
    #[schemars(example = ["api.example.com"])]
    pub http: Vec<String>,
    #[serde(default)]
    pub secrets: Secrets,
    /// Random numbers: `"system"`, `"none"` or `{ seed = N }`. Default: `system`.
    pub random: Option<Random>,
    /// Its clock: `"system"`, `"none"` or a time with its offset at which it stands. Default: `system`.
    pub clock: Option<Clock>,
    /// What arguments must be like: by function, and by parameter or a path in it. Default: anything.
    #[serde(default)]
    pub allow: BTreeMap<String, BTreeMap<String, ConstraintConfig>>,
    /// Time of one call. Default: `30s`.
    #[serde(default, deserialize_with = "timeout")]
    #[schemars(with = "Option<schema::TimeOrNone>")]
    pub timeout: Option<Timeout>,
    /// Memory of an instance. Default: `256MiB`.
    #[serde(default, deserialize_with = "bytes")]
    #[schemars(with = "Option<schema::Size>")]
    pub memory: Option<u64>,
    /// Bytes written to its directories in a session. Default: `1GiB`.
    #[serde(default, deserialize_with = "bytes")]
    #[schemars(with = "Option<schema::Size>")]
    pub max_written: Option<u64>,
    /// Files and directories open at once, in all its instances. Default: `256`.
    pub max_open_files: Option<u32>,
    /// Files, directories and links made, less those removed, in a session. Default: `20000`.
    pub max_entries: Option<u32>,
    /// Length of a path in bytes. Default: `4096`.
    pub max_path: Option<u32>,
    /// Instances that calls which overlap may have. Default: `8`.
    pub max_instances: Option<u32>,
    /// Whether each call gets an instance of its own. Default: `false`.
    pub per_call: Option<bool>,
    /// What becomes of its open resources when a session is forked, kept or put back: `"kept"`, `"closed"`, `"recreated"` or
    /// `"refused"`. Default: `kept`.
    pub resources: Option<Resources>,
    /// HTTP requests in a session. Default: `1000`.
    pub max_requests: Option<u32>,
    /// HTTP requests of an instance at the same time. Default: `16`.
    pub max_concurrent_requests: Option<u32>,
    /// Bytes that its requests send in a session. Default: `1GiB`.
    #[serde(default, deserialize_with = "bytes")]
    #[schemars(with = "Option<schema::Size>")]
    pub max_sent: Option<u64>,
    /// Bytes that it receives in a session. Default: `1GiB`.
    #[serde(default, deserialize_with = "bytes")]
    #[schemars(with = "Option<schema::Size>")]
    pub max_received: Option<u64>,
}

/// What an argument must be like.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ConstraintConfig {
    /// A regular expression that the whole text matches. Default: any text.
    #[schemars(example = &"[a-z]+")]
    pub pattern: Option<String>,
    /// The least number. Default: any.
    #[schemars(example = 0.0)]
    pub min: Option<f64>,
    /// The greatest number. Default: any.
    #[schemars(example = 100.0)]
    pub max: Option<f64>,
    /// The values that are allowed. Default: any.
    #[schemars(example = ["a", "b"])]
    pub one_of: Option<Vec<serde_json::Value>>,
    /// The most characters, bytes or items. Default: any number.
    #[schemars(example = 1000)]
    pub max_length: Option<u64>,
    /// Whether it may be none as well. Default: `false`.
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
                .hint("such a file may have `summary`, limits, `allow`, `resources`, and mounts of `{workspace}`; grant the rest in agentkernel.toml"));
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
            resources: self.resources.or(defaults.resources),
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
        Self::find()?.map_or_else(|| Ok(Config::default()), |path| Self::read(&path))
    }

    /// The nearest file from the working directory upwards; an error if somebody else can have written it, since it names
    /// programs that are started outside of the sandbox.
    pub fn find() -> Result<Option<PathBuf>> {
        let Ok(current) = std::env::current_dir() else { return Ok(None) };
        let mut files = current.ancestors().map(|directory| directory.join(NAME));
        let Some(path) = files.find(|path| path.is_file()) else { return Ok(None) };
        match trust::planted(&path) {
            None => Ok(Some(path)),
            Some(why) => Err(Failure::new(format!(
                "the configuration `{}` was found, and is not to be trusted: {why}",
                path.display()
            ))
            .hint(
                "if it is yours, take its rights from others or name it with `--config`; else run with `--no-config`",
            )),
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
