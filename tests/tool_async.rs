//! Components that export `async func`s: awaited, gathered, cancelled, and those that never answer.

use std::time::{Duration, Instant};

use agentkernel::{Ending, ErrorKind, Session, Tool, ToolGrants};
use agentkernel_tests::{builder, limits, raised, repr};

fn component(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

fn waiting() -> Tool {
    Tool::from_bytes("waiting", component(include_str!("tools/composed/waiting.wat")))
}

fn session(tool: Tool) -> Session {
    let mut session = builder().tool(tool).build().unwrap().session().limits(limits()).start().unwrap();
    session.run_blocking("import asyncio, tools\nfrom tools import waiting as w").unwrap();
    session
}

#[track_caller]
fn error(session: &mut Session, code: &str) -> String {
    let outcome = session.run_blocking(code).unwrap();
    let (kind, message) = raised(&outcome);
    format!("{kind}: {message}")
}

#[test]
fn async_functions_are_coroutine_functions() {
    let mut session = session(waiting());
    for (code, expected) in [
        ("await w.text('é…')", "'é…'"),
        ("await w.text('')", "''"),
        ("await w.many(-3, 'abc', 1.5, -2**40)", "(-3, 'abc', 1.5, -1099511627776)"),
        ("await w.many(127, '', -0.0)", "(127, '', -0.0, None)"),
        ("await w.answer(False, 'fine')", "'fine'"),
        ("await w.row(tuple('abcdefgh') + (9,))", "('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 9)"),
        ("await w.later(500)", "500"),
        ("await w.linger()", "None"),
        ("w.plain(41)", "42"),
        ("await asyncio.gather(w.later(3), w.text('a'), w.sleep(5))", "[3, 'a', 5]"),
        ("asyncio.iscoroutinefunction(w.text), asyncio.iscoroutinefunction(w.plain)", "(True, False)"),
        ("await w.aio.plain(1)", "2"),
        ("await w.aio.text('b')", "'b'"),
        ("from tools._runtime import call_json\ncall_json('waiting.text', '[\"by name\"]')", "'\"by name\"'"),
    ] {
        assert_eq!(repr(&mut session, code), expected, "{code}");
    }
    assert!(error(&mut session, "await w.answer(True, 'xyz')").starts_with("tools.waiting.Error: 3"));
    assert!(error(&mut session, "await w.sleep(-1)").starts_with("OverflowError"));
    let described = repr(&mut session, "tools.describe('waiting.text')");
    assert!(described.starts_with("async def text(text: str) -> str"), "{described}");
}

#[test]
fn gathered_calls_overlap_in_instances_of_their_own() {
    let mut session = session(waiting());
    let begun = Instant::now();
    let expected = format!("{:?}", vec![300; 8]);
    assert_eq!(repr(&mut session, "await asyncio.gather(*(w.sleep(300) for _ in range(8)))"), expected);
    assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}", begun.elapsed());
    // One after another they find the same instance.
    assert_eq!(repr(&mut session, "await w.count(), await w.count()"), "(1, 2)");
}

#[test]
fn one_that_fails_harms_no_other() {
    let mut grants = ToolGrants::default();
    grants.limits.timeout = Some(Duration::from_millis(400));
    let mut session = session(waiting().grants(grants));
    let begun = Instant::now();
    let code = "
r = await asyncio.gather(w.fail(), w.spin(), w.dawdle(), w.hang(), w.forget(), w.sleep(100), w.later(9),
    w.sleep(60_000), return_exceptions=True)
[type(x).__name__ if isinstance(x, Exception) else x for x in r]";
    assert_eq!(
        repr(&mut session, code),
        "['ToolTrapped', 'ToolTimeout', 'ToolTimeout', 'ToolTrapped', 'ToolTrapped', 100, 9, 'ToolTimeout']"
    );
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(repr(&mut session, "str(r[1])").contains("waiting.spin was stopped at its time limit of 0.4 s"));
    assert_eq!(repr(&mut session, "await w.text('still here')"), "'still here'");
}

