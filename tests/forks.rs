//! Forks, snapshots, images and the way back: what they keep, what they refuse, and that nothing leaks
//! from one session into another.

use agentkernel::{Access, Ending, Grants, Mount, Session, Workspace};
use agentkernel_tests::{completes as run, kernel, limits, raised, repr, session};

/// A session with the usual limits, where states can be kept; the test is skipped elsewhere.
macro_rules! start {
    () => {
        match kernel().info().host_owned_memory {
            true => session(limits()),
            false => return eprintln!("skipped: this kernel does not own the guest's memory"),
        }
    };
}

#[path = "forks/held.rs"]
mod held;
#[path = "forks/images.rs"]
mod images;
#[path = "forks/rollback.rs"]
mod rollback;

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
