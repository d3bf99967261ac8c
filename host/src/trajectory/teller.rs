//! Whoever wants to know what happens in a run, told.

use std::sync::Arc;

use super::{Event, Trajectory};
use crate::{Privacy, Result};

/// Sees the events of a run.
pub(crate) type OnEvent = Arc<dyn Fn(&Event) + Send + Sync>;

/// Where it is told what happens in a run. Clones tell the same.
#[derive(Clone)]
pub(crate) struct Teller(Arc<Inner>);

struct Inner {
    trajectory: Trajectory,
    on_event: Option<OnEvent>,
    /// What is covered in all that is told.
    privacy: Option<Privacy>,
}

impl Teller {
    pub fn new(trajectory: Trajectory, on_event: Option<OnEvent>, privacy: Option<Privacy>) -> Self {
        Teller(Arc::new(Inner { trajectory, on_event, privacy }))
    }

    /// Tells what `event` makes, if anybody wants it.
    pub fn record(&self, event: impl FnOnce() -> Event) {
        let Inner { trajectory, on_event, privacy } = &*self.0;
        if on_event.is_none() && !trajectory.is_on() {
            return;
        }
        let mut event = event();
        if let Some(privacy) = privacy {
            event.each_text(&mut |text| *text = privacy.cover(text));
        }
        event.shorten();
        if let Some(on_event) = on_event {
            on_event(&event);
        }
        trajectory.record(event);
    }

    /// Waits until all is written.
    ///
    /// # Errors
    ///
    /// As [`Trajectory::finish`].
    pub fn finish(&self) -> Result<()> {
        self.0.trajectory.finish()
    }
}
