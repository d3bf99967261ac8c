//! What a kernel tells of itself: spans through `tracing`, and numbers, which are counted anyway.
//!
//! It knows nothing of the modules that are told of: they call it, with what they have.

mod metrics;
mod prometheus;
pub(crate) mod spans;

pub(crate) use metrics::{Called, Counters, Counts, ModelCounts, Start};
pub use metrics::{Histogram, Metrics, ModelMetrics};
