//! What lasts longer than a session: opened for the commands that grant it.

use std::path::{Path, PathBuf};

use agentkernel::{KernelBuilder, Skills, State};

use crate::arguments::Lasting;
use crate::config::Config;
use crate::failure::Result;
use crate::settings::Settings;
use crate::trust;

/// What the configuration file names, its paths resolved.
#[derive(Debug, Default)]
pub struct Configured {
    state: Option<PathBuf>,
    /// The directory, and whether it may be written.
    skills: Option<(PathBuf, bool)>,
}

impl Configured {
    pub fn of(config: &Config) -> Self {
        let base = &config.directory;
        Configured {
            state: config.state.as_ref().map(|table| base.join(&table.file)),
            skills: config.skills.as_ref().map(|table| (base.join(&table.directory), table.write)),
        }
    }
}

impl Configured {
    /// The database of what programs keep.
    pub fn state(&self) -> Option<&Path> {
        self.state.as_deref()
    }

    /// The directory of skills.
    pub fn skills(&self) -> Option<&Path> {
        self.skills.as_ref().map(|(directory, _)| directory.as_path())
    }
}

/// What is granted.
#[derive(Debug, Default)]
pub struct Granted {
    state: Option<State>,
    skills: Option<Skills>,
}

impl Granted {
    pub fn give(&self, mut kernel: KernelBuilder) -> KernelBuilder {
        if let Some(state) = &self.state {
            kernel = kernel.state(state.clone());
        }
        if let Some(skills) = &self.skills {
            kernel = kernel.skills(skills.clone());
        }
        kernel
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
        let read = flags.skills.skills.clone().map(|directory| (directory, false));
        let written = flags.skills.skills_write.clone().map(|directory| (directory, true));
        if let Some((directory, write)) = written.or(read).or(self.configured.skills.clone()) {
            trust::outside(
                &self,
                "directory of skills",
                &directory,
                "and name it with `--skills` from elsewhere",
            )?;
            self.lasting.skills = Some(match write {
                true => Skills::open_writable(directory)?,
                false => Skills::open(directory)?,
            });
        }
        Ok(self)
    }
}
