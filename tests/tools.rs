//! Tools: a component that gives back what it is given, and misbehaves when it is asked to
//! (`tools/echo`), called from Python.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use agentkernel::{Access, Ending, ErrorKind, Grants, Kernel, Mount, Outcome, Session, Tool, ToolGrants};
use agentkernel_tests::{builder, echo, limits, raised, repr, value};
use proptest::prelude::*;

fn with_grants(grants: ToolGrants) -> Kernel {
    builder().tool(echo().grants(grants)).build().expect("the kernel builds")
}

fn start(kernel: &Kernel) -> Session {
    let mut session = kernel.session().limits(limits()).start().unwrap();
    let outcome = session
        .run_blocking("import tools\nfrom tools import *\nfrom tools.echo import values as v, faults as f, counters as c")
        .unwrap();
    assert!(matches!(outcome.ending, Ending::Completed(_)), "{outcome:?}");
    session
}

fn session() -> Session {
    static KERNEL: OnceLock<Kernel> = OnceLock::new();
    start(KERNEL.get_or_init(|| with_grants(ToolGrants::default())))
}

#[track_caller]
fn holds(session: &mut Session, code: &str) {
    assert_eq!(repr(session, code), "True", "{code}");
}

#[track_caller]
fn error(outcome: &Outcome) -> String {
    let (kind, message) = raised(outcome);
    format!("{kind}: {message}")
}

/// Python that makes a value of a WIT type out of random numbers, and compares what comes back.
const RANDOM: &str = "
import math, random
def text():
    return ''.join(random.choice('aé✓𝄞\\0\\n\"') for _ in range(random.randrange(9)))
def integer(bits, signed):
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    return random.choice([low, high, 0, random.randint(low, high)])
def floating():
    return random.choice([0.0, -0.0, math.inf, -math.inf, 5e-324, random.uniform(-1e300, 1e300)])
def point():
    return v.Point(integer(32, True), integer(32, True))
def items(make):
    return [make() for _ in range(random.randrange(5))]
def maybe(make):
    return random.choice([None, make()])
makers = {
    'bools': lambda: random.random() < 0.5,
    's8s': lambda: integer(8, True), 'u8s': lambda: integer(8, False), 's16s': lambda: integer(16, True),
    'u16s': lambda: integer(16, False), 's32s': lambda: integer(32, True), 'u32s': lambda: integer(32, False),
    's64s': lambda: integer(64, True), 'u64s': lambda: integer(64, False),
    'f32s': lambda: random.choice([0.0, 1.5, -2.25, math.inf]), 'f64s': floating,
    'chars': lambda: random.choice('aé✓𝄞\\0'), 'strings': text,
    'bytes': lambda: random.randbytes(random.randrange(300)),
    'lists': lambda: items(lambda: items(text)),
    'tuples': lambda: (integer(8, False), text(), floating()),
    'points': point,
    'people': lambda: items(lambda: v.Person(text(), maybe(lambda: integer(8, False)), items(text), point())),
    'shapes': lambda: random.choice([v.Shape.Circle(floating()), v.Shape.Polygon(items(point)), v.Shape.Empty()]),
    'colors': lambda: random.choice(list(v.Color)),
    'accesses': lambda: v.Access(random.randrange(8)),
    'options': lambda: maybe(text),
    'nested': lambda: random.choice([None, Some(None), Some(integer(32, False))]),
    'results': lambda: items(lambda: random.choice([Ok(integer(32, False)), Err(text())])),
}
def trip(seed):
    random.seed(seed)
    for name, make in makers.items():
        given = make()
        back = getattr(v, name)(given)
        if back != given or type(back) is not type(given):
            return f'{name}: {given!r} came back as {back!r}'
    numbers = items(floating)
    if list(v.floats(numbers)) != numbers:
        return f'floats: {numbers!r}'
    many = (integer(8, False), text(), floating(), maybe(text), items(lambda: integer(16, False)), point(), True, 'é',
            integer(64, True), text(), integer(32, False))
    back = v.many(*many)
    if back[:4] + back[5:] != many[:4] + many[5:] or list(back[4]) != many[4]:
        return f'many: {many!r} came back as {back!r}'
