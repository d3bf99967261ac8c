//! Components composed with each other as tools, and programs composed with their tools: these are run
//! by wasmtime and its own WASI, without AgentKernel.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use agentkernel::{Composition, Ending, ErrorKind, Kernel, Tool};
use sha2::{Digest, Sha256};
use wac_graph::{CompositionGraph, EncodeOptions, types::Package};
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Engine, Store, StoreLimits, StoreLimitsBuilder, Trap};
use wasmtime_wasi::p2::bindings::sync::Command;
use wasmtime_wasi::p2::pipe::{MemoryInputPipe, MemoryOutputPipe};
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn echo() -> PathBuf {
    root().join("tools/echo.wasm")
}

fn wat(name: &str) -> Vec<u8> {
    wat::parse_file(root().join("tools/composed").join(name)).unwrap()
}

/// What `wac plug` makes of two components.
fn plug(plug: Vec<u8>, socket: Vec<u8>) -> Vec<u8> {
    let mut graph = CompositionGraph::new();
    let mut package = |name: &str, bytes: Vec<u8>| {
        let package = Package::from_bytes(name, None, bytes, graph.types_mut()).unwrap();
        graph.register_package(package).unwrap()
    };
    let (plug, socket) = (package("test:plug", plug), package("test:socket", socket));
    wac_graph::plug(&mut graph, vec![plug], socket).unwrap();
    graph.encode(EncodeOptions::default()).unwrap()
}

#[test]
fn composed_components_are_one_tool() {
    let plugged = plug(wat("words.wat"), wat("greeter.wat"));
    let kernel = Kernel::builder().tool(Tool::from_bytes("hello", plugged)).build().unwrap();
    let mut session = kernel.session().start().unwrap();
    let outcome = session.run_blocking("from tools.hello import greet\ngreet('world')").unwrap();
    let Ending::Completed(Some(value)) = outcome.ending else { panic!("{outcome:?}") };
    assert_eq!(value.json, Some("WORLD".into()));
    let alone = Kernel::builder().tool(Tool::from_bytes("hello", wat("greeter.wat"))).build();
    let error = alone.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Tool);
    assert!(error.to_string().contains("lib:words/words@1.0.0"), "{error}");
}

/// Runs what it is given as its first argument, so that one compilation serves all tests.
const PROGRAM: &str = "import sys\nexec(compile(sys.argv.pop(1), 'given.py', 'exec'))\n";

/// With the interpreter under test.
fn program(composition: Composition) -> Composition {
    match std::env::var_os("AGENTKERNEL_GUEST") {
        Some(guest) => composition.guest(guest),
        None => composition,
    }
}

fn with_echo() -> Composition {
    program(Composition::new(PROGRAM).file("program.py").tool(Tool::new("echo", echo())))
}

static ENGINE: LazyLock<Engine> = LazyLock::new(Engine::default);

static COMPOSED: LazyLock<Component> = LazyLock::new(|| {
    let package = tempfile::tempdir().unwrap();
    write_package(package.path());
    let composition = with_echo()
        .tool(Tool::new("again", echo()))
        .tool(Tool::python("counting", package.path()))
        .tool(Tool::from_bytes("loose", wat("json.wat")))
        .tool(Tool::from_bytes("greeter", wat("greeter.wat")))
        .tool(Tool::from_bytes("words", wat("words.wat")))
        .tool(Tool::from_bytes("plugged", plug(wat("words.wat"), wat("greeter.wat"))))
        .tool(Tool::from_bytes("one", wat("numbers.wat")))
        .tool(Tool::from_bytes("two", wat("numbers.wat")))
        .module("helpers", "from helpers.parts import double\n", true)
        .module(
            "helpers.parts",
            "def double(x): return x + x\n\ndef fail():\n    raise LookupError('no')\n",
            false,
        );
    Component::new(&ENGINE, composition.build().unwrap()).unwrap()
});

fn write_package(directory: &Path) {
    for (file, source) in [
        ("__init__.py", "\"\"\"Counts words.\"\"\"\nfrom .deep.work import count\n"),
        ("_private.py", "def hidden(): pass\n"),
        (
            "deep/work.py",
            "\"\"\"The work.\"\"\"\nfrom .._private import hidden\nfrom tools.words import shout\n\n\
             def count(text: str) -> int:\n    \"\"\"How many words a text has.\"\"\"\n    return len(text.split())\n",
        ),
        ("deep/none/data.txt", "no Python"),
        ("not-a-module.py", "def f(:"),
    ] {
        let file = directory.join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, source).unwrap();
    }
}

