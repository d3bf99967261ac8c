//! Sessions as an embedder uses them: state over turns, streams, cancellation, many at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agentkernel::{Ending, ErrorKind, Grants, Kernel, Limits, Stdin, Stream, Turn, Workspace};
use agentkernel_tests::{kernel, limits, raised, repr, session, value};

#[test]
fn names_persist_over_turns_and_not_over_sessions() {
    let mut one = session(limits());
    one.run_blocking("def double(n): return 2 * n").unwrap();
    assert_eq!(value(&one.run_blocking("double(21)").unwrap()).repr, "42");
    let mut two = session(limits());
    assert_eq!(raised(&two.run_blocking("double(21)").unwrap()).0, "NameError");
}

/// What comes before an expression that awaits, or after a statement that does, runs on the loop as well.
#[test]
fn a_program_that_awaits_runs_on_the_loop_as_a_whole() {
    let mut session = kernel().session().limits(limits()).start().unwrap();
    session
        .run_blocking("import asyncio\nasync def double(n): await asyncio.sleep(0); return 2 * n")
        .unwrap();
    for (code, expected) in [
        ("t = asyncio.create_task(double(2))\nawait t", "4"),
        ("ts = [asyncio.create_task(double(n)) for n in range(3)]\nawait asyncio.gather(*ts)", "[0, 2, 4]"),
        ("n = await double(3)\nt = asyncio.create_task(double(n))\nt.done()", "False"),
        ("await double(1)\nasyncio.get_running_loop().is_running()", "True"),
        ("n = await t\nn", "12"),
    ] {
        assert_eq!(repr(&mut session, code), expected, "{code}");
    }
    let outcome = session.run_blocking("t = asyncio.create_task(double('x'))\nawait t / 2").unwrap();
    let Ending::Raised(raised) = &outcome.ending else { panic!("{:?}", outcome.ending) };
    assert_eq!(raised.frames.len(), 1, "{}", raised.traceback);
    assert!(raised.traceback.contains("line 2, in <module>"), "{}", raised.traceback);
}

#[test]
fn an_exception_or_exit_leaves_the_session_alive() {
    let mut session = session(limits());
    session.run_blocking("x = 1; 1 / 0").unwrap();
    assert_eq!(session.run_blocking("x += 1; raise SystemExit(9)").unwrap().ending, Ending::Exited(9));
    assert_eq!(value(&session.run_blocking("x").unwrap()).repr, "2");
}

#[test]
fn a_stopped_session_says_so() {
    let mut limits = limits();
    limits.timeout = Some(Duration::from_millis(50));
    let mut session = kernel().session().limits(limits).rollback(false).start().unwrap();
    assert_eq!(session.run_blocking("while True: pass").unwrap().ending, Ending::TimedOut);
    let error = session.run_blocking("1").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SessionEnded);
    assert!(error.remedy().is_some());
}

#[test]
fn output_is_passed_on_while_the_program_runs() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    let mut session = kernel()
        .session()
        .on_output(move |stream, bytes| sink.lock().unwrap().push((Instant::now(), stream, bytes.to_vec())))
        .start()
        .unwrap();
    let code =
        "import sys, time\nprint('one')\nprint('two', file=sys.stderr)\ntime.sleep(0.3)\nprint('three')";
    let outcome = session.run_blocking(code).unwrap();
    assert!(outcome.stdout.is_empty() && outcome.stderr.is_empty());
    let seen = seen.lock().unwrap();
    let text = |wanted: Stream| -> Vec<u8> {
        seen.iter()
            .filter(|(_, stream, _)| *stream == wanted)
            .flat_map(|(_, _, bytes)| bytes.clone())
            .collect()
    };
    assert_eq!(text(Stream::Stdout), b"one\nthree\n");
    assert_eq!(text(Stream::Stderr), b"two\n");
    let order: Vec<Stream> = seen.iter().map(|(_, stream, _)| *stream).collect();
    let err = order.iter().position(|stream| *stream == Stream::Stderr).unwrap();
    assert!(err > 0, "stdout came first, as written");
    assert!(seen.last().unwrap().0 - seen[0].0 >= Duration::from_millis(250));
}

