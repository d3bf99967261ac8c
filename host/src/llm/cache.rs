//! Answers kept in an SQLite database, so that the same request need not be sent, and paid for, twice.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{Completion, ModelRequest, Provider, StopReason};
use crate::database::{self, Purpose};
use crate::gate::Gate;
use crate::{Error, ErrorKind, Result};

/// How long another process may hold the database before a call does without it.
const BUSY: Duration = Duration::from_secs(2);

/// What an answer takes beside its text.
const OVERHEAD: u64 = 256;

/// Changes whenever the tables or the meaning of keys do.
const FORMAT: i64 = 1;

/// "AKrc".
const PURPOSE: Purpose = Purpose { application: 0x414B_7263, format: FORMAT, tables: TABLES, busy: BUSY };

const TABLES: &str = "
    CREATE TABLE answers (
        key BLOB NOT NULL UNIQUE,
        model TEXT NOT NULL,
        completion TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        made INTEGER NOT NULL,
        used INTEGER NOT NULL
    );
    CREATE INDEX by_use ON answers (used, bytes);
";

/// Answers of models, kept in an SQLite database for all processes that open it. Cheap to clone.
///
/// An answer is given again to a request that is equal in all that shapes the answer: the provider and
/// where it is asked, the model, and every field of the request. Errors and refusals are not kept.
/// Requests that are equal and in flight at the same time are all sent.
///
/// ```no_run
/// use std::time::Duration;
/// use agentkernel::llm::{Llm, OpenAi, ResponseCache};
///
/// let cache = ResponseCache::open("answers.db")?.max_age(Duration::from_secs(30 * 86_400));
/// let openai = OpenAi::builder().key("sk-…").build()?;
/// let llm = Llm::new("gpt-5-mini", openai).cache(cache);
/// # Ok::<(), agentkernel::Error>(())
/// ```
#[derive(Clone)]
pub struct ResponseCache {
    store: Arc<Store>,
    max_bytes: u64,
    max_age: Option<Duration>,
    gate: Gate,
}

struct Store {
    path: PathBuf,
    connection: Mutex<Connection>,
    /// What the answers take, as far as this process knows.
    bytes: Mutex<u64>,
}

/// What a request is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key([u8; 32]);

impl Key {
    /// The key of a request whose answer may have `max_tokens` where nothing else limits it: how much a
    /// budget has left at the time has no part in it.
    pub fn new(provider: &dyn Provider, request: &ModelRequest, max_tokens: u64) -> Self {
        #[derive(Serialize)]
        struct Whole<'a> {
            format: i64,
            provider: String,
            request: &'a ModelRequest,
            max_tokens: u64,
        }
        let request = &ModelRequest { max_tokens: 0, ..request.clone() };
        let whole = Whole { format: FORMAT, provider: provider.identity(), request, max_tokens };
        // Nothing in it can fail to be written.
        Key(Sha256::digest(serde_json::to_vec(&whole).unwrap_or_default()).into())
    }
}

