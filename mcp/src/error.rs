//! What goes wrong with the server itself.

use std::io;

/// An error of the server or of what it was configured with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel cannot do what it was asked for.
    #[error(transparent)]
    Kernel(#[from] agentkernel::Error),
    /// A setting makes no sense, or is not safe.
    #[error("{message}")]
    Setting {
        /// What is wrong.
        message: String,
        /// What to do about it.
        hint: String,
    },
    /// The system refused something that the server needs.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The other side broke the protocol before a connection was made.
    #[error("the connection was not made: {0}")]
    Connection(String),
}

/// A result whose error is [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn setting(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Error::Setting { message: message.into(), hint: hint.into() }
    }

    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Error::System { what, source }
    }

    /// What the user can do about it, where that is known.
    pub fn remedy(&self) -> Option<&str> {
        match self {
            Error::Kernel(error) => error.remedy(),
            Error::Setting { hint, .. } => Some(hint),
            _ => None,
        }
    }
}
