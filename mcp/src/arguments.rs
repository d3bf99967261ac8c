//! What the tools take.

use rmcp::model::JsonObject;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::refusal::Refusal;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Execute {
    /// Python code. The value of a last expression is given back; `await` works at the top level.
    pub code: String,
    /// The session to run it in [default: "default", which is made when it is first needed].
    #[serde(default, deserialize_with = "given")]
    pub session: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SearchTools {
    /// Words in any order that say what the function should do. Without any, all tools are listed, a line each.
    #[serde(default)]
    pub words: String,
    /// At most as many functions [default: 10].
    pub limit: Option<u32>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateSession {
    /// Its name: small letters, digits, `.`, `_` and `-` [default: one that is not taken].
    #[serde(default, deserialize_with = "given")]
    pub name: Option<String>,
    /// The time in seconds that a turn may take, waiting included [default: the server's limit, which is also the most].
    pub timeout_seconds: Option<f64>,
    /// Bytes of memory of its interpreter [default: the server's limit, which is also the most].
    pub memory_bytes: Option<u64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ForkSession {
    /// The session to copy [default: "default"].
    #[serde(default, deserialize_with = "given")]
    pub session: Option<String>,
    /// The name of the copy [default: one that is not taken].
    #[serde(default, deserialize_with = "given")]
    pub name: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResetSession {
    /// The session [default: "default"].
    #[serde(default, deserialize_with = "given")]
    pub session: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CloseSession {
    /// The session.
    pub session: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Dispatch {
    /// Python code, which runs in a session of its own; the value of its last expression is the result.
    pub code: String,
    /// What people call the task: one line.
    #[serde(default, deserialize_with = "given")]
    pub name: Option<String>,
    /// What the program reads as `agentkernel.task.input`.
    #[serde(default)]
    pub input: Value,
    /// Ids of tasks that must have succeeded first.
    #[serde(default)]
    pub after: Vec<String>,
    /// Tasks with a higher one run first: -100 to 100 [default: 0].
    pub priority: Option<i32>,
    /// How often it is tried again when it fails: at most 100 times [default: 0].
    pub retries: Option<u32>,
    /// The time in seconds that it may take [default: the server's limit, which is also the most].
    pub timeout_seconds: Option<f64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OneTask {
    /// The id that `task_dispatch` gave.
    pub id: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WaitForTask {
    /// The id that `task_dispatch` gave.
    pub id: String,
    /// How many seconds to wait at most [default: 60]. A task that has not ended by then goes on.
    pub timeout_seconds: Option<f64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListTasks {
    /// Only tasks in one of these states [default: all]: waiting, ready, running, succeeded, failed, cancelled.
    #[serde(default)]
    pub states: Vec<String>,
    /// Only tasks that are called so.
    #[serde(default, deserialize_with = "given")]
    pub name: Option<String>,
    /// Only tasks that were dispatched before this one.
    #[serde(default, deserialize_with = "given")]
    pub before: Option<String>,
}

/// A text that may be left out. Some clients send an empty one then.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.filter(|text: &String| !text.is_empty()))
}

/// Reads the arguments of a call.
pub(crate) fn read<T: DeserializeOwned>(tool: &str, arguments: Option<JsonObject>) -> Result<T, Refusal> {
    serde_json::from_value(Value::Object(arguments.unwrap_or_default())).map_err(|error| {
        // Names and values in it are the caller's own, of any length.
        let message = error.to_string();
        let message = &message[..message.floor_char_boundary(500)];
        Refusal::new(format!("the arguments of `{tool}` do not fit: {message}"))
            .hint("see the input schema of the tool")
    })
}
