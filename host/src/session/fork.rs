//! Copies of a session, and the way back to where it was.

use super::keep::Point;
use super::{Live, Session, SessionBuilder};
use crate::console::{OutputHandler, Stream};
use crate::image::Image;
use crate::{Error, ErrorKind, Result, Workspace};

impl Session {
    /// The state of the interpreter as it is between two turns, to start other sessions from
    /// ([`SessionBuilder::image`]) or to be written to a file. Its files are not part of it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Held`] when the program holds what ends with its instance: an open file (named with
    /// the line that opened it), a task that waits for a host call (named), a resource of a tool for which this is
    /// declared ([`ToolResources::Refused`](crate::ToolResources::Refused)). [`ErrorKind::Image`] where the
    /// host does not own the guest's memory, and in sessions that are recorded or replayed.
    /// [`ErrorKind::SessionEnded`] when there is no state.
    pub fn snapshot(&mut self) -> Result<Image> {
        let Some(live) = &mut self.live else { return Err(self.ended()) };
        live.check_keepable()?;
        match live.let_go(&self.kernel, &self.interrupt) {
            Ok(Ok(())) => {}
            Ok(Err(held)) => return Err(is_held(&held)),
            Err(error) => {
                self.live = None;
                return Err(error);
            }
        }
        let contexts = self.recipe.contexts.iter();
        let contexts = contexts.map(|(name, context)| (name.clone(), context.mark().clone())).collect();
        Image::new(&self.kernel, live.freeze()?, live.store.data().now(), contexts)
    }

    /// A session of its own in the same state, with the same grants and limits. Both go on from here and
    /// never see of each other what they do in memory.
    ///
    /// A temporary workspace is copied, an overlay is forked; a granted directory is the same for both. A budget of models is
    /// shared. Random numbers begin anew in the fork, time goes on. Resources of tools are closed in it (using one raises
    /// `ToolClosed`), or as their tools declare it ([`ToolResources`](crate::ToolResources)). Standard input is empty, and output is collected in the outcomes.
    ///
    /// ```
    /// # fn main() -> agentkernel::Result<()> {
    /// # let kernel = agentkernel::Kernel::new()?;
    /// # if !kernel.info().host_owned_memory { return Ok(()) }
    /// let mut session = kernel.session().start()?;
    /// session.run_blocking("words = ['a']")?;
    /// let mut fork = session.fork()?;
    /// fork.run_blocking("words.append('b')")?;
    /// assert_eq!(session.run_blocking("print(words)")?.stdout, b"['a']\n");
    /// assert_eq!(fork.run_blocking("print(words)")?.stdout, b"['a', 'b']\n");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Session::snapshot`] and [`SessionBuilder::start`].
    pub fn fork(&mut self) -> Result<Session> {
        self.fork_to(None)
    }

    /// The same, whose output is passed on as the program writes it ([`SessionBuilder::on_output`]).
    ///
    /// # Errors
    ///
    /// As [`Session::fork`].
    pub fn fork_with_output(
        &mut self,
        handler: impl FnMut(Stream, &[u8]) + Send + 'static,
    ) -> Result<Session> {
        self.fork_to(Some(Box::new(handler)))
    }

    fn fork_to(&mut self, output: Option<OutputHandler>) -> Result<Session> {
        let image = self.snapshot()?;
        let mut recipe = self.recipe.clone();
        recipe.image = Some(image);
        recipe.budget = self.budget.clone();
        if recipe.plan.is_deterministic() {
            self.forks += 1;
            let place = recipe.at.as_deref().unwrap_or("1");
            recipe.at = Some(format!("{place}/fork-{}", self.forks));
        }
        if let Workspace::Overlay(overlay) = &recipe.grants.workspace {
            recipe.grants.workspace = Workspace::Overlay(overlay.fork()?);
        }
        let is_temporary = matches!(recipe.grants.workspace, Workspace::Temporary);
        let mut builder = SessionBuilder::again(&self.kernel, recipe);
        builder.output = output;
        let fork = builder.start()?;
        if is_temporary && let (Some(from), Some(to)) = (&self.live, &fork.live) {
            from.store.data().filesystem.copy_workspace(&to.store.data().filesystem)?;
        }
        Ok(fork)
    }

    /// Puts the session back to where it was before its last turn. Files, budgets and what tools have
    /// done are not put back: a resource of a tool that the turn closed stays closed unless it is declared otherwise
    /// ([`ToolResources`](crate::ToolResources)), and what it read of standard input is gone.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Held`] when there is nothing to go back to: no turn has run, the last one was taken back already, the
    /// session was started without [`SessionBuilder::rollback`], or the program held open files before
    /// its last turn.
    pub fn rollback(&mut self) -> Result<()> {
        let live = self.live.take().ok_or_else(|| self.ended())?;
        let refused = match &live.point {
            _ if !live.rollback => Some(live.cannot_go_back()),
            _ if !live.has_run => Some(nothing("no turn has run since it was there")),
            Point::Lost(held) => Some(is_held(held)),
            Point::Start(_) | Point::Kept(..) => None,
        };
        if let Some(error) = refused {
            self.live = Some(live);
            return Err(error);
        }
        self.live = Some(live.go_back(&self.kernel, &self.interrupt)?);
        Ok(())
    }
}

impl Live {
    pub(super) fn check_keepable(&self) -> Result<()> {
        if !self.memory.is_owned() {
            return Err(Error::new(
                ErrorKind::Image,
                "the state of a session cannot be kept here: its memory is not the host's own",
            )
            .hint("this needs Linux, and a kernel without `metered` and `portable` (on the command line: no `--fuel`, no `--portable`)"));
        }
        if self.store.data().tape.as_ref().is_some_and(|tape| tape.track.is_kept()) {
            return Err(Error::new(
                ErrorKind::Image,
                "the state of a session that is recorded or replayed cannot be kept",
            )
            .hint("fork a session that is neither"));
        }
        Ok(())
    }

    fn cannot_go_back(&self) -> Error {
        match self.check_keepable() {
            Err(error) if !self.memory.is_owned() => error,
            _ => nothing("it was started with `rollback(false)`"),
        }
    }
}

fn nothing(why: &str) -> Error {
    Error::new(ErrorKind::Held, format!("the session cannot be put back: {why}"))
}

pub(super) fn is_held(held: &[String]) -> Error {
    let message = format!("the state cannot be kept while the program holds {}", held.join(", "));
    Error::new(ErrorKind::Held, message)
        .hint("close files and resources of tools (use `with`), and await tasks, before the turn ends")
}
