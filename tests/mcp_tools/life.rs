//! When servers are started, how they end, and what they have of their environment.

use std::time::{Duration, Instant};

use agentkernel::{ErrorKind, McpServer, Tool, ToolGrants};
use agentkernel_tests::{builder, limits, repr};

use super::{error, exists, good, kernel, server, session, until};

/// A server of which a file says how often it was started.
fn counted(directory: &std::path::Path) -> McpServer {
    let script = format!(
        "echo started >> {}; exec {} good",
        directory.join("starts").display(),
        env!("CARGO_BIN_EXE_mcp-test-server")
    );
    McpServer::command("sh", ["-c", &script])
}

fn starts(directory: &std::path::Path) -> usize {
    std::fs::read_to_string(directory.join("starts")).map_or(0, |text| text.lines().count())
}

#[test]
fn a_server_is_started_when_it_is_first_needed_and_once_for_a_session() {
    let directory = tempfile::tempdir().unwrap();
    let kernel = kernel(counted(directory.path()), ToolGrants::default());
    let mut one = session(&kernel);
    one.run_blocking("import tools, tools._index\ntools.describe()\ndir(tools)\nprint(1)").unwrap();
    assert_eq!(starts(directory.path()), 0);
    one.run_blocking("from tools.x import add, count, aio\nimport tools.x\nadd(1, 2)\nawait aio.add(1, 2)")
        .unwrap();
    assert_eq!(repr(&mut one, "count(), count()"), "('1', '2')");
    assert_eq!(starts(directory.path()), 1);
    // Another session has one of its own, which knows nothing of the first.
    assert_eq!(repr(&mut session(&kernel), "from tools.x import count\ncount()"), "'1'");
    assert_eq!(starts(directory.path()), 2);
    assert_eq!(repr(&mut one, "count()"), "'3'");
}

#[test]
fn a_shared_server_is_one_for_all_sessions() {
    let directory = tempfile::tempdir().unwrap();
    let kernel = kernel(counted(directory.path()).shared(true), ToolGrants::default());
    let mut numbers: Vec<String> =
        (0..3).map(|_| repr(&mut session(&kernel), "from tools.x import count\ncount()")).collect();
    numbers.sort();
    assert_eq!(numbers, ["'1'", "'2'", "'3'"]);
    assert_eq!(starts(directory.path()), 1);
}

#[test]
fn it_ends_with_its_session_and_takes_its_children_along() {
    let mut session = good();
    let number = repr(&mut session, "x.number()").trim_matches('\'').to_owned();
    let child = repr(&mut session, "x.child()").trim_matches('\'').to_owned();
    assert!(exists(&number) && exists(&child));
    drop(session);
    until("the server is gone", || !exists(&number));
    until("its child is gone", || !exists(&child));
}

#[test]
fn a_shared_one_ends_with_the_kernel() {
    let kernel = kernel(server("good").shared(true), ToolGrants::default());
    let mut session = session(&kernel);
    let number =
        repr(&mut session, "from tools.x import number, child\nnumber()").trim_matches('\'').to_owned();
    let child = repr(&mut session, "child()").trim_matches('\'').to_owned();
    drop(session);
    assert!(exists(&number));
    drop(kernel);
    until("the server is gone", || !exists(&number));
    until("its child is gone", || !exists(&child));
}

#[test]
fn one_that_dies_says_so_and_is_started_again() {
    let mut session = good();
    let number = repr(&mut session, "x.number()").trim_matches('\'').to_owned();
    let message = error(&mut session, "x.crash()");
    assert_eq!(
        message,
        "tools.ToolTrapped: x.crash failed, as its server ended: it closed its standard output (exit status: 3); the last that it wrote to standard error:\nthe \\u{1b}[31mlast\\u{1b}[0m words"
    );
    until("nobody is left that nobody waits for", || !exists(&number));
    assert_eq!(repr(&mut session, "x.add(1, 2)['sum']"), "3");
    assert_ne!(repr(&mut session, "x.number()").trim_matches('\''), number);
    // Others that are under way end as well.
    let code = "
import asyncio
from tools.x import aio
async def both():
    return await asyncio.wait_for(asyncio.gather(aio.sleep(10_000), aio.crash(), return_exceptions=True), 8)
asyncio.run(both())";
    let found = repr(&mut session, code);
    assert_eq!(found.matches("ToolTrapped").count(), 2, "{found}");
}

#[test]
fn one_that_does_not_start_says_why() {
    let mut mute =
        session(&kernel(server("mute").start_timeout(Duration::from_millis(700)), ToolGrants::default()));
    let begun = Instant::now();
    assert_eq!(
        error(&mut mute, "from tools.x import add"),
        "tools.ToolTrapped: the MCP server `x` cannot be used: it did not start within 0.7 s"
    );
    assert!(begun.elapsed() < Duration::from_secs(6));
    let mut stillborn = session(&kernel(server("stillborn"), ToolGrants::default()));
    let message = error(&mut stillborn, "from tools.x import add");
    assert!(
        message.starts_with("tools.ToolTrapped: the MCP server `x` cannot be used: it closed its standard output (exit status: 1); the last that it wrote"),
        "{message}"
    );
    assert!(message.ends_with("no \\u{1b}]0;title\\u{7}such database"), "{message}");
    let mut absent = session(&kernel(McpServer::command("/absent/server", [""; 0]), ToolGrants::default()));
    assert!(
        error(&mut absent, "from tools.x import add")
            .contains("`/absent/server` cannot be started: No such file")
    );
    // Other tools are found all the same, and it is asked again the next time.
    let both = builder()
        .tool(Tool::mcp("x", server("stillborn")))
        .tool(Tool::mcp("y", server("good")))
        .build()
        .unwrap();
    let mut both = session(&both);
    assert_eq!(
        repr(&mut both, "import tools\ntools.search('add numbers', detail='name')[0].name"),
        "'y.add'"
    );
    assert!(repr(&mut both, "tools.describe('x')").contains("cannot be used"));
}

