//! Tools that import what other tools export.

use std::time::{Duration, Instant};

use agentkernel::{Constraint, ErrorKind, KernelBuilder, Session, Tool, ToolGrants};
use agentkernel_tests::{builder, echo, limits, raised, repr};

fn tool(name: &str, wat: &str) -> Tool {
    Tool::from_bytes(name, wat::parse_str(wat).unwrap())
}

/// Exports numbers in version 1.1, with a function more than is needed.
fn numbers() -> Tool {
    tool(
        "numbers",
        r#"(component
            (core module $m
                (global $calls (mut i32) (i32.const 0))
                (func (export "double") (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2)))
                (func (export "count") (result i32)
                    (global.set $calls (i32.add (global.get $calls) (i32.const 1))) (global.get $calls))
                (func (export "fail") unreachable)
                (func (export "spin") (loop (br 0))))
            (core instance $i (instantiate $m))
            (func $double (param "v" u32) (result u32) (canon lift (core func $i "double")))
            (func $count (result u32) (canon lift (core func $i "count")))
            (func $fail (canon lift (core func $i "fail")))
            (func $spin (canon lift (core func $i "spin")))
            (instance $api
                (export "double" (func $double)) (export "count" (func $count))
                (export "fail" (func $fail)) (export "spin" (func $spin)))
            (export "a:b/numbers@1.1.0" (instance $api)))"#,
    )
}

fn user() -> Tool {
    tool(
        "user",
        r#"(component
            (import "a:b/numbers@1.0.0" (instance $n
                (export "double" (func (param "v" u32) (result u32)))
                (export "count" (func (result u32)))
                (export "fail" (func)) (export "spin" (func))))
            (core func $double (canon lower (func $n "double")))
            (core func $count (canon lower (func $n "count")))
            (core func $fail (canon lower (func $n "fail")))
            (core func $spin (canon lower (func $n "spin")))
            (core module $m
                (import "" "double" (func $double (param i32) (result i32)))
                (func (export "quadruple") (param i32) (result i32)
                    (call $double (call $double (local.get 0)))))
            (core instance $i (instantiate $m (with "" (instance (export "double" (func $double))))))
            (func (export "quadruple") (param "v" u32) (result u32) (canon lift (core func $i "quadruple")))
            (func (export "count") (result u32) (canon lift (core func $count)))
            (func (export "fail") (canon lift (core func $fail)))
            (func (export "spin") (canon lift (core func $spin))))"#,
    )
}

fn start(builder: KernelBuilder) -> Session {
    builder.build().unwrap().session().limits(limits()).start().unwrap()
}

#[track_caller]
fn error(session: &mut Session, code: &str) -> String {
    let outcome = session.run_blocking(code).unwrap();
    let (kind, message) = raised(&outcome);
    format!("{kind}: {message}")
}

#[test]
fn a_tool_calls_another_in_whichever_order_they_are_given() {
    for tools in [[numbers(), user()], [user(), numbers()]] {
        let mut session = start(tools.into_iter().fold(builder(), KernelBuilder::tool));
        session.run_blocking("from tools import user, numbers").unwrap();
        assert_eq!(repr(&mut session, "user.quadruple(10)"), "40");
        // Its instance of the other tool is its own.
        assert_eq!(
            repr(&mut session, "[user.count(), user.count(), numbers.count(), user.count()]"),
            "[1, 2, 1, 3]"
        );
        assert_eq!(repr(&mut session, "import asyncio\nasyncio.run(user.aio.quadruple(1))"), "4");
    }
}

#[test]
fn what_the_other_tool_fails_in_is_an_exception_and_the_next_call_works() {
    let mut grants = ToolGrants::default();
    grants.limits.timeout = Some(Duration::from_millis(200));
    let mut session = start(builder().tool(numbers().grants(grants)).tool(user()));
    session.run_blocking("from tools import user").unwrap();
    let message = error(&mut session, "user.fail()");
    assert!(message.starts_with("tools.ToolTrapped: user.fail failed:"), "{message}");
    assert!(message.contains("numbers.fail failed: wasm trap: wasm `unreachable`"), "{message}");
    let begun = Instant::now();
    let message = error(&mut session, "user.spin()");
    assert!(message.contains("numbers.spin was stopped at its time limit of 0.2 s"), "{message}");
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(repr(&mut session, "user.quadruple(1), user.count()"), "(4, 1)");
}

