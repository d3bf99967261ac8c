//! Questions answered by programs: the loop, its ends, its limits, and children.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentkernel::llm::{Budget, Llm, LlmLimits, ModelRequest};
use agentkernel::rlm::{Event, Record, Rlm, RlmBuilder, RlmOutcome, RunEnding, Trajectory};
use agentkernel::{Context, Kernel};
use agentkernel_tests::{Answering, builder, kernel};

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
                let lost = last.contains("all variables are lost");
                assert_eq!(lost, !kernel().info().host_owned_memory, "{last}");
                assert!(last.contains("ran into its time limit") && (lost || last.contains("taken back")));
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
    assert!(outcome.message.unwrap().contains("steps were made as may be (3)"));
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

/// A text of many lines, one of which holds what is looked for.
fn haystack(lines: usize, needle: usize) -> String {
    let mut text = String::new();
    for line in 0..lines {
        match line == needle {
            true => text += "The magic number is 7_412_889.\n",
            false => text += &format!("Line {line} says nothing of interest, as do the others.\n"),
        }
    }
    text
}

#[test]
fn a_needle_is_found_in_a_context_that_no_model_reads() {
    let kernel = with(
        |step, last, request| match step {
            0 => {
                let system = request.system.as_ref().unwrap();
                assert!(system.contains("- hay.txt: 6,048,866 bytes"), "{system}");
                assert!(!system.contains("Line 17 says"));
                "```python\nprint(len(context))\nhits = list(context.search(r'magic number is ([\\d_]+)'))\nprint(hits[0].file, hits[0].line)\n```".into()
            }
            1 => {
                assert!(last.ends_with("hay.txt 90001"), "{last}");
                "```python\nwhere = context[hits[0].start - 100:hits[0].end + 100]\nFINAL(llm_query('Which number? ' + where))\n```".into()
            }
            _ => unreachable!(),
        },
        |prompt| {
            assert!(prompt.len() < 300 && prompt.contains("7_412_889"), "{prompt}");
            "7412889".into()
        },
    );
    let context = Context::builder().text("hay.txt", haystack(110_000, 90_000)).build().unwrap();
    let outcome = ask(&kernel, |rlm| rlm.context(context));
    assert_eq!(outcome.answer.as_deref(), Some("7412889"), "{outcome:?}");
}

