//! Constraints on arguments: what is refused, and what a refused call leaves.

use agentkernel::{Constraint, Ending, ErrorKind, Tool, ToolGrants};
use agentkernel_tests::{builder, echo, limits, repr};

use super::{error, start};

fn constraint(set: impl FnOnce(&mut Constraint)) -> Constraint {
    let mut constraint = Constraint::default();
    set(&mut constraint);
    constraint
}

fn allowing(rules: &[(&str, &str, Constraint)]) -> ToolGrants {
    let mut grants = ToolGrants::default();
    for (function, path, constraint) in rules {
        grants.allow.entry((*function).into()).or_default().insert((*path).into(), constraint.clone());
    }
    grants
}

#[test]
fn arguments_are_checked_before_a_call() {
    let grants = allowing(&[
        ("values.strings", "v", constraint(|c| c.pattern = Some("[a-z]+|/data/.*".into()))),
        ("values.s32s", "v", constraint(|c| (c.min, c.max) = (Some(-5.0), Some(100.0)))),
        ("values.f64s", "v", constraint(|c| c.max = Some(1.0))),
        ("values.colors", "v", constraint(|c| c.one_of = Some(vec!["red".into(), "dark_blue".into()]))),
        ("values.accesses", "v", constraint(|c| c.one_of = Some(vec!["read".into()]))),
        ("values.shapes", "v", constraint(|c| c.one_of = Some(vec!["circle".into(), "empty".into()]))),
        ("values.shapes", "v.circle", constraint(|c| c.max = Some(10.0))),
        ("values.people", "v.place.x", constraint(|c| c.min = Some(0.0))),
        ("values.people", "v.tags", constraint(|c| c.pattern = Some("[a-z]*".into()))),
        ("values.people", "v.age", constraint(|c| (c.max, c.or_none) = (Some(120.0), true))),
        ("values.options", "v", constraint(|c| c.max_length = Some(3))),
        ("values.bytes", "v", constraint(|c| c.max_length = Some(4))),
        ("counters.Counter", "start", constraint(|c| c.max = Some(3.0))),
    ]);
    let mut session = start(builder().tool(echo().grants(grants)));
    session
        .run_blocking(
            "import tools\nfrom tools.echo import values as v, counters as c\nP = v.Person\nA = v.Point",
        )
        .unwrap();
    for allowed in [
        "v.strings('abc')",
        "v.strings('/data/x')",
        "v.s32s(-5)",
        "v.f64s(-1e300)",
        "v.colors(v.Color.DARK_BLUE)",
        "v.accesses(v.Access.READ)",
        "v.accesses(v.Access.NONE)",
        "v.shapes(v.Shape.Circle(9.5))",
        "v.shapes(v.Shape.Empty())",
        "v.people([P('n', None, ['ok'], A(0, -1)), P('n', 120, [], A(1, 1))])",
        "v.people([])",
        "v.options('abc')",
        "v.bytes(b'1234')",
        "c.Counter(3).next()",
        // Others are as free as before.
        "v.s64s(10**12)",
    ] {
        let outcome = session.run_blocking(allowed).unwrap();
        assert!(matches!(outcome.ending, Ending::Completed(_)), "{allowed}: {outcome:?}");
    }
    for (refused, why) in [
        ("v.strings('abc1')", "`v` is \"abc1\", and must match `[a-z]+|/data/.*`"),
        ("v.strings('x/data/x')", "must match"),
        ("v.strings('abc\\n')", "must match"),
        ("v.s32s(101)", "`v` is 101, and must be from -5 to 100"),
        ("v.f64s(float('nan'))", "`v` is \"NaN\", and must be at most 1"),
        ("v.f64s(float('-inf'))", "must be at most 1"),
        ("v.colors(v.Color.GREEN)", "must be one of \"red\", \"dark_blue\""),
        ("v.accesses(v.Access.READ | v.Access.RUN)", "`v` is \"run\""),
        ("v.shapes(v.Shape.Polygon([]))", "`v` is \"polygon\""),
        ("v.shapes(v.Shape.Circle(11.0))", "`v.circle` is 11.0"),
        ("v.people([P('n', None, [], A(0, 0)), P('n', None, [], A(-1, 0))])", "`v.place.x` is -1"),
        ("v.people([P('n', None, ['ok', 'NO'], A(0, 0))])", "`v.tags` is \"NO\""),
        ("v.people([P('n', 121, [], A(0, 0))])", "`v.age` is 121"),
        ("v.options('abcd')", "`v` has a length of 4, and 3 are allowed"),
        ("v.options()", "`v` was left out, which is not allowed"),
        ("v.bytes(b'12345')", "`v` has a length of 5"),
        ("c.Counter(4)", "`start` is 4"),
    ] {
        let message = error(&mut session, refused);
        assert!(message.starts_with("tools.ToolDenied: a call of echo."), "{message}");
        assert!(message.contains(why), "{refused}: {message}");
    }
    // By name as well.
    let message =
        error(&mut session, "from tools._runtime import call_json\ncall_json('echo.values.s32s', '[101]')");
    assert!(message.starts_with("tools.ToolDenied"), "{message}");
}

