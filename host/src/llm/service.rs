//! What programs ask: `agentkernel.ask_llm` and its like, decoded, metered and encoded.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde::{Deserialize, Serialize};

use super::{Answer, AskError, Budget, Llm, LlmLimits, LlmUsage, Message, ModelRequest, Role, StopReason};
use crate::bindings::operations::Failure;
use crate::context::{Context, Contexts};
use crate::operations;
use crate::privacy::Prepared;
use crate::replay::Track;
use crate::service::{Called, Kind, Room, Service, Taken, failure};

/// Bytes of one prompt with what is appended to it: more than any model reads.
const MAX_PROMPT: usize = 16 << 20;

/// Texts that a prompt is made of.
const MAX_PARTS: usize = 10_000;

/// Bytes of a batch in which something is looked for, which takes the turn's thread.
const MAX_HIDDEN: usize = 64 << 20;

/// Bytes that the answers of one batch may have together.
const MAX_ANSWERS: u64 = 128 << 20;

const TOO_MANY_ANSWERS: &str = "the answers of the batch are too much together; ask fewer at a time";

/// Bytes of a model's name.
const MAX_MODEL: usize = 200;

/// Prompts of one batch.
const MAX_BATCH: usize = 10_000;

/// Calls of a batch that are prepared at a time. Budgets say how many are sent.
const BATCH_WIDTH: usize = 256;

/// Sees the calls that a session's programs make. It must not block.
pub trait Watch: Send + Sync {
    /// A call begins; it may still wait for others.
    fn started(&self, call: CallStart<'_>);

    /// A call is over.
    fn ended(&self, call: CallEnd<'_>);
}

/// A call that begins.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct CallStart<'a> {
    /// Its number in the session, from 1, in the order in which the program makes them.
    pub number: u64,
    /// What is asked, as it is sent: with tokens in place of what is hidden. The most tokens of the answer are
    /// 0 where the program does not say.
    pub request: &'a ModelRequest,
}

/// A call that is over.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct CallEnd<'a> {
    /// Its number in the session.
    pub number: u64,
    /// The answer, or why there is none; nothing if the turn ended first.
    pub result: Option<Result<&'a Answer, &'a AskError>>,
    /// Time since its start, waiting for others included.
    pub took: Duration,
}

/// The service of one session.
pub(crate) struct LlmService {
    asks: Arc<Asks>,
    session: Budget,
}

struct Asks {
    llm: Llm,
    /// The budget of the turn that runs.
    turn: Mutex<Budget>,
    watch: Option<Arc<dyn Watch>>,
    contexts: Contexts,
    /// For prompts of calls in flight.
    room: Room,
    calls: AtomicU64,
    track: Option<Track>,
}

impl LlmService {
    pub fn new(
        llm: Llm,
        budget: Budget,
        watch: Option<Arc<dyn Watch>>,
        contexts: Contexts,
        track: Option<Track>,
    ) -> Self {
        let (turn, calls) = (Mutex::new(budget.clone()), AtomicU64::new(0));
        let asks = Asks { llm, turn, watch, contexts, room: Room::default(), calls, track };
        LlmService { asks: Arc::new(asks), session: budget }
    }

    /// The session's budget.
    pub fn budget(&self) -> &Budget {
        &self.session
    }

    /// Counts what is asked from now on by itself, within `limits`.
    pub fn begin_turn(&self, limits: LlmLimits) {
        *self.asks.turn.lock().unwrap_or_else(PoisonError::into_inner) = self.session.child(limits);
    }

    /// What was asked since the turn began.
    pub fn turn_usage(&self) -> LlmUsage {
        self.asks.turn().usage()
    }
}

impl Service for LlmService {
    fn kind(&self) -> Kind {
        Kind::Llm
    }

    fn call(&self, function: u8, head: &[u8], tail: &[u8]) -> Called {
        match function {
            0 => match Options::read(head).and_then(|options| self.asks.request(options, tail)) {
                Ok((request, room)) => {
                    let (asks, number) = (Arc::clone(&self.asks), self.asks.number(&request));
                    Called::Running(Box::pin(async move {
                        let answer = asks.ask(number, request).await;
                        drop(room);
                        encode(answer)
                    }))
                }
                Err(failure) => Called::Ready(Err(failure)),
            },
            1 => Called::Ready(json(&Report::of(&self.asks))),
            2 => match self.asks.batch(head, tail) {
                Ok(requests) => {
                    let asks = Arc::clone(&self.asks);
                    let numbered = requests
                        .into_iter()
                        .map(|(request, room)| (asks.number(&request), request, room))
                        .collect();
                    Called::Running(Box::pin(async move { asks.ask_all(numbered).await }))
                }
                Err(failure) => Called::Ready(Err(failure)),
            },
            _ => Called::Ready(Err(failure("unknown", "there is no such function"))),
        }
    }
}

/// What goes with a prompt.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    system: Option<String>,
    model: Option<String>,
    max_tokens: Option<u64>,
    temperature: Option<f64>,
    #[serde(default)]
    stop: Vec<String>,
    schema: Option<serde_json::Value>,
    /// Earlier answers, each with what is said to it.
    #[serde(default)]
    said: Vec<(String, String)>,
    /// The prompt, and what is appended to it.
    parts: Vec<Part>,
}

