//! What servers are granted, and what may be passed to them.

use std::time::{Duration, Instant};

use agentkernel::{
    ClockSource, Constraint, ErrorKind, McpServer, Mount, RandomSource, Secret, Tool, ToolGrants,
};
use agentkernel_tests::{builder, repr};

use super::{error, kernel, server, session};

/// A function, a parameter or a path in it, and what must hold there.
type Rule<'a> = (&'a str, &'a str, &'a dyn Fn(&mut Constraint));

fn allowing(rules: &[Rule<'_>]) -> ToolGrants {
    let mut grants = ToolGrants::default();
    for (function, path, set) in rules {
        let constraint =
            grants.allow.entry((*function).into()).or_default().entry((*path).into()).or_default();
        set(constraint);
    }
    grants
}

#[test]
fn arguments_are_checked_before_a_call() {
    let grants = allowing(&[
        ("say", "text", &|c| c.pattern = Some("[a-z]+".into())),
        ("add", "a", &|c| (c.min, c.max) = (Some(0.0), Some(9.0))),
        ("greet", "first_name", &|c| c.max_length = Some(3)),
        ("greet", "kind", &|c| (c.one_of, c.or_none) = (Some(vec!["cold".into()]), true)),
        ("order_all", "lines.item", &|c| c.pattern = Some("tea|milk".into())),
        ("order_all", "labels.to", &|c| c.pattern = Some("[a-z]*".into())),
    ]);
    let mut session = session(&kernel(server("good"), grants));
    session
        .run_blocking(
            "from tools import x\nfrom tools.x import aio\nfrom tools._runtime import call_json as j",
        )
        .unwrap();
    for allowed in [
        "x.say('abc')",
        "x.add(9, 100)",
        "x.greet('abc', 'b')",
        "x.greet('abc', 'b', kind='cold')",
        "x.order_all([{'item': 'tea'}, {'item': 'milk'}], labels={'to': 'me'})",
        "x.order_all([], labels={'to': ''})",
        "x.half(1)",
        "await aio.say('abc')",
        "j('x.say', '[\"abc\"]')",
    ] {
        let outcome = session.run_blocking(allowed).unwrap();
        assert!(matches!(outcome.ending, agentkernel::Ending::Completed(_)), "{allowed}: {outcome:?}");
    }
    for (refused, why) in [
        ("x.say('ABC')", "`text` is \"ABC\", and must match `[a-z]+`"),
        ("x.say('abc\\n')", "must match"),
        ("x.add(-1, 0)", "`a` is -1, and must be from 0 to 9"),
        ("x.greet('abcd', 'b')", "`first_name` has a length of 4"),
        ("x.greet('abc', 'b', kind='warm')", "must be one of \"cold\""),
        ("x.order_all([{'item': 'tea'}, {'item': 'gin'}], labels={'to': ''})", "`lines.item` is \"gin\""),
        // What is not there has been checked by nobody.
        ("x.order_all([{'item': 'tea'}])", "`labels.to` was left out"),
        ("x.order_all([{'item': 'tea'}], labels={})", "`labels.to` was left out"),
        ("await aio.say('A')", "must match"),
        ("j('x.say', '[\"A\"]')", "must match"),
        ("j('x.say', '{\"text\": \"A\"}')", "must match"),
    ] {
        let message = error(&mut session, refused);
        assert!(
            message.starts_with("tools.ToolDenied: a call of x.") && message.contains(why),
            "{refused}: {message}"
        );
    }
}

#[test]
fn a_constraint_that_names_nothing_refuses_all() {
    for (function, path, expected) in [
        ("absent", "a", "has no function `absent` that could be constrained; there are add, say"),
        ("say", "txt", "the constraint on `txt` of `x.say` names nothing that is there; there are text"),
    ] {
        let grants = allowing(&[(function, path, &|c| c.max = Some(1.0))]);
        let mut session = session(&kernel(server("good"), grants));
        let message = error(&mut session, "from tools.x import add");
        assert!(message.starts_with("tools.ToolDenied") && message.contains(expected), "{message}");
        // Neither by its name, nor with what a program makes up.
        let message = error(&mut session, "from tools._runtime import call_json\ncall_json('x.half', '[1]')");
        assert!(message.contains(expected), "{message}");
        let code = "from wit_world.imports import modules as m\ntry: m.call(0, b'[\"half\", {\"n\": 1}]', b'')\nexcept Exception as e: r = e.value.kind\nr";
        assert_eq!(repr(&mut session, code), "'refused'");
    }
    // Two could have this name.
    let grants = allowing(&[("a_b", "c", &|c| c.max = Some(1.0))]);
    let message = error(&mut session(&kernel(server("schemas"), grants)), "from tools.x import a_b");
    assert!(message.contains("the constraint on `x.a_b` could be meant for another"), "{message}");
    // What is wrong in itself is told at the start.
    for wrong in [Constraint::default(), {
        let mut c = Constraint::default();
        c.pattern = Some("(".into());
        c
    }] {
        let mut grants = ToolGrants::default();
        grants.allow.entry("say".into()).or_default().insert("text".into(), wrong);
        let error = builder().tool(Tool::mcp("x", server("good")).grants(grants)).build().err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Grant, "{error}");
    }
}