#[test]
fn parts_of_a_context_go_with_prompts_without_passing_through_the_guest() {
    let kernel = with(
        |_, _, _| {
            "```python
parts = list(context.chunks(100_000, lazy=True))
replies = [ask_llm('How many?', context=part) for part in parts]
replies += ask_llm_batch(['All?'], context=[parts[0], 'and text', parts[1]])
FINAL(' '.join(replies))
```"
            .into()
        },
        |prompt| {
            let data = prompt.matches("says nothing").count();
            format!("{data}/{}", prompt.matches("<context>").count())
        },
    );
    let text = haystack(4000, 5000);
    let context = Context::builder().text("hay.txt", text).build().unwrap();
    let outcome = ask(&kernel, |rlm| rlm.context(context));
    let answer = outcome.answer.unwrap();
    let counts: Vec<(usize, &str)> = answer
        .split(' ')
        .map(|reply| reply.split_once('/').unwrap())
        .map(|(count, parts)| (count.parse().unwrap(), parts))
        .collect();
    let (all, single) = counts.split_last().unwrap();
    assert_eq!(single.iter().map(|(count, _)| count).sum::<usize>(), 4000);
    assert_eq!((all.0, all.1), (single[0].0 + single[1].0, "3"));
}

#[test]
fn children_see_their_part_and_no_more_and_run_at_the_same_time() {
    let running = Arc::new((Mutex::new(0), Mutex::new(0)));
    let seen = Arc::clone(&running);
    let kernel = with(
        move |step, last, request| {
            let question = &request.messages[0].content;
            let depth_one = question.starts_with("Question: Count");
            match (depth_one, question.starts_with("Question: Sum"), step) {
                // The root.
                (false, false, 0) => "```python
import os
open('own.txt', 'w').write('x')
parts = list(context.chunks(len(context) // 4, lazy=True))
counts = rlm_batch([f'Count part {n}' for n in range(len(parts))], contexts=parts)
print(counts)
total = rlm('Sum', context=' '.join(counts))
print(total.usage.input_tokens > 0, total.stop, budget().depth)
FINAL(total)
```"
                .into(),
                // A child of the first kind: its files are its own, and so is its part.
                (true, _, 0) => {
                    *seen.0.lock().unwrap() += 1;
                    std::thread::sleep(Duration::from_millis(30));
                    let now = *seen.0.lock().unwrap();
                    let most = &mut *seen.1.lock().unwrap();
                    *most = now.max(*most);
                    assert!(request.system.as_ref().unwrap().contains("- hay.txt: "));
                    assert!(!request.system.as_ref().unwrap().contains("rlm(question"), "no level is left");
                    "```python\nimport os\nprint(os.listdir('.'), len(context) < 100_000, budget().depth)\ntry:\n    rlm('deeper')\nexcept Exception as error:\n    print(type(error).__name__, error)\n```".into()
                }
                (true, _, 1) => {
                    *seen.0.lock().unwrap() -= 1;
                    assert_eq!(
                        last,
                        "Output:\n[] True 0\nBudgetExceeded no level of child sessions is left (`max-depth`)"
                    );
                    "```python\nFINAL(context.count('nothing'))\n```".into()
                }
                (_, true, 0) => "```python\nFINAL(sum(map(int, str(context).split())))\n```".into(),
                _ => unreachable!("{question} {step}"),
            }
        },
        |_| unreachable!(),
    );
    let context = Context::builder().text("hay.txt", haystack(4000, 5000)).build().unwrap();
    let events = Events::default();
    let outcome = ask(&kernel, |rlm| rlm.context(context).trajectory(Trajectory::to(events.clone())));
    assert_eq!(outcome.answer.as_deref(), Some("4000"), "{outcome:?}");
    // All are counted in the run.
    assert!(outcome.usage.models["root"].calls >= 10);
    let events = events.all();
    let nodes: Vec<(&str, u32)> = events
        .iter()
        .filter_map(|event| match event {
            Event::Node { node, depth, .. } => Some((node.as_str(), *depth)),
            _ => None,
        })
        .collect();
    assert_eq!(nodes[0], ("0", 0));
    assert!(nodes.len() >= 6 && nodes[1..].iter().all(|(node, depth)| node.starts_with("0.") && *depth == 1));
    let calls = events.iter().filter(|event| matches!(event, Event::Call { .. })).count();
    let returned = events.iter().filter(|event| matches!(event, Event::Returned { .. })).count();
    assert_eq!((calls, returned), (nodes.len() - 1, nodes.len() - 1));
}

#[test]
fn a_tree_of_depth_two_shares_one_budget() {
    let kernel = with(
        |step, _, request| {
            let question = &request.messages[0].content;
            let level = question.matches('>').count();
            match (level, step) {
                (0, 0) => "```python\nFINAL(rlm('>') + rlm('>'))\n```".into(),
                (1, 0) => "```python\nFINAL(rlm('>>') + rlm_query('>>'))\n```".into(),
                // The deepest asks a model in place of a session.
                (2, 0) => "```python\nFINAL(rlm_query('ask'))\n```".into(),
                _ => unreachable!("{question}"),
            }
        },
        |_| "x".into(),
    );
    let budget = limits(|limits| (limits.depth, limits.calls) = (Some(2), Some(100)));
    let outcome = ask(&kernel, |rlm| rlm.budget(budget.clone()));
    assert_eq!(outcome.answer.as_deref(), Some("xxxx"), "{outcome:?}");
    assert_eq!((outcome.usage.models["root"].calls, outcome.usage.models["sub"].calls), (7, 4));
    assert_eq!(budget.usage().total().calls, 11);
    assert_eq!(budget.in_flight(), 0);
}

#[test]
fn a_child_that_runs_out_gives_its_best_and_its_parent_goes_on() {
    let kernel = with(
        |step, last, request| {
            let child = request.messages[0].content.starts_with("Question: Dig");
            match (child, step) {
                (_, _) if last.contains("No more steps") => "half dug".into(),
                (true, _) => "```python\nprint('digging')\n```".into(),
                (false, 0) => "```python\nr = rlm('Dig', max_calls=4)\nprint(r, r.stop)\ntry:\n    rlm('Dig', max_calls=0)\nexcept Exception as error:\n    print(type(error).__name__)\n```".into(),
                (false, _) => {
                    assert_eq!(last, "Output:\nhalf dug limit\nRLMError");
                    "FINAL(done)".into()
                }
            }
        },
        |_| unreachable!(),
    );
    let outcome = ask(&kernel, |rlm| rlm);
    assert_eq!(outcome.answer.as_deref(), Some("done"), "{outcome:?}");
}

#[test]
fn hostile_requests_for_children_are_refused() {
    let kernel = with(
        |step, last, _| match step {
            0 => "```python
from agentkernel import _calls
def tried(head, tail=b''):
    try:
        _calls.call(0xFF000300, head, tail)
    except _calls.Failure as error:
        print(error.value.kind)
tried(b'')
tried(b'{}')
tried(b'{\"question\": 5}', b'abc')
tried(b'{\"question\": 1, \"context\": [{\"text\": 99999999999}]}', b'abc')
tried(b'{\"question\": 1, \"context\": [{\"view\": \"zz\"}]}', b'abc')
tried(b'{\"question\": 1, \"context\": [{\"view\": \"' + b'ff' * 24 + b'\"}]}', b'abc')
tried(b'{\"question\": 1, \"time\": -1}', b'abc')
tried(b'{\"question\": 1, \"cost\": -1e308, \"tokens\": 18446744073709551615, \"calls\": 0}', b'abc')
tried(b'{\"question\": 2}', b'\\xff\\xfe')
tried(b'{\"question\": 1, \"model\": \"other\"}', b'abc')
for number in (1, 2, 255):
    try:
        _calls.call(0xFF000300 + number, b'', b'')
    except _calls.Failure as error:
        print(error.value.kind)
```"
            .into(),
            1 => {
                let kinds: Vec<&str> = last.trim_start_matches("Output:\n").lines().collect();
                assert_eq!(
                    kinds,
                    [
                        "arguments",
                        "arguments",
                        "arguments",
                        "arguments",
                        "value",
                        "value",
                        "value",
                        "rlm",
                        "arguments",
                        "value",
                        "unknown",
                        "unknown",
                        "unknown"
                    ]
                );
                "FINAL(ok)".into()
            }
            _ => unreachable!(),
        },
        |_| unreachable!(),
    );
    let outcome = ask(&kernel, |rlm| rlm);
    assert_eq!(outcome.answer.as_deref(), Some("ok"), "{outcome:?}");
}

#[test]
fn an_answer_that_cannot_be_taken_is_told() {
    let kernel = with(
        |step, last, _| match step {
            0 => "```python\nFINAL('x' * 1_000_001)\n```".into(),
            1 => {
                assert!(
                    last.contains("an answer may have 1,000,000 characters, and this one has 1,000,001"),
                    "{last}"
                );
                "```python\nclass A:\n    def __str__(self): raise SystemExit\nanswer['content'] = A()\nanswer['ready'] = True\n```".into()
            }
            2 => {
                assert!(last.ends_with("its content has no text: SystemExit"), "{last}");
                "```python\nclass A:\n    def __str__(self):\n        while True: pass\nFINAL(A())\n```"
                    .into()
            }
            3 => {
                let owned = kernel().info().host_owned_memory;
                let said = if owned { "it could not be read" } else { "all variables are lost" };
                assert!(last.contains(said), "{last}");
                "```python\nFINAL('a\\udc80b')\n```".into()
            }
            _ => unreachable!(),
        },
        |_| unreachable!(),
    );
    let mut grants = agentkernel::Grants::default();
    grants.limits.timeout = Some(Duration::from_millis(700));
    let outcome = ask(&kernel, |rlm| rlm.grants(grants));
    assert_eq!(outcome.answer.as_deref(), Some("a?b"), "{outcome:?}");
}

#[test]
fn a_provider_that_fails_late_leaves_what_is_known() {
    let answering = Answering::new(|request: &ModelRequest| match request.messages.len() {
        1 => Ok("```python\nanswer['content'] = '42 so far'\n```".into()),
        _ => Err(agentkernel::llm::ProviderError::new("the prompt is too long")),
    });
    let kernel = builder().llm(Llm::new("root", answering)).build().unwrap();
    let outcome = ask(&kernel, |rlm| rlm);
    assert_eq!((outcome.answer.as_deref(), outcome.best_effort), (Some("42 so far"), true));
    assert_eq!(
        (outcome.ending, outcome.message.as_deref()),
        (RunEnding::Failed, Some("the prompt is too long"))
    );
}

#[test]
fn texts_that_the_host_reads_for_calls_are_bounded() {
    let kernel = with(
        |step, last, _| match step {
            0 => "```python
import asyncio
part = context.view(0, 12_000_000)
async def main():
    # Together they would be far more than calls may hold: they wait for each other.
    return await asyncio.gather(*(ask_llm_async('n', context=part) for _ in range(40)))
replies = asyncio.run(main())
replies += ask_llm_batch(['n'] * 40, context=part)
try:
    ask_llm('n', context=context)
except ValueError as error:
    print(error)
FINAL(len([reply for reply in replies if reply == 'yes']))
```"
            .into(),
            _ => panic!("{last}"),
        },
        |_| "yes".into(),
    );
    let context = Context::builder().text("a", "x".repeat(20_000_000)).build().unwrap();
    let outcome = ask(&kernel, |rlm| rlm.context(context).budget(Budget::new(LlmLimits::none())));
    assert_eq!(outcome.answer.as_deref(), Some("80"), "{outcome:?}");
}
