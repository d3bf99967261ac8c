//! Budgets: what may be asked of models, counted before it is asked.
//!
//! A call sets aside the most that it can take, in its budget and in all above it, at once or not at
//! all. When it is over, what it did not take is free again. A call that would fit once others are over
//! waits for them; one that cannot fit is refused. So no order of calls takes more than a limit.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::Notify;

use super::limits::{Amount, LlmLimits, QUANTITIES, Quantity};
use super::{Dollars, LlmUsage};
use crate::privacy::Prepared;

/// What is left of what models may be asked. Clones are the same budget; a child's calls count in all
/// budgets above it.
///
/// ```
/// use agentkernel::llm::{Budget, LlmLimits};
///
/// let mut limits = LlmLimits::none();
/// limits.calls = Some(10);
/// let tenant = Budget::new(limits);
/// limits.calls = Some(3);
/// let session = tenant.child(limits);
/// assert_eq!(session.left().calls, Some(3));
/// assert_eq!(tenant.usage().total().calls, 0);
/// ```
#[derive(Clone)]
pub struct Budget(Arc<Node>);

struct Node {
    parent: Option<Budget>,
    limits: LlmLimits,
    since: Instant,
    state: Mutex<State>,
    /// Of the tree: told when a call is over.
    changed: Arc<Notify>,
}

#[derive(Default)]
struct State {
    spent: Amount,
    set_aside: Amount,
    in_flight: u32,
    usage: LlmUsage,
}

impl State {
    fn count(&mut self, model: &str, priced: bool, taken: &Amount) {
        self.spent.add(taken);
        let usage = self.usage.models.entry(model.to_owned()).or_default();
        usage.calls += taken.calls;
        usage.input_tokens = usage.input_tokens.saturating_add(taken.tokens.input);
        usage.output_tokens = usage.output_tokens.saturating_add(taken.tokens.output);
        if priced {
            usage.cost = Some(usage.cost.unwrap_or_default().plus(taken.cost));
        }
    }
}

/// Why a call was not made: what ran out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetExceeded {
    /// `calls`, `tokens`, `input_tokens`, `output_tokens`, `cost`, `depth` or `time`.
    pub what: &'static str,
    /// A sentence that says what is left and what was needed.
    pub message: String,
}

impl fmt::Display for BudgetExceeded {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for BudgetExceeded {}

/// What a budget and those above it have left; nothing where nothing limits it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Left {
    /// Calls.
    pub calls: Option<u64>,
    /// Tokens read and written.
    pub tokens: Option<u64>,
    /// Tokens read.
    pub input_tokens: Option<u64>,
    /// Tokens written.
    pub output_tokens: Option<u64>,
    /// US dollars.
    pub cost: Option<f64>,
    /// Levels of child sessions.
    pub depth: Option<u32>,
    /// Seconds.
    pub time: Option<f64>,
}

enum Refusal {
    /// It would fit if calls that are in flight were over.
    Wait,
    Exceeded(BudgetExceeded),
}

impl Budget {
    /// A budget below no other.
    pub fn new(limits: LlmLimits) -> Self {
        Self::make(None, limits, Arc::default())
    }

    /// A budget whose calls count in this one as well.
    pub fn child(&self, mut limits: LlmLimits) -> Self {
        let depth = self.left().depth;
        limits.depth = limits.depth.map_or(depth, |own| Some(depth.map_or(own, |depth| depth.min(own))));
        Self::make(Some(self.clone()), limits, Arc::clone(&self.0.changed))
    }

    /// A budget for a child session: one level less is left below it.
    ///
    /// # Errors
    ///
    /// When no level is left.
    pub fn descend(&self, mut limits: LlmLimits) -> Result<Self, BudgetExceeded> {
        if let Some(depth) = self.left().depth {
            let below = depth.checked_sub(1).ok_or_else(|| BudgetExceeded {
                what: "depth",
                message: "no level of child sessions is left (`max-depth`)".into(),
            })?;
            limits.depth = Some(limits.depth.map_or(below, |own| own.min(below)));
        }
        Ok(self.child(limits))
    }

