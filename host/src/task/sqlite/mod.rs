//! Tasks in an SQLite database, for all processes of a machine that open it.

mod bell;
mod end;
mod publish;
mod pull;
mod report;
mod schema;
mod view;

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::watch;

use self::bell::Bell;
use super::store::{LogPage, Message, Pulled, Quota, Report, Standing, TaskStore};
use super::{TaskFilter, TaskId, TaskState, TaskStatus, milliseconds, milliseconds_now};
use crate::{Error, ErrorKind, Result};

/// A store of tasks in one file (and two beside it while it is open).
///
/// A task that was dispatched, a result that was recorded, survive a process that is killed at any moment. When the
/// machine itself fails, the last of them may be lost: a task is then forgotten, or run again. The file is
/// readable by its owner alone: whoever can write to it can have programs run with any grants.
pub struct SqliteTasks {
    path: PathBuf,
    /// Takes part in transactions that write.
    writer: Mutex<Connection>,
    reader: Mutex<Connection>,
    bell: Bell,
}

impl SqliteTasks {
    /// The store in the database at `path`, which is made if there is none; its directory must be there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Tasks`] when the database cannot be opened and written, is damaged, was made by another
    /// version, or is something else.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let unusable = |error: Box<dyn std::error::Error + Send + Sync>| {
            Error::new(ErrorKind::Tasks, format!("cannot use `{}` as a store of tasks", path.display()))
                .hint("give another file, or move this one away if its tasks are not needed")
                .source(error)
        };
        // SQLite would make it readable for all, and gives its other files the rights of this one.
        let mut file = OpenOptions::new();
        file.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut file, 0o600);
        file.open(&path).map_err(|error| unusable(error.into()))?;
        let path = path.canonicalize().map_err(|error| unusable(error.into()))?;
        let writer = schema::open(&path).map_err(|error| unusable(error.into()))?;
        let connect = || schema::connect(&path).map_err(|error| unusable(error.into()));
        let (reader, looking) = (connect()?, connect()?);
        Ok(SqliteTasks {
            writer: Mutex::new(writer),
            reader: Mutex::new(reader),
            bell: Bell::new(looking),
            path,
        })
    }

    fn reader(&self) -> MutexGuard<'_, Connection> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads in one view of the database.
    fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T, Failed>) -> Result<T> {
        let connection = self.reader();
        let view = connection.unchecked_transaction().map_err(Failed::from);
        view.and_then(|view| read(&view)).map_err(|failed| self.failed(failed))
    }

    /// Writes all or nothing, and rings.
    fn write<T>(&self, write: impl FnOnce(&Transaction<'_>) -> Result<T, Failed>) -> Result<T> {
        let done = {
            let mut connection = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
            let begun = connection.transaction_with_behavior(TransactionBehavior::Immediate);
            begun.map_err(Failed::from).and_then(|transaction| {
                let value = write(&transaction)?;
                transaction.commit()?;
                Ok(value)
            })
        };
        let done = done.map_err(|failed| self.failed(failed))?;
        self.bell.ring();
        Ok(done)
    }

    fn failed(&self, failed: Failed) -> Error {
        use rusqlite::ErrorCode;
        let error = match failed {
            Failed::Asked(error) => return error,
            Failed::Database(error) => error,
        };
        let path = self.path.display();
        let hint = match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                "it is damaged: move it away, or get what is left with `sqlite3 FILE .recover`"
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                "another process holds it; try again, or give each its own store"
            }
            Some(ErrorCode::DiskFull) => "make room on its disk, or remove ended tasks with `task prune`",
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                "make it, and its directory, writable"
            }
            _ => "see that the file and its directory are there, sound and writable",
        };
        Error::new(ErrorKind::Tasks, format!("the store of tasks `{path}` cannot be used"))
            .hint(hint)
            .source(error)
    }
}

/// What a row that a task has many of takes beside its texts.
const ROW: u64 = 32;

/// Why something was not done.
enum Failed {
    Database(rusqlite::Error),
    /// What was asked for cannot be.
    Asked(Error),
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Self {
        Failed::Database(error)
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Failed::Asked(error)
    }
}

/// What a row says that this version would not have written.
fn damaged(what: &str) -> Failed {
    Failed::Asked(
        Error::new(ErrorKind::Tasks, format!("the store of tasks is damaged: {what}"))
            .hint("move it away; `sqlite3 FILE .recover` gets what is left"),
    )
}

fn state(number: i64) -> Result<TaskState, Failed> {
    let known = usize::try_from(number).ok().and_then(|number| TaskState::ALL.get(number));
    known.copied().ok_or_else(|| damaged("there is no such state"))
}

fn number(state: TaskState) -> i64 {
    state as i64
}

impl TaskStore for SqliteTasks {
    fn publish(&self, messages: &[Message], quota: Option<&Quota>) -> Result<Vec<bool>> {
        self.write(|transaction| publish::publish(transaction, messages, quota))
    }

    fn pull(&self, worker: &str, most: usize, lease: Duration) -> Result<Pulled> {
        // Without a transaction that writes, as long as there is nothing.
        let now = milliseconds_now();
        match self.read(|view| pull::is_worth_it(view, now))? {
            true => self.write(|transaction| pull::pull(transaction, worker, most, lease)),
            false => self.read(|view| Ok(Pulled { next: pull::next(view, now)?, ..Pulled::default() })),
        }
    }

    fn report(&self, reports: &[Report]) -> Result<Vec<Standing>> {
        match reports.is_empty() {
            true => Ok(Vec::new()),
            false => self.write(|transaction| report::report(transaction, reports)),
        }
    }

    fn to_stop(&self, worker: &str) -> Result<Vec<TaskId>> {
        self.read(|view| view::to_stop(view, worker))
    }

    fn cancel(&self, id: &TaskId) -> Result<Option<TaskState>> {
        self.write(|transaction| end::cancel(transaction, id))
    }

    fn status(&self, id: &TaskId) -> Result<Option<TaskStatus>> {
        self.read(|view| view::status(view, id))
    }

    fn scope(&self, id: &TaskId) -> Result<Option<String>> {
        self.read(|view| view::scope(view, id))
    }

    fn list(&self, filter: &TaskFilter) -> Result<Vec<TaskStatus>> {
        self.read(|view| view::list(view, filter))
    }

    fn unfinished(&self) -> Result<u64> {
        self.read(view::unfinished)
    }

    fn log(&self, id: &TaskId, position: u64) -> Result<LogPage> {
        self.read(|view| view::log(view, id, position))
    }

    fn prune(&self, older_than: Duration, most: usize) -> Result<usize> {
        let before = milliseconds_now().saturating_sub(milliseconds(older_than));
        let removed = self.write(|transaction| end::prune(transaction, before, most))?;
        if removed > 0 {
            let connection = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
            let freed = connection.execute_batch("PRAGMA incremental_vacuum(10000)");
            freed.map_err(|error| self.failed(error.into()))?;
        }
        Ok(removed)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.bell.listen()
    }

    fn file(&self) -> Option<&Path> {
        Some(&self.path)
    }
}
