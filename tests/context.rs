//! Contexts: what a program reads of them is what Python's own `str` has, whatever the bytes are.

use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use agentkernel::{Context, ContextBuilder, Ending, ErrorKind, Session};
use agentkernel_tests::{kernel, limits, raised, repr, value};
use proptest::prelude::*;

fn of(builder: ContextBuilder) -> Session {
    with(builder.build().expect("the context is made"))
}

fn with(context: Context) -> Session {
    let mut session = kernel().session().limits(limits()).context(context).start().unwrap();
    let outcome = session.run_blocking("from agentkernel import context").unwrap();
    assert!(matches!(outcome.ending, Ending::Completed(_)), "{outcome:?}");
    session
}

#[track_caller]
fn holds(session: &mut Session, code: &str) {
    assert_eq!(repr(session, code), "True", "{code}");
}

/// Compares a context with the `str` that Python makes of the same bytes. It has the data in `data`.
const COMPARE: &str = r#"
import random, re
from agentkernel import context

PATTERNS = [r"[a-z]+", r"é", r"\w+\d", r"^\S+", r"\S+$", r"a.", r"(a)|(é)b?", r"x*y", "✓|𝄞+", r"[^a]\ufffd", r"", r"\bb"]
WORDS = ["a", "é", "\n", "a\n", "b\na", "aa", "aba", "\ufffd", "\ufffda", "\ufffd\ufffd", "𝄞✓", "", "not there"]

def lines_of(text):
    lines = text.split("\n")
    last = lines.pop()
    return [line.removesuffix("\r") for line in lines] + ([last] if last else [])

def found_in(text, pattern):
    at, number = 0, 0
    for raw in re.findall(r"[^\n]*\n|[^\n]+\Z", text):
        number += 1
        line = raw.removesuffix("\n")
        if raw.endswith("\n"):
            line = line.removesuffix("\r")
        last = -1
        for match in re.finditer(pattern, line):
            # Rust finds no empty match where another ends.
            if not (match.end() == match.start() == last):
                yield number, at + match.start(), at + match.end(), match.group(), line, match.groups()
            last = match.end()
        at += len(raw)

def check(context, text, seed=0, full=True):
    random.seed(seed)
    n = len(text)
    assert len(context) == context.length == n, (len(context), n)
    assert bool(context) == bool(text)
    if full:
        assert str(context) == text and context == text and list(context) == list(text)
    def position():
        return random.choice([None, 0, n, -1, n + 5, -n - 3, random.randint(-n - 2, n + 2), random.randint(0, n)])
    for _ in range(30):
        a, b = position(), position()
        if not full and a is not None and b is None: b = a + 100
        if not full: a = random.randint(0, n); b = a + random.randint(0, 3000)
        assert context[a:b] == text[a:b], (a, b, context[a:b][:50], text[a:b][:50])
        assert str(context.view(a, b)) == text[a:b], (a, b)
        if n:
            i = random.randint(-n, n - 1)
            assert context[i] == text[i], i
    for i in (n, -n - 1, 2**70):
        try:
            context[i]
        except IndexError:
            pass
        else:
            assert False, i
    for word in WORDS:
        assert context.find(word) == text.find(word), (word, context.find(word), text.find(word))
        assert context.rfind(word) == text.rfind(word), (word, context.rfind(word), text.rfind(word))
        assert context.count(word) == text.count(word), (word, context.count(word), text.count(word))
        assert (word in context) == (word in text)
        a, b = position(), position()
        assert context.find(word, a, b) == text.find(word, a, b), (word, a, b, context.find(word, a, b), text.find(word, a, b))
        assert context.rfind(word, a, b) == text.rfind(word, a, b), (word, a, b)
        assert context.startswith(word) == text.startswith(word) and context.endswith(word) == text.endswith(word)
        assert context.startswith(word, a, b) == text.startswith(word, a, b), (word, a, b)
        assert context.endswith(("?", word), a, b) == text.endswith(("?", word), a, b), (word, a, b)
    assert list(context.lines()) == lines_of(text)
    assert "".join(context.lines(keepends=True)) == text
    for by in ("line", "paragraph", "char", "byte"):
        size = random.choice([1, 3, 10, 1000, n + 1]) if full else random.choice([5000, 70_000, 400_000])
        chunks = list(context.chunks(size, by=by))
        assert "".join(chunks) == text, by
        assert all(chunks), by
        if by == "byte":
            assert all(len(c.encode()) <= size + 3 or "\ufffd" in c for c in chunks)
        else:
            assert all(len(c) <= size for c in chunks), by
        if by == "char":
            assert all(len(c) == size for c in chunks[:-1])
        if by == "line":
            for chunk, after in zip(chunks, chunks[1:]):
                assert chunk.endswith("\n") or "\n" not in chunk and len(chunk) == size
        assert [str(c) for c in context.chunks(size, by=by, lazy=True)] == chunks
        if size > 1:
            overlap = random.randint(1, size - 1)
            at = 0
            for view in context.chunks(size, overlap, by=by, lazy=True):
                start = view._start - context._start
                assert start <= at and view._end - context._start > at
                at = view._end - context._start
            assert at == context.size
    for pattern in PATTERNS if full else PATTERNS[1:6]:
        expected = list(found_in(text, pattern))
        matches = context.search(pattern)
        got = [(m.line, m.start, m.end, m.text, m.line_text, m.groups()) for m in matches]
        if got != expected:
            different = next((x for x in zip(got, expected) if x[0] != x[1]), None)
            assert False, (pattern, len(got), len(expected), different)
        assert len(matches) == len(expected) and bool(matches) == bool(expected)
        if not re.escape(pattern) == pattern:
            assert context.count(pattern) == len(expected), pattern
        for match in got[:20]:
            assert context[match[1]:match[2]] == match[3]
        assert [m.span() for m in context.search(pattern, limit=3)] == [x[1:3] for x in expected[:3]]
