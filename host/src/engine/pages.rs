//! Pages of memories that were kept. Those that nobody has any more are used again: to give their memory
//! back to the system and to ask for it the next moment takes longer than to copy them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes in a page of memory.
pub(super) const PAGE: usize = 4096;

/// A page by number, and its content.
pub(crate) type Page = (u32, Arc<[u8]>);

/// How many wait to be used again: 8 MiB.
const MOST_SPARE: usize = 2048;

static SPARE: Mutex<Vec<Arc<[u8]>>> = Mutex::new(Vec::new());

/// The pages that wait, taken out to make some of them.
pub(super) struct Spare(Vec<Arc<[u8]>>);

impl Spare {
    pub fn take() -> Self {
        Spare(std::mem::take(&mut *waiting()))
    }

    /// A page with that content.
    pub fn page(&mut self, content: &[u8]) -> Arc<[u8]> {
        if let Some(mut page) = self.0.pop()
            && let Some(bytes) = Arc::get_mut(&mut page)
        {
            bytes.copy_from_slice(content);
            return page;
        }
        Arc::from(content)
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        give(self.0.drain(..));
    }
}

/// Lets pages wait that nobody else has, as far as there is room.
pub(super) fn give(pages: impl Iterator<Item = Arc<[u8]>>) {
    let mut own = pages.filter_map(|mut page| Arc::get_mut(&mut page).is_some().then_some(page));
    let mut some: Vec<_> = own.by_ref().take(MOST_SPARE).collect();
    // The rest is freed while nobody waits.
    own.for_each(drop);
    let mut waiting = waiting();
    some.truncate(MOST_SPARE.saturating_sub(waiting.len()));
    waiting.append(&mut some);
}

fn waiting() -> MutexGuard<'static, Vec<Arc<[u8]>>> {
    SPARE.lock().unwrap_or_else(PoisonError::into_inner)
}
