//! What the host offers programs beside tools: the Python package `agentkernel` and the functions
//! behind it.

mod room;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::bindings::modules::Module;
use crate::bindings::operations::Failure;
use crate::operations::Answer;
use crate::outcome::{Ending, Exception};

pub(crate) use room::{Room, Taken};

/// The package that programs import.
pub(crate) const PACKAGE: &str = "agentkernel";

/// Functions of services have numbers from here on; those of tools are below.
pub(crate) const FIRST: u32 = 0xFF00_0000;

/// A service as Python knows it: the third and second byte of its functions' numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Kind {
    Llm = 1,
    Context = 2,
    Rlm = 3,
    Task = 4,
    State = 5,
    Skills = 6,
}

impl Kind {
    /// What is said to a program whose session does not have it.
    fn absent(self) -> &'static str {
        match self {
            Kind::Llm => {
                "no model is granted to this program; grant one with `--model NAME` and a provider's key in the environment, or with [llm] in agentkernel.toml (docs/llm.md)"
            }
            Kind::Context => {
                "this program was given no context; give one with `--context FILE|DIR` (docs/contexts.md)"
            }
            Kind::Rlm => {
                "this program may not start child sessions; run it by `agentkernel rlm`, or with a depth left (docs/rlm.md)"
            }
            Kind::Task => {
                "no background tasks are granted to this program; grant them with `--tasks`, or with `programs = true` below [tasks] in agentkernel.toml (docs/tasks.md)"
            }
            Kind::Skills => {
                "no skills are granted to this program; grant them with `--skills DIR`, or `--skills-write DIR` to save some, or with [skills] directory = \"DIR\" in agentkernel.toml (docs/skills.md)"
            }
            Kind::State => {
                "no state is granted to this program; grant it with `--state FILE`, or with [state] file = \"FILE\" in agentkernel.toml (docs/state.md)"
            }
        }
    }
}

/// What answers the functions of one kind, for one session.
pub(crate) trait Service: Send + Sync {
    /// Which it is.
    fn kind(&self) -> Kind;

    /// Begins a call of its function number `function`.
    fn call(&self, function: u8, head: &[u8], tail: &[u8]) -> Called;

    /// A module of a package beside the host's own, by its full name.
    fn module(&self, name: &str) -> Option<Module> {
        let _ = name;
        None
    }

    /// Whether calls are in flight for which the program would leave its place.
    fn may_leave(&self) -> bool {
        false
    }

    /// The program does nothing until it hears of its calls, and holds that much memory meanwhile. Gives what is to be waited
    /// for before it goes on, if others may take its place.
    fn blocked(&self, memory_bytes: u64) -> Option<GoOn> {
        let _ = memory_bytes;
        None
    }

    /// A turn begins.
    fn begin_turn(&self) {}

    /// The turn has ended; `lives` says whether the session goes on, which it does not after a limit, a trap
    /// or a cancellation.
    fn end_turn(&self, lives: bool) -> Result<(), Unkept> {
        let _ = lives;
        Ok(())
    }
}

/// Why what a turn did is not kept: the exception that the turn ends in.
pub(crate) struct Unkept {
    /// The exception's class, as Python names it.
    pub class: &'static str,
    pub message: String,
}

/// A call that is over when it has begun, or one that is waited for. Dropping it gives it up.
pub(crate) enum Called {
    Ready(Answer),
    Running(Pin<Box<dyn Future<Output = Answer> + Send>>),
    /// The same, for which the program leaves its place to others ([`Service::blocked`]).
    Waiting(Pin<Box<dyn Future<Output = Answer> + Send>>),
}

/// What comes this soon is waited for in the own place.
pub(crate) const SOON: Duration = Duration::from_millis(2);

/// Ready when a program that has left its place has one again.
pub(crate) type GoOn = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The services of a session.
#[derive(Clone, Default)]
pub(crate) struct Services(Vec<Arc<dyn Service>>);

impl Services {
    pub fn add(&mut self, service: Arc<dyn Service>) {
        self.0.push(service);
    }

    /// Whether there is one of a kind.
    pub fn has(&self, kind: Kind) -> bool {
        self.0.iter().any(|service| service.kind() == kind)
    }