"#;

/// Bytes as files have them: characters of all lengths, broken ones, line breaks of both kinds.
fn pieces() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let piece = prop_oneof![
        4 => "[ab xy12]{1,6}".prop_map(String::into_bytes),
        2 => prop::sample::select(vec!["é", "✓", "𝄞", "\n", "\n", "\r\n", "\n\n", "aba", "\u{FFFD}"])
            .prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::sample::select(&b"\x80\xbf\xc2\xc0\xe2\xed\xf0\xf4\xf5\xff\xa0\x90"[..])
            .prop_map(|byte| vec![byte]),
    ];
    prop::collection::vec(piece, 0..60)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 20, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_reads_as_a_str_does(pieces in pieces(), seed in any::<u32>()) {
        let data = pieces.concat();
        let mut session = of(Context::builder().bytes("data", data.clone()));
        let code = format!(
            "{COMPARE}\ncheck(context, bytes.fromhex('{}').decode('utf-8', 'replace'), {seed})\nTrue",
            hex(&data)
        );
        holds(&mut session, &code);
    }

    #[test]
    fn views_read_as_slices_do(pieces in pieces(), seed in any::<u32>()) {
        let data = pieces.concat();
        let mut session = of(Context::builder().text("before", "xé").bytes("data", data.clone()).text("after", "y"));
        let code = format!(
            "{COMPARE}\ntext = bytes.fromhex('{}').decode('utf-8', 'replace')
a, b = sorted(random.Random({seed}).randint(0, len(text)) for _ in 'ab')
whole = 'xé' + text + 'y'
assert str(context) == whole and len(context) == len(whole)
for _ in range(20):
    i, j = random.randint(-3, len(whole) + 3), random.randint(-3, len(whole) + 3)
    assert context[i:j] == whole[i:j]
view = context.view(a + 2, b + 2)
check(view, text[a:b], {seed})
True",
            hex(&data)
        );
        holds(&mut session, &code);
    }
}

/// Makes bytes of some megabytes that are broken here and there, the same each time.
const LARGE: &str = r#"
def made(seed, size, broken, long_lines=False):
    random.seed(seed)
    words = [b"word ", "é".encode(), b"ab12 ", "✓✓ ".encode(), "𝄞".encode(), b"aba", b" x", b"yyyy "]
    if not long_lines:
        words += [b"\n", b"\r\n", b"\n\n"]
    bad = [b"\xff", b"\xe2\x82", b"\xf0\x9f\x98", b"\x80\x80", b"\xed\xa0\x80"]
    block = b"".join(random.choice(bad if broken and random.random() < 0.05 else words) for _ in range(20_000))
    out = bytearray()
    while len(out) < size:
        # Blocks of odd lengths, so that boundaries fall anywhere.
        cut = random.randint(1, len(block))
        out += block[:cut]
    # A line break that was cut in two is none.
    return re.sub(rb"\r(?!\n)", b"", bytes(out))
