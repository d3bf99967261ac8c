//! Programs that mean harm: each limit and each denial meets one that tries to get past it, and
//! afterwards the kernel serves others as before.

use std::time::{Duration, Instant};

use agentkernel::{Ending, Grants, Limits};
use agentkernel_tests::{kernel, limits, raised, run, run_with, session, value};

fn short(timeout: Duration) -> Limits {
    let mut limits = limits();
    limits.timeout = Some(timeout);
    limits
}

/// Runs `code` under a limit of 300 ms and expects it to be stopped within a second more.
#[track_caller]
fn times_out(code: &str) {
    let mut session = session(short(Duration::from_millis(300)));
    session.run_blocking("import re, time, itertools, collections, json, random").unwrap();
    let start = Instant::now();
    let outcome = session.run_blocking(code).unwrap();
    let elapsed = start.elapsed();
    assert_eq!(outcome.ending, Ending::TimedOut, "{code}");
    assert!(elapsed < Duration::from_millis(1300), "{code}: stopped after {elapsed:?}");
    assert_eq!(session.is_alive(), kernel().info().host_owned_memory, "it was put back, where it can be");
    assert_eq!(value(&run("1 + 1")).repr, "2");
}

#[test]
fn computing_is_stopped() {
    times_out("while True: pass");
    times_out("sum(range(10**12))");
    times_out("10**10**8");
    times_out("re.match('(a+)+$', 'a' * 40 + 'b')");
    times_out("max(itertools.count())");
    times_out("collections.deque(itertools.repeat(None), maxlen=0)");
    times_out("[0] * 10**6 in itertools.cycle([1])");
    times_out("'x' * 10**7 in itertools.cycle(['y'])");
    times_out("def f(n): return f(n - 1) + f(n - 1) if n else 1\nf(60)");
    times_out("int('9' * 4300) ** 10**6");
}

#[test]
fn catching_everything_does_not_help() {
    times_out("while True:\n  try:\n    while True: pass\n  except BaseException: pass");
    times_out("class C:\n  def __del__(self):\n    while True: pass\nC()");
    times_out("import atexit, signal\nsignal.signal(signal.SIGINT, lambda *a: None)\nwhile True: pass");
}

#[test]
fn waiting_is_stopped() {
    times_out("time.sleep(100)");
    times_out("import asyncio\nawait asyncio.sleep(100)");
    times_out("import asyncio\nawait asyncio.Event().wait()");
    times_out("import asyncio\nasyncio.run(asyncio.sleep(100))");
    times_out("import select\nselect.select([], [], [], 100)");
    times_out("from wit_world.imports import operations\noperations.sleep(10**12).take()");
    times_out("from wit_world.imports import operations\noperations.wait([operations.sleep(10**12)], None)");
    times_out("from wit_world.imports import operations\nwhile True: operations.wait([], 1)");
}

#[test]
fn memory_is_limited() {
    let mut limits = limits();
    limits.memory_bytes = 128 << 20;
    for code in [
        "x = bytearray(10**9)",
        "x = []\nwhile True: x.append('y' * 10**6)",
        "x = [[]]\nwhile True: x.append([0] * 1000)",
        "x = 'y' * (2**31 - 1)",
        "x = {}\nfor i in range(10**9): x[i] = str(i)",
        "x = list(range(10**9))",
        "'%*d' % (10**9, 1)",
        "x = b'x' * 10**7\nwhile True: x += x",
    ] {
        let outcome = run_with(limits.clone(), code);
        match &outcome.ending {
            Ending::Raised(exception) => assert_eq!(exception.kind, "MemoryError", "{code}"),
            Ending::OutOfMemory => {}
            other => panic!("{code}: {other:?}"),
        }
        assert!(outcome.usage.peak_memory_bytes <= limits.memory_bytes, "{code}");
        assert_eq!(value(&run("1 + 1")).repr, "2");
    }
}

#[test]
fn a_memory_error_leaves_the_session_usable() {
    let mut session = session(limits());
    session.run_blocking("x = 41").unwrap();
    let outcome = session.run_blocking("bytearray(10**9)").unwrap();
    assert_eq!(raised(&outcome).0, "MemoryError");
    assert_eq!(value(&session.run_blocking("x + 1").unwrap()).repr, "42");
}

