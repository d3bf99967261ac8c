//! `agentkernel.state`: what is kept, when, and what hostile programs make of it.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use agentkernel::llm::Llm;
use agentkernel::rlm::Rlm;
use agentkernel::{
    Ending, ErrorKind, Limits, Mount, Outcome, Recording, Replaying, Session, State, StateLimits,
};
use agentkernel_tests::{Answering, builder, kernel, limits, raised, repr};

const IMPORT: &str = "from agentkernel import state, StateError, StateConflict\n";

fn session(state: &State) -> Session {
    session_with(state, limits())
}

fn session_with(state: &State, limits: Limits) -> Session {
    kernel().session().state(state.clone()).limits(limits).start().unwrap()
}

fn run(session: &mut Session, code: &str) -> Outcome {
    session.run_blocking(format!("{IMPORT}{code}")).unwrap()
}

/// What a session of its own sees.
fn seen(state: &State, code: &str) -> String {
    repr(&mut session(state), &format!("{IMPORT}{code}"))
}

#[test]
fn values_come_back_in_later_sessions_and_processes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let code = "
state.put('a', {'list': [1, 2.5, None, True], 'text': 'ä\\u2028\"'})
state['b/1'] = 10**30
state['b/2'] = (1, 2)
state['b/3'] = ''
assert state.get('absent') is None and state.get('absent', 5) == 5
assert state.get('b/1') == 10**30, 'a turn sees what it puts'
";
    let state = State::open(&path).unwrap();
    assert!(run(&mut session(&state), code).ending.is_kept());
    drop(state);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let state = State::open(&path).unwrap();
    assert_eq!(seen(&state, "state['a']"), r#"{'list': [1, 2.5, None, True], 'text': 'ä\u2028"'}"#);
    assert_eq!(seen(&state, "state.list(), state.list('b/'), state.list('c')").matches("b/2").count(), 2);
    assert_eq!(
        seen(&state, "[state[k] for k in state.list('b/')]"),
        format!("[1{}, [1, 2], '']", "0".repeat(30))
    );
    assert_eq!(
        seen(&state, "'a' in state, 'x' in state, 5 in state, len(state), list(state)"),
        "(True, False, False, 4, ['a', 'b/1', 'b/2', 'b/3'])"
    );
    assert_eq!(seen(&state, "state.delete('a'), state.delete('a'), 'a' in state"), "(True, False, False)");
    assert_eq!(seen(&state, "sorted(state.items())[0]"), format!("('b/1', 1{})", "0".repeat(30)));
    let outcome = run(&mut session(&state), "del state['a']");
    assert_eq!(raised(&outcome), ("KeyError", "'a'"));
    assert_eq!(raised(&run(&mut session(&state), "state['a']")), ("KeyError", "'a'"));
    assert_eq!(seen(&state, "state.clear(); len(state)"), "0");
    assert_eq!(seen(&state, "state"), "<agentkernel.state: 0 keys>");
}

#[test]
fn a_turn_is_kept_when_it_ends_by_itself_and_dropped_when_it_is_stopped() {
    let state = State::in_memory().unwrap();
    for (code, kept) in [
        ("state['k'] = 'completed'", true),
        ("state['k'] = 'raised'; 1 / 0", true),
        ("state['k'] = 'exited'; raise SystemExit(3)", true),
        ("state['k'] = 'timed-out'\nwhile True: pass", false),
        ("state['k'] = 'out-of-memory'\nx = []\nwhile True: x.append(bytearray(1 << 20))", true),
        ("state['k'] = 'trapped'\nimport os; os.abort()", false),
    ] {
        let mut limits = limits();
        limits.timeout = Some(Duration::from_secs(if code.contains("True: pass") { 1 } else { 20 }));
        limits.memory_bytes = 128 << 20;
        let outcome = run(&mut session_with(&state, limits), code);
        assert_eq!(outcome.ending.is_kept(), kept, "{code}: {:?}", outcome.ending);
        let now = seen(&state, "state.get('k')");
        assert_eq!(now.trim_matches('\'') == code.split('\'').nth(3).unwrap(), kept, "{code}: {now}");
    }
}

