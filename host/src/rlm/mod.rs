//! Recursive language models: what a run leaves behind, and the page that shows it.

mod trajectory;
mod view;

pub use trajectory::{
    AnswerKind, CallKind, ContextPart, Event, Failure, ModelTotals, PromptMessage, PromptRole, Raised,
    Record, RunEnding, Spent, TRAJECTORY_VERSION, Trajectory, cut, timestamp,
};
pub use view::{Viewed, view};