struct State {
    wasi: WasiCtx,
    limits: StoreLimits,
    table: ResourceTable,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

#[derive(Debug, Default, PartialEq)]
struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

/// Runs a component as `wasmtime run` does.
fn run(
    component: &Component,
    arguments: &[&str],
    stdin: &str,
    directory: Option<&Path>,
) -> wasmtime::Result<Ended> {
    let (stdout, stderr) = (MemoryOutputPipe::new(1 << 20), MemoryOutputPipe::new(1 << 20));
    let mut wasi = WasiCtxBuilder::new();
    wasi.arg("program.wasm")
        .args(arguments)
        .env("GREETING", "hello")
        .stdin(MemoryInputPipe::new(stdin.to_owned()))
        .stdout(stdout.clone())
        .stderr(stderr.clone());
    if let Some(directory) = directory {
        wasi.preopened_dir(directory, "/workspace", FsPerms::ReadWrite)?;
    }
    let mut linker = Linker::<State>::new(&ENGINE);
    wasmtime_wasi::p2::add_to_linker_sync(&mut linker)?;
    let limits = StoreLimitsBuilder::new().memory_size(256 << 20).build();
    let mut store = Store::new(&ENGINE, State { wasi: wasi.build(), limits, table: ResourceTable::new() });
    store.limiter(|state| &mut state.limits);
    let command = Command::instantiate(&mut store, component, &linker)?;
    let code = match command.wasi_cli_run().call_run(&mut store) {
        Ok(Ok(())) => 0,
        Ok(Err(())) => 1,
        Err(error) => error.downcast::<I32Exit>()?.0,
    };
    drop(store);
    let text = |pipe: MemoryOutputPipe| String::from_utf8(pipe.contents().to_vec()).unwrap();
    Ok(Ended { code, stdout: text(stdout), stderr: text(stderr) })
}

fn given(code: &str) -> Ended {
    run(&COMPOSED, &[code], "", None).unwrap()
}

/// Runs code that prints what is expected and nothing else.
#[track_caller]
fn prints(code: &str, expected: &str) {
    assert_eq!(given(code), Ended { stdout: expected.into(), ..Ended::default() });
}

#[test]
fn values_of_every_type_come_back() {
    prints(
        r#"
import random
from array import array
from tools.echo.values import *
from tools import Ok, Err, Some
from tools.again import values as other
draw = random.Random(4)
text = lambda: "".join(draw.choice("ab\0é漢🙂") for _ in range(draw.randrange(5)))
point = lambda: Point(draw.randrange(-2**31, 2**31), draw.randrange(2**31))
some = lambda make: draw.choice([None, make()])
many_of = lambda make: [make() for _ in range(draw.randrange(4))]
person = lambda: Person(text(), some(lambda: draw.randrange(256)), many_of(text), point())
def same(function, value):
    got = function(value)
    assert got == value, (function, value, got)
for bits in 8, 16, 32, 64:
    for sign, low, high in ("s", -(1 << bits - 1), (1 << bits - 1) - 1), ("u", 0, (1 << bits) - 1):
        for value in low, high, high // 3:
            same(globals()[f"{sign}{bits}s"], value)
for _ in range(200):
    same(bools, draw.random() < 0.5)
    same(f64s, draw.uniform(-1e300, 1e300))
    same(f32s, draw.randrange(1 << 20) / 8)
    same(chars, draw.choice("a\0é漢🙂"))
    same(strings, text())
    same(bytes, draw.randbytes(draw.randrange(9)))
    same(floats, array("d", many_of(draw.random)))
    same(lists, many_of(lambda: many_of(text)))
    same(tuples, (draw.randrange(256), text(), draw.random()))
    same(points, point())
    same(people, many_of(person))
    same(shapes, draw.choice([Shape.Circle(draw.random()), Shape.Polygon(many_of(point)), Shape.Empty()]))
    same(colors, draw.choice(list(Color)))
    same(accesses, draw.choice([Access.NONE, Access.READ, Access.READ | Access.RUN]))
    same(options, some(text))
    same(nested, draw.choice([None, Some(None), Some(draw.randrange(2**32))]))
    same(results, many_of(lambda: draw.choice([Ok(draw.randrange(2**32)), Err(text())])))
    args = (draw.randrange(256), text(), draw.random(), some(text), array("H", many_of(lambda: draw.randrange(2**16))),
            point(), True, "漢", draw.randrange(-2**63, 2**63), text(), draw.randrange(2**32))
    assert many(*args) == args
assert nothing() is None and add(2, -5) == -3
assert defaults(1) == "1 None None" and defaults(1, 2, "x") == '1 Some(2) Some("x")'
assert other.add(2, 3) == 5
for wrong in lambda: u8s(256), lambda: strings(3):
    try: wrong()
    except (TypeError, OverflowError) as error: print(error)
from tools.greeter import greet
from tools.words import shout
from tools.plugged import greet as third
print(greet("one"), shout("two"), third("three"))
import tools.one, tools.two
print(tools.one.half(3), tools.two.mean(1, 4), tools.one.pick(Ok(-7)), tools.two.pick(Err(9)))
"#,
        "`v` must be u8, and 256 is not between 0 and 255\n\
         `v` must be string, not int 3\n\
         ONE TWO THREE\n1.5 2.5 -7 1000009\n",
    );
}

#[test]
fn tools_are_found_in_steps_and_awaited() {
    prints(
        r#"
import asyncio, tools
print(tools.describe(detail="name").split())
print(tools.search("two integers added", detail="name")[0].name, tools.search("count the words of a text", limit=1))
print(tools.describe("echo.values.add"), tools.describe("counting"), sep="\n")
from tools.echo import aio
from tools.echo.aio.values import add
async def main():
    asleep = asyncio.create_task(asyncio.sleep(0.01, "slept"))
    results = await asyncio.gather(add(1, 2), aio.faults.complain("why"), add(3, 4), return_exceptions=True)
    print(results, await asleep)
asyncio.run(main())
print(hasattr(tools.echo.aio, "counters"))
import tools.counting.deep.work as work
print(tools.counting.count("two words"), work.shout("x"), work.__file__, work.__spec__.parent)
from tools.loose import same
print(same({"a": [1, None, "é"]}))
try: same({1, 2})
except TypeError as error: print(str(error).partition(":")[0])
from tools._runtime import call_json
print(call_json("counting.count", '["a b c"]'))
try: call_json("echo.values.add", "[1, 2]")
except LookupError as error: print(error)
"#,
        "['echo', 'again', 'counting', 'loose', 'greeter', 'words', 'plugged', 'one', 'two']\n\
         echo.values.add counting.deep.work.count(text: str) -> int: How many words a text has.\n\
         def add(a: int, b: int) -> int: ...\n\
         counting: Counts words.\ncounting.deep\ncounting.deep.work: The work.\n\
         counting.deep.work.count(text: str) -> int: How many words a text has.\n\
         [3, Error('why'), 7] slept\nFalse\n\
         2 X tools/counting/deep/work.py tools.counting.deep\n\
         {'a': [1, None, 'é']}\n`value` must be what JSON can hold\n\
         3\nthe program has no function 4294967295\n",
    );
}

#[test]
fn large_values_are_freed() {
    // More in all than the memory that a component may have here.
    prints(
        r#"
from tools.echo.values import bytes as echo, strings
data = b"x" * (16 << 20)
text = "y" * (16 << 20)
for _ in range(20):
    assert len(echo(data)) == len(strings(text)) == 16 << 20
print("done")
"#,
        "done\n",
    );
}

#[test]
fn resources_are_owned_lent_and_closed() {
    prints(
        r#"
import gc, tools
from tools.echo.counters import Counter, total
from tools.again.counters import Counter as Other
with Counter(5) as one:
    print(one.next(), one.next(), Counter.open(), Other.open())
try: one.next()
except tools.ToolClosed as error: print(error)
a, b = Counter(1), Counter(10)
print(total([a, b, b]))
c = Counter.merge(a, b)
print(total([c]), Counter.open())
try: total([a])
except tools.ToolClosed as error: print(error)
try: total([Other(1)])
except TypeError as error: print(str(error).split(", not")[0])
del b, c
gc.collect()
print(Counter.open(), Other.open())
"#,
        "6 7 1 0\nthis Counter is closed\n21\n11 2\nthis Counter is closed\n\
         `of[0]` must be Counter\n0 0\n",
    );
}

#[test]
fn errors_of_tools_are_exceptions() {
    prints(
        r#"
import tools
from tools.echo import faults as f
for call in lambda: f.fail(f.Fault.NotFound("it")), lambda: f.fail(f.Fault.TooLarge(2**63)), lambda: f.complain("why"), f.refuse:
    try: call()
    except f.Error as error: print(type(error).__name__, error.payload)
from tools.echo import values as v
try: v.add(1, "x")
except TypeError as error: print(error)
# What Python never sends, and a handle that nobody gave: an error here, not the end of the program.
from wit_world.imports import modules
from componentize_py_types import Err as Failed
# Those in between do as they are told: trap, loop, sleep.
for number in *range(29), *range(42, 60), 10_000:
    for head in b"", b"\x02", b"\xff" * 4, b"\0" * 40, b"\x07\0\0\0":
        try: modules.call(number, head, b"")
        except Failed as failure: assert failure.value.kind in ("malformed", "closed", "denied", "unknown"), failure.value
print("alive")
"#,
        "FaultException Fault.NotFound('it')\nFaultException Fault.TooLarge(9223372036854775808)\n\
         Error why\nError None\n`b` must be s32, not str 'x'\nalive\n",
    );
    let error = run(&COMPOSED, &["import tools.echo.faults as f; f.trap()"], "", None).unwrap_err();
    assert!(error.downcast_ref::<Trap>().is_some(), "{error:?}");
}

#[test]
fn a_program_has_its_arguments_input_and_directory() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("in.txt"), "granted").unwrap();
    let code = r#"
