//! The trajectory of a run: one JSON object a line, described in `docs/trajectory.md`.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// The version of the format, as `start` events name it.
pub const TRAJECTORY_VERSION: u32 = 1;

/// One line of a trajectory: an event and when it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Milliseconds since the run began.
    pub at: f64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happens in a run.
///
/// A node is a session of the run's tree: `0` is the root, `0.1` its first child. Texts may be cut;
/// characters are Unicode scalar values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
#[non_exhaustive]
pub enum Event {
    /// The run begins: the first line.
    Start {
        /// [`TRAJECTORY_VERSION`].
        version: u32,
        /// When, as [`timestamp`] writes it.
        time: String,
        /// What was asked.
        question: String,
        /// The model that writes the code.
        model: String,
        /// The model that programs call.
        sub_model: String,
        /// Limits by the names of their flags, `max-calls`; null where there is none.
        limits: serde_json::Map<String, serde_json::Value>,
        /// The version of AgentKernel.
        agentkernel: String,
    },
    /// A session of the tree begins.
    Node {
        /// Its name.
        node: String,
        /// The node whose program started it.
        parent: Option<String>,
        /// The call that started it.
        call: Option<String>,
        /// How deep it is below the root, which is at 0.
        depth: u32,
        /// What it was asked.
        question: String,
        /// The model that writes its code.
        model: String,
        /// The data that it was given.
        context: Vec<ContextPart>,
    },
    /// A node's model is asked for its next step.
    Prompt {
        /// The node.
        node: String,
        /// Which step, from 1.
        iteration: u32,
        /// The messages that the node's last prompt did not hold, the model's replies left out.
        messages: Vec<PromptMessage>,
    },
    /// A node's model has answered, or failed to.
    Reply {
        /// The node.
        node: String,
        /// The step.
        iteration: u32,
        /// The answer; empty where there is an error.
        text: String,
        /// The model that answered.
        model: String,
        /// What it used.
        usage: Spent,
        /// Whether it came from the cache.
        #[serde(default, skip_serializing_if = "is_false")]
        cached: bool,
        /// How long it took, in milliseconds.
        ms: f64,
        /// Why there is no answer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<Failure>,
    },
    /// A block of code begins to run.
    Code {
        /// The node.
        node: String,
        /// The step.
        iteration: u32,
        /// The block within the step, from 1.
        block: u32,
        /// The code.
        code: String,
    },
    /// A block of code has ended.
    Output {
        /// The node.
        node: String,
        /// The step.
        iteration: u32,
        /// The block.
        block: u32,
        /// How it ended: a name that [`Ending::name`](crate::Ending::name) gives.
        ending: String,
        /// The output, as the model is shown it.
        text: String,
        /// Characters of it that the model is not shown.
        #[serde(default, skip_serializing_if = "is_zero")]
        cut: u64,
        /// The exception that ended it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exception: Option<Raised>,
        /// How long it ran, in milliseconds.
        ms: f64,
    },
    /// A program calls a model.
    Call {
        /// The call, unique within the run: `c12`.
        call: String,
        /// The node whose program calls.
        node: String,
        /// The step.
        iteration: u32,
        /// The block.
        block: u32,
        /// What is called.
        kind: CallKind,
        /// The model.
        model: String,
        /// The system prompt, cut.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        system: Option<String>,
        /// The prompt, cut.
        prompt: String,
        /// Characters of the whole prompt.
        prompt_chars: u64,
    },
    /// A call has ended.
    Returned {
        /// The call.
        call: String,
        /// The node whose program called.
        node: String,
        /// The answer, cut; empty where there is an error.
        text: String,
        /// Characters of the whole answer.
        chars: u64,
        /// What it used itself. Absent for an `rlm` call that started a node: the node's events have it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        usage: Option<Spent>,
        /// Whether it came from the cache.
        #[serde(default, skip_serializing_if = "is_false")]
        cached: bool,
        /// How long it took since `call`, waiting included, in milliseconds.
        ms: f64,
        /// How long of that it waited for its turn.
        #[serde(default, skip_serializing_if = "is_nothing")]
        waited_ms: f64,
        /// Why there is no answer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<Failure>,
    },
    /// Something that whoever reads the trajectory should know: a limit, a repeated question.
    Note {
        /// The node.
        node: String,
        /// The step.
        iteration: u32,
        /// What.
        text: String,
    },
    /// A node has its answer.
    Answer {
        /// The node.
        node: String,
        /// The answer.
        content: String,
        /// How it was given.
        how: AnswerKind,
        /// Whether the model was made to answer because a limit was reached.
        best_effort: bool,
    },
    /// The run has ended: the last line.
    End {
        /// How.
        ending: RunEnding,
        /// What each model used.
        totals: BTreeMap<String, ModelTotals>,
        /// Why, where it was not answered.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
}

/// Data that a node was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextPart {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its characters, where they were counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chars: Option<u64>,
}

