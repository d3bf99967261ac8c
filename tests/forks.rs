//! Forks, snapshots, images and the way back: what they keep, what they refuse, and that nothing leaks
//! from one session into another.

use std::time::Duration;

use agentkernel::{Access, Ending, ErrorKind, Grants, Image, Mount, Overlay, Session, Workspace};
use agentkernel_tests::{builder, echo, kernel, limits, raised, session, value};

/// A session with the usual limits, where states can be kept; the test is skipped elsewhere.
macro_rules! start {
    () => {
        match kernel().info().host_owned_memory {
            true => session(limits()),
            false => return eprintln!("skipped: this kernel does not own the guest's memory"),
        }
    };
}

#[track_caller]
fn repr(session: &mut Session, code: &str) -> String {
    value(&session.run_blocking(code).unwrap()).repr.clone()
}

#[track_caller]
fn run(session: &mut Session, code: &str) {
    let outcome = session.run_blocking(code).unwrap();
    assert!(matches!(outcome.ending, Ending::Completed(_)), "{outcome:?}");
}

const STATE: &str = r#"
import json, re, collections, dataclasses, asyncio, contextlib
def numbers():
    total = 0
    while True:
        got = yield total
        total += got or 1
walk = numbers(); next(walk); next(walk); walk.send(40)
@dataclasses.dataclass
class Point:
    x: int
    y: list = dataclasses.field(default_factory=list)
points = [Point(n, [n]) for n in range(1000)]
def counter():
    count = 0
    def up():
        nonlocal count
        count += 1
        return count
    return up
up = counter(); up()
pattern = re.compile("a(b+)")
queue = asyncio.Queue(); queue.put_nowait("waiting")
stack = contextlib.ExitStack(); left = []
stack.callback(left.append, 1)
class Meta(type): pass
class Odd(metaclass=Meta):
    __slots__ = ("a", "__weakref__")
odd = Odd(); odd.a = odd
"#;

const LOOK: &str = "(next(walk), points[7], up(), pattern.match('abb').group(1), queue.get_nowait(), odd.a is odd, \
stack.close(), left, type(Odd).__name__, sum(p.x for p in points))";
const SEEN: &str = "(42, Point(x=7, y=[7]), 2, 'bb', 'waiting', True, None, [1], 'Meta', 499500)";

#[test]
fn a_fork_has_all_of_the_state_and_shares_none_of_it() {
    let mut parent = start!();
    run(&mut parent, STATE);
    let mut forks: Vec<Session> = (0..3).map(|_| parent.fork().unwrap()).collect();
    for fork in &mut forks {
        assert_eq!(repr(fork, LOOK), SEEN);
        run(fork, "points.clear(); import decimal; mine = decimal.Decimal(1)");
    }
    // Forks of forks, and the parent itself, which saw nothing.
    run(&mut forks[0], "points.append('fork')");
    let mut below = forks[0].fork().unwrap();
    assert_eq!(repr(&mut below, "points, mine + 1, up()"), "(['fork'], Decimal('2'), 3)");
    assert_eq!(repr(&mut forks[0], "up()"), "3");
    assert_eq!(repr(&mut parent, LOOK), SEEN);
    assert_eq!(raised(&parent.run_blocking("mine").unwrap()).0, "NameError");
    drop(parent);
    assert_eq!(repr(&mut below, "points"), "['fork']");
}

#[test]
fn a_session_that_has_run_nothing_can_be_forked() {
    let mut parent = start!();
    let mut fork = parent.fork().unwrap();
    assert_eq!(repr(&mut fork, "1 + 1"), "2");
    assert_eq!(repr(&mut parent, "1 + 1"), "2");
}

#[test]
fn tracebacks_of_forks_show_the_lines_of_their_own_turns() {
    let mut parent = start!();
    run(&mut parent, "def f():\n    return 1 / 0");
    let mut fork = parent.fork().unwrap();
    let outcome = fork.run_blocking("f()").unwrap();
    let Ending::Raised(exception) = &outcome.ending else { panic!("{outcome:?}") };
    let lines: Vec<_> = exception.frames.iter().map(|frame| frame.source.clone().unwrap()).collect();
    assert_eq!(lines, ["f()", "return 1 / 0"]);
    assert_ne!(exception.frames[0].file, exception.frames[1].file);
}

