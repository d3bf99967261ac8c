//! Budgets: what may be asked of models, counted before it is asked.
//!
//! A call sets aside the most that it can take, in its budget and in all above it, at once or not at
//! all. When it is over, what it did not take is free again. A call that would fit once others are over
//! waits for them; one that cannot fit is refused. So no order of calls takes more than a limit.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::Notify;

use super::{Dollars, Tokens};

/// What may be asked of models. Without a limit of its own a budget is held by those above it alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LlmLimits {
    /// Calls, those from a cache not counted. Default: 1,000.
    pub calls: Option<u64>,
    /// Tokens read and written. Default: 10,000,000.
    pub tokens: Option<u64>,
    /// Tokens read. Default: no limit of its own.
    pub input_tokens: Option<u64>,
    /// Tokens written. Default: no limit of its own.
    pub output_tokens: Option<u64>,
    /// Cost. Default: 10 dollars.
    pub cost: Option<Dollars>,
    /// Whether models of unknown price may be asked although cost is limited. Default: yes, as that
    /// limit was named by nobody.
    pub unpriced: bool,
    /// Levels of child sessions below this one. Default: 1.
    pub depth: Option<u32>,
    /// Calls at the same time. Default: 16.
    pub concurrency: Option<u32>,
    /// Time from the making of the budget. Default: no limit of its own.
    pub time: Option<Duration>,
}

impl Default for LlmLimits {
    fn default() -> Self {
        LlmLimits {
            calls: Some(1000),
            tokens: Some(10_000_000),
            input_tokens: None,
            output_tokens: None,
            cost: Some(Dollars::new(10.0)),
            unpriced: true,
            depth: Some(1),
            concurrency: Some(16),
            time: None,
        }
    }
}

impl LlmLimits {
    /// No limit.
    pub fn none() -> Self {
        LlmLimits {
            calls: None,
            tokens: None,
            input_tokens: None,
            output_tokens: None,
            cost: None,
            unpriced: true,
            depth: None,
            concurrency: None,
            time: None,
        }
    }

    fn of(&self, what: Quantity) -> Option<u64> {
        match what {
            Quantity::Calls => self.calls,
            Quantity::Tokens => self.tokens,
            Quantity::InputTokens => self.input_tokens,
            Quantity::OutputTokens => self.output_tokens,
            Quantity::Cost => self.cost.map(|cost| cost.0),
        }
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Quantity {
    Calls,
    Tokens,
    InputTokens,
    OutputTokens,
    Cost,
}

const QUANTITIES: [Quantity; 5] =
    [Quantity::Calls, Quantity::Tokens, Quantity::InputTokens, Quantity::OutputTokens, Quantity::Cost];

impl Quantity {
    pub fn name(self) -> &'static str {
        match self {
            Quantity::Calls => "calls",
            Quantity::Tokens => "tokens",
            Quantity::InputTokens => "input_tokens",
            Quantity::OutputTokens => "output_tokens",
            Quantity::Cost => "cost",
        }
    }

    fn shown(self, amount: u64) -> String {
        match self {
            Quantity::Cost => Dollars(amount).to_string(),
            Quantity::Calls => format!("{amount} calls"),
            Quantity::Tokens => format!("{amount} tokens"),
            Quantity::InputTokens => format!("{amount} input tokens"),
            Quantity::OutputTokens => format!("{amount} output tokens"),
        }
    }
}

/// An amount of all that is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub calls: u64,
    pub tokens: Tokens,
    pub cost: Dollars,
}

impl Amount {
    fn of(&self, what: Quantity) -> u64 {
        match what {
            Quantity::Calls => self.calls,
            Quantity::Tokens => self.tokens.input.saturating_add(self.tokens.output),
            Quantity::InputTokens => self.tokens.input,
            Quantity::OutputTokens => self.tokens.output,
            Quantity::Cost => self.cost.0,
        }
    }

    pub fn plus(mut self, other: &Amount) -> Self {
        self.add(other);
        self
    }

