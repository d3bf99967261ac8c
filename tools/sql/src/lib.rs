//! SQLite for programs: see `wit/sql.wit`.

mod import;
mod params;
mod rows;

use std::cell::RefCell;

use exports::agentkernel::sql::sql::{Database as Handle, Guest, GuestDatabase};
use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags, Statement};

wit_bindgen::generate!({ world: "tool", path: "wit" });

struct Tool;

export!(Tool);

type Result<T, E = String> = std::result::Result<T, E>;

/// Bytes of rows that one query may give.
const RESULT_BYTES: usize = 64 << 20;

struct Database {
    connection: RefCell<Connection>,
}

/// Opens a file, or memory without one.
fn open(path: Option<&str>, read_only: bool) -> Result<Connection> {
    // Paths within SQL are relative to the workspace too. Without a workspace they are relative to nothing.
    let _ = std::env::set_current_dir("/workspace");
    let path = path.filter(|path| *path != ":memory:");
    let resolved = match path {
        Some(path) => common::resolve(path)?.to_string_lossy().into_owned(),
        None => ":memory:".to_owned(),
    };
    let mut flags = OpenFlags::SQLITE_OPEN_NO_MUTEX;
    flags |= match (read_only, path) {
        (true, Some(_)) => OpenFlags::SQLITE_OPEN_READ_ONLY,
        _ => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
    };
    // WASI has no locks on files, and a lock made as a file would outlive a program that is stopped.
    let opened = Connection::open_with_flags_and_vfs(&resolved, flags, c"unix-none");
    let connection = opened.map_err(|error| match path {
        Some(path) => unopened(path, &resolved, read_only, &error),
        None => message(&error),
    })?;
    prepare(&connection).map_err(|error| match path {
        Some(path) => format!("cannot use `{path}`: {}", message(&error)),
        None => message(&error),
    })?;
    Ok(connection)
}

/// Why a file was not opened: the system's own reason, which SQLite does not tell.
fn unopened(path: &str, resolved: &str, read_only: bool, error: &rusqlite::Error) -> String {
    let file = std::fs::OpenOptions::new().read(true).write(!read_only).open(resolved);
    match file {
        Err(reason) => common::explain("open", path, &reason),
        Ok(_) => format!("cannot open `{path}`: {}", message(error)),
    }
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    for (limit, value) in [
        (Limit::SQLITE_LIMIT_LENGTH, RESULT_BYTES as i32),
        (Limit::SQLITE_LIMIT_SQL_LENGTH, 1_000_000),
        (Limit::SQLITE_LIMIT_EXPR_DEPTH, 500),
        (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 200),
        (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1000),
        (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 50),
        (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
    ] {
        connection.set_limit(limit, value)?;
    }
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    // A rollback journal: what a stopped program left half written is undone by whoever opens the file next.
    connection.execute_batch(
        "PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY; PRAGMA foreign_keys = ON;",
    )
}

/// SQLite's message, with the place in the statement if it has one.
fn message(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqlInputError { msg, sql, offset, .. } if *offset >= 0 => {
            let before = sql.get(..*offset as usize).unwrap_or(sql);
            let line = before.matches('\n').count() + 1;
            let start = before.rfind('\n').map_or(0, |at| at + 1);
            let column = before[start..].chars().count() + 1;
            let near: String =
                sql[before.len()..].chars().take(40).map(|c| if c.is_control() { ' ' } else { c }).collect();
            format!("{msg} (line {line}, character {column}: `{near}`)")
        }
        rusqlite::Error::SqliteFailure(failure, None) => failure.to_string(),
        rusqlite::Error::SqliteFailure(failure, Some(text)) => match failure.code {
            rusqlite::ErrorCode::NotADatabase => {
                format!("{text}; for CSV and JSON files use `load_csv` and `load_json`")
            }
            rusqlite::ErrorCode::OutOfMemory => {
                "out of memory; give the tool more in its configuration (`memory = \"1GiB\"`)".into()
            }
            _ => text.clone(),
        },
        rusqlite::Error::MultipleStatement => "there is more than one statement; use `execute_script`".into(),
        other => other.to_string(),
    }
}

/// Tells about a table or column that is not there which ones there are.
fn explained(connection: &Connection, error: &rusqlite::Error) -> String {
    let text = message(error);
    let tables = || {
        let sql = "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%' LIMIT 50";
        let mut statement = connection.prepare(sql).ok()?;
        let names = statement.query_map([], |row| row.get::<_, String>(0)).ok()?;
        names.collect::<rusqlite::Result<Vec<String>>>().ok()
    };
    if text.contains("no such table") {
        let names = tables().unwrap_or_default();
        if names.is_empty() {
            return format!("{text}; there are no tables");
        }
        return format!("{text}; the tables are {}", tabular::listed(names.iter().map(String::as_str)));
    }
    if text.contains("no such column") {
        let all = tables().unwrap_or_default().into_iter().take(10).filter_map(|table| {
            let sql = "SELECT group_concat(name, ', ') FROM pragma_table_info(?)";
            let columns: Option<String> = connection.query_row(sql, [&table], |row| row.get(0)).ok()?;
            Some(format!("{table}({})", columns?))
        });
        return format!("{text}; the tables are {}", all.collect::<Vec<_>>().join(", "));
    }
    text
}