#[test]
fn large_states_are_forked_again_and_again() {
    let mut parent = start!();
    run(
        &mut parent,
        "import hashlib, random\ndata = bytearray(random.randbytes(24 << 20))\ndigest = hashlib.sha256(data).hexdigest()",
    );
    for round in 0..4 {
        let mut fork = parent.fork().unwrap();
        assert_eq!(repr(&mut fork, "hashlib.sha256(data).hexdigest() == digest"), "True", "round {round}");
        run(&mut fork, "data[:] = bytes(len(data))");
    }
    let image = parent.snapshot().unwrap();
    assert!(image.changed_bytes() >= 24 << 20 && image.memory_bytes() > image.changed_bytes());
    for round in 0..4 {
        // From the third start on it is mapped, not copied.
        let mut fork = kernel().session().limits(limits()).image(&image).start().unwrap();
        assert_eq!(repr(&mut fork, "hashlib.sha256(data).hexdigest() == digest"), "True", "round {round}");
        run(&mut fork, "data[::4096] = bytes(len(data[::4096])); more = bytearray(8 << 20)");
        // A fork of what was mapped holds both.
        let mut below = fork.fork().unwrap();
        assert_eq!(repr(&mut below, "data[4096], data[1] == data[1], len(more)"), "(0, True, 8388608)");
        let directory = tempfile::tempdir().unwrap();
        fork.snapshot().unwrap().save(directory.path().join("x.akimg")).unwrap();
        let loaded = kernel().load_image(directory.path().join("x.akimg")).unwrap();
        let mut again = kernel().session().limits(limits()).image(&loaded).start().unwrap();
        assert_eq!(
            repr(&mut again, "hashlib.sha256(data).hexdigest()"),
            repr(&mut fork, "hashlib.sha256(data).hexdigest()")
        );
    }
}

#[test]
fn randomness_begins_anew() {
    let mut parent = start!();
    run(
        &mut parent,
        "import random, secrets, uuid, tempfile, os\nrandom.seed(1); random.random()\nnames = tempfile._get_candidate_names(); next(names)",
    );
    let draw = "(random.random(), secrets.token_hex(), str(uuid.uuid4()), os.urandom(8), next(tempfile._get_candidate_names()))";
    let mut fork = parent.fork().unwrap();
    let mut other = parent.fork().unwrap();
    let drawn = [repr(&mut parent, draw), repr(&mut fork, draw), repr(&mut other, draw)];
    for (index, one) in drawn.iter().enumerate() {
        for another in &drawn[..index] {
            let parts = |text: &str| text.split(", ").map(str::to_owned).collect::<Vec<_>>();
            for (a, b) in parts(one).iter().zip(parts(another)) {
                assert_ne!(*a, b);
            }
        }
    }
    assert_eq!(repr(&mut parent, "hash('x')"), repr(&mut fork, "hash('x')"));
}

#[test]
fn deterministic_forks_are_the_same_each_time_and_not_each_other() {
    drop(start!());
    let draw = "import random, time, os\n[random.random(), os.urandom(4), time.monotonic()]";
    let round = || {
        let mut parent = kernel().session().limits(limits()).deterministic(7).start().unwrap();
        run(&mut parent, "import random, time\nbefore = time.monotonic()");
        let (mut one, mut two) = (parent.fork().unwrap(), parent.fork().unwrap());
        assert_eq!(repr(&mut one, "time.monotonic() > before"), "True");
        [repr(&mut parent, draw), repr(&mut one, draw), repr(&mut two, draw)]
    };
    let first = round();
    assert_eq!(first, round());
    assert!(first[0] != first[1] && first[1] != first[2] && first[0] != first[2]);
}

