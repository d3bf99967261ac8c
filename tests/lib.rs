//! What the end-to-end tests beside this file share: one kernel a process, and short ways to say
//! what a program did.

mod answering;

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use agentkernel::{Ending, Kernel, KernelBuilder, Limits, Outcome, Session, Tool, Value};
pub use answering::Answering;

/// A kernel under test, to be configured: with the built-in interpreter, or the one that
/// `AGENTKERNEL_GUEST` names; without host-owned memory when `AGENTKERNEL_PORTABLE` is set.
pub fn builder() -> KernelBuilder {
    let builder = Kernel::builder().portable(std::env::var_os("AGENTKERNEL_PORTABLE").is_some());
    match std::env::var_os("AGENTKERNEL_GUEST") {
        Some(guest) => builder.guest(guest),
        None => builder,
    }
}

/// The kernel that tests share.
pub fn kernel() -> &'static Kernel {
    static KERNEL: OnceLock<Kernel> = OnceLock::new();
    KERNEL.get_or_init(|| builder().build().expect("the kernel builds"))
}

/// The component that gives back what it is given: the committed one, or that in the directory that
/// `AGENTKERNEL_TEST_TOOLS` names.
pub fn echo() -> Tool {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools");
    let directory = std::env::var_os("AGENTKERNEL_TEST_TOOLS").map_or(committed, Into::into);
    Tool::new("echo", directory.join("echo.wasm"))
}

/// Limits small enough that a test which reaches one ends soon.
pub fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.timeout = Some(Duration::from_secs(20));
    limits.memory_bytes = 256 << 20;
    limits
}

/// A session with `limits` and nothing else.
pub fn session(limits: Limits) -> Session {
    kernel().session().limits(limits).start().expect("the session starts")
}

/// Runs `code` in a session of its own.
pub fn run(code: &str) -> Outcome {
    run_with(limits(), code)
}

/// Runs `code` in a session of its own with `limits`.
pub fn run_with(limits: Limits, code: &str) -> Outcome {
    session(limits).run_blocking(code).expect("the session lives")
}

/// Runs `code`, which must end by itself.
#[track_caller]
pub fn completes(session: &mut Session, code: &str) {
    let outcome = session.run_blocking(code).expect("the session lives");
    assert!(matches!(outcome.ending, Ending::Completed(_)), "{outcome:?}");
}

/// Ends a test where states cannot be kept.
#[macro_export]
macro_rules! skip_unless_owned {
    () => {
        if !$crate::kernel().info().host_owned_memory {
            return eprintln!("skipped: this kernel does not own the guest's memory");
        }
    };
}

/// The value of an outcome that must have one.
#[track_caller]
pub fn value(outcome: &Outcome) -> &Value {
    match &outcome.ending {
        Ending::Completed(Some(value)) => value,
        other => panic!("no value but {other:?}; stderr: {}", String::from_utf8_lossy(&outcome.stderr)),
    }
}

/// The class and the message of the exception an outcome must have ended in.
#[track_caller]
pub fn raised(outcome: &Outcome) -> (&str, &str) {
    match &outcome.ending {
        Ending::Raised(exception) => (&exception.kind, &exception.message),
        other => panic!("no exception but {other:?}"),
    }
}

/// The `repr` of what `code` ends in.
#[track_caller]
pub fn repr(session: &mut Session, code: &str) -> String {
    value(&session.run_blocking(code).expect("the session lives")).repr.clone()
}
