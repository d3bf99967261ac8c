//! Runs that answer a question, with all their sessions.

use std::time::Duration;

use agentkernel::llm::{Llm, ModelRequest};
use agentkernel::rlm::{Rlm, RlmBuilder};
use agentkernel::{ErrorKind, Kernel, Recording, Replaying};
use agentkernel_tests::Answering;

use super::{Cassette, silent, with};

fn rlm(
    kernel: &Kernel,
    configure: impl FnOnce(RlmBuilder) -> RlmBuilder,
) -> agentkernel::Result<agentkernel::rlm::RlmOutcome> {
    configure(Rlm::builder(kernel)).build().unwrap().ask_blocking("Which is it?")
}

#[test]
fn a_run_with_children_is_replayed_as_a_whole() {
    let root = "```python
import asyncio, time, random
print(random.random(), time.time(), budget().calls)
async def child(n):
    answer = await rlm_async(f'Child {n}?')
    print(n, answer, time.monotonic())
    return str(answer)
async def all():
    return await asyncio.gather(*(child(n) for n in range(6)))
answers = asyncio.run(all())
```";
    let model = move |request: &ModelRequest| {
        let step = request.messages.len() / 2;
        let first = &request.messages[0].content;
        Ok(match (first.split("Child ").nth(1), step) {
            (None, 0) => root.to_owned(),
            (None, _) => "```python\nFINAL(' '.join(answers) + f' {random.random()}')\n```".to_owned(),
            (Some(_), 0) => {
                "```python\nimport random\nx = random.random()\nprint(x, ask_llm('a question'))\n```"
                    .to_owned()
            }
            (Some(n), _) => format!(
                "```python\nimport time\ntime.sleep(random.random() / 20)\nFINAL(f'{} {{x}} {{time.time()}}')\n```",
                &n[..1]
            ),
        })
    };
    let cassette = Cassette::new();
    let mut answering = Answering::new(model);
    answering.delay = Duration::from_millis(5);
    let kernel = with(Llm::new("m", answering));
    let recording = Recording::create(&cassette.path).unwrap();
    let recorded = rlm(&kernel, |rlm| rlm.record(&recording)).unwrap();
    recording.finish().unwrap();
    assert!(recorded.answer.is_some(), "{recorded:?}");
    assert!(recorded.usage.total().calls >= 20, "{recorded:?}");
    for _ in 0..3 {
        let replaying = Replaying::open(&cassette.path).unwrap();
        let kernel = with(replaying.llm().unwrap());
        let replayed = rlm(&kernel, |rlm| rlm.replay(&replaying)).unwrap();
        replaying.finish().unwrap();
        assert_eq!(recorded.answer, replayed.answer);
        assert_eq!(recorded.usage, replayed.usage);
        assert_eq!((recorded.iterations, recorded.ending), (replayed.iterations, replayed.ending));
    }
    // A child whose model says something else.
    cassette.change(|line| line.replace("x = random.random()", "x = random.random() + 1"));
    let replaying = Replaying::open(&cassette.path).unwrap();
    let error = rlm(&kernel, |rlm| rlm.replay(&replaying)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Replay);
    assert!(error.to_string().contains("session 0."), "{error}");
}

#[test]
fn a_run_that_reached_a_limit_reaches_it_again() {
    let model = |request: &ModelRequest| {
        Ok(match request.messages.last().unwrap().content.contains("limit") {
            true => "the best I know".into(),
            false => "```python\nprint(budget().calls, 'x' * 100)\n```".to_owned(),
        })
    };
    let kernel = with(Llm::new("m", Answering::new(model)));
    let cassette = Cassette::new();
    let recording = Recording::create(&cassette.path).unwrap();
    let recorded = rlm(&kernel, |rlm| rlm.max_iterations(3).record(&recording)).unwrap();
    drop(recording);
    assert!(recorded.best_effort && recorded.answer.is_some(), "{recorded:?}");
    let replaying = Replaying::open(&cassette.path).unwrap();
    let replayed =
        rlm(&with(Llm::new("m", silent())), |rlm| rlm.max_iterations(3).replay(&replaying)).unwrap();
    replaying.finish().unwrap();
    assert_eq!((recorded.answer, recorded.message), (replayed.answer, replayed.message));
}
