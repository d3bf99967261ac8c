//! Errors of the embedder and its environment. What guest code does is never one of these: it is
//! an [`Outcome`](crate::Outcome).

use std::fmt;

/// What kind of thing went wrong, for code that decides on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A grant cannot be given: a directory is missing, a path or a limit makes no sense.
    Grant,
    /// The interpreter component cannot be read, does not fit this version, or does not compile.
    Guest,
    /// A tool cannot be read, does not compile, or cannot be what it is asked to be.
    Tool,
    /// The compilation cache cannot be used where the caller insisted on it.
    Cache,
    /// The session has ended: a turn was stopped by a limit, a trap or a cancellation, and there was no state to
    /// go back to.
    SessionEnded,
    /// The session holds what cannot be kept with its memory: an open file, a task that waits for a host call.
    Held,
    /// An image cannot be written or read, was damaged, or does not fit this kernel.
    Image,
    /// The model's provider cannot be used as it is configured.
    Model,
    /// A skill is not there, or cannot be kept.
    Skill,
    /// A cassette cannot be written or read, or a replay went another way than its recording.
    Replay,
    /// The directory below an overlay was changed where the overlay changes it.
    Conflict,
    /// What an overlay has kept is not as it was written.
    Damaged,
    /// A store of tasks cannot be used, or a task cannot be what it is asked to be.
    Tasks,
    /// The operating system refused something the kernel itself needs.
    System,
}

/// An error of the embedding program or its environment, with a remedy where there is one.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner { kind, message: message.into(), hint: None, source: None }))
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    pub(crate) fn source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The kind of error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What the user can do about it, as one sentence, where that is known.
    pub fn remedy(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        if let Some(source) = &self.0.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)?;
        if let Some(hint) = &self.0.hint {
            write!(f, " (hint: {hint})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| &**source as _)
    }
}
