//! Work that blocks a thread, a few pieces of it at the same time. Who waits for it may give it up, and it goes on all
//! the same: without a gate, a program that begins calls and drops them would take any number of threads.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinError;

/// Pieces of work at the same time.
const PLACES: usize = 8;

/// Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<Semaphore>);

impl Default for Gate {
    fn default() -> Self {
        Gate(Arc::new(Semaphore::new(PLACES)))
    }
}

impl Gate {
    /// Does some work on another thread, once there is a place; what it needs is kept until it is done.
    ///
    /// # Errors
    ///
    /// When it panicked.
    pub async fn pass<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let place = Arc::clone(&self.0).acquire_owned().await;
        let work = move || {
            let done = work();
            drop(place);
            done
        };
        tokio::task::spawn_blocking(work).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    /// What was given up still has its place.
    #[test]
    fn what_is_given_up_takes_no_more_threads_than_there_are_places() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
        let (gate, now, most) =
            (Gate::default(), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        runtime.block_on(async {
            for _ in 0..200 {
                let (gate, now, most) = (gate.clone(), Arc::clone(&now), Arc::clone(&most));
                let work = tokio::spawn(async move {
                    let work = move || {
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::sleep(Duration::from_millis(2));
                        now.fetch_sub(1, Ordering::SeqCst);
                    };
                    gate.pass(work).await
                });
                tokio::time::sleep(Duration::from_micros(100)).await;
                work.abort();
            }
            gate.pass(|| {}).await.unwrap();
        });
        drop(runtime);
        assert!((1..=PLACES).contains(&most.load(Ordering::SeqCst)), "{most:?}");
        assert_eq!(gate.0.available_permits(), PLACES);
    }
}