#[test]
fn standard_input_is_read() {
    let mut from_bytes = kernel().session().stdin(Stdin::Bytes(b"1 2 3\nrest\n".to_vec())).start().unwrap();
    let outcome = from_bytes
        .run_blocking("print(sum(map(int, input().split())))\nimport sys\nsys.stdin.read()")
        .unwrap();
    assert_eq!(outcome.stdout, b"6\n");
    assert_eq!(value(&outcome).repr, "'rest\\n'");
    let reader = Box::new(std::io::Cursor::new(vec![b'x'; 200_000]));
    let mut from_reader = kernel().session().stdin(Stdin::Reader(reader)).start().unwrap();
    assert_eq!(value(&from_reader.run_blocking("import sys\nlen(sys.stdin.read())").unwrap()).repr, "200000");
    let mut empty = session(limits());
    assert_eq!(raised(&empty.run_blocking("input()").unwrap()).0, "EOFError");
}

#[test]
fn a_reader_that_never_answers_is_given_up() {
    struct Never;
    impl std::io::Read for Never {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            std::thread::sleep(Duration::from_secs(3));
            Ok(0)
        }
    }
    let mut limits = limits();
    limits.timeout = Some(Duration::from_millis(200));
    let start = Instant::now();
    let mut session =
        kernel().session().limits(limits).stdin(Stdin::Reader(Box::new(Never))).start().unwrap();
    assert_eq!(session.run_blocking("input()").unwrap().ending, Ending::TimedOut);
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_workspace_keeps_what_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let grants = Grants { workspace: Workspace::Directory(directory.path().into()), ..Grants::default() };
    let mut session = kernel().session().grants(grants).start().unwrap();
    let code = "import os\nopen('a.txt', 'w').write('hello')\nos.makedirs('d/e')\nos.rename('a.txt', 'd/e/b.txt')\nos.getcwd()";
    assert_eq!(value(&session.run_blocking(code).unwrap()).repr, "'/workspace'");
    assert_eq!(std::fs::read(directory.path().join("d/e/b.txt")).unwrap(), b"hello");
}

/// A value has a JSON form only if that says exactly the same.
#[test]
fn json_loses_nothing() {
    let mut session = session(limits());
    let mut json = |code: &str| value(&session.run_blocking(code).unwrap()).json.clone();
    for whole in ["0", "-1", "2**53 + 1", "2**63", "2**64 - 1", "-2**63", "True", "''", "[{'a': None}]"] {
        assert!(json(whole).is_some(), "{whole}");
    }
    assert_eq!(json("2**64 - 1").unwrap().as_u64(), Some(u64::MAX));
    for none in ["2**64", "-2**63 - 1", "float('inf')", "[float('nan')]", "{1: 2}", "{'a': {3}}", "b''", "1j"]
    {
        assert_eq!(json(none), None, "{none}");
    }
    let outcome = session
        .run_blocking(
            "import random, struct\nx = [struct.unpack('d', random.randbytes(8))[0] for _ in range(3000)]\n[n for n in x if n - n == 0]",
        )
        .unwrap();
    let floats = value(&outcome);
    // Python's repr of a float is read back without loss, by Rust as well.
    let reprs = floats.repr.trim_matches(['[', ']']).split(", ").map(|text| text.parse::<f64>().unwrap());
    let form = floats.json.as_ref().unwrap().as_array().unwrap();
    assert!(form.len() > 2000 && form.iter().zip(reprs).all(|(one, other)| one.as_f64() == Some(other)));
    let mut json = |code: &str| value(&session.run_blocking(code).unwrap()).json.clone();
    let exact = json(
        "x = [0.1 + 0.2, 5e-324, 1.7976931348623157e308, 2.2250738585072014e-308, 123456789.123456789]\nx",
    );
    let expected = [0.1 + 0.2, 5e-324, f64::MAX, f64::MIN_POSITIVE, 123_456_789.123_456_79];
    for (one, other) in exact.unwrap().as_array().unwrap().iter().zip(expected) {
        assert_eq!(one.as_f64().unwrap().to_bits(), other.to_bits());
    }
}

#[test]
fn a_program_imports_from_its_workspace() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("beside.py"), "answer = 42").unwrap();
    let mut session = kernel().session().workspace(directory.path()).start().unwrap();
    assert_eq!(value(&session.run_blocking("import beside; beside.answer").unwrap()).repr, "42");
}

