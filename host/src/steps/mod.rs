//! A model and a session, step by step: the model says something, its code runs, what comes of it goes back to the
//! model, until there is an answer or a limit is reached.
//!
//! Questions of [`rlm`](crate::rlm) and tasks of agents are both made of it.

mod ask;
mod block;
mod history;
pub(crate) mod prompt;
mod reply;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tracing::Instrument;

use ask::Said;
pub(crate) use ask::{failure, spent};
use history::History;
pub(crate) use history::MOST as HISTORY_BYTES;
use reply::Final;

use crate::console::OutputHandler;
use crate::llm::{Answer, AskError, Budget, Llm, LlmLimits, StopReason};
use crate::replay::Track;
use crate::telemetry::spans;
use crate::trajectory::{AnswerKind, Event, RunEnding, Teller};
use crate::{Result, Session, Stream};

/// Blocks of a reply.
const MOST_BLOCKS: usize = 50;

/// Bytes of a reply that is read.
const LONGEST_REPLY: usize = 1 << 20;

/// Tokens that the last answer gets at least.
const RESERVE_OUTPUT: u64 = 1024;

/// Characters of an answer that the model is reminded of.
const REMINDED: usize = 4000;

/// How far the steps may go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StepLimits {
    /// Steps for one question.
    pub iterations: u32,
    /// Steps in a row that may fail.
    pub errors: u32,
    /// Characters of a block's output that the model is shown.
    pub shown: usize,
    /// Bytes of the conversation.
    pub history: usize,
}

/// Where the steps are, for those who watch the session's programs.
#[derive(Debug)]
pub(crate) struct At {
    /// The session's name in its run.
    pub name: String,
    pub iteration: AtomicU32,
    pub block: AtomicU32,
}

impl At {
    pub fn new(name: &str) -> Arc<Self> {
        Arc::new(At { name: name.to_owned(), iteration: AtomicU32::new(0), block: AtomicU32::new(0) })
    }

    pub fn iteration(&self) -> u32 {
        self.iteration.load(Ordering::Relaxed)
    }

    pub fn block(&self) -> u32 {
        self.block.load(Ordering::Relaxed)
    }
}

/// Sees pieces of what a model says.
pub(crate) type OnText = Arc<dyn Fn(&str) + Send + Sync>;

/// Sees what programs write.
pub(crate) type OnOutput = Arc<dyn Fn(Stream, &[u8]) + Send + Sync>;

/// Starts the session with a number, from 1, that passes its output to a handler.
pub(crate) type Start = Box<dyn Fn(u64, OutputHandler) -> Result<Session> + Send + Sync>;

/// What steps are made with.
pub(crate) struct Setup {
    /// What goes by these steps, as spans name it.
    pub kind: &'static str,
    pub depth: u32,
    pub at: Arc<At>,
    pub teller: Teller,
    pub limits: StepLimits,
    pub llm: Llm,
    pub model: String,
    /// What the last answer is paid from, and what is left for all before it.
    pub budget: Budget,
    pub work: Budget,
    /// What enters, if the run can be run again.
    pub track: Option<Track>,
    pub start: Start,
    pub has_context: bool,
    /// What the model is told before the conversation.
    pub system: String,
    pub on_text: Option<OnText>,
    pub on_output: Option<OnOutput>,
    /// Where more questions follow in the same session: becomes true when what goes on is to end.
    pub interrupted: Option<watch::Receiver<bool>>,
}

/// A session and its model.
pub(crate) struct Steps {
    setup: Setup,
    history: History,
    session: Option<Session>,
    sessions: u64,
    /// Calls of the model.
    calls: AtomicU64,
    /// Steps before the question.
    before: u32,
    output: Arc<Mutex<Vec<u8>>>,
    /// A reply, or content of the answer.
    known: Option<(String, bool)>,
}

