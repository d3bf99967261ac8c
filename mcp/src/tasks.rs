//! Background tasks of clients.
//!
//! A store may hold tasks of others as well: of the command line, of programs. Clients see those that clients
//! have dispatched, which have names of their own kind.

use std::sync::Arc;
use std::time::{Duration, Instant};

use agentkernel::task::{LogChunk, Task, TaskFilter, TaskId, TaskState, TaskStatus, Tasks};
use agentkernel::{Stream, Workspace};
use rmcp::RoleServer;
use rmcp::model::{CallToolResult, JsonObject};
use rmcp::service::RequestContext;
use serde_json::{Value, json};

use crate::arguments::{Dispatch, ListTasks};
use crate::client::result;
use crate::refusal::Refusal;
use crate::report::{cut, lossy};
use crate::server::Shared;
use crate::sessions::narrower_timeout;
use crate::turn::Progress;

/// What the ids of clients' tasks begin with.
const PREFIX: &str = "mcp-";

/// How long is waited where no time is given, and at the most.
const WAIT: Duration = Duration::from_secs(60);
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// How often a client hears of a task that it waits for.
const LOOK: Duration = Duration::from_secs(1);

/// Bytes of each stream's end that are passed on.
const LOG_BYTES: usize = 16 << 10;

/// How often a task may be tried again, as for those that programs dispatch.
const MOST_RETRIES: u32 = 100;

/// The most tasks of a store that are gone through for one list.
const SEEN: usize = 10_000;

pub(crate) async fn dispatch(shared: &Shared, wanted: Dispatch) -> Result<CallToolResult, Refusal> {
    let tasks = granted(shared)?;
    let Dispatch { code, name, input, after, priority, retries, timeout_seconds } = wanted;
    let mut grants = shared.grants.clone();
    if let Some(seconds) = timeout_seconds {
        grants.limits.timeout = Some(narrower_timeout(seconds, grants.limits.timeout)?);
    }
    if let Workspace::Overlay(_) = grants.workspace {
        // The changes are this process's; a worker anywhere could not see them.
        grants.workspace = Workspace::Temporary;
    }
    let retries = retries.unwrap_or(0);
    if retries > MOST_RETRIES {
        return Err(Refusal::new(format!("a task is tried again at most {MOST_RETRIES} times")));
    }
    let after = after.iter().map(|id| own(id)).collect::<Result<Vec<_>, _>>()?;
    let id: TaskId = format!("{PREFIX}{}", TaskId::new().as_str()).parse()?;
    let task = Task::new(code)
        .id(id.clone())
        .name(name.unwrap_or_default())
        .input(input)
        .grants(grants)
        .after(after)
        .priority(priority.unwrap_or(0))
        .retries(retries);
    let unfinished = tasks.unfinished().await?;
    if unfinished >= shared.limits.unfinished_tasks {
        return Err(Refusal::new(format!("there are {unfinished} tasks that have not ended"))
            .hint("wait for some of them, or cancel what is not needed"));
    }
    tasks.dispatch(task).await?;
    let status = tasks.status(&id).await?;
    let text = format!("the task `{id}` is dispatched; `task_wait` waits for it");
    result(&described(&status), text, false)
}

pub(crate) async fn status(shared: &Shared, id: &str) -> Result<CallToolResult, Refusal> {
    let tasks = granted(shared)?;
    told(shared, tasks, tasks.status(&own(id)?).await?).await
}

pub(crate) async fn wait(
    shared: &Arc<Shared>,
    id: &str,
    seconds: Option<f64>,
    context: &RequestContext<RoleServer>,
) -> Result<CallToolResult, Refusal> {
    let (tasks, id) = (granted(shared)?, own(id)?);
    let timeout = match seconds {
        None => WAIT,
        Some(0.0) => Duration::ZERO,
        Some(seconds) => narrower_timeout(seconds, Some(LONGEST_WAIT))?,
    };
    let deadline = Instant::now() + timeout;
    let mut progress = Progress::of(context);
    let mut revision = None;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let status = tokio::select! {
            biased;
            () = context.ct.cancelled() => return Err(Refusal::cancelled()),
            status = tasks.wait(&id, left.min(LOOK)) => status?,
        };
        if status.state.is_ended() || left.is_zero() {
            return told(shared, tasks, status).await;
        }
        let message = (revision != Some(status.revision)).then(|| line(&status));
        revision = Some(status.revision);
        progress.tell(message).await;
    }
}

pub(crate) async fn list(shared: &Shared, wanted: ListTasks) -> Result<CallToolResult, Refusal> {
    let tasks = granted(shared)?;
    let most = shared.limits.listed;
    let mut filter = TaskFilter::default();
    filter.states = wanted.states.iter().map(|name| state(name)).collect::<Result<_, _>>()?;
    filter.name = wanted.name;
    filter.before = wanted.before.as_deref().map(own).transpose()?;
    filter.most = Some(1000);
    let (mut found, mut seen) = (Vec::new(), 0);
    while found.len() <= most && seen < SEEN {
        let listed = tasks.list(filter.clone()).await?;
        let Some(last) = listed.last() else { break };
        filter.before = Some(last.id.clone());
        seen += listed.len();
        found.extend(listed.into_iter().filter(|status| status.id.as_str().starts_with(PREFIX)));
    }
    let has_more = found.len() > most || seen >= SEEN;
    found.truncate(most);
    let text = match found.is_empty() {
        true => "[there are no such tasks]".to_owned(),
        false => found.iter().map(line).collect::<Vec<_>>().join("\n"),
    };
    let listed: Vec<_> = found.iter().map(described).collect();
    result(&json!({ "tasks": listed, "has_more": has_more }), text, false)
}

