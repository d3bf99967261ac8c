//! An outcome as a JSON object: what `agentkernel run --json` prints and what MCP clients get.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::llm::{Dollars, LlmUsage};
use crate::{Ending, Exception, Limits, Outcome, Usage};

/// An outcome that can be serialised; [`Report::schema`] is its contract.
///
/// ```
/// # fn main() -> agentkernel::Result<()> {
/// use agentkernel::report::Report;
/// use agentkernel::{Kernel, Limits};
///
/// let outcome = Kernel::new()?.session().start()?.run_blocking("print('hi'); 6 * 7")?;
/// let report = serde_json::to_value(Report::new(outcome, &Limits::default())).unwrap();
/// assert_eq!((&report["value"], &report["stdout"], &report["exit_code"]), (&42.into(), &"hi\n".into(), &0.into()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// How the program ended ([`Ending::name`]).
    pub outcome: &'static str,
    /// The value of the last expression, if there is one and JSON can say all of it.
    pub value: Option<serde_json::Value>,
    /// Python's `repr()` of that value.
    pub repr: Option<String>,
    /// Standard output; bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// Standard error; bytes that are not UTF-8 are replaced.
    pub stderr: String,
    /// The uncaught exception, or what stopped the program: then its class is the outcome.
    pub error: Option<Exception>,
    /// What a process would end with ([`Ending::exit_code`]).
    pub exit_code: i32,
    /// What the turn used.
    pub usage: Used,
}

/// What a turn used.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
#[allow(missing_docs, reason = "as of `Usage`")]
pub struct Used {
    pub wall_seconds: f64,
    pub cpu_seconds: f64,
    pub fuel: Option<u64>,
    pub peak_memory_bytes: u64,
    pub output_bytes: u64,
    pub output_dropped_bytes: u64,
    pub written_bytes: u64,
    pub host_calls: u64,
    pub llm: BTreeMap<String, Asked>,
}

/// What a model was asked.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
#[allow(missing_docs, reason = "as of `ModelUsage`")]
pub struct Asked {
    pub calls: u64,
    pub cached: u64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub cost: Option<Dollars>,
    pub hidden: u64,
}

impl Report {
    /// What is said of an outcome of a session with these limits.
    pub fn new(outcome: Outcome, limits: &Limits) -> Self {
        let Outcome { ending, stdout, stderr, usage, .. } = outcome;
        let (name, exit_code) = (ending.name(), ending.exit_code());
        let stopped = ending.stopped(limits).map(|message| Exception {
            kind: name.to_owned(),
            message,
            traceback: String::new(),
            frames: Vec::new(),
        });
        let (value, error) = match ending {
            Ending::Completed(value) => (value, None),
            Ending::Raised(exception) => (None, Some(exception)),
            _ => (None, stopped),
        };
        let (value, repr) = value.map_or((None, None), |value| (value.json, Some(value.repr)));
        Report {
            outcome: name,
            value,
            repr,
            stdout: text(stdout),
            stderr: text(stderr),
            error,
            exit_code,
            usage: Used::from(&usage),
        }
    }

    /// The JSON schema of the object: docs/outcome.schema.json.
    pub fn schema() -> serde_json::Value {
        serde_json::from_str(include_str!("../../docs/outcome.schema.json")).unwrap_or_default()
    }
}

/// Without a copy where it is text.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

impl From<&Usage> for Used {
    fn from(usage: &Usage) -> Self {
        Used {
            wall_seconds: usage.wall.as_secs_f64(),
            cpu_seconds: usage.cpu.as_secs_f64(),
            fuel: usage.fuel,
            peak_memory_bytes: usage.peak_memory_bytes,
            output_bytes: usage.output_bytes,
            output_dropped_bytes: usage.output_dropped_bytes,
            written_bytes: usage.written_bytes,
            host_calls: usage.host_calls,
            llm: Asked::of(&usage.llm),
        }
    }
}

impl Asked {
    /// What models were asked, by their names.
    pub fn of(usage: &LlmUsage) -> BTreeMap<String, Asked> {
        let asked = usage.models.iter().map(|(name, model)| {
            let asked = Asked {
                calls: model.calls,
                cached: model.cached,
                input_tokens: model.input_tokens,
                output_tokens: model.output_tokens,
                cost: model.cost,
                hidden: model.hidden,
            };
            (name.clone(), asked)
        });
        asked.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::Value;

    use super::*;

    fn members(value: &Value) -> Vec<&String> {
        let mut names: Vec<_> = value.as_object().unwrap().keys().collect();
        names.sort();
        names
    }

    #[test]
    fn it_is_what_the_schema_says() {
        let exception = Exception {
            kind: "ValueError".into(),
            message: "m".into(),
            traceback: "t".into(),
            frames: vec![crate::Frame { file: "f".into(), line: 1, function: "g".into(), source: None }],
        };
        let mut usage = Usage::default();
        usage.llm.models.insert("m".into(), Default::default());
        let limits = Limits { timeout: Some(Duration::from_millis(1500)), ..Limits::default() };
        let schema = Report::schema();
        for (ending, exit_code, message) in [
            (Ending::Completed(None), 0, None),
            (Ending::Raised(exception), 1, Some("m")),
            (Ending::Exited(259), 3, None),
            (Ending::TimedOut, 124, Some("stopped at the time limit of 1.5s")),
            (Ending::OutOfMemory, 137, Some("stopped at the memory limit of 536870912 bytes")),
            (Ending::Trapped("x".into()), 134, Some("the interpreter failed: x")),
            (Ending::Cancelled, 130, Some("cancelled")),
        ] {
            let (stdout, stderr) = (b"\xff".to_vec(), Vec::new());
            let outcome = Outcome { ending, stdout, stderr, usage: usage.clone(), rolled_back: false };
            let report = serde_json::to_value(Report::new(outcome, &limits)).unwrap();
            let of = |name: &str| members(&schema["properties"][name]["properties"]);
            assert_eq!(members(&report), members(&schema["properties"]));
            assert_eq!(members(&report["usage"]), of("usage"));
            let asked = members(&report["usage"]["llm"]["m"]);
            assert_eq!(asked, members(&schema["$defs"]["asked"]["properties"]));
            assert!(schema["properties"]["outcome"]["enum"].as_array().unwrap().contains(&report["outcome"]));
            assert_eq!((&report["exit_code"], &report["stdout"]), (&exit_code.into(), &"\u{fffd}".into()));
            match message {
                None => assert!(report["error"].is_null()),
                Some(message) => {
                    let error = &schema["$defs"]["error"]["properties"];
                    assert_eq!(members(&report["error"]), members(error));
                    assert_eq!(report["error"]["message"], message);
                    for frame in report["error"]["frames"].as_array().unwrap() {
                        assert_eq!(members(frame), members(&error["frames"]["items"]["properties"]));
                    }
                }
            }
        }
    }
}