/// A part of a prompt.
#[derive(Deserialize)]
#[serde(untagged)]
enum Part {
    /// So many bytes of the tail.
    Text(usize),
    /// A part of a context, which the host reads.
    View(String),
}

impl Options {
    fn read(head: &[u8]) -> Result<Self, Failure> {
        serde_json::from_slice(head).map_err(|error| failure("arguments", error.to_string()))
    }
}

impl Asks {
    fn turn(&self) -> Budget {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The request that `options` describe, of which `tail` holds the texts, and the room that its
    /// prompt takes.
    fn request(&self, options: Options, tail: &[u8]) -> Result<(Prepared, Taken), Failure> {
        let wrong = |message: &str| failure("arguments", message);
        if options.parts.len() > MAX_PARTS {
            return Err(failure("value", format!("a prompt has at most {MAX_PARTS} parts")));
        }
        // It would be in errors and trajectories.
        if options.model.as_ref().is_some_and(|model| model.len() > MAX_MODEL) {
            return Err(failure("value", format!("the name of a model has at most {MAX_MODEL} bytes")));
        }
        if tail.len() > MAX_PROMPT {
            return Err(failure(
                "value",
                format!(
                    "a prompt of {} bytes is more than any model reads; ask about parts of it (at most {MAX_PROMPT} bytes)",
                    tail.len()
                ),
            ));
        }
        let views: Vec<Option<Context>> = options
            .parts
            .iter()
            .map(|part| match part {
                Part::Text(_) => Ok(None),
                Part::View(wire) => self.contexts.resolve_hex(wire).map(Some),
            })
            .collect::<Result<_, _>>()?;
        let bytes =
            views.iter().flatten().fold(tail.len() as u64, |sum, view| sum.saturating_add(view.size()));
        // What is too long is told below.
        let room = self.room.take(bytes.min(MAX_PROMPT as u64))?;
        let mut prompt = String::new();
        let mut rest = tail;
        for (position, (part, view)) in options.parts.iter().zip(views).enumerate() {
            if position > 0 {
                prompt += "\n\n<context>\n";
            }
            match (part, view) {
                (Part::Text(length), _) => {
                    let (text, after) = rest
                        .split_at_checked(*length)
                        .ok_or_else(|| wrong("parts of a prompt are missing"))?;
                    prompt += std::str::from_utf8(text).map_err(|_| wrong("a prompt must be UTF-8"))?;
                    rest = after;
                }
                (Part::View(_), view) => {
                    let view = view.ok_or_else(|| wrong("a part is missing"))?;
                    let most = MAX_PROMPT.saturating_sub(prompt.len()) as u64;
                    let text = view.text(most).map_err(|error| {
                        failure(
                            "value",
                            format!("{error}; ask about parts of it (at most {MAX_PROMPT} bytes)"),
                        )
                    })?;
                    prompt += &text;
                }
            }
            if position > 0 {
                prompt += "\n</context>";
            }
        }
        let model = options.model.unwrap_or_else(|| self.llm.model_of_programs().to_owned());
        let mut request = ModelRequest::new(model, prompt, options.max_tokens.unwrap_or(0));
        for (answer, reply) in options.said {
            request.messages.push(Message { role: Role::Assistant, content: answer });
            request.messages.push(Message { role: Role::User, content: reply });
        }
        request.system = options.system;
        request.temperature = options.temperature;
        request.stop = options.stop;
        request.schema = options.schema;
        let prepared = self.llm.prepare(request).map_err(|error| failure("value", error.to_string()))?;
        Ok((prepared, room))
    }

    fn batch(&self, head: &[u8], tail: &[u8]) -> Result<Vec<(Prepared, Taken)>, Failure> {
        let all: Vec<Options> =
            serde_json::from_slice(head).map_err(|error| failure("arguments", error.to_string()))?;
        if all.len() > MAX_BATCH {
            return Err(failure(
                "value",
                format!("{} prompts are too many for a batch; give at most {MAX_BATCH}", all.len()),
            ));
        }
        if self.llm.hides().is_some() && tail.len() > MAX_HIDDEN {
            return Err(failure(
                "value",
                format!(
                    "a batch may have {MAX_HIDDEN} bytes where personal data is hidden; ask fewer at a time"
                ),
            ));
        }
        let mut rest = tail;
        let mut requests = Vec::with_capacity(all.len());
        for options in all {
            let texts = options.parts.iter().filter_map(|part| match part {
                Part::Text(length) => Some(*length),
                Part::View(_) => None,
            });
            let length = texts.fold(0usize, usize::saturating_add);
            let (own, after) = rest
                .split_at_checked(length)
                .ok_or_else(|| failure("arguments", "parts of a prompt are missing"))?;
            requests.push(self.request(options, own)?);
            rest = after;
        }
        Ok(requests)
    }

    /// Numbers a call, in the order in which the program makes them.
    fn number(&self, prepared: &Prepared) -> u64 {
        if let Some(track) = &self.track {
            self.calls.fetch_max(track.asked(), Ordering::Relaxed);
        }
        let number = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        self.turn().count_hidden(prepared);
        if let Some(track) = &self.track {
            track.begin_ask(number, &self.turn(), prepared.request());
        }
        number
    }

    async fn ask(&self, number: u64, mut prepared: Prepared) -> Result<Answer, AskError> {
        let mut seen = Seen::start(self, number, prepared.request());
        let result = match &self.track {
            None => self.llm.ask_and_tell(&self.turn(), &mut prepared, None, &mut None).await,
            Some(track) => track.ask(number, &self.llm, &self.turn(), &mut prepared).await,
        };
        let result = result.map(|answer| Answer { hidden: prepared.hidden(), ..answer });
        seen.end(&result);
        prepared.restore(result)
    }

    async fn ask_all(&self, requests: Vec<(u64, Prepared, Taken)>) -> operations::Answer {
        let bytes = &AtomicU64::new(0);
        let asked = requests.into_iter().map(|(number, request, room)| async move {
            let answer = self.ask(number, request).await;
            drop(room);
            match answer {
                Ok(answer) => {
                    let own = answer.text.len() as u64;
                    match bytes.fetch_add(own, Ordering::Relaxed) + own <= MAX_ANSWERS {
                        true => Batched::Answer { about: About::of(&answer), text: answer.text },
                        false => {
                            Batched::Error { error: Told::of(&AskError::Request(TOO_MANY_ANSWERS.into())) }
                        }
                    }
                }
                Err(error) => Batched::Error { error: Told::of(&error) },
            }
        });
        let results: Vec<Batched> = futures_util::stream::iter(asked).buffered(BATCH_WIDTH).collect().await;
        json(&results)
    }
}

/// Tells the watch of a call's end, whatever ends it.
struct Seen<'a> {
    watch: Option<&'a dyn Watch>,
    number: u64,
    since: Instant,
}

