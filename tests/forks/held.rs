//! What a program holds keeps its state from being kept, and is named.

use agentkernel::{ErrorKind, Session};
use agentkernel_tests::{completes as run, kernel, limits, repr, session};

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