";

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_value_comes_back_as_it_was(seed in any::<u64>()) {
        thread_local! {
            static SESSION: std::cell::RefCell<Option<Session>> = const { std::cell::RefCell::new(None) };
        }
        SESSION.with_borrow_mut(|kept| {
            let session = kept.get_or_insert_with(|| {
                let mut session = session();
                session.run_blocking(RANDOM).unwrap();
                session
            });
            assert_eq!(repr(session, &format!("trip({seed})")), "None");
        });
    }
}

#[test]
fn functions_are_real_functions() {
    let mut session = session();
    holds(&mut session, "v.add(b=2, a=1) == 3 and v.nothing() is None");
    assert_eq!(
        repr(&mut session, "v.defaults(1), v.defaults(1, 2), v.defaults(1, c='x')"),
        "('1 None None', '1 Some(2) None', '1 None Some(\"x\")')"
    );
    assert_eq!(
        repr(&mut session, "import inspect\nstr(inspect.signature(v.add)), v.add.__name__, v.add.__module__"),
        "(\"(a: 'int', b: 'int') -> 'int'\", 'add', 'tools.echo.values')"
    );
    assert_eq!(
        repr(&mut session, "str(inspect.signature(v.defaults))"),
        "\"(a: 'int', b: 'int | None' = None, c: 'str | None' = None) -> 'str'\""
    );
    holds(&mut session, "'Point' in dir(v) and 'echo' in dir(tools) and tools.echo.values is v");
    holds(&mut session, "isinstance(v.Shape.Circle(1.0), v.Shape)");
    let matched = "
match v.shapes(v.Shape.Polygon([v.Point(1, 2)])):
    case v.Shape.Circle(radius): found = radius
    case v.Shape.Polygon([v.Point(x, y)]): found = (x, y)
    case v.Shape.Empty(): found = None
found";
    assert_eq!(repr(&mut session, matched), "(1, 2)");
    // Numbers cross as buffers.
    holds(
        &mut session,
        "from array import array\nv.floats(array('d', [1, 2])) == array('d', [1, 2]) == v.floats((1, 2))",
    );
    holds(
        &mut session,
        "v.bytes(bytearray(b'ab')) == v.bytes(memoryview(b'ab')) == v.bytes([97, 98]) == b'ab'",
    );
    holds(&mut session, "big = bytes(range(256)) * 40_000\nv.bytes(big) == big");
}