#[test]
fn time_never_runs_backwards() {
    let mut parent = start!();
    run(
        &mut parent,
        "import time\ntime.sleep(0.05)\nseen = time.monotonic(), time.process_time(), time.time()",
    );
    let grows = "all(a <= b for a, b in zip(seen, (time.monotonic(), time.process_time(), time.time())))";
    let mut fork = parent.fork().unwrap();
    assert_eq!(repr(&mut fork, grows), "True");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("time.akimg");
    parent.snapshot().unwrap().save(&file).unwrap();
    let image = kernel().load_image(&file).unwrap();
    let mut woken = kernel().session().image(&image).start().unwrap();
    assert_eq!(repr(&mut woken, grows), "True");
    assert_eq!(repr(&mut woken, "time.monotonic() < seen[0] + 60"), "True");
}

#[test]
fn files_are_opened_anew_by_forks_and_by_their_parents() {
    let mut parent = start!();
    run(
        &mut parent,
        "import os, pathlib\nos.makedirs('a/b')\nopen('a/b/x', 'w').write('parent')\nos.symlink('b/x', 'a/link')\nos.chdir('a')",
    );
    for round in 0..50 {
        let mut fork = parent.fork().unwrap();
        assert_eq!(
            repr(&mut fork, "os.getcwd(), open('link').read(), sorted(os.listdir('/workspace'))"),
            "('/workspace/a', 'parent', ['a'])"
        );
        run(&mut fork, "open('b/x', 'w').write('fork')\nopen('/workspace/new', 'w').write('')");
        assert_eq!(repr(&mut fork, "open('link').read()"), "'fork'");
        assert_eq!(
            repr(&mut parent, "open('link').read(), os.listdir('/workspace')"),
            "('parent', ['a'])",
            "round {round}"
        );
    }
}

#[test]
fn a_granted_directory_is_the_same_for_both_and_more_may_be_granted() {
    drop(start!());
    let directory = tempfile::tempdir().unwrap();
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("rows"), "1 2 3").unwrap();
    let mut parent = kernel().session().limits(limits()).workspace(directory.path()).start().unwrap();
    run(&mut parent, "import os\nopen('note', 'w').write('from the parent')");
    let mut fork = parent.fork().unwrap();
    assert_eq!(repr(&mut fork, "open('note').read()"), "'from the parent'");
    let image = parent.snapshot().unwrap();
    let mut grants = Grants { limits: limits(), ..Grants::default() };
    grants.workspace = Workspace::Directory(directory.path().into());
    grants.mounts.push(Mount { host: data.path().into(), guest: "/data".into(), access: Access::ReadOnly });
    grants.environment.insert("WHO".into(), "fork".into());
    let mut other = kernel().session().grants(grants).image(&image).start().unwrap();
    assert_eq!(
        repr(&mut other, "open('/data/rows').read(), os.environ['WHO'], open('note').read()"),
        "('1 2 3', 'fork', 'from the parent')"
    );
    // And less: what the parent had is not the child's.
    let mut none = kernel().session().image(&other.snapshot().unwrap()).start().unwrap();
    assert_eq!(
        repr(&mut none, "os.path.exists('/data/rows'), 'WHO' in os.environ, os.path.exists('note')"),
        "(False, False, False)"
    );
}

#[track_caller]
fn refused(session: &mut Session, parts: &[&str]) {
    let error = session.snapshot().err().expect("it is refused");
    assert_eq!(error.kind(), ErrorKind::Held, "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "`{part}` in: {error}");
    }
    assert!(session.fork().is_err());
    assert!(session.is_alive());
}

