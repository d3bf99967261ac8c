//! Tools that are not components, what may be passed to tools, and how programs find them.

#[path = "tool_kinds/constraints.rs"]
mod constraints;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use agentkernel::{Ending, ErrorKind, KernelBuilder, Session, Tool, ToolGrants, ToolKind};
use agentkernel_tests::{builder, echo, limits, raised, repr};

fn start(builder: KernelBuilder) -> Session {
    builder.build().unwrap().session().limits(limits()).start().unwrap()
}

#[track_caller]
fn error(session: &mut Session, code: &str) -> String {
    let outcome = session.run_blocking(code).unwrap();
    let (kind, message) = raised(&outcome);
    format!("{kind}: {message}")
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Order {
    id: u64,
    lines: Vec<(String, u32)>,
    paid: bool,
}

#[derive(serde::Deserialize)]
struct Search {
    words: Vec<String>,
    limit: Option<u32>,
}

fn shop() -> Tool {
    Tool::functions(
        "shop",
        "
        /// An order.
        record order { id: u64, lines: list<tuple<string, u32>>, paid: bool }
        enum reason { unknown, closed }
        /// Find an order.
        find: func(id: u64) -> result<order, reason>;
        search: func(words: list<string>, limit: option<u32>) -> list<string>;
        pay: func(order: order, amount: f64) -> order;
        close: func();
        /// Wait, and give the number back.
        wait: async func(milliseconds: u64) -> u64;
        broken: func() -> u8;
        ",
    )
    .summary("Orders")
    .function("find", |(id,): (u64,)| match id {
        7 => Ok(Order { id, lines: vec![("tea".into(), 2)], paid: false }),
        _ => Err("unknown"),
    })
    .function("search", |search: Search| {
        let mut words = search.words;
        words.truncate(search.limit.unwrap_or(9) as usize);
        words
    })
    .function("pay", |(order, amount): (Order, f64)| Order { paid: amount > 1.0, ..order })
    .function("close", |()| ())
    .function("broken", |()| "not a number")
    .async_function("wait", |(milliseconds,): (u64,)| async move {
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        milliseconds
    })
}

#[test]
fn functions_of_the_host_are_a_tool() {
    let mut session = start(builder().tool(shop()));
    session.run_blocking("import tools\nfrom tools.shop import *").unwrap();
    let order = "Order(id=7, lines=[('tea', 2)], paid=False)";
    assert_eq!(repr(&mut session, "find(7)"), order);
    assert_eq!(error(&mut session, "find(8)"), "tools.shop.ReasonException: Reason.UNKNOWN");
    assert_eq!(repr(&mut session, "search(['a', 'b'], 1)"), "['a']");
    assert_eq!(repr(&mut session, "search(['a', 'b'])"), "['a', 'b']");
    assert_eq!(repr(&mut session, "pay(find(7), 2).paid"), "True");
    assert_eq!(repr(&mut session, "close()"), "None");
    assert!(error(&mut session, "find(-1)").starts_with("OverflowError: `id` must be u64"));
    // A function that does not give what it promised is no reason to fall over.
    let message = error(&mut session, "broken()");
    assert!(message.starts_with("tools.ToolTrapped: broken: `result` must be u8"), "{message}");
}

#[test]
fn calls_of_async_functions_overlap_and_end_with_the_turn() {
    let mut session = start(builder().tool(shop()));
    let begun = Instant::now();
    let code = "
import asyncio
from tools.shop import wait
async def main():
    return await asyncio.gather(*(wait(300 + n) for n in range(20)))
asyncio.run(main())";
    let expected = format!("{:?}", (300..320).collect::<Vec<_>>());
    assert_eq!(repr(&mut session, code), expected);
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    let mut few = limits();
    few.timeout = Some(Duration::from_millis(300));
    let kernel = builder().tool(shop()).build().unwrap();
    let mut session = kernel.session().limits(few).start().unwrap();
    let begun = Instant::now();
    let outcome = session.run_blocking("from tools.shop import wait\nawait wait(60_000)").unwrap();
    assert_eq!(outcome.ending, Ending::TimedOut);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn functions_that_do_not_fit_their_wit_are_refused() {
    let fails = |tool: Tool, message: &str| {
        let error = builder().tool(tool).build().err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Tool);
        assert!(error.to_string().contains(message), "{error}");
        assert!(error.remedy().is_some(), "{error}");
    };
    fails(Tool::functions("x", "f: func(").function("f", |()| ()), "are not WIT");
    fails(Tool::functions("x", "f: func();"), "nothing was given for the function `f`");
    fails(Tool::functions("x", "f: func();").function("g", |()| ()), "has no function `g`");
    fails(Tool::functions("x", "f: async func();").function("f", |()| ()), "is `async func` in WIT");
    fails(Tool::functions("x", "f: func();").async_function("f", |()| async {}), "and the closure is async");
    fails(Tool::functions("search", "f: func();").function("f", |()| ()), "`tools.search` is a function");
}

#[test]
fn a_python_package_is_a_tool_and_is_read_only() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("__init__.py", "\"\"\"Counts words.\"\"\"\nfrom .deep import count\nTHIS = __file__\n");
    write(
        "deep.py",
        "\"\"\"The work.\"\"\"\n\ndef count(text: str, *, smallest: int = 1) -> int:\n    \"\"\"How many words a text has.\"\"\"\n    return sum(len(w) >= smallest for w in text.split())\n\ndef fail():\n    raise ValueError('no')\n\nclass Counter:\n    \"\"\"Counts more.\"\"\"\n    def more(self, by=1): return by\n",
    );
    write("data.txt", "carried");
    let kernel = builder().tool(Tool::python("words", directory.path())).build().unwrap();
    let info = &kernel.tools()[0];
    assert_eq!((info.kind, info.summary.as_str()), (ToolKind::Python, "Counts words."));
    let mut session = kernel.session().limits(limits()).start().unwrap();
    session.run_blocking("import tools\nfrom tools import words").unwrap();
    assert_eq!(
        repr(&mut session, "words.count('a bb ccc', smallest=2), words.THIS"),
        "(2, '/tools/words/__init__.py')"
    );
    let code =
        "import importlib.resources\nimportlib.resources.files(words).joinpath('data.txt').read_text()";
    assert_eq!(repr(&mut session, code), "'carried'");
    let outcome = session.run_blocking("from tools.words import deep\ndeep.fail()").unwrap();
    let Ending::Raised(exception) = &outcome.ending else { panic!("{outcome:?}") };
    assert!(
        exception.traceback.contains("/tools/words/deep.py\", line 8, in fail"),
        "{}",
        exception.traceback
    );
    let message = error(&mut session, "open('/tools/words/deep.py', 'w')");
    assert!(message.starts_with("OSError") || message.starts_with("PermissionError"), "{message}");
    assert_eq!(
        repr(&mut session, "tools.search('how many words')[0].signature"),
        "'words.deep.count(text: str, *, smallest: int=1) -> int'"
    );
    assert_eq!(
        repr(&mut session, "tools.describe('words')"),
        "words: Counts words.\nwords.deep: The work.\nwords.deep.count(text: str, *, smallest: int=1) -> int: How many words a text has.\nwords.deep.fail()\nclass words.deep.Counter: Counts more."
    );
    let full = repr(&mut session, "tools.describe('words.deep.count')");
    assert!(
        full.starts_with("def count(text: str, *, smallest: int=1) -> int:\n    \"\"\"How many"),
        "{full}"
    );
    assert!(!full.contains("sum("), "{full}");
    // Grants for it would have no effect.
    let mut grants = ToolGrants::default();
    grants.environment.insert("A".into(), "b".into());
    let tool = Tool::python("words", directory.path()).grants(grants);
    assert_eq!(builder().tool(tool).build().err().unwrap().kind(), ErrorKind::Grant);
    let absent = builder().tool(Tool::python("x", directory.path().join("absent"))).build().err().unwrap();
    assert!(absent.to_string().contains("cannot be read"), "{absent}");
}

