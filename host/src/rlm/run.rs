//! What all sessions of a run share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::sync::Semaphore;

use crate::llm::{Budget, Llm, LlmUsage, ModelUsage};
use crate::replay::Plan;
use crate::steps::{HISTORY_BYTES, StepLimits};
use crate::trajectory::{Event, ModelTotals, RunEnding, TRAJECTORY_VERSION, Teller, timestamp};
use crate::{Kernel, Result};

/// How the sessions of a run go on.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// How far each goes.
    pub steps: StepLimits,
    /// Sessions of one depth that run at the same time.
    pub children: u32,
}

impl Default for Settings {
    fn default() -> Self {
        let steps = StepLimits { iterations: 30, errors: 5, shown: 20_000, history: HISTORY_BYTES };
        Settings { steps, children: 8 }
    }
}

pub(crate) struct Run {
    pub kernel: Kernel,
    pub llm: Llm,
    pub settings: Settings,
    pub teller: Teller,
    pub plan: Plan,
    calls: AtomicU64,
    permits: Mutex<BTreeMap<u32, Arc<Semaphore>>>,
}

impl Run {
    pub fn new(kernel: Kernel, llm: Llm, settings: Settings, teller: Teller, plan: Plan) -> Self {
        let (calls, permits) = (AtomicU64::new(0), Mutex::default());
        Run { kernel, llm, settings, teller, plan, calls, permits }
    }

    /// Records what `event` makes, if anybody wants it.
    pub fn record(&self, event: impl FnOnce() -> Event) {
        self.teller.record(event);
    }

    /// Records that it begins, with its first question.
    pub fn begin(&self, question: &str, budget: &Budget) {
        self.record(|| Event::Start {
            version: TRAJECTORY_VERSION,
            time: timestamp(SystemTime::now()),
            question: question.to_owned(),
            model: self.llm.model().to_owned(),
            sub_model: self.llm.model_of_programs().to_owned(),
            limits: limits(budget, self.settings.steps.iterations),
            agentkernel: env!("CARGO_PKG_VERSION").to_owned(),
        });
    }

    /// Records that it has ended, and writes what is not written yet, for which it may wait for a disk.
    ///
    /// # Errors
    ///
    /// When what happened is not all written down.
    pub fn end(&self, ending: RunEnding, usage: &LlmUsage, message: Option<String>) -> Result<()> {
        self.record(|| Event::End { ending, totals: totals(usage), message });
        self.teller.finish()
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

/// Limits by the names of their flags.
fn limits(budget: &Budget, iterations: u32) -> serde_json::Map<String, serde_json::Value> {
    let left = budget.left();
    let mut limits = serde_json::Map::new();
    limits.insert("max-iterations".into(), iterations.into());
    limits.insert("max-calls".into(), left.calls.into());
    limits.insert("max-tokens".into(), left.tokens.into());
    limits.insert("max-cost".into(), left.cost.into());
    limits.insert("max-depth".into(), left.depth.into());
    limits.insert("max-concurrency".into(), budget.concurrency().into());
    limits.insert("max-time".into(), left.time.into());
    limits
}

fn totals(usage: &LlmUsage) -> BTreeMap<String, ModelTotals> {
    let totals = |usage: &ModelUsage| ModelTotals {
        calls: usage.calls + usage.cached,
        cached: usage.cached,
        input_tokens: usage.input_tokens,
        output_tokens: usage.output_tokens,
        cost: usage.cost.map(crate::llm::Dollars::get),
        hidden: usage.hidden,
    };
    usage.models.iter().map(|(model, usage)| (model.clone(), totals(usage))).collect()
}
