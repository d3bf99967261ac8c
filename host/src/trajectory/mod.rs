//! What a run leaves behind: events, a line each, and a page of them.

mod event;
mod teller;
mod view;
mod writer;

pub use event::{
    AnswerKind, CallKind, ContextPart, Event, Failure, ModelTotals, PromptMessage, PromptRole, Raised,
    Record, RunEnding, Spent, TRAJECTORY_VERSION, cut, timestamp,
};
pub(crate) use teller::{OnEvent, Teller};
pub use view::{Viewed, view};
pub use writer::Trajectory;