#[test]
fn tools_are_found_in_steps() {
    let mut session = start(builder().tool(echo().summary("gives back")).tool(shop()));
    session.run_blocking("import tools").unwrap();
    assert_eq!(repr(&mut session, "tools.describe()"), "echo: gives back\nshop: Orders");
    assert_eq!(repr(&mut session, "tools.describe(detail='name')"), "echo\nshop");
    assert_eq!(
        repr(&mut session, "tools.search('finding orders')[0]"),
        "shop.find(id: int) -> Order: Find an order."
    );
    assert_eq!(repr(&mut session, "tools.search('find an order', limit=1, detail='name')"), "shop.find");
    assert_eq!(repr(&mut session, "tools.search('zzz')"), "nothing was found");
    let full = repr(&mut session, "tools.describe('tools.shop.find')");
    for part in [
        "def find(id: int) -> Order:",
        "Find an order.",
        "Raises ReasonException",
        "class Order:",
        "lines: list[tuple[str, int]]",
    ] {
        assert!(full.contains(part), "{part}: {full}");
    }
    assert!(!full.contains("search"), "{full}");
    assert!(
        repr(&mut session, "tools.describe('echo.counters.Counter')")
            .contains("    def next(self) -> int: ...")
    );
    assert!(error(&mut session, "tools.describe('shop.fnd')").contains("there is no 'shop.fnd' in tools"));
    assert!(
        error(&mut session, "tools.search('x', detail='all')")
            .starts_with("ValueError: detail must be one of")
    );
    // What is found is only what is there.
    let names = "[i.name for i in tools.search('counter values', limit=99)]";
    let code = format!(
        "
def reach(name):
    found = tools
    for part in name.split('.'): found = getattr(found, part)
    return found
all(reach(name) is not None for name in {names})"
    );
    assert_eq!(repr(&mut session, &code), "True");
}