/// What a question comes to.
pub(crate) struct Done {
    pub content: Option<String>,
    pub how: AnswerKind,
    pub ending: RunEnding,
    /// Why it was not answered.
    pub message: Option<String>,
    pub iterations: u32,
}

/// Why the loop ends.
enum End {
    Answered(String, AnswerKind),
    Limit(String),
    Failed(String),
    Interrupted,
}

/// What came of a step.
struct Step {
    shown: String,
    failed: bool,
    end: Option<End>,
}

impl Step {
    fn failed(shown: String) -> Self {
        Step { shown, failed: true, end: None }
    }

    fn end(end: End) -> Self {
        Step { shown: String::new(), failed: false, end: Some(end) }
    }
}

impl Steps {
    pub fn new(setup: Setup) -> Self {
        Steps {
            history: History::new(setup.system.clone(), setup.limits.history),
            setup,
            session: None,
            sessions: 0,
            calls: AtomicU64::new(0),
            before: 0,
            output: Arc::default(),
            known: None,
        }
    }

    /// Goes on until there is an answer or a limit is reached. `title` names the question when it is long past.
    pub async fn answer(&mut self, title: &str, question: &str) -> Result<Done> {
        let Setup { kind, depth, at, model, .. } = &self.setup;
        let span = spans::agent(kind, model, &at.name, *depth);
        let done = self.answer_now(title, question).instrument(span.clone()).await?;
        spans::agent_ended(&span, done.ending.name(), done.iterations);
        Ok(done)
    }

    async fn answer_now(&mut self, title: &str, question: &str) -> Result<Done> {
        self.begin();
        self.history.asks(title, question);
        let mut reply = None;
        let end = self.go_on(&mut reply).await?;
        let is_last = self.setup.interrupted.is_none();
        if is_last {
            self.session = None;
        }
        let done = self.finish(end).await?;
        if !is_last {
            self.remember(&done, reply);
        }
        Ok(done)
    }

    /// Runs code of the user in the session, as if the model had written it. The model hears of it with the next
    /// question.
    pub async fn run(&mut self, code: &str) -> Result<Done> {
        self.begin();
        self.ready().await?;
        self.setup.at.iteration.store(self.before + 1, Ordering::Relaxed);
        self.setup.at.block.store(1, Ordering::Relaxed);
        let (text, end) = match self.run_block(code, self.before + 1, 1).await? {
            Ok(ran) if ran.failed => {
                // What is said of the session after it is for the model.
                let text = ran.text.trim_end_matches(prompt::TAKEN_BACK).trim_end_matches(prompt::LOST);
                let why = prompt::line(text.trim_end().lines().next_back().unwrap_or_default(), 1000);
                (ran.text, End::Failed(why))
            }
            Ok(ran) => {
                let given = ran.end.unwrap_or_else(|| End::Answered(ran.text.clone(), AnswerKind::Answer));
                (ran.text, given)
            }
            Err(end) => ("(stopped)".to_owned(), end),
        };
        let (code, _) = prompt::cut(code.trim_end(), self.setup.limits.shown);
        self.history
            .note(format!("The user ran this in your session:\n```python\n{code}\n```\nOutput:\n{text}"));
        Ok(match end {
            End::Limit(reason) => self.done(None, AnswerKind::Limit, RunEnding::Limit, Some(reason)),
            end => self.finish(end).await?,
        })
    }

    /// What the question after this one may take.
    pub fn within(&mut self, budget: Budget, work: Budget) {
        (self.setup.budget, self.setup.work) = (budget, work);
    }

    /// Tells the model something with its next question.
    pub fn note(&mut self, note: String) {
        self.history.note(note);
    }

    /// Steps that were made for the question.
    pub fn iterations(&self) -> u32 {
        self.setup.at.iteration() - self.before
    }

    /// What is known so far.
    pub fn best_known(&self) -> Option<String> {
        self.known.as_ref().map(|(text, _)| text.clone())
    }

    fn begin(&mut self) {
        self.before = self.setup.at.iteration();
        self.known = None;
    }