pub(crate) async fn cancel(shared: &Shared, id: &str) -> Result<CallToolResult, Refusal> {
    let (tasks, id) = (granted(shared)?, own(id)?);
    tasks.cancel(&id).await?;
    let status = tasks.status(&id).await?;
    result(&described(&status), line(&status), false)
}

fn granted(shared: &Shared) -> Result<&Tasks, Refusal> {
    shared
        .tasks
        .as_ref()
        .ok_or_else(|| Refusal::new("tasks are not granted").hint("start the server with `--tasks`"))
}

/// The id of a task that clients may see.
fn own(id: &str) -> Result<TaskId, Refusal> {
    let parsed = id.strip_prefix(PREFIX).and_then(|_| id.parse().ok());
    parsed.ok_or_else(|| {
        let id = &id[..id.floor_char_boundary(100)];
        Refusal::new(format!("there is no task `{id}`")).hint("give an id that `task_dispatch` has given")
    })
}

fn state(name: &str) -> Result<TaskState, Refusal> {
    TaskState::ALL.into_iter().find(|state| state.name() == name).ok_or_else(|| {
        let names: Vec<_> = TaskState::ALL.iter().map(|state| state.name()).collect();
        Refusal::new("there is no such state of tasks").hint(format!("use one of {}", names.join(", ")))
    })
}

/// All that is known of a task, with the end of what it wrote.
async fn told(shared: &Shared, tasks: &Tasks, status: TaskStatus) -> Result<CallToolResult, Refusal> {
    let mut logs = tasks.logs(&status.id);
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    loop {
        let chunks = logs.read().await?;
        if chunks.is_empty() {
            break;
        }
        for LogChunk { stream, bytes, .. } in chunks {
            let tail = match stream {
                Stream::Stdout => &mut stdout,
                Stream::Stderr => &mut stderr,
            };
            tail.extend_from_slice(&bytes);
            tail.drain(..tail.len().saturating_sub(LOG_BYTES));
        }
    }
    let mut described = described(&status);
    let mut text = line(&status);
    let part = |text: &str| cut(text, shared.limits.text_bytes / 4);
    for (name, bytes) in [("stdout", stdout), ("stderr", stderr)] {
        let written = lossy(bytes);
        if !written.is_empty() {
            text += &format!("\n[{name}]\n{}", part(&written));
        }
        described[name] = Value::String(written);
    }
    let of = |key: &str| described.get(key).filter(|value| !value.is_null());
    match (of("result"), of("repr"), of("failure")) {
        (Some(result), _, _) => text += &format!("\n[result]\n{}", part(&result.to_string())),
        (None, Some(Value::String(repr)), _) => text += &format!("\n[result]\n{}", part(repr)),
        (_, _, Some(failure)) => {
            let told = failure["traceback"].as_str().or(failure["message"].as_str()).unwrap_or_default();
            text += &format!("\n{}", part(told));
        }
        _ => {}
    }
    result(&described, text, status.state == TaskState::Failed)
}

fn line(status: &TaskStatus) -> String {
    let mut line = format!("{}  {}", status.id, status.state.name());
    if let Some(progress) = status.progress {
        line += &format!("  {:.0} %", progress * 100.0);
    }
    for part in [&status.name, &status.message] {
        if !part.is_empty() {
            line += &format!("  {}", cut(part, 400));
        }
    }
    line
}

fn described(status: &TaskStatus) -> Value {
    status.to_json()
}

/// The schema of a task, as docs/tasks.md has it.
pub(crate) fn schema() -> Arc<JsonObject> {
    object(task_schema())
}

pub(crate) fn list_schema() -> Arc<JsonObject> {
    object(json!({
        "type": "object",
        "required": ["tasks", "has_more"],
        "properties": {
            "tasks": { "type": "array", "items": task_schema() },
            "has_more": {
                "type": "boolean",
                "description": "Whether there are older ones: ask again with `before`, the id of the last."
            },
        },
    }))
}

fn task_schema() -> Value {
    let states: Vec<_> = TaskState::ALL.iter().map(|state| state.name()).collect();
    json!({
        "type": "object",
        "required": ["id", "name", "state", "attempts", "progress", "message", "result", "repr", "failure"],
        "properties": {
            "id": { "type": "string" },
            "name": { "type": "string" },
            "state": { "type": "string", "enum": states },
            "stopping": { "type": "boolean", "description": "Whether it runs, and was asked to stop." },
            "priority": { "type": "integer" },
            "attempts": { "type": "integer", "description": "How often it was started." },
            "progress": { "type": ["number", "null"], "description": "How far it says it is, from 0 to 1." },
            "message": { "type": "string", "description": "What it said with its progress." },
            "result": { "description": "The value of its last expression, where JSON can say it." },
            "repr": { "type": ["string", "null"], "description": "Python's repr() of a value that JSON cannot say." },
            "failure": { "type": ["object", "null"], "description": "How the last attempt failed: kind, message, exception, traceback." },
            "after": { "type": "array", "items": { "type": "string" } },
            "created": { "type": "number", "description": "Seconds since 1970, as all times." },
            "started": { "type": ["number", "null"] },
            "ended": { "type": ["number", "null"] },
            "due": { "type": ["number", "null"], "description": "When it is tried again." },
            "log_bytes": { "type": "integer" },
            "revision": { "type": "integer" },
            "stdout": { "type": "string", "description": "The end of what it wrote." },
            "stderr": { "type": "string" },
        },
    })
}

fn object(schema: Value) -> Arc<JsonObject> {
    match schema {
        Value::Object(object) => Arc::new(object),
        _ => Arc::default(),
    }
}