impl ResponseCache {
    /// The cache in the database at `path`, which is made if there is none, readable by its owner alone.
    /// It holds 1 GiB of answers of any age.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Cache`] when the database cannot be opened and written, is damaged, or is something
    /// else.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let store = Store::open(&path)?;
        Ok(ResponseCache { store: Arc::new(store), max_bytes: 1 << 30, max_age: None, gate: Gate::default() })
    }

    /// Answers that it holds, in bytes; those that were not used for the longest time go first. Default:
    /// 1 GiB.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// How old an answer may be. Default: any age.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// The answer that is kept for `key`. What goes wrong is told in the log: the call goes on.
    pub(crate) async fn get(&self, key: Key) -> Option<Completion> {
        let cache = self.clone();
        let found = self.gate.pass(move || cache.find(key)).await;
        self.told(found)?
    }

    /// Keeps an answer.
    pub(crate) async fn put(&self, key: Key, model: &str, completion: &Completion) {
        if completion.stop == StopReason::Refusal {
            return;
        }
        let (cache, model, completion) = (self.clone(), model.to_owned(), completion.clone());
        let kept = self.gate.pass(move || cache.keep(key, &model, &completion)).await;
        self.told(kept);
    }

    fn told<T>(&self, done: Result<rusqlite::Result<T>, tokio::task::JoinError>) -> Option<T> {
        let error: &dyn fmt::Display = match &done {
            Ok(Ok(_)) => return done.ok()?.ok(),
            Ok(Err(error)) => error,
            Err(error) => error,
        };
        let path = self.store.path.display();
        tracing::warn!("the cache of answers `{path}` cannot be used; the model is asked: {error}");
        None
    }

    fn find(&self, key: Key) -> rusqlite::Result<Option<Completion>> {
        let connection = self.store.connection();
        let now = now();
        let oldest = self.max_age.map_or(i64::MIN, |age| now.saturating_sub(milliseconds(age)));
        let mut find =
            connection.prepare_cached("SELECT completion FROM answers WHERE key = ?1 AND made >= ?2")?;
        let text: Option<String> = find.query_row(params![key.0, oldest], |row| row.get(0)).optional()?;
        let Some(text) = text else { return Ok(None) };
        // One that cannot be read is as good as none, and is replaced.
        let Ok(completion) = serde_json::from_str(&text) else { return Ok(None) };
        let mut touch = connection.prepare_cached("UPDATE answers SET used = ?2 WHERE key = ?1")?;
        if let Err(error) = touch.execute(params![key.0, now]) {
            tracing::debug!("a use of a cached answer was not noted: {error}");
        }
        Ok(Some(completion))
    }

    fn keep(&self, key: Key, model: &str, completion: &Completion) -> rusqlite::Result<()> {
        let text = serde_json::to_string(completion).unwrap_or_default();
        let bytes = text.len() as u64 + OVERHEAD;
        if bytes > self.max_bytes {
            return Ok(());
        }
        let connection = self.store.connection();
        let now = now();
        let mut put = connection.prepare_cached(
            "INSERT INTO answers (key, model, completion, bytes, made, used) VALUES (?1, ?2, ?3, ?4, ?5, ?5)
             ON CONFLICT (key) DO UPDATE SET
             completion = excluded.completion, bytes = excluded.bytes, made = excluded.made, used = excluded.used",
        )?;
        put.execute(params![key.0, model, text, bytes as i64, now])?;
        let mut known = self.store.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        *known += bytes;
        if *known > self.max_bytes {
            *known = self.prune(&connection, now)?;
        }
        Ok(())
    }

    /// Removes answers that are too old, and then those that were not used for the longest time, until a
    /// tenth of the room is free; says what is left.
    fn prune(&self, connection: &Connection, now: i64) -> rusqlite::Result<u64> {
        if let Some(age) = self.max_age {
            let oldest = now.saturating_sub(milliseconds(age));
            connection.execute("DELETE FROM answers WHERE made < ?1", [oldest])?;
        }
        let mut left = sum(connection)?;
        if left <= self.max_bytes {
            return Ok(left);
        }
        let aim = self.max_bytes - self.max_bytes / 10;
        let mut oldest = connection.prepare("SELECT rowid, bytes FROM answers ORDER BY used, rowid")?;
        let mut rows = oldest.query([])?;
        let mut gone = Vec::new();
        while left > aim
            && let Some(row) = rows.next()?
        {
            gone.push(row.get::<_, i64>(0)?);
            left = left.saturating_sub(row.get::<_, i64>(1)? as u64);
        }
        drop(rows);
        let remove = connection.unchecked_transaction()?;
        for row in gone {
            remove.prepare_cached("DELETE FROM answers WHERE rowid = ?1")?.execute([row])?;
        }
        remove.commit()?;
        Ok(left)
    }
}

impl fmt::Debug for ResponseCache {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("ResponseCache");
        shown.field("path", &self.store.path).field("max_bytes", &self.max_bytes);
        shown.field("max_age", &self.max_age).finish()
    }
}

impl Store {
    fn open(path: &Path) -> Result<Self> {
        let unusable = |error: Box<dyn std::error::Error + Send + Sync>| {
            Error::new(ErrorKind::Cache, format!("cannot use `{}` as a cache of answers", path.display()))
                .hint("give another file, or remove this one if it was a cache")
                .source(error)
        };
        let connection = database::open(path, &PURPOSE).map_err(|error| unusable(error.into()))?;
        let bytes = sum(&connection).map_err(|error| unusable(error.into()))?;
        Ok(Store { path: path.to_owned(), connection: Mutex::new(connection), bytes: Mutex::new(bytes) })
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sum(connection: &Connection) -> rusqlite::Result<u64> {
    let sum = connection.query_row("SELECT coalesce(sum(bytes), 0) FROM answers", [], |row| row.get(0));
    sum.map(|bytes: i64| bytes as u64)
}

fn now() -> i64 {
    milliseconds(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