import os, sys
print(sys.argv, os.environ["GREETING"], os.getcwd(), __name__, __file__)
print(sum(map(int, input().split())), sys.stdin.read())
from tools.echo import faults
print(open("in.txt").read(), faults.read("/workspace/in.txt"), faults.variable("GREETING"))
open("out.txt", "w").write("written")
try: open("/etc/passwd")
except FileNotFoundError as error: print(error)
print("to stderr", file=sys.stderr)
"#;
    let ended = run(&COMPOSED, &[code, "a", "--b"], "1 2 3\nthe rest", Some(directory.path())).unwrap();
    assert_eq!(
        ended,
        Ended {
            code: 0,
            stdout: "['program.wasm', 'a', '--b'] hello /workspace __main__ program.py\n6 the rest\n\
                     granted granted hello\n[Errno 44] No such file or directory: '/etc/passwd'\n"
                .into(),
            stderr: "to stderr\n".into(),
        }
    );
    assert_eq!(std::fs::read_to_string(directory.path().join("out.txt")).unwrap(), "written");
}

#[test]
fn waiting_takes_time() {
    given("pass");
    let start = Instant::now();
    prints(
        "import asyncio, time
time.sleep(0.2)
async def main():
    await asyncio.gather(*[asyncio.sleep(0.2) for _ in range(9)])
    try: await asyncio.wait_for(asyncio.sleep(9), 0.1)
    except TimeoutError: print('timed out')
asyncio.run(main())",
        "timed out\n",
    );
    let took = start.elapsed();
    assert!(took > Duration::from_millis(500) && took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_program_ends_as_python_does() {
    let ended = given("import atexit; atexit.register(print, 'bye'); import sys; sys.exit(3)");
    assert_eq!(ended, Ended { code: 1, stdout: "bye\n".into(), ..Ended::default() });
    let ended = given("sys.exit('a message')");
    assert_eq!(ended, Ended { code: 1, stderr: "a message\n".into(), ..Ended::default() });
    let ended = given("from helpers import double, parts\nprint(double(4))\nparts.fail()");
    assert_eq!((ended.code, ended.stdout.as_str()), (1, "8\n"));
    assert_eq!(
        ended.stderr,
        "Traceback (most recent call last):\n\
         \x20 File \"program.py\", line 2, in <module>\n    exec(compile(sys.argv.pop(1), 'given.py', 'exec'))\n\
         \x20   ~~~~^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\n\
         \x20 File \"given.py\", line 3, in <module>\n\
         \x20 File \"helpers/parts.py\", line 4, in fail\n    raise LookupError('no')\n\
         LookupError: no\n"
    );
    let ended = given("from agentkernel import ask_llm");
    assert!(ended.stderr.contains("ImportError: `agentkernel` (`ask_llm`"), "{}", ended.stderr);
}

#[test]
fn exit_codes_can_be_kept() {
    // Of a program without tools, for once.
    let bytes = program(Composition::new(PROGRAM)).exit_codes(true).build().unwrap();
    let component = Component::new(&ENGINE, bytes).unwrap();
    for (code, expected) in [("sys.exit(3)", 3), ("sys.exit(256)", 0), ("1 / 0", 1), ("pass", 0)] {
        assert_eq!(run(&component, &[code], "", None).unwrap().code, expected, "{code}");
    }
}

#[test]
fn what_does_not_fit_together_is_said() {
    let refused = |composition: Composition, words: &[&str]| {
        let error = composition.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Tool, "{error:?}");
        for word in words {
            assert!(format!("{error:?}").contains(word), "{error:?}");
        }
    };
    refused(with_echo().tool(Tool::new("echo", echo())), &["two tools are called `echo`"]);
    refused(with_echo().tool(Tool::new("two words", echo())), &["two words"]);
    refused(
        with_echo().tool(Tool::new("x", "absent.wasm")),
        &["cannot read the tool `x` from `absent.wasm`"],
    );
    refused(with_echo().tool(Tool::from_bytes("x", b"no".to_vec())), &["the tool `x` is not WebAssembly"]);
    refused(with_echo().tool(Tool::new("search", echo())), &["a tool cannot be called `search`"]);
    let functions = Tool::functions("host", "f: func();").function("f", |()| ());
    refused(with_echo().tool(functions), &["`host` is functions of this program, which cannot be composed"]);
    let package = tempfile::tempdir().unwrap();
    refused(with_echo().tool(Tool::python("none", package.path())), &["`none` has no Python"]);
    std::fs::write(package.path().join("latin.py"), b"x = '\xe9'").unwrap();
    refused(
        with_echo().tool(Tool::python("latin", package.path())),
        &["the modules of the tool `latin` cannot be read", "latin.py"],
    );
    let greeter = || Tool::from_bytes("greeter", wat("greeter.wat"));
    refused(with_echo().tool(greeter()), &["`greeter` imports `lib:words/words@1.0.0`", "wac plug"]);
    let other = r#"(component
        (core module $module (func (export "f")))
        (core instance $core (instantiate $module))
        (func $shout (canon lift (core func $core "f")))
        (instance $words (export "shout" (func $shout)))
        (export "lib:words/words@1.0.0" (instance $words)))"#;
    let other = Tool::from_bytes("other", wat::parse_str(other).unwrap());
    refused(with_echo().tool(greeter()).tool(other), &["`greeter` imports another `lib:words/words@1.0.0`"]);
    let typed = r#"(component
        (type $record (record (field "a" u32)))
        (import "pair" (type $pair (eq $record)))
        (core module $module (func (export "f") (param i32)))
        (core instance $core (instantiate $module))
        (func $f (param "p" $pair) (canon lift (core func $core "f")))
        (export "f" (func $f)))"#;
    let typed = Tool::from_bytes("typed", wat::parse_str(typed).unwrap());
    refused(with_echo().tool(typed), &["`typed` has the type `pair` outside of any interface"]);
    // Each gives what the other needs.
    let circle = |imports: &str, exports: &str| {
        let text = format!(
            r#"(component
                (import "{imports}" (instance $in (export "f" (func))))
                (instance $out (export "f" (func $in "f")))
                (export "{exports}" (instance $out)))"#
        );
        wat::parse_str(text).unwrap()
    };
    let one = Tool::from_bytes("one", circle("a:a/a", "b:b/b"));
    let two = Tool::from_bytes("two", circle("b:b/b", "a:a/a"));
    refused(with_echo().tool(one).tool(two), &["echo, one, two import each other in a circle"]);
}

/// The prebuilt modules are what their sources say.
#[test]
fn prebuilt_modules_are_up_to_date() {
    let base = root().join("../compose");
    let listed = std::fs::read_to_string(base.join("prebuilt/sources.sha256")).unwrap();
    for line in listed.lines() {
        let (hash, file) = line.split_once("  ").unwrap();
        let found = Sha256::digest(std::fs::read(base.join(file)).unwrap());
        let found: String = found.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, hash, "compose/{file} has changed: build the modules as compose/README.md says");
    }
    assert!(listed.lines().count() > 10);
}
