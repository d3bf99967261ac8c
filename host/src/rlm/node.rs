//! One session of a run and its model: the loop that goes on until there is an answer.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{Instrument, Span};

use super::history::History;
use super::prompt;
use super::reply::{self, Final};
use super::run::Run;
use super::service::{NodeWatch, RlmService};
use super::trajectory::{AnswerKind, ContextPart, Event, Failure, Raised, RunEnding, Spent};
use crate::context::{Context, Contexts};
use crate::llm::{Answer, AskError, Budget, Llm, LlmLimits, ModelRequest, StopReason};
use crate::outcome::{Ending, Outcome};
use crate::replay::{Asked, Given, Track};
use crate::service::{Room, Taken};
use crate::telemetry::spans;
use crate::{Grants, Result, Session, Turn};

/// Characters of a value that is shown.
const VALUE: usize = 5000;

/// Files of a context that a trajectory names.
const MOST_FILES: usize = 1000;

/// Where a node is in the tree.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub name: String,
    pub depth: u32,
    pub parent: Option<String>,
    /// The call that started it.
    pub call: Option<String>,
}

/// What a node is to do.
pub(super) struct Task {
    pub place: Place,
    pub question: String,
    pub model: String,
    pub grants: Grants,
    pub budget: Budget,
    pub context: Option<Context>,
    /// What its context takes of its parent's memory for texts.
    pub _room: Option<Taken>,
    /// What enters the loop, if the run can be run again.
    pub track: Option<Track>,
}

/// A session of the tree.
pub(super) struct Node {
    pub run: Arc<Run>,
    pub task: Task,
    /// The run's models, with tokens of its own for what they are not shown.
    llm: Llm,
    /// What its steps and programs may use: the last answer is paid for by what is held back.
    pub work: Budget,
    pub iteration: AtomicU32,
    pub block: AtomicU32,
    pub children: AtomicU64,
    pub contexts: Contexts,
    /// For texts of children.
    pub room: Room,
    /// Calls of its own model, and sessions that it began.
    calls: AtomicU64,
    sessions: AtomicU64,
    output: Arc<Mutex<Vec<u8>>>,
    /// A reply, or content of the answer.
    known: Mutex<Option<(String, bool)>>,
}

/// What a node comes to.
pub(super) struct Done {
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
}

impl Node {
    pub fn new(run: Arc<Run>, task: Task) -> Arc<Self> {
        let work = task.budget.child(without_reserve(&task.budget));
        let contexts = task.context.iter().map(|context| ("context".to_owned(), context.clone()));
        let contexts = Contexts::new(contexts.collect());
        Arc::new(Node {
            llm: run.llm.clone().scoped(),
            run,
            task,
            work,
            iteration: AtomicU32::new(0),
            block: AtomicU32::new(0),
            children: AtomicU64::new(0),
            contexts,
            room: Room::default(),
            calls: AtomicU64::new(0),
            sessions: AtomicU64::new(0),
            output: Arc::default(),
            known: Mutex::default(),
        })
    }

    /// Goes on until there is an answer or a limit is reached.
    pub fn answer(self: Arc<Self>) -> Pin<Box<dyn Future<Output = Result<Done>> + Send>> {
        let Place { name, depth, .. } = &self.task.place;
        let span = spans::agent("rlm", &self.task.model, name, *depth);
        // A child's future is part of its parent's.
        let answering = async move {
            let Place { name, depth, parent, call } = self.task.place.clone();
            self.run.record(|| Event::Node {
                node: name,
                parent,
                call,
                depth,
                question: self.task.question.clone(),
                model: self.task.model.clone(),
                context: self.context_parts(),
            });
            let can_recurse = self.task.budget.left().depth != Some(0);
            let system = prompt::system(self.task.context.as_ref(), can_recurse, &self.run.tools());
            let mut history = History::new(system, prompt::first(&self.task.question));
            let end = self.go_on(&mut history).await?;
            let done = self.finish(end, &history).await?;
            spans::agent_ended(&Span::current(), name_of(done.ending), done.iterations);
            Ok(done)
        };
        Box::pin(answering.instrument(span))
    }

