//! Agents: tasks on real files with real tools, conversations, limits, interruptions.

#[path = "agent/discovery.rs"]
mod discovery;
#[path = "agent/files.rs"]
mod files;
#[path = "agent/hostile.rs"]
mod hostile;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentkernel::agent::{Agent, AgentBuilder, AgentEvent, AgentOutcome, AgentTask};
use agentkernel::llm::{Budget, Dollars, Llm, LlmLimits, ModelRequest, Price, Prices};
use agentkernel::rlm::{Record, RunEnding, Trajectory, view};
use agentkernel::{Access, Context, Kernel, KernelBuilder, Limits, Skills, State, Tool, ToolGrants};
use agentkernel_tests::{Answering, builder};

/// A model that a function is: it gets what was said last and the whole request.
fn model(reply: impl Fn(&str, &ModelRequest) -> String + Send + Sync + 'static) -> Llm {
    let answering = Answering::new(move |request: &ModelRequest| {
        Ok(match request.model.as_str() {
            "root" => reply(&request.messages.last().unwrap().content, request),
            _ => format!("re: {}", request.messages.last().unwrap().content),
        })
    });
    Llm::new("root", answering).sub_model("sub")
}

/// A kernel with such a model.
fn kernel_with(reply: impl Fn(&str, &ModelRequest) -> String + Send + Sync + 'static) -> Kernel {
    builder().llm(model(reply)).build().unwrap()
}

fn python(code: &str) -> String {
    format!("I do this.\n```python\n{code}\n```")
}

/// A kernel whose model says these things, one after another.
fn says(replies: &[&str]) -> Kernel {
    let replies = Mutex::new(replies.iter().map(|reply| (*reply).to_owned()).collect::<Vec<_>>().into_iter());
    kernel_with(move |_, _| replies.lock().unwrap().next().expect("the model is not asked again"))
}

fn agent(kernel: &Kernel, configure: impl FnOnce(AgentBuilder) -> AgentBuilder) -> Agent {
    configure(Agent::builder(kernel)).build().unwrap()
}

#[track_caller]
fn answered(outcome: &AgentOutcome) -> &str {
    assert_eq!((outcome.ending, outcome.best_effort), (RunEnding::Answered, false), "{outcome:?}");
    outcome.answer.as_deref().unwrap()
}

fn shipped(name: &str) -> Tool {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tools/prebuilt/{name}.wasm"));
    Tool::new(name, file).grants(ToolGrants::workspace(Access::ReadWrite))
}

#[test]
fn a_task_on_real_files_uses_two_tools_and_leaves_an_artefact() {
    let directory = tempfile::tempdir().unwrap();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/data/sales.csv");
    std::fs::copy(&data, directory.path().join("sales.csv")).unwrap();
    // What the answer has to be, computed without any of what is tested.
    let text = std::fs::read_to_string(&data).unwrap();
    let rows = text.lines().skip(1).map(|line| line.split(',').collect::<Vec<_>>());
    let mut cities = std::collections::BTreeMap::<String, u64>::new();
    for row in rows {
        *cities.entry(row[1].to_owned()).or_default() += row[3].parse::<u64>().unwrap();
    }
    let (best, units) = cities.iter().max_by_key(|(_, units)| **units).unwrap();

    let llm = model(|last, request| match request.messages.len() {
        1 => {
            assert!(last.starts_with("Task: Which city sold most"), "{last}");
            let system = request.system.as_deref().unwrap();
            assert!(system.contains("- plot: ") && system.contains("- sql: "), "{system}");
            assert!(!system.contains("def query"), "{system}");
            python("import os, tools\nprint(os.listdir())\nprint(tools.search('query a CSV file with SQL'))")
        }
        3 => {
            assert!(last.contains("['sales.csv']") && last.contains("sql.query"), "{last}");
            python("print(tools.describe('sql.query'))\nprint(tools.describe('plot'))")
        }
        5 => {
            assert!(last.contains("def query(") && last.contains("plot.Chart"), "{last}");
            python(
                "from tools.sql import query\nrows = query('SELECT city, sum(units) AS units FROM sales GROUP BY city ORDER BY units DESC', ['sales.csv'])\nprint(rows[0])",
            )
        }
        7 => python(
            "from tools.plot import Chart\nchart = Chart('Units', 'city', 'units')\nchart.line(list(range(len(rows))), [float(row['units']) for row in rows])\nchart.save('units.png')\nFINAL(f\"{rows[0]['city']}: {rows[0]['units']}; see units.png\")",
        ),
        _ => unreachable!("{request:?}"),
    });
    let kernel = builder().llm(llm).tool(shipped("sql")).tool(shipped("plot")).build().unwrap();
    let mut agent = agent(&kernel, |agent| agent.workspace(directory.path()));
    let outcome = agent.execute_task_blocking("Which city sold most? Draw a chart of all.").unwrap();
    assert_eq!(answered(&outcome), format!("{best}: {units}; see units.png"));
    assert_eq!((outcome.iterations, outcome.log.len(), outcome.applied), (4, 4, true));
    assert_eq!(outcome.log[2].blocks[0].ending, "completed");
    assert!(outcome.log[2].blocks[0].output.contains(best.as_str()), "{:?}", outcome.log);
    let [chart] = &outcome.artefacts[..] else { panic!("{outcome:?}") };
    let png = std::fs::read(directory.path().join("units.png")).unwrap();
    assert_eq!((chart.path.as_str(), chart.bytes, chart.is_new), ("units.png", png.len() as u64, true));
    assert!(png.starts_with(b"\x89PNG"));
    assert_eq!(outcome.usage.total().calls, 4);
}