#[test]
fn the_time_of_the_caller_and_of_the_turn_holds_for_both() {
    let mut grants = ToolGrants::default();
    grants.limits.timeout = Some(Duration::from_millis(200));
    let mut endless = ToolGrants::default();
    endless.limits.timeout = None;
    let mut session = start(builder().tool(numbers().grants(endless)).tool(user().grants(grants)));
    let begun = Instant::now();
    let message = error(&mut session, "from tools import user\nuser.spin()");
    assert!(message.contains("user.spin was stopped at its time limit of 0.2 s"), "{message}");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn arguments_between_tools_are_checked_too() {
    let mut constraint = Constraint::default();
    constraint.max = Some(15.0);
    let mut grants = ToolGrants::default();
    grants.allow.entry("double".into()).or_default().insert("v".into(), constraint);
    let mut session = start(builder().tool(numbers().grants(grants)).tool(user()));
    session.run_blocking("from tools import user").unwrap();
    assert_eq!(repr(&mut session, "user.quadruple(7)"), "28");
    let message = error(&mut session, "user.quadruple(8)");
    assert!(message.starts_with("tools.ToolDenied: user.quadruple failed"), "{message}");
    assert!(
        message.contains("a call of numbers.double is not allowed: `v` is 16, and must be at most 15"),
        "{message}"
    );
}

#[test]
fn grants_stay_with_the_tool_that_has_them() {
    // Asks the echo component for a variable of its environment; some is 1.
    let peek = tool(
        "peek",
        r#"(component
            (import "test:echo/faults@1.0.0" (instance $f
                (export "variable" (func (param "name" string) (result (option string))))))
            (core module $memory
                (memory (export "memory") 1)
                (global $next (mut i32) (i32.const 1024))
                (data (i32.const 16) "MODE")
                (func (export "realloc") (param i32 i32 i32 i32) (result i32)
                    (global.get $next)
                    (global.set $next (i32.add (global.get $next) (local.get 3)))))
            (core instance $memory (instantiate $memory))
            (alias core export $memory "memory" (core memory $mem))
            (core func $variable (canon lower (func $f "variable")
                (memory $mem) (realloc (core func $memory "realloc"))))
            (core module $m
                (import "" "variable" (func $variable (param i32 i32 i32)))
                (import "" "memory" (memory 1))
                (func (export "peek") (result i32)
                    (call $variable (i32.const 16) (i32.const 4) (i32.const 64))
                    (i32.load8_u (i32.const 64))))
            (core instance $i (instantiate $m (with "" (instance
                (export "variable" (func $variable)) (export "memory" (memory $mem))))))
            (func (export "peek") (result u32) (canon lift (core func $i "peek"))))"#,
    );
    let mut grants = ToolGrants::default();
    grants.environment.insert("MODE".into(), "test".into());
    let mut session = start(builder().tool(peek.clone()).tool(echo().grants(grants)));
    assert_eq!(repr(&mut session, "from tools.peek import peek\npeek()"), "1");
    let mut session = start(builder().tool(peek).tool(echo()));
    assert_eq!(repr(&mut session, "from tools.peek import peek\npeek()"), "0");
}

#[test]
fn what_cannot_be_linked_says_why() {
    let fails = |tools: Vec<Tool>, message: &str| {
        let error = tools.into_iter().fold(builder(), KernelBuilder::tool).build().err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Tool);
        assert!(error.to_string().contains(message), "{error}");
        assert!(error.remedy().is_some(), "{error}");
    };
    fails(vec![user()], "the tool `user` imports `a:b/numbers@1.0.0`, which nothing provides");
    let other_type = r#"(component
        (core module $m (func (export "double") (param i64) (result i32) i32.const 0))
        (core instance $i (instantiate $m))
        (func $double (param "v" u64) (result u32) (canon lift (core func $i "double")))
        (instance $api (export "double" (func $double)))
        (export "a:b/numbers@1.0.0" (instance $api)))"#;
    fails(
        vec![user(), tool("other", other_type)],
        "has a function `double` of another type than is imported",
    );
    let old = r#"(component
        (core module $m (func (export "double") (param i32) (result i32) i32.const 0))
        (core instance $i (instantiate $m))
        (func $double (param "v" u32) (result u32) (canon lift (core func $i "double")))
        (instance $api (export "double" (func $double)))
        (export "a:b/numbers@0.9.0" (instance $api)))"#;
    fails(vec![user(), tool("old", old)], "which nothing provides");
    // Each needs the next.
    let ring = |name: &str, wanted: &str, given: &str| {
        tool(
            name,
            &format!(
                r#"(component
                (import "a:b/{wanted}" (instance $n (export "f" (func))))
                (alias export $n "f" (func $f))
                (core func $g (canon lower (func $f)))
                (func $h (canon lift (core func $g)))
                (instance $api (export "f" (func $h)))
                (export "f" (func $h))
                (export "a:b/{given}" (instance $api)))"#
            ),
        )
    };
    fails(
        vec![ring("one", "two", "one"), ring("two", "three", "two"), ring("three", "one", "three")],
        "tools import each other in a circle: one → two → three → one",
    );
    fails(vec![ring("own", "own", "own")], "in a circle: own → own");
    // A row of five; four are allowed.
    let last = r#"(component
        (core module $m (func (export "f")))
        (core instance $i (instantiate $m))
        (func $f (canon lift (core func $i "f")))
        (instance $api (export "f" (func $f)))
        (export "a:b/e" (instance $api)))"#;
    let row = || {
        vec![
            ring("a", "b", "a"),
            ring("b", "c", "b"),
            ring("c", "d", "c"),
            ring("d", "e", "d"),
            tool("e", last),
        ]
    };
    fails(row(), "begins a chain of 5 tools that import each other, and 4 are allowed");
    let mut session = start(row().into_iter().skip(1).fold(builder(), KernelBuilder::tool));
    assert_eq!(repr(&mut session, "from tools import b\nb.f()"), "None");
}

