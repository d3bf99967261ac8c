//! Putting tasks in.

use rusqlite::{OptionalExtension, Transaction, params};

use super::{Failed, ROW, end, number, state};
use crate::task::store::{Message, Quota};
use crate::task::{FailureKind, TaskFailure, TaskState, milliseconds_now};
use crate::{Error, ErrorKind};

/// What a task takes beside its texts.
const OVERHEAD: u64 = 512;

pub(super) fn publish(
    transaction: &Transaction<'_>,
    messages: &[Message],
    quota: Option<&Quota>,
) -> Result<Vec<bool>, Failed> {
    messages.iter().map(|message| put(transaction, message, quota)).collect()
}

fn put(transaction: &Transaction<'_>, message: &Message, quota: Option<&Quota>) -> Result<bool, Failed> {
    let Message { id, name, scope, priority, after, body } = message;
    let now = milliseconds_now();
    let mut put = transaction.prepare_cached(
        "INSERT INTO tasks (id, scope, name, priority, state, blockers, due, created)
         VALUES (?1, ?2, ?3, ?4, 1, 0, 0, ?5) ON CONFLICT (id) DO NOTHING",
    )?;
    if put.execute(params![id.as_str(), scope, name, priority, now])? == 0 {
        return Ok(false);
    }
    let task = transaction.last_insert_rowid();
    let after_json = serde_json::to_string(after).unwrap_or_default();
    let bytes = (name.len() + body.len() + after_json.len()) as u64 + ROW * after.len() as u64 + OVERHEAD;
    transaction
        .prepare_cached("INSERT INTO bodies (task, body, after, bytes) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![task, body, after_json, bytes as i64])?;
    if !scope.is_empty() {
        count(transaction, scope, bytes, quota)?;
    }
    let mut blockers = 0;
    let mut missing = None;
    for needed in after {
        let mut find = transaction.prepare_cached("SELECT seq, state, scope FROM tasks WHERE id = ?1")?;
        let found = find
            .query_row([needed.as_str()], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?))
            })
            .optional()?;
        let known = found.filter(|(seq, _, of)| *seq != task && (scope.is_empty() || of == scope));
        let Some((seq, at, _)) = known else {
            return Err(Error::new(ErrorKind::Tasks, format!("there is no task `{needed}` to wait for"))
                .hint("dispatch it first; ended tasks are kept for a set time only")
                .into());
        };
        match state(at)? {
            TaskState::Succeeded => {}
            TaskState::Failed | TaskState::Cancelled => missing = Some(needed),
            _ => {
                let mut depend = transaction
                    .prepare_cached("INSERT OR IGNORE INTO dependencies (needed, task) VALUES (?1, ?2)")?;
                blockers += depend.execute([seq, task])?;
            }
        }
    }
    if let Some(needed) = missing {
        let message = format!("the task `{needed}`, which it needs, did not succeed");
        let failure = TaskFailure::new(FailureKind::DependencyFailed, message);
        end::end(transaction, task, TaskState::Failed, None, Some(&failure))?;
    } else if blockers > 0 {
        transaction
            .prepare_cached("UPDATE tasks SET state = ?2, blockers = ?3 WHERE seq = ?1")?
            .execute(params![task, number(TaskState::Waiting), blockers as i64])?;
    }
    Ok(true)
}

/// Counts a task of a scope, unless there are too many.
fn count(
    transaction: &Transaction<'_>,
    scope: &str,
    bytes: u64,
    quota: Option<&Quota>,
) -> Result<(), Failed> {
    let (dispatched, unfinished, stored): (i64, i64, i64) = transaction
        .prepare_cached(
            "INSERT INTO scopes (scope, dispatched, unfinished, bytes, kept) VALUES (?1, 1, 1, ?2, 1)
             ON CONFLICT (scope) DO UPDATE SET dispatched = dispatched + 1, unfinished = unfinished + 1,
             bytes = bytes + ?2, kept = kept + 1 RETURNING dispatched, unfinished, bytes",
        )?
        .query_row(params![scope, bytes as i64], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let Some(quota) = quota else { return Ok(()) };
    let refuse =
        |message: String, hint: &str| Err(Error::new(ErrorKind::Tasks, message).hint(hint.to_owned()).into());
    if unfinished as u64 > quota.unfinished {
        return refuse(
            format!("{} tasks of this program have not ended, as many as there may be", quota.unfinished),
            "wait for some of them first",
        );
    }
    if dispatched as u64 > quota.dispatched {
        return refuse(
            format!("this program has dispatched {} tasks, as many as it may", quota.dispatched),
            "let each task do more",
        );
    }
    if stored as u64 > quota.stored_bytes {
        return refuse(
            format!(
                "the tasks of this program would take {stored} bytes in the store, of {} that they may",
                quota.stored_bytes
            ),
            "give large inputs and results in files",
        );
    }
    Ok(())
}
