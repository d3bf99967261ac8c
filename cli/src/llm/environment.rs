//! What the environment and a `.env` file say of providers: keys, and where servers are.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use crate::config::Config;
use crate::failure::{Failure, Result};

/// The variables that say how providers are reached.
pub const PROVIDER_VARIABLES: &[&str] = &[
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "AZURE_OPENAI_API_KEY",
    "AZURE_OPENAI_ENDPOINT",
    "AZURE_OPENAI_DEPLOYMENT",
    "AZURE_OPENAI_API_VERSION",
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_BASE_URL",
];

/// A `.env` file.
#[derive(Default)]
pub struct DotEnv {
    pub file: Option<PathBuf>,
    variables: BTreeMap<String, String>,
}

/// Values are secrets.
impl fmt::Debug for DotEnv {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("DotEnv").field(&self.file).finish()
    }
}

impl DotEnv {
    /// The file beside the configuration, else in the working directory; `--no-config` has none.
    pub fn load(config: &Config, no_config: bool) -> Result<Self> {
        let beside = config.file.is_some().then(|| config.directory.join(".env"));
        let found = beside.into_iter().chain([PathBuf::from(".env")]).find(|path| path.is_file());
        match found {
            Some(path) if !no_config => Self::read(path),
            _ => Ok(DotEnv::default()),
        }
    }

    fn read(path: PathBuf) -> Result<Self> {
        let shown = path.display().to_string();
        let wrong = |error: dotenvy::Error| match error {
            dotenvy::Error::Io(error) if error.kind() != std::io::ErrorKind::InvalidData => {
                Failure::new(format!("cannot read `{shown}`: {error}"))
            }
            // The error has the line, which may be a key.
            _ => Failure::new(format!("`{shown}` has a line that is not `NAME=VALUE`"))
                .hint("put values with blanks or special characters in single quotes"),
        };
        let mut variables = BTreeMap::new();
        for variable in dotenvy::from_path_iter(&path).map_err(wrong)? {
            let (name, value) = variable.map_err(wrong)?;
            if name.starts_with("AGENTKERNEL_") {
                return Err(Failure::new(format!("`{name}` has no effect in `{shown}`"))
                    .hint("that file has the variables of providers; settings stand in agentkernel.toml"));
            }
            variables.insert(name, value);
        }
        Ok(DotEnv { file: Some(path), variables })
    }

    /// What is set to something in the file.
    pub fn has(&self, name: &str) -> bool {
        self.variables.get(name).is_some_and(|value| !value.trim().is_empty())
    }

    /// Refuses a file that says to which server a key of this process is sent: a program may have
    /// written it.
    pub fn check_servers(&self) -> Result<()> {
        const SERVERS: [(&str, &str); 3] = [
            ("OPENAI_BASE_URL", "OPENAI_API_KEY"),
            ("AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_API_KEY"),
            ("ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY"),
        ];
        let Some(file) = &self.file else { return Ok(()) };
        let found = SERVERS.iter().find(|(server, key)| {
            self.variables.contains_key(*server) && own(server).is_none() && own(key).is_some()
        });
        match found {
            Some((server, key)) => Err(Failure::new(format!(
                "`{}` says by {server} to which server {key} of the environment is sent",
                file.display()
            ))
            .hint(format!("set {server} in the environment as well, or put the key into the file"))),
            None => Ok(()),
        }
    }

    /// A variable of this process, else of the file.
    pub fn get(&self, name: &str) -> Option<String> {
        own(name).or_else(|| self.variables.get(name).cloned())
    }
}

/// A variable of this process that is set to something.
pub fn own(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}
