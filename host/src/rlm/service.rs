//! What programs of a run do beside running: start children, and ask models, which is recorded.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::node::{Node, Place, Task};
use crate::Grants;
use crate::bindings::operations;
use crate::context::Context;
use crate::llm::{CallEnd, CallStart, Dollars, LlmLimits, LlmUsage, Watch};
use crate::operations::Answer;
use crate::service::{Called, Kind, Service, failure};
use crate::steps::{self, Done, milliseconds};
use crate::trajectory::{AnswerKind, CallKind, Event, Failure, RunEnding, cut};

/// Characters of prompts and answers that trajectories keep.
const KEPT: usize = 4000;

/// Bytes of text that a child may be given.
const MAX_TEXT: usize = 64 << 20;

/// Records the calls of models that a node's programs make.
pub(super) struct NodeWatch {
    node: Arc<Node>,
    open: Mutex<HashMap<u64, String>>,
}

impl NodeWatch {
    pub fn new(node: Arc<Node>) -> Self {
        NodeWatch { node, open: Mutex::default() }
    }

    fn open(&self) -> std::sync::MutexGuard<'_, HashMap<u64, String>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch for NodeWatch {
    fn started(&self, call: CallStart<'_>) {
        let node = &self.node;
        let name = node.run.next_call();
        let request = call.request;
        node.run.record(|| {
            let prompt = request.messages.last().map_or("", |message| &message.content);
            let (prompt, prompt_chars) = cut(prompt, KEPT);
            Event::Call {
                call: name.clone(),
                node: node.task.place.name.clone(),
                iteration: node.at.iteration(),
                block: node.at.block(),
                kind: CallKind::AskLlm,
                model: request.model.clone(),
                system: request.system.as_ref().map(|system| cut(system, KEPT).0.to_owned()),
                prompt: prompt.to_owned(),
                prompt_chars,
            }
        });
        self.open().insert(call.number, name);
    }

    fn ended(&self, call: CallEnd<'_>) {
        let Some(name) = self.open().remove(&call.number) else { return };
        let node = &self.node;
        node.run.record(|| {
            let (text, usage, cached, error) = match call.result {
                Some(Ok(answer)) => (answer.text.as_str(), Some(steps::spent(answer)), answer.cached, None),
                Some(Err(error)) => ("", None, false, Some(steps::failure(error))),
                None => ("", None, false, Some(given_up())),
            };
            let (text, chars) = cut(text, KEPT);
            Event::Returned {
                call: name,
                node: node.task.place.name.clone(),
                text: text.to_owned(),
                chars,
                usage,
                cached,
                ms: milliseconds(call.took),
                waited_ms: 0.0,
                error,
            }
        });
    }
}

fn given_up() -> Failure {
    Failure { kind: "Cancelled".into(), message: "the turn ended before the answer came".into() }
}

/// Starts children of a node.
pub(super) struct RlmService(Arc<Node>);

impl RlmService {
    pub fn new(node: Arc<Node>) -> Self {
        RlmService(node)
    }
}

impl Service for RlmService {
    fn kind(&self) -> Kind {
        Kind::Rlm
    }

    fn call(&self, function: u8, head: &[u8], tail: &[u8]) -> Called {
        if function != 0 {
            return Called::Ready(Err(failure("unknown", "there is no such function")));
        }
        match child(&self.0, head, tail) {
            Ok(child) => Called::Running(Box::pin(answer(Arc::clone(&self.0), child))),
            Err(failure) => Called::Ready(Err(failure)),
        }
    }
}

/// What a child is asked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Bytes of the question, which begins the tail.
    question: usize,
    #[serde(default)]
    context: Vec<Part>,
    model: Option<String>,
    calls: Option<u64>,
    tokens: Option<u64>,
    cost: Option<f64>,
    time: Option<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Part {
    /// Bytes of a text in the tail.
    Text(usize),
    /// A part of the parent's context.
    View(String),
}

/// What a program is told of its child's answer.
#[derive(Serialize)]
struct Told {
    content: String,
    model: String,
    best_effort: bool,
    input_tokens: u64,
    output_tokens: u64,
    cost: Option<f64>,
}

