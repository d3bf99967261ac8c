//! Spans: what there is of them, below which others, and what they do not say.

use agentkernel::llm::{Llm, ModelRequest, ProviderError};
use agentkernel::rlm::Rlm;
use agentkernel::task::{Task, TaskState, Tasks};
use agentkernel::{Kernel, Session, Tool, Turn};
use agentkernel_tests::{Answering, builder};

use crate::heard::{at, below, one};

/// What programs, prompts, answers and tools say here, and no span may.
const SECRET: &str = "xyzzy";

fn answering() -> Answering {
    Answering::new(|request: &ModelRequest| match request.messages[0].content.as_str() {
        "fail xyzzy" => Err(ProviderError::new("no xyzzy")),
        prompt => Ok(format!("re: {prompt}")),
    })
}

fn tools() -> Tool {
    let wit = "
        greet: func(name: string) -> result<string, string>;
        later: async func(name: string) -> string;
    ";
    Tool::functions("people", wit)
        .function("greet", |(name,): (String,)| match name.as_str() {
            "nobody xyzzy" => Err("who is xyzzy?".to_owned()),
            name => Ok(format!("hello {name}")),
        })
        .async_function("later", |(name,): (String,)| async move { format!("later {name}") })
}

fn kernel(trace_content: bool) -> Kernel {
    let llm = Llm::new("house", answering()).sub_model("small");
    builder().llm(llm).tool(tools()).trace_content(trace_content).build().unwrap()
}

fn run(session: &mut Session, code: &str) {
    let outcome = session.run_blocking(code).unwrap();
    assert_eq!(outcome.ending.name(), "completed", "{:?}", outcome.ending);
}

const ALL: &str = "
import asyncio
from agentkernel import ask_llm, ask_llm_async, ask_llm_batch, ProviderError
from tools import people
print('xyzzy')
people.greet('xyzzy')
try:
    people.greet('nobody xyzzy')
except Exception:
    pass
ask_llm('xyzzy?', system='be xyzzy')
try:
    ask_llm('fail xyzzy')
except ProviderError:
    pass
try:
    ask_llm('?', model='xyzzy')
except ValueError:
    pass
ask_llm_batch(['one xyzzy', 'two xyzzy'])

async def both():
    await asyncio.gather(people.aio.later('xyzzy') if hasattr(people, 'aio') else people.later('xyzzy'), ask_llm_async('xyzzy'))
await both()
";

#[test]
fn calls_lie_below_their_turn_and_say_no_text() {
    let heard = below(|_| {
        let mut session = kernel(false).session().start().unwrap();
        run(&mut session, ALL);
        let outcome = session.run_blocking("raise RuntimeError('xyzzy')").unwrap();
        assert_eq!(outcome.ending.name(), "raised");
    });
    assert!(at(&heard, "kernel build").len() == 1);
    let session = one(&heard, "session");
    assert_eq!(
        (session.get("agentkernel.session.start"), session.get("agentkernel.session.turns")),
        ("base", "2")
    );
    one(&heard, "session/session start");
    let turns = at(&heard, "session/turn");
    assert_eq!(turns.len(), 2);
    assert_eq!(turns[0].get("agentkernel.turn.ending"), "completed");
    assert_eq!(turns[0].get("otel.status_code"), "");
    assert_eq!(turns[1].get("agentkernel.turn.number"), "2");
    assert_eq!((turns[1].get("error.type"), turns[1].get("otel.status_code")), ("raised", "ERROR"));

    let tools = at(&heard, "session/turn/execute_tool");
    let outcomes: Vec<_> = tools
        .iter()
        .map(|tool| (tool.get("gen_ai.tool.name"), tool.get("agentkernel.tool.outcome")))
        .collect();
    assert_eq!(outcomes, [("people.greet", "ok"), ("people.greet", "error"), ("people.later", "ok")]);
    assert_eq!(tools[0].get("otel.name"), "execute_tool people.greet");
    assert_eq!(tools[0].get("gen_ai.operation.name"), "execute_tool");

    let chats = at(&heard, "session/turn/chat");
    let outcomes: Vec<_> = chats.iter().map(|chat| chat.get("agentkernel.llm.outcome")).collect();
    assert_eq!(outcomes, ["answered", "failed", "denied", "answered", "answered", "answered"]);
    let chat = chats[0];
    for (field, value) in [
        ("otel.name", "chat small"),
        ("otel.kind", "client"),
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "answering"),
        ("gen_ai.request.model", "small"),
        ("gen_ai.response.model", "small"),
        ("gen_ai.usage.input_tokens", "6"),
        ("gen_ai.usage.output_tokens", "10"),
        ("gen_ai.response.finish_reasons", "stop"),
        ("agentkernel.llm.cached", "false"),
        ("agentkernel.llm.hidden", "0"),
    ] {
        assert_eq!(chat.get(field), value, "{field}");
    }
    assert_eq!(chats[1].get("error.type"), "failed");
    assert_eq!((chats[2].get("otel.name"), chats[2].get("gen_ai.request.model")), ("chat other", ""));

    for (path, span) in &heard {
        assert!(span.closed, "{path}");
        for (field, value) in &span.fields {
            assert!(!value.contains(SECRET), "{path} {field}: {value}");
            assert!(!value.contains("RuntimeError") && !value.contains("ask_llm"), "{path} {field}: {value}");
        }
    }
}

