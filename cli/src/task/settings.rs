//! `[tasks]` of the configuration.

use std::path::{Path, PathBuf};

use agentkernel::task::TaskLimits;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::{bytes, timeout};
use crate::schema;
use crate::units::Timeout;

/// Where background tasks are kept, who may dispatch them, and how much they may be (docs/tasks.md).
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct TasksConfig {
    /// The database, made if there is none. Default: tasks.db among the user's data.
    #[schemars(with = "Option<schema::PathText>", extend("x-flag" = "--store", "x-made" = true), example = &"tasks.db")]
    pub store: Option<PathBuf>,
    /// Whether programs may dispatch tasks. Default: `false`.
    #[schemars(extend("x-flag" = "--tasks"))]
    pub programs: bool,
    /// Tasks that a worker runs at the same time. Default: as many as there are processors.
    #[schemars(extend("x-flag" = "--concurrency"), example = 4)]
    pub concurrency: Option<u32>,
    /// How long a task stays a worker's without a sign of life. Default: `30s`.
    #[serde(deserialize_with = "timeout")]
    #[schemars(with = "Option<schema::Time>", extend("x-flag" = "--lease"))]
    pub lease: Option<Timeout>,
    /// How long ended tasks are kept. Default: `168h`.
    #[serde(deserialize_with = "timeout")]
    #[schemars(with = "Option<schema::TimeOrNone>")]
    pub keep: Option<Timeout>,
    /// Levels of tasks below a session. Default: `4`.
    pub levels: Option<u32>,
    /// Tasks of a session's programs that have not ended. Default: `256`.
    pub max_unfinished: Option<u64>,
    /// Tasks of a session's programs in all. Default: `10000`.
    pub max_dispatched: Option<u64>,
    /// Bytes that they take in the store. Default: `256MiB`.
    #[serde(deserialize_with = "bytes")]
    #[schemars(with = "Option<schema::Size>")]
    pub max_stored: Option<u64>,
    /// Bytes of a task's program. Default: `1MiB`.
    #[serde(deserialize_with = "bytes")]
    #[schemars(with = "Option<schema::Size>")]
    pub max_code: Option<u64>,
    /// Bytes of its input. Default: `1MiB`.
    #[serde(deserialize_with = "bytes")]
    #[schemars(with = "Option<schema::Size>")]
    pub max_input: Option<u64>,
    /// Bytes of its result. Default: `1MiB`.
    #[serde(deserialize_with = "bytes")]
    #[schemars(with = "Option<schema::Size>")]
    pub max_result: Option<u64>,
    /// Bytes of what it writes. Default: `1MiB`.
    #[serde(deserialize_with = "bytes")]
    #[schemars(with = "Option<schema::Size>")]
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
