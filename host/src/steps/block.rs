//! Running one block of code, and what its model is shown of that.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::{Either, select};
use tokio::sync::watch;

use super::{End, Steps, milliseconds, prompt};
use crate::outcome::{Ending, Outcome};
use crate::replay::{Asked, Given};
use crate::trajectory::{AnswerKind, Event, Raised};
use crate::{Result, Session, Turn};

/// Characters of a value that is shown.
const VALUE: usize = 5000;

/// How long a program that is interrupted may take before it is asked once more, and then stopped.
const PATIENCE: Duration = Duration::from_secs(2);

/// What came of a block.
pub(super) struct Ran {
    pub text: String,
    pub failed: bool,
    pub end: Option<End>,
}

/// What became of the answer.
enum State {
    /// There is none yet.
    Open,
    Ended(End),
    Unreadable(String),
}

impl Steps {
    /// Runs one block of code and looks for an answer. A session that ended by it is started anew.
    pub(super) async fn run_block(
        &mut self,
        code: &str,
        iteration: u32,
        block: u32,
    ) -> Result<std::result::Result<Ran, End>> {
        self.record(|| Event::Code { node: self.name(), iteration, block, code: code.to_owned() });
        let began = Instant::now();
        let turn = Turn::new(code).file(format!("step_{iteration}_block_{block}.py"));
        let Some(outcome) = self.turn(turn).await? else {
            let ms = milliseconds(began.elapsed());
            let interrupted = self.is_interrupted();
            self.record(|| Event::Output {
                node: self.name(),
                iteration,
                block,
                ending: if interrupted { "cancelled".into() } else { "timed-out".into() },
                text: String::new(),
                cut: 0,
                exception: None,
                ms,
            });
            return Ok(Err(match interrupted {
                true => End::Interrupted,
                false => End::Limit("the time of the run is over".into()),
            }));
        };
        let (text, cut, failed) = self.shown(&outcome);
        let ms = milliseconds(began.elapsed());
        self.record(|| Event::Output {
            node: self.name(),
            iteration,
            block,
            ending: outcome.ending.name().into(),
            text: text.clone(),
            cut: cut as u64,
            exception: match &outcome.ending {
                Ending::Raised(raised) => {
                    Some(Raised { kind: raised.kind.clone(), message: prompt::cut(&raised.message, 1000).0 })
                }
                _ => None,
            },
            ms,
        });
        if outcome.rolled_back {
            return Ok(Ok(Ran { text: format!("{text}\n{}", prompt::TAKEN_BACK), failed: true, end: None }));
        }
        let state = match self.is_alive() {
            true => self.state().await?,
            false => State::Open,
        };
        // Reading the answer runs code of the program as well.
        if !self.is_alive() {
            self.start().await?;
            return Ok(Ok(Ran { text: format!("{text}\n{}", prompt::LOST), failed: true, end: None }));
        }
        Ok(Ok(match state {
            State::Open => Ran { text, failed, end: None },
            State::Ended(end) => Ran { text, failed: false, end: Some(end) },
            State::Unreadable(why) => {
                Ran { text: format!("{text}\nThe answer was not taken: {why}"), failed: true, end: None }
            }
        }))
    }

    fn is_alive(&self) -> bool {
        self.session.as_ref().is_some_and(Session::is_alive)
    }

    /// What the model is shown of an outcome, how many characters of it are left out, and whether it is
    /// a failure.
    fn shown(&self, outcome: &Outcome) -> (String, usize, bool) {
        let mut text = String::from_utf8_lossy(&self.take_output()).into_owned();
        let mut after = String::new();
        let mut failed = true;
        match &outcome.ending {
            Ending::Completed(value) => {
                failed = false;
                // As an interactive interpreter does.
                if let Some(value) = value
                    && value.repr != "None"
                {
                    after = prompt::cut(&value.repr, VALUE).0;
                }
            }
            Ending::Raised(exception) => after = prompt::cut(exception.traceback.trim_end(), VALUE).0,
            Ending::Exited(code) => {
                failed = *code != 0;
                after = format!("(exit with code {code})");
            }
            Ending::TimedOut => after = "(stopped: the block ran into its time limit)".into(),
            Ending::OutOfMemory => after = "(stopped: the block ran into the memory limit)".into(),
            Ending::OutOfFuel => after = "(stopped: the block ran into its limit of computation)".into(),
            Ending::Cancelled => after = "(stopped)".into(),
            Ending::Trapped(message) => after = format!("(the interpreter failed: {message})"),
        }
        if !after.is_empty() {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            text += &after;
        }
        let (mut text, cut) = prompt::cut(text.trim_end(), self.setup.limits.shown);
        if text.is_empty() {
            text = "(nothing was printed)".into();
        }
        (text, cut, failed)
    }