#[test]
fn a_constraint_that_could_not_hold_is_an_error() {
    for (function, path, wrong, message) in [
        ("values.absent", "v", constraint(|c| c.max = Some(1.0)), "has no function `values.absent`"),
        ("values.s32s", "w", constraint(|c| c.max = Some(1.0)), "names nothing that is there"),
        ("values.people", "v.height", constraint(|c| c.max = Some(1.0)), "names nothing that is there"),
        ("values.strings", "v", constraint(|c| c.max = Some(1.0)), "only numbers"),
        ("values.s32s", "v", constraint(|c| c.pattern = Some("a".into())), "only strings"),
        ("values.strings", "v", constraint(|c| c.pattern = Some("(".into())), "is no regular expression"),
        ("values.points", "v", constraint(|c| c.one_of = Some(vec![1.into()])), "has a set"),
        ("values.s32s", "v", constraint(|c| c.max_length = Some(1)), "has a length"),
        ("values.s32s", "v", Constraint::default(), "says nothing"),
    ] {
        let tool = echo().grants(allowing(&[(function, path, wrong)]));
        let error = builder().tool(tool).build().err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Grant, "{error}");
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[test]
fn a_refused_call_leaves_resources_as_they_are() {
    let grants = allowing(&[("values.s32s", "v", constraint(|c| c.max = Some(100.0)))]);
    let mut session = start(builder().tool(echo().grants(grants)));
    session.run_blocking("from tools.echo import values as v, counters as c\nk = c.Counter(3)").unwrap();
    assert!(error(&mut session, "v.s32s(101)").starts_with("tools.ToolDenied"));
    assert_eq!(repr(&mut session, "k.next(), c.Counter.open()"), "(4, 1)");
    assert_eq!(repr(&mut session, "k.close(); c.Counter.open()"), "0");
}

#[test]
fn what_cannot_be_read_is_not_allowed() {
    let tool =
        Tool::functions("odd", "type json = string; f: func(any: json, n: option<u32>) -> option<u32>;")
            .function("f", |(_, n): (serde_json::Value, Option<u32>)| n)
            .grants(allowing(&[("f", "n", constraint(|c| (c.max, c.or_none) = (Some(10.0), true)))]));
    let mut session = start(builder().tool(tool));
    session
        .run_blocking("from tools.odd import f\nfrom wit_world.imports import modules as m\nimport struct")
        .unwrap();
    assert_eq!(repr(&mut session, "f([1, {'a': None}], 10), f('x')"), "(10, None)");
    assert!(error(&mut session, "f(1, 500)").contains("`n` is 500"));
    // JSON that is none, or nested too deeply to be read, switches no check off.
    let deep = "deep = 1\nfor _ in range(200): deep = [deep]\nf(deep, 500)";
    assert!(error(&mut session, deep).contains("`n` is 500"));
    let raw = "
text = b'1e999'
try: m.call(0, struct.pack('<I', len(text)) + text + struct.pack('<BI', 1, 500), b'')
except Exception as e: found = e.value.message
found";
    assert!(repr(&mut session, raw).contains("`n` is 500"));
    // Values take many times their bytes in JSON.
    let large = "from tools._runtime import call_json\ncall_json('odd.f', '[\"' + 'x' * (9 << 20) + '\"]')";
    assert!(error(&mut session, large).contains("bytes of JSON; call the function itself"));
}

#[test]
fn a_refused_call_lets_its_arguments_go_at_once() {
    let grants = allowing(&[("values.bytes", "v", constraint(|c| c.max_length = Some(4)))]);
    let kernel = builder().tool(echo().grants(grants)).build().unwrap();
    let mut limits = limits();
    limits.memory_bytes = 96 << 20;
    let mut session = kernel.session().limits(limits).start().unwrap();
    let code =
        "import gc\nfrom tools import ToolDenied\nfrom tools.echo import values\ngc.disable()\nrefused = 0
for _ in range(60):
    try: values.bytes(bytes(4 << 20))
    except ToolDenied: refused += 1";
    let outcome = session.run_blocking(code).unwrap();
    assert!(matches!(outcome.ending, Ending::Completed(_)), "{outcome:?}");
    assert_eq!(repr(&mut session, "refused"), "60");
}
