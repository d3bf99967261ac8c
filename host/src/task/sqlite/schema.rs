//! The tables, and opening a database that has them.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

/// Changes whenever the tables or their meaning do.
pub(super) const FORMAT: i64 = 1;

/// "AKts": says that a database is one of these.
const APPLICATION: i64 = 0x414B_7473;

/// How long another process may hold the database before a call gives up.
const BUSY: Duration = Duration::from_secs(10);

/// States as they are kept: waiting 0, ready 1, running 2, succeeded 3, failed 4, cancelled 5. Times are
/// milliseconds since 1970. What changes often is kept apart from what is large. Numbers of tasks are never given
/// again: dependencies may outlive the tasks that have them.
const TABLES: &str = "
    CREATE TABLE tasks (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        scope TEXT NOT NULL,
        name TEXT NOT NULL,
        priority INTEGER NOT NULL,
        state INTEGER NOT NULL,
        blockers INTEGER NOT NULL,
        due INTEGER NOT NULL,
        token INTEGER NOT NULL DEFAULT 0,
        attempts INTEGER NOT NULL DEFAULT 0,
        failed INTEGER NOT NULL DEFAULT 0,
        lost INTEGER NOT NULL DEFAULT 0,
        worker TEXT,
        lease INTEGER NOT NULL DEFAULT 0,
        cancel INTEGER NOT NULL DEFAULT 0,
        revision INTEGER NOT NULL DEFAULT 1,
        created INTEGER NOT NULL,
        started INTEGER,
        ended INTEGER,
        progress REAL,
        message TEXT NOT NULL DEFAULT '',
        log_bytes INTEGER NOT NULL DEFAULT 0,
        log_full INTEGER NOT NULL DEFAULT 0
    );
    CREATE INDEX ready ON tasks (priority DESC, seq) WHERE state = 1;
    CREATE INDEX due ON tasks (due) WHERE state = 0 AND blockers = 0;
    CREATE INDEX leases ON tasks (lease) WHERE state = 2;
    CREATE INDEX stops ON tasks (worker) WHERE state = 2 AND cancel = 1;
    CREATE INDEX ended ON tasks (ended) WHERE state >= 3;
    CREATE INDEX scopes_tasks ON tasks (scope, seq) WHERE scope <> '';
    CREATE TABLE bodies (
        task INTEGER PRIMARY KEY,
        body TEXT NOT NULL,
        after TEXT NOT NULL,
        bytes INTEGER NOT NULL
    );
    CREATE TABLE ends (
        task INTEGER PRIMARY KEY,
        result TEXT,
        failure TEXT
    );
    CREATE TABLE dependencies (
        needed INTEGER NOT NULL,
        task INTEGER NOT NULL,
        PRIMARY KEY (needed, task)
    ) WITHOUT ROWID;
    CREATE TABLE logs (
        task INTEGER NOT NULL,
        position INTEGER NOT NULL,
        stream INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        bytes BLOB NOT NULL,
        PRIMARY KEY (task, position)
    ) WITHOUT ROWID;
    CREATE TABLE scopes (
        scope TEXT PRIMARY KEY,
        dispatched INTEGER NOT NULL,
        unfinished INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        kept INTEGER NOT NULL
    ) WITHOUT ROWID;
";

/// What makes a database unusable that SQLite finds nothing wrong with.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error(transparent)]
    Database(#[from] rusqlite::Error),
    #[error("it is a database of something else")]
    Foreign,
    #[error("it was made by another version of AgentKernel, in format {0}; this one knows {FORMAT}")]
    Format(i64),
    #[error("it is damaged: {0}")]
    Damaged(String),
}

/// A connection to the database at `path`, whose tables are made if there are none.
pub(super) fn open(path: &Path) -> Result<Connection, Unusable> {
    let mut connection = connect(path)?;
    let format = |connection: &Connection| {
        let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        Ok::<_, rusqlite::Error>((pragma("application_id")?, pragma("user_version")?))
    };
    let tables = |connection: &Connection| {
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))
    };
    // What is something else stays as it is.
    if format(&connection)? == (0, 0) && tables(&connection)? == 0 {
        connection.pragma_update(None, "auto_vacuum", "incremental")?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        // What another process makes at the same time is found made.
        let making = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if format(&making)? == (0, 0) && tables(&making)? == 0 {
            making.execute_batch(TABLES)?;
            making.pragma_update(None, "application_id", APPLICATION)?;
            making.pragma_update(None, "user_version", FORMAT)?;
        }
        making.commit()?;
    }
    match format(&connection)? {
        (APPLICATION, FORMAT) => {}
        (APPLICATION, other) => return Err(Unusable::Format(other)),
        _ => return Err(Unusable::Foreign),
    }
    // A large store is not read as a whole each time: what is wrong with it comes up when it is used.
    connection.prepare("SELECT seq, log_full FROM tasks")?;
    let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
    if pages <= 2048 {
        let sound: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if sound != "ok" {
            return Err(Unusable::Damaged(sound));
        }
    }
    Ok(connection)
}

/// A further connection to a database that is there.
pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    // In WAL mode a process that is killed loses nothing of what it committed; a machine that loses its power
    // may lose the last commits, and never more.
    connection.pragma_update(None, "synchronous", "normal")?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}
