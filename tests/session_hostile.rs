//! Programs that try to get something through a rollback, a fork, an image or a slot that is used again.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agentkernel::{Ending, ErrorKind, Grants, Kernel, Limits, Session, Stdin};
use agentkernel_tests::{
    builder, completes as run, echo, kernel, limits, raised, repr, session, skip_unless_owned,
};

fn short(milliseconds: u64) -> Limits {
    let mut limits = limits();
    limits.timeout = Some(Duration::from_millis(milliseconds));
    limits
}

/// Byte code that no compiler makes: a constant beyond the end of the constants, whose address is that
/// of an object made up in a `bytes`. It is a `bytearray` of all of the interpreter's memory.
const PEEK: &str = "
import struct, types, opcode
def peek(size):
    fake = struct.pack('<IIIIIII', 0x50000000, id(bytearray), size - 4096, size - 4096, 4096, 4096, 0)
    pointer = struct.pack('<II', id(fake) + 16, id(fake) + 16)
    code = (lambda: 1.5).__code__
    consts = (1.5, 2.5)
    # Where the items of a tuple begin depends on the build.
    for first in (12, 16, 20):
        data = (id(pointer) + 16 - id(consts) - first) % 2**32
        if data % 4 == 0:
            index = data // 4
            steps = b''.join(bytes([opcode.opmap['EXTENDED_ARG'], index >> shift & 255]) for shift in (24, 16, 8))
            body = bytes([opcode.opmap['RESUME'], 0]) + steps + bytes([opcode.opmap['LOAD_CONST'], index & 255])
            body += bytes([opcode.opmap['RETURN_VALUE'], 0])
            if first == FIRST:
                made = types.FunctionType(code.replace(co_code=body, co_consts=consts), {})
                return made(), fake, pointer, consts
def find(memory, pattern):
    # Long runs alone: the pattern itself lies about in a few places.
    at, found = 0, 0
    while (at := memory.find(pattern * 2, at)) >= 0:
        if memory[at:at + 64 * len(pattern)].count(pattern) >= 16:
            found += 1
            at += 4096
        at += 1
    return found
";

/// Fills a heap with a pattern in many ways, in blocks of all sizes.
const FILL: &str = "
pattern = bytes(b ^ 0xff for b in bytes.fromhex('3ac5917e'))
large = [bytearray(pattern * (1 << 18)) for _ in range(24)]
middle = [bytearray(pattern * 2048) for _ in range(200)]
small = [pattern * 16 + bytes([n & 255]) for n in range(20_000)]
text = [pattern.decode('latin-1') * 100 for _ in range(1000)]
import array
rows = [array.array('B', pattern * 500) for _ in range(500)]
del middle[::2], rows[::2]
";

const LOOK: &str = "
pattern = bytes(b ^ 0xff for b in bytes.fromhex('3ac5917e'))
memory, *kept = peek(SIZE)
found = find(memory, pattern)
del memory, kept
found
";

/// What a session finds of the pattern in its memory, all of it.
#[track_caller]
fn found(session: &mut Session) -> String {
    run(session, "import opcode, struct, types");
    let size = session.snapshot().unwrap().memory_bytes();
    let first = first_of_a_tuple();
    run(session, &PEEK.replace("FIRST", &first.to_string()));
    repr(session, &LOOK.replace("SIZE", &size.to_string()))
}

/// Where the items of a tuple begin; a wrong guess ends the interpreter, which is put back.
fn first_of_a_tuple() -> u32 {
    static FIRST: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    *FIRST.get_or_init(|| {
        for first in [16, 12, 20] {
            let mut session = session(limits());
            run(&mut session, &PEEK.replace("FIRST", &first.to_string()));
            let outcome =
                session.run_blocking("memory, *kept = peek(1 << 20)\nlen(memory), type(memory)").unwrap();
            if let Ending::Completed(Some(value)) = &outcome.ending
                && value.repr.contains("bytearray")
            {
                return first;
            }
        }
        panic!("the search for what is left in memory does not work with this interpreter")
    })
}