/// Prepares a statement and hands its values over.
fn statement<'a>(connection: &'a Connection, sql: &str, params: Option<&str>) -> Result<Statement<'a>> {
    let mut statement = one(connection, sql)?;
    params::bind(&mut statement, params)?;
    Ok(statement)
}

/// Prepares the one statement of a text.
fn one<'a>(connection: &'a Connection, sql: &str) -> Result<Statement<'a>> {
    let statement = connection.prepare(sql).map_err(|error| explained(connection, &error))?;
    if statement.expanded_sql().is_none_or(|sql| sql.is_empty()) {
        return Err("there is no statement".into());
    }
    Ok(statement)
}

fn query(connection: &Connection, sql: &str, params: Option<&str>) -> Result<String> {
    let mut statement = statement(connection, sql, params)?;
    rows::json(&mut statement).map_err(|error| error.told(connection))
}

impl Guest for Tool {
    type Database = Database;

    fn connect(path: Option<String>, read_only: Option<bool>) -> Result<Handle> {
        let connection = open(path.as_deref(), read_only.unwrap_or(false))?;
        Ok(Handle::new(Database { connection: RefCell::new(connection) }))
    }

    fn query(sql: String, files: Vec<String>, params: Option<String>) -> Result<String> {
        let mut connection = open(None, false)?;
        for file in &files {
            match tabular::extension(file).as_str() {
                "db" | "sqlite" | "sqlite3" => import::attach(&connection, file)?,
                _ => {
                    import::load(&mut connection, file, &import::table_name(file), None)?;
                }
            }
        }
        query(&connection, &sql, params.as_deref())
    }
}

impl GuestDatabase for Database {
    fn query(&self, sql: String, params: Option<String>) -> Result<String> {
        query(&self.connection.borrow(), &sql, params.as_deref())
    }

    fn show(&self, sql: String, params: Option<String>, count: Option<u32>) -> Result<String> {
        let connection = self.connection.borrow();
        let mut statement = statement(&connection, &sql, params.as_deref())?;
        rows::text(&mut statement, count.unwrap_or(50) as usize).map_err(|error| error.told(&connection))
    }

    fn execute(&self, sql: String, params: Option<String>) -> Result<u64> {
        let connection = self.connection.borrow();
        let before = connection.total_changes();
        let mut statement = statement(&connection, &sql, params.as_deref())?;
        let mut rows = statement.raw_query();
        // What it gives is of no interest, but it has to be run to its end.
        while rows.next().map_err(|error| explained(&connection, &error))?.is_some() {}
        Ok(connection.total_changes() - before)
    }

    fn execute_many(&self, sql: String, params: String) -> Result<u64> {
        let mut connection = self.connection.borrow_mut();
        let before = connection.total_changes();
        let savepoint = connection.savepoint().map_err(|error| message(&error))?;
        {
            let mut statement = one(&savepoint, &sql)?;
            params::each(&params, |position, values| {
                let told = |error: String| format!("values {position}: {error}");
                params::bind_value(&mut statement, values).map_err(told)?;
                let mut rows = statement.raw_query();
                while rows.next().map_err(|error| told(explained(&savepoint, &error)))?.is_some() {}
                Ok(())
            })?;
        }
        savepoint.commit().map_err(|error| message(&error))?;
        Ok(connection.total_changes() - before)
    }

    fn execute_script(&self, sql: String) -> Result<()> {
        let connection = self.connection.borrow();
        connection.execute_batch(&sql).map_err(|error| explained(&connection, &error))
    }

    fn load_csv(&self, path: String, table: String, delimiter: Option<char>) -> Result<u64> {
        if matches!(tabular::extension(&path).as_str(), "json" | "jsonl" | "ndjson") {
            return Err(format!("`{path}` is JSON by its name; use `load_json`"));
        }
        import::load(&mut self.connection.borrow_mut(), &path, &table, delimiter)
    }

    fn load_json(&self, path: String, table: String) -> Result<u64> {
        import::load_json(&mut self.connection.borrow_mut(), &path, &table)
    }

    fn schema(&self) -> Result<String> {
        let connection = self.connection.borrow();
        let sql = "SELECT coalesce(group_concat(sql || ';', char(10)), '') FROM sqlite_schema WHERE sql IS NOT NULL";
        connection.query_row(sql, [], |row| row.get(0)).map_err(|error| message(&error))
    }
}
