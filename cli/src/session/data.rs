//! What a session reads beside its files, and what its programs dispatch.
//!
//! Memory has positions in the context, and what was read of it. So the context must be what it was when that memory
//! began: at `new`, at the last `reset` or `replay`, or when the state was made that was restored.

use agentkernel::{Context, ContextMark, Kernel};

use super::state::State;
use crate::failure::{Failure, Result};
use crate::run;
use crate::task::Background;
use crate::terminal::escaped;

impl State {
    /// What `--context` names, as it is now.
    pub fn open_context(&self) -> Result<Option<Context>> {
        run::context(&self.contexts, &self.settings).map_err(|failure| self.unopened(failure))
    }

    fn unopened(&self, failure: Failure) -> Failure {
        let hint = failure.hint.unwrap_or_else(|| {
            "put it back as it was, or make a session with another `--context`".to_owned()
        });
        let name = &self.held.name;
        Failure::new(format!("the context of the session `{name}` cannot be opened: {}", failure.message))
            .hint(hint)
    }

    /// The same, which must be what the memory is of.
    pub fn context(&self) -> Result<Option<Context>> {
        let context = self.open_context()?;
        match &context {
            Some(now) => self.is_of(now.mark()).map(|()| context),
            None => Ok(context),
        }
    }

    /// Refuses a context that a turn would refuse, without opening it.
    pub fn check_context(&self) -> Result<()> {
        match &*self.contexts {
            [] => Ok(()),
            paths => {
                let now = ContextMark::of(paths).map_err(|error| self.unopened(error.into()))?;
                self.is_of(&now)
            }
        }
    }

    /// Refuses what the memory is not of.
    fn is_of(&self, now: &ContextMark) -> Result<()> {
        let difference = self.mark(u64::MAX).and_then(|before| before.difference(now));
        let Some(difference) = difference else { return Ok(()) };
        let name = &self.held.name;
        let message =
            format!("the context of the session `{name}` is not what it was: {}", escaped(&difference));
        if let Err(Failure { hint: Some(hint), .. }) = self.config.check_beginning(Some(now)) {
            return Err(Failure::new(message).hint(hint));
        }
        let replay = match self.journal.restored() {
            None => format!("`agentkernel session replay {name}` runs the turns over it once more, "),
            Some(_) => {
                format!("`agentkernel session restore {name} FILE` takes a state that was made over it, ")
            }
        };
        Err(Failure::new(message).hint(format!(
            "put it back as it was; or take it as it is now: {replay}`agentkernel session reset {name}` begins again"
        )))
    }

    /// What the context looked like when the memory of a turn was made.
    pub fn mark(&self, turn: u64) -> Option<&ContextMark> {
        self.journal.context(turn).or(self.config.context.as_ref())
    }

    /// A worker for the tasks of its programs, which are the session's in all its turns.
    pub fn background(&self, kernel: &Kernel) -> Result<Option<Background>> {
        let background = Background::start(&self.tasks, &self.settings, kernel)?;
        Ok(background.map(|background| background.owned_by(&self.config.tasks)))
    }
}
