//! How a turn ended and what it used.

use std::time::Duration;

use serde::Serialize;

use crate::Limits;
use crate::llm::LlmUsage;

/// What one turn did.
///
/// ```
/// # fn main() -> agentkernel::Result<()> {
/// use agentkernel::{Ending, Kernel};
///
/// let mut session = Kernel::new()?.session().start()?;
/// let outcome = session.run_blocking("print('working'); {'answer': 42}")?;
/// assert_eq!(outcome.stdout, b"working\n");
/// match outcome.ending {
///     Ending::Completed(Some(value)) => assert_eq!(value.json.unwrap()["answer"], 42),
///     Ending::Raised(exception) => eprintln!("{}", exception.traceback),
///     other => eprintln!("{}", other.name()),
/// }
/// assert!(outcome.usage.output_bytes == 8 && outcome.usage.wall.as_secs() < 60);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// How the turn ended.
    pub ending: Ending,
    /// Standard output, unless the session streams it. Python writes UTF-8, a hostile program any bytes.
    pub stdout: Vec<u8>,
    /// Standard error, unless the session streams it.
    pub stderr: Vec<u8>,
    /// What the turn used.
    pub usage: Usage,
    /// Whether the turn was stopped and the session was put back to where it was before it
    /// ([`SessionBuilder::rollback`](crate::SessionBuilder::rollback)).
    pub rolled_back: bool,
}

/// How a turn ended. Whatever guest code does ends in one of these, never in an error.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Ending {
    /// The code ran to its end; the value of its last expression, if it ended in one.
    Completed(Option<Value>),
    /// An exception was not caught.
    Raised(Exception),
    /// `sys.exit`, with the process exit code it stands for.
    Exited(i32),
    /// The time limit was reached. The turn was stopped.
    TimedOut,
    /// The memory limit was reached where Python could not raise `MemoryError`. The turn was stopped.
    OutOfMemory,
    /// The fuel limit was reached. The turn was stopped.
    OutOfFuel,
    /// The turn was cancelled. The turn was stopped.
    Cancelled,
    /// The interpreter itself failed, for instance by a stack overflow. The turn was stopped.
    Trapped(String),
}

impl Ending {
    /// Whether what the turn did is kept. Otherwise it was stopped: then the session was put back to where it
    /// was before it ([`Outcome::rolled_back`]), or has ended.
    pub fn is_kept(&self) -> bool {
        matches!(self, Ending::Completed(_) | Ending::Raised(_) | Ending::Exited(_))
    }

    /// The name used in machine-readable output: `completed`, `raised`, `exited`, `timed-out`,
    /// `out-of-memory`, `out-of-fuel`, `cancelled` or `trapped`.
    pub fn name(&self) -> &'static str {
        match self {
            Ending::Completed(_) => "completed",
            Ending::Raised(_) => "raised",
            Ending::Exited(_) => "exited",
            Ending::TimedOut => "timed-out",
            Ending::OutOfMemory => "out-of-memory",
            Ending::OutOfFuel => "out-of-fuel",
            Ending::Cancelled => "cancelled",
            Ending::Trapped(_) => "trapped",
        }
    }

    /// What a shell sees of a process that ends so: 0, 1 for an exception and 130 for `KeyboardInterrupt`, the lower eight
    /// bits of `sys.exit`, 124 for the limits of time and fuel, 137 for that of memory, 130 for a cancellation, 134 for a
    /// trap.
    pub fn exit_code(&self) -> i32 {
        match self {
            Ending::Completed(_) => 0,
            Ending::Raised(exception) if exception.kind == "KeyboardInterrupt" => 130,
            Ending::Raised(_) => 1,
            Ending::Exited(code) => code & 0xff,
            Ending::TimedOut | Ending::OutOfFuel => 124,
            Ending::Cancelled => 130,
            Ending::OutOfMemory => 137,
            Ending::Trapped(_) => 134,
        }
    }

    /// Why a turn of a session with these limits was stopped, in a sentence; `None` for an ending that is Python's own.
    pub fn stopped(&self, limits: &Limits) -> Option<String> {
        Some(match self {
            Ending::Completed(_) | Ending::Raised(_) | Ending::Exited(_) => return None,
            Ending::TimedOut => {
                format!("stopped at the time limit of {:?}", limits.timeout.unwrap_or_default())
            }
            Ending::OutOfFuel => format!("stopped at the fuel limit of {}", limits.fuel.unwrap_or_default()),
            Ending::OutOfMemory => format!("stopped at the memory limit of {} bytes", limits.memory_bytes),
            Ending::Cancelled => "cancelled".to_owned(),
            Ending::Trapped(reason) => format!("the interpreter failed: {reason}"),
        })
    }
}

/// The value of a turn's last expression.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Value {
    /// Its Python `repr()`, cut after 1,048,576 characters.
    pub repr: String,
    /// Its JSON form, where it has one that loses nothing and is no longer than 4 MiB: none, booleans,
    /// finite numbers, integers of 64 bits, strings, lists, tuples and dictionaries with string keys.
    pub json: Option<serde_json::Value>,
}

/// A Python exception that was not caught.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Exception {
    /// The qualified name of its class: `ValueError`, `json.decoder.JSONDecodeError`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `str()` of it.
    pub message: String,
    /// The traceback as Python prints it, with the program's own lines.
    pub traceback: String,
    /// The traceback's frames, the outermost first.
    pub frames: Vec<Frame>,
}

/// One frame of a traceback.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Frame {
    /// The file's name.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The function's name, `<module>` at the top.
    pub function: String,
    /// The source line without its indentation, where it is known.
    pub source: Option<String>,
}

/// What a turn used.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Usage {
    /// Wall-clock time from the start of the turn to its end.
    pub wall: Duration,
    /// Processor time of the thread that ran it.
    pub cpu: Duration,
    /// Fuel burnt, where it is metered.
    pub fuel: Option<u64>,
    /// The most linear memory the session has had, in bytes.
    pub peak_memory_bytes: u64,
    /// Bytes the turn wrote to standard output and standard error, the dropped ones included.
    pub output_bytes: u64,
    /// Bytes of output dropped because the limit was reached.
    pub output_dropped_bytes: u64,
    /// Bytes written to granted directories over the session's life.
    pub written_bytes: u64,
    /// Calls of the turn to the kernel's own interfaces (WASI is not counted).
    pub host_calls: u64,
    /// What the turn asked of models, its child sessions included.
    pub llm: LlmUsage,
}
