//! Files as WASI streams. They are always ready: the operations of a regular file do not wait.

use std::sync::Arc;

use bytes::Bytes;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use super::error::{Fault, StreamFault};
use super::node::FileNode;
use super::{Budget, Opened, files};

/// Bytes that one write may carry.
pub(super) const WRITE_BYTES: usize = 1 << 20;

pub(super) struct Reader {
    pub file: FileNode,
    pub position: u64,
    pub _opened: Option<Arc<Opened>>,
}

pub(super) struct Writer {
    pub file: FileNode,
    /// `None` appends.
    pub position: Option<u64>,
    pub budget: Budget,
    pub _opened: Option<Arc<Opened>>,
}

pub(super) fn failed(fault: Fault) -> StreamError {
    match fault {
        Fault::Code(code) => StreamError::LastOperationFailed(StreamFault(code).into()),
        Fault::Trap(error) => StreamError::Trap(error),
    }
}

#[async_trait]
impl Pollable for Reader {
    async fn ready(&mut self) {}
}

impl InputStream for Reader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if size == 0 {
            return Ok(Bytes::new());
        }
        let bytes = files::read_at(&self.file, size as u64, self.position).map_err(failed)?;
        if bytes.is_empty() {
            return Err(StreamError::Closed);
        }
        self.position += bytes.len() as u64;
        Ok(bytes.into())
    }
}

#[async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {}
}

impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let written = files::write_at(&self.file, &self.budget, rest, self.position).map_err(failed)?;
            if let Some(position) = &mut self.position {
                *position += written;
            }
            rest = &rest[written as usize..];
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES)
    }
}
