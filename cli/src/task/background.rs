//! The tasks that a program dispatches while it runs.

use std::path::Path;

use agentkernel::Kernel;
use agentkernel::task::{Tasks, Worker};

use super::{block_on, store};
use crate::arguments::{Granted, Talk};
use crate::failure::Result;
use crate::settings::Settings;
use crate::terminal;
use crate::units::show_number_of;

/// The store that the flag or the file grants, if one of them does.
pub fn granted(flags: &Granted, settings: &Settings) -> Result<Option<Tasks>> {
    match flags.tasks.is_some() || settings.tasks.programs {
        true => store(flags.tasks.as_deref().map(Path::new), &settings.tasks).map(Some),
        false => Ok(None),
    }
}

/// A store that a program may put tasks into, and a worker for it in this process.
pub struct Background {
    pub tasks: Tasks,
    worker: Worker,
}

impl Background {
    /// What the flag or the file grants.
    pub fn start(flags: &Granted, settings: &Settings, kernel: &Kernel) -> Result<Option<Self>> {
        let Some(tasks) = granted(flags, settings)? else { return Ok(None) };
        let worker = super::work::builder(&tasks, kernel, &settings.tasks).start()?;
        Ok(Some(Background { tasks, worker }))
    }

    /// The same for sessions of that name, which are one.
    pub fn owned_by(self, owner: &str) -> Self {
        Background { tasks: self.tasks.owned_by(owner), ..self }
    }

    /// Gives what runs back, and says what is left.
    pub fn end(self, talk: Talk) {
        self.worker.stop();
        let file = self.tasks.file().unwrap_or_default();
        if let Ok(left) = block_on(self.tasks.unfinished())
            && left > 0
            && !talk.quiet
        {
            let (left, file) = (show_number_of(left, "task"), file.display());
            terminal::remark(&format!("{left} left in `{file}`; `agentkernel task work` runs what is there"));
        }
    }
}