#[test]
fn a_cancelled_turn_is_dropped() {
    let state = State::in_memory().unwrap();
    let mut session = session(&state);
    let canceller = session.canceller();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        canceller.cancel();
    });
    let outcome = run(&mut session, "state['k'] = 1\nwhile True: pass");
    assert_eq!(outcome.ending, Ending::Cancelled);
    assert_eq!(seen(&state, "len(state)"), "0");
}

#[test]
fn a_turn_is_kept_at_its_end_and_not_before() {
    let state = State::in_memory().unwrap();
    let (mut one, mut other) = (session(&state), session(&state));
    run(&mut one, "state['k'] = 1");
    assert_eq!(repr(&mut other, "from agentkernel import state\nstate['k']"), "1");
    // In one turn what was put is seen, deleted and put again.
    let code =
        "state['k'] = 2\nstate['l'] = 3\ndel state['k']\nassert 'k' not in state and state.list() == ['l']";
    assert!(matches!(run(&mut one, code).ending, Ending::Completed(_)));
    assert_eq!(repr(&mut other, "state.list()"), "['l']");
    // What is asked beside turns is not kept.
    run(
        &mut one,
        "class C:\n    def __dir__(self):\n        state['beside'] = 1\n        return ['x']\nc = C()",
    );
    let _ = one.complete("c.");
    run(&mut one, "state['after'] = 1");
    assert_eq!(repr(&mut other, "state.list()"), "['after', 'l']");
}

#[test]
fn a_conflict_is_an_exception_and_nothing_of_the_turn_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    // Each has the file open by itself, as processes have.
    let (first, second) = (State::open(&path).unwrap(), State::open(&path).unwrap());
    run(&mut session(&first), "state['n'] = 0; state['other'] = 0");
    let meanwhile = |code, between| meanwhile(&first, &second, code, between);
    let code = "n = state['n']\ninput()\nstate['n'] = n + 1\nstate['mine'] = 1";
    let outcome = meanwhile(code, "state['n'] = 10");
    let (kind, message) = raised(&outcome);
    assert_eq!(kind, "agentkernel.StateConflict");
    assert!(message.contains("`n`") && message.contains("run it again"), "{message}");
    assert_eq!(seen(&first, "state['n'], state.get('mine')"), "(10, None)");
    // Who asks whether a key is there depends on it too.
    let outcome = meanwhile("'m' in state or input()\nstate['m'] = 1", "state['m'] = 2");
    assert_eq!(raised(&outcome).0, "agentkernel.StateConflict");
    // Who does not read a key first is the last writer.
    assert!(meanwhile("input()\nstate['n'] = 5", "state['n'] = 20").ending.is_kept());
    assert_eq!(seen(&first, "state['n']"), "5");
    // A key that is read and not written is no conflict, nor is one that another session left alone.
    assert!(matches!(
        meanwhile("n = state['n']\ninput()\nstate['other'] = n", "state['n'] = 30").ending,
        Ending::Completed(_)
    ));
    // The exception of the program is what went wrong; its traceback says the rest.
    let outcome = meanwhile("state['n']\ninput()\nstate['n'] = 1\n1 / 0", "state['n'] = 40");
    assert_eq!(raised(&outcome).0, "ZeroDivisionError");
    let Ending::Raised(exception) = &outcome.ending else { unreachable!() };
    assert!(exception.traceback.contains("At the end of the turn:\nagentkernel.StateConflict: "));
}

/// What a turn comes to during whose `input()` a session with `second` runs another.
fn meanwhile(first: &State, second: &State, code: &str, between: &'static str) -> Outcome {
    let stdin = agentkernel::Stdin::Reader(Box::new(Between { second: Some(second.clone()), between }));
    let session = kernel().session().state(first.clone()).stdin(stdin).limits(limits());
    run(&mut session.start().unwrap(), code)
}

/// Standard input that runs a program of another session before it gives a line.
struct Between {
    second: Option<State>,
    between: &'static str,
}

impl std::io::Read for Between {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let Some(state) = self.second.take() else { return Ok(0) };
        let code = self.between;
        // The reader's thread must not be one that a turn needs.
        std::thread::spawn(move || assert!(run(&mut session(&state), code).ending.is_kept())).join().unwrap();
        buffer[0] = b'\n';
        Ok(1)
    }
}

