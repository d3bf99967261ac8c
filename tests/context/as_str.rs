//! A context beside the `str` that Python makes of the same bytes.

use std::time::Duration;

use agentkernel::Context;
use agentkernel_tests::{kernel, limits, value};
use proptest::prelude::*;

use super::{holds, of};

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
