//! The thread of a worker that talks to the store: it reports and takes tasks, many at a time.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::select;
use tokio::sync::watch;

use super::{Shared, Why};
use crate::task::store::Report;

/// How often ended tasks that are old enough are removed.
const PRUNE: Duration = Duration::from_secs(600);

/// Tasks that are removed between two rounds: leases are renewed meanwhile.
const PRUNED: usize = 50;

/// The wait after the store could not be used, and the longest one.
const TROUBLE: Duration = Duration::from_millis(100);
const MOST_TROUBLE: Duration = Duration::from_secs(5);

/// How long a worker that ends tries to say what became of its tasks.
const FAREWELL: Duration = Duration::from_secs(5);

/// Runs until the worker is stopped and what it had is given back.
pub(super) fn run(shared: &Arc<Shared>, changes: watch::Receiver<u64>) {
    let runtime = shared.kernel.runtime();
    // It stops what is late even while the store holds this thread up.
    let guarded = Arc::downgrade(shared);
    let tick = shared.lease / 20;
    let guard = runtime.spawn(async move {
        loop {
            tokio::time::sleep(tick).await;
            let Some(shared) = guarded.upgrade() else { break };
            shared.stop_late();
        }
    });
    runtime.block_on(Coordinator { shared, changes, pending: Vec::new(), trouble: None }.run());
    guard.abort();
}

struct Coordinator<'a> {
    shared: &'a Arc<Shared>,
    changes: watch::Receiver<u64>,
    /// What could not be reported yet.
    pending: Vec<Report>,
    trouble: Option<Duration>,
}

impl Coordinator<'_> {
    async fn run(mut self) {
        let mut pruned: Option<Instant> = None;
        let mut stopping_since: Option<Instant> = None;
        loop {
            let next = match self.round() {
                Ok(next) => {
                    self.trouble = None;
                    next
                }
                Err(error) => {
                    let wait = self.trouble.map_or(TROUBLE, |wait| (wait * 2).min(MOST_TROUBLE));
                    tracing::warn!("a worker waits for its store: {error}");
                    self.trouble = Some(wait);
                    Some(wait)
                }
            };
            if self.shared.is_stopping() {
                let since = *stopping_since.get_or_insert_with(Instant::now);
                let is_done = self.pending.is_empty() && self.shared.is_over();
                if is_done || since.elapsed() > FAREWELL {
                    break;
                }
            } else if self.trouble.is_none() && pruned.is_none_or(|pruned| pruned.elapsed() > PRUNE) {
                let keep = self.shared.tasks.limited().keep;
                let removed = self.shared.tasks.store().prune(keep, PRUNED).unwrap_or_else(|error| {
                    tracing::warn!("old tasks could not be removed: {error}");
                    0
                });
                if removed >= PRUNED {
                    // There may be more, after another round.
                    continue;
                }
                pruned = Some(Instant::now());
            }
            self.wait(next).await;
        }
    }

    /// Reports, hears what is to be stopped, and takes what there is a place for. Gives the time after which another
    /// task may be ready, if there is a place for it.
    fn round(&mut self) -> crate::Result<Option<Duration>> {
        let store = self.shared.tasks.store();
        self.shared.collect(&mut self.pending);
        if !self.pending.is_empty() {
            let sent = Instant::now();
            let standings = store.report(&self.pending)?;
            self.shared.learn(&self.pending, &standings, sent);
            self.pending.clear();
        }
        if self.changes.has_changed().unwrap_or(false) {
            self.changes.borrow_and_update();
            if self.shared.active() > 0 {
                for id in store.to_stop(&self.shared.name)? {
                    self.shared.stop(&id, Why::Cancelled);
                }
            }
        }
        let wanted = self.shared.wants();
        if wanted == 0 {
            self.shared.take(Vec::new(), Instant::now());
            return Ok(None);
        }
        let sent = Instant::now();
        let pulled = store.pull(&self.shared.name, wanted, self.shared.lease)?;
        let took = pulled.deliveries.len();
        self.shared.take(pulled.deliveries, sent);
        // As many as were wanted: there may be more.
        Ok(if took == wanted { Some(Duration::ZERO) } else { pulled.next })
    }

    async fn wait(&mut self, next: Option<Duration>) {
        let own = self.shared.next();
        let until = match next {
            // A little later: what is due then must be due.
            Some(next) if self.shared.wants() > 0 || self.trouble.is_some() => {
                (Instant::now() + next + Duration::from_millis(1)).min(own)
            }
            _ => own,
        };
        let event = self.shared.event.notified();
        if self.trouble.is_some() {
            // What happens meanwhile waits as well.
            tokio::time::sleep_until((Instant::now() + next.unwrap_or(TROUBLE)).into()).await;
            return;
        }
        let changed = async {
            match self.changes.changed().await {
                // The next round looks into it.
                Ok(()) => self.changes.mark_changed(),
                // Nobody tells of changes any more.
                Err(_) => std::future::pending().await,
            }
        };
        let (event, changed) = (pin!(event), pin!(changed));
        let heard = select(event, changed);
        let _ = tokio::time::timeout_at(until.into(), heard).await;
    }
}