#[test]
fn texts_are_there_where_they_are_asked_for() {
    let heard = below(|_| {
        let mut session = kernel(true).session().start().unwrap();
        run(&mut session, ALL);
        session.run_blocking("raise RuntimeError('xyzzy')").unwrap();
    });
    let turns = at(&heard, "session/turn");
    assert_eq!(turns[0].get("agentkernel.turn.code"), ALL);
    assert_eq!(turns[0].get("agentkernel.turn.output"), "xyzzy\n");
    assert!(turns[1].get("agentkernel.turn.exception").contains("RuntimeError: xyzzy"));
    let tools = at(&heard, "session/turn/execute_tool");
    assert_eq!(tools[0].get("gen_ai.tool.call.arguments"), r#"{"name":"xyzzy"}"#);
    assert_eq!(tools[0].get("gen_ai.tool.call.result"), "\"hello xyzzy\"");
    assert_eq!(tools[1].get("gen_ai.tool.call.result"), "\"who is xyzzy?\"");
    let chat = at(&heard, "session/turn/chat")[0];
    let json = |field| serde_json::from_str::<serde_json::Value>(chat.get(field)).unwrap();
    assert_eq!(json("gen_ai.system_instructions")[0]["content"], "be xyzzy");
    assert_eq!(json("gen_ai.input.messages")[0]["parts"][0]["content"], "xyzzy?");
    assert_eq!(json("gen_ai.output.messages")[0]["parts"][0]["content"], "re: xyzzy?");
}

#[test]
fn turns_on_other_threads_have_the_same_parents() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let heard = below(|test| {
        let kernel = kernel(false);
        let mut session = kernel.session().start().unwrap();
        let request = tracing::info_span!(target: "agentkernel", "request");
        let id = request.id().unwrap().into_u64();
        let _in_request = request.entered();
        runtime.block_on(session.run("from agentkernel import ask_llm\nask_llm('a')")).unwrap();
        assert_ne!(test.id().unwrap().into_u64(), id);
    });
    let turn = one(&heard, "session/turn");
    // Whoever asked for it is linked.
    assert_eq!(turn.follows.len(), 1);
    one(&heard, "session/turn/chat");
}

#[test]
fn a_turn_that_is_stopped_ends_its_calls() {
    let heard = below(|_| {
        let mut slow = answering();
        slow.delay = std::time::Duration::from_secs(60);
        let mut limits = agentkernel_tests::limits();
        limits.timeout = Some(std::time::Duration::from_millis(300));
        let kernel = builder().llm(Llm::new("house", slow)).build().unwrap();
        let mut session = kernel.session().limits(limits).start().unwrap();
        let outcome = session.run_blocking("from agentkernel import ask_llm\nask_llm('a')").unwrap();
        assert_eq!(outcome.ending.name(), "timed-out");
        assert_eq!(kernel.metrics().models["house"].calls["cancelled"], 1);
    });
    assert_eq!(one(&heard, "session/turn").get("error.type"), "timed-out");
    let chat = one(&heard, "session/turn/chat");
    assert_eq!((chat.get("error.type"), chat.closed), ("cancelled", true));
}