#[test]
fn failed_starts_in_a_row_wait() {
    let mut session = session(&kernel(server("stillborn"), ToolGrants::default()));
    let begun = Instant::now();
    for _ in 0..3 {
        error(&mut session, "from tools.x import add");
    }
    assert!(begun.elapsed() > Duration::from_millis(1400), "{:?}", begun.elapsed());
    // A turn that ends does not wait for it.
    let begun = Instant::now();
    let mut few = limits();
    few.timeout = Some(Duration::from_millis(300));
    let hanging = kernel(server("mute"), ToolGrants::default());
    let mut stopped = hanging.session().limits(few).start().unwrap();
    assert_eq!(
        stopped.run_blocking("from tools.x import add").unwrap().ending,
        agentkernel::Ending::TimedOut
    );
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn it_has_no_environment_but_what_is_granted() {
    let mut grants = ToolGrants::default();
    grants.environment.insert("GRANTED".into(), "a b".into());
    let server = server("good").env("OWN", "é");
    let mut session = session(&kernel(server, grants));
    let found = repr(&mut session, "from tools.x import environment\nenvironment().split('\\n')");
    assert!(found.starts_with("['GRANTED=a b', 'OWN=é', 'PATH="), "{found}");
    assert_eq!(found.matches('=').count(), 3, "{found}");
}

#[test]
fn it_works_in_the_directory_that_is_named() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("here"), "").unwrap();
    let script = format!("test -e here && exec {} good", env!("CARGO_BIN_EXE_mcp-test-server"));
    let server = McpServer::command("sh", ["-c", &script]).directory(directory.path());
    assert_eq!(
        repr(&mut session(&kernel(server, ToolGrants::default())), "from tools.x import half\nhalf(2)"),
        "1.0"
    );
}

#[test]
fn functions_that_come_later_are_there_for_who_imports_later() {
    let kernel = kernel(server("good").shared(true), ToolGrants::default());
    let mut old = session(&kernel);
    old.run_blocking("from tools import x").unwrap();
    assert_eq!(repr(&mut old, "hasattr(x, 'grown'), x.grow()"), "(False, 'grown')");
    until("a session finds it", || {
        repr(&mut session(&kernel), "from tools import x\nhasattr(x, 'grown') and x.grown()") == "'here'"
    });
    // What was imported stays as it was.
    assert_eq!(repr(&mut old, "hasattr(x, 'grown'), x.half(1)"), "(False, 0.5)");
}

#[test]
fn a_fork_has_a_server_of_its_own() {
    if !agentkernel_tests::kernel().info().host_owned_memory {
        return;
    }
    let mut session = good();
    assert_eq!(repr(&mut session, "x.count(), x.count()"), "('1', '2')");
    let mut fork = session.fork().unwrap();
    assert_eq!(repr(&mut fork, "x.count()"), "'1'");
    assert_eq!(repr(&mut session, "x.count()"), "'3'");
    // What a rollback takes back is the memory of the program, and nothing of the server's.
    session.rollback().unwrap();
    assert_eq!(repr(&mut session, "x.count()"), "'4'");
}

#[test]
fn an_image_has_the_module_and_no_server() {
    if !agentkernel_tests::kernel().info().host_owned_memory {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let kernel = kernel(counted(directory.path()), ToolGrants::default());
    let image = kernel.image().tool("x").build().unwrap();
    assert_eq!(starts(directory.path()), 1);
    let mut session = kernel.session().limits(limits()).image(&image).start().unwrap();
    assert_eq!(starts(directory.path()), 1);
    assert_eq!(repr(&mut session, "from tools.x import add\nadd(1, 2)['sum']"), "3");
    assert_eq!(starts(directory.path()), 2);
}

#[test]
fn what_could_not_work_is_refused_at_the_start() {
    let fails = |server: McpServer, message: &str| {
        let error = builder().tool(Tool::mcp("x", server)).build().err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Tool, "{error}");
        assert!(error.to_string().contains(message), "{error}");
        assert!(error.remedy().is_some());
    };
    let none = [""; 0];
    fails(McpServer::command("", none), "has no program");
    fails(McpServer::command("a", none).env("A=B", "c"), "a variable that cannot be one");
    fails(McpServer::command("a", none).start_timeout(Duration::ZERO), "has a limit of 0");
    fails(McpServer::command("a", none).header("a", "b"), "has a header, and is not sent requests");
    fails(McpServer::url("https://a.test").env("a", "b"), "has variables, and is not started here");
    fails(McpServer::url("https://a.test").directory("a"), "has a directory, and is not started here");
    fails(McpServer::url("no url"), "has no URL");
    fails(McpServer::url("ftp://a.test/"), "not at `https`");
    fails(McpServer::url("http://a.test/"), "not at `https`");
    fails(McpServer::url("https://u:p@a.test/"), "a user or a password");
    fails(McpServer::url("https://a.test/").header("a b", "c"), "a header `a b`");
    fails(McpServer::url("https://a.test/").header("a", "b\nc"), "a header `a`");
}
