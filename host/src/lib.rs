//! Runs Python that a language model wrote in a capability-scoped WebAssembly sandbox.
//!
//! A [`Kernel`] holds the compiled interpreter. A [`Session`] is one live interpreter with its own
//! namespace, workspace and limits; it runs turns, and each turn ends in an [`Outcome`]. Whatever
//! guest code does (an exception, `sys.exit`, a time-out, too much memory, a trap) is an outcome; an
//! [`Error`] is the embedder's or the environment's.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> agentkernel::Result<()> {
//! use std::time::Duration;
//! use agentkernel::{Ending, Kernel, Limits};
//!
//! let kernel = Kernel::new()?;
//! let mut limits = Limits::default();
//! limits.timeout = Some(Duration::from_millis(200));
//! let mut session = kernel.session().limits(limits).start()?;
//!
//! let outcome = session.run("sum(n * n for n in range(10))").await?;
//! let Ending::Completed(Some(value)) = outcome.ending else { panic!("{:?}", outcome.ending) };
//! assert_eq!(value.json, Some(serde_json::json!(285)));
//!
//! let outcome = session.run("while True: pass").await?;
//! assert_eq!(outcome.ending, Ending::TimedOut);
//! # Ok(())
//! # }
//! ```

#![warn(missing_docs)]

pub mod agent;
mod bindings;
mod clock;
mod compilation_cache;
#[cfg(feature = "compose")]
mod compose;
mod console;
mod context;
#[cfg(any(feature = "cache", feature = "state"))]
mod database;
#[allow(unsafe_code)]
mod engine;
mod error;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub mod fuzz;
mod gate;
mod grant;
mod image;
mod kernel;
pub mod llm;
mod modules;
mod operations;
mod outcome;
mod pool;
mod privacy;
mod replay;
pub mod report;
pub mod rlm;
mod service;
mod session;
mod skills;
mod state;
#[cfg(feature = "state")]
mod state_store;
mod steps;
#[cfg(feature = "tasks")]
pub mod task;
mod telemetry;
mod tool;
mod trajectory;
mod turn;
mod wasi;
mod workspace;

pub use agent::Agent;
#[cfg(feature = "providers")]
pub use agent::create_agent;
pub use compilation_cache::CompilationCache;
#[cfg(feature = "compose")]
pub use compose::Composition;
pub use console::{OutputHandler, Stdin, Stream};
pub use context::{Context, ContextBuilder, ContextMark};
pub use engine::{CacheEntry, Progress};
pub use error::{Error, ErrorKind, Result};
pub use grant::{Access, Grants, Limits, Mount, Workspace};
pub use image::{Image, ImageBuilder};
pub use kernel::{Kernel, KernelBuilder, KernelInfo};
pub use outcome::{Ending, Exception, Frame, Outcome, Usage, Value};
pub use pool::PoolStats;
pub use privacy::{Hidden, Privacy};
pub use replay::{Recording, Replaying};
pub use session::{Canceller, Session, SessionBuilder, Transaction};
pub use skills::{Skill, Skills};
#[cfg(feature = "state")]
pub use state_store::{State, StateLimits};
pub use telemetry::{Histogram, Metrics, ModelMetrics};
pub use tool::{
    ClockSource, Constraint, Constraints, HttpRule, RandomSource, Secret, Tool, ToolGrants, ToolInfo,
    ToolItem, ToolKind, ToolLimits, ToolResources,
};
#[cfg(feature = "mcp")]
pub use tool::{McpServer, end_servers};
pub use turn::{Mode, Turn};
pub use workspace::{
    Change, ChangeKind, Checkpoint, Conflict, ConflictKind, Diff, Files, Object, ObjectKind, Overlay, Side,
    WorkspaceFile, copy_tree, remove_tree,
};

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

#[cfg(all(doctest, feature = "cache", feature = "providers"))]
#[doc = include_str!("../../docs/replay.md")]
struct Replay;

#[cfg(all(doctest, feature = "tasks"))]
#[doc = include_str!("../../docs/tasks.md")]
struct TasksPage;

#[cfg(all(doctest, feature = "mcp"))]
#[doc = include_str!("../../docs/mcp-tools.md")]
struct McpToolsPage;

#[cfg(doctest)]
#[doc = include_str!("../../docs/agent.md")]
struct Agents;

#[cfg(doctest)]
#[doc = include_str!("../../docs/telemetry.md")]
struct TelemetryPage;

#[cfg(doctest)]
#[doc = include_str!("../../docs/overlays.md")]
struct Overlays;

#[cfg(doctest)]
#[doc = include_str!("../../docs/embedding.md")]
struct Embedding;

#[cfg(doctest)]
#[doc = include_str!("../../docs/forks.md")]
struct Forks;

/// The version of wasmtime that this crate runs on.
pub const WASMTIME_VERSION: &str = wasmtime_environ::VERSION;

/// The version of CPython that the built-in interpreter is.
pub fn cpython_version() -> String {
    engine::manifest().cpython
}