    fn make(parent: Option<Budget>, limits: LlmLimits, changed: Arc<Notify>) -> Self {
        let (since, state) = (Instant::now(), Mutex::default());
        Budget(Arc::new(Node { parent, limits, since, state, changed }))
    }

    /// What was asked within it so far, that of budgets below it included.
    pub fn usage(&self) -> LlmUsage {
        self.0.lock().usage.clone()
    }

    /// Calls that may be in flight, where that is limited.
    pub fn concurrency(&self) -> Option<u32> {
        self.path().iter().filter_map(|node| node.limits.concurrency).min()
    }

    /// Calls in flight.
    pub fn in_flight(&self) -> u32 {
        self.0.lock().in_flight
    }

    /// What it has left, what is set aside for calls in flight not counted.
    pub fn left(&self) -> Left {
        let path = self.path();
        let states = lock(&path);
        let least = |what: Quantity| {
            let left = path.iter().zip(&states).filter_map(|(node, state)| {
                let limit = node.limits.of(what)?;
                Some(limit.saturating_sub(state.spent.of(what).saturating_add(state.set_aside.of(what))))
            });
            left.min()
        };
        Left {
            calls: least(Quantity::Calls),
            tokens: least(Quantity::Tokens),
            input_tokens: least(Quantity::InputTokens),
            output_tokens: least(Quantity::OutputTokens),
            cost: least(Quantity::Cost).map(|cost| Dollars(cost).get()),
            // A child's is never more than its parent's.
            depth: self.0.limits.depth,
            time: self.time_left().map(|time| time.as_secs_f64()),
        }
    }

    /// The time that is left.
    pub fn time_left(&self) -> Option<Duration> {
        let left = |node: &&Node| node.limits.time.map(|time| time.saturating_sub(node.since.elapsed()));
        self.path().iter().filter_map(left).min()
    }

    /// From the topmost one down to this.
    fn path(&self) -> Vec<&Node> {
        let above = std::iter::successors(Some(self), |budget| budget.0.parent.as_ref());
        let mut path: Vec<&Node> = above.map(|budget| &*budget.0).collect();
        path.reverse();
        path
    }

    /// Sets aside what a call can take at the most; waits while calls in flight hold what it needs.
    /// `at_least` is what it can do with if `amount` does not fit: what fits is given.
    pub(crate) async fn set_aside(
        &self,
        model: &str,
        priced: bool,
        amount: impl Fn(u64) -> Amount,
        output: std::ops::RangeInclusive<u64>,
    ) -> Result<SetAside, BudgetExceeded> {
        let mut changed = std::pin::pin!(self.0.changed.notified());
        loop {
            // From here on no change is missed.
            changed.as_mut().enable();
            match self.try_set_aside(model, priced, &amount, output.clone()) {
                Ok(set_aside) => return Ok(set_aside),
                Err(Refusal::Exceeded(exceeded)) => return Err(exceeded),
                Err(Refusal::Wait) => {}
            }
            match self.time_left() {
                // The next round says that it has run out.
                Some(left) => drop(tokio::time::timeout(left, changed.as_mut()).await),
                None => changed.as_mut().await,
            }
            changed.set(self.0.changed.notified());
        }
    }

