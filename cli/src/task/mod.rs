//! `agentkernel task`, and the tasks of programs.

mod background;
mod dispatch;
mod settings;
mod show;
mod work;

use std::path::{Path, PathBuf};

use agentkernel::task::{TaskId, Tasks};

pub use self::background::{Background, granted};
pub use self::settings::TasksConfig;
use crate::arguments::{Place, TaskAction};
use crate::config::Config;
use crate::failure::{Failure, Result};
use crate::files;

pub fn run(action: TaskAction) -> Result<i32> {
    match action {
        TaskAction::Dispatch(plan) => dispatch::run(*plan),
        TaskAction::Work(work) => work::run(*work),
        TaskAction::Status { ids, json, place } => show::status(&open(&place)?, &ids, json),
        TaskAction::Logs { id, follow, place } => show::logs(&open(&place)?, &id, follow),
        TaskAction::Wait { ids, timeout, json, place } => {
            show::wait(&open(&place)?, &ids, timeout.and_then(|timeout| timeout.0), json)
        }
        TaskAction::List { states, name, most, json, place } => {
            show::list(&open(&place)?, states, name, most, json)
        }
        TaskAction::Cancel { ids, json, place } => show::cancel(&open(&place)?, &ids, json),
        TaskAction::Prune { older_than, json, place } => {
            let config = configured(&place)?;
            let tasks = store(place.store.as_deref(), &config)?;
            show::prune(&tasks, older_than.unwrap_or_else(|| config.limits().keep), json)
        }
    }
}

/// Does what waits.
fn block_on<T>(work: impl Future<Output = agentkernel::Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.map_err(|error| Failure::new(format!("cannot wait for tasks: {error}")))?;
    Ok(runtime.block_on(work)?)
}

fn configured(place: &Place) -> Result<TasksConfig> {
    let config = Config::of(&place.configuration)?;
    Ok(config.tasks.below(&config.directory))
}

/// The store of tasks that are there. One that is named is not made for a question.
fn open(place: &Place) -> Result<Tasks> {
    if let Some(file) = &place.store
        && !file.as_os_str().is_empty()
        && !file.exists()
    {
        return Err(Failure::new(format!("there is no store of tasks `{}`", file.display()))
            .hint("check the path; `agentkernel task dispatch` makes one"));
    }
    store(place.store.as_deref(), &configured(place)?)
}

/// The store that is named, by a flag or a variable, or in the file, or else the user's own.
fn store(named: Option<&Path>, config: &TasksConfig) -> Result<Tasks> {
    let given = |path: &PathBuf| !path.as_os_str().is_empty();
    let named = named.map(Path::to_owned).filter(given);
    // For those whose flag may be there without a file.
    let variable = || std::env::var_os("AGENTKERNEL_TASK_STORE").map(PathBuf::from).filter(given);
    let file = match named.or_else(variable).or_else(|| config.store.clone()) {
        Some(file) => file,
        None => own()?,
    };
    Ok(Tasks::open(file)?.limits(config.limits()))
}

/// Where tasks are, if there is a place, which need not be there.
pub fn place(config: &TasksConfig) -> Option<PathBuf> {
    let variable = std::env::var_os("AGENTKERNEL_TASK_STORE").filter(|file| !file.is_empty());
    let own = || Some(files::data()?.join("tasks.db"));
    variable.map(PathBuf::from).or_else(|| config.store.clone()).or_else(own)
}

/// How many tasks have not ended.
pub fn unfinished(tasks: &Tasks) -> Result<u64> {
    block_on(tasks.unfinished())
}

fn own() -> Result<PathBuf> {
    let directory = files::data().ok_or_else(|| {
        Failure::new("there is no place for tasks: neither HOME nor XDG_DATA_HOME is set")
            .hint("name a file with `--store FILE`, or a directory with `AGENTKERNEL_DATA_DIR`")
    })?;
    files::private(&directory)
        .map_err(|error| Failure::new(format!("cannot make `{}`: {error}", directory.display())))?;
    Ok(directory.join("tasks.db"))
}

fn ids(texts: &[String]) -> Result<Vec<TaskId>> {
    texts.iter().map(|text| Ok(text.parse()?)).collect()
}
