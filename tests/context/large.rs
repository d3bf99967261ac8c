//! Contexts that are large, searches that take long, and programs that ask for too much.

use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use agentkernel::{Context, Ending};
use agentkernel_tests::{kernel, limits, raised};

use super::{holds, of, with};

/// A file of so many bytes that takes no room.
fn sparse(bytes: u64) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(bytes).unwrap();
    file.as_file().write_all_at(b"needle\n", bytes - 100).unwrap();
    file
}

#[test]
fn memory_of_the_program_does_not_grow_with_the_context() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("large");
    let mut file = std::io::BufWriter::new(fs::File::create(&path).unwrap());
    for number in 0..1_000_000u32 {
        writeln!(file, "{number:08} the quick brown fox jumps over the lazy dog").unwrap();
    }
    file.into_inner().unwrap();
    let context = Context::open([&path]).unwrap();
    assert!(context.size() > 50_000_000);
    let mut limits = limits();
    limits.timeout = Some(Duration::from_secs(120));
    let mut session = kernel().session().limits(limits).context(context).start().unwrap();
    session.run_blocking("from agentkernel import context\nlen(context[:2_000_000])").unwrap();
    let before = session.run_blocking("1").unwrap().usage.peak_memory_bytes;
    holds(&mut session, "sum(1 for _ in context.lines()) == 1_000_000");
    holds(&mut session, "sum(1 for _ in context.search('fox')) == 1_000_000");
    holds(&mut session, "sum(map(len, context.chunks(500_000, by='char'))) == len(context)");
    holds(
        &mut session,
        "len(context.search('[a-z]+')) == 9 * 1_000_000 and context.count('o') == 4 * 1_000_000",
    );
    holds(&mut session, "type(context[5:]).__name__ == 'Context' and len(context[5:]) == len(context) - 5");
    let after = session.run_blocking("1").unwrap().usage.peak_memory_bytes;
    assert!(after - before < 16 << 20, "{} more bytes", after - before);
    for code in ["str(context)", "f'{context}'"] {
        let outcome = session.run_blocking(code).unwrap();
        let (kind, message) = raised(&outcome);
        assert!(kind == "ValueError" && message.contains("use a slice"), "{kind}: {message}");
    }
    let outcome = session.run_blocking("context.split()").unwrap();
    let (kind, message) = raised(&outcome);
    assert!(kind == "AttributeError" && message.contains("too large for split()"), "{kind}: {message}");
}

#[test]
fn more_characters_than_len_can_say_are_counted() {
    let file = sparse(3 << 30);
    let mut limits = limits();
    limits.timeout = Some(Duration::from_secs(100));
    let context = Context::open([file.path()]).unwrap();
    let mut session = kernel().session().limits(limits).context(context).start().unwrap();
    holds(&mut session, "from agentkernel import context\ncontext.length == context.size == 3 << 30");
    let outcome = session.run_blocking("len(context)").unwrap();
    let (kind, message) = raised(&outcome);
    assert!(kind == "OverflowError" && message.contains("context.length"), "{message}");
    holds(
        &mut session,
        "context.find('needle') == (3 << 30) - 100 and context[(3 << 30) - 100:][:6] == 'needle'",
    );
}

#[test]
fn the_time_limit_stops_a_search() {
    let file = sparse(200 << 30);
    for code in [
        "context.count('[a-z]x')",
        "len(context)",
        "context.find('nowhere')",
        "list(context.search('nowhere'))",
        "context[-1]",
        "list(context.chunks(10**11))",
    ] {
        let mut limits = limits();
        limits.timeout = Some(Duration::from_millis(500));
        let context = Context::open([file.path()]).unwrap();
        let mut session = kernel().session().limits(limits).context(context).start().unwrap();
        let begun = Instant::now();
        let outcome = session.run_blocking(format!("from agentkernel import context\n{code}")).unwrap();
        assert_eq!(outcome.ending, Ending::TimedOut, "{code}");
        assert!(begun.elapsed() < Duration::from_secs(3), "{code}: {:?}", begun.elapsed());
    }
}

#[test]
fn expressions_that_would_take_long_do_not_outlive_the_turn() {
    // Each byte takes time in proportion to the expression, at worst.
    let mut limits = limits();
    limits.timeout = Some(Duration::from_millis(500));
    let context = Context::builder().text("t", "a".repeat(8 << 20)).build().unwrap();
    for pattern in [
        "(a?){1000}b",
        "(a*)*(a*)*(a*)*b",
        "(?:(?:a{0,30}){0,30}){0,10}b",
        r"(?:\\w{0,20} ?){10}!",
        "(.*)(.*)(.*)(.*)x",
    ] {
        let mut session = kernel().session().limits(limits.clone()).context(context.clone()).start().unwrap();
        let begun = Instant::now();
        let outcome = session
            .run_blocking(format!("from agentkernel import context\ncontext.count('{pattern}')"))
            .unwrap();
        assert!(begun.elapsed() < Duration::from_secs(3), "{pattern}: {:?}", begun.elapsed());
        assert!(
            matches!(outcome.ending, Ending::TimedOut | Ending::Completed(_) | Ending::Raised(_)),
            "{pattern}: {outcome:?}"
        );
    }
}

