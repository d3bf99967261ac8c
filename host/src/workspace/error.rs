//! Failures of file operations, as WASI names them.

use std::io;

use rustix::io::Errno;
use wasmtime::component::ResourceTableError;

pub(super) use super::bindings::wasi::filesystem::types::ErrorCode;

/// Why an operation did not succeed.
pub(super) enum Fault {
    /// What the program gets to see.
    Code(ErrorCode),
    /// The guest broke the rules of the component model.
    Trap(wasmtime::Error),
}

pub(super) type Result<T, E = Fault> = std::result::Result<T, E>;

/// What a function gives the guest.
pub(super) type Settled<T> = wasmtime::Result<Result<T, ErrorCode>>;

/// Gives a result the form that bindings have.
pub(super) fn settle<T>(result: Result<T>) -> Settled<T> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(Fault::Code(code)) => Ok(Err(code)),
        Err(Fault::Trap(error)) => Err(error),
    }
}

impl From<ErrorCode> for Fault {
    fn from(code: ErrorCode) -> Self {
        Fault::Code(code)
    }
}

impl From<ResourceTableError> for Fault {
    fn from(error: ResourceTableError) -> Self {
        match error {
            // The program holds more handles than the host keeps for it.
            ResourceTableError::Full => Fault::Code(ErrorCode::Quota),
            error => Fault::Trap(error.into()),
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Fault::Code(code(&error))
    }
}

/// The error code of an operating system's error.
pub(super) fn code(error: &io::Error) -> ErrorCode {
    let Some(errno) = Errno::from_io_error(error) else {
        return match error.kind() {
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => ErrorCode::Invalid,
            io::ErrorKind::NotFound => ErrorCode::NoEntry,
            io::ErrorKind::AlreadyExists => ErrorCode::Exist,
            io::ErrorKind::Unsupported => ErrorCode::Unsupported,
            // cap-std's word for a path that leads out.
            io::ErrorKind::PermissionDenied => ErrorCode::NotPermitted,
            _ => ErrorCode::Io,
        };
    };
    match errno {
        Errno::ACCESS => ErrorCode::Access,
        Errno::AGAIN => ErrorCode::WouldBlock,
        Errno::ALREADY => ErrorCode::Already,
        Errno::BADF => ErrorCode::BadDescriptor,
        Errno::BUSY => ErrorCode::Busy,
        Errno::DEADLK => ErrorCode::Deadlock,
        Errno::DQUOT => ErrorCode::Quota,
        Errno::EXIST => ErrorCode::Exist,
        Errno::FBIG => ErrorCode::FileTooLarge,
        Errno::ILSEQ => ErrorCode::IllegalByteSequence,
        Errno::INPROGRESS => ErrorCode::InProgress,
        Errno::INTR => ErrorCode::Interrupted,
        Errno::INVAL => ErrorCode::Invalid,
        Errno::ISDIR => ErrorCode::IsDirectory,
        Errno::LOOP => ErrorCode::Loop,
        Errno::MLINK => ErrorCode::TooManyLinks,
        Errno::NAMETOOLONG => ErrorCode::NameTooLong,
        Errno::NODEV => ErrorCode::NoDevice,
        Errno::NOENT => ErrorCode::NoEntry,
        Errno::NOLCK => ErrorCode::NoLock,
        Errno::NOMEM => ErrorCode::InsufficientMemory,
        Errno::NOSPC => ErrorCode::InsufficientSpace,
        Errno::NOTDIR => ErrorCode::NotDirectory,
        Errno::NOTEMPTY => ErrorCode::NotEmpty,
        Errno::NOTSUP | Errno::NOSYS => ErrorCode::Unsupported,
        Errno::NOTTY => ErrorCode::NoTty,
        Errno::NXIO => ErrorCode::NoSuchDevice,
        Errno::OVERFLOW => ErrorCode::Overflow,
        Errno::PERM => ErrorCode::NotPermitted,
        Errno::PIPE => ErrorCode::Pipe,
        Errno::ROFS => ErrorCode::ReadOnly,
        Errno::SPIPE => ErrorCode::InvalidSeek,
        Errno::TXTBSY => ErrorCode::TextFileBusy,
        Errno::XDEV => ErrorCode::CrossDevice,
        // The host itself has too many files open.
        Errno::MFILE | Errno::NFILE => ErrorCode::Quota,
        _ => ErrorCode::Io,
    }
}

/// A stream's failure, kept so that the guest can ask for its code.
#[derive(Debug, thiserror::Error)]
#[error("{0:?}")]
pub(super) struct StreamFault(pub ErrorCode);