#[test]
fn a_wrong_argument_is_named_with_its_type() {
    let mut session = session();
    // What tells it is not read before something is wrong.
    holds(&mut session, "import sys\nv.add(1, 1) == 2 and 'tools._arguments' not in sys.modules");
    for (code, expected) in [
        ("v.add(1, 'x')", "TypeError: `b` must be s32, not str 'x'"),
        ("v.add(1, 1.5)", "TypeError: `b` must be s32, not float 1.5"),
        (
            "v.add(2**31, 1)",
            "OverflowError: `a` must be s32, and 2147483648 is not between -2147483648 and 2147483647",
        ),
        ("v.u8s(-1)", "OverflowError: `v` must be u8, and -1 is not between 0 and 255"),
        ("v.bools(1)", "TypeError: `v` must be bool, not int 1"),
        ("v.chars('ab')", "TypeError: `v` must be char, not str 'ab'"),
        ("v.strings(b'a')", "TypeError: `v` must be string, not bytes b'a'"),
        (
            "v.strings('\\ud800')",
            "ValueError: `v` must be string, and '\\ud800' has a surrogate, which UTF-8 has not",
        ),
        ("v.bytes('a')", "TypeError: `v` must be list<u8>, not str 'a'"),
        ("v.bytes([1, 256])", "OverflowError: `v[1]` must be u8, and 256 is not between 0 and 255"),
        ("v.lists([['a'], [1]])", "TypeError: `v[1][0]` must be string, not int 1"),
        ("v.tuples((1, 'a'))", "TypeError: `v` must be tuple<u8, string, f64>, not tuple (1, 'a')"),
        ("v.points(1)", "TypeError: `v` must be Point, not int 1"),
        ("v.points(v.Point(1, 'y'))", "TypeError: `v.y` must be s32, not str 'y'"),
        (
            "v.people([v.Person('n', 256, [], v.Point(0, 0))])",
            "OverflowError: `v[0].age` must be u8, and 256 is not between 0 and 255",
        ),
        ("v.shapes(1.0)", "TypeError: `v` must be Shape, not float 1.0"),
        ("v.shapes(v.Shape.Circle('r'))", "TypeError: `v.value` must be f64, not str 'r'"),
        ("v.colors(1)", "TypeError: `v` must be Color, not int 1"),
        ("v.accesses(1)", "TypeError: `v` must be Access, not int 1"),
        ("v.nested(1)", "TypeError: `v` must be option<option<u32>>, not int 1"),
        ("v.results([1])", "TypeError: `v[0]` must be result<u32, string>, not int 1"),
    ] {
        assert_eq!(error(&session.run_blocking(code).unwrap()), expected, "{code}");
    }
    assert!(
        error(&session.run_blocking("v.add(1)").unwrap())
            .contains("missing 1 required positional argument: 'b'")
    );
    let outcome = session.run_blocking("v.lists([['a'], [1]])").unwrap();
    let Ending::Raised(exception) = &outcome.ending else { panic!("{outcome:?}") };
    assert_eq!(exception.frames.len(), 1, "{}", exception.traceback);
    // None of that reached the tool.
    holds(&mut session, "v.add(1, 1) == 2");
}

#[test]
fn errors_of_a_tool_are_exceptions_that_carry_them() {
    let mut session = session();
    let code = "
caught = []
try:
    f.fail(f.Fault.NotFound('x'))
except f.FaultException as error:
    caught.append((error.payload, isinstance(error, (f.Error)), isinstance(error, tools.ToolError)))
for call in (lambda: f.complain('no'), f.refuse):
    try:
        call()
    except f.Error as error:
        caught.append((error.payload, str(error)))
caught == [(f.Fault.NotFound('x'), True, True), ('no', 'no'), (None, 'the tool gave no reason')] or caught";
    holds(&mut session, code);
    // The program's own line is the last of the traceback.
    let outcome = session.run_blocking("f.complain('no')").unwrap();
    let Ending::Raised(exception) = &outcome.ending else { panic!("{outcome:?}") };
    assert_eq!(exception.kind, "tools.echo.Error");
    assert_eq!(exception.frames.len(), 1, "{}", exception.traceback);
}

#[test]
fn resources_are_objects() {
    let mut session = session();
    holds(&mut session, "one = c.Counter(5)\n[one.next(), one.next()] == [6, 7]");
    holds(&mut session, "c.total([one, c.Counter(3), c.Counter(1)]) == 11 and c.Counter.open() == 1");
    holds(&mut session, "two = c.Counter(10)\nsum = c.Counter.merge(one, two)\nsum.next() == 18");
    // `one` was given away, `two` only lent.
    assert_eq!(
        error(&session.run_blocking("one.next()").unwrap()),
        "tools.ToolClosed: this Counter is closed"
    );
    holds(&mut session, "two.next() == 11");
    holds(&mut session, "with two: pass\ntwo.close()\nc.Counter.open() == 1");
    assert_eq!(
        error(&session.run_blocking("two.next()").unwrap()),
        "tools.ToolClosed: this Counter is closed"
    );
    assert_eq!(
        error(&session.run_blocking("c.total([1])").unwrap()),
        "TypeError: `of[0]` must be Counter, not int 1"
    );
    assert!(
        error(&session.run_blocking("import pickle; pickle.dumps(sum)").unwrap()).starts_with("TypeError")
    );
    holds(&mut session, "del sum\nc.Counter.open() == 0");
    // What went with its instance says so.
    let code = "
old = c.Counter(1)
try:
    f.trap()
except ToolTrapped:
    pass
try:
    old.next()
except ToolClosed as error:
    print(error)
new = c.Counter(1)
old.close()
new.next()";
    let outcome = session.run_blocking(code).unwrap();
    assert_eq!(value(&outcome).repr, "2");
    assert!(String::from_utf8_lossy(&outcome.stdout).contains("went with the instance"), "{outcome:?}");
}

