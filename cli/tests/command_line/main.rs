//! The binary, run as a user runs it.

mod agent;
mod changes;
mod compose;
mod config;
mod grants;
mod json;
mod kept;
mod lasting;
mod llm;
mod machine;
mod mcp;
mod repl;
mod rlm;
mod running;
#[cfg(unix)]
mod servers;
mod sessions;
mod settings;
mod signals;
mod streams;
mod tasks;
mod telemetry;
#[cfg(target_os = "linux")]
mod terminal;
mod tools;
#[cfg(unix)]
mod trust;

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The binary with an environment of its own, in `directory`.
fn agentkernel(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentkernel"));
    command.current_dir(directory).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        let ours = ["AGENTKERNEL_", "OPENAI_", "AZURE_OPENAI_", "ANTHROPIC_", "OTEL_", "SANDBOX_TYPE"]
            .iter()
            .any(|prefix| name.starts_with(prefix));
        if ours && name != "AGENTKERNEL_GUEST" && name != "AGENTKERNEL_CACHE_DIR" {
            command.env_remove(&*name);
        }
    }
    command
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn run(arguments: &[&str]) -> Output {
    agentkernel(directory().path()).arg("run").args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
