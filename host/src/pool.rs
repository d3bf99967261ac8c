//! Instances that are made before a session asks for one.
//!
//! A shelf holds instances that start from one image, or from the interpreter as it is. Nobody has used
//! them. A thread of the kernel's puts new ones in place of those that were taken; when a shelf is empty, a
//! session makes its own.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use wasmtime::Store;

use crate::engine::{Frozen, Instance};
use crate::kernel::Inner;
use crate::state::State;
use crate::{Error, ErrorKind, Result};

/// How often a pool was of use; see [`Kernel::pool_stats`](crate::Kernel::pool_stats).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Instances that are kept ready.
    pub size: usize,
    /// Instances that are ready at the moment.
    pub ready: usize,
    /// Sessions that found one ready.
    pub taken: u64,
    /// Sessions that had to make their own.
    pub missed: u64,
}

/// The shelves of a kernel.
#[derive(Default)]
pub(crate) struct Pool(Arc<Shared>);

#[derive(Default)]
struct Shared {
    shelves: Mutex<Shelves>,
    changed: Condvar,
}

#[derive(Default)]
struct Shelves {
    all: Vec<Shelf>,
    has_filler: bool,
    stopped: bool,
    /// Of all shelves that there were.
    taken: u64,
    missed: u64,
}

struct Shelf {
    kept: Option<Arc<Frozen>>,
    ready: Vec<Ready>,
    stats: PoolStats,
}

/// An instance without a session.
pub(crate) struct Ready {
    pub store: Store<State>,
    pub instance: Instance,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Shelves> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelves {
    fn find(&mut self, kept: Option<&Arc<Frozen>>) -> Option<&mut Shelf> {
        self.all.iter_mut().find(|shelf| match (&shelf.kept, kept) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        })
    }
}

impl Pool {
    /// Keeps `size` instances ready that start from `kept`; with 0, none any more.
    pub fn keep(&self, kernel: &Arc<Inner>, kept: Option<Arc<Frozen>>, size: usize) -> Result<()> {
        let mut shelves = self.0.lock();
        match shelves.find(kept.as_ref()) {
            Some(shelf) => shelf.stats.size = size,
            None => shelves.all.push(Shelf {
                kept,
                ready: Vec::with_capacity(size),
                stats: PoolStats { size, ..PoolStats::default() },
            }),
        }
        if !shelves.has_filler {
            let (shared, kernel) = (Arc::clone(&self.0), Arc::downgrade(kernel));
            std::thread::Builder::new()
                .name("agentkernel-pool".into())
                .spawn(move || fill(&shared, &kernel))
                .map_err(|error| Error::new(ErrorKind::System, "cannot start a thread").source(error))?;
            shelves.has_filler = true;
        }
        drop(shelves);
        self.0.changed.notify_one();
        Ok(())
    }

    /// An instance that starts from `kept`, if one is ready.
    pub fn take(&self, kept: Option<&Arc<Frozen>>) -> Option<Ready> {
        let mut shelves = self.0.lock();
        let shelf = shelves.find(kept)?;
        let ready = shelf.ready.pop();
        match ready {
            Some(_) => shelf.stats.taken += 1,
            None => shelf.stats.missed += 1,
        }
        match ready {
            Some(_) => shelves.taken += 1,
            None => shelves.missed += 1,
        }
        drop(shelves);
        self.0.changed.notify_one();
        ready
    }

    /// How often an instance was ready, and how often not, of all shelves.
    pub fn used(&self) -> (u64, u64) {
        let shelves = self.0.lock();
        (shelves.taken, shelves.missed)
    }

    pub fn stats(&self, kept: Option<&Arc<Frozen>>) -> PoolStats {
        let mut shelves = self.0.lock();
        let shelf = shelves.find(kept);
        shelf.map(|shelf| PoolStats { ready: shelf.ready.len(), ..shelf.stats }).unwrap_or_default()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.0.lock().stopped = true;
        self.0.changed.notify_one();
    }
}

/// Fills shelves until the kernel is gone.
fn fill(shared: &Shared, kernel: &Weak<Inner>) {
    let mut shelves = shared.lock();
    loop {
        if shelves.stopped {
            return;
        }
        let surplus: Vec<Ready> = shelves
            .all
            .iter_mut()
            .flat_map(|shelf| {
                let size = shelf.stats.size.min(shelf.ready.len());
                shelf.ready.drain(size..).collect::<Vec<_>>()
            })
            .collect();
        shelves.all.retain(|shelf| shelf.stats.size > 0);
        let lacking = shelves.all.iter().find(|shelf| shelf.ready.len() < shelf.stats.size);
        let Some(kept) = lacking.map(|shelf| shelf.kept.clone()) else {
            if surplus.is_empty() {
                shelves = shared.changed.wait(shelves).unwrap_or_else(PoisonError::into_inner);
            } else {
                drop(shelves);
                drop(surplus);
                shelves = shared.lock();
            }
            continue;
        };
        drop(shelves);
        drop(surplus);
        let made = {
            let Some(kernel) = kernel.upgrade() else { return };
            State::without_session(&kernel).and_then(|state| instantiate(&kernel, state, kept.as_ref()))
        };
        shelves = shared.lock();
        match made {
            Ok(ready) => {
                if let Some(shelf) = shelves.find(kept.as_ref()) {
                    shelf.ready.push(ready);
                }
            }
            Err(error) => {
                // The next session that asks finds out what is the matter, and wakes this thread again.
                tracing::warn!("cannot keep an instance ready: {error}");
                if shelves.stopped {
                    return;
                }
                shelves = shared.changed.wait(shelves).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

/// A store with `state` and an instance in it that starts from `kept`.
pub(crate) fn instantiate(kernel: &Inner, state: State, kept: Option<&Arc<Frozen>>) -> Result<Ready> {
    let failed = |error| Error::new(ErrorKind::System, "cannot start the interpreter").source(error);
    let mut store = Store::new(kernel.engine.wasmtime(), state);
    store.limiter(|state| state);
    if kernel.metered {
        // Instantiation runs no guest code of ours, but wasmtime wants fuel to be there.
        store.set_fuel(u64::MAX).map_err(failed)?;
    }
    let instance = kernel.engine.instantiate(&mut store, kept).map_err(failed)?;
    Ok(Ready { store, instance })
}