#[test]
fn a_conversation_goes_on_with_its_variables_and_words() {
    let kernel = kernel_with(|last, request| match last {
        "Task: Count to three." => python("rows = [1, 2, 3]\nFINAL(len(rows) * 111)"),
        last if last.ends_with("Task: And now?") => {
            // What was answered, though the model never saw it printed.
            assert!(last.starts_with("The user was given this answer:\n333\n\n"), "{last}");
            assert_eq!(request.messages.len(), 3);
            assert!(request.messages[1].content.contains("rows = [1, 2, 3]"));
            python("assert answer == {'content': '', 'ready': False}, answer\nFINAL(rows)")
        }
        last if last.ends_with("Task: What did I run?") => {
            assert!(last.contains("The user ran this in your session:\n```python\nrows.append(4)\nrows\n```\nOutput:\n[1, 2, 3, 4]"), "{last}");
            assert!(last.contains("ZeroDivisionError"), "{last}");
            "FINAL(You appended 4.)".into()
        }
        last => panic!("{last}"),
    });
    let mut agent = agent(&kernel, |agent| agent);
    assert_eq!(answered(&agent.execute_task_blocking("Count to three.").unwrap()), "333");
    assert_eq!(answered(&agent.execute_task_blocking("And now?".to_owned()).unwrap()), "[1, 2, 3]");
    let outcome = agent.execute_task_blocking(AgentTask::code("rows.append(4)\nrows")).unwrap();
    assert_eq!((answered(&outcome), outcome.iterations), ("[1, 2, 3, 4]", 1));
    assert_eq!(outcome.usage.total().calls, 0);
    assert_eq!((outcome.log.len(), outcome.log[0].reply.as_str()), (1, ""));
    let outcome = agent.execute_task_blocking(AgentTask::code("1 / 0")).unwrap();
    assert_eq!((outcome.ending, &outcome.answer), (RunEnding::Failed, &None));
    assert_eq!(outcome.message.as_deref(), Some("ZeroDivisionError: division by zero"));
    let outcome = agent.execute_task_blocking(AgentTask::code("FINAL('by code')")).unwrap();
    assert_eq!(answered(&outcome), "by code");
    assert_eq!(answered(&agent.execute_task_blocking("What did I run?").unwrap()), "You appended 4.");
    assert_eq!(agent.budget().usage().total().calls, 3);
}

#[test]
fn a_long_conversation_stays_within_its_limit() {
    let kernel = kernel_with(|last, request| {
        let bytes: usize = request.messages.iter().map(|message| message.content.len()).sum();
        assert!(bytes < 30_000, "{bytes}");
        match last.starts_with("Output:") {
            false => python("print('x' * 5000)"),
            true => "FINAL(done)".into(),
        }
    });
    let mut agent = agent(&kernel, |agent| agent.max_history(20_000));
    for number in 0..60 {
        assert_eq!(answered(&agent.execute_task_blocking(format!("Task {number}")).unwrap()), "done");
    }
}

