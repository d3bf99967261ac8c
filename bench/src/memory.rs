//! Sessions that are kept: the memory of each, and how many there can be.

use std::time::Instant;

use agentkernel::{Kernel, Session};
use anyhow::Result;
use serde::Serialize;

use crate::measure::{Summary, Times};
use crate::setup::{TURN, check};

/// Idle sessions whose memory is measured.
const IDLE: usize = 200;

/// Sessions that are there before: pages that they share with the later ones are not private then.
const BEFORE: usize = 10;

/// Sessions that should be able to live at once.
const LIVE: usize = 10_000;

/// How many are tried where there is no memory for so many.
const FEW: usize = 1000;

/// What the machine must have free for all of them: more than they take, so that nothing else suffers.
const FREE_BYTES: u64 = 12 << 30;

/// What an idle session takes. Nothing is known of memory where there is no `/proc`.
#[derive(Serialize)]
pub struct Idle {
    pub sessions: usize,
    /// Memory of this process that no other shares, per session.
    pub private_bytes: Option<f64>,
    /// Memory of the kernel's that maps it, per session.
    pub page_table_bytes: Option<f64>,
    /// The kernel was new and no session was dropped, so each had address space not used before.
    pub start_to_result: Summary,
}

/// How many sessions lived at once.
#[derive(Serialize)]
pub struct Live {
    pub wanted: usize,
    /// Sessions that gave a second result while all were alive.
    pub answered: usize,
    /// Memory of this process that no other shares, per session, once all had answered.
    pub private_bytes: Option<f64>,
    /// Mappings of the process then, of which Linux allows 65,530 where nobody says.
    pub mappings: Option<usize>,
    /// Why there were no more.
    pub stopped_by: Option<String>,
}

/// Measures what a session takes that has run one turn and waits for the next. The kernel must be new.
pub fn idle(kernel: &Kernel) -> Result<Idle> {
    let mut kept = Vec::with_capacity(BEFORE + IDLE);
    for _ in 0..BEFORE {
        kept.push(used(kernel)?);
    }
    let (private, tables) = (private(), page_tables());
    let mut times = Times::default();
    for _ in 0..IDLE {
        let begin = Instant::now();
        let session = used(kernel)?;
        times.push(begin.elapsed());
        kept.push(session);
    }
    let each = |before: Option<u64>, after: Option<u64>| {
        before.zip(after).map(|(before, after)| after.saturating_sub(before) as f64 / IDLE as f64)
    };
    Ok(Idle {
        sessions: IDLE,
        private_bytes: each(private, self::private()),
        page_table_bytes: each(tables, page_tables()),
        start_to_result: times.summary(),
    })
}

/// Starts sessions, keeps them all, and asks each a second time.
pub fn live(kernel: &Kernel, quick: bool) -> Live {
    let free = kibibytes("/proc/meminfo", "MemAvailable:");
    let wanted = if !quick && free.is_some_and(|free| free >= FREE_BYTES) { LIVE } else { FEW };
    let before = private();
    let mut kept = Vec::with_capacity(wanted);
    let mut stopped_by = None;
    while kept.len() < wanted {
        match used(kernel) {
            Ok(session) => kept.push(session),
            Err(error) => {
                stopped_by = Some(format!("{error:#}"));
                break;
            }
        }
    }
    let answered = kept
        .iter_mut()
        .map(|session| check(&session.run_blocking(TURN)?))
        .filter(|answer| match answer {
            Ok(()) => true,
            Err(error) => {
                stopped_by.get_or_insert_with(|| format!("{error:#}"));
                false
            }
        })
        .count();
    let private_bytes = before
        .zip(private())
        .map(|(before, after)| after.saturating_sub(before) as f64 / kept.len().max(1) as f64);
    let mappings = std::fs::read_to_string("/proc/self/maps").ok().map(|maps| maps.lines().count());
    Live { wanted, answered, private_bytes, mappings, stopped_by }
}

/// A session that has run a turn.
fn used(kernel: &Kernel) -> Result<Session> {
    let mut session = kernel.session().start()?;
    check(&session.run_blocking(TURN)?)?;
    Ok(session)
}

/// The most memory that the process has from some moment on.
pub struct Peak {
    before: u64,
}

impl Peak {
    /// From now on, where the system can tell.
    pub fn from_now() -> Option<Self> {
        // Makes the highest mark the present size.
        std::fs::write("/proc/self/clear_refs", "5").ok()?;
        Some(Peak { before: kibibytes("/proc/self/status", "VmRSS:")? })
    }

    /// How much more it was than at the beginning.
    pub fn bytes(&self) -> Option<u64> {
        Some(kibibytes("/proc/self/status", "VmHWM:")?.saturating_sub(self.before))
    }
}

/// Memory of this process that no other shares.
fn private() -> Option<u64> {
    let file = "/proc/self/smaps_rollup";
    Some(kibibytes(file, "Private_Dirty:")? + kibibytes(file, "Private_Clean:")?)
}

/// Memory of the page tables of this process.
fn page_tables() -> Option<u64> {
    kibibytes("/proc/self/status", "VmPTE:")
}

/// A line such as `VmPTE:  92 kB`, in bytes.
fn kibibytes(file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}