#[test]
fn a_constrained_function_takes_nothing_that_is_not_described() {
    let grants = allowing(&[("any", "a", &|c| c.max = Some(1.0))]);
    let message = error(&mut session(&kernel(server("good"), grants)), "from tools.x import add");
    assert!(message.contains("names nothing that is there; there are none"), "{message}");
}

#[test]
fn calls_are_limited_in_number_size_and_time() {
    let limited = |set: &dyn Fn(&mut ToolGrants)| {
        let mut grants = ToolGrants::default();
        set(&mut grants);
        let mut session = session(&kernel(server("good"), grants));
        session.run_blocking("from tools import x").unwrap();
        session
    };
    let mut session = limited(&|grants| grants.limits.requests = 2);
    session.run_blocking("x.half(1); x.half(2)").unwrap();
    assert_eq!(
        error(&mut session, "x.half(3)"),
        "tools.ToolDenied: the tool `x` was called 2 times, which is its limit; `max-requests` in [tool.x] raises it"
    );
    let mut session = limited(&|grants| grants.limits.sent_bytes = 1000);
    session.run_blocking("x.say('a')").unwrap();
    assert!(error(&mut session, "x.say('a' * 1000)").contains("`max-sent` in [tool.x] raises it"));
    let mut session = limited(&|grants| grants.limits.received_bytes = 1000);
    session.run_blocking("x.large(100)").unwrap();
    assert!(error(&mut session, "x.large(900)").contains("`max-received` in [tool.x] raises it"));
    let mut session = limited(&|grants| grants.limits.timeout = Some(Duration::from_millis(300)));
    let begun = Instant::now();
    assert_eq!(
        error(&mut session, "x.sleep(15_000)"),
        "tools.ToolTimeout: x.sleep was stopped at its time limit of 0.3 s"
    );
    assert!(begun.elapsed() < Duration::from_secs(5));
    // It was told so, and it lives: it answered a ping.
    assert_eq!(repr(&mut session, "x.cancelled()"), "'1'");
    let mut session = limited(&|grants| grants.limits.concurrent_requests = 1);
    let begun = Instant::now();
    session
        .run_blocking("import asyncio\nfrom tools.x import aio\nasync def m(): await asyncio.gather(*(aio.sleep(200) for _ in range(5)))\nasyncio.run(m())")
        .unwrap();
    assert!(begun.elapsed() > Duration::from_millis(1000), "{:?}", begun.elapsed());
}

#[test]
fn a_grant_without_effect_is_an_error() {
    let secret = || Secret::new("s3cr3t-key", vec!["a.test".parse().unwrap()]).unwrap();
    let fails = |url: bool, key: &str, set: &dyn Fn(&mut ToolGrants)| {
        let mut grants = ToolGrants::default();
        set(&mut grants);
        let server = if url { McpServer::url("https://a.test/mcp") } else { server("good") };
        let error = builder().tool(Tool::mcp("x", server).grants(grants)).build().err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Grant, "{error}");
        assert!(error.to_string().contains(key), "{key}: {error}");
        assert!(error.remedy().is_some(), "{error}");
    };
    let mount = || Mount { host: "a".into(), guest: "/a".into(), access: agentkernel::Access::ReadOnly };
    fails(false, "`mounts` has no effect", &|grants| grants.mounts.push(mount()));
    fails(false, "`http` has no effect", &|grants| grants.http.push("a.test".parse().unwrap()));
    fails(false, "`secrets` has no effect", &|grants| drop(grants.secrets.insert("A".into(), secret())));
    fails(true, "`env` has no effect", &|grants| drop(grants.environment.insert("A".into(), "b".into())));
    fails(true, "the secret `A` of the tool `x` has no effect", &|grants| {
        grants.secrets.insert("A".into(), secret());
    });
    fails(false, "`random` has no effect", &|grants| grants.random = RandomSource::Seeded(1));
    fails(false, "`clock` has no effect", &|grants| grants.clock = ClockSource::Refused);
    fails(false, "`per-call` has no effect", &|grants| grants.per_call = true);
    fails(false, "`resources` has no effect", &|grants| {
        grants.resources = agentkernel::ToolResources::Refused
    });
    fails(false, "`memory` has no effect", &|grants| grants.limits.memory_bytes = 1);
    fails(false, "`max-instances` has no effect", &|grants| grants.limits.instances = 1);
    fails(false, "`max-written` has no effect", &|grants| grants.limits.write_bytes = 1);
    fails(false, "`max-open-files` has no effect", &|grants| grants.limits.open_files = 1);
    fails(false, "`max-entries` has no effect", &|grants| grants.limits.new_entries = 1);
    fails(false, "`max-path` has no effect", &|grants| grants.limits.path_bytes = 1);
    fails(false, "no calls of the tool `x` are allowed", &|grants| grants.limits.requests = 0);
}