    pub fn module(&self, name: &str) -> Option<Module> {
        self.0.iter().find_map(|service| service.module(name))
    }

    /// As [`Service::may_leave`].
    pub fn may_leave(&self) -> bool {
        self.0.iter().any(|service| service.may_leave())
    }

    /// As [`Service::blocked`].
    pub fn blocked(&self, memory_bytes: u64) -> Option<GoOn> {
        self.0.iter().find_map(|service| service.blocked(memory_bytes))
    }

    pub fn begin_turn(&self) {
        self.0.iter().for_each(|service| service.begin_turn());
    }

    /// Tells all services of the turn's end; gives how it ends if something is not kept.
    pub fn end_turn(&self, mut ending: Ending) -> Ending {
        let lives = ending.is_kept();
        for Unkept { class, message } in self.0.iter().filter_map(|service| service.end_turn(lives).err()) {
            let line = format!("{class}: {message}\n");
            match &mut ending {
                // The first exception is what went wrong.
                Ending::Raised(exception) => {
                    exception.traceback += &format!("\nAt the end of the turn:\n{line}")
                }
                _ => {
                    let (kind, frames) = (class.to_owned(), Vec::new());
                    ending = Ending::Raised(Exception { kind, message, traceback: line, frames });
                }
            }
        }
        ending
    }

    /// Begins the call, if the number is that of a service's function.
    pub fn call(&self, number: u32, head: &[u8], tail: &[u8]) -> Option<Called> {
        let kind = kind(number)?;
        let service = self.0.iter().find(|service| service.kind() == kind);
        Some(match service {
            Some(service) => service.call(number as u8, head, tail),
            None => Called::Ready(Err(failure("denied", kind.absent()))),
        })
    }
}

/// The service that a function's number is of.
pub(crate) fn kind(number: u32) -> Option<Kind> {
    match number.checked_sub(FIRST)? >> 8 {
        1 => Some(Kind::Llm),
        2 => Some(Kind::Context),
        3 => Some(Kind::Rlm),
        4 => Some(Kind::Task),
        5 => Some(Kind::State),
        6 => Some(Kind::Skills),
        _ => None,
    }
}

/// What programs call a function of a service.
pub(crate) fn name(number: u32) -> Option<&'static str> {
    Some(match (kind(number)?, number as u8) {
        (Kind::Llm, 0) => "ask_llm",
        (Kind::Llm, 1) => "budget",
        (Kind::Llm, 2) => "ask_llm_batch",
        (Kind::Rlm, 0) => "rlm",
        (Kind::Context, _) => "context",
        (Kind::Task, 0) => "task.dispatch",
        (Kind::Task, _) => "task",
        (Kind::State, _) => "state",
        (Kind::Skills, _) => "skills",
        _ => return None,
    })
}

pub(crate) fn failure(kind: &str, message: impl Into<String>) -> Failure {
    Failure { kind: kind.into(), message: message.into() }
}

/// The package's modules by their names below it.
const MODULES: &[(&str, &str)] = &[
    ("_calls", CALLS_SOURCE),
    ("_context", crate::context::SOURCE),
    ("_llm", include_str!("../llm/llm.py")),
    ("_rlm", include_str!("../rlm/rlm.py")),
    ("_schema", include_str!("../llm/schema.py")),
    ("_skills", include_str!("../skills/skills.py")),
    ("_state", include_str!("../state_store/state.py")),
    ("task", include_str!("../task/task.py")),
];

/// The module that those of tools use as well.
#[cfg(feature = "compose")]
pub(crate) const CALLS: &str = "agentkernel._calls";
pub(crate) const CALLS_SOURCE: &str = include_str!("calls.py");

/// The source of a module of the package.
pub(crate) fn module(name: &str) -> Option<Module> {
    if name == PACKAGE {
        return Some(Module { source: include_str!("package.py").into(), is_package: true });
    }
    let below = name.strip_prefix(PACKAGE)?.strip_prefix('.')?;
    let (_, source) = MODULES.iter().find(|(name, _)| *name == below)?;
    Some(Module { source: (*source).into(), is_package: false })
}