#[test]
fn limits_of_steps_calls_tokens_and_cost_end_in_what_is_known() {
    let last = |last: &str| last.contains("No more steps can be made").then(|| "Perhaps 3.".to_owned());
    let kernel = || kernel_with(move |said, _| last(said).unwrap_or_else(|| python("print('on' * 500)")));
    let limited = |change: &dyn Fn(&mut LlmLimits)| {
        let mut limits = LlmLimits::none();
        change(&mut limits);
        Budget::new(limits)
    };
    let ended = |mut agent: Agent, reason: &str, calls| {
        let outcome = agent.execute_task_blocking("Go on for ever.").unwrap();
        assert_eq!((outcome.ending, outcome.best_effort), (RunEnding::Limit, true), "{outcome:?}");
        assert_eq!(outcome.answer.as_deref(), Some("Perhaps 3."), "{outcome:?}");
        assert!(outcome.message.as_ref().unwrap().contains(reason), "{outcome:?}");
        if let Some(calls) = calls {
            assert_eq!(outcome.usage.total().calls, calls);
        }
        assert!(outcome.iterations > 1, "{outcome:?}");
        outcome
    };
    ended(agent(&kernel(), |agent| agent.max_steps(3)), "as many steps were made as may be (3)", Some(4));
    let calls = limited(&|limits| limits.calls = Some(4));
    ended(agent(&kernel(), |agent| agent.budget(calls)), "max-calls", Some(4));
    let tokens = limited(&|limits| limits.tokens = Some(40_000));
    let outcome = ended(agent(&kernel(), |agent| agent.budget(tokens)), "max-tokens", None);
    let used = outcome.usage.total();
    assert!(used.input_tokens + used.output_tokens <= 40_000, "{used:?}");
    let mut prices = Prices::default();
    prices.set("root", Price { input: 100.0, output: 100.0 }).unwrap();
    let priced =
        model(move |said, _| last(said).unwrap_or_else(|| python("print('on' * 500)"))).prices(prices);
    let priced = builder().llm(priced).build().unwrap();
    let cost = limited(&|limits| limits.cost = Some(Dollars::new(4.0)));
    let outcome = ended(agent(&priced, |agent| agent.budget(cost)), "max-cost", None);
    assert!(outcome.usage.total().cost.unwrap() <= Dollars::new(4.0), "{outcome:?}");
    let failing = kernel_with(move |said, _| last(said).unwrap_or_else(|| python("1 / 0")));
    let outcome = ended(agent(&failing, |agent| agent.max_errors(2)), "2 steps in a row failed", Some(3));
    assert_eq!(outcome.log[0].blocks[0].ending, "raised");
}

#[test]
fn the_time_of_a_task_ends_its_code_and_not_the_session() {
    let kernel = kernel_with(|last, _| match last {
        last if last.ends_with("Task: Sleep.") => {
            python("x = 1\nimport time\ntry:\n    time.sleep(600)\nfinally:\n    x = 2")
        }
        last if last.contains("No more steps can be made") => "I slept.".into(),
        last if last.ends_with("Task: Which?") => {
            assert!(last.contains("Your work on that ended before it was done"), "{last}");
            python("FINAL(x)")
        }
        last => panic!("{last}"),
    });
    let mut agent = agent(&kernel, |agent| agent.max_time(Duration::from_secs(5)));
    // The session is there when the time begins.
    answered(&agent.execute_task_blocking(AgentTask::code("0")).unwrap());
    let outcome = agent.execute_task_blocking("Sleep.").unwrap();
    assert_eq!(
        (outcome.ending, outcome.answer.as_deref()),
        (RunEnding::Limit, Some("I slept.")),
        "{outcome:?}"
    );
    assert!(outcome.message.unwrap().contains("time"));
    // Each task has its own, and the program's `finally` has run.
    if kernel.info().host_owned_memory {
        assert_eq!(answered(&agent.execute_task_blocking("Which?").unwrap()), "2");
    }
}