#[test]
fn counters_of_many_sessions_lose_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut session = session(&State::open(&path).unwrap());
                for _ in 0..25 {
                    while let Ending::Raised(exception) =
                        run(&mut session, "state['n'] = state.get('n', 0) + 1").ending
                    {
                        assert_eq!(exception.kind, "agentkernel.StateConflict", "{exception:?}");
                    }
                }
            });
        }
    });
    assert_eq!(seen(&State::open(&path).unwrap(), "state['n']"), "100");
}

#[test]
fn what_has_no_json_form_is_refused() {
    let state = State::in_memory().unwrap();
    let mut session = session(&state);
    for (code, kind, says) in [
        ("state['k'] = object()", "TypeError", "object"),
        ("state['k'] = b'x'", "TypeError", "bytes"),
        ("state['k'] = {1: 2}", "TypeError", "keys of dictionaries"),
        ("state['k'] = [float('nan')]", "ValueError", "JSON"),
        ("state['k'] = float('inf')", "ValueError", "JSON"),
        ("x = []; x.append(x); state['k'] = x", "ValueError", "100 levels"),
        ("state[5] = 1", "TypeError", "int"),
        ("state[''] = 1", "ValueError", "empty"),
        ("state['a\\0b'] = 1", "ValueError", "NUL"),
        ("state['\\ud800'] = 1", "ValueError", "UTF-8"),
        ("state['k' * 513] = 1", "ValueError", "513 bytes"),
        ("state['k'] = 'x' * (1 << 20)", "ValueError", "too large"),
    ] {
        let outcome = run(&mut session, code);
        let (found, message) = raised(&outcome);
        assert_eq!(found, kind, "{code}: {message}");
        assert!(message.contains(says), "{code}: {message}");
    }
    assert_eq!(seen(&state, "len(state)"), "0");
}

#[test]
fn what_is_held_is_limited() {
    let mut most = StateLimits::default();
    (most.keys, most.total_bytes, most.value_bytes) = (20, 10_000, 4_000);
    let state = State::in_memory().unwrap().limits(most);
    let fill = "
n = 0
try:
    while True:
        state[f'{prefix}{n}'] = value
        n += 1
except StateError as error:
    message = str(error)
(n, message)";
    let mut one = session(&state);
    let found = repr(&mut one, &format!("{IMPORT}prefix, value = 'k', 1{fill}"));
    assert!(found.starts_with("(20, 'the state holds 20 keys at most"), "{found}");
    assert_eq!(seen(&state, "len(state)"), "20");
    // What is there can be replaced and deleted.
    assert_eq!(seen(&state, "state['k0'] = 2; state.delete('k1'); state['new'] = 1; len(state)"), "20");
    assert_eq!(seen(&state, "state.clear(); len(state)"), "0");
    let found = repr(&mut one, &format!("prefix, value = 'x', 'v' * 3000{fill}"));
    assert!(found.starts_with("(3, 'the state holds 10000 bytes"), "{found}");
    // Two turns that fit, each by itself, and not together.
    run(&mut one, "state.clear()");
    let outcome = meanwhile(
        &state,
        &state,
        "for n in range(15): state[f'a{n}'] = 1\ninput()",
        "for n in range(15): state[f'b{n}'] = 1",
    );
    assert_eq!(raised(&outcome).0, "agentkernel.StateError");
    assert_eq!(seen(&state, "state.list('a'), len(state)"), "([], 15)");
}

#[test]
fn floods_of_calls_hold_little() {
    let state = State::in_memory().unwrap();
    let code = "
import sys
for n in range(30_000):
    try:
        state.get(f'{n}' + 'k' * 500)
    except StateError as error:
        break
looked = n
for n in range(30_000):
    state[f'{n}' + 'k' * 500] = 1
    del state[f'{n}' + 'k' * 500]
(looked, len(state))";
    let mut session = session(&state);
    let outcome = run(&mut session, code);
    assert_eq!(agentkernel_tests::value(&outcome).repr, "(20000, 0)");
}