#[test]
fn no_byte_of_a_session_is_in_the_memory_of_another() {
    skip_unless_owned!();
    let kernel = builder().build().unwrap();
    let image =
        kernel.image().prelude("import json, re\ndata = bytearray(b'd' * (3 << 20))").build().unwrap();
    let mut base = session(limits());
    let snapshot = {
        run(&mut base, "x = bytearray(b'x' * (2 << 20))");
        base.snapshot().unwrap()
    };
    let start = |which: usize| {
        let builder = kernel.session().limits(limits());
        match which % 3 {
            0 => builder.start().unwrap(),
            1 => builder.image(&image).start().unwrap(),
            _ => builder.image(&snapshot).start().unwrap(),
        }
    };
    for round in 0..3 {
        let mut writers: Vec<Session> = (0..4).map(|number| start(round + number)).collect();
        for writer in &mut writers {
            run(writer, FILL);
        }
        // The search works: it finds what is there, in a fork as well, and what was freed since.
        assert_ne!(found(&mut writers[0]), "0");
        let mut fork = writers[1].fork().unwrap();
        assert_ne!(found(&mut fork), "0");
        // A way back: what the turn that was taken back wrote is not there.
        let mut back = start(round);
        run(&mut back, "1");
        run(&mut back, FILL);
        back.rollback().unwrap();
        assert_eq!(found(&mut back), "0", "round {round}");
        let stopped = back.run_blocking(format!("{FILL}\nimport os; os.abort()")).unwrap();
        assert!(stopped.rolled_back);
        assert_eq!(found(&mut back), "0", "round {round}");
        drop((writers, fork));
        kernel.keep_ready(None, 4).unwrap();
        kernel.keep_ready(Some(&image), 4).unwrap();
        if round > 0 {
            std::thread::sleep(Duration::from_millis(100));
        }
        let mut after: Vec<Session> = (0..9).map(start).collect();
        for (number, session) in after.iter_mut().enumerate() {
            assert_eq!(found(session), "0", "round {round}, session {number}");
        }
    }
}

#[test]
fn what_breaks_the_library_breaks_its_own_session_alone() {
    skip_unless_owned!();
    let hold = "held_file = open('held', 'w')";
    for code in [
        "import _agentkernel.held as h\nh.held = lambda: []",
        "import _agentkernel.held as h\nh._held = lambda: ['\\0' * 100_000] * 10_000",
        "import _agentkernel.held as h\ndel h.held, h._held",
        "import app, wit_world\napp.Guest.held = lambda self: [1, 2]",
        "import app\napp.Guest.held = lambda self: 'no list'\napp.Guest.rest = None",
        "import app\napp.Guest.held = lambda self: ['x' * (1 << 20)] * 64",
        "import app\napp.Guest.held = lambda self: 1 / 0",
        "import app, sys\napp.Guest.held = lambda self: sys.exit(3)",
        "import app, os\napp.Guest.held = lambda self: os.abort()",
        "import app\ndef held(self):\n    while True: pass\napp.Guest.held = held",
        "import app\ndef held(self): print('said beside the turns'); return self.held()\napp.Guest.held = held",
        "import app\ndel app.Guest",
        "import wit_world.imports.operations as o\nfor n in list(vars(o)): n[:2] != '__' and delattr(o, n)",
        "import wit_world.imports.console as c\nc.write = None",
        "import _agentkernel.turn as t\nt._configure = None",
        "import _agentkernel.turn as t\nt._configure = lambda settings: open('left open', 'w')",
        "import _agentkernel.turn as t\nt.guarded = t.run = lambda turn: turn",
        "import _agentkernel.files as f\nf.places = f.opened = None",
        "import _agentkernel.waiting as w\nw.loops = 3\nw.begin = None",
        "import _agentkernel.streams as s\ns._streams[:] = [None] * 3",
        "import _agentkernel.streams as s\ns._streams.clear()\nimport sys\nsys.stdout = sys.stderr = None",
        "import sys\nfor name in list(sys.modules): del sys.modules[name]",
        "import sys, builtins\nfor name in list(vars(builtins)): delattr(builtins, name)",
        "import gc\nfor o in gc.get_objects():\n    if type(o) is list: o.clear()",
        "import random, os\nrandom.seed = os.urandom = None\nos.environ = 3",
    ] {
        for held in [false, true] {
            let mut broken = kernel().session().limits(short(1000)).start().unwrap();
            run(&mut broken, "import os; os.listdir()");
            if held {
                run(&mut broken, hold);
            }
            let Ok(_) = broken.run_blocking(code) else { continue };
            let began = Instant::now();
            let image = broken.snapshot();
            assert!(began.elapsed() < Duration::from_secs(8), "{code}: {:?}", began.elapsed());
            match &image {
                Ok(_) => assert!(!held, "{code}: what is held is counted by the host"),
                Err(error) => {
                    let kind = error.kind();
                    assert!(matches!(kind, ErrorKind::Held | ErrorKind::SessionEnded), "{code}: {error}");
                    assert!(error.to_string().len() < 64 << 10, "{code}: {} bytes", error.to_string().len());
                }
            }
            if let Ok(image) = image {
                let mut fork = kernel().session().limits(short(1000)).image(&image).start().unwrap();
                let _ = fork.run_blocking("1 + 1");
                let _ = fork.rollback();
                let _ = fork.complete("pri");
                let _ = fork.run_blocking("while True: pass");
            }
            let _ = broken.fork().map(|mut fork| fork.run_blocking("1 + 1"));
            let _ = broken.rollback();
            let _ = broken.run_blocking("2 + 2");
        }
    }
    assert_eq!(repr(&mut session(limits()), "1 + 1"), "2");
}

