//! Telling of changes: at once of those that this process makes, soon of those that others make.

use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::watch;

/// How often it is looked whether another process has changed something, which takes some microseconds.
const LOOK: Duration = Duration::from_millis(20);

/// Rings for those who listen.
pub(super) struct Bell(Arc<Shared>);

struct Shared {
    changes: watch::Sender<u64>,
    /// A connection of its own, which sees when others commit, until the thread that looks has it.
    looking: Mutex<Option<Connection>>,
    /// Somebody listens, or nobody needs to any more.
    listened: Condvar,
    waits: Mutex<()>,
}

impl Bell {
    pub fn new(looking: Connection) -> Self {
        Bell(Arc::new(Shared {
            changes: watch::Sender::new(0),
            looking: Mutex::new(Some(looking)),
            listened: Condvar::new(),
            waits: Mutex::new(()),
        }))
    }

    /// Something has changed.
    pub fn ring(&self) {
        self.0.ring();
    }

    /// Who wants to hear of changes. The first one starts the thread that looks for those of others.
    pub fn listen(&self) -> watch::Receiver<u64> {
        let receiver = self.0.changes.subscribe();
        let looking = self.0.looking.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(connection) = looking {
            let shared = Arc::downgrade(&self.0);
            let thread = std::thread::Builder::new().name("tasks-changes".into()).stack_size(256 << 10);
            if let Err(error) = thread.spawn(move || look(&connection, &shared)) {
                tracing::warn!("changes that other processes make to tasks are not seen: {error}");
            }
        }
        let _waits = self.0.waits.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.listened.notify_all();
        receiver
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        // The thread finds that nobody is there.
        self.0.listened.notify_all();
    }
}

impl Shared {
    fn ring(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// Rings whenever another connection has committed; sleeps while nobody listens.
fn look(connection: &Connection, shared: &Weak<Shared>) {
    let mut last = None;
    while let Some(shared) = shared.upgrade() {
        let version = connection.pragma_query_value(None, "data_version", |row| row.get::<_, i64>(0)).ok();
        // A version that cannot be read is one that whoever listens should look into, now and then.
        if version != last {
            last = version;
            shared.ring();
        }
        if shared.changes.receiver_count() == 0 {
            let waits = shared.waits.lock().unwrap_or_else(PoisonError::into_inner);
            // For a while: the store may be gone when it is over.
            drop(shared.listened.wait_timeout(waits, Duration::from_millis(500)));
            continue;
        }
        drop(shared);
        std::thread::sleep(LOOK);
    }
}
