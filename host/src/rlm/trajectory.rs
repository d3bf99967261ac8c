//! The trajectory of a run: one JSON object a line, described in `docs/trajectory.md`.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

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

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

fn is_nothing(value: &f64) -> bool {
    *value == 0.0
}

/// Writes the trajectory of one run, from any number of threads.
///
/// Each event is one whole line, written at once: a crash leaves whole lines. Recording never fails;
/// the first error is kept, nothing is written after it, and [`finish`](Trajectory::finish) tells.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::fs::File;
/// use std::io::BufReader;
///
/// use agentkernel::rlm::{Event, Trajectory, view};
///
/// # let directory = tempfile::tempdir()?;
/// # let directory = directory.path();
/// let trajectory = Trajectory::create(directory.join("run.jsonl"))?;
/// trajectory.record(Event::Note { node: "0".into(), iteration: 1, text: "half of the tokens are used".into() });
/// trajectory.finish()?;
///
/// let jsonl = BufReader::new(File::open(directory.join("run.jsonl"))?);
/// let viewed = view(jsonl, File::create(directory.join("run.html"))?)?;
/// assert_eq!((viewed.events, viewed.problems), (1, 0));
/// # Ok(())
/// # }
/// ```
pub struct Trajectory {
    began: Instant,
    sink: Option<Mutex<Sink>>,
}

struct Sink {
    out: Box<dyn Write + Send>,
    error: Option<io::Error>,
    lost: u64,
}

impl Trajectory {
    /// Writes to a new file that only its owner can read, as it will hold prompts.
    ///
    /// # Errors
    ///
    /// When there is a file already, or none can be made.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match options.open(path) {
            Ok(file) => Ok(Trajectory::to(file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let message = format!("the trajectory `{}` exists already", path.display());
                Err(Error::new(ErrorKind::System, message).hint("name another file, or remove it first"))
            }
            Err(error) => Err(cannot_write(path, error)),
        }
    }

    /// As [`create`](Trajectory::create), in the place of a file that is there already.
    ///
    /// # Errors
    ///
    /// When what is there is no regular file, or none can be made.
    pub fn replace(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Trajectory::create(path),
            Err(error) => return Err(cannot_write(path, error)),
            Ok(there) if !there.is_file() => {
                let message =
                    format!("the trajectory `{}` cannot replace what is no regular file", path.display());
                return Err(Error::new(ErrorKind::System, message).hint("name another file"));
            }
            Ok(_) => {}
        }
        // A new file put in its place has our mode, and whoever holds the old one open cannot read it.
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let file = tempfile::NamedTempFile::new_in(directory.unwrap_or(Path::new(".")))
            .and_then(|file| file.persist(path).map_err(|error| error.error));
        file.map(Trajectory::to).map_err(|error| cannot_write(path, error))
    }

    /// Writes to `out`, one call of `write_all` and one of `flush` for each event.
    pub fn to(out: impl Write + Send + 'static) -> Self {
        let sink = Sink { out: Box::new(out), error: None, lost: 0 };
        Trajectory { began: Instant::now(), sink: Some(Mutex::new(sink)) }
    }

    /// Writes nothing.
    pub fn none() -> Self {
        Trajectory { began: Instant::now(), sink: None }
    }

    /// Whether events are written, for callers that would make them for nothing.
    pub fn is_on(&self) -> bool {
        self.sink.is_some()
    }

    /// Writes `event`, and waits until the operating system has it.
    pub fn record(&self, event: Event) {
        let Some(mut sink) = self.sink() else { return };
        if sink.error.is_some() {
            sink.lost += 1;
            return;
        }
        // Taken with the lock held, so that lines are in the order of their times.
        let micros = self.began.elapsed().as_micros() as f64;
        let written = serde_json::to_vec(&Record { at: micros / 1000.0, event })
            .map_err(io::Error::other)
            .and_then(|mut line| {
                line.push(b'\n');
                sink.out.write_all(&line)?;
                sink.out.flush()
            });
        if let Err(error) = written {
            // The line may be there in part: another after it would be unreadable as well.
            sink.error = Some(error);
            sink.lost = 1;
        }
    }

    /// Tells whether all events so far were written.
    ///
    /// # Errors
    ///
    /// When one was not, with the first reason and how many events are missing.
    pub fn finish(&self) -> Result<()> {
        let Some(mut sink) = self.sink() else { return Ok(()) };
        let lost = sink.lost;
        let Some(error) = &sink.error else { return Ok(()) };
        // Another error of this kind takes its place, as nothing may be written after it.
        let kept = io::Error::from(error.kind());
        let error = sink.error.replace(kept).unwrap_or_else(|| io::ErrorKind::Other.into());
        let message = format!("the trajectory misses its last {lost} events");
        Err(Error::new(ErrorKind::System, message).source(error))
    }

    fn sink(&self) -> Option<MutexGuard<'_, Sink>> {
        Some(self.sink.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl std::fmt::Debug for Trajectory {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Trajectory").field("is_on", &self.is_on()).finish_non_exhaustive()
    }
}

fn cannot_write(path: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::System, format!("cannot write the trajectory `{}`", path.display())).source(error)
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
    fn cuts_between_characters() {
        assert_eq!(cut("äöü", 2), ("äö", 3));
        assert_eq!(cut("äöü", 3), ("äöü", 3));
        assert_eq!(cut("", 0), ("", 0));
    }
}
