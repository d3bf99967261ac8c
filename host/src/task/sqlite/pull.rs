//! Giving tasks to workers.

use std::time::Duration;

use rusqlite::{Connection, Transaction, params};

use super::{Failed, end};
use crate::task::store::{Delivery, Lease, Pulled};
use crate::task::{FailureKind, TaskFailure, TaskId, TaskState, milliseconds, milliseconds_now};

/// Attempts that workers may lose: a task that kills its workers must come to an end.
pub(super) const MOST_LOST: i64 = 16;

/// Whether a pull would change something.
pub(super) fn is_worth_it(view: &Connection, now: i64) -> Result<bool, Failed> {
    let mut look = view.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM tasks WHERE state = 1)
         OR EXISTS (SELECT 1 FROM tasks WHERE state = 0 AND blockers = 0 AND due <= ?1)
         OR EXISTS (SELECT 1 FROM tasks WHERE state = 2 AND lease <= ?1)",
    )?;
    Ok(look.query_row([now], |row| row.get(0))?)
}

/// The time until a task becomes ready by itself.
pub(super) fn next(view: &Connection, now: i64) -> Result<Option<Duration>, Failed> {
    let mut look = view.prepare_cached(
        "SELECT (SELECT min(due) FROM tasks WHERE state = 0 AND blockers = 0),
         (SELECT min(lease) FROM tasks WHERE state = 2)",
    )?;
    let (due, lease): (Option<i64>, Option<i64>) =
        look.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let next = due.into_iter().chain(lease).min();
    Ok(next.map(|next| Duration::from_millis(u64::try_from(next.saturating_sub(now)).unwrap_or(0))))
}

pub(super) fn pull(
    transaction: &Transaction<'_>,
    worker: &str,
    most: usize,
    lease: Duration,
) -> Result<Pulled, Failed> {
    let now = milliseconds_now();
    reclaim(transaction, now)?;
    transaction
        .prepare_cached("UPDATE tasks SET state = 1 WHERE state = 0 AND blockers = 0 AND due <= ?1")?
        .execute([now])?;
    let mut found = transaction.prepare_cached(
        "SELECT seq, id, token, attempts, failed, scope, body FROM tasks JOIN bodies ON task = seq
         WHERE state = 1 ORDER BY priority DESC, seq LIMIT ?1",
    )?;
    let mut rows = found.query([i64::try_from(most).unwrap_or(i64::MAX)])?;
    let mut deliveries = Vec::new();
    while let Some(row) = rows.next()? {
        let id: TaskId = row.get::<_, String>(1)?.parse()?;
        let (token, attempt) = (row.get::<_, i64>(2)? + 1, row.get::<_, i64>(3)? + 1);
        let delivery = Delivery {
            lease: Lease { id, token: token as u64 },
            attempt: attempt as u32,
            failed: row.get(4)?,
            scope: row.get(5)?,
            body: row.get(6)?,
        };
        deliveries.push((row.get::<_, i64>(0)?, delivery));
    }
    drop(rows);
    let mut take = transaction.prepare_cached(
        "UPDATE tasks SET state = 2, token = token + 1, attempts = attempts + 1, worker = ?2, lease = ?3,
         started = ?4, progress = NULL, message = '', revision = revision + 1 WHERE seq = ?1",
    )?;
    for (seq, _) in &deliveries {
        take.execute(params![seq, worker, now.saturating_add(milliseconds(lease)), now])?;
    }
    let next = next(transaction, now)?;
    Ok(Pulled { deliveries: deliveries.into_iter().map(|(_, delivery)| delivery).collect(), next })
}

/// Makes tasks ready again whose workers did not keep them.
fn reclaim(transaction: &Transaction<'_>, now: i64) -> Result<(), Failed> {
    let mut expired =
        transaction.prepare_cached("SELECT seq, lost, cancel FROM tasks WHERE state = 2 AND lease <= ?1")?;
    let rows = expired.query_map([now], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let rows: Vec<(i64, i64, bool)> = rows.collect::<rusqlite::Result<_>>()?;
    rows.into_iter()
        .try_for_each(|(seq, lost, cancel)| give_up(transaction, seq, lost, cancel, Duration::ZERO))
}

/// What becomes of a task whose attempt was lost, which `lost` attempts were before.
pub(super) fn give_up(
    transaction: &Transaction<'_>,
    seq: i64,
    lost: i64,
    cancel: bool,
    delay: Duration,
) -> Result<(), Failed> {
    if cancel {
        return end::end(transaction, seq, TaskState::Cancelled, None, None);
    }
    let mut lose = transaction.prepare_cached("UPDATE tasks SET lost = lost + 1 WHERE seq = ?1")?;
    lose.execute([seq])?;
    if lost + 1 >= MOST_LOST {
        let message = format!("{MOST_LOST} workers took it and ended, or stood still, before it did");
        let failure = TaskFailure::new(FailureKind::Lost, message);
        return end::end(transaction, seq, TaskState::Failed, None, Some(&failure));
    }
    again(transaction, seq, delay)
}

/// Puts a task that ran back into the queue, ready after a time.
pub(super) fn again(transaction: &Transaction<'_>, seq: i64, delay: Duration) -> Result<(), Failed> {
    let (state, due) = match delay.is_zero() {
        true => (TaskState::Ready, 0),
        false => (TaskState::Waiting, milliseconds_now().saturating_add(milliseconds(delay))),
    };
    transaction
        .prepare_cached(
            "UPDATE tasks SET state = ?2, due = ?3, worker = NULL, lease = 0, revision = revision + 1
             WHERE seq = ?1",
        )?
        .execute(params![seq, super::number(state), due])?;
    Ok(())
}