    fn take_output(&self) -> Vec<u8> {
        std::mem::take(&mut *self.output.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The answer, if the program has given one.
    async fn state(&mut self) -> Result<State> {
        let probe = Turn::new("__import__('sys').modules['agentkernel._rlm']._state()").file("<state>");
        let Some(outcome) = self.turn(probe).await? else { return Ok(State::Open) };
        let state = match outcome.ending {
            Ending::Completed(Some(value)) => value.json,
            _ => None,
        };
        let Some(state) = state else { return Ok(State::Unreadable("it could not be read".into())) };
        if let Some(problem) = state["problem"].as_str() {
            return Ok(State::Unreadable(problem.to_owned()));
        }
        let content = state["content"].as_str().unwrap_or_default();
        if !state["ready"].as_bool().unwrap_or(false) {
            if !content.trim().is_empty() {
                self.keep(content, true);
            }
            return Ok(State::Open);
        }
        let how = match state["how"].as_str() {
            Some("final") => AnswerKind::Final,
            Some("final-var") => AnswerKind::FinalVar,
            _ => AnswerKind::Answer,
        };
        Ok(State::Ended(End::Answered(content.to_owned(), how)))
    }

    /// Runs a turn; nothing if the time of the run ended first, or it was interrupted.
    async fn turn(&mut self, turn: Turn) -> Result<Option<Outcome>> {
        let track = self.setup.track.clone();
        let recorded = match &track {
            Some(track) => track.decided(&Asked::InTime)?,
            None => None,
        };
        if let (Some(track), Some(Given::Flag(false))) = (&track, &recorded) {
            track.forget(&format!("{}/{}", self.name(), self.sessions));
            return Ok(None);
        }
        let left = self.setup.work.time_left();
        let interrupted = self.setup.interrupted.clone();
        let Some(session) = &mut self.session else { return Ok(None) };
        let outcome = match (interrupted, left) {
            (Some(interrupted), left) => run_gently(session, turn, ended(interrupted, left)).await?,
            (None, Some(left)) => tokio::time::timeout(left, session.run(turn)).await.ok().transpose()?,
            (None, None) => Some(session.run(turn).await?),
        };
        if outcome.is_none() {
            // What was printed belongs to nothing any more.
            self.take_output();
        }
        if let (Some(track), None) = (&track, recorded) {
            track.decide(Asked::InTime, Given::Flag(outcome.is_some()));
        }
        Ok(outcome)
    }

    /// Makes sure that there is a session in which no answer is given yet.
    pub(super) async fn ready(&mut self) -> Result<()> {
        let is_first = self.session.is_none();
        if self.is_alive() && self.no_answer().await? && self.is_alive() {
            return Ok(());
        }
        self.start().await?;
        if !is_first {
            self.note(prompt::LOST.to_owned());
        }
        Ok(())
    }

    /// A fresh session in which all names are known.
    async fn start(&mut self) -> Result<()> {
        self.session = None;
        let (output, seen) = (Arc::clone(&self.output), self.setup.on_output.clone());
        self.sessions += 1;
        self.session = Some((self.setup.start)(
            self.sessions,
            Box::new(move |stream, bytes| {
                output.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
                if let Some(seen) = &seen {
                    seen(stream, bytes);
                }
            }),
        )?);
        self.no_answer().await.map(drop)
    }

    /// Makes the names known to the program, and the answer empty; says whether it could be done.
    async fn no_answer(&mut self) -> Result<bool> {
        let left = self.setup.work.time_left();
        let Some(session) = &mut self.session else { return Ok(false) };
        let has_context = if self.setup.has_context { "True" } else { "False" };
        let begin = format!("__import__('agentkernel._rlm')._rlm._begin({has_context})");
        let turn = Turn::new(begin).file("<begin>").without_value();
        let outcome = match self.setup.interrupted.clone() {
            Some(interrupted) => run_gently(session, turn, ended(interrupted, left)).await?,
            None => Some(session.run(turn).await?),
        };
        match outcome.map(|outcome| outcome.ending) {
            Some(Ending::Completed(_)) => Ok(true),
            // What was interrupted is begun again.
            None => Ok(true),
            Some(Ending::Raised(exception)) => {
                tracing::error!("a session of a run could not begin: {}", exception.traceback);
                Ok(false)
            }
            Some(_) => Ok(false),
        }
    }
}

/// When what goes on is to end: it is interrupted, or its time is over.
async fn ended(mut interrupted: watch::Receiver<bool>, left: Option<Duration>) {
    let interrupted = pin!(interrupted.wait_for(|interrupted| *interrupted));
    match left {
        Some(left) => drop(tokio::time::timeout(left, interrupted).await),
        None => drop(interrupted.await),
    }
}

/// Runs a turn until it ends, or interrupts it when `ended` does; the session goes on. Gives nothing then.
async fn run_gently(
    session: &mut Session,
    turn: Turn,
    ended: impl Future<Output = ()>,
) -> Result<Option<Outcome>> {
    let canceller = session.canceller();
    let running = pin!(session.run(turn));
    let mut running = match select(running, pin!(ended)).await {
        Either::Left((outcome, _)) => return outcome.map(Some),
        Either::Right(((), running)) => running,
    };
    loop {
        // The first time it is `KeyboardInterrupt`, the second time the turn is stopped.
        canceller.interrupt();
        if let Ok(outcome) = tokio::time::timeout(PATIENCE, &mut running).await {
            outcome?;
            return Ok(None);
        }
    }
}
