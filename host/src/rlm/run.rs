//! What all sessions of a run share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::trajectory::Event;
use super::writer::Trajectory;
use crate::Kernel;
use crate::llm::Llm;
use crate::replay::Plan;

/// Sees the events of a run.
pub(super) type OnEvent = Arc<dyn Fn(&Event) + Send + Sync>;

/// How the sessions of a run go on.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Steps that one may make.
    pub iterations: u32,
    /// Steps in a row that may fail.
    pub errors: u32,
    /// Characters of a block's output that its model is shown.
    pub shown: usize,
    /// Sessions of one depth that run at the same time.
    pub children: u32,
}

pub(super) struct Run {
    pub kernel: Kernel,
    pub llm: Llm,
    pub settings: Settings,
    pub trajectory: Trajectory,
    pub on_event: Option<OnEvent>,
    pub plan: Plan,
    calls: AtomicU64,
    permits: Mutex<BTreeMap<u32, Arc<Semaphore>>>,
}

impl Run {
    pub fn new(
        kernel: Kernel,
        llm: Llm,
        settings: Settings,
        trajectory: Trajectory,
        on_event: Option<OnEvent>,
        plan: Plan,
    ) -> Self {
        let (calls, permits) = (AtomicU64::new(0), Mutex::default());
        Run { kernel, llm, settings, trajectory, on_event, plan, calls, permits }
    }

    /// Records what `event` makes, if anybody wants it.
    pub fn record(&self, event: impl FnOnce() -> Event) {
        if self.on_event.is_none() && !self.trajectory.is_on() {
            return;
        }
        let mut event = event();
        if let Some(privacy) = self.llm.hides() {
            event.each_text(&mut |text| *text = privacy.cover(text));
        }
        event.shorten();
        if let Some(on_event) = &self.on_event {
            on_event(&event);
        }
        self.trajectory.record(event);
    }

    pub fn next_call(&self) -> String {
        format!("c{}", self.calls.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Leave to run at a depth. Each depth has its own, so that parents that wait do not hold up
    /// their children.
    pub fn permits(&self, depth: u32) -> Arc<Semaphore> {
        let mut permits = self.permits.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Semaphore::new(self.settings.children as usize));
        Arc::clone(permits.entry(depth).or_insert_with(new))
    }

    /// Tools by name, with a line each.
    pub fn tools(&self) -> Vec<(String, String)> {
        self.kernel.tools().into_iter().map(|tool| (tool.name, tool.summary)).collect()
    }
}