    fn context_parts(&self) -> Vec<ContextPart> {
        let files = self.task.context.iter().flat_map(Context::files).take(MOST_FILES);
        let part = |(name, bytes): (&str, std::ops::Range<u64>)| ContextPart {
            name: name.to_owned(),
            bytes: bytes.end - bytes.start,
            chars: None,
        };
        files.map(part).collect()
    }

    fn name(&self) -> String {
        self.task.place.name.clone()
    }

    async fn go_on(self: &Arc<Self>, history: &mut History) -> Result<End> {
        let mut session = self.start().await?;
        let settings = &self.run.settings;
        let mut errors = 0;
        for iteration in 1.. {
            if iteration > settings.iterations {
                return Ok(End::Limit(format!(
                    "as many steps were made as may be ({})",
                    settings.iterations
                )));
            }
            self.iteration.store(iteration, Ordering::Relaxed);
            let reply = match self.ask(history, iteration).await? {
                Ok(answer) => answer,
                Err(AskError::Budget(exceeded)) => return Ok(End::Limit(exceeded.message)),
                Err(error) => return Ok(End::Failed(error.to_string())),
            };
            let mut step = self.step(&mut session, &reply, iteration).await?;
            // A reply may have any number of blocks.
            step.shown = prompt::cut(&step.shown, 2 * settings.shown).0;
            match step.end {
                Some(end) => return Ok(end),
                None if step.failed => errors += 1,
                None => errors = 0,
            }
            if errors >= settings.errors {
                return Ok(End::Limit(format!("{errors} steps in a row failed, which is the limit")));
            }
            history.said(reply.text, step.shown);
        }
        unreachable!("the loop ends by itself")
    }

    /// One request to the node's model, recorded.
    async fn ask(&self, history: &mut History, iteration: u32) -> Result<Result<Answer, AskError>> {
        self.run.record(|| Event::Prompt { node: self.name(), iteration, messages: history.news() });
        let began = Instant::now();
        let result = self.ask_within(&self.work, history.request(&self.task.model)).await?;
        self.record_reply(&result, iteration, began);
        Ok(result)
    }

    /// Asks the node's model, or gives what it answered in the recording.
    async fn ask_within(&self, budget: &Budget, request: ModelRequest) -> Result<Result<Answer, AskError>> {
        let llm = &self.llm;
        let mut prepared = match llm.prepare(request) {
            Ok(prepared) => prepared,
            Err(error) => return Ok(Err(error)),
        };
        budget.count_hidden(&prepared);
        let Some(track) = &self.task.track else {
            let result = llm.ask_and_tell(budget, &mut prepared, None, &mut None).await;
            return Ok(prepared.restore(result));
        };
        let call = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        track.begin_own_ask(call, budget, prepared.request())?;
        let result = track.ask(call, llm, budget, &mut prepared).await;
        Ok(prepared.restore(result))
    }

    /// What is decided now, or was in the recording.
    fn decided(&self, asked: Asked, now: impl FnOnce() -> Given) -> Result<Given> {
        let Some(track) = &self.task.track else { return Ok(now()) };
        if let Some(given) = track.decided(&asked)? {
            return Ok(given);
        }
        let given = now();
        track.decide(asked, given.clone());
        Ok(given)
    }

    fn record_reply(&self, result: &Result<Answer, AskError>, iteration: u32, began: Instant) {
        let ms = milliseconds(began.elapsed());
        self.run.record(|| match result {
            Ok(answer) => Event::Reply {
                node: self.name(),
                iteration,
                text: answer.text.clone(),
                model: answer.model.clone(),
                usage: spent(answer),
                cached: answer.cached,
                ms,
                error: None,
            },
            Err(error) => Event::Reply {
                node: self.name(),
                iteration,
                text: String::new(),
                model: self.task.model.clone(),
                usage: Spent::default(),
                cached: false,
                ms,
                error: Some(failure(error)),
            },
        });
    }

