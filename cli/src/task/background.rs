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

/// A store that a program may put tasks into, and a worker for it in this process.
pub struct Background {
    pub tasks: Tasks,
    worker: Worker,
}

impl Background {
    /// What the flag or the file grants.
    pub fn start(granted: &Granted, settings: &Settings, kernel: &Kernel) -> Result<Option<Self>> {
        let config = &settings.tasks;
        if granted.tasks.is_none() && !config.programs {
            return Ok(None);
        }
        let tasks = store(granted.tasks.as_deref().map(Path::new), config)?;
        let worker = super::work::builder(&tasks, kernel, config).start()?;
        Ok(Some(Background { tasks, worker }))
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