/// Each tool of a row uses its stack up to where it calls the next, on a thread of the turn and on
/// one for calls that overlap.
#[test]
fn a_row_of_tools_has_the_stack_it_needs() {
    let link = |name: &str, wanted: Option<&str>| {
        let (import, lower, with) = match wanted {
            Some(wanted) => (
                format!(
                    r#"(import "a:b/{wanted}" (instance $n (export "f" (func (param "n" u32) (result u32)))))"#
                ),
                r#"(core func $g (canon lower (func $n "f")))"#,
                r#"(with "" (instance (export "g" (func $g))))"#,
            ),
            None => (
                String::new(),
                r#"(core module $none (func (export "g") (param i32) (result i32) i32.const 7))
                   (core instance $none (instantiate $none))"#,
                r#"(with "" (instance $none))"#,
            ),
        };
        tool(
            name,
            &format!(
                r#"(component {import} {lower}
                (core module $m
                    (import "" "g" (func $g (param i32) (result i32)))
                    (func $deep (param i32 i32) (result i32)
                        (if (result i32) (i32.eqz (local.get 0))
                            (then (call $g (local.get 1)))
                            (else (i32.add (i32.const 1)
                                (call $deep (i32.sub (local.get 0) (i32.const 1)) (local.get 1))))))
                    (func (export "f") (param i32) (result i32) (call $deep (local.get 0) (local.get 0))))
                (core instance $i (instantiate $m {with}))
                (func $f (param "n" u32) (result u32) (canon lift (core func $i "f")))
                (instance $api (export "f" (func $f)))
                (export "f" (func $f))
                (export "a:b/{name}" (instance $api)))"#
            ),
        )
    };
    let asynchronous = tool(
        "e",
        r#"(component
        (import "a:b/b" (instance $n (export "f" (func (param "n" u32) (result u32)))))
        (core func $g (canon lower (func $n "f")))
        (core func $gives (canon task.return (result u32)))
        (core module $m
            (import "" "g" (func $g (param i32) (result i32)))
            (import "" "gives" (func $gives (param i32)))
            (func $deep (param i32 i32) (result i32)
                (if (result i32) (i32.eqz (local.get 0))
                    (then (call $g (local.get 1)))
                    (else (i32.add (i32.const 1)
                        (call $deep (i32.sub (local.get 0) (i32.const 1)) (local.get 1))))))
            (func (export "f") (param i32) (result i32)
                (call $gives (call $deep (local.get 0) (local.get 0)))
                (i32.const 0))
            (func (export "callback") (param i32 i32 i32) (result i32) unreachable))
        (core instance $i (instantiate $m (with "" (instance (export "g" (func $g)) (export "gives" (func $gives))))))
        (alias core export $i "callback" (core func $callback))
        (func (export "f") async (param "n" u32) (result u32)
            (canon lift (core func $i "f") async (callback $callback))))"#,
    );
    let tools =
        [asynchronous, link("a", Some("b")), link("b", Some("c")), link("c", Some("d")), link("d", None)];
    let mut session = start(tools.into_iter().fold(builder(), KernelBuilder::tool));
    session.run_blocking("from tools import a, e\nimport asyncio").unwrap();
    assert_eq!(repr(&mut session, "asyncio.run(e.f(5000))"), "20007");
    // As deep as one may go, and deeper.
    assert_eq!(repr(&mut session, "a.f(5000), asyncio.run(a.aio.f(5000))"), "(20007, 20007)");
    for code in ["a.f(10**6)", "asyncio.run(a.aio.f(10**6))", "asyncio.run(e.f(10**6))"] {
        assert!(error(&mut session, code).contains("call stack exhausted"), "{code}");
    }
    let code = "
low, high = 0, 10**6
while high - low > 1000:
    middle = (low + high) // 2
    try: asyncio.run(a.aio.f(middle)); asyncio.run(e.f(middle)); a.f(middle); low = middle
    except Exception: high = middle
low > 5000";
    assert_eq!(repr(&mut session, code), "True");
}