/// A tool that misbehaves is an exception in the program, and its next call finds a fresh instance.
#[test]
fn a_tool_that_fails_harms_nobody() {
    let mut grants = ToolGrants::default();
    grants.limits.timeout = Some(Duration::from_millis(300));
    grants.limits.memory_bytes = 32 << 20;
    let kernel = with_grants(grants);
    let mut session = start(&kernel);
    for (code, expected) in [
        ("f.trap()", "tools.ToolTrapped: echo.faults.trap failed"),
        ("f.spin()", "tools.ToolTimeout: echo.faults.spin was stopped at its time limit of 0.3 s"),
        ("f.pause(60_000)", "tools.ToolTimeout: echo.faults.pause was stopped at its time limit of 0.3 s"),
        ("f.hoard(10**8)", "tools.ToolMemoryError: echo.faults.hoard needs more than its memory limit"),
        ("f.hoard(10**15)", "tools.ToolTrapped: echo.faults.hoard failed"),
        ("f.recurse(10**9)", "tools.ToolTrapped: echo.faults.recurse failed"),
        (
            "v.bytes(bytes(40 << 20))",
            "tools.ToolMemoryError: echo.values.bytes needs more than its memory limit",
        ),
    ] {
        let begun = Instant::now();
        let error = error(&session.run_blocking(code).unwrap());
        assert!(error.starts_with(expected), "{code}: {error}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{code}");
        holds(&mut session, "v.add(1, 1) == 2 and f.hoard(1000) == 1000");
    }
}

/// The turn's own time limit stops a tool too, and a cancellation.
#[test]
fn a_turn_that_is_stopped_takes_its_tools_along() {
    let kernel = with_grants(ToolGrants::default());
    for code in ["f.spin()", "f.pause(60_000)", "while True: v.add(1, 1)"] {
        let mut short = limits();
        short.timeout = Some(Duration::from_millis(400));
        let mut session = kernel.session().limits(short).start().unwrap();
        session.run_blocking("from tools.echo import values as v, faults as f\nv.add(1, 1)").unwrap();
        let begun = Instant::now();
        assert_eq!(session.run_blocking(code).unwrap().ending, Ending::TimedOut, "{code}");
        assert!(begun.elapsed() < Duration::from_secs(3), "{code}: {:?}", begun.elapsed());

        let mut session = start(&kernel);
        session.run_blocking("v.add(1, 1)").unwrap();
        let canceller = session.canceller();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            canceller.cancel();
        });
        assert_eq!(session.run_blocking(code).unwrap().ending, Ending::Cancelled, "{code}");
        thread.join().unwrap();
    }
    holds(&mut start(&kernel), "v.add(1, 1) == 2");
}