#[test]
fn open_files_and_waiting_tasks_are_refused_by_name() {
    let mut parent = start!();
    run(&mut parent, "import os\nfor name in 'abc': open(name, 'w').write(name)");
    run(&mut parent, "kept = open('a')\nx = 1\nalso = os.fdopen(os.open('b', os.O_RDONLY))");
    refused(&mut parent, &["the file a, opened at <turn-2>:1", "<turn-2>:3"]);
    assert_eq!(repr(&mut parent, "kept.read(), also.read()"), "('a', 'b')", "a refusal closes nothing");
    run(&mut parent, "kept.close(); also.close()");
    run(&mut parent.fork().unwrap(), "open('a').read()");
    run(&mut parent, "number = os.open('c', os.O_RDONLY)");
    refused(&mut parent, &["os.open"]);
    run(&mut parent, "os.close(number)\nlisting = os.scandir('.'); next(listing)");
    refused(&mut parent, &["os.scandir"]);
    run(&mut parent, "listing.close()");
    run(
        &mut parent,
        "from wit_world.imports import operations\nimport asyncio\nasync def napping():\n    await asyncio.get_running_loop().wait_for_operation(operations.sleep(10**12))\nasync def begin():\n    global nap\n    nap = asyncio.create_task(napping(), name='my nap')\n    await asyncio.sleep(0)\nawait begin()",
    );
    refused(&mut parent, &["the task my nap (napping)"]);
    run(&mut parent, "nap.cancel()\nawait asyncio.sleep(0.01)");
    run(&mut parent.fork().unwrap(), "open('a').read()");
    // A timer is no handle: it is in memory, and time goes on in both.
    run(
        &mut parent,
        "got = []\nasync def later():\n    await asyncio.sleep(0.05)\n    got.append(1)\nasync def start():\n    global timer\n    timer = asyncio.create_task(later())\n    await asyncio.sleep(0)\nawait start()",
    );
    let mut fork = parent.fork().unwrap();
    run(&mut fork, "await timer");
    assert_eq!(repr(&mut fork, "got"), "[1]");
    assert_eq!(repr(&mut parent, "got"), "[]");
}

#[test]
fn names_in_refusals_cannot_hurt() {
    let mut parent = start!();
    let hostile = r"
import os, io
open('x', 'w').close()
class Evil(io.FileIO):
    def __getattribute__(self, name):
        if name == 'name': raise SystemExit(3)
        return object.__getattribute__(self, name)
    @property
    def closed(self): raise ValueError('no')
e = Evil('x')
class Text(str):
    def __str__(self): raise KeyboardInterrupt
f = open(Text('x'))
import _agentkernel.files
_agentkernel.files.places['not a reference'] = 1
";
    run(&mut parent, hostile);
    refused(&mut parent, &[]);
    assert_eq!(repr(&mut parent, "1 + 1"), "2");
    run(&mut parent, "_agentkernel.files.places = None");
    refused(&mut parent, &[]);
}

#[test]
fn what_writes_to_the_descriptors_of_the_streams_can_be_forked() {
    let mut parent = start!();
    let outcome = parent
        .run_blocking("import os, faulthandler\nos.write(1, b'one\\n')\nos.write(2, b'two\\n')")
        .unwrap();
    assert_eq!((&outcome.stdout[..], &outcome.stderr[..]), (&b"one\n"[..], &b"two\n"[..]));
    let mut fork = parent.fork().unwrap();
    for session in [&mut fork, &mut parent] {
        let outcome = session.run_blocking("os.write(1, b'again\\n'); print('and')").unwrap();
        assert_eq!(String::from_utf8_lossy(&outcome.stdout), "again\nand\n");
    }
}

#[test]
fn a_stopped_turn_is_taken_back() {
    drop(start!());
    let mut limits = limits();
    limits.timeout = Some(Duration::from_secs(2));
    limits.memory_bytes = 128 << 20;
    let mut session = session(limits);
    run(&mut session, STATE);
    run(&mut session, "open('file', 'w').write('kept')\nkeep = 1");
    let mut expect = |code: &str, ending: fn(&Ending) -> bool| {
        let outcome = session.run_blocking(code).unwrap();
        assert!(ending(&outcome.ending), "{code}: {outcome:?}");
        assert!(outcome.rolled_back && session.is_alive());
        assert_eq!(
            repr(&mut session, "keep, open('file').read(), 'smuggled' in globals()"),
            "(1, 'kept', False)"
        );
    };
    expect("keep = 2; smuggled = 1\nwhile True: pass", |ending| *ending == Ending::TimedOut);
    expect("keep = 2; smuggled = []\nimport time\ntime.sleep(100)", |ending| *ending == Ending::TimedOut);
    let fill = "keep = 2; smuggled = []\nwhile True:\n    try: smuggled.append(' ' * (1 << 12))\n    except MemoryError: pass";
    expect(fill, |ending| matches!(ending, Ending::OutOfMemory | Ending::TimedOut));
}

