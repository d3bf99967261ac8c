//! What is said of tasks. Names, messages and results are programs' own: a terminal would obey them.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant, SystemTime};

use agentkernel::Stream;
use agentkernel::rlm::timestamp;
use agentkernel::task::{LogChunk, TaskFilter, TaskResult, TaskState, TaskStatus, Tasks};
use serde_json::json;

use super::{block_on, ids};
use crate::failure::{Failure, Result, each};
use crate::output::{self, CLOSED};
use crate::terminal::{self, escaped, say};
use crate::units::show_number_of;

/// The exit code of a wait that took too long.
const TIMED_OUT: i32 = 124;

/// Characters of a name, and of a message, in a list.
const SHOWN: usize = 40;

/// `agentkernel task status`.
pub fn status(tasks: &Tasks, texts: &[String], as_json: bool) -> Result<i32> {
    each(ids(texts)?, |id| {
        let status = block_on(tasks.status(&id))?;
        match as_json {
            true => say!("{}", status.to_json()),
            false => describe(&status),
        }
        Ok(())
    })?;
    Ok(0)
}

fn describe(status: &TaskStatus) {
    let time = |time: SystemTime| timestamp(time).replace('T', " ");
    say!("{}", status.id);
    let row =
        |name: &str, value: &str| say!("  {name:9}  {}", escaped(value).replace('\n', "\n             "));
    if !status.name.is_empty() {
        row("name", &status.name);
    }
    let stopping = if status.stopping { ", is to stop" } else { "" };
    row("state", &format!("{}{stopping}", status.state.name()));
    if let Some(progress) = status.progress {
        row("progress", format!("{:.0} % {}", progress * 100.0, status.message).trim_end());
    }
    row("priority", &status.priority.to_string());
    row("attempts", &status.attempts.to_string());
    if !status.after.is_empty() {
        let after: Vec<_> = status.after.iter().map(|id| id.as_str()).collect();
        row("after", &after.join(" "));
    }
    let times = [
        ("created", Some(status.created)),
        ("started", status.started),
        ("ended", status.ended),
        ("due", status.due),
    ];
    for (name, at) in times {
        if let Some(at) = at {
            row(name, &time(at));
        }
    }
    row("log", &format!("{} bytes", status.log_bytes));
    match &status.result {
        Some(TaskResult::Json(value)) => row("result", &value.to_string()),
        Some(TaskResult::Repr(text)) => row("result", text),
        None => {}
    }
    if let Some(failure) = &status.failure {
        row("failure", &told(status));
        if let Some(traceback) = &failure.traceback {
            row("traceback", traceback.trim_end());
        }
    }
}

/// How it failed, in a line or some.
fn told(status: &TaskStatus) -> String {
    let Some(failure) = &status.failure else { return status.state.name().to_owned() };
    match &failure.exception {
        Some(exception) => format!("{exception}: {}", failure.message),
        None => failure.message.clone(),
    }
}

/// Says why a task has no result, if it has none.
pub fn complain(status: &TaskStatus) {
    match status.state {
        TaskState::Failed => {
            let traceback = status.failure.as_ref().and_then(|failure| failure.traceback.as_deref());
            if let Some(traceback) = traceback {
                let text = if io::stderr().is_terminal() { escaped(traceback) } else { traceback.to_owned() };
                let _ = output::write(Stream::Stderr, text.as_bytes());
            }
            terminal::error(&format!("the task `{}` failed: {}", status.id, escaped(&told(status))), None);
        }
        TaskState::Cancelled => terminal::error(&format!("the task `{}` was cancelled", status.id), None),
        _ => {}
    }
}

pub fn exit_code(status: &TaskStatus) -> i32 {
    match status.state {
        TaskState::Succeeded => 0,
        _ => 1,
    }
}

/// `agentkernel task wait`.
pub fn wait(tasks: &Tasks, texts: &[String], timeout: Option<Duration>, as_json: bool) -> Result<i32> {
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut code = 0;
    each(ids(texts)?, |id| {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let status = block_on(tasks.wait(&id, left))?;
        match as_json {
            true => say!("{}", status.to_json()),
            false => say!("{id}  {}", status.state.name()),
        }
        code = match status.state.is_ended() {
            false => TIMED_OUT,
            true if code == 0 => exit_code(&status),
            true => code,
        };
        if !as_json {
            complain(&status);
        }
        Ok(())
    })?;
    if code == TIMED_OUT {
        terminal::error(
            "not all of them have ended in time",
            Some("`agentkernel task work` runs what is there"),
        );
    }
    Ok(code)
}

/// `agentkernel task list`.
pub fn list(
    tasks: &Tasks,
    states: Vec<TaskState>,
    name: Option<String>,
    most: usize,
    as_json: bool,
) -> Result<i32> {
    let mut filter = TaskFilter::default();
    (filter.states, filter.name, filter.most) = (states, name, Some(most));
    let listed = block_on(tasks.list(filter))?;
    if as_json {
        say!("{}", serde_json::Value::from_iter(listed.iter().map(TaskStatus::to_json)));
        return Ok(0);
    }
    for status in &listed {
        let progress = status.progress.map_or(String::new(), |progress| format!("{:.0} %", progress * 100.0));
        let name = terminal::line(&status.name, SHOWN);
        let message = terminal::line(&status.message, SHOWN);
        let line = format!("{}  {:9}  {progress:>5}  {name}  {message}", status.id, status.state.name());
        say!("{}", line.trim_end());
    }
    if listed.is_empty() {
        terminal::remark("there are no such tasks; `agentkernel task dispatch` makes one");
    }
    Ok(0)
}

/// `agentkernel task cancel`.
pub fn cancel(tasks: &Tasks, texts: &[String], as_json: bool) -> Result<i32> {
    each(ids(texts)?, |id| {
        let state = block_on(tasks.cancel(&id))?;
        match (as_json, state) {
            (true, _) => say!("{}", json!({ "id": id, "state": state })),
            (false, TaskState::Running) => say!("{id}  is to stop"),
            (false, state) => say!("{id}  {}", state.name()),
        }
        Ok(())
    })?;
    Ok(0)
}

/// `agentkernel task prune`.
pub fn prune(tasks: &Tasks, older_than: Duration, as_json: bool) -> Result<i32> {
    let removed = block_on(tasks.prune(older_than))?;
    match as_json {
        true => say!("{}", json!({ "removed": removed })),
        false => say!("{} removed", show_number_of(removed, "task")),
    }
    Ok(0)
}

/// `agentkernel task logs`.
pub fn logs(tasks: &Tasks, text: &str, follow: bool) -> Result<i32> {
    let id = text.parse()?;
    let mut logs = tasks.logs(&id);
    loop {
        let chunks = match follow {
            true => block_on(logs.next())?.unwrap_or_default(),
            false => block_on(logs.read())?,
        };
        if chunks.is_empty() {
            return Ok(0);
        }
        if !write(&chunks)? {
            return Ok(CLOSED);
        }
    }
}

/// Writes what a task wrote to the streams that it wrote to; whether anybody still reads.
pub fn write(chunks: &[LogChunk]) -> Result<bool> {
    for LogChunk { stream, bytes, .. } in chunks {
        let shown = match stream {
            Stream::Stdout => io::stdout().is_terminal(),
            Stream::Stderr => io::stderr().is_terminal(),
        };
        let written = match shown {
            true => output::write(*stream, escaped(&String::from_utf8_lossy(bytes)).as_bytes()),
            false => output::write(*stream, bytes),
        };
        match written {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(false),
            Err(error) => return Err(Failure::new(format!("cannot write the log: {error}"))),
        }
    }
    Ok(true)
}
