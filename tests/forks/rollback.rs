//! Turns that are taken back, in memory and in files.

use std::time::Duration;

use agentkernel::{Ending, ErrorKind, Grants, Overlay, Session, Workspace};
use agentkernel_tests::{completes as run, kernel, limits, raised, repr, session};

use super::STATE;

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