    fn name(&self) -> String {
        self.setup.at.name.clone()
    }

    fn record(&self, event: impl FnOnce() -> Event) {
        self.setup.teller.record(event);
    }

    fn is_interrupted(&self) -> bool {
        self.setup.interrupted.as_ref().is_some_and(|interrupted| *interrupted.borrow())
    }

    /// Makes steps; `open` is the reply that ended them, which the conversation does not have yet.
    async fn go_on(&mut self, open: &mut Option<String>) -> Result<End> {
        self.ready().await?;
        let limits = self.setup.limits;
        let mut errors = 0;
        for step in 1.. {
            if step > limits.iterations {
                let steps = limits.iterations;
                return Ok(End::Limit(format!("as many steps were made as may be ({steps})")));
            }
            let iteration = self.before + step;
            self.setup.at.iteration.store(iteration, Ordering::Relaxed);
            let reply = match self.ask(iteration).await? {
                Said::Answer(answer) => answer,
                Said::Interrupted => return Ok(End::Interrupted),
                Said::Error(AskError::Budget(exceeded)) => return Ok(End::Limit(exceeded.message)),
                Said::Error(error) => return Ok(End::Failed(error.to_string())),
            };
            let mut step = self.step(&reply, iteration).await?;
            // A reply may have any number of blocks.
            step.shown = prompt::cut(&step.shown, 2 * limits.shown).0;
            match step.end {
                Some(end) => {
                    *open = Some(reply.text);
                    return Ok(end);
                }
                None if step.failed => errors += 1,
                None => errors = 0,
            }
            if errors >= limits.errors {
                *open = Some(reply.text);
                return Ok(End::Limit(format!("{errors} steps in a row failed, which is the limit")));
            }
            self.history.said(reply.text, step.shown);
        }
        unreachable!("the loop ends by itself")
    }

    /// Does what a reply says.
    async fn step(&mut self, reply: &Answer, iteration: u32) -> Result<Step> {
        if reply.text.len() > LONGEST_REPLY {
            return Ok(Step::failed(prompt::CUT.to_owned()));
        }
        let read = reply::read(&reply.text);
        if let Some(text) = read.clone().into_text() {
            self.keep(&text, false);
        }
        if read.blocks.len() > MOST_BLOCKS {
            return Ok(Step::failed(format!(
                "Your reply had {} blocks, of which none was run; write at most {MOST_BLOCKS}.",
                read.blocks.len()
            )));
        }
        if read.is_open && reply.stop == StopReason::MaxTokens {
            return Ok(Step::failed(prompt::CUT.to_owned()));
        }
        let mut shown = String::new();
        let several = read.blocks.len() > 1;
        for (position, code) in read.blocks.iter().enumerate() {
            let block = position as u32 + 1;
            self.setup.at.block.store(block, Ordering::Relaxed);
            let ran = match self.run_block(code, iteration, block).await? {
                Ok(ran) => ran,
                Err(end) => return Ok(Step::end(end)),
            };
            if !shown.is_empty() {
                shown.push_str("\n\n");
            }
            match several {
                true => shown += &format!("Output of block {block}:\n{}", ran.text),
                false => shown += &format!("Output:\n{}", ran.text),
            }
            if let Some(end) = ran.end {
                return Ok(Step::end(end));
            }
            if ran.failed {
                if position + 1 < read.blocks.len() {
                    shown += "\n\nThe blocks after it were not run.";
                }
                if read.answer.is_some() {
                    shown += "\n\nThe answer in your reply was not taken, as its code failed.";
                }
                return Ok(Step::failed(shown));
            }
        }
        match read.answer {
            Some(Final::Text(text)) => return Ok(Step::end(End::Answered(text, AnswerKind::Final))),
            Some(Final::Variable(name)) => {
                let code = format!("FINAL_VAR({})", serde_json::Value::from(name));
                let ran = match self.run_block(&code, iteration, read.blocks.len() as u32 + 1).await? {
                    Ok(ran) => ran,
                    Err(end) => return Ok(Step::end(end)),
                };
                if let Some(end) = ran.end {
                    return Ok(Step::end(end));
                }
                return Ok(Step::failed(format!("{shown}\n\nOutput of FINAL_VAR:\n{}", ran.text)));
            }
            None => {}
        }
        if read.blocks.is_empty() {
            return Ok(Step::failed(prompt::NO_CODE.to_owned()));
        }
        Ok(Step { shown, failed: false, end: None })
    }

