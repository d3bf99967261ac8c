//! What workers say of tasks that they hold.

use rusqlite::{OptionalExtension, Transaction, params};

use super::{Failed, ROW, end, pull};
use crate::Stream;
use crate::task::store::{News, Report, Standing};
use crate::task::{TaskState, milliseconds, milliseconds_now};

pub(super) fn report(transaction: &Transaction<'_>, reports: &[Report]) -> Result<Vec<Standing>, Failed> {
    reports.iter().map(|report| one(transaction, report)).collect()
}

/// A task that is held.
struct Held {
    seq: i64,
    lost: i64,
    cancel: bool,
    attempt: u32,
    log_bytes: u64,
    log_full: bool,
}

fn one(transaction: &Transaction<'_>, Report { lease, news }: &Report) -> Result<Standing, Failed> {
    // The token is the fence: no other delivery of the task has it.
    let mut find = transaction.prepare_cached(
        "SELECT seq, lost, cancel, attempts, log_bytes, log_full FROM tasks
         WHERE id = ?1 AND state = 2 AND token = ?2",
    )?;
    let held = find
        .query_row(params![lease.id.as_str(), lease.token as i64], |row| {
            Ok(Held {
                seq: row.get(0)?,
                lost: row.get(1)?,
                cancel: row.get(2)?,
                attempt: row.get(3)?,
                log_bytes: row.get::<_, i64>(4)? as u64,
                log_full: row.get(5)?,
            })
        })
        .optional()?;
    let Some(held) = held else { return Ok(Standing::Refused) };
    let (seq, now) = (held.seq, milliseconds_now());
    match news {
        News::Wrote { chunks, most } => wrote(transaction, &held, chunks, *most)?,
        News::Progress { fraction, message } => {
            transaction
                .prepare_cached(
                    "UPDATE tasks SET progress = ?2, message = ?3, revision = revision + 1 WHERE seq = ?1",
                )?
                .execute(params![seq, fraction, message])?;
        }
        News::InProgress { lease } => {
            transaction
                .prepare_cached("UPDATE tasks SET lease = ?2 WHERE seq = ?1")?
                .execute([seq, now.saturating_add(milliseconds(*lease))])?;
        }
        News::Ack { result } => end::end(transaction, seq, TaskState::Succeeded, Some(result), None)?,
        News::Nak { .. } | News::Release { .. } if held.cancel => {
            end::end(transaction, seq, TaskState::Cancelled, None, None)?;
        }
        News::Nak { delay, failure } => {
            transaction
                .prepare_cached("UPDATE tasks SET failed = failed + 1 WHERE seq = ?1")?
                .execute([seq])?;
            end::keep(transaction, seq, None, Some(failure))?;
            pull::again(transaction, seq, *delay)?;
        }
        News::Term { failure } => end::end(transaction, seq, TaskState::Failed, None, Some(failure))?,
        News::Cancelled => end::end(transaction, seq, TaskState::Cancelled, None, None)?,
        News::Release { delay } => {
            transaction
                .prepare_cached("UPDATE tasks SET attempts = attempts - 1 WHERE seq = ?1")?
                .execute([seq])?;
            pull::again(transaction, seq, *delay)?;
        }
        News::Lost { delay } => pull::give_up(transaction, seq, held.lost, held.cancel, *delay)?,
    }
    Ok(if held.cancel { Standing::ToStop } else { Standing::Held })
}

fn wrote(
    transaction: &Transaction<'_>,
    held: &Held,
    chunks: &[(Stream, Vec<u8>)],
    most: u64,
) -> Result<(), Failed> {
    if held.log_full {
        return Ok(());
    }
    let mut put = transaction.prepare_cached(
        "INSERT INTO logs (task, position, stream, attempt, bytes) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    let mut position = held.log_bytes;
    let mut is_full = false;
    let mut rows = 0;
    let mut append = |stream: Stream, bytes: &[u8], position: &mut u64| {
        rows += 1;
        let stream = stream == Stream::Stderr;
        put.execute(params![held.seq, *position as i64, stream, held.attempt, bytes])?;
        *position += bytes.len() as u64;
        Ok::<_, rusqlite::Error>(())
    };
    for (stream, bytes) in chunks {
        let room = most.saturating_sub(position).min(bytes.len() as u64);
        if room > 0 {
            append(*stream, &bytes[..room as usize], &mut position)?;
        }
        if room < bytes.len() as u64 {
            is_full = true;
            let marker =
                format!("\n[agentkernel: the log limit of {most} bytes is reached; the rest is dropped]\n");
            append(*stream, marker.as_bytes(), &mut position)?;
            break;
        }
    }
    transaction
        .prepare_cached(
            "UPDATE tasks SET log_bytes = ?2, log_full = ?3, revision = revision + 1 WHERE seq = ?1",
        )?
        .execute(params![held.seq, position as i64, is_full])?;
    end::takes(transaction, held.seq, position - held.log_bytes + ROW * rows)
}