"#;

fn large(seed: u32, broken: bool) {
    let directory = tempfile::tempdir().unwrap();
    let mut maker = kernel().session().limits(limits()).workspace(directory.path()).start().unwrap();
    let python_bool = if broken { "True" } else { "False" };
    let code = format!(
        "import random, re\n{LARGE}\nopen('data', 'wb').write(made({seed}, 700_000, {python_bool}))\n1"
    );
    value(&maker.run_blocking(code).unwrap());
    let context = Context::builder().file(directory.path().join("data")).unwrap().build().unwrap();
    let mut limits = limits();
    limits.timeout = Some(Duration::from_secs(120));
    let mut session =
        kernel().session().limits(limits).workspace(directory.path()).context(context).start().unwrap();
    let code = format!(
        "{COMPARE}\ncheck(context, open('data', 'rb').read().decode('utf-8', 'replace'), {seed}, full=False)\nTrue"
    );
    holds(&mut session, &code);
}

#[test]
fn boundaries_of_blocks_and_parts_do_not_show() {
    large(1, false);
}

#[test]
fn boundaries_do_not_show_in_broken_text() {
    large(2, true);
}

#[test]
fn files_of_a_directory_are_one_context() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    fs::create_dir_all(path.join("b/deep")).unwrap();
    fs::create_dir_all(path.join(".git")).unwrap();
    fs::write(path.join("a.txt"), "first\nsecond é").unwrap();
    fs::write(path.join("b/deep/c.txt"), "third\nfirst\n").unwrap();
    fs::write(path.join("b/empty.txt"), "").unwrap();
    fs::write(path.join("z.txt"), "last").unwrap();
    fs::write(path.join(".git/config"), "hidden").unwrap();
    fs::write(path.join(".hidden"), "hidden").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", path.join("link.txt")).unwrap();
    let context = Context::open([path]).unwrap();
    let names: Vec<_> = context.files().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(names, ["a.txt", "b/deep/c.txt", "b/empty.txt", "z.txt"]);
    let mut session = with(context);
    assert_eq!(repr(&mut session, "str(context)"), "'first\\nsecond éthird\\nfirst\\nlast'");
    assert_eq!(
        repr(&mut session, "list(context.lines())"),
        "['first', 'second é', 'third', 'first', 'last']"
    );
    assert_eq!(
        repr(
            &mut session,
            "[(m.file, m.line, context[m.start:m.end]) for m in context.search('first|last')]"
        ),
        "[('a.txt', 1, 'first'), ('b/deep/c.txt', 2, 'first'), ('z.txt', 1, 'last')]"
    );
    assert_eq!(
        repr(&mut session, "list(context.files)"),
        "['a.txt', 'b/deep/c.txt', 'b/empty.txt', 'z.txt']"
    );
    assert_eq!(repr(&mut session, "str(context.files['b/deep/c.txt'])"), "'third\\nfirst\\n'");
    assert_eq!(
        repr(&mut session, "context.files['z.txt'][-2:], len(context.files['b/empty.txt'])"),
        "('st', 0)"
    );
    // Small files share a chunk, and are cut where files end.
    assert_eq!(
        repr(&mut session, "list(context.chunks(16))"),
        "['first\\nsecond é', 'third\\nfirst\\nlast']"
    );
    assert_eq!(
        repr(
            &mut session,
            "[(m.line, m.before, m.line_text, m.after) for m in context.files['b/deep/c.txt'].search('first', before=1, after=2)]"
        ),
        "[(2, ['third'], 'first', [])]"
    );
}

#[test]
fn many_files_are_read_without_keeping_them_open() {
    let directory = tempfile::tempdir().unwrap();
    for number in 0..700 {
        fs::write(directory.path().join(format!("{number:04}.txt")), format!("file {number} é\n")).unwrap();
    }
    let context = Context::builder().directory(directory.path()).unwrap().build().unwrap();
    let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let mut session = with(context);
    assert_eq!(
        repr(&mut session, "m = context.search('file 69[0-9]'); len(m), m[-1].file"),
        "(10, '0699.txt')"
    );
    holds(&mut session, "text = str(context); len(context) == len(text) and context[-9:] == text[-9:]");
    holds(&mut session, "all(context[i:i+50] == text[i:i+50] for i in range(0, len(text), 37))");
    holds(&mut session, "m = context.search('699 é')[0]; context[m.start:m.end] == '699 é'");
    assert!(open < 600, "{open} descriptors");
    // Another file in the place of one is not read.
    fs::write(directory.path().join("new"), "file 650 x\n").unwrap();
    fs::rename(directory.path().join("new"), directory.path().join("0650.txt")).unwrap();
    let outcome = session.run_blocking("context.count('x')").unwrap();
    let (kind, message) = raised(&outcome);
    assert_eq!(kind, "OSError");
    assert!(message.contains("another file has taken the place of `0650.txt`"), "{message}");
}