#[test]
fn a_tool_touches_what_it_was_granted_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("data")).unwrap();
    std::fs::write(directory.path().join("data/in"), "hello").unwrap();
    let workspace = tempfile::tempdir().unwrap();
    std::fs::create_dir(workspace.path().join("sub")).unwrap();
    std::fs::write(workspace.path().join("sub/mine"), "the program's").unwrap();

    let mut session = session();
    let read = |session: &mut Session, path: &str| {
        error(&session.run_blocking(format!("f.read({path:?})")).unwrap())
    };
    for path in ["/etc/passwd", "/workspace/x", "in", "/data/in"] {
        assert!(read(&mut session, path).starts_with("tools.echo.Error"), "{path}");
    }
    assert!(
        error(&session.run_blocking("f.connect('127.0.0.1:9')").unwrap()).starts_with("tools.echo.Error")
    );
    holds(
        &mut session,
        "import os\nos.environ['PROGRAMS'] = 'x'\nf.variable('PROGRAMS') is None and f.variable('PATH') is None",
    );

    let mut grants = ToolGrants::default();
    grants.environment.insert("MODE".into(), "test".into());
    grants.mounts = vec![
        Mount { host: directory.path().join("data"), guest: "/data".into(), access: Access::ReadOnly },
        Mount { host: "{workspace}/sub".into(), guest: "/sub".into(), access: Access::ReadWrite },
    ];
    let kernel = with_grants(grants);
    let mut session = kernel.session().workspace(workspace.path()).limits(limits()).start().unwrap();
    session.run_blocking("from tools.echo import values as v, faults as f").unwrap();
    holds(&mut session, "f.read('/data/in') == 'hello' and f.variable('MODE') == 'test'");
    assert!(
        error(&session.run_blocking("f.write('/data/out', 'x')").unwrap()).starts_with("tools.echo.Error")
    );
    holds(&mut session, "f.write('/sub/out', 'written')\nf.read('/sub/mine') == \"the program's\"");
    holds(&mut session, "open('sub/out').read() == 'written'");
    for path in ["/sub/../out", "../x", "/sub/../../etc/passwd"] {
        assert!(read(&mut session, path).starts_with("tools.echo.Error"), "{path}");
    }
    // What a tool prints is seen among the errors of the program.
    let outcome = session.run_blocking("f.print('from the tool')").unwrap();
    assert_eq!((outcome.stdout.as_slice(), outcome.stderr.as_slice()), (&b""[..], &b"from the tool\n"[..]));
}

#[test]
fn sessions_have_instances_of_their_own() {
    let kernel = with_grants(ToolGrants::default());
    let (mut one, mut other) = (start(&kernel), start(&kernel));
    holds(&mut one, "kept = c.Counter(1)\nc.Counter.open() == 1");
    holds(&mut other, "c.Counter.open() == 0");
    drop(one);
    holds(&mut other, "c.Counter.open() == 0");
}

/// Whatever bytes a program makes up, the worst is an exception.
#[test]
fn made_up_arguments_harm_nothing() {
    let mut session = session();
    let code = "
import os, random
from wit_world.imports import modules
from componentize_py_types import Err as Failure
random.seed(7)
kinds = set()
for round in range(3000):
    number = random.choice([*range(60), 2**32 - 1])
    head, tail = random.randbytes(random.randrange(40)), random.randbytes(random.randrange(3))
    if number in forbidden: continue
    try:
        modules.call(number, head, tail)
    except Failure as error:
        kinds.add(error.value.kind)
sorted(kinds)";
    // Not those that take their time.
    let forbidden = "forbidden = {getattr(f, n).__code__.co_consts for n in ()}\nimport re, inspect\nsource = inspect.getsource(tools.echo)\nforbidden = {int(n) for n in re.findall(r'def _faults__(?:spin|hoard|pause|recurse)\\(.*?_call\\((\\d+),', source, re.S)}\nlen(forbidden)";
    assert_eq!(repr(&mut session, forbidden), "4");
    let kinds = repr(&mut session, code);
    assert!(kinds.contains("'trap'") && kinds.contains("'unknown'"), "{kinds}");
    holds(&mut session, "v.add(1, 1) == 2");
}