#[test]
fn what_ends_the_interpreter_is_taken_back() {
    let mut session = start!();
    run(&mut session, "keep = [1]");
    let outcome = session.run_blocking("keep.append(2)\nimport os\nos.abort()").unwrap();
    assert!(matches!(outcome.ending, Ending::Trapped(_)) && outcome.rolled_back, "{outcome:?}");
    assert_eq!(repr(&mut session, "keep"), "[1]");
    // In the first turn there is nothing to lose.
    let mut session = start!();
    assert!(session.run_blocking("import os\nos.abort()").unwrap().rolled_back);
    assert_eq!(repr(&mut session, "1 + 1"), "2");
}

#[test]
fn nothing_is_smuggled_through_a_rollback() {
    drop(start!());
    let mut limits = limits();
    limits.timeout = Some(Duration::from_millis(200));
    let mut session = session(limits);
    run(&mut session, "import sys, gc, builtins, json\nclass Box: pass\nbox = Box()");
    let before = "sorted(vars(builtins)) == seen and not hasattr(json, 'canary') and not vars(box) \
and sys.getrecursionlimit() == limit and not any(type(o) is bytearray and b'canary' in o for o in gc.get_objects())";
    run(&mut session, "seen = sorted(vars(builtins)); limit = sys.getrecursionlimit()");
    for code in [
        "builtins.canary = json.canary = box.canary = bytearray(b'canary' * 1000)",
        "sys.setrecursionlimit(50_000)",
        "import atexit\natexit.register(lambda: setattr(json, 'canary', 1))",
        "class D:\n    def __del__(self): json.canary = 1\nd = D()",
        "import signal\nsignal.signal(signal.SIGINT, lambda *a: setattr(json, 'canary', 1))",
        "sys.modules['json'].dumps = None",
        "sys.settrace(lambda *a: setattr(json, 'canary', 1))",
    ] {
        let outcome = session.run_blocking(format!("{code}\nwhile True: pass")).unwrap();
        assert!(outcome.rolled_back, "{code}: {outcome:?}");
        assert_eq!(repr(&mut session, before), "True", "{code}");
        assert_eq!(repr(&mut session, "json.dumps(1)"), "'1'");
    }
}

#[test]
fn a_turn_is_taken_back_by_hand_once() {
    let mut session = start!();
    let nothing = |session: &mut Session| {
        let error = session.rollback().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Held, "{error}");
    };
    nothing(&mut session);
    run(&mut session, "x = [1]");
    run(&mut session, "x.append(2)");
    session.rollback().unwrap();
    nothing(&mut session);
    assert_eq!(repr(&mut session, "x"), "[1]");
    session.rollback().unwrap();
    run(&mut session, "x.append(3)");
    assert_eq!(repr(&mut session, "x"), "[1, 3]");
    // The very first turn too.
    let mut session = start!();
    run(&mut session, "x = 1");
    session.rollback().unwrap();
    assert_eq!(raised(&session.run_blocking("x").unwrap()).0, "NameError");
}