#[test]
fn a_temporary_workspace_is_gone_afterwards() {
    let marker = format!("marker-{}-{:?}", std::process::id(), Instant::now()).replace(' ', "");
    let ours = || {
        let entries = std::fs::read_dir(std::env::temp_dir()).unwrap().flatten();
        entries.map(|entry| entry.path()).find(|path| path.join(&marker).exists())
    };
    let mut session = session(limits());
    let code = format!(
        "import os\nopen('{marker}', 'w').close()\nfor i in range(200): os.mkdir('d'); os.chdir('d')\nopen('x', 'w').write('y')"
    );
    let outcome = session.run_blocking(code).unwrap();
    assert!(matches!(outcome.ending, Ending::Completed(_)), "{outcome:?}");
    let path = ours().expect("the workspace is a directory of its own");
    drop(session);
    assert!(!path.exists(), "{}", path.display());
}

/// What the machine lacks is not the program's doing.
#[test]
fn a_workspace_that_cannot_be_made_is_an_error() {
    if std::env::var_os("AGENTKERNEL_TEST_NO_TEMPORARY").is_none() {
        // Where temporary files go is the whole process's.
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_workspace_that_cannot_be_made_is_an_error"])
            .env("AGENTKERNEL_TEST_NO_TEMPORARY", "1")
            .env("TMPDIR", "/nonexistent")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let mut session = session(limits());
    let error = session.run_blocking("open('x', 'w')").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::System, "{error:?}");
    assert!(error.remedy().is_some());
}

#[test]
fn a_last_turn_ends_the_program_as_a_process_ends() {
    let directory = tempfile::tempdir().unwrap();
    let mut session = kernel().session().workspace(directory.path()).start().unwrap();
    session
        .run_blocking("import atexit\natexit.register(print, 'bye')\nf = open('out', 'w'); f.write('whole')")
        .unwrap();
    assert_eq!(std::fs::read(directory.path().join("out")).unwrap(), b"whole", "flushed with its turn");
    let code = "class C:\n  def __del__(self): print('gone')\nc = C()\nimport sys; sys.exit(3)";
    let outcome = session.run_blocking(Turn::new(code).last()).unwrap();
    assert_eq!((outcome.ending, outcome.stdout), (Ending::Exited(3), b"bye\ngone\n".to_vec()));
}

#[test]
fn a_value_that_is_not_asked_for_is_not_made() {
    let mut session = session(limits());
    let code = "class C:\n  def __repr__(self): print('asked')\nC()";
    let outcome = session.run_blocking(Turn::new(code).without_value()).unwrap();
    assert_eq!((outcome.ending, outcome.stdout), (Ending::Completed(None), Vec::new()));
}

/// What the program can write must never be loaded as machine code.
#[test]
fn the_cache_is_not_in_a_directory_that_a_program_may_write_to() {
    let directory = tempfile::tempdir().unwrap();
    let cache = directory.path().join("a/cache");
    let mut builder = Kernel::builder().cache_dir(Some(cache.clone())).portable(true);
    if let Some(guest) = std::env::var_os("AGENTKERNEL_GUEST") {
        builder = builder.guest(guest);
    }
    let kernel = builder.build().unwrap();
    for writable in [directory.path().to_owned(), directory.path().join("a"), cache.clone()] {
        let error = kernel.session().workspace(&writable).start().err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Grant, "{error}");
        let mount = |access| agentkernel::Mount { host: writable.clone(), guest: "/m".into(), access };
        let mut grants = Grants::default();
        grants.mounts.push(mount(agentkernel::Access::ReadWrite));
        assert!(kernel.session().grants(grants.clone()).start().is_err());
        grants.mounts = vec![mount(agentkernel::Access::ReadOnly)];
        assert!(kernel.session().grants(grants).start().is_ok());
    }
    std::fs::create_dir(directory.path().join("a/beside")).unwrap();
    assert!(kernel.session().workspace(directory.path().join("a/beside")).start().is_ok());
}

#[test]
fn grants_that_cannot_be_are_errors() {
    let missing = kernel().session().workspace("/does/not/exist").start().err().unwrap();
    assert_eq!(missing.kind(), ErrorKind::Grant);
    assert!(missing.to_string().contains("/does/not/exist"), "{missing}");
    let mut small = limits();
    small.memory_bytes = 1 << 20;
    assert_eq!(kernel().session().limits(small).start().err().unwrap().kind(), ErrorKind::Grant);
    let mut fuel = limits();
    fuel.fuel = Some(1000);
    assert_eq!(kernel().session().limits(fuel).start().err().unwrap().kind(), ErrorKind::Grant);
}