#[test]
fn a_call_with_json_is_one_of_the_same_functions() {
    let mut session = start(builder().tool(echo()).tool(shop()));
    session.run_blocking("from tools._runtime import call_json as j\nimport json").unwrap();
    for (name, arguments, expected) in [
        ("echo.values.add", "[40, 2]", "42"),
        ("echo.values.add", "{\"b\": 2, \"a\": 40}", "42"),
        ("echo.values.bytes", "[\"AQID\"]", "\"AQID\""),
        ("echo.values.bytes", "[[1, 2, 3]]", "\"AQID\""),
        ("echo.values.f64s", "[\"-Infinity\"]", "\"-Infinity\""),
        ("echo.values.u64s", "[18446744073709551615]", "18446744073709551615"),
        ("echo.values.nested", "[{\"some\": null}]", "{\"some\": null}"),
        ("echo.values.nested", "[]", "null"),
        ("echo.values.results", "[[{\"ok\": 1}, {\"err\": \"x\"}]]", "[{\"ok\": 1}, {\"err\": \"x\"}]"),
        ("echo.values.accesses", "[[\"run\", \"read\"]]", "[\"read\", \"run\"]"),
        (
            "echo.values.shapes",
            "[{\"polygon\": [{\"x\": 1, \"y\": 2}]}]",
            "{\"polygon\": [{\"x\": 1, \"y\": 2}]}",
        ),
        ("echo.values.colors", "[\"dark_blue\"]", "\"dark_blue\""),
        ("echo.values.tuples", "[[1, \"é\", 0.5]]", "[1, \"é\", 0.5]"),
        ("echo.values.nothing", "[]", "null"),
        ("shop.wait", "[1]", "1"),
    ] {
        let code = format!("json.loads(j({name:?}, {arguments:?})) == json.loads({expected:?})");
        assert_eq!(repr(&mut session, &code), "True", "{name} {arguments}");
    }
    for (name, arguments, message) in [
        ("echo.values.add", "[1]", "TypeError: echo.values.add: `b` is missing"),
        ("echo.values.add", "[1, 2, 3]", "there are 3 arguments, and 2 are taken"),
        ("echo.values.add", "{\"a\": 1, \"c\": 2}", "there is no parameter `c`; there are a, b"),
        ("echo.values.u8s", "[256]", "`v` must be u8, not 256"),
        ("echo.values.people", "[[{\"name\": 1}]]", "`v[0].name` must be a string"),
        ("echo.values.people", "[[{\"nam\": 1}]]", "has no field `nam`"),
        ("echo.values.absent", "[]", "LookupError: there is no function"),
        ("echo.faults.fail", "[{\"too_large\": 9}]", "tools.ToolError: {'too_large': 9}"),
        ("echo.faults.trap", "[]", "tools.ToolTrapped"),
        ("echo.counters.total", "[[1]]", "is a resource, which JSON cannot hold"),
        ("echo.counters.Counter", "[1]", "echo.counters.Counter gives a resource, which JSON cannot hold"),
        ("echo.values.f32s", "[1e39]", "`v` must be a number that f32 can hold"),
        ("echo.values.shapes", "[{\"empty\": 5}]", "`v` is the case `empty`, which carries nothing"),
    ] {
        let found = error(&mut session, &format!("j({name:?}, {arguments:?})"));
        assert!(found.contains(message), "{name} {arguments}: {found}");
    }
}