#[test]
fn output_is_limited() {
    let mut limits = limits();
    limits.output_bytes = 1000;
    let mut session = session(limits);
    let outcome = session
        .run_blocking("import sys\nprint('a' * 600)\nprint('b' * 600, file=sys.stderr)\nprint('c' * 600)\n7")
        .unwrap();
    assert_eq!(value(&outcome).repr, "7");
    let marker = "[agentkernel: the output limit of 1000 bytes is reached; the rest is dropped]";
    let stderr = String::from_utf8(outcome.stderr).unwrap();
    assert_eq!(outcome.stdout.len(), 601);
    assert!(stderr.contains(marker), "{stderr}");
    assert_eq!(outcome.usage.output_bytes, 3 * 601);
    assert_eq!(outcome.usage.output_dropped_bytes, 3 * 601 - 1000);
    // Nothing more passes in later turns, and the host keeps nothing.
    let outcome = session.run_blocking("print('d' * 10**6)").unwrap();
    assert!(outcome.stdout.len() < 200);
}

#[test]
fn an_endless_writer_costs_no_memory_of_the_host() {
    let mut limits = short(Duration::from_millis(500));
    limits.output_bytes = 1 << 20;
    let outcome = run_with(limits, "while True: print('x' * 10000)");
    assert_eq!(outcome.ending, Ending::TimedOut);
    assert!(outcome.stdout.len() <= (1 << 20) + 200);
}

#[test]
fn file_descriptors_one_and_two_are_the_same_streams() {
    let outcome = run("import os\nos.write(1, b'out'); os.write(2, b'err')");
    assert_eq!(outcome.stdout, b"out");
    assert_eq!(outcome.stderr, b"err");
}

#[test]
fn host_calls_in_flight_are_limited() {
    let mut limits = limits();
    limits.operations = 10;
    let code = "
from wit_world.imports import operations
from componentize_py_types import Err
held = []
try:
    while True:
        held.append(operations.sleep(10**12))
except Err as error:
    print(len(held), error.value.kind)
";
    let outcome = run_with(limits, code);
    assert_eq!(outcome.stdout, b"10 limit\n", "{outcome:?}");
}

#[test]
fn functions_that_the_host_does_not_have_are_errors() {
    let code = "
from wit_world.imports import modules
from componentize_py_types import Err
assert modules.find('tools') is None
kinds = []
for ask in modules.call, modules.start:
    for function in 0, 1, 2**32 - 1:
        try:
            ask(function, b'x' * 10**6, b'')
        except Err as error:
            kinds.append(error.value.kind)
set(kinds), len(kinds)
";
    assert_eq!(value(&run(code)).repr, "({'unknown'}, 6)");
}

#[test]
fn recursion_ends_cleanly() {
    assert_eq!(raised(&run("def f(): f()\nf()")).0, "RecursionError");
    for code in [
        "import sys\nsys.setrecursionlimit(10**9)\ndef f(): f()\nf()",
        "import sys\nsys.setrecursionlimit(10**9)\nclass C:\n  def __getattr__(self, n): return getattr(self, n + 'x')\nC().a",
        "x = []\nfor i in range(10**6): x = [x]\nrepr(x)",
        "x = ()\nfor i in range(10**6): x = (x,)\nx == (x,)\nhash(x)",
        "x = None\nfor i in range(10**6): x = [x]\ndel x",
        "eval('(' * 10**5 + ')' * 10**5)",
        "eval('-' * 10**6 + '1')",
        "import re\nre.compile('(' * 10**4 + ')' * 10**4)",
        "import json\njson.loads('[' * 10**6)",
        "import sys, json\nsys.setrecursionlimit(10**9)\njson.loads('[' * 10**6)",
        "import pickle, sys\nsys.setrecursionlimit(10**9)\nx = []\nfor i in range(10**5): x = [x]\npickle.dumps(x)",
    ] {
        let outcome = run_with(short(Duration::from_secs(10)), code);
        let clean = match &outcome.ending {
            Ending::Raised(exception) => {
                ["RecursionError", "MemoryError", "SyntaxError"].contains(&exception.kind.as_str())
                    || exception.kind.ends_with("Error")
            }
            Ending::Completed(_) | Ending::Trapped(_) | Ending::OutOfMemory | Ending::TimedOut => true,
            _ => false,
        };
        assert!(clean, "{code}: {:?}", outcome.ending);
        assert_eq!(value(&run("1 + 1")).repr, "2");
    }
}