#[test]
fn a_cancelled_task_stops_its_tool() {
    let mut grants = ToolGrants::default();
    grants.limits.timeout = None;
    grants.limits.instances = 1;
    let mut session = session(waiting().grants(grants));
    for endless in ["spin", "dawdle"] {
        let code = format!(
            "
async def main():
    task = asyncio.create_task(w.{endless}())
    await asyncio.sleep(0.05)
    task.cancel()
    try: await task
    except asyncio.CancelledError: return await w.text('free again')
await main()"
        );
        assert_eq!(repr(&mut session, &code), "'free again'", "{endless}");
    }
    // The end of a turn does so too.
    let code = "loop = asyncio.new_event_loop()\nt = loop.create_task(w.spin())\nloop.run_until_complete(asyncio.sleep(0.05))";
    session.run_blocking(code).unwrap();
    assert_eq!(repr(&mut session, "await w.text('and again')"), "'and again'");
}

#[test]
fn a_turn_that_waits_for_an_async_function_ends_at_its_limit() {
    let mut grants = ToolGrants::default();
    grants.limits.timeout = None;
    let mut few = limits();
    few.timeout = Some(Duration::from_millis(300));
    for endless in ["w.spin()", "w.dawdle()", "w.sleep(60_000)"] {
        let kernel = builder().tool(waiting().grants(grants.clone())).build().unwrap();
        let mut session = kernel.session().limits(few.clone()).start().unwrap();
        let begun = Instant::now();
        let outcome =
            session.run_blocking(format!("from tools import waiting as w\nawait {endless}")).unwrap();
        assert_eq!(outcome.ending, Ending::TimedOut, "{endless}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{endless}: {:?}", begun.elapsed());
    }
}

