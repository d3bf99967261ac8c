//! Servers that mean harm.

use std::time::{Duration, Instant};

use agentkernel::{Ending, ToolGrants};
use agentkernel_tests::repr;

use super::{error, exists, kernel, server, session, until};

#[test]
fn schemas_cannot_be_code() {
    let kernel = kernel(server("schemas"), ToolGrants::default());
    let mut session = session(&kernel);
    let outcome = session.run_blocking("import tools\nfrom tools import x\nfrom tools.x import aio").unwrap();
    assert!(matches!(outcome.ending, Ending::Completed(_)), "{outcome:?}");
    let names = repr(&mut session, "x.__all__");
    for absent in ["'__getattr__'", "'_m'", "'aio'", "\\"] {
        assert!(!names.contains(absent), "{absent}: {names}");
    }
    // Each name is Python's, there once, and a function or a class.
    assert_eq!(
        repr(
            &mut session,
            "all(n.isidentifier() and n[0] != '_' and callable(getattr(x, n)) for n in x.__all__), len(x.__all__) == len({*x.__all__})"
        ),
        "(True, True)"
    );
    // Of two that have one name the first counts; names that nobody could show are left out.
    assert!(repr(&mut session, "x.__doc__").contains("3 more functions are left out"));
    // They are called by the names that the server gave them.
    session
        .run_blocking("bad = next(getattr(x, n) for n in x.__all__ if 'import_os' in n)\nimport inspect")
        .unwrap();
    let result = repr(&mut session, "bad('given', enum=True, self_=1, others_2=2, more='x')");
    for part in ["raise SystemExit(66)", "'self': 1", "'others': 2", "'more': 'x'", "'enum': True"] {
        assert!(result.contains(part), "{part}: {result}");
    }
    for (call, expected) in
        [("x.Error_2()", "Error"), ("x.aio_2()", "aio"), ("x.getattr__()", "__getattr__"), ("x.m()", "_m")]
    {
        assert_eq!(repr(&mut session, &format!("{call}['name']")), format!("'{expected}'"));
    }
    assert_eq!(repr(&mut session, "x.print()['name'], x.reference(3)['arguments']"), "('print', {'n': 3})");
    assert_eq!(repr(&mut session, "x.hidden.__doc__, len(x.long.__doc__) < 5000"), "('> ab[2Jc', True)");
    // What is too much, or odd, is of any type.
    assert!(repr(&mut session, "str(inspect.signature(x.deep))").len() < 500);
    assert!(repr(&mut session, "str(inspect.signature(x.bomb))").len() < 100_000);
    assert_eq!(
        repr(&mut session, "x.endless(a={'a': {'a': 1}}, ring=5)['arguments']"),
        "{'a': {'a': {'a': 1}}, 'ring': 5}"
    );
    assert_eq!(
        repr(&mut session, "x.odd(a=1, b=[], h=[1], n=None, o={'x': 2})['arguments']"),
        "{'a': 1, 'b': [], 'h': [1], 'o': {'x': 2}}"
    );
    assert_eq!(
        repr(&mut session, "len(inspect.signature(x.wide).parameters), x.wide(p4999='y')['arguments']"),
        "(129, {'p4999': 'y'})"
    );
    // All that discovery and type checkers are given is sound as well.
    assert_eq!(
        repr(&mut session, "len([str(i) for i in tools.search('raise os import', limit=999)]) > 0"),
        "True"
    );
    for (path, text) in kernel.tool_stubs() {
        assert_eq!(
            repr(&mut session, &format!("import ast\nlen(ast.parse({text:?}).body) > 0")),
            "True",
            "{path}"
        );
    }
    let found = repr(
        &mut session,
        "'\\n'.join(tools.describe(i.name, 'full') for i in tools._discovery.items() if i.name != 'x')",
    );
    assert!(!found.contains('\u{1b}') && !found.contains('\u{202e}'), "{found}");
}

