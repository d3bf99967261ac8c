//! Keeping a session's state, and going back to it.
//!
//! Before a turn, what the turns before have changed is kept. When the turn is stopped, its instance is
//! thrown away, and another one starts from what was kept; all else (directories, tools, budgets, clocks)
//! stays. Nothing of the host may be held meanwhile: an instance's handles end with it.

use std::sync::Arc;

use super::start::instantiate;
use super::{ASK_TIMEOUT, Live, ended};
use crate::engine::{Frozen, Interrupt};
use crate::kernel::Inner;
use crate::outcome::Outcome;
use crate::turn::Turn;
use crate::{Error, ErrorKind, Result};

/// What there is after a turn.
pub(super) enum After {
    Live(Box<Live>),
    /// The session has ended. If it could not go back, the program held this before the turn.
    Ended(Vec<String>),
}

/// Where a session can go back to.
pub(super) enum Point {
    /// A kept memory, or else an interpreter that has run nothing.
    Kept(Option<Arc<Frozen>>),
    /// Nowhere, since the program held this.
    Lost(Vec<String>),
}

impl Live {
    /// Runs one turn; gives what is there for the next one.
    pub(super) fn turn(
        mut self: Box<Self>,
        kernel: &Inner,
        interrupt: &Arc<Interrupt>,
        turn: Turn,
    ) -> Result<(Outcome, After)> {
        if self.rollback {
            self.keep(kernel, interrupt)?;
        }
        let (mut outcome, alive) = self.run(kernel, interrupt, turn)?;
        let after = match self.point {
            _ if alive => After::Live(self),
            _ if !self.rollback => After::Ended(Vec::new()),
            Point::Lost(held) => After::Ended(held),
            Point::Kept(_) => {
                outcome.rolled_back = true;
                After::Live(self.go_back(kernel, interrupt)?)
            }
        };
        Ok((outcome, after))
    }

    /// Makes the state as it is the one to go back to.
    fn keep(&mut self, kernel: &Inner, interrupt: &Arc<Interrupt>) -> Result<()> {
        if !self.is_configured {
            // Nothing has run since it was started or put back.
            return Ok(());
        }
        match self.let_go(kernel, interrupt)? {
            Ok(()) => {
                // The one before goes first: there is never more than one beside the memory itself.
                self.point = Point::Lost(Vec::new());
                self.point = Point::Kept(Some(self.freeze()?));
            }
            Err(held) => self.point = Point::Lost(held),
        }
        Ok(())
    }

    /// Lets the instance let go of its handles; gives what the program holds, if that is why it cannot.
    pub(super) fn let_go(
        &mut self,
        kernel: &Inner,
        interrupt: &Arc<Interrupt>,
    ) -> Result<Result<(), Vec<String>>> {
        let holdings = self.store.data_mut().holdings();
        if holdings.programs > 0 {
            let held = self.beside(kernel, interrupt, ASK_TIMEOUT, |python, store| {
                python.agentkernel_kernel_guest().call_held(store)
            })?;
            let mut held = held.map_err(|_| ended())?;
            if held.is_empty() {
                held.push("a file or a listing without a name (`os.open`, `os.scandir`)".into());
            }
            return Ok(Err(held));
        }
        if holdings.own {
            let rested = self.beside(kernel, interrupt, ASK_TIMEOUT, |python, store| {
                python.agentkernel_kernel_guest().call_rest(store)
            })?;
            rested.map_err(|_| ended())?;
        }
        Ok(Ok(()))
    }

    pub(super) fn freeze(&self) -> Result<Arc<Frozen>> {
        let kept = self.memory.freeze();
        kept.map(Arc::new).ok_or_else(|| Error::new(ErrorKind::System, "the memory cannot be kept"))
    }

    /// Another instance that starts from the point, in place of this one.
    pub(super) fn go_back(self: Box<Self>, kernel: &Inner, interrupt: &Arc<Interrupt>) -> Result<Box<Self>> {
        let Live { store, settings, llm, rollback, point, .. } = *self;
        let Point::Kept(kept) = &point else { return Err(ended()) };
        let mut state = store.into_data();
        state.leave_instance();
        let (store, python, memory) = instantiate(kernel, interrupt, state, kept.as_ref())?;
        Ok(Box::new(Live { store, python, memory, settings, is_configured: false, llm, rollback, point }))
    }
}
