//! Sessions as an embedder uses them: state over turns, streams, cancellation, many at once.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agentkernel::{Ending, ErrorKind, Grants, Kernel, Limits, Stdin, Stream, Turn, Workspace};
use agentkernel_tests::{kernel, limits, raised, session, value};

#[test]
fn names_persist_over_turns_and_not_over_sessions() {
    let mut one = session(limits());
    one.run_blocking("def double(n): return 2 * n").unwrap();
    assert_eq!(value(&one.run_blocking("double(21)").unwrap()).repr, "42");
    let mut two = session(limits());
    assert_eq!(raised(&two.run_blocking("double(21)").unwrap()).0, "NameError");
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
    let mut session = session(limits);
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

#[test]
fn a_program_imports_from_its_workspace() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("beside.py"), "answer = 42").unwrap();
    let mut session = kernel().session().workspace(directory.path()).start().unwrap();
    assert_eq!(value(&session.run_blocking("import beside; beside.answer").unwrap()).repr, "42");
}

#[test]
fn a_temporary_workspace_is_gone_afterwards() {
    let mut session = session(limits());
    let outcome = session
        .run_blocking(
            "import os\nfor i in range(200): os.mkdir('d'); os.chdir('d')\nopen('x', 'w').write('y')",
        )
        .unwrap();
    assert!(matches!(outcome.ending, Ending::Completed(_)), "{outcome:?}");
}

#[test]
fn grants_that_cannot_be_are_errors() {
    let missing = kernel().session().workspace("/does/not/exist").start().err().unwrap();
    assert_eq!(missing.kind(), ErrorKind::Grant);
    assert!(missing.to_string().contains("/does/not/exist"), "{missing}");
    let mut small = limits();
    small.memory_bytes = 1;
    let error = kernel().session().limits(small).start().err();
    assert!(error.is_none_or(|error| error.kind() == ErrorKind::Grant));
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
    let mut session = session(limits);
    let run = session.run("while True: pass");
    assert!(tokio::time::timeout(Duration::from_millis(100), run).await.is_err());
    assert!(!session.is_alive());
    assert_eq!(session.run("1").await.unwrap_err().kind(), ErrorKind::SessionEnded);
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

/// What one session leaves behind must not show in the next, which may get the same memory.
#[test]
fn recycled_memory_is_clean() {
    const CANARY: &str = "CANARY-5f1d7c";
    for round in 0..20 {
        let mut writer = session(limits());
        let code = format!(
            "secret = ['{CANARY}' + str(i) for i in range({})]\nbig = b'{CANARY}' * 10**6",
            1000 * (round % 5 + 1)
        );
        writer.run_blocking(code).unwrap();
        drop(writer);
        let mut reader = session(limits());
        // Freshly allocated memory that Python does not clear shows what was there before.
        let code = format!(
            "needle = '{}' + '{}'\nimport array\nfound = [n for n in (10**3, 10**5, 10**7) for _ in range(20) if needle.encode() in bytes(memoryview(bytearray(n)))]\nfound",
            &CANARY[..6],
            &CANARY[6..]
        );
        assert_eq!(value(&reader.run_blocking(code).unwrap()).repr, "[]");
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
    assert!(!session.is_alive());
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
