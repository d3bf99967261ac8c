//! What becomes of open resources of tools in forks, images, transactions and on the way back, as their tools declare it.

use std::path::Path;

use agentkernel::{Access, Kernel, Session, Tool, ToolGrants, ToolResources};
use agentkernel_tests::{builder, completes as run, echo, limits, raised, repr, skip_unless_owned};

#[path = "tool_resources/declared.rs"]
mod declared;
#[path = "tool_resources/hostile.rs"]
mod hostile;
#[path = "tool_resources/recreated.rs"]
mod recreated;
#[path = "tool_resources/taped.rs"]
mod taped;

fn declaring(resources: ToolResources) -> ToolGrants {
    ToolGrants { resources, ..ToolGrants::default() }
}

fn kernel(resources: ToolResources) -> Kernel {
    builder().tool(echo().grants(declaring(resources))).build().unwrap()
}

/// A session that has a counter `k`, which started at 5 and has counted once.
fn start(kernel: &Kernel) -> Session {
    let mut session = kernel.session().limits(limits()).transactional(true).start().unwrap();
    run(
        &mut session,
        "import os\nfrom tools.echo import counters as c, faults as f\nk = c.Counter(5)\nassert k.next() == 6",
    );
    session
}

/// The kind and the message of the exception that `code` ends in.
#[track_caller]
fn error(session: &mut Session, code: &str) -> (String, String) {
    let outcome = session.run_blocking(code).unwrap();
    let (kind, message) = raised(&outcome);
    (kind.to_owned(), message.to_owned())
}

#[track_caller]
fn is_closed(session: &mut Session, code: &str) {
    let (kind, message) = error(session, code);
    assert_eq!(kind, "tools.ToolClosed", "{message}");
}

/// Puts the session back in each of the ways there are, after a turn that runs `code`.
fn ways_back(session: &mut Session, code: &str, mut check: impl FnMut(&mut Session, &str)) {
    let outcome = session.run_blocking(format!("{code}\nos.abort()")).unwrap();
    assert!(outcome.rolled_back, "{outcome:?}");
    check(session, "a turn that was stopped");
    run(session, code);
    session.rollback().unwrap();
    check(session, "a turn that is taken back");
    let mut transaction = session.transaction().unwrap();
    run(&mut transaction, code);
    transaction.rollback().unwrap();
    check(session, "a transaction that is taken back");
}

/// The same state in a fork, and in a session of another kernel from a file.
fn elsewhere(session: &mut Session, resources: ToolResources, mut check: impl FnMut(&mut Session, &str)) {
    check(&mut session.fork().unwrap(), "a fork");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("state.akimg");
    session.snapshot().unwrap().save(&file).unwrap();
    let other = kernel(resources);
    let image = other.load_image(&file).unwrap();
    check(&mut other.session().limits(limits()).image(&image).start().unwrap(), "an image");
}

/// A tool that is shipped, with the workspace.
fn shipped(name: &str, resources: ToolResources) -> Tool {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tools/prebuilt/{name}.wasm"));
    Tool::new(name, file).grants(ToolGrants { resources, ..ToolGrants::workspace(Access::ReadWrite) })
}