/// What ordinary programs nest is far from any limit.
#[test]
fn deeply_nested_data_is_ordinary() {
    for code in [
        "class N:\n  def __init__(self, next): self.next = next\nn = None\nfor i in range(100_000): n = N(n)\ndel n\n1",
        "x = []\nfor i in range(200_000): x = [x]\ndel x\n1",
        "x = {}\nfor i in range(100_000): x = {1: x}\ndel x\n1",
        "x = ()\nfor i in range(10_000): x = (x,)\ny = ()\nfor i in range(10_000): y = (y,)\nhash(x) == hash(y) and 1",
        "e = None\nfor i in range(10_000):\n  n = ValueError(i)\n  n.__cause__ = e\n  e = n\ndel e, n\n1",
    ] {
        assert_eq!(value(&run(code)).repr, "1", "{code}");
    }
    for code in [
        "class C:\n  def __call__(self): return self()\nC()()",
        "def f(x): return list(map(f, [x]))\nf(1)",
        "class C:\n  def __getattr__(self, n): return getattr(self, n + 'x')\nC().a",
        "def f(n): return max([n], key=lambda x: f(x + 1))\nf(0)",
    ] {
        assert_eq!(raised(&run(code)).0, "RecursionError", "{code}");
    }
}

#[test]
fn nothing_of_the_host_shows() {
    assert_eq!(raised(&run("open('/etc/passwd')")).0, "FileNotFoundError");
    assert_eq!(value(&run("import os; sorted(os.environ.items())")).repr, "[]");
    let outcome = run("import os; os.listdir('/workspace')");
    assert_eq!(value(&outcome).repr, "[]");
    for code in [
        "import os; os.listdir('/proc')",
        "import os; os.stat('/root')",
        "open('/workspace/../etc/passwd')",
        "open('../../etc/passwd')",
        "import os; os.chdir('/workspace/..'); os.listdir('etc')",
    ] {
        let outcome = run(code);
        assert!(
            matches!(&outcome.ending, Ending::Raised(e) if e.kind.ends_with("Error")),
            "{code}: {outcome:?}"
        );
    }
}

#[test]
fn the_network_is_denied() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    for code in [
        format!("import socket\nsocket.create_connection(('127.0.0.1', {port}), 1)"),
        format!("import socket\ns = socket.socket()\ns.connect(('127.0.0.1', {port}))"),
        "import socket\nsocket.getaddrinfo('localhost', 80)".to_owned(),
        "import socket\ns = socket.socket(type=socket.SOCK_DGRAM)\ns.sendto(b'x', ('127.0.0.1', 9))"
            .to_owned(),
        format!("import urllib.request\nurllib.request.urlopen('http://127.0.0.1:{port}', timeout=1)"),
    ] {
        let outcome = run_with(short(Duration::from_secs(5)), &code);
        assert!(matches!(outcome.ending, Ending::Raised(_)), "{code}: {outcome:?}");
    }
    assert!(listener.accept().is_err(), "nobody connected");
}

#[test]
fn environment_is_what_was_granted() {
    let mut grants = Grants::default();
    grants.environment.insert("LANG".into(), "C".into());
    grants.environment.insert("TOKEN".into(), "ü".into());
    let mut session = kernel().session().grants(grants).start().unwrap();
    let outcome = session.run_blocking("import os; sorted(os.environ.items())").unwrap();
    assert_eq!(value(&outcome).repr, "[('LANG', 'C'), ('TOKEN', 'ü')]");
}

#[test]
fn handles_are_limited() {
    let mut limits = limits();
    limits.open_files = 20;
    let code = "
files = []
try:
    while len(files) < 1000:
        files.append(open(f'f{len(files)}', 'w'))
except OSError as error:
    count = len(files)
    files.clear()
count == 20 and open('again', 'w').write('x')
";
    assert_eq!(value(&run_with(limits, code)).repr, "1");
}

