//! What a conversation could not apply: kept as soon as that is known, since a signal or a crash leaves no time for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::changes::{self, Kept};
use crate::failure::Failure;
use crate::terminal;

/// Changes that were to be applied and are not, as long as nothing was said of them since. Clones are the same.
#[derive(Clone, Default)]
pub struct Left(Arc<Mutex<Option<Problem>>>);

struct Problem {
    why: String,
    /// `None` where there is no directory of the user's.
    kept: Option<Kept>,
    /// Of what was changed since that was kept, where that could not be kept as well.
    newer: Option<Kept>,
}

impl Left {
    /// Why they could not be applied.
    pub fn problem(&self) -> Option<String> {
        self.lock().as_ref().map(|problem| problem.why.clone())
    }

    /// Keeps changes by `keep`, and drops what was kept of them before.
    pub fn replace(&self, why: String, keep: impl FnOnce(&str) -> Option<Kept>) {
        // Whoever ends the process waits for it.
        let mut left = self.lock();
        let kept = keep(&why);
        match (&kept, left.take()) {
            // What was kept is better than nothing.
            (Some(Kept::Lost(_)), Some(before)) if !matches!(before.kept, Some(Kept::Lost(_))) => {
                *left = Some(Problem { why, kept: before.kept, newer: kept });
            }
            (_, before) => {
                forget(before);
                *left = Some(Problem { why, kept, newer: None });
            }
        }
    }

    /// They are applied or dropped.
    pub fn nothing(&self) {
        forget(self.lock().take());
    }

    /// Says where they are.
    pub fn tell(&self) {
        if let Some(Problem { kept: Some(kept), newer, .. }) = &*self.lock() {
            terminal::hint(&kept.remedy());
            if let Some(newer) = newer {
                terminal::hint(&format!("what was changed after that is not among them: {}", newer.remedy()));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Problem>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn forget(problem: Option<Problem>) {
    let failed = match problem.and_then(|problem| problem.kept) {
        Some(Kept::Named(name)) => changes::forget(&name).err(),
        Some(Kept::Aside(at, _)) => {
            // It has a directory of its own.
            let removed = at.parent().map_or(Ok(()), agentkernel::remove_tree);
            removed.err().map(|error| Failure::new(format!("cannot remove `{}`: {error}", at.display())))
        }
        Some(Kept::Lost(_)) | None => None,
    };
    if let Some(failure) = failed {
        terminal::error(&failure.message, failure.hint.as_deref());
    }
}
