//! `agentkernel task dispatch`.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use agentkernel::task::{Task, TaskId, Tasks};

use super::{block_on, ids, show, store};
use crate::arguments::{Plan, Talk};
use crate::failure::{Failure, Result};
use crate::run::{self, Program};
use crate::settings::Settings;
use crate::signals;
use crate::terminal::{self, say};

/// How often it is looked whether somebody wants this to end.
const LOOK: Duration = Duration::from_millis(100);

pub fn run(plan: Plan) -> Result<i32> {
    if !plan.wait && !plan.sandbox.tools.is_empty() {
        return Err(Failure::new("`--tools` has no effect without `--wait`: tools are those of the worker")
            .hint("give them to it: `agentkernel task work --tools …`"));
    }
    let mut settings = Settings::resolve(plan.sandbox)?;
    let Program { code, name, arguments, path, .. } = run::program(plan.code, plan.rest, "task dispatch")?;
    if let Some(path) = &path {
        settings.grants.import_paths.extend(run::directory_in_sandbox(path, &settings.grants));
    }
    let called = path.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let mut task = Task::new(code)
        .file(name.as_str())
        .arguments(std::iter::once(name).chain(arguments))
        .name(plan.name.or(called).unwrap_or_default())
        .grants(settings.grants.clone())
        .after(ids(&plan.after)?)
        .priority(plan.priority.unwrap_or(0))
        .retries(plan.retries.unwrap_or(0))
        .levels(plan.levels.unwrap_or(0));
    if let Some(input) = plan.input {
        task = task.input_json(&input)?;
    }
    if let Some(backoff) = plan.backoff {
        task = task.backoff(backoff);
    }
    if let Some(id) = plan.id {
        task = task.id(id.parse()?);
    }
    let tasks = store(plan.store.as_deref(), &settings.tasks)?;
    let id = block_on(tasks.dispatch(task))?;
    if plan.wait {
        return wait(&tasks, &id, &settings, plan.talk, plan.json);
    }
    match plan.json {
        true => say!("{}", serde_json::json!({ "id": id })),
        false => say!("{id}"),
    }
    Ok(0)
}

/// Runs a worker until the task has ended.
fn wait(tasks: &Tasks, id: &TaskId, settings: &Settings, talk: Talk, json: bool) -> Result<i32> {
    let kernel = settings.kernel().on_progress(terminal::progress(talk)).build()?;
    let (stop, stopped) = mpsc::channel();
    let _ = signals::listen(move |signal| {
        if stop.send(signal).is_err() {
            crate::exit(signal.exit_code());
        }
    });
    let worker = super::work::builder(tasks, &kernel, &settings.tasks).start()?;
    let mut logs = tasks.logs(id);
    let mut interrupted = None;
    let status = loop {
        let status = block_on(tasks.wait(id, LOOK))?;
        if !json && !show::write(&block_on(logs.read())?)? {
            interrupted = Some(crate::output::CLOSED);
            break status;
        }
        if status.state.is_ended() {
            break status;
        }
        if let Ok(signal) = stopped.try_recv() {
            interrupted = Some(signal.exit_code());
            break status;
        }
    };
    drop(stopped);
    worker.stop();
    if let Some(code) = interrupted {
        if !talk.quiet {
            terminal::remark(&format!("the task `{id}` stays in the store; `agentkernel task work` runs it"));
        }
        return Ok(code);
    }
    if json {
        say!("{}", status.to_json());
        return Ok(show::exit_code(&status));
    }
    // The rest, of which one part was written above.
    loop {
        let chunks = block_on(logs.read())?;
        if chunks.is_empty() {
            break;
        }
        if !show::write(&chunks)? {
            return Ok(crate::output::CLOSED);
        }
    }
    show::complain(&status);
    Ok(show::exit_code(&status))
}