#[test]
fn what_is_compressed_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let text: String = (0..50_000).map(|n| format!("line {n} é\n")).collect();
    let gz = directory.path().join("a.log.gz");
    // Two members, as `cat a.gz b.gz` makes them.
    let mut file = fs::File::create(&gz).unwrap();
    for half in [&text[..100], &text[100..]] {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(half.as_bytes()).unwrap();
        file.write_all(&encoder.finish().unwrap()).unwrap();
    }
    let zst = directory.path().join("b.log.zst");
    let level = ruzstd::encoding::CompressionLevel::Fastest;
    let mut bytes = ruzstd::encoding::compress_to_vec(&text.as_bytes()[..100], level);
    // A frame to be skipped, then another.
    bytes.extend([0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
    bytes.extend(ruzstd::encoding::compress_to_vec(&text.as_bytes()[100..], level));
    fs::write(&zst, bytes).unwrap();

    let context = Context::open([&gz, &zst]).unwrap();
    assert_eq!(context.size(), 2 * text.len() as u64);
    let mut session = with(context);
    assert_eq!(
        repr(
            &mut session,
            "[(m.file, m.line, context[m.start:m.end]) for m in context.search('line 49999 .')]"
        ),
        "[('a.log.gz', 50000, 'line 49999 é'), ('b.log.zst', 50000, 'line 49999 é')]"
    );
    holds(&mut session, "str(context.files['a.log.gz']) == str(context.files['b.log.zst'])");

    let error =
        Context::builder().decompressed_bytes(1_000_000).file(&gz).unwrap().file(&zst).unwrap().build();
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Grant);
    assert!(error.to_string().contains("`") && error.to_string().contains("b.log.zst"), "{error}");
    for path in [&gz, &zst] {
        let whole = fs::read(path).unwrap();
        fs::write(path, &whole[..whole.len() - 20]).unwrap();
        let error = Context::open([path]).unwrap_err();
        assert!(error.to_string().contains("cannot decompress"), "{error}");
    }
}

#[test]
fn what_cannot_be_a_context_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let error = Context::open([directory.path().join("missing")]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Grant);
    let error = Context::open(["/dev/null"]).unwrap_err();
    assert!(error.to_string().contains("neither a regular file nor a directory"), "{error}");
    let pipe = directory.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let error = Context::open([&pipe]).unwrap_err();
    assert!(error.to_string().contains("neither a regular file"), "{error}");
}

#[test]
fn a_file_that_becomes_shorter_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    fs::write(&path, "é line\n".repeat(500_000)).unwrap();
    let mut session = with(Context::open([&path]).unwrap());
    holds(&mut session, "len(context) == 3_500_000");
    fs::File::options().write(true).open(&path).unwrap().set_len(100_000).unwrap();
    for code in [
        "context[-10:]",
        "str(context)",
        "list(context.lines())",
        "context.count('[a-z]+')",
        "list(context.search('x'))",
        "list(context.chunks(50_000))",
        "context.find('x')",
        "context.view(3_000_000).length",
    ] {
        let outcome = session.run_blocking(code).unwrap();
        if code.contains("length") && matches!(outcome.ending, Ending::Completed(_)) {
            // Counted before.
            continue;
        }
        let (kind, message) = raised(&outcome);
        assert_eq!(kind, "OSError", "{code}");
        assert!(message.contains("has become shorter") && message.contains("`log`"), "{message}");
    }
    // What changes in place is read as it is; positions are those of before.
    fs::write(&path, "ab\n".repeat(1_500_000)).unwrap();
    for code in [
        "len(context[1_000:2_000]) <= 4_000",
        "context.count('ab') > 0",
        "len(list(context.chunks(100_000))) > 0",
    ] {
        holds(&mut session, code);
    }
}