#[test]
fn an_interrupt_ends_the_task_and_keeps_the_session() {
    let kernel = kernel_with(|last, _| match last {
        "Task: Compute." => python("x = 41\nprint('running')\nwhile True:\n    pass"),
        "Task: Stubborn." | "Task: Again." => unreachable!("notes come first"),
        last if last.ends_with("Task: Stubborn.") => {
            assert!(last.contains("The user interrupted your work on that"), "{last}");
            python(
                "y = 0\nprint('running')\nwhile True:\n    try:\n        while True: y += 1\n    except BaseException: pass",
            )
        }
        last if last.ends_with("Task: Again.") => python("FINAL(x + 1)"),
        last => panic!("{last}"),
    });
    let interrupter = Arc::new(Mutex::new(None::<agentkernel::agent::Interrupter>));
    let heard = Arc::clone(&interrupter);
    let mut agent = agent(&kernel, |agent| {
        agent.on_event(move |event| {
            if let AgentEvent::Output(_, bytes) = event
                && bytes.starts_with(b"running")
            {
                heard.lock().unwrap().as_ref().unwrap().interrupt();
            }
        })
    });
    *interrupter.lock().unwrap() = Some(agent.interrupter());
    for task in ["Compute.", "Stubborn."] {
        let outcome = agent.execute_task_blocking(task).unwrap();
        assert_eq!(outcome.ending, RunEnding::Interrupted, "{outcome:?}");
        assert_eq!(outcome.log[0].blocks[0].ending, "cancelled");
    }
    if kernel.info().host_owned_memory {
        assert_eq!(answered(&agent.execute_task_blocking("Again.").unwrap()), "42");
    }
}

#[test]
fn an_interrupt_does_not_wait_for_a_model() {
    let mut answering = Answering::new(|_| Ok("FINAL(late)".into()));
    answering.delay = Duration::from_secs(600);
    let kernel = builder().llm(Llm::new("root", answering)).build().unwrap();
    let mut agent = agent(&kernel, |agent| agent);
    let interrupter = agent.interrupter();
    let ended = Arc::new(AtomicBool::new(false));
    let has_ended = Arc::clone(&ended);
    let interrupting = std::thread::spawn(move || {
        // One that comes before the task does nothing.
        while !has_ended.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(100));
            interrupter.interrupt();
        }
    });
    let outcome = agent.execute_task_blocking("Wait.").unwrap();
    ended.store(true, Ordering::SeqCst);
    interrupting.join().unwrap();
    assert_eq!((outcome.ending, outcome.answer), (RunEnding::Interrupted, None));
}

#[tokio::test]
async fn a_task_that_is_dropped_ends_the_session_and_the_next_one_is_told() {
    let kernel = kernel_with(|last, _| match last {
        "Task: Hang." => python("x = 1\nwhile True: pass"),
        last if last.ends_with("Task: Go on.") => python("FINAL('x' in globals())"),
        last => panic!("{last}"),
    });
    let mut agent = agent(&kernel, |agent| agent);
    let hanging = tokio::time::timeout(Duration::from_secs(1), agent.execute_task("Hang."));
    assert!(hanging.await.is_err());
    let outcome = agent.execute_task("Go on.").await.unwrap();
    assert_eq!(answered(&outcome), "False");
}

#[test]
fn what_is_said_and_written_is_seen_as_it_comes() {
    let kernel = says(&[
        "I print.\n```python\nprint('one')\nimport sys\nprint('two', file=sys.stderr)\n```",
        "FINAL(ok)",
    ]);
    let seen = Arc::new(Mutex::new(String::new()));
    let sees = Arc::clone(&seen);
    let mut agent = agent(&kernel, |agent| {
        agent.on_event(move |event| {
            let mut seen = sees.lock().unwrap();
            match event {
                AgentEvent::Text(piece) => *seen += piece,
                AgentEvent::Output(stream, bytes) => {
                    *seen += &format!("<{stream:?} {}>", String::from_utf8_lossy(bytes).trim_end());
                }
                AgentEvent::Event(event) => {
                    let name = serde_json::to_value(event).unwrap()["event"].as_str().unwrap().to_owned();
                    *seen += &format!("[{name}]");
                }
                _ => {}
            }
        })
    });
    answered(&agent.execute_task_blocking("Print.").unwrap());
    assert_eq!(
        seen.lock().unwrap().replace('\n', " "),
        "[start][node][prompt]I print. ```python print('one') import sys print('two', file=sys.stderr) ```[reply][code]<Stdout one><Stderr two>[output][prompt]FINAL(ok)[reply][answer]"
    );
}