    fn done(
        &self,
        content: Option<String>,
        how: AnswerKind,
        ending: RunEnding,
        message: Option<String>,
    ) -> Done {
        Done { content, how, ending, message, iterations: self.iterations() }
    }

    async fn finish(&mut self, end: End) -> Result<Done> {
        let done = match end {
            End::Answered(content, how) => self.done(Some(content), how, RunEnding::Answered, None),
            End::Limit(reason) => {
                let content = self.last_answer(&reason).await?;
                self.done(content, AnswerKind::Limit, RunEnding::Limit, Some(reason))
            }
            End::Failed(message) => {
                self.done(self.best_known(), AnswerKind::Limit, RunEnding::Failed, Some(message))
            }
            End::Interrupted => {
                let message = Some("it was interrupted".to_owned());
                self.done(self.best_known(), AnswerKind::Limit, RunEnding::Interrupted, message)
            }
        };
        if let Some(content) = &done.content {
            self.record(|| Event::Answer {
                node: self.name(),
                content: content.clone(),
                how: done.how,
                best_effort: done.how == AnswerKind::Limit,
            });
        }
        Ok(done)
    }

    /// Puts what a question came to into the conversation, for the questions after it.
    fn remember(&mut self, done: &Done, reply: Option<String>) {
        let answer = done.content.as_deref().unwrap_or("no answer");
        let reason = done.message.as_deref().unwrap_or_default();
        let said = match (reply, done.ending, &done.content) {
            (Some(reply), ..) => reply,
            (None, RunEnding::Limit, Some(last)) => last.clone(),
            (None, ..) => format!("(no answer: {reason})"),
        };
        match done.ending {
            RunEnding::Answered => {}
            RunEnding::Interrupted => self.history.note(
                "The user interrupted your work on that; code that ran was stopped in the middle.".to_owned(),
            ),
            RunEnding::Limit | RunEnding::Failed => {
                self.history.note(format!("Your work on that ended before it was done: {reason}."));
            }
        }
        if done.content.is_some() && !said.contains(answer) {
            self.history
                .note(format!("The user was given this answer:\n{}", prompt::cut(answer, REMINDED).0));
        }
        self.history.answered(&said, answer);
    }

    /// Keeps what is known so far: a reply, or content of the answer, which is better.
    fn keep(&mut self, text: &str, is_answer: bool) {
        if is_answer || self.known.as_ref().is_none_or(|(_, is_answer)| !is_answer) {
            self.known = Some((text.to_owned(), is_answer));
        }
    }
}

/// Limits for all but the last answer: what it needs is held back, where there is enough to do so.
pub(crate) fn without_reserve(budget: &Budget) -> LlmLimits {
    let left = budget.left();
    let mut limits = LlmLimits::none();
    limits.calls = left.calls.filter(|calls| *calls > 2).map(|calls| calls - 1);
    let less = |tokens: u64| tokens - (tokens / 10).min(100_000);
    limits.tokens = left.tokens.map(less);
    limits.input_tokens = left.input_tokens.map(less);
    limits.output_tokens = left.output_tokens.map(less);
    limits.cost = left.cost.map(|cost| crate::llm::Dollars::new(cost * 0.9));
    limits.time = budget.time_left().map(|time| time - (time / 10).min(Duration::from_secs(30)));
    limits
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}