#[test]
fn too_many_functions_are_left_out() {
    let mut many = session(&kernel(server("many"), ToolGrants::default()));
    assert_eq!(
        repr(&mut many, "from tools import x\nsum(n.startswith('tool_') for n in x.__all__), x.tool_7()"),
        "(512, 'tool-7')"
    );
    assert!(repr(&mut many, "x.__doc__").contains("9488 more functions are left out"));
    let mut pages = session(&kernel(server("pages"), ToolGrants::default()));
    assert_eq!(repr(&mut pages, "from tools import x\nlen(x.__all__), x.page63()"), "(65, 'page63')");
}

#[test]
fn what_is_no_message_is_nobodys_business() {
    let mut session = session(&kernel(server("noise"), ToolGrants::default()));
    assert_eq!(
        repr(&mut session, "from tools.x import hello\n[hello(), hello(), hello()]"),
        "['first', 'first', 'first']"
    );
}

#[test]
fn a_line_without_end_ends_the_server() {
    let begun = Instant::now();
    let mut session = session(&kernel(server("babble").max_message_bytes(1 << 20), ToolGrants::default()));
    let message = error(&mut session, "from tools.x import a");
    assert!(
        message.contains("cannot be used: its standard output cannot be read: a line has more than"),
        "{message}"
    );
    assert!(begun.elapsed() < Duration::from_secs(15));
}

#[test]
fn an_answer_that_is_too_long_ends_its_call_alone() {
    let mut large = session(&kernel(server("good").max_message_bytes(100_000), ToolGrants::default()));
    large.run_blocking("from tools import x").unwrap();
    let number = repr(&mut large, "x.number()");
    let message = error(&mut large, "x.large(200_000)");
    assert!(
        message.starts_with("tools.ToolMemoryError: x.large gave too much: its answer has 200")
            && message.ends_with("`max-message` of its server raises that"),
        "{message}"
    );
    assert_eq!(repr(&mut large, "len(x.large(90_000)), x.number()"), format!("(90000, {number})"));
    // One without end ends with its server.
    let mut huge = session(&kernel(server("huge").max_message_bytes(100_000), ToolGrants::default()));
    let number = repr(&mut huge, "from tools import x\nx.number()").trim_matches('\'').to_owned();
    let message = error(&mut huge, "x.huge()");
    assert!(
        message.starts_with("tools.ToolTrapped: x.huge failed, as its server ended: its standard output"),
        "{message}"
    );
    until("it is gone", || !exists(&number));
    assert_ne!(repr(&mut huge, "x.number()").trim_matches('\''), number);
}

#[test]
fn floods_end_the_server() {
    for mode in ["flood", "pings"] {
        let mut session = session(&kernel(server(mode).max_message_bytes(100_000), ToolGrants::default()));
        session.run_blocking("from tools import x").unwrap();
        let begun = Instant::now();
        let message = error(&mut session, &format!("x.{mode}()"));
        assert!(message.contains("failed, as its server ended: it "), "{message}");
        assert!(begun.elapsed() < Duration::from_secs(15));
    }
}

#[test]
fn one_that_answers_nothing_any_more_is_started_again() {
    let mut grants = ToolGrants::default();
    grants.limits.timeout = Some(Duration::from_millis(300));
    let mut session = session(&kernel(server("deaf"), grants));
    let number = repr(&mut session, "from tools import x\nx.number()").trim_matches('\'').to_owned();
    assert!(error(&mut session, "x.hello()").contains("was stopped at its time limit of 0.3 s"));
    until("it is gone", || !exists(&number));
    assert_ne!(repr(&mut session, "x.number()").trim_matches('\''), number);
}

#[test]
fn what_a_server_asks_for_is_declined() {
    let mut session = session(&kernel(server("good"), ToolGrants::default()));
    let code = "import json\nfrom tools.x import ask\n[(m['id'], m.get('error', {}).get('code'), m.get('result')) for m in sorted(json.loads(ask()), key=lambda m: m['id'])]";
    assert_eq!(
        repr(&mut session, code),
        "[('q0', -32601, None), ('q1', -32601, None), ('q2', None, {'action': 'decline'})]"
    );
}

#[test]
fn a_server_of_a_later_version_is_greeted_as_it_wants() {
    let mut session = session(&kernel(server("early"), ToolGrants::default()));
    assert_eq!(repr(&mut session, "from tools.x import hello\nhello()"), "'later'");
}