#[test]
fn with_a_file_open_there_is_no_way_back_and_that_is_said() {
    drop(start!());
    let mut limits = limits();
    limits.timeout = Some(Duration::from_millis(200));
    let mut session = session(limits);
    run(&mut session, "f = open('log', 'w')");
    run(&mut session, "x = 1");
    assert_eq!(session.rollback().unwrap_err().kind(), ErrorKind::Held);
    let outcome = session.run_blocking("while True: pass").unwrap();
    assert!(!outcome.rolled_back && !session.is_alive());
    let error = session.run_blocking("x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SessionEnded);
    assert!(error.to_string().contains("the file log, opened at <turn>:1"), "{error}");
}

#[test]
fn without_rollback_a_stopped_turn_ends_the_session() {
    drop(start!());
    let mut limits = limits();
    limits.timeout = Some(Duration::from_millis(200));
    let mut session = kernel().session().limits(limits).rollback(false).start().unwrap();
    run(&mut session, "x = 1");
    let error = session.rollback().unwrap_err();
    assert!(error.to_string().contains("rollback(false)"), "{error}");
    assert!(!session.run_blocking("while True: pass").unwrap().rolled_back);
    assert!(!session.is_alive());
}

#[test]
fn images_are_files_for_other_kernels() {
    let mut parent = start!();
    run(&mut parent, STATE);
    run(&mut parent, "import os\nopen('x', 'w').write('x')");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("state.akimg");
    parent.snapshot().unwrap().save(&file).unwrap();
    let other = builder().build().unwrap();
    let image = other.load_image(&file).unwrap();
    let mut woken = other.session().limits(limits()).image(&image).start().unwrap();
    assert_eq!(repr(&mut woken, LOOK), SEEN);
    assert_eq!(repr(&mut woken, "os.listdir()"), "[]", "files are not part of an image");
    // An image of one kernel serves another of the same interpreter.
    let mut moved = kernel().session().limits(limits()).image(&image).start().unwrap();
    assert_eq!(repr(&mut moved, LOOK), SEEN);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left behind");
}

#[test]
fn damaged_and_foreign_images_are_refused() {
    let mut parent = start!();
    run(&mut parent, "x = 1");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("state.akimg");
    parent.snapshot().unwrap().save(&file).unwrap();
    let whole = std::fs::read(&file).unwrap();
    let refused = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        let error = kernel().load_image(&file).err().expect("it is refused");
        assert_eq!(error.kind(), ErrorKind::Image, "{error}");
        assert!(error.remedy().is_some(), "{error}");
        error.to_string()
    };
    for length in [0, 1, 8, 40, 48, 60, 200, whole.len() / 2, whole.len() - 1] {
        refused(&whole[..length]);
    }
    let step = whole.len() / 97 + 1;
    for at in (0..whole.len()).step_by(step) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        refused(&bytes);
    }
    refused(&[&whole[..], b"x"].concat());
    let mut newer = whole.clone();
    newer[8] = 99;
    assert!(refused(&newer).contains("format"), "the version is named");
    assert!(
        refused(b"\x89PNG\r\n\x1a\n and something else that is long enough to be read")
            .contains("is not an image")
    );
    let missing = kernel().load_image(directory.path().join("none")).err().unwrap();
    assert!(missing.to_string().contains("there is no image"), "{missing}");
    let unwritable = parent.snapshot().unwrap().save(directory.path().join("no/where.akimg")).unwrap_err();
    assert_eq!(unwritable.kind(), ErrorKind::Image);
    std::fs::write(&file, &whole).unwrap();
    assert!(kernel().load_image(&file).is_ok());
}

#[test]
fn an_image_needs_its_tools_and_its_memory() {
    drop(start!());
    let with_tools = builder().tool(echo()).build().unwrap();
    let image = with_tools.image().tool("echo").prelude("import sys").build().unwrap();
    let mut session = with_tools.session().limits(limits()).image(&image).start().unwrap();
    assert_eq!(repr(&mut session, "'tools.echo' in sys.modules"), "True");
    let error = kernel().session().image(&image).start().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Image);
    assert!(error.to_string().contains("`echo`"), "{error}");
    let error = with_tools.image().tool("nothing").build().err().unwrap();
    assert!(error.to_string().contains("`nothing`"), "{error}");
    let mut small = limits();
    small.memory_bytes = image.memory_bytes() - 65536;
    let error = with_tools.session().limits(small).image(&image).start().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Grant, "{error}");
}

