//! The lines of a cassette (docs/replay.md).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::ambient::Position;
use crate::bindings::operations::Failure;
use crate::console::Stream;
use crate::llm::{
    Answer, AskError, BudgetExceeded, Dollars, ModelRequest, ProviderError, StopReason, Tokens,
};

/// The version of the format.
pub const VERSION: u32 = 2;

/// Bytes of one line at most: more is not recorded, and not read.
pub const LINE_BYTES: usize = 1 << 30;

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "kebab-case")]
pub enum Line {
    /// The first one.
    Cassette {
        version: u32,
        agentkernel: String,
    },
    /// A run that answers a question begins.
    Run {
        at: String,
        /// Levels of children that it may have.
        depth: Option<u32>,
        llm: Models,
    },
    Session(Start),
    Event(Event),
    Ask(Ask),
    /// The last one, with the number of those before it.
    End {
        lines: u64,
    },
}

/// A session begins.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Start {
    pub at: String,
    /// SHA-256 of the interpreter.
    pub guest: String,
    /// Of its random numbers.
    pub seed: u64,
    /// Its time of day, in nanoseconds since 1970.
    pub time: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub llm: Option<Models>,
}

/// The models that programs may ask.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Models {
    pub model: String,
    /// What programs ask where they name none.
    pub of_programs: String,
    pub all: Vec<String>,
}

/// Something that the host did for a session, in the order in which it was asked.
#[derive(Debug, Serialize, Deserialize)]
pub struct Event {
    pub at: String,
    /// Its number at that place, from 1.
    pub n: u64,
    pub asked: Asked,
    /// The time that it took, on the session's clock.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ns: u64,
    pub given: Given,
    /// What tools wrote meanwhile for whoever reads the program's errors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub told: Vec<(Output, Bytes)>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What the host was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Asked {
    /// To run a turn: SHA-256 of its code and arguments.
    Turn {
        code: String,
    },
    /// Nothing more: the turn is over.
    TurnEnd,
    Call {
        function: u32,
        /// The beginning of their SHA-256.
        arguments: String,
    },
    Start {
        function: u32,
        arguments: String,
    },
    Sleep {
        ns: u64,
    },
    /// The result of an operation, which has the number of the event that started it.
    Take {
        operation: u64,
    },
    Wait {
        operations: Vec<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout: Option<u64>,
    },
    /// To read standard input.
    Read {
        max: u32,
    },
    /// To wait for WASI's pollables.
    Poll {
        pollables: u32,
    },
    Ready,
    Block,
    File(Box<FileAsk>),
    /// Whether a turn of a run ended in time.
    InTime,
    /// How long the last request of a run may be.
    Room,
}

/// What a function of WASI's filesystem was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileAsk {
    /// The function.
    pub does: String,
    /// The number of the handle that it was asked of, from 1 in the order of their opening.
    #[serde(rename = "of")]
    pub handle: u64,
    /// Where the program sees the file.
    pub path: String,
    /// Its other arguments.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub with: String,
}

/// What the host gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Given {
    Nothing,
    Failure {
        kind: String,
        message: String,
    },
    /// Positions of what is ready.
    Ready(Vec<u32>),
    Flag(bool),
    Number(u64),
    /// What calls of models gave, which are lines of their own.
    Answers,
    /// What is made again in a replay: the beginning of its SHA-256.
    Digest(String),
    /// What a function of WASI's filesystem gave.
    File(serde_json::Value),
    /// The turn was stopped while it waited.
    Stopped(Why),
    /// How the turn ended, and SHA-256 of what it wrote, if the program ended by itself.
    Ended {
        how: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stdout: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stderr: Option<String>,
        /// Where its clocks and random numbers were, if it was stopped: how far it comes is another matter each time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<Box<Position>>,
    },
    #[serde(untagged)]
    Bytes(Bytes),
}

/// Why a turn was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    TimedOut,
    Cancelled,
}

/// Bytes, as text where they are text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bytes {
    Text(String),
    Base64(String),
    /// Compressed by Zstandard, in Base64.
    Zstd(String),
}

