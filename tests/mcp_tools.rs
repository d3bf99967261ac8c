//! MCP servers as tools, over real processes and real connections: what programs see of them, how they are started and ended,
//! and what those can do that mean harm.

#[path = "mcp_tools/calls.rs"]
mod calls;
#[path = "mcp_tools/granting.rs"]
mod granting;
#[path = "mcp_tools/hostile.rs"]
mod hostile;
#[path = "mcp_tools/http.rs"]
mod http;
#[path = "mcp_tools/life.rs"]
mod life;

use std::time::{Duration, Instant};

use agentkernel::{Kernel, McpServer, Session, Tool, ToolGrants};
use agentkernel_tests::{builder, limits, raised};

/// The test server in one of its modes.
fn server(mode: &str) -> McpServer {
    McpServer::command(env!("CARGO_BIN_EXE_mcp-test-server"), [mode])
}

/// A kernel that has it as `tools.x`.
fn kernel(server: McpServer, grants: ToolGrants) -> Kernel {
    builder().tool(Tool::mcp("x", server).grants(grants)).build().unwrap()
}

fn session(kernel: &Kernel) -> Session {
    kernel.session().limits(limits()).start().unwrap()
}

/// A session with the good server, imported.
fn good() -> Session {
    let mut session = session(&kernel(server("good"), ToolGrants::default()));
    session.run_blocking("import tools\nfrom tools import x").unwrap();
    session
}

/// The exception that `code` ends in.
#[track_caller]
fn error(session: &mut Session, code: &str) -> String {
    let outcome = session.run_blocking(code).unwrap();
    let (kind, message) = raised(&outcome);
    format!("{kind}: {message}")
}

/// Waits until something is so.
#[track_caller]
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether there is such a process; one that is dead and that nobody has waited for is one.
fn exists(number: &str) -> bool {
    std::process::Command::new("ps").args(["-p", number]).output().unwrap().status.success()
}