/// A message that a node's model is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptMessage {
    /// Who says it.
    pub role: PromptRole,
    /// What is said.
    pub content: String,
}

/// Who says something to a node's model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PromptRole {
    /// The system prompt.
    System,
    /// AgentKernel, with the question and what the code printed.
    User,
    /// The model.
    Assistant,
}

/// Tokens of an answer and what they cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Spent {
    /// Tokens the model read.
    pub input_tokens: u64,
    /// Tokens the model wrote.
    pub output_tokens: u64,
    /// US dollars; none when the model's price is unknown.
    pub cost: Option<f64>,
    /// Values that the model was not shown.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub hidden: u64,
}

/// What a model used in the whole run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ModelTotals {
    /// Its calls.
    pub calls: u64,
    /// Those of them that the cache answered.
    pub cached: u64,
    /// Tokens it read.
    pub input_tokens: u64,
    /// Tokens it wrote.
    pub output_tokens: u64,
    /// US dollars; none when its price is unknown.
    pub cost: Option<f64>,
    /// Values that it was not shown.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub hidden: u64,
}

/// An exception that ended a block of code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raised {
    /// The qualified name of its class.
    #[serde(rename = "type")]
    pub kind: String,
    /// `str()` of it.
    pub message: String,
}

/// Why a model did not answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The exception that the program sees: `BudgetExceeded`, `ProviderError`, `Refused`.
    pub kind: String,
    /// Its message.
    pub message: String,
}

/// What a program calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallKind {
    /// A model, once.
    AskLlm,
    /// A session of its own, in which a model writes code.
    Rlm,
}

/// How a node gave its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AnswerKind {
    /// The program set `answer["ready"]`.
    Answer,
    /// `FINAL(…)`.
    Final,
    /// `FINAL_VAR(…)`.
    FinalVar,
    /// A limit was reached, and the model was asked for what it has.
    Limit,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunEnding {
    /// With an answer.
    Answered,
    /// At a limit.
    Limit,
    /// By an error.
    Failed,
    /// By the user.
    Interrupted,
}

impl RunEnding {
    /// Its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            RunEnding::Answered => "answered",
            RunEnding::Limit => "limit",
            RunEnding::Failed => "failed",
            RunEnding::Interrupted => "interrupted",
        }
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

fn is_nothing(value: &f64) -> bool {
    *value == 0.0
}

/// Characters of a name or a message that events keep.
const KEPT: usize = 1000;

impl Event {
    /// Calls `each` with all that models and programs said, and what they were given.
    pub(super) fn each_text(&mut self, each: &mut dyn FnMut(&mut String)) {
        match self {
            Event::Start { question, .. } => each(question),
            Event::Node { question, context, .. } => {
                each(question);
                context.iter_mut().for_each(|part| each(&mut part.name));
            }
            Event::Prompt { messages, .. } => {
                messages.iter_mut().for_each(|message| each(&mut message.content));
            }
            Event::Reply { text, error, .. } | Event::Returned { text, error, .. } => {
                each(text);
                error.iter_mut().for_each(|error| each(&mut error.message));
            }
            Event::Code { code: text, .. }
            | Event::Answer { content: text, .. }
            | Event::Note { text, .. } => {
                each(text);
            }
            Event::Output { text, exception, .. } => {
                each(text);
                exception.iter_mut().for_each(|exception| each(&mut exception.message));
            }
            Event::Call { system, prompt, .. } => {
                system.iter_mut().for_each(&mut *each);
                each(prompt);
            }
            Event::End { message, .. } => message.iter_mut().for_each(each),
        }
    }

