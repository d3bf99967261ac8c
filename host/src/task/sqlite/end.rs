//! How tasks end, what that means for those that need them, and when they are removed.

use rusqlite::{OptionalExtension, Transaction, params};

use super::{Failed, number, state};
use crate::task::{FailureKind, TaskFailure, TaskId, TaskResult, TaskState, milliseconds_now};

/// Ends a task, and those that need it if it has not succeeded.
pub(super) fn end(
    transaction: &Transaction<'_>,
    task: i64,
    state: TaskState,
    result: Option<&TaskResult>,
    failure: Option<&TaskFailure>,
) -> Result<(), Failed> {
    let now = milliseconds_now();
    finish(transaction, task, state, now)?;
    keep(transaction, task, result, failure)?;
    let mut ended = vec![(task, state)];
    while let Some((task, state)) = ended.pop() {
        let mut find = transaction.prepare_cached("SELECT task FROM dependencies WHERE needed = ?1")?;
        let waiting = find.query_map([task], |row| row.get(0))?.collect::<rusqlite::Result<Vec<i64>>>()?;
        drop(find);
        if waiting.is_empty() {
            continue;
        }
        transaction.prepare_cached("DELETE FROM dependencies WHERE needed = ?1")?.execute([task])?;
        if state == TaskState::Succeeded {
            let mut free = transaction.prepare_cached(
                "UPDATE tasks SET blockers = blockers - 1, state = CASE WHEN blockers = 1 THEN 1 ELSE 0 END,
                 revision = revision + 1 WHERE seq = ?1 AND state = 0",
            )?;
            for waiting in waiting {
                free.execute([waiting])?;
            }
            continue;
        }
        let id: String = transaction
            .prepare_cached("SELECT id FROM tasks WHERE seq = ?1")?
            .query_row([task], |row| row.get(0))?;
        let message = format!("the task `{id}`, which it needs, did not succeed");
        let failure = TaskFailure::new(FailureKind::DependencyFailed, message);
        for waiting in waiting {
            // It may have been cancelled, or have failed for another one.
            if finish(transaction, waiting, TaskState::Failed, now)? {
                keep(transaction, waiting, None, Some(&failure))?;
                ended.push((waiting, TaskState::Failed));
            }
        }
    }
    Ok(())
}

/// Ends a task that has not ended; says whether it had not.
fn finish(transaction: &Transaction<'_>, task: i64, state: TaskState, now: i64) -> Result<bool, Failed> {
    let mut finish = transaction.prepare_cached(
        "UPDATE tasks SET state = ?2, ended = ?3, blockers = 0, due = 0, worker = NULL, lease = 0, cancel = 0,
         revision = revision + 1 WHERE seq = ?1 AND state < 3 RETURNING scope",
    )?;
    let scope =
        finish.query_row(params![task, number(state), now], |row| row.get::<_, String>(0)).optional()?;
    let Some(scope) = scope else { return Ok(false) };
    if !scope.is_empty() {
        transaction
            .prepare_cached("UPDATE scopes SET unfinished = unfinished - 1 WHERE scope = ?1")?
            .execute([scope])?;
    }
    Ok(true)
}

/// Keeps what an attempt gave, in place of what the one before gave.
pub(super) fn keep(
    transaction: &Transaction<'_>,
    task: i64,
    result: Option<&TaskResult>,
    failure: Option<&TaskFailure>,
) -> Result<(), Failed> {
    // None of them can fail to be written.
    let result = result.map(|result| serde_json::to_string(result).unwrap_or_default());
    let failure = failure.map(|failure| serde_json::to_string(failure).unwrap_or_default());
    let bytes = [&result, &failure].into_iter().flatten().map(String::len).sum::<usize>();
    transaction
        .prepare_cached("INSERT OR REPLACE INTO ends (task, result, failure) VALUES (?1, ?2, ?3)")?
        .execute(params![task, result, failure])?;
    takes(transaction, task, bytes as u64)
}

/// Counts what more a task takes, for its scope.
pub(super) fn takes(transaction: &Transaction<'_>, task: i64, bytes: u64) -> Result<(), Failed> {
    let mut find = transaction.prepare_cached("SELECT scope FROM tasks WHERE seq = ?1")?;
    let scope: String = find.query_row([task], |row| row.get(0))?;
    if !scope.is_empty() {
        transaction
            .prepare_cached("UPDATE bodies SET bytes = bytes + ?2 WHERE task = ?1")?
            .execute([task, bytes as i64])?;
        transaction
            .prepare_cached("UPDATE scopes SET bytes = bytes + ?2 WHERE scope = ?1")?
            .execute(params![scope, bytes as i64])?;
    }
    Ok(())
}

pub(super) fn cancel(transaction: &Transaction<'_>, id: &TaskId) -> Result<Option<TaskState>, Failed> {
    let mut find = transaction.prepare_cached("SELECT seq, state FROM tasks WHERE id = ?1")?;
    let found = find.query_row([id.as_str()], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?))).optional()?;
    let Some((task, at)) = found else { return Ok(None) };
    Ok(Some(match state(at)? {
        TaskState::Running => {
            transaction
                .prepare_cached(
                    "UPDATE tasks SET cancel = 1, revision = revision + 1 WHERE seq = ?1 AND cancel = 0",
                )?
                .execute([task])?;
            TaskState::Running
        }
        ended if ended.is_ended() => ended,
        _ => {
            end(transaction, task, TaskState::Cancelled, None, None)?;
            TaskState::Cancelled
        }
    }))
}

/// Removes some tasks that ended before that time; says how many.
pub(super) fn prune(transaction: &Transaction<'_>, before: i64, most: usize) -> Result<usize, Failed> {
    let mut find = transaction.prepare_cached(
        "SELECT seq, scope, bytes FROM tasks JOIN bodies ON task = seq
         WHERE state >= 3 AND ended <= ?1 ORDER BY ended LIMIT ?2",
    )?;
    let rows = find.query_map(params![before, i64::try_from(most).unwrap_or(i64::MAX)], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?))
    })?;
    let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    for (task, scope, bytes) in &rows {
        for remove in [
            "DELETE FROM logs WHERE task = ?1",
            "DELETE FROM ends WHERE task = ?1",
            "DELETE FROM bodies WHERE task = ?1",
            "DELETE FROM tasks WHERE seq = ?1",
        ] {
            transaction.prepare_cached(remove)?.execute([task])?;
        }
        if !scope.is_empty() {
            transaction
                .prepare_cached("UPDATE scopes SET bytes = bytes - ?2, kept = kept - 1 WHERE scope = ?1")?
                .execute(params![scope, bytes])?;
            transaction
                .prepare_cached("DELETE FROM scopes WHERE scope = ?1 AND kept <= 0")?
                .execute([scope])?;
        }
    }
    Ok(rows.len())
}