/// The task of a child, within what its parent has.
fn child(parent: &Node, head: &[u8], tail: &[u8]) -> Result<Task, operations::Failure> {
    let wrong = |message: String| failure("arguments", message);
    let request: Request = serde_json::from_slice(head).map_err(|error| wrong(error.to_string()))?;
    if tail.len() > MAX_TEXT {
        return Err(failure(
            "value",
            format!(
                "{} bytes of text are too many for a child (at most {MAX_TEXT}); give it a part of `context`",
                tail.len()
            ),
        ));
    }
    let missing = || wrong("parts of a text are missing".into());
    let (question, mut rest) = tail.split_at_checked(request.question).ok_or_else(missing)?;
    let question = std::str::from_utf8(question).map_err(|error| wrong(error.to_string()))?;
    let mut room = None;
    let context = match &request.context[..] {
        [] => None,
        // Nothing is copied, whatever its size.
        [Part::View(wire)] => Some(parent.contexts.resolve_hex(wire)?),
        parts => {
            let views = parts.iter().filter_map(|part| match part {
                Part::Text(_) => None,
                Part::View(wire) => Some(parent.contexts.resolve_hex(wire)),
            });
            let views = views.map(|view| view.map(|view| view.size()));
            let bytes = views.sum::<Result<u64, _>>()?.saturating_add(tail.len() as u64);
            room = Some(parent.room.take(bytes.min(MAX_TEXT as u64))?);
            let mut context = Context::builder();
            let mut left = MAX_TEXT;
            for (position, part) in parts.iter().enumerate() {
                let text = match part {
                    Part::Text(length) => {
                        let (text, after) = rest.split_at_checked(*length).ok_or_else(missing)?;
                        rest = after;
                        text.to_vec()
                    }
                    Part::View(wire) => {
                        let view = parent.contexts.resolve_hex(wire)?;
                        let text = view.text(left as u64);
                        text.map_err(|error| {
                            failure(
                                "value",
                                format!("{error}; give one part of `context`, which may be larger"),
                            )
                        })?
                        .into_bytes()
                    }
                };
                left = left.saturating_sub(text.len());
                context = context.bytes(format!("part {}", position + 1), text);
            }
            Some(context.build().map_err(|error| failure("value", error.to_string()))?)
        }
    };
    let seconds = |time: f64| {
        Duration::try_from_secs_f64(time).map_err(|error| failure("value", format!("`max_time`: {error}")))
    };
    let left = parent.work.left();
    let half = |asked: Option<u64>, left: Option<u64>| asked.or(left.map(|left| left / 2));
    let mut limits = LlmLimits::none();
    limits.calls = half(request.calls, left.calls);
    limits.tokens = half(request.tokens, left.tokens);
    limits.input_tokens = half(None, left.input_tokens);
    limits.output_tokens = half(None, left.output_tokens);
    // Who names a limit wants it to hold.
    limits.unpriced = request.cost.is_none();
    limits.cost = request.cost.or(left.cost.map(|cost| cost / 2.0)).map(Dollars::new);
    limits.time = request.time.map(seconds).transpose()?;
    let budget = parent.work.descend(limits).map_err(|exceeded| {
        let told = serde_json::json!({"kind": "budget", "message": exceeded.message, "what": exceeded.what});
        failure("llm", told.to_string())
    })?;
    let model = request.model.unwrap_or_else(|| parent.task.model.clone());
    if !parent.run.llm.models().any(|known| known == model) {
        return Err(failure("value", format!("the model `{model}` is not granted to this program")));
    }
    let number = parent.children.fetch_add(1, Ordering::Relaxed) + 1;
    let place = &parent.task.place;
    let name = format!("{}.{number}", place.name);
    let track =
        parent.run.plan.track(Some(name.clone())).map_err(|error| failure("rlm", error.to_string()))?;
    Ok(Task {
        place: Place {
            name,
            depth: place.depth + 1,
            parent: Some(place.name.clone()),
            call: Some(parent.run.next_call()),
        },
        question: question.to_owned(),
        model,
        // Nothing of the parent's but its limits.
        grants: Grants { limits: parent.task.grants.limits.clone(), ..Grants::default() },
        budget,
        context,
        _room: room,
        track,
    })
}

/// Runs a child when one more of its depth may run.
async fn answer(parent: Arc<Node>, task: Task) -> Answer {
    let mut recorded = Recorded::start(&parent, &task);
    let asked = Instant::now();
    let permits = parent.run.permits(task.place.depth);
    // In a replay nobody waits for others: their order is that of the recording.
    let permit = match parent.run.plan.is_replay() {
        true => None,
        false => Some(permits.acquire().await.map_err(|error| failure("trap", error.to_string()))?),
    };
    recorded.waited = asked.elapsed();
    let (model, budget) = (task.model.clone(), task.budget.clone());
    let done = Node::new(Arc::clone(&parent.run), task).answer().await;
    drop(permit);
    let done = done.unwrap_or_else(|error| Done {
        content: None,
        how: AnswerKind::Limit,
        ending: RunEnding::Failed,
        message: Some(error.to_string()),
        iterations: 0,
    });
    let Done { content, how, message, .. } = done;
    let Some(content) = content else {
        let message = message.unwrap_or_else(|| "the child gave no answer".into());
        recorded.end(Err(&message));
        return Err(failure("rlm", message));
    };
    recorded.end(Ok(&content));
    let total = LlmUsage::total(&budget.usage());
    let told = Told {
        content,
        model,
        best_effort: how == AnswerKind::Limit,
        input_tokens: total.input_tokens,
        output_tokens: total.output_tokens,
        cost: total.cost.map(Dollars::get),
    };
    serde_json::to_vec(&told).map_err(|error| failure("trap", error.to_string()))
}

/// A child's call in the trajectory, whatever ends it.
struct Recorded {
    parent: Arc<Node>,
    call: Option<String>,
    began: Instant,
    waited: Duration,
}

impl Recorded {
    fn start(parent: &Arc<Node>, task: &Task) -> Self {
        let call = task.place.call.clone().unwrap_or_default();
        let (prompt, prompt_chars) = cut(&task.question, KEPT);
        parent.run.record(|| Event::Call {
            call: call.clone(),
            node: parent.task.place.name.clone(),
            iteration: parent.at.iteration(),
            block: parent.at.block(),
            kind: CallKind::Rlm,
            model: task.model.clone(),
            system: None,
            prompt: prompt.to_owned(),
            prompt_chars,
        });
        let parent = Arc::clone(parent);
        Recorded { parent, call: Some(call), began: Instant::now(), waited: Duration::ZERO }
    }

    fn end(&mut self, result: Result<&str, &str>) {
        let error = |message: &str| Failure { kind: "RLMError".into(), message: message.to_owned() };
        self.tell(result.unwrap_or_default(), result.err().map(error));
    }

    fn tell(&mut self, text: &str, error: Option<Failure>) {
        let Some(call) = self.call.take() else { return };
        let (text, chars) = cut(text, KEPT);
        self.parent.run.record(|| Event::Returned {
            call,
            node: self.parent.task.place.name.clone(),
            text: text.to_owned(),
            chars,
            usage: None,
            cached: false,
            ms: milliseconds(self.began.elapsed()),
            waited_ms: milliseconds(self.waited),
            error,
        });
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        self.tell("", Some(given_up()));
    }
}