#[test]
fn without_a_context_it_is_said_what_gives_one() {
    let mut session = kernel().session().limits(limits()).start().unwrap();
    holds(&mut session, "from agentkernel import Context, Match\nisinstance('', Context) is False");
    let outcome = session.run_blocking("from agentkernel import context").unwrap();
    let (kind, message) = raised(&outcome);
    assert_eq!(kind, "PermissionError");
    assert!(message.contains("--context"), "{message}");
}

#[test]
fn several_contexts_have_names() {
    let context = |text: &str| Context::builder().text("text", text).build().unwrap();
    let mut session = kernel()
        .session()
        .context(context("main"))
        .named_context("other", context("two words"))
        .start()
        .unwrap();
    assert_eq!(
        repr(
            &mut session,
            "from agentkernel import Context, context\nstr(context), str(Context.named('other')), Context.names()"
        ),
        "('main', 'two words', ['context', 'other'])"
    );
    let (kind, message) = {
        let outcome = session.run_blocking("Context.named('x')").unwrap();
        let (kind, message) = raised(&outcome);
        (kind.to_owned(), message.to_owned())
    };
    assert_eq!(kind, "LookupError");
    assert!(message.contains("'other'"), "{message}");
}

#[test]
fn a_small_context_has_the_methods_of_str() {
    let mut session = of(Context::builder().text("t", "One two\nthree"));
    assert_eq!(
        repr(&mut session, "context.split(), context.upper(), f'<{context}>', context + '!', '!' + context"),
        "(['One', 'two', 'three'], 'ONE TWO\\nTHREE', '<One two\\nthree>', 'One two\\nthree!', '!One two\\nthree')"
    );
    assert_eq!(
        repr(&mut session, "context[::2], context == 'One two\\nthree', hash(context) == hash(str(context))"),
        "('Oetotre', True, True)"
    );
    assert_eq!(repr(&mut session, "context"), "<context of 13 bytes>");
    assert_eq!(
        repr(&mut session, "context.search('t')"),
        "<matches of 't': Match(file='t', line=1, start=4, end=5, text='t'), Match(file='t', line=2, start=8, end=9, text='t')>"
    );
    assert_eq!(
        repr(
            &mut session,
            "import re\ncontext.findall('T(.)', ignore_case=True), context.findall(re.compile('t.', re.I)), context.findall('(o)(n|p)?')"
        ),
        "(['w', 'h'], ['tw', 'th'], [('o', '')])"
    );
    assert_eq!(
        repr(
            &mut session,
            "m = context.search('(t)(h)')[0]\nm.start(), m.end, m.group(), m.group(1, 2), m[1], m.span()"
        ),
        "(8, 10, 'th', ('t', 'h'), 't', (8, 10))"
    );
    for (code, expected) in [
        ("context.search('a(b')", "ValueError: regex parse error:"),
        (r"context.search(r'a\n+b')", "ValueError: a match lies within a line"),
        (r"context.search(r'(?<=a)b')", "filter the matches in Python"),
        ("context.chunks(0)", "ValueError: size must be at least 1, not 0"),
        ("context.chunks(5, 5)", "ValueError: the overlap must be smaller than the size"),
        ("context.chunks(5, by='word')", "ValueError: by must be one of"),
        ("context.nothing", "AttributeError: a context has no attribute 'nothing'"),
        ("context.index('nowhere')", "ValueError: substring not found"),
        ("1 in context", "TypeError: must be str, not int"),
    ] {
        let outcome = session.run_blocking(code).unwrap();
        let (kind, message) = raised(&outcome);
        assert!(format!("{kind}: {message}").contains(expected), "{code}: {kind}: {message}");
    }
}

#[test]
fn long_lines_are_read_in_pieces() {
    let text = format!("{}needle {}", "é".repeat(3 << 20), "x".repeat(3 << 20));
    let length = text.chars().count();
    let mut session = of(Context::builder().text("t", text));
    assert_eq!(
        repr(&mut session, "[(m.line, m.start, m.text) for m in context.search('needle')]"),
        format!("[(1, {}, 'needle')]", 3 << 20)
    );
    holds(&mut session, &format!("sum(map(len, context.lines())) == len(context) == {length}"));
    holds(&mut session, "max(map(len, context.lines())) < 5_000_000 and len(list(context.lines())) == 2");
    holds(
        &mut session,
        "m = context.search('needle')[0]; len(m.line_text) > 0 and context.count('é') == 3 << 20",
    );
}

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