/// An `async func` that gives `result`, lifted with `options`.
fn lifted(core: &str, result: &str, options: &str) -> String {
    format!(
        "(core module $code{result}
           (memory (export \"memory\") 1)
           (func (export \"f\") (result i32) {core})
           (func (export \"callback\") (param i32 i32 i32) (result i32) unreachable))
         (core instance $c{result} (instantiate $code{result}))
         (alias core export $c{result} \"callback\" (core func $callback{result}))
         (alias core export $c{result} \"memory\" (core memory $memory{result}))
         (func (export \"{result}\") async (result {result})
           (canon lift (core func $c{result} \"f\") (memory $memory{result}) {options}))"
    )
}

#[test]
fn an_async_function_may_be_lifted_as_a_plain_one() {
    let one = lifted("i32.const 7", "u32", "");
    let two = lifted("(i32.store (i32.const 12) (i32.const 0)) i32.const 8", "string", "");
    let tool = Tool::from_bytes("waiting", component(&format!("(component {one} {two})")));
    let mut session = session(tool);
    assert_eq!(repr(&mut session, "await w.u32(), await w.string()"), "(7, '')");
    let other = lifted("i32.const 0", "u64", "async (callback $callbacku64)");
    let mixed = component(&format!("(component {one} {other})"));
    let error = builder().tool(Tool::from_bytes("mixed", mixed)).build().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Tool);
    assert!(error.to_string().contains("some without"), "{error}");
}

#[test]
fn an_async_function_is_not_for_other_tools() {
    let provider = |options: &str| {
        let function = match options {
            "" => "(func $f (param \"n\" u32) (result u32) (canon lift (core func $i \"plain\")))",
            _ => {
                "(func $f async (param \"n\" u32) (result u32) (canon lift (core func $i \"plain\") async (callback $callback)))"
            }
        };
        let text = format!(
            "(component
               (core func $gives (canon task.return (result u32)))
               (core module $m
                 (import \"\" \"gives\" (func (param i32)))
                 (func (export \"plain\") (param i32) (result i32) local.get 0)
                 (func (export \"callback\") (param i32 i32 i32) (result i32) unreachable))
               (core instance $i (instantiate $m (with \"\" (instance (export \"gives\" (func $gives))))))
               (alias core export $i \"callback\" (core func $callback))
               {function}
               (instance $api (export \"f\" (func $f)))
               (export \"a:b/api\" (instance $api)))"
        );
        Tool::from_bytes("provider", component(&text))
    };
    let user = |options: &str| {
        let text = format!(
            "(component
               (import \"a:b/api\" (instance $api (export \"f\" (func {options} (param \"n\" u32) (result u32)))))
               (core func $f (canon lower (func $api \"f\")))
               (core module $m
                 (import \"\" \"f\" (func $f (param i32) (result i32)))
                 (func (export \"g\") (param i32) (result i32) (call $f (i32.add (local.get 0) (i32.const 1)))))
               (core instance $i (instantiate $m (with \"\" (instance (export \"f\" (func $f))))))
               (func (export \"g\") (param \"n\" u32) (result u32) (canon lift (core func $i \"g\"))))"
        );
        Tool::from_bytes("waiting", component(&text))
    };
    let error = builder().tool(provider("async")).tool(user("async")).build().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Tool);
    assert!(
        error.to_string().contains("has an asynchronous function `f`, which is not for other tools"),
        "{error}"
    );
    // A plain function of a tool that runs in the other engine can.
    let kernel = builder().tool(provider("")).tool(user("")).build().unwrap();
    let mut session = kernel.session().limits(limits()).start().unwrap();
    assert_eq!(repr(&mut session, "from tools.waiting import g\ng(41)"), "42");
}

#[test]
fn streams_and_futures_are_passed_whole() {
    let mut grants = ToolGrants::default();
    grants.limits.timeout = Some(Duration::from_secs(5));
    let text = include_str!("tools/composed/streams.wat");
    let mut session = session(Tool::from_bytes("waiting", component(text)).grants(grants));
    session.run_blocking("from array import array").unwrap();
    for (code, expected) in [
        ("await w.total(bytes(range(256)) * 5)", "163200"),
        ("await w.total(b'')", "0"),
        ("await w.countdown(5)", "array('I', [5, 4, 3, 2, 1])"),
        ("await w.countdown(0)", "array('I')"),
        ("await w.soon()", "'soon'"),
        ("await w.same_bytes(b'abc'), await w.same_bytes(b'')", "(b'abc', b'')"),
        ("len(await w.same_bytes(bytes(3_000_000)))", "3000000"),
        ("await w.same_texts(['a', '', 'é'])", "['a', '', 'é']"),
        ("await w.same_letter('x')", "'x'"),
        ("await w.pair(array('f', [1.5, 2.0]), 'later')", "(array('f', [1.5, 2.0]), 'later')"),
        (
            "await asyncio.gather(w.soon(), w.countdown(2), w.total(b'\\x01'))",
            "['soon', array('I', [2, 1]), 1]",
        ),
        ("from tools._runtime import call_json\ncall_json('waiting.countdown', '[3]')", "'[3, 2, 1]'"),
    ] {
        assert_eq!(repr(&mut session, code), expected, "{code}");
    }
    let described = repr(&mut session, "tools.describe('waiting.countdown')");
    assert!(described.starts_with("async def countdown(start: int) -> array[int]"), "{described}");
    let message = error(&mut session, "await w.endless()");
    assert!(message.contains("larger than"), "{message}");
    let message = error(&mut session, "await w.stalled()");
    assert!(message.starts_with("tools.ToolTimeout"), "{message}");
    assert_eq!(repr(&mut session, "await w.soon()"), "'soon'");
}

#[test]
fn streams_of_what_cannot_be_passed_are_refused() {
    for ty in ["(stream)", "(stream (list u8))", "(future (tuple u8 u8))", "(stream $s)"] {
        let text = format!(
            "(component
               (type $s (stream u8))
               (core module $m (func (export \"f\") (param i32) unreachable))
               (core instance $i (instantiate $m))
               (type $t {ty})
               (func (export \"f\") (param \"v\" $t) (canon lift (core func $i \"f\"))))"
        );
        let error = builder().tool(Tool::from_bytes("t", component(&text))).build().err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Tool);
        let message = error.to_string();
        assert!(message.contains("`f` takes or gives a stream or a future of something else"), "{message}");
    }
    // A function of the host passes lists.
    let tool = Tool::functions("t", "f: func(v: stream<u8>);").function("f", |()| ());
    let error = builder().tool(tool).build().err().unwrap();
    assert!(error.to_string().contains("takes or gives a stream or a future"), "{error}");
}
