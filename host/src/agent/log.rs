//! The log of a task, made of the events of its run.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{AgentBlock, AgentStep};
use crate::trajectory::{Event, RunEnding};

/// The name of the agent's own session among those of its run.
const ROOT: &str = "0";

/// What was said and run. Clones are the same log.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    steps: Vec<AgentStep>,
    /// How the last task ended.
    ending: Option<RunEnding>,
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins the log of another task. Until it has ended it counts as failed.
    pub fn begin(&self) {
        *self.lock() = Inner { steps: Vec::new(), ending: Some(RunEnding::Failed) };
    }

    /// The task has ended; gives its log.
    pub fn end(&self, ending: RunEnding) -> Vec<AgentStep> {
        let mut inner = self.lock();
        inner.ending = Some(ending);
        std::mem::take(&mut inner.steps)
    }

    /// How the last task ended; nothing if there was none.
    pub fn ending(&self) -> Option<RunEnding> {
        self.lock().ending
    }

    pub fn see(&self, event: &Event) {
        match event {
            Event::Reply { node, text, error: None, .. } if node == ROOT => {
                self.lock().steps.push(AgentStep { reply: text.clone(), blocks: Vec::new() });
            }
            Event::Code { node, code, .. } if node == ROOT => {
                let mut inner = self.lock();
                if inner.steps.is_empty() {
                    inner.steps.push(AgentStep::default());
                }
                if let Some(step) = inner.steps.last_mut() {
                    step.blocks.push(AgentBlock { code: code.clone(), ..AgentBlock::default() });
                }
            }
            Event::Output { node, ending, text, .. } if node == ROOT => {
                let mut inner = self.lock();
                let block = inner.steps.last_mut().and_then(|step| step.blocks.last_mut());
                if let Some(block) = block {
                    (block.ending, block.output) = (ending.clone(), text.clone());
                }
            }
            _ => {}
        }
    }
}