impl Bytes {
    pub fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Bytes::Text(text.to_owned()),
            Err(_) => Bytes::Base64(STANDARD.encode(bytes)),
        }
    }

    /// Nothing where it is damaged.
    pub fn get(self) -> Option<Vec<u8>> {
        match self {
            Bytes::Text(text) => Some(text.into_bytes()),
            Bytes::Base64(text) => STANDARD.decode(text).ok(),
            Bytes::Zstd(text) => super::files::unpack(&STANDARD.decode(text).ok()?),
        }
    }
}

impl From<Failure> for Given {
    fn from(failure: Failure) -> Self {
        Given::Failure { kind: failure.kind, message: failure.message }
    }
}

/// Which stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Output {
    Stdout,
    Stderr,
}

impl From<Stream> for Output {
    fn from(stream: Stream) -> Self {
        match stream {
            Stream::Stdout => Output::Stdout,
            Stream::Stderr => Output::Stderr,
        }
    }
}

impl From<Output> for Stream {
    fn from(output: Output) -> Self {
        match output {
            Output::Stdout => Stream::Stdout,
            Output::Stderr => Stream::Stderr,
        }
    }
}

/// A call of a model.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ask {
    pub at: String,
    /// Its number at that place, from 1.
    pub call: u64,
    pub request: ModelRequest,
    #[serde(flatten)]
    pub result: AskResult,
    /// What it counted in the budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted: Option<Counted>,
}

/// What a model gave.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AskResult {
    Answer {
        text: String,
        model: String,
        tokens: Tokens,
        /// In billionths of a dollar.
        cost: Option<u64>,
        cached: bool,
        stop: StopReason,
    },
    Error(AskFailure),
    /// Its turn ended, or the program no longer wanted it.
    GivenUp {},
}

/// Why a model gave nothing.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum AskFailure {
    Budget { what: String, message: String },
    Provider { status: Option<u16>, attempts: u32, message: String },
    Refused { message: String },
    Request { message: String },
}

/// What is counted in a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    pub calls: u64,
    pub tokens: Tokens,
    /// In billionths of a dollar; nothing where the price is not known.
    pub cost: Option<u64>,
}

impl AskResult {
    pub fn of(result: &Result<Answer, AskError>) -> Self {
        let failure = match result {
            Ok(answer) => {
                return AskResult::Answer {
                    text: answer.text.clone(),
                    model: answer.model.clone(),
                    tokens: answer.tokens,
                    cost: answer.cost.map(|cost| cost.0),
                    cached: answer.cached,
                    stop: answer.stop,
                };
            }
            Err(AskError::Budget(error)) => {
                AskFailure::Budget { what: error.what.to_owned(), message: error.message.clone() }
            }
            Err(AskError::Provider(error)) => AskFailure::Provider {
                status: error.status,
                attempts: error.attempts,
                message: error.message.clone(),
            },
            Err(AskError::Refused(message)) => AskFailure::Refused { message: message.clone() },
            Err(AskError::Request(message)) => AskFailure::Request { message: message.clone() },
        };
        AskResult::Error(failure)
    }

    pub fn get(self) -> Result<Answer, AskError> {
        let failure = match self {
            AskResult::Answer { text, model, tokens, cost, cached, stop } => {
                return Ok(Answer { text, model, tokens, cost: cost.map(Dollars), cached, stop, hidden: 0 });
            }
            AskResult::Error(failure) => failure,
            AskResult::GivenUp {} => return Err(given_up()),
        };
        Err(match failure {
            AskFailure::Budget { what, message } => {
                AskError::Budget(BudgetExceeded { what: quantity(&what), message })
            }
            AskFailure::Provider { status, attempts, message } => {
                AskError::Provider(ProviderError { status, attempts, ..ProviderError::new(message) })
            }
            AskFailure::Refused { message } => AskError::Refused(message),
            AskFailure::Request { message } => AskError::Request(message),
        })
    }
}

/// What a call gives that was given up in the recording: nobody waits for it.
pub fn given_up() -> AskError {
    AskError::Provider(ProviderError::new("the call was given up in the recording"))
}

/// What may run out.
fn quantity(name: &str) -> &'static str {
    let known = ["calls", "tokens", "input_tokens", "output_tokens", "cost", "depth", "time"];
    known.into_iter().find(|known| *known == name).unwrap_or("budget")
}
