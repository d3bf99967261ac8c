//! A server that is a process: made with nothing but what it is granted, ended with all that it has started.

use std::io;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};

use super::server::Program;
use super::text;

/// How much of what it wrote last to standard error is kept.
const TAIL_BYTES: usize = 4 << 10;

/// How much of that is logged, of each process.
const LOGGED_BYTES: usize = 1 << 20;

/// How long it has between being asked to end and being killed.
const GRACE: Duration = Duration::from_millis(100);

/// A process and those that it has started. Dropping it ends them.
pub struct Process {
    child: Mutex<Option<Child>>,
    status: OnceLock<ExitStatus>,
    tail: Arc<Tail>,
}

/// The end of what it writes to standard error.
#[derive(Default)]
struct Tail {
    bytes: Mutex<Vec<u8>>,
    /// Whether nothing more comes.
    is_whole: AtomicBool,
}

impl Process {
    /// Starts `program`; what it writes to standard error is taken in by the runtime of the caller.
    pub fn start(tool: &str, program: &Program) -> io::Result<(Self, ChildStdin, ChildStdout)> {
        let mut command = Command::new(&program.program);
        command.args(&program.arguments).env_clear();
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command.envs(&program.environment);
        if let Some(directory) = &program.directory {
            command.current_dir(directory);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn()?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let process =
            Process { child: Mutex::new(Some(child)), status: OnceLock::new(), tail: Arc::default() };
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(io::Error::other("it has no standard streams"));
        };
        let stderr = ChildStderr::from_std(stderr)?;
        tokio::spawn(keep_tail(tool.to_owned(), stderr, Arc::clone(&process.tail)));
        Ok((process, ChildStdin::from_std(stdin)?, ChildStdout::from_std(stdout)?))
    }

    /// Ends it, if it has not ended, and all that it has started and that has not left its group. It may take [`GRACE`].
    pub fn end(&self) {
        // Held until it has ended: who comes second waits for that.
        let mut place = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut child) = place.take() else { return };
        let group = Group::of(&child);
        group.terminate(&mut child);
        let begun = Instant::now();
        // It is not reaped before the group is killed: until then nobody else can have its number.
        while !group.has_ended(&mut child) && begun.elapsed() < GRACE {
            std::thread::sleep(Duration::from_millis(2));
        }
        group.kill(&mut child);
        if let Ok(status) = child.wait() {
            let _ = self.status.set(status);
        }
    }

    /// How it ended, and the last that it wrote to standard error, for a message.
    pub fn last_words(&self) -> String {
        let begun = Instant::now();
        while !self.tail.is_whole.load(Ordering::Acquire) && begun.elapsed() < GRACE {
            std::thread::sleep(Duration::from_millis(2));
        }
        let status = self.status.get().map_or_else(String::new, |status| format!(" ({status})"));
        let tail = self.tail.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let tail = text::escaped(&tail);
        match tail.trim() {
            "" => format!("{status}; it wrote nothing to standard error"),
            tail => format!("{status}; the last that it wrote to standard error:\n{tail}"),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// The processes of a server.
#[cfg(unix)]
struct Group(Option<rustix::process::Pid>);

#[cfg(unix)]
impl Group {
    fn of(child: &Child) -> Self {
        Group(rustix::process::Pid::from_raw(child.id() as i32))
    }

    fn signal(&self, signal: rustix::process::Signal) {
        if let Some(group) = self.0 {
            // It may have ended.
            let _ = rustix::process::kill_process_group(group, signal);
        }
    }

    fn terminate(&self, _: &mut Child) {
        self.signal(rustix::process::Signal::TERM);
    }

    fn kill(&self, _: &mut Child) {
        self.signal(rustix::process::Signal::KILL);
    }

    /// Whether the first of them has ended; it can still be waited for.
    fn has_ended(&self, _: &mut Child) -> bool {
        use rustix::process::{WaitId, WaitIdOptions, waitid};
        let Some(pid) = self.0 else { return true };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::Pid(pid), options), Ok(None))
    }
}

/// Where there are no groups, only the server itself.
#[cfg(not(unix))]
struct Group;

#[cfg(not(unix))]
impl Group {
    fn of(_: &Child) -> Self {
        Group
    }

    fn terminate(&self, _: &mut Child) {}

    fn kill(&self, child: &mut Child) {
        let _ = child.kill();
    }

    fn has_ended(&self, child: &mut Child) -> bool {
        !matches!(child.try_wait(), Ok(None))
    }
}

/// Keeps the end of what comes, and logs it.
async fn keep_tail(tool: String, mut stderr: ChildStderr, tail: Arc<Tail>) {
    let mut buffer = vec![0; TAIL_BYTES];
    let mut logged = 0;
    while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
        let came = &buffer[..count];
        if logged < LOGGED_BYTES {
            logged += count;
            tracing::debug!(tool, "the MCP server writes: {}", text::escaped(came).trim_end());
        }
        let mut bytes = tail.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.extend_from_slice(came);
        let beyond = bytes.len().saturating_sub(TAIL_BYTES);
        bytes.drain(..beyond);
    }
    tail.is_whole.store(true, Ordering::Release);
}