    fn try_set_aside(
        &self,
        model: &str,
        priced: bool,
        amount: impl Fn(u64) -> Amount,
        output: std::ops::RangeInclusive<u64>,
    ) -> Result<SetAside, Refusal> {
        let exceeded = |what, message| Refusal::Exceeded(BudgetExceeded { what, message });
        if self.time_left() == Some(Duration::ZERO) {
            return Err(exceeded("time", "the time for calls of models has run out (`max-time`)".into()));
        }
        let path = self.path();
        let mut states = lock(&path);
        let mut given = amount(*output.end());
        let mut waits = false;
        for (node, state) in path.iter().zip(&states) {
            if !priced && node.limits.cost.is_some() && !node.limits.unpriced {
                return Err(exceeded(
                    "cost",
                    format!(
                        "cost is limited and the price of `{model}` is not known; give it in [llm.prices] (docs/llm.md), or set no `max-cost`"
                    ),
                ));
            }
            if node.limits.concurrency == Some(0) {
                return Err(exceeded(
                    "concurrency",
                    "no call may be in flight (`max-concurrency` is 0)".into(),
                ));
            }
            if node.limits.concurrency.is_some_and(|most| state.in_flight >= most) {
                waits = true;
            }
        }
        for what in QUANTITIES {
            for (node, state) in path.iter().zip(&states) {
                let Some(limit) = node.limits.of(what) else { continue };
                let left = limit.saturating_sub(state.spent.of(what));
                let free = left.saturating_sub(state.set_aside.of(what));
                if given.of(what) <= free {
                    continue;
                }
                // A shorter answer may fit.
                let least = amount(*output.start());
                if least.of(what) > left {
                    return Err(exceeded(what.name(), short(what, limit, left, least.of(what))));
                }
                if least.of(what) > free {
                    waits = true;
                    continue;
                }
                given = amount(longest(*output.start(), given.tokens.output, |output| {
                    amount(output).of(what) <= free
                }));
            }
        }
        if waits {
            return Err(Refusal::Wait);
        }
        for state in &mut states {
            state.set_aside.add(&given);
            state.in_flight += 1;
        }
        drop(states);
        Ok(SetAside { budget: self.clone(), model: model.to_owned(), priced, amount: given, open: true })
    }

    /// Counts what a call took that is not made again.
    pub(crate) fn count(&self, model: &str, priced: bool, taken: Amount) {
        for state in &mut lock(&self.path()) {
            state.count(model, priced, &taken);
        }
    }

    /// Counts an answer that cost nothing.
    pub(crate) fn count_cached(&self, model: &str) {
        for state in &mut lock(&self.path()) {
            state.usage.models.entry(model.to_owned()).or_default().cached += 1;
        }
    }

    /// Counts what a request does not show.
    pub(crate) fn count_hidden(&self, prepared: &Prepared) {
        if prepared.hidden() == 0 {
            return;
        }
        for state in &mut lock(&self.path()) {
            state.usage.models.entry(prepared.request().model.clone()).or_default().hidden +=
                prepared.hidden();
        }
    }
}

/// The longest output that fits; `least` does.
fn longest(least: u64, most: u64, fits: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (least, most);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        match fits(middle) {
            true => low = middle,
            false => high = middle - 1,
        }
    }
    low
}

fn short(what: Quantity, limit: u64, left: u64, needed: u64) -> String {
    let name = what.name().replace('_', "-");
    match what {
        Quantity::Calls => format!("no call of a model is left (`max-{name}` is {limit})"),
        _ => format!(
            "this call may take {}, and {} are left of {} (`max-{name}`); ask for less, or give more",
            what.shown(needed),
            what.shown(left),
            what.shown(limit)
        ),
    }
}

/// The states of the path, all locked: always from the top, so that no two wait for each other.
fn lock<'a>(path: &[&'a Node]) -> Vec<MutexGuard<'a, State>> {
    path.iter().map(|node| node.lock()).collect()
}

impl Node {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Budget").field("left", &self.left()).field("usage", &self.usage()).finish()
    }
}

/// What is set aside for a call in flight. Dropped without a word it counts as taken: nobody knows
/// what the provider did.
#[must_use]
pub(crate) struct SetAside {
    budget: Budget,
    model: String,
    priced: bool,
    amount: Amount,
    open: bool,
}

impl SetAside {
    /// The most tokens that the answer may have.
    pub fn output_tokens(&self) -> u64 {
        self.amount.tokens.output
    }

    /// The call is over and took this. More than was set aside counts as well.
    pub fn taken(mut self, amount: Amount) {
        self.end(amount);
    }

    fn end(&mut self, taken: Amount) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        for state in &mut lock(&self.budget.path()) {
            state.set_aside.subtract(&self.amount);
            state.in_flight -= 1;
            state.count(&self.model, self.priced, &taken);
        }
        self.budget.0.changed.notify_waiters();
    }
}

impl Drop for SetAside {
    fn drop(&mut self) {
        self.end(self.amount);
    }
}

#[cfg(test)]
mod tests;