#[test]
fn handlers_that_are_left_behind_act_on_their_own_copy() {
    skip_unless_owned!();
    let mut parent = session(limits());
    run(
        &mut parent,
        r#"
import atexit, gc, signal, sys, threading, weakref
said = []
class Late:
    def __del__(self): said.append('del')
class Target: pass
late, target = Late(), Target()
cycle = [Late()]; cycle.append(cycle); del cycle
reference = weakref.ref(target, lambda r: said.append('weakref'))
atexit.register(said.append, 'atexit')
signal.signal(signal.SIGINT, lambda *a: said.append('signal'))
def tracer(frame, event, argument, said=said):
    said.append('trace') if len(said) < 100 and frame.f_code.co_name == 'traced' else None
    return None
def traced(): pass
sys.settrace(tracer)
"#,
    );
    let mut fork = parent.fork().unwrap();
    run(&mut fork, "del late, target; gc.collect()");
    assert_eq!(
        repr(&mut fork, "[said.count(n) for n in ('del', 'weakref', 'atexit', 'signal')]"),
        "[2, 1, 0, 0]"
    );
    assert_eq!(repr(&mut parent, "[n for n in said if n != 'trace']"), "[]");
    let outcome = fork.run_blocking(agentkernel::Turn::new("pass").last()).unwrap();
    assert!(matches!(outcome.ending, Ending::Completed(_)), "{outcome:?}");
    drop(fork);
    assert_eq!(repr(&mut parent, "[n for n in said if n != 'trace']"), "[]");
}

fn with_tool() -> &'static Kernel {
    static KERNEL: std::sync::OnceLock<Kernel> = std::sync::OnceLock::new();
    KERNEL.get_or_init(|| builder().tool(echo()).build().unwrap())
}

/// A resource that a turn which was taken back had closed is closed, and not another one that was
/// opened since.
#[test]
fn a_resource_is_never_another_one_after_a_rollback_or_in_a_fork() {
    skip_unless_owned!();
    let mut session = with_tool().session().limits(limits()).start().unwrap();
    run(&mut session, "from tools.echo import counters as c\nkept = c.Counter(5)\nclosed = c.Counter(70)");
    run(&mut session, "closed.close(); other = c.Counter(1000); other.next()");
    session.rollback().unwrap();
    assert_eq!(repr(&mut session, "kept.next()"), "6", "what was not closed is there");
    let outcome = session.run_blocking("closed.next()").unwrap();
    assert_eq!(raised(&outcome).0, "tools.ToolClosed", "{outcome:?}");
    // In a fork none of them is there, also not by the numbers of new ones.
    let mut fork = session.fork().unwrap();
    for _ in 0..5 {
        run(&mut fork, "new = globals().get('new', []) + [c.Counter(3)]");
    }
    for name in ["kept", "closed"] {
        assert_eq!(raised(&fork.run_blocking(format!("{name}.next()")).unwrap()).0, "tools.ToolClosed");
    }
    assert_eq!(raised(&fork.run_blocking("c.total([new[0], kept])").unwrap()).0, "tools.ToolClosed");
    run(&mut fork, "new = [c.Counter(3) for _ in range(5)]");
    run(&mut fork, "del kept, closed");
    assert_eq!(repr(&mut fork, "[n.next() for n in new]"), "[4, 4, 4, 4, 4]");
    assert_eq!(repr(&mut session, "kept.next()"), "7");
    // The tool fails in a turn that is taken back: its resources went with it.
    let outcome = session
        .run_blocking("from tools.echo import faults as f\ntry: f.trap()\nexcept Exception: pass\nagain = [c.Counter(9) for _ in range(9)]\nimport os; os.abort()")
        .unwrap();
    assert!(outcome.rolled_back, "{outcome:?}");
    assert_eq!(raised(&session.run_blocking("kept.next()").unwrap()).0, "tools.ToolClosed");
}