impl<'a> Seen<'a> {
    fn start(asks: &'a Asks, number: u64, request: &ModelRequest) -> Self {
        let watch = asks.watch.as_deref();
        if let Some(watch) = watch {
            watch.started(CallStart { number, request });
        }
        Seen { watch, number, since: Instant::now() }
    }

    fn end(&mut self, result: &Result<Answer, AskError>) {
        self.tell(Some(result.as_ref()));
    }

    fn tell(&mut self, result: Option<Result<&Answer, &AskError>>) {
        if let Some(watch) = self.watch.take() {
            watch.ended(CallEnd { number: self.number, result, took: self.since.elapsed() });
        }
    }
}

impl Drop for Seen<'_> {
    fn drop(&mut self) {
        self.tell(None);
    }
}

/// What Python is told beside the text.
#[derive(Serialize)]
struct About {
    model: String,
    input_tokens: u64,
    output_tokens: u64,
    cost: Option<f64>,
    cached: bool,
    stop: StopReason,
}

impl About {
    fn of(answer: &Answer) -> Self {
        About {
            model: answer.model.clone(),
            input_tokens: answer.tokens.input,
            output_tokens: answer.tokens.output,
            cost: answer.cost.map(super::Dollars::get),
            cached: answer.cached,
            stop: answer.stop,
        }
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum Batched {
    Answer { text: String, about: About },
    Error { error: Told },
}

/// An error as Python is told it.
#[derive(Default, Serialize)]
struct Told {
    kind: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    what: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
}

impl Told {
    fn of(error: &AskError) -> Self {
        let message = error.to_string();
        match error {
            AskError::Budget(error) => {
                Told { kind: "budget", message, what: Some(error.what), ..Told::default() }
            }
            AskError::Provider(error) => Told {
                kind: "provider",
                message,
                status: error.status,
                attempts: Some(error.attempts),
                ..Told::default()
            },
            AskError::Refused(_) => Told { kind: "refused", message, ..Told::default() },
            AskError::Request(_) => Told { kind: "request", message, ..Told::default() },
        }
    }
}

/// What `budget()` tells.
#[derive(Serialize)]
struct Report {
    left: super::Left,
    used: LlmUsage,
    models: Vec<String>,
}

impl Report {
    fn of(asks: &Asks) -> Self {
        let turn = asks.turn();
        Report {
            left: turn.left(),
            used: turn.usage(),
            models: asks.llm.models().map(str::to_owned).collect(),
        }
    }
}

fn json(value: &impl Serialize) -> operations::Answer {
    serde_json::to_vec(value).map_err(|error| failure("trap", error.to_string()))
}

/// What is said about the answer, its length before it, and the text.
fn encode(result: Result<Answer, AskError>) -> operations::Answer {
    let answer = result.map_err(|error| {
        let told = serde_json::to_string(&Told::of(&error)).unwrap_or_default();
        failure("llm", told)
    })?;
    let about = json(&About::of(&answer))?;
    let mut bytes = Vec::with_capacity(4 + about.len() + answer.text.len());
    bytes.extend((about.len() as u32).to_le_bytes());
    bytes.extend(about);
    bytes.extend(answer.text.as_bytes());
    Ok(bytes)
}
