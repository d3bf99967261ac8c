//! Passing the program's output on, without letting a slow reader hold the program past its limits.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use agentkernel::{Canceller, OutputHandler, Stream};

use crate::failure::{Failure, Result};

/// The exit code of a program whose reader went away: 128 and the number of SIGPIPE.
pub const CLOSED: i32 = 141;

/// What may wait for the reader.
const QUEUE_BYTES: usize = 1 << 20;

/// How often a writer that waits looks whether the program is to stop.
const LOOK: Duration = Duration::from_millis(20);

/// How long a stopped program's last output may take to be read.
const LAST: Duration = Duration::from_millis(200);

/// Where the output goes. What can be written at once is; the rest waits in a queue.
#[derive(Clone, Default)]
pub struct Output(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    canceller: OnceLock<Canceller>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<(Stream, Vec<u8>)>,
    queued: usize,
    /// Whether there is a thread that writes what is queued.
    writing: bool,
    failed: Option<io::Error>,
}

impl Output {
    /// Names what to stop when nobody reads any more.
    pub fn stops(&self, canceller: Canceller) {
        let _ = self.0.canceller.set(canceller);
    }

    /// The handler of a session.
    pub fn handler(&self) -> OutputHandler {
        let shared = Arc::clone(&self.0);
        Box::new(move |stream, bytes| shared.pass(stream, bytes))
    }

    /// Waits until all is written; for a short time only, if the program was stopped. Then says what
    /// went wrong, if something did.
    pub fn finish(&self, stopped: bool) -> Option<io::Error> {
        let waits = |state: &mut State| state.queued > 0 && state.failed.is_none();
        let state = self.0.lock();
        let mut state = if stopped {
            self.0.changed.wait_timeout_while(state, LAST, waits).unwrap_or_else(PoisonError::into_inner).0
        } else {
            self.0.changed.wait_while(state, waits).unwrap_or_else(PoisonError::into_inner)
        };
        state.failed.take()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopping(&self) -> bool {
        self.canceller.get().is_some_and(Canceller::is_stopping)
    }

    fn pass(self: &Arc<Self>, stream: Stream, bytes: &[u8]) {
        let mut state = self.lock();
        if state.failed.is_some() {
            return;
        }
        if state.queued == 0 && takes_at_once(stream, bytes.len()) {
            if let Err(error) = write(stream, bytes) {
                self.fail(&mut state, error);
            }
            return;
        }
        while state.queued > 0 && state.queued + bytes.len() > QUEUE_BYTES && state.failed.is_none() {
            if self.is_stopping() {
                return;
            }
            let waited = self.changed.wait_timeout(state, LOOK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.queued += bytes.len();
        state.queue.push_back((stream, bytes.to_vec()));
        if !state.writing {
            let shared = Arc::clone(self);
            let thread = std::thread::Builder::new().name("output".into()).stack_size(128 << 10);
            match thread.spawn(move || shared.write_queued()) {
                Ok(_) => state.writing = true,
                Err(error) => self.fail(&mut state, error),
            }
        }
        self.changed.notify_all();
    }

    fn fail(&self, state: &mut State, error: io::Error) {
        state.failed = Some(error);
        state.queue.clear();
        state.queued = 0;
        self.changed.notify_all();
        if let Some(canceller) = self.canceller.get() {
            canceller.cancel();
        }
    }

    fn write_queued(&self) {
        let mut state = self.lock();
        loop {
            let Some((stream, bytes)) = state.queue.pop_front() else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(state);
            let written = write(stream, &bytes);
            state = self.lock();
            match written {
                Ok(()) => state.queued -= bytes.len(),
                Err(error) => return self.fail(&mut state, error),
            }
            self.changed.notify_all();
        }
    }
}

/// What to do about output that could not be written. That its reader has gone away needs no words.
pub fn unwritten(error: &io::Error) -> Result<i32> {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Ok(CLOSED);
    }
    Err(Failure::new(format!("cannot write the program's output: {error}")))
}

/// Writes all, past the buffers of `std`, which lose count when a stream is non-blocking: what it
/// cannot take yet, it takes later.
#[cfg(unix)]
pub fn write(stream: Stream, mut bytes: &[u8]) -> io::Result<()> {
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::io::Errno;
    use std::os::fd::AsFd;
    let (stdout, stderr) = (io::stdout(), io::stderr());
    let fd = match stream {
        Stream::Stdout => stdout.as_fd(),
        Stream::Stderr => stderr.as_fd(),
    };
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            // An interrupted wait is one that the next write repeats.
            Err(Errno::AGAIN) => match poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)], None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            },
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(not(unix))]
pub fn write(stream: Stream, bytes: &[u8]) -> io::Result<()> {
    use io::Write;
    match stream {
        Stream::Stdout => {
            let mut stdout = io::stdout().lock();
            stdout.write_all(bytes)?;
            stdout.flush()
        }
        Stream::Stderr => io::stderr().write_all(bytes),
    }
}

/// Whether a write of `length` bytes will not have to wait.
#[cfg(unix)]
fn takes_at_once(stream: Stream, length: usize) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    // A pipe that is ready takes this much; a file or a terminal any amount.
    if length > 4096 {
        return false;
    }
    let (stdout, stderr) = (io::stdout(), io::stderr());
    let mut fds = [match stream {
        Stream::Stdout => PollFd::new(&stdout, PollFlags::OUT),
        Stream::Stderr => PollFd::new(&stderr, PollFlags::OUT),
    }];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    // A closed pipe is ready too: the write finds out.
    poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
}

#[cfg(not(unix))]
fn takes_at_once(_stream: Stream, _length: usize) -> bool {
    false
}
