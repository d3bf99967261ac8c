//! `[tasks]` of the configuration.

use std::path::{Path, PathBuf};

use agentkernel::task::TaskLimits;
use serde::Deserialize;

use crate::config::{bytes, timeout};
use crate::units::Timeout;

/// Where tasks are kept, who may dispatch them, and how much they may be.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct TasksConfig {
    pub store: Option<PathBuf>,
    /// Whether programs may dispatch tasks, as with `--tasks`.
    pub programs: bool,
    pub concurrency: Option<u32>,
    #[serde(deserialize_with = "timeout")]
    pub lease: Option<Timeout>,
    /// How long ended tasks are kept.
    #[serde(deserialize_with = "timeout")]
    pub keep: Option<Timeout>,
    pub levels: Option<u32>,
    pub max_unfinished: Option<u64>,
    pub max_dispatched: Option<u64>,
    #[serde(deserialize_with = "bytes")]
    pub max_stored: Option<u64>,
    #[serde(deserialize_with = "bytes")]
    pub max_code: Option<u64>,
    #[serde(deserialize_with = "bytes")]
    pub max_input: Option<u64>,
    #[serde(deserialize_with = "bytes")]
    pub max_result: Option<u64>,
    #[serde(deserialize_with = "bytes")]
    pub max_log: Option<u64>,
}

impl TasksConfig {
    /// The same with its paths from where the file lies.
    pub fn below(&self, base: &Path) -> Self {
        TasksConfig { store: self.store.as_ref().map(|store| base.join(store)), ..self.clone() }
    }

    pub fn limits(&self) -> TaskLimits {
        let mut limits = TaskLimits::default();
        limits.levels = self.levels.unwrap_or(limits.levels);
        limits.unfinished = self.max_unfinished.unwrap_or(limits.unfinished);
        limits.dispatched = self.max_dispatched.unwrap_or(limits.dispatched);
        limits.stored_bytes = self.max_stored.unwrap_or(limits.stored_bytes);
        limits.code_bytes = self.max_code.unwrap_or(limits.code_bytes);
        limits.input_bytes = self.max_input.unwrap_or(limits.input_bytes);
        limits.result_bytes = self.max_result.unwrap_or(limits.result_bytes);
        limits.log_bytes = self.max_log.unwrap_or(limits.log_bytes);
        if let Some(Timeout(keep)) = self.keep {
            limits.keep = keep.unwrap_or(std::time::Duration::MAX);
        }
        limits
    }
}
