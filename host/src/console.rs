//! The program's standard streams: counted, limited, captured or passed on as they are written.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::bindings::console::{Host, Output};
use crate::engine::hex;
use crate::state::State;

/// Which standard stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What the program reads as its standard input.
#[derive(Default)]
#[non_exhaustive]
pub enum Stdin {
    /// Nothing: the first read finds the end.
    #[default]
    Empty,
    /// These bytes.
    Bytes(Vec<u8>),
    /// Whatever the reader gives; it is read only when the program asks, on a thread of its own. A
    /// program that is interrupted meanwhile gets what the read gives with its next one. A reader that
    /// can be told to give up its wait returns [`Interrupted`](std::io::ErrorKind::Interrupted) then.
    Reader(Box<dyn Read + Send>),
}

/// Receives output as the program writes it.
pub type OutputHandler = Box<dyn FnMut(Stream, &[u8]) + Send>;

/// The output side, shared by the session, its store and the WASI streams 1 and 2.
#[derive(Clone)]
pub(crate) struct Console(Arc<Mutex<Inner>>);

struct Inner {
    handler: Option<OutputHandler>,
    limit: u64,
    /// Bytes that passed in all turns; never more than `limit`.
    passed: u64,
    turn: Captured,
    /// Of what passes of each stream, where somebody wants it.
    digests: Option<[Sha256; 2]>,
}

/// What one turn wrote.
#[derive(Default)]
pub(crate) struct Captured {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub written: u64,
    pub dropped: u64,
}

