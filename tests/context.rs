//! Contexts: what a program reads of them is what Python's own `str` has, whatever the bytes are.

#[path = "context/as_str.rs"]
mod as_str;
#[path = "context/large.rs"]
mod large;

use std::fs;
use std::io::Write;

use agentkernel::{Context, ContextBuilder, Ending, ErrorKind, Session};
use agentkernel_tests::{kernel, limits, raised, repr};

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