#[test]
fn what_cannot_be_a_tool_says_why() {
    let refused = |tool: Tool| builder().tool(tool).build().err().expect("it is refused");
    let bytes = |text: &str| wat::parse_str(text).unwrap();
    for (tool, message) in [
        (Tool::new("x", "does-not-exist.wasm"), "cannot read the tool `x` from `does-not-exist.wasm`"),
        (Tool::from_bytes("x", b"no wasm".to_vec()), "the tool `x` is not WebAssembly"),
        (Tool::from_bytes("x", bytes("(module)")), "the tool `x` is a core module, not a component"),
        (Tool::from_bytes("x", bytes("(component)")), "the tool `x` exports no function"),
        (Tool::from_bytes("a-b", bytes("(component)")), "`a-b` cannot be the name of a Python module"),
        (Tool::from_bytes("import", bytes("(component)")), "`import` cannot be the name of a Python module"),
        (
            Tool::from_bytes(
                "x",
                bytes(
                    r#"(component
                        (import "acme:clock/time" (instance (export "now" (func (result u32)))))
                        (core module $m (func (export "f") (result i32) i32.const 1))
                        (core instance $i (instantiate $m))
                        (func (export "f") (result u32) (canon lift (core func $i "f"))))"#,
                ),
            ),
            "the tool `x` imports `acme:clock/time`, which nothing provides",
        ),
    ] {
        let error = refused(tool);
        assert_eq!(error.kind(), ErrorKind::Tool);
        assert!(error.to_string().starts_with(message), "{error}");
        assert!(error.remedy().is_some(), "{error}");
    }
    let twice = builder().tool(echo()).tool(echo()).build().err().unwrap();
    assert_eq!(twice.to_string(), "two tools are called `echo`");
    let missing = ToolGrants {
        mounts: vec![Mount {
            host: "/does/not/exist".into(),
            guest: "/data".into(),
            access: Access::ReadOnly,
        }],
        ..ToolGrants::default()
    };
    let mut session = start(&with_grants(missing));
    assert!(error(&session.run_blocking("v.add(1, 1)").unwrap()).contains("/does/not/exist"));
}

/// Any component will do: this one is written by hand.
#[test]
fn a_component_of_another_language_is_a_tool() {
    let component = wat::parse_str(
        r#"(component
            (core module $m (func (export "add") (param i64 i64) (result i64) local.get 0 local.get 1 i64.add))
            (core instance $i (instantiate $m))
            (func (export "add-up") (param "one" s64) (param "other" s64) (result s64)
                (canon lift (core func $i "add"))))"#,
    )
    .unwrap();
    let kernel =
        builder().tool(Tool::from_bytes("hand", component).summary("adds")).tool(echo()).build().unwrap();
    let mut session = kernel.session().start().unwrap();
    assert_eq!(repr(&mut session, "from tools.hand import add_up\nadd_up(2**40, 1)"), "1099511627777");
    assert_eq!(repr(&mut session, "from tools.echo.values import add\nadd(1, 2)"), "3");
    assert_eq!(kernel.tools()[0].summary, "adds");
}

/// Names of WIT that mean something in Python, or twice the same.
#[test]
fn odd_names_stand_in_nobodys_way() {
    let component = wat::parse_str(
        r#"(component
            (core module $m
                (memory (export "memory") 1)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
                (func (export "size") (param i32 i32 i32) (result i32) local.get 1 local.get 2 i32.add)
                (func (export "one") (result i32) i32.const 1)
                (func (export "two") (result i32) i32.const 2))
            (core instance $i (instantiate $m))
            (alias core export $i "memory" (core memory $memory))
            (alias core export $i "realloc" (core func $realloc))
            (func $size (param "data" string) (param "len" u32) (result u32)
                (canon lift (core func $i "size") (memory $memory) (realloc $realloc)))
            (func $one (result u32) (canon lift (core func $i "one")))
            (func $two (result u32) (canon lift (core func $i "two")))
            (instance $first (export "which" (func $one)) (export "len" (func $size)))
            (instance $second (export "which" (func $two)))
            (export "a:b/api@1.0.0" (instance $first))
            (export "a:b/api@2.0.0" (instance $second))
            (export "range" (func $size))
            (export "class" (func $one)))"#,
    )
    .unwrap();
    let kernel = builder().tool(Tool::from_bytes("odd", component)).build().unwrap();
    let mut session = kernel.session().start().unwrap();
    assert_eq!(
        repr(
            &mut session,
            "from tools import odd\n[odd.api.which(), odd.api_2.which(), odd.range('abc', 4), odd.class_(), odd.api.len('ab', len=1)]"
        ),
        "[1, 2, 7, 1, 3]"
    );
    assert_eq!(repr(&mut session, "odd.__all__"), "['range', 'class_', 'Error', 'api', 'api_2']");
}