#[test]
fn written_bytes_are_limited() {
    let mut limits = limits();
    limits.write_bytes = 1 << 20;
    let code = "
try:
    with open('big', 'wb', buffering=0) as file:
        while True:
            file.write(bytes(1 << 16))
except OSError as error:
    print(error.strerror)
import os
os.stat('big').st_size
";
    let outcome = run_with(limits.clone(), code);
    let size: u64 = value(&outcome).repr.parse().unwrap();
    assert!(((1 << 20) - (1 << 16)..=1 << 20).contains(&size), "{size}");
    // Neither truncation nor holes nor many files get around it.
    for code in [
        "open('hole', 'wb').truncate(1 << 40)",
        "f = open('hole', 'wb')\nf.seek(1 << 40)\nf.write(b'x')\nf.flush()",
        "for i in range(100):\n  with open(f'f{i}', 'wb') as f: f.write(bytes(1 << 16))",
        "f = open('again', 'wb', buffering=0)\nfor i in range(100):\n  f.seek(0); f.write(bytes(1 << 16))",
    ] {
        let outcome = run_with(limits.clone(), code);
        let (kind, message) = raised(&outcome);
        assert_eq!(kind, "OSError", "{code}");
        // The interpreter's libc does not ask a stream why it failed.
        assert!(message.contains("No space left") || message.contains("I/O error"), "{code}: {message}");
    }
}

#[test]
fn new_entries_are_limited() {
    let mut limits = limits();
    limits.new_entries = 50;
    let code = "
import os
counts = []
for make in (lambda n: os.mkdir(n), lambda n: open(n, 'w').close(), lambda n: os.symlink('x', n),
             lambda n: os.link('origin', n), lambda n: os.close(os.open(n, os.O_CREAT | os.O_RDONLY))):
    open('origin', 'w').close()
    try:
        for i in range(1000): make(f'n{i}')
    except OSError as error:
        counts.append((i, error.strerror))
    for name in os.listdir():
        os.rmdir(name) if os.path.isdir(name) and not os.path.islink(name) else os.unlink(name)
counts
";
    // One of them is the file that links are made of.
    assert_eq!(
        value(&run_with(limits, code)).repr,
        format!("[{}]", ["(49, 'Quota exceeded')"; 5].join(", "))
    );
}

/// A file that is made through a link to nowhere is one more.
#[test]
fn entries_made_through_links_are_counted() {
    let mut limits = limits();
    limits.new_entries = 20;
    let code = "
import os
os.symlink('x', 'a')
try:
    for i in range(100):
        open('a', 'w').close()
        os.rename('x', f'y{i}')
except OSError as error:
    print(error.strerror)
len(os.listdir())";
    let outcome = run_with(limits, code);
    assert_eq!((value(&outcome).repr.as_str(), outcome.stdout.as_slice()), ("20", &b"Quota exceeded\n"[..]));
}

#[test]
fn a_long_path_is_refused() {
    let mut limits = limits();
    limits.path_bytes = 100;
    let outcome = run_with(limits, "open('x' * 101, 'w')");
    assert_eq!(raised(&outcome).0, "OSError");
}

#[test]
fn the_process_cannot_be_ended_from_inside() {
    for (code, expected) in [("import os; os._exit(3)", 3), ("raise SystemExit(4)", 4), ("exit(5)", 5)] {
        assert_eq!(run(code).ending, Ending::Exited(expected), "{code}");
    }
    let outcome = run("import os; os.abort()");
    assert!(matches!(outcome.ending, Ending::Trapped(_) | Ending::Exited(_)), "{outcome:?}");
    let outcome = run("import signal, os; os.kill(os.getpid(), signal.SIGKILL)");
    assert!(!matches!(outcome.ending, Ending::Completed(_)), "{outcome:?}");
}

