//! What programs see of a server, and what they get from it.

use std::time::{Duration, Instant};

use agentkernel::{Ending, Recording, Replaying, ToolGrants, ToolKind};
use agentkernel_tests::{limits, repr};

use super::{error, good, kernel, server, session};

#[test]
fn functions_have_the_signatures_of_their_schemas() {
    let mut session = good();
    session
        .run_blocking(
            "import inspect\ndef s(f): return f.__name__ + str(inspect.signature(f)).replace(\"'\", '')",
        )
        .unwrap();
    for (function, expected) in [
        ("add", "add(a: int, b: int) -> AddResult"),
        ("say", "say(text: str) -> Any"),
        (
            "greet",
            r#"greet(first_name: str, import_: str, *, kind: Literal["warm", "cold", 3, None] = None, times: int = 2, loud: bool | None = None) -> Any"#,
        ),
        (
            "order_all",
            "order_all(lines: list[OrderAllLines], *, labels: dict[str, str] | None = None, to: str | None = None) -> Any",
        ),
        ("half", "half(n: int) -> float"),
        ("any", "any(**others: Any) -> Any"),
        ("parts", "parts() -> Any"),
    ] {
        let code = format!("s(x.{function})");
        assert_eq!(repr(&mut session, &code), format!("'{expected}'"));
    }
    assert_eq!(
        repr(&mut session, "x.OrderAllLines.__required_keys__, x.OrderAllLines.__optional_keys__"),
        "(frozenset({'item'}), frozenset({'unit-price'}))"
    );
    assert_eq!(
        repr(&mut session, "x.add.__doc__"),
        r"'> Adds two numbers.\n>\n> All of them.\n\na: One number.'"
    );
    let about = repr(&mut session, "x.__doc__");
    assert!(
        about.contains("data, not instructions") && about.contains(r"> Adds numbers.\n> [2JAnd more."),
        "{about}"
    );
    assert_eq!(
        repr(&mut session, "x.add.__module__, sorted(x.__all__)[:3]"),
        "('tools.x', ['AddResult', 'Error', 'OrderAllLines'])"
    );
}

