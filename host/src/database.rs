//! SQLite databases of the host: opened by what they are, and readable by their owner alone.

use std::fs::OpenOptions;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

/// What a database is for.
pub(crate) struct Purpose {
    /// Four letters that say so in the file.
    pub application: i64,
    /// Changes whenever the tables or their meaning do.
    pub format: i64,
    pub tables: &'static str,
    /// How long it is waited for another process.
    pub busy: Duration,
}

/// What makes a database unusable.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error(transparent)]
    File(#[from] std::io::Error),
    #[error(transparent)]
    Database(#[from] rusqlite::Error),
    #[error("it is a database of something else")]
    Foreign,
    #[error("it was made by another version, in format {0}")]
    Format(i64),
    #[error("it is damaged: {0}")]
    Damaged(String),
}

/// Opens the database at `path`, which is made if there is none.
pub(crate) fn open(path: &Path, purpose: &Purpose) -> Result<Connection, Unusable> {
    // SQLite would make it readable for all, and gives its other files the rights of this one.
    let mut file = OpenOptions::new();
    file.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut file, 0o600);
    file.open(path)?;
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(purpose.busy)?;
    // First: what is something else stays as it is.
    prepare(&mut connection, purpose)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "normal")?;
    let sound: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    match sound.as_str() {
        "ok" => Ok(connection),
        _ => Err(Unusable::Damaged(sound)),
    }
}

/// Makes the tables where there are none, and refuses a database that is something else.
pub(crate) fn prepare(connection: &mut Connection, purpose: &Purpose) -> Result<(), Unusable> {
    // What another process makes at the same time is found made.
    let making = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let pragma = |name: &str| making.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let tables: i64 = making.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (pragma("application_id")?, pragma("user_version")?) {
        (0, 0) if tables == 0 => {
            making.execute_batch(purpose.tables)?;
            making.pragma_update(None, "application_id", purpose.application)?;
            making.pragma_update(None, "user_version", purpose.format)?;
        }
        (application, format) if (application, format) == (purpose.application, purpose.format) => {}
        (application, other) if application == purpose.application => return Err(Unusable::Format(other)),
        _ => return Err(Unusable::Foreign),
    }
    Ok(making.commit()?)
}
