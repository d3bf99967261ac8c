//! `agentkernel.toml`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, de};

use crate::failure::{Failure, Result};
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
    /// Where the file lies: relative paths in it start here.
    #[serde(skip)]
    pub directory: PathBuf,
    /// The file, if there is one.
    #[serde(skip)]
    pub file: Option<PathBuf>,
}

/// `[tool.NAME]`: a tool and what it is granted.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ToolConfig {
    /// The component; left out for a tool that `tools` or `--tools` name.
    pub component: Option<PathBuf>,
    pub summary: Option<String>,
    #[serde(default)]
    pub mounts: Vec<String>,
    #[serde(default)]
    pub env: Vec<String>,
    #[serde(default, deserialize_with = "timeout")]
    pub timeout: Option<Timeout>,
    #[serde(default, deserialize_with = "bytes")]
    pub memory: Option<u64>,
    #[serde(default, deserialize_with = "bytes")]
    pub max_written: Option<u64>,
    pub max_open_files: Option<u32>,
    pub max_entries: Option<u32>,
    pub max_path: Option<u32>,
}

fn timeout<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timeout>, D::Error> {
    let text = String::deserialize(deserializer)?;
    units::timeout(&text).map(Some).map_err(de::Error::custom)
}

fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    units::bytes(&text).map(Some).map_err(de::Error::custom)
}

impl Config {
    /// The file that was named, or the nearest one from the working directory upwards, or nothing.
    pub fn load(named: Option<&Path>) -> Result<Self> {
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
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::new(format!("cannot read the configuration `{shown}`: {error}")))?;
        let mut config: Config = toml::from_str(&text).map_err(|error| {
            let place = error.span().map(|span| {
                let before = &text[..span.start.min(text.len())];
                let line = before.matches('\n').count() + 1;
                let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
                format!(":{line}:{column}")
            });
            Failure::new(format!("`{shown}{}`: {}", place.unwrap_or_default(), error.message()))
                .hint("docs/configuration.md lists all settings")
        })?;
        let directory = path.parent().unwrap_or(Path::new(""));
        config.directory = if directory.as_os_str().is_empty() { ".".into() } else { directory.to_owned() };
        config.file = Some(path.to_owned());
        Ok(config)
    }
}
