//! Questions answered by programs: the loop, its ends, its limits, and children.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentkernel::Kernel;
use agentkernel::llm::{Budget, Llm, LlmLimits, ModelRequest};
use agentkernel::rlm::{Event, Record, Rlm, RlmBuilder, RlmOutcome, RunEnding, Trajectory};
use agentkernel_tests::{Answering, builder};

/// A kernel whose root model is asked in steps: `root` gets the step, from 0, and what was said last.
/// Other calls are answered by `sub`.
fn with(
    root: impl Fn(usize, &str, &ModelRequest) -> String + Send + Sync + 'static,
    sub: impl Fn(&str) -> String + Send + Sync + 'static,
) -> Kernel {
    let answering = Answering::new(move |request: &ModelRequest| {
        let last = &request.messages.last().unwrap().content;
        Ok(match request.model.as_str() {
            "root" => root(request.messages.len() / 2, last, request),
            _ => sub(last),
        })
    });
    builder().llm(Llm::new("root", answering).sub_model("sub")).build().unwrap()
}

fn steps(replies: &'static [&'static str]) -> Kernel {
    with(move |step, _, _| replies[step].to_owned(), |prompt| format!("re: {prompt}"))
}

fn ask(kernel: &Kernel, configure: impl FnOnce(RlmBuilder) -> RlmBuilder) -> RlmOutcome {
    configure(Rlm::builder(kernel)).build().unwrap().ask_blocking("Why?").unwrap()
}

fn limits(change: impl FnOnce(&mut LlmLimits)) -> Budget {
    let mut limits = LlmLimits::none();
    change(&mut limits);
    Budget::new(limits)
}

/// The events of a run.
#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<u8>>>);

impl io::Write for Events {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Events {
    fn all(&self) -> Vec<Event> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str::<Record>(line).unwrap().event).collect()
    }
}

#[test]
fn every_way_to_give_an_answer_ends_the_run() {
    let ways = [
        "```python\nanswer['content'] = 6 * 7\nanswer['ready'] = True\n```",
        "```repl\nanswer = {'content': 42, 'ready': True}\n```",
        "Thinking.\n```python\nFINAL(42)\n```\nand some words after it",
        "```python\nx = 42\nFINAL_VAR('x')\nprint('in the middle')\n```\n```python\nraise SystemError\n```",
        "```python\nx = 42\nFINAL_VAR(x)\n```",
        "FINAL(42)",
        "It is clear:\n**FINAL(42)**\n",
        "```python\nresult = 42\n```\nFINAL_VAR(result)",
        "```python\nanswer = '42'\n```\nFINAL_VAR(\"answer\")",
    ];
    for way in ways {
        let kernel = with(move |_, _, _| way.to_owned(), |_| unreachable!());
        let outcome = ask(&kernel, |rlm| rlm);
        assert_eq!(outcome.answer.as_deref(), Some("42"), "{way}\n{outcome:?}");
        assert_eq!(
            (outcome.ending, outcome.best_effort, outcome.iterations),
            (RunEnding::Answered, false, 1)
        );
    }
}

