//! Files of a session that is recorded or replayed. In a replay no directory is touched: what the
//! recording gave is given again, and what is asked and written must be the same.

use std::fmt::Display;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use wasmtime::component::Resource;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use super::FilesystemCtxView;
use super::descriptor::Descriptor;
use super::error::{ErrorCode, Fault, Result, Settled, StreamFault, settle};
use super::stream::{Reader, WRITE_BYTES, Writer, failed};
use crate::replay::{Asked, Content, Taped, written};

/// What is opened.
pub(super) enum Opening<T> {
    /// In a session that has no tape.
    Plain(T),
    /// With the tape's name for it; nothing in a replay.
    Taped(Option<T>, Arc<Taped>),
}

impl FilesystemCtxView<'_> {
    /// What the tape calls a handle, if there is a tape.
    pub(super) fn taped_handle(&self, handle: &Resource<Descriptor>) -> Result<Option<Arc<Taped>>> {
        match self.ctx.tape {
            Some(_) => Ok(self.table.get(handle)?.taped.clone()),
            None => Ok(None),
        }
    }

    /// What `now` gives, or the recording; `path` is below the handle, and `with` all else that is asked.
    pub(super) fn taped<T: Serialize + DeserializeOwned>(
        &mut self,
        does: &str,
        handle: &Resource<Descriptor>,
        path: &str,
        with: impl Display,
        now: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Settled<T> {
        let taped = match settle(self.taped_handle(handle))? {
            Ok(Some(taped)) => taped,
            Ok(None) => return settle(now(self)),
            Err(code) => return Ok(Err(code)),
        };
        through(&taped, &taped.asked(does, path, with), || settle(now(self)))
    }

    /// As [`Self::taped`], for what gives a handle.
    pub(super) fn taped_open<T>(
        &mut self,
        does: &str,
        handle: &Resource<Descriptor>,
        path: &str,
        with: impl Display,
        now: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<Opening<T>> {
        let Some(taped) = self.taped_handle(handle)? else {
            return Ok(Opening::Plain(now(self)?));
        };
        let mut opened = None;
        let result = through(&taped, &taped.asked(does, path, with), || {
            settle(now(self).map(|now| opened = Some(now)))
        });
        result.map_err(Fault::Trap)??;
        Ok(Opening::Taped(opened, taped.open(path)))
    }

    /// Where the program sees what is at `path` below `handle`, for the tape if there is one.
    pub(super) fn place(&self, handle: &Resource<Descriptor>, path: &str) -> String {
        match self.taped_handle(handle) {
            Ok(Some(taped)) => taped.place(path),
            _ => String::new(),
        }
    }
}

/// What the recording gives, or `now`.
pub(super) fn through<T: Serialize + DeserializeOwned, E: Serialize + DeserializeOwned>(
    taped: &Taped,
    asked: &Asked,
    now: impl FnOnce() -> wasmtime::Result<Result<T, E>>,
) -> wasmtime::Result<Result<T, E>> {
    if let Some(given) = taped.replayed(asked)? {
        return Ok(given);
    }
    let given = now()?;
    taped.took(asked.clone(), &given);
    Ok(given)
}

/// The content of a file, read as the tape has it.
pub(super) struct TapedReader {
    /// Nothing in a replay.
    pub reader: Option<Reader>,
    pub taped: Arc<Taped>,
}

/// A file, written as the tape has it.
pub(super) struct TapedWriter {
    /// Nothing in a replay.
    pub writer: Option<Writer>,
    pub taped: Arc<Taped>,
}

/// What a stream's function gives, with nothing for the end.
type FromStream<T> = Result<Option<T>, ErrorCode>;

fn settled<T>(result: StreamResult<T>) -> wasmtime::Result<FromStream<T>> {
    match result {
        Ok(given) => Ok(Ok(Some(given))),
        Err(StreamError::Closed) => Ok(Ok(None)),
        Err(StreamError::Trap(error)) => Err(error),
        Err(StreamError::LastOperationFailed(error)) => match error.downcast::<StreamFault>() {
            Ok(fault) => Ok(Err(fault.0)),
            Err(error) => Err(error),
        },
    }
}

fn unsettled<T>(given: wasmtime::Result<FromStream<T>>) -> StreamResult<T> {
    match given.map_err(StreamError::Trap)? {
        Ok(given) => given.ok_or(StreamError::Closed),
        Err(code) => Err(failed(Fault::Code(code))),
    }
}

#[async_trait]
impl Pollable for TapedReader {
    async fn ready(&mut self) {}
}

impl InputStream for TapedReader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if size == 0 {
            return Ok(Bytes::new());
        }
        let asked = self.taped.asked("read", "", size);
        let given = through(&self.taped, &asked, || {
            let read = self.reader.as_mut().map_or(Ok(Bytes::new()), |reader| reader.read(size));
            Ok(settled(read)?.map(|read| read.map(|bytes| Content(bytes.into()))))
        });
        match unsettled(given)? {
            Content(bytes) if bytes.len() > size => Err(StreamError::Trap(self.taped.damaged())),
            Content(bytes) => Ok(bytes.into()),
        }
    }
}

#[async_trait]
impl Pollable for TapedWriter {
    async fn ready(&mut self) {}
}

impl OutputStream for TapedWriter {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let asked = self.taped.asked("write", "", written(&bytes));
        let length = bytes.len() as u64;
        let given = through(&self.taped, &asked, || {
            let write = self.writer.as_mut().map_or(Ok(()), |writer| writer.write(bytes));
            // JSON cannot tell nothing from no value.
            settled(write.map(|()| length))
        });
        unsettled(given).map(drop)
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES)
    }
}