#[test]
fn stubs_cover_all_that_is_there() {
    let kernel = builder().tool(echo()).tool(shop()).build().unwrap();
    let stubs: BTreeMap<String, String> = kernel.tool_stubs().into_iter().collect();
    let paths: Vec<&str> = stubs.keys().map(String::as_str).collect();
    assert_eq!(
        paths,
        [
            "tools/__init__.pyi",
            "tools/_runtime.pyi",
            "tools/echo/__init__.pyi",
            "tools/echo/aio/__init__.pyi",
            "tools/echo/aio/faults.pyi",
            "tools/echo/aio/values.pyi",
            "tools/echo/counters.pyi",
            "tools/echo/faults.pyi",
            "tools/echo/values.pyi",
            "tools/shop/__init__.pyi",
            "tools/shop/aio.pyi"
        ]
    );
    // They are Python, and say the same as the modules.
    let mut session = kernel.session().limits(limits()).start().unwrap();
    session.run_blocking("import ast, tools.shop.aio, tools.echo.aio.faults, tools.echo.values").unwrap();
    for (path, text) in &stubs {
        let code = format!("len(ast.parse({text:?}).body) > 0");
        assert_eq!(repr(&mut session, &code), "True", "{path}");
    }
    for (module, path) in [
        ("tools.shop", "tools/shop/__init__.pyi"),
        ("tools.echo.values", "tools/echo/values.pyi"),
        ("tools.shop.aio", "tools/shop/aio.pyi"),
        ("tools.echo.aio.faults", "tools/echo/aio/faults.pyi"),
    ] {
        let text = &stubs[path];
        let code = format!(
            "missing = [n.name for n in ast.parse({text:?}).body if hasattr(n, 'name') and not hasattr({module}, n.name)]\nmissing"
        );
        assert_eq!(repr(&mut session, &code), "[]", "{module}");
    }
}