#[test]
fn preludes_are_kept_in_the_cache_and_fail_in_words() {
    drop(start!());
    let cache = tempfile::tempdir().unwrap();
    let kernel = builder().cache_dir(Some(cache.path().into())).build().unwrap();
    let make = || kernel.image().prelude("import secrets, json\nonce = secrets.token_hex()").build().unwrap();
    let read = |image: &Image| {
        let mut session = kernel.session().limits(limits()).image(image).start().unwrap();
        repr(&mut session, "once, json.dumps([1])")
    };
    let (one, two) = (make(), make());
    assert_eq!(read(&one), read(&two), "the second comes from the cache");
    assert!(one.changed_bytes() < 8 << 20, "{}", one.changed_bytes());
    // A damaged entry is made anew.
    let entry = std::fs::read_dir(cache.path()).unwrap().map(|entry| entry.unwrap().path());
    let entry = entry
        .filter(|path| path.is_dir())
        .find(|path| path.file_name().unwrap().to_string_lossy().starts_with("image-"));
    std::fs::write(entry.unwrap().join("entry.json"), "{").unwrap();
    assert_ne!(read(&make()), read(&one));
    let error = kernel.image().prelude("x = 1\nraise KeyError('no such thing')").build().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Image);
    assert!(
        error.to_string().contains("KeyError: 'no such thing'") && error.to_string().contains("line 2"),
        "{error}"
    );
    let error = kernel.image().prelude("f = open('x', 'w')").build().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Held, "{error}");
}

#[test]
fn recorded_sessions_are_not_kept() {
    drop(start!());
    let directory = tempfile::tempdir().unwrap();
    let recording = agentkernel::Recording::create(directory.path().join("x.cassette")).unwrap();
    let mut session = kernel().session().limits(limits()).record(&recording).start().unwrap();
    run(&mut session, "x = 1");
    let error = session.snapshot().err().unwrap();
    assert!(error.to_string().contains("recorded"), "{error}");
}

#[test]
fn where_memory_is_not_the_hosts_images_are_refused() {
    let portable = agentkernel::Kernel::builder().portable(true).build().unwrap();
    let mut session = portable.session().limits(limits()).start().unwrap();
    run(&mut session, "x = 1");
    for error in [
        session.snapshot().err().unwrap(),
        session.fork().err().unwrap(),
        session.rollback().err().unwrap(),
        portable.image().prelude("x = 1").build().err().unwrap(),
        portable.load_image("x").err().unwrap(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Image, "{error}");
        assert!(error.remedy().unwrap().contains("Linux"), "{error}");
    }
}

#[test]
fn a_transactional_session_takes_files_back_with_memory() {
    drop(start!());
    let mut limits = limits();
    limits.timeout = Some(Duration::from_secs(2));
    let mut session = kernel().session().limits(limits).transactional(true).start().unwrap();
    run(&mut session, "import os\nx = 1\nopen('kept', 'w').write('1')");
    let code = "x = 2\nopen('kept', 'w').write('2')\nopen('lost', 'w').write('')\nwhile True: pass";
    assert!(session.run_blocking(code).unwrap().rolled_back);
    assert_eq!(repr(&mut session, "x, open('kept').read(), os.listdir()"), "(1, '1', ['kept'])");
    // A fork has files of its own.
    let mut fork = session.fork().unwrap();
    run(&mut fork, "open('kept', 'w').write('fork')\nos.mkdir('more')");
    assert_eq!(repr(&mut session, "open('kept').read(), os.listdir()"), "('1', ['kept'])");
    assert!(fork.run_blocking("os.rmdir('more')\nos.abort()").unwrap().rolled_back);
    assert_eq!(repr(&mut fork, "open('kept').read(), sorted(os.listdir())"), "('fork', ['kept', 'more'])");
    let directory = tempfile::tempdir().unwrap();
    let error = kernel().session().workspace(directory.path()).transactional(true).start().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Grant);
}