#[test]
fn children_of_a_run_lie_below_the_turn_that_started_them() {
    let heard = below(|_| {
        let root = Answering::new(|request: &ModelRequest| {
            let question =
                request.messages.iter().map(|message| message.content.as_str()).collect::<String>();
            Ok(match question.contains("xyzzy below") {
                true => "```python\nFINAL('four')\n```".to_owned(),
                false => {
                    "```python\nfrom agentkernel import rlm\nFINAL(str(rlm('xyzzy below')))\n```".to_owned()
                }
            })
        });
        let kernel = builder().llm(Llm::new("house", root)).build().unwrap();
        let outcome = Rlm::builder(&kernel).build().unwrap().ask_blocking("Why xyzzy?").unwrap();
        assert_eq!(outcome.answer.as_deref(), Some("four"), "{outcome:?}");
    });
    let root = one(&heard, "invoke_agent");
    assert_eq!(root.get("otel.name"), "invoke_agent rlm");
    assert_eq!((root.get("agentkernel.run.node"), root.get("agentkernel.run.ending")), ("0", "answered"));
    one(&heard, "invoke_agent/chat");
    let child = one(&heard, "invoke_agent/session/turn/invoke_agent");
    assert_eq!((child.get("agentkernel.run.node"), child.get("agentkernel.run.depth")), ("0.1", "1"));
    one(&heard, "invoke_agent/session/turn/invoke_agent/chat");
    assert!(!at(&heard, "invoke_agent/session/turn/invoke_agent/session/turn").is_empty());
    assert!(heard.iter().all(|(_, span)| span.fields.values().all(|value| !value.contains(SECRET))));
}

#[test]
fn tools_that_tools_call_lie_below_them() {
    let component = |text: &str| wat::parse_str(text).unwrap();
    let numbers = component(
        r#"(component
            (core module $m (func (export "double") (param i32) (result i32)
                (i32.mul (local.get 0) (i32.const 2))))
            (core instance $i (instantiate $m))
            (func $double (param "v" u32) (result u32) (canon lift (core func $i "double")))
            (instance $api (export "double" (func $double)))
            (export "a:b/numbers@1.0.0" (instance $api)))"#,
    );
    let user = component(
        r#"(component
            (import "a:b/numbers@1.0.0" (instance $n (export "double" (func (param "v" u32) (result u32)))))
            (core func $double (canon lower (func $n "double")))
            (core module $m
                (import "" "double" (func $double (param i32) (result i32)))
                (func (export "quadruple") (param i32) (result i32)
                    (call $double (call $double (local.get 0)))))
            (core instance $i (instantiate $m (with "" (instance (export "double" (func $double))))))
            (func (export "quadruple") (param "v" u32) (result u32) (canon lift (core func $i "quadruple"))))"#,
    );
    let heard = below(|_| {
        let tools = builder().tool(Tool::from_bytes("numbers", numbers)).tool(Tool::from_bytes("user", user));
        let kernel = tools.build().unwrap();
        let mut session = kernel.session().start().unwrap();
        run(
            &mut session,
            "from tools import user\nassert user.quadruple(3) == 12\nawait user.aio.quadruple(3)",
        );
        assert_eq!(kernel.metrics().tool_calls["numbers"]["ok"], 4);
        assert_eq!(kernel.metrics().tool_calls["user"]["ok"], 2);
    });
    assert_eq!(at(&heard, "session/turn/execute_tool").len(), 2);
    assert_eq!(at(&heard, "session/turn/execute_tool/execute_tool").len(), 4);
}

#[test]
fn images_forks_and_tasks_have_spans() {
    let heard = below(|test| {
        let kernel = builder().build().unwrap();
        if kernel.info().host_owned_memory {
            let image = kernel.image().prelude("x = 1").build().unwrap();
            let mut session = kernel.session().image(&image).start().unwrap();
            run(&mut session, "x");
            drop(session.fork().unwrap());
            let started = kernel.metrics().sessions_started;
            assert!(started["image"] == 1 && started["fork"] == 1, "{started:?}");
        }
        let directory = tempfile::tempdir().unwrap();
        let tasks = Tasks::open(directory.path().join("tasks.db")).unwrap();
        let worker = tasks.worker(&kernel).start().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let state = runtime.block_on(async {
            let id = tasks.dispatch(Task::new("'xyzzy'")).await.unwrap();
            tasks.wait(&id, Some(std::time::Duration::from_secs(60))).await.unwrap().state
        });
        assert_eq!(state, TaskState::Succeeded);
        worker.stop();
        assert_eq!(kernel.metrics().task_attempts["succeeded"], 1);
        assert_eq!(kernel.metrics().tasks_running, 0);
        let _ = (test, Turn::new(""));
    });
    if !at(&heard, "image build").is_empty() {
        let starts: Vec<_> =
            at(&heard, "session").iter().map(|session| session.get("agentkernel.session.start")).collect();
        assert_eq!(starts, ["image", "fork"]);
    }
    // A worker's thread is nobody's, so that its tasks are roots.
    assert!(heard.iter().all(|(path, _)| !path.starts_with("task")));
}