#[test]
fn calls_that_are_gathered_overlap_each_in_an_instance_of_its_own() {
    let mut grants = ToolGrants::default();
    grants.limits.instances = 4;
    grants.limits.timeout = Some(Duration::from_secs(5));
    let kernel = builder().tool(echo().grants(grants)).build().unwrap();
    let mut session = kernel.session().limits(limits()).start().unwrap();
    let begun = Instant::now();
    let code = "
import asyncio, tools
from tools.echo import aio
async def main():
    return await asyncio.gather(*(aio.faults.pause(300) for _ in range(4)))
asyncio.run(main())";
    assert_eq!(repr(&mut session, code), "[None, None, None, None]");
    assert!(begun.elapsed() < Duration::from_millis(1100), "{:?}", begun.elapsed());
    // More calls than instances.
    let code = "
from tools.echo.aio.values import add
async def main():
    return await asyncio.gather(*(add(n, 1) for n in range(200)))
asyncio.run(main()) == [n + 1 for n in range(200)]";
    assert_eq!(repr(&mut session, code), "True");
    // More calls than may be in flight: the rest wait. And a module of the same name is there already.
    let code = "
from tools.echo import values
from tools.echo.aio import values as overlapping
async def main():
    return await asyncio.gather(*(overlapping.add(n, 1) for n in range(1000)))
asyncio.run(main()) == [n + 1 for n in range(1000)] and overlapping is not values";
    assert_eq!(repr(&mut session, code), "True");
    // One that fails is one exception, and the others go on.
    let code = "
async def main():
    return await asyncio.gather(aio.faults.trap(), add(1, 2), aio.faults.complain('no'), return_exceptions=True)
[str(r) for r in asyncio.run(main())]";
    assert_eq!(
        repr(&mut session, code),
        "['echo.faults.trap failed: wasm trap: wasm `unreachable` instruction executed', '3', 'no']"
    );
    assert!(error(&mut session, "asyncio.run(add('a', 1))").starts_with("TypeError: `a` must be s32"));
    // What passes a resource belongs to the instance that has it.
    assert_eq!(repr(&mut session, "hasattr(tools.echo.aio, 'counters')"), "False");
    // A task that is cancelled stops its tool, and its instance is not kept.
    let begun = Instant::now();
    let code = "
async def main():
    tasks = [asyncio.create_task(aio.faults.spin()) for _ in range(4)]
    await asyncio.sleep(0.05)
    for task in tasks: task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return await add(2, 2)
asyncio.run(main())";
    assert_eq!(repr(&mut session, code), "4");
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[test]
fn a_turn_that_is_stopped_takes_overlapping_calls_along() {
    let mut few = limits();
    few.timeout = Some(Duration::from_millis(300));
    let mut grants = ToolGrants::default();
    grants.limits.timeout = None;
    let kernel = builder().tool(echo().grants(grants)).build().unwrap();
    let mut session = kernel.session().limits(few).start().unwrap();
    let begun = Instant::now();
    let code = "
import asyncio
from tools.echo import aio
async def main():
    await asyncio.gather(*(aio.faults.spin() for _ in range(20)))
asyncio.run(main())";
    assert_eq!(session.run_blocking(code).unwrap().ending, Ending::TimedOut);
    drop(session);
    drop(kernel);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn an_instance_for_each_call_keeps_nothing() {
    let counting = r#"(component
        (core module $m
            (global $n (mut i32) (i32.const 0))
            (func (export "next") (result i32)
                (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n)))
        (core instance $i (instantiate $m))
        (func (export "next") (result u32) (canon lift (core func $i "next"))))"#;
    let mut grants = ToolGrants::default();
    for (per_call, expected) in [(false, "[1, 2, 3]"), (true, "[1, 1, 1]")] {
        grants.per_call = per_call;
        let tool = Tool::from_bytes("counting", wat::parse_str(counting).unwrap()).grants(grants.clone());
        let mut session = start(builder().tool(tool));
        assert_eq!(repr(&mut session, "from tools.counting import next as n\n[n(), n(), n()]"), expected);
        // A call of its own in either case.
        assert_eq!(
            repr(&mut session, "from tools.counting.aio import next as n\nimport asyncio\nasyncio.run(n())"),
            "1"
        );
    }
    // Resources would be gone when the call that made them is over.
    let error = builder().tool(echo().grants(grants)).build().err().unwrap();
    assert!(error.to_string().contains("has resources"), "{error}");
}

#[test]
fn calls_in_flight_hold_no_more_than_the_program_may_have() {
    let mut few = limits();
    few.memory_bytes = 192 << 20;
    let kernel = builder().tool(echo()).build().unwrap();
    let mut session = kernel.session().limits(few).start().unwrap();
    let code = "
from wit_world.imports import modules as m
import struct
part = bytes(16 << 20)
head = struct.pack('<I', len(part))
started = []
try:
    for _ in range(200): started.append(m.start(NUMBER, head, part))
except Exception as e: found = e.value.message
len(started) < 20 and found";
    // The number of `bytes`, which gives back what it is given.
    let number = 13;
    let code = code.replace("NUMBER", &number.to_string());
    assert_eq!(
        repr(&mut session, &code),
        "'calls in flight hold as many bytes as the program may have memory; await some of them first'"
    );
}

#[test]
fn overlapping_calls_end_with_their_turn() {
    let mut grants = ToolGrants::default();
    grants.limits.timeout = None;
    grants.limits.instances = 1;
    let kernel = builder().tool(echo().grants(grants)).build().unwrap();
    let mut session = kernel.session().limits(limits()).start().unwrap();
    let code = "
import asyncio
from tools.echo.aio import faults, values
loop = asyncio.new_event_loop()
spinning = loop.create_task(faults.spin())
loop.run_until_complete(asyncio.sleep(0.05))
spinning.done()";
    assert_eq!(repr(&mut session, code), "False");
    // Its instance is free again, although nobody cancelled it.
    assert_eq!(repr(&mut session, "asyncio.run(values.add(1, 2))"), "3");
}

#[test]
fn async_functions_reach_the_network_of_the_host() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let tool = Tool::functions("net", "connect: async func() -> result<_, string>;").async_function(
        "connect",
        move |()| async move {
            tokio::net::TcpStream::connect(address).await.map(drop).map_err(|error| error.to_string())
        },
    );
    let mut session = start(builder().tool(tool));
    assert_eq!(repr(&mut session, "from tools.net import connect\nawait connect()"), "None");
}