#[test]
fn a_canceller_stops_a_turn_from_another_thread() {
    for code in
        ["while True: pass", "import time\ntime.sleep(100)", "import asyncio\nawait asyncio.sleep(100)"]
    {
        let mut session = session(limits());
        let canceller = session.canceller();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            canceller.cancel();
        });
        let start = Instant::now();
        assert_eq!(session.run_blocking(code).unwrap().ending, Ending::Cancelled, "{code}");
        assert!(start.elapsed() < Duration::from_secs(2));
        thread.join().unwrap();
    }
}

#[test]
fn a_cancellation_between_turns_stops_the_next() {
    let mut session = session(limits());
    session.canceller().cancel();
    let outcome = session.run_blocking("while True: pass").unwrap();
    assert_eq!(outcome.ending, Ending::Cancelled);
}

#[tokio::test]
async fn dropping_the_future_stops_the_guest() {
    let mut limits = limits();
    limits.timeout = None;
    let beats = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&beats);
    let mut session = kernel()
        .session()
        .limits(limits)
        .on_output(move |_, _| {
            counter.fetch_add(1, Ordering::Relaxed);
        })
        .start()
        .unwrap();
    let began = async {
        while beats.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        ended = session.run("while True: print('beat', flush=True)") => panic!("it ended: {ended:?}"),
        begun = tokio::time::timeout(Duration::from_secs(60), began) => begun.expect("it beats"),
    }
    assert!(!session.is_alive());
    assert_eq!(session.run("1").await.unwrap_err().kind(), ErrorKind::SessionEnded);
    // It beats no more, a moment later at the latest.
    let silent = async {
        loop {
            let before = beats.load(Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(100)).await;
            if beats.load(Ordering::Relaxed) == before {
                return before;
            }
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(10), silent).await.expect("the program stops") > 0);
    let mut other = kernel().session().start().unwrap();
    assert_eq!(value(&other.run("1 + 1").await.unwrap()).repr, "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busy_sessions_do_not_stall_others() {
    let mut limits = limits();
    limits.timeout = Some(Duration::from_secs(6));
    let busy: Vec<_> = (0..8)
        .map(|_| {
            let mut session = session(limits.clone());
            tokio::spawn(async move { session.run("while True: pass").await.unwrap().ending })
        })
        .collect();
    let start = Instant::now();
    let mut quick = session(limits.clone());
    assert_eq!(value(&quick.run("1 + 1").await.unwrap()).repr, "2");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    for ending in busy {
        assert_eq!(ending.await.unwrap(), Ending::TimedOut);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_sessions_live_at_once() {
    let mut sessions: Vec<_> = (0..1000).map(|_| session(limits())).collect();
    for (number, session) in sessions.iter_mut().enumerate() {
        session.run(format!("n = {number}")).await.unwrap();
    }
    let tasks: Vec<_> = sessions
        .into_iter()
        .enumerate()
        .map(|(number, mut session)| {
            tokio::spawn(async move {
                let outcome = session.run("import asyncio\nawait asyncio.sleep(0.01)\nn").await.unwrap();
                assert_eq!(value(&outcome).repr, number.to_string());
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[test]
fn threads_of_the_embedder_may_use_one_kernel() {
    let threads: Vec<_> = (0..8)
        .map(|number| {
            std::thread::spawn(move || {
                for round in 0..20 {
                    let mut session = session(limits());
                    let outcome = session.run_blocking(format!("[{number}] * {round}")).unwrap();
                    assert_eq!(value(&outcome).json.as_ref().unwrap().as_array().unwrap().len(), round);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn arguments_and_files_are_the_turns() {
    let mut session = session(limits());
    let turn = Turn::new("import sys\n(__name__, __file__, sys.argv)")
        .file("dir/script.py")
        .arguments(["dir/script.py", "-x"]);
    assert_eq!(
        value(&session.run_blocking(turn).unwrap()).repr,
        "('__main__', 'dir/script.py', ['dir/script.py', '-x'])"
    );
}

#[test]
fn tracebacks_show_the_programs_own_lines() {
    let mut session = session(limits());
    let turn = Turn::new("def f(x):\n    return 1 / x\n\nf(0)\n").file("script.py");
    let Ending::Raised(exception) = session.run_blocking(turn).unwrap().ending else { panic!() };
    assert_eq!(exception.kind, "ZeroDivisionError");
    let frames: Vec<_> =
        exception.frames.iter().map(|f| (f.file.as_str(), f.line, f.function.as_str())).collect();
    assert_eq!(frames, [("script.py", 4, "<module>"), ("script.py", 2, "f")]);
    assert_eq!(exception.frames[1].source.as_deref(), Some("return 1 / x"));
    let expected = "Traceback (most recent call last):\n  File \"script.py\", line 4, in <module>\n    f(0)\n    ~^^^\n  File \"script.py\", line 2, in f\n    return 1 / x\n           ~~^~~\nZeroDivisionError: division by zero\n";
    assert_eq!(exception.traceback, expected);
}

#[test]
fn fuel_is_counted_the_same_every_time() {
    let mut builder = Kernel::builder().metered(true);
    if let Some(guest) = std::env::var_os("AGENTKERNEL_GUEST") {
        builder = builder.guest(guest);
    }
    let kernel = builder.build().unwrap();
    let mut limits = Limits::default();
    limits.fuel = Some(2_000_000_000);
    let mut used = Vec::new();
    for _ in 0..2 {
        let mut session = kernel.session().limits(limits.clone()).start().unwrap();
        session.run_blocking("x = 0").unwrap();
        let outcome = session.run_blocking("for i in range(1000): x += i").unwrap();
        used.push(outcome.usage.fuel.unwrap());
    }
    assert_eq!(used[0], used[1]);
    assert!(used[0] > 1000);
    let mut session = kernel.session().limits(limits).start().unwrap();
    assert_eq!(session.run_blocking("while True: pass").unwrap().ending, Ending::OutOfFuel);
}

/// Waits until the turn is under way, then acts on it from another thread.
fn during(
    session: &mut agentkernel::Session,
    code: &str,
    act: impl Fn(&agentkernel::Canceller) + Send,
) -> agentkernel::Outcome {
    let canceller = session.canceller();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(150));
            act(&canceller);
        });
        session.run_blocking(code).unwrap()
    })
}

#[test]
fn an_interrupt_is_an_exception_and_the_session_lives_on() {
    if !kernel().info().host_owned_memory {
        return;
    }
    let mut session = session(limits());
    session.run_blocking("import time, asyncio\nx = 41").unwrap();
    for code in [
        "while True: pass",
        "time.sleep(100)",
        "await asyncio.sleep(100)",
        "asyncio.run(asyncio.sleep(100))",
        "while True:\n    try:\n        while True: x\n    except ValueError: pass",
    ] {
        let outcome = during(&mut session, code, |canceller| canceller.interrupt());
        assert_eq!(raised(&outcome).0, "KeyboardInterrupt", "{code}");
        assert_eq!(value(&session.run_blocking("x + 1").unwrap()).repr, "42", "{code}");
        // A wait of the next turn is not cut short by it.
        let slept =
            session.run_blocking("t = time.monotonic(); time.sleep(0.05); time.monotonic() - t >= 0.05");
        assert_eq!(value(&slept.unwrap()).repr, "True");
    }
    let outcome = during(
        &mut session,
        "try:\n    while True: pass\nexcept KeyboardInterrupt:\n    'caught'",
        |canceller| {
            canceller.interrupt();
        },
    );
    assert!(matches!(outcome.ending, Ending::Completed(_)), "{outcome:?}");
    // Between turns it does nothing.
    session.canceller().interrupt();
    assert_eq!(value(&session.run_blocking("x").unwrap()).repr, "41");
}

#[test]
fn a_second_interrupt_stops_what_did_not_heed_the_first() {
    let mut session = session(limits());
    let outcome = during(
        &mut session,
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        |canceller| {
            canceller.interrupt();
            std::thread::sleep(Duration::from_millis(100));
            canceller.interrupt();
        },
    );
    assert_eq!(outcome.ending, Ending::Cancelled);
    assert_eq!(session.is_alive(), outcome.rolled_back);
}

#[test]
fn output_of_a_program_that_computes_is_passed_on() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let mut session = kernel()
        .session()
        .on_output(move |_, bytes| {
            let _ = sender.send(bytes.to_vec());
        })
        .start()
        .unwrap();
    let outcome = std::thread::scope(|scope| {
        let canceller = session.canceller();
        scope.spawn(move || {
            assert_eq!(receiver.recv_timeout(Duration::from_secs(10)).unwrap(), b"hello\n");
            canceller.cancel();
        });
        session.run_blocking("print('hello')\nwhile True: pass").unwrap()
    });
    assert_eq!(outcome.ending, Ending::Cancelled);
}
