//! What lasts longer than a session: opened for the commands that grant it.

use std::path::PathBuf;

use agentkernel::{KernelBuilder, State};

use crate::arguments::Lasting;
use crate::config::Config;
use crate::failure::Result;
use crate::settings::Settings;
use crate::trust;

/// What the configuration file names, its paths resolved.
#[derive(Debug, Default)]
pub struct Configured {
    state: Option<PathBuf>,
}

impl Configured {
    pub fn of(config: &Config) -> Self {
        Configured { state: config.state.as_ref().map(|table| config.directory.join(&table.file)) }
    }
}

/// What is granted.
#[derive(Debug, Default)]
pub struct Granted {
    state: Option<State>,
}

impl Granted {
    pub fn give(&self, mut kernel: KernelBuilder) -> KernelBuilder {
        if let Some(state) = &self.state {
            kernel = kernel.state(state.clone());
        }
        kernel
    }

    /// What there is, in a few words each.
    pub fn summary(&self) -> Vec<String> {
        let state = self.state.as_ref().and_then(State::path);
        state.map(|path| format!("state: `{}`", path.display())).into_iter().collect()
    }
}

impl Settings {
    /// Grants what `flags` name, or else the configuration file.
    pub fn lasting(mut self, flags: &Lasting) -> Result<Self> {
        if let Some(file) = flags.state.as_ref().or(self.configured.state.as_ref()) {
            // Before it is made.
            trust::outside(&self, "state", file, "and name it with `--state` from elsewhere")?;
            self.lasting.state = Some(State::open(file)?);
        }
        Ok(self)
    }
}
