//! The tables, and the one transaction in which a turn is kept.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::StateLimits;
use crate::database::{self, Purpose, Unusable};

/// "AKst"; how long another process may keep a turn.
const PURPOSE: Purpose =
    Purpose { application: 0x414B_7374, format: 1, tables: TABLES, busy: Duration::from_secs(5) };

/// `version` is the number of the turn that wrote the value. `totals` has one row.
const TABLES: &str = "
    CREATE TABLE entries (
        key TEXT NOT NULL PRIMARY KEY,
        version INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        value TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE totals (turns INTEGER NOT NULL, keys INTEGER NOT NULL, bytes INTEGER NOT NULL);
    INSERT INTO totals VALUES (0, 0, 0);
";

/// The version of a key that is not there.
pub const ABSENT: i64 = 0;

pub struct Database(Mutex<Connection>);

/// What is held in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub keys: u64,
    pub bytes: u64,
}

/// Why a turn is not kept.
#[derive(Debug)]
pub enum NotKept {
    /// Another turn changed this key.
    Conflict(String),
    Full(String),
    Database(rusqlite::Error),
}

impl From<rusqlite::Error> for NotKept {
    fn from(error: rusqlite::Error) -> Self {
        NotKept::Database(error)
    }
}

impl Database {
    pub fn open(path: &Path) -> Result<Self, Unusable> {
        let connection = database::open(path, &PURPOSE)?;
        // What a turn was told to be kept survives the machine too.
        connection.pragma_update(None, "synchronous", "full")?;
        Ok(Database(Mutex::new(connection)))
    }

    pub fn in_memory() -> Result<Self, Unusable> {
        let mut connection = Connection::open_in_memory()?;
        database::prepare(&mut connection, &PURPOSE)?;
        Ok(Database(Mutex::new(connection)))
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A value and its version.
    pub fn get(&self, key: &str) -> rusqlite::Result<Option<(String, i64)>> {
        let connection = self.connection();
        let mut find = connection.prepare_cached("SELECT value, version FROM entries WHERE key = ?1")?;
        find.query_row([key], |row| Ok((row.get(0)?, row.get(1)?))).optional()
    }

    /// A key's version, and what its entry takes.
    pub fn about(&self, key: &str) -> rusqlite::Result<Option<(i64, u64)>> {
        about(&self.connection(), key)
    }

    /// The keys that begin with `prefix`, in the order of their bytes.
    pub fn keys(&self, prefix: &str) -> rusqlite::Result<Vec<String>> {
        let connection = self.connection();
        let mut list = connection.prepare_cached("SELECT key FROM entries WHERE key >= ?1 ORDER BY key")?;
        let mut keys = Vec::new();
        let mut rows = list.query([prefix])?;
        while let Some(row) = rows.next()? {
            let key: String = row.get(0)?;
            if !key.starts_with(prefix) {
                break;
            }
            keys.push(key);
        }
        Ok(keys)
    }

    pub fn totals(&self) -> rusqlite::Result<Totals> {
        totals(&self.connection())
    }

    /// Keeps all that a turn wrote, or nothing. `seen` are the versions of keys that it read before it wrote
    /// them.
    pub fn keep(
        &self,
        seen: &BTreeMap<String, i64>,
        written: &BTreeMap<String, Option<String>>,
        limits: &StateLimits,
    ) -> Result<(), NotKept> {
        let mut connection = self.connection();
        // What is not committed is rolled back.
        let keeping = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let before = totals(&keeping)?;
        let mut after = before;
        let turn: i64 =
            keeping.query_row("UPDATE totals SET turns = turns + 1 RETURNING turns", [], |row| row.get(0))?;
        for (key, value) in written {
            let (version, had) = about(&keeping, key)?.unwrap_or((ABSENT, 0));
            if seen.get(key).is_some_and(|seen| *seen != version) {
                return Err(NotKept::Conflict(key.clone()));
            }
            after.keys -= u64::from(version != ABSENT);
            after.bytes = after.bytes.saturating_sub(had);
            match value {
                None => {
                    keeping.prepare_cached("DELETE FROM entries WHERE key = ?1")?.execute([key])?;
                }
                Some(value) => {
                    let bytes = size(key, value);
                    after.keys += 1;
                    after.bytes += bytes;
                    keeping
                        .prepare_cached(
                            "INSERT INTO entries (key, version, bytes, value) VALUES (?1, ?2, ?3, ?4)
                             ON CONFLICT (key) DO UPDATE SET
                             version = excluded.version, bytes = excluded.bytes, value = excluded.value",
                        )?
                        .execute(params![key, turn, bytes as i64, value])?;
                }
            }
        }
        limits.check(before, after).map_err(NotKept::Full)?;
        keeping.execute(
            "UPDATE totals SET keys = ?1, bytes = ?2",
            params![after.keys as i64, after.bytes as i64],
        )?;
        Ok(keeping.commit()?)
    }
}

/// What an entry takes.
pub fn size(key: &str, value: &str) -> u64 {
    (key.len() + value.len()) as u64
}

fn about(connection: &Connection, key: &str) -> rusqlite::Result<Option<(i64, u64)>> {
    let mut find = connection.prepare_cached("SELECT version, bytes FROM entries WHERE key = ?1")?;
    find.query_row([key], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64))).optional()
}

fn totals(connection: &Connection) -> rusqlite::Result<Totals> {
    connection.query_row("SELECT keys, bytes FROM totals", [], |row| {
        Ok(Totals { keys: row.get::<_, i64>(0)? as u64, bytes: row.get::<_, i64>(1)? as u64 })
    })
}

impl StateLimits {
    /// Refuses what is more than may be held, unless it is less than before.
    pub fn check(&self, before: Totals, after: Totals) -> Result<(), String> {
        if after.keys > self.keys && after.keys > before.keys {
            return Err(format!("the state holds {} keys at most; delete some first", self.keys));
        }
        if after.bytes > self.total_bytes && after.bytes > before.bytes {
            return Err(format!(
                "the state holds {} bytes of keys and values at most, and this would make {}; delete some first",
                self.total_bytes, after.bytes
            ));
        }
        Ok(())
    }
}
