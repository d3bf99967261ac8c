//! What is known of tasks.

use std::time::{Duration, SystemTime};

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::{Failed, damaged, number, state};
use crate::Stream;
use crate::task::store::LogPage;
use crate::task::{LogChunk, TaskFilter, TaskId, TaskState, TaskStatus};

/// Bytes of a log that are given at a time, a piece more or less.
const PAGE: u64 = 256 << 10;

/// Tasks that are listed unless more are asked for.
const LISTED: usize = 1000;

const COLUMNS: &str =
    "id, name, state, cancel, priority, attempts, progress, message, after, created, started,
    ended, due, blockers, log_bytes, revision";

pub(super) fn status(view: &Connection, id: &TaskId) -> Result<Option<TaskStatus>, Failed> {
    let mut find = view.prepare_cached(&format!(
        "SELECT {COLUMNS}, result, failure FROM tasks JOIN bodies ON bodies.task = seq
         LEFT JOIN ends ON ends.task = seq WHERE id = ?1"
    ))?;
    let mut rows = find.query([id.as_str()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let mut status = read(row)?;
    status.result = parsed(row.get(16)?)?;
    status.failure = parsed(row.get(17)?)?;
    Ok(Some(status))
}

pub(super) fn scope(view: &Connection, id: &TaskId) -> Result<Option<String>, Failed> {
    let mut find = view.prepare_cached("SELECT scope FROM tasks WHERE id = ?1")?;
    Ok(find.query_row([id.as_str()], |row| row.get(0)).optional()?)
}

pub(super) fn list(view: &Connection, filter: &TaskFilter) -> Result<Vec<TaskStatus>, Failed> {
    let mut conditions = vec!["1".to_owned()];
    let mut values: Vec<Value> = Vec::new();
    if !filter.states.is_empty() {
        let states: Vec<String> = filter.states.iter().map(|state| number(*state).to_string()).collect();
        conditions.push(format!("state IN ({})", states.join(", ")));
    }
    let texts = [("name = ", &filter.name), ("scope <> '' AND scope = ", &filter.scope)];
    for (condition, text) in texts {
        if let Some(text) = text {
            values.push(Value::Text(text.clone()));
            conditions.push(format!("{condition}?{}", values.len()));
        }
    }
    if let Some(before) = &filter.before {
        values.push(Value::Text(before.as_str().to_owned()));
        conditions.push(format!("seq < (SELECT seq FROM tasks WHERE id = ?{})", values.len()));
    }
    let most = filter.most.unwrap_or(LISTED).min(1 << 30);
    let mut find = view.prepare(&format!(
        "SELECT {COLUMNS} FROM tasks JOIN bodies ON task = seq WHERE {} ORDER BY seq DESC LIMIT {most}",
        conditions.join(" AND ")
    ))?;
    let mut rows = find.query(params_from_iter(values))?;
    let mut listed = Vec::new();
    while let Some(row) = rows.next()? {
        listed.push(read(row)?);
    }
    Ok(listed)
}

fn read(row: &Row<'_>) -> Result<TaskStatus, Failed> {
    let after: String = row.get(8)?;
    let at = state(row.get(2)?)?;
    let (due, blockers): (i64, i64) = (row.get(12)?, row.get(13)?);
    Ok(TaskStatus {
        id: row.get::<_, String>(0)?.parse()?,
        name: row.get(1)?,
        state: at,
        stopping: row.get(3)?,
        priority: row.get(4)?,
        attempts: row.get(5)?,
        progress: row.get(6)?,
        message: row.get(7)?,
        result: None,
        failure: None,
        after: serde_json::from_str(&after).map_err(|error| damaged(&error.to_string()))?,
        created: time(row.get(9)?),
        started: row.get::<_, Option<i64>>(10)?.map(time),
        ended: row.get::<_, Option<i64>>(11)?.map(time),
        due: (at == TaskState::Waiting && blockers == 0).then(|| time(due)),
        log_bytes: row.get::<_, i64>(14)? as u64,
        revision: row.get::<_, i64>(15)? as u64,
    })
}

fn parsed<T: serde::de::DeserializeOwned>(text: Option<String>) -> Result<Option<T>, Failed> {
    text.map(|text| serde_json::from_str(&text).map_err(|error| damaged(&error.to_string()))).transpose()
}

fn time(milliseconds: i64) -> SystemTime {
    let since = Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0));
    SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
}

pub(super) fn to_stop(view: &Connection, worker: &str) -> Result<Vec<TaskId>, Failed> {
    let mut find =
        view.prepare_cached("SELECT id FROM tasks WHERE state = 2 AND cancel = 1 AND worker = ?1")?;
    let mut rows = find.query([worker])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(row.get::<_, String>(0)?.parse()?);
    }
    Ok(found)
}

pub(super) fn unfinished(view: &Connection) -> Result<u64, Failed> {
    let mut count = view.prepare_cached(
        "SELECT (SELECT count(*) FROM tasks WHERE state = 1) + (SELECT count(*) FROM tasks WHERE state = 2)
         + (SELECT count(*) FROM tasks WHERE state = 0)",
    )?;
    Ok(count.query_row([], |row| row.get::<_, i64>(0))? as u64)
}

pub(super) fn log(view: &Connection, id: &TaskId, position: u64) -> Result<LogPage, Failed> {
    let mut find = view.prepare_cached("SELECT seq, state, log_bytes FROM tasks WHERE id = ?1")?;
    let found = find
        .query_row([id.as_str()], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, i64>(2)? as u64)))
        .optional()?;
    let Some((task, at, total)): Option<(i64, i64, u64)> = found else {
        return Err(crate::task::absent(id).into());
    };
    let mut page = LogPage { next: position, ..LogPage::default() };
    let mut pieces = view.prepare_cached(
        "SELECT position, stream, attempt, bytes FROM logs WHERE task = ?1 AND position >= ?2 ORDER BY position",
    )?;
    let mut rows = pieces.query(params![task, i64::try_from(position).unwrap_or(i64::MAX)])?;
    let mut bytes = 0;
    while bytes < PAGE
        && let Some(row) = rows.next()?
    {
        let chunk = LogChunk {
            stream: if row.get(1)? { Stream::Stderr } else { Stream::Stdout },
            attempt: row.get(2)?,
            bytes: row.get(3)?,
        };
        bytes += chunk.bytes.len() as u64;
        page.next = row.get::<_, i64>(0)? as u64 + chunk.bytes.len() as u64;
        page.chunks.push(chunk);
    }
    page.is_last = page.next >= total && state(at)?.is_ended();
    Ok(page)
}