#[test]
fn programs_have_the_context_children_skills_and_state() {
    let directory = tempfile::tempdir().unwrap();
    let skills = directory.path().join("skills");
    std::fs::create_dir(&skills).unwrap();
    let llm = model(|last, request| {
        let system = request.system.as_deref().unwrap();
        match last {
            last if last.starts_with("Question: ") => {
                assert!(
                    !system.contains("skills") && !system.contains("agentkernel import state"),
                    "{system}"
                );
                "FINAL(from a child)".into()
            }
            _ => {
                for part in ["skills.search", "skills.save", "from agentkernel import state", "`context`"] {
                    assert!(system.contains(part), "{part}: {system}");
                }
                python(
                    "from agentkernel import skills, state\nskills.save('twice', 'def twice(n): return 2 * n', 'Doubles')\nfrom skills.twice import twice\nstate['n'] = twice(21)\nFINAL([len(context), llm_query('hi'), rlm('Who?'), state['n']])",
                )
            }
        }
    });
    let kernel = builder()
        .llm(llm)
        .skills(Skills::open_writable(&skills).unwrap())
        .state(State::open(directory.path().join("state.db")).unwrap())
        .build()
        .unwrap();
    let context = Context::builder().bytes("data", b"12345".to_vec()).build().unwrap();
    let outcome = agent(&kernel, |agent| agent.context(context)).execute_task_blocking("Do.").unwrap();
    assert_eq!(answered(&outcome), "[5, 're: hi', 'from a child', 42]");
    assert_eq!(outcome.usage.models["sub"].calls, 1);
    // A question is told of them as well.
    let kernel = KernelBuilder::default();
    let kernel = kernel.skills(Skills::open(&skills).unwrap()).llm(model(|_, request| {
        let system = request.system.as_deref().unwrap();
        assert!(system.contains("skills.search") && !system.contains("skills.save"), "{system}");
        "FINAL(1)".into()
    }));
    let rlm = agentkernel::rlm::Rlm::builder(&kernel.build().unwrap()).build().unwrap();
    assert_eq!(rlm.ask_blocking("Why?").unwrap().answer.as_deref(), Some("1"));
}

#[test]
fn a_conversation_leaves_one_trajectory_that_can_be_viewed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("run.jsonl");
    let kernel = says(&["```python\nx = 1\n```", "FINAL(a)", "```python\nFINAL(x)\n```"]);
    let trajectory = Trajectory::create(&file).unwrap();
    let mut agent = agent(&kernel, |agent| agent.trajectory(trajectory));
    answered(&agent.execute_task_blocking("One.").unwrap());
    answered(&agent.execute_task_blocking("Two.").unwrap());
    agent.finish().unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    let names: Vec<String> = text
        .lines()
        .map(|line| {
            serde_json::from_str::<Record>(line).unwrap();
            serde_json::from_str::<serde_json::Value>(line).unwrap()["event"].as_str().unwrap().to_owned()
        })
        .collect();
    let step = ["prompt", "reply"];
    let expected: Vec<&str> = ["start", "node"]
        .into_iter()
        .chain(step)
        .chain(["code", "output"])
        .chain(step)
        .chain(["answer"])
        .chain(step)
        .chain(["code", "output", "answer", "end"])
        .collect();
    assert_eq!(names, expected);
    let mut page = Vec::new();
    let viewed = view(text.as_bytes(), &mut page).unwrap();
    assert_eq!((viewed.events, viewed.problems), (expected.len() as u64, 0));
}

#[test]
fn what_makes_no_sense_is_an_error() {
    let kernel = says(&[]);
    let mut agent = agent(&kernel, |agent| agent);
    for task in [AgentTask::text("  "), AgentTask::code("\n"), AgentTask::text("x".repeat((1 << 20) + 1))] {
        let error = agent.execute_task_blocking(task).unwrap_err();
        assert_eq!(error.kind(), agentkernel::ErrorKind::Grant);
        assert!(error.remedy().is_some());
    }
    let without = builder().build().unwrap();
    let error = Agent::builder(&without).build().map(drop).unwrap_err();
    assert!(error.to_string().contains("no model"), "{error}");
    let error = Agent::builder(&kernel).workspace("/absent").build().map(drop).unwrap_err();
    assert!(error.to_string().contains("/absent"), "{error}");
    let error = Agent::from_environment(|_| None).map(drop).unwrap_err();
    assert!(error.remedy().unwrap().contains("AGENTKERNEL_LLM_MODEL"), "{error}");
}

/// Limits that are reached soon.
fn tight() -> Limits {
    let mut limits = agentkernel_tests::limits();
    limits.timeout = Some(Duration::from_secs(2));
    limits.memory_bytes = 96 << 20;
    limits
}
