//! What a kernel tells of itself: spans, with their parents and without texts, and numbers.

#[path = "telemetry/heard.rs"]
mod heard;
#[path = "telemetry/numbers.rs"]
mod numbers;
#[path = "telemetry/spans.rs"]
mod spans;
