//! Writing a trajectory, on a thread of its own: no run waits for a disk.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::event::{Event, Record};
use crate::error::{Error, ErrorKind, Result};

/// Bytes that a trajectory may have where nobody says: as many as a page shows.
const MOST: u64 = 256 << 20;

/// Bytes that may wait to be written.
const WAITING: usize = 16 << 20;

/// What a line takes beside its bytes.
const LINE: usize = 64;

/// How long a full queue is waited for: a disk that writes makes room by then.
const PATIENCE: Duration = Duration::from_millis(20);

/// How long it is waited at the end for what is not written yet.
const LAST: Duration = Duration::from_secs(5);

/// Writes the trajectory of one run, from any number of threads.
///
/// Each event is one whole line, written at once: a crash leaves whole lines, and loses what is not yet
/// written. Recording never fails and waits for no disk; what cannot be written is counted, and
/// [`finish`](Trajectory::finish) tells.
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
    queue: Option<Arc<Queue>>,
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

    /// Writes to `out` on a thread of its own: one call of `write_all` for each event, and one of `flush`
    /// when no more wait.
    pub fn to(out: impl Write + Send + 'static) -> Self {
        let queue = Arc::new(Queue { state: Mutex::new(State::new()), changed: Condvar::new() });
        let writing = Arc::clone(&queue);
        let thread = std::thread::Builder::new().name("trajectory".into());
        if let Err(error) = thread.spawn(move || writing.write(out)) {
            queue.lock().error = Some(error);
        }
        Trajectory { began: Instant::now(), queue: Some(queue) }
    }

    /// Writes nothing.
    pub fn none() -> Self {
        Trajectory { began: Instant::now(), queue: None }
    }

    /// Writes at most `bytes`; of what follows only the answer of the run and its end. Default: 256 MiB,
    /// as many as [`view`](super::view()) shows.
    pub fn max_bytes(self, bytes: u64) -> Self {
        if let Some(queue) = &self.queue {
            queue.lock().most = bytes;
        }
        self
    }

    /// Whether events are written, for callers that would make them for nothing.
    pub fn is_on(&self) -> bool {
        self.queue.is_some()
    }

    /// Has `event` written.
    pub fn record(&self, event: Event) {
        let Some(queue) = &self.queue else { return };
        let mut state = queue.lock();
        if let Event::Prompt { node, iteration, .. } = &event
            && node == "0"
        {
            state.iteration = *iteration;
        }
        let is_last = match &event {
            Event::Answer { node, .. } => node == "0",
            Event::End { .. } => true,
            _ => false,
        };
        if state.is_crowded() && !state.hangs && (is_last || !state.full) {
            let waited = queue.changed.wait_timeout_while(state, PATIENCE, |state| state.is_crowded());
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.hangs = state.is_crowded();
        }
        if state.error.is_some() || !is_last && (state.full || state.is_crowded()) {
            return state.leave_out();
        }
        // Taken with the lock held, so that lines are in the order of their times.
        let at = self.began.elapsed().as_micros() as f64 / 1000.0;
        if state.gap > 0 {
            let text = format!("{} events are missing here", std::mem::take(&mut state.gap));
            state.note(at, text);
        }
        match line(at, event) {
            Ok(line) if is_last || state.taken + line.len() as u64 <= state.most => state.push(line),
            Ok(_) => {
                state.full = true;
                state.leave_out();
                let text = format!(
                    "the trajectory is at its limit of {} bytes: of what follows only the answer and the end are written",
                    state.most
                );
                state.note(at, text);
            }
            Err(_) => state.leave_out(),
        }
        queue.changed.notify_all();
    }

    /// Tells whether all events so far were written, and waits for that for some seconds.
    ///
    /// # Errors
    ///
    /// When one was not, with the first reason and how many events are missing.
    pub fn finish(&self) -> Result<()> {
        let Some(queue) = &self.queue else { return Ok(()) };
        let mut state = queue.drain();
        let wrong = |message: String| Error::new(ErrorKind::System, message);
        let (missing, most) = (state.missing, state.most);
        if let Some(error) = &state.error {
            // Another error of this kind takes its place, as nothing may be written after it.
            let kept = io::Error::from(error.kind());
            let error = state.error.replace(kept).unwrap_or_else(|| io::ErrorKind::Other.into());
            return Err(wrong(format!("the trajectory misses {missing} events")).source(error));
        }
        if state.is_busy() {
            let missing = missing + state.lines.len() as u64 + u64::from(state.writing);
            let seconds = LAST.as_secs();
            return Err(wrong(format!(
                "the trajectory misses {missing} events: they could not be written within {seconds} s"
            )));
        }
        match (missing, state.full) {
            (0, _) => Ok(()),
            (_, true) => Err(wrong(format!(
                "the trajectory misses {missing} events: it may have no more than {most} bytes"
            ))),
            (_, false) => Err(wrong(format!(
                "the trajectory misses {missing} events: they came faster than they could be written"
            ))),
        }
    }
}