impl Console {
    pub fn new(handler: Option<OutputHandler>, limit: u64) -> Self {
        Console(Arc::new(Mutex::new(Inner {
            handler,
            limit,
            passed: 0,
            turn: Captured::default(),
            digests: None,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic in the embedder's handler must not take later turns down with it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn write(&self, stream: Stream, bytes: &[u8]) {
        let inner = &mut *self.lock();
        let room = (inner.limit - inner.passed).min(bytes.len() as u64);
        let (pass, drop) = bytes.split_at(room as usize);
        inner.passed += room;
        inner.turn.written += bytes.len() as u64;
        inner.pass(stream, pass);
        if !drop.is_empty() {
            if inner.turn.dropped == 0 {
                let marker = format!(
                    "\n[agentkernel: the output limit of {} bytes is reached; the rest is dropped]\n",
                    inner.limit
                );
                inner.pass(stream, marker.as_bytes());
            }
            inner.turn.dropped += drop.len() as u64;
        }
    }

    /// Counts what is written from now on into digests.
    pub fn begin_digests(&self) {
        self.lock().digests = Some(Default::default());
    }

    /// SHA-256 of what was written since to standard output and standard error.
    pub fn digests(&self) -> [String; 2] {
        self.lock().digests.take().unwrap_or_default().map(|digest| hex(&digest.finalize()))
    }

    /// What the turn wrote so far; the next turn starts with nothing.
    pub fn take(&self) -> Captured {
        std::mem::take(&mut self.lock().turn)
    }
}

impl Inner {
    fn pass(&mut self, stream: Stream, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if let Some([stdout, stderr]) = &mut self.digests {
            match stream {
                Stream::Stdout => stdout.update(bytes),
                Stream::Stderr => stderr.update(bytes),
            }
        }
        match (&mut self.handler, stream) {
            (Some(handler), _) => handler(stream, bytes),
            (None, Stream::Stdout) => self.turn.stdout.extend_from_slice(bytes),
            (None, Stream::Stderr) => self.turn.stderr.extend_from_slice(bytes),
        }
    }
}

/// The input side.
pub(crate) enum Input {
    Bytes {
        bytes: Vec<u8>,
        at: usize,
    },
    Reader {
        reader: Arc<Mutex<Box<dyn Read + Send>>>,
        /// A read that a signal interrupted: what it gives is for the next one.
        pending: Option<JoinHandle<Option<Vec<u8>>>>,
    },
}

/// No single read hands the guest more than this, whatever it asks for.
const READ_BYTES: usize = 1 << 16;

impl From<Stdin> for Input {
    fn from(stdin: Stdin) -> Self {
        match stdin {
            Stdin::Empty => Input::Bytes { bytes: Vec::new(), at: 0 },
            Stdin::Bytes(bytes) => Input::Bytes { bytes, at: 0 },
            Stdin::Reader(reader) => Input::Reader { reader: Arc::new(Mutex::new(reader)), pending: None },
        }
    }
}

impl Host for State {
    fn write(&mut self, to: Output, bytes: Vec<u8>) -> wasmtime::Result<()> {
        self.host_calls += 1;
        let stream = match to {
            Output::Stdout => Stream::Stdout,
            Output::Stderr => Stream::Stderr,
        };
        self.console.write(stream, &bytes);
        if to == Output::Stdout && self.interrupt.is_fired() {
            self.passed_at_stop = bytes;
        }
        Ok(())
    }

    fn read(&mut self, max: u32) -> wasmtime::Result<Option<Vec<u8>>> {
        self.host_calls += 1;
        match self.tape {
            None => self.read_now(max),
            Some(_) => self.taped_read(max),
        }
    }
}

impl State {
    pub(crate) fn read_now(&mut self, max: u32) -> wasmtime::Result<Option<Vec<u8>>> {
        let max = (max as usize).min(READ_BYTES);
        let (reader, pending) = match &mut self.input {
            Input::Bytes { bytes, at } => {
                let end = bytes.len().min(*at + max);
                let read = bytes[*at..end].to_vec();
                *at = end;
                return Ok(Some(read));
            }
            Input::Reader { reader, pending } => (reader, pending),
        };
        let mut read = match pending.take() {
            Some(read) => read,
            None => {
                let reader = Arc::clone(reader);
                self.runtime.spawn_blocking(move || read_some(&reader, max))
            }
        };
        let joined = match self.block_on_until_signal(&mut read) {
            Ok(Some(joined)) => joined,
            // What it gives is for the next read, of a turn after this one if this one is stopped.
            other => {
                self.input.keep(read);
                return Ok(other.map(|_| None)?);
            }
        };
        let mut bytes = joined.ok().flatten();
        // An interrupted read may have been for more than this one.
        if let Some(bytes) = &mut bytes
            && bytes.len() > max
        {
            let rest = bytes.split_off(max);
            self.input.keep(self.runtime.spawn(async { Some(rest) }));
        }
        Ok(bytes)
    }
}

/// Reads once. `None` is a reader that gave up waiting, and may be asked again.
fn read_some(reader: &Mutex<Box<dyn Read + Send>>, max: usize) -> Option<Vec<u8>> {
    let mut buffer = vec![0; max];
    let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
    match reader.read(&mut buffer) {
        Ok(length) => {
            buffer.truncate(length);
            Some(buffer)
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => None,
        // An unreadable standard input is an empty one: Python could do no more with it.
        Err(_) => Some(Vec::new()),
    }
}

impl Input {
    fn keep(&mut self, read: JoinHandle<Option<Vec<u8>>>) {
        if let Input::Reader { pending, .. } = self {
            *pending = Some(read);
        }
    }
}

/// Standard output or error as a WASI stream, for programs that write to file descriptor 1 or 2.
pub(crate) struct WasiOutput {
    pub console: Console,
    pub stream: Stream,
}

impl IsTerminal for WasiOutput {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for WasiOutput {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(WasiOutput { console: self.console.clone(), stream: self.stream })
    }

    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        unreachable!("only WASI 0.3 asks for this, and it is not linked")
    }
}

#[async_trait]
impl Pollable for WasiOutput {
    async fn ready(&mut self) {}
}

impl OutputStream for WasiOutput {
    fn write(&mut self, bytes: bytes::Bytes) -> StreamResult<()> {
        self.console.write(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(1 << 16)
    }
}