#[test]
fn a_transaction_is_kept_or_dropped_as_a_whole() {
    drop(start!());
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("rows"), "1").unwrap();
    let overlay = Overlay::over(directory.path()).unwrap();
    let mut grants = Grants { limits: limits(), ..Grants::default() };
    grants.workspace = Workspace::Overlay(overlay.clone());
    let mut session = kernel().session().grants(grants).start().unwrap();
    let look = "(sorted(vars().keys() & {'x', 'y'}), open('rows').read(), os.path.exists('new'))";
    run(&mut session, "import os");
    for keep in [false, true, false] {
        let before = repr(&mut session, look);
        let mut transaction = session.transaction().unwrap();
        run(&mut transaction, "x = 1\nopen('rows', 'a').write('2')");
        run(&mut transaction, "y = x + 1\nopen('new', 'w').close()");
        let during = repr(&mut transaction, look);
        assert!(during.starts_with("(['x', 'y'], '1"), "{during}");
        match keep {
            true => transaction.commit().unwrap(),
            false => transaction.rollback().unwrap(),
        }
        assert_eq!(repr(&mut session, look), if keep { during } else { before });
    }
    // Dropped without a word, and in the middle of it a turn that is stopped.
    let mut transaction = session.transaction().unwrap();
    run(&mut transaction, "x = 5");
    assert!(transaction.run_blocking("x = 6\nos.abort()").unwrap().rolled_back);
    assert_eq!(repr(&mut transaction, "x"), "5");
    drop(transaction);
    assert_eq!(repr(&mut session, "x"), "1");
    assert_eq!(std::fs::read(directory.path().join("rows")).unwrap(), b"1");
    let mut plain = kernel().session().limits(limits()).start().unwrap();
    assert_eq!(plain.transaction().err().unwrap().kind(), ErrorKind::Grant);
}

#[test]
fn pools_are_filled_again_and_fall_back_to_a_start_of_ones_own() {
    drop(start!());
    let kernel = builder().build().unwrap();
    let image = kernel.image().prelude("canary = ['image']").build().unwrap();
    for image in [None, Some(&image)] {
        kernel.keep_ready(image, 4).unwrap();
        let full = || kernel.pool_stats(image).ready == 4;
        let wait = || {
            let since = std::time::Instant::now();
            while !full() {
                assert!(since.elapsed() < Duration::from_secs(30), "{:?}", kernel.pool_stats(image));
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        wait();
        let start = || {
            let session = kernel.session().limits(limits());
            match image {
                Some(image) => session.image(image),
                None => session,
            }
        };
        let mut sessions: Vec<Session> = (0..40).map(|_| start().start().unwrap()).collect();
        for (number, session) in sessions.iter_mut().enumerate() {
            let seen = repr(session, "globals().get('canary')");
            assert_eq!(seen, if image.is_some() { "['image']" } else { "None" });
            run(session, &format!("canary = [{number}]"));
        }
        let stats = kernel.pool_stats(image);
        assert!(stats.taken >= 4 && stats.taken + stats.missed == 40, "{stats:?}");
        drop(sessions);
        wait();
        kernel.keep_ready(image, 0).unwrap();
    }
}

#[test]
fn no_more_is_kept_for_a_rollback_than_it_may_be() {
    drop(start!());
    let mut session = kernel().session().limits(limits()).rollback_bytes(8 << 20).start().unwrap();
    run(&mut session, "small = bytearray(b'x' * (1 << 20))");
    assert!(session.run_blocking("import os\nos.abort()").unwrap().rolled_back);
    run(&mut session, "large = bytearray(b'x' * (12 << 20))");
    // It can be forked all the same.
    assert_eq!(repr(&mut session.fork().unwrap(), "len(large)"), "12582912");
    assert_eq!(repr(&mut session, "len(large)"), "12582912");
    let error = session.rollback().unwrap_err().to_string();
    assert!(error.contains("more than 8388608 bytes"), "{error}");
    assert!(!session.run_blocking("import os\nos.abort()").unwrap().rolled_back);
    let error = session.run_blocking("1").unwrap_err().to_string();
    assert!(error.contains("more than 8388608 bytes"), "{error}");
}