impl Drop for Trajectory {
    fn drop(&mut self) {
        if let Some(queue) = &self.queue {
            queue.drain().closed = true;
            queue.changed.notify_all();
        }
    }
}

impl std::fmt::Debug for Trajectory {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Trajectory").field("is_on", &self.is_on()).finish_non_exhaustive()
    }
}

/// Lines on their way to the thread that writes them.
struct Queue {
    state: Mutex<State>,
    /// Notified when there is something to write, when it is written, and at the end.
    changed: Condvar,
}

struct State {
    lines: VecDeque<Vec<u8>>,
    /// What `lines` take.
    waiting: usize,
    /// Whether a line is being written.
    writing: bool,
    /// Whether waiting for room was in vain since a line was last written.
    hangs: bool,
    /// Whether waiting for the end was in vain.
    late: bool,
    closed: bool,
    /// Bytes of all lines, written or not.
    taken: u64,
    most: u64,
    /// Whether the limit was reached.
    full: bool,
    /// Events that were left out.
    missing: u64,
    /// Those of them that no line tells of.
    gap: u64,
    /// The step that the root is in.
    iteration: u32,
    /// Why nothing more is written.
    error: Option<io::Error>,
}

impl State {
    fn new() -> Self {
        State {
            lines: VecDeque::new(),
            waiting: 0,
            writing: false,
            hangs: false,
            late: false,
            closed: false,
            taken: 0,
            most: MOST,
            full: false,
            missing: 0,
            gap: 0,
            iteration: 1,
            error: None,
        }
    }

    fn is_crowded(&self) -> bool {
        self.waiting >= WAITING
    }

    fn is_busy(&self) -> bool {
        self.writing || !self.lines.is_empty()
    }

    fn leave_out(&mut self) {
        self.missing += 1;
        self.gap += 1;
    }

    fn push(&mut self, line: Vec<u8>) {
        self.taken += line.len() as u64;
        self.waiting += line.len() + LINE;
        self.lines.push_back(line);
    }

    /// Tells the reader something.
    fn note(&mut self, at: f64, text: String) {
        if let Ok(line) = line(at, Event::Note { node: "0".into(), iteration: self.iteration, text }) {
            self.push(line);
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until all is written, but not for long, and only once for a disk that hangs.
    fn drain(&self) -> MutexGuard<'_, State> {
        let state = self.lock();
        if state.late {
            return state;
        }
        let waited = self.changed.wait_timeout_while(state, LAST, |state| state.is_busy());
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.late = state.is_busy();
        state
    }

    /// Writes lines until the trajectory is closed.
    fn write(&self, mut out: impl Write) {
        let mut state = self.lock();
        loop {
            let Some(line) = state.lines.pop_front() else {
                if state.closed {
                    return;
                }
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let is_last = state.lines.is_empty();
            state.waiting -= line.len() + LINE;
            state.writing = true;
            drop(state);
            let flush = |out: &mut dyn Write| if is_last { out.flush() } else { Ok(()) };
            let written = out.write_all(&line).and_then(|()| flush(&mut out));
            state = self.lock();
            (state.writing, state.hangs) = (false, false);
            if let Err(error) = written {
                // The line may be there in part: another after it would be unreadable as well.
                state.missing += 1 + state.lines.len() as u64;
                state.error = Some(error);
                state.lines.clear();
                state.waiting = 0;
                self.changed.notify_all();
                return;
            }
            self.changed.notify_all();
        }
    }
}

fn line(at: f64, event: Event) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = serde_json::to_vec(&Record { at, event })?;
    line.push(b'\n');
    Ok(line)
}

fn cannot_write(path: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::System, format!("cannot write the trajectory `{}`", path.display())).source(error)
}