    /// Shortens names and messages that programs made up: they may be of any length.
    pub(super) fn shorten(&mut self) {
        let shorten = |text: &mut String| {
            // Nothing is counted where there are no more bytes than that.
            if text.len() > KEPT {
                let length = cut(text, KEPT).0.len();
                if length < text.len() {
                    text.truncate(length);
                    text.push('…');
                }
            }
        };
        let fail =
            |error: &mut Option<Failure>| error.iter_mut().for_each(|error| shorten(&mut error.message));
        match self {
            Event::Node { model, .. } | Event::Call { model, .. } => shorten(model),
            Event::Reply { model, error, .. } => {
                shorten(model);
                fail(error);
            }
            Event::Returned { error, .. } => fail(error),
            Event::Output { exception: Some(Raised { kind, message }), .. } => {
                shorten(kind);
                shorten(message);
            }
            Event::Note { text, .. } => shorten(text),
            Event::End { message: Some(message), .. } => shorten(message),
            _ => {}
        }
    }
}

/// The first `most` characters of `text`, and how many it has.
pub fn cut(text: &str, most: usize) -> (&str, u64) {
    let end = text.char_indices().nth(most).map_or(text.len(), |(end, _)| end);
    (&text[..end], text.chars().count() as u64)
}

/// `time` as RFC 3339 writes it, in UTC and to the millisecond: `2026-01-31T12:00:00.000Z`. Times
/// before 1970 are 1970.
pub fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Howard Hinnant's `civil_from_days`: days are counted from 1 March of the year 0, so that the leap
    // day is the last of its year, in eras of 400 years, which all have as many days.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month_from_march) = (day - (153 * month + 2) / 5 + 1, month);
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let milli = since.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_rfc_3339() {
        for (seconds, millis, text) in [
            (0, 0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, 999, "2000-02-28T23:59:59.999Z"),
            (951_782_400, 0, "2000-02-29T00:00:00.000Z"),
            (951_868_800, 0, "2000-03-01T00:00:00.000Z"),
            (1_735_689_599, 1, "2024-12-31T23:59:59.001Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000Z"),
        ] {
            let time = UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_millis(millis);
            assert_eq!(timestamp(time), text);
        }
        assert_eq!(timestamp(UNIX_EPOCH - Duration::from_secs(1)), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn what_programs_made_up_is_shortened() {
        let long = "é".repeat(1_000_000);
        let error = || Some(Failure { kind: "ValueError".into(), message: long.clone() });
        let mut returned = Event::Returned {
            call: "c1".into(),
            node: "0".into(),
            text: String::new(),
            chars: 0,
            usage: None,
            cached: false,
            ms: 0.0,
            waited_ms: 0.0,
            error: error(),
        };
        returned.shorten();
        let Event::Returned { error: Some(Failure { message, .. }), .. } = &returned else { panic!() };
        assert_eq!(*message, format!("{}…", "é".repeat(KEPT)));
        let mut call = Event::Call {
            call: "c1".into(),
            node: "0".into(),
            iteration: 1,
            block: 1,
            kind: CallKind::AskLlm,
            model: long.clone(),
            system: None,
            prompt: String::new(),
            prompt_chars: 0,
        };
        call.shorten();
        assert!(serde_json::to_vec(&call).unwrap().len() < 3 * KEPT);
        let text = "é".repeat(KEPT);
        let mut note = Event::Note { node: "0".into(), iteration: 1, text: text.clone() };
        note.shorten();
        assert_eq!(note, Event::Note { node: "0".into(), iteration: 1, text });
    }

    #[test]
    fn cuts_between_characters() {
        assert_eq!(cut("äöü", 2), ("äö", 3));
        assert_eq!(cut("äöü", 3), ("äöü", 3));
        assert_eq!(cut("", 0), ("", 0));
    }
}