#[test]
fn the_host_checks_what_the_module_checks() {
    let state = State::in_memory().unwrap();
    let call = |function: u32, head: &str, tail: &str| {
        let code = format!(
            "from agentkernel import _calls\ntry:\n    _calls.call({function}, {head}, {tail})\nexcept _calls.Failure as e:\n    found = e.value.kind\nfound"
        );
        seen(&state, &code)
    };
    for (function, head, tail) in [
        (0xFF00_0501, "b'k'", "b'nan'"),
        (0xFF00_0501, "b'k'", "b'[' * 101 + b']' * 101"),
        (0xFF00_0501, "b'k'", "b'\"\\xff\"'"),
        (0xFF00_0501, "b'\\xff'", "b'1'"),
        (0xFF00_0501, "b''", "b'1'"),
        (0xFF00_0503, "b'\\xff'", "b''"),
    ] {
        assert_eq!(call(function, head, tail), "'value'", "{head} {tail}");
    }
    assert_eq!(call(0xFF00_0563, "b'k'", "b''"), "'unknown'");
    assert_eq!(seen(&state, "len(state)"), "0");
}

#[test]
fn without_a_state_the_line_that_grants_it_is_told() {
    let outcome = agentkernel_tests::run("from agentkernel import state\nstate['k'] = 1");
    let (kind, message) = raised(&outcome);
    assert_eq!(kind, "PermissionError");
    assert!(message.contains("`--state FILE`") && message.contains("[state] file"), "{message}");
}

#[test]
fn what_is_no_state_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, "this is no database, and long enough to be sure of it".repeat(100)).unwrap();
    let error = State::open(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Grant);
    assert!(error.to_string().contains("cannot keep state in"), "{error}");
    assert!(State::open(directory.path().join("absent/state.db")).is_err());
    let cache = directory.path().join("cache.db");
    drop(agentkernel::llm::ResponseCache::open(&cache).unwrap());
    assert!(State::open(&cache).unwrap_err().to_string().contains("something else"));
}

#[test]
fn the_program_may_not_write_to_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let state = State::open(directory.path().join("state.db")).unwrap();
    let start = |builder: agentkernel::SessionBuilder| builder.state(state.clone()).start().err();
    let error = start(kernel().session().workspace(directory.path())).unwrap();
    assert_eq!(error.kind(), ErrorKind::Grant);
    assert!(error.to_string().contains("may write to"), "{error}");
    let mount = |access| {
        let mut grants = agentkernel::Grants::default();
        grants.mounts.push(Mount { host: directory.path().into(), guest: "/data".into(), access });
        kernel().session().grants(grants)
    };
    assert!(start(mount(agentkernel::Access::ReadWrite)).is_some());
    assert!(start(mount(agentkernel::Access::ReadOnly)).is_none());
}

#[test]
fn a_replay_reads_what_was_read_and_keeps_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.jsonl");
    let state = State::in_memory().unwrap();
    run(&mut session(&state), "state['n'] = 1");
    let code = format!("{IMPORT}state['n'] += 1\nprint(state['n'], state.list())");
    let recording = Recording::create(&path).unwrap();
    let first = kernel()
        .session()
        .state(state.clone())
        .record(&recording)
        .start()
        .unwrap()
        .run_blocking(code.as_str());
    recording.finish().unwrap();
    assert_eq!(seen(&state, "state['n']"), "2");
    let replaying = Replaying::open(&path).unwrap();
    let again = kernel()
        .session()
        .state(state.clone())
        .replay(&replaying)
        .start()
        .unwrap()
        .run_blocking(code.as_str());
    replaying.finish().unwrap();
    assert_eq!(first.unwrap().stdout, b"2 ['n']\n");
    assert_eq!(again.unwrap().stdout, b"2 ['n']\n");
    assert_eq!(seen(&state, "state['n']"), "2");
}

#[test]
fn children_of_a_run_have_none() {
    let state = State::in_memory().unwrap();
    let model = Answering::new(|request| {
        let child =
            "try:\n    state['k'] = 2\n    FINAL('written')\nexcept PermissionError:\n    FINAL('denied')";
        let root = "state['k'] = 1\nFINAL(rlm('a child asks'))";
        let is_child = request.messages[0].content.contains("a child asks");
        Ok(format!("```python\n{IMPORT}{}\n```", if is_child { child } else { root }))
    });
    let kernel = builder().llm(Llm::new("m", model)).state(state.clone()).build().unwrap();
    let outcome = Rlm::builder(&kernel).build().unwrap().ask_blocking("the root asks").unwrap();
    assert_eq!(outcome.answer.as_deref(), Some("denied"), "{outcome:?}");
    assert_eq!(seen(&state, "state['k']"), "1");
}