#[test]
fn the_session_goes_on_and_what_is_printed_goes_back() {
    let kernel = with(
        |step, last, request| match step {
            0 => {
                assert!(last.starts_with("Question: Why?"), "{last}");
                assert!(request.system.as_ref().unwrap().contains("answer[\"ready\"] = True"));
                "```python\nx = 20\nprint('seen')\n[x]\n```\nthen\n```python\ny = x + 1\n```".into()
            }
            1 => {
                assert_eq!(
                    last,
                    "Output of block 1:\nseen\n[20]\n\nOutput of block 2:\n(nothing was printed)"
                );
                "```python\nprint(1)\n1 / 0\n```\n```python\nnever()\n```\nFINAL(wrong)".into()
            }
            2 => {
                assert!(
                    last.starts_with("Output of block 1:\n1\nTraceback (most recent call last):\n"),
                    "{last}"
                );
                assert!(
                    last.contains("File \"step_2_block_1.py\", line 2, in <module>\n    1 / 0"),
                    "{last}"
                );
                assert!(
                    last.contains("ZeroDivisionError: division by zero\n\nThe blocks after it were not run.")
                );
                assert!(last.ends_with("was not taken, as its code failed."), "{last}");
                "Only words.".into()
            }
            3 => {
                assert!(last.starts_with("Your reply had no ```python block"), "{last}");
                "```python\nprint('x' * 30000)\n```".into()
            }
            4 => {
                let note: String = last.chars().filter(|c| *c != 'x').collect();
                assert_eq!(note, "Output:\n\n[... 10,000 characters left out ...]\n");
                assert!(last.chars().count() < 20_100);
                "FINAL_VAR(z)".into()
            }
            5 => {
                assert!(last.contains("NameError: there is no variable 'z'"), "{last}");
                "```python\nSHOW_VARS()\n```".into()
            }
            6 => {
                assert!(last.contains("{'x': 'int', 'y': 'int'}"), "{last}");
                "FINAL_VAR(y)".into()
            }
            _ => unreachable!(),
        },
        |_| unreachable!(),
    );
    let outcome = ask(&kernel, |rlm| rlm);
    assert_eq!(outcome.answer.as_deref(), Some("21"), "{outcome:?}");
    assert_eq!(outcome.iterations, 7);
}

