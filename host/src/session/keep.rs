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
use crate::tool::Numbers;
use crate::turn::Turn;
use crate::{Error, ErrorKind, Overlay, Result};

/// What there is after a turn.
pub(super) enum After {
    Live(Box<Live>),
    /// The session has ended. If it could not go back, the program held this before the turn.
    Ended(Vec<String>),
}

/// Where a session can go back to.
pub(super) enum Point {
    /// What it was started from: an image, or else an interpreter that has run nothing.
    Start(Option<Arc<Frozen>>),
    /// Where it was before the last turn, and how far the numbers of tools' resources had come.
    Kept(Arc<Frozen>, Numbers),
    /// Nowhere, since the program held this.
    Lost(Vec<String>),
}

impl Live {
    /// Runs one turn; gives what is there for the next one, also where the turn could not be kept.
    pub(super) fn turn(
        mut self: Box<Self>,
        kernel: &Inner,
        interrupt: &Arc<Interrupt>,
        turn: Turn,
    ) -> Result<(Result<Outcome>, After)> {
        if self.rollback {
            self.keep(kernel, interrupt)?;
        }
        let files = self.overlay.as_ref().map(Overlay::checkpoint);
        let (mut outcome, mut alive) = self.run(kernel, interrupt, turn)?;
        let mut unkept = None;
        match files {
            // Where this fails, the files are as before the turn, and so must memory be.
            Some(files) if alive => {
                unkept = files.commit().err();
                alive = unkept.is_none();
            }
            Some(files) => files.roll_back(),
            None => {}
        }
        let after = match self.point {
            _ if alive => After::Live(self),
            _ if !self.rollback => After::Ended(Vec::new()),
            Point::Lost(held) => After::Ended(held),
            Point::Start(_) | Point::Kept(..) => {
                outcome.rolled_back = true;
                After::Live(self.go_back(kernel, interrupt)?)
            }
        };
        let outcome = match unkept {
            None => Ok(outcome),
            Some(error) => Err(taken_back(error, matches!(after, After::Live(_)))),
        };
        Ok((outcome, after))
    }

    /// Makes the state as it is the one to go back to.
    fn keep(&mut self, kernel: &Inner, interrupt: &Arc<Interrupt>) -> Result<()> {
        if !self.has_run {
            // It is where it was started or put back.
            return Ok(());
        }
        self.point = match self.let_go(kernel, interrupt)? {
            Err(held) => Point::Lost(held),
            Ok(()) => {
                let before =
                    match (self.latest.take(), std::mem::replace(&mut self.point, Point::Lost(Vec::new()))) {
                        (None, Point::Kept(before, _)) => Some(before),
                        (latest, _) => latest,
                    };
                match self.memory.freeze(&mut self.store, self.rollback_bytes, before) {
                    Some(kept) => Point::Kept(kept, self.store.data_mut().tools.numbers()),
                    None => Point::Lost(vec![format!(
                        "more than {} bytes of changed memory",
                        self.rollback_bytes
                    )]),
                }
            }
        };
        Ok(())
    }

    /// Lets the instance let go of its handles; gives what the program holds, if that is why it cannot.
    pub(super) fn let_go(
        &mut self,
        kernel: &Inner,
        interrupt: &Arc<Interrupt>,
    ) -> Result<Result<(), Vec<String>>> {
        let state = self.store.data_mut();
        let (resources, holdings) = (state.tools.held(), state.holdings());
        if holdings.programs > 0 {
            let held = self.beside(kernel, interrupt, ASK_TIMEOUT, |python, store| {
                python.agentkernel_kernel_guest().call_held(store)
            })?;
            let mut held = held.map_err(|_| ended())?;
            if held.is_empty() {
                held.push("a file or a listing without a name (`os.open`, `os.scandir`)".into());
            }
            held.extend(resources);
            return Ok(Err(held));
        }
        if holdings.own {
            let rested = self.beside(kernel, interrupt, ASK_TIMEOUT, |python, store| {
                python.agentkernel_kernel_guest().call_rest(store)
            })?;
            rested.map_err(|_| ended())?;
        }
        // After that: a replay, which has no tools, does the same.
        Ok(if resources.is_empty() { Ok(()) } else { Err(resources) })
    }

    pub(super) fn freeze(&mut self) -> Result<Arc<Frozen>> {
        let kept = self.memory.freeze(&mut self.store, usize::MAX, None);
        let kept = kept.ok_or_else(|| Error::new(ErrorKind::System, "the memory cannot be kept"))?;
        self.latest = self.rollback.then(|| Arc::clone(&kept));
        Ok(kept)
    }

    /// Another instance that starts from the point, in place of this one.
    pub(super) fn go_back(self: Box<Self>, kernel: &Inner, interrupt: &Arc<Interrupt>) -> Result<Box<Self>> {
        let Live { store, settings, llm, rollback, rollback_bytes, overlay, point, .. } = *self;
        // What was kept has its settings.
        let (kept, is_configured) = match &point {
            Point::Start(kept) => (kept.as_ref(), false),
            Point::Kept(kept, _) => (Some(kept), true),
            Point::Lost(_) => return Err(ended()),
        };
        let mut state = store.into_data();
        match &point {
            Point::Kept(_, numbers) => state.leave_instance(numbers),
            _ => state.leave_instance(&Numbers::new()),
        }
        let (store, python, memory) = instantiate(kernel, interrupt, state, kept)?;
        Ok(Box::new(Live {
            store,
            python,
            memory,
            settings,
            is_configured,
            has_run: false,
            llm,
            rollback,
            rollback_bytes,
            overlay,
            point,
            latest: None,
        }))
    }
}

/// What is said of a turn whose files could not be kept.
fn taken_back(error: Error, lives: bool) -> Error {
    let message = match lives {
        true => "the turn was taken back, in memory and files: what it did to files could not be kept",
        false => {
            "what the turn did to files could not be kept, so they are as before it; its memory could not be \
             put back, so the session has ended"
        }
    };
    let hint = error.remedy().unwrap_or("check that the disk has room and can be written").to_owned();
    Error::new(error.kind(), message).hint(hint).source(error)
}