#[test]
fn turns_that_are_taken_back_use_up_no_handles() {
    skip_unless_owned!();
    let mut limits = limits();
    (limits.open_files, limits.operations) = (16, 8);
    let mut session = with_tool().session().limits(limits).start().unwrap();
    run(
        &mut session,
        "import os, asyncio\nfrom wit_world.imports import operations\nopen('f', 'w').write('kept')",
    );
    for round in 0..40 {
        let outcome = session
            .run_blocking(
                "files = [open('f') for _ in range(8)]; half = open('half', 'w'); half.write('x' * 100)\n\
                 sleeping = [operations.sleep(10**12) for _ in range(8)]\nos.abort()",
            )
            .unwrap();
        assert!(matches!(outcome.ending, Ending::Trapped(_)), "round {round}: {outcome:?}");
        assert!(outcome.rolled_back);
    }
    assert_eq!(repr(&mut session, "open('f').read(), os.path.getsize('half')"), "('kept', 0)");
    run(
        &mut session,
        "files = [open('f') for _ in range(8)]; sleeping = [operations.sleep(1) for _ in range(8)]",
    );
}

#[test]
fn deep_recursion_and_memory_at_the_limit_are_taken_back() {
    skip_unless_owned!();
    let mut limits = short(500);
    limits.memory_bytes = 64 << 20;
    let mut session = kernel().session().limits(limits.clone()).start().unwrap();
    run(&mut session, "import sys, os\nkeep = [1]\nos.listdir()");
    for code in [
        "sys.setrecursionlimit(10**9)\ndef f(n): return f(n + 1) + keep.append(n)\nf(0)",
        "sys.setrecursionlimit(10**9)\nclass R:\n    def __repr__(self): return repr([self])\nwhile True:\n    try: repr(R())\n    except RecursionError: keep.append(2)",
        "x = []\nfor _ in range(10**7): x = [x]\nkeep.append(2)\ndel x\nwhile True: pass",
    ] {
        let outcome = session.run_blocking(code).unwrap();
        assert!(session.is_alive(), "{code}: {outcome:?}");
        if !outcome.rolled_back {
            session.rollback().unwrap();
        }
        assert_eq!(repr(&mut session, "keep"), "[1]", "{code}");
        run(&mut session, "os.listdir()");
    }
    // All memory is taken to the last byte; keeping, forking and going back need none of it.
    run(
        &mut session,
        "hoard = []\nos.listdir()\nsize = 1 << 22\nwhile size > 8:\n    try: hoard.append(bytearray(size))\n    except MemoryError: size //= 2",
    );
    let mut fork = session.fork().unwrap();
    for session in [&mut session, &mut fork] {
        for code in ["hoard.append(bytearray(1 << 22))", "hoard.clear()", "while True: pass"] {
            let outcome = session.run_blocking(code).unwrap();
            assert!(session.is_alive(), "{outcome:?}");
        }
        // There may be no memory to begin a turn in. The way back is there all the same.
        let _ = session.rollback();
        let _ = session.fork().unwrap();
    }
}

#[test]
fn with_all_memory_taken_a_held_file_is_still_named() {
    skip_unless_owned!();
    let mut limits = short(2000);
    limits.memory_bytes = 64 << 20;
    let mut session = kernel().session().limits(limits).start().unwrap();
    run(&mut session, "f = open('f', 'w')");
    run(
        &mut session,
        "hoard = []\nsize = 1 << 22\nwhile size > 8:\n    try: hoard.append(bytearray(size))\n    except MemoryError: size //= 2",
    );
    let error = session.snapshot().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Held, "{error}");
    let outcome = session.run_blocking("1").unwrap();
    assert!(session.is_alive(), "{outcome:?}");
    session.rollback().unwrap_err();
}

/// What a turn printed is passed on once, also if it is stopped while it is passed on.
#[test]
fn output_of_a_stopped_turn_is_passed_on_once() {
    skip_unless_owned!();
    for late in [false, true] {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&seen);
        let mut session = kernel()
            .session()
            .limits(short(300))
            .on_output(move |_, bytes| {
                into.lock().unwrap().extend_from_slice(bytes);
                if late && bytes.contains(&b'B') {
                    std::thread::sleep(Duration::from_millis(500));
                }
            })
            .start()
            .unwrap();
        run(&mut session, "x = 1");
        let outcome =
            session.run_blocking("print('A')\nprint('B', flush=True)\nprint('C')\nwhile True: pass").unwrap();
        assert!(outcome.rolled_back, "{outcome:?}");
        run(&mut session, "print('D')");
        let text = String::from_utf8(seen.lock().unwrap().clone()).unwrap();
        let expected = if late { "A\nB\nD\n" } else { "A\nB\nC\nD\n" };
        assert_eq!(text, expected, "late: {late}");
    }
}