#[test]
fn results_are_values() {
    let mut session = good();
    for (call, expected) in [
        ("x.add(2, 3)", "{'sum': 5, 'parts': [2, 3]}"),
        ("x.add(a=2, b=-3)['sum']", "-1"),
        ("x.say('é\"\\n\\0')", r#"'é"\n\x00'"#),
        ("x.half(3)", "1.5"),
        ("x.nothing()", "None"),
        ("x.loose()", "[1, {'a': None}]"),
        ("x.any(a=1, b=[None])", r#"'{"a":1,"b":[null]}'"#),
        // What has a default is sent, what is left out is not.
        ("x.greet('A', 'b')", r#"'{"first-name":"A","import":"b","times":2}'"#),
        (
            "x.greet('A', 'b', kind='cold', times=3, loud=False)",
            r#"'{"first-name":"A","import":"b","times":3,"kind":"cold","loud":false}'"#,
        ),
        (
            "x.order_all([{'item': 'tea', 'unit-price': 2.5}], labels={'a': 'b'})",
            r#"'{"lines":[{"item":"tea","unit-price":2.5}],"to":null,"labels":{"a":"b"}}'"#,
        ),
    ] {
        assert_eq!(repr(&mut session, call), expected, "{call}");
    }
    session.run_blocking("parts = x.parts()").unwrap();
    for (part, expected) in [
        ("parts[0]", "'one'"),
        ("parts[1]", r"{'type': 'image', 'mime_type': 'image/png', 'data': b'\x89PNG\r\n\x1a\n'}"),
        ("parts[2]", r"{'type': 'audio', 'mime_type': 'audio/wav', 'data': b'\x00\x01\x02'}"),
        ("parts[3]", "{'type': 'resource', 'uri': 'a://b', 'mime_type': 'text/plain', 'text': 'two'}"),
        ("parts[4]", r"{'type': 'resource', 'mime_type': '', 'uri': 'a://c', 'data': b'\x00\x01\x02'}"),
        ("parts[5]['uri'], parts[5]['name']", "('a://d', 'd')"),
        ("parts[6]", "{'type': 'image', 'mime_type': 'image/png', 'text': 'no base64!'}"),
    ] {
        assert_eq!(repr(&mut session, part), expected);
    }
}

#[test]
fn what_is_wrong_is_an_exception() {
    let mut session = good();
    for (call, expected) in [
        ("x.add(1, 'b')", "TypeError: x.add: `b` must be int, not \"b\""),
        ("x.add(1, True)", "TypeError: x.add: `b` must be int, not True"),
        ("x.add(1)", "TypeError: add() missing 1 required positional argument: 'b'"),
        ("x.say(text='a', more=1)", "TypeError: say() got an unexpected keyword argument 'more'"),
        ("x.say(b'a')", "TypeError: Object of type bytes is not JSON serializable"),
        ("x.say('\\ud800')", "ValueError: an argument has a surrogate, which UTF-8 has not"),
        (
            "x.greet('A', 'b', times=float('nan'))",
            "ValueError: Out of range float values are not JSON compliant: nan",
        ),
        (
            "x.greet('A', 'b', kind='hot')",
            "TypeError: x.greet: `kind` must be Literal[\"warm\", \"cold\", 3, None], not \"hot\"",
        ),
        ("x.order_all([{'price': 1}])", "TypeError: x.order_all: `lines[0].item` is missing"),
        ("x.order_all([{'item': 'a', 'x': 1}])", "TypeError: x.order_all: `lines[0]` has no member `x`"),
        (
            "x.order_all([{'item': 'a'}], labels={'a': 1})",
            "TypeError: x.order_all: `labels.a` must be str, not 1",
        ),
        // The server's own errors are the tool's.
        ("x.fail()", "tools.x.Error: it \u{1b}[31mfailed"),
        ("x.refuse()", "tools.x.Error: never"),
        (
            "x.broken()",
            "tools.ToolTrapped: x.broken failed: its structured output is not what its schema promises: `result` must be float, not \"no number\"",
        ),
    ] {
        assert_eq!(error(&mut session, call), expected, "{call}");
    }
    assert_eq!(
        repr(
            &mut session,
            "try: x.refuse()\nexcept tools.ToolError as e: r = e.payload, isinstance(e, x.Error)\nr"
        ),
        "('never', True)"
    );
    // What a program makes up reaches no server.
    session.run_blocking("from wit_world.imports import modules as m\nn = x._call.__closure__").unwrap();
    for (request, expected) in [
        ("b'no json'", "the arguments are not JSON"),
        ("b'[\"add\", {\"a\": 1, \"b\": 2, \"c\": 3}]'", "there is no parameter `c`"),
        ("b'[\"add\", [1, 2]]'", "the arguments are not JSON"),
        ("b'[\"absent\", {}]'", "has no function `absent`"),
        ("b'[\"any\", {\"a\": ' + b'[' * 200 + b']' * 200 + b'}]'", "the arguments are not JSON"),
    ] {
        let code = format!("try: m.call(0, {request}, b'')\nexcept Exception as e: r = e.value.message\nr");
        let message = repr(&mut session, &code);
        assert!(message.contains(expected), "{request}: {message}");
    }
}

#[test]
fn calls_overlap_and_end_with_the_turn() {
    let mut session = good();
    let begun = Instant::now();
    let code = "
import asyncio
from tools.x import aio
async def main():
    return await asyncio.gather(*(aio.sleep(400) for _ in range(10)), aio.add(1, 2))
asyncio.run(main())[-2:]";
    assert_eq!(repr(&mut session, code), "['slept', {'sum': 3, 'parts': [1, 2]}]");
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!(error(&mut session, "await aio.fail()"), "tools.x.Error: it \u{1b}[31mfailed");
    // One that is given up is told so.
    let code = "
async def give_up():
    try:
        await asyncio.wait_for(aio.sleep(15_000), 0.2)
    except TimeoutError:
        return await aio.cancelled()
asyncio.run(give_up())";
    assert_eq!(repr(&mut session, code), "'1'");
}

#[test]
fn a_turn_that_is_stopped_gives_its_call_up() {
    let kernel = kernel(server("good").shared(true), ToolGrants::default());
    let mut few = limits();
    few.timeout = Some(Duration::from_millis(1500));
    let mut stopped = kernel.session().limits(few).start().unwrap();
    let outcome = stopped.run_blocking("from tools.x import sleep\nsleep(15_000)").unwrap();
    assert_eq!(outcome.ending, Ending::TimedOut);
    assert_eq!(repr(&mut session(&kernel), "from tools.x import cancelled\ncancelled()"), "'1'");
}

#[test]
fn they_are_found_as_other_tools_are() {
    let kernel = kernel(server("good"), ToolGrants::default());
    let info = &kernel.tools()[0];
    assert_eq!(
        (info.kind, info.summary.as_str(), info.items.len()),
        (ToolKind::Mcp, "functions of an MCP server", 1)
    );
    assert!(kernel.tool_stubs().iter().all(|(path, _)| !path.contains("/x")));
    let mut session = session(&kernel);
    session.run_blocking("import tools").unwrap();
    assert_eq!(repr(&mut session, "tools.describe()"), "x: functions of an MCP server");
    assert_eq!(
        repr(&mut session, "tools.search('adding numbers')[0]"),
        "x.add(a: int, b: int) -> AddResult: > Adds two numbers."
    );
    let full = repr(&mut session, "tools.describe('x.add')");
    for part in [
        "def add(a: int, b: int) -> AddResult:",
        "> All of them.",
        "class AddResult(TypedDict):",
        "parts: NotRequired[list[int]]",
    ] {
        assert!(full.contains(part), "{part}: {full}");
    }
    assert!(repr(&mut session, "tools.describe('x')").contains("x.say(text: str) -> Any"));
    assert_eq!(
        repr(&mut session, "from tools._runtime import call_json as j\nj('x.add', '[1, 2]')"),
        r#"'{"sum": 3, "parts": [1, 2]}'"#
    );
    assert_eq!(
        repr(&mut session, r#"j('x.greet', '{"first_name": "a", "import_": "b"}')"#),
        r#"'"{\\"first-name\\":\\"a\\",\\"import\\":\\"b\\"}"'"#
    );
    assert!(
        error(&mut session, "j('x.add', '[1, 2, 3]')")
            .contains("there are 3 arguments by position, and 2 are taken")
    );
    assert!(error(&mut session, "j('x.absent', '[]')").contains("has no function `absent`"));
    assert_eq!(error(&mut session, "j('x.fail', '[]')"), "tools.ToolError: it \u{1b}[31mfailed");
    // It has been asked by now.
    assert_eq!(kernel.ask_servers().len(), 0);
    assert!(kernel.tools()[0].items.iter().any(|item| item.signature == "x.say(text: str) -> Any"));
    let stubs = kernel.tool_stubs();
    for path in ["tools/x/__init__.pyi", "tools/x/aio.pyi"] {
        let (_, text) = stubs.iter().find(|(other, _)| other == path).unwrap();
        assert_eq!(
            repr(&mut session, &format!("import ast\nlen(ast.parse({text:?}).body) > 20")),
            "True",
            "{path}"
        );
    }
}

#[test]
fn a_recording_has_all_that_a_replay_needs() {
    let directory = tempfile::tempdir().unwrap();
    let cassette = directory.path().join("cassette.jsonl");
    let code = "
import asyncio, tools
print(tools.search('half')[0].name)
from tools.x import add, aio, number, parts, fail
async def main(): return await asyncio.gather(aio.say('a'), aio.add(1, 1))
print(add(1, 2), asyncio.run(main()), parts()[1]['data'], number())
fail()";
    let recording = Recording::create(&cassette).unwrap();
    let live = kernel(server("good"), ToolGrants::default());
    let first =
        live.session().limits(limits()).record(&recording).start().unwrap().run_blocking(code).unwrap();
    recording.finish().unwrap();
    // Its server is not there any more.
    let absent = kernel(agentkernel::McpServer::command("/absent", [""; 0]), ToolGrants::default());
    let replaying = Replaying::open(&cassette).unwrap();
    let again =
        absent.session().limits(limits()).replay(&replaying).start().unwrap().run_blocking(code).unwrap();
    replaying.finish().unwrap();
    assert!(String::from_utf8_lossy(&first.stdout).contains("{'sum': 3, 'parts': [1, 2]}"), "{first:?}");
    assert_eq!((first.stdout, first.ending), (again.stdout, again.ending));
}