/// The code that frees a resource is the tool's, and can be as hostile as any other.
#[test]
fn a_destructor_is_stopped_and_its_failure_is_known() {
    let component = |destructor: &str| {
        wat::parse_str(format!(
            r#"(component
                (core module $d (func (export "drop") (param i32) {destructor}))
                (core instance $d (instantiate $d))
                (type $t (resource (rep i32) (dtor (core func $d "drop"))))
                (core func $new (canon resource.new $t))
                (core module $m
                    (import "" "new" (func $new (param i32) (result i32)))
                    (func (export "make") (param i32) (result i32) local.get 0 call $new)
                    (func (export "get") (param i32) (result i32) local.get 0)
                    (func (export "eat") (param i32 i32)))
                (core instance $i (instantiate $m (with "" (instance (export "new" (func $new))))))
                (func $make (param "v" u32) (result (own $t)) (canon lift (core func $i "make")))
                (func $get (param "v" (borrow $t)) (result u32) (canon lift (core func $i "get")))
                (func $eat (param "v" (option (own $t))) (canon lift (core func $i "eat")))
                (component $c
                    (import "t" (type $t (sub resource)))
                    (import "make" (func $make (param "v" u32) (result (own $t))))
                    (import "get" (func $get (param "v" (borrow $t)) (result u32)))
                    (import "eat" (func $eat (param "v" (option (own $t)))))
                    (export $te "thing" (type $t))
                    (export "make" (func $make) (func (param "v" u32) (result (own $te))))
                    (export "get" (func $get) (func (param "v" (borrow $te)) (result u32)))
                    (export "eat" (func $eat) (func (param "v" (option (own $te))))))
                (instance $things (instantiate $c
                    (with "t" (type $t)) (with "make" (func $make)) (with "get" (func $get)) (with "eat" (func $eat))))
                (export "a:b/things" (instance $things)))"#
        ))
        .unwrap()
    };
    let mut grants = ToolGrants::default();
    grants.limits.timeout = Some(Duration::from_millis(300));
    for (destructor, kept) in [("(loop (br 0))", false), ("unreachable", false), ("", true)] {
        let tool = Tool::from_bytes("thing", component(destructor)).grants(grants.clone());
        let kernel = builder().tool(tool).build().unwrap();
        let mut session = kernel.session().limits(limits()).start().unwrap();
        let begun = Instant::now();
        let code = "
from tools.thing import make, get, eat
from tools import ToolClosed
old, dropped = make(1), make(2)
dropped.close()
new = make(3)
try: found = get(old)
except ToolClosed: found = None
old.close()
found, get(new)";
        let expected = if kept { "(1, 3)" } else { "(None, 3)" };
        assert_eq!(repr(&mut session, code), expected, "{destructor}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{destructor}");
        // What was given inside of another value is gone as well.
        let code = "
given = make(5)
eat(given)
other = make(6)
try: given.close(); get(given)
except ToolClosed: pass
get(other)";
        assert_eq!(repr(&mut session, code), "6", "{destructor}");
    }
}

/// A module of the program's own called `tools` is what it imports where there are no tools.
#[test]
fn without_tools_the_name_is_the_programs() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("tools.py"), "answer = 42").unwrap();
    let kernel = builder().build().unwrap();
    let grants =
        Grants { workspace: agentkernel::Workspace::Directory(directory.path().into()), ..Grants::default() };
    let mut session = kernel.session().grants(grants).start().unwrap();
    assert_eq!(repr(&mut session, "import tools; tools.answer"), "42");
}