/// Waits until nothing in this process has a file open: what searched it is done.
#[track_caller]
fn is_let_go(path: &std::path::Path, code: &str) {
    let begun = Instant::now();
    let open = || {
        let mut open = fs::read_dir("/proc/self/fd").unwrap().flatten();
        open.any(|entry| fs::read_link(entry.path()).is_ok_and(|link| link == path))
    };
    while open() {
        assert!(begun.elapsed() < Duration::from_secs(2), "{code}: it is still searched");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_search_ends_with_its_turn() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("line");
    fs::write(&path, "a".repeat(4 << 20)).unwrap();
    let path = path.canonicalize().unwrap();
    let mut other = of(Context::builder().text("t", "one\ntwo\n"));
    let mut limits = limits();
    limits.timeout = Some(Duration::from_millis(150));
    // Together more than a process has at once.
    for code in [
        r"context.count('.*[\x00\x01]|.')",
        r"len(list(context.search('.*[\x00\x01]|(.)')))",
        "[context.count('(?:a?){2000}[^a]') for _ in range(100)]",
        "[context.count('a' * 60_000) for _ in range(10_000)]",
    ] {
        for _ in 0..5 {
            let context = Context::open([&path]).unwrap();
            let mut session = kernel().session().limits(limits.clone()).context(context).start().unwrap();
            let code = format!("from agentkernel import context\n{code}");
            let outcome = session.run_blocking(code.as_str()).unwrap();
            assert_eq!(outcome.ending, Ending::TimedOut, "{code}");
            drop(session);
            is_let_go(&path, &code);
        }
        let begun = Instant::now();
        holds(&mut other, "context.count('[a-z]+') == 2");
        assert!(begun.elapsed() < Duration::from_secs(1), "{code}: {:?}", begun.elapsed());
    }
}

#[test]
fn text_that_lies_over_itself_is_counted_soon() {
    let mut session = of(Context::builder().text("t", "a".repeat(4 << 20)));
    let begun = Instant::now();
    holds(&mut session, "context.count('a' * 60_000) == len(context) // 60_000");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[test]
fn a_long_line_is_cut_for_a_large_expression() {
    // It sees a few KiB at once; what lies within is found, where it is, in many batches and in broken text.
    for bytes in [0, 2] {
        let data = [&b"\xc3\xa9\n"[..], &b"\xff".repeat(bytes), "é yx ".repeat(100_000).as_bytes()].concat();
        let mut session = of(Context::builder().bytes("t", data));
        let code = format!(
            "import re
text = 'é\\n' + '\\ufffd' * {bytes} + 'é yx ' * 100_000
found = [m.span() for m in context.search('y(?:q?){{6000}}')]
found == [m.span() for m in re.finditer('y', text)] and context.count('y(?:q?){{6000}}') == 100_000"
        );
        holds(&mut session, &code);
    }
}

#[test]
fn nonsense_is_refused() {
    let mut session =
        of(Context::builder().text("t", "é✓ one\ntwo\n".repeat(1000)).bytes("b", vec![0xe2; 100]));
    let code = r#"
import random, struct
from agentkernel import context
from agentkernel._calls import call, Failure
random.seed(7)
numbers = [0, 1, 2, 3, 5, 100, 13_000, 13_100, 13_101, 2**16, 2**31, 2**32, 2**40, 2**63, 2**64 - 1]
texts = [b"", b"a", b"(", b"\xff", b"e" * 70_000, b"(a{1000}){1000}", "é".encode(), b"\n", "\ufffd".encode(), b".*", b"^", b"\\b"]
answered = refused = 0
for _ in range(6000):
    function = random.choice([*range(12), 255])
    wire = [0, *sorted(random.choices(numbers[:9], k=2))] if random.random() < 0.7 else random.choices(numbers, k=3)
    rest = random.choices(numbers, k=random.randint(0, 8))
    head = struct.pack(f"<{3 + len(rest)}Q", *wire, *rest)
    if random.random() < 0.05:
        head = head[:random.randint(0, len(head))]
    try:
        assert len(call(0xFF000200 | function, head, random.choice(texts))) < 8 << 20
        answered += 1
    except Failure as error:
        assert error.value.kind in ("value", "unknown"), (function, wire, rest, error.value)
        refused += 1
answered > 1000 and refused > 1000
"#;
    holds(&mut session, code);
    // A view cannot lead outside.
    let code = "
from agentkernel import Context
for start, end in ((0, 10**6), (5, 2), (2**63, 2**63), (13_000, 2**64 - 1)):
    try:
        Context._of(0, start, end).length
        print('read', start, end)
    except ValueError as error:
        assert 'does not lie in the context' in str(error)
try:
    Context._of(7, 0, 0).length
except ValueError as error:
    assert 'no such context' in str(error)
True";
    holds(&mut session, code);
}

#[test]
fn calls_at_once_take_turns() {
    let file = sparse(1 << 30);
    let mut session = with(Context::open([file.path()]).unwrap());
    // Each begins a search of the whole; what is given up stops.
    let code = r#"
import asyncio, struct
from agentkernel._calls import start
async def one():
    head = context._wire() + struct.pack("<Q", 0)
    return struct.unpack("<Q", await start(0xFF000200 | 6, head, b"need[l]e"))[0]
tasks = [asyncio.ensure_future(one()) for _ in range(100)]
await asyncio.sleep(0.05)
for task in tasks[2:]:
    task.cancel()
[await task for task in tasks[:2]] == [1, 1]
"#;
    holds(&mut session, code);
}
