//! No order of calls takes more than a limit.

use proptest::prelude::*;

use super::*;
use crate::llm::Tokens;

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    /// A call within one of the budgets, of so many tokens at the most.
    Begin { budget: usize, input: u64, least: u64, most: u64 },
    /// One of the calls in flight is over, having taken this part of what it may.
    End { call: usize, part: f64, how: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    let begin = (0..4usize, 0..400u64, 1..50u64, 0..200u64)
        .prop_map(|(budget, input, least, more)| Step::Begin { budget, input, least, most: least + more });
    let end =
        (any::<usize>(), 0.0..=1.0f64, 0..3u8).prop_map(|(call, part, how)| Step::End { call, part, how });
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