/// Hard links are links in a fork as well: as copies they would take what no limit counts.
#[test]
fn a_fork_takes_no_more_of_the_disk_than_its_parent() {
    skip_unless_owned!();
    let mut limits = limits();
    limits.write_bytes = 16 << 20;
    let mut parent = kernel().session().limits(limits).start().unwrap();
    run(
        &mut parent,
        "import os\nos.makedirs('d/e')\nopen('large', 'wb').write(b'x' * (8 << 20))\n\
         for n in range(64): os.link('large', f'd/e/{n}')\nos.link('large', 'other')",
    );
    let mut fork = parent.fork().unwrap();
    run(&mut fork, "with open('large', 'r+b') as f: f.write(b'fork')");
    let look = "{open(n, 'rb').read(4) for n in ['large', 'other'] + [f'd/e/{n}' for n in range(64)]}";
    assert_eq!(repr(&mut fork, look), "{b'fork'}");
    assert_eq!(repr(&mut parent, look), "{b'xxxx'}");
}

/// What a read that was stopped would have given is for the next one.
#[test]
fn standard_input_is_not_lost_with_a_turn() {
    skip_unless_owned!();
    struct Slow(std::sync::mpsc::Receiver<&'static str>);
    impl std::io::Read for Slow {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let text = self.0.recv().unwrap_or("");
            buffer[..text.len()].copy_from_slice(text.as_bytes());
            Ok(text.len())
        }
    }
    let (say, said) = std::sync::mpsc::channel();
    let mut session =
        kernel().session().limits(short(300)).stdin(Stdin::Reader(Box::new(Slow(said)))).start().unwrap();
    run(&mut session, "x = 1");
    let outcome = session.run_blocking("input()").unwrap();
    assert_eq!(outcome.ending, Ending::TimedOut);
    say.send("first\n").unwrap();
    say.send("second\n").unwrap();
    assert_eq!(repr(&mut session, "input()"), "'first'");
    assert_eq!(repr(&mut session, "input()"), "'second'");
}

/// A program that spoils the streams' own buffers repeats its own output at most.
#[test]
fn text_that_never_leaves_its_stream_is_said_once_per_stop() {
    skip_unless_owned!();
    let mut session = kernel().session().limits(short(200)).start().unwrap();
    run(
        &mut session,
        "import _agentkernel.streams as s\nclass S(type(s._streams[1])):\n    def flush(self): pass\ns._streams[1].__class__ = S\nprint('stuck')",
    );
    for _ in 0..2 {
        let outcome = session.run_blocking("while True: pass").unwrap();
        assert!(outcome.rolled_back && outcome.stdout.len() < 100, "{outcome:?}");
    }
}

#[test]
fn variables_that_the_program_has_changed_stay_changed() {
    skip_unless_owned!();
    let mut grants = Grants { limits: limits(), ..Grants::default() };
    grants.environment.insert("WHO".into(), "granted".into());
    grants.environment.insert("GONE".into(), "granted".into());
    let mut session = kernel().session().grants(grants).start().unwrap();
    run(&mut session, "import os\nos.environ['WHO'] = 'changed'\ndel os.environ['GONE']");
    let look = "os.environ['WHO'], 'GONE' in os.environ";
    assert_eq!(repr(&mut session, look), "('changed', False)");
    session.rollback().unwrap();
    assert_eq!(repr(&mut session, look), "('changed', False)");
    assert_eq!(repr(&mut session.fork().unwrap(), look), "('changed', False)");
}

#[test]
fn streams_are_put_back_in_the_first_turn_of_a_fork_too() {
    skip_unless_owned!();
    let mut parent = session(limits());
    run(&mut parent, "import io, sys\nsys.stdout = io.StringIO()");
    let mut fork = parent.fork().unwrap();
    for session in [&mut parent, &mut fork] {
        let outcome = session.run_blocking("print('seen')").unwrap();
        assert_eq!(String::from_utf8_lossy(&outcome.stdout), "seen\n");
    }
}