/// Byte code that no compiler makes can corrupt the interpreter; the sandbox is around it.
#[test]
fn broken_byte_code_harms_nobody_else() {
    for body in ["bytes([100, 200] * 50)", "bytes(range(256))", "bytes([2, 255] * 1000)", "bytes([83, 0])"] {
        let code = format!(
            "def f(): pass\ncode = f.__code__.replace(co_code={body}, co_stacksize=1)\nf.__code__ = code\nf()"
        );
        let outcome = run_with(short(Duration::from_secs(2)), &code);
        drop(outcome);
        assert_eq!(value(&run("1 + 1")).repr, "2");
    }
}

#[test]
fn randomness_differs_between_sessions() {
    let code = "import random, os, uuid, secrets, tempfile\n(random.random(), os.urandom(8), uuid.uuid4().hex, secrets.token_hex(8), random.Random().random())";
    let (first, second) = (run(code), run(code));
    let parts = |outcome: &agentkernel::Outcome| -> Vec<String> {
        value(outcome).repr.trim_matches(['(', ')']).split(", ").map(str::to_owned).collect()
    };
    for (one, other) in parts(&first).iter().zip(parts(&second)) {
        assert_ne!(one, &other);
    }
}

#[test]
fn much_output_costs_the_program_no_memory() {
    let mut limits = limits();
    limits.output_bytes = 1 << 20;
    let mut session = session(limits);
    let before = session.run_blocking("import sys").unwrap().usage.peak_memory_bytes;
    let code = "for _ in range(20_000): print('x' * 10_000)\nsys.stdout.buffer.write(b'\\xff' * 10**7)";
    let usage = session.run_blocking(code).unwrap().usage;
    assert_eq!(usage.output_bytes, 20_000 * 10_001 + 10_000_000);
    assert!(usage.peak_memory_bytes - before < 32 << 20, "{} bytes more", usage.peak_memory_bytes - before);
}

#[test]
fn what_was_printed_before_a_program_was_stopped_is_not_lost() {
    for code in ["print('before')\n10**10**8", "print('before')\nwhile True: pass"] {
        let outcome = run_with(short(Duration::from_millis(300)), code);
        assert_eq!(outcome.ending, Ending::TimedOut);
        assert_eq!(outcome.stdout, b"before\n", "{code}");
    }
    let outcome = run("import os\nprint('before')\nos.abort()");
    assert_eq!(outcome.stdout, b"before\n", "{outcome:?}");
}

/// The host reads pending output out of memory that the program controls.
#[test]
fn a_program_that_moves_its_output_buffer_gains_nothing() {
    let outcome = run_with(
        short(Duration::from_millis(300)),
        "import sys\nsys.stdout = sys.__stdout__ = None\nimport gc\ngc.collect()\nx = [bytearray(10**5) for _ in range(100)]\nwhile True: pass",
    );
    assert_eq!(outcome.ending, Ending::TimedOut);
    assert!(outcome.stdout.len() <= 1 << 20);
}

/// A value that is too large to be handed over is cut, or has no JSON form; the session lives on.
#[test]
fn large_values_cost_the_host_little() {
    let mut session = session(Limits::default());
    for code in ["'x' * 68_000_000", "list(range(5_000_000))", "bytearray(10_000_000)"] {
        let outcome = session.run_blocking(code).unwrap();
        let value = value(&outcome);
        assert!(value.repr.len() < 2 << 20 && value.repr.ends_with("more characters]"), "{code}");
        assert_eq!(value.json, None, "{code}");
    }
    let outcome = session.run_blocking("raise ValueError('y' * 50_000_000)").unwrap();
    assert!(raised(&outcome).1.len() < 2 << 20);
    // A program that gets at our own Python gains nothing by it.
    let forge = "import _agentkernel.turn as t\nt._json = lambda v: '[' + '0,' * 10_000_000 + '0]'\nt._MAX_JSON = 1 << 40\n0";
    let outcome = session.run_blocking(forge).unwrap();
    assert_eq!(value(&outcome).json, None);
    let forge = "t._json = lambda v: '[' + '0,' * 40_000_000 + '0]'\n0";
    assert!(matches!(session.run_blocking(forge).unwrap().ending, Ending::Trapped(_)));
    assert_eq!(value(&run("1 + 1")).repr, "2");
}