    fn add(&mut self, other: &Amount) {
        self.calls = self.calls.saturating_add(other.calls);
        self.tokens.input = self.tokens.input.saturating_add(other.tokens.input);
        self.tokens.output = self.tokens.output.saturating_add(other.tokens.output);
        self.cost = self.cost.plus(other.cost);
    }

    fn subtract(&mut self, other: &Amount) {
        self.calls = self.calls.saturating_sub(other.calls);
        self.tokens.input = self.tokens.input.saturating_sub(other.tokens.input);
        self.tokens.output = self.tokens.output.saturating_sub(other.tokens.output);
        self.cost.0 = self.cost.0.saturating_sub(other.cost.0);
    }
}

/// What models were asked, by model.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LlmUsage {
    /// What each model was asked.
    pub models: BTreeMap<String, ModelUsage>,
}

/// What one model was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ModelUsage {
    /// Calls that were sent.
    pub calls: u64,
    /// Answers that came from a cache and cost nothing.
    pub cached: u64,
    /// Tokens it read.
    pub input_tokens: u64,
    /// Tokens it wrote.
    pub output_tokens: u64,
    /// US dollars; nothing where its price is unknown.
    pub cost: Option<Dollars>,
}

impl LlmUsage {
    /// The sum over all models. Its cost is that of the models whose price is known.
    pub fn total(&self) -> ModelUsage {
        self.models.values().fold(ModelUsage::default(), |sum, one| ModelUsage {
            calls: sum.calls + one.calls,
            cached: sum.cached + one.cached,
            input_tokens: sum.input_tokens.saturating_add(one.input_tokens),
            output_tokens: sum.output_tokens.saturating_add(one.output_tokens),
            cost: match (sum.cost, one.cost) {
                (None, cost) | (cost, None) => cost,
                (Some(sum), Some(one)) => Some(sum.plus(one)),
            },
        })
    }
}

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
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What happens next.
    #[derive(Clone, Debug)]
    enum Step {
        /// A call within one of the budgets, of so many tokens at the most.
        Begin { budget: usize, input: u64, least: u64, most: u64 },
        /// One of the calls in flight is over, having taken this part of what it may.
        End { call: usize, part: f64, how: u8 },
    }

    fn step() -> impl Strategy<Value = Step> {
        let begin = (0..4usize, 0..400u64, 1..50u64, 0..200u64).prop_map(|(budget, input, least, more)| {
            Step::Begin { budget, input, least, most: least + more }
        });
        let end = (any::<usize>(), 0.0..=1.0f64, 0..3u8).prop_map(|(call, part, how)| Step::End {
            call,
            part,
            how,
        });
        prop_oneof![begin, end]
    }

    fn some_limits() -> impl Strategy<Value = LlmLimits> {
        let of = |range: std::ops::Range<u64>| proptest::option::of(range);
        (of(0..30), of(0..3000), of(0..2000), of(0..1500), of(0..3_000_000), of(1..6)).prop_map(
            |(calls, tokens, input_tokens, output_tokens, cost, concurrency)| LlmLimits {
                calls,
                tokens,
                input_tokens,
                output_tokens,
                cost: cost.map(Dollars),
                concurrency: concurrency.map(|most| most as u32),
                ..LlmLimits::none()
            },
        )
    }

    fn amount(input: u64) -> impl Fn(u64) -> Amount {
        move |output| Amount {
            calls: 1,
            tokens: Tokens { input, output },
            cost: Dollars(input * 700 + output * 1300),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn no_order_of_calls_takes_more_than_a_limit(
            limits in proptest::collection::vec(some_limits(), 4),
            steps in proptest::collection::vec(step(), 0..120),
        ) {
            // A tenant, two of its sessions, and a turn of one of them.
            let tenant = Budget::new(limits[0]);
            let (one, two) = (tenant.child(limits[1]), tenant.child(limits[2]));
            let turn = one.child(limits[3]);
            let budgets = [tenant, one, two, turn];
            let mut calls = Vec::new();
            for step in steps {
                match step {
                    Step::Begin { budget, input, least, most } => {
                        let set_aside = budgets[budget].try_set_aside("m", true, amount(input), least..=most);
                        match set_aside {
                            Ok(call) => {
                                prop_assert!((least..=most).contains(&call.output_tokens()));
                                calls.push(call);
                            }
                            // Something is in flight that it waits for.
                            Err(Refusal::Wait) => prop_assert!(!calls.is_empty()),
                            Err(Refusal::Exceeded(_)) => {}
                        }
                    }
                    Step::End { call, part, how } if !calls.is_empty() => {
                        let call = calls.swap_remove(call % calls.len());
                        let taken = Tokens {
                            input: (call.amount.tokens.input as f64 * part) as u64,
                            output: (call.amount.tokens.output as f64 * part) as u64,
                        };
                        match how {
                            0 => call.taken(Amount { calls: 1, ..Amount::default() }),
                            1 => drop(call),
                            _ => call.taken(amount(taken.input)(taken.output)),
                        }
                    }
                    Step::End { .. } => {}
                }
                for budget in &budgets {
                    let state = budget.0.lock();
                    for what in QUANTITIES {
                        let used = state.spent.of(what) + state.set_aside.of(what);
                        prop_assert!(budget.0.limits.of(what).is_none_or(|limit| used <= limit), "{what:?}");
                    }
                    prop_assert!(budget.0.limits.concurrency.is_none_or(|most| state.in_flight <= most));
                }
            }
            drop(calls);
            for budget in &budgets {
                let state = budget.0.lock();
                prop_assert_eq!((state.set_aside, state.in_flight), (Amount::default(), 0));
            }
            let sum = [&budgets[1], &budgets[2]].map(|budget| budget.usage().total().calls);
            prop_assert!(sum[0] + sum[1] <= budgets[0].usage().total().calls);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn calls_that_wait_are_woken_and_none_is_lost() {
        let limits =
            LlmLimits { calls: Some(400), tokens: Some(100_000), concurrency: Some(7), ..LlmLimits::none() };
        let budget = Budget::new(limits);
        let calls: Vec<_> = (0..500)
            .map(|number| {
                let budget = budget.child(LlmLimits::none());
                tokio::spawn(async move {
                    let call = budget.set_aside("m", true, amount(1000), 1..=100).await.ok()?;
                    tokio::task::yield_now().await;
                    let tokens = Tokens { input: 100, output: 1 + number % 100 };
                    call.taken(Amount { calls: 1, tokens, cost: Dollars(0) });
                    Some(())
                })
            })
            .collect();
        let mut made = 0;
        for call in calls {
            made += u64::from(call.await.unwrap().is_some());
        }
        assert_eq!(made, 400);
        assert_eq!((budget.usage().total().calls, budget.in_flight()), (400, 0));
    }

    #[test]
    fn a_child_has_no_more_depth_than_its_parent_leaves() {
        let root = Budget::new(LlmLimits { depth: Some(2), ..LlmLimits::none() });
        let child = root.descend(LlmLimits { depth: Some(9), ..LlmLimits::none() }).unwrap();
        assert_eq!(child.left().depth, Some(1));
        assert_eq!(child.child(LlmLimits::none()).left().depth, Some(1));
        let last = child.child(LlmLimits::none()).descend(LlmLimits::none()).unwrap();
        assert_eq!(last.left().depth, Some(0));
        assert_eq!(last.descend(LlmLimits::none()).unwrap_err().what, "depth");
        // Where no limit is, none appears.
        let endless = Budget::new(LlmLimits::none());
        assert_eq!(endless.descend(LlmLimits::none()).unwrap().left().depth, None);
    }

    #[tokio::test]
    async fn time_runs_out_for_those_that_wait_too() {
        let limits =
            LlmLimits { concurrency: Some(1), time: Some(Duration::from_millis(50)), ..LlmLimits::none() };
        let budget = Budget::new(limits);
        let _held = budget.set_aside("m", true, amount(1), 1..=1).await.ok().unwrap();
        let refused = budget.set_aside("m", true, amount(1), 1..=1).await.err().unwrap();
        assert_eq!(refused.what, "time");
    }
}