#[test]
fn programs_ask_models_by_all_their_names() {
    let kernel = steps(&["```python
import asyncio
from agentkernel import ask_llm as imported
parts = [llm_query('a'), *llm_query_batched(['b', 'c']), ask_llm('d'), *ask_llm_batch(['e']), imported('f')]
async def main():
    return await asyncio.gather(ask_llm_async('g'), ask_llm_async('h'))
parts += asyncio.run(main())
parts += [rlm_query('i'), *rlm_query_batched(['j'])]
parts.append(llm_query('x', model='none'))
FINAL('|'.join(parts))
```"]);
    let budget = limits(|limits| limits.depth = Some(0));
    let outcome = ask(&kernel, |rlm| rlm.budget(budget));
    let answer = outcome.answer.unwrap();
    let parts: Vec<&str> = answer.split('|').collect();
    assert_eq!(parts[..10].join(" "), "re: a re: b re: c re: d re: e re: f re: g re: h re: i re: j");
    assert!(parts[10].starts_with("Error: the model `none` is not granted"), "{answer}");
    assert_eq!((outcome.usage.models["sub"].calls, outcome.usage.models["root"].calls), (10, 1));
}

#[test]
fn a_session_that_ends_is_begun_anew() {
    let kernel = with(
        |step, last, _| match step {
            0 => "```python\nx = 1\nwhile True: pass\n```".into(),
            1 => {
                assert!(last.contains("ran into its time limit") && last.contains("all variables are lost"));
                "```python\nx = bytearray(1 << 33)\n```".into()
            }
            2 => "```python\nimport sys\nsys.exit(3)\n```".into(),
            3 => {
                assert!(last.contains("(exit with code 3)"), "{last}");
                "```python\nFINAL('x' in globals())\n```".into()
            }
            _ => unreachable!(),
        },
        |_| unreachable!(),
    );
    let mut grants = agentkernel::Grants::default();
    grants.limits.timeout = Some(Duration::from_millis(500));
    let outcome = ask(&kernel, |rlm| rlm.grants(grants));
    assert_eq!(outcome.answer.as_deref(), Some("False"), "{outcome:?}");
}

#[test]
fn at_a_limit_the_model_is_asked_once_for_its_best() {
    let kernel = || {
        with(
            |_, last, _| match last.contains("No more steps can be made") {
                true => "Perhaps 41.".into(),
                false => "```python\nprint('on and on')\n```".into(),
            },
            |_| unreachable!(),
        )
    };
    let outcome = ask(&kernel(), |rlm| rlm.max_iterations(3));
    assert_eq!((outcome.answer.as_deref(), outcome.best_effort), (Some("Perhaps 41."), true));
    assert_eq!((outcome.ending, outcome.iterations), (RunEnding::Limit, 3));
    assert!(outcome.message.unwrap().contains("3 steps were made"));
    assert_eq!(outcome.usage.total().calls, 4);

    // One call is held back for it.
    let outcome = ask(&kernel(), |rlm| rlm.budget(limits(|limits| limits.calls = Some(5))));
    assert_eq!((outcome.answer.as_deref(), outcome.usage.total().calls), (Some("Perhaps 41."), 5));
    let outcome = ask(&kernel(), |rlm| rlm.budget(limits(|limits| limits.tokens = Some(12_000))));
    assert_eq!(outcome.answer.as_deref(), Some("Perhaps 41."), "{outcome:?}");
    assert!(outcome.message.unwrap().contains("tokens"));

    let failing = with(
        |_, last, _| if last.contains("No more steps") { "best".into() } else { "words".into() },
        |_| unreachable!(),
    );
    let outcome = ask(&failing, |rlm| rlm.max_errors(3));
    assert_eq!(outcome.answer.as_deref(), Some("best"));
    assert!(outcome.message.unwrap().contains("3 steps in a row failed"));
}

#[test]
fn time_ends_a_run_in_the_middle_of_a_block() {
    let kernel = with(
        |step, last, _| match (step, last.contains("No more steps")) {
            (_, true) => "late".into(),
            (0, _) => "```python\nanswer['content'] = 'so far'\n```".into(),
            _ => "```python\nwhile True: pass\n```".into(),
        },
        |_| unreachable!(),
    );
    let budget = limits(|limits| limits.time = Some(Duration::from_millis(1500)));
    let outcome = ask(&kernel, |rlm| rlm.budget(budget));
    assert_eq!((outcome.answer.as_deref(), outcome.ending), (Some("late"), RunEnding::Limit), "{outcome:?}");
    assert!(outcome.wall < Duration::from_secs(20), "{:?}", outcome.wall);
}

#[test]
fn an_interrupted_run_gives_what_is_known() {
    let kernel = with(
        |step, _, _| match step {
            0 => "```python\nanswer['content'] = 'so far'\n```".into(),
            _ => "```python\nwhile True: pass\n```".into(),
        },
        |_| unreachable!(),
    );
    let events = Events::default();
    let rlm = Rlm::builder(&kernel);
    let mut interrupter = None;
    let slot = Arc::new(Mutex::new(None::<agentkernel::rlm::Interrupter>));
    let seen = Arc::clone(&slot);
    let rlm = rlm.trajectory(Trajectory::to(events.clone())).on_event(move |event| {
        if matches!(event, Event::Code { iteration: 2, .. }) {
            seen.lock().unwrap().as_ref().unwrap().interrupt();
        }
    });
    let rlm = rlm.build().unwrap();
    *slot.lock().unwrap() = Some(rlm.interrupter());
    interrupter.get_or_insert(rlm.interrupter());
    let outcome = rlm.ask_blocking("Why?").unwrap();
    assert_eq!((outcome.answer.as_deref(), outcome.best_effort), (Some("so far"), true));
    assert_eq!(outcome.ending, RunEnding::Interrupted);
    assert!(matches!(events.all().last(), Some(Event::End { ending: RunEnding::Interrupted, .. })));
}

#[test]
fn what_a_provider_says_fails_the_run() {
    let failing = Answering::new(|_| Err(agentkernel::llm::ProviderError::new("no such key")));
    let kernel = builder().llm(Llm::new("root", failing)).build().unwrap();
    let outcome = ask(&kernel, |rlm| rlm);
    assert_eq!((outcome.answer, outcome.ending), (None, RunEnding::Failed));
    assert_eq!(outcome.message.as_deref(), Some("no such key"));
    let error = Rlm::builder(agentkernel_tests::kernel()).build().err().unwrap();
    assert!(error.remedy().unwrap().contains("KernelBuilder::llm"));
}
