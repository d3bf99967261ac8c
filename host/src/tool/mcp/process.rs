//! A server that is a process: made with nothing but what it is granted, ended with all that it has started.

use std::collections::BTreeSet;
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

/// The first processes of the groups that there are, each until it is reaped: so long nobody else can have its number. None
/// once no more are to be started.
static LIVE: Mutex<Option<BTreeSet<u32>>> = Mutex::new(Some(BTreeSet::new()));

/// A process and those that it has started. Dropping it ends them.
pub struct Process {
    running: Arc<Running>,
    tail: Arc<Tail>,
}

#[derive(Default)]
struct Running {
    child: Mutex<Option<Child>>,
    /// Whether it was asked to end.
    asked: AtomicBool,
    status: OnceLock<ExitStatus>,
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
        let mut child = {
            let mut live = lock(&LIVE);
            let live = live.as_mut().ok_or_else(|| io::Error::other("this process is about to end"))?;
            let child = command.spawn()?;
            live.insert(child.id());
            child
        };
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let running = Arc::new(Running { child: Mutex::new(Some(child)), ..Running::default() });
        let process = Process { running, tail: Arc::default() };
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(io::Error::other("it has no standard streams"));
        };
        let stderr = ChildStderr::from_std(stderr)?;
        tokio::spawn(keep_tail(tool.to_owned(), stderr, Arc::clone(&process.tail)));
        Ok((process, ChildStdin::from_std(stdin)?, ChildStdout::from_std(stdout)?))
    }

    /// Ends it, if it has not ended, and all that it has started and that has not left its group. It may take [`GRACE`].
    pub fn end(&self) {
        self.running.end();
    }

    /// The same, but a thread of a runtime does not wait for it.
    pub fn leave(&self) {
        if tokio::runtime::Handle::try_current().is_err() {
            return self.end();
        }
        // At once: this process may end before the thread begins. Who holds it ends it.
        match self.running.child.try_lock().as_deref_mut() {
            Ok(Some(child)) => self.running.ask(child),
            _ => return,
        }
        let running = Arc::clone(&self.running);
        let ending = std::thread::Builder::new().name("mcp-end".into()).stack_size(128 << 10);
        if ending.spawn(move || running.end()).is_err() {
            self.end();
        }
    }

    /// How it ended, and the last that it wrote to standard error, for a message.
    pub fn last_words(&self) -> String {
        let begun = Instant::now();
        while !self.tail.is_whole.load(Ordering::Acquire) && begun.elapsed() < GRACE {
            std::thread::sleep(Duration::from_millis(2));
        }
        let status = self.running.status.get().map_or_else(String::new, |status| format!(" ({status})"));
        let tail = lock(&self.tail.bytes);
        let tail = text::escaped(&tail);
        match tail.trim() {
            "" => format!("{status}; it wrote nothing to standard error"),
            tail => format!("{status}; the last that it wrote to standard error:\n{tail}"),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Running {
    fn ask(&self, child: &mut Child) {
        if !self.asked.swap(true, Ordering::Relaxed) {
            Group::of(child.id()).terminate();
        }
    }

    fn end(&self) {
        // Held until it has ended: who comes second waits for that.
        let mut place = lock(&self.child);
        let Some(mut child) = place.take() else { return };
        self.ask(&mut child);
        let group = Group::of(child.id());
        let begun = Instant::now();
        // It is not reaped before the group is killed: until then nobody else can have its number.
        while !group.has_ended() && begun.elapsed() < GRACE {
            std::thread::sleep(Duration::from_millis(2));
        }
        group.kill();
        // Where there are no groups, and one that has left its own.
        let _ = child.kill();
        if let Some(live) = lock(&LIVE).as_mut() {
            live.remove(&child.id());
        }
        if let Ok(status) = child.wait() {
            let _ = self.status.set(status);
        }
    }
}

/// Ends the processes of all MCP servers, and lets none be started any more: for who leaves by `std::process::exit`, which drops
/// no sessions and kernels. It may take 0.1 seconds. Without effect where processes have no groups, as on Windows.
pub fn end_servers() {
    // Held to the end: none is reaped meanwhile.
    let mut live = lock(&LIVE);
    let groups: Vec<Group> = live.iter().flatten().map(|number| Group::of(*number)).collect();
    groups.iter().for_each(Group::terminate);
    let begun = Instant::now();
    while !groups.iter().all(Group::has_ended) && begun.elapsed() < GRACE {
        std::thread::sleep(Duration::from_millis(2));
    }
    groups.iter().for_each(Group::kill);
    *live = None;
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The processes of a server.
#[cfg(unix)]
struct Group(Option<rustix::process::Pid>);

#[cfg(unix)]
impl Group {
    /// By the number of the first, which is not reaped.
    fn of(number: u32) -> Self {
        Group(rustix::process::Pid::from_raw(number as i32))
    }

    fn terminate(&self) {
        if let Some(group) = self.0 {
            // It may have ended.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::TERM);
        }
    }

    /// Ends them, and the first even if it has left.
    fn kill(&self) {
        if let Some(group) = self.0 {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            let _ = rustix::process::kill_process(group, rustix::process::Signal::KILL);
        }
    }

    /// Whether the first of them has ended; it can still be waited for.
    fn has_ended(&self) -> bool {
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
    fn of(_: u32) -> Self {
        Group
    }

    fn terminate(&self) {}

    fn kill(&self) {}

    /// It cannot be asked to end, so there is nothing to wait for.
    fn has_ended(&self) -> bool {
        true
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
        let mut bytes = lock(&tail.bytes);
        bytes.extend_from_slice(came);
        let beyond = bytes.len().saturating_sub(TAIL_BYTES);
        bytes.drain(..beyond);
    }
    tail.is_whole.store(true, Ordering::Release);
}