    /// Does what a reply says.
    async fn step(self: &Arc<Self>, session: &mut Session, reply: &Answer, iteration: u32) -> Result<Step> {
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
            self.block.store(block, Ordering::Relaxed);
            let ran = match self.run_block(session, code, iteration, block).await? {
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
                let ran =
                    match self.run_block(session, &code, iteration, read.blocks.len() as u32 + 1).await? {
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

    /// Runs one block of code and looks for an answer. A session that ended by it is started anew.
    async fn run_block(
        self: &Arc<Self>,
        session: &mut Session,
        code: &str,
        iteration: u32,
        block: u32,
    ) -> Result<Result<Ran, End>> {
        self.run.record(|| Event::Code { node: self.name(), iteration, block, code: code.to_owned() });
        let began = Instant::now();
        let turn = Turn::new(code).file(format!("step_{iteration}_block_{block}.py"));
        let Some(outcome) = self.turn(session, turn).await? else {
            let ms = milliseconds(began.elapsed());
            self.run.record(|| Event::Output {
                node: self.name(),
                iteration,
                block,
                ending: "timed-out".into(),
                text: String::new(),
                cut: 0,
                exception: None,
                ms,
            });
            return Ok(Err(End::Limit("the time of the run is over".into())));
        };
        let (text, cut, failed) = self.shown(&outcome);
        let ms = milliseconds(began.elapsed());
        self.run.record(|| Event::Output {
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
        let state = match session.is_alive() {
            true => self.state(session).await?,
            false => State::Open,
        };
        // Reading the answer runs code of the program as well.
        if !session.is_alive() {
            *session = self.start().await?;
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

    /// What the model is shown of an outcome, how many characters of it are left out, and whether it is
    /// a failure.
    fn shown(&self, outcome: &Outcome) -> (String, usize, bool) {
        let output = std::mem::take(&mut *self.output.lock().unwrap_or_else(PoisonError::into_inner));
        let mut text = String::from_utf8_lossy(&output).into_owned();
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
        let (mut text, cut) = prompt::cut(text.trim_end(), self.run.settings.shown);
        if text.is_empty() {
            text = "(nothing was printed)".into();
        }
        (text, cut, failed)
    }

    /// The answer, if the program has given one.
    async fn state(&self, session: &mut Session) -> Result<State> {
        let probe = Turn::new("__import__('sys').modules['agentkernel._rlm']._state()").file("<state>");
        let Some(outcome) = self.turn(session, probe).await? else { return Ok(State::Open) };
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

    /// Runs a turn; nothing if the time of the run ended first.
    async fn turn(&self, session: &mut Session, turn: Turn) -> Result<Option<Outcome>> {
        let recorded = match &self.task.track {
            Some(track) => track.decided(&Asked::InTime)?,
            None => None,
        };
        if let (Some(track), Some(Given::Flag(false))) = (&self.task.track, &recorded) {
            track.forget(&format!("{}/{}", self.name(), self.sessions.load(Ordering::Relaxed)));
            return Ok(None);
        }
        let outcome = match self.work.time_left() {
            Some(left) => tokio::time::timeout(left, session.run(turn)).await.ok().transpose()?,
            None => Some(session.run(turn).await?),
        };
        if let (Some(track), None) = (&self.task.track, recorded) {
            track.decide(Asked::InTime, Given::Flag(outcome.is_some()));
        }
        Ok(outcome)
    }

    /// A fresh session in which all names are known.
    async fn start(self: &Arc<Self>) -> Result<Session> {
        let output = Arc::clone(&self.output);
        let number = self.sessions.fetch_add(1, Ordering::Relaxed) + 1;
        let mut session = self.run.kernel.session();
        if let Some(context) = &self.task.context {
            session = session.context(context.clone());
        }
        // Nothing of the parent's.
        if self.task.place.depth > 0 {
            session = session.without_lasting();
        }
        let mut session = session
            .grants(self.task.grants.clone())
            .llm(self.llm.clone())
            .budget(self.work.clone())
            .plan(&self.run.plan, format!("{}/{number}", self.task.place.name))
            .watch(Arc::new(NodeWatch::new(Arc::clone(self))))
            .service(Arc::new(RlmService::new(Arc::clone(self))))
            .on_output(move |_, bytes| {
                output.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            })
            .start()?;
        let has_context = if self.task.context.is_some() { "True" } else { "False" };
        let begin = format!("__import__('agentkernel._rlm')._rlm._begin({has_context})");
        let begin = Turn::new(begin).file("<begin>").without_value();
        let outcome = session.run(begin).await?;
        if let Ending::Raised(exception) = &outcome.ending {
            tracing::error!("a session of a run could not begin: {}", exception.traceback);
        }
        Ok(session)
    }

    async fn finish(&self, end: End, history: &History) -> Result<Done> {
        let iterations = self.iteration.load(Ordering::Relaxed);
        let done = |content, how, ending, message| Done { content, how, ending, message, iterations };
        let done = match end {
            End::Answered(content, how) => done(Some(content), how, RunEnding::Answered, None),
            End::Limit(reason) => {
                let content = self.last_answer(history, &reason).await?;
                done(content, AnswerKind::Limit, RunEnding::Limit, Some(reason))
            }
            End::Failed(message) => {
                done(self.best_known(), AnswerKind::Limit, RunEnding::Failed, Some(message))
            }
        };
        if let Some(content) = &done.content {
            self.run.record(|| Event::Answer {
                node: self.name(),
                content: content.clone(),
                how: done.how,
                best_effort: done.how == AnswerKind::Limit,
            });
        }
        Ok(done)
    }

    /// What the model makes of what it has seen, asked once; or else what it had last.
    async fn last_answer(&self, history: &History, reason: &str) -> Result<Option<String>> {
        let iteration = self.iteration.load(Ordering::Relaxed);
        self.run.record(|| Event::Note { node: self.name(), iteration, text: format!("limit: {reason}") });
        let left = self.task.budget.left();
        // A token is a byte at the least, and some are for the answer.
        let tokens = [left.tokens, left.input_tokens].into_iter().flatten().min();
        let most =
            tokens.map_or(200_000, |tokens| tokens.saturating_sub(RESERVE_OUTPUT).min(200_000) as usize);
        let most = match self.decided(Asked::Room, || Given::Number(most as u64))? {
            Given::Number(recorded) => recorded as usize,
            _ => most,
        };
        let request = ModelRequest { max_tokens: 0, ..history.last_request(&self.task.model, reason, most) };
        let began = Instant::now();
        let result = self.ask_within(&self.task.budget, request).await?;
        self.record_reply(&result, iteration + 1, began);
        let last = result.ok().map(|answer| answer.text).filter(|text| !text.trim().is_empty());
        let plain = last.as_ref().and_then(|text| reply::read(text).into_text());
        // Code alone is better than nothing.
        Ok(plain.or_else(|| self.best_known()).or(last))
    }

    /// Keeps what is known so far: a reply, or content of the answer, which is better.
    fn keep(&self, text: &str, is_answer: bool) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if is_answer || known.as_ref().is_none_or(|(_, is_answer)| !is_answer) {
            *known = Some((text.to_owned(), is_answer));
        }
    }

    /// What is known so far.
    pub fn best_known(&self) -> Option<String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().map(|(text, _)| text.clone())
    }
}

/// An ending as it is told.
fn name_of(ending: RunEnding) -> &'static str {
    match ending {
        RunEnding::Answered => "answered",
        RunEnding::Limit => "limit",
        RunEnding::Failed => "failed",
        RunEnding::Interrupted => "interrupted",
    }
}

/// Blocks of a reply.
const MOST_BLOCKS: usize = 50;

/// Bytes of a reply that is read.
const LONGEST_REPLY: usize = 1 << 20;

/// Tokens that the last answer gets at least.
const RESERVE_OUTPUT: u64 = 1024;

/// Limits for all but the last answer: what it needs is held back, where there is enough to do so.
fn without_reserve(budget: &Budget) -> LlmLimits {
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

/// What became of the answer.
enum State {
    /// There is none yet.
    Open,
    Ended(End),
    Unreadable(String),
}

/// What came of a block.
struct Ran {
    text: String,
    failed: bool,
    end: Option<End>,
}

pub(super) fn milliseconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

pub(super) fn spent(answer: &Answer) -> Spent {
    Spent {
        input_tokens: answer.tokens.input,
        output_tokens: answer.tokens.output,
        cost: answer.cost.map(crate::llm::Dollars::get),
        hidden: answer.hidden,
    }
}

/// An error by the name that programs know it by.
pub(super) fn failure(error: &AskError) -> Failure {
    let kind = match error {
        AskError::Budget(_) => "BudgetExceeded",
        AskError::Provider(_) => "ProviderError",
        AskError::Refused(_) => "Refused",
        AskError::Request(_) => "ValueError",
    };
    Failure { kind: kind.into(), message: error.to_string() }
}
