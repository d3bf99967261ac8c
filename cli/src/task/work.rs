//! `agentkernel task work`.

use std::sync::mpsc;
use std::time::Duration;

use agentkernel::Kernel;
use agentkernel::task::{Tasks, WorkerBuilder};

use super::{block_on, store};
use crate::arguments::{Sandbox, Work};
use crate::failure::Result;
use crate::settings::Settings;
use crate::signals;
use crate::task::TasksConfig;
use crate::terminal;

/// How often it is looked whether anything is left.
const LOOK: Duration = Duration::from_millis(50);

pub fn run(work: Work) -> Result<i32> {
    let Work { concurrency, lease, drain, tools, fuel, talk, place, engine, .. } = work;
    let fuel = fuel.then_some(1);
    let sandbox = Sandbox { tools, fuel, engine, configuration: place.configuration, ..Sandbox::default() };
    let settings = Settings::resolve(sandbox)?;
    let tasks = store(place.store.as_deref(), &settings.tasks)?;
    let kernel = settings.kernel().on_progress(terminal::progress(talk)).build()?;
    let mut builder = builder(&tasks, &kernel, &settings.tasks);
    if let Some(concurrency) = concurrency {
        builder = builder.concurrency(concurrency as usize);
    }
    if let Some(lease) = lease {
        builder = builder.lease(lease);
    }
    let (stop, stopped) = mpsc::channel();
    let _ = signals::listen(move |signal| {
        // The second one ends the process: its tasks are others' when their leases are over.
        if stop.send(signal).is_err() {
            crate::exit(signal.exit_code());
        }
    });
    let worker = builder.start()?;
    if !talk.quiet {
        let file = tasks.file().unwrap_or_default();
        terminal::remark(&format!("running the tasks in `{}`; Ctrl-C gives back what runs", file.display()));
    }
    let mut failed = Ok(());
    loop {
        match drain {
            true => match stopped.recv_timeout(LOOK) {
                Err(mpsc::RecvTimeoutError::Timeout) => match block_on(tasks.unfinished()) {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(failure) => {
                        failed = Err(failure);
                        break;
                    }
                },
                _ => break,
            },
            false => {
                if stopped.recv().is_ok() {
                    break;
                }
                // Nobody listens to signals here: the process ends by one.
                std::thread::park();
            }
        }
    }
    drop(stopped);
    worker.stop();
    failed.map(|()| 0)
}

/// A worker as the file has it.
pub fn builder(tasks: &Tasks, kernel: &Kernel, config: &TasksConfig) -> WorkerBuilder {
    let mut builder = tasks.worker(kernel);
    if let Some(concurrency) = config.concurrency {
        builder = builder.concurrency(concurrency as usize);
    }
    match config.lease.and_then(|lease| lease.0) {
        Some(lease) => builder.lease(lease),
        None => builder,
    }
}
